//! Data sets from files and back: loading (one or several, joined), saving, converting.

use std::path::{Path, PathBuf};

use crate::formats;
pub use crate::formats::options::LoadOptions;
use crate::formats::{FORMATS, Writer};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::dataset_checks;
use trajformer_core::error::{Error, Result};
use trajformer_core::nearest::did_you_mean;

/// Loads files or folders and joins them into one data set, in the given order.
///
/// # Errors
/// If `paths` is empty, one can't be read (see [`load_one`]), or they don't fit together.
pub fn load(paths: &[PathBuf]) -> Result<Dataset> {
    load_with(paths, &LoadOptions::default())
}

/// [`load`] with options.
///
/// # Errors
/// See [`load`].
pub fn load_with(paths: &[PathBuf], options: &LoadOptions) -> Result<Dataset> {
    let Some((first, rest)) = paths.split_first() else {
        return Err(Error::settings("no data file is given"));
    };
    if paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Error::settings(
            "a data file's name is empty (`data.path`): give a file or folder",
        ));
    }
    let mut data = read(first, options)?;
    for path in rest {
        join(&mut data, read(path, options)?)?;
    }
    data.warnings.extend(twice(paths));
    let found = dataset_checks::warnings(&data);
    data.warnings.extend(found);
    Ok(data)
}

/// What to say about files that are given twice.
fn twice(paths: &[PathBuf]) -> Option<String> {
    let real: Vec<PathBuf> = paths
        .iter()
        .map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()))
        .collect();
    let again = (1..real.len()).find(|&i| real[..i].contains(&real[i]))?;
    let name = paths[again].display();
    Some(format!("{name} is given twice: its steps count twice"))
}

/// Loads one file or folder; its format is detected from its content.
///
/// # Errors
/// If it can't be read, is damaged or cut off, lacks an array, holds a number that is not finite or
/// of the wrong type, or has arrays of unequal length: names file, array and row.
pub fn load_one(path: &Path) -> Result<Dataset> {
    load(&[path.to_path_buf()])
}

fn read(path: &Path, options: &LoadOptions) -> Result<Dataset> {
    let (format, place) = formats::detect(path)?;
    let mut data = (format.read)(&place, options)?;
    dataset_checks::drop_false_finals(&mut data);
    data.sources = vec![path.to_path_buf()];
    if let Some(columns) = &options.observation_columns {
        columns.keep_in(&mut data)?;
    }
    Ok(data)
}

/// The keys of the data's files that say the range of actions, for messages.
pub(crate) fn range_keys(data: &Dataset) -> String {
    let formats = data
        .sources
        .iter()
        .filter_map(|path| formats::detect(path).ok());
    let mut keys: Vec<&str> = formats.map(|(format, _)| format.range_keys).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        "the data's own bounds".to_owned()
    } else {
        keys.join(" or ")
    }
}

/// Appends the steps of `more` to `data`.
fn join(data: &mut Dataset, more: Dataset) -> Result<()> {
    let source = more.sources.first().cloned().unwrap_or_default();
    let dims = (data.observation_dim, data.action_dim);
    let found = (more.observation_dim, more.action_dim);
    if found != dims {
        let problem = format!(
            "has {} observation and {} action dimensions, the files before it {} and {}: they can't \
             be joined",
            found.0, found.1, dims.0, dims.1
        );
        return Err(Error::data(&source, problem));
    }
    data.action_kind = match (data.action_kind, more.action_kind) {
        (ActionKind::Continuous, ActionKind::Continuous) => ActionKind::Continuous,
        (ActionKind::Discrete { count: a }, ActionKind::Discrete { count: b }) => {
            ActionKind::Discrete { count: a.max(b) }
        }
        _ => {
            let problem = "has discrete actions where the others have real ones, or the reverse: \
                           they can't be joined";
            return Err(Error::data(&source, problem));
        }
    };
    if data.env_name != more.env_name {
        let name = |name: &Option<String>| name.clone().unwrap_or("no environment".into());
        let (first, second) = (name(&data.env_name), name(&more.env_name));
        data.warnings
            .push(format!("{}: names {second}, not {first}", source.display()));
        data.env_name = data.env_name.take().or(more.env_name);
    }
    join_bounds(data, more.action_bounds.as_ref(), &source);
    if data.reference_returns != more.reference_returns {
        data.reference_returns = data.reference_returns.or(more.reference_returns);
    }
    let steps = data.steps();
    append(&source, &mut data.observations, more.observations)?;
    append(&source, &mut data.actions, more.actions)?;
    append(&source, &mut data.rewards, more.rewards)?;
    data.episodes
        .extend(more.episodes.into_iter().map(|mut episode| {
            episode.start += steps;
            episode
        }));
    data.sources.extend(more.sources);
    data.warnings.extend(more.warnings);
    Ok(())
}

/// Widens the range of actions to that of another file, and says so.
fn join_bounds(data: &mut Dataset, more: Option<&(Vec<f32>, Vec<f32>)>, source: &Path) {
    let Some((more_low, more_high)) = more else {
        return;
    };
    let Some((low, high)) = &mut data.action_bounds else {
        data.action_bounds = more.cloned();
        return;
    };
    if (&*low, &*high) == (more_low, more_high) {
        return;
    }
    for (bound, more) in low.iter_mut().zip(more_low) {
        *bound = bound.min(*more);
    }
    for (bound, more) in high.iter_mut().zip(more_high) {
        *bound = bound.max(*more);
    }
    data.warnings.push(format!(
        "{}: its range of actions is another than that of the files before it: the range that holds both is used",
        source.display()
    ));
}

fn append(source: &Path, values: &mut Vec<f32>, mut more: Vec<f32>) -> Result<()> {
    let too_large = |_| {
        Error::data(
            source,
            "there is not enough memory to join it to the others",
        )
    };
    values.try_reserve_exact(more.len()).map_err(too_large)?;
    values.append(&mut more);
    Ok(())
}

/// Makes the folder of a data set that will be saved as `path`, and fails if it can't be saved there:
/// for commands that work long before they save. It tries to write there.
///
/// # Errors
/// If the name tells no format, its folder can't be made or written to, or something is there already.
pub fn check_new(path: &Path) -> Result<()> {
    let (writer, name) = target(path)?;
    if path.exists() {
        let problem = "exists already; remove it, or choose another name for the data set";
        return Err(Error::data(path, problem));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            std::fs::create_dir_all(folder).map_err(|e| {
                let folder = folder.display();
                Error::data(path, format!("its folder {folder} can't be made: {e}"))
            })?;
        }
        _ => {}
    }
    let beside = path.with_file_name(format!("{name}.partial"));
    let tried = if writer.endings.is_empty() {
        remove(&beside);
        std::fs::create_dir(&beside)
    } else {
        std::fs::write(&beside, [0; PROBE_BYTES])
    };
    remove(&beside);
    tried.map_err(|e| {
        let problem = format!("can't be written: {e}; free space there, or choose another place");
        Error::data(path, problem)
    })
}

/// What is written to see whether anything can be.
const PROBE_BYTES: usize = 1 << 16;

/// What the name of a data set asks for, and the name.
fn target(path: &Path) -> Result<(&'static Writer, &str)> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Error::data(path, "is no name for a data set"));
    };
    let ending = path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase);
    let asked = |writer: &&Writer| match &ending {
        Some(ending) => writer.endings.contains(&ending.as_str()),
        None => writer.endings.is_empty(),
    };
    let mut writers = FORMATS.iter().filter_map(|format| format.writer.as_ref());
    match writers.find(asked) {
        Some(writer) => Ok((writer, name)),
        None => {
            let endings = FORMATS.iter().filter_map(|format| format.writer.as_ref());
            let endings = endings.flat_map(|writer| writer.endings.iter().copied());
            let problem = format!(
                "can't tell the format from the name: end it in {}{}",
                formats::written(),
                did_you_mean(ending.as_deref().unwrap_or_default(), endings)
            );
            Err(Error::data(path, problem))
        }
    }
}

/// Saves a data set: a name that ends in `.hdf5` or `.h5` gets D4RL's layout, `.npz` the schema of
/// [`npz`](crate::formats::npz), and one without an ending becomes a Minari folder (HDF5 storage), which must not exist.
///
/// It is written beside its place and renamed, so that a failure leaves nothing half written.
///
/// # Errors
/// If the name has another ending, or writing fails (disk full, no permission).
pub fn save(data: &Dataset, path: &Path) -> Result<()> {
    let (writer, name) = target(path)?;
    let beside = path.with_file_name(format!("{name}.partial"));
    if writer.endings.is_empty() {
        if path.exists() {
            let problem = "exists already; remove it, or choose another name for the data set";
            return Err(Error::data(path, problem));
        }
        remove(&beside);
    }
    let written = (writer.write)(data, &beside, name);
    let renamed = written
        .map_err(|error| about(error, &beside, path))
        .and_then(|()| std::fs::rename(&beside, path).map_err(Error::io(path)));
    if renamed.is_err() {
        remove(&beside);
    }
    renamed
}

/// The error about the place that was asked for, not the one beside it.
fn about(error: Error, beside: &Path, asked: &Path) -> Error {
    let moved = |path: PathBuf| match path.strip_prefix(beside) {
        Ok(inner) if inner.as_os_str().is_empty() => asked.to_path_buf(),
        Ok(inner) => asked.join(inner),
        Err(_) => path,
    };
    match error {
        Error::Io { path, source } => {
            let path = moved(path);
            Error::Io { path, source }
        }
        Error::Data { path, problem } => {
            let path = moved(path);
            Error::Data { path, problem }
        }
        other => other,
    }
}

/// Removes what an unfinished write left; if that fails, so be it.
fn remove(path: &Path) {
    let _ = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
}

/// Reads `from`, writes `to`; the formats are detected as in [`load_one`] and [`save`].
///
/// # Errors
/// See there.
pub fn convert(from: &Path, to: &Path) -> Result<Dataset> {
    convert_with(from, to, &LoadOptions::default())
}

/// [`convert`] with options for the reader.
///
/// # Errors
/// See there.
pub fn convert_with(from: &Path, to: &Path, options: &LoadOptions) -> Result<Dataset> {
    let data = load_with(&[from.to_path_buf()], options)?;
    save(&data, to)?;
    Ok(data)
}
