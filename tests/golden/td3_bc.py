"""Golden numbers of CORL's TD3+BC: ten updates with recorded noise; sfujim's original must give the same.

python tests/golden/td3_bc.py --authors CORL --original TD3_BC
"""

import importlib.util

import authors
import numpy as np
import torch

COMMIT = "corl-team/CORL@eeeeef2671235fcce3a3eb255576a207d78840e6"
ORIGINAL = "sfujim/TD3_BC@8791ad7d7656cb8396f1b3ac8c37f170b2a2dd5f"
HIDDEN, BATCH, STEPS = 32, 16, 10

# `default`: the authors' values. `other`: every constant different, so that none can be mixed up.
# policy_noise and noise_clip are per unit of max_action, as in the authors' configs.
RUNS = {
    "default": {
        "max_action": 1.0, "discount": 0.99, "tau": 0.005, "policy_noise": 0.2, "noise_clip": 0.5, "policy_freq": 2,
        "alpha": 2.5,
    },
    "other": {
        "max_action": 1.0, "discount": 0.9, "tau": 0.05, "policy_noise": 0.4, "noise_clip": 0.3, "policy_freq": 3,
        "alpha": 1.25,
    },
}  # fmt: skip


def load(path, name):
    """Imports one of the authors' files; its networks get HIDDEN units instead of 256."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    width = lambda size: HIDDEN if size == 256 else size
    module.nn = authors.Shim(torch.nn, Linear=lambda i, o: torch.nn.Linear(width(i), width(o)))
    return module


class Recorded:
    """Puts recorded standard normals in the place of torch.randn_like."""

    def __init__(self, noise):
        self.noise = list(noise)

    def __enter__(self):
        self.original, torch.randn_like = torch.randn_like, lambda _: self.noise.pop(0)

    def __exit__(self, *_):
        torch.randn_like = self.original
        assert not self.noise


def make_batches(rng, observation_dim, action_dim):
    """Rows of (observations, actions in -1..1, rewards, next observations, done)."""
    batches = []
    for _ in range(STEPS):
        done = np.zeros((BATCH, 1))
        done[rng.choice(BATCH, 3, replace=False)] = 1.0
        batch = {
            "observations": rng.normal(size=(BATCH, observation_dim)),
            "actions": np.tanh(rng.normal(size=(BATCH, action_dim))),
            "rewards": rng.normal(1.0, 1.0, size=(BATCH, 1)),
            "next_observations": rng.normal(size=(BATCH, observation_dim)),
            "terminated": done,
        }
        batches.append({key: torch.tensor(value) for key, value in batch.items()})
    return batches


def networks(trainer):
    names = ("actor", "critic_1", "critic_2")
    return [(name + suffix, getattr(trainer, name + suffix)) for suffix in ("", "_target") for name in names]


def run_corl(module, constants, batches, noise, observation_dim, action_dim, seed):
    torch.manual_seed(seed)
    scale = constants["max_action"]
    actor = module.Actor(observation_dim, action_dim, scale)
    critics = [module.Critic(observation_dim, action_dim) for _ in range(2)]
    actor_optimizer, *optimizers = [torch.optim.Adam(net.parameters(), lr=3e-4) for net in (actor, *critics)]
    trainer = module.TD3_BC(
        scale, actor, actor_optimizer, critics[0], optimizers[0], critics[1], optimizers[1],
        discount=constants["discount"], tau=constants["tau"], policy_noise=constants["policy_noise"] * scale,
        noise_clip=constants["noise_clip"] * scale, policy_freq=constants["policy_freq"], alpha=constants["alpha"],
    )  # fmt: skip
    tensors, critic_losses, actor_losses = {}, [], []
    for name, network in networks(trainer):
        tensors |= authors.parameters(network, f"param.{name}")
        assert name.endswith("_target") or not (network.net[0].weight == 0).any()
    with Recorded(noise):
        for step, batch in enumerate(batches, 1):
            action = batch["actions"] * scale
            log = trainer.train(
                [batch["observations"], action, batch["rewards"], batch["next_observations"], batch["terminated"]]
            )
            critic_losses.append(log["critic_loss"])
            if step == 1:
                tensors |= authors.gradients(trainer.critic_1, "grad.critic_1")
                tensors |= authors.gradients(trainer.critic_2, "grad.critic_2")
            if "actor_loss" in log:
                if not actor_losses:
                    tensors |= authors.gradients(trainer.actor, "grad.actor")
                actor_losses.append(log["actor_loss"])
    for name, network in networks(trainer):
        tensors |= authors.parameters(network, f"after.{name}")
    tensors |= {"critic_loss": np.array(critic_losses), "actor_loss": np.array(actor_losses)}
    return tensors


def run_original(module, constants, batches, noise, tensors, observation_dim, action_dim):
    """sfujim's class from the same parameters; returns the largest difference from `tensors`."""
    scale = constants["max_action"]
    trainer = module.TD3_BC(
        observation_dim, action_dim, scale, discount=constants["discount"], tau=constants["tau"],
        policy_noise=constants["policy_noise"] * scale, noise_clip=constants["noise_clip"] * scale,
        policy_freq=constants["policy_freq"], alpha=constants["alpha"],
    )  # fmt: skip
    pairs = []
    for suffix in ("", "_target"):
        for ours, theirs, first in (("actor", "actor", 1), ("critic_1", "critic", 1), ("critic_2", "critic", 4)):
            network = getattr(trainer, theirs + suffix)
            for layer in range(3):
                for kind in ("weight", "bias"):
                    parameter = getattr(getattr(network, f"l{first + layer}"), kind)
                    pairs.append((f"{ours}{suffix}.net.{2 * layer}.{kind}", parameter))
    for name, parameter in pairs:
        parameter.data.copy_(torch.tensor(tensors[f"param.{name}"]))

    class Buffer:
        rows = list(batches)

        def sample(self, _):
            row = self.rows.pop(0)
            order = row["observations"], row["actions"] * scale, row["next_observations"], row["rewards"]
            return *order, 1 - row["terminated"]

    buffer = Buffer()
    with Recorded(noise):
        for _ in batches:
            trainer.train(buffer)
    return max(np.abs(p.detach().numpy() - tensors[f"after.{name}"]).max() for name, p in pairs)


def run(name, corl, original, observation_dim, action_dim, seed):
    rng = np.random.default_rng(seed)
    batches = make_batches(rng, observation_dim, action_dim)
    noise = torch.tensor(rng.normal(size=(STEPS, BATCH, action_dim)))
    tensors = {f"steps.{key}": torch.stack([batch[key] for batch in batches]) for key in batches[0]}
    tensors["steps.noise"] = noise
    for run_name, constants in RUNS.items():
        result = run_corl(corl, constants, batches, noise, observation_dim, action_dim, seed)
        gap = run_original(original, constants, batches, noise, result, observation_dim, action_dim)
        print(name, run_name, "critic", np.round(result["critic_loss"], 3), "actor", np.round(result["actor_loss"], 3))
        print("  largest difference from the original:", gap)
        assert gap < 1e-12
        clipped = (noise.abs() * constants["policy_noise"] > constants["noise_clip"]).double().mean()
        assert clipped > 0.005
        tensors |= {f"{run_name}.{key}": value for key, value in result.items()}
    metadata = {
        "authors": COMMIT, "compared_with": ORIGINAL, "hidden": HIDDEN, "batch": BATCH, "steps": STEPS,
        "observation_dim": observation_dim, "action_dim": action_dim, "learning_rate": 3e-4, "betas": [0.9, 0.999],
        "eps": 1e-8, "runs": RUNS,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__, original="checkout of sfujim/TD3_BC")
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    corl = load(args.authors / "algorithms" / "offline" / "td3_bc.py", "corl_td3_bc")
    original = load(args.original / "TD3_BC.py", "original_td3_bc")
    run("td3_bc_hopper", corl, original, 11, 3, seed=1)
    run("td3_bc_halfcheetah", corl, original, 17, 6, seed=2)
