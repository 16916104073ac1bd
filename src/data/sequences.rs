//! [`TokenSequences`]: windows of discretised transitions that a Trajectory Transformer is trained on.
//!
//! A transition is `O` observation numbers, `A` action numbers, the reward and the value: D tokens.
//! Follows jannerm/trajectory-transformer, `trajectory/datasets/sequence.py`, commit 8834a6e.
//! Windows are drawn with replacement, where the authors shuffle epochs.

pub use crate::token_options::GoalPrefix;
pub use crate::token_options::TokenOptions;
pub use crate::token_options::ValueColumn;
use std::ops::Range;
pub use trajformer_models::trajectory_transformer::TokenBatch;

use candle_core::{Device, Tensor};
use trajformer_models::health;
use trajformer_models::params::StateVisitor;

use crate::discretizer::Discretizer;
use crate::resident::{TokenTables, WindowRows};
use crate::tokens::{Columns, Tokens};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::{Error, Result};
use trajformer_core::source::Source;
use trajformer_models::rng::Rng;

/// The transition that stands for a goal: the goal's observation tokens (O), then termination tokens
/// up to D, so that positions in the transitions after it stay what they are.
pub fn goal_transition(observation: &[u32], discretizer: &Discretizer) -> Vec<u32> {
    let mut tokens = observation.to_vec();
    tokens.resize(discretizer.dims(), discretizer.bins() as u32);
    tokens
}

/// A data set as tokens, and every window that can be drawn from it.
///
/// Windows start at every step of an episode but its last. Transitions past the end of the episode
/// are termination tokens: inside `max_path_steps` they are trained on, past it they are masked. Of an
/// episode that stops without an end nothing past its last step is trained on, and no value.
#[derive(Debug, Clone)]
pub struct TokenSequences {
    discretizer: Discretizer,
    tokens: Home,
    /// First steps of windows with the step after their episode's last, and its first step.
    windows: Vec<Window>,
    observation_dim: usize,
    window_transitions: usize,
    goal: GoalPrefix,
    value: ValueColumn,
    max_path_steps: usize,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    start: u32,
    /// Number of its episode among those that have windows.
    episode: u32,
    episode_start: u32,
    episode_end: u32,
    /// Whether the episode has an end.
    complete: bool,
}

/// Where the tokens are.
#[derive(Debug, Clone)]
enum Home {
    Host(Tokens),
    /// `steps` rows for the data's transitions, one of termination tokens, one per goal.
    Device {
        tables: TokenTables,
        steps: usize,
    },
}

impl TokenSequences {
    /// Discretises the data of `source`, whose `actions` are real numbers or choices; without data there are no windows, and a discretizer that is to be restored.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_source(
        source: Source<'_>,
        options: &TokenOptions,
        actions: ActionKind,
    ) -> Result<Self> {
        match source {
            Source::Train(data) => Self::with_actions(data, options, actions),
            Source::Act { .. } => Self::without_data(source.dims(), options),
        }
    }

    /// Discretises `data`, whose actions are real numbers, with thresholds fitted to it.
    ///
    /// # Errors
    /// If actions are discrete, no episode has two steps, or an option is out of range.
    pub fn new(data: &Dataset, options: &TokenOptions) -> Result<Self> {
        Self::with_actions(data, options, ActionKind::Continuous)
    }

    /// [`Self::new`] of data whose `actions` are real numbers, or choices, which are their own tokens.
    ///
    /// # Errors
    /// As there, if the data's actions are of the other kind, and if there are more choices than bins.
    pub fn with_actions(
        data: &Dataset,
        options: &TokenOptions,
        actions: ActionKind,
    ) -> Result<Self> {
        Self::with(data, options, actions, |columns| {
            let discretizer = Discretizer::fit_columns(
                data.steps(),
                columns.dims(),
                options.bins,
                options.discretizer,
                |dim, column| columns.fill(dim, column),
            )?;
            match actions {
                ActionKind::Continuous => Ok(discretizer),
                ActionKind::Discrete { count } => {
                    discretizer.with_choices(data.observation_dim, count)
                }
            }
        })
    }

    /// Other episodes of the same source, `options` being those that this was made with: as tokens of this one's thresholds, in windows
    /// that count as far past the end of an episode as this one's, or as the longest of `data` is.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_others(&self, data: &Dataset, options: &TokenOptions) -> Result<Self> {
        let longest = data.episodes.iter().map(|episode| episode.steps).max();
        let options = TokenOptions {
            max_path_steps: Some(self.max_path_steps.max(longest.unwrap_or(0))),
            ..options.clone()
        };
        Self::with(data, &options, data.action_kind, |_| {
            Ok(self.discretizer.clone())
        })
    }

    /// Discretises `data`, whose actions are of this kind, with the thresholds that `thresholds` makes of its columns.
    fn with(
        data: &Dataset,
        options: &TokenOptions,
        actions: ActionKind,
        thresholds: impl FnOnce(&Columns<'_>) -> Result<Discretizer>,
    ) -> Result<Self> {
        check(data, options)?;
        if !data.action_kind.acts_in(actions) {
            return Err(Error::Unsuitable(format!(
                "the Trajectory Transformer is made for {}; the data has {}",
                actions.said(data.action_dim),
                data.action_kind.said(data.action_dim)
            )));
        }
        data.require_time_order("a model of sequences")?;
        let columns = Columns::new(data, options);
        let discretizer = thresholds(&columns)?;
        let tokens = Tokens::encode(&columns, &discretizer);
        let longest = data
            .episodes
            .iter()
            .map(|episode| episode.steps)
            .max()
            .unwrap_or(0);
        let max_path_steps = options.max_path_steps.unwrap_or(longest);
        if max_path_steps < longest {
            return Err(Error::settings(format!(
                "max_path_steps is {max_path_steps}, but the longest episode has {longest} steps"
            )));
        }
        let mut windows = Vec::new();
        let episodes = data.episodes.iter().filter(|episode| episode.steps > 1);
        for (number, episode) in episodes.enumerate() {
            let (first, end) = (episode.start as u32, (episode.start + episode.steps) as u32);
            let starts = first..end - 1;
            windows.extend(starts.map(|start| Window {
                start,
                episode: number as u32,
                episode_start: first,
                episode_end: end,
                complete: episode.is_complete(),
            }));
        }
        if windows.is_empty() {
            return Err(Error::Unsuitable(format!(
                "{}: no episode has two steps: there is no sequence to learn from",
                data.source_names()
            )));
        }
        Ok(Self {
            discretizer,
            tokens: Home::Host(tokens),
            windows,
            observation_dim: data.observation_dim,
            window_transitions: options.window_transitions,
            goal: options.goal,
            value: options.value,
            max_path_steps,
        })
    }

    /// Without windows, and with a discretizer that is to be restored.
    fn without_data((o, a): (usize, usize), options: &TokenOptions) -> Result<Self> {
        check_options(options)?;
        let dims = o + a + 2;
        Ok(Self {
            discretizer: Discretizer::empty(dims, options.bins)?,
            tokens: Home::Host(Tokens::Bytes(Vec::new())),
            windows: Vec::new(),
            observation_dim: o,
            window_transitions: options.window_transitions,
            goal: options.goal,
            value: options.value,
            max_path_steps: options.max_path_steps.unwrap_or(0),
        })
    }

    /// Fails if there are no windows: they were made without data, to act.
    ///
    /// # Errors
    /// Saying so.
    pub fn require_windows(&self) -> Result<()> {
        if self.is_empty() {
            Err(opened_without_data())
        } else {
            Ok(())
        }
    }

    /// Moves the tokens to `device`, where batches are made from now on: the same ones, from row
    /// numbers.
    ///
    /// # Errors
    /// If the device fails.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        let Home::Host(tokens) = &self.tokens else {
            return Ok(());
        };
        if self.is_empty() {
            return Ok(());
        }
        let dims = self.discretizer.dims();
        let mut more = vec![self.discretizer.bins() as u32; dims];
        if self.goal == GoalPrefix::FinalObservation {
            for windows in self.windows.chunk_by(|a, b| a.episode == b.episode) {
                more.extend(self.goal_tokens(windows[0], tokens));
            }
        }
        let steps = tokens.len() / dims;
        let table = tokens.table(&more, dims, device)?; // (steps + 1 + goals, D)
        let time = self.window_transitions * dims - 1;
        let tables = TokenTables::new(table, time, self.first_counted())?;
        self.tokens = Home::Device { tables, steps };
        Ok(())
    }

    /// The thresholds.
    pub fn discretizer(&self) -> &Discretizer {
        &self.discretizer
    }

    /// Shows the thresholds to `visitor`; see [`Discretizer::state`]. The tokens stay: they belong to
    /// the data that this was built from.
    ///
    /// # Errors
    /// What the visitor says; if restored thresholds are none.
    pub fn visit_discretizer(
        &mut self,
        prefix: &str,
        visitor: &mut dyn StateVisitor,
    ) -> Result<()> {
        self.discretizer.state(prefix, visitor)
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there are none: they were made without data.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Draws `batch` windows uniformly, with replacement.
    ///
    /// # Errors
    /// If a tensor can't be made.
    pub fn sample(&self, batch: usize, rng: &mut Rng, device: &Device) -> Result<TokenBatch> {
        self.require_windows()?;
        self.batch(&self.draw(batch, rng), device)
    }

    /// Draws the indices of `count` windows uniformly, with replacement.
    pub fn draw(&self, count: usize, rng: &mut Rng) -> Vec<usize> {
        let windows: Vec<usize> = (0..count).map(|_| rng.below(self.len())).collect();
        health::drawn("steps", || {
            let first = |&window: &usize| self.windows[window].start as usize;
            windows.iter().map(first).collect()
        });
        windows
    }

    /// Where batches are made.
    pub fn is_on_host(&self) -> bool {
        matches!(self.tokens, Home::Host(_))
    }

    /// The episode of the window with this index, counted over those of two steps or more.
    ///
    /// # Panics
    /// If the index is not below [`len`](Self::len).
    pub fn episode_of(&self, index: usize) -> usize {
        self.windows[index].episode as usize
    }

    /// The windows with these indices, in order of the data, without instructions; on `device`, or where
    /// [`move_to`](Self::move_to) has brought the data.
    ///
    /// # Errors
    /// If a tensor can't be made.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn batch(&self, indices: &[usize], device: &Device) -> Result<TokenBatch> {
        let all = match &self.tokens {
            Home::Host(tokens) => tokens,
            Home::Device { tables, steps } => {
                let told = |&index: &usize| self.rows(self.windows[index], *steps);
                let told: Vec<WindowRows> = indices.iter().map(told).collect();
                return tables.batch(&told);
            }
        };
        let length = self.window_transitions * self.discretizer.dims();
        let shape = (indices.len(), length - 1);
        let mut inputs = Vec::with_capacity(indices.len() * length);
        let mut targets = Vec::with_capacity(indices.len() * length);
        let mut mask = Vec::with_capacity(indices.len() * length);
        let mut tokens = Vec::with_capacity(length);
        for &index in indices {
            let window = self.windows[index];
            tokens.clear();
            self.push_window(window, all, &mut tokens);
            let counted = self.counted(window);
            inputs.extend_from_slice(&tokens[..length - 1]);
            targets.extend_from_slice(&tokens[1..]);
            let hides_values = self.hides_values(window);
            // The position before a value is the one that is asked for it.
            let is_value = |at: usize| (at + 2).is_multiple_of(self.discretizer.dims());
            let counts = |at: usize| {
                let counted = counted.contains(&at) && !(hides_values && is_value(at));
                f32::from(u8::from(counted))
            };
            mask.extend((0..length - 1).map(counts));
        }
        Ok(TokenBatch {
            inputs: Tensor::from_vec(inputs, shape, device)?,
            targets: Tensor::from_vec(targets, shape, device)?,
            mask: Tensor::from_vec(mask, shape, device)?,
            instructions: None,
        })
    }

    /// Appends a window's tokens.
    fn push_window(&self, window: Window, all: &Tokens, tokens: &mut Vec<u32>) {
        let dims = self.discretizer.dims();
        if self.goal == GoalPrefix::FinalObservation {
            tokens.extend(self.goal_tokens(window, all));
        }
        let (real, padding) = self.transitions(window);
        let first = window.start as usize * dims;
        all.push(first..first + real * dims, tokens);
        let end = self.discretizer.bins() as u32;
        tokens.extend(std::iter::repeat_n(end, padding * dims));
    }

    /// The goal of a window's episode as a transition.
    fn goal_tokens(&self, window: Window, all: &Tokens) -> Vec<u32> {
        let last = (window.episode_end as usize - 1) * self.discretizer.dims();
        let mut goal = Vec::with_capacity(self.observation_dim);
        all.push(last..last + self.observation_dim, &mut goal);
        goal_transition(&goal, &self.discretizer)
    }

    /// The window as rows of the tables that [`Self::move_to`] makes of `steps` steps.
    fn rows(&self, window: Window, steps: usize) -> WindowRows {
        let mut rows = Vec::with_capacity(self.window_transitions);
        if self.goal == GoalPrefix::FinalObservation {
            rows.push(steps as u32 + 1 + window.episode);
        }
        let (real, padding) = self.transitions(window);
        rows.extend(window.start..window.start + real as u32);
        rows.extend(std::iter::repeat_n(steps as u32, padding));
        let positions = self.window_transitions * self.discretizer.dims();
        WindowRows {
            rows,
            end: self.counted(window).end.min(positions) as u32,
            hides_values: self.hides_values(window),
        }
    }

    /// How many transitions of a window, after its goal, are in the data and past the episode's end.
    fn transitions(&self, window: Window) -> (usize, usize) {
        let goal = usize::from(self.goal == GoalPrefix::FinalObservation);
        let transitions = self.window_transitions - goal;
        let real = ((window.episode_end - window.start) as usize).min(transitions);
        (real, transitions - real)
    }

    /// Whether the values of a window are unknown.
    fn hides_values(&self, window: Window) -> bool {
        !window.complete && self.value == ValueColumn::Return
    }

    /// Positions of the goal: the loss does not count them.
    fn first_counted(&self) -> usize {
        match self.goal {
            GoalPrefix::None => 0,
            GoalPrefix::FinalObservation => self.discretizer.dims(),
        }
    }

    /// The positions of a window that the loss counts.
    fn counted(&self, window: Window) -> Range<usize> {
        let dims = self.discretizer.dims();
        let first_counted = self.first_counted();
        let (real, _) = self.transitions(window);
        let step_in_episode = (window.start - window.episode_start) as usize;
        let end = if window.complete {
            (self.max_path_steps - step_in_episode) * dims
        } else {
            // The last token has no target: what follows is unknown.
            real * dims - 1
        };
        first_counted..first_counted + end
    }
}

fn check(data: &Dataset, options: &TokenOptions) -> Result<()> {
    if options.value == ValueColumn::Return {
        data.require_returns(
            "the Trajectory Transformer's value (without it: `value = \"none\"`)",
        )?;
    }
    check_options(options)?;
    if u32::try_from(data.steps()).is_err() {
        return Err(Error::Unsuitable(format!(
            "the data has {} steps; windows are indexed up to 2^32",
            data.steps()
        )));
    }
    Ok(())
}

fn check_options(options: &TokenOptions) -> Result<()> {
    if options.bins == 0 || options.bins >= usize::from(u16::MAX) {
        return Err(Error::config("bins", options.bins, "1 to 65534"));
    }
    if options.window_transitions == 0 {
        return Err(Error::config("window_transitions", 0, "at least 1"));
    }
    if !(0.0..=1.0).contains(&options.discount) {
        return Err(Error::config("discount", options.discount, "0 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discretizer::DiscretizerKind;
    use trajformer_core::dataset::Episode;

    #[derive(PartialEq)]
    enum End {
        Terminated,
        Unknown,
    }

    /// Episodes of three steps each, with rewards 1, 2, 3, 4, ...; the last one may have no end.
    fn data(episodes: usize, last: End) -> Dataset {
        let steps = 3 * episodes;
        let numbers: Vec<f32> = (1..=steps).map(|step| step as f32).collect();
        let episode = |index: usize| Episode {
            terminated: index + 1 < episodes || last == End::Terminated,
            ..Episode::new(3 * index, 3)
        };
        Dataset {
            observations: numbers.clone(),
            actions: numbers.clone(),
            rewards: numbers,
            episodes: (0..episodes).map(episode).collect(),
            sources: vec!["mine.npz".into()],
            ..Dataset::blank(1, 1)
        }
    }

    fn options() -> TokenOptions {
        TokenOptions {
            bins: 20,
            discretizer: DiscretizerKind::Uniform,
            window_transitions: 3,
            discount: 1.0,
            termination_penalty: None,
            max_path_steps: Some(5),
            value: ValueColumn::Return,
            goal: GoalPrefix::None,
        }
    }

    /// The masks of all windows.
    fn masks(data: &Dataset, options: &TokenOptions) -> Vec<Vec<f32>> {
        let sequences = TokenSequences::new(data, options).expect("sequences");
        let all: Vec<usize> = (0..sequences.len()).collect();
        let batch = sequences.batch(&all, &Device::Cpu).expect("a batch");
        batch.mask.to_vec2().expect("rows")
    }

    #[test]
    fn an_episode_without_an_end_trains_neither_values_nor_what_follows_it() {
        // Two windows an episode, of 3 and 2 real transitions of 4 tokens: 11 positions, each asked
        // for the next token; positions 2, 6 and 10 are asked for values.
        let complete = masks(&data(2, End::Terminated), &options());
        assert!(complete.iter().flatten().all(|&counts| counts == 1.0));
        let open = masks(&data(2, End::Unknown), &options());
        assert_eq!(open[..2], complete[..2], "the complete episode");
        let without_values = [1., 1., 0., 1., 1., 1., 0., 1., 1., 1., 0.];
        assert_eq!(open[2], without_values);
        let two_real = [1., 1., 0., 1., 1., 1., 0., 0., 0., 0., 0.];
        assert_eq!(open[3], two_real);
        // Where values stand for nothing they are known.
        let likelihood = TokenOptions {
            value: ValueColumn::None,
            ..options()
        };
        let open = masks(&data(2, End::Unknown), &likelihood);
        assert_eq!(open[2], [1.0; 11]);
        assert_eq!(open[3], [1., 1., 1., 1., 1., 1., 1., 0., 0., 0., 0.]);
    }

    #[test]
    fn unknown_values_move_no_threshold() {
        let fitted = |data: &Dataset| {
            let sequences = TokenSequences::new(data, &options()).expect("sequences");
            let discretizer = sequences.discretizer();
            [0, 19].map(|token| discretizer.decode(token, 3))
        };
        // Returns after each step of the first episode: 5, 3, 0. Those of the second would be 11, 6, 0.
        let (alone, with_open) = (
            fitted(&data(1, End::Terminated)),
            fitted(&data(2, End::Unknown)),
        );
        assert_eq!(alone, with_open);
        assert_ne!(alone, fitted(&data(2, End::Terminated)));
    }

    #[test]
    fn other_episodes_have_the_thresholds_of_the_first_and_may_be_longer() {
        let sequences = TokenSequences::new(&data(2, End::Terminated), &options()).expect("first");
        let long = Dataset {
            episodes: vec![Episode {
                terminated: true,
                ..Episode::new(0, 9)
            }],
            ..data(3, End::Terminated)
        };
        let others = sequences.of_others(&long, &options()).expect("others");
        assert_eq!(others.len(), 8);
        let edges = |of: &TokenSequences| [0, 19].map(|token| of.discretizer().decode(token, 2));
        assert_eq!(edges(&others), edges(&sequences));
        let own = TokenOptions {
            max_path_steps: None,
            ..options()
        };
        let own = TokenSequences::new(&long, &own).expect("with its own");
        assert_ne!(edges(&own), edges(&sequences));
    }

    #[test]
    fn values_need_a_complete_episode_and_the_error_names_the_file() {
        let open = data(1, End::Unknown);
        let error = TokenSequences::new(&open, &options()).expect_err("no returns");
        let error = error.to_string();
        assert!(
            error.contains("mine.npz") && error.contains("no episode is complete"),
            "{error}"
        );
        let likelihood = TokenOptions {
            value: ValueColumn::None,
            ..options()
        };
        assert!(TokenSequences::new(&open, &likelihood).is_ok());
    }
}
