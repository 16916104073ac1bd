"""How the references of value-based methods act, with recorded draws: acting.safetensors.

python tests/golden/acting.py --authors DIR   (DIR and the packages as for initial_values.py)

Single networks are built by the reference's own classes, 16 units wide and all numbers moved by noise; its own acting code then
answers. E = 16 observations.

METHOD.:
* `start.NETWORK.PARAM`: parameters in the layout of value_based.py; `observations` [E, 5], `action` [E, 3] what it answers in evaluation.
* of methods that draw S candidates: `normals` [S, E, 3] the standard normals, `candidates` [S, E, 3], `values` [S, E] what the choice
  looks at. `bear`: S = 100, d3rlpy's BEARImpl. `brac`: S = 10, the authors' MaxQSoftPolicy. `crr`, `crr_one` (two critics and one):
  S = 4, d3rlpy's CRRImpl; `uniforms` [S, E]: u = exp(-q) of the exponentials q that torch.multinomial takes the largest p / q with. No choice is
  closer than 1e-4, in the logarithm of p / q.
* `METHOD.mean` of `brac` (the authors' DeterministicSoftPolicy) and `crr` (the policy's mean).

AWAC's mean is not clipped by CORL, where the environment does it; some of these are beyond 1.
"""

import importlib
import os
import sys

sys.modules["triton"] = None  # its LLVM and that of TensorFlow do not go together
os.environ |= {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import argparse

import actor_critic_runs as runs
import authors
import initial_values as networks
import numpy as np
import torch
import value_based as common
from initial_values import ACTION, OBSERVATION, WIDTH, itself

EPISODES = 16
SIZES = OBSERVATION, ACTION
MARGIN = 1e-4


def moved(module):
    """The same network in float64, all its numbers moved; evaluates."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return module


def of_layout(layout):
    return {name: value(itself) if callable(value) else value for name, value in layout.items()}


class Out:
    def __init__(self, observations):
        self.observations, self.tensors = observations, {}

    def put(self, method, parameters, action, **more):
        for network, named in parameters.items():
            self.tensors |= {f"{method}.start.{network}.{name}": value for name, value in of_layout(named).items()}
        action = np.asarray(action)
        assert action.shape == (EPISODES, ACTION) and np.ptp(action) > 0.2, method
        self.tensors |= {f"{method}.observations": self.observations, f"{method}.action": action}
        self.tensors |= {f"{method}.{name}": value for name, value in more.items()}
        print(method, np.round(action[0], 3))

    def one_by_one(self, act):
        with torch.no_grad():
            return np.stack([np.asarray(act(row)).reshape(-1) for row in self.observations.numpy()])


def td3(folder, out):
    module = networks.narrow(networks.load(folder / "TD3" / "TD3.py", "authors_td3"))
    module.torch = authors.Shim(torch, FloatTensor=torch.as_tensor)
    trainer = module.TD3(*SIZES, 1.0)
    moved(trainer.actor)
    actor = runs.mlp([trainer.actor.l1, trainer.actor.l2, trainer.actor.l3])
    out.put("td3", {"actor": actor}, out.one_by_one(trainer.select_action))


def sac(folder, out):
    sys.path.insert(0, str(folder / "SAC"))
    import model
    import sac as theirs

    model.torch = theirs.torch = authors.Shim(torch, FloatTensor=torch.as_tensor)
    space = argparse.Namespace(shape=(ACTION,), high=np.ones(ACTION), low=-np.ones(ACTION))
    options = argparse.Namespace(
        gamma=0.99, tau=0.005, alpha=0.2, policy="Gaussian", target_update_interval=1, cuda=False, hidden_size=WIDTH,
        automatic_entropy_tuning=False, lr=3e-4,
    )  # fmt: skip
    agent = theirs.SAC(OBSERVATION, space, options)
    policy = moved(agent.policy)
    actor = runs.mlp([policy.linear1, policy.linear2, (policy.mean_linear, policy.log_std_linear)])
    out.put("sac", {"actor": actor}, out.one_by_one(lambda row: agent.select_action(row, evaluate=True)))


def corl(folder, out):
    folder = folder / "CORL"
    modules = {name: common.load_corl(folder, name) for name in ("td3_bc", "any_percent_bc", "iql", "awac", "cql")}
    modules |= {name: importlib.import_module("ensemble_runs").load(folder, name) for name in ("sac_n", "edac")}
    for module in modules.values():
        module.torch = authors.Shim(torch, float32=torch.float64)
    log_std = {"log_std": "log_std"}
    scalars = {"log_std_multiplier.constant": "log_std_scale", "log_std_offset.constant": "log_std_shift"}
    actors = {
        "td3_bc": (modules["td3_bc"].Actor(*SIZES, 1.0), "net", {}),
        "bc": (modules["any_percent_bc"].Actor(*SIZES, 1.0), "net", {}),
        "iql": (modules["iql"].GaussianPolicy(*SIZES, 1.0), "net.net", log_std),
        "iql_deterministic": (modules["iql"].DeterministicPolicy(*SIZES, 1.0), "net.net", {}),
        "awac": (modules["awac"].Actor(*SIZES, WIDTH), "_mlp", {"_log_std": "log_std"}),
        "cql": (modules["cql"].TanhGaussianPolicy(*SIZES, 1.0), "base_network", scalars),
    }
    for name, (actor, prefix, names) in actors.items():
        actor = moved(actor)
        action = out.one_by_one(lambda row: actor.act(row, "cpu"))
        assert (np.abs(action).max() > 1) == (name == "awac")
        out.put(name, {"actor": common.perceptron(actor, prefix, names, itself)}, action)
    for name in ("sac_n", "edac"):
        actor = moved(modules[name].Actor(*SIZES, WIDTH))
        layers = [*actor.trunk[::2], (actor.mu, actor.log_sigma)]
        out.put(name, {"actor": runs.mlp(layers)}, out.one_by_one(lambda row: actor.act(row, "cpu")))


def jax_networks(folder, out):
    import flax_networks as flax
    import jax

    jax.config.update("jax_enable_x64", True)
    del sys.modules["tqdm"]  # rebrac.py uses the package itself
    rebrac = flax.load(folder / "CORL" / "algorithms" / "offline" / "rebrac.py", "corl_rebrac")
    sys.path.insert(0, str(folder / "SAC_RND"))
    layouts = {"rebrac": importlib.import_module("rebrac"), "sac_rnd": importlib.import_module("sac_rnd")}
    from offline_sac.algorithms import sac_rnd_betas

    actors = {
        "rebrac": (rebrac.DetActor(ACTION, WIDTH, False, 3), rebrac.action_fn),
        "sac_rnd": (sac_rnd_betas.Actor(action_dim=ACTION, hidden_dim=WIDTH), sac_rnd_betas.action_fn),
    }
    rng = np.random.default_rng(3)
    for name, (actor, action_fn) in actors.items():
        params = flax.perturbed(actor.init(jax.random.PRNGKey(0), np.zeros((1, OBSERVATION))), rng)
        act = action_fn(argparse.Namespace(apply_fn=actor.apply, params=params))
        out.put(name, {"actor": layouts[name].actor_parameters(params)}, out.one_by_one(act))


class Multinomial:
    """torch.multinomial itself, from a seed, with the exponentials that it takes from there kept as uniforms exp(-q)."""

    def __init__(self, probabilities, count, replacement):
        assert count == 1 and probabilities.shape[0] == EPISODES
        exponentials = torch.empty_like(probabilities).exponential_(1.0, generator=torch.Generator().manual_seed(8))
        self.index = torch.multinomial(probabilities, 1, True, generator=torch.Generator().manual_seed(8))
        scores = probabilities.log() - exponentials.log()
        assert torch.equal(scores.argmax(1, keepdim=True), self.index)
        self.margin = gap(scores)
        self.uniforms = torch.exp(-exponentials).T
        self.shares = torch.bincount(self.index.flatten())


def gap(scores):
    first, second = scores.topk(2, 1).values.unbind(1)
    return (first - second).min().item()


def d3rlpy(folder, out):
    import crr
    import d3rlpy_reference as reference

    reference.load(folder / "D3RLPY")
    from d3rlpy.algos.qlearning.torch import bear_impl, crr_impl
    from d3rlpy.models import MeanQFunctionFactory
    from d3rlpy.models.builders import create_continuous_q_function, create_normal_policy

    sizes = (OBSERVATION,), ACTION

    def parts(count):
        policy = moved(create_normal_policy(*sizes, reference.encoder(), **reference.OPTIONS))
        functions, forwarder = create_continuous_q_function(
            *sizes, reference.encoder(), MeanQFunctionFactory(), n_ensembles=count, **reference.OPTIONS
        )
        for function in functions:  # critics disagree
            moved(function)._fc.weight.data *= 3.0
        layout = {"actor": reference.two_headed(policy, itself), "critics": reference.critics(functions, itself)}
        return policy, forwarder, layout

    def answer(kind, samples, count):
        """The action of the implementation's own `inner_predict_best_action`, and what it looked at on the way."""
        policy, forwarder, layout = parts(count)
        normals = torch.randn(samples, EPISODES, ACTION)
        seen = {}
        compute = forwarder.compute_expected_q

        def watched(observations, actions, *reduction):
            values = compute(observations, actions, *reduction)
            first = values[0] if reduction else values
            seen["each"] = compute(observations, actions, "none").view(-1, EPISODES, samples)
            seen["candidates"] = actions.view(EPISODES, samples, ACTION).transpose(0, 1)
            seen["values"] = first.view(EPISODES, samples).T
            return values

        forwarder.compute_expected_q = watched
        stub = argparse.Namespace(
            _modules=argparse.Namespace(policy=policy), _q_func_forwarder=forwarder, _n_action_samples=samples, _action_size=ACTION
        )

        def multinomial(*args, **options):
            seen["multinomial"] = Multinomial(*args, **options)
            return seen["multinomial"].index

        randn = torch.randn
        torch.randn = lambda *shape, device: normals.transpose(0, 1)
        crr_impl.torch = authors.Shim(torch, multinomial=multinomial)
        with torch.no_grad():
            action = kind.inner_predict_best_action(stub, out.observations)
        torch.randn = randn
        mean = torch.tanh(policy(out.observations).mu)
        return layout, action, mean.detach(), normals, seen

    layout, action, _, normals, seen = answer(bear_impl.BEARImpl, 100, 2)
    assert gap(seen["values"].T) > MARGIN
    out.put("bear", layout, action, normals=normals, candidates=seen["candidates"], values=seen["values"])
    for name, count in (("crr", 2), ("crr_one", 1)):
        layout, action, mean, normals, seen = answer(crr_impl.CRRImpl, 4, count)
        drawn = seen["multinomial"]
        assert drawn.margin > MARGIN and (seen["candidates"].abs() == 1).any(), drawn.margin
        best = seen["values"].argmax(0)
        for other in (seen["each"].min(0).values, seen["each"][0]):  # the choice depends on which values are taken
            scores = other - (-drawn.uniforms.T.log()).log()
            assert count == 1 or (scores.argmax(1) != drawn.index.flatten()).any()
        assert (drawn.index.flatten() != best).any() and (drawn.index.flatten() == best).any()
        more = {"normals": normals, "candidates": seen["candidates"], "values": seen["values"], "uniforms": drawn.uniforms}
        out.put(name, layout, action, mean=mean, **more)


def brac(folder, out):
    reference = importlib.import_module("brac")
    import tensorflow.compat.v1 as tf

    reference.load(folder / "D4RL_EVALUATIONS")
    from behavior_regularized_offline_rl.brac import networks as theirs
    from behavior_regularized_offline_rl.brac import policies

    observations = tf.constant(out.observations.numpy())
    actor, critic = theirs.ActorNetwork(reference.Specification(), (WIDTH, WIDTH)), [theirs.CriticNetwork((WIDTH, WIDTH)) for _ in range(2)]
    actor(observations)
    for q in critic:
        q(observations, tf.zeros([EPISODES, ACTION], tf.float64))
    rng = np.random.default_rng(5)
    for network in (actor, *critic):
        for variable in reference.layers(network):
            variable.assign(variable + 0.3 * rng.normal(size=variable.shape))
    policy = policies.MaxQSoftPolicy(actor, critic[0])
    samples = policy._n
    normals, seen = torch.randn(samples, EPISODES, ACTION), {}

    def watched(states, actions):
        values = critic[0](states, actions)
        seen["candidates"] = torch.tensor(actions.numpy()).view(samples, EPISODES, ACTION)
        seen["values"] = torch.tensor(values.numpy()).view(samples, EPISODES)
        return values

    policy._q_network = watched
    with reference.Recorded([normals]):
        action = policy(observations)[0].numpy()
    with reference.Recorded([None]):
        mean = policies.DeterministicSoftPolicy(actor)(observations)[0].numpy()
    assert samples == 10 and gap(seen["values"].T) > MARGIN
    perceptron = lambda network: reference.perceptron(reference.layers(network))
    layout = {"actor": perceptron(actor), "critics": common.ensemble([perceptron(q) for q in critic])}
    out.put("brac", layout, action, mean=mean, normals=normals, **seen)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    torch.manual_seed(8)
    out = Out(torch.randn(EPISODES, OBSERVATION))
    for family in (td3, sac, corl, jax_networks, d3rlpy, brac):
        family(args.authors, out)
    metadata = {"observation_dim": OBSERVATION, "action_dim": ACTION, "hidden": WIDTH, "episodes": EPISODES, "margin": MARGIN}
    authors.save("acting", out.tensors, metadata)
