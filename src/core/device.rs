//! [`open_device`]: devices by name.

use crate::error::{Error, Result};

/// Opens the device called `name`: `cpu`, `cuda`, `cuda:N` or `metal`.
///
/// # Errors
/// If the name is unknown; [`Error::NoDevice`] if the build lacks the feature, or there is no such device.
pub fn open_device(name: &str) -> Result<candle_core::Device> {
    use candle_core::Device;
    let unknown = || {
        let expected = "`cpu`, `cuda`, `cuda:N` or `metal`";
        Error::config("device", format_args!("`{name}`"), expected)
    };
    let unusable = |problem: String| Error::NoDevice {
        name: name.to_owned(),
        problem,
    };
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index: usize = index.parse().map_err(|_| unknown())?;
    let (is_built, open): (bool, fn(usize) -> candle_core::Result<Device>) = match (kind, index) {
        ("cpu", 0) => return Ok(Device::Cpu),
        ("cuda", _) => (cfg!(feature = "cuda"), Device::new_cuda),
        ("metal", _) => (cfg!(feature = "metal"), Device::new_metal),
        _ => return Err(unknown()),
    };
    if is_built {
        open(index).map_err(|error| unusable(error.to_string()))
    } else {
        Err(unusable(format!(
            "this build can't use it; build with `--features {kind}`"
        )))
    }
}
