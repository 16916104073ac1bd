//! Trajformer as the Python module `trajformer`: policies that act, data sets, and training. Whatever else there is, the command
//! `trajformer` does.

mod arrays;
mod dataset;
mod errors;
mod logging;
mod policy;
mod rows;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Once, mpsc};
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use trajformer::RunConfig;
use trajformer::data;
use trajformer::hub;
use trajformer::interrupt::Interrupt;
use trajformer::models::kernels::{memory, switch};
use trajformer::pretrained::Request;
use trajformer::run::{self, RunOptions};

use crate::dataset::{Dataset, paths};
use crate::errors::raised;
use crate::policy::Policy;

/// Stack of each thread of the library: gradients of deep graphs recurse.
const STACK_BYTES: usize = 8 << 20;

/// Between two looks whether Ctrl-C was pressed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Does `work` without the interpreter, which other threads of Python can use meanwhile.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        settle_threads();
        work()
    })
}

/// Makes the pool of threads, once, when there is work: a process that only imports the module stays with one thread.
fn settle_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES);
        if let Err(error) = pool.build_global() {
            tracing::warn!("the pool of threads keeps its defaults: {error}");
        }
    });
}

/// Does `work` without the interpreter, inside of the pool of threads, and sets `interrupt` at Ctrl-C. Returns the work's result, and Python's
/// exception if it was interrupted.
fn interruptible<T: Send>(
    py: Python<'_>,
    interrupt: &Interrupt,
    work: impl FnOnce() -> T + Send,
) -> (T, Option<PyErr>) {
    let watch = || {
        std::thread::scope(|scope| {
            let (done, ended) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                // It is dropped when the work ends, in whatever way.
                let _done = done;
                rayon::scope(|_| work())
            });
            let mut raised = None;
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
                if raised.is_none()
                    && let Err(error) = Python::attach(|py| py.check_signals())
                {
                    interrupt.set();
                    raised = Some(error);
                }
            }
            match worker.join() {
                Ok(found) => (found, raised),
                Err(panic) => resume_unwind(panic),
            }
        })
    };
    detached(py, watch)
}

/// Opens a trained policy.
///
/// Args:
///     run: a run directory, a checkpoint that it keeps ("RUN@50000", "RUN@best"), the folder of a model of another library, or "hf://ID" for one
///         of the Hugging Face Hub.
///     overrides: "KEY=VALUE", keys of the run's configuration that say how it acts: targets, device, planner settings, "evaluate.goal=[...]".
///     data: for a model of another library: data that it was trained on, which its statistics and bins come from; a Dataset, a path or a name.
///     env: for a model of another library: the environment, which says the range of actions.
///
/// Raises:
///     FileNotFoundError: there is no run.
///     ValueError: a key can't be set, or data is missing.
///     RuntimeError: the run is damaged, or the Hub can't be reached.
#[pyfunction]
#[pyo3(signature = (run, *, overrides=None, data=None, env=None))]
fn load(
    py: Python<'_>,
    run: PathBuf,
    overrides: Option<Vec<String>>,
    data: Option<&Bound<'_, PyAny>>,
    env: Option<String>,
) -> PyResult<Policy> {
    let overrides = overrides.unwrap_or_default();
    let data = data.map(Source::new).transpose()?;
    let open = || {
        let loaded;
        let data = match &data {
            None => None,
            Some(Source::Loaded(data)) => Some(&**data),
            Some(Source::Files(paths)) => {
                loaded = data::load(&data::resolved(paths)?)?;
                Some(&loaded)
            }
        };
        let request = Request {
            overrides: &overrides,
            data,
            env: env.as_deref(),
            ..Request::default()
        };
        Policy::of(run::open_with(&hub::local(&run)?, &request)?)
    };
    detached(py, open).map_err(raised)
}

/// Trains a policy, with the bits that `trajformer train` gives it.
///
/// Other threads of Python go on meanwhile. Ctrl-C stops it after the present update: with `out` there is a checkpoint then, and
/// `resume=True` goes on from it.
///
/// Args:
///     dataset: a Dataset, a path, a name ("hopper-medium-v2"), a list of these two, or None for the configuration's `data.path`.
///     config: the configuration: a dict of its tables, e.g. {"train": {"updates": 1000}, "algorithm": {"td3_bc": {}}}; TOML as text; or the
///         path of a file.
///     out: run directory to make; None: nothing is written, until `Policy.save`.
///     resume: go on with the run in `out` where there is one, which must have this configuration and this data.
///     overrides: "KEY=VALUE", changes of the configuration.
///
/// Raises:
///     ValueError: configuration, data and environment don't fit each other; names the key.
///     FileExistsError: there is a run already, or one of another configuration.
///     RuntimeError: training failed.
///     KeyboardInterrupt: it was stopped.
#[pyfunction]
#[pyo3(signature = (dataset, config, out=None, *, resume=false, overrides=None))]
fn fit(
    py: Python<'_>,
    dataset: Option<&Bound<'_, PyAny>>,
    config: &Bound<'_, PyAny>,
    out: Option<PathBuf>,
    resume: bool,
    overrides: Option<Vec<String>>,
) -> PyResult<Policy> {
    if resume && out.is_none() {
        let text = "`resume` goes on with the run in `out`, which is not given";
        return Err(PyValueError::new_err(text));
    }
    let mut config = configuration(config, &overrides.unwrap_or_default())?;
    let data = match dataset.map(Source::new).transpose()? {
        None => None,
        Some(Source::Loaded(data)) => Some(data),
        Some(Source::Files(paths)) => {
            config.data.path = paths;
            None
        }
    };
    let interrupt = Interrupt::new();
    memory::keep_freed_blocks();
    let train = || {
        let options = RunOptions {
            data: data.as_deref(),
            interrupt: interrupt.clone(),
            ..RunOptions::default()
        };
        let Some(out) = &out else {
            return run::fit_with(&config, &options);
        };
        if resume {
            run::start_or_resume(&config, out, &options)?;
        } else {
            run::start_with(&config, out, &options)?;
        }
        run::open(out, &[])
    };
    let (trained, stopped) = interruptible(py, &interrupt, train);
    if let Some(stopped) = stopped {
        let trained = trained
            .ok()
            .filter(|_| stopped.is_instance_of::<PyKeyboardInterrupt>(py));
        return Err(match (trained, &out) {
            (Some(trained), Some(out)) => PyKeyboardInterrupt::new_err(format!(
                "stopped after {} updates, with a checkpoint in {}: fit(..., resume=True) goes on",
                trained.state.update,
                out.display()
            )),
            _ => stopped,
        });
    }
    detached(py, || Policy::of(trained?)).map_err(raised)
}

/// Where data comes from.
enum Source {
    Loaded(std::sync::Arc<data::Dataset>),
    Files(Vec<PathBuf>),
}

impl Source {
    fn new(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match value.cast::<Dataset>() {
            Ok(dataset) => Ok(Self::Loaded(dataset.get().0.clone())),
            Err(_) => paths(value).map(Self::Files),
        }
    }
}

/// A configuration from a dict, TOML or a file.
fn configuration(value: &Bound<'_, PyAny>, overrides: &[String]) -> PyResult<RunConfig> {
    let parsed = if value.is_instance_of::<PyDict>() {
        RunConfig::parse(&as_toml(value)?)
    } else if let Ok(text) = value.extract::<String>() {
        if text.contains('=') || text.contains('\n') {
            RunConfig::parse(&text)
        } else {
            RunConfig::load(text.as_ref(), &[])
        }
    } else {
        let path: PathBuf = value.extract().map_err(|_| {
            PyTypeError::new_err(format!(
                "`config` is {}, expected a dict, TOML as text, or a path",
                value.get_type()
            ))
        })?;
        RunConfig::load(&path, &[])
    };
    let parsed = parsed.and_then(|config| match overrides {
        [] => Ok(config),
        overrides => config.with_overrides(overrides),
    });
    parsed.map_err(raised)
}

/// A dict as TOML.
fn as_toml(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let json = value.py().import("json")?.call_method1("dumps", (value,))?;
    let json: String = json.extract()?;
    let refused = |error: String| PyValueError::new_err(format!("`config`: {error}"));
    let json: serde_json::Value =
        serde_json::from_str(&json).map_err(|error| refused(error.to_string()))?;
    toml::to_string(&json).map_err(|error| refused(format!("{error}: TOML has no None")))
}

/// Trajformer, compiled.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::{Dataset, Policy, fit, load};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        switch::check().map_err(PyValueError::new_err)?;
        logging::pass_on();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
