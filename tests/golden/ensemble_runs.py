"""Shared by sac_n.py and edac.py: runs CORL's trainers, which differ in the diversity loss alone.

Not as in the authors' code: log alpha is F64 instead of F32 and starts where the run says, the target entropy is the run's
(CORL has -A); what is only logged there (the spread of Q) is left out.
"""

import importlib.util

import actor_critic_runs as runs
import authors
import numpy as np
import torch

COMMIT = "corl-team/CORL@eeeeef2671235fcce3a3eb255576a207d78840e6"
NOISE = "temperature", "actor", "next"
# CORL clips log standard deviations to this.
LOG_STD = -5.0, 2.0


def load(folder, name):
    authors.stand_in("d4rl", "gym", "pyrallis", "wandb")
    spec = importlib.util.spec_from_file_location(f"corl_{name}", folder / "algorithms" / "offline" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spread_out(actor, critic):
    """CORL starts heads at 1e-3: here they get values at which clips, saturated actions and the minimum over critics all matter."""
    with torch.no_grad():
        for layer in actor.trunk[::2]:
            torch.nn.init.kaiming_normal_(layer.weight)
        actor.mu.weight.normal_(0.0, 0.8)
        actor.log_sigma.weight.normal_(0.0, 1.2)
        actor.log_sigma.bias.fill_(-1.5)
        for layer in critic.critic[::2]:
            layer.bias.normal_(0.1, 0.2)
            layer.weight.normal_(0.0, (2.0 / layer.in_features) ** 0.5)


def exercised(trainer, batches, noise):
    """Every clip and most critics must matter at the start."""
    with torch.no_grad():
        states = torch.cat([batch["observations"] for batch in batches])
        log_std = trainer.actor.log_sigma(trainer.actor.trunk(states))
        low, high = [(side).double().mean().item() for side in (log_std < LOG_STD[0], log_std > LOG_STD[1])]
        assert 0.02 < low < 0.5 and 0.02 < high < 0.5, (low, high)
        std = log_std.clip(*LOG_STD).exp()
        actions = torch.tanh(trainer.actor.mu(trainer.actor.trunk(states)) + std * noise["actor"].flatten(0, 1))
        saturated = (1 - actions**2 < 1e-6).double().mean().item()
        assert 0.005 < saturated < 0.4, saturated
        smallest = trainer.critic(states, actions).argmin(0)
        assert len(smallest.unique()) > trainer.critic.num_critics // 2
        print("below, above, saturated:", low, high, saturated)


def run(name, module, trainer_class, constants, batches, noise, seed):
    torch.manual_seed(seed)
    actor = module.Actor(runs.OBSERVATION, runs.ACTION, runs.HIDDEN)
    critic = module.VectorizedCritic(runs.OBSERVATION, runs.ACTION, runs.HIDDEN, constants["members"])
    spread_out(actor, critic)
    diversity = {"eta": constants["diversity"]} if "diversity" in constants else {}
    trainer = trainer_class(
        actor, torch.optim.Adam(actor.parameters(), lr=constants["actor_learning_rate"]),
        critic, torch.optim.Adam(critic.parameters(), lr=constants["critic_learning_rate"]),
        gamma=constants["discount"], tau=constants["target_rate"],
        alpha_learning_rate=constants["temperature_learning_rate"], **diversity,
    )  # fmt: skip
    trainer.target_entropy = constants["target_entropy"]
    trainer.log_alpha = torch.tensor([constants["log_alpha"]], requires_grad=True)
    trainer.alpha_optimizer = torch.optim.Adam([trainer.log_alpha], lr=constants["temperature_learning_rate"])
    trainer.alpha = trainer.log_alpha.exp().detach()
    exercised(trainer, batches, noise)
    networks = {
        "actor": runs.mlp([*actor.trunk[::2], (actor.mu, actor.log_sigma)]),
        "critics": runs.vectorized_critics(critic.critic[::2]),
        "target_critics": runs.vectorized_critics(trainer.target_critic.critic[::2]),
        "temperature": {"log_alpha": lambda of: of(trainer.log_alpha)},
    }
    optimizers = {
        "actor": trainer.actor_optimizer, "critics": trainer.critic_optimizer, "temperature": trainer.alpha_optimizer
    }  # fmt: skip
    recording, draws = runs.Recording(name, networks, optimizers), runs.Draws(noise)
    if diversity:
        original = trainer._critic_diversity_loss

        def recorded(*args):
            loss = original(*args)
            recording.metric(diversity_loss=loss.detach())
            return loss

        trainer._critic_diversity_loss = recorded
    torch.distributions.normal._standard_normal = draws.take
    torch.rand_like = torch.zeros_like
    for batch in batches:
        columns = [batch[key] for key in ("rewards", "next_observations", "terminated")]
        columns = [value[:, None] if value.dim() == 1 else value for value in columns]
        log = trainer.update([batch["observations"], batch["actions"], *columns])
        draws.end_of_update()
        recording.metric(
            temperature_loss=log["alpha_loss"], actor_loss=log["actor_loss"], critic_loss=log["critic_loss"],
            temperature=log["alpha"], entropy=log["batch_entropy"],
        )  # fmt: skip
    return recording.finish()


def write(name, module, trainer_class, all_runs, seed):
    rng = np.random.default_rng(seed)
    batches, noise = runs.make_batches(rng), runs.make_noise(rng, *NOISE)
    tensors = {}
    for run_name, constants in all_runs.items():
        tensors |= run(run_name, module, trainer_class, constants, batches, noise, seed)
    metadata = {"authors": COMMIT, "hidden": runs.HIDDEN, "log_std": LOG_STD}
    runs.save(name, batches, noise, tensors, all_runs, metadata)
