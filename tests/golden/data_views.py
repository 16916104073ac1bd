"""What D4RL, CORL and IQL's authors make of raw D4RL data: data_views.safetensors, and the raw files in data_views/.

python tests/golden/data_views.py --authors DIR   (DIR holds the checkouts D4RL, CORL and IQL)

Random data sets of 31 episodes of 1 to 9 rows in D4RL's layout (HDF5, single precision), observation 3, action 2. `open`, `terminal`, `timeout` and
`both`: episodes end by a terminal, a timeout, or both in the same row, and the last row has no mark, a terminal, a timeout, or both;
episodes may have a single row. `terminals`: every episode ends by a terminal, so that all programs see the same episodes; the last row has
no reward.

D4RL's `qlearning_dataset` (d4rl/__init__.py) and CORL's own one for ReBRAC run on the same arrays; N rows are left:
* `NAME.{observations,next_observations,actions,rewards,terminals}`, `NAME.next_actions` (ReBRAC's; all others are equal there);
* `NAME.mean`, `NAME.deviation`: CORL's compute_mean_std with 1e-3; `NAME.normalized`, `NAME.next_normalized` by its normalize_states;
* `NAME.rewards.{antmaze,affine,scale}`: CORL's modify_reward of IQL on antmaze (- 1) and of CQL with its antmaze scale and bias (10, -5), ReBRAC's
  normalize_reward (times 100).

Where returns count, programs differ about what an episode is. All see D4RL's view, without the rows of timeouts. `NAME.range.corl` [2]: smallest and
largest return by CORL's return_reward_range, for which an episode ends at a terminal or after 1000 rows; `NAME.range.iql`: those by which IQL's
authors scale, who see ends where observations jump, and take the incomplete last one; `NAME.range.episodes`: by NumPy, of the true
complete episodes of the raw data, rows of timeouts too. `NAME.rewards.corl`, `.iql`: scaled to a range of 1000 by each.

`NAME.kept.FRACTION.corl`: rows of D4RL's view that CORL's keep_best_trajectories keeps (any_percent_bc.py; discount 1), sorted;
`.episodes`: raw rows of as many percent of the true complete episodes.

`NAME.reached`: CORL's get_return_to_go (cal_ql.py), discount 0.9, dense rewards; an end is a terminal, or where observations jump.
"""

import importlib
import importlib.util
import os
import sys
import types

import authors
import h5py
import numpy as np
import value_based as common

os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"
OBSERVATION, ACTION, EPISODES, DISCOUNT = 3, 2, 31, 0.9
ENDS = {"open": (0, 0), "terminal": (1, 0), "timeout": (0, 1), "both": (1, 1)}
FRACTIONS = 0.1, 0.35, 1.0


def raw(rng, last, all_terminal):
    lengths = rng.integers(1, 10, EPISODES)
    kinds = [(1, 0)] * EPISODES if all_terminal else [tuple(ENDS.values())[1 + i] for i in rng.integers(0, 3, EPISODES)]
    kinds[-1] = last
    count = lengths.sum()
    data = {
        "observations": rng.normal(size=(count, OBSERVATION)), "actions": np.tanh(rng.normal(size=(count, ACTION))),
        "rewards": rng.normal(0.3, 1.0, count),
    }  # fmt: skip
    data = {key: value.astype(np.float32) for key, value in data.items()}
    ends = np.cumsum(lengths) - 1
    data |= {"terminals": np.zeros(count, bool), "timeouts": np.zeros(count, bool)}
    data["terminals"][ends], data["timeouts"][ends] = np.array(kinds, bool).T
    if all_terminal:
        data["rewards"][-1] = 0.0
    assert all_terminal or len(set(kinds[:-1])) == 3
    return data, lengths


def view(d4rl, rebrac, data):
    environment = types.SimpleNamespace(_max_episode_steps=1000)
    theirs = d4rl.qlearning_dataset(environment, dict(data))
    other = rebrac.qlearning_dataset(environment, dict(data))
    assert all(np.array_equal(theirs[key], other[key]) for key in theirs)
    return theirs | {"next_actions": other["next_actions"]}


def iql_dataset(iql, found):
    iql["d4rl"].qlearning_dataset = lambda _: {key: value.copy() for key, value in found.items()}
    return iql["dataset_utils"].D4RLDataset(None)


def iql_range(iql, found):
    """Their `normalize` gives no range: it is what their rewards are divided by, of the returns of their trajectories."""
    dataset = iql_dataset(iql, found)
    names = "observations", "actions", "rewards", "masks", "dones_float", "next_observations"
    trajectories = iql["dataset_utils"].split_into_trajectories(*[getattr(dataset, name) for name in names])
    returns = [sum(float(row[2]) for row in rows) for rows in trajectories]
    iql["normalize"](dataset)
    assert np.allclose(dataset.rewards, found["rewards"] / (max(returns) - min(returns)) * 1000, rtol=1e-5)
    return [min(returns), max(returns)], dataset.rewards


def load_iql(folder):
    """Their data set and `normalize`; the rest of train_offline.py trains."""
    authors.stand_in("d4rl", "gym")
    d4rl = sys.modules["d4rl"]
    iql = {"d4rl": d4rl, "dataset_utils": load(folder / "dataset_utils.py", "dataset_utils")}
    iql["dataset_utils"].tqdm = lambda rows: rows
    source = (folder / "train_offline.py").read_text()
    tree = importlib.import_module("ast").parse(source)
    tree.body = [node for node in tree.body if getattr(node, "name", None) == "normalize"]
    scope = {"split_into_trajectories": iql["dataset_utils"].split_into_trajectories}
    exec(compile(tree, "train_offline.py", "exec"), scope)
    return iql | {"normalize": scope["normalize"]}


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(bc, found, data, lengths, fraction):
    dataset = {key: value.copy() for key, value in found.items()} | {"next_observations": np.arange(len(found["rewards"]))}
    bc.keep_best_trajectories(dataset, fraction, 1.0)
    starts = np.cumsum(lengths) - lengths
    complete = [i for i in range(EPISODES) if (data["terminals"] | data["timeouts"])[starts[i] + lengths[i] - 1]]
    returns = np.array([data["rewards"][starts[i] : starts[i] + lengths[i]].astype(np.float64).sum() for i in complete])
    count = max(1, int(fraction * len(complete)))
    best = np.sort(np.array(complete)[np.argsort(returns)[::-1][:count]])
    rows = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in best])
    return np.sort(dataset["next_observations"]), rows, [returns.min(), returns.max()]


def run(name, modules, data, lengths):
    d4rl, rebrac, cql, bc, cal_ql, iql = modules
    found = view(d4rl, rebrac, data)
    out = dict(found) | {"lengths": lengths}
    mean, deviation = cql.compute_mean_std(found["observations"], eps=1e-3)
    out |= {"mean": mean, "deviation": deviation}
    for key in ("observations", "next_observations"):
        out[key.replace("observations", "normalized")] = cql.normalize_states(found[key], mean, deviation)
    changed = lambda change: (lambda copy: (change(copy), copy["rewards"])[1])({"rewards": found["rewards"].copy(), "terminals": found["terminals"]})
    out["rewards.antmaze"] = changed(lambda copy: iql["corl"].modify_reward(copy, "antmaze-umaze-v2"))
    out["rewards.affine"] = changed(lambda copy: cql.modify_reward(copy, "antmaze-umaze-v2", reward_scale=10.0, reward_bias=-5.0))
    out["rewards.scale"] = np.asarray(rebrac.ReplayBuffer.normalize_reward("antmaze-umaze-v2", found["rewards"]))
    assert out["rewards.scale"].shape == found["rewards"].shape
    out["rewards.corl"] = changed(lambda copy: iql["corl"].modify_reward(copy, "hopper-medium-v2"))
    out["range.corl"] = np.array(iql["corl"].return_reward_range(found, 1000))
    bounds, out["rewards.iql"] = iql_range(iql, found)
    out["range.iql"] = np.array(bounds)
    for fraction in FRACTIONS:
        theirs, true, bounds = kept(bc, found, data, lengths, fraction)
        out |= {f"kept.{fraction}.corl": theirs, f"kept.{fraction}.episodes": true}
        # The last episode is none in CORL's view, which lacks its last row.
        assert name != "terminals" or np.array_equal(theirs, true[true < len(data["rewards"]) - lengths[-1]])
        out["range.episodes"] = np.array(bounds)
    config = types.SimpleNamespace(is_sparse_reward=False, discount=DISCOUNT)
    out["reached"] = np.array(cal_ql.get_return_to_go(found, types.SimpleNamespace(_max_episode_steps=1000), config))
    ranges = [out[f"range.{key}"] for key in ("corl", "iql", "episodes")]
    assert (name == "terminals") == all(np.allclose(ranges[0], other, atol=1e-6) for other in ranges)
    print(name, len(data["rewards"]), "rows, seen", len(found["rewards"]), {k: np.round(out[f"range.{k}"], 3) for k in ("corl", "iql", "episodes")})
    with h5py.File(authors.HERE / "data_views" / f"{name}.hdf5", "w", track_order=True) as file:
        for key, value in data.items():
            file.create_dataset(key, data=value, track_times=False)
    flags = {key: value if value.dtype.kind in "iu" else value.astype(np.uint32) if value.dtype.kind == "b" else value.astype(np.float64) for key, value in out.items()}
    return {f"{name}.{key}": value for key, value in flags.items()}


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    (authors.HERE / "data_views").mkdir(exist_ok=True)
    cql, bc = [common.load_corl(args.authors / "CORL", name) for name in ("cql", "any_percent_bc")]
    corl_iql = common.load_corl(args.authors / "CORL", "iql")
    cal_ql = common.load_corl(args.authors / "CORL", "cal_ql", "finetune")
    iql = load_iql(args.authors / "IQL") | {"corl": corl_iql}
    authors.stand_in("chex", "jax", "jax.numpy", "flax", "flax.linen", "flax.core", "flax.training", "flax.training.train_state", "optax", "tqdm.auto")
    sys.modules["chex"].dataclass = lambda decorated=None, **_: decorated or (lambda later: later)
    rebrac = load(args.authors / "CORL" / "algorithms" / "offline" / "rebrac.py", "corl_rebrac")
    sys.modules.pop("d4rl")
    d4rl = load(args.authors / "D4RL" / "d4rl" / "__init__.py", "d4rl")
    tensors = {}
    for seed, (name, last) in enumerate([*ENDS.items(), ("terminals", (1, 0))]):
        rng = np.random.default_rng(seed + 22)
        data, lengths = raw(rng, last, name == "terminals")
        tensors |= run(name, (d4rl, rebrac, cql, bc, cal_ql, iql), data, lengths)
    metadata = {
        "observation_dim": OBSERVATION, "action_dim": ACTION, "discount": DISCOUNT, "names": [*ENDS, "terminals"],
        "fractions": [str(fraction) for fraction in FRACTIONS],
    }  # fmt: skip
    authors.save("data_views", tensors, metadata)
