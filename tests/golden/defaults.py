"""The references' own default settings, read from their code: defaults.json.

python tests/golden/defaults.py --authors DIR   (DIR holds the checkouts CORL, CALQL, D3RLPY, TD3, SAC, SAC_RND, D4RL_EVALUATIONS, DT, TT,
LATENTPLAN and LAMO at the commits of README.md)

ALGORITHM.KEY is a value where it stands there: `TrainConfig.discount` a field of a class, `Actor.min_log_std` an argument with a default,
`main.py.--tau` an argument of a program, `yaml.gamma` an entry of one of their configuration files, which stands in `yaml.`;
`reproduction.` what their script gives a class; `hidden.NETWORK` the widths of the layers of a network that they build.
Files are parsed rather than run, but for networks. Infinity is null. tests/it/defaults.rs compares our structs with these, key by key.
"""

import ast
import importlib.util
import json
import math
import sys

import authors
import numpy as np
import torch
import yaml

SIZES = 5, 3


def value(node):
    """What an expression is worth that needs nothing but numbers; None of None is told apart from failing."""
    allowed = {"np": np, "int": int, "float": float, "None": None, "True": True, "False": False}
    return eval(compile(ast.Expression(node), "", "eval"), {"__builtins__": {}}, allowed)


def plain(found):
    if isinstance(found, float) and math.isinf(found):
        return None
    if isinstance(found, (list, tuple)):
        return [plain(one) for one in found]
    return found


def put(out, name, node):
    try:
        out[name] = plain(value(node))
    except Exception:
        pass  # not a number, a word, or a list of them


def parsed(path):
    return ast.parse(path.read_text())


def named(tree, kind, name):
    return next(node for node in ast.walk(tree) if isinstance(node, kind) and node.name == name)


def fields(path, name, prefix=None):
    """Of a class with annotated fields."""
    out = {}
    for node in named(parsed(path), ast.ClassDef, name).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            put(out, f"{prefix or name}.{node.target.id}", node.value)
    return out


def signature(path, name, function="__init__", prefix=None):
    """Arguments with defaults of a class's function, or of a function."""
    tree = parsed(path)
    if function:
        tree = named(tree, ast.ClassDef, name)
    arguments = named(tree, ast.FunctionDef, function or name).args
    out = {}
    for argument, default in zip(arguments.args[len(arguments.args) - len(arguments.defaults) :], arguments.defaults):
        put(out, f"{prefix or name}.{argument.arg}", default)
    return out


def constants(path):
    """Of a module."""
    out = {}
    for node in parsed(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            put(out, f"{path.name}.{node.targets[0].id}", node.value)
    return out


def program(path):
    """Arguments of a program (argparse, absl)."""
    out = {}
    for call in [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]:
        method = getattr(call.func, "attr", "")
        if method == "add_argument":
            for keyword in call.keywords:
                if keyword.arg == "default":
                    put(out, f"{path.name}.{value(call.args[0])}", keyword.value)
        elif method.startswith("DEFINE_"):
            put(out, f"{path.name}.--{value(call.args[0])}", call.args[1])
    return out


def keywords(path, function, prefix):
    """What a script gives a function, or assigns to names in it."""
    out = {}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == function:
            for keyword in node.keywords:
                put(out, f"{prefix}.{keyword.arg}", keyword.value)
    return out


def assignments(path, function):
    out = {}
    for node in ast.walk(named(parsed(path), ast.FunctionDef, function)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            put(out, f"{function}.{node.targets[0].id}", node.value)
    return out


def shell(path):
    """name=value lines of a script."""
    rows = [line.strip().split("=", 1) for line in path.read_text().splitlines()]
    out = {}
    for name, text in [row for row in rows if len(row) == 2 and row[0].isidentifier()]:
        try:
            out[f"{path.name}.{name}"] = float(text)
        except ValueError:
            pass
    return out


def yaml_file(path, root):
    found = {f"yaml.{key}": plain(entry) for key, entry in yaml.safe_load(path.read_text()).items()}
    # YAML 1.1 takes 5e-3 for a word.
    number = lambda entry: float(entry) if isinstance(entry, str) and entry[:1].isdigit() and "e-" in entry else entry
    return {key: number(entry) for key, entry in found.items()} | {"yaml.": str(path.relative_to(root))}


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def widths(module):
    """Of the hidden layers of a network without branches but at its end."""
    linears = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    sizes = [layer.out_features for layer in linears]
    heads = sum(layer.in_features == linears[-1].in_features and layer.out_features == sizes[-1] for layer in linears)
    return sizes[: len(sizes) - heads]


def corl(root):
    offline, out = root / "CORL" / "algorithms" / "offline", {}
    config = lambda *parts: yaml_file((root / "CORL" / "configs").joinpath(*parts), root / "CORL")
    for name in ("td3_bc", "iql", "awac", "cql", "sac_n", "edac"):
        out[name] = fields(offline / f"{name}.py", "TrainConfig") | config("offline", name, "hopper", "medium_v2.yaml")
    out["bc"] = fields(offline / "any_percent_bc.py", "TrainConfig") | config("offline", "bc", "hopper", "medium_v2.yaml")
    out["rebrac"] = fields(offline / "rebrac.py", "Config") | config("offline", "rebrac", "hopper", "medium_v2.yaml")
    for name, file in (("td3_bc", "td3_bc"), ("bc", "any_percent_bc")):
        out[name] |= keywords(offline / f"{file}.py", "Adam", "Adam")
    out["iql"] |= constants(offline / "iql.py")
    out["awac"] |= signature(offline / "awac.py", "Actor") | signature(offline / "awac.py", "AdvantageWeightedActorCritic")
    out["cql"] |= signature(offline / "cql.py", "ReparameterizedTanhGaussian") | signature(offline / "cql.py", "TanhGaussianPolicy")
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb", "tqdm")
    modules = {name: load(offline / f"{name}.py", f"corl_{name}") for name in ("td3_bc", "iql", "awac", "cql", "sac_n", "edac", "any_percent_bc")}
    width = out["awac"]["TrainConfig.hidden_dim"]
    built = {
        "td3_bc": {"actor": modules["td3_bc"].Actor(*SIZES, 1.0), "critics": modules["td3_bc"].Critic(*SIZES)},
        "bc": {"actor": modules["any_percent_bc"].Actor(*SIZES, 1.0)},
        "iql": {
            "actor": modules["iql"].GaussianPolicy(*SIZES, 1.0), "critics": modules["iql"].TwinQ(*SIZES).q1,
            "value": modules["iql"].ValueFunction(SIZES[0]),
        },
        "awac": {"actor": modules["awac"].Actor(*SIZES, width), "critics": modules["awac"].Critic(*SIZES, width)},
        "cql": {"actor": modules["cql"].TanhGaussianPolicy(*SIZES, 1.0), "critics": modules["cql"].FullyConnectedQFunction(*SIZES)},
        "sac_n": {"actor": modules["sac_n"].Actor(*SIZES, out["sac_n"]["TrainConfig.hidden_dim"])},
        "edac": {"actor": modules["edac"].Actor(*SIZES, out["edac"]["TrainConfig.hidden_dim"])},
    }  # fmt: skip
    for name, networks in built.items():
        out[name] |= {f"hidden.{network}": widths(module) for network, module in networks.items()}
    for name in ("sac_n", "edac"):
        critic = modules[name].VectorizedCritic(*SIZES, out[name]["TrainConfig.hidden_dim"], 2)
        out[name]["hidden.critics"] = [layer.out_features for layer in critic.critic[::2]][:-1]
    rebrac = out["rebrac"]
    for network in ("actor", "critic"):
        rebrac[f"hidden.{network}"] = [rebrac["Config.hidden_dim"]] * rebrac[f"Config.{network}_n_hiddens"]
    return out


def d3rlpy(root):
    import d3rlpy_reference as reference

    folder, out = root / "D3RLPY", {}
    for name, kind in (("crr", "CRRConfig"), ("bear", "BEARConfig")):
        script = folder / "reproductions" / "offline" / f"{name}.py"
        out[name] = fields(folder / "d3rlpy" / "algos" / "qlearning" / f"{name}.py", kind)
        out[name] |= keywords(script, kind, "reproduction")
        out[name] |= signature(folder / "d3rlpy" / "models" / "builders.py", "create_normal_policy", None)
    del sys.modules["tqdm"]  # d3rlpy uses the package itself
    reference.load(folder)
    from d3rlpy.models.builders import create_normal_policy
    from d3rlpy.models.encoders import DefaultEncoderFactory

    policy = create_normal_policy((SIZES[0],), SIZES[1], DefaultEncoderFactory(), **reference.OPTIONS)
    sizes = [layer.out_features for layer in reference.linears(policy)][:-2]
    for name in out:
        out[name]["hidden.actor"] = sizes
    (call,) = [
        node for node in ast.walk(parsed(folder / "reproductions" / "offline" / "bear.py"))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "VectorEncoderFactory"
    ]  # fmt: skip
    out["bear"]["hidden.vae"] = value(call.args[0])
    return out


def td3(root):
    module = load(root / "TD3" / "TD3.py", "authors_td3")
    agent = module.TD3(*SIZES, 1.0)
    out = program(root / "TD3" / "main.py")
    for name in ("actor", "critic"):
        out[f"{name}_optimizer.lr"] = getattr(agent, f"{name}_optimizer").param_groups[0]["lr"]
    out["hidden.actor"] = widths(agent.actor)
    out["hidden.critic"] = [agent.critic.l1.out_features, agent.critic.l2.out_features]
    return {"td3": out}


def sac(root):
    out = program(root / "SAC" / "main.py") | constants(root / "SAC" / "model.py")
    model = load(root / "SAC" / "model.py", "authors_sac_model")
    policy = model.GaussianPolicy(*SIZES, out["main.py.--hidden_size"])
    out["hidden.actor"] = [policy.linear1.out_features, policy.linear2.out_features]
    return {"sac": out}


def sac_rnd(root):
    folder = root / "SAC_RND"
    out = fields(folder / "offline_sac" / "algorithms" / "sac_rnd_betas.py", "Config")
    out |= yaml_file(folder / "configs" / "sac-rnd" / "hopper" / "hopper_medium.yaml", folder)
    layers = [
        node for node in ast.walk(named(parsed(folder / "offline_sac" / "networks.py"), ast.ClassDef, "Actor"))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "Dense"
        and getattr(node.args[0], "attr", "") == "hidden_dim"
    ]  # fmt: skip
    out["hidden.actor"] = [out["Config.hidden_dim"]] * len(layers)
    return {"sac_rnd": out}


def brac(root):
    folder = root / "D4RL_EVALUATIONS" / "brac"
    package = folder / "behavior_regularized_offline_rl" / "brac"
    script = folder / "scripts" / "train_brac.py"
    out = program(script) | assignments(script, "train_bc") | assignments(script, "main")
    out |= signature(package / "brac_primal_agent.py", "Agent") | signature(package / "bc_agent.py", "Agent", prefix="bc.Agent")
    out |= signature(package / "agent.py", "Agent", prefix="agent.Agent")
    out |= signature(package / "train_eval_offline.py", "train_eval_offline", None)
    out |= signature(package / "policies.py", "MaxQSoftPolicy")
    # ((critics, actor), N) and the rates of critics, actor and penalty; (actor,) and its rate.
    (critics, actor), _ = out["main.model_arch"]
    out |= {"main.model_arch.critics": critics, "main.model_arch.actor": actor, "train_bc.model_arch.actor": out["train_bc.model_arch"][0]}
    for function in ("main", "train_bc"):
        out |= {f"{function}.opt_params.{i}": rate for i, (_, rate) in enumerate(out[f"{function}.opt_params"])}
    return {"brac": out}


def sequences(root):
    def base(path):
        (table,) = [node.value for node in parsed(path).body if isinstance(node, ast.Assign) and node.targets[0].id == "base"]
        out = {}
        for part, entries in zip(table.keys, table.values):
            for key, entry in zip(entries.keys, entries.values):
                put(out, f"{value(part)}.{value(key)}", entry)
        return out

    trajectory = base(root / "TT" / "config" / "offline.py")
    trajectory |= signature(root / "TT" / "trajectory" / "utils" / "training.py", "Trainer")
    lamo = root / "LAMO" / "experiment-d4rl"
    return {
        "decision_transformer": program(root / "DT" / "gym" / "experiment.py"),
        "tap": base(root / "LATENTPLAN" / "config" / "vqvae.py"),
        "trajectory_transformer": trajectory,
        "lamo": program(lamo / "experiment.py") | shell(lamo / "run.sh"),
    }


if __name__ == "__main__":
    root = authors.arguments(__doc__).authors
    torch.set_default_dtype(torch.float32)
    out = {}
    for family in (corl, d3rlpy, td3, sac, sac_rnd, brac, sequences):
        out |= family(root)
    for name, found in out.items():
        print(name, len(found))
    (authors.HERE / "defaults.json").write_text(json.dumps(out, indent=1, sort_keys=True) + "\n")
