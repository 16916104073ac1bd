//! [`Interaction`]: an algorithm that goes on learning from its own experience, step by step in an
//! environment. [`trainer`](crate::app::trainer) calls it once per update after `train.updates`.

use crate::app::config::sections::OnlineConfig;
use trajformer_core::algorithm::{Algorithm, Interactive, Step};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_models::rng::{Rng, Streams};

/// An environment in the middle of an episode.
pub struct Interaction {
    env: Box<dyn Environment>,
    config: OnlineConfig,
    streams: Streams,
    observation: Vec<f32>,
    episode_return: f64,
    begun: bool,
}

impl Interaction {
    /// Interaction in an environment of its own; `streams` are the run's.
    pub fn new(env: Box<dyn Environment>, config: &OnlineConfig, streams: Streams) -> Self {
        Self {
            env,
            config: config.clone(),
            streams,
            observation: Vec::new(),
            episode_return: 0.0,
            begun: false,
        }
    }

    /// Collects what the next update online needs, with `updates` of them done: a step, a whole episode, or nothing, where the
    /// algorithm collects episodes and has not made all the updates that they allow. The return of the episode if one ended.
    ///
    /// # Errors
    /// If the algorithm can't learn online, or it or the environment fails.
    pub fn collect(
        &mut self,
        algorithm: &mut dyn Algorithm,
        updates: u64,
        rng: &mut Rng,
    ) -> Result<Option<f64>> {
        let learner = interactive(algorithm)?;
        if !self.begun {
            learner.prepare(&self.config.phase())?;
            self.catch_up(learner)?;
        }
        if !learner.collects_episodes() {
            return self.step(learner, rng);
        }
        if learner.earned_updates() <= updates {
            self.episode(learner, rng).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Steps to the end of the episode; its return.
    fn episode(&mut self, learner: &mut dyn Interactive, rng: &mut Rng) -> Result<f64> {
        loop {
            if let Some(found) = self.step(learner, rng)? {
                return Ok(found);
            }
        }
    }

    /// One step of experience; the return of the episode if this was its last.
    fn step(&mut self, learner: &mut dyn Interactive, rng: &mut Rng) -> Result<Option<f64>> {
        let action = learner.explore(&self.observation, self.config.noise, rng)?;
        let step = self.env.step(&action)?;
        let last = step.terminated || step.truncated;
        let outcome = Step {
            observation: &step.observation,
            reward: step.reward,
            terminated: step.terminated,
        };
        learner.learn(&outcome, last)?;
        self.episode_return += f64::from(step.reward);
        self.observation = step.observation;
        if !last {
            Ok(None)
        } else {
            let episode_return = self.episode_return;
            self.begin(learner.running()?.0)?;
            Ok(Some(episode_return))
        }
    }

    /// Starts episode number `episode`, always the same of one run.
    fn begin(&mut self, episode: u64) -> Result<()> {
        let mut starts = self.streams.numbered("online.start", episode);
        self.observation = self.env.reset(starts.bits())?;
        self.episode_return = 0.0;
        self.begun = true;
        Ok(())
    }

    /// Starts the episode that the algorithm was in when it was saved, and acts again as it did: simulators
    /// give the same steps for the same actions.
    fn catch_up(&mut self, learner: &dyn Interactive) -> Result<()> {
        let (episode, actions) = learner.running()?;
        self.begin(episode)?;
        for action in actions {
            let step = self.env.step(&action)?;
            self.episode_return += f64::from(step.reward);
            self.observation = step.observation;
        }
        Ok(())
    }
}

/// The algorithm as one that learns online.
///
/// # Errors
/// If it can't.
pub fn interactive(algorithm: &mut dyn Algorithm) -> Result<&mut dyn Interactive> {
    algorithm.interactive().ok_or_else(|| {
        let problem = "this algorithm does not learn online: set `online.steps = 0`";
        Error::unsupported(Ability::OnlineLearning, problem)
    })
}
