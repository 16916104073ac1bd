//! Data sets stored as flat arrays, one row a step (D4RL HDF5 and npz): the arrays, and where the
//! episodes end.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::arrays::{
    ArrayFile, ArrayInfo, Kind, check_column, check_rows, find, read_counts, read_f32, read_flags,
    read_rows_at, require,
};
use crate::data::dataset::{ActionKind, Dataset, Episode};
use crate::error::{Error, Result};

/// Name of the array with one text per episode.
pub(super) const INSTRUCTIONS: &str = "instructions";

/// More choices than this are not a discrete action but something else.
pub(super) const MOST_CHOICES: usize = 1 << 20;

/// The steps of a data set, not yet cut into episodes.
pub(super) struct Steps {
    pub observation_dim: usize,
    pub action_dim: usize,
    pub action_kind: ActionKind,
    pub observations: Vec<f32>,
    pub actions: Vec<f32>,
    pub rewards: Vec<f32>,
}

impl Steps {
    pub fn count(&self) -> usize {
        self.rewards.len()
    }
}

/// Reads observations, actions and rewards.
pub(super) fn read_steps(file: &mut dyn ArrayFile) -> Result<Steps> {
    let observations = require(file, &["observations", "obs"])?;
    let actions = require(file, &["actions"])?;
    let rewards = require(file, &["rewards"])?;
    let steps = check_observations(file, &observations)?;
    check_rows(file.path(), &actions, steps, "one per step")?;
    check_column(file.path(), &rewards, steps)?;
    let discrete = actions.kind != Kind::Float;
    if actions.shape.len() > 2 || (actions.shape.len() == 2 && actions.width() == 0) {
        let shape = &actions.shape;
        let problem = format!("array `actions` has shape {shape:?}, expected (steps, action_dim)");
        return Err(Error::data(file.path(), problem));
    }
    if discrete && actions.width() != 1 {
        let width = actions.width();
        let problem = format!(
            "array `actions` holds {width} integers per step: several discrete choices at once are \
             not supported; save one choice per step, or floats if they are real numbers"
        );
        return Err(Error::data(file.path(), problem));
    }
    // The largest array first, while nothing else takes memory.
    let (observation_dim, action_dim) = (observations.width(), actions.width());
    let observations = read_f32(file, &observations)?;
    let action_values = read_f32(file, &actions)?;
    let rewards = read_f32(file, &rewards)?;
    let action_kind = match discrete {
        true => ActionKind::Discrete {
            count: count_choices(file, &action_values)?,
        },
        false => ActionKind::Continuous,
    };
    Ok(Steps {
        observation_dim,
        action_dim,
        action_kind,
        observations,
        actions: action_values,
        rewards,
    })
}

fn check_observations(file: &mut dyn ArrayFile, info: &ArrayInfo) -> Result<usize> {
    let (name, shape) = (&info.name, &info.shape);
    let problem = if shape.len() != 2 {
        let rank = shape.len();
        format!(
            "array `{name}` has rank {rank} (shape {shape:?}), expected (steps, observation_dim)"
        )
    } else if shape[1] == 0 {
        format!("array `{name}` has no columns")
    } else if shape[0] == 0 {
        format!("array `{name}` has no rows: there are no steps")
    } else {
        return Ok(shape[0]);
    };
    Err(Error::data(file.path(), problem))
}

/// How many choices: one more than the largest.
pub(super) fn count_choices(file: &mut dyn ArrayFile, actions: &[f32]) -> Result<usize> {
    let mut count = 0;
    for (row, &action) in actions.iter().enumerate() {
        if !(0.0..MOST_CHOICES as f32).contains(&action) {
            let problem = format!(
                "array `actions`, row {row}: {action}, expected a choice in 0..{MOST_CHOICES}; save \
                 actions as floats if they are real numbers"
            );
            return Err(Error::data(file.path(), problem));
        }
        count = count.max(action as usize + 1);
    }
    Ok(count)
}

/// Cuts `steps` steps where `end` says so; what is left at the end has no end.
pub(super) fn cut(steps: usize, end: impl Fn(usize) -> Option<(bool, bool)>) -> Vec<Episode> {
    let (mut episodes, mut start) = (Vec::new(), 0);
    for step in 0..steps {
        let ended = end(step);
        if ended.is_some() || step + 1 == steps {
            let (terminated, truncated) = ended.unwrap_or((false, false));
            let steps = step + 1 - start;
            episodes.push(Episode {
                start,
                steps,
                terminated,
                truncated,
                final_observation: None,
                instruction: None,
            });
            start = step + 1;
        }
    }
    episodes
}

/// Episodes of an npz file; see [`super::npz`] for the rules.
pub(super) fn npz_episodes(file: &mut dyn ArrayFile, steps: usize) -> Result<Vec<Episode>> {
    let mut flags = |names: &[&str]| -> Result<Option<Vec<bool>>> {
        find(file, names)?
            .map(|info| read_flags(file, &info, steps))
            .transpose()
    };
    let terminated = flags(&["terminations", "terminals"])?;
    let truncated = flags(&["truncations", "timeouts"])?;
    let lasts = last_steps(file, steps)?;
    if terminated.is_none() && truncated.is_none() && lasts.is_none() {
        return Err(Error::data(
            file.path(),
            "nothing says where episodes end: add `terminations` and `truncations` (or \
             `terminals`, `timeouts`), `episode_starts` or `episode_lengths`",
        ));
    }
    let at = |flags: &Option<Vec<bool>>, step: usize| flags.as_ref().is_some_and(|f| f[step]);
    let Some((source, lasts)) = lasts else {
        return Ok(cut(steps, |step| {
            let ends = (at(&terminated, step), at(&truncated, step));
            (ends.0 || ends.1).then_some(ends)
        }));
    };
    let contradicts = |step: &usize| {
        let marked = at(&terminated, *step) || at(&truncated, *step);
        marked && !lasts[*step] && step + 1 < steps
    };
    if let Some(step) = (0..steps).find(contradicts) {
        let problem =
            format!("row {step} is marked as an episode's end, but `{source}` goes on there");
        return Err(Error::data(file.path(), problem));
    }
    Ok(cut(steps, |step| {
        let ends = (at(&terminated, step), at(&truncated, step));
        match (lasts[step], ends.0 || ends.1) {
            (_, true) => Some(ends),
            // It ended, and nothing says why: the future is unknown, not absent.
            (true, false) => Some((false, true)),
            (false, false) => None,
        }
    }))
}

/// Which steps are the last of their episode by `episode_lengths` or `episode_starts`.
fn last_steps(file: &mut dyn ArrayFile, steps: usize) -> Result<Option<(&'static str, Vec<bool>)>> {
    if let Some(info) = file.describe("episode_lengths")? {
        let (lengths, mut lasts, mut end) = (read_counts(file, &info)?, vec![false; steps], 0usize);
        for (row, &length) in lengths.iter().enumerate() {
            end = end.saturating_add(length);
            if length == 0 || end > steps {
                let left = steps - (end - length).min(steps);
                let problem = format!(
                    "array `episode_lengths`, row {row}: {length} steps, where {left} of {steps} \
                     are left"
                );
                return Err(Error::data(file.path(), problem));
            }
            lasts[end - 1] = true;
        }
        if end != steps {
            let problem = format!(
                "array `episode_lengths` adds up to {end} steps, but there are {steps} rows"
            );
            return Err(Error::data(file.path(), problem));
        }
        return Ok(Some(("episode_lengths", lasts)));
    }
    let Some(info) = file.describe("episode_starts")? else {
        return Ok(None);
    };
    let starts = read_flags(file, &info, steps)?;
    let mut lasts = vec![false; steps];
    lasts[..steps - 1].copy_from_slice(&starts[1..]);
    // Whether the last episode is whole can't be seen in its starts; as many returns as episodes
    // say that it is.
    let episodes = lasts.iter().filter(|&&last| last).count() + 1;
    if let Some(returns) = file.describe("episode_returns")? {
        lasts[steps - 1] = returns.rows() == episodes;
    }
    Ok(Some(("episode_starts", lasts)))
}

/// A data set from steps and episodes, with final observations from `next_observations`.
pub(super) fn assemble(
    file: &mut dyn ArrayFile,
    steps: Steps,
    mut episodes: Vec<Episode>,
) -> Result<Dataset> {
    if let Some(info) = file.describe("next_observations")? {
        check_rows(file.path(), &info, steps.count(), "one per step")?;
        if info.shape.len() != 2 || info.width() != steps.observation_dim {
            let (shape, dim) = (&info.shape, steps.observation_dim);
            let problem = format!(
                "array `next_observations` has shape {shape:?}, expected (steps, {dim}) like the \
                 observations"
            );
            return Err(Error::data(file.path(), problem));
        }
        let ends: Vec<usize> = episodes.iter().map(|e| e.start + e.steps - 1).collect();
        let finals = read_rows_at(file, &info, &ends)?;
        for (episode, last) in episodes.iter_mut().zip(finals) {
            episode.final_observation = Some(last);
        }
    }
    Ok(Dataset {
        observation_dim: steps.observation_dim,
        action_dim: steps.action_dim,
        action_kind: steps.action_kind,
        observations: steps.observations,
        actions: steps.actions,
        rewards: steps.rewards,
        episodes,
        env_name: None,
        reference_returns: None,
        sources: vec![file.path().to_path_buf()],
        warnings: Vec::new(),
    })
}

/// Gives each episode its instruction, one text each; an empty one is none.
pub(super) fn instruct(data: &mut Dataset, path: &Path, texts: Vec<String>) -> Result<()> {
    let (found, expected) = (texts.len(), data.episodes.len());
    if found != expected {
        let problem = format!(
            "array `{INSTRUCTIONS}` has {found} texts, expected {expected} (one per episode)"
        );
        return Err(Error::data(path, problem));
    }
    let mut known: HashSet<Arc<str>> = HashSet::new();
    for (episode, text) in data.episodes.iter_mut().zip(texts) {
        if text.trim().is_empty() {
            continue;
        }
        let text = match known.get(text.as_str()) {
            Some(text) => Arc::clone(text),
            None => Arc::from(text),
        };
        known.insert(Arc::clone(&text));
        episode.instruction = Some(text);
    }
    Ok(())
}

/// The instruction of each episode, empty where it has none; `None` if no episode has any.
pub(super) fn instructions(data: &Dataset) -> Option<Vec<&str>> {
    let texts = data
        .episodes
        .iter()
        .map(|episode| episode.instruction.as_deref());
    let any = data
        .episodes
        .iter()
        .any(|episode| episode.instruction.is_some());
    any.then(|| texts.map(Option::unwrap_or_default).collect())
}

/// `terminated` and `truncated` as flags, one per step.
pub(super) fn flags(data: &Dataset) -> (Vec<bool>, Vec<bool>) {
    let mut flags = (vec![false; data.steps()], vec![false; data.steps()]);
    for episode in &data.episodes {
        let last = episode.start + episode.steps - 1;
        flags.0[last] = episode.terminated;
        flags.1[last] = episode.truncated;
    }
    flags
}

/// The observation after each step, row by row; `None` unless it is known for every episode.
pub(super) fn next_observations(data: &Dataset) -> Option<impl Iterator<Item = &[f32]>> {
    if data
        .episodes
        .iter()
        .any(|episode| episode.final_observation.is_none())
    {
        return None;
    }
    Some(data.episodes.iter().flat_map(move |episode| {
        let following = (episode.start + 1..episode.start + episode.steps)
            .map(move |step| data.observation(step));
        following.chain(episode.final_observation.as_deref())
    }))
}
