"""Trains the Trajectory Transformer by its authors' code as a run of ours is configured, and measures the loss on what that run holds out.

    python trajectory_transformer_quality.py --run RUN --data FILE --authors DIR --every 25 --out FILE.jsonl

RUN is a finished run of `trajformer train` with `train.held_out_fraction`: sizes, rates, batch, number of updates, seed, edges of the bins
and the episodes that are kept apart are its; an episode without an end is left out here. Before training, RUN's weights are loaded into the authors' network: it has to find RUN's own last
held-out loss, so that tokens, episodes and losses are the same on both sides. A line of FILE.jsonl holds updates, seconds of training and
nats per token; measuring takes none of the seconds.
"""

import argparse
import csv
import json
import sys
import time
import tomllib
from pathlib import Path

import common
import curves

CHUNK = 128  # windows that are measured together
TOLERANCE = 1e-5  # of a loss in nats: f32 on both sides


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run of Trajformer")
    parser.add_argument("--data", type=Path, required=True, help="its data, in D4RL's layout")
    parser.add_argument("--authors", type=Path, required=True, help="checkout of the authors' repository")
    parser.add_argument("--every", type=int, required=True, help="updates between two measurements")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def split(path, seed, share):
    """Columns of the complete episodes that are learned from, and of those that are kept apart."""
    import h5py
    import numpy as np

    with h5py.File(path) as file:
        columns = {key: file[key][()] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    columns |= {key: columns[key].astype(bool) for key in ("terminals", "timeouts")}
    ends = np.flatnonzero(columns["terminals"] | columns["timeouts"]) + 1
    apart = set(curves.held_out_episodes(seed, len(ends), share))
    episodes = list(enumerate(zip([0, *ends[:-1]], ends)))

    def of(numbers):
        rows = np.concatenate([np.arange(start, end) for number, (start, end) in episodes if number in numbers])
        return {key: column[rows] for key, column in columns.items()}

    return of(set(range(len(ends))) - apart), of(apart)


def held_out_loss(model, batches):
    """Nats per token that counts."""
    import torch

    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for inputs, targets, mask in batches:
            logits, _ = model(inputs)
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            total += losses[mask.flatten()].double().sum().item()
            count += mask.sum().item()
    return total / count


def main():
    args = arguments()
    common.pin(args.threads)
    import numpy as np
    import torch
    import torch_common
    import trajectory_transformer_authors as theirs
    from safetensors.torch import load_file

    config = tomllib.loads((args.run / "config.toml").read_text())
    ours = config["algorithm"]["trajectory_transformer"]
    with open(args.run / "metrics.csv") as file:
        expected = [float(row["held_out_cross_entropy"]) for row in csv.DictReader(file) if row["held_out_cross_entropy"]][-1]
    torch_common.start(args)
    torch.manual_seed(config["seed"])
    np.random.seed(config["seed"])
    theirs.load(args.authors)
    learned, apart = split(args.data, config["seed"], config["train"]["held_out_fraction"])
    penalty = ours["termination_penalty"]
    options = {"discount": ours["discount"], "penalty": None if penalty == "none" else penalty}
    dataset = theirs.windows(learned, ours["window_transitions"], **options)
    held_out = theirs.windows(apart, ours["window_transitions"], **options)
    edges = load_file(args.run / "policy.safetensors")["discretizer.thresholds"].numpy()
    dataset.discretizer.thresholds, held_out.discretizer = edges, dataset.discretizer
    rows = [held_out[row] for row in curves.held_out_rows(len(held_out))]
    batches = [[torch.stack(part) for part in zip(*rows[at : at + CHUNK])] for at in range(0, len(rows), CHUNK)]

    sizes = (learned["observations"].shape[1], learned["actions"].shape[1], ours["window_transitions"])
    sizes += ours["layers"], ours["heads"], ours["heads"] * ours["embedding_per_head"]
    model = theirs.network(*sizes, ours["dropout"], ours["action_weight"])
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(fresh | load_file(args.run / "model.safetensors"))
    found = held_out_loss(model, batches)
    if abs(found - expected) > TOLERANCE:
        sys.exit(f"{args.run}: the authors' network finds a held-out loss of {found}, the run has {expected}: they are not the same")
    model.load_state_dict(fresh)

    tokens = ours["batch_size"] * model.block_size
    spans = [int(ours[key] * tokens) for key in ("warmup_updates", "decay_updates")]
    loop = theirs.loop(model, dataset, ours["batch_size"], ours["learning_rate"], *spans)
    part, update, seconds = args.out.with_suffix(".part"), 0, 0.0
    with open(part, "w") as file:
        while update < config["train"]["updates"]:
            count = min(args.every, config["train"]["updates"] - update)
            start = time.perf_counter()
            loop.run(count)
            seconds, update = seconds + time.perf_counter() - start, update + count
            line = {"update": update, "seconds": seconds, "quality": held_out_loss(model, batches)}
            print(json.dumps(line), file=file, flush=True)
    part.rename(args.out)


if __name__ == "__main__":
    main()
