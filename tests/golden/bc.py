"""Golden numbers of CORL's behaviour cloning: ten updates, and which episodes are the best fraction.

python tests/golden/bc.py --authors CORL
"""

import importlib.util

import authors
import numpy as np
import torch

COMMIT = "corl-team/CORL@eeeeef2671235fcce3a3eb255576a207d78840e6"
HIDDEN, BATCH, STEPS, EPISODES, FRACTION = 32, 16, 10, 57, 0.1


def load(path):
    """Imports the authors' file; its network gets HIDDEN units instead of 256."""
    spec = importlib.util.spec_from_file_location("any_percent_bc", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    width = lambda size: HIDDEN if size == 256 else size
    module.nn = authors.Shim(torch.nn, Linear=lambda i, o: torch.nn.Linear(width(i), width(o)))
    return module


def run_updates(module, rng, observation_dim, action_dim, seed):
    torch.manual_seed(seed)
    actor = module.Actor(observation_dim, action_dim, 1.0)
    trainer = module.BC(1.0, actor, torch.optim.Adam(actor.parameters(), lr=3e-4))
    tensors = authors.parameters(actor, "param")
    observations = torch.tensor(rng.normal(size=(STEPS, BATCH, observation_dim)))
    actions = torch.tensor(np.tanh(rng.normal(size=(STEPS, BATCH, action_dim))))
    tensors |= {"steps.observations": observations, "steps.actions": actions}
    losses = []
    for batch in zip(observations, actions):
        losses.append(trainer.train([*batch, None, None, None])["actor_loss"])
        if len(losses) == 1:
            tensors |= authors.gradients(actor)
    losses = np.array(losses)
    return tensors | authors.parameters(actor, "after") | {"loss": losses[:1], "steps.loss": losses}


def choose(module, rng, observation_dim, action_dim):
    """Which episodes are the best, where each has a terminal, none is cut, and returns are not discounted."""
    lengths = rng.integers(1, 13, EPISODES)
    steps = lengths.sum()
    terminals = np.zeros(steps)
    terminals[np.cumsum(lengths) - 1] = 1.0
    data = {
        "observations": rng.normal(size=(steps, observation_dim)),
        "actions": np.tanh(rng.normal(size=(steps, action_dim))),
        "rewards": rng.normal(0.2, 1.0, steps),
        "terminals": terminals,
    }
    data = {key: value.astype(np.float32).astype(np.float64) for key, value in data.items()}
    rows = {}
    for discount in (1.0, 0.9):
        # Steps are told apart by their number, in the place of the next observation.
        dataset = data | {"next_observations": np.arange(steps)}
        module.keep_best_trajectories(dataset, FRACTION, discount)
        rows[discount] = np.sort(dataset["next_observations"])
    returns = np.sort(np.add.reduceat(data["rewards"], np.cumsum(lengths) - lengths))[::-1]
    count = int(FRACTION * EPISODES)
    print("  best returns", np.round(returns[: count + 2], 2), "steps kept", len(rows[1.0]), "of", steps)
    assert returns[count - 1] - returns[count] > 1e-3 and FRACTION * EPISODES - count > 0.5
    assert not np.array_equal(rows[1.0], rows[0.9])
    # D4RL's view, which is taken of the best episodes here, has no last row.
    mean, deviation = module.compute_mean_std(data["observations"][rows[1.0][:-1]], eps=1e-3)
    tensors = {f"data.{key}": value for key, value in data.items() if key != "terminals"}
    tensors |= {"data.lengths": lengths, "best.rows": rows[1.0], "best.mean": mean, "best.deviation": deviation}
    return tensors


def run(name, module, observation_dim, action_dim, seed):
    rng = np.random.default_rng(seed)
    print(name)
    tensors = run_updates(module, rng, observation_dim, action_dim, seed)
    print("  losses", np.round(tensors["steps.loss"], 4))
    tensors |= choose(module, rng, observation_dim, action_dim)
    metadata = {
        "authors": COMMIT, "hidden": HIDDEN, "batch": BATCH, "steps": STEPS, "observation_dim": observation_dim,
        "action_dim": action_dim, "learning_rate": 3e-4, "betas": [0.9, 0.999], "eps": 1e-8, "max_action": 1.0,
        "episodes": EPISODES, "fraction": FRACTION,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    module = load(args.authors / "algorithms" / "offline" / "any_percent_bc.py")
    run("bc_hopper", module, 11, 3, seed=1)
    run("bc_halfcheetah", module, 17, 6, seed=2)
