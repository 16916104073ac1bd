//! [`Judged`]: what a choice made from data alone was worth, by the scores that the same runs got in their environment.

use serde::Serialize;

use crate::app::choose::ranking::{regret, spearman};
use crate::app::evaluations::EvaluationRow;

/// What is known of one run: estimates without its environment, and scores in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Estimated value.
    pub value: f64,
    /// Updates of its checkpoint.
    pub updates: u64,
    /// Whether that is above the data's best return.
    pub above_data: bool,
    /// Distance of its actions from the data's.
    pub distance: f64,
    /// Temporal-difference error of its critics, where it has any.
    pub td_error: Option<f64>,
    /// Its evaluations up to the checkpoint, oldest first.
    pub evaluations: Vec<EvaluationRow>,
}

/// The measured regret of choosing by estimates, beside other ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// `score` (normalised: 0 random, 100 expert) or `return`.
    pub measure: &'static str,
    /// The environment.
    pub env: String,
    /// Runs that have been scored there.
    pub runs: usize,
    /// The best of their scores.
    pub best_score: f64,
    /// The worst.
    pub worst_score: f64,
    /// The best score minus that of the run with the highest estimate.
    pub regret: f64,
    /// Spearman's rank correlation of estimates and scores; `None` if all of either are equal.
    pub rank_correlation: Option<f64>,
    /// Regret of other ways to choose among the same runs.
    pub baselines: Vec<Baseline>,
}

/// Another way to choose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    /// What is taken.
    pub name: &'static str,
    /// Mean regret, over equally good picks.
    pub regret: f64,
    /// Whether it needs the environment.
    pub needs_environment: bool,
}

/// The score of a run's checkpoint: that of its last evaluation, if it was made there.
pub fn score(known: &Known, normalized: bool) -> Option<f64> {
    let last = known.evaluations.last()?;
    if last.update != known.updates {
        return None;
    }
    measured(last, normalized)
}

fn measured(row: &EvaluationRow, normalized: bool) -> Option<f64> {
    if normalized {
        row.scores.map(|(mean, _)| mean)
    } else {
        Some(row.returns.0)
    }
}

/// Measures a choice among `runs`, all of which have a [`score`]; at least one.
pub fn judged(runs: &[Known], env: &str) -> Option<Judged> {
    let normalized = runs.iter().all(|run| score(run, true).is_some());
    let scores: Option<Vec<f64>> = runs.iter().map(|run| score(run, normalized)).collect();
    let scores = scores.filter(|scores| !scores.is_empty())?;
    let values: Vec<f64> = runs.iter().map(|run| run.value).collect();
    let reached: Vec<f64> = runs
        .iter()
        .map(|run| {
            if run.above_data {
                f64::NEG_INFINITY
            } else {
                run.value
            }
        })
        .collect();
    let some_are_reached = reached.iter().any(|value| value.is_finite());
    let mut baselines = Vec::new();
    let mut add = |name, needs_environment, estimates: Option<Vec<f64>>| {
        baselines.extend(estimates.map(|estimates| Baseline {
            name,
            regret: regret(&scores, &estimates),
            needs_environment,
        }));
    };
    let of = |value: &dyn Fn(&Known) -> f64| Some(runs.iter().map(value).collect());
    add(
        "the highest that the data reaches",
        false,
        some_are_reached.then_some(reached),
    );
    add("one at random", false, of(&|_| 0.0));
    add("the most updates", false, of(&|run| run.updates as f64));
    add("the last one named", false, {
        let last = runs.len() - 1;
        Some(
            (0..runs.len())
                .map(|at| f64::from(u8::from(at == last)))
                .collect(),
        )
    });
    add("nearest to the data", false, of(&|run| -run.distance));
    let errors: Option<Vec<f64>> = runs.iter().map(|run| Some(-run.td_error?)).collect();
    add("lowest TD error", false, errors);
    let online: Option<Vec<f64>> = runs
        .iter()
        .map(|run| {
            let (_, earlier) = run.evaluations.split_last()?;
            let scores = earlier.iter().filter_map(|row| measured(row, normalized));
            scores.reduce(f64::max)
        })
        .collect();
    add("the best earlier score", true, online);
    let extreme = |pick: fn(f64, f64) -> f64| scores.iter().copied().reduce(pick);
    Some(Judged {
        measure: if normalized { "score" } else { "return" },
        env: env.to_owned(),
        runs: runs.len(),
        best_score: extreme(f64::max)?,
        worst_score: extreme(f64::min)?,
        regret: regret(&scores, &values),
        rank_correlation: spearman(&values, &scores),
        baselines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: f64, updates: u64, distance: f64, scores: &[(u64, f64)]) -> Known {
        let row = |&(update, score): &(u64, f64)| EvaluationRow {
            update,
            seconds: 1.0,
            episodes: 10,
            returns: (10.0 * score, 1.0),
            scores: Some((score, 1.0)),
        };
        Known {
            value,
            above_data: value > 8.0,
            updates,
            distance,
            td_error: None,
            evaluations: scores.iter().map(row).collect(),
        }
    }

    #[test]
    fn choices_are_measured_by_the_last_scores_and_beside_other_ways() {
        let runs = [
            known(5.0, 20, 0.3, &[(10, 80.0), (20, 30.0)]),
            known(9.0, 20, 0.2, &[(10, 40.0), (20, 50.0)]),
            known(7.0, 10, 0.1, &[(5, 10.0), (10, 70.0)]),
        ];
        let found = judged(&runs, "hopper-v4").expect("scores");
        assert_eq!((found.measure, found.runs), ("score", 3));
        assert_eq!((found.best_score, found.worst_score), (70.0, 30.0));
        assert_eq!(found.regret, 20.0);
        // Ranks 0, 2, 1 and 0, 1, 2.
        assert_eq!(found.rank_correlation, Some(0.5));
        let regrets: Vec<(&str, f64)> = found
            .baselines
            .iter()
            .map(|baseline| (baseline.name, baseline.regret))
            .collect();
        let expected = [
            ("the highest that the data reaches", 0.0),
            ("one at random", 20.0),
            ("the most updates", 30.0),
            ("the last one named", 0.0),
            ("nearest to the data", 0.0),
            ("the best earlier score", 40.0),
        ];
        assert_eq!(regrets, expected);
    }

    #[test]
    fn a_score_of_another_checkpoint_is_none_and_returns_stand_in_for_scores() {
        let mut run = known(5.0, 20, 0.3, &[(10, 80.0)]);
        assert_eq!(score(&run, true), None);
        run.updates = 10;
        assert_eq!(score(&run, true), Some(80.0));
        run.evaluations[0].scores = None;
        let other = known(6.0, 10, 0.3, &[(10, 90.0)]);
        let found = judged(&[run, other], "mine").expect("returns");
        assert_eq!((found.measure, found.best_score), ("return", 900.0));
        // No earlier evaluation: that way to choose is left out.
        assert_eq!(found.baselines.len(), 5);
        assert_eq!(judged(&[], "mine"), None);
    }
}
