"""Trains TD3+BC, IQL, CQL or ReBRAC by CORL's own code on a data set in D4RL's layout, and writes the policy for our evaluator.

python benches/peers/corl_scores.py --algorithm iql --authors CORL --data hopper-medium.hdf5 --env hopper-medium-v2 \
    --updates 20000 --seed 0 --out iql.npz --set iql_deterministic=True normalize_reward=True tau=0.001
trajformer data collect --env hopper-v4 --policy iql.npz --activation relu --output tanh --steps 20000 rollouts.npz

With `--every N` the policies after each N updates are written as well, as iql-N.npz, iql-2N.npz, ..., and to iql.jsonl the seconds of
training that each took. Only TD3+BC, IQL and CQL have that.

Networks, constants, preparation of the data and updates are CORL's; `--set` changes keys of its `TrainConfig`, as its
configuration files do. Scores are those of the last update, from the mean action, as CORL takes them.
"""

import argparse
import ast
import json
import time
from pathlib import Path
from types import SimpleNamespace

import corl_common
import numpy as np

NETWORKS = {"td3_bc": "net", "iql": "net", "cql": "base_network"}
CALL = 1000  # updates between two looks at ReBRAC's loop, as in CORL


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corl_common.add_authors(parser)
    parser.add_argument("--algorithm", choices=[*NETWORKS, "rebrac"], required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--env", required=True, help="D4RL's name of the data: CORL looks at it")
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=0, metavar="N", help="updates between two policies; 0: the last alone")
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
        "next_actions": arrays["actions"][rows + 1],  # ReBRAC's own view of the data
        "rewards": arrays["rewards"][rows],
        "terminals": arrays["terminals"][rows].astype(bool),
    }


def torch_policy(args, found, action_dim):
    """Mean, deviation and layers, weights (out, in) and biases, of the actor among the variables of CORL's loop."""
    import torch

    net = getattr(found["trainer"].actor, NETWORKS[args.algorithm])
    linear = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]
    weight, bias = layers[-1]
    layers[-1] = weight[:action_dim], bias[:action_dim]  # CQL's has deviations behind the means
    return found["state_mean"], found["state_std"], layers


def train_torch(args, module, config, action_dim):
    """The policy that CORL's loop has after `args.updates` turns, the others of `args.every` written on the way."""
    begin, paused, lines = None, 0.0, []

    def before(update, found):
        nonlocal begin, paused
        start = time.perf_counter()
        begin = begin or start
        if args.every and update and update % args.every == 0:
            lines.append({"update": update, "seconds": start - begin - paused})
            write(args.out.with_stem(f"{args.out.stem}-{update}"), *torch_policy(args, found(), action_dim))
            paused += time.perf_counter() - start

    calls = args.updates + 1
    found = corl_common.variables(module.ReplayBuffer, "sample", module.train, config, calls, before)
    if args.every:
        args.out.with_suffix(".jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return torch_policy(args, found, action_dim)


def jax_policy(args, module, config):
    """The same of ReBRAC's, whose loop runs inside JAX."""
    import jax

    found = corl_common.variables(module.Metrics, "create", module.train, config)
    carry, body = found["update_carry"], found["td3_loop_update_step"]
    epoch = jax.jit(lambda carry: jax.lax.fori_loop(0, CALL, body, carry))
    for _ in range(args.updates // CALL):
        carry["metrics"] = module.Metrics.create(found["bc_metrics_to_log"])
        carry = jax.block_until_ready(epoch(carry))
    dense = carry["actor"].params["params"]
    layers = [dense[f"Dense_{i}"] for i in range(len(dense))]
    layers = [(np.asarray(layer["kernel"]).T, np.asarray(layer["bias"])) for layer in layers]
    buffer = found["buffer"]
    return np.broadcast_to(buffer.mean, layers[0][0].shape[1]), np.broadcast_to(buffer.std, layers[0][0].shape[1]), layers


def write(path, mean, std, layers):
    """A policy as `trajformer data collect --policy` takes it."""
    policy = {"obs_mean": np.asarray(mean, np.float32), "obs_std": np.asarray(std, np.float32)}
    for place, (weight, bias) in enumerate(layers):
        policy |= {f"w{place}": weight, f"b{place}": bias}
    np.savez(path, **policy)


def main():
    args = arguments()
    data = transitions(args.data)
    sizes = SimpleNamespace(
        observations=data["observations"].shape[1], actions=data["actions"].shape[1], authors=args.authors
    )
    changes = {key: ast.literal_eval(value) for key, _, value in (text.partition("=") for text in args.set)}
    if args.algorithm == "rebrac":
        import jax
        import jax_common  # noqa: F401, what CORL imports has to be there before its packages are replaced

        jax.tree_map = jax.tree.map  # its name in CORL's JAX
        assert not args.every, "ReBRAC's policies on the way are not to be had"
        assert args.updates % CALL == 0, f"ReBRAC makes {CALL} updates per call"
        module = corl_common.load(sizes, "rebrac")
        module.qlearning_dataset = lambda _: data
        config = module.Config(dataset_name=args.env, train_seed=args.seed, num_updates_on_epoch=CALL, **changes)
        policy = jax_policy(args, module, config)
    else:
        import torch

        torch.set_num_threads(args.threads)
        corl_common.dataset = lambda *_: data
        module = corl_common.load(sizes, args.algorithm)
        config = module.TrainConfig(
            device="cpu", env=args.env, seed=args.seed, eval_freq=10**9, buffer_size=len(data["rewards"]), **changes
        )
        policy = train_torch(args, module, config, sizes.actions)
    write(args.out, *policy)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
