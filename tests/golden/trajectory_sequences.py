"""Golden numbers of jannerm's DiscretizedDataset: episodes, penalty, values, windows, termination tokens, masks.

python tests/golden/trajectory_sequences.py --authors TRAJECTORY_TRANSFORMER
"""

import authors
import numpy as np
import torch

COMMIT = "jannerm/trajectory-transformer@8834a6ed04ceeab8fdb9465e145c6e041c05d71b"
BINS, WINDOW, LONGEST, DISCOUNT, PENALTY = 8, 5, 12, 0.9, -100.0
OBSERVATION_DIM, ACTION_DIM = 3, 2

# (length, ends with terminal, ends with timeout); the last episode is cut off by the end of the file.
EPISODES = [
    (7, True, False), (LONGEST, False, True), (9, False, True), (1, True, False), (3, True, False),
    (LONGEST, True, False), (LONGEST, True, True), (4, False, False),
]  # fmt: skip


class Environment:
    """Just what SequenceDataset asks of an environment."""

    name = "made"

    def __init__(self, dataset):
        self.unwrapped, self.dataset = self, dataset

    def get_dataset(self):
        return {key: value.copy() for key, value in self.dataset.items()}


def make_dataset(rng):
    rows = sum(length for length, *_ in EPISODES)
    dataset = {
        "observations": rng.normal(size=(rows, OBSERVATION_DIM)),
        "actions": np.tanh(rng.normal(size=(rows, ACTION_DIM))),
        "rewards": rng.normal(1.0, 0.5, size=rows),
        "terminals": np.zeros(rows, dtype=bool),
        "timeouts": np.zeros(rows, dtype=bool),
    }
    end = -1
    for length, terminal, timeout in EPISODES:
        end += length
        dataset["terminals"][end], dataset["timeouts"][end] = terminal, timeout
    return dataset


def run(prefix, dataset, penalty):
    from trajectory.datasets.sequence import DiscretizedDataset

    sequences = DiscretizedDataset(
        Environment(dataset), N=BINS, sequence_length=WINDOW, step=1, discount=DISCOUNT, max_path_length=LONGEST,
        penalty=penalty,
    )  # fmt: skip
    assert len(sequences.discretizer.thresholds) == BINS + 1
    windows = [sequences[index] for index in range(len(sequences))]
    x, y, mask = (torch.stack(column) for column in zip(*windows))
    tensors = {
        "joined": sequences.joined_raw,
        "thresholds": sequences.discretizer.thresholds,
        "path_lengths": np.array(sequences.path_lengths),
        "windows": sequences.indices[:, :2],
        "x": x,
        "y": y,
        "mask": mask,
    }
    print(prefix, {key: tuple(value.shape) for key, value in tensors.items()}, "masked", int((mask == 0).sum()))
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.import_trajectory_transformer(args.authors)
    np.random.seed(0)
    dataset = make_dataset(np.random.default_rng(1))
    tensors = {f"raw.{key}": value for key, value in dataset.items()}
    tensors |= run("penalty", dataset, PENALTY) | run("plain", dataset, None)
    metadata = {
        "authors": COMMIT, "bins": BINS, "window": WINDOW, "longest_path": LONGEST, "discount": DISCOUNT,
        "termination_penalty": PENALTY, "observation_dim": OBSERVATION_DIM, "action_dim": ACTION_DIM,
    }  # fmt: skip
    authors.save("trajectory_sequences", tensors, metadata)
