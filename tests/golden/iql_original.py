"""The authors' IQL (JAX, float64) from the first values of iql.safetensors' run `official`; it must end at the same parameters.

python tests/golden/iql_original.py --authors IQL

IQL is a checkout of ikostrikov/implicit_q_learning @ 09d700248117881a75cb21f0adb95c6c8a694cb2; needs jax, flax, optax and distrax, whose
normal distribution stands in for tensorflow_probability's. Writes nothing. The authors add both critics' losses up, of which CORL
takes the mean: Adam divides the factor out but for its epsilon.
"""

import json
import sys
import types

import authors
import numpy as np
from safetensors import safe_open


def dense(tensors, prefix, layers, member=None):
    """Our layers as flax's Dense_0, Dense_1, ..."""
    out = {}
    for i in layers:
        weight, bias = (tensors[f"{prefix}.net.{2 * i}.{kind}"] for kind in ("weight", "bias"))
        out[f"Dense_{i}"] = (
            {"kernel": weight.T, "bias": bias} if member is None else {"kernel": weight[member], "bias": bias[member][0]}
        )
    return out


def parameters(tensors, when):
    of = lambda name: f"official.{when}.{name}"
    mean = dense(tensors, of("actor"), [2])["Dense_2"]
    critics = lambda name: {f"Critic_{i}": {"MLP_0": dense(tensors, of(name), range(3), i)} for i in (0, 1)}
    return {
        "actor": {
            "MLP_0": dense(tensors, of("actor"), range(2)), "Dense_0": mean, "log_stds": tensors[of("actor.log_std")]
        },
        "critic": critics("critics"),
        "value": {"MLP_0": dense(tensors, of("value"), range(3))},
        "target_critic": critics("target_critics"),
    }  # fmt: skip


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    import distrax
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_enable_x64", True)
    jax.tree_multimap = jax.tree.map  # its name in the jax of that time
    jit = jax.jit
    jax.jit = lambda function, **_: jit(function)  # one of the names that the authors call static is no argument
    substrates = types.SimpleNamespace(jax=types.SimpleNamespace(distributions=distrax, bijectors=distrax))
    for name in ("tensorflow_probability", "tensorflow_probability.substrates"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["tensorflow_probability.substrates"].jax = substrates.jax
    sys.path.insert(0, str(args.authors))
    import common
    import learner
    import policy
    import value_net

    with safe_open(authors.HERE / "iql.safetensors", "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        golden = json.loads(file.metadata()["golden"])
    constants, width = golden["runs"]["official"], golden["hidden"]
    start = jax.tree.map(jnp.asarray, parameters(tensors, "start"))
    definitions = {
        "actor": policy.NormalTanhPolicy(
            (width, width), golden["action_dim"], log_std_scale=1e-3, log_std_min=constants["log_std_min"],
            state_dependent_std=False, tanh_squash_distribution=False,
        ),
        "critic": value_net.DoubleCritic((width, width)),
        "value": value_net.ValueCritic((width, width)),
    }  # fmt: skip
    schedule = optax.cosine_decay_schedule(-constants["actor_learning_rate"], constants["max_steps"])
    optimizers = {
        "actor": optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(schedule)),
        "critic": optax.adam(constants["critic_learning_rate"]),
        "value": optax.adam(constants["value_learning_rate"]),
    }
    models = {
        name: common.Model(1, definitions[name], start[name], tx, tx.init(start[name])) for name, tx in optimizers.items()
    }
    models["target_critic"] = common.Model(1, definitions["critic"], start["target_critic"], None)
    rng = jax.random.PRNGKey(0)
    for step in range(golden["steps"]):
        of = lambda name: jnp.asarray(tensors[f"steps.{name}"][step])
        batch = common.Batch(
            of("observations"), of("actions"), of("rewards"), 1 - of("terminated"), of("next_observations")
        )
        rng, *updated, info = learner._update_jit(
            rng, models["actor"], models["critic"], models["value"], models["target_critic"], batch, constants["discount"],
            constants["tau"], constants["expectile"], constants["beta"],
        )  # fmt: skip
        models = dict(zip(("actor", "critic", "value", "target_critic"), updated))
        losses = [("value_loss", 1.0), ("critic_loss", 0.5), ("actor_loss", 1.0)]
        for name, factor in losses:
            expected = tensors[f"official.metric.{name}"][step]
            assert abs(info[name] * factor - expected) < 1e-6 * abs(expected), (step, name, info[name], expected)
    after = parameters(tensors, "after")
    for name, model in models.items():
        change = lambda a, b, s: np.abs(np.asarray(a) - b).max() / np.abs(b - np.asarray(s)).max()
        pairs = zip(*(jax.tree.leaves(tree) for tree in (model.params, after[name], start[name])))
        gap = max(change(*pair) for pair in pairs)
        print(name, "largest difference, of the largest change:", gap)
        assert gap < 1e-4
