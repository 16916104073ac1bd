//! HDF5 files as named arrays, through `hdf5-pure`: read in row windows from the open file.
//! A panic inside the library becomes an error.

use std::ops::Range;
use std::path::Path;

use hdf5_pure::{
    DType, Dataset, DatasetBuilder, Datatype, DatatypeByteOrder, EnumTypeBuilder, make_i8_type,
};

use crate::formats::arrays::{ArrayFile, ArrayInfo, Kind, Sink, plausible_bytes};
use crate::formats::hdf5_errors::{guard, plain, type_name};
use crate::formats::hdf5_group::Hdf5Group;
use crate::formats::npy::half_to_f32;
use crate::formats::vectors::choose_keys;
use trajformer_core::error::{Error, Result};

/// Bytes of a row window, as f64.
const WINDOW_BYTES: usize = 1 << 20;

/// No unpacked chunks are kept.
const NO_CACHE: (usize, usize) = (0, 0);

impl Hdf5Group {
    /// The strings of the array `name`, of fixed or variable length, if it is there.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let full = format!("{}{name}", self.prefix);
        let dataset = match self.dataset(name, NO_CACHE) {
            Ok(Some(dataset)) => dataset,
            missing => {
                return match self.follow(name)? {
                    Some((place, object)) => place.texts(&object),
                    None => missing.map(|_| None),
                };
            }
        };
        let (shape, element) = guard(&self.path, &full, || {
            Ok((dataset.shape()?, dataset.element_size()?))
        })?;
        let claimed = shape
            .iter()
            .fold(element, |bytes, &n| bytes.saturating_mul(n));
        if shape.len() != 1 || claimed > plausible_bytes(self.bytes) {
            let problem = format!("array `{full}` has shape {shape:?}, expected a list of texts");
            return Err(Error::data(&self.path, problem));
        }
        self.check_chunks(&dataset, &full)?;
        guard(&self.path, &full, || dataset.read_string()).map(Some)
    }

    /// Names of the arrays in this group and those inside, each found to lie inside of the file.
    pub(super) fn check_arrays(&self) -> Result<Vec<String>> {
        let names = self.keys_inside()?;
        for name in &names {
            // What a link leads to is another file's.
            if let Some(dataset) = self.dataset(name, NO_CACHE)? {
                self.check_chunks(&dataset, &format!("{}{name}", self.prefix))?;
            }
        }
        Ok(names)
    }

    /// Fails if a chunk lies outside the file or unpacks to more than the file can hold: the library
    /// would reserve memory for it before it finds out.
    fn check_chunks(&self, dataset: &Dataset, full: &str) -> Result<()> {
        let (chunk, element) = guard(&self.path, full, || {
            Ok((dataset.chunk_shape()?, dataset.element_size()?))
        })?;
        let Some(chunk) = chunk else {
            return Ok(());
        };
        let unpacked = chunk
            .iter()
            .fold(element, |bytes, &n| bytes.saturating_mul(n));
        // An index that the library can't list (a version 2 B-tree) is checked when it is read.
        let chunks = guard(&self.path, full, || Ok(dataset.chunks()))?.unwrap_or_default();
        let inside = |chunk: &hdf5_pure::Chunk| {
            chunk.address.saturating_add(chunk.storage_size) <= self.bytes
        };
        if unpacked > plausible_bytes(self.bytes) || !chunks.iter().all(inside) {
            let problem = format!(
                "HDF5 file is damaged or cut off: chunks of array `{full}` lie beyond its end"
            );
            return Err(Error::data(&self.path, problem));
        }
        Ok(())
    }
}

impl ArrayFile for Hdf5Group {
    fn path(&self) -> &Path {
        &self.path
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn describe(&mut self, name: &str) -> Result<Option<ArrayInfo>> {
        let full = self.full_name(name);
        if let Some(keys) = self.keys(name)? {
            return Err(Error::data(&self.path, choose_keys(&full, name, &keys)));
        }
        let dataset = match self.dataset(name, NO_CACHE) {
            Ok(Some(dataset)) => dataset,
            missing => {
                let Some((mut place, object)) = self.follow(name)? else {
                    return missing.map(|_| None);
                };
                let info = place.describe(&object)?;
                return Ok(info.map(|info| ArrayInfo { name: full, ..info }));
            }
        };
        let (shape, dtype, element) = guard(&self.path, &full, || {
            Ok((dataset.shape()?, dataset.dtype()?, dataset.element_size()?))
        })?;
        let kind = kind_of(&dtype, element).ok_or_else(|| {
            let problem = format!(
                "array `{full}` holds {}, expected numbers",
                type_name(&dtype)
            );
            Error::data(&self.path, problem)
        })?;
        let claimed = shape
            .iter()
            .fold(element, |bytes, &n| bytes.saturating_mul(n));
        // A dimension of zero hides what those beside it come to.
        let inner = shape
            .iter()
            .try_fold(element, |bytes, &n| bytes.checked_mul(n.max(1)));
        if claimed > plausible_bytes(self.bytes) || inner.is_none() {
            let problem = format!(
                "array `{full}` claims the shape {shape:?}, more than a file of {} bytes can hold; \
                 it is damaged or cut off",
                self.bytes
            );
            return Err(Error::data(&self.path, problem));
        }
        let shape = shape.into_iter().map(|n| n as usize).collect();
        Ok(Some(ArrayInfo {
            name: full,
            shape,
            kind,
            fortran_order: false,
        }))
    }

    fn keys(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        match self.group(name)? {
            Some(group) => group.keys_inside().map(Some),
            None => Ok(None),
        }
    }

    fn visit(&mut self, info: &ArrayInfo, sink: &mut Sink<'_>) -> Result<()> {
        let full = &info.name;
        let name = full.strip_prefix(&self.prefix).unwrap_or(full);
        let missing = || Error::data(&self.path, format!("array `{full}` is missing"));
        let dataset = match self.dataset(name, NO_CACHE) {
            Ok(Some(dataset)) => dataset,
            other => {
                let Some((mut place, object)) = self.follow(name)? else {
                    return Err(other.err().unwrap_or_else(missing));
                };
                let info = ArrayInfo {
                    name: object,
                    ..info.clone()
                };
                return place.visit(&info, sink);
            }
        };
        let (rows, width) = (info.rows(), info.width());
        self.check_chunks(&dataset, full)?;
        let (window_rows, cache) = guard(&self.path, full, || window(&dataset, info))?;
        let dataset = self.dataset(name, cache)?.ok_or_else(missing)?;
        let mut row = 0;
        while row < rows && width > 0 {
            let count = window_rows.min(rows - row);
            let window = guard(&self.path, full, || {
                read_window(&dataset, info.kind, row..row + count)
            })?;
            if window.len() != count * width {
                let found = window.len();
                let problem = format!(
                    "array `{full}`, row {row}: {found} numbers, expected {}; it is damaged or of \
                     an unusual number format",
                    count * width
                );
                return Err(Error::data(&self.path, problem));
            }
            sink(row * width, &window)?;
            row += count;
        }
        Ok(())
    }
}

fn kind_of(dtype: &DType, element_bytes: u64) -> Option<Kind> {
    match dtype {
        DType::F32 | DType::F64 => Some(Kind::Float),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Some(Kind::Integer),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => Some(Kind::Integer),
        // NumPy's bool: an enumeration of FALSE and TRUE in one byte.
        DType::Enum(_) if element_bytes == 1 => Some(Kind::Bool),
        // HDF5's own bool, which PyTables writes.
        DType::Other(inner) if matches!(**inner, Datatype::BitField { size: 1, .. }) => {
            Some(Kind::Bool)
        }
        // NumPy's float16.
        DType::Other(_) if half_order(dtype).is_some() => Some(Kind::Float),
        _ => None,
    }
}

/// Rows to read at once, and the chunks to keep unpacked meanwhile with their bytes.
///
/// A window is about a megabyte and a whole number of chunks, so that none is unpacked twice and
/// none need be kept; where a row of chunks is much larger, it is kept and read in parts.
fn window(
    dataset: &Dataset,
    info: &ArrayInfo,
) -> std::result::Result<(usize, (usize, usize)), hdf5_pure::Error> {
    let width = info.width().max(1);
    let rows = (WINDOW_BYTES / (8 * width)).max(1);
    let Some(chunk) = dataset.chunk_shape()? else {
        return Ok((rows, NO_CACHE));
    };
    let extents = chunk
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(usize::MAX).max(1));
    let extents: Vec<usize> = extents.collect();
    let chunk_rows = extents.first().copied().unwrap_or(1);
    if chunk_rows / 8 <= rows {
        return Ok((
            (rows / chunk_rows).max(1).saturating_mul(chunk_rows),
            NO_CACHE,
        ));
    }
    let across = info
        .shape
        .iter()
        .zip(&extents)
        .skip(1)
        .map(|(n, chunk)| n.div_ceil(*chunk));
    let chunks = across.fold(1, usize::saturating_mul);
    let numbers = extents.iter().copied().fold(1, usize::saturating_mul);
    let bytes = numbers
        .saturating_mul(dataset.element_size()? as usize)
        .saturating_mul(chunks);
    Ok((rows, (chunks.saturating_add(1), bytes)))
}

/// The byte order of float16, which the library does not turn into numbers; `None` for other types.
fn half_order(dtype: &DType) -> Option<DatatypeByteOrder> {
    match dtype {
        DType::Other(inner) => match **inner {
            Datatype::FloatingPoint {
                size: 2,
                byte_order,
                ..
            } => Some(byte_order),
            _ => None,
        },
        _ => None,
    }
}

fn read_window(
    dataset: &Dataset,
    kind: Kind,
    rows: Range<usize>,
) -> std::result::Result<Vec<f64>, hdf5_pure::Error> {
    let (first, count) = (rows.start as u64, rows.len() as u64);
    if kind == Kind::Bool {
        let bytes = dataset.read_raw_rows(first, count)?;
        return Ok(bytes.into_iter().map(f64::from).collect());
    }
    let Some(order) = half_order(&dataset.dtype()?) else {
        return dataset.read_f64_rows(first, count);
    };
    let bits = |pair: &[u8]| match order {
        DatatypeByteOrder::BigEndian => u16::from_be_bytes([pair[0], pair[1]]),
        _ => u16::from_le_bytes([pair[0], pair[1]]),
    };
    let bytes = dataset.read_raw_rows(first, count)?;
    let halves = bytes.chunks_exact(2).map(bits);
    Ok(halves.map(|half| f64::from(half_to_f32(half))).collect())
}

/// Fills a dataset with flags as NumPy's bool is stored by h5py: an enumeration over int8.
pub(super) fn add_flags(
    dataset: &mut DatasetBuilder,
    flags: &[bool],
) -> std::result::Result<(), hdf5_pure::Error> {
    let members = EnumTypeBuilder::with_base(make_i8_type())
        .value("FALSE", 0)
        .value("TRUE", 1);
    let values: Vec<u8> = flags.iter().map(|&flag| u8::from(flag)).collect();
    let rows = flags.len() as u64;
    dataset
        .with_enum_u8_data(members.build()?, &values)
        .with_shape(&[rows]);
    dataset
        .with_chunks(&[rows.clamp(1, 1 << 16)])
        .with_deflate(4);
    Ok(())
}

/// The error of a failed write to `path`.
pub(super) fn write_failed(path: &Path) -> impl Fn(hdf5_pure::Error) -> Error + '_ {
    |error| match error {
        hdf5_pure::Error::Io(source) => Error::io(path)(source),
        other => Error::data(path, format!("can't be written as HDF5: {}", plain(&other))),
    }
}
