"""Golden numbers of jannerm's beam_plan: eight environment steps with recorded uniforms.

Two primitives of torch are replaced while the authors' code runs, since their results are a matter of the library:
multinomial draws by inverse CDF from a recorded stream, and topk over beam values breaks ties by the lower index.

python tests/golden/beam_plan.py --authors TRAJECTORY_TRANSFORMER
"""

import authors
import numpy as np
import torch

COMMIT = "jannerm/trajectory-transformer@8834a6ed04ceeab8fdb9465e145c6e041c05d71b"
BINS, LAYERS, HEADS, WIDTH, WINDOW, STEPS, CONTEXT, DISCOUNT = 20, 2, 2, 32, 10, 8, 5, 0.99
SETTINGS = {
    "a": {
        "horizon": 5, "beam_width": 8, "n_expand": 2, "k_obs": 1, "k_act": None, "k_rew": 1, "cdf_obs": None,
        "cdf_act": 0.6, "cdf_rew": None, "percentile": "mean",
    },
    "b": {
        "horizon": 4, "beam_width": 6, "n_expand": 3, "k_obs": 2, "k_act": 4, "k_rew": 1, "cdf_obs": 0.3,
        "cdf_act": None, "cdf_rew": None, "percentile": 0.5,
    },
}  # fmt: skip


class Namespace:
    def __init__(self, **entries):
        self.__dict__.update(entries)


class Recorder:
    """Replaces and watches the primitives; `close` holds the smallest distance to any other outcome."""

    def __init__(self, rng):
        self.rng, self.topk = rng, torch.topk
        self.uniforms, self.rows, self.values, self.indices = [], [], [], []
        self.close, self.ties, self.inexact = {}, 0, 0

    def note(self, what, distance):
        self.close[what] = min(self.close.get(what, np.inf), float(distance))

    def multinomial(self, probabilities, num_samples):
        assert num_samples == 1
        uniforms = self.rng.random(len(probabilities))
        cumulative = torch.cumsum(probabilities, -1)
        u = torch.tensor(uniforms)[:, None]
        positive = probabilities > 0
        steps = torch.where(positive, (cumulative - u).abs(), torch.inf)
        steps[cumulative > 1 - 1e-9] = torch.inf
        self.note("uniform to a step of the CDF", steps.min())
        last = positive.shape[-1] - 1 - positive.flip(-1).int().argmax(-1)
        drawn = torch.minimum((cumulative <= u).sum(-1), last)
        assert (probabilities.gather(1, drawn[:, None]) > 0).all()
        self.uniforms.append(uniforms)
        self.rows.append(len(uniforms))
        return drawn[:, None]

    def stable_topk(self, x, k):
        if x.dim() != 1:
            values, indices = self.topk(x, min(k + 1, x.shape[-1]))
            gap = (values[:, k - 1] - values[:, k])[values[:, k] > -999]
            if len(gap):
                self.note("k-th to next logit", gap.min())
            return self.topk(x, k)
        values, indices = torch.sort(x, descending=True, stable=True)
        gaps = values[:-1] - values[1:]
        # Equal up to rounding is a tie between equal sequences or equal percentiles; anything else must be clear.
        self.note("beam values", gaps[gaps > 1e-12].min() if (gaps > 1e-12).any() else np.inf)
        self.values.append(values[:k])
        self.indices.append(indices[:k])
        self.ties += int((gaps[:k] <= 1e-12).sum())
        self.inexact += int(((gaps > 0) & (gaps <= 1e-12)).sum())
        return values[:k], indices[:k]

    def watch_cdf(self, filter_cdf):
        def watched(logits, threshold):
            ordered = torch.sort(logits.softmax(-1), -1)[0]
            cumulative = ordered.cumsum(-1)
            self.note("cumulative to the cdf threshold", (cumulative - threshold).abs().min())
            below = ((cumulative < threshold).sum(-1, keepdim=True) - 1).clamp(min=0)
            self.note("dropped to kept probability", (ordered.gather(1, below + 1) - ordered.gather(1, below)).min())
            return filter_cdf(logits, threshold)

        return watched


def make_model(observation_dim, action_dim, seed):
    from trajectory.models.transformers import GPT

    torch.manual_seed(seed)
    transition_dim = observation_dim + action_dim + 2
    model = GPT(
        Namespace(
            vocab_size=BINS, block_size=WINDOW * transition_dim - 1, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH,
            observation_dim=observation_dim, action_dim=action_dim, transition_dim=transition_dim,
            action_weight=5, reward_weight=1, value_weight=1, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    # Large enough that tokens far back matter and distributions are peaked.
    scales = {
        "tok_emb.weight": 0.8, "pos_emb": 0.4, "query.weight": 0.5, "key.weight": 0.5, "head.weight": 0.25,
        "bias": 0.1, "weight": 0.25,
    }  # fmt: skip
    authors.perturb(model, torch.Generator().manual_seed(seed), scales)
    # Termination stays possible but rare, and rewards and values seldom fall into bin 0, where the authors'
    # percentile wraps around. The bias of the last norm serves as a constant input to the heads.
    with torch.no_grad():
        bias = model.ln_f.bias.copy_(0.5 * torch.sign(model.ln_f.bias))
        lower = -2.5 * bias / (bias @ bias)
        model.head.weight[:, BINS] = 0.5 * model.head.weight[:, BINS] + lower
        model.head.weight[-3:-1, 0] = 0.5 * model.head.weight[-3:-1, 0] + lower
    return model.eval()


def make_data(rng, observation_dim, action_dim, rows):
    """Observations of different scales, actions in -1..1, rewards about 2, values about 100."""
    observations = rng.normal(size=(rows, observation_dim)) * rng.uniform(0.3, 4, observation_dim)
    actions = np.tanh(rng.normal(size=(rows, action_dim)))
    rewards = rng.normal(2.0, 0.8, (rows, 1))
    values = rng.normal(100.0, 25.0, (rows, 1))
    return np.concatenate([observations, actions, rewards, values], 1)


def plan(setting, model, discretizer, observations, rewards, observation_dim, action_dim, seed):
    import trajectory.search.core as core
    import trajectory.search.sampling as sampling
    from trajectory.search import extract_actions, make_prefix, update_context

    recorder = Recorder(np.random.default_rng(seed))
    sample_n, filter_cdf, multinomial, forward = core.sample_n, sampling.filter_cdf, torch.multinomial, model.forward
    last, lengths = {}, []

    def watched_sample_n(*args, **kwargs):
        # beam_plan has no temperature of its own; what it calls has.
        last["x"], probabilities = sample_n(*args, temperature=setting.get("temperature", 1.0), **kwargs)
        return last["x"], probabilities

    def watched_forward(x, **kwargs):
        lengths.append(x.shape[1])
        return forward(x, **kwargs)

    wraps = []

    def value_fn(probabilities):
        if setting["percentile"] != "mean":
            cumulative = np.cumsum(probabilities.numpy()[:, :, :-1], -1)
            recorder.note("cumulative to the percentile", np.abs(cumulative - setting["percentile"]).min())
            wraps.append(int((np.argmax(cumulative > setting["percentile"], -1) == 0).sum()))
        return discretizer.value_fn(probabilities, setting["percentile"])

    core.sample_n, model.forward = watched_sample_n, watched_forward
    sampling.filter_cdf = recorder.watch_cdf(filter_cdf)
    torch.topk, torch.multinomial = recorder.stable_topk, recorder.multinomial
    tensors, context, terminations = {}, [], 0
    for step in range(STEPS):
        start = len(recorder.rows), len(recorder.values), len(lengths)
        planned = step % setting.get("plan_freq", 1) == 0
        if planned:
            prefix = make_prefix(discretizer, context, observations[step], setting.get("prefix_context", True))
            sequence = core.beam_plan(
                model, value_fn, prefix, setting["horizon"], setting["beam_width"], setting["n_expand"],
                observation_dim, action_dim, DISCOUNT, CONTEXT, verbose=False, k_obs=setting["k_obs"],
                k_act=setting["k_act"], k_rew=setting["k_rew"], cdf_obs=setting["cdf_obs"], cdf_act=setting["cdf_act"],
                cdf_rew=setting["cdf_rew"],
            )  # fmt: skip
        else:  # as scripts/plan.py
            sequence = sequence[1:]
        reconstructed = discretizer.reconstruct(sequence)
        action = extract_actions(reconstructed, observation_dim, action_dim, t=0)
        context = update_context(context, discretizer, observations[step], action, rewards[step], CONTEXT)
        if not planned:
            tensors |= {f"step{step}.reconstructed": reconstructed, f"step{step}.action": action}
            continue
        values = torch.stack(recorder.values[start[1] :])
        beams = last["x"][recorder.indices[-1]].view(setting["beam_width"], -1, sequence.shape[-1])
        beams = beams[:, -setting["horizon"] :]
        assert (beams[0] == sequence).all() and values[-1].argmax() == 0
        terminations += int((beams == BINS).sum())
        tensors |= {
            f"step{step}.prefix": prefix[0],
            f"step{step}.values": values,
            f"step{step}.kept": torch.stack(recorder.indices[start[1] :]),
            f"step{step}.beams": beams,
            f"step{step}.sequence": sequence,
            f"step{step}.reconstructed": reconstructed,
            f"step{step}.best_value": values[-1, 0],
            f"step{step}.action": action,
            f"step{step}.lengths": np.array(lengths[start[2] :]),
        }
    core.sample_n, sampling.filter_cdf, torch.topk = sample_n, filter_cdf, recorder.topk
    torch.multinomial, model.forward = multinomial, forward
    tensors |= {"uniforms": np.concatenate(recorder.uniforms), "rows": np.array(recorder.rows)}

    print("  closest:", {key: f"{value:.1e}" for key, value in recorder.close.items()})
    beams = [key for key in tensors if key.endswith(".beams")]
    distinct = [len(np.unique(tensors[key].numpy(), axis=0)) for key in beams]
    print("  ties", recorder.ties, "inexact", recorder.inexact, "wraps", sum(wraps), "terminations", terminations)
    print("  distinct beams", distinct, "kept", tensors[beams[-1].replace("beams", "kept")].tolist())
    assert min(recorder.close.values()) > 1e-7 and recorder.inexact == 0 and sum(wraps) == 0
    assert max(lengths) == min(CONTEXT, setting.get("longest", CONTEXT)) * sequence.shape[-1] - 1
    return tensors


def run(name, observation_dim, action_dim, seed):
    from trajectory.utils.discretization import QuantileDiscretizer

    rng = np.random.default_rng(seed)
    model = make_model(observation_dim, action_dim, seed)
    np.random.seed(seed)
    discretizer = QuantileDiscretizer(make_data(rng, observation_dim, action_dim, 2000), BINS)
    made = make_data(rng, observation_dim, action_dim, STEPS)
    observations, rewards = made[:, :observation_dim], made[:, -2]
    tensors = authors.parameters(model, "param")
    tensors |= {"thresholds": discretizer.thresholds, "observations": observations, "rewards": rewards}
    for key, setting in SETTINGS.items():
        print(name, key)
        result = plan(setting, model, discretizer, observations, rewards, observation_dim, action_dim, seed)
        tensors |= {f"{key}.{entry}": value for entry, value in result.items()}
    metadata = {
        "authors": COMMIT, "bins": BINS, "layers": LAYERS, "heads": HEADS, "width": WIDTH, "window": WINDOW,
        "block_size": WINDOW * (observation_dim + action_dim + 2) - 1, "observation_dim": observation_dim,
        "action_dim": action_dim, "steps": STEPS, "max_context_transitions": CONTEXT, "discount": DISCOUNT,
        "settings": SETTINGS,
    }  # fmt: skip
    authors.save(name, tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.import_trajectory_transformer(args.authors)
    run("beam_plan_hopper", 11, 3, seed=2)
    run("beam_plan_halfcheetah", 17, 6, seed=1)
