//! An environment of Gymnasium, as it draws itself: a replay of the recorded actions in a copy that gives pictures (`rgb_array`).

use crate::app::render::scene::{Scene, Words};
use crate::app::report::episodes::Recorded;
use crate::envs::GymOptions;
use crate::envs::gym::{Gym, Picture};
use crate::report::moving::Frame;
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Streams;

/// Of a step, where the environment does not say how its pictures are shown.
const SECONDS_PER_STEP: f64 = 0.04;

pub(super) struct Drawn {
    env: Gym,
    width: usize,
    /// Of the first picture, which all have.
    size: Option<(usize, usize)>,
}

impl Drawn {
    /// The environment called `env`, with pictures `width` pixels wide.
    ///
    /// # Errors
    /// If Python, Gymnasium or the environment can't be found, or it has no pictures.
    pub(super) fn new(env: &str, options: GymOptions, width: usize) -> Result<Self> {
        let options = GymOptions {
            render: true,
            ..options
        };
        let mut env = Gym::new(env, 1, &options)?;
        // Before the work of acting; most environments can be drawn once they were started.
        env.reset(0)?;
        env.picture()?;
        Ok(Self {
            env,
            width,
            size: None,
        })
    }

    fn failed(&self, problem: String) -> Error {
        Error::Env {
            name: self.env.spec().name.clone(),
            problem,
        }
    }

    /// Fails where the replay left the recorded episode.
    fn check(&self, found: &[f32], episode: &Recorded, step: usize) -> Result<()> {
        if found == episode.observation(step) {
            return Ok(());
        }
        let number = episode.number() + 1;
        Err(self.failed(format!(
            "from the same seed and actions episode {number} is another one from step {step} on: what can't be repeated can't be drawn"
        )))
    }
}

impl Scene for Drawn {
    fn seconds_per_step(&self) -> f64 {
        self.env.seconds_per_step().unwrap_or(SECONDS_PER_STEP)
    }

    fn begin(&mut self, episode: &Recorded) -> Result<()> {
        let streams = Streams::from_seed(episode.seed());
        let mut seed = streams.numbered("environment", episode.number() as u64);
        let start = self.env.reset(seed.bits())?;
        self.check(&start, episode, 0)
    }

    fn frame(&mut self, _: &Recorded, _: usize, _: &Words) -> Result<Frame> {
        let Picture { height, width, rgb } = self.env.picture()?;
        if height == 0 || width == 0 {
            return Err(self.failed("`render` gave a picture without pixels".to_owned()));
        }
        let size = *self.size.get_or_insert((width, height));
        if size != (width, height) {
            let problem = format!(
                "its pictures have several sizes, {} x {} and {width} x {height} pixels",
                size.0, size.1
            );
            return Err(self.failed(problem));
        }
        Frame { size, pixels: rgb }.with_width(self.width)
    }

    /// In the middle, as a robot's.
    fn telling_step(&self, steps: usize) -> usize {
        steps / 2
    }

    fn advance(&mut self, episode: &Recorded, step: usize) -> Result<()> {
        let after = self.env.step(episode.action(step))?;
        if step + 1 < episode.len() {
            self.check(&after.observation, episode, step + 1)?;
        }
        Ok(())
    }
}
