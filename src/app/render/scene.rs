//! What draws episodes, one frame after the other.

use crate::app::report::episodes::Recorded;
use crate::report::moving::Frame;
use trajformer_core::error::Result;

/// Something that episodes are drawn in.
pub(super) trait Scene {
    /// Seconds of a step, as it is shown.
    fn seconds_per_step(&self) -> f64;

    /// Goes to the start of an episode.
    fn begin(&mut self, episode: &Recorded) -> Result<()>;

    /// Draws the episode at a step; `words` are its number, and the return so far.
    fn frame(&mut self, episode: &Recorded, step: usize, words: &Words) -> Result<Frame>;

    /// The step of an episode of so many, at least one, whose picture says most of it.
    fn telling_step(&self, steps: usize) -> usize;

    /// Takes the step.
    fn advance(&mut self, episode: &Recorded, step: usize) -> Result<()>;
}

/// What is written on a frame.
pub(super) struct Words {
    pub(super) step: usize,
    pub(super) sum: f64,
}
