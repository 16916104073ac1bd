//! [`Model`]: a run that is served, the checkpoint of it that acts now, and requests that wait for it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::locked::lock;
use super::problem::{Answer, Problem};
use super::telemetry::Telemetry;
use crate::app::act::{Live, Traits};
use crate::app::checkpoint::RunSpec;
use crate::app::checkpoint::named::named;
use crate::app::hub;
use crate::app::run;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Streams;

/// A run that is served under a name.
pub(super) struct Model {
    pub name: String,
    /// The folder that it is opened from.
    path: PathBuf,
    overrides: Vec<String>,
    current: RwLock<Arc<Generation>>,
    /// Held while a checkpoint is opened in the present one's place.
    reloading: Mutex<()>,
    /// The checkpoint that was last found to be another one.
    tried: Mutex<Option<Stamp>>,
    queue: Mutex<Queue>,
    limits: BatchLimits,
}

/// How requests are joined.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// How long the first request of a batch waits for others.
    pub wait: Duration,
    /// Most rows of a batch, unless one request has more.
    pub rows: usize,
    /// Most rows that wait.
    pub queue: usize,
}

/// A checkpoint that acts.
pub(super) struct Generation {
    pub live: Mutex<Live>,
    pub spec: RunSpec,
    pub traits: Traits,
    pub algorithm: &'static str,
    pub update: u64,
    /// Acts at rows that are each by themselves.
    rows: Mutex<Rows>,
    stamp: Option<Stamp>,
}

/// The policy for rows by themselves, and the random streams that it has used.
struct Rows {
    policy: Box<dyn Policy>,
    seed: u64,
    begun: Arc<AtomicU64>,
}

/// Which checkpoint it is, and when it was written, as its file says.
type Stamp = (PathBuf, SystemTime, u64);

/// Rows by themselves that wait for their actions.
pub(super) struct Ask {
    /// (rows, O), row-major.
    pub observations: Vec<f32>,
    pub rows: usize,
    pub seed: Option<u64>,
    pub reply: oneshot::Sender<Answer<Acted>>,
}

/// Actions (rows, A), row-major, and the update whose checkpoint chose them.
pub(super) struct Acted {
    pub actions: Vec<f32>,
    pub update: u64,
}

#[derive(Default)]
struct Queue {
    asks: VecDeque<Ask>,
    rows: usize,
    /// Whether a batch is under way, or about to be.
    is_served: bool,
}

impl Generation {
    fn open(path: &Path, overrides: &[String]) -> Result<Self> {
        // Before the files are read: what is written meanwhile is found by its own stamp then.
        let stamp = stamp(path);
        let live = Live::new(run::open(path, overrides)?)?;
        let rows = Rows {
            policy: live.run.policy()?,
            seed: live.run.config.evaluate.seed,
            begun: Arc::default(),
        };
        Ok(Self {
            spec: live.run.spec.clone(),
            traits: live.traits.clone(),
            algorithm: live.run.config.algorithm.name(),
            update: live.run.state.update,
            rows: Mutex::new(rows),
            live: Mutex::new(live),
            stamp,
        })
    }

    /// Whether each request can be answered by itself.
    pub(super) fn is_stateless(&self) -> bool {
        let traits = &self.traits;
        traits.is_memoryless && !traits.needs_goal && !traits.needs_instruction
    }

    /// Actions of some requests together: what each gets does not depend on the others.
    fn act(&self, asks: &[Ask]) -> Result<Vec<f32>> {
        let total: usize = asks.iter().map(|ask| ask.rows).sum();
        let mut rows = lock(&self.rows);
        let mut starts = Vec::with_capacity(total);
        for ask in asks {
            let next = || rows.begun.fetch_add(ask.rows as u64, Ordering::Relaxed);
            let (seed, first) = match ask.seed {
                Some(seed) => (seed, 0),
                None => (rows.seed, next()),
            };
            let streams = Streams::from_seed(seed);
            let stream = |row| EpisodeStart::new(streams.numbered("policy", first + row as u64));
            starts.extend((0..ask.rows).map(stream));
        }
        rows.policy.begin(&starts)?;
        let observations: Vec<f32> = asks
            .iter()
            .flat_map(|ask| ask.observations.iter().copied())
            .collect();
        let shape = (total, self.spec.observation_dim);
        let observations = Tensor::from_vec(observations, shape, &Device::Cpu)?;
        let actions = rows.policy.act(&observations, &vec![true; total])?; // (rows, A)
        Ok(actions.flatten_all()?.to_vec1()?)
    }
}

impl Model {
    /// Opens a run.
    ///
    /// # Errors
    /// As [`run::open`].
    pub(super) fn open(
        name: String,
        source: &Path,
        overrides: &[String],
        limits: BatchLimits,
    ) -> Result<Self> {
        let path = hub::local(source)?;
        let generation = Generation::open(&path, overrides)?;
        Ok(Self {
            name,
            path,
            overrides: overrides.to_vec(),
            current: RwLock::new(Arc::new(generation)),
            reloading: Mutex::new(()),
            tried: Mutex::new(None),
            queue: Mutex::default(),
            limits,
        })
    }

    /// The checkpoint that acts now.
    pub(super) fn current(&self) -> Arc<Generation> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// Whether there is another checkpoint than the one that acts, and than the one that could not be opened when this was last asked.
    pub(super) fn has_changed(&self) -> bool {
        let found = stamp(&self.path);
        let is_new = found.is_some() && found != self.current().stamp;
        is_new && std::mem::replace(&mut *lock(&self.tried), found.clone()) != found
    }

    /// Opens the run's checkpoint in the place of the one that acts; sessions that are open, and requests under way, keep theirs.
    ///
    /// # Errors
    /// If it can't be opened, or has other shapes: then the present one goes on.
    pub(super) fn reload(&self) -> Result<Arc<Generation>> {
        let _one = lock(&self.reloading);
        let next = Generation::open(&self.path, &self.overrides)?;
        let before = self.current();
        let (old, new) = (&before.spec, &next.spec);
        let kinds = (old.action_kind(), new.action_kind());
        if old.dims() != new.dims() || kinds.0 != kinds.1 {
            let ((o, a), (p, b)) = (old.dims(), new.dims());
            let problem = format!(
                "{}: the run there has {p} observations and {} now, the one that is served {o} and {}: it goes on; serve the other one \
                 under a name of its own",
                self.path.display(),
                kinds.1.said(b),
                kinds.0.said(a)
            );
            return Err(Error::Unsuitable(problem));
        }
        // No two requests draw from one stream, whichever checkpoint answers.
        lock(&next.live).number_with(&lock(&before.live));
        {
            let (mut rows, old) = (lock(&next.rows), lock(&before.rows));
            rows.begun = Arc::clone(&old.begun);
        }
        if next.algorithm != before.algorithm {
            tracing::warn!(
                "{}: the run there is one of {} now, it was one of {}",
                self.name,
                next.algorithm,
                before.algorithm
            );
        }
        let next = Arc::new(next);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&next);
        Ok(next)
    }

    /// What it is, for who wants to talk to it.
    pub(super) fn described(&self) -> Value {
        let now = self.current();
        json!({
            "name": self.name,
            "algorithm": now.algorithm,
            "update": now.update,
            "observation_dim": now.spec.observation_dim,
            "action_dim": now.spec.action_dim,
            "action_low": now.spec.action_low,
            "action_high": now.spec.action_high,
            "action_choices": now.spec.action_choices,
            "needs_session": !now.is_stateless(),
            "needs_reward": !now.traits.is_memoryless,
            "needs_goal": now.traits.needs_goal,
            "needs_instruction": now.traits.needs_instruction,
            "draws": now.traits.draws,
            "target_returns": now.traits.target_returns,
        })
    }

    /// Puts a request into the queue. Whether a batch must be started now: by who asked.
    ///
    /// # Errors
    /// If too many rows wait.
    pub(super) fn ask(&self, ask: Ask) -> Answer<bool> {
        let mut queue = lock(&self.queue);
        if !queue.asks.is_empty() && queue.rows + ask.rows > self.limits.queue {
            return Err(Problem::busy(format!(
                "{} observations wait for `{}` already, of at most {}: try again later",
                queue.rows, self.name, self.limits.queue
            )));
        }
        queue.rows += ask.rows;
        queue.asks.push_back(ask);
        Ok(!std::mem::replace(&mut queue.is_served, true))
    }

    /// How long a batch waits for more requests once one has come.
    pub(super) fn wait(&self) -> Duration {
        self.limits.wait
    }

    /// Rows that wait.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.queue).rows
    }

    /// Answers the requests that wait, as many as a batch holds. Whether more have come, for which it is to be called again.
    pub(super) fn serve_batch(&self, telemetry: &Telemetry) -> bool {
        let batch = self.batch();
        if !batch.is_empty() {
            let now = self.current();
            let found = unpanicked(|| now.act(&batch));
            let rows = batch.iter().map(|ask| ask.rows).sum();
            telemetry.batch(&self.name, rows);
            let mut at = 0;
            for ask in batch {
                let size = ask.rows * now.spec.action_dim;
                let answer = found.as_ref().map_err(Problem::clone).and_then(|all| {
                    let actions = all[at..at + size].to_vec();
                    finite(&actions, now.spec.action_dim)?;
                    Ok(Acted {
                        actions,
                        update: now.update,
                    })
                });
                at += size;
                // Who no longer waits doesn't matter.
                let _ = ask.reply.send(answer);
            }
        }
        let mut queue = lock(&self.queue);
        queue.is_served = !queue.asks.is_empty();
        queue.is_served
    }

    fn batch(&self) -> Vec<Ask> {
        let mut queue = lock(&self.queue);
        let (mut batch, mut rows) = (Vec::new(), 0);
        while let Some(ask) = queue.asks.front() {
            if rows > 0 && rows + ask.rows > self.limits.rows {
                break;
            }
            let Some(ask) = queue.asks.pop_front() else {
                break;
            };
            queue.rows -= ask.rows;
            // Its connection is gone.
            if !ask.reply.is_closed() {
                rows += ask.rows;
                batch.push(ask);
            }
        }
        batch
    }
}

/// What the networks have no answer for is said, never sent.
pub(super) fn finite(actions: &[f32], dim: usize) -> Answer<()> {
    match actions.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Problem::unfit(format!(
            "row {}: the policy answers with {}: the observation has numbers for which its networks have no answer",
            at / dim,
            actions[at]
        ))),
    }
}

/// The result of `work`; a panic is a failure of one request, not of the server.
pub(super) fn unpanicked<T, E: Into<Problem>>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> Answer<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(found) => found.map_err(Into::into),
        Err(_) => Err(Problem::internal(
            "the policy panicked: the server's log says where; please report it",
        )),
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    // What `RUN@best` stands for may be another folder by now.
    let folder = named(path).ok()?;
    let found = std::fs::metadata(folder.join("state.toml")).ok()?;
    Some((folder, found.modified().ok()?, found.len()))
}
