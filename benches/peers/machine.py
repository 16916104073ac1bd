"""What is measured, and where: Trajformer's binary, a Python that has the peers, and the processor's name. Needs the standard library alone."""

import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def add_options(parser):
    """What every program that measures takes."""
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--ours", type=Path, help="a trajformer binary, instead of building one")
    parser.add_argument("--python", type=Path, help="a Python that has the peers, instead of installing them")


def environment():
    """A Python with the peers in it, made on the first call; it gets what requirements.txt has gained since."""
    folder = TARGET / "peers-venv"
    python, done = folder / "bin" / "python", folder / "complete"
    wanted = (HERE / "requirements.txt").read_text()
    if not done.exists() or done.read_text() != wanted:
        print(f"installing the peers into {folder} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", *([] if done.exists() else ["--clear"]), folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
        done.write_text(wanted)
    return python


def build():
    """The release binary."""
    command = ["cargo", "build", "--release", "--bin", "trajformer"]
    subprocess.run(command, cwd=ROOT, check=True)
    return TARGET / "release" / "trajformer"


def tools(args):
    """Absolute paths of Trajformer and of the peers' Python."""
    return (args.ours or build()).absolute(), (args.python or environment()).absolute()


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
