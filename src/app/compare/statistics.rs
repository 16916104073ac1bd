//! What can be said of an algorithm from the scores of several runs on several tasks: aggregates, bootstrap intervals,
//! performance profiles and probabilities of improvement.
//!
//! Definitions are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
//! <https://arxiv.org/abs/2108.13264>, as their library `rliable` 1.2.0 computes them; the golden numbers are its. It takes the same number
//! of runs on every task, this file any number: each task then counts the same, except in the interquartile mean, which is over
//! all runs. Nothing here draws random numbers by itself.

use serde::Serialize;

use trajformer_core::statistics::quantile;

/// Share of all runs that the interquartile mean leaves out at either end.
const TRIMMED: f64 = 0.25;
/// Share of resamples below an interval, and above it.
const TAIL: f64 = 0.025;

/// Scores of one algorithm: of every task those of its runs. At least one task, at least one run on each, all numbers finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    tasks: Vec<Vec<f64>>,
}

/// For every task the runs that are drawn, with replacement: indices of that task's runs, as many as it has.
pub type Draw = Vec<Vec<usize>>;

/// Percentile interval: 95 % of the resamples lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Scores {
    /// Scores by task and run; `None` if a task has no run, there is no task, or a score is not finite.
    pub fn new(tasks: Vec<Vec<f64>>) -> Option<Self> {
        let sound =
            |runs: &Vec<f64>| !runs.is_empty() && runs.iter().all(|score| score.is_finite());
        (!tasks.is_empty() && tasks.iter().all(sound)).then_some(Self { tasks })
    }

    /// The scores by task and run.
    pub fn tasks(&self) -> &[Vec<f64>] {
        &self.tasks
    }

    /// Number of runs on each task.
    pub fn sizes(&self) -> Vec<usize> {
        self.tasks.iter().map(Vec::len).collect()
    }

    /// The task number `task` alone.
    pub fn of_task(&self, task: usize) -> Self {
        Self {
            tasks: vec![self.tasks[task].clone()],
        }
    }

    /// Mean of the tasks' means.
    pub fn mean(&self) -> f64 {
        mean(&self.task_means())
    }

    /// Median of the tasks' means; the mean of the middle two where their number is even.
    pub fn median(&self) -> f64 {
        let mut means = self.task_means();
        means.sort_by(f64::total_cmp);
        quantile(&means, 0.5)
    }

    /// Mean of the middle half of all runs on all tasks: a quarter of them, rounded down, is left out at either end.
    pub fn interquartile_mean(&self) -> f64 {
        let mut all = self.tasks.concat();
        all.sort_by(f64::total_cmp);
        let cut = (TRIMMED * all.len() as f64) as usize;
        mean(&all[cut..all.len() - cut])
    }

    /// How far runs stay below the score `goal` on average, where none counts as more than `goal`; less is better.
    pub fn optimality_gap(&self, goal: f64) -> f64 {
        let shares: Vec<f64> = self.over_tasks(|score| score.min(goal));
        goal - mean(&shares)
    }

    /// Performance profile: the share of runs whose score is above each of `thresholds`.
    pub fn profile(&self, thresholds: &[f64]) -> Vec<f64> {
        let above =
            |threshold: f64| self.over_tasks(|score| f64::from(u8::from(score > threshold)));
        thresholds
            .iter()
            .map(|&threshold| mean(&above(threshold)))
            .collect()
    }

    /// The scores of the runs that `draw` names.
    pub fn drawn(&self, draw: &Draw) -> Self {
        let tasks = self.tasks.iter().zip(draw);
        let runs = |(scores, picks): (&Vec<f64>, &Vec<usize>)| {
            picks.iter().map(|&run| scores[run]).collect()
        };
        Self {
            tasks: tasks.map(runs).collect(),
        }
    }

    fn task_means(&self) -> Vec<f64> {
        self.over_tasks(|score| score)
    }

    /// The mean of `value` over the runs of each task.
    fn over_tasks(&self, value: impl Fn(f64) -> f64) -> Vec<f64> {
        let over_runs =
            |runs: &Vec<f64>| mean(&runs.iter().map(|&score| value(score)).collect::<Vec<_>>());
        self.tasks.iter().map(over_runs).collect()
    }
}

/// For every task the probability that a run of `x` scores higher than one of `y`, where a tie counts half: the Mann-Whitney
/// statistic over the number of pairs. Their mean is the probability of improvement over tasks. `x` and `y` have the same tasks.
pub fn improvement(x: &Scores, y: &Scores) -> Vec<f64> {
    let of_task = |(x, y): (&Vec<f64>, &Vec<f64>)| {
        let pairs = x.iter().flat_map(|x| y.iter().map(move |y| (x, y)));
        // Halves are exact, so that the order of the sum is of no matter.
        let wins = pairs.map(|(x, y)| match x.partial_cmp(y) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            _ => 0.0,
        });
        wins.sum::<f64>() / (x.len() * y.len()) as f64
    };
    x.tasks.iter().zip(&y.tasks).map(of_task).collect()
}

/// Draws runs within each task, independently of the other tasks; `below(n)` is a random integer in 0..n.
pub fn draw(sizes: &[usize], below: &mut impl FnMut(usize) -> usize) -> Draw {
    let of_task = |&size: &usize| (0..size).map(|_| below(size)).collect();
    sizes.iter().map(of_task).collect()
}

/// The percentile interval of each of several numbers, from their values in every resample: `resamples` holds one list of all
/// numbers per resample, at least one.
pub fn intervals(resamples: &[Vec<f64>]) -> Vec<Interval> {
    let count = resamples.first().map_or(0, Vec::len);
    let of_number = |number: usize| {
        let mut values: Vec<f64> = resamples.iter().map(|values| values[number]).collect();
        values.sort_by(f64::total_cmp);
        Interval {
            low: quantile(&values, TAIL),
            high: quantile(&values, 1.0 - TAIL),
        }
    };
    (0..count).map(of_number).collect()
}

/// The 95 % interval of a mean over `count` values with that `mean` and standard deviation `deviation` (`count` in its denominator), from
/// Student's t distribution; `None` of fewer than two.
pub fn student_interval(mean: f64, deviation: f64, count: usize) -> Option<Interval> {
    let freedom = count.checked_sub(1).filter(|freedom| *freedom > 0)?;
    let half = student_quantile(freedom) * deviation / (freedom as f64).sqrt();
    Some(Interval {
        low: mean - half,
        high: mean + half,
    })
}

/// The t between whose negative and itself 95 % of Student's distribution with `freedom` degrees of freedom lies.
pub fn student_quantile(freedom: usize) -> f64 {
    let (mut low, mut high) = (1.9, 12.8); // of infinitely many, and of one
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if student_probability(middle, freedom) < 1.0 - 2.0 * TAIL {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Probability that a t with `freedom` degrees of freedom lies between -`t` and `t`: Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn student_probability(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    // 1 + 1/2 cos^2 + 1*3/(2*4) cos^4 + ..., or cos + 2/3 cos^3 + 2*4/(3*5) cos^5 + ...
    let (mut term, mut sum) = if odd { (cosine, 0.0) } else { (1.0, 0.0) };
    let mut step = if odd { 3 } else { 2 };
    while step <= freedom {
        sum += term;
        term *= cosine * cosine * (step - 1) as f64 / step as f64;
        step += 2;
    }
    if odd {
        2.0 / std::f64::consts::PI * (angle + sine * sum)
    } else {
        sine * sum
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_models::rng::Rng;

    fn scores(tasks: &[&[f64]]) -> Scores {
        Scores::new(tasks.iter().map(|runs| runs.to_vec()).collect()).expect("scores")
    }

    #[test]
    fn tasks_count_the_same_however_many_runs_they_have_and_the_interquartile_mean_is_over_runs() {
        let scores = scores(&[&[0.0, 10.0, 20.0, 130.0], &[50.0]]);
        assert_eq!(scores.mean(), (40.0 + 50.0) / 2.0);
        assert_eq!(scores.median(), 45.0);
        assert_eq!(scores.interquartile_mean(), 80.0 / 3.0); // a quarter of 5 is 1
        assert_eq!(scores.optimality_gap(100.0), 100.0 - (32.5 + 50.0) / 2.0);
        // On a score lies not above it.
        assert_eq!(scores.profile(&[10.0, 50.0]), [(0.5 + 1.0) / 2.0, 0.125]);
        assert_eq!(scores.sizes(), [4, 1]);
    }

    #[test]
    fn scores_have_a_run_on_every_task_and_are_finite() {
        assert_eq!(Scores::new(Vec::new()), None);
        assert_eq!(Scores::new(vec![vec![1.0], Vec::new()]), None);
        assert_eq!(Scores::new(vec![vec![1.0, f64::NAN]]), None);
    }

    #[test]
    fn improvement_counts_pairs_of_one_task_and_ties_half() {
        let (x, y) = (
            scores(&[&[1.0, 2.0, 3.0], &[5.0]]),
            scores(&[&[2.0, 0.0], &[5.0]]),
        );
        assert_eq!(improvement(&x, &y), [4.5 / 6.0, 0.5]);
        assert_eq!(improvement(&y, &x), [1.5 / 6.0, 0.5]);
    }

    #[test]
    fn a_draw_takes_as_many_runs_of_every_task_as_it_has() {
        let mut next = 0;
        let mut below = |bound| {
            next += 1;
            next % bound
        };
        assert_eq!(
            draw(&[2, 1, 3], &mut below),
            [vec![1, 0], vec![0], vec![1, 2, 0]]
        );
    }

    #[test]
    fn one_value_has_no_interval() {
        assert_eq!(student_interval(3.0, 0.0, 1), None);
        assert_eq!(student_interval(3.0, 0.0, 0), None);
        let none = student_interval(3.0, 0.0, 2).expect("an interval");
        assert_eq!((none.low, none.high), (3.0, 3.0));
    }

    /// How often an interval holds the mean that normally distributed scores have: the shares that notes and documents tell.
    #[test]
    fn intervals_of_few_seeds_are_too_narrow_by_as_much_as_is_said() {
        let mut rng = Rng::from_seed(0);
        for (seeds, said) in [(2, 0.50), (3, 0.76), (5, 0.83), (10, 0.89)] {
            let mut holds = 0;
            for _ in 0..600 {
                let table = Scores::new(vec![(0..seeds).map(|_| rng.normal()).collect()]);
                let table = table.expect("scores");
                let mut below = |bound| rng.below(bound);
                let sample = |_| vec![table.drawn(&draw(&[seeds], &mut below)).mean()];
                let found = intervals(&(0..300).map(sample).collect::<Vec<_>>())[0];
                holds += usize::from(found.low <= 0.0 && 0.0 <= found.high);
            }
            // Three standard deviations of a share of 600.
            let share = holds as f64 / 600.0;
            assert!(
                (share - said).abs() < 0.06,
                "{seeds} seeds: {share}, not {said}"
            );
        }
    }
}
