"""Rolls out Gymnasium's own environments with random actions and writes what happened.

    python -m venv V4 && V4/bin/pip install gymnasium==0.29.1 mujoco==3.3.7 imageio safetensors
    V4/bin/python tests/golden/gymnasium_rollouts.py v4
    python -m venv V5 && V5/bin/pip install gymnasium==1.4.0 mujoco==3.3.7 imageio safetensors
    V5/bin/python tests/golden/gymnasium_rollouts.py v5

One file per version, gymnasium_v4.safetensors and gymnasium_v5.safetensors, all F64. For every environment and
episode `hopper-v4.0.` +

* `positions`, `velocities`: qpos and qvel after reset with a seed (pendulum-v1: angle, angular velocity),
* `actions` (steps, A): uniform, some beyond the bounds; exact in f32, given to Gymnasium in f64 so that its reward is f64,
* `observations` (steps, O), `rewards` (steps), `terminated` (steps, 0 or 1): what each action led to.

An episode ends after STEPS steps or where it terminates.
"""

import json
import sys
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from safetensors.numpy import save_file

STEPS = 60
EPISODES = 2
MUJOCO = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d", "ant": "Ant"}


def roll_out(env, seed, scale):
    """One episode with actions uniform in ±scale times the bounds."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    high = env.action_space.high.astype(np.float64)
    inner = env.unwrapped
    if hasattr(inner, "data"):
        start = {"positions": inner.data.qpos.copy(), "velocities": inner.data.qvel.copy()}
    else:
        start = {"positions": inner.state[:1].copy(), "velocities": inner.state[1:].copy()}
    steps = {"actions": [], "observations": [], "rewards": [], "terminated": []}
    for _ in range(STEPS):
        action = (scale * high * rng.uniform(-1, 1, high.shape)).astype(np.float32).astype(np.float64)
        observation, reward, terminated, _, _ = inner.step(action)
        if not hasattr(inner, "data"):  # the pendulum's observations are f32: its state says more
            observation = inner.state
        for name, value in zip(steps, (action, observation, reward, terminated)):
            steps[name].append(value)
        if terminated:
            break
    return start | {name: np.array(values, dtype=np.float64) for name, values in steps.items()}


def main(version):
    names = {f"{key}-{version}": f"{name}-{version}" for key, name in MUJOCO.items()}
    if version == "v4":
        names["pendulum-v1"] = "Pendulum-v1"
    arrays = {}
    for key, name in names.items():
        env = gymnasium.make(name)
        for episode in range(EPISODES):
            # The first episode stays within the bounds, the second asks for up to 1.5 times as much.
            for array, values in roll_out(env, seed=10 + episode, scale=1 + 0.5 * episode).items():
                arrays[f"{key}.{episode}.{array}"] = np.ascontiguousarray(values)
    about = {"gymnasium": gymnasium.__version__, "mujoco": mujoco.__version__, "numpy": np.__version__}
    path = Path(__file__).resolve().parent / f"gymnasium_{version}.safetensors"
    save_file(arrays, path, metadata={"golden": json.dumps(about)})
    for key in names:
        episodes = [arrays[f"{key}.{e}.terminated"] for e in range(EPISODES)]
        print(key, [(len(e), "terminated" if e[-1] else "cut") for e in episodes])
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    if sys.argv[1:] not in (["v4"], ["v5"]):
        sys.exit(__doc__)
    main(sys.argv[1])
