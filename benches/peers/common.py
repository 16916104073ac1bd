"""What every peer does alike: its options, the clock, memory, the matmul rate, and one JSON line per round.

A script run alone times one round and prints one line. With `--serve` it prepares, prints `{"ready": true}`, then times a
round for every line that it reads: `run` interleaves several processes so, and compiling happens once.
"""

import argparse
import json
import os
import sys
import time

STEPS, EPISODE = 100_000, 1000  # transitions in the made-up buffer, and steps of each of its episodes
PRODUCTS = [(256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048), (7968, 128, 512)]  # (rows, inner, columns)


def parser(description, **defaults):
    """The options of every script; `defaults` sets batch, observations and actions."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 256, "observations": 17, "actions": 6} | defaults
    for name, value in sizes.items():
        result.add_argument(f"--{name}", type=int, default=value)
    result.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    result.add_argument("--seconds", type=float, default=2.0, help="a round lasts at least this long")
    result.add_argument("--serve", action="store_true", help="time a round per line of standard input")
    return result


def add_mode(parser):
    """The option of PyTorch's peers."""
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")


def add_loop(parser):
    """Options of JAX's peers that can make many updates in one jitted call."""
    parser.add_argument("--updates", type=int, default=1, help="so many in one jitted call, as a loop of XLA's")
    parser.add_argument("--unrolled", action="store_true", help="with --updates: one after the other in place of a loop")


def rounds_of_loop(args):
    """What `serve` has to know of them."""
    if args.updates == 1:
        return {}
    return {"warm_up": 1, "at_least": args.updates, "stride": 1, "updates": args.updates}


def pin(threads):
    """Keeps this process, and the thread pools that it will start, on so many cores. Call it before importing them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def peak_memory():
    """The most memory, in bytes, that this process has held."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def best_rate(product, seconds=0.3):
    """GFLOP/s of the best call over PRODUCTS; `product(m, k, n)` gives a function that multiplies once."""
    best = 0.0
    for m, k, n in PRODUCTS:
        multiply = product(m, k, n)
        multiply()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            multiply()
            best = max(best, 2e-9 * m * k * n / (time.perf_counter() - start))
    return best


def serve(args, peer, step, product, key="ms_per_update", warm_up=4, at_least=4, stride=2, updates=1, finish=lambda: None):
    """Warms up, then times rounds of `step` and prints them. `finish` waits for work that is still under way.

    A round has a multiple of `stride` steps, so that what happens at every second update has its share. One step makes
    so many `updates`.
    """
    for _ in range(warm_up):
        step()
    finish()
    memory = None
    if args.serve:
        print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin if args.serve else [None]:
        count, start = 0, time.perf_counter()
        while count < at_least or time.perf_counter() - start < args.seconds:
            for _ in range(stride):
                step()
            count += stride * updates
        finish()
        elapsed = (time.perf_counter() - start) / count
        memory = memory or peak_memory()  # the products below need more
        figure = {"ms_per_update": 1e3 * elapsed, "seconds_per_plan": elapsed, "steps_per_s": 1 / elapsed}[key]
        rate = best_rate(product) if product else None
        line = {"peer": peer, key: figure, "count": count, "peak_memory_bytes": memory, "matmul_peak_gflops": rate}
        print(json.dumps(line), flush=True)


def serve_loop(description, build, **defaults):
    """The whole of a JAX peer's program; `build(args)` gives `jax_common` and a step, after threads are pinned."""
    options = parser(description, **defaults)
    add_loop(options)
    args = options.parse_args()
    pin(args.threads)
    shared, step = build(args)
    serve(args, shared.name(args), step, shared.product, finish=step.finish, **rounds_of_loop(args))
