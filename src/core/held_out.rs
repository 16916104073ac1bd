//! Losses on episodes that are kept apart from training: which of their rows count, and what the numbers are called.

use trajformer_models::rng::Streams;

/// The loss that training minimises, without dropout: the name in `metrics.csv`.
pub const HELD_OUT_LOSS: &str = "held_out_loss";

/// Most rows (transitions, contexts or windows) that a loss is the mean over.
const MOST_ROWS: usize = 2_048;

/// Rows that are looked at together: it bounds the memory. The numbers don't depend on it, but for their last bits.
pub const CHUNK_ROWS: usize = 128;

/// Which of `count` rows a loss is taken over, in order: all of up to 2,048, else 2,048 drawn without replacement, the same
/// for every algorithm and at every call.
pub fn rows(count: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..count).collect();
    if count > MOST_ROWS {
        let mut rng = Streams::from_seed(0).stream("held_out_rows");
        for place in 0..MOST_ROWS {
            rows.swap(place, place + rng.below(count - place));
        }
        rows.truncate(MOST_ROWS);
        rows.sort_unstable();
    }
    rows
}

/// The mean of numbers that come with the weights that they have in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeightedMean {
    sum: f64,
    weight: f64,
}

impl WeightedMean {
    /// Takes the mean of so much weight.
    pub fn add(&mut self, mean: f64, weight: f64) {
        self.sum += mean * weight;
        self.weight += weight;
    }

    /// The mean of all; `None` of no weight.
    pub fn get(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_of_little_data_count_and_as_many_of_much() {
        assert_eq!(rows(3), [0, 1, 2]);
        let many = rows(10_000);
        assert_eq!(many.len(), MOST_ROWS);
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(many.iter().any(|&row| row > 9_000));
        assert_eq!(many, rows(10_000));
    }

    #[test]
    fn a_mean_of_means_is_weighted() {
        let mut mean = WeightedMean::default();
        assert_eq!(mean.get(), None);
        mean.add(1.0, 3.0);
        mean.add(5.0, 1.0);
        assert_eq!(mean.get(), Some(2.0));
    }
}
