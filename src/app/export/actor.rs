//! Actors that are a perceptron: the deterministic ones, and the means of Gaussian ones.

use candle_core::{DType, Device, Tensor};

use crate::app::export::graph::{Graph, Op};
use crate::app::export::parts::{Parts, TOLERANCE};
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Rng;

/// Observations that a graph is compared on.
const PROBES: usize = 64;
/// Where an actor is among an algorithm's networks: BRAC acts by its behavior policy while it fits that.
const FRONTS: [&str; 2] = ["actor", "behavior"];
/// The same where actions are choices: logits of an actor, or values where there is none.
const CHOOSING_FRONTS: [&str; 2] = ["actor", "critics.0"];
/// Epsilons that actors' norms have.
const EPSILONS: [f32; 2] = [1e-5, 1e-6];

/// What an actor does with its network's output, which its parameters don't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Squash {
    Tanh,
    Clip,
    /// The number of the largest.
    Largest,
}

pub(super) fn graph(parts: &Parts, kind: ActionKind, policy: &mut dyn Policy) -> Result<Graph> {
    let refuse = |problem: &str| {
        let problem = format!("can't be exported: {problem}");
        Err(Error::unsupported(Ability::Export, problem))
    };
    if policy.draws() {
        return refuse(
            "its policy chooses among samples, which is more than one network: export its mean, as `export::open` opens it",
        );
    }
    if !policy.is_memoryless() {
        return refuse(
            "its policy plans or remembers, which is more than one network (a Trajectory Transformer, TAP and FAST plan or \
             decode token by token)",
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
    let (fronts, squashes) = match kind {
        ActionKind::Continuous => (FRONTS, &[Squash::Tanh, Squash::Clip][..]),
        ActionKind::Discrete { .. } => (CHOOSING_FRONTS, &[Squash::Largest][..]),
    };
    for front in fronts {
        if layers(parts, front).is_empty() {
            continue;
        }
        for &squash in squashes {
            for epsilon in EPSILONS {
                let graph = candidate(parts, front, squash, epsilon)?;
                let found = graph.run(std::slice::from_ref(&observations))?;
                if parts.difference(&found, &expected)? < TOLERANCE {
                    return Ok(graph);
                }
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

fn candidate(parts: &Parts, front: &str, squash: Squash, epsilon: f32) -> Result<Graph> {
    let mut graph = Graph::default();
    let o = parts.get("policy.normalizer.mean")?.elem_count();
    let a = parts.get("policy.action_bounds.half")?.elem_count();
    let meaning = "Observations in the environment's units; the graph normalizes them.";
    let observation = graph.input("observation", &[o], DType::F32, meaning.to_owned());
    graph.meaning = "A policy: the action for each observation by itself.".to_owned();
    let mut x = parts.normalized(&mut graph, &observation)?;
    let layers = layers(parts, front);
    let is_linear = |number: usize| is_linear(parts, front, number);
    for (i, number) in layers.iter().enumerate() {
        let name = format!("{front}.net.{number}");
        let weight = parts.get(&format!("model.{name}.weight"))?;
        let last = !layers[i + 1..].iter().any(|&later| is_linear(later));
        if !is_linear(*number) {
            let weight = graph.constant(&format!("{name}.weight"), weight)?;
            let bias = parts.get(&format!("model.{name}.bias"))?;
            let bias = graph.constant(&format!("{name}.bias"), bias)?;
            x = graph.node(Op::LayerNormalization(epsilon), &[&x, &weight, &bias]);
            continue;
        }
        let mut weight = weight.t()?.contiguous()?; // (in, out)
        if last {
            // Of mean and log standard deviation only the mean acts.
            let outputs = match squash {
                Squash::Tanh | Squash::Clip => a.min(weight.dim(1)?),
                Squash::Largest => weight.dim(1)?,
            };
            weight = weight.narrow(1, 0, outputs)?.contiguous()?;
            x = mean_layer(parts, &mut graph, &x, &name, &weight)?;
        } else {
            x = parts.affine(&mut graph, &x, &name, &weight)?;
            x = graph.node(Op::Relu, &[&x]);
        }
    }
    let action = match squash {
        Squash::Tanh => {
            x = graph.node(Op::Tanh, &[&x]);
            parts.in_bounds(&mut graph, &x)?
        }
        Squash::Clip => parts.in_bounds(&mut graph, &x)?,
        Squash::Largest => {
            let largest = graph.node(Op::ArgMax, &[&x]);
            graph.node(Op::Cast(DType::F32), &[&largest])
        }
    };
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

/// Numbers of the modules of the actor `front` that have weights, ascending.
fn layers(parts: &Parts, front: &str) -> Vec<usize> {
    let start = format!("model.{front}.net.");
    let number = |name: &String| -> Option<usize> {
        let rest = name.strip_prefix(&start)?;
        rest.strip_suffix(".weight")?.parse().ok()
    };
    let mut numbers: Vec<usize> = parts.0.keys().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Whether a module is a linear layer; else it is a norm.
fn is_linear(parts: &Parts, front: &str, number: usize) -> bool {
    let weight = parts.0.get(&format!("model.{front}.net.{number}.weight"));
    weight.is_some_and(|weight| weight.rank() == 2)
}
