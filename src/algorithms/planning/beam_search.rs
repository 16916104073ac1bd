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
use trajformer_models::decoder::Decoder;
use trajformer_models::kernels::decode::Float;

use crate::planning::budget::{Pace, ToTheEnd};
use crate::planning::companion::{Beside, Companion};
use crate::planning::critic::Critic;
use crate::planning::hypotheses::{Conditions, Hypotheses};
use crate::planning::plan_config::{Objective, PlanConfig, PlanValue, Window};
use crate::planning::rows::{Row, best, expand};
use crate::planning::sampling::{Distribution, Filter, Uniforms};
use trajformer_core::error::{Error, Result};
use trajformer_data::discretizer::Discretizer;

/// Candidates that are searched together.
const GROUP_ROWS: usize = 128;

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
    pub(super) hypotheses: Hypotheses<T>,
    pub(super) model: SearchModel<T>,
    critic: Option<Arc<Critic>>,
    pub(super) config: PlanConfig,
    /// How many choices an action is one of: only their tokens are drawn in its place.
    pub(super) choices: Option<usize>,
}

/// Limits of a search by return, where they are not those of the configuration.
pub(super) struct Course<'a> {
    /// Sequences that stay after each imagined transition.
    pub(super) width: usize,
    pub(super) pace: &'a mut dyn Pace,
    /// A plan that is imagined beside the search, for one episode alone.
    pub(super) companion: Option<&'a mut Companion>,
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
        model.check_multi_token(&config)?;
        let hypotheses = Hypotheses::new(model.decoder.clone(), seen_tokens(&model, &config));
        Ok(Self {
            hypotheses,
            model,
            critic: None,
            config,
            choices: None,
        })
    }

    /// The search with this critic, for `planner.value = "critic"`.
    ///
    /// # Errors
    /// If it has other dimensions than the network.
    pub fn with_critic(mut self, critic: Arc<Critic>) -> Result<Self> {
        let (d, o) = (self.model.discretizer.dims(), self.model.observation_dim);
        critic.check_dimensions(o, d - o - 2)?;
        self.critic = Some(critic);
        Ok(self)
    }

    /// Fails if the settings score by a critic and there is none.
    ///
    /// # Errors
    /// If so.
    pub fn check_critic(&self) -> Result<()> {
        if self.config.value == PlanValue::Critic && self.critic.is_none() {
            return Err(Error::Unsuitable(
                "planner.value = \"critic\", and the planner was given no critic".to_owned(),
            ));
        }
        Ok(())
    }

    /// The critic that scores, if one does.
    fn scoring_critic(&self) -> Option<&Critic> {
        let scores = self.config.value == PlanValue::Critic;
        self.critic.as_deref().filter(|_| scores)
    }

    /// The discount of scores: the critic's, where one scores.
    pub fn discount(&self) -> f64 {
        let critic = self.scoring_critic();
        critic.map_or(self.model.discount, |critic| critic.spec().discount)
    }

    /// A reward of the environment in the units of scores.
    pub fn scored_reward(&self, raw: f64) -> f64 {
        self.scoring_critic()
            .map_or(raw, |critic| critic.reward(raw))
    }

    /// The critic's values of the action that every sequence ends with, at the observation before it (S).
    fn critic_values(&self, critic: &Critic) -> Result<Vec<f64>> {
        let (d, o) = (self.model.discretizer.dims(), self.model.observation_dim);
        let (mut observations, mut actions) = (Vec::new(), Vec::new());
        for index in 0..self.hypotheses.len() {
            let sequence = self.hypotheses.sequence(index);
            let last = &sequence[sequence.len() - (d - 2)..];
            let numbers = (0..).zip(last);
            let numbers =
                numbers.map(|(dim, &token)| self.model.discretizer.decode(token, dim) as f32);
            let numbers: Vec<f32> = numbers.collect();
            observations.extend_from_slice(&numbers[..o]);
            actions.extend_from_slice(&numbers[o..]);
        }
        critic.values(observations, actions)
    }

    /// The same for actions that are choices among so many, token for token; `None`: real numbers.
    #[must_use]
    pub fn with_choices(self, choices: Option<usize>) -> Self {
        Self { choices, ..self }
    }

    /// How many choices an action is one of; `None`: real numbers.
    pub fn choices(&self) -> Option<usize> {
        self.choices
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
        self.check_critic()?;
        self.check_prefixes(prefixes)?;
        // Groups of episodes: large enough for efficient products, small enough that what they
        // cache stays close to the processor.
        let rows = self.config.beam_width * self.config.n_expand;
        let group = (GROUP_ROWS / rows).max(1);
        let mut plans = Vec::with_capacity(prefixes.len());
        for (index, prefixes) in prefixes.chunks(group).enumerate() {
            self.start(prefixes);
            let mut uniforms = Offset {
                uniforms: &mut *uniforms,
                first: index * group,
            };
            plans.extend(match self.config.objective {
                Objective::Return => {
                    let course = Course {
                        width: self.config.beam_width,
                        pace: &mut ToTheEnd,
                        companion: None,
                    };
                    self.by_return(prefixes.len(), &mut uniforms, course)?
                }
                Objective::Likelihood => self.by_likelihood(prefixes.len())?,
            });
        }
        Ok(plans)
    }

    /// Fails unless prefixes are what this network can start from, and alike.
    pub(super) fn check_prefixes(&self, prefixes: &[Prefix]) -> Result<()> {
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
        Ok(())
    }

    /// Starts with these prefixes.
    pub(super) fn start(&mut self, prefixes: &[Prefix]) {
        let tokens: Vec<Vec<u32>> = prefixes.iter().map(|p| p.tokens.clone()).collect();
        let conditions = Conditions {
            goals: prefixes.iter().map(|p| p.goal.clone()).collect(),
            instructions: prefixes.iter().map(|p| p.instruction.clone()).collect(),
        };
        self.hypotheses.start(&tokens, conditions);
    }

    /// The best futures of the episodes that the search has started with: to the end of the horizon, or to the last transition
    /// that was whole when the course stopped it, with plans that are as much shorter; none if no transition was.
    pub(super) fn by_return(
        &mut self,
        episodes: usize,
        uniforms: &mut dyn Uniforms,
        course: Course<'_>,
    ) -> Result<Vec<Plan>> {
        let Course {
            width,
            pace,
            mut companion,
        } = course;
        let config = self.config.clone();
        let observation_dim = self.model.observation_dim;
        let reward_dim = self.model.discretizer.dims() - 2;
        let observations = config.filter(config.k_obs, config.cdf_obs);
        let actions = config.filter(config.k_act, config.cdf_act);
        let rewards = config.filter(config.k_rew, config.cdf_rew);
        let at_once = self.predicts_at_once();
        let start = |episode| std::iter::repeat_n(Row::start(episode), width);
        let mut rows: Vec<Row> = (0..episodes).flat_map(start).collect();
        let mut history = vec![Vec::new(); episodes];
        let mut plans = Vec::new();
        for t in 0..config.horizon {
            if !pace.begins(width, t, self.sampled(width, t)) {
                return Ok(plans);
            }
            if at_once && t > 0 {
                self.observe_at_once();
            }
            let first = if t == 0 || at_once {
                observation_dim
            } else {
                0
            };
            let discount = self.discount().powi(t as i32);
            for place in first..reward_dim + 2 {
                let known = at_once && place > reward_dim;
                if !known && !pace.calls(place) {
                    return Ok(plans);
                }
                if at_once && place == reward_dim {
                    self.predict_at_once(t)?;
                } else if !known {
                    self.hypotheses.advance()?;
                }
                if place == observation_dim {
                    rows = expand(&rows, config.n_expand);
                }
                let (filter, drawn) = match place {
                    place if place < observation_dim => (&observations, Drawn::Observation),
                    place if place < reward_dim => (&actions, Drawn::Action),
                    _ => (&rewards, Drawn::Estimated(place, known)),
                };
                let mut beside = companion.as_deref_mut().and_then(|c| c.beside(t, place));
                if let (true, Some(critic)) = (place == reward_dim, self.scoring_critic()) {
                    let values = self.critic_values(critic)?;
                    let all = rows
                        .iter_mut()
                        .chain(beside.iter_mut().map(|beside| &mut *beside.row));
                    all.for_each(|row| row.score = row.earned + discount * values[row.sequence]);
                }
                let estimates = self.draw(&mut rows, filter, drawn, uniforms, beside.as_mut())?;
                let all = rows.iter_mut().chain(beside.map(|beside| beside.row));
                for (row, estimate) in all.zip(estimates) {
                    if place == reward_dim {
                        row.earned += discount * self.scored_reward(estimate);
                    } else if self.scoring_critic().is_none() {
                        let value = estimate;
                        row.score = row.earned + discount * self.model.discount * value;
                    }
                }
            }
            rows = best(rows, width);
            self.drop_unused(&mut rows, companion.as_deref_mut());
            for row in &rows {
                if history[row.episode].len() == t {
                    history[row.episode].push(Vec::new());
                }
                history[row.episode][t].push(row.score);
            }
            if pace.may_stop() || t + 1 == config.horizon {
                plans = self.plans(&rows, history.clone(), t + 1);
            }
            pace.ends();
        }
        Ok(plans)
    }

    /// Tokens that a search of this width samples in its transition number `t`.
    pub(super) fn sampled(&self, width: usize, t: usize) -> u64 {
        let o = if t == 0 {
            0
        } else {
            self.model.observation_dim
        };
        let others = self.model.discretizer.dims() - self.model.observation_dim;
        (width * (o + self.config.n_expand * others)) as u64
    }

    /// Draws one token for every row, and the companion's. Of rewards and values returns what the unfiltered distribution
    /// predicts, its expectation or percentile: for the rows, then the companion.
    fn draw(
        &mut self,
        rows: &mut [Row],
        filter: &Filter,
        drawn: Drawn,
        uniforms: &mut dyn Uniforms,
        beside: Option<&mut Beside<'_>>,
    ) -> Result<Vec<f64>> {
        let hypotheses = &self.hypotheses;
        let choices = match drawn {
            Drawn::Action => self.choices,
            _ => None,
        };
        let distribution = |index| {
            let logits = match drawn {
                Drawn::Estimated(_, true) => hypotheses.further_logits(index, 0),
                _ => hypotheses.logits(index),
            };
            Distribution::new(among(logits, choices), filter)
        };
        let distributions: Vec<Distribution> = (0..hypotheses.len())
            .into_par_iter()
            .with_min_len(8)
            .map(distribution)
            .collect();
        let mut estimates = Vec::new();
        if let Drawn::Estimated(dim, _) = drawn {
            let of_sequences: Vec<f64> = distributions
                .iter()
                .map(|d| self.estimate(&d.raw, dim))
                .collect();
            let all = rows.iter().chain(beside.iter().map(|beside| &*beside.row));
            estimates.extend(all.map(|row| of_sequences[row.sequence]));
        }
        let classes = self.model.discretizer.bins() + 1;
        let mut children = vec![usize::MAX; distributions.len() * classes];
        let (mut parents, mut tokens) = (Vec::new(), Vec::new());
        let mut append = |row: &mut Row, token: u32| {
            let child = &mut children[row.sequence * classes + token as usize];
            if *child == usize::MAX {
                *child = parents.len();
                parents.push(row.sequence);
                tokens.push(token);
            }
            row.sequence = *child;
        };
        for row in rows {
            let token = distributions[row.sequence].draw(uniforms.next(row.episode));
            append(row, token);
        }
        if let Some(Beside { row, token }) = beside {
            let token = token.unwrap_or_else(|| distributions[row.sequence].likeliest());
            append(row, token);
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

    /// Forgets the sequences that no row points to, nor the companion, which keeps what was imagined of it.
    fn drop_unused(&mut self, rows: &mut [Row], companion: Option<&mut Companion>) {
        let mut moved = vec![usize::MAX; self.hypotheses.len()];
        let mut kept = Vec::new();
        let companion = companion.and_then(|companion| {
            companion.imagined(&self.hypotheses);
            companion.row_mut()
        });
        for row in rows.iter_mut().chain(companion) {
            let to = &mut moved[row.sequence];
            if *to == usize::MAX {
                *to = kept.len();
                kept.push(row.sequence);
            }
            row.sequence = *to;
        }
        self.hypotheses.select(&kept);
    }

    /// The plans that the rows' sequences end with, of so many transitions.
    pub(super) fn plans(
        &self,
        rows: &[Row],
        history: Vec<Vec<Vec<f64>>>,
        transitions: usize,
    ) -> Vec<Plan> {
        let planned = transitions * self.model.discretizer.dims();
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
    /// Of a reward or value in this dimension, whose prediction is asked for; of a value, whether it was predicted with the reward.
    Estimated(usize, bool),
}

/// The logits of tokens that are choices, or all of them.
pub(super) fn among<T>(logits: &[T], choices: Option<usize>) -> &[T] {
    &logits[..choices.unwrap_or(logits.len())]
}

/// The uniforms of the episodes from `first` on.
pub(super) struct Offset<'a> {
    pub(super) uniforms: &'a mut dyn Uniforms,
    pub(super) first: usize,
}

impl Uniforms for Offset<'_> {
    fn next(&mut self, episode: usize) -> f64 {
        self.uniforms.next(self.first + episode)
    }
}

/// Longest window that a search sees, in tokens, a goal transition not counted.
pub(super) fn seen_tokens<T: Float>(model: &SearchModel<T>, config: &PlanConfig) -> usize {
    let d = model.discretizer.dims();
    let goal_tokens = if model.goal_conditioned { d } else { 0 };
    let window = model.decoder.window_tokens().saturating_sub(goal_tokens);
    match config.window {
        Window::Crop => window.min(config.max_context_transitions * d - 1),
        Window::Grow => window,
    }
}
