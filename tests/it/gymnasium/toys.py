"""Stands in the place of gymnasium in tests: spaces, `make`, and toys that behave and misbehave."""

import importlib
import os
import signal
import sys
import time

__version__ = "toys"


class Box:
    def __init__(self, low, high, dtype="float32", shape=None):
        self.low, self.high, self.dtype = low, high, dtype
        self.shape = (len(low),) if shape is None else shape


class Discrete:
    def __init__(self, n, start=0):
        self.n, self.start = n, start


class Dict:
    def __init__(self, spaces):
        self.spaces = spaces


class Text:
    def __str__(self):
        return "Text(9)"


class NameNotFound(Exception):
    pass


class Spec:
    def __init__(self, limit):
        self.max_episode_steps = limit


class Toy:
    """A point that starts at (seed % 4, 0), moves by its action (its second number by half), and earns x + 8 y. It ends beyond
    x = 6, after `limit` steps its time is over."""

    observation_space = Box([-float("inf")] * 2, [float("inf")] * 2)
    action_space = Box([-1.0, -1.0], [1.0, 2.0])

    def __init__(self, limit=20, render_mode=None):
        self.spec, self.limit = Spec(limit), limit
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        assert 0 <= seed < 1 << 31
        self.x, self.y, self.steps = float(seed % 4), 0.0, 0
        return self.seen(), {}

    def seen(self):
        return [self.x, self.y]

    def step(self, action):
        self.x += action[0]
        self.y += action[1] / 2
        self.steps += 1
        return self.seen(), self.x + 8 * self.y, self.x > 6, self.steps >= self.limit, {}

    def render(self):
        return [[[0, 1, 2], [3, 4, 5]]] if self.render_mode == "rgb_array" else None

    def close(self):
        if "CLOSED" in os.environ:
            with open(os.environ["CLOSED"], "a") as file:
                file.write("closed\n")


class Sorted(Toy):
    """A dictionary whose keys are out of order, in a dictionary."""

    observation_space = Dict(
        {
            "observation": Dict({"speed": Box([0], [9], "float64"), "place": Box([0, 0], [9, 9])}),
            "achieved_goal": Box([0, 0], [9, 9]),
            "choice": Discrete(3, 5),
        }
    )

    def seen(self):
        here = {"speed": [0.25], "place": [self.x, self.y]}
        return {"observation": here, "achieved_goal": (self.x + 1, self.y + 1), "choice": 6}


class Raises(Toy):
    def step(self, action):
        if action[0] > 0.5:
            raise ValueError("too fast")
        return super().step(action)


class Exits(Toy):
    def step(self, action):
        print("last words of the toy", file=sys.stderr)
        sys.exit(7)


class Killed(Toy):
    def step(self, action):
        os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(Toy):
    def reset(self, seed=None, options=None):
        with open(os.environ["PROCESS"], "w") as file:
            file.write(str(os.getpid()) + "\n")
        return super().reset(seed)

    def step(self, action):
        while True:
            time.sleep(0.01)


class Prints(Toy):
    def step(self, action):
        print("noise on standard output " * 100)
        os.write(1, b"and below Python")
        assert sys.stdin.read() == ""
        return super().step(action)


class Process(Toy):
    def seen(self):
        return [float(os.getpid()), 0.0]


class Together(Toy):
    """Its steps come back once two processes are in one."""

    def step(self, action):
        folder = os.environ["TOGETHER"]
        open(os.path.join(folder, str(os.getpid())), "w").close()
        start = time.monotonic()
        while len(os.listdir(folder)) < 2:
            if time.monotonic() - start > 60:
                raise RuntimeError("alone")
            time.sleep(0.001)
        return super().step(action)


class Choices(Toy):
    action_space = Discrete(3, 1)

    def step(self, action):
        return super().step([action, 0])


class Unbounded(Toy):
    action_space = Box([-float("inf")], [1.0])


class Drawn(Toy):
    """A picture of 4 x 2 pixels with a column for each place, blue where it is."""

    metadata = {"render_fps": 20}

    def render(self):
        if self.render_mode != "rgb_array":
            return None
        here = min(3, max(0, int(self.x)))
        return [[[0, 0, 255] if column == here else [255, 255, 255] for column in range(4)] for _ in range(2)]


class Restless(Drawn):
    """Goes another way every time."""

    def step(self, action):
        self.y += int.from_bytes(os.urandom(4), "big") / 1e9
        return super().step(action)


class Growing(Drawn):
    """Its pictures grow."""

    def render(self):
        return super().render() * (1 + self.steps)


class Picture(Toy):
    observation_space = Dict({"image": Box([0], [255], "uint8", (4, 4, 3)), "place": Box([0, 0], [9, 9]), "task": Text()})


class NotFinite(Toy):
    def seen(self):
        return [self.x, float("nan") if self.x > 1 else 0.0]


class TooLong(Toy):
    def seen(self):
        return [0.0] * 3


registry = {
    kind.__name__ + "-v0": kind
    for kind in list(vars().values())
    if isinstance(kind, type) and issubclass(kind, Toy)
}


def make(name, **arguments):
    if ":" in name:
        module, name = name.split(":")
        importlib.import_module(module)
    if name not in registry:
        raise NameNotFound("Environment `%s` doesn't exist." % name)
    return registry[name](**arguments)
