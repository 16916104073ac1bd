"""Policies of stored runs act as the command does."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import trajformer

RUNS = sorted(path.parent for path in (Path(__file__).parents[3] / "tests/golden/runs/0.1.0").glob("*/config.toml"))


def named(name):
    return next(run for run in RUNS if run.name == name)


def episode(run):
    """An episode that the run acted in, with seed 7."""
    with np.load(run / "acting.npz") as file:
        return {name: file[name] for name in ("observations", "actions", "rewards")}


def test_there_are_runs():
    assert len(RUNS) >= 6


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_actions_are_those_of_the_command_to_the_bit(run, program, tmp_path):
    recorded = episode(run)
    steps = 12
    past = {name: values[:steps] for name, values in recorded.items()}
    starts = np.arange(steps) == 0
    np.savez(tmp_path / "past.npz", episode_starts=starts, **past)
    out = tmp_path / "actions.npz"
    command = [program, "act", run, "--observations", tmp_path / "past.npz", "--out", out, "--seed", "7"]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(out) as file:
        expected = file["actions"]

    policy = trajformer.load(run)
    policy.reset(seed=7)
    for step in range(steps):
        action = policy.act(past["observations"][step])
        assert action.dtype == np.float32 and action.shape == (policy.action_dim,)
        assert np.array_equal(action, expected[step]), step
        policy.observe(past["rewards"][step], past["actions"][step])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_row_acts_the_same_whatever_is_beside_it_and_begins_anew_by_itself(run):
    recorded = episode(run)
    alone, several = trajformer.load(run), trajformer.load(run)
    several.reset(rows=3, seed=5)
    observations = np.stack([recorded["observations"][at : at + 6] for at in (0, 1, 2)], axis=1)
    rewards = np.stack([recorded["rewards"][at : at + 6] for at in (0, 1, 2)], axis=1)
    together = []
    for step in range(6):
        if step == 3:
            several.reset(rows=np.array([False, True, False]))
        together.append(several.act(observations[step]))
        several.observe(rewards[step])
    together = np.stack(together)
    assert together.shape == (6, 3, alone.action_dim)

    alone.reset(seed=5)
    for step in range(6):
        assert np.array_equal(alone.act(observations[step, 0]), together[step, 0])
        alone.observe(rewards[step, 0])
    # A row that has begun anew forgets what it saw. Which random stream it has depends on those begun before.
    if alone.algorithm != "trajectory_transformer":
        alone.reset()
        for step in range(3, 6):
            assert np.array_equal(alone.act(observations[step, 1]), together[step, 1])
            alone.observe(rewards[step, 1])


def test_a_decision_transformer_follows_its_target_and_its_rewards():
    run = named("decision_transformer")
    observations = episode(run)["observations"]
    policy = trajformer.load(run)

    def actions(rewards, **start):
        policy.reset(**start)
        found = []
        for observation, reward in zip(observations, rewards):
            found.append(policy.act(observation))
            policy.observe(reward)
        return np.stack(found)

    usual = actions([-1.0] * 5)
    assert np.array_equal(usual, actions([-1.0] * 5))
    assert not np.array_equal(usual, actions([-1.0] * 5, target_return=3000.0))
    other = actions([-900.0] * 5)
    assert np.array_equal(usual[0], other[0]) and not np.array_equal(usual[1:], other[1:])


def test_a_policy_with_memory_must_be_told_rewards():
    policy = trajformer.load(named("decision_transformer"))
    observation = np.zeros(policy.observation_dim)
    assert not policy.is_memoryless
    with pytest.raises(ValueError, match="call act"):
        policy.reset()
        policy.observe(0.0)
    policy.act(observation)
    with pytest.raises(ValueError, match=r"observe\(rewards\)"):
        policy.act(observation)
    policy.reset()
    policy.act(observation)
    policy.observe(1)
    with pytest.raises(ValueError, match="2 rows, expected 1"):
        policy.act(np.zeros((2, policy.observation_dim)))


def test_what_is_wrong_is_named():
    policy = trajformer.load(named("bc"))
    dim = policy.observation_dim
    with pytest.raises(ValueError, match=rf"`observations` has shape \({dim + 1},\), expected \({dim},\)"):
        policy.act(np.zeros(dim + 1))
    with pytest.raises(ValueError, match="row 1, column 2: NaN"):
        observations = np.zeros((2, dim))
        observations[1, 2] = np.nan
        policy.act(observations)
    with pytest.raises(TypeError, match="`observations` has dtype <U1"):
        policy.act(["a"] * dim)
    with pytest.raises(ValueError, match="`target_return` is given, but this run .bc. aims at no return"):
        policy.reset(target_return=1.0)
    with pytest.raises(ValueError, match="mask of 3"):
        policy.reset(rows=2)
        policy.reset(rows=[True, False, True])
    with pytest.raises(ValueError, match="row 2, but 2 episodes"):
        policy.reset(rows=[2])
    with pytest.raises(FileNotFoundError, match="no-such-run"):
        trajformer.load("no-such-run")
    with pytest.raises(ValueError, match="algorithm.bc.hidden"):
        trajformer.load(named("bc"), overrides=["algorithm.bc.hidden=[4]"])


def test_it_says_what_it_is():
    policy = trajformer.load(named("bc"))
    assert (policy.algorithm, policy.needs_goal, policy.needs_instruction) == ("bc", False, False)
    assert policy.is_memoryless and policy.updates == 10
    assert 'env = "pendulum-v1"' in policy.config
    assert policy.action_low.tolist() == [-2.0] and policy.action_high.tolist() == [2.0]
    assert repr(policy) == "Policy(bc, observation_dim=3, action_dim=1)"


def test_scores_are_those_of_the_command(program):
    run = named("bc")
    command = [program, "evaluate", run, "--episodes", "2", "--seed", "3", "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    import json

    expected = json.loads(printed.splitlines()[-1])
    assert trajformer.load(run).evaluate(episodes=2, seed=3) == expected


def test_it_acts_in_a_loop_of_gymnasium():
    gymnasium = pytest.importorskip("gymnasium")
    policy = trajformer.load(named("decision_transformer"))
    envs = gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    observations, _ = envs.reset(seed=0)
    policy.reset(rows=2)
    for _ in range(205):  # over the end of an episode, after 200 steps
        actions = policy.act(observations)
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        policy.observe(rewards)
        policy.reset(rows=terminated | truncated)
    assert np.isfinite(actions).all() and actions.shape == (2, 1)
