"""Golden numbers of d3rlpy's CRR: ten updates with recorded noise, in the layout of value_based.py.

python tests/golden/crr.py --authors D3RLPY   (takuseno/d3rlpy @ 38c34b6f99fde82875e2ad81d1ba1f7a7da34137)

d3rlpy rather than google-deepmind/acme: acme's CRR has one critic without a minimum and no soft targets, and gives its
results for a distributional critic elsewhere. Not reproduced: d3rlpy never copies the policy into the target policy
at the start (`CRRImpl` skips `DDPGImpl`'s constructor), so that its first targets act by an unrelated random policy; here
both start equal. Its hard targets count updates from 0, ours from 1: the counter is given from 1.

Noise: `next_actions` (S, B, A), then `actions` (S, samples, B, A); a run with fewer samples takes the first ones.
"""

import authors
import d3rlpy_reference as reference
import numpy as np
import torch
import value_based as common

DEFAULT = {
    "weight": "binary", "advantage": "mean", "temperature": 1.0, "max_weight": 20.0, "samples": 4, "discount": 0.99,
    "target_rate": 0.005, "target_every": 1, "log_std_min": -20.0, "log_std_max": 2.0,
    "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
}  # fmt: skip
# `default`: reproductions/offline/crr.py. `exponential`: CRRConfig's own values, with targets copied every third
# update rather than every hundredth. `other`: every constant different.
RUNS = {
    "default": DEFAULT,
    "exponential": DEFAULT | {"weight": "exponential", "target_rate": 1.0, "target_every": 3},
    # As many critics as both have; the other runs have two.
    "one_critic": DEFAULT | {"members": 1},
    "binary_max": DEFAULT | {"advantage": "max"},
    "other": {
        "weight": "exponential", "advantage": "max", "temperature": 1.7, "max_weight": 1.5, "samples": 3,
        "discount": 0.9, "target_rate": 0.05, "target_every": 1, "log_std_min": -1.2, "log_std_max": 1.0,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 5e-4,
    },
}  # fmt: skip


def build(constants):
    from d3rlpy.algos.qlearning.torch.crr_impl import CRRImpl, CRRModules
    from d3rlpy.models.builders import create_normal_policy

    torch.manual_seed(1)
    clamp = {"min_logstd": constants["log_std_min"], "max_logstd": constants["log_std_max"]}
    sizes = (common.OBSERVATION_DIM,), common.ACTION_DIM
    policy, target_policy = [
        create_normal_policy(*sizes, reference.encoder(), **reference.OPTIONS, **clamp) for _ in range(2)
    ]
    count = constants.get("members", 2)
    (critics, forwarder), (target_critics, target_forwarder) = [reference.make_critics(count) for _ in range(2)]
    with torch.no_grad():
        # Log deviations pass their bounds, advantages pass 0 and the logarithm of the largest weight.
        policy._logstd.bias += torch.tensor([-1.4, 2.0, -0.5])
        for layer in reference.linears(critics):
            layer.weight *= 4.3
    target_policy.load_state_dict(policy.state_dict())
    optimizers = [
        reference.Recording(policy, constants["actor_learning_rate"], lambda v: reference.two_headed(policy, v)),
        reference.Recording(critics, constants["critic_learning_rate"], lambda v: reference.critics(critics, v)),
    ]
    modules = CRRModules(
        policy=policy, targ_policy=target_policy, q_funcs=critics, targ_q_funcs=target_critics,
        actor_optim=optimizers[0], critic_optim=optimizers[1],
    )  # fmt: skip
    kinds = {"binary": "binary", "exponential": "exp"}
    return CRRImpl(
        observation_shape=sizes[0], action_size=sizes[1], modules=modules, q_func_forwarder=forwarder,
        targ_q_func_forwarder=target_forwarder, gamma=constants["discount"], beta=constants["temperature"],
        n_action_samples=constants["samples"], advantage_type=constants["advantage"],
        weight_type=kinds[constants["weight"]], max_weight=constants["max_weight"], tau=constants["target_rate"],
        target_update_type="hard" if constants["target_rate"] == 1.0 else "soft",
        target_update_interval=constants["target_every"], compiled=False, device="cpu",
    )  # fmt: skip


def networks(modules):
    itself = reference.itself
    return {
        "actor": reference.two_headed(modules.policy, itself),
        "critics": reference.critics(modules.q_funcs, itself),
        "target_actor": reference.two_headed(modules.targ_policy, itself),
        "target_critics": reference.critics(modules.targ_q_funcs, itself),
    }


def run(name, constants, steps, noise):
    impl = build(constants)
    modules, weights = impl._modules, []
    result = common.Run(name)
    result.put("start", networks(modules))
    compute_weight = impl._compute_weight
    impl._compute_weight = lambda *args: weights.append(compute_weight(*args)) or weights[-1]
    log_std = modules.policy(steps["observations"]).logstd
    assert (log_std == constants["log_std_max"]).any() and (log_std < constants["log_std_max"]).any()
    assert name != "other" or (log_std == constants["log_std_min"]).any()
    for step in range(common.STEPS):
        draws = noise["next_actions"][step], noise["actions"][step, : constants["samples"]]
        with common.Recorded([("normal", draw) for draw in draws]):
            log = impl.inner_update(reference.mini_batch(steps, step), step + 1)
        result.log(critic_loss=log["critic_loss"], actor_loss=log["actor_loss"], weight_mean=weights[-1].mean())
    weights = torch.stack(weights)
    share = lambda value: (weights == value).double().mean().item()
    if constants["weight"] == "binary":
        assert 0.1 < share(0.0) < 0.9 and share(0.0) + share(1.0) == 1
    else:
        assert 0.02 < share(constants["max_weight"]) < 0.9
    result.put("grad", {"actor": modules.actor_optim.first, "critics": modules.critic_optim.first})
    result.put("after", networks(modules))
    return result


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    reference.load(args.authors)
    rng = np.random.default_rng(3)
    steps = common.transitions(rng)
    rows = common.BATCH, common.ACTION_DIM
    noise = {
        "next_actions": torch.tensor(rng.normal(size=(common.STEPS, *rows))),
        "actions": torch.tensor(rng.normal(size=(common.STEPS, DEFAULT["samples"], *rows))),
    }
    runs = [run(name, constants, steps, noise) for name, constants in RUNS.items()]
    common.save("crr", reference.COMMIT, steps, noise, runs, RUNS)
