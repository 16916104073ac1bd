"""Golden numbers of CORL's IQL: corl-team/CORL @ eeeeef2671235fcce3a3eb255576a207d78840e6, algorithms/offline/iql.py.

python tests/golden/iql.py --authors CORL

Runs: `default`; `other` with every constant different; `deterministic`, the actor without a deviation; `official`, the order of
ikostrikov/implicit_q_learning @ 09d700248117881a75cb21f0adb95c6c8a694cb2, from CORL's own functions: V's step first, then the
advantage and Q's target with the new V (learner.py, `_update_jit`; iql_original.py runs that code itself). CORL takes both from V before its
step; `no_decay`, `default` with the actor's rate as it is, which the authors have with `opt_decay_schedule = None`: CORL's scheduler, which
has no such choice, does nothing.

Metrics: value_loss, critic_loss (the mean over both critics), actor_loss, clipped_weights (the fraction of exp(beta A) at its bound).
The layout is described in value_based.py. CORL's `.float()` in the expectile's weight is double here, where it would round 0.7 to float32.
"""

import authors
import numpy as np
import torch
import value_based as common

# `max_steps` is the actor's cosine: learning rate (1 + cos(pi k / max_steps)) / 2 at update k from 0; 0: none.
DEFAULT = {
    "discount": 0.99, "tau": 0.005, "expectile": 0.7, "beta": 3.0, "max_weight": 100.0, "log_std_min": -20.0, "log_std_max": 2.0,
    "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4, "value_learning_rate": 3e-4, "max_steps": 1_000_000,
    "deterministic": False, "order": "corl",
}  # fmt: skip
RUNS = {
    "default": DEFAULT,
    "other": {
        "discount": 0.9, "tau": 0.05, "expectile": 0.85, "beta": 2.0, "max_weight": 20.0, "log_std_min": -1.0, "log_std_max": 1.0,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 5e-4, "value_learning_rate": 7e-4, "max_steps": 12,
        "deterministic": False, "order": "corl",
    },
    "deterministic": DEFAULT | {"deterministic": True},
    "official": DEFAULT | {"order": "official"},
    "no_decay": DEFAULT | {"actor_learning_rate": 1e-3, "max_steps": 0},
}  # fmt: skip


def networks(trainer, value=lambda parameter: parameter):
    critics = lambda q: common.ensemble([common.perceptron(member, "net", value=value) for member in (q.q1, q.q2)])
    return {
        "actor": common.perceptron(trainer.actor, "net.net", {"log_std": "log_std"}, value),
        "critics": critics(trainer.qf),
        "value": common.perceptron(trainer.vf.v, "net", value=value),
        "target_critics": critics(trainer.q_target),
    }


def make_trainer(module, constants, steps, seed):
    torch.manual_seed(seed)
    module.EXP_ADV_MAX = constants["max_weight"]
    module.LOG_STD_MIN, module.LOG_STD_MAX = constants["log_std_min"], constants["log_std_max"]
    sizes = common.OBSERVATION_DIM, common.ACTION_DIM
    kind = module.DeterministicPolicy if constants["deterministic"] else module.GaussianPolicy
    actor, q, v = kind(*sizes, 1.0).double(), module.TwinQ(*sizes), module.ValueFunction(sizes[0])
    with torch.no_grad():
        # Advantages of both signs, and large enough that some weights exp(beta A) reach their bound.
        for layer in (q.q1.net[-2], q.q2.net[-2], v.v.net[-2]):
            layer.weight *= 14.0
            layer.bias.zero_()
        advantages = q(steps["observations"][0], steps["actions"][0]) - v(steps["observations"][0])
        v.v.net[-2].bias += advantages.mean()
        if not constants["deterministic"]:
            # Below the narrow range of `other`; inside; above both ranges.
            actor.log_std.copy_(torch.tensor([-1.5, 0.3, 2.5]))
    adam = lambda network, key: torch.optim.Adam(network.parameters(), lr=constants[f"{key}_learning_rate"])
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    constant = lambda optimizer, _: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    module.CosineAnnealingLR = cosine if constants["max_steps"] else constant
    return module.ImplicitQLearning(
        1.0, actor, adam(actor, "actor"), q, adam(q, "critic"), v, adam(v, "value"), iql_tau=constants["expectile"],
        beta=constants["beta"], max_steps=constants["max_steps"], discount=constants["discount"], tau=constants["tau"],
    )  # fmt: skip


def official_update(trainer, batch):
    """CORL's functions in the order of the authors' `_update_jit`."""
    observations, actions, rewards, next_observations, done = batch
    log = {}
    trainer._update_v(observations, actions, log)
    with torch.no_grad():
        advantages = trainer.q_target(observations, actions) - trainer.vf(observations)
        next_v = trainer.vf(next_observations)
    trainer._update_policy(advantages, observations, actions, log)
    trainer._update_q(next_v, observations, actions, rewards[:, 0], done[:, 0], log)
    return log, advantages


def run(module, name, constants, steps, seed):
    out, trainer = common.Run(name), make_trainer(module, constants, steps, seed)
    out.put("start", networks(trainer))
    if not constants["deterministic"]:
        log_std = trainer.actor.log_std
        outside = [(log_std < constants["log_std_min"]).sum(), (log_std > constants["log_std_max"]).sum()]
        assert outside == ([1, 1] if name == "other" else [0, 1])
    clipped, positive = [], []
    for step in range(common.STEPS):
        batch = common.corl_batch(steps, step)
        if constants["order"] == "official":
            log, advantages = official_update(trainer, batch)
        else:
            with torch.no_grad():
                advantages = trainer.q_target(batch[0], batch[1]) - trainer.vf(batch[0])
            log = trainer.train(batch)
        clipped.append((torch.exp(constants["beta"] * advantages) > constants["max_weight"]).double().mean())
        positive.append((advantages > 0).double().mean())
        out.log(
            value_loss=log["value_loss"], critic_loss=log["q_loss"], actor_loss=log["actor_loss"], clipped_weights=clipped[-1]
        )
        if step == 0:
            gradients = networks(trainer, common.gradient)
            out.put("grad", {key: gradients[key] for key in ("actor", "critics", "value")})
    out.put("after", networks(trainer))
    assert 0.03 < np.mean(clipped) < 0.5 and 0.2 < np.mean(positive) < 0.8, (np.mean(clipped), np.mean(positive))
    return out


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    module = common.load_corl(args.authors, "iql")
    torch.Tensor.float = torch.Tensor.double
    steps = common.transitions(np.random.default_rng(11))
    runs = [run(module, name, constants, steps, seed=11) for name, constants in RUNS.items()]
    common.save("iql", common.CORL, steps, {}, runs, RUNS)
