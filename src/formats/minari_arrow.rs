//! Minari's Arrow storage: a folder with `metadata.json` and, for each episode, a folder `0`, `1`,
//! ... with `part-*.arrow` files.
//!
//! Each holds one row more than the episode has steps; in it, only the observation counts.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, read_footer_length};
use arrow_ipc::{root_as_footer, root_as_message};
use arrow_schema::{ArrowError, DataType, Fields};

use crate::formats::arrays::{ArrayFile, ArrayInfo, Kind, Sink, catch_panic};
use crate::formats::format::Format;
use crate::formats::minari::{Builder, EpisodeAttributes, Metadata, arrow_format};
use crate::formats::options::LoadOptions;
use crate::formats::vectors::choose_keys;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

const OBSERVATIONS: &str = "observations";

/// The format.
pub const FORMAT: Format = arrow_format(read);

/// Reads the data set in `folder`, the one with `metadata.json`.
///
/// # Errors
/// Names the episode's file, the array, and the row where there is one.
pub fn read(folder: &Path, options: &LoadOptions) -> Result<Dataset> {
    let metadata = Metadata::read(folder, &options.observation_keys)?;
    if metadata.has_missions {
        let problem = "observations are dictionaries with a mission, which is read from Minari's hdf5 storage only; \
                       convert it with the minari package";
        return Err(Error::data(folder, problem));
    }
    let episodes = episode_folders(folder)?;
    let mut bytes = 0;
    for files in &episodes {
        for file in files {
            bytes += std::fs::metadata(file).map_err(Error::io(file))?.len();
        }
    }
    let mut builder = Builder::new(folder, metadata, bytes);
    for files in &episodes {
        builder.add(
            &mut ArrowEpisode::open(files)?,
            &EpisodeAttributes::default(),
        )?;
    }
    builder.finish(episodes.len(), options)
}

/// The Arrow files of each episode, episodes in order.
fn episode_folders(folder: &Path) -> Result<Vec<Vec<PathBuf>>> {
    let mut episodes = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<usize>().ok());
        if let Some(number) = number.filter(|_| entry.path().is_dir()) {
            episodes.push((number, entry.path()));
        }
    }
    episodes.sort();
    if let Some((missing, _)) = episodes.iter().enumerate().find(|(i, (n, _))| i != n) {
        let problem =
            format!("the folder of episode {missing} is missing; copy the data set again");
        return Err(Error::data(folder, problem));
    }
    episodes
        .into_iter()
        .map(|(_, episode)| arrow_files(&episode))
        .collect()
}

fn arrow_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.extension().is_some_and(|ending| ending == "arrow") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::data(folder, "holds no .arrow file"));
    }
    // part-10 after part-9.
    files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(files)
}

/// The rows of one episode.
struct ArrowEpisode {
    path: PathBuf,
    batches: Vec<RecordBatch>,
    /// Rows of all batches: one more than steps.
    rows: usize,
}

impl ArrowEpisode {
    fn open(files: &[PathBuf]) -> Result<Self> {
        let mut batches = Vec::new();
        for path in files {
            batches.extend(read_batches(path)?);
        }
        let path = files.first().cloned().unwrap_or_default();
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Err(Error::data(&path, "holds no rows"));
        }
        Ok(Self {
            path,
            batches,
            rows,
        })
    }

    /// Rows of the array that count.
    fn rows_of(&self, name: &str) -> usize {
        if name == OBSERVATIONS || name.starts_with("observations/") {
            self.rows
        } else {
            self.rows - 1
        }
    }
}

impl ArrayFile for ArrowEpisode {
    fn path(&self) -> &Path {
        &self.path
    }

    fn describe(&mut self, name: &str) -> Result<Option<ArrayInfo>> {
        let Some(column) = self.batches.first().and_then(|batch| column(batch, name)) else {
            return Ok(None);
        };
        if let Some(keys) = self.keys(name)? {
            return Err(Error::data(&self.path, choose_keys(name, name, &keys)));
        }
        let (width, numbers) = match column.data_type() {
            DataType::FixedSizeList(field, width) => (Some(*width as usize), field.data_type()),
            plain => (None, plain),
        };
        let kind = kind_of(numbers).ok_or_else(|| {
            let held = match numbers {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
                DataType::FixedSizeList(..) => "vectors of more than one dimension",
                DataType::Binary | DataType::LargeBinary => "bytes, such as pictures",
                _ => "lists of varying length, or something else than numbers",
            };
            let problem = format!("array `{name}` holds {held}, expected vectors of numbers");
            Error::data(&self.path, problem)
        })?;
        let shape = std::iter::once(self.rows_of(name)).chain(width).collect();
        Ok(Some(ArrayInfo {
            name: name.to_owned(),
            shape,
            kind,
            fortran_order: false,
        }))
    }

    fn keys(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let found = self.batches.first().and_then(|batch| column(batch, name));
        Ok(found.and_then(|column| match column.data_type() {
            DataType::Struct(fields) => Some(vector_keys(fields, "")),
            _ => None,
        }))
    }

    fn visit(&mut self, info: &ArrayInfo, sink: &mut Sink<'_>) -> Result<()> {
        let (name, width) = (&info.name, info.width());
        let (mut first, total) = (0, info.rows() * width);
        for batch in &self.batches {
            let numbers = column(batch, name).and_then(|column| numbers(&column, width));
            let Some(mut numbers) = numbers else {
                let row = first / width.max(1);
                let problem =
                    format!("array `{name}`, row {row} and after: empty or of another type");
                return Err(Error::data(&self.path, problem));
            };
            numbers.truncate(total - first);
            sink(first, &numbers)?;
            first += numbers.len();
        }
        Ok(())
    }
}

/// The column `name` of a batch, or the one that its slashes lead to. None inside dictionaries that are missing in some
/// rows.
fn column(batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    let mut names = name.split('/');
    let mut column = batch.column_by_name(names.next()?)?.clone();
    for name in names {
        let dictionary = column.as_struct_opt()?;
        if dictionary.null_count() > 0 {
            return None;
        }
        column = dictionary.column_by_name(name)?.clone();
    }
    Some(column)
}

/// The names of all columns in a dictionary, with slashes where one holds another.
fn vector_keys(fields: &Fields, before: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for field in fields {
        let name = format!("{before}{}", field.name());
        match field.data_type() {
            DataType::Struct(inner) => keys.extend(vector_keys(inner, &format!("{name}/"))),
            _ => keys.push(name),
        }
    }
    keys
}

/// The record batches of a file.
fn read_batches(path: &Path) -> Result<Vec<RecordBatch>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if check_blocks(&bytes).is_none() {
        return Err(Error::data(
            path,
            "Arrow file is damaged, cut off or of an unsupported kind",
        ));
    }
    let read = || FileReader::try_new(Cursor::new(bytes), None)?.collect();
    let found: Option<std::result::Result<Vec<RecordBatch>, ArrowError>> = catch_panic(read);
    let problem = match found {
        Some(Ok(batches)) => return Ok(batches),
        Some(Err(error)) => error.to_string(),
        None => "the reader gave up".into(),
    };
    let problem = format!("Arrow file is damaged, cut off or of an unsupported kind: {problem}");
    Err(Error::data(path, problem))
}

/// `None` unless every block of the file, and every buffer inside it, lies where the file has
/// bytes, and no block in the place of another: the library would panic or reserve memory for it otherwise.
fn check_blocks(bytes: &[u8]) -> Option<()> {
    let end = bytes.len().checked_sub(10)?;
    let footer_length = read_footer_length(bytes[end..].try_into().ok()?).ok()?;
    let footer = root_as_footer(&bytes[end.checked_sub(footer_length)?..end]).ok()?;
    let blocks = footer.recordBatches()?;
    let dictionaries = footer.dictionaries();
    // Blocks that name the same bytes again would be read, and kept, once more each.
    let mut left = bytes.len();
    for block in blocks
        .iter()
        .chain(dictionaries.iter().flat_map(|blocks| blocks.iter()))
    {
        let start = usize::try_from(block.offset()).ok()?;
        let head = usize::try_from(block.metaDataLength()).ok()?;
        let body = usize::try_from(block.bodyLength()).ok()?;
        let message = bytes.get(start..)?.get(..head)?;
        bytes.get(start.checked_add(head)?..)?.get(..body)?;
        left = left.checked_sub(head)?.checked_sub(body)?;
        // The length in front, possibly with a marker of four bytes before it.
        let skip = if message.get(..4)? == [0xff; 4] { 8 } else { 4 };
        let message = root_as_message(message.get(skip..)?).ok()?;
        let Some(batch) = message.header_as_record_batch() else {
            continue;
        };
        // A row takes at least a bit.
        let possible = |rows: i64| usize::try_from(rows).is_ok_and(|rows| rows / 8 <= body);
        let nodes = batch.nodes()?;
        (possible(batch.length()) && nodes.iter().all(|n| possible(n.length()))).then_some(())?;
        for buffer in batch.buffers()?.iter() {
            let from = usize::try_from(buffer.offset()).ok()?;
            let to = from.checked_add(usize::try_from(buffer.length()).ok()?)?;
            (to <= body).then_some(())?;
        }
    }
    Some(())
}

fn kind_of(numbers: &DataType) -> Option<Kind> {
    match numbers {
        DataType::Boolean => Some(Kind::Bool),
        numbers if numbers.is_integer() => Some(Kind::Integer),
        numbers if numbers.is_floating() => Some(Kind::Float),
        _ => None,
    }
}

/// The numbers of a column; `None` if they have another type or width, or some are null.
fn numbers(column: &ArrayRef, width: usize) -> Option<Vec<f64>> {
    if column.null_count() > 0 {
        return None;
    }
    let Some(list) = column.as_fixed_size_list_opt() else {
        return plain_numbers(column, 0, column.len());
    };
    let values = list.values();
    if list.value_length() as usize != width || values.null_count() > 0 {
        return None;
    }
    plain_numbers(values, list.value_offset_at(0), list.len() * width)
}

fn plain_numbers(array: &ArrayRef, from: usize, count: usize) -> Option<Vec<f64>> {
    fn cast<T: ArrowPrimitiveType>(array: &ArrayRef, to_f64: fn(T::Native) -> f64) -> Vec<f64> {
        array
            .as_primitive::<T>()
            .values()
            .iter()
            .map(|&v| to_f64(v))
            .collect()
    }
    let array = (from + count <= array.len()).then(|| array.slice(from, count))?;
    Some(match array.data_type() {
        DataType::Boolean => array
            .as_boolean()
            .values()
            .iter()
            .map(|v| f64::from(u8::from(v)))
            .collect(),
        DataType::Float16 => cast::<Float16Type>(&array, |v| v.to_f64()),
        DataType::Float32 => cast::<Float32Type>(&array, f64::from),
        DataType::Float64 => cast::<Float64Type>(&array, |v| v),
        DataType::Int8 => cast::<Int8Type>(&array, f64::from),
        DataType::Int16 => cast::<Int16Type>(&array, f64::from),
        DataType::Int32 => cast::<Int32Type>(&array, f64::from),
        DataType::Int64 => cast::<Int64Type>(&array, |v| v as f64),
        DataType::UInt8 => cast::<UInt8Type>(&array, f64::from),
        DataType::UInt16 => cast::<UInt16Type>(&array, f64::from),
        DataType::UInt32 => cast::<UInt32Type>(&array, f64::from),
        DataType::UInt64 => cast::<UInt64Type>(&array, |v| v as f64),
        _ => return None,
    })
}
