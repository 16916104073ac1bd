"""Offline reinforcement learning: trained policies, data sets and training.

    policy = trajformer.load("runs/td3_bc-hopper-medium-short")
    action = policy.act(observation)

Warnings go to the logger `trajformer` of `logging`; at level INFO it says more, such as how far a long training has come.
"""

import os as _os

# The library has one pool of threads, of as many as RAYON_NUM_THREADS says. candle has a second one, whose threads would take the
# processor from it; it reads this when it starts.
_os.environ.setdefault("CANDLE_NUM_THREADS", "1")

from ._native import Dataset, Policy, __version__, fit, load  # noqa: E402

__all__ = ["Dataset", "Policy", "__version__", "fit", "load"]
