"""Small HDF5 files of the kinds that h5py can write and D4RL does not: half floats and soft links.

python hdf5_kinds.py data/hdf5_kinds        # h5py 3
"""

import sys
from pathlib import Path

import h5py
import numpy as np

STEPS = 6


def fill(file, dtype, **options):
    rows = np.arange(STEPS * 2, dtype=np.float64).reshape(STEPS, 2)
    file.create_dataset("observations", data=(rows / 8 - 0.5).astype(dtype), **options)
    file.create_dataset("actions", data=(rows[:, :1] / 16).astype(dtype), **options)
    file.create_dataset("rewards", data=(rows[:, 0] / 4).astype(dtype))
    ends = np.zeros(STEPS, dtype=bool)
    ends[-1] = True
    file.create_dataset("terminals", data=ends)
    file.create_dataset("timeouts", data=np.zeros(STEPS, dtype=bool))


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "half.hdf5", "w") as file:
        fill(file, "<f2")
    with h5py.File(folder / "half_big_endian.hdf5", "w") as file:
        fill(file, ">f2", chunks=True, compression="gzip")
    with h5py.File(folder / "soft_link.hdf5", "w") as file:
        fill(file, "<f4")
        file.move("observations", "elsewhere")
        file["observations"] = h5py.SoftLink("/elsewhere")


main(Path(sys.argv[1]))
