//! [`SweepFile`]: a sweep as it is written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::app::config::{LARGEST_SEED, not_toml};
use crate::app::series::parse_seeds;
use trajformer_core::error::{Error, Origin, Result};
use trajformer_core::nearest::nearest;

/// Keys of `[[runs]]`; at the top of the file they hold for all runs.
const OF_RUNS: [&str; 8] = [
    "configs",
    "algorithms",
    "datasets",
    "seeds",
    "set",
    "grid",
    "random",
    "label",
];
/// Keys of the whole sweep.
const OF_FILE: [&str; 6] = ["out", "data_dir", "jobs", "threads", "devices", "runs"];
/// Keys of `[random]` that are none of a configuration.
const OF_RANDOM: [&str; 2] = ["samples", "seed"];
/// Most samples of one `[random]`.
const MOST_SAMPLES: i64 = 100_000;

/// A sweep: what is common to all of its runs, and one or more groups of them.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepFile {
    /// The file, as it was named; paths of configurations start at its folder.
    pub path: PathBuf,
    /// Folder of all runs: `out`.
    pub out: Option<PathBuf>,
    /// Folder of the data files: `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// Runs side by side: `jobs`.
    pub jobs: Option<usize>,
    /// Threads of each: `threads`.
    pub threads: Option<usize>,
    /// Devices that runs are spread over: `devices`.
    pub devices: Vec<String>,
    /// Each `[[runs]]`, with what stands at the top.
    pub groups: Vec<Group>,
}

/// Configurations x algorithms x data sets x grid x samples x seeds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Configuration files; `{algorithm}` and `{dataset}` stand for each of these.
    pub configs: Vec<String>,
    /// What `{algorithm}` stands for.
    pub algorithms: Vec<String>,
    /// What `{dataset}` stands for, with the data's files where they are given.
    pub datasets: Vec<(String, Option<Vec<PathBuf>>)>,
    /// Seeds of every configuration.
    pub seeds: Vec<u64>,
    /// Keys and values of all configurations.
    pub set: Vec<(String, toml::Value)>,
    /// Keys with their values, each combined with each.
    pub grid: Vec<(String, Vec<toml::Value>)>,
    /// Keys whose values are drawn.
    pub random: Option<Draws>,
    /// What is added to the names of its lines.
    pub label: Option<String>,
}

/// `[random]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// How many times values are drawn.
    pub samples: u64,
    /// Seed of the draws. Sample number I of a key is the same however many samples and other keys there are.
    pub seed: u64,
    /// Keys, and what their values are drawn from.
    pub keys: Vec<(String, Pick)>,
}

/// What a value is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub enum Pick {
    /// Each number between two as likely.
    Uniform(f64, f64),
    /// Each number's logarithm as likely.
    LogUniform(f64, f64),
    /// Each whole number from one to another, both counted, as likely.
    Int(i64, i64),
    /// The same of whole numbers' logarithms.
    LogInt(i64, i64),
    /// One of these.
    Choice(Vec<toml::Value>),
}

impl SweepFile {
    /// Reads a sweep's file.
    ///
    /// # Errors
    /// If it can't be read, is not TOML, holds an unknown key or a value of a wrong type or range.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::data(
                path,
                "there is no such file; a sweep is a TOML file that names configurations, e.g. sweeps/medium-replay.toml",
            ),
            ErrorKind::IsADirectory => Error::data(
                path,
                "is a folder; name the sweep's file, a TOML file that names configurations",
            ),
            _ => Error::io(path)(error),
        })?;
        Self::parse(&text, path)
    }

    /// The sweep that `text` says, as if it stood in `path`.
    ///
    /// # Errors
    /// As [`read`](Self::read), but that the file is not read.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let parsed: std::result::Result<toml::Table, _> = toml::from_str(text);
        let file = parsed
            .map_err(|error| Error::settings(not_toml(&error)))
            .and_then(|table| Self::from_table(table, path));
        file.map_err(|error| error.said_by(Some(Origin::File(path.display().to_string()))))
    }

    fn from_table(mut table: toml::Table, path: &Path) -> Result<Self> {
        let groups = table.remove("runs");
        let out = text(&mut table, "out")?.map(PathBuf::from);
        let data_dir = text(&mut table, "data_dir")?.map(PathBuf::from);
        let (jobs, threads) = (count(&mut table, "jobs")?, count(&mut table, "threads")?);
        let devices = texts(&mut table, "devices")?.unwrap_or_default();
        let common = Group::from_table(table, &Group::default(), "")?;
        let groups = match groups {
            None => vec![common],
            Some(toml::Value::Array(tables)) if !tables.is_empty() => {
                let group = |(at, value): (usize, toml::Value)| match value {
                    toml::Value::Table(table) => {
                        Group::from_table(table, &common, &format!("runs[{at}]."))
                    }
                    other => Err(wrong("runs", &other, "tables `[[runs]]`")),
                };
                tables
                    .into_iter()
                    .enumerate()
                    .map(group)
                    .collect::<Result<_>>()?
            }
            Some(other) => return Err(wrong("runs", &other, "tables `[[runs]]`")),
        };
        let file = Self {
            path: path.to_path_buf(),
            out,
            data_dir,
            jobs,
            threads,
            devices,
            groups,
        };
        if file.groups.iter().any(|group| group.configs.is_empty()) {
            return Err(Error::settings(
                "`configs` is missing: the configuration files to run, e.g. \"configs/{algorithm}/{dataset}.toml\"",
            ));
        }
        Ok(file)
    }
}

impl Group {
    /// The group that `table` says on top of `common`; `place` stands before its keys in messages.
    fn from_table(mut table: toml::Table, common: &Self, place: &str) -> Result<Self> {
        let seeds = table
            .remove("seeds")
            .map(|value| seeds(&value))
            .transpose()?;
        let datasets = table
            .remove("datasets")
            .map(|value| datasets(&value))
            .transpose()?;
        let set = subtable(&mut table, "set")?;
        let grid = subtable(&mut table, "grid")?;
        let random = match table.remove("random") {
            None => common.random.clone(),
            Some(toml::Value::Table(table)) => Some(draws(table)?),
            Some(other) => return Err(wrong("random", &other, "a table")),
        };
        let group = Self {
            configs: texts(&mut table, "configs")?.unwrap_or_else(|| common.configs.clone()),
            algorithms: texts(&mut table, "algorithms")?
                .unwrap_or_else(|| common.algorithms.clone()),
            datasets: datasets.unwrap_or_else(|| common.datasets.clone()),
            seeds: seeds.unwrap_or_else(|| match &common.seeds[..] {
                [] => vec![0],
                some => some.to_vec(),
            }),
            set: over(&common.set, flat(set)),
            grid: over(
                &common.grid,
                flat(grid).into_iter().map(axis).collect::<Result<_>>()?,
            ),
            random,
            label: text(&mut table, "label")?.or_else(|| common.label.clone()),
        };
        if let Some(key) = table.keys().next() {
            let known: Vec<&str> = match place {
                "" => OF_FILE.into_iter().chain(OF_RUNS).collect(),
                _ => OF_RUNS.to_vec(),
            };
            return Err(unknown(&format!("{place}{key}"), key, &known));
        }
        if let Some((key, _)) = group.set.iter().find(|(key, _)| key == "seed") {
            return Err(no_seed("set", key));
        }
        if let Some((key, _)) = group.grid.iter().find(|(key, _)| key == "seed") {
            return Err(no_seed("grid", key));
        }
        Ok(group)
    }
}

fn no_seed(table: &str, key: &str) -> Error {
    Error::settings(format!(
        "[{table}] holds `{key}`: seeds stand in `seeds`, e.g. `seeds = \"0..5\"`"
    ))
}

fn unknown(place: &str, key: &str, known: &[&str]) -> Error {
    let meant = match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected {}", known.join(", ")),
    };
    Error::settings(format!("unknown key `{place}`: {meant}"))
}

fn wrong(key: &str, found: &toml::Value, expected: &str) -> Error {
    Error::settings(format!("`{key}` is {found}, expected {expected}"))
}

fn text(table: &mut toml::Table, key: &str) -> Result<Option<String>> {
    match table.remove(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
        Some(other) => Err(wrong(key, &other, "a text")),
    }
}

/// One text or a list of them.
fn texts(table: &mut toml::Table, key: &str) -> Result<Option<Vec<String>>> {
    let Some(value) = table.remove(key) else {
        return Ok(None);
    };
    let values = match &value {
        toml::Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    };
    let words = values
        .iter()
        .map(|value| value.as_str().filter(|text| !text.trim().is_empty()));
    match words.collect::<Option<Vec<&str>>>() {
        Some(words) => {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            no_repetition(key, &words)?;
            Ok(Some(words))
        }
        None => Err(wrong(key, &value, "a text or a list of texts")),
    }
}

fn no_repetition<T: PartialEq + std::fmt::Display>(key: &str, values: &[T]) -> Result<()> {
    let repeated = values
        .iter()
        .enumerate()
        .find(|(at, value)| values[..*at].contains(value));
    match repeated {
        Some((_, value)) => Err(Error::settings(format!("`{key}` holds {value} twice"))),
        None => Ok(()),
    }
}

fn count(table: &mut toml::Table, key: &str) -> Result<Option<usize>> {
    match table.remove(key) {
        None => Ok(None),
        Some(toml::Value::Integer(number)) if (1..=1024).contains(&number) => {
            Ok(Some(number as usize))
        }
        Some(other) => Err(wrong(key, &other, "1 to 1024")),
    }
}

/// `"0..5"`, one seed, or a list of them.
fn seeds(value: &toml::Value) -> Result<Vec<u64>> {
    let expected = || {
        wrong(
            "seeds",
            value,
            "\"A..B\", e.g. \"0..5\", or a list of whole numbers of 0 or more",
        )
    };
    let seed = |value: &toml::Value| match value {
        toml::Value::Integer(seed) if *seed >= 0 && (*seed as u64) <= LARGEST_SEED => {
            Ok(*seed as u64)
        }
        _ => Err(expected()),
    };
    let seeds = match value {
        toml::Value::String(text) => parse_seeds(text)?,
        toml::Value::Array(values) if !values.is_empty() => {
            values.iter().map(seed).collect::<Result<Vec<u64>>>()?
        }
        one => vec![seed(one)?],
    };
    no_repetition("seeds", &seeds)?;
    Ok(seeds)
}

/// Names, or a table of names with files.
fn datasets(value: &toml::Value) -> Result<Vec<(String, Option<Vec<PathBuf>>)>> {
    let expected = || {
        let words =
            "a list of names, or a table of names with files, e.g. `datasets.mine = \"mine.npz\"`";
        wrong("datasets", value, words)
    };
    match value {
        toml::Value::Table(table) => {
            let files = |(name, value): (&String, &toml::Value)| {
                let mut one = toml::Table::from_iter([(name.clone(), value.clone())]);
                let files = texts(&mut one, name).map_err(|_| expected())?;
                let files = files.unwrap_or_default().into_iter().map(PathBuf::from);
                Ok((name.clone(), Some(files.collect())))
            };
            table.iter().map(files).collect()
        }
        _ => {
            let mut one = toml::Table::from_iter([("datasets".to_owned(), value.clone())]);
            let names = texts(&mut one, "datasets").map_err(|_| expected())?;
            Ok(names
                .unwrap_or_default()
                .into_iter()
                .map(|name| (name, None))
                .collect())
        }
    }
}

fn subtable(table: &mut toml::Table, key: &str) -> Result<toml::Table> {
    match table.remove(key) {
        None => Ok(toml::Table::new()),
        Some(toml::Value::Table(table)) => Ok(table),
        Some(other) => Err(wrong(key, &other, "a table")),
    }
}

/// Keys with their values, whether they are written as one key, as dotted keys or as tables.
fn flat(table: toml::Table) -> Vec<(String, toml::Value)> {
    fn into(prefix: &str, table: toml::Table, found: &mut Vec<(String, toml::Value)>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            match value {
                toml::Value::Table(inner) if !is_pick(&inner) => into(&key, inner, found),
                value => found.push((key, value)),
            }
        }
    }
    let mut found = Vec::new();
    into("", table, &mut found);
    found
}

/// The keys of `common`, with those of `own` over them.
fn over<T: Clone>(common: &[(String, T)], own: Vec<(String, T)>) -> Vec<(String, T)> {
    let mut all: Vec<(String, T)> = common.to_vec();
    all.retain(|(key, _)| !own.iter().any(|(other, _)| other == key));
    all.extend(own);
    all
}

fn axis((key, value): (String, toml::Value)) -> Result<(String, Vec<toml::Value>)> {
    match value {
        toml::Value::Array(values) if !values.is_empty() => {
            let shown: Vec<String> = values.iter().map(toml::Value::to_string).collect();
            no_repetition(&format!("grid.{key}"), &shown)?;
            Ok((key, values))
        }
        other => Err(wrong(
            &format!("grid.{key}"),
            &other,
            "a list of the key's values",
        )),
    }
}

const PICKS: [&str; 5] = ["uniform", "log_uniform", "int", "log_int", "choice"];

/// Whether a table says what a value is drawn from.
fn is_pick(table: &toml::Table) -> bool {
    table.len() == 1 && table.keys().all(|key| PICKS.contains(&key.as_str()))
}

fn draws(mut table: toml::Table) -> Result<Draws> {
    let number = |value: Option<toml::Value>, key: &str, least: i64, most: i64| match value {
        None => Ok(None),
        Some(toml::Value::Integer(number)) if (least..=most).contains(&number) => {
            Ok(Some(number as u64))
        }
        Some(other) => Err(wrong(key, &other, &format!("{least} to {most}"))),
    };
    let samples = number(table.remove("samples"), "random.samples", 1, MOST_SAMPLES)?;
    let samples = samples.ok_or_else(|| {
        Error::settings("`random.samples` is missing: how many times values are drawn")
    })?;
    let seed = number(table.remove("seed"), "random.seed", 0, i64::MAX)?.unwrap_or(0);
    let pick = |(key, value): (String, toml::Value)| {
        let place = format!("random.{key}");
        let expected = "{ uniform = [LOW, HIGH] }, { log_uniform = [LOW, HIGH] }, { int = [LOW, HIGH] }, { log_int = [LOW, HIGH] } or \
                        { choice = [...] }";
        let toml::Value::Table(table) = &value else {
            let slip = nearest(&key, OF_RANDOM).map(|near| {
                Error::settings(format!(
                    "unknown key `{place}`: did you mean `random.{near}`?"
                ))
            });
            return Err(slip.unwrap_or_else(|| wrong(&place, &value, expected)));
        };
        let Some((kind, toml::Value::Array(values))) = table.iter().next() else {
            return Err(wrong(&place, &value, expected));
        };
        if kind == "choice" && !values.is_empty() {
            return Ok((key, Pick::Choice(values.clone())));
        }
        if kind == "int" || kind == "log_int" {
            let whole: Option<Vec<i64>> = values.iter().map(toml::Value::as_integer).collect();
            let is_log = kind == "log_int";
            return match whole.as_deref() {
                Some(&[low, high]) if low < high && (!is_log || low > 0) => Ok((
                    key,
                    if is_log {
                        Pick::LogInt(low, high)
                    } else {
                        Pick::Int(low, high)
                    },
                )),
                _ if is_log => Err(wrong(
                    &place,
                    &value,
                    "two whole numbers above 0, the lower one first",
                )),
                _ => Err(wrong(
                    &place,
                    &value,
                    "two whole numbers, the lower one first",
                )),
            };
        }
        let number = |value: &toml::Value| {
            value
                .as_float()
                .or_else(|| value.as_integer().map(|number| number as f64))
        };
        match values
            .iter()
            .map(number)
            .collect::<Option<Vec<f64>>>()
            .as_deref()
        {
            Some(&[low, high]) if low < high && (high - low).is_finite() && kind == "uniform" => {
                Ok((key, Pick::Uniform(low, high)))
            }
            Some(&[low, high])
                if low < high && low > 0.0 && high.is_finite() && kind == "log_uniform" =>
            {
                Ok((key, Pick::LogUniform(low, high)))
            }
            _ if kind == "log_uniform" => Err(wrong(
                &place,
                &value,
                "two numbers above 0, the lower one first",
            )),
            _ => Err(wrong(&place, &value, expected)),
        }
    };
    let keys: Vec<(String, Pick)> = flat(table).into_iter().map(pick).collect::<Result<_>>()?;
    if keys.iter().any(|(key, _)| key == "seed") {
        return Err(no_seed("random", "seed"));
    }
    if keys.is_empty() {
        return Err(Error::settings("[random] names no key to draw values of"));
    }
    Ok(Draws {
        samples,
        seed,
        keys,
    })
}
