"""How the references of all value-based methods draw the first values of their networks: initial_values.json.

python tests/golden/initial_values.py --authors DIR   (DIR holds the checkouts CORL, EDAC, CALQL, D3RLPY, TD3, SAC, SAC_RND
and D4RL_EVALUATIONS at the commits of README.md; needs what rebrac.py, sac_rnd.py, crr.py and brac.py need)

Every network is built by its reference's own classes under many seeds; nothing of it is changed but the width of hidden layers, 16
instead of 256. Observation 5, action 3, N = 2 critics; fan-ins and fan-outs are all different. The numbers of each tensor, under our names
and in our layout (value_based.py), are put together over the seeds.

CASES.NAME.NETWORK.PARAM:
* `shape` of one tensor, `numbers` how many in all, `mean`, `deviation`, `smallest`, `largest`, `zeros` (the share of exact zeros),
  `quantiles` at LEVELS;
* `family`: `constant`; `orthogonal`, of each tensor's trailing matrices, with its `gain`: the rows or columns, whichever are fewer, are
  orthogonal and as long as the gain; `uniform` around 0; else `other`. For the reader, but for `constant` and `orthogonal`.

`sac_n` and `edac` are the authors' (snu-mllab/EDAC), `sac_n_corl` and `edac_corl` CORL's; `cql` is CORL's, with `orthogonal_init`;
`cql_plain` CORL's without it, with five hidden layers in the first critic and a factor 0.7 of log deviations; `cal_ql` that of Cal-QL's
authors, orthogonal too.
"""

import importlib
import importlib.util
import json
import os
import re
import sys
from functools import partial

sys.modules["triton"] = None  # its LLVM and that of TensorFlow do not go together
os.environ |= {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import actor_critic_runs as runs
import authors
import numpy as np
import torch
import value_based as common

OBSERVATION, ACTION, WIDTH = common.OBSERVATION_DIM, common.ACTION_DIM, common.WIDTH
LEVELS = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
SEEDS = 1000
itself = lambda parameter: parameter.detach()


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def narrow(module):
    """The module's linear layers get WIDTH units instead of 256."""
    width = lambda size: WIDTH if size == 256 else size

    class Linear(torch.nn.Linear):
        def __init__(self, inputs, outputs):
            super().__init__(width(inputs), width(outputs))

    module.nn = authors.Shim(torch.nn, Linear=Linear)
    return module


def td3(folder):
    module = narrow(load(folder / "TD3" / "TD3.py", "authors_td3"))
    layers = lambda network, first: [getattr(network, f"l{first + i}") for i in range(3)]

    def build(_):
        trainer = module.TD3(OBSERVATION, ACTION, 1.0)
        critics = runs.separate_critics([layers(trainer.critic, 1), layers(trainer.critic, 4)])
        return {"actor": runs.mlp(layers(trainer.actor, 1)), "critics": critics}

    return {"td3": build}


def sac(folder):
    sys.path.insert(0, str(folder / "SAC"))
    model = load(folder / "SAC" / "model.py", "authors_sac_model")
    layers = lambda network, first: [getattr(network, f"linear{first + i}") for i in range(3)]

    def build(_):
        policy, critic = model.GaussianPolicy(OBSERVATION, ACTION, WIDTH), model.QNetwork(OBSERVATION, ACTION, WIDTH)
        heads = policy.mean_linear, policy.log_std_linear
        return {
            "actor": runs.mlp([policy.linear1, policy.linear2, heads]),
            "critics": runs.separate_critics([layers(critic, 1), layers(critic, 4)]),
        }

    return {"sac": build}


def corl(folder):
    folder = folder / "CORL"
    sizes = OBSERVATION, ACTION
    modules = {name: common.load_corl(folder, name) for name in ("td3_bc", "any_percent_bc", "iql", "awac", "cql")}
    ensembles = {name: importlib.import_module("ensemble_runs").load(folder, name) for name in ("sac_n", "edac")}
    critics = lambda members, prefix: common.ensemble([common.perceptron(m, prefix, value=itself) for m in members])

    def td3_bc(_):
        module = modules["td3_bc"]
        actor, members = module.Actor(*sizes, 1.0), [module.Critic(*sizes) for _ in range(2)]
        return {"actor": common.perceptron(actor, "net", value=itself), "critics": critics(members, "net")}

    def bc(_):
        return {"actor": common.perceptron(modules["any_percent_bc"].Actor(*sizes, 1.0), "net", value=itself)}

    def iql(deterministic):
        module = modules["iql"]
        kind = module.DeterministicPolicy if deterministic else module.GaussianPolicy
        actor, q, v = kind(*sizes, 1.0), module.TwinQ(*sizes), module.ValueFunction(OBSERVATION)
        return {
            "actor": common.perceptron(actor, "net.net", {"log_std": "log_std"}, itself),
            "critics": critics([q.q1, q.q2], "net"), "value": common.perceptron(v.v, "net", value=itself),
        }  # fmt: skip

    def awac(_):
        module = modules["awac"]
        actor, members = module.Actor(*sizes, WIDTH), [module.Critic(*sizes, WIDTH) for _ in range(2)]
        return {"actor": common.perceptron(actor, "_mlp", {"_log_std": "log_std"}, itself), "critics": critics(members, "_mlp")}

    def cql(orthogonal, scale, layers):
        module = modules["cql"]
        actor = module.TanhGaussianPolicy(*sizes, 1.0, log_std_multiplier=scale, orthogonal_init=orthogonal)
        members = [module.FullyConnectedQFunction(*sizes, orthogonal, layers) for _ in range(2)]
        names = {"log_std_multiplier.constant": "log_std_scale", "log_std_offset.constant": "log_std_shift"}
        return {"actor": common.perceptron(actor, "base_network", names, itself), "critics": critics(members, "network")}

    def ensemble(module):
        actor, critic = module.Actor(*sizes, WIDTH), module.VectorizedCritic(*sizes, WIDTH, 2)
        return {
            "actor": runs.mlp([*actor.trunk[::2], (actor.mu, actor.log_sigma)]),
            "critics": runs.vectorized_critics(critic.critic[::2]),
        }

    return {
        "td3_bc": td3_bc, "bc": bc, "iql": lambda _: iql(False), "iql_deterministic": lambda _: iql(True), "awac": awac,
        "cql": lambda _: cql(True, 1.0, 3), "cql_plain": lambda _: cql(False, 0.7, 5),
        "sac_n_corl": lambda _: ensemble(ensembles["sac_n"]), "edac_corl": lambda _: ensemble(ensembles["edac"]),
    }  # fmt: skip


def edac(folder):
    """One program runs SAC-N and EDAC, whose eta is 0 for the first."""
    authors.stand_in("gtimer")
    sys.path.insert(0, str(folder / "EDAC"))
    from lifelong_rl.models.networks import ParallelizedEnsembleFlattenMLP
    from lifelong_rl.policies.models.tanh_gaussian_policy import TanhGaussianPolicy

    def build(_):
        hidden = [WIDTH] * 3
        critic = ParallelizedEnsembleFlattenMLP(
            ensemble_size=2, hidden_sizes=hidden, input_size=OBSERVATION + ACTION, output_size=1, layer_norm=None
        )
        policy = TanhGaussianPolicy(obs_dim=OBSERVATION, action_dim=ACTION, hidden_sizes=hidden, layer_norm=None)
        critics = {}
        for number, layer in enumerate([*critic.fcs, critic.last_fc]):
            critics |= {f"net.{2 * number}.weight": layer.W, f"net.{2 * number}.bias": layer.b}
        return {"actor": runs.mlp([*policy.fcs, (policy.last_fc, policy.last_fc_log_std)]), "critics": critics}

    return {"sac_n": build, "edac": build}


def d3rlpy(folder):
    import d3rlpy_reference as reference

    reference.load(folder / "D3RLPY")
    from d3rlpy.models.builders import create_normal_policy, create_vae_decoder, create_vae_encoder

    sizes = (OBSERVATION,), ACTION

    def crr(_):
        policy, (critics, _) = create_normal_policy(*sizes, reference.encoder(), **reference.OPTIONS), reference.make_critics()
        return {"actor": reference.two_headed(policy, itself), "critics": reference.critics(critics, itself)}

    def bear(_):
        latent = (*sizes, 2 * ACTION, reference.encoder(), "cpu", False)
        encoder, decoder = create_vae_encoder(*latent), create_vae_decoder(*latent)
        parts = {"encoder": reference.two_headed(encoder, itself)}
        parts["decoder"] = reference.perceptron(reference.linears(decoder), itself)
        vae = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        return crr(None) | {"vae": vae}

    return {"crr": crr, "bear": bear}


def jax_networks(folder):
    import flax_networks as flax
    import jax

    del sys.modules["tqdm"]  # rebrac.py uses the package itself
    corl = flax.load(folder / "CORL" / "algorithms" / "offline" / "rebrac.py", "corl_rebrac")
    sys.path.insert(0, str(folder / "SAC_RND"))
    sac_rnd = importlib.import_module("sac_rnd")
    from offline_sac.networks import RND, Actor, EnsembleCritic

    sys.path.insert(0, str(folder / "CALQL"))
    authors.stand_in("ml_collections", "ml_collections.config_dict", "cloudpickle")
    cal_ql = importlib.import_module("JaxCQL.model")
    observation, action = np.zeros((1, OBSERVATION)), np.zeros((1, ACTION))
    mean = np.zeros(1)
    first = {
        "rebrac_actor": partial(corl.DetActor(ACTION, WIDTH, True, 3).init, state=observation),
        "rebrac_critics": partial(corl.EnsembleCritic(WIDTH, 2, True, 3).init, state=observation, action=action),
        "actor": partial(Actor(action_dim=ACTION, hidden_dim=WIDTH).init, state=observation),
        "critics": partial(EnsembleCritic(WIDTH, 2, True).init, state=observation, action=action),
        "rnd": partial(
            RND(
                hidden_dim=WIDTH, embedding_dim=8, state_mean=mean, state_std=mean + 1, action_mean=mean,
                action_std=mean + 1, mlp_type="torch_bilinear_first", target_mlp_type="film_last", switch_features=True,
            ).init,
            state=observation, action=action,
        ),
        "cal_ql_actor": lambda key: cal_ql.TanhGaussianPolicy(OBSERVATION, ACTION, f"{WIDTH}-{WIDTH}", True).init(
            {"params": key, "noise": key}, observation
        ),
        "cal_ql_critic": lambda key: cal_ql.FullyConnectedQFunction(OBSERVATION, ACTION, f"{WIDTH}-{WIDTH}", True).init(
            key, observation, action
        ),
    }  # fmt: skip
    first = {name: jax.jit(init) for name, init in first.items()}
    tree = lambda name, seed: jax.tree.map(np.asarray, first[name](jax.random.PRNGKey(seed)))

    def rebrac_actor(seed):
        params = tree("rebrac_actor", seed)["params"]
        return flax.mlp(flax.numbered(params, "Dense"), flax.numbered(params, "LayerNorm"))

    def rebrac(seed):
        return {"actor": rebrac_actor(seed), "critics": flax.critics(tree("rebrac_critics", seed))}

    def of_sac_rnd(seed):
        predictor, target = sac_rnd.rnd_parameters(tree("rnd", seed))
        return {
            "actor": sac_rnd.actor_parameters(tree("actor", seed)), "critics": flax.critics(tree("critics", seed)),
            "rnd_predictor": predictor, "rnd_target": target,
        }  # fmt: skip

    def fully_connected(params):
        return flax.mlp(flax.numbered(params["FullyConnectedNetwork_0"], "Dense"))

    def of_cal_ql(seed):
        policy = tree("cal_ql_actor", seed)["params"]
        actor = flax.mlp(flax.numbered(policy["base_network"], "Dense"))
        scalars = {"scale": "log_std_multiplier_module", "shift": "log_std_offset_module"}
        actor |= {f"log_std_{ours}": np.reshape(policy[theirs]["value"], 1) for ours, theirs in scalars.items()}
        members = [fully_connected(tree("cal_ql_critic", 2 * seed + i)["params"]) for i in range(2)]
        return {"actor": actor, "critics": common.ensemble(members)}

    return {"rebrac": rebrac, "sac_rnd": of_sac_rnd, "cal_ql": of_cal_ql}


def brac(folder):
    reference = importlib.import_module("brac")
    import tensorflow.compat.v1 as tf

    reference.load(folder / "D4RL_EVALUATIONS")
    from behavior_regularized_offline_rl.brac import networks

    states = tf.zeros([1, OBSERVATION], tf.float64)
    actions = tf.zeros([1, ACTION], tf.float64)

    def build(seed):
        tf.set_random_seed(seed)
        actor = networks.ActorNetwork(reference.Specification(), (WIDTH, WIDTH))
        behavior = networks.ActorNetwork(reference.Specification(), (WIDTH, WIDTH))
        members = [networks.CriticNetwork((WIDTH, WIDTH)) for _ in range(2)]
        for network, inputs in ((actor, (states,)), (behavior, (states,)), *[(q, (states, actions)) for q in members]):
            network(*inputs)
        perceptron = lambda network: reference.perceptron(reference.layers(network))
        critics = common.ensemble([perceptron(q) for q in members])
        return {"actor": perceptron(actor), "behavior": perceptron(behavior), "critics": critics}

    return {"brac": build}


def matrices(value):
    return np.reshape(value, (-1, *value.shape[-2:])) if value.ndim >= 2 else []


def gain(values):
    """The gain of orthogonal matrices, or None if they are not: the same for all."""
    gains = []
    for matrix in [matrix for value in values[:5] for matrix in matrices(value)]:
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        square = np.trace(gram) / len(gram)
        if np.abs(gram - square * np.eye(len(gram))).max() > 1e-4 * square:
            return None
        gains.append(np.sqrt(square))
    return np.mean(gains) if gains and np.ptp(gains) < 1e-4 * gains[0] else None


def described(values):
    """What the JSON holds of one tensor's values under all seeds."""
    flat = np.sort(np.concatenate([value.reshape(-1) for value in values]))
    out = {
        "shape": list(values[0].shape), "numbers": len(flat), "mean": flat.mean(), "deviation": flat.std(), "smallest": flat[0],
        "largest": flat[-1], "zeros": float((flat == 0).mean()), "quantiles": list(np.quantile(flat, LEVELS)),
    }  # fmt: skip
    known = gain(values)
    expected = (flat + flat[-1]) / (2 * flat[-1]) if flat[-1] else flat
    distance = np.abs(expected - np.linspace(0, 1, len(flat))).max()
    if flat[0] == flat[-1]:
        out["family"] = "constant"
    elif known is not None:
        out |= {"family": "orthogonal", "gain": known}
    else:
        out["family"] = "uniform" if distance < 2.0 / np.sqrt(len(flat)) else "other"
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in out.items()} | {
        "quantiles": [float(f"{value:.6g}") for value in out["quantiles"]]
    }


def number(value):
    return np.asarray(value.detach().numpy() if torch.is_tensor(value) else value, np.float64)


def collect(build):
    tensors = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        for network, parameters in build(seed).items():
            for name, value in parameters.items():
                value = value(itself) if callable(value) else value
                tensors.setdefault(network, {}).setdefault(name, []).append(number(value))
    return {
        network: {name: described(values) for name, values in sorted(named.items())} for network, named in tensors.items()
    }


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    cases = {}
    for family in (td3, sac, corl, edac, jax_networks, d3rlpy, brac):
        for name, build in family(args.authors).items():
            cases[name] = collect(build)
            print(name, {n: {k: (v["family"], v.get("gain", v["largest"])) for k, v in p.items()} for n, p in cases[name].items()}, flush=True)
    out = {"levels": LEVELS, "seeds": SEEDS, "observation_dim": OBSERVATION, "action_dim": ACTION, "hidden": WIDTH, "cases": cases}
    text = json.dumps(out, indent=1, sort_keys=True)
    # One line for each tensor.
    text = re.sub(r"\{\n\s+(\"deviation\"[^{}]*?)\n\s+\}", lambda m: "{" + re.sub(r"\s*\n\s*", " ", m[1]) + "}", text)
    (authors.HERE / "initial_values.json").write_text(text + "\n")
