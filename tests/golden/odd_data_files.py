"""Makes tests/golden/odd_data.zip: small data sets of rare or doubtful kinds, what is in them, and what must be said of them.

Independent of the project: h5py, NumPy and the minari package write the files; expectations are computed here from the
episodes that the files were made of, in the format of random_data_files.py.

    pip install minari[hdf5,arrow]==0.5.4 h5py==3.16.0 numpy==2.4.6 pillow
    python tests/golden/odd_data_files.py
"""

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

rng = np.random.default_rng(2016)
expected, faults = {}, {}


def listed(array):
    return np.asarray(array, np.float64).ravel().tolist()


def expect(name, rows, parts, *, choices=None, bounds=None, options=None, cuts=0, said=(), unsaid=()):
    """`parts`: (start, steps, terminated, truncated, fragment, observation after the last step or None) each."""
    finite = lambda values: [float(v) if np.isfinite(v) else None for v in values]  # noqa: E731
    expected[name] = dict(
        observations=listed(rows["observations"]), actions=listed(rows["actions"]), rewards=listed(rows["rewards"]),
        dim=int(rows["observations"].shape[1]), choices=choices, env=None,
        bounds=None if bounds is None else [finite(bounds[0]), finite(bounds[1])],
        pieces=[[int(s), int(n), bool(t), bool(u), bool(f), None if o is None else listed(o)] for s, n, t, u, f, o in parts],
        returns=[float(rows["rewards"][s : s + n].sum()) for s, n, t, u, f, _ in parts if (t or u) and not f],
        cuts=cuts, options=options or {}, said=list(said), unsaid=list(unsaid), warning=None,
    )


def fault(name, *said, options=None):
    faults[f"faults/{name}"] = dict(said=list(said), options=options or {})
    path = WORK / "faults" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def episodes(*lengths, dim=2, action_dim=2, terminated=True):
    """Rows of random walks, one per length, that do not come back: numbers that half precision lacks."""
    walks = [np.cumsum(rng.normal(size=(n + 1, dim)), 0).astype("f4") + 0.1 for n in lengths]
    count = sum(lengths)
    ends = np.cumsum(lengths) - 1
    rows = dict(
        observations=np.concatenate([w[:-1] for w in walks]), next_observations=np.concatenate([w[1:] for w in walks]),
        actions=(rng.integers(-16, 17, (count, action_dim)) / 16).astype("f4"), rewards=np.arange(count, dtype="f4") / 4,
        terminals=np.isin(np.arange(count), ends) & terminated, timeouts=np.isin(np.arange(count), ends) & (not terminated),
    )
    starts = np.cumsum([0, *lengths[:-1]])
    parts = [[s, n, terminated, not terminated, False, w[-1]] for s, n, w in zip(starts, lengths, walks)]
    return rows, parts


def leave(rows, *keys):
    return {key: values for key, values in rows.items() if key not in keys}


def forget(parts):
    return [[*p[:5], None] for p in parts]


def write_h5(path, arrays, change=None, **options):
    with h5py.File(path, "w", **options) as f:
        for key, values in arrays.items():
            f[key] = values
        if change:
            change(f)


def starts():
    """The first row is not an episode's first: `episode_starts` does not mark it."""
    rows, parts = episodes(5, 4, 6)
    marks = np.isin(np.arange(15), [5, 9])
    parts[0][4] = True
    said = ["`episode_starts` does not mark row 0", "the first 5 rows"]
    np.savez(WORK / "starts-inside.npz", **leave(rows, "next_observations"), episode_starts=marks)
    expect("starts-inside.npz", rows, forget(parts), said=said)
    np.savez(WORK / "starts-inside-next.npz", **rows, episode_starts=marks.astype("f8"))
    expect("starts-inside-next.npz", rows, parts, said=said)
    # Nothing says how they end: the last one may go on.
    alone = leave(rows, "next_observations", "terminals", "timeouts")
    open_last = [[s, n, False, i < 2, f, None] for i, (s, n, _, _, f, _) in enumerate(parts)]
    np.savez(WORK / "starts-alone.npz", **alone, episode_starts=marks)
    expect("starts-alone.npz", rows, open_last, said=said)
    np.savez(WORK / "starts-none.npz", **alone, episode_starts=np.zeros(15, bool))
    expect("starts-none.npz", rows, [[0, 15, False, False, True, None]], said=["`episode_starts`", "the first 15 rows"])
    marks = np.isin(np.arange(15), [0, 5, 9])
    np.savez(WORK / "starts-all.npz", **rows, episode_starts=marks)
    parts[0][4] = False
    expect("starts-all.npz", rows, parts, unsaid=["episode_starts"])


def clipped():
    """Copies that are cut off at other numbers in every column: the same observations all the same."""
    rows, parts = episodes(120, 90, 150, dim=3)
    low, high = np.percentile(rows["observations"], [7, 90], 0).astype("f4")
    cut_off = lambda a: np.clip(a, low, high)  # noqa: E731
    ends = np.cumsum([120, 90, 150]) - 1
    for name, change in (("clipped-next.npz", "next_observations"), ("clipped-rows.npz", "observations")):
        changed = {**rows, change: cut_off(rows[change])}
        np.savez_compressed(WORK / name, **changed)
        finals = [[*p[:5], changed["next_observations"][e]] for p, e in zip(parts, ends)]
        expect(name, changed, finals)
        # Ends that nothing marks are found nevertheless.
        unmarked = {**changed, "terminals": changed["terminals"] & (np.arange(360) != ends[1])}
        np.savez_compressed(WORK / f"unmarked-{name}", **unmarked)
        finals = [list(p) for p in finals]
        finals[1][2], finals[2][4] = False, True
        expect(f"unmarked-{name}", unmarked, finals, cuts=1)
    # Only one side, of one column.
    one = {**rows, "next_observations": rows["next_observations"].copy()}
    one["next_observations"][:, 1] = np.minimum(one["next_observations"][:, 1], high[1])
    np.savez_compressed(WORK / "clipped-one.npz", **one)
    expect("clipped-one.npz", one, [[*p[:5], one["next_observations"][e]] for p, e in zip(parts, ends)])
    # Tenths from 0.1 to 0.7 in any order: the highest of either array occurs often, and nothing is cut off.
    at = rng.permutation(np.tile(np.arange(1, 7), 20))
    line = dict(observations=(at[:, None] / 10).astype("f4"), next_observations=((at[:, None] + 1) / 10).astype("f4"),
                actions=np.zeros((120, 1), "f4"), rewards=np.ones(120, "f4"), terminals=np.zeros(120, bool),
                timeouts=np.arange(120) == 119)
    np.savez_compressed(WORK / "tenths.npz", **line)
    last = np.flatnonzero(np.append(at[:-1] + 1 != at[1:], True))
    first = np.append(0, last[:-1] + 1)
    assert ((at[:-1] == 6) & (at[1:] == 6)).any()
    parts = [[a, b + 1 - a, False, b == 119, True, line["next_observations"][b]] for a, b in zip(first, last)]
    expect("tenths.npz", line, parts, cuts=len(last) - 1)


def bounds():
    """Bounds of actions that can't be meant, and others that look so."""
    rows, parts = episodes(4, 3, action_dim=3)
    nan, inf, huge = np.nan, np.inf, float(np.finfo("f4").max)
    none = [[-inf] * 3, [inf] * 3]
    keys = ["`action_low` and `action_high`"]
    for name, low, high, found, said in (
        ("swapped", [-1, 2, -1], [1, -2, 1], [[-1, -inf, -1], [1, inf, 1]], [*keys, "1 of 3 columns (column 1 from 2 to -2)"]),
        ("nan", [-1, -1, nan], [1, nan, 1], [[-1, -inf, -inf], [1, inf, inf]], [*keys, "column 1 from -1 to NaN, column 2 from NaN to 1"]),
        ("equal", [-1, 0, 0.5], [1, 0, 0.5], [[-1, -inf, -inf], [1, inf, inf]], [*keys, "column 1 from 0 to 0, column 2 from 0.5 to 0.5"]),
        ("inside-out", [inf, -1, -1], [-inf, 1, 1], [[-inf, -1, -1], [inf, 1, 1]], [*keys, "column 0 from inf to -inf"]),
        ("all-wrong", [1, 1, 1], [-1, -1, -1], None, [*keys, "3 of 3 columns"]),
        ("only-low", [-1, -1, -1], None, None, ["`action_low` but no `action_high`", "`data.action_range`"]),
        ("only-high", None, [1, 1, 1], None, ["`action_high` but no `action_low`", "`data.action_range`"]),
        ("infinite", *none, None, []),
        ("huge", [-huge] * 3, [huge] * 3, None, []),
        ("half", [-inf, -2, 0], [inf, 2, inf], [[-inf, -2, 0], [inf, 2, inf]], []),
    ):
        sides = {k: np.array(v, "f4") for k, v in (("action_low", low), ("action_high", high)) if v is not None}
        unsaid = [] if said else ["action_low", "action_high"]
        np.savez(WORK / f"bounds-{name}.npz", **rows, **sides)
        expect(f"bounds-{name}.npz", rows, parts, bounds=found, said=said, unsaid=unsaid)
        write_h5(WORK / f"bounds-{name}.hdf5", rows | {k: v.astype(">f8") for k, v in sides.items()})
        expect(f"bounds-{name}.hdf5", rows, parts, bounds=found, said=said, unsaid=unsaid)
        if low is None or high is None:
            minari_set(f"bounds-{name}-v0", rows, parts, dict(low=low, high=high), bounds=None, said=[
                "`action_space.low`", "`action_space.high`", "but no"])
            continue
        wrong = [text.replace("`action_low` and `action_high`", "`action_space.low` and `action_space.high`") for text in said]
        minari_set(f"bounds-{name}-v0", rows, parts, dict(low=low, high=high), bounds=found, said=wrong,
                   unsaid=[] if said else ["action_space"])
    minari_set("bounds-one-number-v0", rows, parts, dict(low=-2.0, high=2.0), bounds=[[-2] * 3, [2] * 3], unsaid=["action_space"])
    minari_set("bounds-null-v0", rows, parts, dict(low=[-1, None, -1], high=[1, 1, 1]), bounds=[[-1, -inf, -1], [1, inf, 1]],
               said=["column 1 from NaN to 1"])
    minari_set("bounds-two-of-three-v0", rows, parts, dict(low=[-1, -1], high=[1, 1], shape=[2]), bounds=None,
               said=["2 and 2 numbers", "actions have 3", "`action_space.low`"])
    low, high = np.full(3, -1, "f4"), np.ones(3, "f4")
    for name, sides, said in (("short", (low[:2], high), ["`action_low`", "2 rows", "expected 3"]),
                              ("wide", (low, np.ones((3, 2))), ["`action_high`", "[3, 2]", "(3,)"]),
                              ("scalar", (np.float32(-1), high), ["`action_low`", "scalar", "3 rows"])):
        for ending, write in (("npz", lambda p, a: np.savez(p, **a)), ("hdf5", write_h5)):
            write(fault(f"bounds-{name}.{ending}", *said), rows | dict(action_low=sides[0], action_high=sides[1]))


def minari_set(name, rows, parts, box, *, bounds, said=(), unsaid=(), kind="Box", choices=None, dtype="float32", options=None):
    """Minari's HDF5 layout with an action space of any content, as JSON in JSON."""
    folder = WORK / name / "data"
    folder.mkdir(parents=True)
    with h5py.File(folder / "main_data.hdf5", "w", track_order=True) as f:
        for i, (s, n, *_, last) in enumerate(parts):
            group = f.create_group(f"episode_{i}")
            group["observations"] = np.concatenate([rows["observations"][s : s + n], last[None]])
            for key, source in (("actions", "actions"), ("rewards", "rewards"), ("terminations", "terminals"), ("truncations", "timeouts")):
                group[key] = rows[source][s : s + n]
            group.attrs.update(id=i, total_steps=n)
    dim = rows["observations"].shape[1]
    width = rows["actions"].shape[1] if rows["actions"].ndim > 1 else 1
    space = dict(type=kind, dtype=dtype, shape=[width]) | {k: v for k, v in box.items() if v is not None}
    observations = dict(type="Box", dtype="float32", shape=[dim], low=[-np.inf] * dim, high=[np.inf] * dim)
    metadata = dict(total_episodes=len(parts), total_steps=len(rows["rewards"]), data_format="hdf5",
                    observation_space=json.dumps(observations), action_space=json.dumps(space))
    (folder / "metadata.json").write_text(json.dumps(metadata))
    expect(name, rows, parts, bounds=bounds, choices=choices, said=said, unsaid=unsaid, options=options)


def limits():
    """A limit that is asked for where the file says itself where episodes end."""
    rows, parts = episodes(7, 4, 9, terminated=False)
    options = dict(max_episode_steps=5)
    said = ["`data.max_episode_steps` is 5", "2 of its 3 episodes are longer"]
    for ending, write in (("npz", lambda p, a: np.savez(p, **a)), ("hdf5", write_h5)):
        write(WORK / f"limit-timeouts.{ending}", rows)
        expect(f"limit-timeouts.{ending}", rows, parts, options=options, said=[*said, "`timeouts`"])
        write(WORK / f"limit-truncations.{ending}", leave(rows, "timeouts") | dict(truncations=rows["timeouts"]))
        expect(f"limit-truncations.{ending}", rows, parts, options=options, said=[*said, "`truncations`"])
    np.savez(WORK / "limit-lengths.npz", **leave(rows, "terminals", "timeouts"), episode_lengths=[7, 4, 9])
    expect("limit-lengths.npz", rows, parts, options=options, said=[*said, "`episode_lengths`"])
    np.savez(WORK / "limit-dones.npz", **leave(rows, "timeouts"), dones=rows["timeouts"])
    expect("limit-dones.npz", rows, parts, options=options, said=[*said, "`dones`"])
    minari_set("limit-v0", rows, parts, dict(low=-1, high=1), bounds=[[-1, -1], [1, 1]], options=options, said=[*said, "`truncations`"])
    np.savez(WORK / "limit-unset.npz", **rows)
    expect("limit-unset.npz", rows, parts, unsaid=["max_episode_steps"])


def whole_numbers():
    """Minari's spaces say what is a choice: a Box of integers is none, a Discrete stored as floats is one."""
    for storage in ("hdf5", "arrow"):
        for width in (1, 2):
            rows, parts = episodes(4, 6, action_dim=width)
            rows["actions"] = rng.integers(-3, 4, (10, width))
            name = f"integers-{width}-{storage}-v0"
            buffers = [
                EpisodeBuffer(id=i, observations=np.concatenate([rows["observations"][s : s + n], last[None]]),
                              actions=rows["actions"][s : s + n], rewards=list(rows["rewards"][s : s + n]),
                              terminations=list(rows["terminals"][s : s + n]), truncations=list(rows["timeouts"][s : s + n]), infos=None)
                for i, (s, n, *_, last) in enumerate(parts)
            ]
            minari.create_dataset_from_buffers(
                name, buffers, observation_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
                action_space=gym.spaces.Box(-3, 3, (width,), np.int64), author="A", author_email="a@b",
                code_permalink="c", algorithm_name="d", data_format=storage,
            )
            shutil.move(WORK / "minari" / name, WORK / name)
            expect(name, rows, parts, bounds=[[-3] * width, [3] * width], said=["whole numbers", "a Box"])
    rows, parts = episodes(4, 6)
    rows["actions"] = rng.integers(0, 3, 10).astype("f4")
    minari_set("discrete-floats-v0", rows, parts, dict(n=4, start=0), kind="Discrete", choices=4, bounds=None, dtype="int64")
    rows["actions"] = rows["actions"] + np.float32(0.5)
    minari_set("halves-v0", rows, parts, dict(n=4, start=0), kind="Discrete", bounds=None)
    del expected["halves-v0"]
    shutil.move(WORK / "halves-v0", fault("halves-v0", "`episode_0/actions`", "row 0", ".5", "a choice"))


def links():
    """Soft links and links to other files, in old and in new kinds of groups, that lead somewhere or nowhere."""
    rows, parts = episodes(4, 3)
    plain = leave(rows, "rewards")

    for age, options in (("old", {}), ("new", dict(libver="latest"))):
        def other(f):
            f["soft"], f["group/soft"], f["groups"] = h5py.SoftLink("/rewards"), h5py.SoftLink("/rewards"), h5py.SoftLink("/inner")
            f["inner/rewards"] = rows["rewards"]
            f["circle"], f["gone"] = h5py.SoftLink("/circle"), h5py.SoftLink("/nowhere")

        def relative(f):
            f["group/other"], f["group/soft"] = rows["rewards"], h5py.SoftLink("other")
            f["rewards"] = h5py.SoftLink("group/soft")

        def absolute(f):
            f["elsewhere"], f["rewards"], f["infos"] = rows["rewards"], h5py.SoftLink("/elsewhere"), h5py.SoftLink("/nowhere")

        target = f"links-{age}-other.hdf5"
        outside = lambda name: lambda f: f.__setitem__("rewards", h5py.ExternalLink(target, name))  # noqa: E731
        for folder in (WORK, WORK / "faults"):
            write_h5(folder / target, rows, other, **options)
        expect(target, rows, parts)
        for name, change in (("relative", relative), ("absolute", absolute), ("external-soft", outside("/soft")),
                             ("external-inner", outside("/group/soft")), ("external-group", outside("/groups/rewards"))):
            write_h5(WORK / f"links-{age}-{name}.hdf5", plain, change, **options)
            expect(f"links-{age}-{name}.hdf5", rows, parts)

        def circle(f):
            f["rewards"], f["more"] = h5py.SoftLink("/more"), h5py.SoftLink("/rewards")

        for name, change, said in (
            ("self", lambda f: f.__setitem__("rewards", h5py.SoftLink("/rewards")), ["`rewards` is a link to `rewards`", "without end"]),
            ("circle", circle, ["`rewards` is a link to `more`", "without end"]),
            ("gone", lambda f: f.__setitem__("rewards", h5py.SoftLink("/nowhere")), ["`rewards` is a link to `nowhere`", "not there"]),
            ("external-circle", outside("/circle"), ["`rewards` is a link to `circle`", target, "without end"]),
            ("external-gone", outside("/gone"), ["`rewards` is a link to `gone`", target, "`nowhere`", "not there"]),
        ):
            write_h5(fault(f"links-{age}-{name}.hdf5", *said, "put the array or group itself there"), plain, change, **options)

        def episode(f, name, part):
            s, n, *_, last = part
            group = f.create_group(name)
            group["observations"] = np.concatenate([rows["observations"][s : s + n], last[None]])
            group["actions"], group["rewards"] = rows["actions"][s : s + n], rows["rewards"][s : s + n]
            group["terminations"], group["truncations"] = rows["terminals"][s : s + n], rows["timeouts"][s : s + n]
            return group

        def minari_links(folder, change, more=()):
            data = folder / "data"
            data.mkdir(parents=True)
            with h5py.File(data / "main_data.hdf5", "w", **options) as f:
                episode(f, "episode_0", parts[0])
                change(f)
            with h5py.File(data / "additional_data_0.hdf5", "w", **options) as f:
                episode(f, "real", parts[1])
                for name, link in more:
                    f[name] = link

        external = lambda name: lambda f: f.__setitem__("episode_1", h5py.ExternalLink("additional_data_0.hdf5", name))  # noqa: E731

        def soft(f):
            episode(f, "kept/second", parts[1])
            f["episode_1"] = h5py.SoftLink("/kept/second")

        def arrays(f):
            group = episode(f, "episode_1", parts[1])
            f.move("episode_1/rewards", "kept")
            group["rewards"] = h5py.SoftLink("/kept")
            f.move("episode_1/actions", "episode_1/all")
            group["actions"] = h5py.SoftLink("all")
            del group["observations"]
            group["observations"] = h5py.ExternalLink("additional_data_0.hdf5", "/real/observations")

        for name, change, more in (("external-soft", external("/soft"), [("soft", h5py.SoftLink("/real"))]), ("soft", soft, ()), ("arrays", arrays, ())):
            minari_links(WORK / f"links-{age}-{name}-v0", change, more)
            expect(f"links-{age}-{name}-v0", rows, parts)
        for name, change, more, said in (
            ("self", lambda f: f.__setitem__("episode_1", h5py.SoftLink("/episode_1")), (), ["`episode_1` is a link", "without end"]),
            ("gone", lambda f: f.__setitem__("episode_1", h5py.SoftLink("/nowhere")), (), ["`episode_1` is a link to `nowhere`", "not there"]),
            ("external-gone", external("/soft"), [("soft", h5py.SoftLink("/nowhere"))], ["`episode_1` is a link to `soft`", "`nowhere`", "not there"]),
            ("external-self", external("/soft"), [("soft", h5py.SoftLink("/soft"))], ["`episode_1` is a link to `soft`", "without end"]),
        ):
            path = fault(f"links-{age}-{name}-v0", *said, "put the array or group itself there")
            minari_links(path, change, more)


def dictionaries():
    """Dictionaries in dictionaries: the keys to give are those of the outermost."""
    rows, parts = episodes(4, 3)
    flat = leave(rows, "observations", "next_observations")
    inner = {"observations/a/b": rows["observations"][:, :1], "observations/a/c": rows["observations"][:, 1:], "observations/d": rows["observations"]}
    options = dict(observation_keys=["a"])
    said = ["(of `b`, `c`)", 'data.observation_keys = ["a/b", "a/c"]']
    for ending, write in (("npz", lambda p, a: np.savez(p, **a)), ("hdf5", write_h5)):
        write(fault(f"nested.{ending}", *said, options=options), flat | inner)
        write(WORK / f"nested.{ending}", flat | inner)
        expect(f"nested.{ending}", rows, forget(parts), options=dict(observation_keys=["a/b", "a/c"]))
        actions = {"actions/x": rows["actions"], "actions/y": rows["actions"]}
        write(fault(f"actions.{ending}", "`actions` is a dictionary (of `x`, `y`)", "an array of numbers"), leave(rows, "actions") | actions)
    for storage in ("hdf5", "arrow"):
        name = f"nested-{storage}-v0"
        box = lambda n: gym.spaces.Box(-np.inf, np.inf, (n,), np.float32)  # noqa: E731
        space = gym.spaces.Dict(a=gym.spaces.Dict(b=box(1), c=box(1)), d=box(2))
        walk = [np.concatenate([rows["observations"][s : s + n], last[None]]) for s, n, *_, last in parts]
        buffers = [
            EpisodeBuffer(id=i, observations=dict(a=dict(b=w[:, :1], c=w[:, 1:]), d=w), actions=rows["actions"][s : s + n],
                          rewards=list(rows["rewards"][s : s + n]), terminations=list(rows["terminals"][s : s + n]),
                          truncations=list(rows["timeouts"][s : s + n]), infos=None)
            for i, ((s, n, *_), w) in enumerate(zip(parts, walk))
        ]
        minari.create_dataset_from_buffers(
            name, buffers, observation_space=space, action_space=gym.spaces.Box(-1, 1, (2,), np.float32), author="A",
            author_email="a@b", code_permalink="c", algorithm_name="d", data_format=storage,
        )
        path = fault(name, "`a/b`, `a/c`", options=options)
        shutil.move(WORK / "minari" / name, WORK / name)
        shutil.copytree(WORK / name, path)
        # Without a description of the space, the arrays speak for themselves.
        bare = fault(f"bare-{name}", *said, options=options)
        shutil.copytree(path, bare)
        metadata = json.loads((bare / "data/metadata.json").read_text())
        (bare / "data/metadata.json").write_text(json.dumps(leave(metadata, "observation_space")))
        expect(name, rows, parts, options=dict(observation_keys=["a/b", "a/c"]), bounds=[[-1, -1], [1, 1]])


def layouts():
    """Names that are there twice, starts in HDF5, a block before the file, as MATLAB's have, and mixtures of types."""
    rows, parts = episodes(4, 1, 3)
    for ending, write in (("npz", lambda p, a: np.savez(p, **a)), ("hdf5", write_h5)):
        write(WORK / f"twice.{ending}", rows | dict(obs=rows["observations"] + 1, next_obs=rows["observations"]))
        expect(f"twice.{ending}", rows, parts, said=[
            "`observations` and `obs`: only `observations` are used", "`next_observations` and `next_obs`: only `next_observations`"])
    inside = [[*p[:4], i == 0, p[5]] for i, p in enumerate(parts)]
    write_h5(WORK / "starts.hdf5", rows | dict(episode_starts=np.isin(np.arange(8), [4, 5])))
    expect("starts.hdf5", rows, inside, said=["`episode_starts` does not mark row 0", "the first 4 rows"])
    lengths = leave(rows, "terminals", "timeouts", "next_observations") | dict(episode_lengths=[4, 1, 3])
    write_h5(WORK / "lengths.hdf5", lengths)
    expect("lengths.hdf5", rows, [[s, n, False, True, False, None] for s, n, *_ in parts])
    write_h5(fault("contradiction.hdf5", "row 3", "`episode_starts`"), rows | dict(episode_starts=np.isin(np.arange(8), [0, 5])))

    def block(f):
        f["kept"], f["rewards"] = rows["rewards"], h5py.SoftLink("/kept")

    for size, libver in ((512, "earliest"), (2048, "latest")):
        write_h5(WORK / f"block-{size}.hdf5", leave(rows, "rewards"), block, userblock_size=size, libver=libver)
        expect(f"block-{size}.hdf5", rows, parts)
    exact = {k: (np.round(v * 8) / 8).astype("f4") if v.dtype == "f4" and k != "rewards" else v for k, v in rows.items()}
    mixed = exact | dict(observations=exact["observations"].astype(">f8"), next_observations=exact["next_observations"].astype("f2"),
                         actions=np.asfortranarray(exact["actions"].astype(">f4")), terminals=exact["terminals"].astype("u1"),
                         timeouts=exact["timeouts"].astype(">f2"))
    finals = [[*p[:5], exact["next_observations"][p[0] + p[1] - 1]] for p in parts]
    np.savez_compressed(WORK / "mixed.npz", **mixed)
    expect("mixed.npz", exact, finals)
    with h5py.File(WORK / "mixed.hdf5", "w") as f:
        for key, values in mixed.items():
            f.create_dataset(key, data=values, chunks=(len(values), 1)[: values.ndim], compression="lzf")
    expect("mixed.hdf5", exact, finals)
    one = {key: values[:1] for key, values in rows.items()}
    for ending, write in (("npz", lambda p, a: np.savez(p, **a)), ("hdf5", write_h5)):
        write(WORK / f"one-row.{ending}", one | dict(terminals=np.ones(1, "u1")))
        expect(f"one-row.{ending}", one, [[0, 1, True, False, False, one["next_observations"][0]]])


(WORK / "faults").mkdir()
for make in (starts, clipped, bounds, limits, whole_numbers, links, dictionaries, layouts):
    make()

archive = pathlib.Path(__file__).parent / "odd_data.zip"
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
    def add(name, data):
        packed.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)

    add("expected.json", json.dumps(expected, separators=(",", ":")))
    add("faults.json", json.dumps(faults, separators=(",", ":")))
    shutil.rmtree(WORK / "minari", ignore_errors=True)
    for path in sorted(WORK.rglob("*")):
        if path.is_file():
            add(str(path.relative_to(WORK)), path.read_bytes())
shutil.rmtree(WORK)
print(len(expected), "data sets,", len(faults), "faults,", archive.stat().st_size, "bytes")
