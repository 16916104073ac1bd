//! Reads the reference numbers of tests/golden (safetensors, F64 and U32).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

/// One file of reference numbers.
pub struct Golden {
    tensors: BTreeMap<String, Tensor>,
    /// Sizes and constants of the run.
    pub constants: serde_json::Value,
}

impl Golden {
    /// Loads tests/golden/NAME.safetensors.
    pub fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let path = folder.join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).expect("a golden file");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        let constants = header.metadata().as_ref().expect("metadata")["golden"].clone();
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).expect("tensors");
        Self {
            tensors: tensors.into_iter().collect(),
            constants: serde_json::from_str(&constants).expect("JSON"),
        }
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor `{name}`"))
    }

    /// The tensors whose names start with `prefix`, without it.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.tensors
            .iter()
            .filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    /// All numbers of a tensor, row-major.
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        let flat = self.tensor(name).to_dtype(DType::F64).expect("numbers");
        flat.flatten_all()
            .and_then(|flat| flat.to_vec1())
            .expect("numbers")
    }

    /// All integers of a tensor, row-major.
    pub fn integers(&self, name: &str) -> Vec<u32> {
        let flat = self.tensor(name).flatten_all().expect("integers");
        flat.to_vec1().expect("integers")
    }

    pub fn dims(&self, name: &str) -> &[usize] {
        self.tensor(name).dims()
    }

    pub fn integer(&self, constant: &str) -> usize {
        let value = self.constants[constant].as_u64();
        value.unwrap_or_else(|| panic!("no integer constant `{constant}`")) as usize
    }

    pub fn number(&self, constant: &str) -> f64 {
        let value = self.constants[constant].as_f64();
        value.unwrap_or_else(|| panic!("no constant `{constant}`"))
    }

    /// The tensors whose names start with `prefix`, without it.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let below = self.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
        });
        below.collect()
    }
}

/// Largest |found - expected| over the largest |expected|, per tensor; both in f64.
pub fn relative_maximum(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let numbers = |tensor: &Tensor| {
        let flat = tensor
            .to_dtype(DType::F64)
            .and_then(|t| t.flatten_all())
            .expect("numbers");
        flat.to_vec1::<f64>().expect("numbers")
    };
    let (found, expected) = (numbers(found), numbers(expected));
    let scale = expected.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    let worst = found.iter().zip(&expected).map(|(f, e)| (f - e).abs());
    // NaN must not pass as the smaller number.
    let worst = worst.fold(0.0f64, |max, d| {
        if d.is_nan() {
            f64::INFINITY
        } else {
            max.max(d)
        }
    });
    if scale == 0.0 { worst } else { worst / scale }
}

/// Fails, naming the tensor, unless `found` is within `tolerance` of `expected`.
pub fn check_close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    let error = relative_maximum(found, expected);
    assert!(
        error <= tolerance,
        "{name}: relative maximum {error:e}, allowed {tolerance:e}"
    );
}

/// A copy of a folder's files that a test may change.
pub fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}
