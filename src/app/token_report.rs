//! [`TokenReport`]: what a tokenizer makes of a data set: values used, what comes back, and how many tokens it takes.

use std::fmt;

use serde::Serialize;

use crate::app::progress::Progress;
use crate::report::tokens::{TokenPanel, TokenPicture};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;
use trajformer_core::statistics::mean_std;
use trajformer_data::action_chunks::padded_actions;
use trajformer_data::discretizer::{Discretizer, DiscretizerKind};
use trajformer_data::tokenizers::fast::{Fast, FastOptions};
use trajformer_data::tokenizers::fast_actions::FastActions;
use trajformer_data::tokenizers::k_means::KMeans;
use trajformer_data::tokenizers::{Chunks, TokenizerKind, TrajectoryTokenizer};
use trajformer_models::rng::Rng;

/// Bars of a histogram.
const BARS: usize = 60;
/// Steps of the episode that a picture shows.
const SHOWN_STEPS: usize = 100;

/// Arguments of [`report`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenReportOptions {
    /// Which tokenizer.
    pub kind: TokenizerKind,
    /// Bins per dimension, centres, or FAST's vocabulary.
    pub vocabulary: usize,
    /// FAST: actions in a chunk.
    pub chunk_steps: usize,
    /// FAST: factor of coefficients before they are rounded.
    pub scale: f64,
}

impl TokenReportOptions {
    /// The usual sizes of a kind of tokenizer: 100 bins as the Trajectory Transformer's, 64 centres as the Behavior
    /// Transformer's, and for FAST 1024 tokens of chunks of 8 actions, with a scale of 10.
    pub fn of(kind: TokenizerKind) -> Self {
        Self {
            kind,
            vocabulary: match kind {
                TokenizerKind::Quantile | TokenizerKind::Uniform => 100,
                TokenizerKind::KMeans => 64,
                TokenizerKind::Fast => 1024,
            },
            chunk_steps: 8,
            scale: 10.0,
        }
    }
}

/// What a tokenizer makes of a data set; the names of the fields are stable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenReport {
    /// Which tokenizer.
    pub tokenizer: TokenizerKind,
    /// Steps of the data.
    pub steps: usize,
    /// Values that a token may take.
    pub vocabulary: usize,
    /// Values that occur.
    pub vocabulary_used: usize,
    /// Tokens of all steps over the steps.
    pub tokens_per_step: f64,
    /// Numbers of a step over its tokens: 1 for one token per dimension.
    pub compression: f64,
    /// Chunks whose tokens stand for nothing (0 except for a tokenizer of other data).
    pub invalid: usize,
    /// Every dimension.
    pub dimensions: Vec<DimensionReport>,
}

/// What happens to one dimension.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DimensionReport {
    /// `observation 3`, `action 0`, `reward`.
    pub name: String,
    /// Standard deviation over the steps, in the data's units.
    pub deviation: f64,
    /// Bins that hold a step; `None` where dimensions have no bins of their own.
    pub bins_used: Option<usize>,
    /// Bins without a step, those without width left out.
    pub bins_empty: Option<usize>,
    /// Bins without width: their thresholds coincide.
    pub bins_duplicate: Option<usize>,
    /// Root mean square of what comes back less what went in, over the standard deviation; in the data's units where that is 0.
    pub error_rms: f64,
    /// Largest error, over the standard deviation.
    pub error_max: f64,
}

/// The report, and the picture of it.
pub struct Tokenized {
    /// Numbers.
    pub report: TokenReport,
    /// The picture, to be drawn by [`crate::report::tokens::draw`].
    pub picture: TokenPicture,
}

/// The columns of a data set that a tokenizer is about.
struct Table {
    names: Vec<String>,
    rows: Vec<f64>, // (n, D)
}

impl Table {
    /// Observations, actions and rewards: what the Trajectory Transformer discretises.
    fn transitions(data: &Dataset) -> Self {
        let names = (0..data.observation_dim).map(|dim| format!("observation {dim}"));
        let actions = (0..data.action_dim).map(|dim| format!("action {dim}"));
        let names = names.chain(actions).chain(["reward".to_owned()]).collect();
        let numbers = (0..data.steps()).flat_map(|step| {
            let row = data.observation(step).iter().chain(data.action(step));
            row.copied().chain([data.rewards[step]]).map(f64::from)
        });
        Self {
            names,
            rows: numbers.collect(),
        }
    }

    fn actions(data: &Dataset) -> Self {
        Self {
            names: (0..data.action_dim)
                .map(|dim| format!("action {dim}"))
                .collect(),
            rows: data.actions.iter().copied().map(f64::from).collect(),
        }
    }

    fn dims(&self) -> usize {
        self.names.len()
    }

    fn column(rows: &[f64], dims: usize, dim: usize) -> impl Iterator<Item = f64> + '_ {
        rows.iter().skip(dim).step_by(dims).copied()
    }
}

/// Fits a tokenizer to a data set and tells what it makes of it; quantile and uniform bins are about observations, actions
/// and rewards, the others about actions. `given` is a FAST tokenizer that is used as it is.
///
/// # Errors
/// If actions are discrete, or the tokenizer can't be fitted to the data.
pub fn report(
    data: &Dataset,
    options: &TokenReportOptions,
    given: Option<Fast>,
    rng: &mut Rng,
) -> Result<(Tokenized, Option<Fast>)> {
    data.require_continuous_actions("a tokenizer")?;
    match options.kind {
        TokenizerKind::Quantile => Ok((bins(data, options, DiscretizerKind::Quantile)?, None)),
        TokenizerKind::Uniform => Ok((bins(data, options, DiscretizerKind::Uniform)?, None)),
        TokenizerKind::KMeans => {
            let table = Table::actions(data);
            let mut tokenizer = KMeans::unfitted(table.dims(), options.vocabulary)?;
            tracing::info!(
                "k-means: moving {} centers among {} actions; this says nothing until it is done",
                options.vocabulary,
                data.steps()
            );
            tokenizer.fit(&Chunks::new(&table.rows, table.dims(), 1, &[])?, rng)?;
            let starts: Vec<usize> = (0..data.steps()).collect();
            let parts = Parts {
                rows: &table.rows,
                starts: &starts,
                steps: 1,
            };
            Ok((chunked(data, options, &tokenizer, &table, &parts)?, None))
        }
        TokenizerKind::Fast => {
            let table = Table::actions(data);
            let (steps, dims) = (options.chunk_steps, table.dims());
            let (rows, all) = padded_actions(data, steps);
            let fit = FastOptions {
                scale: options.scale,
                vocab_size: options.vocabulary,
            };
            let is_new = given.is_none();
            let mut tokenizer = match given {
                Some(fast) => FastActions::around(dims, fast)?,
                None => FastActions::unfitted(dims, fit)?,
            };
            if is_new {
                tracing::info!(
                    "FAST: learning merges from {} chunks; this says nothing until it is done (100,000 chunks took some 5 s)",
                    all.len()
                );
            }
            tokenizer.fit(&Chunks::new(&rows, dims, steps, &all)?, rng)?;
            // One chunk after the other, from the start of every episode on.
            let first = |step: usize| all[step];
            let starts = data.episodes.iter();
            let starts: Vec<usize> = starts
                .flat_map(|episode| episode.range().step_by(steps).map(first))
                .collect();
            let parts = Parts {
                rows: &rows,
                starts: &starts,
                steps,
            };
            let found = chunked(data, options, &tokenizer, &table, &parts)?;
            Ok((found, Some(tokenizer.fast().clone())))
        }
    }
}

/// Rows cut into chunks, one after the other.
struct Parts<'a> {
    rows: &'a [f64],
    starts: &'a [usize],
    steps: usize,
}

fn bins(data: &Dataset, options: &TokenReportOptions, kind: DiscretizerKind) -> Result<Tokenized> {
    let table = Table::transitions(data);
    let dims = table.dims();
    let discretizer = Discretizer::fit(&table.rows, dims, options.vocabulary, kind)?;
    let (mut dimensions, mut panels) = (Vec::with_capacity(dims), Vec::with_capacity(dims));
    let mut seen = vec![false; options.vocabulary];
    for (dim, name) in table.names.iter().enumerate() {
        let values: Vec<f64> = Table::column(&table.rows, dims, dim).collect();
        let mut counts = vec![0usize; options.vocabulary];
        let mut back = Vec::with_capacity(values.len());
        for &value in &values {
            let token = discretizer.encode(value, dim);
            counts[token as usize] += 1;
            seen[token as usize] = true;
            back.push(discretizer.decode(token, dim));
        }
        let edges = discretizer.thresholds(dim);
        let width = |bin: usize| edges[bin + 1] - edges[bin];
        let empty = |&bin: &usize| counts[bin] == 0;
        let without = (0..options.vocabulary).filter(empty);
        let duplicate = without.clone().filter(|&bin| width(bin) == 0.0).count();
        dimensions.push(DimensionReport {
            bins_used: Some(counts.iter().filter(|&&count| count > 0).count()),
            bins_empty: Some(without.count() - duplicate),
            bins_duplicate: Some(duplicate),
            ..errors(name, &values, &back)
        });
        panels.push(TokenPanel::Bins {
            label: name.clone(),
            histogram: histogram(&values),
            edges: edges.to_vec(),
        });
    }
    let report = TokenReport {
        tokenizer: options.kind,
        steps: data.steps(),
        vocabulary: options.vocabulary,
        vocabulary_used: seen.iter().filter(|&&seen| seen).count(),
        tokens_per_step: dims as f64,
        compression: 1.0,
        invalid: 0,
        dimensions,
    };
    let what = match kind {
        DiscretizerKind::Quantile => "quantile bins",
        DiscretizerKind::Uniform => "uniform bins",
    };
    let title = format!("{} {what} per dimension", options.vocabulary);
    Ok(pictured(data, report, title, panels))
}

/// A tokenizer of actions; `table` holds the same numbers as the chunks.
fn chunked(
    data: &Dataset,
    options: &TokenReportOptions,
    tokenizer: &dyn TrajectoryTokenizer,
    table: &Table,
    parts: &Parts<'_>,
) -> Result<Tokenized> {
    let (dims, steps) = (table.dims(), parts.steps);
    let mut back = Vec::with_capacity(table.rows.len());
    let mut seen = std::collections::HashSet::new();
    let (mut count, mut invalid) = (0, 0);
    // Steps that are left of the episode that the chunks walk through.
    let mut left = data.episodes.iter().map(|episode| episode.steps);
    let mut rest = 0;
    let progress = Progress::of("chunks", 0, parts.starts.len() as u64);
    for (at, &start) in parts.starts.iter().enumerate() {
        progress.set(at as u64);
        if rest == 0 {
            rest = left.next().unwrap_or(0);
        }
        let mut tokens = Vec::new();
        let chunk = &parts.rows[start * dims..(start + steps) * dims];
        tokenizer.encode(chunk, &mut tokens)?;
        let decoded = tokenizer.decode(&tokens, steps);
        let real = rest.min(steps);
        back.extend_from_slice(&decoded.rows[..real * dims]);
        rest -= real;
        count += tokens.len();
        invalid += usize::from(!decoded.valid);
        seen.extend(tokens);
    }
    progress.finish();
    let column = |rows: &[f64], dim| Table::column(rows, dims, dim).collect::<Vec<f64>>();
    let names = table.names.iter().enumerate();
    let dimensions: Vec<DimensionReport> = names
        .map(|(dim, name)| errors(name, &column(&table.rows, dim), &column(&back, dim)))
        .collect();
    let episode = data.episodes.iter().max_by_key(|episode| episode.steps);
    let shown = episode.map_or(0..0, |e| e.start..e.start + e.steps.min(SHOWN_STEPS));
    let points = |rows: &[f64], dim: usize| -> Vec<(f64, f64)> {
        let steps = shown.clone().enumerate();
        steps
            .map(|(at, step)| (at as f64, rows[step * dims + dim]))
            .collect()
    };
    let names = table.names.iter().enumerate();
    let panels = names.map(|(dim, name)| TokenPanel::Path {
        label: name.clone(),
        original: points(&table.rows, dim),
        restored: points(&back, dim),
    });
    let per_step = count as f64 / data.steps() as f64;
    let report = TokenReport {
        tokenizer: options.kind,
        steps: data.steps(),
        vocabulary: tokenizer.vocabulary(),
        vocabulary_used: seen.len(),
        tokens_per_step: per_step,
        compression: dims as f64 / per_step,
        invalid,
        dimensions,
    };
    let title = match options.kind {
        TokenizerKind::Fast => format!(
            "FAST: chunks of {steps} actions in {:.1} tokens",
            per_step * steps as f64
        ),
        _ => format!("The nearest of {} centers", options.vocabulary),
    };
    Ok(pictured(data, report, title, panels.collect()))
}

fn pictured(
    data: &Dataset,
    report: TokenReport,
    title: String,
    panels: Vec<TokenPanel>,
) -> Tokenized {
    let subtitle = format!(
        "{}: {:.2} tokens per step",
        data.source_names(),
        report.tokens_per_step
    );
    Tokenized {
        picture: TokenPicture {
            title,
            subtitle,
            panels,
        },
        report,
    }
}

/// Errors of numbers that came back, relative to the standard deviation of those that went in.
fn errors(name: &str, values: &[f64], back: &[f64]) -> DimensionReport {
    let count = values.len() as f64;
    let (_, deviation) = mean_std(values);
    let unit = if deviation > 0.0 { deviation } else { 1.0 };
    let errors = || {
        values
            .iter()
            .zip(back)
            .map(|(value, back)| (value - back).abs() / unit)
    };
    DimensionReport {
        name: name.to_owned(),
        deviation,
        bins_used: None,
        bins_empty: None,
        bins_duplicate: None,
        error_rms: (errors().map(|error| error * error).sum::<f64>() / count).sqrt(),
        error_max: errors().fold(0.0, f64::max),
    }
}

/// Middles of equally wide bars from the smallest to the largest value, and the share of values in each.
fn histogram(values: &[f64]) -> Vec<(f64, f64)> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (high - low) / BARS as f64;
    if width == 0.0 {
        return vec![(low, 1.0)];
    }
    let mut counts = [0usize; BARS];
    for value in values {
        counts[(((value - low) / width) as usize).min(BARS - 1)] += 1;
    }
    let bars = counts.iter().enumerate();
    bars.map(|(bar, &count)| {
        let middle = low + width * (bar as f64 + 0.5);
        (middle, count as f64 / values.len() as f64)
    })
    .collect()
}

impl fmt::Display for TokenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} steps, {:.3} tokens per step ({:.2} numbers per token), {} of {} values used",
            self.steps,
            self.tokens_per_step,
            self.compression,
            self.vocabulary_used,
            self.vocabulary
        )?;
        if self.invalid > 0 {
            writeln!(f, "  {} chunks came back as zeros", self.invalid)?;
        }
        let with_bins = self.dimensions.iter().any(|dim| dim.bins_used.is_some());
        let bins = if with_bins {
            "  bins used  empty  duplicate"
        } else {
            ""
        };
        writeln!(
            f,
            "  {:<16} {:>10}{bins}  error rms/dev  error max/dev",
            "dimension", "deviation"
        )?;
        for dim in &self.dimensions {
            write!(f, "  {:<16} {:>10.4}", dim.name, dim.deviation)?;
            if let (Some(used), Some(empty), Some(duplicate)) =
                (dim.bins_used, dim.bins_empty, dim.bins_duplicate)
            {
                write!(f, "  {used:>9}  {empty:>5}  {duplicate:>9}")?;
            }
            writeln!(f, "  {:>13.4}  {:>13.4}", dim.error_rms, dim.error_max)?;
        }
        Ok(())
    }
}
