"""Golden numbers of the Trajectory Autoencoding Planner's authors: VQ-VAE, prior, their trainers, windows of data, plans.

Replaced while their code runs: `torch.float32` and `Tensor.float` mean float64 (they cast inside of the network), multinomial draws
are inverse CDFs of a recorded stream, and topk breaks ties by the lower index. The loop around `beam_with_prior` is
`scripts/plan.py`'s, typed anew.

python tests/golden/tap.py --authors LATENTPLAN
"""

import authors
import numpy as np
import torch

COMMIT = "ZhengyaoJiang/latentplan@c096a5c6e37f78b918946cf8d26119a08d156c73"
LAYERS, HEADS, WIDTH, BATCH, STEPS = 2, 2, 16, 4, 10
WEIGHTS = {
    "position_weight": 1, "action_weight": 5, "reward_weight": 1, "value_weight": 1, "first_action_weight": 0,
    "sum_reward_weight": 0, "last_value_weight": 0,
}  # fmt: skip
OTHER_WEIGHTS = {
    "position_weight": 3, "action_weight": 2, "reward_weight": 0.5, "value_weight": 0.25, "first_action_weight": 1.5,
    "sum_reward_weight": 0.7, "last_value_weight": 0.3,
}  # fmt: skip
RUNS = {
    # O + A + 2 = 7: the 7th step of nine is hidden.
    "tap": {
        "observation_dim": 3, "action_dim": 2, "codes": 8, "code_width": 6, "latent_step": 3, "window": 9,
        "state_conditional": True, "weights": WEIGHTS, "seed": 1,
    },
    # O + A + 2 = 8: all eight steps are seen but by the last.
    "tap_options": {
        "observation_dim": 4, "action_dim": 2, "codes": 5, "code_width": 10, "latent_step": 2, "window": 8,
        "state_conditional": False, "weights": OTHER_WEIGHTS, "seed": 2,
    },
}  # fmt: skip
PLANS = {
    "a": {"horizon": 9, "beam_width": 6, "n_expand": 3, "prob_threshold": 0.5, "likelihood_weight": 5e2, "plan_freq": 1},
    "b": {"horizon": 8, "beam_width": 4, "n_expand": 2, "prob_threshold": 0.3, "likelihood_weight": 2.0, "plan_freq": 3},
}  # fmt: skip


class Namespace:
    def __init__(self, **entries):
        self.__dict__.update(entries)

    def __contains__(self, key):
        return key in self.__dict__


def import_latentplan(folder):
    authors.import_latentplan(folder)
    import latentplan.models.vqvae as vqvae

    vqvae.torch = authors.Shim(torch, float32=torch.float64)
    torch.Tensor.float = torch.Tensor.double
    return vqvae


def network_config(run):
    transition = run["observation_dim"] + run["action_dim"] + 3
    return {
        "vocab_size": 100, "block_size": (run["window"] + 1) * transition, "K": run["codes"], "n_layer": LAYERS,
        "n_head": HEADS, "n_embd": WIDTH, "observation_dim": run["observation_dim"], "action_dim": run["action_dim"],
        "transition_dim": transition, "trajectory_embd": run["code_width"], "model": "VQTransformer",
        "latent_step": run["latent_step"], "ma_update": True, "residual": True, "obs_shape": [-1], "embd_pdrop": 0.0,
        "resid_pdrop": 0.0, "attn_pdrop": 0.0, "bottleneck": "pooling", "masking": "uniform",
        "state_conditional": run["state_conditional"], **run["weights"],
    }  # fmt: skip


def make_batches(run, rng):
    """Windows: whole; ended inside; ended, the rest past the longest path."""
    joined = run["observation_dim"] + run["action_dim"] + 2
    batches = []
    for _ in range(STEPS):
        x = torch.tensor(rng.normal(size=(BATCH, run["window"], joined)))
        terminals = torch.zeros(BATCH, run["window"], 1, dtype=torch.int64)
        mask = torch.ones(BATCH, run["window"], joined, dtype=torch.bool)
        end = int(rng.integers(2, run["window"]))
        terminals[1, end:] = 1
        end = int(rng.integers(2, run["window"] - 1))
        terminals[2, end:] = 1
        mask[2, end + 1 :] = False
        batches.append((x, torch.zeros_like(x), mask, terminals))
    return batches


def trainer_config():
    return Namespace(
        device="cpu", batch_size=BATCH, num_workers=0, learning_rate=2e-4, weight_decay=0.1, betas=(0.9, 0.95),
        grad_norm_clip=1.0, lr_decay=False, warmup_tokens=10, final_tokens=100,
    )  # fmt: skip


def train(make_trainer, batches, *models):
    """Runs an epoch of the authors' trainer over the batches; norms before clipping."""
    from latentplan.utils import training

    norms, clip = [], torch.nn.utils.clip_grad_norm_
    torch.nn.utils.clip_grad_norm_ = lambda *args: norms.append(float(clip(*args)))
    training.DataLoader = lambda dataset, **_: batches
    trainer = make_trainer(training)
    trainer.train(*models, Namespace(test_portion=0))
    torch.nn.utils.clip_grad_norm_ = clip
    return trainer, np.array(norms)


def decayed(trainer, model):
    first = trainer.optimizer.param_groups[0]["params"]
    return sorted(name for name, p in model.named_parameters() if any(p is q for q in first))


def run_autoencoder(vqvae, run, batches, tensors):
    model = vqvae.VQContinuousVAE(Namespace(**network_config(run)))
    scales = {"pos_emb": 0.3, "bias": 0.1, "weight": 0.25}
    authors.perturb(model, torch.Generator().manual_seed(run["seed"]), scales)
    # Codes in the middle of the features, so that several are used; the last one, far away, never is.
    with torch.no_grad():
        book = model.model.codebook
        x, _, _, terminals = batches[0]
        features = model.model.encode(torch.cat([x, terminals], 2)).reshape(-1, run["code_width"])
        book.embedding = features[: run["codes"]].clone() + 0.05
        book.embedding[-1] = 50.0
        book.ema_w = book.embedding.clone()
    padding = np.linspace(-0.5, 0.5, run["observation_dim"] + run["action_dim"] + 2)
    model.set_padding_vector(padding)
    tensors |= authors.parameters(model, "param")
    tensors["codebook.before"] = model.model.codebook.embedding.clone()

    padded, losses, codes, decoded = [], [], [], []
    inner, forward, vq_st = model.model.forward, model.forward, vqvae.vq_st

    def recorded_inner(joined, state):
        padded.append(joined.detach().clone())
        out = inner(joined, state)
        decoded.append(out[0].detach().clone())
        return out

    def recorded_forward(*batch):
        out = forward(*batch)
        losses.append([out[1].item(), out[3].item()])
        return out

    def recorded_vq_st(inputs, codebook):
        out, indices = vq_st(inputs, codebook)
        codes.append(indices.reshape(inputs.shape[:-1]).clone())
        return out, indices

    model.model.forward, model.forward, vqvae.vq_st = recorded_inner, recorded_forward, recorded_vq_st

    # Loss and gradients of the first batch, without the codebook's step: its averages are put back.
    model.train()
    kept = [t.clone() for t in (book.embedding, book.ema_count, book.ema_w)]
    *_, reconstruction, vq_loss, commitment = model(*batches[0])
    assert vq_loss == 0
    (reconstruction + commitment).backward()
    tensors |= authors.gradients(model)
    tensors |= {"reconstruction": reconstruction, "commitment": commitment, "decoded": decoded[0]}
    tensors["features"] = model.model.encode(padded[0])
    model.zero_grad()
    book.embedding, book.ema_count, book.ema_w = kept
    for rows in (padded, losses, codes, decoded):
        rows.clear()

    trainer, norms = train(lambda training: training.VQTrainer(trainer_config()), batches, model)
    model.model.forward, model.forward, vqvae.vq_st = inner, forward, vq_st
    joined = torch.stack(padded)
    tensors |= authors.parameters(model, "after")
    tensors |= {
        "steps.joined": joined[..., :-1],
        "steps.terminals": torch.stack([batch[3] for batch in batches]),
        "steps.mask": torch.stack([batch[2][..., :1] for batch in batches]),
        "steps.reconstruction": np.array(losses)[:, 0],
        "steps.commitment": np.array(losses)[:, 1],
        "steps.codes": torch.stack(codes),
        "steps.grad_norm": norms,
        "codebook.embedding": book.embedding,
        "codebook.count": book.ema_count,
        "codebook.sum": book.ema_w,
    }
    used = len(set(torch.stack(codes).flatten().tolist()))
    print("  codes used:", used, "norms", np.round(norms, 3), "losses", np.round(losses, 3).tolist())
    assert used > 2 and run["codes"] - 1 not in torch.stack(codes)
    return model, decayed(trainer, model)


def run_prior(vqvae, run, model, batches, tensors):
    prior = vqvae.TransformerPrior(
        Namespace(
            K=run["codes"], block_size=(run["window"] + 1) // run["latent_step"], n_layer=LAYERS, n_head=HEADS,
            n_embd=WIDTH, observation_dim=run["observation_dim"], latent_step=run["latent_step"], embd_pdrop=0.0,
            resid_pdrop=0.0, attn_pdrop=0.0, obs_shape=[-1],
        )
    )  # fmt: skip
    scales = {"pos_emb": 0.3, "bias": 0.1, "weight": 0.3}
    authors.perturb(prior, torch.Generator().manual_seed(run["seed"] + 10), scales)
    # Positions that no window reaches get no gradient that is not zero.
    tensors |= authors.parameters(prior, "prior.param")
    codes, losses, states = [], [], []
    encode, forward = model.encode, prior.forward

    def recorded_encode(*args):
        codes.append(encode(*args))
        return codes[-1]

    def recorded_forward(index, state, targets):
        out = forward(index, state, targets)
        losses.append(out[1].item())
        states.append(state)
        return out

    x, _, _, terminals = batches[0]
    found = encode(x, terminals)
    logits, loss = prior(found[:, :-1], x[:, 0, : run["observation_dim"]], found)
    loss.backward()
    tensors |= authors.gradients(prior, "prior.grad")
    tensors |= {"prior.logits": logits, "prior.loss": loss}
    prior.zero_grad()
    model.encode, prior.forward = recorded_encode, recorded_forward
    trainer, norms = train(lambda training: training.PriorTrainer(trainer_config()), batches, model, prior)
    model.encode, prior.forward = encode, forward
    tensors |= authors.parameters(prior, "prior.after")
    tensors |= {
        "prior.steps.codes": torch.stack(codes),
        "prior.steps.states": torch.stack(states),
        "prior.steps.loss": np.array(losses),
        "prior.steps.grad_norm": norms,
    }
    print("  prior: norms", np.round(norms, 3), "losses", np.round(losses, 3))
    return prior, decayed(trainer, prior)


class Recorder:
    """Draws by inverse CDF, ties of topk by the lower index; `close` holds the smallest distance to any other outcome."""

    def __init__(self, rng):
        self.rng, self.topk, self.uniforms, self.close = rng, torch.topk, [], {}

    def note(self, what, distance):
        self.close[what] = min(self.close.get(what, np.inf), float(distance))

    def multinomial(self, probabilities, num_samples, replacement):
        assert replacement
        uniforms = self.rng.random((len(probabilities), num_samples))
        self.uniforms.append(uniforms.flatten())
        cumulative = torch.cumsum(probabilities, -1)
        distance = (cumulative[:, None, :-1] - torch.tensor(uniforms)[:, :, None]).abs()
        self.note("uniform to a step of the CDF", distance.min())
        drawn = (cumulative[:, None] <= torch.tensor(uniforms)[:, :, None]).sum(-1)
        return drawn.clamp(max=probabilities.shape[-1] - 1)

    def stable_topk(self, x, k):
        values, indices = torch.sort(x, descending=True, stable=True)
        gaps = values[:-1] - values[1:]
        self.note("beam values", gaps[gaps > 1e-12].min() if (gaps > 1e-12).any() else np.inf)
        return values[:k], indices[:k]


def run_plans(run, model, prior, rng, tensors):
    from latentplan.search.optimizer import beam_with_prior

    o, a = run["observation_dim"], run["action_dim"]
    mean, std = rng.normal(size=o + a + 2), rng.uniform(0.5, 3, o + a + 2)
    observations = rng.normal(size=(5, o)).astype(np.float32).astype(np.float64)
    tensors |= {"plan.mean": mean, "plan.std": std, "plan.observations": observations}
    model.eval()
    prior.eval()
    # Peaked enough that likelihood matters and some draws are the same.
    with torch.no_grad():
        prior.head.weight *= 3.0
    tensors |= authors.parameters(prior, "plan.prior")
    for name, plan in PLANS.items():
        steps = plan["horizon"] // run["latent_step"] * run["latent_step"]
        if steps != plan["horizon"]:
            continue
        recorder = Recorder(np.random.default_rng(run["seed"]))
        multinomial, topk = torch.multinomial, torch.topk
        torch.multinomial, torch.topk = recorder.multinomial, recorder.stable_topk
        actions, sequences, penalised, duplicates = [], [], 0, 0
        for t, observation in enumerate(observations):
            state = torch.tensor((observation - mean[:o]) / std[:o])
            if t % plan["plan_freq"] == 0:
                x = torch.cat([state, torch.zeros(a + 2)])[None, None]
                sequence, info = beam_with_prior(
                    prior, model, x, denormalize_rew=lambda r: r * std[-2] + mean[-2],
                    denormalize_val=lambda v: v * std[-1] + mean[-1], discount=0.97, steps=plan["horizon"],
                    beam_width=plan["beam_width"], n_expand=plan["n_expand"], prob_threshold=plan["prob_threshold"],
                    likelihood_weight=plan["likelihood_weight"], return_info=True,
                )  # fmt: skip
                for step, part in info.items():
                    kept = part["index"]
                    place = f"plan.{name}.{t}.{step}"
                    tensors |= {
                        f"{place}.codes": part["latent_codes"][kept],
                        f"{place}.objectives": part["objectives"][kept],
                        f"{place}.log_probs": part["log_probs"][kept],
                    }
                    penalised += int((part["log_probs"] < np.log(plan["prob_threshold"]) * (plan["horizon"] // run["latent_step"])).sum())
                    duplicates += len(part["latent_codes"]) - len({tuple(row) for row in part["latent_codes"].tolist()})
            else:
                sequence = sequence[1:]
            sequences.append(sequence[0])
            actions.append(sequence[0, o : o + a] * std[o : o + a] + mean[o : o + a])
        torch.multinomial, torch.topk = multinomial, topk
        tensors |= {
            f"plan.{name}.uniforms": np.concatenate(recorder.uniforms),
            f"plan.{name}.actions": np.array(actions),
            f"plan.{name}.first_steps": np.array(sequences),
        }
        closest = {key: f"{value:.1e}" for key, value in recorder.close.items()}
        print(f"  plan {name}: penalised {penalised}, duplicates {duplicates}, closest {closest}")
        assert penalised > 0 and duplicates > 0 and all(float(value) > 1e-9 for value in closest.values())


def run_all(name, run, vqvae):
    torch.manual_seed(run["seed"])
    rng = np.random.default_rng(run["seed"])
    print(name)
    tensors, batches = {}, make_batches(run, rng)
    model, autoencoder_decayed = run_autoencoder(vqvae, run, batches, tensors)
    prior, prior_decayed = run_prior(vqvae, run, model, batches, tensors)
    run_plans(run, model, prior, rng, tensors)
    metadata = {
        "authors": COMMIT, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "steps": STEPS, "learning_rate": 2e-4,
        "decayed": autoencoder_decayed, "prior_decayed": prior_decayed, "plans": PLANS, "discount": 0.97, **run,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


def run_windows(vqvae):
    """Episodes that end, are cut off by time, and one that is shorter than a window, through their `SequenceDataset`."""
    from latentplan.datasets.sequence import SequenceDataset

    rng = np.random.default_rng(3)
    o, a, lengths, ends = 3, 2, [7, 12, 3, 9], ["terminal", "timeout", "terminal", "timeout"]
    # Their loop drops the last row of a file: a stump of another episode.
    rows = sum(lengths) + 1
    data = {
        "observations": rng.normal(size=(rows, o)).astype(np.float32) * np.float32(2) + np.float32(1),
        "actions": np.tanh(rng.normal(size=(rows, a))).astype(np.float32),
        "rewards": rng.normal(1.0, 0.5, rows).astype(np.float32),
        "terminals": np.zeros(rows, dtype=bool),
        "timeouts": np.zeros(rows, dtype=bool),
    }
    for last, end in zip(np.cumsum(lengths) - 1, ends):
        data["terminals" if end == "terminal" else "timeouts"][last] = True
    env = Namespace(name="golden", get_dataset=lambda **_: {key: value.copy() for key, value in data.items()})
    env.unwrapped = env
    tensors, window = {key: value[:-1].astype(np.float64) for key, value in data.items()}, 6
    for name, penalty, path in (("penalty", -20, 12), ("plain", None, 14)):
        dataset = SequenceDataset(
            env, sequence_length=window + 1, step=1, discount=0.9, max_path_length=path, penalty=penalty, device="cpu"
        )
        run = {
            **RUNS["tap"], "window": window, "observation_dim": o, "action_dim": a,
        }  # fmt: skip
        model = vqvae.VQContinuousVAE(Namespace(**network_config(run)))
        model.set_padding_vector(dataset.normalize_joined_single(np.zeros(o + a + 2)))
        items = [dataset[i] for i in range(len(dataset))]
        seen, inner = [], model.model.forward

        def recorded(joined, state):
            seen.append(joined)
            return inner(joined, state)

        model.model.forward = recorded
        stacked = [torch.stack([torch.as_tensor(item[part]) for item in items]) for part in range(4)]
        model(*stacked)
        tensors |= {
            f"{name}.joined": seen[0][..., :-1].double(),
            f"{name}.terminals": stacked[3],
            f"{name}.mask": stacked[2][..., :1],
            f"{name}.mean": np.concatenate([dataset.obs_mean[0], dataset.act_mean[0], [dataset.reward_mean, dataset.value_mean]]).astype(np.float64),
            f"{name}.std": np.concatenate([dataset.obs_std[0], dataset.act_std[0], [dataset.reward_std, dataset.value_std]]).astype(np.float64),
            f"{name}.starts": np.array([sum(lengths[:path_index]) + start for path_index, start, _ in dataset.indices]),
        }  # fmt: skip
        print("windows", name, stacked[0].shape, "masked", int((~stacked[2][..., 0]).sum()))
    metadata = {
        "authors": COMMIT, "observation_dim": o, "action_dim": a, "lengths": lengths, "window": window, "discount": 0.9,
        "penalty": -20, "max_path": {"penalty": 12, "plain": 14},
    }  # fmt: skip
    authors.save("tap_windows", tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    vqvae = import_latentplan(args.authors)
    for name, run in RUNS.items():
        run_all(name, run, vqvae)
    run_windows(vqvae)
