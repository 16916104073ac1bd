//! [`SimulatedSearch`]: beam search where a simulator says what follows an action, in place of the model.
//!
//! The search of [`BeamSearch`](crate::planning::BeamSearch) by return, with one difference: observations and rewards are those of
//! copies of the real environment, and their tokens are what the model goes on from. The model only proposes actions and, if asked,
//! says what the states are worth that the search ends in. What is lost against it is lost by imagining. It is no planner: it
//! needs a simulator of the very state that is acted in.

use rayon::prelude::*;
use trajformer_models::kernels::decode::Float;

use crate::planning::beam_search::{Plan, Prefix, SearchModel, among, seen_tokens};
use crate::planning::hypotheses::{Conditions, Hypotheses};
use crate::planning::plan_config::{Objective, PlanConfig};
use crate::planning::sampling::{Distribution, Uniforms};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};

/// What the state is worth that a search ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Worth {
    /// What the model expects of the return after it (its value token), as in its own search.
    #[default]
    Model,
    /// Nothing: the true rewards of the horizon alone.
    Nothing,
}

/// Settings beside those of the search itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimulatedOptions {
    /// Lowest and highest action (A each); actions are clipped to them.
    pub bounds: (Vec<f32>, Vec<f32>),
    /// How many choices an action is one of; `None`: real numbers.
    pub choices: Option<usize>,
    /// What a step counts that terminates the task, where the model was trained with such a penalty.
    pub ending_reward: Option<f64>,
    /// What ends of the search are worth.
    pub worth: Worth,
}

/// Searches with a model's proposals and a simulator.
#[derive(Debug)]
pub struct SimulatedSearch<T> {
    hypotheses: Hypotheses<T>,
    model: SearchModel<T>,
    config: PlanConfig,
    options: SimulatedOptions,
}

/// One candidate: its sequence, and what it has earned.
#[derive(Debug, Clone, Copy)]
struct Row {
    sequence: usize,
    earned: f64,
    score: f64,
}

/// Where a sequence has led.
struct Branch {
    environment: Box<dyn Environment>,
    observation: Vec<f32>,
    reward: f64,
    ended: bool,
    /// Whether it had ended before its last transition, which stands for nothing then.
    past: bool,
}

impl<T: Float> SimulatedSearch<T> {
    /// A search with the settings of a planner.
    ///
    /// # Errors
    /// If the settings are out of range, maximise likelihood, or the bounds have another length than actions.
    pub fn new(
        model: SearchModel<T>,
        config: PlanConfig,
        options: SimulatedOptions,
    ) -> Result<Self> {
        let actions = model.discretizer.dims() - model.observation_dim - 2;
        if config.objective != Objective::Return {
            return Err(Error::settings(
                "`planner.objective` is \"likelihood\", expected \"return\": a search for what is likely counts no rewards, \
                 which a simulator could tell",
            ));
        }
        let (low, high) = (options.bounds.0.len(), options.bounds.1.len());
        if (low, high) != (actions, actions) {
            let found = format!("{low} and {high} numbers");
            return Err(Error::shape("action bounds", found, actions));
        }
        let d = model.discretizer.dims();
        let goal = if model.goal_conditioned { d } else { 0 };
        config.check((model.decoder.window_tokens().saturating_sub(goal) + 1) / d)?;
        Ok(Self {
            hypotheses: Hypotheses::new(model.decoder.clone(), seen_tokens(&model, &config)),
            model,
            config,
            options,
        })
    }

    /// Plans for one episode from its present state, of which `environment` makes copies. The plan's observation, reward and value
    /// tokens are those of what happened in the copies (values: what was expected); after the end of an episode there are
    /// termination tokens. Draws of the first row of `uniforms`.
    ///
    /// # Errors
    /// If the prefix is no transitions and an observation, the environment can't be copied, or network or simulator fails.
    pub fn plan(
        &mut self,
        prefix: &Prefix,
        environment: &dyn Environment,
        uniforms: &mut dyn Uniforms,
    ) -> Result<Plan> {
        let (d, o) = (self.model.discretizer.dims(), self.model.observation_dim);
        if prefix.tokens.len() % d != o {
            return Err(Error::Unsuitable(format!(
                "a plan starts from whole transitions of {d} tokens and an observation of {o}, found {} tokens",
                prefix.tokens.len()
            )));
        }
        let config = self.config.clone();
        let conditions = Conditions {
            goals: prefix.goal.clone().map(|goal| vec![goal]),
            instructions: prefix.instruction.clone().map(|told| vec![told]),
        };
        self.hypotheses
            .start(std::slice::from_ref(&prefix.tokens), conditions);
        let start = Branch {
            environment: copied(environment)?,
            observation: Vec::new(),
            reward: 0.0,
            ended: false,
            past: false,
        };
        let mut branches = vec![start];
        let row = Row {
            sequence: 0,
            earned: 0.0,
            score: 0.0,
        };
        let mut rows = vec![row; config.beam_width];
        let mut history = Vec::with_capacity(config.horizon);
        for t in 0..config.horizon {
            rows = rows.repeat(config.n_expand);
            let origins = self.draw_actions(&mut rows, &branches, uniforms)?;
            branches = self.step(&origins, &branches)?;
            let values = self.push_outcome(&branches)?;
            let discount = self.model.discount.powi(t as i32);
            for row in &mut rows {
                row.earned += discount * branches[row.sequence].reward;
                row.score = row.earned + discount * self.model.discount * values[row.sequence];
            }
            rows.sort_by(|a, b| b.score.total_cmp(&a.score));
            rows.truncate(config.beam_width);
            branches = self.keep(&mut rows, branches);
            history.push(rows.iter().map(|row| row.score).collect());
            if t + 1 < config.horizon {
                self.push_observations(&branches);
            }
        }
        let planned = config.horizon * d;
        let sequence = |row: &Row| self.hypotheses.sequence(row.sequence);
        let ends = rows
            .iter()
            .map(|row| &sequence(row)[sequence(row).len() - planned..]);
        Ok(Plan {
            tokens: ends.flatten().copied().collect(),
            scores: rows.iter().map(|row| row.score).collect(),
            history,
        })
    }

    /// Draws an action for every row, as [`BeamSearch`](crate::planning::BeamSearch) does. Returns the branch that each sequence
    /// comes from.
    fn draw_actions(
        &mut self,
        rows: &mut [Row],
        branches: &[Branch],
        uniforms: &mut dyn Uniforms,
    ) -> Result<Vec<usize>> {
        let filter = self.config.filter(self.config.k_act, self.config.cdf_act);
        let classes = self.model.discretizer.bins() + 1;
        let mut origins: Vec<usize> = (0..self.hypotheses.len()).collect();
        for _ in 0..self.options.bounds.0.len() {
            self.hypotheses.advance()?;
            let hypotheses = &self.hypotheses;
            let choices = self.options.choices;
            let distribution =
                |index| Distribution::new(among(hypotheses.logits(index), choices), &filter);
            let distributions: Vec<Distribution> = (0..hypotheses.len())
                .into_par_iter()
                .map(distribution)
                .collect();
            let mut children = vec![usize::MAX; distributions.len() * classes];
            let (mut parents, mut tokens) = (Vec::new(), Vec::new());
            for row in rows.iter_mut() {
                let uniform = uniforms.next(0);
                let token = if branches[origins[row.sequence]].ended {
                    classes as u32 - 1
                } else {
                    distributions[row.sequence].draw(uniform)
                };
                let child = &mut children[row.sequence * classes + token as usize];
                if *child == usize::MAX {
                    *child = parents.len();
                    parents.push(row.sequence);
                    tokens.push(token);
                }
                row.sequence = *child;
            }
            self.hypotheses.append(&parents, &tokens);
            origins = parents.iter().map(|&parent| origins[parent]).collect();
        }
        Ok(origins)
    }

    /// Carries out the last action of every sequence in a copy of the branch that it comes from.
    fn step(&self, origins: &[usize], branches: &[Branch]) -> Result<Vec<Branch>> {
        let copies = origins.iter().map(|&origin| {
            let from = &branches[origin];
            Ok(Branch {
                environment: copied(&*from.environment)?,
                observation: from.observation.clone(),
                reward: 0.0,
                ended: from.ended,
                past: from.ended,
            })
        });
        let mut copies = copies.collect::<Result<Vec<Branch>>>()?;
        let actions = self.options.bounds.0.len();
        copies
            .par_iter_mut()
            .enumerate()
            .filter(|(_, branch)| !branch.ended)
            .try_for_each(|(index, branch)| {
                let sequence = self.hypotheses.sequence(index);
                let action = self.action(&sequence[sequence.len() - actions..]);
                let step = branch.environment.step(&action)?;
                let penalty = self.options.ending_reward.filter(|_| step.terminated);
                branch.reward = penalty.unwrap_or_else(|| f64::from(step.reward));
                branch.observation = step.observation;
                branch.ended = step.terminated || step.truncated;
                Ok::<(), Error>(())
            })?;
        Ok(copies)
    }

    /// The action that tokens stand for, within bounds (A).
    fn action(&self, tokens: &[u32]) -> Vec<f32> {
        let o = self.model.observation_dim;
        let bounds = self.options.bounds.0.iter().zip(&self.options.bounds.1);
        let decoded = tokens.iter().enumerate().zip(bounds);
        decoded
            .map(|((dim, &token), (low, high))| {
                let action = self.model.discretizer.decode(token, o + dim) as f32;
                action.max(*low).min(*high)
            })
            .collect()
    }

    /// Appends the reward that followed, and what is expected after it, which is returned (S).
    fn push_outcome(&mut self, branches: &[Branch]) -> Result<Vec<f64>> {
        let (discretizer, end) = (
            self.model.discretizer.clone(),
            self.model.discretizer.bins() as u32,
        );
        let (reward_dim, value_dim) = (discretizer.dims() - 2, discretizer.dims() - 1);
        let token = |branch: &Branch, number: f64, dim: usize| {
            if branch.past {
                end
            } else {
                discretizer.encode(number, dim)
            }
        };
        let rewards = branches
            .iter()
            .map(|branch| token(branch, branch.reward, reward_dim));
        let rewards: Vec<u32> = rewards.collect();
        self.hypotheses.extend(&rewards);
        let mut values = vec![0.0; branches.len()];
        if self.options.worth == Worth::Model {
            self.hypotheses.advance()?;
            let filter = self.config.filter(1, 0.0);
            for (index, value) in values.iter_mut().enumerate() {
                if !branches[index].ended {
                    let raw = Distribution::new(self.hypotheses.logits(index), &filter).raw;
                    *value = match self.config.percentile {
                        None => discretizer.expectation(&raw, value_dim),
                        Some(level) => discretizer.percentile(&raw, level, value_dim),
                    };
                }
            }
        }
        let tokens = branches.iter().zip(&values);
        let tokens: Vec<u32> = tokens
            .map(|(branch, &value)| token(branch, value, value_dim))
            .collect();
        self.hypotheses.extend(&tokens);
        Ok(values)
    }

    /// Appends what is observed.
    fn push_observations(&mut self, branches: &[Branch]) {
        let discretizer = self.model.discretizer.clone();
        let mut tokens = Vec::with_capacity(branches.len() * self.model.observation_dim);
        for branch in branches {
            if branch.ended {
                let end = discretizer.bins() as u32;
                tokens.extend(std::iter::repeat_n(end, self.model.observation_dim));
            } else {
                let numbers = branch.observation.iter().map(|&x| f64::from(x));
                discretizer.encode_slice(&numbers.collect::<Vec<f64>>(), 0, &mut tokens);
            }
        }
        self.hypotheses.extend(&tokens);
    }

    /// Forgets the sequences that no row points to, and their branches.
    fn keep(&mut self, rows: &mut [Row], branches: Vec<Branch>) -> Vec<Branch> {
        let mut moved = vec![usize::MAX; branches.len()];
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
        let mut branches: Vec<Option<Branch>> = branches.into_iter().map(Some).collect();
        kept.iter()
            .filter_map(|&index| branches[index].take())
            .collect()
    }
}

fn copied(environment: &dyn Environment) -> Result<Box<dyn Environment>> {
    environment.fork().ok_or_else(|| Error::Env {
        name: environment.spec().name.clone(),
        problem: "its state can't be saved and restored, which a search in it needs".to_owned(),
    })
}
