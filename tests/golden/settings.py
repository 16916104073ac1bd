"""The settings that the authors' code runs with, by the names of our keys, and the rates of the Trajectory Transformer's schedule.

python tests/golden/settings.py --corl CORL --tt TT --d4rl D4RL --dt DT --lamo LAMO --d3rlpy D3RLPY --brac D4RL_EVALUATIONS \
    --sac-rnd SAC_RND --rebrac REBRAC --sac SAC --td3 TD3 --qt QT --reinformer REINFORMER --tap LATENTPLAN \
    --online-dt ONLINE_DT

Each folder is a checkout at the commit in COMMITS. Nothing of them is imported but `config/offline.py` and the trainer of the
Trajectory Transformer (for the schedule) and `config/vqvae.py` of TAP: YAML files are parsed, Python files are read as syntax trees, and single functions
without dependencies are run. Every key of a YAML file has to be translated or listed in ASIDE, or this script fails.

settings.json: `settings` has, for each configuration (`td3_bc/hopper-medium` for configs/td3_bc/hopper-medium.toml), its source and
every setting as [value, the authors' name for it]; `schedule` has the factors of the learning rate after each epoch.
"""

import argparse
import ast
import json
import math
import operator
import re
import types
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent

COMMITS = {
    "corl": "corl-team/CORL @ eeeeef2671235fcce3a3eb255576a207d78840e6",
    "tt": "jannerm/trajectory-transformer @ 8834a6ed04ceeab8fdb9465e145c6e041c05d71b",
    "d4rl": "Farama-Foundation/D4RL @ 89141a6",
    "dt": "kzl/decision-transformer @ e2d82e68f330c00f763507b3b01d774740bee53f",
    "lamo": "srzer/LaMo-2023 @ 3e4fcc8",
    "d3rlpy": "takuseno/d3rlpy @ 38c34b6f99fde82875e2ad81d1ba1f7a7da34137",
    "brac": "rail-berkeley/d4rl_evaluations @ c93b9d2bf443cd5b8c43542fca9937dc50e630c3",
    "sac_rnd": "tinkoff-ai/sac-rnd @ fc99672a95ce502303f11cff0e6168176a0c90fa",
    "rebrac": "tinkoff-ai/ReBRAC @ 694385b",
    "sac": "pranz24/pytorch-soft-actor-critic @ c1805660b3961694be54079a355155a5cad492f5",
    "tap": "ZhengyaoJiang/latentplan @ c096a5c6e37f78b918946cf8d26119a08d156c73",
    "td3": "sfujim/TD3 @ 34770ccdcb51df6f6c7d85c1ba7e40d71b940d16",
    "qt": "charleshsc/QT @ cb9e1a4873449b3467f6bf5586e010180d90614c",
    "reinformer": "Dragon-Zhuang/Reinformer @ 61eaed92999239d9a3b1324a449e32c57a4c49ec",
    "online_dt": "facebookresearch/online-dt @ c376fa1",
}
LOCOMOTION = [f"{e}-{d}" for e in ("hopper", "halfcheetah", "walker2d") for d in ("medium", "medium-replay", "medium-expert")]
ANTMAZE = [f"antmaze-{maze}" for maze in
           ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")]  # fmt: skip
MAZE2D = [f"maze2d-{maze}" for maze in ("umaze", "medium", "large")]
# Keys of YAML files that no result depends on: logging, seeds, sizes of buffers that hold all data, the machine.
ASIDE = {
    "project", "group", "name", "device", "seed", "train_seed", "eval_seed", "test_seed", "checkpoints_path", "load_model",
    "buffer_size", "deterministic_torch", "log_every", "max_action",
}


# ---- reading Python files without running them


def tree(path):
    return ast.parse(path.read_text())


OPERATORS = {ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Add: operator.add, ast.Sub: operator.sub}


def literal(node, names=None):
    """The value of an expression of numbers, words and containers; `names` has the values of its names."""
    if isinstance(node, ast.Name) and node.id in (names or {}):
        return names[node.id]
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](literal(node.left, names), literal(node.right, names))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("int", "float"):
        return {"int": int, "float": float}[node.func.id](literal(node.args[0], names))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -literal(node.operand, names)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [literal(element, names) for element in node.elts]
    return ast.literal_eval(node)


def named(root, name):
    """The class or function of this name, dots between the levels."""
    for part in name.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef)
        root = next(node for node in ast.walk(root) if isinstance(node, kinds) and node.name == part)
    return root


def defaults(path, name):
    """Defaults of a function's arguments, or of a dataclass's fields, as far as they are literals."""
    node, found = named(tree(path), name), {}
    if isinstance(node, ast.ClassDef):
        pairs = [(line.target.id, line.value) for line in node.body if isinstance(line, ast.AnnAssign) and line.value]
    else:
        given = node.args.args[len(node.args.args) - len(node.args.defaults):]
        pairs = list(zip([argument.arg for argument in given], node.args.defaults))
    for key, value in pairs:
        try:
            found[key] = literal(value)
        except (ValueError, KeyError):
            pass
    return found


def call(path, function, scope=None):
    """The keywords of the one call of a function whose arguments are literals."""
    root = tree(path) if scope is None else named(tree(path), scope)
    nodes = [n for n in ast.walk(root) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith(function)]
    found = []
    for node in nodes:
        values = {}
        for keyword in node.keywords:
            try:
                values[keyword.arg] = literal(keyword.value)
            except (ValueError, KeyError):
                values[keyword.arg] = ast.unparse(keyword.value)
        found.append(values)
    assert found and all(values == found[0] for values in found), (path, function, found)
    return found[0]


def parsed(path):
    """Defaults of a script's command line (argparse)."""
    found = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument"):
            name = next(a.value for a in node.args if a.value.startswith("--"))[2:].replace("-", "_")
            given = {k.arg: k.value for k in node.keywords}
            store = "action" in given and literal(given["action"]) == "store_true"
            found[name] = literal(given["default"]) if "default" in given else (False if store else None)
    return found


def assigned(path, name, where=None):
    """The literal that a name is given; `where` is the condition of the branch, as source text."""
    for node in ast.walk(tree(path)):
        if where is not None:
            if not (isinstance(node, ast.If) and ast.unparse(node.test) == where):
                continue
            lines = node.body
        else:
            lines = [node]
        for line in lines:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
                return literal(line.value)
    raise KeyError(name)


def widths(path, name, hidden=None):
    """Widths of the hidden layers of a class that lists its linear layers: what each but the last gives."""
    node = named(tree(path), name)
    names = defaults(path, f"{name}.__init__") | {"hidden_dim": hidden}
    for line in ast.walk(node):
        # [inputs, *([hidden_dim] * n_hidden), outputs]
        if isinstance(line, ast.List) and len(line.elts) == 3 and isinstance(line.elts[1], ast.Starred):
            base = defaults(path, f"{name}.__init__")
            return [base["hidden_dim"]] * base["n_hidden"]
    layers = [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("Linear")]
    layers.sort(key=lambda n: n.lineno)
    given = []
    for layer in layers:
        try:
            given.append(literal(layer.args[1], names))
        except (ValueError, KeyError):
            continue
    return [width for width in given if width not in (1, None)]


def run(path, *functions):
    """Functions of a file that need nothing else of it."""
    import numpy

    space = {"np": numpy, "Dict": dict, "Tuple": tuple, "jax": types.SimpleNamespace(Array=object)}
    for name in functions:
        node = named(tree(path), name)
        node.decorator_list = []
        exec(compile(ast.Module([node], []), str(path), "exec"), space)
    return space


def rewards(path, function, env, **options):
    """What a file's `modify_reward` does to the rewards of three episodes, in our words."""
    import numpy

    before = numpy.array([0.0, 1.0, 2.0, 0.5, 7.0, 3.0])
    data = {"rewards": before.copy(), "terminals": numpy.array([0, 1, 0, 1, 0, 1])}
    if function == "modify_reward":
        run(path, "return_reward_range", "modify_reward")["modify_reward"](data, env, **options)
        after = data["rewards"]
    else:
        after = run(path, function)[function](env, before)
    scale = float((after[4] - after[0]) / (before[4] - before[0]))
    shift = float(after[0])
    assert numpy.allclose(after, before * scale + shift)
    if math.isclose(scale, 1000.0 / 9.0):  # returns 1, 2.5 and 10
        assert shift == 0.0
        return "return_range"
    if (scale, shift) == (1.0, 0.0):
        return "none"
    if scale == 1.0:
        return {"shift": shift}
    return {"scale": scale} if shift == 0.0 else {"affine": {"scale": scale, "shift": shift}}


# ---- collecting


# The versions of D4RL's data sets that our configurations name: CORL's, and the only one of each other.
VERSIONS = {
    "hopper": "v2", "halfcheetah": "v2", "walker2d": "v2", "antmaze": "v2", "maze2d": "v1", "kitchen": "v0",
}


class Settings:
    """The settings of one configuration, and which keys of the authors' file they come from."""

    def __init__(self, algorithm, data, source, values=None):
        self.algorithm, self.source, self.given = algorithm, source, dict(values or {})
        self.found, self.used = {}, set()
        self.set("data.path", [f"{data}-{VERSIONS[data.split('-')[0]]}"], "data set")

    def set(self, key, value, name):
        top = key.split(".")[0] in ("train", "evaluate", "online", "data")
        self.found[key if top else f"algorithm.{self.algorithm}.{key}"] = [value, name]

    def take(self, key, name, change=lambda value: value):
        """Translates one of the authors' keys."""
        self.used.add(name)
        value = self.given[name]
        # YAML 1.1 reads 3e-4 as a word.
        value = float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value
        self.set(key, change(value), name)

    def aside(self, *names):
        """Keys that nothing here depends on."""
        self.used |= set(names)

    def done(self):
        left = {key for key in self.given if key not in self.used and key not in ASIDE}
        assert not left, f"{self.source}: not translated: {sorted(left)}"
        return {"source": self.source, "settings": dict(sorted(self.found.items()))}


def corl_yaml(root, method, data, kind="offline"):
    """The YAML file of CORL for one of our data sets; CORL writes medium_replay_v2.yaml in hopper/."""
    env, _, rest = data.partition("-")
    found = list((root / "configs" / kind / method / env).glob(f"{rest.replace('-', '_')}_v[0-9].yaml"))
    assert len(found) == 1, (method, data, found)
    source = f"{COMMITS['corl']}: {found[0].relative_to(root)}"
    return source, yaml.safe_load(found[0].read_text())


def same_data(values, data):
    name = next(values[key] for key in ("env", "env_name", "dataset_name") if key in values)
    assert re.sub(r"-v\d$", "", name) == data, (name, data)


def corl(root, algorithm, data, method=None, kind="offline"):
    source, values = corl_yaml(root, method or algorithm, data, kind)
    same_data(values, data)
    settings = Settings(algorithm, data, source, values)
    settings.aside("env", "env_name", "dataset_name")
    return settings, root / "algorithms" / kind / f"{method or algorithm}.py"


def schedule_of_td3_bc(settings):
    settings.take("train.updates", "max_timesteps")
    settings.take("evaluate.every_updates", "eval_freq")
    settings.take("evaluate.episodes", "n_episodes")


def schedule_of_edac(settings):
    settings.aside("num_epochs", "num_updates_on_epoch")
    epochs, updates = settings.given["num_epochs"], settings.given["num_updates_on_epoch"]
    settings.set("train.updates", epochs * updates, "num_epochs * num_updates_on_epoch")
    settings.take("evaluate.every_updates", "eval_every", lambda every: every * updates)
    settings.take("evaluate.episodes", "eval_episodes")


def corl_rewards(settings, file, **options):
    env = settings.given.get("env") or settings.given["env_name"]
    found = rewards(file, "modify_reward", env, **options) if settings.given.get("normalize_reward") else "none"
    settings.aside("normalize_reward")
    settings.set("data.rewards", found, "normalize_reward, modify_reward")


def td3_bc(root, data):
    settings, file = corl(root, "td3_bc", data)
    schedule_of_td3_bc(settings)
    for ours, theirs in [("alpha", "alpha"), ("batch_size", "batch_size"), ("discount", "discount"), ("target_rate", "tau"),
                         ("policy_noise", "policy_noise"), ("noise_clip", "noise_clip"), ("policy_delay", "policy_freq"),
                         ("data.normalize_observations", "normalize")]:  # fmt: skip
        settings.take(ours, theirs)
    settings.aside("expl_noise")  # of an environment's steps, which offline training has none of
    corl_rewards(settings, file)
    settings.set("learning_rate", call(file, "optim.Adam")["lr"], "torch.optim.Adam, lr")
    assert widths(file, "Actor") == widths(file, "Critic")
    settings.set("hidden", widths(file, "Actor"), "Actor, Critic")
    return settings.done()


def bc(root, data, tenth=False):
    source, values = corl_yaml(root, "bc_10" if tenth else "bc", data)
    same_data(values, data)
    settings, file = Settings("bc", data, source, values), root / "algorithms/offline/any_percent_bc.py"
    schedule_of_td3_bc(settings)
    settings.take("fraction", "frac")
    settings.take("batch_size", "batch_size")
    settings.take("normalize_observations", "normalize")
    # Of the returns that choose episodes (undiscounted here; 1 in bc_10's files), and where episodes are cut.
    settings.aside("env", "discount", "max_traj_len")
    assert not tenth or values["discount"] == 1.0
    settings.set("learning_rate", call(file, "optim.Adam")["lr"], "torch.optim.Adam, lr")
    settings.set("hidden", widths(file, "Actor"), "Actor")
    return settings.done()


def awac(root, data):
    settings, file = corl(root, "awac", data)
    for ours, theirs in [("train.updates", "num_train_ops"), ("evaluate.every_updates", "eval_frequency"),
                         ("evaluate.episodes", "n_test_episodes"), ("lambda", "awac_lambda"), ("batch_size", "batch_size"),
                         ("discount", "gamma"), ("target_rate", "tau"), ("learning_rate", "learning_rate")]:  # fmt: skip
        settings.take(ours, theirs)
    corl_rewards(settings, file)
    width = settings.given["hidden_dim"]
    settings.aside("hidden_dim")
    assert widths(file, "Actor", width) == widths(file, "Critic", width)
    settings.set("hidden", widths(file, "Actor", width), "hidden_dim, Actor, Critic")
    given = defaults(file, "Actor.__init__")
    settings.set("log_std_range", [given["min_log_std"], given["max_log_std"]], "min_log_std, max_log_std")
    settings.set("max_weight", defaults(file, "AdvantageWeightedActorCritic.__init__")["exp_adv_max"], "exp_adv_max")
    assert "normalize_states(" in file.read_text()
    settings.set("data.normalize_observations", True, "normalize_states")
    return settings.done()


def iql(root, data):
    settings, file = corl(root, "iql", data)
    schedule_of_td3_bc(settings)
    for ours, theirs in [("expectile", "iql_tau"), ("beta", "beta"), ("batch_size", "batch_size"), ("discount", "discount"),
                         ("target_rate", "tau"), ("data.normalize_observations", "normalize"), ("actor_learning_rate", "actor_lr"),
                         ("critic_learning_rate", "qf_lr"), ("value_learning_rate", "vf_lr")]:  # fmt: skip
        settings.take(ours, theirs)
    settings.take("actor", "iql_deterministic", lambda so: "deterministic" if so else "gaussian")
    corl_rewards(settings, file)
    for policy in ("GaussianPolicy", "DeterministicPolicy", "TwinQ", "ValueFunction"):
        assert widths(file, policy) == widths(file, "TwinQ")
    settings.set("hidden", widths(file, "TwinQ"), "hidden_dim, n_hidden")
    settings.set("max_weight", assigned(file, "EXP_ADV_MAX"), "EXP_ADV_MAX")
    settings.set("log_std_range", [assigned(file, "LOG_STD_MIN"), assigned(file, "LOG_STD_MAX")], "LOG_STD_MIN, LOG_STD_MAX")
    text = file.read_text()
    assert "CosineAnnealingLR(self.actor_optimizer, max_steps)" in text and '"max_steps": config.max_timesteps' in text
    settings.set("actor_decay_updates", "training", "CosineAnnealingLR, max_steps = max_timesteps")
    return settings.done()


def cql(root, data, d4rl=None):
    """CQL's own settings, or, with a checkout of D4RL, those of Cal-QL."""
    calibrate = d4rl is not None
    kind, method = ("finetune", "cal_ql") if calibrate else ("offline", "cql")
    settings, file = corl(root, "cql", data, method, kind)
    if calibrate:
        settings.take("train.updates", "offline_iterations")
        settings.take("online.steps", "online_iterations")
        settings.take("evaluate.every_updates", "eval_freq")
        settings.take("evaluate.episodes", "n_episodes")
        settings.take("online.data_share", "mixing_ratio")
        assert settings.given["cql_alpha_online"] == settings.given["cql_alpha"]
        # Before they are scaled and shifted: what a step that misses the goal gives.
        lowest = assigned(d4rl / "d4rl/infos.py", "REF_MIN_SCORE")[settings.given["env"]]
        assert settings.given["is_sparse_reward"]
        settings.set("failure_reward", lowest, "is_sparse_reward, env.ref_min_score")
        settings.aside("is_sparse_reward", "cql_alpha_online")
    else:
        schedule_of_td3_bc(settings)
    lagrange = settings.given["cql_lagrange"]
    finite = lambda value: None if math.isinf(value) else float(value)
    for ours, theirs in [("alpha", "cql_alpha"), ("actions", "cql_n_actions"), ("penalty_temperature", "cql_temp"),
                         ("max_backup", "cql_max_target_backup"), ("backup_entropy", "backup_entropy"),
                         ("cloning_updates", "bc_steps"), ("automatic_temperature", "use_automatic_entropy_tuning"),
                         ("temperature_scale", "alpha_multiplier"), ("discount", "discount"),
                         ("target_rate", "soft_target_update_rate"), ("target_every", "target_update_period"),
                         ("batch_size", "batch_size"), ("actor_learning_rate", "policy_lr"), ("critic_learning_rate", "qf_lr"),
                         ("orthogonal_init", "orthogonal_init"), ("data.normalize_observations", "normalize")]:  # fmt: skip
        settings.take(ours, theirs)
    settings.take("penalty", "cql_importance_sample", lambda so: "importance_sampled" if so else "other")
    for ours, theirs, change in [("gap_min", "cql_clip_diff_min", finite), ("gap_max", "cql_clip_diff_max", finite),
                                 ("lagrange_gap", "cql_target_action_gap", lambda gap: gap if lagrange else None)]:  # fmt: skip
        settings.used.add(theirs)
        value = change(settings.given[theirs])
        if value is not None:
            settings.set(ours, value, theirs)
    settings.set("calibrate", calibrate, "algorithm")
    options = {"reward_scale": settings.given["reward_scale"], "reward_bias": settings.given["reward_bias"]}
    settings.aside("cql_lagrange", "reward_scale", "reward_bias")
    corl_rewards(settings, file, **options)
    actor, base = widths(file, "TanhGaussianPolicy"), defaults(file, "TrainConfig")
    settings.set("hidden", actor, "TanhGaussianPolicy")
    depth = settings.given["q_n_hidden_layers"]
    settings.aside("q_n_hidden_layers")
    if depth != len(actor):
        settings.set("critic_hidden", [actor[0]] * depth, "q_n_hidden_layers")
    first = defaults(file, "TanhGaussianPolicy.__init__")["log_std_multiplier"]
    settings.set("log_std_scale", base.get("policy_log_std_multiplier", first), "log_std_multiplier")
    given = defaults(file, "ReparameterizedTanhGaussian.__init__")
    settings.set("log_std_range", [given["log_std_min"], given["log_std_max"]], "log_std_min, log_std_max")
    return settings.done()


def ensemble(root, algorithm, data):
    settings, file = corl(root, algorithm, data)
    schedule_of_edac(settings)
    pairs = [("members", "num_critics"), ("discount", "gamma"), ("target_rate", "tau"), ("batch_size", "batch_size"),
             ("actor_learning_rate", "actor_learning_rate"), ("critic_learning_rate", "critic_learning_rate"),
             ("temperature_learning_rate", "alpha_learning_rate")]  # fmt: skip
    for ours, theirs in pairs + ([("diversity", "eta")] if algorithm == "edac" else []):
        settings.take(ours, theirs)
    width = settings.given["hidden_dim"]
    settings.aside("hidden_dim")
    actor = widths(file, "Actor", width)
    assert actor == widths(file, "VectorizedCritic", width)
    settings.set("hidden", actor, "hidden_dim, Actor, VectorizedCritic")
    corl_rewards(settings, file)
    assert "normalize_states(" not in file.read_text()
    settings.set("data.normalize_observations", False, "no normalisation")
    return settings.done()


def rebrac(corl_root, own_root, data):
    """The authors' own file; CORL's for maze2d, which they have none of."""
    env = data.split("-")[0]
    own = own_root / "configs/rebrac" / env / f"{data.replace('-', '_')}.yaml"
    source, values = corl_yaml(corl_root, "rebrac", data)
    if own.is_file():
        source, values = f"{COMMITS['rebrac']}: {own.relative_to(own_root)}", yaml.safe_load(own.read_text())
    same_data(values, data)
    file = corl_root / "algorithms/offline/rebrac.py"
    settings = Settings("rebrac", data, source, defaults(file, "Config") | values)
    settings.aside("dataset_name")
    schedule_of_edac(settings)
    for ours, theirs in [("actor_penalty", "actor_bc_coef"), ("critic_penalty", "critic_bc_coef"), ("normalize_q", "normalize_q"),
                         ("discount", "gamma"), ("target_rate", "tau"), ("policy_noise", "policy_noise"), ("noise_clip", "noise_clip"),
                         ("policy_delay", "policy_freq"), ("batch_size", "batch_size"), ("actor_learning_rate", "actor_learning_rate"),
                         ("critic_learning_rate", "critic_learning_rate"), ("critic_layer_norm", "critic_ln"),
                         ("actor_layer_norm", "actor_ln"), ("data.normalize_observations", "normalize_states")]:  # fmt: skip
        settings.take(ours, theirs)
    given = settings.given
    assert given["actor_n_hiddens"] == given["critic_n_hiddens"]
    settings.aside("hidden_dim", "actor_n_hiddens", "critic_n_hiddens", "normalize_reward")
    settings.set("hidden", [given["hidden_dim"]] * given["actor_n_hiddens"], "hidden_dim, actor_n_hiddens")
    found = rewards(file, "normalize_reward", data) if given["normalize_reward"] else "none"
    settings.set("data.rewards", found, "normalize_reward")
    return settings.done()


def sac_rnd(root, data):
    env = data.split("-")[0]
    path = root / "configs/sac-rnd" / env / f"{data.replace('-', '_')}.yaml"
    values = yaml.safe_load(path.read_text())
    same_data(values, data)
    file = root / "offline_sac/algorithms" / ("sac_rnd_betas.py" if env == "antmaze" else "sac_rnd.py")
    settings = Settings("sac_rnd", data, f"{COMMITS['sac_rnd']}: {path.relative_to(root)}", defaults(file, "Config") | values)
    given = settings.given
    settings.aside("dataset_name")
    # The bonus is trained first; here these updates are counted too.
    first = given["rnd_update_epochs"] * given["num_updates_on_epoch"]
    settings.set("pretraining_updates", first, "rnd_update_epochs * num_updates_on_epoch")
    settings.aside("rnd_update_epochs")
    schedule_of_edac(settings)
    then = given["num_epochs"] * given["num_updates_on_epoch"]
    settings.set("train.updates", first + then, "(rnd_update_epochs + num_epochs) * num_updates_on_epoch")
    for ours, theirs in [("rnd_learning_rate", "rnd_learning_rate"), ("rnd_hidden", "rnd_hidden_dim"), ("rnd_embedding", "rnd_embedding_dim"),
                         ("discount", "gamma"), ("target_rate", "tau"), ("batch_size", "batch_size"),
                         ("actor_learning_rate", "actor_learning_rate"), ("critic_learning_rate", "critic_learning_rate"),
                         ("temperature_learning_rate", "alpha_learning_rate"), ("members", "num_critics"),
                         ("critic_layer_norm", "critic_layernorm")]:  # fmt: skip
        settings.take(ours, theirs)
    # What f and g are here, and nothing else.
    kinds = given["rnd_mlp_type"], given["rnd_target_mlp_type"], given["rnd_switch_features"]
    assert kinds == ("torch_bilinear_first", "film_last", True), kinds
    settings.aside("rnd_mlp_type", "rnd_target_mlp_type", "rnd_switch_features", "normalize_reward", "hidden_dim")
    networks = (root / "offline_sac/networks.py").read_text()
    actor, critic = networks.split("class Actor")[1].split("\nclass ")[0], networks.split("class Critic")[1].split("\nclass ")[0]
    depth = actor.count("nn.Dense(") - 2  # mean and deviation
    assert depth == critic.count("nn.Dense(") - 1 == 3, (actor, critic)
    settings.set("hidden", [given["hidden_dim"]] * depth, "hidden_dim, Actor, Critic")
    found = rewards(root / "offline_sac/utils/buffer.py", "normalize_reward", data) if given["normalize_reward"] else "none"
    settings.set("data.rewards", found, "normalize_reward")
    # The weights of the bonus are not in these files ("take the best value from the paper appendix"), only what they were chosen from.
    settings.aside("beta", "actor_beta", "critic_beta")
    sweeps = root / "configs/sweeps"
    if env == "antmaze":
        grid = yaml.safe_load((sweeps / "antmaze_beta_sweep.yaml").read_text())["parameters"]
        grids = [grid["actor_beta"]["values"], grid["critic_beta"]["values"]]
    else:
        text = (sweeps / "locomotion_beta_sweep.yaml").read_text()
        # That of halfcheetah, whose files are commented out in the list above it, is too.
        line = re.search((r"^#" if env == "halfcheetah" else r"^ ") + r"\s+values: (\[[\d., ]+\])", text.split("beta:")[1], re.M)
        grids = [json.loads(line[1])] * 2
    settings.set("actor_penalty", {"one_of": grids[0]}, "beta, actor_beta: configs/sweeps")
    settings.set("critic_penalty", {"one_of": grids[1]}, "beta, critic_beta: configs/sweeps")
    return settings.done()


def d3rlpy(root, algorithm, data):
    script = root / "reproductions/offline" / f"{algorithm}.py"
    config = root / "d3rlpy/algos/qlearning" / f"{algorithm}.py"
    given = defaults(config, f"{algorithm.upper()}Config") | call(script, f"{algorithm.upper()}Config")
    fit = call(script, f"{algorithm}.fit")
    settings = Settings(algorithm, data, f"{COMMITS['d3rlpy']}: {script.relative_to(root)}", given)
    settings.set("train.updates", fit["n_steps"], "n_steps")
    settings.set("evaluate.every_updates", fit["n_steps_per_epoch"], "n_steps_per_epoch")
    evaluator = defaults(root / "d3rlpy/metrics/evaluators.py", "EnvironmentEvaluator.__init__")
    settings.set("evaluate.episodes", evaluator["n_trials"], "EnvironmentEvaluator, n_trials")
    units = defaults(root / "d3rlpy/models/encoders.py", "VectorEncoderFactory").get("hidden_units")
    text = (root / "d3rlpy/models/encoders.py").read_text()
    assert units is not None or "[256, 256]" in text
    settings.set("hidden", units or [256, 256], "VectorEncoderFactory, hidden_units")
    settings.take("discount", "gamma")
    settings.take("target_rate", "tau")
    for ours in ("batch_size", "actor_learning_rate", "critic_learning_rate"):
        settings.take(ours, ours)
    settings.aside("compile_graph")
    if algorithm == "bear":
        for ours, theirs in [("bandwidth", "mmd_sigma"), ("threshold", "alpha_threshold"), ("samples", "n_mmd_action_samples"),
                             ("target_samples", "n_target_samples"), ("acting_samples", "n_action_samples"), ("min_weight", "lam"),
                             ("vae_kl_weight", "vae_kl_weight"), ("warmup_updates", "warmup_steps"), ("initial_multiplier", "initial_alpha"),
                             ("vae_learning_rate", "imitator_learning_rate"), ("multiplier_learning_rate", "alpha_learning_rate")]:  # fmt: skip
            settings.take(ours, theirs)
        kernel = assigned(script, "kernel", "'halfcheetah' in args.dataset") if "halfcheetah" in data else "laplacian"
        assert "laplacian" in script.read_text()
        settings.set("kernel", kernel, "mmd_kernel")
        vae = next(n for n in ast.walk(tree(script)) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("VectorEncoderFactory"))
        settings.set("vae_hidden", literal(vae.args[0]), "imitator_encoder_factory")
        # The entropy's temperature is 1e-20 and stays, so that the entropy counts for nothing; two critics, as here.
        assert given["initial_temperature"] == 1e-20 and given["temp_learning_rate"] == 0.0 and given["n_critics"] == 2
        settings.aside("mmd_kernel", "imitator_encoder_factory", "initial_temperature", "temp_learning_rate", "n_critics")
        settings.aside("update_actor_interval")
    else:
        for ours, theirs in [("weight", "weight_type"), ("advantage", "advantage_type"), ("temperature", "beta"), ("max_weight", "max_weight"),
                             ("samples", "n_action_samples")]:  # fmt: skip
            settings.take(ours, theirs)
        assert given["target_update_type"] == "soft" and given["update_actor_interval"] == 1
        settings.set("target_every_updates", 1, "target_update_type = soft")
        settings.set("members", given["n_critics"], "n_critics")
        settings.aside("target_update_type", "target_update_interval", "n_critics", "update_actor_interval")
    return settings.done()


def brac(root, data):
    folder = root / "brac/behavior_regularized_offline_rl/brac"
    script = root / "brac/scripts/train_brac.py"
    flags = {}
    for node in ast.walk(tree(script)):
        if isinstance(node, ast.Call) and "DEFINE_" in ast.unparse(node.func):
            try:
                flags[node.args[0].value] = literal(node.args[1])
            except (ValueError, KeyError):
                pass
    offline = defaults(folder / "train_eval_offline.py", "train_eval_offline")
    agent = defaults(folder / "brac_primal_agent.py", "Agent.__init__")
    clone = lambda name: assigned_in(script, "train_bc", name)
    main = lambda name: assigned_in(script, "main", name)
    settings = Settings("brac", data, f"{COMMITS['brac']}: {script.relative_to(root)}")
    first, then = flags["bc_train_steps"], flags["total_train_steps"]
    settings.set("behavior_updates", first, "bc_train_steps")
    settings.set("train.updates", first + then, "bc_train_steps + total_train_steps")
    settings.set("evaluate.every_updates", offline["eval_freq"], "eval_freq")
    settings.set("evaluate.episodes", flags["n_eval_episodes"], "n_eval_episodes")
    settings.set("penalty", flags["alpha"], "alpha")
    settings.set("value_penalty", bool(flags["value_penalty"]), "value_penalty")
    for ours, theirs in [("train_penalty", "train_alpha"), ("target_divergence", "target_divergence"), ("samples", "n_div_samples"),
                         ("warm_start_updates", "warm_start")]:  # fmt: skip
        settings.set(ours, agent[theirs], theirs)
    assert agent["divergence_name"] == "kl" and agent["alpha_entropy"] == 0.0 and agent["ensemble_q_lambda"] == 1.0
    settings.set("acting_samples", defaults(folder / "policies.py", "MaxQSoftPolicy.__init__")["n"], "MaxQSoftPolicy, n")
    settings.set("discount", offline["discount"], "discount")
    settings.set("target_rate", offline["update_rate"], "update_rate")
    settings.set("batch_size", offline["batch_size"], "batch_size")
    (critic, actor), critics = main("model_arch")
    assert critics == 2 and clone("model_arch") == [actor]
    settings.set("hidden", critic, "model_arch")
    settings.set("actor_hidden", actor, "model_arch")
    rates = [rate for _, rate in main("opt_params")]
    for ours, rate in zip(("critic_learning_rate", "actor_learning_rate", "penalty_learning_rate"), rates):
        settings.set(ours, rate, "opt_params")
    settings.set("behavior_learning_rate", clone("opt_params")[0][1], "train_bc: opt_params")
    return settings.done()


def assigned_in(path, function, name):
    for line in ast.walk(named(tree(path), function)):
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
            return literal(line.value)
    raise KeyError(name)


def returns_aimed_at(settings, script, env):
    where = f"env_name == '{env}'"
    settings.set("target_returns", [float(value) for value in assigned(script, "env_targets", where)], "env_targets")
    settings.set("return_scale", float(assigned(script, "scale", where)), "scale")
    settings.set("max_episode_steps", assigned(script, "max_ep_len", where), "max_ep_len")
    # Zeros stand before a stretch that is too short.
    assert "np.concatenate([np.zeros((1, max_len - tlen, state_dim)), s[-1]], axis=1)" in ast.unparse(tree(script))
    settings.set("padding", "left", "get_batch")


def decision_transformer(root, data):
    script = root / "gym/experiment.py"
    settings = Settings("decision_transformer", data, f"{COMMITS['dt']}: gym/experiment.py", parsed(script))
    given = settings.given
    updates = given["num_steps_per_iter"]
    settings.set("train.updates", given["max_iters"] * updates, "max_iters * num_steps_per_iter")
    settings.set("evaluate.every_updates", updates, "num_steps_per_iter")
    settings.take("evaluate.episodes", "num_eval_episodes")
    for ours, theirs in [("context_steps", "K"), ("layers", "n_layer"), ("heads", "n_head"), ("embedding", "embed_dim"), ("dropout", "dropout"),
                         ("batch_size", "batch_size"), ("learning_rate", "learning_rate"), ("weight_decay", "weight_decay"),
                         ("warmup_updates", "warmup_steps")]:  # fmt: skip
        settings.take(ours, theirs)
    returns_aimed_at(settings, script, data.split("-")[0])
    trainer = (root / "gym/decision_transformer/training/seq_trainer.py").read_text()
    settings.set("clip_norm", float(re.search(r"clip_grad_norm_\(self\.model\.parameters\(\), ([\d.]+)\)", trainer)[1]), "clip_grad_norm_")
    assert given["mode"] == "normal" and given["pct_traj"] == 1.0 and given["activation_function"] == "relu" and given["model_type"] == "dt"
    settings.aside("env", "dataset", "mode", "pct_traj", "model_type", "activation_function", "max_iters", "num_steps_per_iter", "log_to_wandb")
    return settings.done()


def qt(root, data):
    env, _, dataset = data.partition("-")
    script, trainer = root / "experiment.py", root / "decision_transformer/training/ql_trainer.py"
    settings = Settings("qt", data, f"{COMMITS['qt']}: run.sh, experiment.py", parsed(script))
    given = settings.given
    # The command of this data set: flags with a value, or none.
    commands = (root / "run.sh").read_text().replace("\\\n", " ").split("python experiment.py")
    command = next(c for c in commands if f"--env {env} " in c and f"--dataset {dataset} " in c)
    for name, value in re.findall(r"--(\w+)(?: +([^-\s]\S*))?", command):
        given[name] = {"": True}.get(value, value)
    for name in ("eta", "grad_norm"):
        given[name] = float(given[name])
    for name in ("K", "max_iters", "num_steps_per_iter", "early_epoch"):
        given[name] = int(given[name])
    every, iterations = given["num_steps_per_iter"], given["max_iters"]
    settings.set("decay_updates", iterations * every, "CosineAnnealingLR, lr_maxt = max_iters")
    settings.set("decay_every", every, "num_steps_per_iter")
    if given["early_stop"]:
        iterations = min(iterations, given["early_epoch"] + 1)
    settings.set("train.updates", iterations * every, "max_iters, early_epoch, num_steps_per_iter")
    settings.set("evaluate.every_updates", every, "num_steps_per_iter")
    settings.take("evaluate.episodes", "num_eval_episodes")
    for ours, theirs in [("context_steps", "K"), ("layers", "n_layer"), ("heads", "n_head"), ("embedding", "embed_dim"), ("dropout", "dropout"),
                         ("batch_size", "batch_size"), ("learning_rate", "learning_rate"), ("weight_decay", "weight_decay"),
                         ("clip_norm", "grad_norm"), ("discount", "discount"), ("target_rate", "tau"), ("eta", "eta"),
                         ("imitation_weight", "eta2"), ("max_backup", "max_q_backup")]:  # fmt: skip
        settings.take(ours, theirs)
    width = given["embed_dim"]
    layers = [n for n in ast.walk(named(tree(root / "decision_transformer/models/ql_DT.py"), "Critic"))
              if isinstance(n, ast.Call) and ast.unparse(n) == "nn.Mish()"]  # fmt: skip
    settings.set("critic_hidden", [width] * (len(layers) // 2), "Critic, hidden_dim = embed_dim")
    source = trainer.read_text()
    rate = float(re.search(r"Adam\(self\.critic\.parameters\(\), lr=([\d.e-]+)\)", source)[1])
    settings.set("critic_learning_rate", rate, "critic_optimizer")
    built = call(script, "Trainer")
    settings.set("average_rate", round(1 - built["ema_decay"], 9), "1 - ema_decay")
    settings.set("average_from", built["step_start_ema"], "step_start_ema")
    settings.set("average_every", built["update_ema_every"], "update_ema_every")
    settings.set("backup", "window" if given["k_rewards"] else "step", "k_rewards")
    inside = ast.unparse(tree(script)).count("if 'hopper-medium' in gym_name") == 1 and env == "hopper"
    settings.set("starts", "inside" if inside else "anywhere", "get_batch, si")
    where = f"env_name == '{env}'"
    settings.set("target_returns", [float(value) for value in assigned(script, "env_targets", where)], "env_targets")
    settings.set("return_scale", float(assigned(script, "scale", where)), "scale")
    settings.set("max_episode_steps", assigned(script, "max_ep_len", where), "max_ep_len")
    copies = re.search(r"states\.reshape\(1, -1, self\.state_dim\)\.repeat_interleave\(repeats=(\d+)", (root / "decision_transformer/models/ql_DT.py").read_text())
    settings.set("candidates", int(copies[1]), "get_action")
    settings.set("candidate_noise", 0.1, "get_action, randn_like * 0.1")
    settings.set("critic_return", not given["rtg_no_q"], "rtg_no_q")
    settings.set("choice", "first" if given["infer_no_q"] else "weighted", "infer_no_q, multinomial")
    settings.set("terminal_rewards", False, "train_step, rewards[:, -1] = 0")
    settings.set("candidate_returns", "authors", "get_action")
    assert given["lr_decay"] and given["use_discount"] and given["mode"] == "normal" and given["pct_traj"] == 1.0
    assert not given["sar"] and given["lambda"] == 1.0 and given["reward_tune"] == "no" and given["activation_function"] == "relu"
    settings.aside("exp_name", "env", "dataset", "mode", "pct_traj", "activation_function", "lr_min", "warmup_steps", "max_iters",
                   "num_steps_per_iter", "save_path", "lambda", "lr_decay", "early_stop", "early_epoch", "k_rewards", "use_discount", "sar",
                   "reward_tune", "scale", "test_scale", "rtg_no_q", "infer_no_q")  # fmt: skip
    return settings.done()


def reinformer(root, data):
    env, _, dataset = data.partition("-")
    script, trainer = root / "main.py", (root / "trainer.py").read_text()
    settings = Settings("reinformer", data, f"{COMMITS['reinformer']}: main.py", parsed(script))
    given, text = settings.given, ast.unparse(tree(script))
    # Their word for medium-replay is misspelt, so that hopper-medium alone has other batches.
    assert "if env == 'hopper':\n        if dataset == 'medium' or dataset == 'meidum-replay':\n            variant['batch_size'] = 256" in text
    if data == "hopper-medium":
        given["batch_size"] = 256
    assert "if env in ['kitchen', 'maze2d', 'antmaze']:\n        variant['num_eval_ep'] = 100" in text
    if env == "maze2d":
        given["num_eval_ep"] = 100
    every = given["num_updates_per_iter"]
    settings.set("train.updates", given["max_train_iters"] * every, "max_train_iters * num_updates_per_iter")
    settings.set("evaluate.every_updates", every, "num_updates_per_iter")
    settings.take("evaluate.episodes", "num_eval_ep")
    for ours, theirs in [("context_steps", "context_len"), ("layers", "n_blocks"), ("heads", "n_heads"), ("embedding", "embed_dim"),
                         ("dropout", "dropout_p"), ("batch_size", "batch_size"), ("learning_rate", "lr"), ("weight_decay", "wd"),
                         ("warmup_updates", "warmup_steps"), ("clip_norm", "grad_norm"), ("expectile", "tau"),
                         ("initial_temperature", "init_temperature")]:  # fmt: skip
        settings.take(ours, theirs)
    rate = re.search(r"\[self\.model\.log_temperature\],\s+lr=([\d.e-]+)", trainer)
    settings.set("temperature_learning_rate", float(rate[1]), "log_temperature_optimizer")
    assert "target_entropy=-self.act_dim" in trainer and "eps=1e-8" in trainer
    steps = defaults(root / "model/reinformer.py", "ReinFormer.__init__")["max_timestep"]
    settings.set("max_episode_steps", steps, "max_timestep")
    for node in ast.walk(tree(root / "data/d4rl_trajectory_dataset.py")):
        if isinstance(node, ast.If) and ast.unparse(node.test).startswith("env_name in") and env in literal(node.test.comparators[0]):
            settings.set("return_scale", float(literal(node.body[0].value)), "scale")
    settings.aside("model_type", "env", "dataset", "max_eval_ep_len", "dataset_dir", "max_train_iters", "num_updates_per_iter", "use_wandb")
    return settings.done()


# The authors' program names hopper-medium's settings alone. Flags of a published rerun of it on the others, of which only
# hopper-medium repeats the defaults: umkiyoung/EXplorativeDT @ 24920a8, scripts/make_pretrained_agents.sh.
ONLINE_DT_FLAGS = {
    "hopper-medium": {},
    "hopper-medium-replay": {"learning_rate": 0.002, "weight_decay": 0.0001},
    "walker2d": {"eval_rtg": 5000, "online_rtg": 10000, "learning_rate": 0.001, "weight_decay": 0.001,
                 "num_updates_per_pretrain_iter": 10000},
    "halfcheetah": {"eval_rtg": 6000, "online_rtg": 12000},
}  # fmt: skip


def online_dt(root, data):
    script = root / "main.py"
    flags = ONLINE_DT_FLAGS.get(data, ONLINE_DT_FLAGS.get(data.split("-")[0]))
    source = f"{COMMITS['online_dt']}: main.py" + (", flags of umkiyoung/EXplorativeDT @ 24920a8" if flags else "")
    settings = Settings("online_dt", data, source, parsed(script) | flags)
    given, text = settings.given, script.read_text()
    settings.set("train.updates", given["max_pretrain_iters"] * given["num_updates_per_pretrain_iter"],
                 "max_pretrain_iters * num_updates_per_pretrain_iter")  # fmt: skip
    settings.set("evaluate.every_updates", given["num_updates_per_pretrain_iter"], "num_updates_per_pretrain_iter")
    settings.take("evaluate.episodes", "num_eval_episodes")
    for ours, theirs in [("context_steps", "K"), ("acting_context_steps", "eval_context_length"), ("layers", "n_layer"), ("heads", "n_head"),
                         ("embedding", "embed_dim"), ("dropout", "dropout"), ("batch_size", "batch_size"), ("learning_rate", "learning_rate"),
                         ("weight_decay", "weight_decay"), ("warmup_updates", "warmup_steps"), ("initial_temperature", "init_temperature"),
                         ("replay_episodes", "replay_size"), ("updates_per_episode", "num_updates_per_online_iter")]:  # fmt: skip
        settings.take(ours, theirs)
    settings.take("target_returns", "eval_rtg", lambda target: [float(target)])
    settings.take("online_target_return", "online_rtg", float)
    settings.take("timestep_embedding", "ordering", bool)
    settings.set("max_episode_steps", assigned(script, "MAX_EPISODE_LEN"), "MAX_EPISODE_LEN")
    clip = re.search(r"clip_grad_norm_\(self\.model\.parameters\(\), ([\d.]+)\)", (root / "trainer.py").read_text())
    settings.set("clip_norm", float(clip[1]), "clip_grad_norm_")
    rate = re.search(r"\[self\.model\.log_temperature\],\s+lr=([\d.e-]+)", text)
    settings.set("temperature_learning_rate", float(rate[1]), "log_temperature_optimizer")
    scale = re.search(r"self\.reward_scale = 1\.0 if \"antmaze\" in variant\[\"env\"\] else ([\d.]+)", text)
    settings.set("return_scale", 1 / float(scale[1]), "reward_scale")
    assert "self.target_entropy = -self.act_dim" in text and "eps=1e-8" in text and given["activation_function"] == "relu"
    assert given["num_online_rollouts"] == 1
    settings.aside("env", "activation_function", "max_pretrain_iters", "num_updates_per_pretrain_iter", "max_online_iters", "num_online_rollouts",
                   "eval_interval", "log_to_tb", "save_dir", "exp_name")  # fmt: skip
    return settings.done()


def lamo(root, data):
    env = data.split("-")[0]
    folder = root / "experiment-d4rl"
    run_file = folder / ("run_hopper.sh" if env == "hopper" else "run.sh")
    shell = run_file.read_text()
    script = folder / "experiment.py"
    settings = Settings("lamo", data, f"{COMMITS['lamo']}: experiment-d4rl/{run_file.name}, experiment.py", parsed(script))
    given = settings.given
    words = {"lr": "learning_rate", "lmlr": "lm_learning_rate"}
    for name, value in re.findall(r"^(\w+)=([\d.e-]+)\s*$", shell, re.M):
        value = float(value)
        given[words.get(name, name)] = int(value) if value.is_integer() else value
    given["K"] = int(re.search(r"else\s+K=(\d+)", shell)[1])
    given["pretrained_lm"] = re.search(r'^pretrained_lm="(\w+)"', shell, re.M)[1]
    for switch in ("adapt_mode", "adapt_embed", "lora", "mlp_embedding", "co_training"):
        given[switch] = f"--{switch} " in shell
    updates = given["num_steps_per_iter"]
    settings.set("train.updates", given["max_iters"] * updates, "max_iters * num_steps_per_iter")
    settings.set("evaluate.every_updates", updates, "num_steps_per_iter")
    settings.take("evaluate.episodes", "num_eval_episodes")
    settings.take("pretrained", "pretrained_lm", lambda name: f"hf://openai-community/{name}")
    for ours, theirs in [("context_steps", "K"), ("dropout", "dropout"), ("batch_size", "batch_size"), ("learning_rate", "learning_rate"),
                         ("weight_decay", "weight_decay"), ("warmup_updates", "warmup_steps"), ("mlp_embedding", "mlp_embedding")]:  # fmt: skip
        settings.take(ours, theirs)
    rank = defaults(folder / "decision_transformer/models/trajectory_gpt2_LoRA.py", "GPT2Config_LoRA.__init__")
    settings.set("rank", rank["lora_attn_dim"], "lora_attn_dim")
    settings.set("alpha", float(rank["lora_attn_alpha"]), "lora_attn_alpha")
    returns_aimed_at(settings, script, env)
    trainer = (folder / "decision_transformer/training/seq_trainer.py").read_text()
    settings.set("clip_norm", float(re.search(r"clip_grad_norm_\(self\.model\.parameters\(\), ([\d.]+)\)", trainer)[1]), "clip_grad_norm_")
    assert given["adapt_mode"] and given["adapt_embed"] and given["lora"] and not given["co_training"]
    # The language model's own rate reaches no parameter: see `lamo.rs`. The sizes are GPT-2's.
    settings.aside("env", "dataset", "mode", "pct_traj", "model_type", "sample_ratio", "data_suffix", "log_to_wandb", "visualize", "outdir",
                   "fp16", "description", "embed_dim", "n_layer", "n_head", "activation_function", "extend_positions",
                   "share_input_output_proj", "lm_learning_rate", "max_iters", "num_steps_per_iter", "adapt_mode", "lora",
                   "only_adapt_last_two_blocks", "adapt_last_two_blocks", "adapt_ln", "adapt_attn", "adapt_ff", "adapt_embed", "adapt_wte",
                   "adapt_wpe", "co_training", "nlp_dataset_name", "nlp_dataset_config_name", "co_lambda")  # fmt: skip
    return settings.done()


def trajectory_transformer(root, data):
    space = {}
    text = (root / "config/offline.py").read_text().replace("from trajectory.utils import watch", "watch = lambda args: args")
    exec(compile(text, "config/offline.py", "exec"), space)
    own = space[data.replace("-", "_") + "_v2"]
    train, plan = ({**space["base"][part], **own.get(part, {})} for part in ("train", "plan"))
    settings = Settings("trajectory_transformer", data, f"{COMMITS['tt']}: config/offline.py, scripts/train.py", train)
    # int(1e6 / windows * n_epochs_ref) epochs of ceil(windows / batch_size) updates: so many but for rounding.
    settings.set("train.updates", int(1e6 * train["n_epochs_ref"] / train["batch_size"]), "1e6 * n_epochs_ref / batch_size")
    settings.set("evaluate.every_updates", 0, "plan.py plans with the last model")
    plans = re.search(r"download (\d+) \[plans\]", (root / "README.md").read_text())
    settings.set("evaluate.episodes", int(plans[1]), "README.md: plans from each model")
    for ours, theirs in [("bins", "N"), ("discount", "discount"), ("layers", "n_layer"), ("heads", "n_head"), ("embedding_per_head", "n_embd"),
                         ("batch_size", "batch_size"), ("learning_rate", "learning_rate"), ("dropout", "embd_pdrop"),
                         ("window_transitions", "subsampled_sequence_length"), ("action_weight", "action_weight"),
                         ("reward_weight", "reward_weight"), ("value_weight", "value_weight")]:  # fmt: skip
        settings.take(ours, theirs)
    settings.take("termination_penalty", "termination_penalty")
    settings.take("discretizer", "discretizer", lambda name: {"QuantileDiscretizer": "quantile"}[name])
    assert train["embd_pdrop"] == train["resid_pdrop"] == train["attn_pdrop"] and train["step"] == 1 and train["lr_decay"]
    settings.aside("resid_pdrop", "attn_pdrop", "step", "lr_decay", "n_epochs_ref", "n_saves", "logbase", "exp_name")
    script = root / "scripts/train.py"
    trainer = config_call(script, "utils.Trainer")
    settings.set("betas", list(trainer["betas"]), "betas")
    settings.set("clip_norm", trainer["grad_norm_clip"], "grad_norm_clip")
    settings.set("weight_decay", trainer["weight_decay"], "weight_decay")
    lines = script.read_text()
    assert "warmup_tokens = len(dataset) * block_size" in lines
    settings.set("warmup_updates", "1 epoch", "warmup_tokens")
    epochs = re.search(r"final_tokens = (\d+) \* warmup_tokens", lines)[1]
    settings.set("decay_updates", f"{epochs} epochs", "final_tokens")
    settings.set("schedule", "cosine_unclamped", "utils/training.py: progress is not bounded")
    settings.set("max_path_steps", defaults(root / "trajectory/datasets/sequence.py", "SequenceDataset.__init__")["max_path_length"], "max_path_length")
    core = defaults(root / "trajectory/search/core.py", "beam_plan")
    off = lambda value: 0 if value is None else value
    for key in ("horizon", "beam_width", "n_expand", "max_context_transitions", "prefix_context"):
        settings.set(f"planner.{key}", plan[key], key)
    for key in ("k_obs", "k_act", "cdf_obs", "cdf_act"):
        settings.set(f"planner.{key}", off(plan[key]) if key[0] == "k" else float(off(plan[key])), key)
    settings.set("planner.k_rew", off(core["k_rew"]), "k_rew")
    settings.set("planner.cdf_rew", float(off(core["cdf_rew"])), "cdf_rew")
    settings.set("planner.plan_every_steps", plan["plan_freq"], "plan_freq")
    assert plan["percentile"] == "mean"
    sampling = defaults(root / "trajectory/search/sampling.py", "sample")
    settings.set("planner.temperature", float(sampling["temperature"]), "temperature")
    return settings.done()


def tap(root, data):
    space = {}
    text = (root / "config/vqvae.py").read_text().replace("from latentplan.utils import watch", "watch = lambda args: args")
    exec(compile(text, "config/vqvae.py", "exec"), space)
    own = space.get(data.replace("-", "_") + "_v2", {})
    train, plan = ({**space["base"][part], **own.get(part, {})} for part in ("train", "plan"))
    sources = "config/vqvae.py, scripts/train.py, scripts/trainprior.py, loco.sh"
    settings = Settings("tap", data, f"{COMMITS['tap']}: {sources}", train)
    # int(1e6 / windows * n_epochs_ref) epochs of ceil(windows / batch_size) updates, of the autoencoder and then of the prior.
    updates = int(1e6 * train["n_epochs_ref"] / train["batch_size"])
    settings.set("train.updates", 2 * updates, "1e6 * n_epochs_ref / batch_size, twice")
    settings.set("autoencoder_updates", updates, "1e6 * n_epochs_ref / batch_size")
    settings.set("evaluate.every_updates", 0, "plan.py plans with the last model")
    runs = re.search(r"for i in \{1\.\.(\d+)\}", (root / "loco.sh").read_text())
    settings.set("evaluate.episodes", int(runs[1]), "loco.sh: plans from each model")
    for ours, theirs in [("codes", "K"), ("code_width", "trajectory_embd"), ("latent_steps", "latent_step"), ("layers", "n_layer"),
                         ("heads", "n_head"), ("embedding_per_head", "n_embd"), ("dropout", "embd_pdrop"), ("discount", "discount"),
                         ("termination_penalty", "termination_penalty"), ("max_path_steps", "max_path_length"),
                         ("state_conditional", "state_conditional"), ("batch_size", "batch_size"), ("learning_rate", "learning_rate")]:  # fmt: skip
        settings.take(ours, theirs)
    settings.take("window_transitions", "subsampled_sequence_length", lambda length: length - 1)
    for name in ("position", "action", "reward", "value", "first_action", "sum_reward", "last_value"):
        settings.take(f"{name}_weight", f"{name}_weight")
    assert train["embd_pdrop"] == train["resid_pdrop"] == train["attn_pdrop"] and train["step"] == 1 and not train["lr_decay"]
    assert train["normalize"] and train["normalize_reward"] and train["ma_update"] and train["bottleneck"] == "pooling"
    # `masking` is of the other bottleneck, `residual` and `N` are read by nothing.
    settings.aside("resid_pdrop", "attn_pdrop", "step", "lr_decay", "normalize", "normalize_reward", "ma_update", "bottleneck", "masking",
                   "residual", "N", "model", "tag", "n_epochs_ref", "n_saves", "logbase", "exp_name", "suffix", "disable_goal")  # fmt: skip
    trainer = config_call(root / "scripts/train.py", "utils.VQTrainer")
    assert trainer == config_call(root / "scripts/trainprior.py", "utils.PriorTrainer") | {"savepath": trainer["savepath"]}
    settings.set("betas", list(trainer["betas"]), "betas")
    settings.set("clip_norm", trainer["grad_norm_clip"], "grad_norm_clip")
    settings.set("weight_decay", trainer["weight_decay"], "weight_decay")
    for ours, theirs in [("horizon", "horizon"), ("beam_width", "beam_width"), ("n_expand", "n_expand"), ("likelihood_threshold", "prob_threshold"),
                         ("likelihood_weight", "prob_weight"), ("plan_every_steps", "plan_freq")]:  # fmt: skip
        settings.set(f"planner.{ours}", plan[theirs], theirs)
    assert plan["test_planner"] == "beam_prior"
    return settings.done()


def config_call(path, target):
    """The keywords of utils.Config(target, ...)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "utils.Config" and ast.unparse(node.args[0]) == target:
            values = {}
            for keyword in node.keywords:
                try:
                    values[keyword.arg] = literal(keyword.value)
                except (ValueError, KeyError):
                    values[keyword.arg] = ast.unparse(keyword.value)
            return values
    raise KeyError(target)


def td3(root, data):
    settings = Settings("td3", data, f"{COMMITS['td3']}: main.py, TD3.py", parsed(root / "main.py"))
    for ours, theirs in [("train.updates", "max_timesteps"), ("evaluate.every_updates", "eval_freq"), ("batch_size", "batch_size"),
                         ("discount", "discount"), ("target_rate", "tau"), ("policy_noise", "policy_noise"), ("noise_clip", "noise_clip"),
                         ("policy_delay", "policy_freq")]:  # fmt: skip
        settings.take(ours, theirs, lambda value: int(value) if float(value).is_integer() else value)
    settings.set("evaluate.episodes", defaults(root / "main.py", "eval_policy")["eval_episodes"], "eval_episodes")
    rates = call(root / "TD3.py", "optim.Adam")
    settings.set("actor_learning_rate", rates["lr"], "torch.optim.Adam, lr")
    settings.set("critic_learning_rate", rates["lr"], "torch.optim.Adam, lr")
    settings.set("hidden", widths(root / "TD3.py", "Actor"), "Actor, Critic")
    # Of learning online.
    settings.aside("policy", "env", "start_timesteps", "expl_noise", "save_model", "load_model")
    return settings.done()


def sac(root, data):
    settings = Settings("sac", data, f"{COMMITS['sac']}: main.py, model.py", parsed(root / "main.py"))
    given = settings.given
    for ours, theirs in [("train.updates", "num_steps"), ("discount", "gamma"), ("target_rate", "tau"), ("batch_size", "batch_size"),
                         ("target_every", "target_update_interval"), ("initial_temperature", "alpha"),
                         ("automatic_temperature", "automatic_entropy_tuning")]:  # fmt: skip
        settings.take(ours, theirs)
    text = (root / "main.py").read_text()
    every, episodes = int(re.search(r"i_episode % (\d+) == 0", text)[1]), int(re.search(r"\n\s+episodes = (\d+)", text)[1])
    settings.set("evaluate.every_updates", 1000 * every, "every so many episodes of 1000 steps")
    settings.set("evaluate.episodes", episodes, "episodes")
    for kind in ("actor", "critic", "temperature"):
        settings.set(f"{kind}_learning_rate", given["lr"], "lr")
    settings.set("hidden", [given["hidden_size"]] * 2, "hidden_size")
    model = root / "model.py"
    settings.set("log_std_range", [float(assigned(model, "LOG_SIG_MIN")), float(assigned(model, "LOG_SIG_MAX"))], "LOG_SIG_MIN, LOG_SIG_MAX")
    assert given["updates_per_step"] == 1 and given["policy"] == "Gaussian"
    settings.aside("env_name", "policy", "eval", "lr", "hidden_size", "updates_per_step", "start_steps", "replay_size", "cuda")
    return settings.done()


# ---- the schedule of the Trajectory Transformer


def schedule(root):
    """Factors of the rate that the authors' trainer sets after each update, on data of several sizes, with a model that does nothing."""
    import authors

    authors.import_trajectory_transformer(root)
    import torch
    from trajectory.utils.training import Trainer

    class Nothing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.factors = []

        def configure_optimizers(self, config):
            self.optimizer = torch.optim.SGD([self.weight], lr=config.learning_rate)
            return self.optimizer

        def forward(self, x, y, mask):
            return None, self.weight.sum()

    found = []
    for windows, batch, tokens in [(64, 8, 3), (100, 8, 3), (33, 16, 2), (5, 8, 4)]:
        class Data(torch.utils.data.Dataset):
            N = 100

            def __len__(self):
                return windows

            def __getitem__(self, index):
                return torch.zeros(tokens), torch.zeros(tokens), torch.ones(tokens)

        data, model = Data(), Nothing()
        # As scripts/train.py has it.
        warmup_tokens = len(data) * tokens
        config = types.SimpleNamespace(
            device="cpu", batch_size=batch, learning_rate=1.0, betas=(0.9, 0.95), grad_norm_clip=1.0, weight_decay=0.1, lr_decay=True,
            warmup_tokens=warmup_tokens, final_tokens=20 * warmup_tokens, num_workers=0,
        )  # fmt: skip
        trainer, factors = Trainer(config), []
        for _ in range(50):
            trainer.train(model, data)
            factors.append(model.optimizer.param_groups[0]["lr"])
        found.append({"windows": windows, "batch_size": batch, "factor_after_epoch": factors})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in COMMITS:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, help=COMMITS[name])
    roots = parser.parse_args()
    mazes = LOCOMOTION + ANTMAZE + MAZE2D
    found = {}
    for data in mazes:
        found[f"td3_bc/{data}"] = td3_bc(roots.corl, data)
        found[f"bc/{data}"] = bc(roots.corl, data)
        found[f"bc_10/{data}"] = bc(roots.corl, data, tenth=True)
        found[f"awac/{data}"] = awac(roots.corl, data)
        found[f"iql/{data}"] = iql(roots.corl, data)
        found[f"cql/{data}"] = cql(roots.corl, data)
        found[f"sac_n/{data}"] = ensemble(roots.corl, "sac_n", data)
        found[f"edac/{data}"] = ensemble(roots.corl, "edac", data)
        found[f"rebrac/{data}"] = rebrac(roots.corl, roots.rebrac, data)
    found["bc/hopper-expert"] = bc(roots.corl, "hopper-expert")
    for data in ANTMAZE:
        found[f"cql/calibrated-{data}"] = cql(roots.corl, data, roots.d4rl)
    for data in LOCOMOTION + ANTMAZE:
        found[f"sac_rnd/{data}"] = sac_rnd(roots.sac_rnd, data)
    for data in LOCOMOTION:
        found[f"bear/{data}"] = d3rlpy(roots.d3rlpy, "bear", data)
        found[f"crr/{data}"] = d3rlpy(roots.d3rlpy, "crr", data)
        found[f"brac/{data}"] = brac(roots.brac, data)
        found[f"td3/{data}"] = td3(roots.td3, data)
        found[f"sac/{data}"] = sac(roots.sac, data)
        found[f"tap/{data}"] = tap(roots.tap, data)
        found[f"trajectory_transformer/{data}"] = trajectory_transformer(roots.tt, data)
    for data in LOCOMOTION + ["hopper-expert", "halfcheetah-expert", "walker2d-expert"]:
        found[f"decision_transformer/{data}"] = decision_transformer(roots.dt, data)
    for data in LOCOMOTION + MAZE2D:
        found[f"qt/{data}"] = qt(roots.qt, data)
        found[f"reinformer/{data}"] = reinformer(roots.reinformer, data)
    for data in [name for name in LOCOMOTION if not name.endswith("expert")]:
        found[f"online_dt/{data}"] = online_dt(roots.online_dt, data)
    for data in ["hopper-medium", "halfcheetah-medium", "walker2d-medium", "kitchen-complete", "kitchen-partial"]:
        found[f"lamo/{data}"] = lamo(roots.lamo, data)
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    text = '{"settings": {\n' + ",\n".join(lines) + '\n}, "schedule": ' + json.dumps(schedule(roots.tt)) + "}\n"
    json.loads(text)
    path = HERE / "settings.json"
    path.write_text(text)
    print(f"{path.name}: {len(found)} configurations, {len(text) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
