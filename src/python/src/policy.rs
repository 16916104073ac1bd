//! `trajformer.Policy`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use trajformer::Result;
use trajformer::act::{Starts, Traits};
use trajformer::checkpoint::RunSpec;
use trajformer::run::TrainedRun;
use trajformer::scoring::{self, EvaluateRequest};

use crate::arrays::{numbers, owned_f32};
use crate::detached;
use crate::errors::raised;
use crate::rows::Rows;

/// A trained policy, and the episodes that it acts in. `load` opens one, `fit` trains one.
///
/// It acts in E episodes side by side, each with its own history. In a loop, whatever the policy is:
///
///     policy.reset()
///     while not ended:
///         action = policy.act(observation)
///         observation, reward, terminated, truncated, _ = env.step(action)
///         policy.observe(reward)
///
/// Letters: E episodes, O numbers in an observation, A numbers in an action.
#[pyclass(frozen, module = "trajformer")]
pub struct Policy {
    rows: Mutex<Rows>,
    algorithm: &'static str,
    spec: RunSpec,
    traits: Traits,
    config: String,
    updates: u64,
}

impl Policy {
    /// The policy of a run.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn of(run: TrainedRun) -> Result<Self> {
        let config = run.config.to_toml()?;
        let (algorithm, updates) = (run.config.algorithm.name(), run.state.update);
        let rows = Rows::new(run)?;
        Ok(Self {
            algorithm,
            spec: rows.live.run.spec.clone(),
            traits: rows.live.traits.clone(),
            config,
            updates,
            rows: Mutex::new(rows),
        })
    }

    /// To be called without the interpreter: who holds it may be waiting for that.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Vectors of `width` numbers, of one row or of several: how many, and the numbers.
    fn vectors(
        value: &Bound<'_, PyAny>,
        name: &str,
        width: usize,
    ) -> PyResult<(Option<usize>, Vec<f32>)> {
        let (shape, values) = numbers(value, name)?;
        match shape[..] {
            [found] if found == width => Ok((None, values)),
            [rows, found] if found == width && rows > 0 => Ok((Some(rows), values)),
            _ => Err(PyValueError::new_err(format!(
                "`{name}` has shape {}, expected ({width},), or (E, {width}) for E episodes",
                shown(&shape)
            ))),
        }
    }
}

#[pymethods]
impl Policy {
    /// The actions to take.
    ///
    /// Args:
    ///     observations: (O,), or (E, O) for E episodes, in the environment's units; rounded to single precision.
    ///
    /// Returns:
    ///     float32 (A,) or (E, A), in the environment's units.
    ///
    /// Where no episode has begun, E of them begin. A policy that remembers must be told the reward of each step, with `observe`.
    ///
    /// Raises:
    ///     ValueError: a shape does not fit, a number is not finite, there are other episodes under way, or a reward was not told.
    fn act<'py>(
        &self,
        py: Python<'py>,
        observations: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (rows, values) =
            Self::vectors(observations, "observations", self.spec.observation_dim)?;
        let actions = detached(py, || self.rows().act(&values)).map_err(raised)?;
        let dim = self.spec.action_dim;
        let shape = match rows {
            None => vec![dim],
            Some(rows) => vec![rows, dim],
        };
        owned_f32(py, &shape, &actions)
    }

    /// Tells what followed the last actions.
    ///
    /// Args:
    ///     rewards: a number, or (E,), in the environment's units.
    ///     actions: what was done, (A,) or (E, A), where that is something else than what `act` returned.
    ///
    /// Policies without memory don't listen. Episodes that were begun anew since they acted are left out.
    ///
    /// Raises:
    ///     ValueError: a shape does not fit, or nothing was done.
    #[pyo3(signature = (rewards, actions=None))]
    fn observe(
        &self,
        py: Python<'_>,
        rewards: &Bound<'_, PyAny>,
        actions: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (shape, rewards) = numbers(rewards, "rewards")?;
        if shape.len() > 1 {
            return Err(PyValueError::new_err(format!(
                "`rewards` has shape {}, expected a number, or (E,) for E episodes",
                shown(&shape)
            )));
        }
        let dim = self.spec.action_dim;
        let taken = actions.map(|actions| Self::vectors(actions, "actions", dim));
        let taken = taken.transpose()?.map(|(_, values)| values);
        if let Some(taken) = &taken
            && taken.len() != rewards.len() * dim
        {
            return Err(PyValueError::new_err(format!(
                "`actions` has {} rows, expected {}, one for each reward",
                taken.len() / dim,
                rewards.len()
            )));
        }
        detached(py, || self.rows().observe(&rewards, taken.as_deref())).map_err(raised)
    }

    /// Begins episodes.
    ///
    /// Args:
    ///     rows: how many, in place of all that are under way; or which of these begin anew, as a list of numbers or a mask (E,), e.g.
    ///         `terminated | truncated`. Default: all.
    ///     target_return: return to aim at, in the environment's units, one or one for each row that begins. Default: the run's.
    ///     goal: observation to reach, (O,) or one for each row that begins. Default: the run's `evaluate.goal`.
    ///     instruction: what to do, in words, one text or one for each row that begins. Default: the run's first of `evaluate.instructions`.
    ///     seed: of policies that draw: the random streams of the episodes that follow are those of the episodes of an evaluation with this seed.
    ///         Default: the run's `evaluate.seed`, for all episodes that are begun.
    ///
    /// Raises:
    ///     ValueError: a shape does not fit, a goal or an instruction is missing, or something is given that the policy does not look at.
    #[pyo3(signature = (rows=None, *, target_return=None, goal=None, instruction=None, seed=None))]
    fn reset(
        &self,
        py: Python<'_>,
        rows: Option<&Bound<'_, PyAny>>,
        target_return: Option<&Bound<'_, PyAny>>,
        goal: Option<&Bound<'_, PyAny>>,
        instruction: Option<&Bound<'_, PyAny>>,
        seed: Option<u64>,
    ) -> PyResult<()> {
        let under_way = detached(py, || self.rows().count());
        let which = Which::new(rows, under_way)?;
        let count = which.count();
        let starts = Starts {
            target_returns: target_return
                .map(|value| one_or_each(value, "target_return", count))
                .transpose()?,
            goals: goal.map(|value| self.goals(value, count)).transpose()?,
            instructions: instruction.map(|value| texts(value, count)).transpose()?,
            seed,
        };
        let begin = || match which {
            Which::All(count) => self.rows().begin_all(count, &starts),
            Which::Some(rows) => self.rows().begin(rows, &starts),
        };
        detached(py, begin).map_err(raised)
    }

    /// Scores the policy in an environment, as `trajformer evaluate` does.
    ///
    /// Args:
    ///     env: its name, or "gym:ID" for one of Gymnasium, which runs in processes of this interpreter. Default: the run's.
    ///     episodes: how many. Default: the run's.
    ///     seed: of start states and of the policy. Default: the run's.
    ///
    /// Returns:
    ///     what `trajformer evaluate --json` prints: `return_mean`, `returns`, `score_mean` and so on. Episodes under way stay as they are.
    ///
    /// Raises:
    ///     ValueError, RuntimeError: no environment is named, it is unknown or fails, or the run does not fit it.
    #[pyo3(signature = (env=None, *, episodes=None, seed=None))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        env: Option<String>,
        episodes: Option<usize>,
        seed: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this: PathBuf = py.import("sys")?.getattr("executable")?.extract()?;
        let score = || {
            let mut rows = self.rows();
            let named = rows.live.run.config.evaluate.python.is_some();
            let request = EvaluateRequest {
                env,
                episodes,
                seed,
                python: (!named).then_some(this),
                ..EvaluateRequest::default()
            };
            scoring::evaluate(&mut rows.live.run, &request)?.json()
        };
        let found = detached(py, score).map_err(raised)?;
        py.import("json")?
            .call_method1("loads", (found.to_string(),))
    }

    /// Writes a run that `fit` trained in memory as a run directory, which `load` and the command `trajformer` open.
    ///
    /// Raises:
    ///     FileExistsError: something is there already.
    ///     RuntimeError: the policy was opened from a folder: copy that.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || self.rows().live.run.save(&path)).map_err(raised)
    }

    /// Numbers in an observation (O).
    #[getter]
    fn observation_dim(&self) -> usize {
        self.spec.observation_dim
    }

    /// Numbers in an action (A).
    #[getter]
    fn action_dim(&self) -> usize {
        self.spec.action_dim
    }

    /// Lowest action of each dimension, float32 (A,).
    #[getter]
    fn action_low<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        owned_f32(py, &[self.spec.action_dim], &self.spec.action_low)
    }

    /// Highest action of each dimension, float32 (A,).
    #[getter]
    fn action_high<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        owned_f32(py, &[self.spec.action_dim], &self.spec.action_high)
    }

    /// How many choices an action is one of: it is then one number counted from 0, `int(action[0])`. None where actions are real numbers.
    #[getter]
    fn action_choices(&self) -> Option<usize> {
        self.spec.action_choices
    }

    /// Name of the learning rule, e.g. "td3_bc".
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The run's configuration as TOML: every key, defaults included.
    #[getter]
    fn config(&self) -> &str {
        &self.config
    }

    /// How many updates it was trained; 0 for a model of another library.
    #[getter]
    fn updates(&self) -> u64 {
        self.updates
    }

    /// Whether every episode needs a goal.
    #[getter]
    fn needs_goal(&self) -> bool {
        self.traits.needs_goal
    }

    /// Whether every episode needs an instruction.
    #[getter]
    fn needs_instruction(&self) -> bool {
        self.traits.needs_instruction
    }

    /// Whether an action depends on the present observation alone: such a policy need not be told rewards.
    #[getter]
    fn is_memoryless(&self) -> bool {
        self.traits.is_memoryless
    }

    /// Returns that the run aims at, in the environment's units; the first is the default of `reset`. Empty where it aims at none, or at the best
    /// of its data.
    #[getter]
    fn target_returns(&self) -> Vec<f32> {
        self.traits.target_returns.clone()
    }

    fn __repr__(&self) -> String {
        format!(
            "Policy({}, observation_dim={}, action_dim={})",
            self.algorithm, self.spec.observation_dim, self.spec.action_dim
        )
    }
}

impl Policy {
    fn goals(&self, value: &Bound<'_, PyAny>, count: usize) -> PyResult<Vec<Vec<f32>>> {
        let dim = self.spec.observation_dim;
        let (rows, values) = Self::vectors(value, "goal", dim)?;
        match rows {
            None => Ok(vec![values; count]),
            Some(rows) if rows == count => {
                Ok(values.chunks_exact(dim).map(<[f32]>::to_vec).collect())
            }
            Some(rows) => Err(PyValueError::new_err(format!(
                "`goal` has {rows} rows, expected {count}, one for each row that begins"
            ))),
        }
    }
}

/// The rows that begin.
enum Which {
    /// So many, in place of all.
    All(usize),
    /// These of the ones under way.
    Some(Vec<usize>),
}

impl Which {
    fn new(rows: Option<&Bound<'_, PyAny>>, under_way: usize) -> PyResult<Self> {
        let Some(rows) = rows else {
            return Ok(Self::All(under_way.max(1)));
        };
        if let Ok(count) = rows.extract::<usize>() {
            return match count {
                0 => Err(PyValueError::new_err("`rows` is 0, expected at least 1")),
                count => Ok(Self::All(count)),
            };
        }
        if let Ok(mask) = rows.extract::<Vec<bool>>() {
            if mask.len() != under_way {
                return Err(PyValueError::new_err(format!(
                    "`rows` is a mask of {}, expected {under_way}, one for each episode under way",
                    mask.len()
                )));
            }
            return Ok(Self::Some(
                (0..under_way).filter(|&row| mask[row]).collect(),
            ));
        }
        let rows: Vec<usize> = rows.extract().map_err(|_| {
            PyTypeError::new_err(
                "`rows` is neither a number, nor a list of numbers from 0 on, nor a mask",
            )
        })?;
        for (at, &row) in rows.iter().enumerate() {
            if row >= under_way {
                return Err(PyValueError::new_err(format!(
                    "`rows` names row {row}, but {under_way} episodes are under way"
                )));
            }
            if rows[..at].contains(&row) {
                return Err(PyValueError::new_err(format!(
                    "`rows` names row {row} twice"
                )));
            }
        }
        Ok(Self::Some(rows))
    }

    fn count(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(rows) => rows.len(),
        }
    }
}

/// One number for all, or one for each of `count` rows.
fn one_or_each(value: &Bound<'_, PyAny>, name: &str, count: usize) -> PyResult<Vec<f32>> {
    let (shape, values) = numbers(value, name)?;
    match shape[..] {
        [] => Ok(vec![values[0]; count]),
        [found] if found == count => Ok(values),
        _ => Err(PyValueError::new_err(format!(
            "`{name}` has shape {}, expected a number, or ({count},), one for each row that begins",
            shown(&shape)
        ))),
    }
}

/// One text for all, or one for each of `count` rows.
fn texts(value: &Bound<'_, PyAny>, count: usize) -> PyResult<Vec<Arc<str>>> {
    if let Ok(text) = value.extract::<String>() {
        return Ok(vec![text.into(); count]);
    }
    let texts: Vec<String> = value
        .extract()
        .map_err(|_| PyTypeError::new_err("`instruction` is neither a text nor a list of texts"))?;
    if texts.len() != count {
        return Err(PyValueError::new_err(format!(
            "`instruction` holds {} texts, expected {count}, one for each row that begins",
            texts.len()
        )));
    }
    Ok(texts.into_iter().map(Arc::from).collect())
}

/// A shape as NumPy writes it.
fn shown(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        _ => {
            let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("({})", sizes.join(", "))
        }
    }
}
