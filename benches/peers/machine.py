"""What is measured, and where: Trajformer's binary, a Python that has the peers, the processor and its vector units. Needs the standard
library alone."""

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


def facts():
    """What Linux says of the first processor: a name -> its value."""
    text = Path("/proc/cpuinfo").read_text()
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def processor(found=None):
    """Its name with what tells one from another of the same name, e.g. `Intel(R) Xeon(R) Processor (family 6, model 207)`."""
    found = facts() if found is None else found
    name = found.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {found[full]}" for key, full in (("family", "cpu family"), ("model", "model")) if full in found]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def vector_units(found=None):
    """The vector units that this machine has, widest last, e.g. `AVX, AVX2, FMA, AVX-512 (F, BW, DQ, VL)`."""
    found = facts() if found is None else found
    flags = set((found.get("flags") or found.get("Features") or "").split())
    plain = {"avx": "AVX", "avx2": "AVX2", "fma": "FMA", "asimd": "NEON", "sve": "SVE", "sve2": "SVE2"}
    units = [word for flag, word in plain.items() if flag in flags]
    parts = sorted(flag.removeprefix("avx512").strip("_").upper() for flag in flags if flag.startswith("avx512"))
    units += [f"AVX-512 ({', '.join(parts)})"] * bool(parts) + ["AMX"] * ("amx_tile" in flags)
    return ", ".join(units) or "none that is known here"


def chosen(binary):
    """What Trajformer's binary says that its kernels use here, e.g. `all, with AVX-512`."""
    done = subprocess.run([binary, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    lines = (line.partition(":") for line in done.stdout.splitlines())
    return next((value.strip() for name, _, value in lines if name == "kernels"), "not said")
