//! `trajformer.Dataset`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use trajformer::data::files::LoadOptions;
use trajformer::data::formats::in_memory::{self, Array};
use trajformer::data::{self, ActionKind};

use crate::arrays::{Given, interface, owned};
use crate::detached;
use crate::errors::raised;

/// Logged experience: steps in time order, episode after episode. It never changes.
///
/// Letters: N steps, O numbers in an observation, A numbers in an action.
#[pyclass(frozen, module = "trajformer")]
pub struct Dataset(pub Arc<data::Dataset>);

impl Dataset {
    /// A read-only array over some of its numbers, which keeps the data set alive.
    fn view<'py>(
        &self,
        py: Python<'py>,
        shape: Vec<usize>,
        pick: fn(&data::Dataset) -> &[f32],
    ) -> PyResult<Bound<'py, PyAny>> {
        let numbers = Numbers {
            data: Arc::clone(&self.0),
            shape,
            pick,
        };
        py.import("numpy")?
            .call_method1("asarray", (Bound::new(py, numbers)?,))
    }

    /// A flag for each step.
    fn flags<'py>(
        &self,
        py: Python<'py>,
        pick: fn(&data::Episode) -> bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut flags = vec![0; self.0.steps()];
        for episode in &self.0.episodes {
            flags[episode.range().end - 1] = u8::from(pick(episode));
        }
        owned(py, "|b1", &[flags.len()], flags)
    }
}

/// Some numbers of a data set, for NumPy to make an array over. It holds the data set, and nothing changes that.
#[pyclass(frozen)]
struct Numbers {
    data: Arc<data::Dataset>,
    shape: Vec<usize>,
    pick: fn(&data::Dataset) -> &[f32],
}

#[pymethods]
impl Numbers {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        interface(py, &self.shape, (self.pick)(&self.data))
    }
}

#[pymethods]
impl Dataset {
    /// A data set from arrays, as an npz file with them is read.
    ///
    /// Args:
    ///     observations: (N, O), before each step.
    ///     actions: (N, A) floats, in the environment's units; integers (N,) are choices.
    ///     rewards: (N,), in the environment's units.
    ///     terminals: (N,), 1 where the task itself ended.
    ///     timeouts: (N,), 1 where a time limit ended the episode.
    ///     next_observations: (N, O), after each step; NaN rows where it is not known.
    ///     episode_lengths: (episodes,), steps of each episode, where no flags say where they end.
    ///     action_low, action_high: (A,), the range of actions.
    ///     action_choices: how many choices an action is one of; without it one more than the largest integer.
    ///     instructions: one text per episode, what it was asked to do.
    ///     env_name: the environment's name, e.g. "Hopper-v5".
    ///     max_episode_steps: without `timeouts`, episodes that did not terminate end after so many steps.
    ///
    /// At least one of `terminals`, `timeouts` and `episode_lengths` says where episodes end. The numbers are copied, in single precision.
    ///
    /// Raises:
    ///     TypeError: an array holds no numbers.
    ///     ValueError: a shape does not fit, a number is not finite, or nothing says where episodes end; names array, row and column.
    #[staticmethod]
    #[pyo3(signature = (observations, actions, rewards, terminals=None, timeouts=None, *, next_observations=None, episode_lengths=None,
        action_low=None, action_high=None, action_choices=None, instructions=None, env_name=None, max_episode_steps=None))]
    #[allow(clippy::too_many_arguments)]
    fn from_arrays(
        observations: &Bound<'_, PyAny>,
        actions: &Bound<'_, PyAny>,
        rewards: &Bound<'_, PyAny>,
        terminals: Option<&Bound<'_, PyAny>>,
        timeouts: Option<&Bound<'_, PyAny>>,
        next_observations: Option<&Bound<'_, PyAny>>,
        episode_lengths: Option<&Bound<'_, PyAny>>,
        action_low: Option<&Bound<'_, PyAny>>,
        action_high: Option<&Bound<'_, PyAny>>,
        action_choices: Option<&Bound<'_, PyAny>>,
        instructions: Option<Vec<String>>,
        env_name: Option<String>,
        max_episode_steps: Option<usize>,
    ) -> PyResult<Self> {
        let named = [
            ("observations", Some(observations)),
            ("actions", Some(actions)),
            ("rewards", Some(rewards)),
            ("terminals", terminals),
            ("timeouts", timeouts),
            ("next_observations", next_observations),
            ("episode_lengths", episode_lengths),
            ("action_low", action_low),
            ("action_high", action_high),
            ("action_choices", action_choices),
        ];
        let mut given = Vec::new();
        for (name, value) in named {
            if let Some(value) = value {
                given.push((name, Given::new(value, name)?));
            }
        }
        let arrays: Vec<Array<'_>> = given.iter().map(described).collect();
        let options = LoadOptions {
            max_episode_steps,
            ..LoadOptions::default()
        };
        let data = in_memory::read(&arrays, env_name, instructions, &options).map_err(raised)?;
        Ok(Self(Arc::new(data)))
    }

    /// Reads a data set: D4RL's HDF5, Minari's folders, npz, or a public one by the name that `trajformer data list` knows, e.g.
    /// "hopper-medium-v2", once `trajformer data pull` has fetched it. Several are joined.
    ///
    /// Args:
    ///     path: a file, a folder, a name, or a list of them.
    ///     max_episode_steps: in files without time-outs, episodes that did not terminate end after so many steps.
    ///     observation_keys: where observations are dictionaries, the keys that are put side by side.
    ///
    /// Raises:
    ///     FileNotFoundError: it is not there, or was not fetched yet.
    ///     ValueError: it is damaged, lacks an array, or holds a number that is not finite; names array and row.
    #[staticmethod]
    #[pyo3(signature = (path, *, max_episode_steps=None, observation_keys=None))]
    fn load(
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        max_episode_steps: Option<usize>,
        observation_keys: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let paths = paths(path)?;
        let options = LoadOptions {
            max_episode_steps,
            observation_keys: observation_keys.unwrap_or_default(),
            observation_columns: None,
        };
        let read = || data::load_with(&data::resolved(&paths)?, &options);
        let data = detached(py, read).map_err(raised)?;
        Ok(Self(Arc::new(data)))
    }

    /// Writes it: a name that ends in .hdf5 gets D4RL's layout, .npz NumPy's arrays, one without an ending becomes a Minari folder, which
    /// must not exist.
    ///
    /// Raises:
    ///     ValueError: the name has another ending.
    ///     OSError: it can't be written.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || data::save(&self.0, &path)).map_err(raised)
    }

    /// Observations before each step, float32 (N, O), read-only, without a copy.
    #[getter]
    fn observations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shape = vec![self.0.steps(), self.0.observation_dim];
        self.view(py, shape, |data| &data.observations)
    }

    /// Actions, float32 (N, A), in the environment's units, read-only, without a copy.
    #[getter]
    fn actions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shape = vec![self.0.steps(), self.0.action_dim];
        self.view(py, shape, |data| &data.actions)
    }

    /// Rewards, float32 (N,), in the environment's units, read-only, without a copy.
    #[getter]
    fn rewards<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.view(py, vec![self.0.steps()], |data| &data.rewards)
    }

    /// Whether the task itself ended with the step, bool (N,).
    #[getter]
    fn terminals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.flags(py, |episode| episode.terminated)
    }

    /// Whether a time limit ended the episode with the step, bool (N,).
    #[getter]
    fn timeouts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.flags(py, |episode| episode.truncated)
    }

    /// Steps of each episode, int64 (episodes,).
    #[getter]
    fn episode_lengths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let lengths = self.0.episodes.iter().map(|episode| episode.steps as i64);
        let bytes = lengths.flat_map(i64::to_le_bytes).collect();
        owned(py, "<i8", &[self.0.episodes.len()], bytes)
    }

    /// Undiscounted returns of the episodes that are whole, float64, in order.
    #[getter]
    fn returns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let returns = self.0.returns();
        let bytes = returns.iter().flat_map(|value| value.to_le_bytes());
        owned(py, "<f8", &[returns.len()], bytes.collect())
    }

    /// Numbers in an observation (O).
    #[getter]
    fn observation_dim(&self) -> usize {
        self.0.observation_dim
    }

    /// Numbers in an action (A).
    #[getter]
    fn action_dim(&self) -> usize {
        self.0.action_dim
    }

    /// The environment's name as the data gives it, or None.
    #[getter]
    fn env_name(&self) -> Option<&str> {
        self.0.env_name.as_deref()
    }

    /// What one should know about it: odd ends, constant columns, actions out of range.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings.clone()
    }

    /// How many steps (N).
    fn __len__(&self) -> usize {
        self.0.steps()
    }

    fn __repr__(&self) -> String {
        let data = &self.0;
        let choices = match data.action_kind {
            ActionKind::Continuous => String::new(),
            ActionKind::Discrete { count } => format!(", {count} choices"),
        };
        format!(
            "Dataset({} steps, {} episodes, observation_dim={}, action_dim={}{choices})",
            data.steps(),
            data.episodes.len(),
            data.observation_dim,
            data.action_dim
        )
    }
}

/// An array as the library takes it.
fn described<'a>((name, (shape, given)): &'a (&'static str, (Vec<usize>, Given))) -> Array<'a> {
    Array {
        name,
        shape: shape.clone(),
        values: given.values(),
    }
}

/// One path or a list of them.
pub fn paths(value: &Bound<'_, PyAny>) -> PyResult<Vec<PathBuf>> {
    let one = value.extract::<PathBuf>().map(|path| vec![path]);
    one.or_else(|_| value.extract::<Vec<PathBuf>>())
        .map_err(|_| {
            PyTypeError::new_err(format!(
                "a data set is named by a path or a list of paths, not by {}",
                value.get_type()
            ))
        })
}
