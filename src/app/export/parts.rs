//! [`Parts`]: the tensors of a policy, and the operations around its network.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::app::export::graph::{self, Graph};
use trajformer_core::error::{Error, Result};
use trajformer_models::params::{Slot, StateVisitor};

/// Largest difference between an action of the graph and of the policy, relative to half the range.
pub(super) const TOLERANCE: f64 = 1e-5;
/// Ten units in the last place of a center are this share of it, at that tolerance.
const CENTER_SHARE: f64 = 0.06;

/// Networks and what stands beside them, numbers included, by name, on the CPU.
#[derive(Default)]
pub(super) struct Parts(pub(super) BTreeMap<String, Tensor>);

impl Parts {
    pub(super) fn get(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::Internal(format!("the policy has no tensor `{name}` to export"));
        self.0.get(name).ok_or_else(missing)
    }

    /// Subtracts means, divides by standard deviations.
    pub(super) fn normalized(
        &self,
        graph: &mut Graph,
        observation: &graph::Value,
    ) -> Result<graph::Value> {
        let mean = graph.constant("observation_mean", self.get("policy.normalizer.mean")?)?;
        let scale = graph.constant("observation_scale", self.get("policy.normalizer.scale")?)?;
        let centered = graph.node(graph::Op::Sub, &[observation, &mean]);
        Ok(graph.node(graph::Op::Div, &[&centered, &scale]))
    }

    /// ±1, clipped, to the environment's actions.
    pub(super) fn in_bounds(&self, graph: &mut Graph, unit: &graph::Value) -> Result<graph::Value> {
        let center = graph.constant("action_center", self.get("policy.action_bounds.center")?)?;
        let half = graph.constant("action_half", self.get("policy.action_bounds.half")?)?;
        let (low, high) = (graph.number(-1.0)?, graph.number(1.0)?);
        let clipped = graph.node(graph::Op::Clip, &[unit, &low, &high]);
        let scaled = graph.node(graph::Op::Mul, &[&clipped, &half]);
        Ok(graph.node(graph::Op::Add, &[&scaled, &center]))
    }

    /// y = x W + b, W (in, out).
    pub(super) fn affine(
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
    pub(super) fn difference(&self, found: &Tensor, expected: &Tensor) -> Result<f64> {
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
