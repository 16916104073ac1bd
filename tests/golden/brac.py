"""Golden numbers of BRAC with the primal KL: ten updates with recorded noise, in the layout of value_based.py.

python tests/golden/brac.py --authors D4RL_EVALUATIONS   (rail-berkeley/d4rl_evaluations @
c93b9d2bf443cd5b8c43542fca9937dc50e630c3, whose folder brac holds the authors' code, google-research's
behavior_regularized_offline_rl, with D4RL's data and constants)

Needs `pip install tensorflow-cpu==2.21.0 tensorflow-probability==0.25.0 tf_keras==2.21.0 gin-config==0.5.0` too.

One run is the authors' two programs in a row: `behavior` updates of bc_agent.py fit the behaviour policy, then brac_primal_agent.py
trains on the other batches. What stands in for theirs: float64 for float32; today's names of TensorFlow Probability's
bijectors (its Independent Normal for the old `event_shape`); PyTorch's Adam, whose epsilon counts differently from Keras's.
Not reproduced: their target critics start from values of their own rather than from the critics'.

Noise: `behavior`, `behavior_temperature`, `next_actions`, `actor` (S, B, A); `next_divergence`, `divergence`, `penalty`
(S, samples, B, A): actions for the KL at s', at s, and at s after the actor's step. The draws that the authors make from the behaviour
policy and don't use for the KL are left out.
"""

import os
import sys

sys.modules["triton"] = None  # its LLVM and that of TensorFlow do not go together

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import authors
import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow_probability as tfp
import torch
import value_based as common
from tensorflow.python.util import tf_decorator
from tensorflow_probability.python.distributions import normal

COMMIT = "rail-berkeley/d4rl_evaluations@c93b9d2bf443cd5b8c43542fca9937dc50e630c3"
DEFAULT = {
    "penalty": 1.0, "train_penalty": False, "value_penalty": True, "target_divergence": 0.0, "samples": 4, "warm_start": 2,
    "behavior_updates": 3, "behavior_temperature": 1.0, "discount": 0.99, "target_rate": 0.005,
    "actor_learning_rate": 3e-5, "critic_learning_rate": 1e-3, "behavior_learning_rate": 5e-4,
    "penalty_learning_rate": 1e-5,
}  # fmt: skip
# `default`: scripts/train_brac.py, with 3 updates of the behaviour policy and 3 without Q rather than 1 000 000 and 20 001; the
# value penalty is on (`policy_only`: off, as that script has it). `dual`: the penalty is learned. `other`: every constant
# different; both learned weights fall to their bound 0. `largest`: the penalty meets its upper bound 500.
RUNS = {
    "default": DEFAULT,
    "policy_only": DEFAULT | {"value_penalty": False},
    "dual": DEFAULT | {"train_penalty": True},
    "largest": DEFAULT | {"train_penalty": True, "penalty": 499.998, "penalty_learning_rate": 1e-3},
    "other": {
        "penalty": 0.0035, "train_penalty": True, "value_penalty": True, "target_divergence": 90.0, "samples": 3,
        "warm_start": 1, "behavior_updates": 4, "behavior_temperature": 0.0015, "discount": 0.9, "target_rate": 0.05,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 5e-4, "behavior_learning_rate": 7e-4,
        "penalty_learning_rate": 2e-3,
    },
}  # fmt: skip
CLIP = 1.0 - 1e-3


def load(folder):
    """The authors' modules in float64 under today's TensorFlow."""
    tf.config.run_functions_eagerly(True)
    tf.keras.backend.set_floatx("float64")
    authors.stand_in("tf_agents", "tf_agents.specs")
    sys.path.insert(0, str(folder / "brac"))
    from behavior_regularized_offline_rl.brac import agent, bc_agent, brac_primal_agent, networks, utils

    variable = lambda value: tf.Variable(value, dtype=tf.float64 if isinstance(value, float) else None)
    double = authors.Shim(tf, float32=tf.float64, Variable=variable)
    for module in (agent, bc_agent, brac_primal_agent, networks, utils):
        module.tf = double
    bijectors = authors.Shim(
        tfp.bijectors,
        AffineScalar=lambda shift, scale: tfp.bijectors.Shift(shift)(tfp.bijectors.Scale(scale)),
    )
    networks.tfp = authors.Shim(tfp, bijectors=bijectors)
    networks.tfd = authors.Shim(tfp.distributions, TransformedDistribution=transformed)
    utils.get_optimizer = lambda _: Adam
    # Today's `custom_gradient` wants gradients of the bounds too.
    clip = tf_decorator.unwrap(utils.clip_v2)[1]
    utils.clip_v2 = lambda x, low, high: tf.custom_gradient(lambda value: clip(value, low, high))(x)
    return bc_agent, brac_primal_agent, utils


def transformed(distribution, bijector, event_shape, batch_shape):
    ones = tf.ones([*batch_shape, *event_shape], tf.float64)
    base = tfp.distributions.Independent(tfp.distributions.Normal(0.0 * ones, ones), 1)
    return tfp.distributions.TransformedDistribution(base, bijector)


class Adam:
    """PyTorch's Adam; keeps its first gradients."""

    def __init__(self, lr):
        self.rate, self.first = lr, None

    def apply_gradients(self, pairs):
        gradients, variables = zip(*pairs)
        gradients = [torch.tensor(gradient.numpy()) for gradient in gradients]
        if self.first is None:
            self.first = gradients
            self.values = [torch.tensor(variable.numpy()).requires_grad_() for variable in variables]
            self.optimizer = torch.optim.Adam(self.values, lr=self.rate)
        for value, gradient in zip(self.values, gradients):
            value.grad = gradient
        self.optimizer.step()
        for variable, value in zip(variables, self.values):
            variable.assign(value.detach().numpy())


class Recorded:
    """Puts recorded standard normals in the place of TensorFlow Probability's; `None` is any draw, of which nothing depends."""

    def __init__(self, draws):
        self.draws = list(draws)

    def take(self, shape, dtype, **_):
        draw = self.draws.pop(0)
        if draw is None:
            return tf.zeros(shape, dtype)
        shape = tuple(int(n) for n in shape)  # (1, B, A) for a single sample
        assert shape in (tuple(draw.shape), (1, *draw.shape)), (draw.shape, shape)
        return tf.constant(draw.reshape(shape).numpy(), dtype)

    def __enter__(self):
        self.saved = normal.samplers
        normal.samplers = authors.Shim(self.saved, normal=self.take)

    def __exit__(self, kind, *_):
        normal.samplers = self.saved
        assert kind or not self.draws


class Specification:
    shape = (common.ACTION_DIM,)
    minimum, maximum = -np.ones(shape), np.ones(shape)


def agent_of(module, utils, model, constants, optimizers, **options):
    """One of the authors' agents, its networks built on the first batch."""
    actions = tf.zeros([common.BATCH, common.ACTION_DIM], tf.float64)
    states = tf.zeros([common.BATCH, common.OBSERVATION_DIM], tf.float64)
    batch = {"s1": states, "s2": states, "a1": actions, "a2": actions, "r": states[:, 0], "dsc": states[:, 0]}
    module.Agent._get_train_batch = lambda self: batch
    module.Agent._load_behavior_policy = lambda self: None
    return module.Agent(
        action_spec=Specification(), modules=module.get_modules(model, Specification()), optimizers=optimizers,
        discount=constants["discount"], update_rate=constants["target_rate"], **options,
    )  # fmt: skip


def build(modules, constants):
    bc_agent, brac_primal_agent, utils = modules
    width = (common.WIDTH, common.WIDTH)
    rate = constants["behavior_learning_rate"]
    cloner = agent_of(
        bc_agent, utils, (width,), constants, (("adam", rate),), alpha_entropy=constants["behavior_temperature"]
    )
    rates = [("adam", constants[f"{name}_learning_rate"]) for name in ("critic", "actor", "penalty")]
    agent = agent_of(
        brac_primal_agent, utils, ((width, width), 2), constants, tuple(rates), alpha=constants["penalty"],
        train_alpha=constants["train_penalty"], target_divergence=constants["target_divergence"],
        value_penalty=constants["value_penalty"], warm_start=constants["warm_start"],
        n_div_samples=constants["samples"],
    )  # fmt: skip
    agent._b_fn.sample_n(tf.zeros([1, common.OBSERVATION_DIM], tf.float64))  # builds it without value penalty, too
    rng = np.random.default_rng(6)
    for network in (cloner._agent_module.p_net, agent._p_fn, *[q for q, _ in agent._agent_module.q_nets]):
        for variable in layers(network):
            variable.assign(rng.normal(size=variable.shape) / np.sqrt(variable.shape[0]))
    # Actions beyond the clip, deviations all over their range; the behaviour policy's entropy is above -A.
    heads = [0.9, -0.3, -0.5, 1.2, 1.0, 1.1], [3.3, -0.3, -1.5, 0.8, -0.5, 0.5]
    for actor, head in zip((cloner._agent_module.p_net, agent._p_fn), heads):
        actor._layers[-1].kernel.assign(0.3 * actor._layers[-1].kernel)
        actor._layers[-1].bias.assign(head)
    for source, target in zip(*agent._get_source_target_vars()):
        target.assign(source)
    return cloner, agent


def perceptron(variables):
    """Keras has kernels as (in, out)."""
    names = [f"net.{2 * i}.{kind}" for i in range(len(variables) // 2) for kind in ("weight", "bias")]
    tensors = [torch.tensor(variable.numpy()) for variable in variables]
    assert len(names) == len(tensors)
    return {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in zip(names, tensors)}


def critics(variables):
    half = len(variables) // 2
    return common.ensemble([perceptron(variables[:half]), perceptron(variables[half:])])


def scalar(name, value):
    return {name: torch.tensor(value.numpy()).reshape(1)}


def layers(network):
    return [variable for layer in network._layers for variable in (layer.kernel, layer.bias)]


def networks(cloner, agent):
    module = agent._agent_module
    return {
        "actor": perceptron(layers(agent._p_fn)),
        "critics": critics([v for q, _ in module.q_nets for v in layers(q)]),
        "target_critics": critics([v for _, q in module.q_nets for v in layers(q)]),
        "behavior": perceptron(layers(cloner._agent_module.p_net)),
        "behavior_temperature": scalar("temperature", cloner._agent_module._alpha_entropy_var),
        "lagrange": scalar("penalty", module._alpha_var),
    }


def sorted_like(wanted, variables, gradients):
    by_variable = {variable.ref(): gradient for variable, gradient in zip(variables, gradients)}
    return [by_variable[variable.ref()] for variable in wanted]


def first_gradients(cloner, agent, constants):
    module, clone = agent._agent_module, cloner._agent_module
    wanted = [v for q, _ in module.q_nets for v in layers(q)]
    out = {
        "actor": perceptron(sorted_like(layers(agent._p_fn), agent._p_vars, agent._p_optimizer.first)),
        "critics": critics(sorted_like(wanted, agent._q_vars, agent._q_optimizer.first)),
        "behavior": perceptron(sorted_like(layers(clone.p_net), cloner._p_vars, cloner._p_optimizer.first)),
        "behavior_temperature": scalar("temperature", cloner._ae_optimizer.first[0]),
    }
    if constants["train_penalty"]:
        out["lagrange"] = scalar("penalty", agent._a_optimizer.first[0])
    return out


def batch(steps, step):
    of = lambda name: tf.constant(steps[name][step].numpy())
    return {
        "s1": of("observations"), "s2": of("next_observations"), "a1": of("actions"), "a2": of("next_actions"),
        "r": of("rewards"), "dsc": 1.0 - of("terminated"),
    }  # fmt: skip


def run(modules, name, constants, steps, noise):
    cloner, agent = build(modules, constants)
    result = common.Run(name)
    result.put("start", networks(cloner, agent))
    for step in range(common.STEPS):
        draw = lambda key: noise[key][step]
        several = lambda key: [noise[key][step, : constants["samples"]], None]
        if step < constants["behavior_updates"]:
            with Recorded([draw("behavior"), draw("behavior_temperature")]):
                info = cloner._optimize_step(batch(steps, step))
            result.log(behavior_loss=info["p_loss"], behavior_temperature=info["alpha_entropy"])
            continue
        if step == constants["behavior_updates"]:
            for source, target in zip(layers(cloner._agent_module.p_net), layers(agent._b_fn)):
                target.assign(source)
        draws = [draw("next_actions"), *(several("next_divergence") if constants["value_penalty"] else [])]
        draws += [draw("actor"), *several("divergence"), *(several("penalty") if constants["train_penalty"] else [])]
        with Recorded(draws):
            info = agent._optimize_step(batch(steps, step))
        agent._global_step.assign_add(1)
        result.log(critic_loss=info["q_loss"], actor_loss=info["p_loss"], divergence=info["div_mean"])
        if constants["train_penalty"]:
            result.log(penalty=info["alpha"])
    result.put("grad", first_gradients(cloner, agent, constants))
    result.put("after", networks(cloner, agent))
    if not constants["train_penalty"]:
        del result.tensors[f"{name}.start.lagrange.penalty"], result.tensors[f"{name}.after.lagrange.penalty"]
    actions = agent._p_fn(tf.constant(steps["observations"].flatten(0, 1).numpy()))[1].numpy()
    clipped = (np.abs(actions) > CLIP).mean()
    assert clipped > 0.01
    bound = {"other": 0.0, "largest": 500.0}
    print(name, clipped, agent._get_alpha().numpy(), cloner._get_alpha_entropy().numpy(), flush=True)
    assert name not in bound or agent._get_alpha().numpy() == bound[name]
    assert name != "other" or cloner._get_alpha_entropy().numpy() == 0.0
    return result


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    modules = load(args.authors)
    rng = np.random.default_rng(5)
    steps = common.transitions(rng)
    steps["actions"] = (1.3 * steps["actions"]).clamp(-1.0, 1.0)
    assert 0.05 < (steps["actions"].abs() > CLIP).double().mean() < 0.5
    one = lambda *shape: torch.tensor(rng.normal(size=(common.STEPS, *shape, common.BATCH, common.ACTION_DIM)))
    noise = {key: one() for key in ("behavior", "behavior_temperature", "next_actions", "actor")}
    noise |= {key: one(DEFAULT["samples"]) for key in ("next_divergence", "divergence", "penalty")}
    runs = [run(modules, name, constants, steps, noise) for name, constants in RUNS.items()]
    common.save("brac", COMMIT, steps, noise, runs, RUNS)
