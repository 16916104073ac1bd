//! [`Split`]: the episodes that a run learns from, and those that it keeps apart to measure losses on
//! (`train.held_out_fraction`).

use std::borrow::Cow;

use crate::app::config::RunConfig;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Streams;

/// The data of a run, cut in two by whole episodes.
pub struct Split<'a> {
    /// What it learns from, and what all statistics (normaliser, bins, scales) are of.
    pub training: Cow<'a, Dataset>,
    /// What it never learns from; `None` without `train.held_out_fraction`.
    pub held_out: Option<Dataset>,
}

/// Cuts the data of a run, as [`load_data`](crate::app::prepare::load_data) reads it, as its configuration says. The same
/// episodes are kept apart for the same data, `train.held_out_fraction` and `seed`, whatever else the configuration says.
///
/// # Errors
/// If the share is no whole episode, or nothing is left to learn from.
pub fn split<'a>(config: &RunConfig, data: &'a Dataset) -> Result<Split<'a>> {
    let share = config.train.held_out_fraction;
    if share == 0.0 {
        return Ok(Split {
            training: Cow::Borrowed(data),
            held_out: None,
        });
    }
    let mut rng = Streams::from_seed(config.seed).stream("held_out");
    let (training, held_out) = data.without_episodes(&data.draw_held_out(share, &mut rng)?);
    Ok(Split {
        training: Cow::Owned(training),
        held_out: Some(held_out),
    })
}

impl Split<'_> {
    /// Gives an algorithm that is about to train the episodes that it must not learn from, if there are any.
    ///
    /// # Errors
    /// If it has no loss on them: it then says so.
    pub fn give(&self, algorithm: &mut dyn Algorithm) -> Result<()> {
        let Some(held_out) = &self.held_out else {
            return Ok(());
        };
        if algorithm.instructed().is_some() {
            return Err(Error::settings(
                "`train.held_out_fraction` is set, but losses of models that follow instructions are not taken on episodes that are \
                 kept apart: leave it, or the table `text`, out",
            ));
        }
        algorithm.hold_out(held_out)
    }
}
