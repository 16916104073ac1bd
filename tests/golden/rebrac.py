"""Golden numbers of CORL's ReBRAC (JAX, float64): ten updates with recorded noise.

corl-team/CORL@eeeeef2671235fcce3a3eb255576a207d78840e6, algorithms/offline/rebrac.py; nothing of it is changed.
Updates are counted from 0, and the actor and all targets are updated at those that `policy_freq` divides, 0 among them, as in
each of the authors' epochs. At these the target actor moves towards the actor's parameters from *before* its step.

The standard layout of value-based files is described in value_based.py.

python tests/golden/rebrac.py --authors CORL
"""

import authors
import flax_networks as flax
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

COMMIT = "corl-team/CORL@eeeeef2671235fcce3a3eb255576a207d78840e6"
HIDDEN, LAYERS, BATCH, STEPS, OBSERVATION, ACTION = 16, 3, 16, 10, 5, 3

# `default`: the authors' values for halfcheetah-medium-expert, whose two penalties differ. `other`: every constant
# different. `plain`: values neither scaled nor normalised. `actor_norm`: norms in the actor too.
DEFAULT = {
    "discount": 0.99, "target_rate": 0.005, "actor_penalty": 0.01, "critic_penalty": 0.1, "policy_noise": 0.2,
    "noise_clip": 0.5, "policy_delay": 2, "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3,
    "normalize_q": True, "actor_layer_norm": False, "critic_layer_norm": True,
}  # fmt: skip
RUNS = {
    "default": DEFAULT,
    "other": DEFAULT
    | {
        "discount": 0.9, "target_rate": 0.05, "actor_penalty": 0.4, "critic_penalty": 0.3, "policy_noise": 0.4,
        "noise_clip": 0.3, "policy_delay": 3, "actor_learning_rate": 3e-4, "critic_learning_rate": 2e-3,
    },
    "plain": DEFAULT | {"normalize_q": False, "critic_layer_norm": False},
    "actor_norm": DEFAULT | {"actor_layer_norm": True},
}  # fmt: skip


def actor_parameters(tree):
    tree = tree["params"]
    return flax.mlp(flax.numbered(tree, "Dense"), flax.numbered(tree, "LayerNorm"))


def make_states(module, constants, seed):
    rng = np.random.default_rng(seed)
    keys = jax.random.split(jax.random.PRNGKey(seed))
    observation, action = np.zeros((1, OBSERVATION)), np.zeros((1, ACTION))
    actor = module.DetActor(ACTION, HIDDEN, constants["actor_layer_norm"], LAYERS)
    critic = module.EnsembleCritic(HIDDEN, 2, constants["critic_layer_norm"], LAYERS)
    actor_start = flax.perturbed(actor.init(keys[0], observation), rng)
    critic_start = flax.perturbed(critic.init(keys[1], observation, action), rng)
    optimizers = [flax.Adam(constants[f"{name}_learning_rate"]) for name in ("actor", "critic")]
    states = [
        kind.create(apply_fn=net.apply, params=start, target_params=start, tx=optimizer.transformation)
        for kind, net, start, optimizer in (
            (module.ActorTrainState, actor, actor_start, optimizers[0]),
            (module.CriticTrainState, critic, critic_start, optimizers[1]),
        )
    ]
    return states, optimizers


def count_branches(module, actor, critic, batch, noise, constants):
    """Which branches an update goes through: noise clipped, actions above and below the range, either critic smallest."""
    clipped = np.abs(noise * constants["policy_noise"]) > constants["noise_clip"]
    noise = np.clip(noise * constants["policy_noise"], -constants["noise_clip"], constants["noise_clip"])
    actions = np.asarray(actor.apply_fn(actor.target_params, batch["next_states"])) + noise
    q = np.asarray(critic.apply_fn(critic.target_params, batch["next_states"], np.clip(actions, -1, 1)))
    policy = actor.apply_fn(actor.params, batch["states"])
    q_policy = np.asarray(critic.apply_fn(critic.params, batch["states"], policy))
    lower = [rows for values in (q, q_policy) for rows in (values[0] < values[1], values[0] > values[1])]
    return np.array([what.sum() for what in (clipped, actions > 1, actions < -1, *lower)])


def run(module, constants, steps, noise):
    first = flax.authors_batch(steps, 0)
    for seed in range(100):  # The first initial values whose critics are each the smallest in at least five rows.
        (actor, critic), optimizers = make_states(module, constants, seed)
        if (count_branches(module, actor, critic, first, noise[0], constants)[3:] >= 5).all():
            break
    tensors = {}
    for name, state, layout in (("actor", actor, actor_parameters), ("critics", critic, flax.critics)):
        tensors |= flax.named(f"start.{name}", layout(state.params))
        tensors |= flax.named(f"start.target_{name}", layout(state.target_params))
    metrics = {"critic_loss": [], "q_min": [], "actor_loss": [], "cloning_loss": []}
    theirs = {"cloning_loss": "bc_mse_policy"}
    names = [*metrics, "bc_mse_policy", "bc_mse_random", "action_mse"]
    shared = {name: constants[ours] for name, ours in (
        ("gamma", "discount"), ("actor_bc_coef", "actor_penalty"), ("critic_bc_coef", "critic_penalty"),
        ("tau", "target_rate"), ("policy_noise", "policy_noise"), ("noise_clip", "noise_clip"),
    )}  # fmt: skip
    branches = 0
    for i in range(STEPS):
        batch = flax.authors_batch(steps, i)
        branches = branches + count_branches(module, actor, critic, batch, noise[i], constants)
        arguments = shared | {"batch": batch, "metrics": module.Metrics.create(names)}
        key = jax.random.PRNGKey(0)
        with flax.Recorded(noise[i]):
            if i % constants["policy_delay"] == 0:
                arguments["normalize_q"] = constants["normalize_q"]
                _, actor, critic, log = module.update_td3(key, actor, critic, **arguments)
            else:
                _, actor, critic, log = module.update_td3_no_targets(key, actor, critic, **arguments)
        for name, values in metrics.items():
            total, count = log.accumulators[theirs.get(name, name)]
            if count[0]:
                values.append(float(total[0]))
    assert (branches > 0).all(), branches
    assert len(metrics["actor_loss"]) == -(-STEPS // constants["policy_delay"])
    tensors |= flax.named("grad.actor", actor_parameters(optimizers[0].seen[0]))
    tensors |= flax.named("grad.critics", flax.critics(optimizers[1].seen[0]))
    for name, state, layout in (("actor", actor, actor_parameters), ("critics", critic, flax.critics)):
        tensors |= flax.named(f"after.{name}", layout(state.params))
        tensors |= flax.named(f"after.target_{name}", layout(state.target_params))
    return tensors | {f"metric.{name}": np.array(values) for name, values in metrics.items()}


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    corl = flax.load(args.authors / "algorithms" / "offline" / "rebrac.py", "corl_rebrac")
    rng = np.random.default_rng(1)
    steps = flax.make_batches(rng, STEPS, BATCH, OBSERVATION, ACTION)
    noise = rng.normal(size=(STEPS, BATCH, ACTION))
    tensors = {f"steps.{name}": value for name, value in steps.items()} | {"steps.noise.next_actions": noise}
    for name, constants in RUNS.items():
        result = run(corl, constants, steps, noise)
        print(name, {key: np.round(value, 3) for key, value in result.items() if key.startswith("metric")})
        tensors |= {f"{name}.{key}": value for key, value in result.items()}
    flax.check_runs_differ(tensors, RUNS)
    metadata = {
        "authors": COMMIT, "jax": jax.__version__, "hidden": HIDDEN, "layers": LAYERS, "batch": BATCH, "steps": STEPS,
        "observation_dim": OBSERVATION, "action_dim": ACTION, "members": 2, "layer_norm_epsilon": 1e-6,
        "betas": [0.9, 0.999], "eps": 1e-8, "runs": RUNS,
    }  # fmt: skip
    authors.save("rebrac", tensors, metadata)
