//! [`open_device`]: devices by name.

use crate::error::{Error, Result};

/// Opens the device called `name`: `cpu`, `cuda`, `cuda:N` or `metal`.
///
/// # Errors
/// If the name is unknown, the build lacks the feature, or there is no such device.
pub fn open_device(name: &str) -> Result<candle_core::Device> {
    use candle_core::Device;
    let without = |feature: &str| {
        Error::Config(format!(
            "device `{name}`: this build can't use it; build with `--features {feature}`"
        ))
    };
    let unknown = || {
        Error::Config(format!(
            "device `{name}`: expected `cpu`, `cuda`, `cuda:N` or `metal`"
        ))
    };
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu", "0") => Ok(Device::Cpu),
        ("cuda", index) => {
            let index = index.parse().map_err(|_| unknown())?;
            if !cfg!(feature = "cuda") {
                return Err(without("cuda"));
            }
            Ok(Device::new_cuda(index)?)
        }
        ("metal", index) => {
            let index = index.parse().map_err(|_| unknown())?;
            if !cfg!(feature = "metal") {
                return Err(without("metal"));
            }
            Ok(Device::new_metal(index)?)
        }
        _ => Err(unknown()),
    }
}
