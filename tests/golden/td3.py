"""Golden numbers of TD3's authors: ten updates with recorded noise.

python tests/golden/td3.py --authors TD3
sfujim/TD3 @ 34770ccdcb51df6f6c7d85c1ba7e40d71b940d16, TD3.py

Not as in the authors' code: Adam's rate is the run's (3e-4 there); hidden layers have 16 units instead of 256.
"""

import importlib.util

import actor_critic_runs as runs
import authors
import numpy as np
import torch

COMMIT = "sfujim/TD3@34770ccdcb51df6f6c7d85c1ba7e40d71b940d16"
# policy_noise and noise_clip are per unit of the largest action, which is 1.
RUNS = {
    "default": {
        "discount": 0.99, "target_rate": 0.005, "policy_noise": 0.2, "noise_clip": 0.5, "policy_delay": 2,
        "actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
    },
    "other": {
        "discount": 0.9, "target_rate": 0.05, "policy_noise": 0.4, "noise_clip": 0.3, "policy_delay": 3,
        "actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3,
    },
}  # fmt: skip


def load(folder):
    spec = importlib.util.spec_from_file_location("authors_td3", folder / "TD3.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    width = lambda size: runs.HIDDEN if size == 256 else size
    module.nn = authors.Shim(torch.nn, Linear=lambda i, o: torch.nn.Linear(width(i), width(o)))
    return module


class Buffer:
    """The authors' replay buffer, which returns the recorded batches."""

    def __init__(self, batches):
        self.rows = list(batches)

    def sample(self, _):
        row = self.rows.pop(0)
        columns = row["rewards"][:, None], 1 - row["terminated"][:, None]
        return row["observations"], row["actions"], row["next_observations"], *columns


def run(name, module, constants, batches, noise, seed):
    torch.manual_seed(seed)
    arguments = {key: constants[key] for key in ("discount", "policy_noise", "noise_clip")}
    trainer = module.TD3(
        runs.OBSERVATION, runs.ACTION, 1.0, tau=constants["target_rate"], policy_freq=constants["policy_delay"], **arguments
    )
    with torch.no_grad():
        for network in (trainer.actor, trainer.critic):
            for parameter in network.parameters():
                parameter *= 2.0
    trainer.actor_target.load_state_dict(trainer.actor.state_dict())
    trainer.critic_target.load_state_dict(trainer.critic.state_dict())
    trainer.actor_optimizer = torch.optim.Adam(trainer.actor.parameters(), lr=constants["actor_learning_rate"])
    trainer.critic_optimizer = torch.optim.Adam(trainer.critic.parameters(), lr=constants["critic_learning_rate"])
    exercised(trainer, constants, batches, noise)

    layers = lambda network, first: [getattr(network, f"l{first + i}") for i in range(3)]
    critics = lambda network: runs.separate_critics([layers(network, 1), layers(network, 4)])
    networks = {
        "actor": runs.mlp(layers(trainer.actor, 1)),
        "critics": critics(trainer.critic),
        "target_actor": runs.mlp(layers(trainer.actor_target, 1)),
        "target_critics": critics(trainer.critic_target),
    }
    recording = runs.Recording(name, networks, {"actor": trainer.actor_optimizer, "critics": trainer.critic_optimizer})
    draws, buffer = runs.Draws(noise), Buffer(batches)
    torch.randn_like = lambda tensor: draws.take(tensor.shape)
    losses = record_losses(module, trainer)
    for step in range(1, runs.STEPS + 1):
        losses.clear()
        trainer.train(buffer)
        draws.end_of_update()
        recording.metric(critic_loss=losses["critic"])
        if step % constants["policy_delay"] == 0:
            recording.metric(actor_loss=losses["actor"])
    return recording.finish()


def record_losses(module, trainer):
    """The authors log nothing: the critics' loss is the sum of two calls of mse_loss, the actor's -mean of Q1."""
    losses = {}
    original_mse, original_q1 = torch.nn.functional.mse_loss, trainer.critic.Q1

    def mse(*args):
        loss = original_mse(*args)
        losses["critic"] = losses.get("critic", 0.0) + loss.item()
        return loss

    def q1(*args):
        q = original_q1(*args)
        losses["actor"] = -q.mean().item()
        return q

    module.F = authors.Shim(torch.nn.functional, mse_loss=mse)
    trainer.critic.Q1 = q1
    return losses


def exercised(trainer, constants, batches, noise):
    """The noise's clip, the actions' clip and the minimum of both critics must matter."""
    with torch.no_grad():
        states = torch.cat([batch["next_observations"] for batch in batches])
        raw = noise["target"].flatten(0, 1) * constants["policy_noise"]
        clip = constants["noise_clip"]
        assert (raw.abs() > clip).double().mean() > 0.005
        actions = trainer.actor_target(states) + raw.clamp(-clip, clip)
        beyond = (actions.abs() > 1).double().mean()
        assert 0.02 < beyond < 0.5, beyond
        first, second = trainer.critic_target(states, actions.clamp(-1, 1))
        smaller = (first < second).double().mean()
        assert 0.02 < smaller < 0.98, smaller


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    module = load(args.authors)
    rng = np.random.default_rng(3)
    batches, noise = runs.make_batches(rng), runs.make_noise(rng, "target")
    tensors = {}
    for name, constants in RUNS.items():
        tensors |= run(name, module, constants, batches, noise, seed=3)
    runs.save("td3", batches, noise, tensors, RUNS, {"authors": COMMIT, "hidden": runs.HIDDEN})
