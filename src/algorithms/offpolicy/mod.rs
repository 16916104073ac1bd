//! What value-based methods share: networks with their optimisers and targets ([`Trained`], [`Target`]), the
//! trait of a [`Learner`], and [`OffPolicy`], the algorithm around one: where batches come from, what is diagnosed, how
//! it acts and what is saved.
//!
//! Equations are not here: each method has its own in its own file of [`algorithms`](crate).

mod acting;
mod candidates;
mod ensemble_start;
mod policy_parts;
mod rnd_bonus;
mod temperature;
mod trained;
mod watch;

pub use acting::Explorer;
pub use candidates::{CandidatePolicy, Choice, repeated};
pub use ensemble_start::EnsembleStart;
pub use policy_parts::{ActionFn, PolicyParts, SampleFn};
pub use rnd_bonus::RndBonus;
pub use temperature::Temperature;
pub use trained::{InitContext, StateNames, Target, Trained, join};
pub use watch::GradientWatch;

use candle_core::{D, DType, Device, Tensor};
use trajformer_models::critic::Critics;
use trajformer_models::params::StateVisitor;
use trajformer_models::ranks::{self, Ranks};
use trajformer_models::uploads::CachedUploads;
use trajformer_models::work::Passes;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use trajformer_core::algorithm::{
    Algorithm, Build, Interactive, OnlinePhase, Step, Work, no_held_out_loss, no_ranks,
};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::held_out::{self, CHUNK_ROWS, WeightedMean};
use trajformer_core::metrics::Metrics;
use trajformer_core::mixing::{Mixing, Rows};
use trajformer_core::policy::Policy;
use trajformer_data::batch::Batch;
use trajformer_data::replay::{Experience, Replay};
use trajformer_data::transitions::Transitions;
use trajformer_data::transitions_config::TransitionsConfig;
use trajformer_models::rng::Rng;

/// Rows of the data that diagnostics are taken over.
const DIAGNOSED_ROWS: usize = 256;

/// Networks and update of a value-based method, apart from where batches and random numbers come
/// from: both can be recorded ones.
pub trait Learner: Send {
    /// The random numbers of one update.
    type Draws;

    /// Whether its actions are choices, each one whole number; else they are real numbers in ±1.
    const CHOOSES: bool = false;

    /// Whether several ranks can make an update together, each on its rows of the batch: losses are means over rows, what else they take from the
    /// whole batch goes through [`ranks::mean`], and [`Self::share`] cuts the draws.
    const SHARES: bool = false;

    /// Draws those of an update on `rows` transitions (B).
    ///
    /// # Errors
    /// If the device fails.
    fn draw(&self, rows: usize, rng: &mut Rng) -> Result<Self::Draws>;

    /// What of an update's draws belongs to these rows of its batch.
    ///
    /// # Errors
    /// If this learner does not share its updates, or the device fails.
    fn share(_draws: Self::Draws, _rows: &Range<usize>) -> Result<Self::Draws> {
        Err(no_ranks())
    }

    /// One update; nothing is read back from the device.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn update(&mut self, batch: &Batch, draws: &Self::Draws) -> Result<Metrics>;

    /// The policy's action without exploration; later updates do not change it.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn act(&self) -> Result<ActionFn>;

    /// An action (1, A) in ±1 to explore with at an observation (1, O), made with standard normals (1, A): from the policy's
    /// distribution, or with normal noise of standard deviation `noise`, by default the method's own. `None` for methods that don't
    /// learn online.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn explore(
        &self,
        observation: &Tensor,
        normals: &Tensor,
        noise: Option<f64>,
    ) -> Result<Option<Tensor>> {
        self.explorer().explore(observation, normals, noise)
    }

    /// The actor that [`Self::explore`] asks, where it is one of the usual kinds.
    fn explorer(&self) -> Explorer<'_> {
        Explorer::None
    }

    /// What draws from the policy's distribution, by default that of [`Self::explorer`]; `None` for deterministic policies.
    ///
    /// # Errors
    /// If the device fails.
    fn sampler(&self) -> Result<Option<SampleFn>> {
        self.explorer().sampler()
    }

    /// How its authors mix batches online.
    fn mixing(&self) -> Mixing {
        Mixing::Uniform
    }

    /// Whether it collects whole episodes online, as [`Interactive::collects_episodes`] says.
    fn collects_episodes(&self) -> bool {
        false
    }

    /// Tells it, before the first update online of this process, about the part of the run that begins.
    fn go_online(&mut self, phase: &OnlinePhase) {
        let _ = phase;
    }

    /// The critics of real numbers as they are now, without gradients to their parameters; `None` for methods without.
    fn critics(&self) -> Option<&Critics> {
        None
    }

    /// What of episodes that are kept apart its losses are taken over; `None` for learners that have no [`Self::losses`].
    ///
    /// # Errors
    /// If the episodes don't suit it.
    fn held_out<'a>(&self, _data: &'a Dataset) -> Result<Option<Cow<'a, Dataset>>> {
        Ok(None)
    }

    /// Losses of the present networks over a batch, means over its rows, without a step or a gradient. One of them is
    /// [`HELD_OUT_LOSS`](trajformer_core::held_out::HELD_OUT_LOSS).
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn losses(&self, _batch: &Batch) -> Result<Metrics> {
        Ok(Metrics::new())
    }

    /// Whether [`Self::action_values`] gives any.
    fn has_critics(&self) -> bool {
        self.critics().is_some()
    }

    /// Values (N, B) by each critic of actions (B, A) at normalised observations (B, O), without gradients to their parameters; `None` for
    /// methods without critics.
    ///
    /// # Errors
    /// If the shapes don't fit.
    fn action_values(&self, observations: &Tensor, actions: &Tensor) -> Result<Option<Tensor>> {
        match self.critics() {
            Some(critics) => Ok(Some(critics.forward(observations, actions)?)),
            None => Ok(None),
        }
    }

    /// Shows networks, targets, optimisers and counters, as [`Algorithm::state`] says.
    ///
    /// # Errors
    /// What the visitor says.
    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()>;

    /// How often an update runs each network, per transition of a batch, for benchmarks; empty where nobody counted.
    fn passes(&self) -> Vec<Passes> {
        Vec::new()
    }

    /// The policy that is evaluated; by default [`Self::act`].
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn policy(&self, parts: PolicyParts) -> Result<Box<dyn Policy>> {
        Ok(Box::new(parts.around(self.act()?)))
    }
}

/// A learner on a data set: the algorithm that the trainer sees.
pub struct OffPolicy<L> {
    data: Transitions,
    /// How they were made of the data.
    view: TransitionsConfig,
    /// Those that are never learned from.
    held_out: Option<Transitions>,
    batch_size: usize,
    /// Type of the networks' numbers.
    dtype: DType,
    /// How batches are mixed once something has been collected.
    mixing: Mixing,
    learner: L,
    /// Norms of its networks' gradients.
    watch: GradientWatch,
    /// Whether its networks have an encoder of the caller's own, whose operations nobody counted.
    encoded: bool,
    /// Observation and action of a step whose outcome is not known yet, in f32.
    pending: Option<(Tensor, Tensor)>,
    /// Those that make every update together.
    ranks: Option<Arc<dyn Ranks>>,
}

impl<L: Learner> OffPolicy<L> {
    /// Prepares the data and makes the learner; actions are mapped to ±1 before it sees them.
    ///
    /// # Errors
    /// If the data holds no transition or its actions are discrete, or the learner can't be made.
    pub fn new(
        build: Build<'_>,
        view: &TransitionsConfig,
        batch_size: usize,
        learner: impl FnOnce(&mut InitContext<'_>) -> Result<L>,
    ) -> Result<Self> {
        Self::new_with_data(build, view, batch_size, |start, _| learner(start))
    }

    /// Like [`Self::new`], but the closure also receives the prepared transitions, in f32.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn new_with_data(
        build: Build<'_>,
        view: &TransitionsConfig,
        batch_size: usize,
        learner: impl FnOnce(&mut InitContext<'_>, &Transitions) -> Result<L>,
    ) -> Result<Self> {
        Self::in_dtype(DType::F32, build, view, batch_size, learner)
    }

    /// Like [`Self::new`], with networks of this type; f64 is for comparisons with reference numbers. Data and what is collected are f32.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn in_dtype(
        dtype: DType,
        build: Build<'_>,
        view: &TransitionsConfig,
        batch_size: usize,
        learner: impl FnOnce(&mut InitContext<'_>, &Transitions) -> Result<L>,
    ) -> Result<Self> {
        let kind = build.bounds.kind();
        if kind.choices().is_some() != L::CHOOSES {
            return Err(Error::Unsuitable(match build.source.data() {
                Some(data) => format!(
                    "{}: its actions are {}, which this learning rule does not take",
                    data.source_names(),
                    kind.said(data.action_dim)
                ),
                None => "a policy of choices was trained by another learning rule".to_owned(),
            }));
        }
        let data = Transitions::of_source(build.source, build.bounds, view, build.device)?;
        let (observation_dim, action_dim) = data.dims();
        let watch = GradientWatch::default();
        let start = &mut InitContext {
            observation_dim,
            action_dim,
            choices: kind.choices(),
            stage: build.source.stage(),
            training_updates: build.training_updates,
            encoder: build.encoder,
            watch: &watch,
            dtype,
            device: build.device,
            rng: build.rng,
        };
        let learner = learner(start, &data)?;
        Ok(Self {
            data,
            view: view.clone(),
            held_out: None,
            batch_size,
            dtype,
            mixing: Mixing::Uniform,
            learner,
            watch,
            encoded: build.encoder.is_some(),
            pending: None,
            ranks: None,
        })
    }

    /// One update on these transitions with these random numbers.
    ///
    /// # Errors
    /// If there is no such transition or a tensor operation fails.
    pub fn update_on(&mut self, rows: &Rows, draws: &L::Draws) -> Result<Metrics> {
        let batch = self.batch(rows)?; // (B, O), (B, A), ...
        let _cached = CachedUploads::hold(batch.rewards.device());
        let mut metrics = self.learner.update(&batch, draws)?;
        self.watch.give(&mut metrics);
        Ok(metrics)
    }

    /// These transitions as the learner gets them.
    ///
    /// # Errors
    /// If there is no such transition or the device fails.
    pub fn batch(&self, rows: &Rows) -> Result<Batch> {
        self.seen_batch(self.data.pick(rows)?)
    }

    /// A batch in the type of the networks.
    fn seen_batch(&self, batch: Batch) -> Result<Batch> {
        match self.dtype {
            DType::F32 => Ok(batch),
            dtype => batch.to_dtype(dtype),
        }
    }

    /// Draws the transitions of an update.
    pub fn draw_rows(&self, rng: &mut Rng) -> Rows {
        self.data.draw(self.batch_size, self.mixing, rng)
    }

    /// An action as [`Interactive::explore`] says, made with standard normals (1, A).
    ///
    /// # Errors
    /// If the method has no actor that explores, or a tensor operation fails.
    pub fn explore_with(
        &mut self,
        observation: &[f32],
        noise: Option<f64>,
        normals: &Tensor,
    ) -> Result<Vec<f32>> {
        let observation = self.seen(observation)?;
        let input = observation.to_dtype(self.dtype)?;
        let action = self.learner.explore(&input, normals, noise)?;
        let action = action.ok_or_else(|| {
            let problem = "this algorithm has no actor that explores";
            Error::unsupported(Ability::OnlineLearning, problem)
        })?;
        let action = action.to_dtype(DType::F32)?;
        let raw = self.data.bounds().from_unit(&action)?;
        self.pending = Some((observation, action));
        Ok(raw.flatten_all()?.to_vec1::<f32>()?)
    }

    /// Standard normals (1, A), drawn one after the other, as policies draw them.
    fn normals(&self, rng: &mut Rng) -> Result<Tensor> {
        let (_, a) = self.data.dims();
        let normals = rng.normal_tensor((1, a), DType::F64, &Device::Cpu)?;
        Ok(normals
            .to_dtype(self.dtype)?
            .to_device(self.data.device())?)
    }
}

impl<L: Learner> Algorithm for OffPolicy<L> {
    /// Consumes `batch_size` transitions and the learner's draws.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        self.data.require_rows()?;
        let rows = self.draw_rows(rng);
        let draws = self.learner.draw(self.batch_size, rng)?;
        let Some(ranks) = self.ranks.clone() else {
            return self.update_on(&rows, &draws);
        };
        // All ranks draw the whole batch, from the same stream, so that its numbers don't depend on how many there are.
        let share = ranks::share(&*ranks, self.batch_size)?;
        let draws = L::share(draws, &share)?;
        let _together = ranks::together(Some(&ranks));
        self.update_on(&rows.share(&share), &draws)
    }

    fn set_ranks(&mut self, ranks: Arc<dyn Ranks>) -> Result<()> {
        if !L::SHARES {
            return Err(no_ranks());
        }
        ranks::share(&*ranks, self.batch_size)?;
        self.ranks = Some(ranks);
        Ok(())
    }

    fn watch_gradients(&mut self, is_watched: bool) {
        self.watch.set(is_watched);
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        self.learner.policy(self.parts())
    }

    fn sampling_policy(&self) -> Result<Option<Box<dyn Policy>>> {
        let Some(sample) = self.learner.sampler()? else {
            return Ok(None);
        };
        // A single candidate is taken, whatever its value.
        let only = move |observations: &Tensor, normals: &Tensor| {
            let actions = sample(observations, normals)?; // (1, E, A)
            let values = actions.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?; // (1, E)
            Ok((actions, values))
        };
        let sizes = (1, self.data.dims().1);
        let policy = CandidatePolicy::new(self.parts(), Box::new(only), sizes, Choice::Best);
        Ok(Some(Box::new(policy)))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.data.visit(visitor)?;
        self.learner.state(visitor)?;
        self.data.visit_collected(visitor)
    }

    fn hold_out(&mut self, data: &Dataset) -> Result<()> {
        let Some(data) = self.learner.held_out(data)? else {
            return Err(no_held_out_loss());
        };
        self.held_out = Some(self.data.of_others(&data, &self.view)?);
        Ok(())
    }

    fn held_out_losses(&self) -> Result<Vec<(&'static str, f64)>> {
        let Some(data) = &self.held_out else {
            return Ok(Vec::new());
        };
        let mut means: Vec<(&'static str, WeightedMean)> = Vec::new();
        for chunk in held_out::rows(data.len()).chunks(CHUNK_ROWS) {
            let rows: Vec<u32> = chunk.iter().map(|&row| row as u32).collect();
            let losses = self
                .learner
                .losses(&self.seen_batch(data.gather(&rows)?)?)?;
            for (name, loss) in losses.values()? {
                let place = means.iter().position(|(known, _)| *known == name);
                let place = place.unwrap_or_else(|| {
                    means.push((name, WeightedMean::default()));
                    means.len() - 1
                });
                means[place].1.add(loss, chunk.len() as f64);
            }
        }
        let mean = |(name, mean): (_, WeightedMean)| Some((name, mean.get()?));
        Ok(means.into_iter().filter_map(mean).collect())
    }

    fn action_values(&self, observations: &Tensor, actions: &Tensor) -> Result<Option<Tensor>> {
        let device = self.data.rewards().device();
        let observations = observations.to_device(device)?;
        let observations = self.data.normalizer().apply(&observations)?;
        let actions = self.data.bounds().to_unit(&actions.to_device(device)?)?;
        let input = (
            observations.to_dtype(self.dtype)?,
            actions.to_dtype(self.dtype)?,
        );
        let Some(values) = self.learner.action_values(&input.0, &input.1)? else {
            return Ok(None);
        };
        let values = values.min(0)?; // (N)
        let values = values.to_dtype(DType::F32)?;
        Ok(Some(values.to_device(&Device::Cpu)?))
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive> {
        Some(self)
    }

    fn work(&self) -> Option<Work> {
        if self.encoded {
            return None;
        }
        let passes = self.learner.passes();
        (!passes.is_empty()).then(|| Work::of(&passes, self.batch_size, 0))
    }

    /// `q_data_mean` and `q_policy_mean`: values of the data's and of the policy's actions, the mean of
    /// the ensemble's minima; `return_to_go_mean`: discounted rewards that the data collected from
    /// there on; values far above it are over-estimated. Nothing of methods without critics. `q_spread`: standard deviation over the ensemble on
    /// the policy's actions. `action_distance`: root of the mean square of π(s) - a, for a range of ±1; of choices the share of rows
    /// where they are not the same.
    fn diagnostics(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let mut metrics = Metrics::new();
        if !self.learner.has_critics() {
            return Ok(metrics);
        }
        let values = |observations: &Tensor, actions: &Tensor| {
            let values = self.learner.action_values(observations, actions)?;
            values.ok_or_else(|| Error::Internal("a method without critics has some".to_owned()))
        };
        let (batch, returns) = self.data.sample_judged(DIAGNOSED_ROWS, rng)?;
        let _cached = CachedUploads::hold(batch.rewards.device());
        let actions = self.learner.act()?(&batch.observations)?; // (B, A)
        let distance = if L::CHOOSES {
            let others = actions.ne(&batch.actions)?;
            others.to_dtype(actions.dtype())?.mean_all()?
        } else {
            (&actions - &batch.actions)?.sqr()?.mean_all()?.sqrt()?
        };
        metrics.push("action_distance", &distance);
        metrics.push("return_to_go_mean", &returns.mean_all()?);
        let on_data = values(&batch.observations, &batch.actions)?; // (N, B)
        let on_policy = values(&batch.observations, &actions)?;
        metrics.push("q_data_mean", &on_data.min(0)?.mean_all()?);
        metrics.push("q_policy_mean", &on_policy.min(0)?.mean_all()?);
        let center = on_policy.mean_keepdim(0)?;
        let variance = on_policy.broadcast_sub(&center)?.sqr()?.mean(0)?; // (B)
        metrics.push("q_spread", &variance.sqrt()?.mean(D::Minus1)?);
        Ok(metrics)
    }
}

impl<L: Learner> OffPolicy<L> {
    /// What stands around the actor.
    fn parts(&self) -> PolicyParts {
        PolicyParts {
            normalizer: self.data.normalizer().clone(),
            bounds: self.data.bounds().clone(),
            device: self.data.device().clone(),
        }
    }

    /// An observation as the networks see it (1, O).
    fn seen(&self, observation: &[f32]) -> Result<Tensor> {
        let device = self.data.device();
        let observation = Tensor::from_slice(observation, (1, observation.len()), device)?;
        self.data.normalizer().apply(&observation)
    }
}

impl<L: Learner> Interactive for OffPolicy<L> {
    fn check(&self, phase: &OnlinePhase) -> Result<()> {
        let (o, a) = self.data.dims();
        let zeros = |width| Tensor::zeros((1, width), self.dtype, self.data.device());
        match self.learner.explore(&zeros(o)?, &zeros(a)?, phase.noise)? {
            Some(_) => Ok(()),
            None => Err(Error::unsupported(
                Ability::OnlineLearning,
                "this algorithm does not learn online: set `online.steps = 0`",
            )),
        }
    }

    fn prepare(&mut self, phase: &OnlinePhase) -> Result<()> {
        self.mixing = phase.data_share.or(self.learner.mixing());
        self.learner.go_online(phase);
        self.data.start_collecting()
    }

    fn collects_episodes(&self) -> bool {
        self.learner.collects_episodes()
    }

    fn earned_updates(&self) -> u64 {
        self.data.collected().map_or(0, Replay::len) as u64
    }

    fn explore(
        &mut self,
        observation: &[f32],
        noise: Option<f64>,
        rng: &mut Rng,
    ) -> Result<Vec<f32>> {
        let normals = self.normals(rng)?;
        self.explore_with(observation, noise, &normals)
    }

    fn learn(&mut self, step: &Step<'_>, last: bool) -> Result<()> {
        let Some((observation, action)) = self.pending.take() else {
            return Err(Error::Unsuitable(
                "a step without an action before it".to_owned(),
            ));
        };
        self.data.collect(&Experience {
            observation,
            action,
            reward: self.data.reward(step.reward),
            next_observation: self.seen(step.observation)?,
            terminated: step.terminated,
            last,
        })
    }

    fn running(&self) -> Result<(u64, Vec<Vec<f32>>)> {
        let Some(replay) = self.data.collected() else {
            return Ok((0, Vec::new()));
        };
        let actions = match replay.running_actions()? {
            Some(actions) => self.data.bounds().from_unit(&actions)?.to_vec2::<f32>()?,
            None => Vec::new(),
        };
        Ok((replay.episodes(), actions))
    }
}
