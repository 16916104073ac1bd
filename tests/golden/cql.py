"""Golden numbers of CORL's CQL: corl-team/CORL @ eeeeef2671235fcce3a3eb255576a207d78840e6, algorithms/offline/cql.py.

python tests/golden/cql.py --authors CORL

Runs of `cql`: `default`; `other` with every constant different; `lagrange`. Runs of `cql_options`: `max_backup` (with the entropy
of the chosen action in the target); `plain_logsumexp`, without importance sampling, where the data's action counts in the sum;
`policy`, the penalty of the paper's equation 2 with mu = the policy: the mean over its actions stands in place of CORL's logsumexp;
`fixed_temperature`.

Of `cql_cloning`: `cloning`, where the actor clones the data for half of the steps.

Of `cql_antmaze`: `antmaze`, what configs/offline/cql/antmaze has together: the Lagrange version, gaps of at least -200, the largest of n
values in the target without entropy, five hidden layers in the critics. Values are large enough that gaps meet their bound. `narrow`: the
same with entropy, other bounds and four layers.

Runs of `cal_ql`, from algorithms/finetune/cal_ql.py: `importance` and `plain_lagrange`, both calibrated with the returns `steps.reached` [S, B],
some of which are -1e30: not known.

Noise, in the order of use: `policy` [S, B, A] the actor's actions; `next` [S, B, A] the target's, or `backup` [S, B, n, A] where it is the
largest of n; `random` [S, B, n, A] **uniforms on 0..1** (actions 2 u - 1); `current` and `following` [S, B, n, A] the
penalty's actions at s and s'. A run with fewer actions takes the first of the n.

Metrics: critic_loss (all of it, both critics), td_loss (the sum of both mean squares), penalty (the rest), gap (logsumexp - Q,
mean of both critics), q_mean, actor_loss, entropy (- log pi), temperature, temperature_loss; multiplier and multiplier_loss of `lagrange`.

Of CORL's known errors, critic 2 without `q_n_hidden_layers` and the actor without `orthogonal_init` concern sizes and first values, which
are equal and stored here; `actor.log_prob`, used for `bc_steps` only, takes the densities of new samples: here it takes those of the
actions that it is given, through CORL's own `tanh_gaussian.log_prob`, as young-geng/CQL does.
The layout is described in value_based.py.
"""

import authors
import numpy as np
import torch
import value_based as common

ACTIONS = 10
DEFAULT = {
    "discount": 0.99, "alpha_multiplier": 1.0, "target_entropy": -float(common.ACTION_DIM), "automatic_temperature": True,
    "backup_entropy": False, "actor_learning_rate": 3e-5, "critic_learning_rate": 3e-4, "tau": 5e-3, "target_period": 1,
    "actions": ACTIONS, "penalty": "importance", "lagrange": False, "gap": -1.0, "temperature": 1.0, "alpha": 10.0,
    "max_backup": False, "clip_min": -np.inf, "clip_max": np.inf, "log_std_min": -20.0, "log_std_max": 2.0, "calibrate": False,
    "cloning_steps": 0,
}  # fmt: skip
FEWER = DEFAULT | {"actions": 6}  # for a smaller file
CALIBRATED = DEFAULT | {"actions": 4, "calibrate": True}
# Deviations no larger than 1: of actions at the bounds, whose values are equal in f32, none is the best.
ANTMAZE = FEWER | {
    "lagrange": True, "gap": 0.8, "alpha": 5.0, "max_backup": True, "clip_min": -200.0, "actor_learning_rate": 1e-4, "critic_layers": 5,
    "log_std_max": 0.0, "value_scale": -1000.0,
}  # fmt: skip
FILES = {
    "cal_ql": {
        "importance": CALIBRATED,
        "plain_lagrange": CALIBRATED | {"penalty": "plain", "lagrange": True, "gap": 0.8, "alpha": 5.0},
    },
    "cql": {
        "default": DEFAULT,
        "other": {
            "discount": 0.9, "alpha_multiplier": 0.7, "target_entropy": -1.7, "automatic_temperature": True,
            "backup_entropy": True, "actor_learning_rate": 1e-3, "critic_learning_rate": 5e-4, "tau": 0.05, "target_period": 3,
            "actions": 4, "penalty": "importance", "lagrange": False, "gap": 0.5, "temperature": 0.6, "alpha": 4.0,
            "max_backup": False, "clip_min": 3.5, "clip_max": 6.0, "log_std_min": -1.0, "log_std_max": 0.5, "calibrate": False,
            "cloning_steps": 0,
        },
        "lagrange": DEFAULT | {"lagrange": True, "gap": 0.8, "alpha": 5.0},
    },
    "cql_options": {
        # Smaller deviations: of actions at the bounds, whose values are equal in f32, none is the best.
        "max_backup": FEWER | {"max_backup": True, "backup_entropy": True, "log_std_max": 0.0},
        "plain_logsumexp": FEWER | {"penalty": "plain"},
        "policy": FEWER | {"penalty": "policy"},
        "fixed_temperature": FEWER | {"automatic_temperature": False, "alpha_multiplier": 0.3, "backup_entropy": True},
    },
    # Deviations that are no smaller than this, without which densities of the data span hundreds of powers of ten.
    "cql_antmaze": {
        "antmaze": ANTMAZE,
        "narrow": ANTMAZE
        | {
            "backup_entropy": True, "clip_min": -10.0, "clip_max": 40.0, "gap": 2.5, "alpha": 1.5, "critic_layers": 4,
            "value_scale": -100.0,
        },
    },
    "cql_cloning": {"cloning": DEFAULT | {"actions": 4, "log_std_min": -1.0, "cloning_steps": common.STEPS // 2}},
}  # fmt: skip


def networks(trainer, value=lambda parameter: parameter):
    critics = lambda kind: common.ensemble(
        [common.perceptron(getattr(trainer, f"{kind}_{i}"), "network", value=value) for i in (1, 2)]
    )
    scalars = {"log_std_multiplier.constant": "log_std_scale", "log_std_offset.constant": "log_std_shift"}
    out = {
        "actor": common.perceptron(trainer.actor, "base_network", scalars, value),
        "critics": critics("critic"),
        "target_critics": critics("target_critic"),
    }
    scalar = lambda module, name: common.perceptron(module, "", {"constant": name}, value)
    if trainer.use_automatic_entropy_tuning:
        out["temperature"] = scalar(trainer.log_alpha, "log_alpha")
    if trainer.cql_lagrange:
        out["lagrange"] = scalar(trainer.log_alpha_prime, "log_alpha_prime")
    return out


def make_trainer(module, constants, seed):
    torch.manual_seed(seed)
    sizes = common.OBSERVATION_DIM, common.ACTION_DIM
    actor = module.TanhGaussianPolicy(*sizes, 1.0).double()
    actor.tanh_gaussian.log_std_min, actor.tanh_gaussian.log_std_max = constants["log_std_min"], constants["log_std_max"]
    layers = constants.get("critic_layers", 3)
    critics = [module.FullyConnectedQFunction(*sizes, orthogonal_init=True, n_hidden_layers=layers) for _ in range(2)]
    with torch.no_grad():
        # The authors' last layers are near 0: values and deviations of every size instead.
        actor.base_network[-1].weight *= 300.0
        for layer in actor.base_network[:-1:2]:
            layer.weight *= 2.0
        actor.base_network[-1].bias.copy_(torch.tensor([0.1, -0.2, 0.3, 3.4, -0.1, 0.6]))
        actor.log_std_multiplier.constant *= 0.9
        for critic in critics:
            # Cal-QL's last layers are orthogonal with a gain of sqrt(2), not of 0.01.
            critic.network[-1].weight *= 300.0 * (0.01 / 2**0.5 if constants["calibrate"] else 1.0)
            for layer in critic.network[::2]:
                layer.bias += 0.2 * torch.randn(layer.bias.shape)
            if "critic_layers" in constants:  # alike in all layers: changes of large weights would be lost in f32
                share = abs(constants["value_scale"]) ** (1 / (layers + 1))
                for layer in critic.network[::2]:
                    layer.weight *= share
                critic.network[-1].weight *= np.sign(constants["value_scale"])
    adam = lambda network, key: torch.optim.Adam(network.parameters(), lr=constants[f"{key}_learning_rate"])
    trainer = getattr(module, "CalQL" if constants["calibrate"] else "ContinuousCQL")(
        critics[0], adam(critics[0], "critic"), critics[1], adam(critics[1], "critic"), actor, adam(actor, "actor"),
        target_entropy=constants["target_entropy"], discount=constants["discount"],
        alpha_multiplier=constants["alpha_multiplier"],
        use_automatic_entropy_tuning=constants["automatic_temperature"], backup_entropy=constants["backup_entropy"],
        policy_lr=constants["actor_learning_rate"], qf_lr=constants["critic_learning_rate"],
        soft_target_update_rate=constants["tau"], bc_steps=constants["cloning_steps"], target_update_period=constants["target_period"],
        cql_n_actions=constants["actions"], cql_importance_sample=constants["penalty"] == "importance",
        cql_lagrange=constants["lagrange"], cql_target_action_gap=constants["gap"], cql_temp=constants["temperature"],
        cql_alpha=constants["alpha"], cql_max_target_backup=constants["max_backup"], cql_clip_diff_min=constants["clip_min"],
        cql_clip_diff_max=constants["clip_max"],
    )  # fmt: skip
    for scalar in (trainer.log_alpha, trainer.log_alpha_prime):
        if scalar is not None:  # they are made in float32
            scalar.constant.data = scalar.constant.data.double()
    if trainer.log_alpha is not None:
        trainer.log_alpha.constant.data += 0.2  # it starts at 0, with no loss
    actor.log_prob = lambda observations, actions: log_prob(actor, observations, actions)
    return trainer


def log_prob(actor, observations, actions):
    """Of these actions."""
    mean, log_std = torch.split(actor.base_network(observations), actor.action_dim, dim=-1)
    log_std = actor.log_std_multiplier() * log_std + actor.log_std_offset()
    return actor.tanh_gaussian.log_prob(mean, log_std, actions)


def record_gradients(trainer, out):
    """Puts the gradients with which each network's first step is taken."""
    optimizers = {"actor": trainer.actor_optimizer, "critics": trainer.critic_1_optimizer}
    if trainer.use_automatic_entropy_tuning:
        optimizers["temperature"] = trainer.alpha_optimizer
    if trainer.cql_lagrange:
        optimizers["lagrange"] = trainer.alpha_prime_optimizer

    def watch(name, optimizer):
        step = optimizer.step

        def first():
            out.put("grad", {name: networks(trainer, common.gradient)[name]})
            optimizer.step = step
            step()

        optimizer.step = first

    for name, optimizer in optimizers.items():
        watch(name, optimizer)


def draws(constants, noise, step):
    first = lambda name: noise[name][step][:, : constants["actions"]]
    target = first("backup") if constants["max_backup"] else noise["next"][step]
    kinds = ("normal", noise["policy"][step]), ("normal", target), ("uniform", first("random"))
    return *kinds, ("normal", first("current")), ("normal", first("following"))


def run(module, name, constants, steps, noise, seed):
    out, trainer = common.Run(name), make_trainer(module, constants, seed)
    out.put("start", networks(trainer))
    record_gradients(trainer, out)
    clamps, margins = {"log_std": [], "gap": []}, []

    def clamp(value, min, max):
        if value.requires_grad:
            kind = "gap" if value.ndim == 1 else "log_std" if value.ndim > 1 else None
            if kind:
                clamps[kind].append([(value < min).double().mean(), (value > max).double().mean()])
        return torch.clamp(value, min, max)

    def largest(values, dim):
        first, second = values.topk(2, dim).values.unbind(dim)
        margins.append((first - second).min())
        return torch.max(values, dim)

    mean_of_policy = lambda values, dim: values[:, -constants["actions"] :].mean(dim)
    logsumexp = mean_of_policy if constants["penalty"] == "policy" else torch.logsumexp
    module.torch = authors.Shim(torch, clamp=clamp, logsumexp=logsumexp, max=largest)
    for step in range(common.STEPS):
        with common.Recorded(draws(constants, noise, step)):
            returns = [steps["reached"][step][:, None]] if constants["calibrate"] else []
            log = trainer.train(common.corl_batch(steps, step) + returns)
        penalty = log["cql_min_qf1_loss"] + log["cql_min_qf2_loss"]
        td_loss = log["qf1_loss"] + log["qf2_loss"]
        out.log(
            critic_loss=td_loss + penalty, td_loss=td_loss, penalty=penalty, gap=(log["cql_qf1_diff"] + log["cql_qf2_diff"]) / 2,
            q_mean=(log["average_qf1"] + log["average_qf2"]) / 2, actor_loss=log["policy_loss"], entropy=-log["log_pi"],
            temperature=log["alpha"],
        )  # fmt: skip
        if constants["automatic_temperature"]:
            out.log(temperature_loss=log["alpha_loss"])
        if constants["lagrange"]:
            out.log(multiplier=log["alpha_prime"], multiplier_loss=log["alpha_prime_loss"])
    out.put("after", networks(trainer))
    low, high = np.mean(clamps["log_std"], 0)
    gap_low, gap_high = np.mean(clamps["gap"], 0)
    if constants["calibrate"]:
        shares = [log[f"bound_rate_cql_q{i}_{kind}_actions"] for i in (1, 2) for kind in ("current", "next")]
        print(f"  {name}: raised {shares}")
        assert all(0.1 < share < 0.85 for share in shares)
    print(f"  {name}: gaps", np.round(out.metrics["gap"], 2))
    print(f"  {name}: clamped deviations {low:.3f} {high:.3f}, gaps {gap_low:.3f} {gap_high:.3f}")
    assert min(margins, default=1.0) > 2e-5, margins
    assert "critic_layers" not in constants or 0.03 < gap_low < 0.6
    assert 0.01 < high < 0.5 and (name != "other" or min(low, gap_low, gap_high) > 0.03)
    return out


def finite(constants):
    """JSON has no infinity: null stands for no bound."""
    return {key: None if value in (np.inf, -np.inf) else value for key, value in constants.items()}


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    modules = {"cql": common.load_corl(args.authors, "cql"), "cal_ql": common.load_corl(args.authors, "cal_ql", "finetune")}
    modules["cql_options"] = modules["cql_cloning"] = modules["cql_antmaze"] = modules["cql"]
    rng = np.random.default_rng(13)
    steps = common.transitions(rng)
    one = common.STEPS, common.BATCH, common.ACTION_DIM
    many = common.STEPS, common.BATCH, ACTIONS, common.ACTION_DIM
    noise = {key: rng.normal(size=one) for key in ("policy", "next")} | {"backup": rng.normal(size=many)}
    noise |= {"random": rng.uniform(size=many)} | {key: rng.normal(size=many) for key in ("current", "following")}
    noise = {key: torch.tensor(value) for key, value in noise.items()}
    reached = rng.normal(0.0, 3.0, size=(common.STEPS, common.BATCH))
    reached[:, ::8] = -1e30
    for file, constants in FILES.items():
        known = steps | {"reached": torch.tensor(reached)} if file == "cal_ql" else steps
        runs = [run(modules[file], name, of, known, noise, seed=13) for name, of in constants.items()]
        most = max(of["actions"] for of in constants.values())
        stored = {key: value[:, :, :most] if value.ndim == 4 else value for key, value in noise.items()}
        if file not in ("cql_options", "cql_antmaze"):
            del stored["backup"]
        common.save(file, common.CORL, known, stored, runs, {name: finite(of) for name, of in constants.items()})
