//! Episodes of a trained run as moving pictures: the ball in its maze, or the robot, with what a planner imagines over it, or what an
//! environment of Gymnasium draws.
//!
//! The episodes are those that `evaluate` scores with the same seed. Robots and environments of Gymnasium are drawn from a replay of the
//! recorded actions, which is the same to the last bit.

mod gym;
mod maze;
#[cfg(feature = "mujoco")]
mod robot;
mod scene;

use std::path::Path;

use serde::Serialize;

use crate::app::checkpoint::check_output;
use crate::app::progress::Progress;
use crate::app::render::scene::{Scene, Words};
use crate::app::report::episodes::{self, Recorded};
use crate::app::run::TrainedRun;
use crate::envs::GymOptions;
use crate::envs::gym::is_gym;
use crate::envs::pointmaze::Layout;
use crate::report::moving::{self, Frame};
use trajformer_core::error::{Error, Result};

/// Pixels that a picture may have in its width.
pub const WIDTHS: std::ops::RangeInclusive<usize> = 64..=1920;

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    /// Episodes, one after the other.
    pub episodes: usize,
    /// Every so many steps are a frame. Default: 25 frames for a second of the environment's time, at most.
    pub every: Option<usize>,
    /// Width in pixels, 64 to 1920.
    pub width: usize,
}

/// What was drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rendered {
    /// Environment.
    pub env: String,
    /// Frames in the file.
    pub frames: usize,
    /// How long each is shown.
    pub seconds_per_frame: f64,
    /// Undiscounted return of every episode.
    pub returns: Vec<f64>,
    /// Steps of every episode.
    pub lengths: Vec<usize>,
}

/// Draws episodes of a run into `path`, a `.gif` or an animated `.png`; what is there is replaced.
///
/// # Errors
/// If the run names no environment, its environment has no pictures or can't be drawn on this machine, an episode fails, or the
/// file can't be written.
pub fn render(run: &mut TrainedRun, path: &Path, options: &RenderOptions) -> Result<Rendered> {
    moving::check_path(path)?;
    if !WIDTHS.contains(&options.width) || options.episodes == 0 || options.every == Some(0) {
        return Err(Error::settings(format!(
            "a moving picture has 1 episode or more, 1 step per frame or more, and {} to {} pixels in its width",
            WIDTHS.start(),
            WIDTHS.end()
        )));
    }
    let env = run.config.evaluate.env.clone();
    let env = env.ok_or_else(|| Error::NotSet {
        key: "evaluate.env".to_owned(),
        problem: "the run names no environment to act in".to_owned(),
    })?;
    // What draws is made before the work of acting.
    let gym = run.config.evaluation().gym_options();
    let mut scene = scene(&env, gym, options.width)?;
    let recorded = episodes::record(run, options.episodes)?;
    let every = options.every.unwrap_or_else(|| {
        let steps = 0.04 / scene.seconds_per_step();
        (steps.round() as usize).max(1)
    });
    let lengths: Vec<usize> = recorded.iter().map(Recorded::len).collect();
    let frames = lengths.iter().map(|length| length.div_ceil(every)).sum();
    let seconds_per_frame = scene.seconds_per_step() * every as f64;
    let returns = recorded.iter().map(Recorded::total).collect();
    let still = still(&mut *scene, &recorded)?;
    let mut player = Player::new(&mut *scene, &recorded, every);
    let (progress, mut drawn) = (Progress::of("frames", 0, frames as u64), 0);
    let next = || {
        progress.set(drawn);
        drawn += 1;
        player.next()
    };
    moving::write(path, still.as_ref(), (frames, seconds_per_frame), next)?;
    progress.finish();
    Ok(Rendered {
        env,
        frames,
        seconds_per_frame,
        returns,
        lengths,
    })
}

/// What draws an environment.
fn scene(env: &str, options: GymOptions, width: usize) -> Result<Box<dyn Scene>> {
    if is_gym(env) {
        return Ok(Box::new(gym::Drawn::new(env, options, width)?));
    }
    let env = env.to_ascii_lowercase();
    if let Some(layout) = Layout::named(&env) {
        return Ok(Box::new(maze::Maze::new(layout, width)));
    }
    #[cfg(feature = "mujoco")]
    if let Some(robot) = robot::Robot::new(&env, width)? {
        return Ok(Box::new(robot));
    }
    Err(Error::Env {
        name: env,
        problem:
            "it has no pictures here: point mazes, the built-in robots (hopper-v4, ...) and environments of Gymnasium (gym:ID) have"
                .to_owned(),
    })
}

/// Makes one frame after the other.
struct Player<'a> {
    scene: &'a mut dyn Scene,
    episodes: &'a [Recorded],
    every: usize,
    episode: usize,
    words: Words,
}

/// The frame that stands for all: of the first episode the one that says most of it.
fn still(scene: &mut dyn Scene, episodes: &[Recorded]) -> Result<Option<Frame>> {
    let Some(first) = episodes.first().filter(|episode| episode.len() > 0) else {
        return Ok(None);
    };
    let step = scene.telling_step(first.len());
    // The frames at its first step and at this one.
    let mut player = Player::new(scene, &episodes[..1], step.max(1));
    let start = player.next()?;
    if step == 0 { Ok(start) } else { player.next() }
}

impl<'a> Player<'a> {
    fn new(scene: &'a mut dyn Scene, episodes: &'a [Recorded], every: usize) -> Self {
        Self {
            scene,
            episodes,
            every,
            episode: 0,
            words: Words { step: 0, sum: 0.0 },
        }
    }

    fn next(&mut self) -> Result<Option<Frame>> {
        while let Some(episode) = self.episodes.get(self.episode) {
            let step = self.words.step;
            if step == episode.len() {
                self.episode += 1;
                self.words = Words { step: 0, sum: 0.0 };
                continue;
            }
            if step == 0 {
                self.scene.begin(episode)?;
            }
            let is_shown = step.is_multiple_of(self.every);
            let frame = is_shown.then(|| self.scene.frame(episode, step, &self.words));
            let frame = frame.transpose()?;
            self.scene.advance(episode, step)?;
            self.words.sum += f64::from(episode.reward(step));
            self.words.step += 1;
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }
}

/// Fails if no moving picture can be written to `path`, before long work begins.
///
/// # Errors
/// If it is a folder, its folder can't be made or written to, its name ends otherwise, or this build can't draw.
pub fn check_place(path: &Path) -> Result<()> {
    moving::check_path(path)?;
    check_output(path)
}
