//! Policies as ONNX files that other runtimes execute: normaliser, network, bounds in one graph.
//!
//! Every graph is compared with the policy it stands for before it is written: a policy that is something else
//! than its network (a choice among samples, a plan) is refused, and so is any mistake made here.

mod actor;
pub mod graph;
pub mod onnx;
mod sequence;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use trajformer_models::params::{Slot, StateVisitor};

use crate::algorithms::AlgorithmConfig;
use crate::checkpoint::write_atomically;
use crate::config::Purpose;
use crate::error::{Error, Result};
use crate::pretrained::Request;
use crate::run::{self, TrainedRun};
use graph::Graph;

/// Largest difference between an action of the graph and of the policy, relative to half the range.
const TOLERANCE: f64 = 1e-5;
/// Ten units in the last place of a center are this share of it, at that tolerance.
const CENTER_SHARE: f64 = 0.06;

/// Fails if no ONNX file can come to be at `path`.
///
/// # Errors
/// If its name does not end in `.onnx`, it is there already, or its folder is not.
pub fn check_new(path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    if !ending.is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        let mut named = path.to_path_buf();
        named.set_extension("onnx");
        let problem = format!(
            "policies are exported as ONNX: end the name in .onnx, e.g. {}",
            named.display()
        );
        return Err(Error::data(path, problem));
    }
    if path.exists() {
        let problem = "exists already; remove it, or choose another name";
        return Err(Error::data(path, problem));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(Error::data(
            path,
            format!(
                "the folder {} is not there: make it first",
                folder.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Opens a run, or a model of another library, for export. One that draws samples of its actor and chooses among them by
/// their values (BEAR, BRAC, CRR) is opened as its actor's mean, which is one network; a warning says so.
///
/// # Errors
/// As [`run::open`].
pub fn open(path: &Path, overrides: &[String]) -> Result<TrainedRun> {
    let opened = |overrides: &[String]| {
        let request = Request {
            overrides,
            purpose: Purpose::Export,
            ..Request::default()
        };
        run::open_with(path, &request)
    };
    let trained = opened(overrides)?;
    let (mean, samples) = match &trained.config.algorithm {
        AlgorithmConfig::Brac(config) if config.acting_samples > 0 => {
            ("algorithm.brac.acting_samples=0", config.acting_samples)
        }
        AlgorithmConfig::Bear(config) if config.acting_samples > 0 => {
            ("algorithm.bear.acting_samples=0", config.acting_samples)
        }
        AlgorithmConfig::Crr(config) if config.weighted_acting => {
            ("algorithm.crr.weighted_acting=false", config.samples)
        }
        _ => return Ok(trained),
    };
    tracing::warn!(
        "{} acts by one of {samples} samples of its actor, by their values; exported is the actor's mean: `--set \
         {mean}` lets `evaluate` act so too",
        trained.config.algorithm.name()
    );
    opened(&[overrides, &[mean.to_owned()]].concat())
}

/// Writes the policy of a run as an ONNX file.
///
/// # Errors
/// If it is not a network that acts without chance, or no file can come to be there ([`check_new`]).
pub fn write(run: &mut TrainedRun, path: &Path) -> Result<Graph> {
    check_new(path)?;
    let graph = graph_of(run)?;
    let notes = [
        ("algorithm", run.config.algorithm.name().to_owned()),
        (
            "environment",
            run.config.evaluate.env.clone().unwrap_or_default(),
        ),
    ];
    write_atomically(path, &onnx::encode(&graph, &notes)?)?;
    Ok(graph)
}

/// The policy of a run as a graph: `observation` (batch, O) to `action` (batch, A) in the environment's units;
/// for the Decision Transformer `observations`, `actions`, `returns_to_go`, `timesteps` and `attention_mask` of the
/// last K steps (batch, K, ..), padded on the left where the mask is 0.
///
/// # Errors
/// If it is not a network that acts without chance.
pub fn graph_of(run: &mut TrainedRun) -> Result<Graph> {
    let mut parts = Parts::default();
    run.algorithm.state(&mut parts)?;
    match &run.config.algorithm {
        AlgorithmConfig::DecisionTransformer(config) if config.text.is_some() => {
            Err(Error::Unsuitable(
                "a policy that follows instructions in words is not exported: its encoder would have to be in \
                 the graph"
                    .to_owned(),
            ))
        }
        AlgorithmConfig::DecisionTransformer(config) => {
            let description = run.algorithm.description();
            sequence::graph(&parts, config, &description, &mut *run.algorithm.policy()?)
        }
        _ => actor::graph(&parts, &mut *run.algorithm.policy()?),
    }
}

/// Networks and what stands beside them, numbers included, by name, on the CPU.
#[derive(Default)]
struct Parts(BTreeMap<String, Tensor>);

impl Parts {
    fn get(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::Unsuitable(format!("the policy has no tensor `{name}` to export"));
        self.0.get(name).ok_or_else(missing)
    }

    /// Subtracts means, divides by deviations.
    fn normalized(&self, graph: &mut Graph, observation: &graph::Value) -> Result<graph::Value> {
        let mean = graph.constant("observation_mean", self.get("policy.normalizer.mean")?)?;
        let scale = graph.constant("observation_scale", self.get("policy.normalizer.scale")?)?;
        let centered = graph.node(graph::Op::Sub, &[observation, &mean]);
        Ok(graph.node(graph::Op::Div, &[&centered, &scale]))
    }

    /// ±1, clipped, to the environment's actions.
    fn in_bounds(&self, graph: &mut Graph, unit: &graph::Value) -> Result<graph::Value> {
        let center = graph.constant("action_center", self.get("policy.action_bounds.center")?)?;
        let half = graph.constant("action_half", self.get("policy.action_bounds.half")?)?;
        let (low, high) = (graph.number(-1.0)?, graph.number(1.0)?);
        let clipped = graph.node(graph::Op::Clip, &[unit, &low, &high]);
        let scaled = graph.node(graph::Op::Mul, &[&clipped, &half]);
        Ok(graph.node(graph::Op::Add, &[&scaled, &center]))
    }

    /// y = x W + b, W (in, out).
    fn affine(
        &self,
        graph: &mut Graph,
        x: &graph::Value,
        name: &str,
        weight: &Tensor,
    ) -> Result<graph::Value> {
        let weight = graph.constant(&format!("{name}.weight"), weight)?;
        let bias = format!("{name}.bias");
        let bias = graph.constant(&bias, self.get(&format!("model.{bias}"))?)?;
        let product = graph.node(graph::Op::MatMul, &[x, &weight]);
        Ok(graph.node(graph::Op::Add, &[&product, &bias]))
    }

    /// The largest difference of actions (.., A), relative to half their range; infinite for NaN. Of a narrow range far
    /// from 0, which rounding alone moves by more, a share of its center counts as half.
    fn difference(&self, found: &Tensor, expected: &Tensor) -> Result<f64> {
        let half = self.get("policy.action_bounds.half")?;
        let center = self.get("policy.action_bounds.center")?;
        let size = half.maximum(&(center.abs()? * CENTER_SHARE)?)?;
        let difference = (found - expected)?.broadcast_div(&size)?.abs()?;
        let worst = difference.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        Ok(if worst.is_nan() {
            f64::INFINITY
        } else {
            f64::from(worst)
        })
    }
}

impl StateVisitor for Parts {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if !name.starts_with("training.") {
            let tensor = slot.tensor()?.to_device(&Device::Cpu)?;
            self.0.insert(name.to_owned(), tensor);
        }
        Ok(())
    }

    fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
        let number = Tensor::new(*value, &Device::Cpu)?;
        self.0.insert(name.to_owned(), number);
        Ok(())
    }
}
