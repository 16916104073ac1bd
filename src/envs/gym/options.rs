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

    /// What one step, reset or picture may take.
    pub(super) fn patience(&self) -> Duration {
        let variable = || {
            let seconds = std::env::var(TIMEOUT_VARIABLE).ok()?.parse::<f64>().ok()?;
            let seconds = Duration::try_from_secs_f64(seconds).ok()?;
            Some(seconds).filter(|seconds| !seconds.is_zero())
        };
        self.timeout.or_else(variable).unwrap_or(TIMEOUT)
    }
}
