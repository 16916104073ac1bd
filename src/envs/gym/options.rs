//! [`GymOptions`]: how environments of Gymnasium are run.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Environment variable with the seconds that an environment may take for one step, reset or picture, of all [`GymOptions`]
/// that say nothing else.
pub const TIMEOUT_VARIABLE: &str = "TRAJFORMER_GYM_TIMEOUT_S";

/// What a request to Python may take. What makes copies may always take so long: models are loaded, some packages fetch data.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);

/// How environments of Gymnasium (`gym:ID`) are run. Means nothing to the built-in ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GymOptions {
    /// Python interpreter that has the environment's packages. Default: that of the active virtual environment
    /// (`VIRTUAL_ENV`), else `python3`.
    pub python: Option<PathBuf>,
    /// Where observations are dictionaries: the keys whose numbers are put side by side, in this order; those inside of
    /// others with a slash. Default: all, sorted.
    pub observation_keys: Vec<String>,
    /// Further environment variables of the interpreter, e.g. `MUJOCO_GL`.
    pub variables: Vec<(String, String)>,
    /// How long an environment may take for one step, reset or picture. Default: the seconds in [`TIMEOUT_VARIABLE`], else ten
    /// minutes, which is also what making copies may take at least.
    pub timeout: Option<Duration>,
    /// Whether copies can be rendered: see [`Workers::render`](crate::envs::gym::Workers::render).
    pub render: bool,
}

impl GymOptions {
    /// These options with an interpreter, or the default one, and keys of observations.
    pub fn new(python: Option<&Path>, observation_keys: &[String]) -> Self {
        Self {
            python: python.map(Path::to_path_buf),
            observation_keys: observation_keys.to_vec(),
            ..Self::default()
        }
    }

    /// The interpreter to start.
    pub(super) fn interpreter(&self) -> PathBuf {
        let active = || Some(PathBuf::from(std::env::var_os("VIRTUAL_ENV")?).join("bin/python"));
        let given = self.python.clone();
        given
            .or_else(|| active().filter(|path| path.exists()))
            .unwrap_or_else(|| PathBuf::from("python3"))
    }

    /// What one step, reset or picture may take; what is wrong with [`TIMEOUT_VARIABLE`] where that is asked and is no number of seconds.
    pub(super) fn patience(&self) -> Result<Duration, String> {
        match (self.timeout, std::env::var_os(TIMEOUT_VARIABLE)) {
            (Some(timeout), _) => Ok(timeout),
            (None, None) => Ok(TIMEOUT),
            (None, Some(text)) => seconds(&text.to_string_lossy()),
        }
    }
}

/// The seconds that [`TIMEOUT_VARIABLE`] says; nothing is the default.
fn seconds(text: &str) -> Result<Duration, String> {
    if text.trim().is_empty() {
        return Ok(TIMEOUT);
    }
    let number = text.trim().parse::<f64>().ok();
    let found = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    found.filter(|seconds| !seconds.is_zero()).ok_or_else(|| {
        format!("the environment variable {TIMEOUT_VARIABLE} is `{text}`, expected a number of seconds above 0, e.g. 600")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_holds_seconds_or_is_refused() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2_500)));
        assert_eq!(seconds(" "), Ok(TIMEOUT));
        for text in ["ten", "0", "-1", "inf", "NaN", "1e400", "10s"] {
            let error = seconds(text).expect_err(text);
            assert!(
                error.contains(TIMEOUT_VARIABLE) && error.contains(text),
                "{error}"
            );
        }
    }
}
