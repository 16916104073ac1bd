//! One token from logits: filters as in the authors' `trajectory/search/sampling.py` (commit
//! 8834a6e), and a draw by inverse CDF.

use trajformer_models::kernels::decode::Float;
use trajformer_models::rng::Rng;

/// Which tokens may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// Only the `top_k` most likely ones (and those tied with the last of them); 0: all.
    pub top_k: usize,
    /// Tokens in the lower tail that holds this share of the probability are left out; 0: none.
    /// (The authors' `cdf`: 0.6 keeps roughly the most likely ones that hold 0.4.)
    pub cdf: f64,
    /// Logits are divided by this.
    pub temperature: f64,
}

/// Uniform numbers in [0, 1) for the draws of a plan.
pub trait Uniforms {
    /// The next one of this episode (its row in the batch).
    fn next(&mut self, episode: usize) -> f64;

    /// A copy of the stream that they come from, if they come from one.
    fn stream(&self, episode: usize) -> Option<Rng> {
        let _ = episode;
        None
    }
}

/// What can follow a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Probability of every token *before* filters (N + 1).
    pub raw: Vec<f64>,
    choice: Choice,
}

#[derive(Debug, Clone, PartialEq)]
enum Choice {
    /// One token is left.
    Only(u32),
    /// Cumulative probabilities after filters (N + 1) and the last token that is possible.
    Among { cumulative: Vec<f64>, last: u32 },
}

impl Distribution {
    /// The distribution that `logits` (N + 1) give, to be drawn from through `filter`.
    pub fn new<T: Float>(logits: &[T], filter: &Filter) -> Self {
        let mut logits = scaled(logits, filter.temperature);
        let raw = softmax(&logits);
        if let (1, 0.0, Some(token)) = (filter.top_k, filter.cdf, only_maximum(&logits)) {
            return Self {
                raw,
                choice: Choice::Only(token),
            };
        }
        apply(filter, &raw, &mut logits);
        let mut cumulative = softmax(&logits);
        let last = cumulative.iter().rposition(|&p| p > 0.0).unwrap_or(0) as u32;
        let mut sum = 0.0;
        for probability in &mut cumulative {
            sum += *probability;
            *probability = sum;
        }
        Self {
            raw,
            choice: Choice::Among { cumulative, last },
        }
    }

    /// The most likely token before filters, the first of several.
    pub fn likeliest(&self) -> u32 {
        let mut best = 0;
        for (token, probability) in self.raw.iter().enumerate() {
            if *probability > self.raw[best] {
                best = token;
            }
        }
        best as u32
    }

    /// The token that `uniform` falls on: the number of cumulative probabilities at or below it.
    pub fn draw(&self, uniform: f64) -> u32 {
        match &self.choice {
            Choice::Only(token) => *token,
            Choice::Among { cumulative, last } => {
                let drawn = cumulative.partition_point(|&sum| sum <= uniform) as u32;
                drawn.min(*last)
            }
        }
    }
}

/// The token with the largest of `logits` (N + 1), the first of several: what is taken greedily, whatever the temperature.
pub fn greedy<T: Float>(logits: &[T]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Logarithms of the probabilities after `filter` (N + 1); -∞ where a token is left out.
pub fn log_probabilities<T: Float>(logits: &[T], filter: &Filter) -> Vec<f64> {
    let mut logits = scaled(logits, filter.temperature);
    let raw = softmax(&logits);
    apply(filter, &raw, &mut logits);
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - maximum).exp()).sum();
    logits
        .iter()
        .map(|logit| logit - maximum - sum.ln())
        .collect()
}

fn scaled<T: Float>(logits: &[T], temperature: f64) -> Vec<f64> {
    logits
        .iter()
        .map(|logit| logit.to_f64() / temperature)
        .collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut probabilities: Vec<f64> = logits.iter().map(|logit| (logit - maximum).exp()).collect();
    let sum: f64 = probabilities.iter().sum();
    probabilities
        .iter_mut()
        .for_each(|probability| *probability /= sum);
    probabilities
}

/// The most likely token, if no other is equally likely.
fn only_maximum(logits: &[f64]) -> Option<u32> {
    let mut best = 0;
    let mut tied = false;
    for (token, logit) in logits.iter().enumerate().skip(1) {
        if *logit > logits[best] {
            (best, tied) = (token, false);
        } else if *logit == logits[best] {
            tied = true;
        }
    }
    (!tied).then_some(best as u32)
}

/// Lowers the logits of tokens that the filter leaves out: to -1000 (cdf), to -∞ (top k).
fn apply(filter: &Filter, probabilities: &[f64], logits: &mut [f64]) {
    if filter.cdf > 0.0 {
        let mut ascending = probabilities.to_vec();
        ascending.sort_unstable_by(f64::total_cmp);
        let mut sum = 0.0;
        let below = ascending.iter().take_while(|&&probability| {
            sum += probability;
            sum < filter.cdf
        });
        let threshold = ascending[below.count().saturating_sub(1)];
        for (logit, &probability) in logits.iter_mut().zip(probabilities) {
            if probability <= threshold {
                *logit = -1000.0;
            }
        }
    }
    if filter.top_k > 0 && filter.top_k < logits.len() {
        let mut descending = logits.to_vec();
        descending.sort_unstable_by(|a, b| b.total_cmp(a));
        let threshold = descending[filter.top_k - 1];
        for logit in logits.iter_mut().filter(|logit| **logit < threshold) {
            *logit = f64::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: Filter = Filter {
        top_k: 0,
        cdf: 0.0,
        temperature: 1.0,
    };

    fn logits(probabilities: &[f64]) -> Vec<f64> {
        probabilities
            .iter()
            .map(|probability| probability.ln())
            .collect()
    }

    fn possible(probabilities: &[f64], filter: Filter) -> Vec<u32> {
        let distribution = Distribution::new(&logits(probabilities), &filter);
        let mut tokens: Vec<u32> = (0..1000)
            .map(|i| distribution.draw(f64::from(i) / 1000.0))
            .collect();
        tokens.dedup();
        tokens
    }

    #[test]
    fn filters_leave_the_tokens_that_the_authors_rule_leaves() {
        let probabilities = [0.1, 0.4, 0.05, 0.3, 0.15];
        assert_eq!(possible(&probabilities, OFF), [0, 1, 2, 3, 4]);
        assert_eq!(possible(&probabilities, Filter { top_k: 2, ..OFF }), [1, 3]);
        assert_eq!(possible(&probabilities, Filter { top_k: 1, ..OFF }), [1]);
        // Ascending sums .05 .15 .30 .60 1: the last below .5 is that of .15, so .3 and .4 stay.
        assert_eq!(possible(&probabilities, Filter { cdf: 0.5, ..OFF }), [1, 3]);
        // None is below .01: the least likely token goes all the same.
        assert_eq!(
            possible(&probabilities, Filter { cdf: 0.01, ..OFF }),
            [0, 1, 3, 4]
        );
    }

    #[test]
    fn a_draw_counts_the_cumulative_probabilities_at_or_below_the_uniform() {
        let distribution = Distribution::new(&logits(&[0.25, 0.25, 0.5]), &OFF);
        let draws = [0.0, 0.2, 0.3, 0.6, 0.999_999].map(|uniform| distribution.draw(uniform));
        assert_eq!(draws, [0, 0, 1, 2, 2]);
        assert!((distribution.raw[2] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_low_temperature_sharpens_the_distribution() {
        let cold = Filter {
            temperature: 0.5,
            ..OFF
        };
        let raw = Distribution::new(&logits(&[0.2, 0.8]), &cold).raw;
        // Squares, renormalised.
        assert!((raw[1] - 0.64 / 0.68).abs() < 1e-12, "{raw:?}");
    }
}
