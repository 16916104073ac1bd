//! Fitted Q evaluation: how good a policy is, from data alone.
//!
//! Le et al. 2019, <https://arxiv.org/abs/1903.08738>, with the bootstrap over episodes of Hao et al. 2021,
//! <https://arxiv.org/abs/2102.03607>. For a frozen policy π, N critics are fitted to
//!
//! ```text
//! y_i    = r + γ (1 - terminated) Q'_i(s', π(s')), clipped to what rewards like the data's can add up to:
//!          from min(r_least, 0) / (1 - γ) to max(r_most, 0) / (1 - γ)
//! L(Q_i) = mean w_i (Q_i(s, a) - y_i)²,  w_i: how often resample i drew the transition's episode
//! V_i    = mean over resample i's start states of Q_i(s0, π(s0))
//! ```
//!
//! The estimate is the mean of the V_i, its interval their 5 and 95 % quantiles; one episode has none. A policy that draws its actions
//! (BEAR, BRAC and CRR choose among samples of their actors) draws one at each s, s' and s0, once: over many transitions the
//! critics learn its mean. Actions that are choices are rows of zeros with a 1 where critics read them. Deviation from the first paper:
//! one gradient step per target, which follows slowly (Polyak), instead of a full regression each. The clipping is that of the
//! benchmark DOPE (Fu et al. 2021, <https://arxiv.org/abs/2103.16596>; `policy_eval/q_fitter.py` of google-research), with 0 within
//! the range because episodes end: without it a critic now and then runs away where the policy's actions lie far from the data's.

use std::time::Instant;

use candle_core::{D, DType, Device, Tensor};
use serde::Serialize;
use trajformer_models::choices::one_hot;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::kernels::parallel;

use crate::app::progress::{Progress, duration};
use trajformer_algorithms::offpolicy::{GradientWatch, InitContext, Target, Trained};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_core::source::Stage;
use trajformer_core::statistics::quantile;
use trajformer_data::transitions::Transitions;
use trajformer_data::transitions_config::TransitionsConfig;
use trajformer_models::rng::{Rng, Streams};

/// Rows that a policy acts for at a time.
const ROWS: usize = 4096;
/// More than this of the critics' first values in the estimate is worth a warning.
const MOST_UNSETTLED: f64 = 0.03;
/// After so many updates, or seconds, it says how long all will take.
const TIMED_UPDATES: u64 = 20;
const TIMED_SECONDS: f64 = 2.0;
/// Resamples of fewer episodes say little of what others would have been.
const FEW_EPISODES: usize = 10;
/// Share of resamples below and above the interval.
const TAIL: f64 = 0.05;

/// Settings of [`estimate`].
#[derive(Debug, Clone, PartialEq)]
pub struct FqeConfig {
    /// Gradient steps.
    pub updates: u64,
    /// Discount γ in [0, 1).
    pub discount: f64,
    /// Critics, each with its own resample of the episodes (N).
    pub members: usize,
    /// Widths of their hidden layers.
    pub hidden: Vec<usize>,
    /// Transitions in a batch.
    pub batch_size: usize,
    /// Adam's rate.
    pub learning_rate: f64,
    /// Polyak rate of the targets.
    pub target_rate: f64,
    /// Of initial values, batches and resamples.
    pub seed: u64,
    /// Stops it early: with what it has so far, if there was an update.
    pub interrupt: Interrupt,
}

impl Default for FqeConfig {
    /// Twenty critics of the usual size. What their first values leave in the estimate falls by e every
    /// 1 / (`target_rate` (1 - γ)) updates, here 2,000: after 10,000 less than 1 % is left.
    fn default() -> Self {
        Self {
            updates: 10_000,
            discount: 0.99,
            members: 20,
            hidden: vec![256, 256],
            batch_size: 256,
            learning_rate: 3e-4,
            target_rate: 0.05,
            seed: 0,
            interrupt: Interrupt::new(),
        }
    }
}

impl FqeConfig {
    /// Fails if a setting is out of range.
    ///
    /// # Errors
    /// [`Error::Settings`] that says which.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::settings(format!("fitted Q evaluation: {what}")));
        match self {
            c if !(0.0..1.0).contains(&c.discount) => wrong("the discount must lie in [0, 1)"),
            c if c.updates == 0 => wrong("at least one update is needed"),
            c if c.members == 0 || c.batch_size == 0 => wrong("critics and batch can't be empty"),
            c if c.hidden.contains(&0) => wrong("a hidden layer can't be empty"),
            _ => Ok(()),
        }
    }

    /// Share of the critics' first values that is left in an estimate after all updates.
    pub fn unsettled(&self) -> f64 {
        unsettled(self, self.updates)
    }

    /// Whether so much of the critics' first values is left that the estimate says little of the policy.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled() > MOST_UNSETTLED
    }

    /// Warns if the updates are too few for the estimate to settle.
    pub fn warn_of_unsettled(&self) {
        if self.is_unsettled() {
            tracing::warn!(
                "{:.0} % of the critics' first values are left after {} updates: the estimate is not settled; take more \
                 updates",
                100.0 * self.unsettled(),
                self.updates
            );
        }
    }
}

/// What [`estimate`] found, in discounted rewards from the data's start states.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over the resamples.
    pub value: f64,
    /// 5 % quantile over the resamples; none if there is one episode alone, whose resamples are all the same.
    pub low: Option<f64>,
    /// 95 % quantile.
    pub high: Option<f64>,
    /// Episodes that resamples are drawn from.
    pub episodes: usize,
    /// Mean over the data's complete episodes: what the behaviour itself collected.
    pub data_value: Option<f64>,
    /// Discount.
    pub discount: f64,
    /// Root of the mean square of π(s) - a over the data, for a range of ±1; of choices the share of steps where they differ. An
    /// estimate far from the data's actions is a guess.
    pub action_distance: f64,
    /// Number of choices, where actions are choices.
    pub choices: Option<usize>,
    /// Updates that were done.
    pub updates: u64,
    /// Updates that were to be done: more than `updates` if it was interrupted, and then the estimate is no result.
    pub planned_updates: u64,
    /// Share of the critics' first values that is left in the estimate, by how often targets have followed.
    pub unsettled: f64,
}

impl Estimate {
    /// One line.
    pub fn summary(&self) -> String {
        let data = match self.data_value {
            Some(value) => format!("; the data's own episodes {value:.1}"),
            None => String::new(),
        };
        let interval = match (self.low.zip(self.high), self.episodes) {
            (None, _) => "no interval: the data is one episode".to_owned(),
            (Some((low, high)), few @ ..FEW_EPISODES) => {
                format!("90 % {low:.1} to {high:.1}, by {few} episodes only")
            }
            (Some((low, high)), _) => format!("90 % {low:.1} to {high:.1}"),
        };
        let so_far = if self.updates < self.planned_updates {
            format!(
                "interrupted after {} of {} updates, with {:.0} % of the critics' first values left, so far and no result: ",
                self.updates,
                self.planned_updates,
                100.0 * self.unsettled
            )
        } else {
            String::new()
        };
        let distance = match self.choices {
            None => format!("actions are {:.2} from the data's", self.action_distance),
            Some(_) => format!(
                "choices are other than the data's in {:.0} % of steps",
                100.0 * self.action_distance
            ),
        };
        format!(
            "{so_far}estimated return, discounted by {}: {:.1} ({interval}){data}; the policy's {distance}",
            self.discount, self.value
        )
    }
}

/// Judges `policy`, a memoryless one, by `data`; one that draws its actions draws one at each observation, once; `bounds` are those of its actions.
///
/// # Errors
/// If the policy remembers earlier steps, shapes don't fit, a setting is out of range, or it is interrupted before its first update: later
/// it returns what it has so far, whose `updates` are fewer than `planned_updates`.
pub fn estimate(
    policy: &mut dyn Policy,
    data: &Dataset,
    bounds: &ActionBounds,
    config: &FqeConfig,
) -> Result<Estimate> {
    if !policy.is_memoryless() {
        return Err(Error::unsupported(
            Ability::Memoryless,
            "fitted Q evaluation of one run judges policies that act on the present observation alone; this one remembers \
             earlier steps or plans ahead: score it in an environment, or beside other runs on the same data",
        ));
    }
    config.check()?;
    config.warn_of_unsettled();
    let ground = Ground::new(data, bounds, config)?;
    let actions = ground.ask(policy, config.seed)?;
    let fitted = ground.fit(&actions, config, 0)?;
    if let Some(problem) = &fitted.diverged {
        tracing::warn!("the estimate means nothing: {problem}");
    }
    let mut members = fitted.members;
    members.sort_by(f64::total_cmp);
    let episodes = ground.starts.dim(0)?;
    let bound = |share: f64| (episodes > 1).then(|| quantile(&members, share));
    Ok(Estimate {
        value: members.iter().sum::<f64>() / members.len() as f64,
        low: bound(TAIL),
        high: bound(1.0 - TAIL),
        episodes,
        data_value: ground.data_value(),
        discount: config.discount,
        action_distance: ground.distance(&actions)?,
        choices: bounds.kind().choices(),
        updates: fitted.updates,
        planned_updates: config.updates,
        unsettled: unsettled(config, fitted.updates),
    })
}

/// Share of the critics' first values that is left in the estimate: targets follow at a rate, and each step
/// looks 1 / (1 - γ) further.
fn unsettled(config: &FqeConfig, updates: u64) -> f64 {
    (-(updates as f64) * config.target_rate * (1.0 - config.discount)).exp()
}

/// The data as fitted Q evaluation sees it, with the resamples of its episodes: nothing of it depends on a policy. Policies that are
/// judged on one ground, with one configuration, have the same resamples, the same critics at first and the same batches: their values
/// differ by their actions alone.
pub struct Ground {
    transitions: Transitions,
    /// Of the critics' observations.
    normalizer: Normalizer,
    bounds: ActionBounds,
    /// Weight of every transition's episode in every resample (M, N).
    weights: Tensor,
    /// First observations of the episodes (E, O).
    starts: Tensor,
    /// (N, E)
    start_weights: Tensor,
    /// Discounted returns of the complete episodes.
    returns: Vec<f64>,
    /// What rewards are divided by, so that values are about 1 and Adam need not climb to them.
    scale: f64,
}

/// What a policy does where its critics are asked, in ±1 of the ground's bounds; choices are their numbers.
pub struct Asked {
    /// π(s) of every transition (M, A).
    pub now: Tensor,
    /// π(s') of every transition (M, A); arbitrary where the episode terminated.
    pub next: Tensor,
    /// At the first observation of every episode (E, A).
    pub first: Tensor,
}

/// What [`Ground::fit`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The policy's value in each resample (N), in their order.
    pub members: Vec<f64>,
    /// Updates that were done: fewer than were asked for if it was interrupted.
    pub updates: u64,
    /// What is wrong with `members`, if critics have diverged: values that no rewards like the data's could add up to.
    pub diverged: Option<String>,
}

impl Ground {
    /// Prepares `data`; actions within `bounds` are ±1.
    ///
    /// # Errors
    /// If no step has a known next one, no episode a known start, or the bounds don't fit.
    pub fn new(data: &Dataset, bounds: &ActionBounds, config: &FqeConfig) -> Result<Self> {
        let streams = Streams::from_seed(config.seed);
        let view = TransitionsConfig {
            normalize_observations: false,
            keep_truncations: true,
            ..TransitionsConfig::default()
        };
        let transitions = Transitions::new(data, bounds, &view, &Device::Cpu)?;
        let first: Vec<f32> = data
            .episodes
            .iter()
            .flat_map(|episode| data.observation(episode.start).to_vec())
            .collect();
        let shape = (data.episodes.len(), data.observation_dim);
        let starts = Tensor::from_vec(first, shape, &Device::Cpu)?;
        let flat = transitions.observations().flatten_all()?.to_vec1::<f32>()?;
        let normalizer = Normalizer::fit(&flat, data.observation_dim, 1e-3, &Device::Cpu)?;
        let size = f64::from(
            transitions
                .rewards()
                .abs()?
                .mean_all()?
                .to_scalar::<f32>()?,
        );
        let scale = if size > 0.0 {
            size / (1.0 - config.discount)
        } else {
            1.0
        };
        let counts = resamples(
            data.episodes.len(),
            config.members,
            &mut streams.stream("bootstrap"),
        );
        let episodes = transitions.episodes(data);
        let weights: Vec<f32> = episodes
            .iter()
            .flat_map(|&episode| counts.iter().map(move |of_member| of_member[episode]))
            .collect();
        let weights = Tensor::from_vec(weights, (episodes.len(), config.members), &Device::Cpu)?;
        let start_weights = start_weights(data, &counts)?;
        let shape = (config.members, data.episodes.len());
        Ok(Self {
            weights,
            starts,
            start_weights: Tensor::from_vec(start_weights, shape, &Device::Cpu)?,
            returns: discounted(data, config.discount),
            scale,
            normalizer,
            bounds: bounds.clone(),
            transitions,
        })
    }

    /// The transitions that critics learn from (M).
    pub fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    /// Mean discounted return of the complete episodes; `None` if there is none.
    pub fn data_value(&self) -> Option<f64> {
        let count = self.returns.len();
        (count > 0).then(|| self.returns.iter().sum::<f64>() / count as f64)
    }

    /// Best discounted return of the complete episodes; `None` if there is none.
    pub fn data_best(&self) -> Option<f64> {
        self.returns.iter().copied().reduce(f64::max)
    }

    /// What a memoryless policy does; one that draws its actions draws one at each observation, by `seed`.
    ///
    /// # Errors
    /// If the policy fails.
    pub fn ask(&self, policy: &mut dyn Policy, seed: u64) -> Result<Asked> {
        let (streams, bounds, transitions) =
            (&Streams::from_seed(seed), &self.bounds, &self.transitions);
        let mut acts = |observations: &Tensor, draws: &str| -> Result<Tensor> {
            bounds.to_unit(&actions_of(policy, observations, streams, draws)?)
        };
        let now = acts(transitions.observations(), "act")?;
        let policy_next = acts(transitions.next_observations(), "act next")?;
        Ok(Asked {
            now,
            next: policy_next,
            first: acts(&self.starts, "act first")?,
        })
    }

    /// Root of the mean square of π(s) - a over the data, for a range of ±1; of choices the share of steps where they differ.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn distance(&self, asked: &Asked) -> Result<f64> {
        let apart = self.apart(asked)?.mean_all()?;
        Ok(self.length(f64::from(apart.to_scalar::<f32>()?)))
    }

    /// The same for each dimension of the actions (A).
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn distances(&self, asked: &Asked) -> Result<Vec<f64>> {
        let apart = self.apart(asked)?.mean(0)?.to_vec1::<f32>()?;
        Ok(apart
            .into_iter()
            .map(|mean| self.length(f64::from(mean)))
            .collect())
    }

    /// Squares of π(s) - a (M, A); of choices 1 where they differ (M, 1).
    fn apart(&self, asked: &Asked) -> Result<Tensor> {
        let own = self.transitions.actions();
        if self.bounds.kind().choices().is_some() {
            return Ok(asked.now.ne(own)?.to_dtype(DType::F32)?);
        }
        Ok((&asked.now - own)?.sqr()?)
    }

    fn length(&self, mean: f64) -> f64 {
        match self.bounds.kind().choices() {
            Some(_) => mean,
            None => mean.sqrt(),
        }
    }

    /// Actions as the critics read them: in ±1 (B, A), or rows of zeros with a 1 (B, C).
    fn read(&self, actions: &Tensor) -> Result<Tensor> {
        match self.bounds.kind().choices() {
            Some(count) => Ok(one_hot(actions, count)?),
            None => Ok(actions.clone()),
        }
    }

    /// Fits the critics of a policy that does what was `asked`; so many policies are to follow it, which is for what is said of the time.
    ///
    /// # Errors
    /// If it diverges, or is interrupted before its first update: later it gives the values so far.
    pub fn fit(&self, asked: &Asked, config: &FqeConfig, following: usize) -> Result<Fitted> {
        let streams = Streams::from_seed(config.seed);
        let (observation_dim, action_dim) = self.transitions.dims();
        let action_dim = self.bounds.kind().choices().unwrap_or(action_dim);
        let sizes = CriticConfig {
            observation_dim,
            action_dim,
            hidden: config.hidden.clone(),
            members: config.members,
            ..CriticConfig::default()
        };
        let mut start = InitContext {
            observation_dim,
            action_dim,
            choices: None,
            stage: Stage::Learning,
            training_updates: config.updates,
            encoder: None,
            watch: &GradientWatch::default(),
            dtype: DType::F32,
            device: &Device::Cpu,
            rng: &mut streams.stream("init"),
        };
        let mut critics = Trained::<Critics>::new("critics", sizes, &mut start)?;
        let target = Target::new(&critics)?;
        let (mut rng, progress) = (streams.stream("train"), Progress::new(config.updates));
        let _workers = parallel::spin_workers();
        let possible = self.possible(config.discount)?;
        let (begin, mut done, mut announced) = (Instant::now(), 0, false);
        for update in 0..config.updates {
            if config.interrupt.is_set() {
                break;
            }
            let loss = self.loss(
                asked,
                &critics.net,
                target.net()?,
                possible,
                config,
                &mut rng,
            )?;
            critics.minimize(&loss, config.learning_rate)?;
            target.follow(&critics, config.target_rate)?;
            done = update + 1;
            progress.set(done);
            let seconds = begin.elapsed().as_secs_f64();
            if !announced && (done == TIMED_UPDATES || seconds > TIMED_SECONDS) {
                announced = true;
                let all = seconds / done as f64 * config.updates as f64;
                let others = match following {
                    0 => String::new(),
                    1 => format!("; with those of 1 more run {}", duration(2.0 * all)),
                    more => {
                        let whole = duration((more + 1) as f64 * all);
                        format!("; with those of {more} more runs {whole}")
                    }
                };
                tracing::info!(
                    "fitted Q evaluation: {} updates take about {}{others}",
                    config.updates,
                    duration(all)
                );
            }
        }
        progress.finish();
        if done == 0 {
            return Err(Error::NothingYet {
                problem: "interrupted before the first update: nothing can be said yet".to_owned(),
            });
        }
        let members = self.values(asked, &critics.detached, done)?;
        Ok(Fitted {
            diverged: self.diverged(&members, config.discount)?,
            members,
            updates: done,
        })
    }

    /// The least and the most that rewards like the data's add up to, discounted: the smallest or largest at every step, or an end.
    fn possible(&self, discount: f64) -> Result<(f64, f64)> {
        let rewards = self.transitions.rewards().to_dtype(DType::F64)?;
        Ok((
            rewards.min_all()?.to_scalar::<f64>()?.min(0.0) / (1.0 - discount),
            rewards.max_all()?.to_scalar::<f64>()?.max(0.0) / (1.0 - discount),
        ))
    }

    /// Says which values are impossible: further outside of what is possible than a quarter of what lies between its ends. Targets
    /// are clipped to it, so that only critics that read what they were never fitted to get there.
    fn diverged(&self, members: &[f64], discount: f64) -> Result<Option<String>> {
        let (least, most) = self.possible(discount)?;
        let slack = (most - least) / 4.0;
        let outside = |value: &&f64| !(least - slack..=most + slack).contains(*value);
        let outside: Vec<f64> = members.iter().filter(outside).copied().collect();
        let Some(worst) = outside
            .iter()
            .copied()
            .max_by(|a, b| a.abs().total_cmp(&b.abs()))
        else {
            return Ok(None);
        };
        Ok(Some(format!(
            "{} of {} critics have diverged: values up to {worst:.1}, where rewards like the data's add up to {least:.1} to {most:.1} \
             (discount {discount}); a lower discount or other hidden layers may keep them together",
            outside.len(),
            members.len()
        )))
    }

    /// Σ_i mean w_i (Q_i(s, a) - y_i)² of a batch.
    fn loss(
        &self,
        asked: &Asked,
        critics: &Critics,
        target: &Critics,
        (least, most): (f64, f64),
        config: &FqeConfig,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        let count = self.transitions.len();
        let rows: Vec<u32> = (0..config.batch_size)
            .map(|_| rng.below(count) as u32)
            .collect();
        let batch = self.transitions.gather(&rows)?;
        let observations = self.normalizer.apply(&batch.observations)?; // (B, O)
        let next_observations = self.normalizer.apply(&batch.next_observations)?;
        let rewards = (&batch.rewards / self.scale)?; // (B)
        let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu)?;
        let next_actions = self.read(&asked.next.index_select(&rows, 0)?)?; // (B, A) or (B, C)
        let weights = self.weights.index_select(&rows, 0)?.t()?; // (N, B)
        let next_q = target.forward(&next_observations, &next_actions)?; // (N, B)
        let go_on = ((1.0 - &batch.terminated)? * config.discount)?; // (B)
        let y = next_q
            .broadcast_mul(&go_on)?
            .broadcast_add(&rewards)?
            .clamp(least / self.scale, most / self.scale)?
            .detach();
        let q = critics.forward(&observations, &self.read(&batch.actions)?)?; // (N, B)
        let error = ((q - y)?.sqr()? * weights)?;
        Ok(error.mean(D::Minus1)?.sum_all()?)
    }

    /// The value in each resample (N), after so many updates.
    fn values(&self, asked: &Asked, critics: &Critics, updates: u64) -> Result<Vec<f64>> {
        let starts = self.normalizer.apply(&self.starts)?;
        let values = critics.forward(&starts, &self.read(&asked.first)?)?; // (N, E)
        let sums = (values * &self.start_weights)?.sum(D::Minus1)?;
        let members = (sums / self.start_weights.sum(D::Minus1)?)?; // (N)
        let members = (members.to_dtype(DType::F64)? * self.scale)?;
        let members = members.to_vec1::<f64>()?;
        if members.iter().any(|v| !v.is_finite()) {
            return Err(Error::Training {
                update: updates,
                problem: "fitted Q evaluation diverged: the policy's values are not finite"
                    .to_owned(),
                resumable: None,
            });
        }
        Ok(members)
    }
}

/// What a memoryless policy does at observations (M, O), in the environment's units (M, A).
/// `draws` names the streams of its chance.
fn actions_of(
    policy: &mut dyn Policy,
    observations: &Tensor,
    streams: &Streams,
    draws: &str,
) -> Result<Tensor> {
    let (count, _) = observations.dims2()?;
    let mut actions = Vec::new();
    for first in (0..count).step_by(ROWS) {
        let rows = ROWS.min(count - first);
        let starts: Vec<EpisodeStart> = (0..rows)
            .map(|row| EpisodeStart {
                rng: streams.numbered(draws, (first + row) as u64),
                target_return: None,
                goal: None,
                instruction: None,
            })
            .collect();
        policy.begin(&starts)?;
        actions.push(policy.act(&observations.narrow(0, first, rows)?, &vec![true; rows])?);
    }
    Ok(Tensor::cat(&actions, 0)?)
}

/// How often each of `episodes` is drawn in each of `members` resamples of as many, with replacement.
fn resamples(episodes: usize, members: usize, rng: &mut Rng) -> Vec<Vec<f32>> {
    let mut counts = vec![vec![0.0; episodes]; members];
    for of_member in &mut counts {
        (0..episodes).for_each(|_| of_member[rng.below(episodes)] += 1.0);
    }
    counts
}

/// How much the first step of each episode counts in each member: as often as it was drawn, but not where it is not
/// known to be an episode's first.
fn start_weights(data: &Dataset, counts: &[Vec<f32>]) -> Result<Vec<f32>> {
    let starts = data
        .episodes
        .iter()
        .map(|episode| f32::from(u8::from(!episode.fragment)));
    let starts: Vec<f32> = starts.collect();
    if !starts.contains(&1.0) {
        return Err(Error::Unsuitable(format!(
            "{}: no row is known to be an episode's first, so a policy can't be judged from there: save the rows in the \
             order of time, with their ends",
            data.source_names()
        )));
    }
    let mut weights = Vec::with_capacity(counts.len() * starts.len());
    for of_member in counts {
        let drawn: Vec<f32> = of_member
            .iter()
            .zip(&starts)
            .map(|(count, start)| count * start)
            .collect();
        // A member that drew none of them takes all.
        if drawn.iter().any(|&weight| weight > 0.0) {
            weights.extend(drawn)
        } else {
            weights.extend(&starts)
        }
    }
    Ok(weights)
}

/// Discounted returns of the complete episodes.
fn discounted(data: &Dataset, discount: f64) -> Vec<f64> {
    data.episodes
        .iter()
        .filter(|episode| episode.is_complete())
        .map(|episode| {
            let rewards = episode.range().rev().map(|step| data.rewards[step]);
            rewards.fold(0.0, |sum, reward| f64::from(reward) + discount * sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::behaviors::simple::ConstantPolicy;
    use trajformer_core::dataset::{ActionKind, Episode};

    /// Rewards are the actions, which are random; nothing ends but the time.
    fn data(episodes: usize, steps: usize) -> Dataset {
        let rng = &mut Rng::from_seed(3);
        let count = episodes * steps;
        let actions: Vec<f32> = (0..count)
            .map(|_| rng.uniform() as f32 * 2.0 - 1.0)
            .collect();
        let episode = |i: usize| Episode {
            truncated: true,
            final_observation: Some(vec![0.0].into_boxed_slice()),
            ..Episode::new(i * steps, steps)
        };
        Dataset {
            observation_dim: 1,
            action_dim: 1,
            action_kind: ActionKind::Continuous,
            observations: (0..count).map(|_| rng.normal() as f32).collect(),
            rewards: actions.clone(),
            actions,
            episodes: (0..episodes).map(episode).collect(),
            env_name: None,
            reference_returns: None,
            action_bounds: None,
            sources: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn quick() -> FqeConfig {
        FqeConfig {
            updates: 600,
            discount: 0.8,
            members: 5,
            hidden: vec![32],
            batch_size: 64,
            learning_rate: 3e-3,
            target_rate: 0.05,
            seed: 0,
            interrupt: Interrupt::new(),
        }
    }

    #[test]
    fn a_constant_policys_value_is_its_reward_over_one_minus_the_discount() {
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let (data, config) = (data(20, 30), quick());
        for action in [0.5, -0.75] {
            let mut policy = ConstantPolicy::new(vec![action]);
            let found = estimate(&mut policy, &data, &bounds, &config).expect("an estimate");
            let expected = f64::from(action) / (1.0 - config.discount);
            // Of a small network after few updates.
            assert!((found.value - expected).abs() < 0.3, "{found:?} {expected}");
            let (low, high) = found.low.zip(found.high).expect("twenty episodes");
            assert!(low <= found.value && found.value <= high && low < high);
            let again = estimate(&mut policy, &data, &bounds, &config).expect("an estimate");
            assert_eq!(found, again);
        }
    }

    #[test]
    fn values_that_the_datas_rewards_can_not_add_up_to_are_said() {
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let mut data = data(20, 30);
        (data.rewards[0], data.rewards[1]) = (-1.0, 1.0);
        let config = quick();
        let ground = Ground::new(&data, &bounds, &config).expect("a ground");
        // Rewards from -1 to 1 add up to -5 to 5 with a discount of 0.8: a quarter of ten lies around.
        let diverged = |members: &[f64]| ground.diverged(members, config.discount).expect("text");
        assert_eq!(diverged(&[4.0, -7.4, 7.4]), None);
        let problem = diverged(&[4.0, 9.0, -80.0]).expect("two are impossible");
        let said = ["2 of 3 critics", "-80.0", "-5.0 to 5.0"];
        assert!(said.iter().all(|part| problem.contains(part)), "{problem}");
        let mut policy = ConstantPolicy::new(vec![0.5]);
        let asked = ground.ask(&mut policy, 0).expect("actions");
        assert_eq!(
            ground.fit(&asked, &config, 0).expect("values").diverged,
            None
        );
    }

    /// One step from s to 5 s, over and over: what a critic says of 5 s is more than it says of s, and γ times 5 is above 1.
    #[test]
    fn critics_that_feed_on_themselves_stay_within_what_rewards_can_add_up_to() {
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let mut data = data(200, 1);
        for episode in &mut data.episodes {
            let next = 5.0 * data.observations[episode.start];
            episode.final_observation = Some(vec![next].into_boxed_slice());
        }
        let config = FqeConfig {
            learning_rate: 3e-2,
            target_rate: 0.2,
            ..quick()
        };
        let ground = Ground::new(&data, &bounds, &config).expect("a ground");
        let mut policy = ConstantPolicy::new(vec![0.5]);
        let asked = ground.ask(&mut policy, 0).expect("actions");
        let fitted = ground.fit(&asked, &config, 0).expect("values");
        assert_eq!(fitted.diverged, None, "{fitted:?}");
    }

    #[test]
    fn choices_are_told_apart_and_not_ordered_by_their_numbers() {
        let worth = [0.25f32, 1.0, -0.5];
        let mut data = data(20, 30);
        let rng = &mut Rng::from_seed(9);
        data.action_kind = ActionKind::Discrete { count: 3 };
        data.actions.fill_with(|| rng.below(3) as f32);
        data.rewards = data
            .actions
            .iter()
            .map(|&choice| worth[choice as usize])
            .collect();
        let bounds = ActionBounds::of_choices(3, &Device::Cpu).expect("bounds");
        let config = quick();
        for (choice, worth) in worth.into_iter().enumerate() {
            let mut policy = ConstantPolicy::new(vec![choice as f32]);
            let found = estimate(&mut policy, &data, &bounds, &config).expect("an estimate");
            let expected = f64::from(worth) / (1.0 - config.discount);
            assert!((found.value - expected).abs() < 0.3, "{found:?} {expected}");
            let others = data.actions.iter().filter(|&&own| own != choice as f32);
            let share = others.count() as f64 / data.actions.len() as f64;
            assert!((found.action_distance - share).abs() < 1e-6, "{found:?}");
            let (text, share) = (
                found.summary(),
                format!("in {:.0} % of steps", 100.0 * share),
            );
            assert!(text.contains(&share), "{text}");
        }
    }

    #[test]
    fn what_is_there_when_it_is_interrupted_is_labelled_as_no_result() {
        struct Still;
        impl Policy for Still {
            fn begin(&mut self, _: &[EpisodeStart]) -> Result<()> {
                Ok(())
            }
            fn act(&mut self, observations: &Tensor, _: &[bool]) -> Result<Tensor> {
                Ok(observations.zeros_like()?)
            }
            fn is_memoryless(&self) -> bool {
                true
            }
        }
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let config = FqeConfig {
            updates: 1 << 40,
            ..quick()
        };
        let token = config.interrupt.clone();
        let stopper = std::thread::spawn(move || {
            let begin = Instant::now();
            while begin.elapsed().as_millis() < 300 {
                std::thread::yield_now();
            }
            token.set();
        });
        let found = estimate(&mut Still, &data(20, 30), &bounds, &config);
        stopper.join().expect("a thread");
        match found {
            Ok(found) => {
                assert!(found.updates > 0 && found.updates < found.planned_updates);
                let text = found.summary();
                assert!(
                    text.starts_with("interrupted after ") && text.contains("no result"),
                    "{text}"
                );
            }
            // On a machine so slow that no update was done.
            Err(error) => assert!(matches!(error, Error::NothingYet { .. }), "{error}"),
        }
        let whole = estimate(&mut Still, &data(20, 30), &bounds, &quick());
        let whole = whole.expect("an estimate");
        assert_eq!((whole.updates, whole.planned_updates), (600, 600));
        assert!(
            whole.summary().starts_with("estimated return"),
            "{}",
            whole.summary()
        );
    }

    #[test]
    fn a_policy_that_draws_its_actions_is_worth_their_mean() {
        /// A half, give or take as much as a quarter.
        struct Drawn(Vec<Rng>);
        impl Policy for Drawn {
            fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
                self.0 = episodes.iter().map(|start| start.rng.clone()).collect();
                Ok(())
            }
            fn act(&mut self, observations: &Tensor, _: &[bool]) -> Result<Tensor> {
                let draws = self
                    .0
                    .iter_mut()
                    .map(|rng| rng.uniform() as f32 / 2.0 + 0.25);
                let actions: Vec<f32> = draws.collect();
                Ok(Tensor::from_vec(
                    actions,
                    (observations.dim(0)?, 1),
                    &Device::Cpu,
                )?)
            }
            fn is_memoryless(&self) -> bool {
                true
            }
            fn draws(&self) -> bool {
                true
            }
        }
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let (data, config) = (data(20, 30), quick());
        let estimates = [0, 0].map(|_| {
            let found = estimate(&mut Drawn(Vec::new()), &data, &bounds, &config);
            found.expect("an estimate")
        });
        assert_eq!(estimates[0], estimates[1]);
        // Of a small network after few updates, as for a constant action.
        let expected = 0.5 / (1.0 - config.discount);
        assert!(
            (estimates[0].value - expected).abs() < 0.3,
            "{:?}",
            estimates[0]
        );
    }

    #[test]
    fn one_episode_gives_no_interval_and_few_are_said() {
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let config = FqeConfig {
            updates: 20,
            ..quick()
        };
        let judged = |episodes| {
            let mut policy = ConstantPolicy::new(vec![0.5]);
            estimate(&mut policy, &data(episodes, 30), &bounds, &config).expect("an estimate")
        };
        let one = judged(1);
        assert_eq!((one.low, one.high), (None, None));
        assert!(
            one.summary()
                .contains("no interval: the data is one episode")
        );
        assert!(judged(3).summary().contains("by 3 episodes only"));
        let enough = judged(FEW_EPISODES);
        assert!(enough.low.is_some() && !enough.summary().contains("only"));
    }

    #[test]
    fn policies_that_look_back_and_settings_out_of_range_are_refused() {
        struct Looks(ConstantPolicy);
        impl Policy for Looks {
            fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
                self.0.begin(episodes)
            }
            fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
                self.0.act(observations, active)
            }
        }
        let bounds = ActionBounds::new(&[-1.0], &[1.0], &Device::Cpu).expect("bounds");
        let data = data(2, 5);
        let mut policy = Looks(ConstantPolicy::new(vec![0.0]));
        let refused = estimate(&mut policy, &data, &bounds, &quick());
        let refused = refused.expect_err("refused").to_string();
        assert!(
            refused.contains("remembers earlier steps or plans ahead"),
            "{refused}"
        );
        let endless = FqeConfig {
            discount: 1.0,
            ..quick()
        };
        let refused = estimate(&mut policy.0, &data, &bounds, &endless);
        assert!(
            refused
                .expect_err("refused")
                .to_string()
                .contains("discount")
        );
    }

    #[test]
    fn resamples_draw_as_many_episodes_as_there_are() {
        let counts = resamples(7, 3, &mut Rng::from_seed(0));
        assert_eq!(counts.len(), 3);
        assert!(counts.iter().all(|c| c.iter().sum::<f32>() == 7.0));
        assert!(counts[0] != counts[1]);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        let left = |config: FqeConfig| unsettled(&config, config.updates);
        assert!(left(quick()) < MOST_UNSETTLED && left(FqeConfig::default()) < 0.01);
    }
}
