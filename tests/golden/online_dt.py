"""Golden numbers of the Online Decision Transformer's authors: losses, gradients, ten updates of their trainer with LAMB and the
temperature, episodes of their evaluation with means and with draws, windows of trajectories and the order of their replay buffer.

python tests/golden/online_dt.py --authors ONLINE_DT
"""

import random
import sys

import authors
import numpy as np
import torch

COMMIT = "facebookresearch/online-dt@c376fa1"
LAYERS, HEADS, WIDTH, CONTEXT, ACTING, LONGEST, BATCH, STEPS = 2, 2, 16, 5, 3, 50, 4, 10


class Modules:
    """Their modules, and the loss that is defined inside of their experiment."""

    def __init__(self, folder):
        import transformers.file_utils

        # It only writes docstrings, and newer versions have changed it.
        transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda function: function
        authors.stand_in("gym", "d4rl", "torch.utils.tensorboard", "stable_baselines3", "stable_baselines3.common",
                         "stable_baselines3.common.vec_env")  # fmt: skip
        # This folder has a `data` as well.
        sys.path[:] = [str(folder)] + [entry for entry in sys.path if entry != str(authors.HERE)]
        import data
        import decision_transformer.models.decision_transformer as model
        import evaluation
        import lamb
        import main
        import replay_buffer
        import trainer

        # What they cast to float32 by name is to stay what it is.
        model.torch = authors.Shim(torch, float32=torch.float64)
        evaluation.torch = authors.Shim(torch, float32=torch.float64)
        data.torch = authors.Shim(torch, float32=torch.float64)
        self.data, self.model, self.evaluation, self.lamb = data, model, evaluation, lamb
        self.replay_buffer, self.trainer = replay_buffer, trainer
        self.loss = captured_loss(main)


class Captured(Exception):
    pass


def captured_loss(main):
    """The function that their `Experiment.__call__` hands to its training."""
    experiment, found = object.__new__(main.Experiment), {}
    experiment.variant = {"env": "hopper", "num_eval_episodes": 1, "max_pretrain_iters": 1}
    main.args = authors.types.SimpleNamespace(seed=0)
    main.SubprocVecEnv = lambda makers: None

    def pretrain(envs, loss):
        found["loss"] = loss
        raise Captured

    experiment.pretrain = pretrain
    try:
        experiment()
    except Captured:
        return found["loss"]


class Valid:
    """A distribution whose entropy is that of valid steps alone; theirs is the mean over padding as well."""

    def __init__(self, distribution, mask):
        self.distribution, self.mask = distribution, mask

    def log_likelihood(self, actions):
        return self.distribution.log_likelihood(actions)

    def entropy(self):
        return self.distribution.entropy()[self.mask > 0]


def single(values):
    """These numbers, rounded to single precision: a policy remembers no more."""
    return np.asarray(values).astype(np.float32).astype(np.float64)


def make_model(modules, state_dim, action_dim, ordering, seed):
    torch.manual_seed(seed)
    model = modules.model.DecisionTransformer(
        state_dim=state_dim, act_dim=action_dim, action_range=[-1 + 1e-6, 1 - 1e-6], max_length=CONTEXT, eval_context_length=ACTING,
        max_ep_len=LONGEST, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=4 * WIDTH, activation_function="relu",
        n_positions=1024, n_ctx=1024, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, stochastic_policy=True, ordering=ordering,
        init_temperature=0.1, target_entropy=-action_dim,
    )  # fmt: skip
    # Away from the initial point.
    scales = {"bias": 0.1, "weight": 0.15}
    authors.perturb(model, torch.Generator().manual_seed(seed), scales)
    with torch.no_grad():
        # Deviations neither at the lowest nor at the highest.
        model.predict_action.log_std.weight *= 0.3
    return model


def used(tensors, prefix="param."):
    """Without what no number depends on: heads that nothing trains, tables that nothing reads."""
    unused = ("predict_state.", "predict_return.", "embed_timestep.", "transformer.wte.")
    return {name: value for name, value in tensors.items() if not any(name.startswith(prefix + part) for part in unused)}


def run(name, modules, state_dim, action_dim, seed, ordering=0, padded=False, **changes):
    settings = {"lr": 1e-3, "weight_decay": 1e-2, "warmup_steps": 3, "init_temperature": 0.1, "clip": 0.25, **changes}
    rng = np.random.default_rng(seed)
    model = make_model(modules, state_dim, action_dim, ordering, seed)
    optimizer = modules.lamb.Lamb(model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"], eps=1e-8)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda steps: min((steps + 1) / settings["warmup_steps"], 1))
    temperature = torch.optim.Adam([model.log_temperature], lr=1e-4, betas=[0.9, 0.999])
    trainer = modules.trainer.SequenceTrainer(model, optimizer, temperature, scheduler, "cpu")
    tensors = used(authors.parameters(model, "param"))
    batches = []
    for step in range(STEPS):
        lengths = [CONTEXT, 3, 1, 4] if step == 0 else rng.integers(1, CONTEXT + 1, BATCH)
        lengths = np.array(lengths) if padded else np.full(BATCH, CONTEXT)
        mask = np.arange(CONTEXT)[None] >= CONTEXT - lengths[:, None]
        first = rng.integers(0, LONGEST - CONTEXT, BATCH)
        places = np.cumsum(mask, 1) - 1
        actions = np.clip(np.tanh(rng.normal(size=(BATCH, CONTEXT, action_dim))), -1 + 1e-6, 1 - 1e-6)
        if step == 1:
            actions[0, -1, 0] = 1 - 1e-6  # at the bound
        batches.append({
            "states": rng.normal(size=(BATCH, CONTEXT, state_dim)) * mask[..., None],
            "actions": actions * mask[..., None],
            "returns_to_go": rng.uniform(0.5, 3.5, (BATCH, CONTEXT, 1)) * mask[..., None],
            "timesteps": (first[:, None] + places) * mask,
            "mask": mask.astype(int),
            "noise": rng.normal(size=(BATCH, CONTEXT, action_dim)),
        })  # fmt: skip
    for key in batches[0]:
        tensors[f"steps.{key}"] = np.stack([batch[key] for batch in batches])

    clip, norms, seen = torch.nn.utils.clip_grad_norm_, [], {}

    def recorded_clip(parameters, limit):
        if not norms:
            seen.update(authors.gradients(model))
        assert limit == 0.25
        norms.append(float(clip(parameters, settings["clip"])))

    def loss(distribution, actions, mask, temperature):
        return modules.loss(Valid(distribution, mask) if padded else distribution, actions, mask, temperature)

    normal = torch.distributions.normal
    torch.nn.utils.clip_grad_norm_, drawn = recorded_clip, normal._standard_normal
    found, rates, temperatures = [], [], []
    for batch in batches:
        # One draw for each number, whatever the policy.
        normal._standard_normal = lambda shape, dtype, device, noise=batch["noise"]: torch.tensor(noise).reshape(shape)
        rates.append(optimizer.param_groups[0]["lr"])
        rows = {key: torch.tensor(value) for key, value in batch.items()}
        # They drop the last return, the one after the window.
        returns = torch.cat([rows["returns_to_go"], torch.zeros(BATCH, 1, 1)], 1)
        zeros = torch.zeros(BATCH, CONTEXT)
        ordering_rows = torch.zeros(BATCH, CONTEXT, dtype=torch.long)
        found.append(trainer.train_step_stochastic(
            loss, (rows["states"], rows["actions"], zeros, zeros, returns, rows["timesteps"], ordering_rows, rows["mask"])))  # fmt: skip
        temperatures.append(model.log_temperature.item())
    torch.nn.utils.clip_grad_norm_, normal._standard_normal = clip, drawn

    tensors |= used(seen, "grad.") | used(authors.parameters(model, "after"), "after.")
    losses, likelihoods, entropies = np.array(found).T
    tensors |= {"steps.loss": losses, "steps.nll": likelihoods, "steps.entropy": entropies, "steps.grad_norm": np.array(norms)}
    tensors |= {"steps.lr": np.array(rates), "steps.log_temperature": np.array(temperatures)}
    untrained = {n for n in authors.parameters(model, "param") if n.replace("param", "grad", 1) not in seen}
    assert used({n: 0 for n in untrained}) == {}, untrained
    print(name, "norms", np.round(norms, 3), "losses", np.round(losses, 3), "entropies", np.round(entropies, 3))
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "longest_episode": LONGEST,
        "state_dim": state_dim, "action_dim": action_dim, "ordering": ordering, "padded": padded, **settings,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


class Episode:
    """One environment of theirs, which gives recorded observations and rewards and remembers what was done."""

    num_envs = 1

    def __init__(self, observations, rewards):
        self.observations, self.rewards, self.actions = observations, rewards, []

    def reset(self):
        return self.observations[:1]

    def step(self, action):
        self.actions.append(np.array(action[0]))
        at = len(self.actions)
        return self.observations[at : at + 1], self.rewards[at - 1 : at], np.array([at == len(self.rewards)]), {}


def act(name, modules, state_dim, action_dim, seed):
    rng = np.random.default_rng(seed)
    tensors = {}
    mean, std = single(rng.normal(size=state_dim)), single(rng.uniform(0.5, 2.0, state_dim))
    steps = 12
    observations = single(mean + std * rng.normal(size=(steps + 1, state_dim)))
    rewards = single(rng.uniform(-1, 4, steps))
    noise = rng.normal(size=(steps, 1, CONTEXT, action_dim))
    for ordering in (0, 1):
        model = make_model(modules, state_dim, action_dim, ordering, seed)
        tensors |= {f"ordering{ordering}.{key}": value for key, value in used(authors.parameters(model, "param")).items()}
        for kind, use_mean in (("means", True), ("draws", False)):
            episode = Episode(observations, rewards)
            draws = iter(noise)
            sample = torch.distributions.Normal.sample
            torch.distributions.Normal.sample = lambda self, shape=(): self.loc + self.scale * torch.tensor(next(draws))
            _, _, trajectories = modules.evaluation.vec_evaluate_episode_rtg(
                episode, state_dim, action_dim, model, target_return=[36.0 * 0.05], max_ep_len=LONGEST, reward_scale=0.05,
                state_mean=mean, state_std=std, device="cpu", use_mean=use_mean,
            )  # fmt: skip
            torch.distributions.Normal.sample = sample
            actions = np.stack(episode.actions)
            assert np.array_equal(trajectories[0]["actions"], actions)
            tensors[f"ordering{ordering}.{kind}"] = actions
    tensors |= {"mean": mean, "std": std, "observations": observations, "rewards": rewards, "noise": noise[:, 0, -1]}
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "acting": ACTING,
        "longest_episode": LONGEST, "state_dim": state_dim, "action_dim": action_dim, "return_scale": 20.0, "target_return": 36.0,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


def trajectory(rng, steps, state_dim, action_dim):
    actions = single(rng.uniform(-1, 1, (steps, action_dim)))
    actions[0] = 1.0
    return {
        "observations": single(rng.normal(size=(steps, state_dim))), "actions": actions,
        "rewards": single(rng.normal(1.0, 3.0, steps)), "terminals": np.zeros(steps),
    }  # fmt: skip


def windows(name, modules, state_dim, action_dim, seed):
    """Every window of the trajectories, how likely each trajectory is, and the replay buffer as episodes are added."""
    rng = np.random.default_rng(seed)
    trajectories = [trajectory(rng, steps, state_dim, action_dim) for steps in (7, 1, 4, 12, 5, 2, 9)]
    mean, std = single(rng.normal(size=state_dim)), single(rng.uniform(0.5, 2.0, state_dim))
    transform = modules.data.TransformSamplingSubTraj(
        max_len=CONTEXT, state_dim=state_dim, act_dim=action_dim, state_mean=mean, state_std=std, reward_scale=0.05,
        action_range=[-1 + 1e-6, 1 - 1e-6],
    )  # fmt: skip
    rows = {key: [] for key in ("states", "actions", "returns_to_go", "timesteps", "mask")}
    drawn, randint = [], random.randint
    for number, path in enumerate(trajectories):
        for start in range(len(path["rewards"])):

            def at(low, high, start=start, path=path):
                assert (low, high) == (0, len(path["rewards"]) - 1)
                return start

            random.randint = at
            states, actions, _, _, returns, timesteps, _, mask = transform(path)
            for key, value in zip(rows, (states, actions, returns[:-1], timesteps, mask.long())):
                rows[key].append(value.numpy())
            drawn.append((number, start))
    random.randint = randint
    tensors = {f"windows.{key}": np.stack(value) for key, value in rows.items()}
    tensors["windows.trajectories"], tensors["windows.starts"] = np.array(drawn).T
    for key in ("observations", "actions", "rewards"):
        tensors[f"raw.{key}"] = np.concatenate([path[key] for path in trajectories])
    tensors["raw.lengths"] = np.array([len(path["rewards"]) for path in trajectories])
    tensors |= {"mean": mean, "std": std}

    choice = np.random.choice

    def chosen(numbers, size, replace, p):
        tensors["probabilities"] = p
        return np.zeros(size, int)

    np.random.choice = chosen
    modules.data.sample_trajs(trajectories, 3)
    np.random.choice = choice

    # Returns without ties, which their sort leaves open.
    returns = [path["rewards"].sum() for path in trajectories]
    assert len(set(returns)) == len(returns)
    for number, path in enumerate(trajectories):
        path["number"] = number
    new = [{**trajectory(rng, 1 + number % 3, state_dim, action_dim), "number": 7 + number} for number in range(9)]
    order = np.argsort(returns)  # their data set is sorted before it becomes the buffer
    for capacity in (4, 9):
        buffer = modules.replay_buffer.ReplayBuffer(capacity, [trajectories[at] for at in order])
        held = [[path["number"] for path in buffer.trajectories]]
        for path in new:
            buffer.add_new_trajs([path])
            held.append([path["number"] for path in buffer.trajectories])
        # 99: nothing there yet.
        tensors[f"buffer{capacity}"] = np.array([numbers + [99] * (capacity - len(numbers)) for numbers in held])
    for key in ("observations", "actions", "rewards"):
        tensors[f"new.{key}"] = np.concatenate([path[key] for path in new])
    tensors["new.lengths"] = np.array([len(path["rewards"]) for path in new])
    metadata = {"authors": COMMIT, "context": CONTEXT, "state_dim": state_dim, "action_dim": action_dim, "return_scale": 20.0}
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    modules = Modules(authors.arguments(__doc__).authors)
    run("online_dt_hopper", modules, 11, 3, seed=1)
    run("online_dt_padded", modules, 7, 2, seed=2, ordering=1, padded=True, weight_decay=0.0, clip=5.0)
    act("online_dt_acting", modules, 7, 2, seed=3)
    windows("online_dt_windows", modules, 5, 2, seed=4)
