"""Makes tests/golden/random_data.zip: about two hundred tiny data sets, no two alike, and what is in them.

Independent of the project: h5py, NumPy and the minari package write the files; expectations are computed here from the
episodes that the files were made of. Every episode is a random walk, so that no observation occurs twice.

    pip install minari[hdf5,arrow]==0.5.4 h5py==3.16.0 numpy==2.4.6 pillow pyarrow
    python tests/golden/random_data_files.py
"""

import io
import itertools
import json
import os
import pathlib
import shutil
import tempfile
import zipfile

import h5py
import numpy as np

WORK = pathlib.Path(tempfile.mkdtemp())
os.environ["MINARI_DATASETS_PATH"] = str(WORK / "minari")

import gymnasium as gym  # noqa: E402
import minari  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

rng = np.random.default_rng(16)
expected = {}


def pick(*choices):
    return choices[rng.integers(len(choices))]


class Episode:
    """T steps, T + 1 observations; exact in float16, so that every type of file holds the same numbers."""

    def __init__(self, dim, action_dim, choices, both):
        self.steps = int(rng.integers(2, 9))
        start = rng.integers(-800, 800, dim)
        walk = start + np.cumsum(rng.integers(1, 9, (self.steps + 1, dim)) * rng.choice([-1, 1], (self.steps + 1, dim)), 0)
        self.observations = walk / 8.0
        self.actions = rng.integers(0, choices, self.steps) if choices else rng.integers(-16, 17, (self.steps, action_dim)) / 16.0
        self.rewards = rng.integers(-20, 21, self.steps) / 4.0
        self.terminated, self.truncated = [(True, False), (False, True), (True, True)][rng.integers(3 if both else 2)]


def flags(episodes, which):
    return np.concatenate([np.arange(e.steps) == e.steps - 1 if getattr(e, which) else np.zeros(e.steps, bool) for e in episodes])


def flat(episodes):
    return dict(
        observations=np.concatenate([e.observations[:-1] for e in episodes]),
        next_observations=np.concatenate([e.observations[1:] for e in episodes]),
        actions=np.concatenate([e.actions for e in episodes]), rewards=np.concatenate([e.rewards for e in episodes]),
        terminals=flags(episodes, "terminated"), timeouts=flags(episodes, "truncated"),
    )


def pieces(rows, with_next, unmarked_ends):
    """Episodes as (start, steps, terminated, truncated, fragment, observation after the last step or None).

    A row is followed by the next one if its next observation says so; where the file has none, unless an end is marked.
    Parts after an unmarked cut are fragments, as are those that begin with what followed another part; and all are where
    there are more such cuts than ends.
    """
    count, found, start = len(rows["rewards"]), [], 0
    for i in range(count):
        end = bool(rows["terminals"][i]), bool(rows["timeouts"][i])
        last = i + 1 == count
        apart = with_next and not last and not np.array_equal(rows["next_observations"][i], rows["observations"][i + 1])
        if any(end) or apart or last:
            after = rows["next_observations"][i] if with_next else None
            found.append([start, i + 1 - start, *end, False, after, apart and not any(end)])
            start = i + 1
    cuts, ends = sum(p[6] for p in found), sum(p[2] or p[3] for p in found)
    for i, piece in enumerate(found):
        piece[4] = cuts > ends or (i > 0 and found[i - 1][6])
    after_open = [p[5] for p in found if with_next and not (p[2] or p[3])]
    for piece in found:  # its first observation is what followed another part
        piece[4] |= any(np.array_equal(after, rows["observations"][piece[0]]) for after in after_open)
    assert unmarked_ends or not cuts
    return [p[:6] for p in found], cuts


def expect(name, rows, parts, *, cuts=0, choices=None, env=None, bounds=None, options=None, warning=None):
    listed = lambda a: np.asarray(a, np.float64).ravel().tolist()  # noqa: E731
    expected[name] = dict(
        observations=listed(rows["observations"]), actions=listed(rows["actions"]), rewards=listed(rows["rewards"]),
        dim=int(np.asarray(rows["observations"]).shape[1]), choices=choices, env=env, bounds=bounds,
        pieces=[[int(s), int(n), bool(t), bool(u), bool(f), None if o is None else listed(o)] for s, n, t, u, f, o in parts],
        returns=[float(rows["rewards"][s : s + n].sum()) for s, n, t, u, f, _ in parts if (t or u) and not f],
        cuts=cuts, options=options or {}, warning=warning,
    )


def h5_options(values):
    """A random layout: contiguous, or chunks of any size with filters."""
    if rng.random() < 0.3 or values.ndim == 0:
        return {}
    options = dict(chunks=tuple(int(rng.integers(1, n + 1)) for n in values.shape), shuffle=bool(rng.integers(2)),
                   fletcher32=bool(rng.integers(2)))
    compression = pick(None, "gzip", "lzf")
    if compression:
        options["compression"] = compression
    if rng.random() < 0.3:
        options["maxshape"] = (None,) + values.shape[1:]
    return options


def write_flat(name, arrays, hdf5, env):
    path = WORK / name
    if not hdf5:
        arrays = {k: np.asfortranarray(v) if rng.random() < 0.3 else v for k, v in arrays.items()}
        if env:
            arrays["env_name"] = np.array(env)
        pick(np.savez, np.savez_compressed)(path, **arrays)
        return
    libver = pick("earliest", ("earliest", "v108"), ("v110", "v110"), ("v114", "v114"))
    with h5py.File(path, "w", libver=libver, track_order=bool(rng.integers(2))) as f:
        for key in rng.permutation(list(arrays)):
            f.create_dataset(str(key), data=arrays[key], **h5_options(arrays[key]))
        if env:
            f.attrs[pick("env", "env_name", "env_id")] = env


def flat_file(number):
    dim, action_dim = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    choices = int(rng.integers(2, 6)) if rng.random() < 0.25 else 0
    episodes = [Episode(dim, action_dim, choices, rng.random() < 0.4) for _ in range(int(rng.integers(3, 9)))]
    order = pick("kept", "kept", "shuffled", "unmarked", "holes")
    with_next = order != "kept" or rng.random() < 0.5
    open_last = rng.random() < 0.3
    if order == "unmarked":
        for e in rng.choice(episodes[:-1], int(rng.integers(1, len(episodes))), replace=False):
            e.terminated = e.truncated = False
    if open_last:
        episodes[-1].terminated = episodes[-1].truncated = False
    rows = flat(episodes)
    kept = np.arange(len(rows["rewards"]))
    if order == "shuffled":
        kept = rng.permutation(kept)
    elif order == "holes":
        kept = np.delete(kept, rng.choice(len(kept) - 2, 2, replace=False) + 1)
    rows = {key: values[kept] for key, values in rows.items()}
    if not (rows["terminals"].any() or rows["timeouts"].any()):
        rows["timeouts"][-1] = True
    parts, cuts = pieces(rows, with_next, order != "kept")

    hdf5 = bool(rng.integers(2))
    options, lacks_timeouts = {}, False
    arrays = {k: v for k, v in rows.items() if with_next or k != "next_observations"}
    if order == "kept" and not with_next and rng.random() < 0.3:
        # No time-outs: cut after a limit that the user gives.
        lacks_timeouts, limit = True, int(rng.integers(2, 7))
        options["max_episode_steps"] = limit
        del arrays["timeouts"]
        rows["timeouts"] = np.zeros_like(rows["terminals"])
        length = 0
        for i, terminal in enumerate(rows["terminals"]):
            length += 1
            rows["timeouts"][i] = length == limit and not terminal
            length = 0 if terminal or rows["timeouts"][i] else length
        parts, cuts = pieces(rows, False, False)
    # Types that hold the same numbers.
    floats = ("f2", "f4", "f8", ">f4", ">f8", ">f2")
    arrays["observations"] = arrays["observations"].astype(pick(*floats))
    if with_next:
        arrays["next_observations"] = arrays["next_observations"].astype(pick(*floats))
        if rng.random() < 0.3:  # unknown after the task's own ends
            ended = rows["terminals"] & (rng.random(len(rows["rewards"])) < 0.7)
            arrays["next_observations"][ended] = np.nan
            for part in parts:
                if ended[part[0] + part[1] - 1]:
                    part[5] = None
    arrays["actions"] = arrays["actions"].astype(pick("i1", "i8", "u1", "u2", ">i4") if choices else pick(*floats))
    if rng.random() < 0.3 and arrays["actions"].ndim == 1:
        arrays["actions"] = arrays["actions"][:, None]
    arrays["rewards"] = arrays["rewards"].astype(pick("f2", "f4", "f8", ">f8"))
    if rng.random() < 0.25:
        arrays["rewards"] = arrays["rewards"][:, None]
    for key, other in (("terminals", "terminations"), ("timeouts", "truncations")):
        if key in arrays:
            values = arrays.pop(key).astype(pick("?", "u1", "i8", "f4", "f8"))
            values = values[:, None] if rng.random() < 0.2 else values
            arrays[pick(key, other)] = values
    if not hdf5 and rng.random() < 0.3:
        arrays["obs"] = arrays.pop("observations")
    if hdf5 and rng.random() < 0.4:
        arrays["infos/qpos"] = np.zeros((3, 2))
    columns = rng.random() < 0.2 and dim > 1
    if columns:
        options["observation_columns"] = f"1..{dim}"
        rows["observations"] = rows["observations"][:, 1:]
        for part in parts:
            part[5] = None if part[5] is None else part[5][1:]
    env = pick(None, "Boxes-v4", "a name, 2")
    name = f"{number:03}-{order}.{'hdf5' if hdf5 else 'npz'}"
    write_flat(name, arrays, hdf5, env)
    forget_shifted(rows, parts)
    expect(name, rows, parts, cuts=cuts, choices=int(rows["actions"].max()) + 1 if choices else None, env=env,
           options=options, warning="timeouts" if lacks_timeouts else None)


def forget_shifted(rows, parts):
    """Never happens with walks: a final observation that begins the next episode."""
    for start, steps, *_, after in parts:
        assert after is None or start + steps == len(rows["rewards"]) or not np.array_equal(after, rows["observations"][start + steps])


def minari_set(number):
    dims = {"observation": int(rng.integers(1, 4)), "desired_goal": int(rng.integers(1, 3)), "achieved_goal": 1}
    action_dim, choices = int(rng.integers(1, 4)), int(rng.integers(2, 6)) if rng.random() < 0.25 else 0
    total = sum(dims.values())
    episodes = [Episode(total, action_dim, choices, rng.random() < 0.4) for _ in range(int(rng.integers(1, 6)))]
    if rng.random() < 0.3:
        episodes[-1].terminated = episodes[-1].truncated = False
    kind = pick("plain", "plain", "dictionary", "nested")
    dtype = pick(np.float32, np.float64)
    box = lambda n: gym.spaces.Box(-np.inf, np.inf, (n,), dtype)  # noqa: E731
    ends = np.cumsum([0, *dims.values()])
    column = {key: slice(ends[i], ends[i + 1]) for i, key in enumerate(dims)}
    options, bounds = {}, None
    if kind == "plain":
        space, observe, used = box(total), lambda o: o.astype(dtype), slice(None)
    else:
        chosen = list(rng.permutation(list(dims))[: int(rng.integers(1, 4))])
        prefix = "state/" if kind == "nested" else ""
        options["observation_keys"] = [prefix + str(key) for key in chosen]
        inner = gym.spaces.Dict({key: box(n) for key, n in dims.items()})
        space = gym.spaces.Dict(state=inner, other=box(1)) if kind == "nested" else inner
        split = lambda o: {key: o[:, column[key]].astype(dtype) for key in dims}  # noqa: E731
        observe = (lambda o: dict(state=split(o), other=o[:, :1].astype(dtype))) if kind == "nested" else split
        used = np.concatenate([np.arange(total)[column[str(key)]] for key in chosen])
    if choices:
        action_space = gym.spaces.Discrete(choices)
    else:
        high = rng.integers(8, 40, action_dim) / 8.0
        low = -high if rng.random() < 0.5 else -rng.integers(8, 40, action_dim) / 8.0
        if rng.random() < 0.3:
            high[0] = np.inf
        action_space = gym.spaces.Box(low.astype("f4"), high.astype("f4"), dtype=np.float32)
        finite = lambda values: [float(v) if np.isfinite(v) else None for v in values]  # noqa: E731
        bounds = [finite(low), finite(high)]
    buffers = [
        EpisodeBuffer(id=i, seed=i, observations=observe(e.observations),
                      actions=e.actions if choices else e.actions.astype("f4"), rewards=list(e.rewards),
                      terminations=list(flags([e], "terminated")), truncations=list(flags([e], "truncated")), infos=None)
        for i, e in enumerate(episodes)
    ]
    storage = pick("hdf5", "arrow")
    name = f"{number:03}-{kind}-v0"
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=space, action_space=action_space, author="A", author_email="a@b",
        code_permalink="c", algorithm_name="d", data_format=storage,
    )
    shutil.move(WORK / "minari" / name, WORK / name)
    if storage == "hdf5" and kind == "plain" and rng.random() < 0.5:
        link(WORK / name / "data", len(episodes))
    rows = flat(episodes)
    parts, start = [], 0
    for e in episodes:
        parts.append([start, e.steps, e.terminated, e.truncated, False, e.observations[-1][used]])
        start += e.steps
    rows["observations"] = rows["observations"][:, used]
    expect(name, rows, parts, choices=choices or None, bounds=bounds, options=options)


def link(folder, count):
    """Moves some episodes into a file of their own and links to them, as Minari did up to 0.3."""
    moved = sorted(rng.choice(count, int(rng.integers(1, count + 1)), replace=False).tolist())
    with h5py.File(folder / "main_data.hdf5", "a") as main, h5py.File(folder / "additional_data_0.hdf5", "w") as more:
        for place, i in enumerate(moved):
            main.copy(f"episode_{i}", more, f"episode_{place}")
            del main[f"episode_{i}"]
            main[f"episode_{i}"] = h5py.ExternalLink("additional_data_0.hdf5", f"/episode_{place}")
        main.attrs["total_episodes"] = count


def many_links():
    """So many links that HDF5 keeps them in a heap and a tree of several levels."""
    for number, count in enumerate((9, 60, 1500)):
        name = f"{900 + number}-links-v0"
        (WORK / name / "data").mkdir(parents=True)
        episodes = [Episode(1, 1, 0, False) for _ in range(count)]
        for e in episodes:
            e.steps, e.observations, e.actions, e.rewards = 2, e.observations[:3], e.actions[:2], e.rewards[:2]
        folder = WORK / name / "data"
        with h5py.File(folder / "main_data.hdf5", "w", track_order=bool(number % 2)) as main, h5py.File(
            folder / "additional_data_0.hdf5", "w"
        ) as more:
            for i, e in enumerate(episodes):
                group = (main if i % 50 == 0 else more).create_group(f"episode_{i}")
                values = dict(observations=e.observations, actions=e.actions, rewards=e.rewards,
                              terminations=flags([e], "terminated"), truncations=flags([e], "truncated"))
                for key, value in values.items():
                    group[key] = value
                if i % 50:
                    main[f"episode_{i}"] = h5py.ExternalLink("additional_data_0.hdf5", f"/episode_{i}")
            main.attrs["total_episodes"], main.attrs["total_steps"] = count, 2 * count
        parts = [[2 * i, 2, e.terminated, e.truncated, False, e.observations[-1]] for i, e in enumerate(episodes)]
        expect(name, flat(episodes), parts)


def faults():
    """Files that are refused, with what the message must name; all are whole but for one thing."""
    words = {}
    folder = WORK / "faults"
    folder.mkdir()
    episodes = [Episode(3, 2, 0, False) for _ in range(4)]
    rows = flat(episodes)

    def flat_hdf5(name, *named, change=None, leave=(), **options):
        with h5py.File(folder / name, "w", **options) as f:
            for key, values in rows.items():
                if key not in leave:
                    f[key] = values
            if change:
                change(f)
        words[f"faults/{name}"] = list(named)

    # Compressed with filters that are not at hand: that they were applied is all that a reader sees.
    for number, filter_name in ((32001, "blosc"), (32015, "zstd"), (307, "bzip2"), (32004, "lz4"), (32008, "bitshuffle"),
                                (32026, "blosc2"), (32013, "zfp"), (40000, "filter 40000")):
        def compressed(f, number=number):
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_chunk((8, 3))
            layout.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
            shape = h5py.h5s.create_simple(rows["observations"].shape)
            data = h5py.h5d.create(f.id, b"observations", h5py.h5t.IEEE_F32LE, shape, layout)
            for row in range(0, shape.get_simple_extent_dims()[0], 8):
                data.write_direct_chunk((row, 0), rng.bytes(64), 0)

        flat_hdf5(f"{filter_name.replace(' ', '')}.hdf5", filter_name, "h5repack -f GZIP=4", "`observations`",
                  change=compressed, leave=["observations"])

    with h5py.File(folder / "open.hdf5", "w", libver="latest") as f:
        for key, values in rows.items():
            f.create_dataset(key, data=values, chunks=True, maxshape=(None,) + values.shape[1:])
        f.swmr_mode = True
        f.flush()
        shutil.copy(folder / "open.hdf5", folder / "killed.hdf5")
    (folder / "open.hdf5").unlink()
    words["faults/killed.hdf5"] = ["h5clear -s killed.hdf5", "swmr=True", "open for writing"]

    def virtual(f):
        layout = h5py.VirtualLayout(rows["rewards"].shape, "f8")
        layout[:] = h5py.VirtualSource("elsewhere.hdf5", "rewards", rows["rewards"].shape)
        f.create_virtual_dataset("rewards", layout)

    flat_hdf5("virtual.hdf5", "`rewards`", "lie in other files", change=virtual, leave=["rewards"])
    flat_hdf5("external.hdf5", "`rewards`", "lie in other files", leave=["rewards"],
              change=lambda f: f.create_dataset("rewards", rows["rewards"].shape, "f8", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)]))
    flat_hdf5("long-double.hdf5", "`rewards`", "floats of 16 bytes", leave=["rewards"],
              change=lambda f: f.create_dataset("rewards", data=rows["rewards"].astype(np.longdouble)))
    flat_hdf5("records.hdf5", "`rewards`", "records", leave=["rewards"],
              change=lambda f: f.create_dataset("rewards", data=np.zeros(len(rows["rewards"]), [("a", "f4"), ("b", "i4")])))
    flat_hdf5("lists.hdf5", "`rewards`", "lists", leave=["rewards"],
              change=lambda f: f.create_dataset("rewards", len(rows["rewards"]), h5py.vlen_dtype(np.float32)))

    def wide_bits(f):
        data = h5py.h5d.create(f.id, b"terminals", h5py.h5t.STD_B16LE, h5py.h5s.create_simple(rows["terminals"].shape))
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, rows["terminals"].astype("u2"), mtype=h5py.h5t.STD_B16LE)

    flat_hdf5("wide-bits.hdf5", "`terminals`", "bit fields", "bool", change=wide_bits, leave=["terminals"])
    flat_hdf5("disagreement.hdf5", "`terminations`", "`terminals`", "row 0",
              change=lambda f: f.create_dataset("terminations", data=~rows["terminals"]))
    for name, terminals, timeouts, dones, said in (
        ("dones-alone", None, None, rows["terminals"], "whether the task ended"),
        ("dones-contradict", rows["terminals"] | (np.arange(len(rows["rewards"])) == 0), None, rows["terminals"], "contradicts"),
        ("dones-partly", None, np.arange(len(rows["rewards"])) < 2, np.arange(len(rows["rewards"])) == 1, "and not others"),
    ):
        arrays = {k: rows[k] for k in ("observations", "actions", "rewards")} | {"dones": dones}
        arrays |= {} if terminals is None else {"terminals": terminals}
        arrays |= {} if timeouts is None else {"timeouts": timeouts}
        np.savez(folder / f"{name}.npz", **arrays)
        words[f"faults/{name}.npz"] = ["`dones`", said, "`terminals`", "`timeouts`"]
    buffer = io.BytesIO()
    np.savez(buffer, **rows)
    with zipfile.ZipFile(buffer) as packed, zipfile.ZipFile(folder / "bzip2.npz", "w", zipfile.ZIP_BZIP2) as repacked:
        for entry in packed.namelist():
            repacked.writestr(entry, packed.read(entry))
    words["faults/bzip2.npz"] = ["np.savez_compressed", "another compression"]
    some_nan = rows["next_observations"].copy()
    some_nan[3, 1] = np.nan
    np.savez(folder / "partly-nan.npz", **{**rows, "next_observations": some_nan})
    words["faults/partly-nan.npz"] = ["`next_observations`", "row 3", "column 1", "NaN"]

    def old_minari(name, *named, links=(), groups=range(3), attributes=None):
        data = folder / name / "data"
        data.mkdir(parents=True)
        with h5py.File(data / "main_data.hdf5", "w") as f:
            for i in groups:
                e, group = episodes[int(str(i).lstrip("0") or 0)], f.create_group(f"episode_{i}")
                group["observations"], group["actions"], group["rewards"] = e.observations, e.actions, e.rewards
                group["terminations"], group["truncations"] = flags([e], "terminated"), flags([e], "truncated")
            for key, target in links:
                f[key] = target
            f.attrs.update(attributes or {})
        words[f"faults/{name}"] = list(named)
        return data

    outside = "outside of the data set's folder"
    old_minari("up-v0", "`episode_3`", "../other.hdf5", outside, links=[("episode_3", h5py.ExternalLink("../other.hdf5", "/episode_0"))])
    old_minari("root-v0", "`episode_3`", "/etc/other.hdf5", outside, links=[("episode_3", h5py.ExternalLink("/etc/other.hdf5", "/episode_0"))])
    old_minari("inner-v0", "`episode_3`", "x/../../other.hdf5", outside, links=[("episode_3", h5py.ExternalLink("x/../../other.hdf5", "/e"))])
    old_minari("gone-v0", "`episode_3`", "additional_data_0.hdf5", "can't be read", links=[("episode_3", h5py.ExternalLink("additional_data_0.hdf5", "/episode_3"))])
    data = old_minari("empty-v0", "`episode_3`", "`episode_7`", "additional_data_0.hdf5", "not there", links=[("episode_3", h5py.ExternalLink("additional_data_0.hdf5", "/episode_7"))])
    h5py.File(data / "additional_data_0.hdf5", "w").close()
    data = old_minari("circle-v0", "`episode_3`", "without end", links=[("episode_3", h5py.ExternalLink("other.hdf5", "/episode_3"))])
    with h5py.File(data / "other.hdf5", "w") as f:
        f["episode_3"] = h5py.ExternalLink("main_data.hdf5", "/episode_3")
    old_minari("fewer-v0", "4 episodes", "there are 3", attributes=dict(total_episodes=4))
    old_minari("hole-v0", "`episode_1` is missing", groups=[0, 2])
    old_minari("late-v0", "`episode_0` is missing", groups=[1, 2])
    old_minari("twice-v0", "two groups of episode 1", groups=[0, 1, "01"])
    box = json.dumps(dict(type="Box", dtype="float64", shape=[3], low=[-1.0] * 3, high=[1.0] * 3))
    space = json.dumps(dict(type="Dict", subspaces=dict(observation=json.loads(box), goal=json.loads(box))))
    for name, metadata, named in (
        ("goals-v0", dict(observation_space=space), ["(of `goal`, `observation`)", "data.observation_keys"]),
        ("parquet-v0", dict(data_format="parquet"), ["parquet", "hdf5 and arrow"]),
    ):
        data = folder / name / "data"
        data.mkdir(parents=True)
        (data / "metadata.json").write_text(json.dumps(dict(total_episodes=0, total_steps=0, data_format="arrow") | metadata))
        words[f"faults/{name}"] = named
    return words


def oddities():
    """Good files of kinds that are rare."""
    episodes = [Episode(2, 1, 0, False) for _ in range(3)]
    rows = flat(episodes)
    parts, _ = pieces(rows, True, False)
    # HDF5's own bool, which PyTables writes; chunked, and as one piece.
    for name, chunk in (("910-bits.hdf5", None), ("911-bits-in-chunks.hdf5", (3,))):
        with h5py.File(WORK / name, "w") as f:
            for key, values in rows.items():
                if values.dtype != bool:
                    f[key] = values
                    continue
                layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                if chunk:
                    layout.set_chunk(chunk)
                    layout.set_deflate(4)
                bits = h5py.h5d.create(f.id, key.encode(), h5py.h5t.STD_B8LE, h5py.h5s.create_simple(values.shape), layout)
                bits.write(h5py.h5s.ALL, h5py.h5s.ALL, values.astype("u1"), mtype=h5py.h5t.STD_B8LE)
        expect(name, rows, parts)
    # `dones` beside one of the two kinds of ends says the other.
    without = lambda key: {k: v for k, v in rows.items() if k != key}  # noqa: E731
    done = rows["terminals"] | rows["timeouts"]
    np.savez(WORK / "912-dones.npz", **without("timeouts"), dones=done)
    np.savez(WORK / "913-dones.npz", **without("terminals"), dones=done)
    np.savez(WORK / "914-dones.npz", **without("terminals"), dones=rows["terminals"])
    for number in (912, 913, 914):
        expect(f"{number}-dones.npz", rows, parts)
    last = [p[0] + p[1] - 1 for p in parts]
    # An array that was never filled, or only inside of episodes, or with the next row at an end: nothing follows from it.
    unknown = [[*p[:5], None] for p in parts]
    at_ends = np.isin(np.arange(len(rows["rewards"])), last)[:, None]
    shifted = np.roll(rows["observations"], -1, 0)
    shifted[-1] = rows["observations"][-1] + 1
    several = [Episode(2, 1, 0, False) for _ in range(4)]
    for name, copy, finals, word in (
        ("917-never-filled.npz", np.zeros_like(rows["next_observations"]), unknown, "hold nothing"),
        ("918-not-filled-at-ends.npz", np.where(at_ends, 0, rows["next_observations"]), unknown, "not filled"),
        ("919-nan.npz", np.full_like(rows["next_observations"], np.nan), unknown, "hold nothing"),
        ("920-shifted.npz", shifted, unknown, "shifted copy"),
        ("921-copied.npz", np.where(at_ends, rows["observations"], rows["next_observations"]), unknown, "for a copy"),
    ):
        np.savez(WORK / name, **{**rows, "next_observations": copy})
        expect(name, rows, finals, warning=word)
    # Stretches in random order, two of whose ends happen to be ends of episodes.
    rows = flat(several)
    edges = np.cumsum([e.steps for e in several])
    order = np.concatenate([np.arange(edges[1] - 1, edges[3]), np.arange(0, edges[1] - 1)])
    moved = {k: v[order] for k, v in rows.items()}
    np.savez(WORK / "922-moved.npz", **moved)
    parts, cuts = pieces(moved, True, True)
    assert parts[0][4] and cuts == 0
    expect("922-moved.npz", moved, parts)
    # The limit of the environment that the file names, or its own name.
    long = [Episode(2, 1, 0, False) for _ in range(2)]
    for e, steps in zip(long, (650, 320)):
        e.steps, e.terminated, e.truncated = steps, False, False
        e.observations = np.cumsum(rng.integers(1, 9, (steps + 1, 2)), 0) / 8.0
        e.actions, e.rewards = np.zeros((steps, 1)), np.arange(steps) % 7 / 4.0
    rows = flat(long)
    rows = {k: v for k, v in rows.items() if k not in ("next_observations", "timeouts")}
    for name, env, limit in (("maze2d-umaze-sparse-v1.hdf5", "maze2d-umaze-v1", 300), ("maze2d-medium-dense-v1.hdf5", None, 600),
                             ("923-kitchen.hdf5", "kitchen-mixed-v0", 280), ("pen-v0_demos_clipped.npz", None, 100),
                             ("924-nobody.hdf5", None, 1000)):
        count = len(rows["rewards"])
        whole = [[i, limit, False, True, False, None] for i in range(0, count - limit + 1, limit)]
        rest = count % limit
        write_flat(name, rows, name.endswith("hdf5"), env)
        expect(name, {**rows}, whole + ([[count - rest, rest, False, False, False, None]] if rest else []), env=env,
               warning=f"after {limit} steps")


def beyond_the_limit():
    """No `timeouts` and episodes of 1,500 steps, which the next observations show to go on after 1,000."""
    steps = 3000
    walk = np.arange(steps + 1, dtype=np.float32)[:, None] / 8
    rows = dict(observations=walk[:-1], next_observations=walk[1:], actions=np.zeros((steps, 1), np.float32),
                rewards=np.ones(steps, np.float32), terminals=np.arange(steps) % 1500 == 1499)
    with h5py.File(WORK / "930-goes-on.hdf5", "w") as f:
        for key, values in rows.items():
            f.create_dataset(key, data=values, compression="gzip")
    ends = [(0, 1500), (1500, 1500)]
    expect("930-goes-on.hdf5", rows, [[s, n, True, False, False, rows["next_observations"][s + n - 1]] for s, n in ends])


def contradicting_starts_and_ends():
    """Arrays that say two things of the same rows, by name; what must be said of each."""
    steps = 60
    rows = dict(observations=np.arange(steps, dtype=np.float32)[:, None], actions=np.zeros((steps, 1), np.float32),
                rewards=np.ones(steps, np.float32))
    at = lambda *rows: np.isin(np.arange(steps), rows)  # noqa: E731
    ends = dict(terminals=at(19, 39, 59), timeouts=at(), dones=at(9, 19, 29, 39, 49, 59))
    starts = dict(episode_starts=at(0, 10, 40), episode_lengths=np.array([30, 30]))
    said = {}
    for name, arrays, named in (("more-dones", ends, ["`dones`", "row 9", "`terminals`", "`timeouts`"]),
                                ("two-cuts", starts, ["`episode_starts`", "`episode_lengths`", "row 10"])):
        np.savez_compressed(WORK / "faults" / f"{name}.npz", **rows, **arrays)
        said[f"faults/{name}.npz"] = named
    return said


for number in range(140):
    flat_file(number)
for number in range(140, 200):
    minari_set(number)
many_links()
oddities()
beyond_the_limit()
words = faults() | contradicting_starts_and_ends()

archive = pathlib.Path(__file__).parent / "random_data.zip"
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
    def add(name, data):
        packed.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)

    add("expected.json", json.dumps(expected, separators=(",", ":")))
    add("faults.json", json.dumps(words, separators=(",", ":")))
    for path in sorted(itertools.chain.from_iterable(
        [p] if p.is_file() else p.rglob("*") for p in WORK.iterdir() if p.name in expected or p.name == "faults"
    )):
        if path.is_file():
            add(str(path.relative_to(WORK)), path.read_bytes())
shutil.rmtree(WORK)
print(len(expected), "data sets,", len(words), "faults,", archive.stat().st_size, "bytes")
