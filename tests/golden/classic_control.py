"""Rolls out Gymnasium's CartPole-v1 and Acrobot-v1 with recorded choices and writes what happened.

    python -m venv GYM && GYM/bin/pip install gymnasium==1.4.0 safetensors
    GYM/bin/python tests/golden/classic_control.py

classic_control.safetensors, all F64. For every environment and episode `cartpole-v1.0.` +

* `start` (4): the state after reset with a seed, `first` (O): the observation there,
* `actions` (steps): choices, by a rule that keeps the pole up or swings the links, with one in five at random,
* `states` (steps, 4) in f64, `observations` (steps, O), f32 as the environment gives them, `rewards`, `terminated`, `truncated` (steps): what
  each action led to.

An episode ends where it terminates or is truncated.
"""

import json
from pathlib import Path

import gymnasium
import numpy as np
from safetensors.numpy import save_file

EPISODES = 3


def balance(state, rng):
    """Towards where the pole falls, or at random in the last episodes."""
    return int(state[2] + 0.5 * state[3] > 0)


def swing(state, rng):
    """A torque along the lower link's motion."""
    return 2 if state[3] > 0 else 0


def roll_out(name, rule, episode):
    env = gymnasium.make(name)
    observation, _ = env.reset(seed=20 + episode)
    rng = np.random.default_rng(episode)
    inner = env.unwrapped
    found = {"start": np.array(inner.state, dtype=np.float64), "first": observation}
    steps = {key: [] for key in ("actions", "states", "observations", "rewards", "terminated", "truncated")}
    share = [0.2, 1.0, 0.0][episode]
    terminated = truncated = False
    while not (terminated or truncated):
        choices = int(env.action_space.n)
        action = int(rng.integers(choices)) if rng.uniform() < share else rule(inner.state, rng)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert observation.dtype == np.float32
        row = action, np.array(inner.state), observation, reward, terminated, truncated
        for values, value in zip(steps.values(), row):
            values.append(value)
    found |= steps
    return {key: np.ascontiguousarray(np.array(value, dtype=np.float64)) for key, value in found.items()}


if __name__ == "__main__":
    arrays = {}
    for key, name, rule in (("cartpole-v1", "CartPole-v1", balance), ("acrobot-v1", "Acrobot-v1", swing)):
        for episode in range(EPISODES):
            found = roll_out(name, rule, episode)
            print(key, episode, len(found["actions"]), "terminated" if found["terminated"][-1] else "truncated")
            arrays |= {f"{key}.{episode}.{array}": values for array, values in found.items()}
    about = {"gymnasium": gymnasium.__version__, "numpy": np.__version__}
    path = Path(__file__).resolve().parent / "classic_control.safetensors"
    save_file(arrays, path, metadata={"golden": json.dumps(about)})
    print(path.name, path.stat().st_size, "bytes")
