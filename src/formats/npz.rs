//! NumPy's `.npz`, stored or deflated: reading arrays, reading and writing data sets.
//!
//! # Schema of a data set
//!
//! | array | shape | |
//! |---|---|---|
//! | `observations` or `obs` | (steps, O) | required |
//! | `actions` | (steps, A); discrete: integers (steps,) or (steps, 1) | required |
//! | `action_choices` | (1,) or () | how many choices an action is one of: makes floats choices too; without it one more than the largest integer |
//! | `rewards` | (steps,) | required |
//! | `terminations` or `terminals` | (steps,) | 1 where the task itself ended |
//! | `truncations` or `timeouts` | (steps,) | 1 where a time limit ended the episode |
//! | `episode_starts` | (steps,) | 1 at the first step of each episode; rows before the first one belong to an episode whose start is missing |
//! | `episode_lengths` | (episodes,) | steps of each episode; their sum is `steps` |
//! | `next_observations` or `next_obs` | (steps, O) | the observation after each step; NaN where it is not known |
//! | `action_low`, `action_high` | (A,) | the range of actions, where the file knows it; infinite where there is no bound |
//! | `episode_parts` | (steps,) | written by this program where ends don't say it all: 1 where an episode begins, 2 where a part of one begins whose first steps are missing, else 0 |
//! | `episode_returns` | (episodes,) | beside `episode_starts`: says that the last one is whole |
//! | `instructions` | (episodes,) text | what each episode was asked to do, e.g. `np.array(["go left", ...])`; empty: nothing |
//! | `env_name` | text | the environment's name, e.g. `np.array("Hopper-v5")` |
//!
//! `observations` and `next_observations` may be dictionaries (`observations/goal` and so on), of which
//! `data.observation_keys` chooses the keys. At least one of the four kinds of ends is required. Where episodes end by `episode_starts` or
//! `episode_lengths` alone, nothing says why: they count as truncated. Numbers may be float16, 32
//! or 64 (integers and bool where they fit), in C or Fortran order, of either byte order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::formats::arrays::{ArrayFile, ArrayInfo, Kind, Sink, plausible_bytes};
use crate::formats::ends;
use crate::formats::flat;
use crate::formats::format::{Format, Place, Writer};
use crate::formats::npy::{Code, Header};
use crate::formats::options::LoadOptions;
use crate::formats::vectors::choose_keys;
use trajformer_core::atomic::write_atomically;
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::error::{Error, Result};

/// Numbers decoded at a time.
const WINDOW: usize = 1 << 15;

/// An array from an `.npz` file, row-major whatever the order in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    /// Its dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: NpyValues,
}

/// Numbers of an [`NpyArray`].
#[derive(Debug, Clone, PartialEq)]
pub enum NpyValues {
    /// From float16 and float32.
    F32(Vec<f32>),
    /// From float64.
    F64(Vec<f64>),
    /// From int8 to int64.
    I64(Vec<i64>),
    /// From uint8 to uint64.
    U64(Vec<u64>),
    /// From bool.
    Bool(Vec<bool>),
    /// From text (`<U..` or `|S..`).
    Text(Vec<String>),
}

impl NpyArray {
    /// The numbers as f64 (64-bit integers above 2^53 are rounded); text has none.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.values {
            NpyValues::F32(v) => v.iter().map(|&v| f64::from(v)).collect(),
            NpyValues::F64(v) => v.clone(),
            NpyValues::I64(v) => v.iter().map(|&v| v as f64).collect(),
            NpyValues::U64(v) => v.iter().map(|&v| v as f64).collect(),
            NpyValues::Bool(v) => v.iter().map(|&v| f64::from(u8::from(v))).collect(),
            NpyValues::Text(_) => Vec::new(),
        }
    }

    /// The numbers as f32, rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            NpyValues::F32(v) => v.clone(),
            _ => self.to_f64().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// The numbers as flags: whether they differ from zero.
    pub fn to_bool(&self) -> Vec<bool> {
        match &self.values {
            NpyValues::Bool(v) => v.clone(),
            _ => self.to_f64().into_iter().map(|v| v != 0.0).collect(),
        }
    }

    fn from_stored(header: &Header, bytes: &[u8]) -> Self {
        let (rows, columns) = match header.shape.split_first() {
            Some((&first, rest)) if header.fortran_order => (first, rest.iter().product()),
            _ => (header.count(), 1),
        };
        let shape = header.shape.clone();
        let index = |k: usize| {
            if !header.fortran_order {
                k
            } else if shape.len() > 2 {
                fortran_index(&shape, k)
            } else {
                k % columns * rows + k / columns
            }
        };
        let number = |k: usize| &bytes[index(k) * header.size..(index(k) + 1) * header.size];
        let count = 0..header.count();
        let values = match (header.code, header.size) {
            (Code::Bool, _) => {
                NpyValues::Bool(count.map(|k| header.bits(number(k)) != 0).collect())
            }
            (Code::Signed, _) => NpyValues::I64(
                count
                    .map(|k| header.sign_extend(header.bits(number(k))))
                    .collect(),
            ),
            (Code::Unsigned, _) => NpyValues::U64(count.map(|k| header.bits(number(k))).collect()),
            (Code::Text { .. }, _) => {
                NpyValues::Text(count.map(|k| header.text(number(k))).collect())
            }
            (Code::Float, 8) => NpyValues::F64(count.map(|k| header.decode(number(k))).collect()),
            (Code::Float, _) => {
                NpyValues::F32(count.map(|k| header.decode(number(k)) as f32).collect())
            }
        };
        Self { shape, values }
    }
}

/// Place in Fortran order of the number at place `k` in C order.
fn fortran_index(shape: &[usize], mut k: usize) -> usize {
    let mut coordinates = vec![0; shape.len()];
    for (coordinate, &n) in coordinates.iter_mut().zip(shape).rev() {
        *coordinate = k % n;
        k /= n;
    }
    coordinates
        .iter()
        .zip(shape)
        .rev()
        .fold(0, |index, (&c, &n)| index * n + c)
}

/// Reads every array of an `.npz` file, by name.
///
/// # Errors
/// If the file can't be read, is damaged or cut off, or an array holds no plain numbers.
pub fn read_npz(path: &Path) -> Result<BTreeMap<String, NpyArray>> {
    let mut file = NpzFile::open(path)?;
    let mut arrays = BTreeMap::new();
    for name in file.names() {
        let mut bytes = Vec::new();
        let header = file.with_array(&name, |header, reader| {
            let expected = header.count() * header.size;
            bytes
                .try_reserve_exact(expected)
                .map_err(|e| format!("needs too much memory ({e})"))?;
            match reader.take(expected as u64).read_to_end(&mut bytes) {
                Ok(found) if found == expected => {
                    check_end(reader)?;
                    Ok(header.clone())
                }
                Ok(found) => Err(format!("is cut off: {found} bytes, expected {expected}")),
                Err(error) => Err(format!("can't be unpacked: {error}")),
            }
        })?;
        arrays.insert(name, NpyArray::from_stored(&header, &bytes));
    }
    Ok(arrays)
}

/// The arrays of an `.npz` or `.npy` file, by name, the only one of an `.npy` file as `observations`; `None` if it is neither.
///
/// # Errors
/// As [`read_npz`].
pub fn read_arrays(path: &Path) -> Result<Option<BTreeMap<String, NpyArray>>> {
    let place = Place::at(path)?;
    if place.has(b"\x93NUMPY", &[0]) {
        let array = read_npy(path)?;
        return Ok(Some(BTreeMap::from([("observations".to_owned(), array)])));
    }
    match detect(&place)? {
        Some(_) => read_npz(path).map(Some),
        None => Ok(None),
    }
}

/// Reads an `.npy` file.
///
/// # Errors
/// If it can't be read, is cut off, or holds no plain numbers.
pub fn read_npy(path: &Path) -> Result<NpyArray> {
    let problem = |what: String| Error::data(path, format!("npy file {what}"));
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let header = Header::read(&mut file).map_err(problem)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    let expected = header.count().saturating_mul(header.size);
    if bytes.len() != expected {
        let found = bytes.len();
        return Err(problem(format!(
            "has {found} bytes of numbers, expected {expected} by its shape {:?}",
            header.shape
        )));
    }
    Ok(NpyArray::from_stored(&header, &bytes))
}

/// Writes one array of f32 as an `.npz` file, which is there as a whole or not at all.
///
/// # Errors
/// If the file can't be written.
pub fn write_array(path: &Path, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .large_file(true);
    let failed = |e: zip::result::ZipError| Error::io(path)(std::io::Error::other(e));
    writer
        .start_file(format!("{name}.npy"), options)
        .map_err(failed)?;
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut bytes = values.iter().flat_map(|value| value.to_le_bytes());
    write_npy(
        &mut writer,
        "<f4",
        &format!("({})", sizes.trim_end()),
        &mut bytes,
    )
    .map_err(Error::io(path))?;
    let file = writer.finish().map_err(failed)?;
    write_atomically(path, &file.into_inner())
}

/// Names of the arrays of an `.npz` file, each unpacked once and compared with its checksum.
pub(super) fn check_arrays(path: &Path) -> Result<Vec<String>> {
    let mut file = NpzFile::open(path)?;
    let names = file.names();
    for name in &names {
        file.with_array(name, |header, reader| {
            let expected = (header.count() * header.size) as u64;
            match std::io::copy(&mut reader.take(expected), &mut std::io::sink()) {
                Ok(found) if found == expected => check_end(reader),
                Ok(found) => Err(format!("is cut off: {found} bytes, expected {expected}")),
                Err(error) => Err(format!("can't be unpacked: {error}")),
            }
        })?;
    }
    Ok(names)
}

/// Reads on to the end, where the archive compares its checksum.
fn check_end(reader: &mut dyn Read) -> std::result::Result<(), String> {
    let mut rest = [0u8; 64];
    match reader.read(&mut rest) {
        Ok(0) => Ok(()),
        Ok(_) => Err("holds more bytes than its shape says".into()),
        Err(error) => Err(format!("is damaged ({error})")),
    }
}

/// What to say about an archive that NumPy did not write.
const OTHERWISE_PACKED: &str = "is packed in a way that is not read (another compression, or a password): save it with \
                                np.savez or np.savez_compressed";

/// What is wrong with an archive, and what helps.
fn explain(error: &zip::result::ZipError) -> String {
    match error {
        zip::result::ZipError::UnsupportedArchive(_) | zip::result::ZipError::InvalidPassword => {
            OTHERWISE_PACKED.to_owned()
        }
        other => format!("is damaged or cut off ({other}); copy it again"),
    }
}

/// An open `.npz` file.
struct NpzFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl NpzFile {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let problem = |error: zip::result::ZipError| {
            Error::data(path, format!("npz file {}", explain(&error)))
        };
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(problem)?;
        // A few kilobytes could otherwise be the content of any number of arrays.
        if archive.has_overlapping_files().map_err(problem)? {
            let problem =
                "npz file is damaged: several arrays lie at the same place; copy it again";
            return Err(Error::data(path, problem));
        }
        Ok(Self {
            path: path.to_path_buf(),
            archive,
        })
    }

    /// Names of the arrays, sorted.
    fn names(&self) -> Vec<String> {
        let files = self.archive.file_names().flatten();
        let mut names: Vec<String> = files
            .filter_map(|file| file.strip_suffix(".npy").map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// The only string of the array `name`, if it is there and is text.
    fn text(&mut self, name: &str) -> Result<Option<String>> {
        if self
            .archive
            .index_for_name(&format!("{name}.npy"))
            .is_none()
        {
            return Ok(None);
        }
        self.with_array(name, |header, reader| {
            let is_text = matches!(header.code, Code::Text { .. });
            if !is_text || header.count() != 1 || header.size > 4096 {
                return Ok(None);
            }
            let mut bytes = vec![0u8; header.size];
            reader
                .read_exact(&mut bytes)
                .map_err(|error| format!("is cut off ({error})"))?;
            Ok(Some(header.text(&bytes)).filter(|text| !text.is_empty()))
        })
    }

    /// The strings of the array `name`, if it is there.
    fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        if self
            .archive
            .index_for_name(&format!("{name}.npy"))
            .is_none()
        {
            return Ok(None);
        }
        self.with_array(name, |header, reader| {
            if !matches!(header.code, Code::Text { .. }) || header.shape.len() != 1 {
                return Err("is no list of texts, e.g. np.array([\"go left\", ...])".into());
            }
            let mut bytes = vec![0u8; header.size];
            let mut texts = Vec::new();
            for _ in 0..header.count() {
                reader
                    .read_exact(&mut bytes)
                    .map_err(|error| format!("is cut off ({error})"))?;
                texts.push(header.text(&bytes));
            }
            check_end(reader)?;
            Ok(Some(texts))
        })
    }

    /// Opens an array and hands its header and the bytes that follow to `read`.
    fn with_array<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Header, &mut dyn Read) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let path = self.path.clone();
        let problem = |what: String| Error::data(&path, format!("array `{name}` {what}"));
        let damaged = |error: zip::result::ZipError| problem(explain(&error));
        let mut entry = self
            .archive
            .by_name(&format!("{name}.npy"))
            .map_err(damaged)?;
        let known = [
            zip::CompressionMethod::Stored,
            zip::CompressionMethod::Deflated,
        ];
        if !known.contains(&entry.compression()) {
            return Err(problem(OTHERWISE_PACKED.to_owned()));
        }
        let (stored, size) = (entry.compressed_size(), entry.size());
        let header = Header::read(&mut entry).map_err(problem)?;
        let claimed = header.count().saturating_mul(header.size) as u64;
        if claimed > size || claimed > plausible_bytes(stored) {
            let shape = &header.shape;
            return Err(problem(format!(
                "is cut off: {size} bytes can't hold the shape {shape:?}"
            )));
        }
        read(&header, &mut entry).map_err(problem)
    }
}

impl ArrayFile for NpzFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn describe(&mut self, name: &str) -> Result<Option<ArrayInfo>> {
        if self
            .archive
            .index_for_name(&format!("{name}.npy"))
            .is_none()
        {
            return match self.keys(name)? {
                Some(keys) => Err(Error::data(&self.path, choose_keys(name, name, &keys))),
                None => Ok(None),
            };
        }
        let header = self.with_array(name, |header, _| Ok(header.clone()))?;
        let kind = match header.code {
            Code::Bool => Kind::Bool,
            Code::Signed | Code::Unsigned => Kind::Integer,
            Code::Float => Kind::Float,
            Code::Text { .. } => {
                let problem = format!("array `{name}` holds text, expected numbers");
                return Err(Error::data(&self.path, problem));
            }
        };
        let (shape, fortran_order) = (header.shape, header.fortran_order);
        Ok(Some(ArrayInfo {
            name: name.to_owned(),
            shape,
            kind,
            fortran_order,
        }))
    }

    fn keys(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let prefix = format!("{name}/");
        let inside = self.names().into_iter();
        let keys: Vec<String> = inside
            .filter_map(|file| file.strip_prefix(&prefix).map(str::to_owned))
            .collect();
        Ok(Some(keys).filter(|keys| !keys.is_empty()))
    }

    fn visit(&mut self, info: &ArrayInfo, sink: &mut Sink<'_>) -> Result<()> {
        let mut outcome = Ok(());
        self.with_array(&info.name, |header, reader| {
            let (mut first, total) = (0, header.count());
            let mut bytes = vec![0u8; WINDOW.min(total) * header.size];
            let mut window = Vec::with_capacity(WINDOW.min(total));
            while first < total {
                let count = WINDOW.min(total - first);
                let bytes = &mut bytes[..count * header.size];
                reader
                    .read_exact(bytes)
                    .map_err(|error| format!("is damaged or cut off ({error})"))?;
                window.clear();
                window.extend(bytes.chunks_exact(header.size).map(|b| header.decode(b)));
                outcome = sink(first, &window);
                if outcome.is_err() {
                    break;
                }
                first += count;
            }
            if outcome.is_ok() {
                check_end(reader)
            } else {
                Ok(())
            }
        })?;
        outcome
    }
}

/// The format.
pub const FORMAT: Format = Format {
    name: "npz",
    file: Some("npz"),
    folder: None,
    range_keys: "`action_low` and `action_high`",
    detect,
    read,
    writer: Some(Writer {
        endings: &["npz"],
        write: |data, path, _| write(data, path),
    }),
};

/// Zip archives, empty ones too.
pub(super) fn detect(place: &Place<'_>) -> Result<Option<PathBuf>> {
    let is_zip = [b"PK\x03\x04", b"PK\x05\x06"].map(|first| place.has(first, &[0]));
    Ok(is_zip.contains(&true).then(|| place.path.to_path_buf()))
}

/// Reads a data set; the module says how the arrays are called.
///
/// # Errors
/// Names the array, and the row where there is one.
pub fn read(path: &Path, options: &LoadOptions) -> Result<Dataset> {
    let mut file = NpzFile::open(path)?;
    let steps = flat::read_steps(&mut file, &options.observation_keys)?;
    let mut cutting = ends::npz_cutting(&mut file, steps.count(), options)?;
    cutting.env_name = file.text("env_name")?;
    let mut data = flat::assemble(&mut file, steps, &cutting)?;
    if let Some(texts) = file.texts(flat::INSTRUCTIONS)? {
        flat::instruct(&mut data, path, texts)?;
    }
    Ok(data)
}

/// Writes a data set in the schema of this module, deflated: `terminations`, `truncations`, and
/// `next_observations` if the observation after the last step of any episode is known, NaN where it is not.
///
/// # Errors
/// If the file can't be written.
pub fn write(data: &Dataset, path: &Path) -> Result<()> {
    let file = File::create(path).map_err(Error::io(path))?;
    let mut failure = None;
    let written = write_arrays(
        data,
        path,
        Remembering {
            inner: std::io::BufWriter::new(file),
            failure: &mut failure,
        },
    );
    // Only the first failure says what happened.
    match failure {
        Some(error) => Err(Error::io(path)(error)),
        None => written,
    }
}

/// Keeps the first failure and takes everything after it: the library would complain to standard
/// error when it is dropped.
struct Remembering<'a, W> {
    inner: W,
    failure: &'a mut Option<std::io::Error>,
}

impl<W> Remembering<'_, W> {
    fn keep<T>(&mut self, result: std::io::Result<T>, instead: T) -> std::io::Result<T> {
        result.or_else(|error| {
            self.failure.get_or_insert(error);
            Ok(instead)
        })
    }
}

impl<W: Write> Write for Remembering<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.failure.is_some() {
            return Ok(bytes.len());
        }
        let written = self.inner.write(bytes);
        self.keep(written, bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.inner.flush();
        self.keep(flushed, ())
    }
}

impl<W: Seek> Seek for Remembering<'_, W> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        let found = self.inner.seek(to);
        self.keep(found, 0)
    }
}

fn write_arrays(
    data: &Dataset,
    path: &Path,
    file: Remembering<'_, std::io::BufWriter<File>>,
) -> Result<()> {
    let mut writer = zip::ZipWriter::new(file);
    let steps = data.steps();
    let shape = |width: usize| format!("({steps}, {width})");
    let mut add = |name: &str, descr: &str, shape: &str, bytes: &mut dyn Iterator<Item = u8>| {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .large_file(true);
        let started = writer.start_file(format!("{name}.npy"), options);
        started.map_err(|e| Error::io(path)(std::io::Error::other(e)))?;
        write_npy(&mut writer, descr, shape, bytes).map_err(Error::io(path))
    };
    let mut observations = data.observations.iter().flat_map(|v| v.to_le_bytes());
    add(
        "observations",
        "<f4",
        &shape(data.observation_dim),
        &mut observations,
    )?;
    match data.action_kind {
        ActionKind::Continuous => {
            let mut actions = data.actions.iter().flat_map(|v| v.to_le_bytes());
            add("actions", "<f4", &shape(data.action_dim), &mut actions)?;
        }
        ActionKind::Discrete { count } => {
            let mut actions = data.actions.iter().flat_map(|&v| (v as i64).to_le_bytes());
            add("actions", "<i8", &format!("({steps},)"), &mut actions)?;
            let mut choices = (count as i64).to_le_bytes().into_iter();
            add(flat::CHOICES, "<i8", "(1,)", &mut choices)?;
        }
    }
    let column = format!("({steps},)");
    add(
        "rewards",
        "<f4",
        &column,
        &mut data.rewards.iter().flat_map(|v| v.to_le_bytes()),
    )?;
    let (terminated, truncated) = flat::flags(data);
    add(
        "terminations",
        "|b1",
        &column,
        &mut terminated.into_iter().map(u8::from),
    )?;
    add(
        "truncations",
        "|b1",
        &column,
        &mut truncated.into_iter().map(u8::from),
    )?;
    if let Some(rows) = flat::next_observations(data) {
        let mut bytes = rows.flat_map(|row| {
            row.iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<u8>>()
        });
        add(
            "next_observations",
            "<f4",
            &shape(data.observation_dim),
            &mut bytes,
        )?;
    }
    if let Some((low, high)) = &data.action_bounds {
        let shape = format!("({},)", data.action_dim);
        for (name, values) in ends::BOUNDS.iter().zip([low, high]) {
            add(
                name,
                "<f4",
                &shape,
                &mut values.iter().flat_map(|v| v.to_le_bytes()),
            )?;
        }
    }
    if let Some(parts) = ends::episode_parts(data) {
        add(ends::PARTS, "|u1", &column, &mut parts.into_iter())?;
    }
    if let Some(texts) = flat::instructions(data) {
        let longest = texts.iter().map(|text| text.chars().count()).max();
        let longest = longest.unwrap_or(0).max(1);
        let padded = |text: &str| {
            let padding = std::iter::repeat('\0');
            text.chars()
                .chain(padding)
                .take(longest)
                .collect::<Vec<_>>()
        };
        let mut bytes = texts
            .iter()
            .flat_map(|text| padded(text))
            .flat_map(|c| u32::from(c).to_le_bytes());
        let shape = format!("({},)", texts.len());
        add(
            flat::INSTRUCTIONS,
            &format!("<U{longest}"),
            &shape,
            &mut bytes,
        )?;
    }
    if let Some(env_name) = &data.env_name {
        let characters = env_name.chars().count().max(1);
        let mut bytes = env_name.chars().flat_map(|c| u32::from(c).to_le_bytes());
        add("env_name", &format!("<U{characters}"), "()", &mut bytes)?;
    }
    let mut finished = writer
        .finish()
        .map_err(|e| Error::io(path)(std::io::Error::other(e)))?;
    finished.flush().map_err(Error::io(path))
}

fn write_npy(
    writer: &mut dyn Write,
    descr: &str,
    shape: &str,
    bytes: &mut dyn Iterator<Item = u8>,
) -> std::io::Result<()> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length are 10 bytes; all of it is padded to 64 and ends a line.
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    writer.write_all(b"\x93NUMPY\x01\x00")?;
    writer.write_all(&(header.len() as u16).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    let mut buffer = Vec::with_capacity(WINDOW);
    for byte in bytes {
        buffer.push(byte);
        if buffer.len() == WINDOW {
            writer.write_all(&buffer)?;
            buffer.clear();
        }
    }
    writer.write_all(&buffer)
}
