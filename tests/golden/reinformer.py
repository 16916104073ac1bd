"""Golden numbers of Reinformer's authors: losses, gradients, ten updates of their trainer with LAMB, an episode of their evaluation.

python tests/golden/reinformer.py --authors REINFORMER
"""

import functools
import sys

import authors
import numpy as np
import torch

COMMIT = "Dragon-Zhuang/Reinformer@61eaed92999239d9a3b1324a449e32c57a4c49ec"
LAYERS, HEADS, WIDTH, CONTEXT, LONGEST, BATCH, STEPS = 2, 2, 16, 5, 50, 4, 10


def import_modules(folder):
    # This script has the name of one of their modules.
    sys.path[:] = [str(folder)] + [entry for entry in sys.path if entry != str(authors.HERE)]
    import eval as evaluation
    import trainer

    # Their `(u < 0).float()` is of the type that everything else has.
    torch.Tensor.float = lambda self: self.double()
    trainer.ReinFormer = functools.partial(trainer.ReinFormer, max_timestep=LONGEST)
    return trainer, evaluation


def single(values):
    """These numbers, rounded to single precision: a policy remembers no more."""
    return np.asarray(values).astype(np.float32).astype(np.float64)


def make_trainer(module, state_dim, action_dim, seed, variant):
    torch.manual_seed(seed)
    trainer = module.ReinFormerTrainer(state_dim, action_dim, "cpu", variant)
    trainer.model.double()
    # Away from the initial point.
    scales = {"bias": 0.1, "weight": 0.15, "log_std": 0.3}
    authors.perturb(trainer.model, torch.Generator().manual_seed(seed), scales)
    return trainer


def run(name, module, state_dim, action_dim, seed, **changes):
    variant = {
        "n_blocks": LAYERS, "embed_dim": WIDTH, "context_len": CONTEXT, "n_heads": HEADS, "dropout_p": 0.0, "init_temperature": 0.1,
        "grad_norm": 0.25, "lr": 1e-3, "wd": 1e-2, "warmup_steps": 3, "tau": 0.9, **changes,
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    trainer = make_trainer(module, state_dim, action_dim, seed, variant)
    model = trainer.model
    tensors = authors.parameters(model, "param")
    lengths = [[CONTEXT, 3, 1, 4]] + [rng.integers(1, CONTEXT + 1, BATCH) for _ in range(STEPS - 1)]
    batches = []
    for row in lengths:
        mask = np.arange(CONTEXT)[None] < np.array(row)[:, None]
        batches.append({
            "timesteps": np.where(mask.all(1), rng.integers(0, LONGEST - CONTEXT, BATCH), 0)[:, None] + np.arange(CONTEXT),
            "states": rng.normal(size=(BATCH, CONTEXT, state_dim)) * mask[..., None],
            "actions": np.tanh(rng.normal(size=(BATCH, CONTEXT, action_dim))) * mask[..., None],
            "returns_to_go": rng.uniform(0.5, 3.5, (BATCH, CONTEXT)) * mask,
            "rewards": np.zeros((BATCH, CONTEXT)),
            "traj_mask": mask.astype(int),
        })  # fmt: skip
    for key in batches[0]:
        tensors[f"steps.{key}"] = np.stack([batch[key] for batch in batches])
    del tensors["steps.rewards"]

    clip, mean, norms, means, seen = torch.nn.utils.clip_grad_norm_, torch.mean, [], [], {}

    def recorded_clip(parameters, limit):
        if not norms:
            seen.update(authors.gradients(model))
        norms.append(float(clip(parameters, limit)))

    def recorded_mean(values):
        means.append(mean(values).item())
        return mean(values)

    torch.nn.utils.clip_grad_norm_ = recorded_clip
    module.torch = authors.Shim(torch, mean=recorded_mean)
    losses, rates, temperatures = [], [], []
    for batch in batches:
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        losses.append(trainer.train_step(**{key: torch.tensor(value) for key, value in batch.items()}))
        temperatures.append(model.log_temperature.item())
    torch.nn.utils.clip_grad_norm_, module.torch = clip, torch

    tensors |= seen | authors.parameters(model, "after")
    tensors |= {"steps.loss": np.array(losses), "steps.return_loss": np.array(means), "steps.grad_norm": np.array(norms)}
    tensors |= {"steps.lr": np.array(rates), "steps.log_temperature": np.array(temperatures)}
    unused = {n for n, _ in model.named_parameters() if f"grad.{n}" not in tensors}
    assert unused == {"predict_state.weight", "predict_state.bias"}, unused
    print(name, "norms", np.round(norms, 3), "losses", np.round(losses, 3), "temperatures", np.exp(temperatures)[[0, -1]])
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "longest_episode": LONGEST,
        "state_dim": state_dim, "action_dim": action_dim, **variant,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


class Episode:
    """An environment that gives recorded observations and remembers what was done."""

    def __init__(self, observations, action_dim):
        self.observations, self.actions = observations, []
        self.observation_space = authors.types.SimpleNamespace(shape=observations.shape[1:])
        self.action_space = authors.types.SimpleNamespace(shape=(action_dim,))

    def reset(self):
        return self.observations[0]

    def step(self, action):
        self.actions.append(action.copy())
        return self.observations[len(self.actions)], 1.0, len(self.actions) == len(self.observations) - 1, {}


def act(name, module, evaluation, state_dim, action_dim, seed):
    rng = np.random.default_rng(seed)
    variant = {
        "n_blocks": LAYERS, "embed_dim": WIDTH, "context_len": CONTEXT, "n_heads": HEADS, "dropout_p": 0.0, "init_temperature": 0.1,
        "grad_norm": 0.25, "lr": 1e-3, "wd": 1e-2, "warmup_steps": 3, "tau": 0.9,
    }  # fmt: skip
    model = make_trainer(module, state_dim, action_dim, seed, variant).model
    mean, std = single(rng.normal(size=state_dim)), single(rng.uniform(0.5, 2.0, state_dim))
    episode = Episode(single(mean + std * rng.normal(size=(10, state_dim))), action_dim)
    # Placeholders of an episode are float32 by name; here that name means float64.
    evaluation.torch = authors.Shim(torch, float32=torch.float64)
    evaluation.Reinformer_eval(model, "cpu", CONTEXT, episode, mean, std, num_eval_ep=1, max_test_ep_len=LONGEST)
    tensors = authors.parameters(model, "param")
    tensors |= {"mean": mean, "std": std, "observations": episode.observations, "actions": np.stack(episode.actions)}
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "longest_episode": LONGEST,
        "state_dim": state_dim, "action_dim": action_dim,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    module, evaluation = import_modules(args.authors)
    run("reinformer_hopper", module, 11, 3, seed=1)
    run("reinformer_plain", module, 7, 2, seed=2, wd=0.0, grad_norm=5.0)
    act("reinformer_acting", module, evaluation, 7, 2, seed=3)
