"""Golden numbers of jannerm's planner with settings that `beam_plan` leaves alone, and of their `beam_search`.

As beam_plan.py, with the same stand-ins for torch's draws and topk, and a smaller network: `plan_freq` of scripts/plan.py,
no context in the prefix, more than one reward token, filters of reward tokens, percentiles, temperatures (which beam_plan does
not take itself: they are given to the `sample_n` that it calls), bins of equal width; and beams by likelihood. The authors
have no class for bins of equal width (the paper has: section 3.1): theirs for quantiles runs with thresholds of NumPy's linspace.

python tests/golden/beam_options.py --authors TRAJECTORY_TRANSFORMER
"""

import authors
import beam_plan
import numpy as np
import torch

OBSERVATION, ACTION = 4, 2
D = OBSERVATION + ACTION + 2
PLAIN = {
    "horizon": 4, "beam_width": 6, "n_expand": 2, "k_obs": 1, "k_act": None, "k_rew": 1, "cdf_obs": None,
    "cdf_act": 0.6, "cdf_rew": None, "percentile": "mean",
}  # fmt: skip
SETTINGS = {
    "k_rew": {"k_rew": 3},
    "all_rew": {"k_rew": None},
    "cdf_rew": {"k_rew": None, "cdf_rew": 0.5},
    "cdf_obs": {"k_obs": None, "cdf_obs": 0.7, "k_act": 3, "cdf_act": None},
    "no_context": {"prefix_context": False, "longest": 4},
    "cold": {"temperature": 0.6, "cdf_act": None, "k_obs": 3},
    "hot": {"temperature": 1.5, "k_act": 8},
    "plan_freq": {"plan_freq": 3},
    "plan_freq_no_context": {"plan_freq": 2, "prefix_context": False, "horizon": 3, "longest": 3},
    "high": {"percentile": 0.9},
    "low": {"percentile": 0.3},
    "uniform": {},
}
# Tokens to add, as many as complete so many transitions; sequences kept; filters of all tokens.
LIKELIHOOD = {
    "wide": {"horizon": 2, "beam_width": 40, "topk": None, "cdf": None, "temperature": 1.0},
    "narrow": {"horizon": 5, "beam_width": 3, "topk": None, "cdf": None, "temperature": 1.0},
    "topk": {"horizon": 3, "beam_width": 10, "topk": 2, "cdf": None, "temperature": 1.0},
    # No more than the filter leaves of the first token: those that it drops are equally unlikely.
    "cdf": {"horizon": 3, "beam_width": 3, "topk": None, "cdf": 0.3, "temperature": 1.0},
    "hot": {"horizon": 3, "beam_width": 3, "topk": 4, "cdf": 0.2, "temperature": 1.4},
}


def uniform_discretizer(data):
    """The authors' functions on NumPy's thresholds."""
    from trajectory.utils.discretization import QuantileDiscretizer

    class UniformDiscretizer(QuantileDiscretizer):
        def __init__(self, data, bins):
            self.data, self.N = data, bins
            self.thresholds = np.linspace(data.min(0), data.max(0), bins + 1)
            self.diffs = self.thresholds[1:] - self.thresholds[:-1]
            self._test()

    return UniformDiscretizer(data, beam_plan.BINS)


def uniform_tensors(discretizer, data, rng):
    """Tokens of the data and of numbers around and beyond it, and what they stand for."""
    low, high = data.min(0), data.max(0)
    queries = rng.uniform(low - 0.2 * (high - low), high + 0.2 * (high - low), (60, D))
    probabilities = rng.dirichlet(np.full(beam_plan.BINS + 1, 0.3), (24, 2))
    tokens = discretizer.discretize(queries)
    # The tests' thresholds may differ in the last bit: no number lies on one but the ends.
    gaps = np.abs(np.concatenate([data, queries])[:, None] - discretizer.thresholds[1:-1])
    assert gaps.min() > 1e-9
    tensors = {
        "data": data, "thresholds": discretizer.thresholds, "indices": discretizer.discretize(data),
        "queries": queries, "query_indices": tokens, "query_reconstructed": discretizer.reconstruct(tokens),
        "probabilities": probabilities,
    }  # fmt: skip
    for which in ("mean", 0.5, 0.9):
        values = discretizer.value_fn(probabilities, which)
        tensors[f"value_fn.{which}"] = np.stack(values, -1)
        cumulative = np.cumsum(probabilities[:, :, :-1], -1)
        if which != "mean":
            tensors[f"wraps.{which}"] = np.argmax(cumulative > which, -1) == 0
    return {f"uniform_discretizer.{key}": value for key, value in tensors.items()}


def likelihood(setting, model, prefix):
    """One search of the authors' beam_search, with the likelihoods that stay after each token."""
    import trajectory.search.core as core

    setting = dict(setting)
    steps, width, history, close = setting.pop("horizon") * D - OBSERVATION, setting["beam_width"], [], []
    sort_2d, forward, lengths = core.sort_2d, model.forward, []

    def watched_sort(candidates):
        values, rows, columns = sort_2d(candidates)
        kept = values[values > -np.inf]
        history.append(kept[:width])
        gaps = kept[:-1] - kept[1:]
        close.append(float(gaps[:width].min()) if len(gaps) else np.inf)
        return values, rows, columns

    def watched_forward(x, **kwargs):
        lengths.append(x.shape[1])
        return forward(x, **kwargs)

    core.sort_2d, model.forward = watched_sort, watched_forward
    best, scores = core.beam_search(
        model, prefix, steps, max_block=beam_plan.CONTEXT * D - 1, crop_increment=D, **setting
    )  # fmt: skip
    core.sort_2d, model.forward = sort_2d, forward
    assert min(close) > 1e-9, "two sequences are as likely"
    counts = np.array([len(row) for row in history])
    return {
        "prefix": prefix[0], "best": best[prefix.shape[1] - OBSERVATION :], "scores": scores.reshape(-1),
        "history": torch.cat(history), "counts": counts, "longest": np.array(max(lengths)),
    }  # fmt: skip


def run():
    from trajectory.utils.discretization import QuantileDiscretizer

    rng = np.random.default_rng(4)
    beam_plan.BINS, beam_plan.WIDTH = 12, 16
    model = beam_plan.make_model(OBSERVATION, ACTION, seed=3)
    np.random.seed(3)
    data = beam_plan.make_data(rng, OBSERVATION, ACTION, 600)
    quantiles, uniform = QuantileDiscretizer(data, beam_plan.BINS), uniform_discretizer(data)
    made = beam_plan.make_data(rng, OBSERVATION, ACTION, beam_plan.STEPS)
    observations, rewards = made[:, :OBSERVATION], made[:, -2]
    tensors = authors.parameters(model, "param") | uniform_tensors(uniform, data, rng)
    tensors |= {"thresholds": quantiles.thresholds, "observations": observations, "rewards": rewards}
    settings = {key: PLAIN | setting for key, setting in SETTINGS.items()}
    for seed, (key, setting) in enumerate(settings.items()):
        print(key)
        discretizer = uniform if key == "uniform" else quantiles
        result = beam_plan.plan(setting, model, discretizer, observations, rewards, OBSERVATION, ACTION, seed)
        tensors |= {f"{key}.{entry}": value for entry, value in result.items()}
    for key, setting in LIKELIHOOD.items():
        for index, transitions in enumerate([4, 4, 4] if key != "wide" else [0, 0]):
            prefix = torch.tensor(rng.integers(0, beam_plan.BINS, (1, transitions * D + OBSERVATION)))
            result = likelihood(setting, model, prefix)
            tensors |= {f"likelihood.{key}.{index}.{entry}": value for entry, value in result.items()}
            print(key, index, "best", float(result["scores"].reshape(-1)[0]), "longest", int(result["longest"]))
    metadata = {
        "authors": beam_plan.COMMIT, "bins": beam_plan.BINS, "layers": beam_plan.LAYERS, "heads": beam_plan.HEADS,
        "width": beam_plan.WIDTH, "window": beam_plan.WINDOW, "observation_dim": OBSERVATION, "action_dim": ACTION,
        "steps": beam_plan.STEPS, "max_context_transitions": beam_plan.CONTEXT, "discount": beam_plan.DISCOUNT,
        "settings": settings, "likelihood": LIKELIHOOD,
    }  # fmt: skip
    authors.save("beam_options", tensors, metadata)


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.import_trajectory_transformer(args.authors)
    run()
