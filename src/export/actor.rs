//! Actors that are a perceptron: the deterministic ones, and the means of Gaussian ones.

use candle_core::{DType, Device, Tensor};

use super::graph::{Graph, Op};
use super::{Parts, TOLERANCE};
use crate::error::{Error, Result};
use crate::policy::{EpisodeStart, Policy};
use crate::rng::Rng;

/// Observations that a graph is compared on.
const PROBES: usize = 64;
/// Epsilons that actors' norms have.
const EPSILONS: [f32; 2] = [1e-5, 1e-6];

/// What an actor does with its network's output, which its parameters don't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Squash {
    Tanh,
    Clip,
}

pub(super) fn graph(parts: &Parts, policy: &mut dyn Policy) -> Result<Graph> {
    let refuse = |problem: &str| Err(Error::Unsuitable(format!("can't be exported: {problem}")));
    if !policy.is_memoryless() {
        return refuse(
            "its policy plans, remembers or chooses among samples, which is more than one network",
        );
    }
    let observations = probes(parts)?;
    let start = EpisodeStart {
        rng: Rng::from_seed(0),
        target_return: None,
        goal: None,
        instruction: None,
    };
    policy.begin(&vec![start; PROBES])?;
    let expected = policy.act(&observations, &[true; PROBES])?;
    // The one among the candidates that acts as the policy does.
    for squash in [Squash::Tanh, Squash::Clip] {
        for epsilon in EPSILONS {
            let graph = candidate(parts, squash, epsilon)?;
            let found = graph.run(std::slice::from_ref(&observations))?;
            if parts.difference(&found, &expected)? < TOLERANCE {
                return Ok(graph);
            }
        }
    }
    refuse("its actor is none of the networks that are known here")
}

/// Observations (PROBES, O) as the network has seen them: spread like the data.
fn probes(parts: &Parts) -> Result<Tensor> {
    let mean = parts.get("policy.normalizer.mean")?;
    let scale = parts.get("policy.normalizer.scale")?;
    let shape = (PROBES, mean.elem_count());
    let normal = Rng::from_seed(1).normal_tensor(shape, DType::F32, &Device::Cpu)?;
    Ok(normal.broadcast_mul(scale)?.broadcast_add(mean)?)
}

fn candidate(parts: &Parts, squash: Squash, epsilon: f32) -> Result<Graph> {
    let mut graph = Graph::default();
    let o = parts.get("policy.normalizer.mean")?.elem_count();
    let a = parts.get("policy.action_bounds.half")?.elem_count();
    let observation = graph.input("observation", &[o], DType::F32);
    let mut x = parts.normalized(&mut graph, &observation)?;
    let layers = layers(parts);
    for (i, number) in layers.iter().enumerate() {
        let name = format!("actor.net.{number}");
        let weight = parts.get(&format!("model.{name}.weight"))?;
        let last = i + 1 == layers.len() || !layers[i + 1..].iter().any(|&n| is_linear(parts, n));
        if !is_linear(parts, *number) {
            let weight = graph.constant(&format!("{name}.weight"), weight)?;
            let bias = parts.get(&format!("model.{name}.bias"))?;
            let bias = graph.constant(&format!("{name}.bias"), bias)?;
            x = graph.node(Op::LayerNormalization(epsilon), &[&x, &weight, &bias]);
            continue;
        }
        let mut weight = weight.t()?.contiguous()?; // (in, out)
        if last {
            // Of mean and log-deviation only the mean acts.
            weight = weight.narrow(1, 0, a.min(weight.dim(1)?))?.contiguous()?;
            x = mean_layer(parts, &mut graph, &x, &name, &weight)?;
        } else {
            x = parts.affine(&mut graph, &x, &name, &weight)?;
            x = graph.node(Op::Relu, &[&x]);
        }
    }
    if squash == Squash::Tanh {
        x = graph.node(Op::Tanh, &[&x]);
    }
    let action = parts.in_bounds(&mut graph, &x)?;
    graph.set_output("action", &action, &[a]);
    Ok(graph)
}

/// The last layer, cut to the mean.
fn mean_layer(
    parts: &Parts,
    graph: &mut Graph,
    x: &super::graph::Value,
    name: &str,
    weight: &Tensor,
) -> Result<super::graph::Value> {
    let bias = parts.get(&format!("model.{name}.bias"))?;
    let bias = bias.narrow(0, 0, weight.dim(1)?)?;
    let weight = graph.constant(&format!("{name}.weight"), weight)?;
    let bias = graph.constant(&format!("{name}.bias"), &bias)?;
    let product = graph.node(Op::MatMul, &[x, &weight]);
    Ok(graph.node(Op::Add, &[&product, &bias]))
}

/// Numbers of the modules of `actor.net` that have weights, ascending.
fn layers(parts: &Parts) -> Vec<usize> {
    let number = |name: &String| -> Option<usize> {
        let rest = name.strip_prefix("model.actor.net.")?;
        rest.strip_suffix(".weight")?.parse().ok()
    };
    let mut numbers: Vec<usize> = parts.0.keys().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Whether a module is a linear layer; else it is a norm.
fn is_linear(parts: &Parts, number: usize) -> bool {
    let weight = parts.0.get(&format!("model.actor.net.{number}.weight"));
    weight.is_some_and(|weight| weight.rank() == 2)
}
