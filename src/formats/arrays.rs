//! What the readers of array files share: named arrays that are read in windows straight into the
//! data set's own buffers, so that a large file is never held twice, and checked on the way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use trajformer_core::error::{Error, Result};

/// What kind of number an array holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Integer,
    Bool,
}

/// Shape and type of an array in a file.
#[derive(Debug, Clone)]
pub(super) struct ArrayInfo {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    /// Whether the file stores it column by column.
    pub fortran_order: bool,
}

impl ArrayInfo {
    /// Length of the first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        let inner = self.shape.iter().skip(1);
        inner.fold(1, |width, &n| width.saturating_mul(n))
    }
}

/// Gets windows of an array in the order of storage: index of the first number, the numbers.
pub(super) type Sink<'a> = dyn FnMut(usize, &[f64]) -> Result<()> + 'a;

/// A file, or part of one, that holds named arrays.
pub(super) trait ArrayFile {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// How messages call the array `name`.
    fn full_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The array called `name`; `None` if there is none.
    ///
    /// # Errors
    /// If it is damaged, claims more numbers than the file can hold, or holds no numbers.
    fn describe(&mut self, name: &str) -> Result<Option<ArrayInfo>>;

    /// The keys of the dictionary called `name`, with slashes inside where one holds another; `None` if there is no
    /// dictionary of this name.
    ///
    /// # Errors
    /// If the file is damaged.
    fn keys(&mut self, name: &str) -> Result<Option<Vec<String>>>;

    /// Passes all numbers of an array to `sink`, window after window.
    ///
    /// # Errors
    /// If the array is damaged or cut off, and what `sink` says.
    fn visit(&mut self, info: &ArrayInfo, sink: &mut Sink<'_>) -> Result<()>;
}

/// What `call` gives, or `None` if it panics: a damaged file must never end the program, and the
/// libraries that take HDF5 and Arrow apart don't promise that.
pub(super) fn catch_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// The most bytes that `stored` bytes of a file can stand for: deflate packs at most 1032 to 1.
pub(super) fn plausible_bytes(stored: u64) -> u64 {
    stored.saturating_mul(1100).saturating_add(1 << 16)
}

/// The first of `names` that the file has.
pub(super) fn find(file: &mut dyn ArrayFile, names: &[&str]) -> Result<Option<ArrayInfo>> {
    for name in names {
        if let Some(info) = file.describe(name)? {
            return Ok(Some(info));
        }
    }
    Ok(None)
}

/// The first of `names` that the file has, or an error that names them.
pub(super) fn require(file: &mut dyn ArrayFile, names: &[&str]) -> Result<ArrayInfo> {
    find(file, names)?.ok_or_else(|| {
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("`{}`", file.full_name(name)))
            .collect();
        Error::data(
            file.path(),
            format!("array {} is missing", names.join(" or ")),
        )
    })
}

/// Fails unless the array has `expected` rows (`what` says why that many).
pub(super) fn check_rows(path: &Path, info: &ArrayInfo, expected: usize, what: &str) -> Result<()> {
    let (name, found) = (&info.name, info.rows());
    if info.shape.is_empty() || found != expected {
        let problem = if info.shape.is_empty() {
            format!("array `{name}` is a scalar, expected {expected} rows ({what})")
        } else {
            format!("array `{name}` has {found} rows, expected {expected} ({what})")
        };
        return Err(Error::data(path, problem));
    }
    Ok(())
}

/// Reads an array of any rank as f32, row-major.
///
/// # Errors
/// If a number is not finite, or too large for f32: names array, row and column.
pub(super) fn read_f32(file: &mut dyn ArrayFile, info: &ArrayInfo) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    read_f32_into(file, info, &mut values)?;
    Ok(values)
}

/// Appends an array of any rank to `values` as f32, row-major.
pub(super) fn read_f32_into(
    file: &mut dyn ArrayFile,
    info: &ArrayInfo,
    values: &mut Vec<f32>,
) -> Result<()> {
    let (path, start) = (file.path().to_path_buf(), values.len());
    let (rows, width) = (info.rows(), info.width());
    reserve(&path, &info.name, values, rows.saturating_mul(width))?;
    if info.fortran_order {
        values.resize(start + rows * width, 0.0);
    }
    file.visit(info, &mut |first, window| {
        for (offset, &value) in window.iter().enumerate() {
            let (row, column) = position(info, first + offset);
            let narrow = value as f32;
            if !narrow.is_finite() {
                return Err(not_finite(&path, info, (row, column), value));
            }
            if info.fortran_order {
                values[start + row * width + column] = narrow
            } else {
                values.push(narrow)
            }
        }
        Ok(())
    })
}

/// Reads an array of zeros and ones (bool, integers or floats), one per row.
pub(super) fn read_flags(
    file: &mut dyn ArrayFile,
    info: &ArrayInfo,
    steps: usize,
) -> Result<Vec<bool>> {
    let path = file.path().to_path_buf();
    check_column(&path, info, steps)?;
    let mut flags = Vec::new();
    reserve(&path, &info.name, &mut flags, steps)?;
    file.visit(info, &mut |first, window| {
        for (offset, &value) in window.iter().enumerate() {
            if value != 0.0 && value != 1.0 {
                let (name, row) = (&info.name, first + offset);
                let problem = format!("array `{name}`, row {row}: {value}, expected 0 or 1");
                return Err(Error::data(&path, problem));
            }
            flags.push(value == 1.0);
        }
        Ok(())
    })?;
    Ok(flags)
}

/// Reads an array of counts (integers, not negative).
pub(super) fn read_counts(file: &mut dyn ArrayFile, info: &ArrayInfo) -> Result<Vec<usize>> {
    let path = file.path().to_path_buf();
    if info.shape.len() != 1 {
        let (name, rank) = (&info.name, info.shape.len());
        return Err(Error::data(
            &path,
            format!("array `{name}` has rank {rank}, expected 1"),
        ));
    }
    let mut counts = Vec::new();
    reserve(&path, &info.name, &mut counts, info.rows())?;
    file.visit(info, &mut |first, window| {
        for (offset, &value) in window.iter().enumerate() {
            if !(value >= 0.0 && value.fract() == 0.0 && value < 9e15) {
                let (name, row) = (&info.name, first + offset);
                let problem =
                    format!("array `{name}`, row {row}: {value}, expected a whole number");
                return Err(Error::data(&path, problem));
            }
            counts.push(value as usize);
        }
        Ok(())
    })?;
    Ok(counts)
}

/// Fails unless the array holds one number per step: shape (steps) or (steps, 1).
pub(super) fn check_column(path: &Path, info: &ArrayInfo, steps: usize) -> Result<()> {
    check_rows(path, info, steps, "one per step")?;
    if info.width() != 1 || info.shape.len() > 2 {
        let (name, shape) = (&info.name, &info.shape);
        let problem = format!("array `{name}` has shape {shape:?}, expected ({steps},)");
        return Err(Error::data(path, problem));
    }
    Ok(())
}

/// Room for exactly `count` more numbers.
pub(super) fn reserve<T>(path: &Path, name: &str, values: &mut Vec<T>, count: usize) -> Result<()> {
    values.try_reserve_exact(count).map_err(|_| {
        Error::data(
            path,
            format!("array `{name}` needs more memory than there is ({count} numbers)"),
        )
    })
}

/// Row and column of number `index` in the order of storage.
pub(super) fn position(info: &ArrayInfo, index: usize) -> (usize, usize) {
    if info.fortran_order {
        (index % info.rows().max(1), index / info.rows().max(1))
    } else {
        (index / info.width().max(1), index % info.width().max(1))
    }
}

/// The error about `value` at row and column `at`: not finite, or too large.
pub(super) fn not_finite(path: &Path, info: &ArrayInfo, at: (usize, usize), value: f64) -> Error {
    let (name, (row, column)) = (&info.name, at);
    let place = match info.width() {
        1 => format!("array `{name}`, row {row}"),
        _ => format!("array `{name}`, row {row}, column {column}"),
    };
    let problem = if value.is_finite() {
        format!("{place}: {value} does not fit a 32-bit float")
    } else {
        format!("{place}: {value}, expected a finite number")
    };
    Error::data(path, problem)
}
