"""Golden numbers of jannerm's QuantileDiscretizer: thresholds, indices, reconstruction, expectation, percentile.

python tests/golden/quantile_discretizer.py --authors TRAJECTORY_TRANSFORMER
"""

import authors
import numpy as np

COMMIT = "jannerm/trajectory-transformer@8834a6ed04ceeab8fdb9465e145c6e041c05d71b"


def make_data(rng, rows):
    """Columns: normal; constant; sparse (zero but for a tenth); ties (integers); negative and skewed."""
    return np.stack(
        [
            rng.normal(size=rows),
            np.full(rows, 0.75),
            np.where(rng.random(rows) < 0.1, rng.uniform(0.5, 3.0, rows), 0.0),
            rng.integers(-3, 4, rows).astype(float),
            -np.exp(rng.normal(size=rows)),
        ],
        axis=1,
    )


def make_queries(rng, data, thresholds):
    """Values inside, exactly on thresholds, just below and above them, and far out of range."""
    low, high = data.min(0), data.max(0)
    on = thresholds[rng.integers(0, len(thresholds), 8)]
    inside = rng.uniform(low - 0.2, high + 0.2, (40, data.shape[1]))
    edges = [low, high, low - 1e-9, high + 1e-9, low - 1e6, high + 1e6]
    return np.concatenate([on, np.nextafter(on, -np.inf), np.nextafter(on, np.inf), inside, edges])


def make_probabilities(rng, bins):
    """Distributions over bins and the termination token, from flat to peaked."""
    logits = rng.normal(size=(24, 2, bins + 1)) * np.linspace(0.2, 6, 24)[:, None, None]
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(-1, keepdims=True)


def full_table(discretizer_class, rng):
    data = make_data(rng, 1050)
    bins = 20
    discretizer = discretizer_class(data, bins)
    assert len(discretizer.thresholds) == bins + 1
    queries = make_queries(rng, data, discretizer.thresholds)
    indices = discretizer.discretize(queries)
    partial = discretizer.discretize(queries[:, 1:4], subslice=(1, 4))
    assert (partial == indices[:, 1:4]).all()
    everything = np.tile(np.arange(bins)[:, None], (1, data.shape[1]))
    probabilities = make_probabilities(rng, bins)
    tensors = {
        "data": data,
        "thresholds": discretizer.thresholds,
        "indices": discretizer.discretize(data),
        "queries": queries,
        "query_indices": indices,
        "query_reconstructed": discretizer.reconstruct(indices),
        "centers": discretizer.reconstruct(everything),
        "probabilities": probabilities,
    }
    for column in range(data.shape[1]):
        kept = probabilities[:, 0, :-1]
        tensors[f"expectation.{column}"] = discretizer.expectation(kept, column)
        for level in (0.1, 0.5, 0.9):
            cumulative = np.cumsum(kept, -1)
            assert np.abs(cumulative - level).min() > 1e-6
            tensors[f"percentile.{column}.{level}"] = discretizer.percentile(kept, level, column)
            first = np.argmax(cumulative > level, -1)
            # Bin 0 (or none) wraps to the last threshold in the authors' code; a flag says where.
            tensors[f"percentile_wraps.{level}"] = first == 0
    for level in ("mean", "0.5"):
        tensors[f"value_fn.{level}"] = np.stack(discretizer.value_fn(probabilities, level), -1)
    return {f"full.{key}": value for key, value in tensors.items()}


def short_table(discretizer_class, rng):
    """105 rows in 20 bins: steps of 6 rows give 18 thresholds and the largest value, two too few.

    The authors' own check fails on such a table, so it's skipped.
    """
    data = make_data(rng, 105)
    check, discretizer_class._test = discretizer_class._test, lambda self: None
    discretizer = discretizer_class(data, 20)
    discretizer_class._test = check
    rows = len(discretizer.thresholds)
    assert rows == 19
    indices = discretizer.discretize(data)
    assert indices.max() == rows
    return {
        "short.data": data,
        "short.thresholds": discretizer.thresholds,
        "short.indices": indices,
        # Bins beyond the table can't be reconstructed; the last bin that exists takes them.
        "short.guarded_reconstructed": discretizer.reconstruct(np.minimum(indices, rows - 2)),
    }


if __name__ == "__main__":
    args = authors.arguments(__doc__)
    authors.import_trajectory_transformer(args.authors)
    from trajectory.utils.discretization import QuantileDiscretizer

    np.random.seed(0)
    rng = np.random.default_rng(1)
    tensors = full_table(QuantileDiscretizer, rng) | short_table(QuantileDiscretizer, rng)
    print({key: int(value.sum()) for key, value in tensors.items() if "wraps" in key})
    metadata = {"authors": COMMIT, "full_bins": 20, "short_bins": 20, "levels": [0.1, 0.5, 0.9]}
    authors.save("quantile_discretizer", tensors, metadata)
