//! A robot on its track, and where a planner expects it, as bodies that can be seen through.

use crate::app::render::scene::{Scene, Words};
use crate::app::report::episodes::Recorded;
use crate::envs::mujoco::Mujoco;
use crate::envs::mujoco::offscreen::{Ghost, Offscreen};
use crate::report::moving::Frame;
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Streams;

/// Expected states that are shown: further ones hide each other.
const GHOSTS: usize = 3;
/// Orange, as plans are drawn elsewhere.
const COLOR: [f32; 3] = [0.9, 0.62, 0.0];

pub(super) struct Robot {
    env: Mujoco,
    offscreen: Offscreen,
    size: (usize, usize),
}

impl Robot {
    /// The robot called `env`; `None` if none is.
    ///
    /// # Errors
    /// If MuJoCo or EGL is not there.
    pub(super) fn new(env: &str, width: usize) -> Result<Option<Self>> {
        if !Mujoco::is_known(env) {
            return Ok(None);
        }
        let env = Mujoco::new(env)?;
        let size = (width, width * 3 / 4);
        Ok(Some(Self {
            offscreen: env.offscreen(size.0, size.1)?,
            env,
            size,
        }))
    }
}

impl Scene for Robot {
    fn seconds_per_step(&self) -> f64 {
        self.env.seconds_per_step()
    }

    fn begin(&mut self, episode: &Recorded) -> Result<()> {
        let streams = Streams::from_seed(episode.seed());
        let mut seed = streams.numbered("environment", episode.number() as u64);
        let start = self.env.reset(seed.bits())?;
        check(&start, episode, 0)
    }

    fn frame(&mut self, episode: &Recorded, step: usize, words: &Words) -> Result<Frame> {
        let (positions, _) = self.env.state();
        let (ahead, futures) = episode.plan(step).unwrap_or((0, &[]));
        let best = futures.first().map_or(&[][..], Vec::as_slice);
        let later = best.get(ahead + 1..).unwrap_or_default();
        let expected = self.env.expected_positions(later)?;
        let count = expected.len();
        let shown = (1..=GHOSTS.min(count)).map(|i| i * count / GHOSTS.min(count) - 1);
        let ghosts: Vec<Ghost<'_>> = shown
            .map(|index| {
                let [red, green, blue] = COLOR;
                let opacity = 0.45 - 0.25 * (index + 1) as f32 / count as f32;
                Ghost {
                    positions: &expected[index],
                    color: [red, green, blue, opacity],
                }
            })
            .collect();
        let labels = if episode.is_planned() {
            "step\nreturn\norange"
        } else {
            "step\nreturn"
        };
        let mut values = format!("{}\n{:.1}", words.step, words.sum);
        if episode.is_planned() {
            values.push_str(&format!("\nexpected, up to {count} steps ahead"));
        }
        Ok(Frame {
            size: self.size,
            pixels: self.offscreen.draw(&positions, &ghosts, [labels, &values]),
        })
    }

    /// In the middle it moves; at the end it may have fallen.
    fn telling_step(&self, steps: usize) -> usize {
        steps / 2
    }

    fn advance(&mut self, episode: &Recorded, step: usize) -> Result<()> {
        let after = self.env.step(episode.action(step))?;
        if step + 1 < episode.len() {
            check(&after.observation, episode, step + 1)?;
        }
        Ok(())
    }
}

/// Fails where the replay left the recorded episode.
fn check(found: &[f32], episode: &Recorded, step: usize) -> Result<()> {
    if found == episode.observation(step) {
        return Ok(());
    }
    Err(Error::Internal(format!(
        "the replay of episode {} is another one from step {step} on",
        episode.number()
    )))
}
