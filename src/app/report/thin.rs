//! Fewer numbers that look the same: curves, steps, histograms, digits.

use crate::app::report::contract::Histogram;

/// Bins of a histogram.
const BINS: usize = 40;

/// A number with six significant digits.
pub(super) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// Numbers with six significant digits.
pub(super) fn all_rounded(values: impl IntoIterator<Item = f32>) -> Vec<f64> {
    values
        .into_iter()
        .map(|value| rounded(f64::from(value)))
        .collect()
}

/// At most `most` of `points`, in order: the first and the last, and of equally long stretches between them the lowest and the
/// highest.
pub(super) fn thinned(points: &[(u64, f64)], most: usize) -> Vec<(u64, f64)> {
    if points.len() <= most.max(4) {
        return points.to_vec();
    }
    let inside = &points[1..points.len() - 1];
    let stretches = (most.max(4) - 2) / 2;
    let mut kept = vec![points[0]];
    for number in 0..stretches {
        let of = |number: usize| number * inside.len() / stretches;
        let stretch = &inside[of(number)..of(number + 1)];
        let lowest = (0..stretch.len()).min_by(|&a, &b| stretch[a].1.total_cmp(&stretch[b].1));
        let highest = (0..stretch.len()).max_by(|&a, &b| stretch[a].1.total_cmp(&stretch[b].1));
        let (Some(lowest), Some(highest)) = (lowest, highest) else {
            continue;
        };
        kept.push(stretch[lowest.min(highest)]);
        if lowest != highest {
            kept.push(stretch[lowest.max(highest)]);
        }
    }
    kept.push(points[points.len() - 1]);
    kept
}

/// Which of `steps` steps to keep so that there are about `most`: every so many, and the last.
pub(super) fn kept_steps(steps: usize, most: usize) -> (usize, Vec<usize>) {
    let every = steps.div_ceil(most).max(1);
    let mut kept: Vec<usize> = (0..steps).step_by(every).collect();
    if let Some(last) = steps.checked_sub(1)
        && kept.last() != Some(&last)
    {
        kept.push(last);
    }
    (every, kept)
}

/// How often which of `values` occur; `None` if there is none.
pub(super) fn histogram(values: impl Iterator<Item = f64> + Clone) -> Option<Histogram> {
    let (low, high) = values
        .clone()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return None;
    }
    let bins = if low == high { 1 } else { BINS };
    let mut counts = vec![0; bins];
    for value in values {
        let place = (value - low) / (high - low) * bins as f64;
        counts[(place as usize).min(bins - 1)] += 1; // NaN, where all values are one, is 0
    }
    Some(Histogram {
        low: rounded(low),
        high: rounded(high),
        counts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends_and_its_extremes() {
        let mut points: Vec<(u64, f64)> = (0..10_000).map(|at| (at, (at as f64).sin())).collect();
        points[4_321].1 = 90.0;
        points[7_654].1 = -90.0;
        let kept = thinned(&points, 600);
        assert!(kept.len() <= 600 && kept.len() > 500, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[9_999]));
        assert!(kept.contains(&(4_321, 90.0)) && kept.contains(&(7_654, -90.0)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(thinned(&points[..600], 600), points[..600]);
    }

    #[test]
    fn the_last_step_of_an_episode_is_kept() {
        assert_eq!(kept_steps(5, 200), (1, vec![0, 1, 2, 3, 4]));
        let (every, kept) = kept_steps(1_000, 200);
        assert_eq!((every, kept.len(), kept[200]), (5, 201, 999));
        assert_eq!(kept_steps(0, 200), (1, vec![]));
    }

    #[test]
    fn a_histogram_counts_every_value_once() {
        let values = [0.0, 0.1, 5.0, 10.0];
        let found = histogram(values.iter().copied()).expect("values");
        assert_eq!((found.low, found.high), (0.0, 10.0));
        assert_eq!(found.counts.iter().sum::<usize>(), 4);
        assert_eq!(
            (found.counts[0], found.counts[20], found.counts[39]),
            (2, 1, 1)
        );
        let one = histogram([3.0, 3.0].into_iter()).expect("values");
        assert_eq!(one.counts, [2]);
        assert_eq!(histogram(std::iter::empty()), None);
    }

    #[test]
    fn rounding_keeps_six_digits() {
        assert_eq!(rounded(-1_257.426_426_589), -1_257.43);
        assert_eq!(rounded(0.000_123_456_789), 0.000_123_457);
        assert!(rounded(f64::NAN).is_nan());
    }
}
