"""Golden numbers of a widely used SAC: ten updates with recorded noise.

python tests/golden/sac.py --authors SAC
pranz24/pytorch-soft-actor-critic @ c1805660b3961694be54079a355155a5cad492f5, sac.py and model.py

Not as in that code: actions, rewards and so on stay F64 (`FloatTensor` there); the first update uses exp(log alpha) where that
code still has its argument `alpha`, which means something else; log alpha, the target entropy and Adam's rates are the run's (0,
-A, one rate there).
"""

import argparse
import sys

import actor_critic_runs as runs
import authors
import numpy as np
import torch

COMMIT = "pranz24/pytorch-soft-actor-critic@c1805660b3961694be54079a355155a5cad492f5"
RUNS = {
    "default": {
        "discount": 0.99, "target_rate": 0.005, "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
        "temperature_learning_rate": 3e-4, "target_entropy": -2.0, "log_alpha": 0.0, "automatic_temperature": True, "target_every": 1,
    },
    "other": {
        "discount": 0.9, "target_rate": 0.05, "actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3,
        "temperature_learning_rate": 5e-3, "target_entropy": -0.7, "log_alpha": -0.4, "automatic_temperature": True, "target_every": 3,
    },
    "fixed": {
        "discount": 0.99, "target_rate": 0.005, "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
        "temperature_learning_rate": 3e-4, "target_entropy": -2.0, "log_alpha": float(np.log(0.2)), "automatic_temperature": False,
        "target_every": 1,
    },
}  # fmt: skip
# model.py clips log standard deviations to this.
LOG_STD = -20.0, 2.0


class Memory:
    """Their replay memory, which returns the recorded batches."""

    def __init__(self, batches):
        self.rows = list(batches)

    def sample(self, batch_size):
        row = self.rows.pop(0)
        return row["observations"], row["actions"], row["rewards"], row["next_observations"], 1 - row["terminated"]


def spread_out(policy, critic):
    """Values at which clips, saturated actions and the minimum of both critics all matter."""
    with torch.no_grad():
        policy.log_std_linear.weight.normal_(0.0, 6.0)
        policy.log_std_linear.bias.fill_(-8.0)
        for network in (policy, critic):
            for name, parameter in network.named_parameters():
                if name.endswith("bias") and "log_std" not in name:
                    parameter.normal_(0.0, 0.2)


def exercised(trainer, batches, noise):
    with torch.no_grad():
        states = torch.cat([batch["observations"] for batch in batches])
        hidden = torch.relu(trainer.policy.linear2(torch.relu(trainer.policy.linear1(states))))
        log_std = trainer.policy.log_std_linear(hidden)
        low, high = [(side).double().mean().item() for side in (log_std < LOG_STD[0], log_std > LOG_STD[1])]
        assert 0.002 < low < 0.2 and 0.02 < high < 0.5, (low, high)
        std = log_std.clip(*LOG_STD).exp()
        actions = torch.tanh(trainer.policy.mean_linear(hidden) + std * noise["actor"].flatten(0, 1))
        saturated = (1 - actions**2 < 1e-6).double().mean().item()
        assert 0.005 < saturated < 0.4, saturated
        first, second = trainer.critic(states, actions)
        smaller = (first < second).double().mean().item()
        assert 0.02 < smaller < 0.98, smaller
        print("below, above, saturated, first smaller:", low, high, saturated, smaller)


def run(name, sac, constants, batches, noise, seed):
    torch.manual_seed(seed)
    arguments = argparse.Namespace(
        gamma=constants["discount"], tau=constants["target_rate"], alpha=float(np.exp(constants["log_alpha"])),
        policy="Gaussian", target_update_interval=constants["target_every"], cuda=False, hidden_size=runs.HIDDEN,
        automatic_entropy_tuning=constants["automatic_temperature"], lr=constants["actor_learning_rate"],
    )  # fmt: skip
    space = argparse.Namespace(shape=(runs.ACTION,), high=np.ones(runs.ACTION), low=-np.ones(runs.ACTION))
    trainer = sac.SAC(runs.OBSERVATION, space, arguments)
    spread_out(trainer.policy, trainer.critic)
    trainer.critic_target.load_state_dict(trainer.critic.state_dict())
    trainer.critic_optim = torch.optim.Adam(trainer.critic.parameters(), lr=constants["critic_learning_rate"])
    exercised(trainer, batches, noise)

    policy, layers = trainer.policy, lambda network, first: [getattr(network, f"linear{first + i}") for i in range(3)]
    critics = lambda network: runs.separate_critics([layers(network, 1), layers(network, 4)])
    networks = {
        "actor": runs.mlp([policy.linear1, policy.linear2, (policy.mean_linear, policy.log_std_linear)]),
        "critics": critics(trainer.critic),
        "target_critics": critics(trainer.critic_target),
    }
    optimizers = {"actor": trainer.policy_optim, "critics": trainer.critic_optim}
    if constants["automatic_temperature"]:
        trainer.target_entropy = constants["target_entropy"]
        trainer.log_alpha = torch.tensor([constants["log_alpha"]], requires_grad=True)
        trainer.alpha_optim = torch.optim.Adam([trainer.log_alpha], lr=constants["temperature_learning_rate"])
        networks["temperature"] = {"log_alpha": lambda of: of(trainer.log_alpha)}
        optimizers["temperature"] = trainer.alpha_optim
    recording, draws, memory = runs.Recording(name, networks, optimizers), runs.Draws(noise), Memory(batches)
    torch.distributions.normal._standard_normal = draws.take
    for step in range(runs.STEPS):
        first, second, actor_loss, temperature_loss, temperature = trainer.update_parameters(memory, runs.BATCH, step + 1)
        draws.end_of_update()
        recording.metric(critic_loss=first + second, actor_loss=actor_loss)
        if constants["automatic_temperature"]:
            recording.metric(temperature_loss=temperature_loss, temperature=temperature)
    tensors = recording.finish()
    if not constants["automatic_temperature"]:
        fixed = np.array([constants["log_alpha"]])
        tensors |= {f"{name}.{when}.temperature.log_alpha": fixed for when in ("start", "after")}
    return tensors


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    sys.path.insert(0, str(args.authors))
    import model
    import sac  # theirs

    model.torch = sac.torch = authors.Shim(torch, FloatTensor=torch.as_tensor)
    rng = np.random.default_rng(4)
    batches, noise = runs.make_batches(rng), runs.make_noise(rng, "next", "actor")
    tensors = {}
    for name, constants in RUNS.items():
        tensors |= run(name, sac, constants, batches, noise, seed=4)
    runs.save("sac", batches, noise, tensors, RUNS, {"authors": COMMIT, "hidden": runs.HIDDEN, "log_std": LOG_STD})
