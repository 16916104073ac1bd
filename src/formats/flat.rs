//! Data sets stored as flat arrays, one row a step (D4RL HDF5 and npz): the arrays, and where the
//! episodes end.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::formats::arrays::{ArrayFile, Kind, check_column, check_rows, find, read_f32, require};
use crate::formats::bounds::{Bounds, check_bounds};
use crate::formats::ends;
use crate::formats::ends::{Cutting, cut};
use crate::formats::options::LoadOptions;
use crate::formats::successors;
use crate::formats::vectors::Vectors;
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::error::{Error, Result};

/// Names of the array of observations.
const OBSERVATIONS: [&str; 2] = ["observations", "obs"];

/// Names of the array of observations after each step.
const NEXT_OBSERVATIONS: [&str; 2] = ["next_observations", "next_obs"];

/// Name of the array with one text per episode.
pub(super) const INSTRUCTIONS: &str = "instructions";

/// Name of the array with one number: how many choices an action is one of.
pub(super) const CHOICES: &str = "action_choices";

/// More choices than this are not a discrete action but something else.
pub(super) const MOST_CHOICES: usize = 1 << 20;

/// Whole numbers above this are hardly meant as choices where they are saved as real numbers.
const MOST_MEANT: f32 = 64.0;

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
pub(super) fn read_steps(file: &mut dyn ArrayFile, keys: &[String]) -> Result<Steps> {
    let Some(vectors) = Vectors::find(file, &OBSERVATIONS, keys)? else {
        return Err(missing(file, &OBSERVATIONS));
    };
    let actions = require(file, &["actions"])?;
    let rewards = require(file, &["rewards"])?;
    let steps = vectors.rows();
    if steps == 0 {
        let problem = format!("array `{}` has no rows: there are no steps", vectors.name());
        return Err(Error::data(file.path(), problem));
    }
    check_rows(file.path(), &actions, steps, "one per step")?;
    check_column(file.path(), &rewards, steps)?;
    let declared = declared_choices(file)?;
    let discrete = actions.kind != Kind::Float || declared.is_some();
    if actions.shape.len() > 2 || (actions.shape.len() == 2 && actions.width() == 0) {
        let shape = &actions.shape;
        let problem = format!("array `actions` has shape {shape:?}, expected (steps, action_dim)");
        return Err(Error::data(file.path(), problem));
    }
    if discrete && actions.width() != 1 {
        let width = actions.width();
        let kind = if declared.is_some() {
            "choices"
        } else {
            "integers"
        };
        let problem = format!(
            "array `actions` holds {width} {kind} per step: several discrete choices at once are \
             not supported; save one choice per step, or floats if they are real numbers"
        );
        return Err(Error::data(file.path(), problem));
    }
    // The largest array first, while nothing else takes memory.
    let (observation_dim, action_dim) = (vectors.width(), actions.width());
    let mut observations = Vec::new();
    vectors.read_into(file, &mut observations)?;
    let action_values = read_f32(file, &actions)?;
    let rewards = read_f32(file, &rewards)?;
    let action_kind = if discrete {
        let seen = count_choices(file, &actions.name, &action_values)?;
        if let Some(count) = declared.filter(|&count| count < seen) {
            let problem = format!(
                "array `actions` holds the choice {}, but `{CHOICES}` says {count} choices, counted from 0",
                seen - 1
            );
            return Err(Error::data(file.path(), problem));
        }
        ActionKind::Discrete {
            count: declared.unwrap_or(seen),
        }
    } else {
        ActionKind::Continuous
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

/// How many choices the file says there are, if it does: then actions are choices, whatever their type.
fn declared_choices(file: &mut dyn ArrayFile) -> Result<Option<usize>> {
    let Some(info) = file.describe(CHOICES)? else {
        return Ok(None);
    };
    let mut values = Vec::new();
    file.visit(&info, &mut |_, window| {
        values.extend_from_slice(window);
        Ok(())
    })?;
    match values[..] {
        [count] if count.fract() == 0.0 && (1.0..=MOST_CHOICES as f64).contains(&count) => {
            Ok(Some(count as usize))
        }
        _ => {
            let problem = format!(
                "array `{CHOICES}` is {values:?}, expected one whole number in 1..={MOST_CHOICES}: how many choices an action is one of"
            );
            Err(Error::data(file.path(), problem))
        }
    }
}

/// How many choices: one more than the largest.
pub(super) fn count_choices(
    file: &mut dyn ArrayFile,
    name: &str,
    actions: &[f32],
) -> Result<usize> {
    let mut count = 0;
    for (row, &action) in actions.iter().enumerate() {
        if !(0.0..MOST_CHOICES as f32).contains(&action) || action.fract() != 0.0 {
            let problem = format!(
                "array `{name}`, row {row}: {action}, expected a choice in 0..{MOST_CHOICES}; save \
                 actions as floats if they are real numbers"
            );
            return Err(Error::data(file.path(), problem));
        }
        count = count.max(action as usize + 1);
    }
    Ok(count)
}

/// What is missing under all of `names`.
fn missing(file: &mut dyn ArrayFile, names: &[&str]) -> Error {
    match require(file, names) {
        Err(error) => error,
        Ok(info) => Error::data(file.path(), format!("array `{}` is missing", info.name)),
    }
}

/// A data set from steps and what is known about episodes, with final observations from `next_observations`.
///
/// # Errors
/// Names the array, and the row where there is one.
pub(super) fn assemble(
    file: &mut dyn ArrayFile,
    steps: Steps,
    cutting: &Cutting<'_>,
) -> Result<Dataset> {
    let (path, count) = (file.path().to_path_buf(), steps.count());
    let next = next_vectors(file, &steps, cutting.options)?;
    let parts = ends::parts(file, count)?;
    let begins = |step: usize| parts.as_ref().is_some_and(|parts| parts[step] != 0);
    let ended = |step: usize| -> Option<(bool, bool)> {
        let by_lasts = cutting.lasts.as_ref().is_some_and(|lasts| lasts.at(step));
        // It ended, and nothing says why: the future is unknown, not absent.
        cutting
            .marks
            .end(step)
            .or(by_lasts.then_some((false, true)))
    };
    let successors = match &next {
        Some(next) => successors::compare(file, next, &steps.observations, &|step| {
            ended(step).is_some()
        })?,
        None => successors::Successors::as_they_lie(count),
    };
    let explained = |step: usize| step + 1 < count && begins(step + 1);
    let mut warnings = twice_there(file)?;
    let mut limited = vec![false; count];
    if let Some((limit, source)) = cutting.limit(&path) {
        let stop =
            |step: usize| ended(step).is_some() || successors.breaks[step] || explained(step);
        limited = ends::at_limit(count, limit, |step| ended(step).is_some(), stop);
        // What followed a step shows whether its episode went on, where nobody named a limit.
        if next.is_some() && !successors.empty && source == ends::USUAL {
            let shown = limited.iter_mut().zip(&successors.breaks).take(count - 1);
            shown.for_each(|(limited, apart)| *limited &= apart);
        }
        if next.is_none() || source != ends::USUAL || limited.contains(&true) {
            warnings.push(format!(
                "{}: there are no `timeouts`: episodes that did not terminate are cut after {limit} steps ({source}); \
                 `data.max_episode_steps` says otherwise",
                path.display()
            ));
        }
    } else if cutting.marks.truncated.is_none() && cutting.lasts.is_none() && next.is_none() {
        warnings.push(format!(
            "{}: there are no `timeouts`: only `terminals` end an episode; if a time limit did too, set \
             `data.max_episode_steps`",
            path.display()
        ));
    }
    let episodes = cut(count, |step| {
        let breaks = successors.breaks[step] || explained(step);
        ended(step)
            .or(limited[step].then_some((false, true)))
            .or(breaks.then_some((false, false)))
    });
    warnings.extend(like_choices(&steps, &path));
    let mut data = dataset(file.path(), steps, episodes);
    data.warnings = warnings;
    if let Some(next) = next {
        attach_finals(file, &next, &mut data, &successors)?;
    }
    let cuts = successors::mark_fragments(&mut data, &successors, &explained);
    if let Some(parts) = &parts {
        for episode in &mut data.episodes {
            episode.fragment = parts[episode.start] != 1;
        }
    }
    data.warnings
        .extend(successors::warning(&data, &path, cuts));
    complete(file, &mut data, cutting)?;
    Ok(data)
}

/// What to say of real numbers that may be meant as choices: whole ones, none below 0 or above a few.
fn like_choices(steps: &Steps, path: &Path) -> Option<String> {
    let is_choice = |&action: &f32| action >= 0.0 && action.fract() == 0.0;
    let actions = steps.actions.iter().copied();
    let (least, most) = (
        actions.clone().fold(f32::INFINITY, f32::min),
        actions.fold(0.0, f32::max),
    );
    let is_like = steps.action_kind == ActionKind::Continuous
        && steps.action_dim == 1
        && (1.0..=MOST_MEANT).contains(&most)
        && steps.actions.iter().all(is_choice);
    is_like.then(|| {
        let range = if least < most {
            format!("a whole number from {least} to {most}")
        } else {
            format!("the whole number {most}")
        };
        format!(
            "{}: every action is {range}, and they are taken for real numbers: if they are choices, which are counted from 0, save `actions` as \
             integers, or say how many there are in `{CHOICES}`",
            path.display()
        )
    })
}

/// What is known beside rows and ends.
fn complete(file: &mut dyn ArrayFile, data: &mut Dataset, cutting: &Cutting<'_>) -> Result<()> {
    mark_begun_before(data, cutting, file.path());
    data.warnings
        .extend(cutting.unused_limit(data, file.path()));
    data.env_name.clone_from(&cutting.env_name);
    data.action_bounds = bounds(file, data)?;
    Ok(())
}

/// What to say where one thing is there under two names.
fn twice_there(file: &mut dyn ArrayFile) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for [used, other] in [OBSERVATIONS, NEXT_OBSERVATIONS] {
        // A dictionary is there too.
        let mut there = |name: &str| {
            Ok::<_, Error>(file.keys(name)?.is_some() || find(file, &[name])?.is_some())
        };
        if there(used)? && there(other)? {
            let path = file.path().display();
            warnings.push(format!(
                "{path}: there are `{used}` and `{other}`: only `{used}` are used"
            ));
        }
    }
    Ok(warnings)
}

/// Marks the first episode as a part of one, where the file says that its start is missing.
fn mark_begun_before(data: &mut Dataset, cutting: &Cutting<'_>, path: &Path) {
    let rows = cutting.lasts.as_ref().map_or(0, |l| l.rows_without_start());
    let Some(first) = data.episodes.first_mut().filter(|_| rows > 0) else {
        return;
    };
    first.fragment = true;
    data.warnings.push(format!(
        "{}: `episode_starts` does not mark row 0: the first {rows} rows belong to an episode that began before them, \
         and count in steps, not in returns",
        path.display()
    ));
}

/// The arrays of the observation after each step, if there are any that fit the observations.
fn next_vectors(
    file: &mut dyn ArrayFile,
    steps: &Steps,
    options: &LoadOptions,
) -> Result<Option<Vectors>> {
    let keys = &options.observation_keys;
    let Some(next) = Vectors::find(file, &NEXT_OBSERVATIONS, keys)? else {
        return Ok(None);
    };
    if (next.rows(), next.width()) != (steps.count(), steps.observation_dim) {
        let (name, found) = (next.name(), (next.rows(), next.width()));
        let expected = (steps.count(), steps.observation_dim);
        let problem = format!(
            "array `{name}` has shape {found:?}, expected {expected:?} like the observations: one row per step"
        );
        return Err(Error::data(file.path(), problem));
    }
    Ok(Some(next))
}

/// Gives each episode the observation after its last step.
fn attach_finals(
    file: &mut dyn ArrayFile,
    next: &Vectors,
    data: &mut Dataset,
    successors: &successors::Successors,
) -> Result<()> {
    let path = file.path().display().to_string();
    if successors.empty {
        let warning = format!(
            "{path}: `next_observations` hold nothing, or the same in every row: they are not used"
        );
        data.warnings.push(warning);
        return Ok(());
    }
    let ends: Vec<usize> = data.episodes.iter().map(|e| e.range().end - 1).collect();
    let finals = next.rows_at(file, &ends)?;
    for (episode, last) in data.episodes.iter_mut().zip(finals) {
        episode.final_observation = last;
    }
    Ok(())
}

/// Lowest and highest actions, where the file says them; what can't be a range is warned of.
fn bounds(file: &mut dyn ArrayFile, data: &mut Dataset) -> Result<Option<Bounds>> {
    if data.action_kind != ActionKind::Continuous {
        return Ok(None);
    }
    let mut read = |name: &str| -> Result<Option<Vec<f64>>> {
        let Some(info) = file.describe(name)? else {
            return Ok(None);
        };
        check_rows(file.path(), &info, data.action_dim, "one per action")?;
        if info.width() != 1 {
            let (shape, dim) = (&info.shape, data.action_dim);
            let problem = format!("array `{name}` has shape {shape:?}, expected ({dim},)");
            return Err(Error::data(file.path(), problem));
        }
        let mut values = Vec::with_capacity(data.action_dim);
        file.visit(&info, &mut |_, window| {
            values.extend_from_slice(window);
            Ok(())
        })?;
        Ok(Some(values))
    };
    let [low, high] = ends::BOUNDS;
    let sides = (read(low)?, read(high)?);
    let (bounds, warning) = check_bounds((low, high), sides, data.action_dim);
    let warning = warning.map(|text| format!("{}: {text}", file.path().display()));
    data.warnings.extend(warning);
    Ok(bounds)
}

fn dataset(path: &Path, steps: Steps, episodes: Vec<Episode>) -> Dataset {
    Dataset {
        observation_dim: steps.observation_dim,
        action_dim: steps.action_dim,
        action_kind: steps.action_kind,
        observations: steps.observations,
        actions: steps.actions,
        rewards: steps.rewards,
        episodes,
        env_name: None,
        reference_returns: None,
        action_bounds: None,
        sources: vec![path.to_path_buf()],
        warnings: Vec::new(),
    }
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

/// The observation after each step, row by row, NaN where it is not known; `None` if it is for no episode.
pub(super) fn next_observations(data: &Dataset) -> Option<impl Iterator<Item = Cow<'_, [f32]>>> {
    data.episodes
        .iter()
        .find(|e| e.final_observation.is_some())?;
    Some(data.episodes.iter().flat_map(move |episode| {
        let following = (episode.start + 1..episode.start + episode.steps)
            .map(move |step| Cow::Borrowed(data.observation(step)));
        let last = match &episode.final_observation {
            Some(last) => Cow::Borrowed(&**last),
            None => Cow::Owned(vec![f32::NAN; data.observation_dim]),
        };
        following.chain(std::iter::once(last))
    }))
}
