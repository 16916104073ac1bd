//! Searches for the most likely continuation: the authors' `beam_search`, for imitation and, with a goal in front, goal-reaching.

use rayon::prelude::*;
use trajformer_models::kernels::decode::Float;

use crate::planning::beam_search::{BeamSearch, Plan, among};
use crate::planning::rows::Row;
use crate::planning::sampling::{Filter, log_probabilities};
use trajformer_core::error::Result;

impl<T: Float> BeamSearch<T> {
    /// Deterministic: every possible next token of every row is a candidate; the most likely
    /// `beam_width` sequences of each episode stay.
    pub(super) fn by_likelihood(&mut self, episodes: usize) -> Result<Vec<Plan>> {
        let config = self.config.clone();
        let (d, o) = (self.model.discretizer.dims(), self.model.observation_dim);
        let mut rows: Vec<Row> = (0..episodes).map(Row::start).collect();
        let mut history = vec![Vec::new(); episodes];
        for position in o..config.horizon * d {
            let (filter, choices) = match position % d {
                at if at < o => (config.filter(config.k_obs, config.cdf_obs), None),
                at if at < d - 2 => (config.filter(config.k_act, config.cdf_act), self.choices),
                _ => (config.filter(config.k_rew, config.cdf_rew), None),
            };
            self.hypotheses.advance()?;
            let hypotheses = &self.hypotheses;
            let children: Vec<Vec<(Row, u32)>> = rows
                .par_iter()
                .map(|row| {
                    let logits = among(hypotheses.logits(row.sequence), choices);
                    likely_children(row, logits, &filter)
                })
                .collect();
            let mut kept: Vec<(Row, u32)> = Vec::new();
            let mut all = children.into_iter().flatten().peekable();
            while let Some((first, _)) = all.peek() {
                let episode = first.episode;
                let mut candidates = Vec::new();
                while let Some(child) = all.next_if(|(row, _)| row.episode == episode) {
                    candidates.push(child);
                }
                candidates.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
                candidates.truncate(config.beam_width);
                history[episode].push(candidates.iter().map(|(row, _)| row.score).collect());
                kept.append(&mut candidates);
            }
            let parents: Vec<usize> = kept.iter().map(|(row, _)| row.sequence).collect();
            let tokens: Vec<u32> = kept.iter().map(|(_, token)| *token).collect();
            self.hypotheses.append(&parents, &tokens);
            let renumber = |(sequence, (row, _)): (usize, (Row, u32))| Row { sequence, ..row };
            rows = kept.into_iter().enumerate().map(renumber).collect();
        }
        Ok(self.plans(&rows, history, config.horizon))
    }
}

/// Every token that can follow a row, with the log-likelihood it leads to.
fn likely_children<T: Float>(row: &Row, logits: &[T], filter: &Filter) -> Vec<(Row, u32)> {
    let log_probabilities = log_probabilities(logits, filter).into_iter().zip(0..);
    let child = |(log_probability, token)| {
        (
            Row {
                score: row.score + log_probability,
                ..*row
            },
            token,
        )
    };
    log_probabilities
        .map(child)
        .filter(|(row, _)| row.score > f64::NEG_INFINITY)
        .collect()
}
