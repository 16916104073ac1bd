"""Golden numbers of CORL's AWAC: corl-team/CORL @ eeeeef2671235fcce3a3eb255576a207d78840e6, algorithms/offline/awac.py.

python tests/golden/awac.py --authors CORL

Noise, in the order of use: `next` [S, B, A] draws the target's actions, `policy` [S, B, A] the actions that the advantage compares with.
Metrics: critic_loss (the sum over both critics), actor_loss, clipped_weights (the fraction of exp(A / lambda) at its bound).
The layout is described in value_based.py. `default` has lambda 0.3333 as all of CORL's locomotion files (its class says 1).
"""

import authors
import numpy as np
import torch
import value_based as common

RUNS = {
    "default": {
        "discount": 0.99, "tau": 0.005, "lambda": 0.3333, "max_weight": 100.0, "log_std_min": -20.0, "log_std_max": 2.0,
        "learning_rate": 3e-4,
    },
    "other": {
        "discount": 0.9, "tau": 0.05, "lambda": 0.6, "max_weight": 20.0, "log_std_min": -1.0, "log_std_max": 1.0,
        "learning_rate": 1e-3,
    },
}  # fmt: skip


def networks(trainer, value=lambda parameter: parameter):
    critics = lambda kind: common.ensemble(
        [common.perceptron(getattr(trainer, f"_{kind}_{i}"), "_mlp", value=value) for i in (1, 2)]
    )
    return {
        "actor": common.perceptron(trainer._actor, "_mlp", {"_log_std": "log_std"}, value),
        "critics": critics("critic"),
        "target_critics": critics("target_critic"),
    }


def make_trainer(module, constants, steps, seed):
    torch.manual_seed(seed)
    sizes = common.OBSERVATION_DIM, common.ACTION_DIM, common.WIDTH
    actor = module.Actor(*sizes, constants["log_std_min"], constants["log_std_max"]).double()
    critics = [module.Critic(*sizes) for _ in range(2)]
    with torch.no_grad():
        # Large enough values that some weights exp(A / lambda) reach their bound.
        for critic in critics:
            for layer in critic._mlp[::2]:
                layer.weight *= 3.3
        # Below the narrow range of `other`; inside; above both ranges.
        actor._log_std.copy_(torch.tensor([-1.5, 0.3, 2.5]))
    adam = lambda network: torch.optim.Adam(network.parameters(), lr=constants["learning_rate"])
    return module.AdvantageWeightedActorCritic(
        actor, adam(actor), critics[0], adam(critics[0]), critics[1], adam(critics[1]), gamma=constants["discount"],
        tau=constants["tau"], awac_lambda=constants["lambda"], exp_adv_max=constants["max_weight"],
    )  # fmt: skip


def run(module, name, constants, steps, noise, seed):
    out, trainer = common.Run(name), make_trainer(module, constants, steps, seed)
    out.put("start", networks(trainer))
    clamp_max, clipped, outside = torch.clamp_max, [], []

    def watched(weights, bound):
        clipped.append((weights > bound).double().mean())
        return clamp_max(weights, bound)

    module.torch = authors.Shim(torch, clamp_max=watched)
    for step in range(common.STEPS):
        with torch.no_grad():
            policy = trainer._actor._get_policy(steps["observations"][step])
            outside.append(((policy.mean + policy.stddev * noise["policy"][step]).abs() > 1).double().mean())
        with common.Recorded([("normal", noise[key][step]) for key in ("next", "policy")]):
            log = trainer.update(common.corl_batch(steps, step))
        out.log(**log, clipped_weights=clipped[-1])
        if step == 0:
            gradients = networks(trainer, common.gradient)
            out.put("grad", {key: gradients[key] for key in ("actor", "critics")})
    out.put("after", networks(trainer))
    assert 0.03 < np.mean(clipped) < 0.5 and 0.1 < np.mean(outside) < 0.9, (np.mean(clipped), np.mean(outside))
    return out


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    module = common.load_corl(args.authors, "awac")
    rng = np.random.default_rng(12)
    steps = common.transitions(rng)
    shape = common.STEPS, common.BATCH, common.ACTION_DIM
    noise = {key: torch.tensor(rng.normal(size=shape)) for key in ("next", "policy")}
    runs = [run(module, name, constants, steps, noise, seed=12) for name, constants in RUNS.items()]
    common.save("awac", common.CORL, steps, noise, runs, RUNS)
