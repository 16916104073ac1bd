"""Aggregates, intervals, profiles and probabilities of improvement of rliable, on made-up scores.

pip install rliable==1.2.0 arch==7.2.0 "pandas<3" && python tests/golden/rliable_scores.py

rliable_scores.json: `cases`, each with the scores of two algorithms, `x` and `y`, by task and run; the runs that every bootstrap resample drew, one
digit per run, task after task (`draws`, and `pair_draws` for both algorithms together); and what rliable made of them. Scores are
shares of the reference score there and percent here: the script divides by 100 before and multiplies after. `student` has SciPy's quantiles of Student's t.
"""

import json
from pathlib import Path

import numpy as np
import scipy.stats
from rliable import library, metrics

HERE = Path(__file__).resolve().parent
RESAMPLES = 60


class Recorded(library.StratifiedBootstrap):
    """The library's bootstrap, which keeps what it drew."""

    def update_indices(self):
        found = super().update_indices()
        self.kept = getattr(self, "kept", []) + [found[0]]
        return found


class RecordedPair(library.StratifiedIndependentBootstrap):
    """The same for two algorithms that are drawn independently."""

    def update_indices(self):
        found = super().update_indices()
        self.kept = getattr(self, "kept", []) + [[indices[0] for indices in found[0]]]
        return found


def digits(indices):
    """(runs, tasks) as text, task after task."""
    return "".join(str(index) for index in indices.T.reshape(-1))


def resampled(bootstrap, function):
    """Percentile intervals by the library's own code, on a seeded generator: it draws from NumPy's global one."""
    np.random.seed(3)
    low, high = bootstrap.conf_int(function, reps=RESAMPLES, size=0.95, method="percentile")
    return [low.tolist(), high.tolist()]


def aggregates(scores):
    return np.array([
        metrics.aggregate_mean(scores), metrics.aggregate_median(scores), metrics.aggregate_iqm(scores),
        metrics.aggregate_optimality_gap(scores),
    ])  # fmt: skip


def case(x, y, thresholds):
    of_x = {}
    for name, function in [("aggregates", aggregates), ("profile", lambda scores: library.score_distributions(scores, thresholds))]:
        bootstrap = Recorded(x)
        of_x[name] = function(x).tolist()
        of_x[name + "_intervals"] = resampled(bootstrap, function)
        drawn = [digits(indices) for indices in bootstrap.kept]
        assert of_x.setdefault("draws", drawn) == drawn
    pair = RecordedPair(x, y)
    overall = lambda x, y: np.array([metrics.probability_of_improvement(x, y)])
    intervals = resampled(pair, overall)
    tasks = range(x.shape[1])
    per_task = [metrics.probability_of_improvement(x[:, [task]], y[:, [task]]) for task in tasks]
    return {
        "x": (100 * x).T.tolist(),
        "y": (100 * y).T.tolist(),
        "thresholds": (100 * thresholds).tolist(),
        **of_x,
        "improvement": [float(overall(x, y)[0]), *map(float, per_task)],
        "improvement_interval": intervals,
        "pair_draws": [[digits(indices) for indices in both] for both in pair.kept],
    }


def main():
    random = np.random.default_rng(5)
    table = lambda runs, tasks, low=-0.1, high=1.3: random.uniform(low, high, (runs, tasks))
    tied = np.round(4 * table(6, 2)) / 4
    cases = {
        # Five runs on three tasks against four: the usual case. A quarter of 15 is no whole number.
        "usual": case(table(5, 3), table(4, 3), np.linspace(-0.2, 1.4, 9)),
        # Ties, within and between, and thresholds that scores lie on: binary fractions are exact in both units.
        "ties": case(tied, tied[::-1][:5] - 0.25 * (np.arange(5) % 2)[:, None], np.linspace(0, 1.25, 6)),
        # One task; an even number of tasks, of which one algorithm lies above the reference; the same scores.
        "one_task": case(table(9, 1), table(3, 1), np.array([0.5])),
        "even": case(table(2, 4, 0.9, 2.0), table(3, 4), np.array([0.9, 1.0, 1.1])),
        "equal": (lambda same: case(same, same.copy(), np.array([0.0])))(table(4, 2)),
    }
    student = {str(freedom): float(scipy.stats.t.ppf(0.975, freedom)) for freedom in [1, 2, 3, 4, 5, 9, 10, 19, 49, 99, 998, 999]}
    text = json.dumps({"cases": cases, "student": student}, indent=1)
    (HERE / "rliable_scores.json").write_text(text + "\n")


main()
