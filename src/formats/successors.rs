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
/// Relative tolerance where one of the two was rounded to half precision.
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
    /// Successors of a file without next observations: every row is followed by the next one.
    pub fn as_they_lie(steps: usize) -> Self {
        Self {
            breaks: vec![false; steps],
            ..Self::default()
        }
    }
}

/// Compares the observation after each step with the next row, except at steps that `ends` marks and the last one. They are
/// the same if they are to rounding, or if one array is cut off, in that column, where the other goes beyond.
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
    let usual = usual_sizes(observations, width);
    let mut copies = Facts::new(width);
    let mut judged: Vec<bool> = (0..steps)
        .map(|step| step + 1 < steps && !ends(step))
        .collect();
    let any_judged = judged.contains(&true);
    let mut breaks = vec![false; steps];
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
        if judged[row] {
            let after = observations[(row + 1) * width + column];
            breaks[row] |= (narrow - after).abs() > allowed(narrow, after, SINGLE, usual[column]);
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
    let rounding = if copies.are_halves() != rows.are_halves() {
        HALF
    } else {
        SINGLE
    };
    let limits = limits(&copies, &rows);
    let as_strict = rounding == SINGLE && limits.iter().all(|limit| *limit == UNLIMITED);
    if !as_strict && breaks.contains(&true) {
        let lenient = Lenient {
            observations,
            judged: &judged,
            rounding,
            usual: &usual,
            limits: &limits,
        };
        breaks = lenient.compare(file, next)?;
    }
    breaks
        .iter_mut()
        .zip(&judged)
        .for_each(|(apart, judged)| *apart &= judged);
    Ok(Successors {
        breaks,
        empty: false,
        tolerances: usual.into_iter().map(|size| rounding * size).collect(),
    })
}

/// How far a number and its copy may be apart, in a column of this usual size.
fn allowed(value: f32, after: f32, rounding: f32, usual: f32) -> f32 {
    rounding * value.abs().max(after.abs()) + rounding * usual
}

/// The second comparison, of arrays that differ: what is rounded or cut off in one of them counts as the same.
struct Lenient<'a> {
    observations: &'a [f32],
    judged: &'a [bool],
    rounding: f32,
    usual: &'a [f32],
    limits: &'a [(f32, f32)],
}

impl Lenient<'_> {
    /// Which rows are apart. A column counts as cut off where that explains most rows in which a number goes beyond its
    /// limit and the other is another one.
    fn compare(&self, file: &mut dyn ArrayFile, next: &Vectors) -> Result<Vec<bool>> {
        let width = self.limits.len();
        let mut breaks = vec![false; self.judged.len()];
        let mut explained = Vec::new();
        let mut beyond = vec![0usize; width];
        next.visit(file, &mut |row, column, value, _, _| {
            if !self.judged[row] {
                return Ok(());
            }
            let (value, after) = (value as f32, self.observations[(row + 1) * width + column]);
            let allowed = allowed(value, after, self.rounding, self.usual[column]);
            if (value - after).abs() <= allowed {
                return Ok(());
            }
            let (low, high) = self.limits[column];
            let cut_off = (value.clamp(low, high), after.clamp(low, high));
            beyond[column] += usize::from(cut_off != (value, after));
            if (cut_off.0 - cut_off.1).abs() <= allowed {
                explained.push((row, column))
            } else {
                breaks[row] = true
            }
            Ok(())
        })?;
        let mut counts = vec![0; width];
        explained
            .iter()
            .for_each(|&(_, column)| counts[column] += 1);
        for (row, column) in explained {
            breaks[row] |= 2 * counts[column] <= beyond[column];
        }
        Ok(breaks)
    }
}

/// What is known of an array beside its numbers, column by column.
struct Facts {
    /// The lowest number, and how often it occurs.
    low: Vec<(f32, usize)>,
    /// Highest number of each column, and how often it occurs.
    high: Vec<(f32, usize)>,
    /// Whether every number is one of half precision, as whole numbers are.
    halves: Vec<bool>,
    /// The largest size of a number in any column, and how often it occurs.
    largest: (f32, usize),
    /// Numbers that are not NaN.
    known: usize,
}

impl Facts {
    fn new(width: usize) -> Self {
        Self {
            low: vec![(f32::INFINITY, 0); width],
            high: vec![(f32::NEG_INFINITY, 0); width],
            halves: vec![true; width],
            largest: (0.0, 0),
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
        let size = value.abs();
        count_most(&mut self.low[column], value, |value, low| value < low);
        count_most(&mut self.high[column], value, |value, high| value > high);
        count_most(&mut self.largest, size, |value, largest| value > largest);
        // The last 13 bits of the fraction, which a half lacks.
        self.halves[column] &= value.to_bits() & 0x1fff == 0 && size <= 65504.0;
        self.known += 1;
    }

    fn is_constant(&self) -> bool {
        let mut columns = self.low.iter().zip(&self.high);
        columns.all(|(low, high)| low.0 >= high.0)
    }

    fn are_halves(&self) -> bool {
        self.halves.iter().all(|&halves| halves)
    }

    /// Where the numbers of a column may be cut off, which `other` exceeds: at a lowest or highest one, or at a largest
    /// size of all columns, of real numbers, that occurs more than once.
    fn limits(&self, other: &Self, column: usize) -> (f32, f32) {
        let (mut low, mut high) = UNLIMITED;
        let (size, count) = self.largest;
        if count > 1 && size < other.largest.0 && !other.are_halves() {
            (low, high) = (-size, size);
        }
        if other.halves[column] {
            return (low, high);
        }
        let ((least, count), (most, counted)) = (self.low[column], self.high[column]);
        if count > 1 && least > other.low[column].0 {
            low = low.max(least);
        }
        if counted > 1 && most < other.high[column].0 {
            high = high.min(most);
        }
        (low, high)
    }
}

/// Counts how often the number occurs that is further than all others.
fn count_most(most: &mut (f32, usize), value: f32, further: fn(f32, f32) -> bool) {
    if further(value, most.0) {
        *most = (value, 0);
    }
    most.1 += usize::from(value == most.0);
}

const UNLIMITED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// Where the columns of one of the arrays may be cut off. A column that never changes is not cut off.
fn limits(copies: &Facts, rows: &Facts) -> Vec<(f32, f32)> {
    let of = |column: usize| {
        let both = [copies.limits(rows, column), rows.limits(copies, column)];
        let cut_off = |limit: &(f32, f32)| *limit != UNLIMITED && limit.0 < limit.1;
        both.into_iter().find(cut_off).unwrap_or(UNLIMITED)
    };
    (0..rows.low.len()).map(of).collect()
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
        if sizes.is_empty() {
            0.0
        } else {
            *sizes.select_nth_unstable_by(middle, f32::total_cmp).1
        }
    };
    (0..width).map(of).collect()
}

/// Marks the episodes whose first step is not known to be an episode's first: after a cut, or where it is what followed
/// the last step of another part (a ring buffer that was written over, segments in random order). All are marked where
/// there are more cuts than ends, so that an end's neighbor in the file needn't be another episode's start. Returns how
/// many cuts there are, except those that `explained` knows.
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
