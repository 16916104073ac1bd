//! [`Sessions`]: episodes of policies that remember, each of one client, bounded in number and time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::locked::lock;
use super::model::{Generation, finite, unpanicked};
use super::problem::{Answer, Problem};
use crate::app::act::Starts;
use crate::app::memory;
use axum::http::StatusCode;
use trajformer_core::environment::is_choice;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::Policy;

/// What bounds sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    /// Most that are open at a time.
    pub count: usize,
    /// How long one stays open that nobody uses.
    pub idle: Duration,
    /// Resident memory of the process, in bytes, above which none is opened.
    pub memory: Option<u64>,
}

/// The sessions that are open.
pub(super) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    limits: SessionLimits,
}

/// An episode of one client.
pub(super) struct Session {
    model: String,
    pub generation: Arc<Generation>,
    episode: Mutex<Option<Episode>>,
    used: Mutex<Instant>,
    is_acting: AtomicBool,
}

struct Episode {
    policy: Box<dyn Policy>,
    /// Steps that were acted at.
    steps: u64,
    last: Vec<f32>,
}

/// What a client says at a step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// (O).
    pub observation: Vec<f32>,
    /// What followed the last action.
    pub reward: Option<f32>,
    /// What was done in the place of the last action (A).
    pub taken: Option<Vec<f32>>,
    /// Its number, counted from 0: so that asking again after a lost answer does not act twice.
    pub number: Option<u64>,
}

/// The right to act in a session, which one request has at a time.
pub(super) struct Turn(Arc<Session>);

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.used) = Instant::now();
        self.0.is_acting.store(false, Ordering::Release);
    }
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            open: Mutex::default(),
            limits,
        }
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    pub(super) fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Fails if no further session can be opened.
    pub(super) fn check_room(&self) -> Answer<()> {
        if self.count() >= self.limits.count {
            return Err(self.full());
        }
        if let (Some(most), Some(now)) = (self.limits.memory, memory::resident())
            && now > most
        {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            return Err(Problem::busy(format!(
                "the server holds {:.2} GiB of memory, and opens sessions below {:.2} only: try again later",
                gib(now),
                gib(most)
            )));
        }
        Ok(())
    }

    fn full(&self) -> Problem {
        let SessionLimits { count, idle, .. } = self.limits;
        Problem::busy(format!(
            "{count} sessions are open, the most there may be: delete those that have ended, or wait until one was not used for {} s",
            idle.as_secs()
        ))
    }

    /// Begins an episode; its name is known to its client only.
    pub(super) fn open(
        &self,
        model: &str,
        generation: Arc<Generation>,
        starts: &Starts,
    ) -> Answer<String> {
        let policy = unpanicked(|| lock(&generation.live).begin(1, starts))?;
        let session = Session {
            model: model.to_owned(),
            generation,
            episode: Mutex::new(Some(Episode {
                policy,
                steps: 0,
                last: Vec::new(),
            })),
            used: Mutex::new(Instant::now()),
            is_acting: AtomicBool::new(false),
        };
        let mut bytes = [0; 16];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| {
            Problem::internal(format!("the system gives no random numbers: {error}"))
        })?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = lock(&self.open);
        // Others may have come meanwhile.
        if open.len() >= self.limits.count {
            return Err(self.full());
        }
        open.insert(id.clone(), Arc::new(session));
        Ok(id)
    }

    /// The right to act in a session.
    pub(super) fn turn(&self, model: &str, id: &str) -> Answer<Turn> {
        let found = lock(&self.open).get(id).cloned();
        let session = found.filter(|session| session.model == model);
        let Some(session) = session else {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!(
                    "`{model}` has no such session: it was deleted, was not used for {} s, or failed; open another one",
                    self.limits.idle.as_secs()
                ),
            ));
        };
        if session.is_acting.swap(true, Ordering::Acquire) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "the session is acting at another request: an episode is one step after the other",
            ));
        }
        Ok(Turn(session))
    }

    /// Ends a session; whether there was one.
    pub(super) fn close(&self, model: &str, id: &str) -> bool {
        let mut open = lock(&self.open);
        match open.get(id) {
            Some(session) if session.model == model => open.remove(id).is_some(),
            _ => false,
        }
    }

    /// Ends what nobody has used for long; how many.
    pub(super) fn sweep(&self) -> usize {
        let mut open = lock(&self.open);
        let before = open.len();
        open.retain(|_, session| {
            session.is_acting.load(Ordering::Acquire)
                || lock(&session.used).elapsed() < self.limits.idle
        });
        before - open.len()
    }
}

impl Turn {
    pub(super) fn generation(&self) -> &Generation {
        &self.0.generation
    }

    /// Acts at a step: the action (A) and the step's number.
    pub(super) fn act(&self, step: &Step) -> Answer<(Vec<f32>, u64)> {
        let mut place = lock(&self.0.episode);
        let Some(episode) = place.as_mut() else {
            return Err(Problem::new(
                StatusCode::GONE,
                "the session failed at an earlier step, and what it remembers may be wrong: open another one",
            ));
        };
        let now = self.generation();
        if let Some(number) = step.number {
            if number.checked_add(1) == Some(episode.steps) {
                return Ok((episode.last.clone(), number));
            }
            if number != episode.steps {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    format!(
                        "`step` is {number}, and the session is at step {}",
                        episode.steps
                    ),
                ));
            }
        }
        check(now, episode.steps, step)?;
        let found = unpanicked(|| acted(episode, now, step));
        let action = match found.and_then(|action| finite(&action, action.len()).map(|()| action)) {
            Ok(action) => action,
            Err(problem) => {
                // What one remembers may be wrong now.
                if !now.traits.is_memoryless {
                    *place = None;
                }
                return Err(problem);
            }
        };
        episode.last.clone_from(&action);
        episode.steps += 1;
        Ok((action, episode.steps - 1))
    }
}

/// Fails if a step can't follow: before anything is remembered.
fn check(now: &Generation, steps: u64, step: &Step) -> Answer<()> {
    let is_first = steps == 0;
    if is_first && (step.reward.is_some() || step.taken.is_some()) {
        return Err(Problem::unfit(
            "`reward` and `action` say what followed the session's last action, and this is its first step: leave them out",
        ));
    }
    if !is_first && !now.traits.is_memoryless && step.reward.is_none() {
        return Err(Problem::unfit(format!(
            "`reward` is missing: a policy of {} acts by what was seen, done and rewarded before; give the reward that followed the last action",
            now.algorithm
        )));
    }
    if let Some(taken) = &step.taken {
        let (dim, choices) = (now.spec.action_dim, now.spec.action_choices);
        if taken.len() != dim {
            return Err(Problem::unfit(format!(
                "`action` has {} numbers, expected {dim}",
                taken.len()
            )));
        }
        if let Some(count) = choices
            && !is_choice(taken[0], count)
        {
            return Err(Problem::unfit(format!(
                "`action` is {}, expected a whole number in 0..{count}",
                taken[0]
            )));
        }
    }
    Ok(())
}

fn acted(episode: &mut Episode, now: &Generation, step: &Step) -> Result<Vec<f32>> {
    let row = |values: &[f32]| -> Result<Tensor> {
        Ok(Tensor::from_slice(values, (1, values.len()), &Device::Cpu)?)
    };
    if let Some(taken) = &step.taken {
        episode.policy.took(&row(taken)?)?;
    }
    if let Some(reward) = step.reward {
        episode.policy.observe(&[reward])?;
    }
    let action = episode.policy.act(&row(&step.observation)?, &[true])?;
    let action: Vec<f32> = action.flatten_all()?.to_vec1()?;
    if action.len() != now.spec.action_dim {
        return Err(Error::shape(
            "policy: actions",
            format_args!("{}", action.len()),
            format_args!("{}", now.spec.action_dim),
        ));
    }
    Ok(action)
}
