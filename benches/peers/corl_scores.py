"""Trains TD3+BC, IQL or CQL by CORL's own code on a data set in D4RL's layout, and writes the policy for our evaluator.

python benches/peers/corl_scores.py --algorithm iql --authors CORL --data hopper-medium.hdf5 --env hopper-medium-v2 \
    --updates 20000 --seed 0 --out iql.npz --set iql_deterministic=True normalize_reward=True tau=0.001
trajformer data collect --env hopper-v4 --policy iql.npz --activation relu --output tanh --steps 20000 rollouts.npz

Networks, constants, preparation of the data and updates are CORL's; `--set` changes keys of its `TrainConfig`, as its
configuration files do. Scores are those of the last update, from the mean action, as CORL takes them.
"""

import argparse
import ast
from pathlib import Path
from types import SimpleNamespace

import corl_common
import numpy as np

NAMES = {"td3_bc": "trainer", "iql": "trainer", "cql": "trainer"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corl_common.add_authors(parser)
    parser.add_argument("--algorithm", choices=list(NAMES), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--env", required=True, help="D4RL's name of the data: CORL looks at it")
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def transitions(path):
    """D4RL's `qlearning_dataset`: next rows, without the steps of time-outs and the last row."""
    import h5py

    with h5py.File(path) as file:
        arrays = {key: file[key][()] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    rows = np.flatnonzero(~arrays["timeouts"].astype(bool)[:-1])
    return {
        "observations": arrays["observations"][rows],
        "actions": arrays["actions"][rows],
        "next_observations": arrays["observations"][rows + 1],
        "rewards": arrays["rewards"][rows],
        "terminals": arrays["terminals"][rows].astype(bool),
    }


def layers(algorithm, actor, action_dim):
    """Weights (out, in) and biases of the mean action's network."""
    import torch

    net = {"td3_bc": "net", "iql": "net", "cql": "base_network"}[algorithm]
    linear = [layer for layer in getattr(actor, net).modules() if isinstance(layer, torch.nn.Linear)]
    found = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]
    weight, bias = found[-1]
    return [*found[:-1], (weight[:action_dim], bias[:action_dim])]  # CQL's has deviations behind the means


def main():
    args = arguments()
    import torch

    torch.set_num_threads(args.threads)
    data = transitions(args.data)
    sizes = SimpleNamespace(
        observations=data["observations"].shape[1], actions=data["actions"].shape[1], authors=args.authors
    )
    corl_common.dataset = lambda *_: data
    module = corl_common.load(sizes, args.algorithm)
    changes = {key: ast.literal_eval(value) for key, _, value in (text.partition("=") for text in args.set)}
    config = module.TrainConfig(
        device="cpu", env=args.env, seed=args.seed, eval_freq=10**9, buffer_size=len(data["rewards"]), **changes
    )
    found = corl_common.variables(module.ReplayBuffer, "sample", module.train, config, calls=args.updates + 1)
    policy = {"obs_mean": np.asarray(found["state_mean"]), "obs_std": np.asarray(found["state_std"])}
    for place, (weight, bias) in enumerate(layers(args.algorithm, found[NAMES[args.algorithm]].actor, sizes.actions)):
        policy |= {f"w{place}": weight, f"b{place}": bias}
    np.savez(args.out, **policy)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
