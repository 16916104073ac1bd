//! [`BeamSearch`]: the best imagined futures of several episodes at once.
//!
//! By return: the authors' `beam_plan` (jannerm/trajectory-transformer, `trajectory/search/core.py`,
//! commit 8834a6e; paper, algorithm 1 with section 3.2's reward-to-go heuristic). By likelihood:
//! their `beam_search`, for imitation and, with a goal in front, goal-reaching (section 3.2). It has
//! one filter for all tokens; here each kind has its own.
//!
//! The goal in front is not the authors': their `ConditionalGPT` puts the O tokens of the goal in
//! front, with a table of their own, without positions, and counts the value tokens that it hides
//! from the first goal token on, so that it hides others. Nothing of theirs trains or plans with it
//! (`GoalDataset` stops in a debugger). Here the goal is a whole transition of the sequence: see
//! [`goal_transition`](trajformer_data::sequences::goal_transition).

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use trajformer_models::decoder::Decoder;
use trajformer_models::kernels::decode::Float;

use crate::planning::hypotheses::{Conditions, Hypotheses};
use crate::planning::sampling::{Distribution, Filter, Uniforms, log_probabilities};
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;
use trajformer_data::discretizer::Discretizer;

/// Candidates that are searched together.
const GROUP_ROWS: usize = 128;

/// What a search maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Predicted rewards plus the predicted value of what follows.
    #[default]
    Return,
    /// Log-likelihood of the tokens: imitation, or goal-reaching where the network takes a goal.
    Likelihood,
}

/// What the network sees of a long sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// The last `max_context_transitions` transitions, the current one included: the authors'.
    /// Every imagined transition moves the window, so it is computed again.
    #[default]
    Crop,
    /// Everything: context and plan must fit the window that the network was trained with. Faster:
    /// nothing is computed twice.
    Grow,
}

/// Beam search settings. Defaults: the base of the authors' `config/offline.py`, commit 8834a6e, which the
/// README there puts above the numbers in the paper; after a semicolon what it has for single data sets, which their files in
/// `configs/trajectory_transformer` set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanConfig {
    /// Transitions to imagine. 15; 5 for halfcheetah-medium and -medium-replay, walker2d-medium-expert and ant, 20 for
    /// walker2d-medium-replay.
    pub horizon: usize,
    /// Sequences that stay after each imagined transition. 128; 32 for all of halfcheetah and walker2d-medium-replay.
    pub beam_width: usize,
    /// Actions tried from each of them. 2.
    pub n_expand: usize,
    /// Observation tokens: the most likely `k_obs` only; 0: all. 1.
    pub k_obs: usize,
    /// Action tokens: the most likely `k_act` only; 0: all. 0; 40 for walker2d-medium-replay.
    pub k_act: usize,
    /// Reward and value tokens: the most likely `k_rew` only; 0: all. 1.
    pub k_rew: usize,
    /// Observation tokens in the lower tail with this share of the probability are left out; 0: none.
    pub cdf_obs: f64,
    /// Action tokens in the lower tail with this share of the probability are left out; 0: none. 0.6; 0 for
    /// walker2d-medium-replay, where `k_act` takes its place.
    pub cdf_act: f64,
    /// Reward and value tokens in that tail are left out; 0: none. 0.
    pub cdf_rew: f64,
    /// Rewards and values are this percentile, in (0, 1), of the predicted distributions; by default
    /// their expectation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    /// Transitions that the network sees: in a crop the current one counts, in a growing window
    /// these are the ones before it. 5.
    pub max_context_transitions: usize,
    /// Whether past transitions are seen at all. true.
    pub prefix_context: bool,
    /// Logits are divided by this. 1: their planner leaves it at that, what it samples with can do it.
    pub temperature: f64,
    /// Environment steps that follow one plan, the authors' `plan_freq`. 1.
    pub plan_every_steps: usize,
    /// What happens to long sequences.
    pub window: Window,
    /// What is maximised.
    pub objective: Objective,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            horizon: 15,
            beam_width: 128,
            n_expand: 2,
            k_obs: 1,
            k_act: 0,
            k_rew: 1,
            cdf_obs: 0.0,
            cdf_act: 0.6,
            cdf_rew: 0.0,
            percentile: None,
            max_context_transitions: 5,
            prefix_context: true,
            temperature: 1.0,
            plan_every_steps: 1,
            window: Window::Crop,
            objective: Objective::Return,
        }
    }
}

impl PlanConfig {
    /// Checks ranges, and that a growing window fits `window_transitions`.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn check(&self, window_transitions: usize) -> Result<()> {
        let keys = Keys("algorithm.trajectory_transformer.planner");
        keys.counts(&[
            ("horizon", self.horizon, 10_000),
            ("beam_width", self.beam_width, 1 << 16),
            ("n_expand", self.n_expand, 1 << 16),
            (
                "max_context_transitions",
                self.max_context_transitions,
                10_000,
            ),
            ("plan_every_steps", self.plan_every_steps, 10_000),
        ])?;
        let shares = [
            ("cdf_obs", self.cdf_obs),
            ("cdf_act", self.cdf_act),
            ("cdf_rew", self.cdf_rew),
        ];
        if let Some((key, value)) = shares.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            return Err(keys.wrong(key, value, "0 (off) to below 1"));
        }
        let outside = |level: &f64| !(*level > 0.0 && *level < 1.0);
        if let Some(level) = self.percentile.filter(outside) {
            return Err(keys.wrong("percentile", level, "between 0 and 1"));
        }
        keys.positive(&[("temperature", self.temperature)])?;
        if self.plan_every_steps > self.horizon {
            let expected = format!("at most `horizon` ({})", self.horizon);
            return Err(keys.wrong("plan_every_steps", self.plan_every_steps, expected));
        }
        let context = if self.prefix_context {
            self.max_context_transitions
        } else {
            0
        };
        if self.window == Window::Grow && context + self.horizon > window_transitions {
            return Err(Error::settings(format!(
                "planner.window = \"grow\" needs max_context_transitions ({context}) + horizon ({}) \
                 <= window_transitions ({window_transitions}): train with a longer window, plan \
                 shorter, or use \"crop\"",
                self.horizon
            )));
        }
        Ok(())
    }

    fn filter(&self, top_k: usize, cdf: f64) -> Filter {
        Filter {
            top_k,
            cdf,
            temperature: self.temperature,
        }
    }
}

/// What a search of one episode starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix {
    /// Tokens of the past transitions (any number of them, D each) and of the observation (O). As
    /// many for every episode of a search.
    pub tokens: Vec<u32>,
    /// The goal transition (D), where the network was trained with goals: see
    /// [`goal_transition`](trajformer_data::sequences::goal_transition).
    pub goal: Option<Vec<u32>>,
    /// The embedding of the instruction (E), where the network was trained with instructions.
    pub instruction: Option<Vec<f32>>,
}

/// The imagined futures of one episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tokens (W, horizon, D), best first. By likelihood there may be fewer than the beam is wide.
    pub tokens: Vec<u32>,
    /// Predicted return or log-likelihood of each (W).
    pub scores: Vec<f64>,
    /// Scores that stayed after each imagined transition (by return) or token, best first.
    pub history: Vec<Vec<f64>>,
}

/// A trained network and what its tokens mean.
#[derive(Debug, Clone)]
pub struct SearchModel<T> {
    /// The network.
    pub decoder: Arc<Decoder<T>>,
    /// Numbers to tokens and back.
    pub discretizer: Arc<Discretizer>,
    /// O, numbers of an observation.
    pub observation_dim: usize,
    /// Discount of rewards and values.
    pub discount: f64,
    /// Whether the network was trained with a goal in front of every window.
    pub goal_conditioned: bool,
}

/// Searches with one network and set of settings.
#[derive(Debug)]
pub struct BeamSearch<T> {
    hypotheses: Hypotheses<T>,
    model: SearchModel<T>,
    config: PlanConfig,
    /// How many choices an action is one of: only their tokens are drawn in its place.
    choices: Option<usize>,
}

/// One candidate: its sequence, and what it earns on the way.
#[derive(Debug, Clone, Copy)]
struct Row {
    episode: usize,
    sequence: usize,
    /// Discounted rewards before this transition.
    earned: f64,
    score: f64,
}

impl<T: Float> BeamSearch<T> {
    /// # Errors
    /// If the settings are out of range or do not fit the network or discretizer.
    pub fn new(model: SearchModel<T>, config: PlanConfig) -> Result<Self> {
        let shape = model.decoder.shape();
        let (d, o) = (shape.transition_tokens, model.observation_dim);
        let discretizer = &model.discretizer;
        if (d, shape.bins) != (discretizer.dims(), discretizer.bins()) || o + 2 >= d {
            return Err(Error::Unsuitable(format!(
                "a network of {d} tokens with {} bins does not fit a discretizer of {} with {} and \
                 observations of {o}",
                shape.bins,
                discretizer.dims(),
                discretizer.bins()
            )));
        }
        let goal_tokens = if model.goal_conditioned { d } else { 0 };
        let window = model.decoder.window_tokens().saturating_sub(goal_tokens);
        config.check((window + 1) / d)?;
        let max_tokens = match config.window {
            Window::Crop => window.min(config.max_context_transitions * d - 1),
            Window::Grow => window,
        };
        let hypotheses = Hypotheses::new(model.decoder.clone(), max_tokens);
        Ok(Self {
            hypotheses,
            model,
            config,
            choices: None,
        })
    }

    /// The same for actions that are choices among so many, token for token; `None`: real numbers.
    #[must_use]
    pub fn with_choices(self, choices: Option<usize>) -> Self {
        Self { choices, ..self }
    }

    /// The network and what goes with it.
    pub fn model(&self) -> &SearchModel<T> {
        &self.model
    }

    /// The settings.
    pub fn config(&self) -> &PlanConfig {
        &self.config
    }

    /// Plans for every prefix; each draws from its own uniforms, so that it doesn't depend on the
    /// others.
    ///
    /// # Errors
    /// If prefixes differ in length, are no transitions and an observation, or the network fails.
    pub fn plan(&mut self, prefixes: &[Prefix], uniforms: &mut dyn Uniforms) -> Result<Vec<Plan>> {
        let d = self.model.discretizer.dims();
        let length = prefixes
            .first()
            .map_or(self.model.observation_dim, |p| p.tokens.len());
        let fits = |prefix: &Prefix| prefix.tokens.len() == length;
        if length % d != self.model.observation_dim || !prefixes.iter().all(fits) {
            return Err(Error::Unsuitable(format!(
                "a plan starts from whole transitions of {d} tokens and an observation of {}, the \
                 same number for all episodes",
                self.model.observation_dim
            )));
        }
        let takes_goal = self.model.goal_conditioned;
        let goal_fits = |prefix: &Prefix| match &prefix.goal {
            Some(goal) => takes_goal && goal.len() == d,
            None => !takes_goal,
        };
        if !prefixes.iter().all(goal_fits) {
            return Err(Error::Unsuitable(
                "every episode needs a goal transition if the network was trained with goals, and \
                 none otherwise"
                    .to_owned(),
            ));
        }
        let dimension = self.model.decoder.instruction_dim();
        let told_fits = |prefix: &Prefix| match &prefix.instruction {
            Some(embedding) => dimension > 0 && embedding.len() == dimension,
            None => dimension == 0,
        };
        if !prefixes.iter().all(told_fits) {
            return Err(Error::Unsuitable(format!(
                "every episode needs the embedding of an instruction ({dimension} numbers here) if the network was \
                 trained with instructions, and none otherwise"
            )));
        }
        // Groups of episodes: large enough for efficient products, small enough that what they
        // cache stays close to the processor.
        let rows = self.config.beam_width * self.config.n_expand;
        let group = (GROUP_ROWS / rows).max(1);
        let mut plans = Vec::with_capacity(prefixes.len());
        for (index, prefixes) in prefixes.chunks(group).enumerate() {
            let tokens: Vec<Vec<u32>> = prefixes.iter().map(|p| p.tokens.clone()).collect();
            let conditions = Conditions {
                goals: prefixes.iter().map(|p| p.goal.clone()).collect(),
                instructions: prefixes.iter().map(|p| p.instruction.clone()).collect(),
            };
            self.hypotheses.start(&tokens, conditions);
            let mut uniforms = Offset {
                uniforms: &mut *uniforms,
                first: index * group,
            };
            plans.extend(match self.config.objective {
                Objective::Return => self.by_return(prefixes.len(), &mut uniforms)?,
                Objective::Likelihood => self.by_likelihood(prefixes.len())?,
            });
        }
        Ok(plans)
    }

    fn by_return(&mut self, episodes: usize, uniforms: &mut dyn Uniforms) -> Result<Vec<Plan>> {
        let config = self.config.clone();
        let action_dim = self.model.discretizer.dims() - self.model.observation_dim - 2;
        let observations = config.filter(config.k_obs, config.cdf_obs);
        let actions = config.filter(config.k_act, config.cdf_act);
        let rewards = config.filter(config.k_rew, config.cdf_rew);
        let start = |episode| Row {
            episode,
            sequence: episode,
            earned: 0.0,
            score: 0.0,
        };
        let mut rows: Vec<Row> = (0..episodes)
            .flat_map(|episode| std::iter::repeat_n(start(episode), config.beam_width))
            .collect();
        let mut history = vec![Vec::new(); episodes];
        for t in 0..config.horizon {
            rows = expand(&rows, config.n_expand);
            for _ in 0..action_dim {
                self.draw(&mut rows, &actions, Drawn::Action, uniforms)?;
            }
            let discount = self.model.discount.powi(t as i32);
            let reward_dim = self.model.discretizer.dims() - 2;
            let estimates =
                self.draw(&mut rows, &rewards, Drawn::Estimated(reward_dim), uniforms)?;
            for (row, reward) in rows.iter_mut().zip(estimates) {
                row.earned += discount * reward;
            }
            let estimates = self.draw(
                &mut rows,
                &rewards,
                Drawn::Estimated(reward_dim + 1),
                uniforms,
            )?;
            for (row, value) in rows.iter_mut().zip(estimates) {
                row.score = row.earned + discount * self.model.discount * value;
            }
            rows = best(rows, config.beam_width);
            self.drop_unused(&mut rows);
            for row in &rows {
                if history[row.episode].len() == t {
                    history[row.episode].push(Vec::new());
                }
                history[row.episode][t].push(row.score);
            }
            if t + 1 < config.horizon {
                for _ in 0..self.model.observation_dim {
                    self.draw(&mut rows, &observations, Drawn::Observation, uniforms)?;
                }
            }
        }
        Ok(self.plans(&rows, history))
    }

    /// Draws one token for every row. Of rewards and values returns what the unfiltered distribution
    /// predicts: its expectation or percentile.
    fn draw(
        &mut self,
        rows: &mut [Row],
        filter: &Filter,
        drawn: Drawn,
        uniforms: &mut dyn Uniforms,
    ) -> Result<Vec<f64>> {
        self.hypotheses.advance()?;
        let hypotheses = &self.hypotheses;
        let choices = match drawn {
            Drawn::Action => self.choices,
            _ => None,
        };
        let distribution =
            |index| Distribution::new(among(hypotheses.logits(index), choices), filter);
        let distributions: Vec<Distribution> = (0..hypotheses.len())
            .into_par_iter()
            .with_min_len(8)
            .map(distribution)
            .collect();
        let mut estimates = Vec::new();
        if let Drawn::Estimated(dim) = drawn {
            let of_sequences: Vec<f64> = distributions
                .iter()
                .map(|d| self.estimate(&d.raw, dim))
                .collect();
            estimates.extend(rows.iter().map(|row| of_sequences[row.sequence]));
        }
        let classes = self.model.discretizer.bins() + 1;
        let mut children = vec![usize::MAX; distributions.len() * classes];
        let (mut parents, mut tokens) = (Vec::new(), Vec::new());
        for row in rows {
            let token = distributions[row.sequence].draw(uniforms.next(row.episode));
            let child = &mut children[row.sequence * classes + token as usize];
            if *child == usize::MAX {
                *child = parents.len();
                parents.push(row.sequence);
                tokens.push(token);
            }
            row.sequence = *child;
        }
        self.hypotheses.append(&parents, &tokens);
        Ok(estimates)
    }

    fn estimate(&self, probabilities: &[f64], dim: usize) -> f64 {
        match self.config.percentile {
            None => self.model.discretizer.expectation(probabilities, dim),
            Some(level) => self.model.discretizer.percentile(probabilities, level, dim),
        }
    }

    /// Forgets the sequences that no row points to.
    fn drop_unused(&mut self, rows: &mut [Row]) {
        let mut moved = vec![usize::MAX; self.hypotheses.len()];
        let mut kept = Vec::new();
        for row in rows {
            let to = &mut moved[row.sequence];
            if *to == usize::MAX {
                *to = kept.len();
                kept.push(row.sequence);
            }
            row.sequence = *to;
        }
        self.hypotheses.select(&kept);
    }

    /// Deterministic: every possible next token of every row is a candidate; the most likely
    /// `beam_width` sequences of each episode stay.
    fn by_likelihood(&mut self, episodes: usize) -> Result<Vec<Plan>> {
        let config = self.config.clone();
        let (d, o) = (self.model.discretizer.dims(), self.model.observation_dim);
        let start = |episode| Row {
            episode,
            sequence: episode,
            earned: 0.0,
            score: 0.0,
        };
        let mut rows: Vec<Row> = (0..episodes).map(start).collect();
        let mut history = vec![Vec::new(); episodes];
        for position in o..config.horizon * d {
            let (filter, choices) = match position % d {
                at if at < o => (config.filter(config.k_obs, config.cdf_obs), None),
                at if at < d - 2 => (config.filter(config.k_act, config.cdf_act), self.choices),
                _ => (config.filter(config.k_rew, config.cdf_rew), None),
            };
            self.hypotheses.advance()?;
            let hypotheses = &self.hypotheses;
            let children: Vec<Vec<(Row, u32)>> = rows
                .par_iter()
                .map(|row| {
                    let logits = among(hypotheses.logits(row.sequence), choices);
                    likely_children(row, logits, &filter)
                })
                .collect();
            let mut kept: Vec<(Row, u32)> = Vec::new();
            let mut all = children.into_iter().flatten().peekable();
            while let Some((first, _)) = all.peek() {
                let episode = first.episode;
                let mut candidates = Vec::new();
                while let Some(child) = all.next_if(|(row, _)| row.episode == episode) {
                    candidates.push(child);
                }
                candidates.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
                candidates.truncate(config.beam_width);
                history[episode].push(candidates.iter().map(|(row, _)| row.score).collect());
                kept.append(&mut candidates);
            }
            let parents: Vec<usize> = kept.iter().map(|(row, _)| row.sequence).collect();
            let tokens: Vec<u32> = kept.iter().map(|(_, token)| *token).collect();
            self.hypotheses.append(&parents, &tokens);
            let renumber = |(sequence, (row, _)): (usize, (Row, u32))| Row { sequence, ..row };
            rows = kept.into_iter().enumerate().map(renumber).collect();
        }
        Ok(self.plans(&rows, history))
    }

    fn plans(&self, rows: &[Row], history: Vec<Vec<Vec<f64>>>) -> Vec<Plan> {
        let planned = self.config.horizon * self.model.discretizer.dims();
        let mut plans: Vec<Plan> = history
            .into_iter()
            .map(|history| Plan {
                tokens: Vec::new(),
                scores: Vec::new(),
                history,
            })
            .collect();
        for row in rows {
            let sequence = self.hypotheses.sequence(row.sequence);
            let plan = &mut plans[row.episode];
            plan.tokens
                .extend_from_slice(&sequence[sequence.len() - planned..]);
            plan.scores.push(row.score);
        }
        plans
    }
}

/// What a token that is drawn stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Observation,
    Action,
    /// Of a reward or value in this dimension, whose prediction is asked for.
    Estimated(usize),
}

/// The logits of tokens that are choices, or all of them.
fn among<T>(logits: &[T], choices: Option<usize>) -> &[T] {
    &logits[..choices.unwrap_or(logits.len())]
}

/// The uniforms of the episodes from `first` on.
struct Offset<'a> {
    uniforms: &'a mut dyn Uniforms,
    first: usize,
}

impl Uniforms for Offset<'_> {
    fn next(&mut self, episode: usize) -> f64 {
        self.uniforms.next(self.first + episode)
    }
}

/// Repeats the rows of every episode `times` over: all of them, then all of them again.
fn expand(rows: &[Row], times: usize) -> Vec<Row> {
    let episodes = rows.chunk_by(|a, b| a.episode == b.episode);
    episodes.flat_map(|rows| rows.repeat(times)).collect()
}

/// The `width` best rows of every episode, best first; ties go to the earlier row.
fn best(mut rows: Vec<Row>, width: usize) -> Vec<Row> {
    rows.sort_by(|a, b| a.episode.cmp(&b.episode).then(b.score.total_cmp(&a.score)));
    let episodes = rows.chunk_by(|a, b| a.episode == b.episode);
    episodes
        .flat_map(|rows| &rows[..width.min(rows.len())])
        .copied()
        .collect()
}

/// Every token that can follow a row, with the log-likelihood it leads to.
fn likely_children<T: Float>(row: &Row, logits: &[T], filter: &Filter) -> Vec<(Row, u32)> {
    let log_probabilities = log_probabilities(logits, filter).into_iter().zip(0..);
    let child = |(log_probability, token)| {
        (
            Row {
                score: row.score + log_probability,
                ..*row
            },
            token,
        )
    };
    log_probabilities
        .map(child)
        .filter(|(row, _)| row.score > f64::NEG_INFINITY)
        .collect()
}
