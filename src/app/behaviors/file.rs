//! [`FilePolicy`]: a pretrained actor read from plain arrays in an `.npz` file.
//!
//! | array | shape | |
//! |---|---|---|
//! | `w0`, `b0`, `w1`, `b1`, ... | (out, in), (out) | layers, the action's last |
//! | `obs_mean`, `obs_std` | (in) | optional: (observation - mean) / standard deviation, clamped to ±10 |
//! | `log_std` | (A) | optional: standard deviation of a Gaussian around the output |
//! | `log_std_w`, `log_std_b` | (A, H), (A) | optional: log standard deviation from the last hidden layer, clamped to -20..2; the Gaussian is squashed by tanh |
//!
//! A first layer one wider than the observation takes the time left as well: 1 - t / 1000 at step t.
//! Activations are not in the arrays: they come from `manifest.json` beside the file (a list of
//! objects with `file`, `hidden_activation` relu or tanh, and `output` tanh or identity) or from
//! [`FilePolicyOptions`]. A tanh output spans the environment's bounds; an identity output is in its
//! units and clamped to them.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::formats::npz::{NpyArray, NpyValues, read_npz};
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};
use trajformer_models::rng::Rng;

/// Normalized observations are clamped to ± this.
const OBSERVATION_CLIP: f64 = 10.0;
/// Range of log standard deviations that depend on the observation.
const LOG_DEVIATION: (f32, f32) = (-20.0, 2.0);
/// Steps over which the time input falls from 1 to 0.
const TIME_INPUT_STEPS: f64 = 1000.0;

/// What the arrays don't say.
#[derive(Debug, Clone, Copy, Default)]
pub struct FilePolicyOptions {
    /// Draw actions from the policy's distribution instead of taking its mode.
    pub sample: bool,
    /// Activation of hidden layers; `None`: from the manifest.
    pub hidden_activation: Option<HiddenActivation>,
    /// What is done to the last layer's output; `None`: from the manifest.
    pub output: Option<OutputActivation>,
}

/// Activation of hidden layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenActivation {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// What is done to the last layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputActivation {
    /// Squashed to ±1, then scaled to the environment's bounds.
    Tanh,
    /// In the environment's units, clamped to its bounds.
    Identity,
}

/// A multilayer perceptron from a file, acting row by row.
#[derive(Debug, Clone)]
pub struct FilePolicy {
    hidden: Vec<Layer>,
    mean: Layer,
    hidden_activation: HiddenActivation,
    output: OutputActivation,
    deviation: Deviation,
    normalization: Option<Normalization>,
    takes_time: bool,
    low: Vec<f32>,
    high: Vec<f32>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    rng: Rng,
    steps: usize,
}

#[derive(Debug, Clone)]
struct Normalization {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

#[derive(Debug, Clone)]
enum Deviation {
    /// The mode is taken.
    None,
    /// Standard deviation (A) of the noise, the same for every observation.
    Fixed(Vec<f32>),
    /// Log standard deviation from the last hidden layer.
    FromHidden(Layer),
}

/// y = W x + b; weights (in, out), so that a product adds whole rows.
#[derive(Debug, Clone)]
struct Layer {
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl Layer {
    fn inputs(&self) -> usize {
        self.weights.len() / self.biases.len()
    }

    fn forward(&self, input: &[f32]) -> Vec<f32> {
        let mut output = self.biases.clone();
        for (&x, row) in input
            .iter()
            .zip(self.weights.chunks_exact(self.biases.len()))
        {
            for (y, w) in output.iter_mut().zip(row) {
                *y += x * w;
            }
        }
        output
    }
}

impl FilePolicy {
    /// The actor in `path`, for this environment.
    ///
    /// # Errors
    /// If the file can't be read, an array is missing, has the wrong shape or isn't finite, the
    /// activations are unknown, or it does not fit the environment.
    pub fn load(path: &Path, spec: &EnvSpec, options: &FilePolicyOptions) -> Result<Self> {
        let arrays = Arrays {
            path,
            arrays: read_npz(path)?,
        };
        let (hidden_activation, output) = activations(path, options)?;
        let count = (0..)
            .take_while(|i| arrays.arrays.contains_key(&format!("w{i}")))
            .count();
        let mut hidden = (0..count)
            .map(|i| arrays.layer(&format!("w{i}"), &format!("b{i}")))
            .collect::<Result<Vec<_>>>()?;
        let mean = hidden
            .pop()
            .ok_or_else(|| arrays.wrong("array `w0` is missing".to_owned()))?;
        for (i, pair) in hidden
            .iter()
            .chain([&mean])
            .collect::<Vec<_>>()
            .windows(2)
            .enumerate()
        {
            let (found, expected) = (pair[1].inputs(), pair[0].biases.len());
            if found != expected {
                let layer = i + 1;
                let problem = format!("`w{layer}` takes {found} inputs, `w{i}` gives {expected}");
                return Err(arrays.wrong(problem));
            }
        }
        let inputs = hidden.first().unwrap_or(&mean).inputs();
        let takes_time = inputs == spec.observation_dim + 1;
        if (!takes_time && inputs != spec.observation_dim) || mean.biases.len() != spec.action_dim {
            return Err(arrays.wrong(format!(
                "maps {inputs} inputs to {} actions, but `{}` has observations of {} (one more with \
                 a time input) and actions of {} numbers",
                mean.biases.len(),
                spec.name,
                spec.observation_dim,
                spec.action_dim
            )));
        }
        let deviation = if options.sample {
            arrays.deviation(&mean)?
        } else {
            Deviation::None
        };
        Ok(Self {
            normalization: arrays.normalization(inputs)?,
            hidden,
            mean,
            hidden_activation,
            output,
            deviation,
            takes_time,
            low: spec.action_low.clone(),
            high: spec.action_high.clone(),
            rows: Vec::new(),
        })
    }

    fn action(&self, row: &mut Row, observation: &[f32]) -> Vec<f32> {
        let mut input: Vec<f64> = observation.iter().map(|&v| f64::from(v)).collect();
        if self.takes_time {
            input.push(1.0 - row.steps as f64 / TIME_INPUT_STEPS);
        }
        if let Some(Normalization { mean, deviation }) = &self.normalization {
            for (value, (mean, deviation)) in input.iter_mut().zip(mean.iter().zip(deviation)) {
                let normalized = (*value - mean) / deviation;
                *value = normalized.clamp(-OBSERVATION_CLIP, OBSERVATION_CLIP);
            }
        }
        let mut features: Vec<f32> = input.into_iter().map(|v| v as f32).collect();
        for layer in &self.hidden {
            features = layer.forward(&features);
            for value in &mut features {
                *value = match self.hidden_activation {
                    HiddenActivation::Relu => value.max(0.0),
                    HiddenActivation::Tanh => value.tanh(),
                };
            }
        }
        let mut action = self.mean.forward(&features);
        self.add_noise(&mut action, &features, &mut row.rng);
        row.steps += 1;
        for (value, (&low, &high)) in action.iter_mut().zip(self.low.iter().zip(&self.high)) {
            *value = match self.output {
                OutputActivation::Tanh => low + 0.5 * (value.tanh() + 1.0) * (high - low),
                OutputActivation::Identity => value.clamp(low, high),
            };
        }
        action
    }

    fn add_noise(&self, action: &mut [f32], features: &[f32], rng: &mut Rng) {
        let log_deviations = match &self.deviation {
            Deviation::None => return,
            Deviation::Fixed(log) => log.clone(),
            Deviation::FromHidden(layer) => {
                let clamp = |v: f32| v.clamp(LOG_DEVIATION.0, LOG_DEVIATION.1);
                layer.forward(features).into_iter().map(clamp).collect()
            }
        };
        for (value, log_deviation) in action.iter_mut().zip(log_deviations) {
            *value += log_deviation.exp() * rng.normal() as f32;
        }
    }
}

impl Policy for FilePolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.rows = episodes
            .iter()
            .map(|e| Row {
                rng: e.rng.clone(),
                steps: 0,
            })
            .collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let observations = observations.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        check_rows(self.rows.len(), observations.len())?;
        let mut rows = std::mem::take(&mut self.rows);
        let mut actions = Vec::with_capacity(observations.len() * self.low.len());
        for ((row, observation), &active) in rows.iter_mut().zip(&observations).zip(active) {
            if active {
                actions.extend(self.action(row, observation));
            } else {
                actions.extend_from_slice(&self.low);
            }
        }
        self.rows = rows;
        Ok(Tensor::from_vec(
            actions,
            (observations.len(), self.low.len()),
            &Device::Cpu,
        )?)
    }
}

/// The arrays of one file, with errors that name it.
struct Arrays<'a> {
    path: &'a Path,
    arrays: BTreeMap<String, NpyArray>,
}

impl Arrays<'_> {
    fn wrong(&self, problem: String) -> Error {
        Error::Data {
            path: self.path.to_path_buf(),
            problem,
        }
    }

    /// A finite array of this rank: its dimensions and numbers.
    fn get(&self, name: &str, rank: usize) -> Result<(&[usize], Vec<f64>)> {
        let missing = || self.wrong(format!("array `{name}` is missing (a policy needs it)"));
        let array = self.arrays.get(name).ok_or_else(missing)?;
        let shape = array.shape.as_slice();
        if shape.len() != rank || shape.contains(&0) {
            let problem = format!("array `{name}` has shape {shape:?}, expected rank {rank}");
            return Err(self.wrong(problem));
        }
        if let NpyValues::Text(_) = array.values {
            return Err(self.wrong(format!("array `{name}` holds text, expected numbers")));
        }
        let values = array.to_f64();
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(self.wrong(format!("array `{name}` holds {} at {i}", values[i]))),
            None => Ok((shape, values)),
        }
    }

    fn vector(&self, name: &str, expected: usize) -> Result<Vec<f64>> {
        let (shape, values) = self.get(name, 1)?;
        if shape[0] != expected {
            let problem = format!(
                "array `{name}` has {} numbers, expected {expected}",
                shape[0]
            );
            return Err(self.wrong(problem));
        }
        Ok(values)
    }

    fn layer(&self, weights: &str, biases: &str) -> Result<Layer> {
        let (shape, values) = self.get(weights, 2)?;
        let (outputs, inputs) = (shape[0], shape[1]);
        let biases = self
            .vector(biases, outputs)?
            .into_iter()
            .map(|v| v as f32)
            .collect();
        let transposed = (0..inputs).flat_map(|i| (0..outputs).map(move |o| o * inputs + i));
        Ok(Layer {
            weights: transposed.map(|at| values[at] as f32).collect(),
            biases,
        })
    }

    fn normalization(&self, inputs: usize) -> Result<Option<Normalization>> {
        if !self.arrays.contains_key("obs_mean") && !self.arrays.contains_key("obs_std") {
            return Ok(None);
        }
        let (mean, deviation) = (
            self.vector("obs_mean", inputs)?,
            self.vector("obs_std", inputs)?,
        );
        match deviation.iter().position(|&v| v <= 0.0) {
            Some(i) => Err(self.wrong(format!("array `obs_std` is {} at {i}", deviation[i]))),
            None => Ok(Some(Normalization { mean, deviation })),
        }
    }

    fn deviation(&self, mean: &Layer) -> Result<Deviation> {
        let actions = mean.biases.len();
        if self.arrays.contains_key("log_std") {
            let log = self.vector("log_std", actions)?;
            return Ok(Deviation::Fixed(
                log.into_iter().map(|v| v as f32).collect(),
            ));
        }
        if !self.arrays.contains_key("log_std_w") {
            let problem = "can't be sampled from: it has neither `log_std` nor `log_std_w`";
            return Err(self.wrong(problem.to_owned()));
        }
        let layer = self.layer("log_std_w", "log_std_b")?;
        if (layer.inputs(), layer.biases.len()) != (mean.inputs(), actions) {
            let problem = "`log_std_w` does not have the shape of the last layer's weights";
            return Err(self.wrong(problem.to_owned()));
        }
        Ok(Deviation::FromHidden(layer))
    }
}

/// The activations, from the options or else from `manifest.json` beside the file.
fn activations(
    path: &Path,
    options: &FilePolicyOptions,
) -> Result<(HiddenActivation, OutputActivation)> {
    if let (Some(hidden), Some(output)) = (options.hidden_activation, options.output) {
        return Ok((hidden, output));
    }
    let manifest = path.with_file_name("manifest.json");
    let unknown = |key: &str| Error::NoActivations {
        path: path.to_path_buf(),
        problem: format!(
            "don't know its {key}: give it, or list the file in {}",
            manifest.display()
        ),
    };
    let text =
        std::fs::read_to_string(&manifest).map_err(|_| unknown("hidden activation and output"))?;
    let entries: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| Error::Data {
            path: manifest.clone(),
            problem: format!("not a list of objects: {error}"),
        })?;
    let name = path.file_name().and_then(|name| name.to_str());
    let entry = entries
        .iter()
        .find(|entry| entry["file"].as_str() == name && name.is_some());
    let entry = entry.ok_or_else(|| unknown("hidden activation and output"))?;
    let hidden = match (
        options.hidden_activation,
        entry["hidden_activation"].as_str(),
    ) {
        (Some(hidden), _) => hidden,
        (None, Some("relu")) => HiddenActivation::Relu,
        (None, Some("tanh")) => HiddenActivation::Tanh,
        _ => return Err(unknown("hidden activation (relu or tanh)")),
    };
    let output = match (options.output, entry["output"].as_str()) {
        (Some(output), _) => output,
        (None, Some("tanh")) => OutputActivation::Tanh,
        (None, Some("identity")) => OutputActivation::Identity,
        _ => return Err(unknown("output (tanh or identity)")),
    };
    Ok((hidden, output))
}
