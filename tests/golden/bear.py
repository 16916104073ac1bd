"""Golden numbers of d3rlpy's BEAR: ten updates with recorded noise, in the layout of value_based.py.

python tests/golden/bear.py --authors D3RLPY   (takuseno/d3rlpy @ 38c34b6f99fde82875e2ad81d1ba1f7a7da34137)

d3rlpy rather than the authors' code: aviralkumar2907/BEAR @ f2e31c1 differentiates the multiplier's loss after the actor's
step through changed weights, which PyTorch refuses since 1.5, and so does its successor in rail-berkeley/d4rl_evaluations @
c93b9d2. The first differs further: target actor; Q averaged over the MMD's actions; deviations of these clamped to 0.5; the
multiplier moves during the warm-up; a critic ensemble's deviation as penalty.

Three bugs of d3rlpy are not reproduced (the script shows the first):
1. `update_alpha` differentiates -MMD into the actor's gradients too, which are not cleared before the actor's own
   loss is differentiated: after the warm-up the MMD's gradient cancels and the constraint does nothing.
2. `VAEDecoder` has tanh where it is told not to squash and none where it is: the VAE is trained without tanh, and the
   MMD compares squashed actions of the VAE with unsquashed ones of the actor. The authors: the opposite.
3. The multiplier's optimiser gets the actor's learning rate (bear.py). Here it has its own.

The entropy's temperature is 1e-20, as in reproductions/offline/bear.py: no number shows it.

Noise, in the order of use: `vae` (S, B, 2 A), `next_actions` (S, target samples, B, A), `actor` (S, B, A; not during the warm-up),
`latents` (S, samples, B, 2 A), `actions` (S, samples, B, A). A run with fewer samples takes the first ones.
"""

import math

import authors
import d3rlpy_reference as reference
import numpy as np
import torch
import value_based as common

DEFAULT = {
    "kernel": "laplacian", "bandwidth": 20.0, "threshold": 0.05, "samples": 4, "target_samples": 10, "min_weight": 0.75,
    "vae_kl_weight": 0.5, "warmup": 3, "discount": 0.99, "target_rate": 0.005, "log_std_min": -20.0, "log_std_max": 2.0,
    "initial_multiplier": 1.0, "actor_learning_rate": 1e-4, "critic_learning_rate": 3e-4, "vae_learning_rate": 3e-4,
    "multiplier_learning_rate": 1e-3,
}  # fmt: skip
# `default`: reproductions/offline/bear.py, with a warm-up of 3 updates rather than 40 000. `other`: every constant
# different; its multiplier meets the lower bound exp(-5), that of `gaussian` the upper one, exp(10).
RUNS = {
    "default": DEFAULT,
    "gaussian": DEFAULT | {"kernel": "gaussian", "initial_multiplier": math.exp(9.998)},
    "other": {
        "kernel": "gaussian", "bandwidth": 3.0, "threshold": 0.9, "samples": 3, "target_samples": 6, "min_weight": 0.6,
        "vae_kl_weight": 0.2, "warmup": 5, "discount": 0.9, "target_rate": 0.05, "log_std_min": -4.0, "log_std_max": 1.0,
        "initial_multiplier": math.exp(-4.995), "actor_learning_rate": 1e-3, "critic_learning_rate": 5e-4,
        "vae_learning_rate": 7e-4, "multiplier_learning_rate": 2e-3,
    },
}  # fmt: skip
VAE_LOG_STD = -4.0, 15.0


def vae_layout(encoder, decoder, value):
    parts = {"encoder": reference.two_headed(encoder, value), "decoder": reference.perceptron(reference.linears(decoder), value)}
    return {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}


def multiplier_layout(parameter, value):
    return common.copied({"log_alpha_prime": value(next(parameter.parameters())).reshape(1)})


def build(constants):
    from d3rlpy.algos.qlearning.torch.bear_impl import BEARModules
    from d3rlpy.models.builders import create_normal_policy, create_parameter, create_vae_decoder, create_vae_encoder

    torch.manual_seed(1)
    sizes = (common.OBSERVATION_DIM,), common.ACTION_DIM
    clamp = {"min_logstd": constants["log_std_min"], "max_logstd": constants["log_std_max"]}
    policy = create_normal_policy(*sizes, reference.encoder(), **reference.OPTIONS, **clamp)
    (critics, forwarder), (target_critics, target_forwarder) = reference.make_critics(), reference.make_critics()
    latent = (*sizes, 2 * sizes[1], reference.encoder(), "cpu", False)
    encoder = create_vae_encoder(*latent, min_logstd=VAE_LOG_STD[0], max_logstd=VAE_LOG_STD[1])
    decoder = create_vae_decoder(*latent)
    # d3rlpy makes them in float32.
    temperature, multiplier = [create_parameter((1, 1), 0.0, **reference.OPTIONS).double() for _ in range(2)]
    with torch.no_grad():
        for parameter, value in ((temperature, 1e-20), (multiplier, constants["initial_multiplier"])):
            next(parameter.parameters()).fill_(math.log(value))
        # Log deviations pass their bounds; the critics disagree.
        policy._logstd.bias += torch.tensor([2.0, -0.5, constants["log_std_min"]])
        encoder._logstd.bias += torch.tensor([-4.0, 0.5, -1.0, -4.0, 0.0, 1.0])
        for critic in critics:
            critic._fc.weight *= 5.0
    actor = lambda value: reference.two_headed(policy, value)
    modules = BEARModules(
        policy=policy, q_funcs=critics, targ_q_funcs=target_critics, vae_encoder=encoder, vae_decoder=decoder,
        log_temp=temperature, log_alpha=multiplier, temp_optim=None,
        actor_optim=reference.Recording(policy, constants["actor_learning_rate"], actor),
        critic_optim=reference.Recording(
            critics, constants["critic_learning_rate"], lambda value: reference.critics(critics, value)
        ),
        vae_optim=reference.Recording(
            torch.nn.ModuleList([encoder, decoder]), constants["vae_learning_rate"],
            lambda value: vae_layout(encoder, decoder, value),
        ),
        alpha_optim=reference.Recording(
            multiplier, constants["multiplier_learning_rate"], lambda value: multiplier_layout(multiplier, value)
        ),
    )  # fmt: skip
    return corrected_class()(
        observation_shape=sizes[0], action_size=sizes[1], modules=modules, q_func_forwarder=forwarder,
        targ_q_func_forwarder=target_forwarder, gamma=constants["discount"], tau=constants["target_rate"],
        alpha_threshold=constants["threshold"], lam=constants["min_weight"], n_action_samples=100,
        n_target_samples=constants["target_samples"], n_mmd_action_samples=constants["samples"],
        mmd_kernel=constants["kernel"], mmd_sigma=constants["bandwidth"], vae_kl_weight=constants["vae_kl_weight"],
        warmup_steps=constants["warmup"], compiled=False, device="cpu",
    )  # fmt: skip


def corrected_class():
    """BEARImpl without its first bug; keeps the MMD of every update."""
    from d3rlpy.algos.qlearning.torch.bear_impl import BEARImpl

    class Corrected(BEARImpl):
        def update_alpha(self, mmd_loss):
            if self.show_bug:
                return super().update_alpha(mmd_loss)
            parameter = next(self._modules.log_alpha.parameters())
            (parameter.grad,) = torch.autograd.grad(-mmd_loss, parameter, retain_graph=True)
            self._modules.alpha_optim.step()
            parameter.data.clamp_(-5.0, 10.0)

        def _compute_mmd(self, x):
            self.mmd = super()._compute_mmd(x)
            return self.mmd

    Corrected.show_bug = False
    return Corrected


def correct_decoder():
    """The second bug: `with_squash` means the opposite."""
    from d3rlpy.models.torch.imitators import VAEDecoder

    forward = VAEDecoder.forward
    VAEDecoder.forward = lambda self, x, latent, with_squash: forward(self, x, latent, not with_squash)


def networks(modules):
    itself = reference.itself
    return {
        "actor": reference.two_headed(modules.policy, itself),
        "critics": reference.critics(modules.q_funcs, itself),
        "target_critics": reference.critics(modules.targ_q_funcs, itself),
        "vae": vae_layout(modules.vae_encoder, modules.vae_decoder, itself),
        "lagrange": multiplier_layout(modules.log_alpha, itself),
    }


def draws(constants, noise, step):
    warm = step < constants["warmup"]
    count = constants["samples"]
    queue = [noise["vae"][step], noise["next_actions"][step, : constants["target_samples"]]]
    queue += [] if warm else [noise["actor"][step]]
    queue += [noise["latents"][step, :count].flatten(0, 1), noise["actions"][step, :count]]
    return [("normal", draw) for draw in queue]


class Recorded(common.Recorded):
    """torch.randn too."""

    def __enter__(self):
        self.randn, torch.randn = torch.randn, lambda shape, device: self.take("normal", shape)
        return super().__enter__()

    def __exit__(self, *args):
        torch.randn = self.randn
        super().__exit__(*args)


def run(name, constants, steps, noise):
    impl = build(constants)
    modules = impl._modules
    result = common.Run(name)
    result.put("start", networks(modules))
    bounds = (modules.policy(steps["observations"]).logstd, constants["log_std_min"], constants["log_std_max"])
    deviation = modules.vae_encoder(steps["observations"].flatten(0, 1), steps["actions"].flatten(0, 1)).stddev
    assert all((bounds[0] == bound).any() for bound in bounds[1:]) and (deviation == math.exp(VAE_LOG_STD[0])).any()
    for step in range(common.STEPS):
        with Recorded(draws(constants, noise, step)):
            log = impl.inner_update(reference.mini_batch(steps, step), step)
        result.log(
            vae_loss=log["imitator_loss"], critic_loss=log["critic_loss"], actor_loss=log["actor_loss"], mmd=impl.mmd.detach().mean()
        )
    result.put(
        "grad",
        {
            "actor": modules.actor_optim.first, "critics": modules.critic_optim.first, "vae": modules.vae_optim.first,
            "lagrange": modules.alpha_optim.first,
        },
    )  # fmt: skip
    result.put("after", networks(modules))
    bound = {"default": None, "gaussian": 10.0, "other": -5.0}[name]
    assert bound in (None, next(modules.log_alpha.parameters()).item())
    return result


def show_first_bug(constants, steps, noise):
    """With d3rlpy's own `update_alpha` the actor's gradient after the warm-up is that of Q alone."""
    gradients = []
    for show_bug, threshold_weight in ((True, 1.0), (False, 0.0)):
        impl = build(constants | {"warmup": 0})
        type(impl).show_bug = show_bug
        loss = impl._compute_mmd_loss
        impl._compute_mmd_loss = lambda x, loss=loss, weight=threshold_weight: loss(x) * weight
        with Recorded(draws(constants | {"warmup": 0}, noise, 0)):
            impl.inner_update(reference.mini_batch(steps, 0), 0)
        gradients.append(torch.cat([g.flatten() for g in impl._modules.actor_optim.first.values()]))
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)
    print("d3rlpy's actor gradient after the warm-up, with MMD and without, differs by", (gradients[0] - gradients[1]).abs().max())


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    reference.load(args.authors)
    correct_decoder()
    rng = np.random.default_rng(4)
    steps = common.transitions(rng)
    normal = lambda *shape: torch.tensor(rng.normal(size=(common.STEPS, *shape)))
    b, a = common.BATCH, common.ACTION_DIM
    noise = {
        "vae": normal(b, 2 * a), "next_actions": normal(DEFAULT["target_samples"], b, a), "actor": normal(b, a),
        "latents": normal(DEFAULT["samples"], b, 2 * a), "actions": normal(DEFAULT["samples"], b, a),
    }  # fmt: skip
    show_first_bug(DEFAULT, steps, noise)
    runs = [run(name, constants, steps, noise) for name, constants in RUNS.items()]
    common.save("bear", reference.COMMIT, steps, noise, runs, RUNS)
