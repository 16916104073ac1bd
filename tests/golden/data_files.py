"""Makes the small data-set files in tests/golden/data, and expected.json with what is in them.

Independent of the project: h5py, NumPy and the minari package write them.

    pip install minari[hdf5,arrow]==0.5.4 h5py==3.16.0 numpy==2.4.6
    python tests/golden/data_files.py
"""

import json
import os
import pathlib
import shutil

import h5py
import numpy as np

HERE = pathlib.Path(__file__).parent / "data"
shutil.rmtree(HERE, ignore_errors=True)
HERE.mkdir()
os.environ["MINARI_DATASETS_PATH"] = str(HERE / "minari")

import gymnasium as gym  # noqa: E402
import minari  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

STEPS, OBSERVATIONS, ACTIONS = 23, 3, 2
# Exact in float32 and, divided by no more than 64, in float16 too.
observations = (np.arange((STEPS + 1) * OBSERVATIONS).reshape(-1, OBSERVATIONS) - 30.0) / 8
actions = np.sin(np.arange(STEPS * ACTIONS)).reshape(-1, ACTIONS).round(2).astype(np.float32)
rewards = np.arange(STEPS) / 4 - 1.0
terminals = np.zeros(STEPS, bool)
timeouts = np.zeros(STEPS, bool)
terminals[[4, 15]] = True
timeouts[[9]] = True
next_observations = observations[1:].copy()
# Another observation follows the last step of each episode than the next row.
next_observations[[4, 9, 15, 22]] += 0.5
# Episodes: 0..5 terminated, 5..10 truncated, 10..16 terminated, 16..23 without an end.
ENDS = [(0, 5, True, False), (5, 5, False, True), (10, 6, True, False), (16, 7, False, False)]
expected = {}


def expect(name, episodes=ENDS, finals=None, env=None, references=None, choices=None, acts=actions):
    """What a reader finds in the file or folder `name`."""
    expected[name] = {
        "observations": observations[:STEPS].ravel().tolist(),
        "actions": np.asarray(acts, dtype=np.float64).ravel().tolist(),
        "rewards": rewards.tolist(),
        "episodes": [
            {"start": s, "steps": n, "terminated": t, "truncated": c}
            for s, n, t, c in episodes
        ],
        "final_observations": [None if f is None else list(map(float, f)) for f in finals]
        if finals is not None
        else [None] * len(episodes),
        "env_name": env,
        "reference_returns": references,
        "choices": choices,
    }


def last_of(episodes, following):
    return [following[s + n - 1] for s, n, *_ in episodes]


def d4rl():
    with h5py.File(HERE / "d4rl.hdf5", "w") as f:
        packed = dict(compression="gzip", shuffle=True)
        f.create_dataset("observations", data=observations[:STEPS].astype("f4"), chunks=(7, 1), **packed)
        f.create_dataset("next_observations", data=next_observations.astype("f4"), chunks=(6, 2), **packed)
        f.create_dataset("actions", data=actions, **packed)
        f.create_dataset("rewards", data=rewards.astype("f4"), **packed)
        f.create_dataset("terminals", data=terminals, **packed)
        f.create_dataset("timeouts", data=timeouts, **packed)
        f.create_dataset("infos/qpos", data=np.zeros((STEPS, 2)))
        f.attrs["env"] = "Boxes-v4"
    expect("d4rl.hdf5", finals=last_of(ENDS, next_observations), env="Boxes-v4")

    # The layout of HDF5 1.14, contiguous, big-endian float64, flags as bytes, no timeouts.
    with h5py.File(HERE / "d4rl_no_timeouts.hdf5", "w", libver=("v114", "v114")) as f:
        f.create_dataset("observations", data=observations[:STEPS].astype(">f8"))
        f.create_dataset("actions", data=actions.astype("f8"), chunks=(5, 2), fletcher32=True)
        f.create_dataset("rewards", data=rewards.reshape(-1, 1), maxshape=(None, 1), chunks=(4, 1), compression="lzf")
        f.create_dataset("terminals", data=terminals.astype("u1"))
    merged = [(0, 5, True, False), (5, 11, True, False), (16, 7, False, False)]
    expect("d4rl_no_timeouts.hdf5", episodes=merged, acts=actions.astype("f8"))


def npz():
    np.savez(
        HERE / "stored.npz",
        observations=np.asfortranarray(observations[:STEPS]),
        next_observations=np.asfortranarray(next_observations),
        actions=actions,
        rewards=rewards,
        terminals=terminals,
        timeouts=timeouts.astype(np.int64),
        env_name=np.array("Boxes-v4"),
    )
    expect("stored.npz", finals=last_of(ENDS, next_observations), env="Boxes-v4")
    starts = np.zeros(STEPS, bool)
    starts[[0, 5, 10, 16]] = True
    np.savez_compressed(
        HERE / "starts.npz",
        obs=observations[:STEPS].astype("f2"),
        actions=np.arange(STEPS).reshape(-1, 1) % 4,
        rewards=rewards.astype(">f4"),
        episode_starts=starts,
    )
    truncated = [(s, n, False, s < 16) for s, n, *_ in ENDS]
    expect("starts.npz", episodes=truncated, choices=4, acts=np.arange(STEPS) % 4)
    np.savez_compressed(
        HERE / "lengths.npz",
        observations=observations[:STEPS],
        actions=actions,
        rewards=rewards,
        terminations=terminals.astype("f4"),
        episode_lengths=[5, 5, 6, 7],
    )
    expect("lengths.npz", episodes=[(s, n, t, not t) for s, n, t, _ in ENDS])
    np.savez_compressed(
        HERE / "types.npz",
        f2=np.array([1.5, -2.0], "f2"), f4=np.array([0.1, -3.0], ">f4"), f8=np.array([0.1, 1e300]),
        i1=np.array([-128, 127], "i1"), i2=np.array([-32768, 5], ">i2"), i4=np.array([-7, 7], "i4"),
        i8=np.array([-(2**63), 2**63 - 1]), u1=np.array([0, 255], "u1"), u2=np.array([65535], "u2"),
        u4=np.array([2**32 - 1], "u4"), u8=np.array([2**64 - 1], "u8"), b=np.array([True, False]),
        scalar=np.float32(2.5), empty=np.zeros((0, 3)), text=np.array("tanh"),
        fortran=np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    )


def buffers(observations, actions):
    """The first three episodes; the last observation of each is really another one."""
    for i, (start, steps, terminated, truncated) in enumerate(ENDS[:3]):
        flags = np.zeros((2, steps), bool)
        flags[:, -1] = terminated, truncated
        yield EpisodeBuffer(
            id=i, seed=i, observations=observations(start, steps), actions=actions(start, steps),
            rewards=list(rewards[start : start + steps]), terminations=list(flags[0]),
            truncations=list(flags[1]), infos=None,
        )


def with_last(start, steps):
    return np.concatenate([observations[start : start + steps], next_observations[start + steps - 1][None]])


def minari_sets():
    global STEPS
    box = gym.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float64)
    unit = gym.spaces.Box(-1, 1, (ACTIONS,), np.float32)
    some_actions = lambda start, steps: actions[start : start + steps]  # noqa: E731
    choose = lambda start, steps: np.arange(start, start + steps) % 3  # noqa: E731
    common = dict(author="A", author_email="a@b", code_permalink="c", algorithm_name="d")
    env = gym.spec("MountainCarContinuous-v0")
    scores = dict(ref_min_score=-2.5, ref_max_score=40.0, num_episodes_average_score=1)

    def make(name, observe, act, observation_space, action_space, **extra):
        minari.create_dataset_from_buffers(
            name, list(buffers(observe, act)), observation_space=observation_space,
            action_space=action_space, **common, **extra,
        )

    make("boxes-v0", with_last, some_actions, box, unit, env=env, **scores)
    make("arrow-v0", with_last, some_actions, box, unit, env=env, data_format="arrow", **scores)
    make("choices-v0", with_last, choose, box, gym.spaces.Discrete(5))
    make("choices-arrow-v0", with_last, choose, box, gym.spaces.Discrete(5), data_format="arrow")
    goal = gym.spaces.Dict(observation=box, desired_goal=box)
    as_dict = lambda start, steps: dict(  # noqa: E731
        observation=with_last(start, steps), desired_goal=with_last(start, steps)
    )
    make("goals-v0", as_dict, some_actions, goal, unit)
    make("goals-arrow-v0", as_dict, some_actions, goal, unit, data_format="arrow")
    ends, finals = ENDS[:3], last_of(ENDS[:3], next_observations)
    global rewards
    all_rewards, STEPS, rewards = rewards, 16, rewards[:16]
    for name in ["boxes-v0", "arrow-v0"]:
        expect(f"minari/{name}", ends, finals, "MountainCarContinuous-v0", [-2.5, 40.0], acts=actions[:16])
    for name in ["choices-v0", "choices-arrow-v0"]:
        expect(f"minari/{name}", ends, finals, choices=5, acts=np.arange(16) % 3)
    STEPS, rewards = 23, all_rewards


def broken():
    """One fault each, with what the message must name."""
    good = dict(observations=observations[:STEPS], actions=actions, rewards=rewards, terminals=terminals, timeouts=timeouts)
    spoilt_rewards, spoilt_observations = rewards.copy(), observations[:STEPS].copy()
    spoilt_rewards[7], spoilt_observations[5, 2] = np.nan, np.inf
    faults = {
        "nan": (dict(rewards=spoilt_rewards), ["`rewards`", "row 7", "NaN"]),
        "infinity": (dict(observations=spoilt_observations), ["`observations`", "row 5", "column 2", "inf"]),
        "too_large": (dict(rewards=rewards * 1e300), ["`rewards`", "row 0", "32-bit"]),
        "short_actions": (dict(actions=actions[:20]), ["`actions`", "20 rows", "23"]),
        "short_flags": (dict(timeouts=timeouts[:22]), ["`timeouts`", "22 rows", "23"]),
        "rank": (dict(observations=observations[:STEPS].reshape(STEPS, 3, 1)), ["`observations`", "rank 3"]),
        "text": (dict(rewards=np.array([b"a"] * STEPS)), ["`rewards`", "numbers"]),
        "flags": (dict(terminals=np.arange(STEPS)), ["`terminals`", "row 2", "0 or 1"]),
        "missing": (dict(rewards=None), ["`rewards`", "missing"]),
        "empty": (dict(observations=np.zeros((0, 3))), ["`observations`", "no rows"]),
        "several_choices": (dict(actions=np.ones((STEPS, 2), int)), ["`actions`", "2 integers"]),
        "negative_choice": (dict(actions=-np.arange(STEPS)), ["`actions`", "row 1", "-1"]),
    }
    (HERE / "broken").mkdir()
    expected["broken"] = {}
    for name, (change, words) in faults.items():
        arrays = {k: v for k, v in {**good, **change}.items() if v is not None}
        np.savez_compressed(HERE / "broken" / f"{name}.npz", **arrays)
        with h5py.File(HERE / "broken" / f"{name}.hdf5", "w") as f:
            for key, value in arrays.items():
                f[key] = value
        for ending in ["npz", "hdf5"]:
            expected["broken"][f"{name}.{ending}"] = words
    with h5py.File(HERE / "broken" / "dictionary.hdf5", "w") as f:
        f["observations/state"] = observations[:STEPS]
        f["actions"], f["rewards"], f["terminals"] = actions, rewards, terminals
    expected["broken"]["dictionary.hdf5"] = ["`observations`", "dictionary", "`state`"]
    del good["terminals"], good["timeouts"]
    np.savez_compressed(HERE / "broken" / "no_ends.npz", **good)
    expected["broken"]["no_ends.npz"] = ["episode_lengths"]
    np.savez_compressed(HERE / "broken" / "lengths.npz", **good, episode_lengths=[20, 5])
    expected["broken"]["lengths.npz"] = ["`episode_lengths`", "row 1", "3 of 23"]
    np.savez_compressed(HERE / "broken" / "objects.npz", **good, terminals=np.array([None] * STEPS))
    expected["broken"]["objects.npz"] = ["`terminals`", "Python objects"]
    starts = np.arange(STEPS) == 10
    np.savez_compressed(HERE / "broken" / "contradiction.npz", **good, terminals=terminals, episode_starts=starts)
    expected["broken"]["contradiction.npz"] = ["row 4", "`episode_starts`"]


d4rl()
npz()
minari_sets()
broken()
for namespace in HERE.rglob("namespace_metadata.json"):
    namespace.unlink()
(HERE / "expected.json").write_text(json.dumps(expected, indent=None, separators=(",", ":")) + "\n")
