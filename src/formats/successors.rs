//! Which rows follow each other, by a file's `next_observations`: replay buffers are saved in any order, with rows
//! left out, or with ends that nothing marks. Where the observation after a step is not that of the next row, the
//! episode is cut.

use crate::formats::arrays::ArrayFile;
use crate::formats::vectors::Vectors;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::error::Result;

/// How far apart a number and its copy in single precision may be, as a share of the larger one and of the column's usual
/// size: copies may have been normalized and back.
const SINGLE: f32 = 2e-6;
/// The same where one of the two was rounded to half precision.
const HALF: f32 = 1.0 / 1024.0;

/// What `next_observations` say about the order of the rows.
#[derive(Debug, Default)]
pub(super) struct Successors {
    /// The row after it is not what followed it (steps).
    pub breaks: Vec<bool>,
    /// The array tells nothing: it never changes, or is NaN throughout.
    pub empty: bool,
    /// How far apart two observations may be in every column, and be the same.
    tolerances: Vec<f32>,
}

impl Successors {
    /// Of a file without next observations: every row is followed by the next one.
    pub fn as_they_lie(steps: usize) -> Self {
        Self {
            breaks: vec![false; steps],
            ..Self::default()
        }
    }
}

/// Compares the observation after each step with the next row, but for steps that `ends` marks and the last one. They are
/// the same if they are to rounding, or if one array is cut off at a size that the other exceeds.
///
/// # Errors
/// If a number is infinite.
pub(super) fn compare(
    file: &mut dyn ArrayFile,
    next: &Vectors,
    observations: &[f32],
    ends: &dyn Fn(usize) -> bool,
) -> Result<Successors> {
    let width = next.width();
    let steps = observations.len() / width;
    let rows = Facts::of(observations, width);
    let mut copies = Facts::new(width);
    let mut judged: Vec<bool> = (0..steps)
        .map(|step| step + 1 < steps && !ends(step))
        .collect();
    let any_judged = judged.contains(&true);
    let path = file.path().to_path_buf();
    next.visit(file, &mut |row, column, value, info, at| {
        let narrow = value as f32;
        if value.is_nan() {
            judged[row] = false;
        } else if narrow.is_finite() {
            copies.take(column, narrow);
        } else {
            return Err(super::arrays::not_finite(&path, info, at, value));
        }
        Ok(())
    })?;
    let nothing =
        copies.known == 0 || (copies.known > width && copies.is_constant() && !rows.is_constant());
    if nothing || (any_judged && !judged.contains(&true)) {
        return Ok(Successors {
            empty: nothing,
            ..Successors::as_they_lie(steps)
        });
    }
    let rounding = match copies.halves != rows.halves {
        true => HALF,
        false => SINGLE,
    };
    let tolerances: Vec<f32> = usual_sizes(observations, width)
        .into_iter()
        .map(|size| rounding * size)
        .collect();
    let limit = copies.limit(&rows).or(rows.limit(&copies));
    let cut_off = |value: f32| limit.map_or(value, |limit| value.clamp(-limit, limit));
    let mut breaks = vec![false; steps];
    next.visit(file, &mut |row, column, value, _, _| {
        if judged[row] {
            let (value, after) = (value as f32, observations[(row + 1) * width + column]);
            let tolerance = rounding * value.abs().max(after.abs()) + tolerances[column];
            breaks[row] |= (cut_off(value) - cut_off(after)).abs() > tolerance;
        }
        Ok(())
    })?;
    Ok(Successors {
        breaks,
        empty: false,
        tolerances,
    })
}

/// What is known of an array beside its numbers.
struct Facts {
    low: Vec<f32>,
    high: Vec<f32>,
    /// The largest size of a number, and how often it occurs.
    largest: (f32, usize),
    /// Whether every number is one of half precision, as whole numbers are.
    halves: bool,
    /// Numbers that are not NaN.
    known: usize,
}

impl Facts {
    fn new(width: usize) -> Self {
        Self {
            low: vec![f32::INFINITY; width],
            high: vec![f32::NEG_INFINITY; width],
            largest: (0.0, 0),
            halves: true,
            known: 0,
        }
    }

    fn of(values: &[f32], width: usize) -> Self {
        let mut facts = Self::new(width);
        for row in values.chunks_exact(width) {
            (0..width).for_each(|column| facts.take(column, row[column]));
        }
        facts
    }

    fn take(&mut self, column: usize, value: f32) {
        self.low[column] = self.low[column].min(value);
        self.high[column] = self.high[column].max(value);
        let size = value.abs();
        if size > self.largest.0 {
            self.largest = (size, 0);
        }
        self.largest.1 += usize::from(size == self.largest.0);
        // The last 13 bits of the fraction, which a half lacks.
        self.halves &= value.to_bits() & 0x1fff == 0 && size <= 65504.0;
        self.known += 1;
    }

    fn is_constant(&self) -> bool {
        let mut columns = self.low.iter().zip(&self.high);
        columns.all(|(low, high)| low >= high)
    }

    /// The size at which these numbers are cut off, where `other` exceeds it: a largest size of real numbers that occurs
    /// more than once.
    fn limit(&self, other: &Self) -> Option<f32> {
        let (size, count) = self.largest;
        let cut_off = !other.halves && count > 1 && size < other.largest.0;
        cut_off.then_some(size)
    }
}

/// Rows that usual sizes are taken over, at most.
const SAMPLED_ROWS: usize = 4096;

/// The median size of every column: what single rows of other sizes leave as it is.
fn usual_sizes(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.len() / width;
    let every = rows.div_ceil(SAMPLED_ROWS).max(1);
    let of = |column: usize| {
        let mut sizes: Vec<f32> = (0..rows)
            .step_by(every)
            .map(|row| values[row * width + column].abs())
            .collect();
        let middle = sizes.len() / 2;
        match sizes.is_empty() {
            true => 0.0,
            false => *sizes.select_nth_unstable_by(middle, f32::total_cmp).1,
        }
    };
    (0..width).map(of).collect()
}

/// Marks the episodes whose first step is not known to be an episode's first: after a cut, or where it is what followed
/// the last step of another part (a ring buffer that was written over, stretches in random order). All are marked where
/// there are more cuts than ends, so that an end's neighbor in the file needn't be another episode's start. Returns how
/// many cuts there are, but for those that `explained` knows.
pub(super) fn mark_fragments(
    data: &mut Dataset,
    found: &Successors,
    explained: &dyn Fn(usize) -> bool,
) -> usize {
    let cut = |e: &Episode| {
        !e.has_end() && found.breaks[e.range().end - 1] && !explained(e.range().end - 1)
    };
    let cuts = data.episodes.iter().filter(|e| cut(e)).count();
    let ends = data.episodes.iter().filter(|e| e.has_end()).count();
    let go_on = GoOn::new(data, &found.tolerances);
    let continued: Vec<bool> = data
        .episodes
        .iter()
        .map(|episode| go_on.contains(data.observation(episode.start)))
        .collect();
    let mut after_cut = false;
    for (episode, continued) in data.episodes.iter_mut().zip(continued) {
        episode.fragment = cuts > ends || after_cut || continued;
        after_cut = cut(episode);
    }
    cuts
}

/// The observations after parts of episodes that have no end.
struct GoOn<'a> {
    /// Sorted by their first number.
    observations: Vec<Box<[f32]>>,
    tolerances: &'a [f32],
}

impl<'a> GoOn<'a> {
    fn new(data: &Dataset, tolerances: &'a [f32]) -> Self {
        let open = data.episodes.iter().filter(|episode| !episode.has_end());
        let mut observations: Vec<Box<[f32]>> = open
            .filter_map(|episode| episode.final_observation.clone())
            .collect();
        if tolerances.is_empty() {
            observations.clear();
        }
        observations.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Self {
            observations,
            tolerances,
        }
    }

    fn contains(&self, observation: &[f32]) -> bool {
        let Some(&tolerance) = self.tolerances.first() else {
            return false;
        };
        let from = self
            .observations
            .partition_point(|other| other[0] < observation[0] - tolerance);
        self.observations[from..]
            .iter()
            .take_while(|other| other[0] <= observation[0] + tolerance)
            .any(|other| {
                let columns = other.iter().zip(observation).zip(self.tolerances);
                columns
                    .into_iter()
                    .all(|((a, b), tolerance)| (a - b).abs() <= *tolerance)
            })
    }
}

/// What a user should know about `cuts`.
pub(super) fn warning(data: &Dataset, path: &std::path::Path, cuts: usize) -> Option<String> {
    if cuts == 0 {
        return None;
    }
    let (path, steps) = (path.display(), data.steps());
    let whole = data.episodes.iter().filter(|e| e.is_complete()).count();
    let rest = match whole {
        0 => "the rows are not in the order of time, some are missing, or ends are not marked (`timeouts`): no \
              episode is known to be whole, so methods that need returns refuse this data"
            .to_owned(),
        whole => format!("episodes are cut there, and what begins or stops at a cut counts in steps, not in returns ({whole} \
                          whole episodes are left)"),
    };
    Some(format!(
        "{path}: the `next_observations` of {cuts} of {steps} rows are not the observation of the row after them, where \
         nothing marks an end. They are used as they are; {rest}"
    ))
}
