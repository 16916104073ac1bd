//! Which rows follow each other, by a file's `next_observations`: replay buffers are saved in any order, with rows
//! left out, or with ends that nothing marks. Where the observation after a step is not that of the next row, the
//! episode is cut.

use super::arrays::ArrayFile;
use super::vectors::Vectors;
use crate::data::dataset::{Dataset, Episode};
use crate::error::Result;

/// Distance, in standard deviations of a column, within which an observation and its copy are the same: copies may be
/// rounded to float16.
const SAME: f64 = 1e-3;

/// The most that copies are allowed to differ, where most rows show that they are rounded or noisy copies.
const SAME_AT_MOST: f64 = 0.05;

/// Median distance up to which the next observations of a file are taken for rounded copies of the rows after them.
const FOLLOWING: f64 = 0.005;

/// How far beyond the median distance of rounded copies the largest may lie.
const BEYOND_MEDIAN: f64 = 16.0;

/// What `next_observations` say about the order of the rows.
#[derive(Debug, Default)]
pub(super) struct Successors {
    /// The row after it is not what followed it (steps).
    pub breaks: Vec<bool>,
    /// The array tells nothing: it never changes, or is NaN throughout.
    pub empty: bool,
    /// Distance of most copies from the rows, in standard deviations, where that is more than rounding to float32.
    pub noise: Option<f64>,
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

/// Compares the observation after each step with the next row, but for steps that `ends` marks and the last one.
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
    let scales = deviations(observations, width);
    let exact = Range::of(observations, width);
    let mut first = Comparison::new(steps, width);
    first.run(file, next, observations, &scales, None)?;
    let judged: Vec<usize> = (0..steps.saturating_sub(1))
        .filter(|&step| !ends(step))
        .collect();
    let mut known: Vec<f32> = judged.iter().map(|&step| first.distances[step]).collect();
    known.retain(|distance| distance.is_finite());
    let nothing = first.known == 0
        || (first.known > width && first.range.is_constant() && !exact.is_constant());
    if nothing || (known.is_empty() && !judged.is_empty()) {
        return Ok(Successors {
            empty: nothing,
            ..Successors::as_they_lie(steps)
        });
    }
    let median = median(&mut known);
    let follows = median <= FOLLOWING;
    let same = match follows {
        true => (BEYOND_MEDIAN * median).clamp(SAME, SAME_AT_MOST),
        false => SAME,
    };
    let apart = |distance: f32| f64::from(distance) > same;
    let mut distances = first.distances;
    if judged.iter().any(|&step| apart(distances[step])) {
        // One of the two may have been clipped: only what both can hold is compared.
        let mut again = Comparison::new(steps, width);
        again.run(
            file,
            next,
            observations,
            &scales,
            Some(&first.range.common(&exact)),
        )?;
        distances = again.distances;
    }
    let mut breaks = vec![false; steps];
    for step in judged {
        breaks[step] = apart(distances[step]);
    }
    Ok(Successors {
        breaks,
        empty: false,
        noise: (follows && median > SAME).then_some(median),
        tolerances: scales.iter().map(|scale| (scale * same) as f32).collect(),
    })
}

/// Largest distance of each next observation from the row after it; infinite where it is NaN.
struct Comparison {
    distances: Vec<f32>,
    range: Range,
    /// Numbers that are not NaN.
    known: usize,
}

impl Comparison {
    fn new(steps: usize, width: usize) -> Self {
        Self {
            distances: vec![0.0; steps],
            range: Range::empty(width),
            known: 0,
        }
    }

    fn run(
        &mut self,
        file: &mut dyn ArrayFile,
        next: &Vectors,
        observations: &[f32],
        scales: &[f64],
        common: Option<&Range>,
    ) -> Result<()> {
        let width = next.width();
        let path = file.path().to_path_buf();
        next.visit(file, &mut |row, column, value, info, at| {
            if value.is_nan() {
                self.distances[row] = f32::INFINITY;
                return Ok(());
            }
            let narrow = value as f32;
            if !narrow.is_finite() {
                return Err(super::arrays::not_finite(&path, info, at, value));
            }
            self.known += 1;
            self.range.widen(column, narrow);
            let Some(&after) = observations.get((row + 1) * width + column) else {
                return Ok(());
            };
            let clip = |value: f32| common.map_or(value, |range| range.clip(column, value));
            let distance = f64::from((clip(narrow) - clip(after)).abs()) / scales[column];
            self.distances[row] = self.distances[row].max(distance as f32);
            Ok(())
        })
    }
}

/// Lowest and highest number of every column, and how often each occurs.
struct Range {
    low: Vec<(f32, usize)>,
    high: Vec<(f32, usize)>,
}

/// A bound that numbers were clipped to occurs more than once.
const CLIPPED: usize = 2;

impl Range {
    fn empty(width: usize) -> Self {
        Self {
            low: vec![(f32::INFINITY, 0); width],
            high: vec![(f32::NEG_INFINITY, 0); width],
        }
    }

    fn of(values: &[f32], width: usize) -> Self {
        let mut range = Self::empty(width);
        for row in values.chunks_exact(width) {
            (0..width).for_each(|column| range.widen(column, row[column]));
        }
        range
    }

    fn widen(&mut self, column: usize, value: f32) {
        let (low, high) = (&mut self.low[column], &mut self.high[column]);
        if value < low.0 {
            *low = (value, 0);
        }
        if value > high.0 {
            *high = (value, 0);
        }
        low.1 += usize::from(value == low.0);
        high.1 += usize::from(value == high.0);
    }

    fn is_constant(&self) -> bool {
        let columns = self.low.iter().zip(&self.high);
        columns.into_iter().all(|(low, high)| low.0 >= high.0)
    }

    /// What lies in both, as far as the narrower one looks clipped.
    fn common(&self, other: &Self) -> Self {
        let both =
            |a: &[(f32, usize)], b: &[(f32, usize)], first: fn(f32, f32) -> bool, none: f32| {
                let pick = |(&a, &b): (&(f32, usize), &(f32, usize))| {
                    let inner = if first(a.0, b.0) { a } else { b };
                    if inner.1 >= CLIPPED { inner } else { (none, 0) }
                };
                a.iter().zip(b).map(pick).collect()
            };
        Self {
            low: both(&self.low, &other.low, |a, b| a > b, f32::NEG_INFINITY),
            high: both(&self.high, &other.high, |a, b| a < b, f32::INFINITY),
        }
    }

    /// The nearest number inside; the number itself where nothing is inside.
    fn clip(&self, column: usize, value: f32) -> f32 {
        let (low, high) = (self.low[column].0, self.high[column].0);
        if low <= high {
            value.clamp(low, high)
        } else {
            value
        }
    }
}

/// Standard deviation of every column; what rounding does to a column that never changes.
fn deviations(values: &[f32], width: usize) -> Vec<f64> {
    let rows = (values.len() / width).max(1) as f64;
    let mut means = vec![0.0f64; width];
    let mut squares = vec![0.0f64; width];
    let mut largest = vec![0.0f64; width];
    for row in values.chunks_exact(width) {
        for (column, &value) in row.iter().enumerate() {
            means[column] += f64::from(value) / rows;
            largest[column] = largest[column].max(f64::from(value).abs());
        }
    }
    for row in values.chunks_exact(width) {
        for (column, &value) in row.iter().enumerate() {
            squares[column] += (f64::from(value) - means[column]).powi(2) / rows;
        }
    }
    let scale = |(square, largest): (&f64, &f64)| square.sqrt().max(1e-3 * largest).max(1e-9);
    squares.iter().zip(&largest).map(scale).collect()
}

/// The middle of `values`; 0 if there are none.
fn median(values: &mut [f32]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    let (_, &mut median, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    f64::from(median)
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
