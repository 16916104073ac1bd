//! [`Info`]: what is in a data set, at a glance.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use trajformer_core::dataset::Dataset;
use trajformer_core::dataset_checks::range;

/// A summary of a data set; the names of the fields are stable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    /// The files it came from.
    pub sources: Vec<String>,
    /// The environment that the files name.
    pub env_name: Option<String>,
    /// Whole episodes: those that returns and lengths are about.
    pub episodes: usize,
    /// Episodes that stop without an end, usually where the file stops, or whose first steps are missing: they count in
    /// steps only.
    pub unfinished_episodes: usize,
    /// Steps of all episodes.
    pub steps: usize,
    /// Numbers in an observation.
    pub observation_dim: usize,
    /// Numbers in an action.
    pub action_dim: usize,
    /// How many choices, if actions are discrete.
    pub action_choices: Option<usize>,
    /// In how many steps each choice was taken, if actions are discrete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_counts: Option<Vec<usize>>,
    /// Mean return of the complete episodes, undiscounted; `None` if there are none.
    pub return_mean: Option<f64>,
    /// Standard deviation of the returns (over all of them, not a sample's).
    pub return_std: Option<f64>,
    /// Lowest return.
    pub return_min: Option<f64>,
    /// Highest return.
    pub return_max: Option<f64>,
    /// Episodes that the environment ended.
    pub terminated: usize,
    /// Episodes that a limit ended.
    pub truncated: usize,
    /// Mean length of the complete episodes, in steps.
    pub length_mean: Option<f64>,
    /// Steps of the shortest complete episode.
    pub length_min: Option<usize>,
    /// Steps of the longest complete episode.
    pub length_max: Option<usize>,
    /// Lowest and highest action of every dimension that the files allow; `None` where they set no bound.
    pub action_bounds: Option<Vec<[Option<f32>; 2]>>,
    /// Lowest number in any action.
    pub action_min: f32,
    /// Highest number in any action.
    pub action_max: f32,
    /// Lowest reward.
    pub reward_min: f32,
    /// Highest reward.
    pub reward_max: f32,
    /// Reference returns (random, expert) that the files carry.
    pub reference_returns: Option<(f64, f64)>,
    /// Distinct instructions, and how many episodes have each.
    pub instructions: Vec<(String, usize)>,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// Summarizes a data set.
pub fn info(data: &Dataset) -> Info {
    let returns = data.returns();
    let lengths: Vec<usize> = data
        .episodes
        .iter()
        .filter(|e| e.is_complete())
        .map(|e| e.steps)
        .collect();
    let count = returns.len() as f64;
    let some = |value: f64| (!returns.is_empty()).then_some(value);
    let mean = returns.iter().sum::<f64>() / count;
    let variance = returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / count;
    let (action_min, action_max) = range(&data.actions);
    let (reward_min, reward_max) = range(&data.rewards);
    Info {
        sources: data
            .sources
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        env_name: data.env_name.clone(),
        episodes: returns.len(),
        unfinished_episodes: data.episodes.len() - returns.len(),
        steps: data.steps(),
        observation_dim: data.observation_dim,
        action_dim: data.action_dim,
        action_choices: data.action_kind.choices(),
        action_counts: data.action_kind.choices().map(|count| counts(data, count)),
        return_mean: some(mean),
        return_std: some(variance.sqrt()),
        return_min: some(returns.iter().copied().fold(f64::INFINITY, f64::min)),
        return_max: some(returns.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        terminated: data.episodes.iter().filter(|e| e.terminated).count(),
        truncated: data.episodes.iter().filter(|e| e.truncated).count(),
        length_mean: some(lengths.iter().sum::<usize>() as f64 / count),
        length_min: lengths.iter().min().copied(),
        length_max: lengths.iter().max().copied(),
        action_bounds: data.action_bounds.as_ref().map(|(low, high)| {
            let finite = |bound: f32| Some(bound).filter(|bound| bound.is_finite());
            let pairs = low.iter().zip(high);
            pairs
                .map(|(&low, &high)| [finite(low), finite(high)])
                .collect()
        }),
        action_min,
        action_max,
        reward_min,
        reward_max,
        reference_returns: data.reference_returns,
        instructions: instructions(data),
        warnings: data.warnings.clone(),
    }
}

/// In how many steps each of `count` choices was taken.
fn counts(data: &Dataset, count: usize) -> Vec<usize> {
    let mut counts = vec![0; count];
    for &action in &data.actions {
        if let Some(taken) = counts.get_mut(action as usize) {
            *taken += 1;
        }
    }
    counts
}

/// Distinct instructions in order of appearance, with the number of their episodes.
fn instructions(data: &Dataset) -> Vec<(String, usize)> {
    let mut counts = HashMap::new();
    for text in data
        .episodes
        .iter()
        .filter_map(|e| e.instruction.as_deref())
    {
        *counts.entry(text).or_insert(0) += 1;
    }
    let texts = data.instructions();
    texts
        .iter()
        .map(|text| (text.to_string(), counts[&**text]))
        .collect()
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sources.join("\n"))?;
        let whole = self.terminated + self.truncated == self.episodes;
        let unfinished = match (self.unfinished_episodes, whole) {
            (0, _) => String::new(),
            (count, true) => format!(" and {count} without an end"),
            (count, false) => format!(" and {count} that are not whole"),
        };
        let rows = [
            (
                "environment",
                self.env_name.clone().unwrap_or("not named".into()),
            ),
            ("episodes", format!("{}{unfinished}", self.episodes)),
            ("steps", self.steps.to_string()),
            (
                "ends",
                format!(
                    "{} terminated, {} truncated",
                    self.terminated, self.truncated
                ),
            ),
            ("lengths", self.lengths()),
            ("returns", self.returns()),
            (
                "rewards",
                format!("{} to {}", self.reward_min, self.reward_max),
            ),
            ("observations", format!("{} numbers", self.observation_dim)),
            ("actions", self.actions()),
            ("reference returns", self.references()),
            ("instructions", self.instructed()),
        ];
        for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
            writeln!(f, "  {name:<18} {text}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        Ok(())
    }
}

impl Info {
    fn returns(&self) -> String {
        match (
            self.return_mean,
            self.return_std,
            self.return_min,
            self.return_max,
        ) {
            (Some(mean), Some(std), Some(min), Some(max)) => {
                format!("{mean:.2} ± {std:.2} ({min:.2} to {max:.2})")
            }
            _ => "unknown: no episode is whole".into(),
        }
    }

    fn lengths(&self) -> String {
        match (self.length_mean, self.length_min, self.length_max) {
            (Some(mean), Some(min), Some(max)) => format!("{mean:.1} steps ({min} to {max})"),
            _ => String::new(),
        }
    }

    fn actions(&self) -> String {
        match self.action_choices {
            Some(count) => format!(
                "one of {count} choice{}{}",
                if count == 1 { "" } else { "s" },
                self.counted()
            ),
            None => {
                let (low, high) = (self.action_min, self.action_max);
                let bounds = self.bounds();
                format!("{} numbers ({low} to {high}{bounds})", self.action_dim)
            }
        }
    }

    /// In how many steps each choice was taken, of the first few.
    fn counted(&self) -> String {
        const SHOWN: usize = 20;
        let counts = self.action_counts.as_deref().unwrap_or_default();
        let shown = counts.iter().take(SHOWN).enumerate();
        let shown: Vec<String> = shown.map(|(at, steps)| format!("{at}: {steps}")).collect();
        match counts.len() {
            0 => String::new(),
            all if all > SHOWN => format!(" (steps with {}, ...)", shown.join(", ")),
            _ => format!(" (steps with {})", shown.join(", ")),
        }
    }

    /// The range that the files allow, where it is one for all dimensions.
    fn bounds(&self) -> String {
        match self.action_bounds.as_deref() {
            Some([first, rest @ ..]) if rest.iter().all(|pair| pair == first) => {
                let text = |bound: Option<f32>| bound.map_or("any".to_owned(), |b| b.to_string());
                format!(", allowed {} to {}", text(first[0]), text(first[1]))
            }
            Some(_) => ", each with its own bounds".to_owned(),
            None => String::new(),
        }
    }

    /// How many there are, and the first few.
    fn instructed(&self) -> String {
        const SHOWN: usize = 4;
        let episodes: usize = self.instructions.iter().map(|(_, count)| count).sum();
        let first = self.instructions.iter().take(SHOWN);
        let first: Vec<String> = first.map(|(text, _)| format!("\"{text}\"")).collect();
        let more = if self.instructions.len() > SHOWN {
            ", ..."
        } else {
            ""
        };
        match self.instructions.len() {
            0 => String::new(),
            count => format!("{count} in {episodes} episodes: {}{more}", first.join(", ")),
        }
    }

    fn references(&self) -> String {
        let text = |(random, expert)| format!("random {random}, expert {expert}");
        self.reference_returns.map(text).unwrap_or_default()
    }
}
