//! What follows from the values of several policies in the same resamples, and how a choice is measured against true scores. Nothing
//! here knows runs or draws random numbers.

use serde::Serialize;

use trajformer_core::statistics::quantile;

/// Share of the resamples below an interval, and above it.
const TAIL: f64 = 0.05;

/// 90 % of the resamples lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// 5 % quantile.
    pub low: f64,
    /// 95 % quantile.
    pub high: f64,
}

impl Interval {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            low: quantile(&values, TAIL),
            high: quantile(&values, 1.0 - TAIL),
        }
    }

    /// Whether all of it is above 0.
    pub fn is_positive(&self) -> bool {
        self.low > 0.0
    }
}

/// What is said of one of several policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// Mean over the resamples.
    pub value: f64,
    /// Of the value.
    pub interval: Interval,
    /// Share of the resamples in which it is the best one; those that are equally good share one.
    pub probability_best: f64,
    /// By how much the best policy of each resample is better than this one, on average: what is lost by taking it, if the resamples
    /// are right.
    pub expected_regret: f64,
    /// By how much the one with the highest value is better than this one in the same resample.
    pub behind: Interval,
}

/// The standings of policies whose values in each resample are `members` (policies, resamples), in the order given, and which of
/// them has the highest value: the first of equal ones. At least one policy and one resample; all as many resamples.
pub fn standings(members: &[Vec<f64>]) -> (Vec<Standing>, usize) {
    let resamples = members[0].len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let values: Vec<f64> = members.iter().map(|values| mean(values)).collect();
    let top = first_highest(&values);
    let mut standings: Vec<Standing> = members
        .iter()
        .zip(&values)
        .map(|(own, &value)| Standing {
            value,
            interval: Interval::of(own.clone()),
            probability_best: 0.0,
            expected_regret: 0.0,
            behind: Interval::of(members[top].iter().zip(own).map(|(a, b)| a - b).collect()),
        })
        .collect();
    for resample in 0..resamples {
        let here: Vec<f64> = members.iter().map(|values| values[resample]).collect();
        let best = here[first_highest(&here)];
        let winners = here.iter().filter(|&&value| value == best).count();
        for (standing, value) in standings.iter_mut().zip(here) {
            if value == best {
                standing.probability_best += 1.0 / (winners * resamples) as f64;
            }
            standing.expected_regret += (best - value) / resamples as f64;
        }
    }
    (standings, top)
}

fn first_highest(values: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

/// What is lost on average by taking one of the policies with the highest `estimates`, equal ones alike: the best of their true
/// `scores` minus the score of the one taken (regret@1 of Fu et al. 2021). As many of both, at least one.
pub fn regret(scores: &[f64], estimates: &[f64]) -> f64 {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let highest = estimates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let picked: Vec<f64> = scores
        .iter()
        .zip(estimates)
        .filter(|(_, estimate)| **estimate == highest)
        .map(|(score, _)| best - score)
        .collect();
    picked.iter().sum::<f64>() / picked.len() as f64
}

/// Spearman's rank correlation: Pearson's of the ranks, where equal numbers have the mean of theirs. `None` if all of one side are
/// equal.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| {
        let pairs = x.iter().zip(y);
        pairs.map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>()
    };
    let size = (product(&a, &a) * product(&b, &b)).sqrt();
    (size > 0.0).then(|| product(&a, &b) / size)
}

/// From 0 up, the mean of theirs for equal numbers.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of sums of a few numbers.
    const TOLERANCE: f64 = 1e-12;

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < TOLERANCE,
            "{found}, not {expected}"
        );
    }

    #[test]
    fn standings_compare_policies_within_each_resample() {
        // Two that move together, one always 1 behind, and one that is far apart.
        let first = vec![10.0, 20.0, 30.0, 40.0];
        let second: Vec<f64> = first.iter().map(|value| value - 1.0).collect();
        let third = vec![40.0, 0.0, 0.0, 0.0];
        let (found, top) = standings(&[second, first, third]);
        assert_eq!(top, 1);
        let best: Vec<f64> = found.iter().map(|one| one.probability_best).collect();
        assert_eq!(best, [0.0, 0.75, 0.25]);
        assert_eq!((found[0].behind.low, found[0].behind.high), (1.0, 1.0));
        assert!(found[0].behind.is_positive());
        // The intervals of both values overlap nearly wholly: pairs tell what they can't.
        assert!(found[0].interval.high > found[1].interval.low);
        assert!(!found[2].behind.is_positive());
        near(found[1].expected_regret, 30.0 / 4.0);
        near(found[0].expected_regret, (31.0 + 1.0 + 1.0 + 1.0) / 4.0);
        near(found[2].expected_regret, 90.0 / 4.0);
        near(found[1].value, 25.0);
        // 5 % of three steps from 10 to 40.
        near(found[1].interval.low, 11.5);
        near(found[1].interval.high, 38.5);
    }

    #[test]
    fn equal_policies_are_the_best_half_of_the_time_and_not_told_apart() {
        let values = vec![3.0, 1.0, 2.0];
        let (found, top) = standings(&[values.clone(), values]);
        assert_eq!(top, 0);
        for one in &found {
            near(one.probability_best, 0.5);
            assert_eq!(one.expected_regret, 0.0);
            assert!(!one.behind.is_positive());
        }
    }

    #[test]
    fn regret_is_what_the_choice_lacks_and_ties_are_averaged() {
        let scores = [10.0, 50.0, 40.0];
        assert_eq!(regret(&scores, &[1.0, 3.0, 2.0]), 0.0);
        assert_eq!(regret(&scores, &[3.0, 1.0, 2.0]), 40.0);
        assert_eq!(regret(&scores, &[3.0, 1.0, 3.0]), 25.0);
        near(regret(&scores, &[0.0; 3]), 50.0 / 3.0);
    }

    #[test]
    fn rank_correlations_are_spearmans() {
        let up = [1.0, 2.0, 3.0, 4.0, 5.0];
        near(
            spearman(&up, &[10.0, 20.0, 30.0, 40.0, 500.0]).unwrap_or(0.0),
            1.0,
        );
        near(
            spearman(&up, &[5.0, 4.0, 3.0, 2.0, 1.0]).unwrap_or(0.0),
            -1.0,
        );
        // Without ties 1 - 6 Σ d² / (n (n² - 1)): d = 1, 1, 0, 1, 1.
        near(
            spearman(&up, &[2.0, 1.0, 3.0, 5.0, 4.0]).unwrap_or(0.0),
            0.8,
        );
        // Ranks 0.5, 0.5, 2 with 0, 1, 2: (0.5 + 1) / sqrt(1.5 · 2).
        let tied = spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]);
        near(tied.unwrap_or(0.0), 1.5 / 3.0f64.sqrt());
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
