//! Where the episodes of flat arrays end: what a file marks, limits, starts and lengths.

use std::path::Path;

use crate::formats::arrays::{ArrayFile, check_column, find, read_counts, read_flags};
use crate::formats::limits::d4rl_limit;
use crate::formats::options::LoadOptions;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::error::{Error, Result};

/// Name of the array that says how the rows are parts of episodes: 1 where an episode begins, 2 where a part begins
/// whose episode began elsewhere, else 0. Not D4RL's, but ours: written where ends alone don't say it.
pub(super) const PARTS: &str = "episode_parts";

/// Names of the arrays with the lowest and highest action of every dimension: ours too.
pub(super) const BOUNDS: [&str; 2] = ["action_low", "action_high"];

/// What a file marks: ends by the task, ends by a limit (steps each), where it has the arrays.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    pub terminated: Option<Vec<bool>>,
    pub truncated: Option<Vec<bool>>,
    /// The array that says which ends are those of a limit, where there is one.
    limit_key: &'static str,
}

impl Marks {
    /// Reads `terminals` or `terminations`, `timeouts` or `truncations`, and `dones` where it says what one of them
    /// would.
    ///
    /// # Errors
    /// If an array is of another length or holds other numbers than 0 and 1; if two names of one thing disagree; if
    /// there is `dones` and nothing says which of these ends are the task's own.
    pub fn read(file: &mut dyn ArrayFile, steps: usize) -> Result<Self> {
        let terminated = agreeing(file, ["terminals", "terminations"], steps)?;
        let truncated = agreeing(file, ["timeouts", "truncations"], steps)?;
        let mut marks = Self {
            terminated: terminated.map(|(_, flags)| flags),
            limit_key: truncated.as_ref().map_or("dones", |(name, _)| name),
            truncated: truncated.map(|(_, flags)| flags),
        };
        let Some(info) = find(file, &["dones"])? else {
            return Ok(marks);
        };
        let dones = read_flags(file, &info, steps)?;
        let within = |inner: &[bool]| {
            inner
                .iter()
                .zip(&dones)
                .all(|(&inner, &done)| !inner || done)
        };
        let without = |inner: &[bool]| -> Vec<bool> {
            dones
                .iter()
                .zip(inner)
                .map(|(&done, &inner)| done && !inner)
                .collect()
        };
        let meaning = match (&marks.terminated, &marks.truncated) {
            (Some(terminated), None) if within(terminated) => {
                let others = without(terminated);
                marks.truncated = others.contains(&true).then_some(others);
                return Ok(marks);
            }
            (None, Some(truncated)) if within(truncated) => {
                marks.terminated = Some(without(truncated));
                return Ok(marks);
            }
            (None, Some(truncated)) if !truncated.iter().zip(&dones).any(|(&a, &b)| a && b) => {
                marks.terminated = Some(dones);
                return Ok(marks);
            }
            (Some(terminated), Some(truncated)) => {
                let both = |step: &usize| terminated[*step] || truncated[*step];
                let Some(step) = (0..steps).find(|step| dones[*step] && !both(step)) else {
                    return Ok(marks);
                };
                let problem = format!(
                    "array `{}` ends an episode in row {step}, where neither `terminals` nor `timeouts` does: mark it in the \
                     one that it belongs to, or leave `{}` out",
                    info.name, info.name
                );
                return Err(Error::data(file.path(), problem));
            }
            (Some(_), None) => "contradicts `terminals`, some of whose ends it leaves out",
            (None, Some(_)) => "holds some of the `timeouts` and not others",
            (None, None) => {
                "does not say whether the task ended an episode (nothing comes after) or a time limit did (the future \
                 is unknown)"
            }
        };
        let problem = format!(
            "array `{}` {meaning}: save `terminals` for the first kind of ends and `timeouts` for the second",
            info.name
        );
        Err(Error::data(file.path(), problem))
    }

    fn at(flags: &Option<Vec<bool>>, step: usize) -> bool {
        flags.as_ref().is_some_and(|flags| flags[step])
    }

    /// Terminated and truncated, where the step is an end.
    pub fn end(&self, step: usize) -> Option<(bool, bool)> {
        let ends = (
            Self::at(&self.terminated, step),
            Self::at(&self.truncated, step),
        );
        (ends.0 || ends.1).then_some(ends)
    }
}

/// The flags under either of two names, which must not disagree, and the name.
fn agreeing(
    file: &mut dyn ArrayFile,
    names: [&'static str; 2],
    steps: usize,
) -> Result<Option<(&'static str, Vec<bool>)>> {
    let mut found: Option<(&str, Vec<bool>)> = None;
    for name in names {
        let Some(info) = file.describe(name)? else {
            continue;
        };
        let flags = read_flags(file, &info, steps)?;
        if let Some((_, other)) = &found
            && let Some(row) = (0..steps).find(|&row| other[row] != flags[row])
        {
            let problem = format!(
                "array `{}` says otherwise than `{}` in row {row}: keep one of them",
                names[1], names[0]
            );
            return Err(Error::data(file.path(), problem));
        }
        found = Some((found.map_or(name, |(first, _)| first), flags));
    }
    Ok(found)
}

/// Where a limit is taken from that nobody named.
pub(super) const USUAL: &str = "the limit of D4RL's locomotion tasks";

/// How a data set is cut into episodes, from what a file marks.
pub(super) struct Cutting<'a> {
    pub marks: Marks,
    /// Which steps are the last of an episode by other arrays than the marks.
    pub lasts: Option<Lasts>,
    pub options: &'a LoadOptions,
    /// Limit of episodes that the file marks no time-outs for, where neither options nor names say one.
    pub default_limit: Option<usize>,
    /// The environment that the file names.
    pub env_name: Option<String>,
}

/// The last steps of episodes by an array that says where episodes begin, or how long they are.
pub(super) struct Lasts {
    /// The array's name.
    source: &'static str,
    /// Which steps (steps).
    flags: Vec<bool>,
    /// The first row is not the first step of its episode.
    begins_inside: bool,
}

impl Lasts {
    pub fn at(&self, step: usize) -> bool {
        self.flags[step]
    }

    /// How many rows lie before the first start: parts of an episode that began before the file does.
    pub fn rows_without_start(&self) -> usize {
        let first_episode = self.flags.iter().position(|&last| last);
        let steps = first_episode.map_or(self.flags.len(), |last| last + 1);
        if self.begins_inside { steps } else { 0 }
    }
}

impl Cutting<'_> {
    /// The arrays that say where episodes end by a limit, if there are any.
    fn own_limits(&self) -> Option<&'static str> {
        match &self.lasts {
            Some(lasts) => Some(lasts.source),
            None => self.marks.truncated.as_ref().map(|_| self.marks.limit_key),
        }
    }

    /// What to say about a limit that is asked for where the file has its own.
    pub fn unused_limit(&self, data: &Dataset, path: &Path) -> Option<String> {
        unused_limit(data, path, self.options, self.own_limits()?)
    }

    /// The limit to cut at, and what it is taken from; `None` where the file marks its time-outs.
    pub fn limit(&self, path: &Path) -> Option<(usize, String)> {
        if self.own_limits().is_some() {
            return None;
        }
        let chosen = self.options.max_episode_steps;
        let file = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let named = || {
            let of = |name: &Option<String>| {
                let name = name.as_deref()?;
                Some((d4rl_limit(name)?, format!("D4RL's limit for `{name}`")))
            };
            of(&self.env_name).or_else(|| of(&file))
        };
        let usual = |limit| (limit, USUAL.to_owned());
        chosen
            .map(|limit| (limit, "`data.max_episode_steps`".to_owned()))
            .or_else(named)
            .or_else(|| self.default_limit.map(usual))
    }
}

/// What to say about `data.max_episode_steps` of a file that marks its own ends, in the array `key`.
pub(super) fn unused_limit(
    data: &Dataset,
    path: &Path,
    options: &LoadOptions,
    key: &str,
) -> Option<String> {
    let limit = options.max_episode_steps?;
    let longer = data.episodes.iter().filter(|e| e.steps > limit).count();
    Some(format!(
        "{}: `data.max_episode_steps` is {limit}, but is not used: the file says itself where \
         episodes end (`{key}`); {longer} of its {} episodes are longer",
        path.display(),
        data.episodes.len()
    ))
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
                terminated,
                truncated,
                ..Episode::new(start, steps)
            });
            start = step + 1;
        }
    }
    episodes
}

/// How the rows are parts of episodes, where the file says so: see [`PARTS`].
pub(super) fn parts(file: &mut dyn ArrayFile, steps: usize) -> Result<Option<Vec<u8>>> {
    let Some(info) = file.describe(PARTS)? else {
        return Ok(None);
    };
    check_column(file.path(), &info, steps)?;
    let values = read_counts(file, &info)?;
    if let Some(row) = values.iter().position(|&value| value > 2) {
        let problem = format!(
            "array `{PARTS}`, row {row}: {}, expected 0, 1 or 2",
            values[row]
        );
        return Err(Error::data(file.path(), problem));
    }
    Ok(Some(values.into_iter().map(|value| value as u8).collect()))
}

/// Which steps end an episode because it has `limit` steps; one that the task ended (`ended`) does not count, and
/// `stop` begins anew.
pub(super) fn at_limit(
    steps: usize,
    limit: usize,
    ended: impl Fn(usize) -> bool,
    stop: impl Fn(usize) -> bool,
) -> Vec<bool> {
    let mut length = 0;
    let at_limit = |step: usize| {
        length += 1;
        let limited = length == limit && !ended(step);
        if limited || stop(step) {
            length = 0;
        }
        limited
    };
    (0..steps).map(at_limit).collect()
}

/// How an npz file is cut; see [`super::npz`] for the rules.
pub(super) fn npz_cutting<'a>(
    file: &mut dyn ArrayFile,
    steps: usize,
    options: &'a LoadOptions,
) -> Result<Cutting<'a>> {
    let marks = Marks::read(file, steps)?;
    let lasts = lasts(file, steps, &marks)?;
    let unmarked = marks.terminated.is_none() && marks.truncated.is_none();
    if unmarked && lasts.is_none() && file.describe(PARTS)?.is_none() {
        return Err(Error::data(
            file.path(),
            "nothing says where episodes end: add `terminations` and `truncations` (or \
             `terminals`, `timeouts`), `episode_starts` or `episode_lengths`",
        ));
    }
    Ok(Cutting {
        marks,
        lasts,
        options,
        default_limit: None,
        env_name: None,
    })
}

/// Which steps are the last of their episode by other arrays than the marks, if the file has one.
///
/// # Errors
/// If it contradicts them.
pub(super) fn lasts(
    file: &mut dyn ArrayFile,
    steps: usize,
    marks: &Marks,
) -> Result<Option<Lasts>> {
    let lasts = last_steps(file, steps)?;
    if let Some(lasts) = &lasts {
        let contradicts =
            |step: &usize| marks.end(*step).is_some() && !lasts.at(*step) && step + 1 < steps;
        if let Some(step) = (0..steps).find(contradicts) {
            let source = lasts.source;
            let problem =
                format!("row {step} is marked as an episode's end, but `{source}` goes on there");
            return Err(Error::data(file.path(), problem));
        }
    }
    Ok(lasts)
}

/// Which steps are the last of their episode by `episode_lengths` or `episode_starts`.
fn last_steps(file: &mut dyn ArrayFile, steps: usize) -> Result<Option<Lasts>> {
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
        if let Some(info) = file.describe("episode_starts")? {
            let starts = read_flags(file, &info, steps)?;
            let begins = |row: usize| row == 0 || lasts[row - 1];
            if let Some(row) = (0..steps).find(|&row| starts[row] != begins(row)) {
                let problem = format!(
                    "array `episode_starts` says otherwise than `episode_lengths` in row {row}: keep one of them"
                );
                return Err(Error::data(file.path(), problem));
            }
        }
        return Ok(Some(Lasts {
            source: "episode_lengths",
            flags: lasts,
            begins_inside: false,
        }));
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
    Ok(Some(Lasts {
        source: "episode_starts",
        flags: lasts,
        begins_inside: !starts[0],
    }))
}

/// [`PARTS`] of a data set; `None` where ends say it all.
pub(super) fn episode_parts(data: &Dataset) -> Option<Vec<u8>> {
    let (_, others) = data.episodes.split_last()?;
    let open = others.iter().any(|episode| !episode.has_end());
    if !open && data.episodes.iter().all(|episode| !episode.fragment) {
        return None;
    }
    let mut parts = vec![0; data.steps()];
    for episode in &data.episodes {
        parts[episode.start] = 1 + u8::from(episode.fragment);
    }
    Some(parts)
}
