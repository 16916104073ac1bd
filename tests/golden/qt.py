"""Golden numbers of QT's authors: losses by term, gradients, ten updates of their trainer, actions.

python tests/golden/qt.py --authors QT
"""

import sys

import authors
import numpy as np
import torch

COMMIT = "charleshsc/QT@cb9e1a4873449b3467f6bf5586e010180d90614c"
LAYERS, HEADS, WIDTH, CONTEXT, LONGEST, BATCH, STEPS = 2, 2, 16, 5, 50, 4, 10
ITERATION = 3  # updates between steps of the schedulers
SETTINGS = {
    "tau": 0.05, "discount": 0.9, "eta": 3.0, "eta2": 1.0, "ema_decay": 0.9, "step_start_ema": 2, "update_ema_every": 2,
    "lr": 1e-3, "weight_decay": 1e-2, "lr_decay": True, "lr_maxt": 4, "lr_min": 0.0, "grad_norm": 0.9, "scale": 10.0,
    "k_rewards": True, "use_discount": True, "max_q_backup": False,
}  # fmt: skip


def import_modules(folder):
    """Their model and trainer, with the one decorator that newer transformers changed (it only writes docstrings) made empty."""
    import transformers.file_utils

    transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda function: function
    # A script of this folder has the name of their package, which has no __init__.py and would lose to it.
    sys.path[:] = [str(folder)] + [entry for entry in sys.path if entry != str(authors.HERE)]
    import decision_transformer.models.ql_DT as model
    import decision_transformer.training.ql_trainer as trainer

    return model, trainer


def single(values):
    """These numbers, rounded to single precision: a policy remembers no more."""
    return np.asarray(values).astype(np.float32).astype(np.float64)


def make_batch(rng, rows, mean, std, action_dim, scale):
    """Windows padded as in their get_batch: on the left, states before normalisation, actions with 0. `rows`: steps, and whether the
    task ends with the last."""
    names = ("states", "actions", "rewards", "dones", "rtg", "timesteps", "mask")
    columns = {key: [] for key in names}
    for length, ends in rows:
        pad, start = CONTEXT - length, int(rng.integers(0, LONGEST - length + 1))
        states = np.concatenate([np.zeros((pad, len(mean))), mean + std * rng.normal(size=(length, len(mean)))])
        columns["states"].append((states - mean) / std)
        actions = np.tanh(rng.normal(size=(length, action_dim)))
        columns["actions"].append(np.concatenate([np.zeros((pad, action_dim)), actions]))
        rewards = rng.uniform(-1.0, 3.0, length)
        columns["rewards"].append(np.concatenate([np.zeros(pad), rewards])[:, None])
        columns["dones"].append(np.concatenate([np.ones(pad, int), np.zeros(length - 1, int), [int(ends)]])[:, None])
        left = np.cumsum(np.concatenate([[0.0 if ends else 5.0], rewards[::-1]]))[::-1] / scale
        columns["rtg"].append(np.concatenate([np.zeros(pad), left])[:, None])
        columns["timesteps"].append(np.concatenate([np.zeros(pad, int), np.arange(start, start + length)]))
        columns["mask"].append(np.concatenate([np.zeros(pad), np.ones(length)]))
    return {key: torch.tensor(np.stack(value)) for key, value in columns.items()}


def make_networks(module, state_dim, action_dim, seed, scale, **options):
    torch.manual_seed(seed)
    model = module.DecisionTransformer(
        state_dim=state_dim, act_dim=action_dim, max_length=CONTEXT, max_ep_len=LONGEST, hidden_size=WIDTH,
        n_layer=LAYERS, n_head=HEADS, n_inner=4 * WIDTH, activation_function="relu", n_positions=1024, n_ctx=1024,
        resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, scale=scale, **options,
    )  # fmt: skip
    critic = module.Critic(state_dim, action_dim, hidden_dim=WIDTH)
    # Away from the initial point, where biases are zero and attention is nearly uniform.
    scales = {"bias": 0.1, "weight": 0.15}
    for network in (model, critic):
        authors.perturb(network, torch.Generator().manual_seed(seed), scales)
    return model, critic


def run(name, modules, state_dim, action_dim, seed, **changes):
    module, training = modules
    settings = SETTINGS | changes
    rng = np.random.default_rng(seed)
    model, critic = make_networks(module, state_dim, action_dim, seed, settings["scale"])
    tensors = authors.parameters(model, "actor") | authors.parameters(critic, "critic")
    mean, std = rng.normal(size=state_dim), rng.uniform(0.2, 2.0, state_dim)
    rows = [[(CONTEXT, False), (3, True), (1, True), (4, False)]]
    while len(rows) < STEPS:
        rows.append([(int(rng.integers(1, CONTEXT + 1)), bool(rng.uniform() < 0.4)) for _ in range(BATCH)])
    batches = [make_batch(rng, row, mean, std, action_dim, settings["scale"]) for row in rows]
    for key in batches[0]:
        tensors[f"steps.{key}"] = torch.stack([batch[key] for batch in batches])

    queue, uniforms, noise, errors, norms, seen = list(batches), [], [], [], [], {}

    def get_batch(_):
        batch = {key: value.clone() for key, value in queue.pop(0).items()}
        columns = ("states", "actions", "rewards", "actions", "dones", "rtg", "timesteps", "mask")
        return tuple(batch[key].clone() for key in columns)

    def recorded_uniform():
        uniforms.append(rng.uniform())
        return uniforms[-1]

    def recorded_randn(*shape):
        noise.append(torch.tensor(rng.normal(size=shape)))
        return noise[-1]

    mse, clip = torch.nn.functional.mse_loss, torch.nn.utils.clip_grad_norm_

    def recorded_mse(*args):
        errors.append(mse(*args))
        return errors[-1]

    def recorded_clip(parameters, **options):
        if not norms:
            seen.update(authors.gradients(critic, "critic_grad"))
        elif len(norms) == 1:
            seen.update(authors.gradients(model, "actor_grad"))
        norms.append(float(clip(parameters, **options)))
        return torch.tensor(norms[-1])

    trainer = training.Trainer(model=model, critic=critic, batch_size=BATCH, get_batch=get_batch, loss_fn=None, **settings)
    training.torch = authors.Shim(torch, randn=recorded_randn)
    training.F = authors.Shim(torch.nn.functional, mse_loss=recorded_mse)
    training.np = authors.Shim(np, random=authors.Shim(np.random, uniform=recorded_uniform))
    torch.nn.utils.clip_grad_norm_ = recorded_clip
    terms = ("bc_loss", "ql_loss", "actor_loss", "critic_loss", "target_q_mean")
    losses, rates = {key: [] for key in terms}, []
    for step in range(STEPS):
        rates.append(trainer.actor_optimizer.param_groups[0]["lr"])
        trainer.train_step(None, losses)
        if step % ITERATION == ITERATION - 1:
            trainer.actor_lr_scheduler.step()
            trainer.critic_lr_scheduler.step()
    torch.nn.utils.clip_grad_norm_ = clip

    tensors |= seen
    networks = {"actor": model, "critic": critic, "slow_actor": trainer.ema_model, "slow_critic": trainer.critic_target}
    for key, network in networks.items():
        tensors |= authors.parameters(network, f"after.{key}")
    tensors |= {f"steps.{key}": np.array(losses[key]) for key in terms if key != "target_q_mean"}
    tensors["steps.action_loss"] = np.array([error.item() for error in errors[2::3]])
    tensors |= {"steps.critic_norm": np.array(norms[::2]), "steps.actor_norm": np.array(norms[1::2])}
    tensors |= {"steps.lr": np.array(rates), "steps.uniform": np.array(uniforms)}
    if noise:
        tensors["steps.noise"] = torch.stack([normals.flatten() for normals in noise])
    unused = [n for n, _ in model.named_parameters() if f"actor_grad.{n}" not in tensors]
    rewards = {f"{head}_rewards.{part}" for head in ("embed", "predict") for part in ("weight", "bias")}
    assert set(unused) == rewards | {"transformer.wte.weight"}, unused
    for key in ("actor", "critic"):
        norm = tensors[f"steps.{key}_norm"]
        assert (norm > settings["grad_norm"]).any(), f"no gradient of the {key} is clipped"
    print(name, {key: np.round(tensors[f"steps.{key}"], 3) for key in ("critic_loss", "actor_loss", "lr", "actor_norm")})
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "longest_episode": LONGEST,
        "state_dim": state_dim, "action_dim": action_dim, "iteration": ITERATION, **settings,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


def act(name, module, state_dim, action_dim, seed):
    """Actions after histories of fewer, as many and more steps than the context holds, by each of their options."""
    rng = np.random.default_rng(seed)
    scale = 10.0
    tensors, cases, drawn = {}, [], {}

    def recorded_randn(shape, device):
        drawn["histories"] = torch.tensor(single(rng.normal(size=shape)))
        return drawn["histories"]

    def recorded_randn_like(tensor):
        drawn["noise"] = torch.tensor(single(rng.normal(size=tuple(tensor.shape))))
        return drawn["noise"]

    def recorded_multinomial(probabilities, count):
        assert count == 1
        drawn["uniform"] = rng.uniform()
        drawn["place"] = int((probabilities.cumsum(0) <= drawn["uniform"] * probabilities.sum()).sum())
        return torch.tensor([drawn["place"]])

    # get_action casts its inputs to float32 by name; here that name means float64.
    module.torch = authors.Shim(
        torch, float32=torch.float64, randn=recorded_randn, randn_like=recorded_randn_like, multinomial=recorded_multinomial
    )
    model, critic = make_networks(module, state_dim, action_dim, seed, scale)
    tensors |= authors.parameters(model, "actor") | authors.parameters(critic, "critic")
    model.eval()
    for length in (1, 2, CONTEXT, CONTEXT + 3):
        for targets, no_q, first in ((2, False, False), (3, False, False), (7, True, False), (2, False, True)):
            model.rtg_no_q, model.infer_no_q = no_q, first
            states = single(rng.normal(size=(length, state_dim)))
            actions = single(np.tanh(rng.normal(size=(length, action_dim))))
            actions[-1] = 0.0
            rewards = single(rng.uniform(-1.0, 3.0, (length, 1)))
            rewards[-1] = 0.0
            returns = single(rng.uniform(0.5, 3.5, (targets, length)))
            times = torch.arange(7, 7 + length)[None]
            args = (torch.tensor(x) for x in (states, actions, rewards.T, returns))
            drawn.clear()
            with torch.no_grad():
                action = model.get_action(critic, *args, times)
            prefix = f"case{len(cases)}"
            tensors |= {f"{prefix}.states": states, f"{prefix}.actions": actions, f"{prefix}.rewards": rewards[:, 0]}
            tensors |= {f"{prefix}.returns": returns, f"{prefix}.action": action.reshape(-1)}
            # Of the steps that the context holds.
            tensors[f"{prefix}.histories"] = drawn["histories"][:, -CONTEXT:, 0]
            tensors[f"{prefix}.noise"] = drawn["noise"][:, 0]
            tensors[f"{prefix}.uniform"] = np.array([drawn["uniform"]])
            cases.append({"length": length, "targets": targets, "no_q": no_q, "first": first, "place": drawn["place"]})
    places = [case["place"] for case in cases]
    assert len(set(places)) > len(places) // 2, places
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "context": CONTEXT, "longest_episode": LONGEST,
        "state_dim": state_dim, "action_dim": action_dim, "scale": scale, "first_time": 7, "cases": cases,
    }  # fmt: skip
    print(name, places)
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    modules = import_modules(args.authors)
    run("qt_hopper", modules, 11, 3, seed=1)
    run("qt_backup", modules, 7, 2, seed=2, max_q_backup=True, eta2=0.5, eta=1.0)
    run("qt_step", modules, 7, 2, seed=3, k_rewards=False)
    act("qt_acting", modules[0], 7, 2, seed=4)
