//! [`Live`]: a trained run that begins episodes as they come, for programs that act one step at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::app::instruct;
use crate::app::run::TrainedRun;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Streams;

/// A trained run that begins episodes, each with the next of its random streams.
pub struct Live {
    /// The run.
    pub run: TrainedRun,
    /// What its policy needs and does.
    pub traits: Traits,
    seed: u64,
    /// The next episode of that seed.
    begun: Arc<AtomicU64>,
}

/// What a policy needs and does.
#[derive(Debug, Clone, PartialEq)]
pub struct Traits {
    /// Whether every episode needs a goal.
    pub needs_goal: bool,
    /// Whether every episode needs an instruction.
    pub needs_instruction: bool,
    /// Whether an action depends on the present observation alone, and on chance where it draws.
    pub is_memoryless: bool,
    /// Whether an action depends on chance.
    pub draws: bool,
    /// Whether an episode can be told a return to aim at.
    pub aims_at_returns: bool,
    /// Returns that the run aims at, in the environment's units; an episode that is told none aims at the first.
    pub target_returns: Vec<f32>,
}

/// What episodes begin with: a value for each of them, or `None` for what the run's table `[evaluate]` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Starts {
    /// Returns to aim at, in the environment's units.
    pub target_returns: Option<Vec<f32>>,
    /// Observations to reach, (O) each.
    pub goals: Option<Vec<Vec<f32>>>,
    /// What to do, in words.
    pub instructions: Option<Vec<Arc<str>>>,
    /// Their random streams are those of the first episodes of an evaluation with this seed. Episodes that are begun without one are
    /// numbered on.
    pub seed: Option<u64>,
}

impl Live {
    /// A run of which no episode has begun; its random streams are those of the run's `evaluate.seed`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn new(run: TrainedRun) -> Result<Self> {
        let policy = run.policy()?;
        Ok(Self {
            traits: Traits {
                needs_goal: policy.needs_goal(),
                needs_instruction: policy.needs_instruction(),
                is_memoryless: policy.is_memoryless(),
                draws: policy.draws(),
                aims_at_returns: run.config.algorithm.aims_at_returns(),
                target_returns: policy.target_returns(),
            },
            seed: run.config.evaluate.seed,
            run,
            begun: Arc::default(),
        })
    }

    /// A policy in which `count` episodes have begun.
    ///
    /// # Errors
    /// If a goal or an instruction is missing, or something is given that the policy does not look at; then nothing changes.
    pub fn begin(&mut self, count: usize, starts: &Starts) -> Result<Box<dyn Policy>> {
        let begins = self.starts(count, starts)?;
        let mut policy = self.run.policy()?;
        policy.begin(&begins)?;
        if starts.seed.is_none() {
            self.begun.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(policy)
    }

    /// Episodes are numbered together with those of another checkpoint of the run from now on, so that no two draw from one stream.
    pub fn number_with(&mut self, other: &Self) {
        self.begun = Arc::clone(&other.begun);
    }

    /// Episodes that are begun without a seed from now on have the streams of this one, from episode `begun` on.
    pub fn number_on(&mut self, seed: u64, begun: u64) {
        (self.seed, self.begun) = (seed, Arc::new(AtomicU64::new(begun)));
    }

    fn starts(&mut self, count: usize, given: &Starts) -> Result<Vec<EpisodeStart>> {
        let name = self.run.config.algorithm.name();
        let refused = |what: &str, why: &str| {
            Err(Error::Unsuitable(format!(
                "`{what}` is given, but this run ({name}) {why}: leave it out"
            )))
        };
        let traits = &self.traits;
        if given.target_returns.is_some() && !traits.aims_at_returns {
            return refused("target_return", "aims at no return");
        }
        if given.goals.is_some() && !traits.needs_goal {
            return refused("goal", "was trained without goals");
        }
        if given.instructions.is_some() && !traits.needs_instruction {
            return refused("instruction", "was trained without instructions");
        }
        let missing = |what: &str, key: &str| {
            Error::Unsuitable(format!(
                "this run ({name}) was trained with {what}s: begin each episode with a `{what}`, or set `{key}` when the run is opened"
            ))
        };
        let evaluate = &self.run.config.evaluate;
        let mut goals = given.goals.clone();
        if traits.needs_goal && goals.is_none() {
            let goal = evaluate.goal.clone();
            let goal = goal.ok_or_else(|| missing("goal", "evaluate.goal"))?;
            goals = Some(vec![goal; count]);
        }
        let mut texts = given.instructions.clone();
        if traits.needs_instruction && texts.is_none() {
            let text = evaluate.instructions.first();
            let text = text.ok_or_else(|| missing("instruction", "evaluate.instructions"))?;
            texts = Some(vec![text.as_str().into(); count]);
        }
        let target = traits.target_returns.first().copied();
        if let Some(texts) = &texts {
            instruct::teach(&mut self.run, texts)?;
        }
        let (seed, first) = match given.seed {
            Some(seed) => (seed, 0),
            None => (self.seed, self.begun.load(Ordering::Relaxed)),
        };
        let streams = Streams::from_seed(seed);
        let start = |row: usize| EpisodeStart {
            rng: streams.numbered("policy", first + row as u64),
            target_return: given
                .target_returns
                .as_ref()
                .map_or(target, |targets| Some(targets[row])),
            goal: goals.as_ref().map(|goals| goals[row].clone()),
            instruction: texts.as_ref().map(|texts| Arc::clone(&texts[row])),
        };
        Ok((0..count).map(start).collect())
    }
}
