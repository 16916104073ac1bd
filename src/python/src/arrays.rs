//! NumPy arrays in and out, through what Python says of them: their bytes come in as a copy, and numbers of ours go out without one.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyTuple};
use trajformer::data::formats::in_memory::Values;

/// Whatever NumPy makes an array of, as f32 in C order, and its shape. Numbers are rounded to single precision.
///
/// # Errors
/// TypeError if it holds no numbers; ValueError if one is not finite: names `name`, row and column.
pub fn numbers(value: &Bound<'_, PyAny>, name: &str) -> PyResult<(Vec<usize>, Vec<f32>)> {
    let array = as_array(value, name)?;
    let (shape, bytes) = content(&array, "<f4")?;
    let values = f32s(&bytes);
    let width = match shape.last() {
        Some(&width) if shape.len() > 1 => width,
        _ => 1,
    };
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok((shape, values)),
        Some(at) => {
            let place = match shape.len() {
                0 => String::new(),
                1 => format!(", number {at}"),
                _ => format!(", row {}, column {}", at / width, at % width),
            };
            Err(PyValueError::new_err(format!(
                "`{name}`{place}: {}, expected a finite number of single precision",
                values[at]
            )))
        }
    }
}

/// Numbers of the caller's, of the type that is nearest to theirs.
pub enum Given {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

impl Given {
    /// Whatever NumPy makes an array of, in C order, and its shape.
    ///
    /// # Errors
    /// TypeError if it holds no numbers: names `name` and its dtype.
    pub fn new(value: &Bound<'_, PyAny>, name: &str) -> PyResult<(Vec<usize>, Self)> {
        let array = as_array(value, name)?;
        let dtype = array.getattr("dtype")?;
        let kind: String = dtype.getattr("kind")?.extract()?;
        let size: usize = dtype.getattr("itemsize")?.extract()?;
        let as_type = |dtype| content(&array, dtype);
        Ok(match (kind.as_str(), size) {
            ("b", _) => {
                let (shape, bytes) = as_type("|b1")?;
                let flags = bytes.as_bytes().iter().map(|&byte| byte != 0);
                (shape, Self::Bool(flags.collect()))
            }
            ("i" | "u", _) => {
                let (shape, bytes) = as_type("<i8")?;
                let (numbers, _) = bytes.as_bytes().as_chunks::<8>();
                let numbers = numbers.iter().map(|&number| i64::from_le_bytes(number));
                (shape, Self::I64(numbers.collect()))
            }
            (_, ..=4) => {
                let (shape, bytes) = as_type("<f4")?;
                (shape, Self::F32(f32s(&bytes)))
            }
            _ => {
                let (shape, bytes) = as_type("<f8")?;
                let (numbers, _) = bytes.as_bytes().as_chunks::<8>();
                let numbers = numbers.iter().map(|&number| f64::from_le_bytes(number));
                (shape, Self::F64(numbers.collect()))
            }
        })
    }

    /// As the library takes them.
    pub fn values(&self) -> Values<'_> {
        match self {
            Self::F32(values) => Values::F32(values),
            Self::F64(values) => Values::F64(values),
            Self::I64(values) => Values::I64(values),
            Self::Bool(values) => Values::Bool(values),
        }
    }
}

/// `numpy.asarray` of a value that holds numbers.
fn as_array<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (value,))?;
    let dtype = array.getattr("dtype")?;
    let kind: String = dtype.getattr("kind")?.extract()?;
    if ["f", "i", "u", "b"].contains(&kind.as_str()) {
        Ok(array)
    } else {
        Err(PyTypeError::new_err(format!(
            "`{name}` has dtype {dtype}, expected floats, integers or booleans"
        )))
    }
}

/// The array's shape, and its numbers as bytes of this dtype in C order.
fn content<'py>(
    array: &Bound<'py, PyAny>,
    dtype: &str,
) -> PyResult<(Vec<usize>, Bound<'py, PyBytes>)> {
    let shape = array.getattr("shape")?.extract()?;
    let wanted = [("copy", false)].into_py_dict(array.py())?;
    let array = array.call_method("astype", (dtype,), Some(&wanted))?;
    let bytes = array.call_method0("tobytes")?;
    Ok((shape, bytes.cast_into::<PyBytes>()?))
}

fn f32s(bytes: &Bound<'_, PyBytes>) -> Vec<f32> {
    let (numbers, _) = bytes.as_bytes().as_chunks::<4>();
    let numbers = numbers.iter().map(|&number| f32::from_le_bytes(number));
    numbers.collect()
}

/// A new array of this dtype, which may be written to, from the bytes of its numbers.
///
/// # Errors
/// If they are not as many as `shape` says.
pub fn owned<'py>(
    py: Python<'py>,
    dtype: &str,
    shape: &[usize],
    bytes: Vec<u8>,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyBytes::new(py, &bytes);
    let flat = py
        .import("numpy")?
        .call_method1("frombuffer", (bytes, dtype))?;
    // An array over bytes can't be written to: its copy can.
    flat.call_method1("reshape", (PyTuple::new(py, shape)?,))?
        .call_method0("copy")
}

/// A new array of f32.
///
/// # Errors
/// As [`owned`].
pub fn owned_f32<'py>(
    py: Python<'py>,
    shape: &[usize],
    values: &[f32],
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    owned(py, "<f4", shape, bytes.collect())
}

/// What NumPy's array interface says of numbers that lie in `owner`, which must never change them: the address, and that they can't be written to.
pub fn interface<'py>(
    py: Python<'py>,
    shape: &[usize],
    values: &[f32],
) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    let dtype = if cfg!(target_endian = "big") {
        ">f4"
    } else {
        "<f4"
    };
    found.set_item("version", 3)?;
    found.set_item("typestr", dtype)?;
    found.set_item("shape", PyTuple::new(py, shape)?)?;
    found.set_item("data", (values.as_ptr() as usize, true))?;
    Ok(found)
}
