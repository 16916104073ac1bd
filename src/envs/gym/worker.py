"""Copies of one Gymnasium environment, stepped for the program that started this interpreter.

Frames go over what was standard input and output: a length (u32, of what follows), an operation (u8), a body. All numbers
are little-endian. The program sends a request and waits for its one reply. Needs nothing but the standard library and
gymnasium; NumPy is used where it is installed.

    request 1 make    JSON: id, arguments, keys, render, copies    reply: JSON, what the environment looks like
            2 resize  u32 copies                                   reply: nothing
            3 reset   u32 n, n slots (u32), n seeds (u64)          reply: n observations
            4 step    u32 n, n slots (u32), n actions (f32)        reply: n observations, n rewards (f64), n flags (u8)
            5 render  u32 slot                                     reply: u32 height, u32 width, rgb (u8)
    reply   0 done, 1 failed: JSON with a kind and a text

The first frame is a greeting. Observations are f64 if a part of the space is, else f32. Flag 1: terminated, 2: truncated.
"""

import array
import json
import os
import re
import signal
import struct
import sys
import threading
import time
import traceback

PROTOCOL = 1
DONE, FAILED = 0, 1
LARGEST_SEED = 0x7FFFFFFF

# Packages whose environments Gymnasium knows only once they are imported: what their ids look like, module, name for pip.
FAMILIES = [
    (r"(AntMaze|PointMaze|AdroitHand|Fetch|HandReach|HandManipulate|FrankaKitchen)", "gymnasium_robotics", "gymnasium-robotics"),
    (r"ALE/", "ale_py", "ale-py"),
    (r"(MiniGrid|BabyAI)-", "minigrid", "minigrid"),
    (r"MiniWorld-", "miniworld", "miniworld"),
    (r"Meta-World/", "metaworld", "metaworld"),
    (r"dm_control/", "shimmy", "shimmy[dm-control]"),
    (r"(visual-)?(antmaze|humanoidmaze|pointmaze|antsoccer|cube|scene|puzzle|powderworld)-", "ogbench", "ogbench"),
]


class Refused(Exception):
    """What this worker can't do, as a kind and a text."""

    def __init__(self, kind, text, **more):
        super().__init__(text)
        self.reply = dict(more, kind=kind, text=text)


def take_channel():
    """The channel's two ends. What the environment prints, or reads, doesn't touch them."""
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


def end_with_parent():
    """Ends this process when the one that started it is gone, in the middle of a step too."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def numpy_or_none():
    try:
        import numpy

        return numpy
    except ImportError:
        return None


def class_names(thing):
    return {kind.__name__ for kind in type(thing).__mro__}


def shape_of(space):
    shape = getattr(space, "shape", None)
    return () if shape is None else tuple(int(size) for size in shape)


def size_of(shape):
    size = 1
    for length in shape:
        size *= length
    return size


def flat(value):
    """The numbers in nested sequences, in order."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in flat(part)]
    return [float(value)]


class Leaf:
    """A part of an observation that becomes numbers."""

    def __init__(self, path, space):
        self.path, self.space = path, space
        self.key = "/".join(str(name) for name in path)
        self.names = class_names(space)
        self.dtype = str(getattr(space, "dtype", "float32"))
        self.problem, self.size = self.measure()

    def measure(self):
        space, shape = self.space, shape_of(self.space)
        if "Box" in self.names:
            if "uint8" in self.dtype and len(shape) >= 2:
                return "a picture of %s" % "x".join(map(str, shape)), 0
            return None, size_of(shape)
        if "Discrete" in self.names:
            return None, int(space.n)
        if "MultiBinary" in self.names:
            return None, size_of(shape)
        if "MultiDiscrete" in self.names:
            return None, int(sum(flat(space.nvec)))
        return str(space), 0

    def is_wide(self):
        whole = {"Discrete", "MultiDiscrete", "MultiBinary"} & self.names
        return not whole and any(word in self.dtype for word in ("float64", "int32", "int64"))

    def numbers(self, observation):
        for name in self.path:
            observation = observation[name]
        if "Discrete" in self.names:
            return one_hot([int(observation) - int(getattr(self.space, "start", 0))], [self.size])
        if "MultiDiscrete" in self.names:
            counts = [int(count) for count in flat(self.space.nvec)]
            starts = getattr(self.space, "start", None)
            starts = [0] * len(counts) if starts is None else flat(starts)
            chosen = [int(value - start) for value, start in zip(flat(observation), starts)]
            return one_hot(chosen, counts)
        return observation


def one_hot(chosen, counts):
    numbers = []
    for choice, count in zip(chosen, counts):
        numbers.extend(1.0 if choice == i else 0.0 for i in range(count))
    return numbers


def leaves(space, path=()):
    names = class_names(space)
    if "Dict" in names:
        parts = sorted(space.spaces.items())
    elif "Tuple" in names:
        parts = list(enumerate(space.spaces))
    else:
        return [Leaf(path, space)]
    return [leaf for name, part in parts for leaf in leaves(part, path + (name,))]


def chosen_leaves(space, keys):
    """The parts of an observation in the order of their numbers: sorted by key, or those that are asked for."""
    found = leaves(space)
    if len(found) == 1 and not found[0].path:
        keys = []
    if keys:
        asked = []
        for key in keys:
            inside = [leaf for leaf in found if leaf.key == key or leaf.key.startswith(key + "/")]
            if not inside:
                known = "`, `".join(leaf.key for leaf in found)
                raise Refused("unsupported", "observations have no `%s`, they have `%s`" % (key, known))
            asked.extend(inside)
        found = asked
    for leaf in found:
        if leaf.problem:
            name = "the observation" if not leaf.path else "`%s` of the observation" % leaf.key
            usable = [other.key for other in found if not other.problem]
            text = "%s is %s, and only vectors of numbers can be used" % (name, leaf.problem)
            if usable:
                text += ": name the keys to use in `evaluate.observation_keys`, of `%s`" % "`, `".join(usable)
            raise Refused("unsupported", text)
    if sum(leaf.size for leaf in found) == 0:
        raise Refused("unsupported", "its observations hold no numbers")
    return found


class Observations:
    """Turns observations into bytes."""

    def __init__(self, space, keys, numpy):
        self.leaves, self.numpy = chosen_leaves(space, keys), numpy
        self.is_wide = any(leaf.is_wide() for leaf in self.leaves)
        self.size = sum(leaf.size for leaf in self.leaves)
        self.is_plain = len(self.leaves) == 1 and not self.leaves[0].path
        self.code = "d" if self.is_wide else "f"

    def bytes(self, observation):
        if self.numpy is not None:
            return self.with_numpy(observation)
        numbers = []
        for leaf in self.leaves:
            numbers.extend(self.checked(flat(leaf.numbers(observation)), leaf))
        packed = array.array(self.code, numbers)
        if sys.byteorder == "big":
            packed.byteswap()
        return packed.tobytes()

    def with_numpy(self, observation):
        kind = "<f8" if self.is_wide else "<f4"
        parts = []
        for leaf in self.leaves:
            numbers = self.numpy.asarray(leaf.numbers(observation), dtype=kind).reshape(-1)
            parts.append(self.checked(numbers, leaf).tobytes())
        return parts[0] if self.is_plain else b"".join(parts)

    def checked(self, numbers, leaf):
        if len(numbers) != leaf.size:
            name = "the observation" if not leaf.path else "`%s` of the observation" % leaf.key
            raise ValueError("%s has %d numbers, its space has %d" % (name, len(numbers), leaf.size))
        return numbers

    def described(self):
        parts = [{"key": leaf.key, "size": leaf.size} for leaf in self.leaves]
        return {"parts": parts, "wide": self.is_wide, "plain": self.is_plain}


def finite(number):
    number = float(number)
    return number if abs(number) < float("inf") else None


class Actions:
    """Turns numbers into actions."""

    def __init__(self, space, numpy):
        self.space, self.numpy = space, numpy
        names = class_names(space)
        self.shape, self.dtype = shape_of(space), str(getattr(space, "dtype", "float32"))
        if "Box" in names and "float" in self.dtype:
            self.kind, self.size = "box", size_of(self.shape)
        elif "Discrete" in names:
            self.kind, self.size = "discrete", 1
        else:
            self.kind, self.size = "other", 0

    def take(self, body, offset):
        numbers = struct.unpack_from("<%df" % self.size, body, offset)
        if self.kind == "discrete":
            action = int(numbers[0]) + int(getattr(self.space, "start", 0))
            return action if self.numpy is None else self.numpy.int64(action)
        if self.numpy is None:
            return list(numbers)
        # A copy: an environment may write into its action.
        return self.numpy.array(numbers, dtype=self.dtype).reshape(self.shape)

    def described(self):
        if self.kind == "box":
            bounds = [[finite(number) for number in flat(side)] for side in (self.space.low, self.space.high)]
            low, high = (side * self.size if len(side) == 1 else side for side in bounds)
            return {"kind": "box", "low": low, "high": high}
        if self.kind == "discrete":
            return {"kind": "discrete", "choices": int(self.space.n)}
        return {"kind": "other", "text": str(self.space)}


def is_unknown(error):
    return bool({"UnregisteredEnv", "NameNotFound", "NamespaceNotFound", "VersionNotFound"} & class_names(error))


def missing(module, package):
    return Refused("missing", "no module named %s" % module, package=package)


def import_gymnasium():
    try:
        import gymnasium

        return gymnasium
    except ModuleNotFoundError as error:
        if error.name == "gymnasium":
            raise missing("gymnasium", "gymnasium") from None
        raise


def make(gymnasium, identifier, arguments):
    try:
        return gymnasium.make(identifier, **arguments)
    except Exception as error:
        if not is_unknown(error):
            raise
        first = error
    for pattern, module, package in FAMILIES:
        if not re.match(pattern, identifier):
            continue
        try:
            __import__(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                raise missing(module, package) from None
            raise
        try:
            return gymnasium.make(identifier, **arguments)
        except Exception as error:
            if not is_unknown(error):
                raise
            first = error
    raise Refused("unknown", " ".join(str(first).split()))


def pictures_per_second(env):
    number = (getattr(env, "metadata", None) or {}).get("render_fps")
    return finite(number) if isinstance(number, (int, float)) and number > 0 else None


class Copies:
    """The copies of the environment; a slot is a place among them."""

    def __init__(self):
        self.envs, self.wanted, self.numpy = [], None, None

    def make(self, body):
        self.wanted = json.loads(body.decode("utf-8"))
        self.gymnasium = import_gymnasium()
        self.numpy = numpy_or_none()
        self.grow()
        first = self.envs[0]
        self.observations = Observations(first.observation_space, self.wanted["keys"], self.numpy)
        self.actions = Actions(first.action_space, self.numpy)
        self.resize(struct.pack("<I", self.wanted["copies"]))
        limit = getattr(getattr(first, "spec", None), "max_episode_steps", None)
        versions = {"python": sys.version.split()[0]}
        for name in ("gymnasium", "gymnasium_robotics", "mujoco", "numpy"):
            if name in sys.modules:
                versions[name] = str(getattr(sys.modules[name], "__version__", "?"))
        described = {
            "observation": self.observations.described(),
            "action": self.actions.described(),
            "max_episode_steps": None if limit is None else int(limit),
            "pictures_per_second": pictures_per_second(first),
            "versions": versions,
        }
        return json.dumps(described).encode("utf-8")

    def grow(self):
        arguments = dict(self.wanted["arguments"])
        if self.wanted["render"]:
            arguments["render_mode"] = "rgb_array"
        self.envs.append(make(self.gymnasium, self.wanted["id"], arguments))

    def resize(self, body):
        (count,) = struct.unpack("<I", body)
        while len(self.envs) > count:
            self.envs.pop().close()
        while len(self.envs) < count:
            self.grow()
        return b""

    def reset(self, body):
        (count,) = struct.unpack_from("<I", body)
        slots = struct.unpack_from("<%dI" % count, body, 4)
        seeds = struct.unpack_from("<%dQ" % count, body, 4 + 4 * count)
        found = []
        for slot, seed in zip(slots, seeds):
            observation, _ = self.envs[slot].reset(seed=seed & LARGEST_SEED)
            found.append(self.observations.bytes(observation))
        return b"".join(found)

    def step(self, body):
        (count,) = struct.unpack_from("<I", body)
        slots = struct.unpack_from("<%dI" % count, body, 4)
        offset, width = 4 + 4 * count, 4 * self.actions.size
        found, rewards, flags = [], [], bytearray()
        for i, slot in enumerate(slots):
            action = self.actions.take(body, offset + i * width)
            observation, reward, terminated, truncated, _ = self.envs[slot].step(action)
            found.append(self.observations.bytes(observation))
            rewards.append(float(reward))
            flags.append(bool(terminated) + 2 * bool(truncated))
        found.append(struct.pack("<%dd" % count, *rewards))
        found.append(flags)
        return b"".join(found)

    def render(self, body):
        (slot,) = struct.unpack("<I", body)
        picture = self.envs[slot].render()
        if picture is None:
            raise Refused("unsupported", "it has no picture to show (`render` gave nothing)")
        if hasattr(picture, "tobytes"):
            (height, width, _), pixels = picture.shape, picture.tobytes()
        else:
            height, width, pixels = len(picture), len(picture[0]), bytes(int(number) for number in flat(picture))
        return struct.pack("<II", height, width) + pixels

    def close(self):
        for env in self.envs:
            try:
                env.close()
            except Exception:
                pass


class Channel:
    def __init__(self, source, sink):
        self.source, self.sink = source, sink

    def receive(self):
        """The next frame without its length; none if the program is gone."""
        data = bytearray()
        while len(data) < 4 or len(data) < 4 + struct.unpack_from("<I", data)[0]:
            part = os.read(self.source, 1 << 16)
            if not part:
                return None
            data += part
        return bytes(data[4:])

    def send(self, operation, body):
        data = memoryview(struct.pack("<IB", len(body) + 1, operation) + body)
        while data:
            data = data[os.write(self.sink, data) :]


def failure(error):
    """What a program is told of an exception: without the frames of this file."""
    if isinstance(error, Refused):
        return error.reply
    trace = error.__traceback__
    here = Channel.receive.__code__.co_filename
    while trace is not None and trace.tb_frame.f_code.co_filename == here:
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return {"kind": "raised", "text": text, "traceback": "".join(lines).strip()}


def serve(channel):
    copies = Copies()
    operations = {1: copies.make, 2: copies.resize, 3: copies.reset, 4: copies.step, 5: copies.render}
    while True:
        request = channel.receive()
        if request is None:
            copies.close()
            return
        try:
            reply = operations[request[0]](request[1:])
        except Exception as error:
            channel.send(FAILED, json.dumps(failure(error)).encode("utf-8"))
        else:
            channel.send(DONE, reply)


def main():
    # Ctrl-C is for the program, which decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(*take_channel())
    end_with_parent()
    channel.send(DONE, b"trajformer-gym" + struct.pack("<I", PROTOCOL))
    try:
        serve(channel)
    except (BrokenPipeError, ConnectionError):
        pass
    # At once: threads and handlers of the environment have no say any more.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
