"""Golden numbers of SAC-RND (JAX, float64): ten updates of the bonus, then ten of actor, temperature and critics.

tinkoff-ai/sac-rnd@fc99672a95ce502303f11cff0e6168176a0c90fa, offline_sac/algorithms/sac_rnd_betas.py, whose actor and
critics have a weight of the bonus each; nothing of it is changed. offline_sac/algorithms/sac_rnd.py, with one weight, must
give the same numbers for `default`. The predictor and target are those of all the authors' configurations: first layer
bilinear, last hidden layer modulated (FiLM), `switch_features`.

The standard layout of value-based files is described in value_based.py. Here S = 20: the first ten updates train the
predictor alone. `steps.noise.*` has rows for them too, which are not drawn. More networks:

* `rnd_moments`: `observation_mean`, `observation_scale`, `action_mean`, `action_scale`, constants: what the networks' inputs
  are reduced and divided by (the authors' deviations + 1e-8); `mean`, `variance`, `count` [1] of the predictor's losses so far.
* `rnd_predictor`: `net.{0,2,4,6}`, a perceptron of the products of each action with each observation, [A observation]: the
  authors' bilinear layer a W s + b is its first.
* `rnd_target`: `film.{weight,bias}` of the observation gives H factors, then H shifts for the result of `net.4` of the
  perceptron `net.{0,2,4,6}` of the action, before its ReLU.

python tests/golden/sac_rnd.py --authors SAC_RND
"""

import sys
from functools import partial

import authors
import flax_networks as flax
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

COMMIT = "tinkoff-ai/sac-rnd@fc99672a95ce502303f11cff0e6168176a0c90fa"
HIDDEN, BATCH, PRETRAINING, STEPS, OBSERVATION, ACTION = 16, 16, 10, 20, 5, 3

# `default`: the authors' values on hopper, with the middle of their grid of weights. `other`: every constant and size different.
# `plain`: no norm in the critics.
DEFAULT = {
    "discount": 0.99, "target_rate": 0.005, "actor_penalty": 5.0, "critic_penalty": 5.0, "members": 2,
    "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "temperature_learning_rate": 1e-3,
    "rnd_learning_rate": 3e-4, "rnd_hidden": 16, "rnd_embedding": 8, "critic_layer_norm": True,
    "initial_temperature": 1.0, "target_entropy": -3.0,
}  # fmt: skip
RUNS = {
    "default": DEFAULT,
    "other": DEFAULT
    | {
        "discount": 0.9, "target_rate": 0.05, "actor_penalty": 1.5, "critic_penalty": 0.1, "members": 3,
        "actor_learning_rate": 3e-4, "critic_learning_rate": 2e-3, "temperature_learning_rate": 5e-3,
        "rnd_learning_rate": 1e-3, "rnd_hidden": 12, "rnd_embedding": 6, "initial_temperature": 0.3,
        "target_entropy": -1.5,
    },
    "plain": DEFAULT | {"critic_layer_norm": False},
}  # fmt: skip


def actor_parameters(tree):
    """The authors create the head of the log deviations first; ours has the means first."""
    *trunk, log_deviation, mean = flax.numbered(tree["params"], "Dense")
    head = {kind: np.concatenate([mean[kind], log_deviation[kind]], axis=-1) for kind in ("kernel", "bias")}
    return flax.mlp([*trunk, head])


def rnd_parameters(tree):
    """Parameters of predictor and target."""
    predictor, target = tree["params"]["predictor"], tree["params"]["target"]
    bilinear = predictor["TorchBilinearDense_0"]
    kernel = np.asarray(bilinear["kernel"])  # (H, A, observation)
    first = {"kernel": kernel.reshape(len(kernel), -1).T, "bias": np.asarray(bilinear["bias"])[:, 0]}
    film, *layers = flax.numbered(target, "Dense")
    return (
        flax.mlp([first, *flax.numbered(predictor, "Dense")]),
        {f"film.{kind}": value for kind, value in flax.linear(film).items()} | flax.mlp(layers),
    )


def temperature(tree):
    return {"log_alpha": np.asarray(tree["params"]["log_alpha"])}


class States:
    """The authors' training states of one run."""

    def __init__(self, module, constants, moments, seed):
        rng = np.random.default_rng(seed)
        keys = jax.random.split(jax.random.PRNGKey(seed), 4)
        observation, action = np.zeros((1, OBSERVATION)), np.zeros((1, ACTION))
        self.adams = {
            name: flax.Adam(constants[f"{name}_learning_rate"]) for name in ("rnd", "actor", "temperature", "critic")
        }
        rnd = module.RND(
            hidden_dim=constants["rnd_hidden"], embedding_dim=constants["rnd_embedding"],
            state_mean=moments["observation_mean"], state_std=moments["observation_std"],
            action_mean=moments["action_mean"], action_std=moments["action_std"],
            mlp_type="torch_bilinear_first", target_mlp_type="film_last", switch_features=True,
        )  # fmt: skip
        self.rnd = module.RNDTrainState.create(
            apply_fn=rnd.apply, params=flax.perturbed(rnd.init(keys[0], observation, action), rng, 0.1),
            tx=self.adams["rnd"].transformation, rms=module.RunningMeanStd.create(),
        )  # fmt: skip
        actor = module.Actor(action_dim=ACTION, hidden_dim=HIDDEN)
        start = flax.perturbed(actor.init(keys[1], observation), rng)
        # Log deviations beyond both clips.
        start["params"]["Dense_3"]["bias"] += np.array([-4.7, 0.0, 1.8])
        start["params"]["Dense_3"]["kernel"] *= 2.0
        self.actor = module.TrainState.create(
            apply_fn=actor.apply, params=start, tx=self.adams["actor"].transformation
        )
        alpha = module.Alpha(init_value=constants["initial_temperature"])
        self.alpha = module.TrainState.create(
            apply_fn=alpha.apply, tx=self.adams["temperature"].transformation,
            params=jax.tree.map(lambda x: x.astype(np.float64), alpha.init(keys[2])),
        )  # fmt: skip
        critic = module.EnsembleCritic(HIDDEN, constants["members"], constants["critic_layer_norm"])
        start = flax.perturbed(critic.init(keys[3], observation, action), rng)
        self.critic = module.CriticTrainState.create(
            apply_fn=critic.apply, params=start, target_params=start, tx=self.adams["critic"].transformation
        )

    def tensors(self, when):
        out = flax.named(f"{when}.actor", actor_parameters(self.actor.params))
        out |= flax.named(f"{when}.critics", flax.critics(self.critic.params))
        out |= flax.named(f"{when}.target_critics", flax.critics(self.critic.target_params))
        predictor, target = rnd_parameters(self.rnd.params)
        out |= flax.named(f"{when}.rnd_predictor", predictor) | flax.named(f"{when}.rnd_target", target)
        state = self.rnd.rms.state
        for ours, theirs in (("mean", "mean"), ("variance", "var"), ("count", "count")):
            out[f"{when}.rnd_moments.{ours}"] = np.asarray(state[theirs])
        return out | {f"{when}.temperature.log_alpha": temperature(self.alpha.params)["log_alpha"]}

    def gradients(self):
        predictor, target = rnd_parameters(self.adams["rnd"].seen[0])
        assert all((value == 0).all() for value in target.values())
        out = flax.named("grad.rnd_predictor", predictor)
        out |= flax.named("grad.actor", actor_parameters(self.adams["actor"].seen[0]))
        out |= flax.named("grad.critics", flax.critics(self.adams["critic"].seen[0]))
        return out | flax.named("grad.temperature", temperature(self.adams["temperature"].seen[0]))

    def branches(self, batch, noise):
        """How many rows have each critic as the smallest, and log deviations beyond each clip."""
        tree = actor_parameters(self.actor.params)
        x = np.asarray(batch["states"])
        for layer in (0, 2, 4):
            x = np.maximum(x @ tree[f"net.{layer}.weight"].T + tree[f"net.{layer}.bias"], 0)
        x = x @ tree["net.6.weight"].T + tree["net.6.bias"]
        mean, log_deviation = np.split(x, 2, axis=-1)
        policy = self.actor.apply_fn(self.actor.params, batch["states"])
        assert np.allclose(policy.distribution.loc, mean), "the heads are in another order"
        deviation = np.exp(np.clip(log_deviation, -5, 2))
        assert np.allclose(policy.distribution.scale, deviation)
        actions = np.tanh(mean + deviation * noise)
        q = np.asarray(self.critic.apply_fn(self.critic.params, batch["states"], actions))
        smallest = [(q.argmin(0) == member).sum() for member in range(len(q))]
        return np.array([(log_deviation < -5).sum(), (log_deviation > 2).sum(), *smallest])


def run(module, constants, steps, noise, moments):
    """`module.update_sac` takes the weights of the bonus by other names in the authors' two files."""
    first = flax.authors_batch(steps, PRETRAINING)
    for seed in range(200):  # The first initial values that go through every branch often enough.
        states = States(module, constants, moments, seed)
        if (states.branches(first, noise["actions"][PRETRAINING]) >= 3).all():
            break
    tensors = states.tensors("start")
    metrics = {}

    def keep(log, names):
        for ours, theirs in names.items():
            total, count = log.accumulators[theirs]
            assert count[0] == 1
            metrics.setdefault(ours, []).append(float(total[0]))

    bonus = {"rnd_loss": "rnd_loss", "rnd_deviation": "rnd_rms"}
    losses = {
        "critic_loss": "critic_loss", "q_min": "q_min", "actor_loss": "actor_loss", "entropy": "batch_entropy",
        "rnd_bonus": "rnd_policy", "temperature": "alpha", "temperature_loss": "alpha_loss",
    }  # fmt: skip
    unused = ["rnd_data", "rnd_random", "action_mse"]
    betas = {"actor_beta": constants["actor_penalty"], "critic_beta": constants["critic_penalty"]}
    if not hasattr(module.Config(), "actor_beta"):
        assert constants["actor_penalty"] == constants["critic_penalty"]
        betas = {"beta": constants["actor_penalty"]}
    update = partial(
        module.update_sac, target_entropy=constants["target_entropy"], gamma=constants["discount"],
        tau=constants["target_rate"], **betas,
    )  # fmt: skip
    branches = 0
    for i in range(STEPS):
        batch, key = flax.authors_batch(steps, i), jax.random.PRNGKey(0)
        log = module.Metrics.create([*bonus.values(), *losses.values(), *unused])
        if i < PRETRAINING:
            with flax.Recorded():
                _, states.rnd, log = module.update_rnd(key, states.rnd, batch, log)
            keep(log, bonus)
            continue
        branches = branches + states.branches(batch, noise["actions"][i])
        with flax.Recorded(noise["actions"][i], noise["next_actions"][i]):
            _, states.actor, states.critic, states.alpha, log = update(
                key, states.rnd, states.actor, states.critic, states.alpha, batch, metrics=log
            )
        keep(log, losses)
    assert (branches > 0).all(), branches
    tensors |= states.gradients() | states.tensors("after")
    return tensors | {f"metric.{name}": np.array(values) for name, values in metrics.items()}


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    sys.path.insert(0, str(args.authors))
    folder = args.authors / "offline_sac" / "algorithms"
    module = flax.load(folder / "sac_rnd_betas.py", "sac_rnd_betas")
    original = flax.load(folder / "sac_rnd.py", "sac_rnd_one_beta")
    rng = np.random.default_rng(2)
    steps = flax.make_batches(rng, STEPS, BATCH, OBSERVATION, ACTION)
    steps["observations"] += 0.5
    noise = {name: rng.normal(size=(STEPS, BATCH, ACTION)) for name in ("actions", "next_actions")}
    moments = {}
    for name in ("observation", "action"):
        rows = steps[f"{name}s"].reshape(-1, steps[f"{name}s"].shape[-1])
        moments |= {f"{name}_mean": rows.mean(0), f"{name}_std": rows.std(0)}
    tensors = {f"steps.{name}": value for name, value in steps.items()}
    tensors |= {f"steps.noise.{name}": value for name, value in noise.items()}
    for name, constants in RUNS.items():
        result = run(module, constants, steps, noise, moments)
        print(name, {key: np.round(value, 3) for key, value in result.items() if key.startswith("metric")})
        if name == "default":
            same = run(original, constants, steps, noise, moments)
            assert all((value == same[key]).all() for key, value in result.items())
        for when in ("start", "after"):
            for key, value in moments.items():
                name_of_ours = key.replace("_std", "_scale")
                result[f"{when}.rnd_moments.{name_of_ours}"] = value + (1e-8 if name_of_ours != key else 0.0)
        tensors |= {f"{name}.{key}": value for key, value in result.items()}
    flax.check_runs_differ(tensors, ["other"])
    metadata = {
        "authors": COMMIT, "jax": jax.__version__, "hidden": HIDDEN, "layers": 3, "batch": BATCH, "steps": STEPS,
        "pretraining": PRETRAINING, "observation_dim": OBSERVATION, "action_dim": ACTION, "layer_norm_epsilon": 1e-6,
        "betas": [0.9, 0.999], "eps": 1e-8, "runs": RUNS,
    }  # fmt: skip
    authors.save("sac_rnd", tensors, metadata)
