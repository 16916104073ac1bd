"""The training loops of the Trajectory Transformer's and TAP's authors, in pieces, on made-up data or a file's.

Both repositories have a `SequenceDataset` and trainers that go over a `DataLoader` of it once per call. Here a call goes over as
many batches as are asked for, of a loader that begins anew when it ends.
"""

import contextlib
import os

import numpy as np
from common import EPISODE, STEPS


class Namespace:
    """A configuration as the authors' networks and trainers read it."""

    def __init__(self, **entries):
        self.__dict__.update(entries)

    def __contains__(self, key):
        return key in self.__dict__


class Environment:
    """Just what `SequenceDataset` asks of an environment. The authors' reader drops the last row of a file, so there is one more."""

    name = "made"

    def __init__(self, columns):
        self.unwrapped = self
        self.columns = {key: np.concatenate([column, column[-1:]]) for key, column in columns.items()}

    def get_dataset(self, **_):
        return {key: column.copy() for key, column in self.columns.items()}


def made_up(observations, actions):
    """Columns of a data set in D4RL's layout, as the other peers' buffer has them; every second episode terminates."""
    rng = np.random.default_rng(0)
    last = np.arange(STEPS) % EPISODE == EPISODE - 1
    terminates = last & (np.arange(STEPS) // EPISODE % 2 == 0)
    return {
        "observations": rng.standard_normal((STEPS, observations), np.float32),
        "actions": rng.uniform(-1, 1, (STEPS, actions)).astype(np.float32),
        "rewards": rng.standard_normal(STEPS, np.float32),
        "terminals": terminates,
        "timeouts": last & ~terminates,
    }


class Loop:
    """A loop of the module `training`: `train()` runs it over what its `DataLoader` holds; `run(count)` over so many batches."""

    def __init__(self, training, dataset, batch, train):
        from torch.utils.data import DataLoader

        self.train, self.count = train, 0
        self.loader = DataLoader(dataset, batch_size=batch, shuffle=True)
        self.batches = self.endless()
        training.DataLoader = lambda *_, **__: self
        self.nowhere = open(os.devnull, "w")  # standard output is for figures

    def endless(self):
        while True:
            yield from self.loader

    def __len__(self):
        return self.count

    def __iter__(self):
        for _ in range(self.count):
            yield next(self.batches)

    def run(self, count=1):
        self.count = count
        with contextlib.redirect_stdout(self.nowhere):
            self.train()
