//! The Decision Transformer: K steps in, the action of the last one out.
//!
//! Inputs, all in the environment's units: `observations` (batch, K, O), `actions` (batch, K, A; of choices (batch, K, 1), their numbers; the
//! last is not looked at), `returns_to_go` (batch, K, 1), `timesteps` (batch, K), `attention_mask` (batch, K): 1 for steps, 0
//! for padding, which stands on the left. Output: `action` (batch, A), of choices (batch, 1), the number of the likeliest. Steps after the last that the network knows
//! count as the last, as they do where the policy acts.

use std::collections::VecDeque;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value as Json};

use crate::app::export::graph::{Graph, Op, Value};
use crate::app::export::parts::{Parts, TOLERANCE};
use trajformer_algorithms::decision_transformer::DecisionTransformerConfig;
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Rng;

const EPSILON: f32 = 1e-5;
/// Longest episodes through which graph and policy are compared.
const MOST_COMPARED: usize = 100;
/// What attention adds to keys that must not be seen.
const HIDDEN: f64 = -1e9;

pub(super) fn graph(
    parts: &Parts,
    config: &DecisionTransformerConfig,
    (description, kind): (&Map<String, Json>, ActionKind),
    policy: &mut dyn Policy,
) -> Result<Graph> {
    let count = |key: &str| description.get(key).and_then(Json::as_u64).unwrap_or(0) as usize;
    let text = |key: &str| {
        description
            .get(key)
            .and_then(Json::as_str)
            .unwrap_or_default()
    };
    let mut builder = Builder {
        parts,
        graph: Graph::default(),
        steps: config.context_steps,
        heads: count("n_head"),
        hidden: count("hidden_size"),
        activation: text("activation_function").to_owned(),
        choices: kind.choices(),
    };
    builder.build(count("n_layer"), config)?;
    let mut graph = builder.graph;
    graph.meaning = meaning(parts, config, kind, &policy.target_returns())?;
    let worst = compare(parts, config, &graph, policy)?;
    if worst < TOLERANCE {
        Ok(graph)
    } else {
        Err(Error::Internal(format!(
            "can't be exported: the graph's actions differ from the policy's by {worst:e}"
        )))
    }
}

/// How the graph is used from step to step.
fn meaning(
    parts: &Parts,
    config: &DecisionTransformerConfig,
    kind: ActionKind,
    targets: &[f32],
) -> Result<String> {
    let k = config.context_steps;
    let targets: Vec<String> = targets.iter().map(f32::to_string).collect();
    let targets = if targets.is_empty() {
        let best: f64 = parts.get("policy.best_return")?.to_scalar()?;
        format!("{best}, the best return of its data")
    } else {
        targets.join(" or ")
    };
    Ok(format!(
        "A Decision Transformer: the action that follows the last observation. Keep the last {k} steps of each episode, \
         oldest first, and put zeros in front while there are fewer. returns_to_go is the target return at an episode's \
         first step, and at every later step the one before less the reward received since; here targets are {}. \
         Everything is in the environment's units: the graph normalizes observations, {} and divides returns by {}.",
        targets,
        match kind.choices() {
            None => "scales actions to -1..1".to_owned(),
            Some(count) => format!("takes actions as numbers of choices, 0 to {},", count - 1),
        },
        config.return_scale.of(None)?
    ))
}

struct Builder<'a> {
    parts: &'a Parts,
    graph: Graph,
    /// K.
    steps: usize,
    heads: usize,
    hidden: usize,
    activation: String,
    /// Number of choices, where actions are choices.
    choices: Option<usize>,
}

impl Builder<'_> {
    /// The inputs in their order: observations, actions, returns to go, time steps, mask.
    fn inputs(&mut self, config: &DecisionTransformerConfig, o: usize, a: usize) -> [Value; 5] {
        let (k, last) = (self.steps, config.max_episode_steps - 1);
        let mut input = |name: &str, dims: &[usize], dtype: DType, meaning: &str| {
            self.graph.input(name, dims, dtype, meaning.to_owned())
        };
        let observations = "Observations of the last steps, in the environment's units.";
        let actions = "The action taken after each observation, in the environment's units; the last row, of the step \
                       that is asked for, is not looked at.";
        let returns = "Return still wanted at each step, in the environment's units: the target, less all rewards \
                       received since the episode began.";
        let timesteps = format!(
            "Number of each step in its episode, from 0, and 0 for padding; what is above {last} counts as {last}."
        );
        let mask = "1 for steps, 0 for padding, which stands in front.";
        [
            input("observations", &[k, o], DType::F32, observations),
            input("actions", &[k, a], DType::F32, actions),
            input("returns_to_go", &[k, 1], DType::F32, returns),
            input("timesteps", &[k], DType::I64, &timesteps),
            input("attention_mask", &[k], DType::F32, mask),
        ]
    }

    fn build(&mut self, layers: usize, config: &DecisionTransformerConfig) -> Result<()> {
        let parts = self.parts;
        let (k, h) = (self.steps, self.hidden);
        let o = parts.get("policy.normalizer.mean")?.elem_count();
        let a = parts.get("policy.action_bounds.half")?.elem_count();
        let [observations, actions, returns, timesteps, mask] = self.inputs(config, o, a);
        let states = parts.normalized(&mut self.graph, &observations)?;
        let acted = self.acted(&actions)?;
        let scale = self.graph.number(config.return_scale.of(None)?)?;
        let returns = self.graph.node(Op::Div, &[&returns, &scale]);
        let table = self.constant("embed_timestep.weight", "model.embed_timestep.weight")?;
        let rows = parts
            .get("model.embed_timestep.weight")?
            .dim(0)?
            .min(config.max_episode_steps);
        let (first, last) = (self.graph.integer(0)?, self.graph.integer(rows as i64 - 1)?);
        let timesteps = self.graph.node(Op::Clip, &[&timesteps, &first, &last]);
        let times = self.graph.node(Op::Gather(0), &[&table, &timesteps]); // (B, K, H)

        let two = self.graph.integers(&[2])?;
        let mut tokens = Vec::new();
        for (values, name) in [
            (returns, "embed_return"),
            (states, "embed_state"),
            (acted, "embed_action"),
        ] {
            let embedded = if name == "embed_action" && self.choices.is_some() {
                self.rows(&values, name)?
            } else {
                self.linear(&values, name)?
            };
            let embedded = self.graph.node(Op::Add, &[&embedded, &times]);
            tokens.push(self.graph.node(Op::Unsqueeze, &[&embedded, &two]));
        }
        let tokens: Vec<&Value> = tokens.iter().collect();
        let x = self.graph.node(Op::Concat(2), &tokens); // (B, K, 3, H)
        let x = self.reshape(&x, &[0, -1, h as i64])?; // (B, 3 K, H)
        let x = self.norm(&x, "embed_ln")?;
        let position = parts.get("model.encoder.wpe.weight")?.get(0)?;
        let position = self.graph.constant("encoder.wpe.weight.0", &position)?;
        let mut x = self.graph.node(Op::Add, &[&x, &position]);
        let hidden = self.hidden_keys(&mask)?;
        for layer in 0..layers {
            x = self.block(&x, &hidden, &format!("encoder.h.{layer}"))?;
        }
        let x = self.norm(&x, "encoder.ln_f")?;
        let x = self.reshape(&x, &[0, k as i64, 3, h as i64])?;
        let x = self.pick(&x, 1, k - 1)?; // (B, 3, H)
        let x = self.pick(&x, 1, 1)?; // (B, H): the state's token
        let x = self.linear(&x, "predict_action.0")?;
        let action = if self.choices.is_some() {
            let likeliest = self.graph.node(Op::ArgMax, &[&x]);
            self.graph.node(Op::Cast(DType::F32), &[&likeliest])
        } else {
            let x = self.graph.node(Op::Tanh, &[&x]);
            parts.in_bounds(&mut self.graph, &x)?
        };
        self.graph.set_output("action", &action, &[a]);
        Ok(())
    }

    /// Actions (B, K, A) in ±1, or the numbers (B, K) of choices.
    fn acted(&mut self, actions: &Value) -> Result<Value> {
        if let Some(choices) = self.choices {
            let numbers = self.graph.node(Op::Cast(DType::I64), &[actions]);
            let numbers = self.reshape(&numbers, &[0, self.steps as i64])?;
            let last = choices as i64 - 1;
            let (first, last) = (self.graph.integer(0)?, self.graph.integer(last)?);
            return Ok(self.graph.node(Op::Clip, &[&numbers, &first, &last]));
        }
        let center = self.constant("action_center", "policy.action_bounds.center")?;
        let half = self.constant("action_half", "policy.action_bounds.half")?;
        let unit = self.graph.node(Op::Sub, &[actions, &center]);
        let unit = self.graph.node(Op::Div, &[&unit, &half]);
        let (low, high) = (self.graph.number(-1.0)?, self.graph.number(1.0)?);
        Ok(self.graph.node(Op::Clip, &[&unit, &low, &high]))
    }

    /// What a linear layer makes of rows of zeros with a 1 at `numbers` (B, K): (B, K, H).
    fn rows(&mut self, numbers: &Value, name: &str) -> Result<Value> {
        let table = self.parts.get(&format!("model.{name}.weight"))?; // (H, C)
        let table = table.t()?.contiguous()?;
        let table = self.graph.constant(&format!("{name}.weight"), &table)?;
        let rows = self.graph.node(Op::Gather(0), &[&table, numbers]);
        let bias = self.constant(&format!("{name}.bias"), &format!("model.{name}.bias"))?;
        Ok(self.graph.node(Op::Add, &[&rows, &bias]))
    }

    /// What is added to scores (B, 1, 3 K, 3 K): nothing where a token may look, much less than nothing elsewhere.
    fn hidden_keys(&mut self, mask: &Value) -> Result<Value> {
        let length = 3 * self.steps;
        let causal = (0..length * length).map(|i| {
            if i % length <= i / length {
                0.0
            } else {
                HIDDEN as f32
            }
        });
        let causal = Tensor::from_iter(causal, &Device::Cpu)?.reshape((length, length))?;
        let causal = self.graph.constant("causal", &causal)?;
        let (one, much) = (self.graph.number(1.0)?, self.graph.number(-HIDDEN)?);
        let mask = self.graph.node(Op::Sub, &[mask, &one]);
        let mask = self.graph.node(Op::Mul, &[&mask, &much]); // 0 or HIDDEN
        let two = self.graph.integers(&[2])?;
        let mask = self.graph.node(Op::Unsqueeze, &[&mask, &two]);
        let mask = self.graph.node(Op::Concat(2), &[&mask, &mask, &mask]); // (B, K, 3)
        let mask = self.reshape(&mask, &[0, 1, 1, length as i64])?;
        Ok(self.graph.node(Op::Add, &[&mask, &causal]))
    }

    fn block(&mut self, x: &Value, hidden: &Value, name: &str) -> Result<Value> {
        let normal = self.norm(x, &format!("{name}.ln_1"))?;
        let attended = self.attention(&normal, hidden, &format!("{name}.attn"))?;
        let x = self.graph.node(Op::Add, &[x, &attended]);
        let normal = self.norm(&x, &format!("{name}.ln_2"))?;
        let inner = self.conv(&normal, &format!("{name}.mlp.c_fc"))?;
        let inner = self.activate(&inner)?;
        let added = self.conv(&inner, &format!("{name}.mlp.c_proj"))?;
        Ok(self.graph.node(Op::Add, &[&x, &added]))
    }

    fn attention(&mut self, x: &Value, hidden: &Value, name: &str) -> Result<Value> {
        let (heads, width) = (self.heads as i64, (self.hidden / self.heads) as i64);
        let all = self.conv(x, &format!("{name}.c_attn"))?; // (B, T, 3 H)
        let all = self.reshape(&all, &[0, -1, 3, heads, width])?;
        let [query, key, value] = [0, 1, 2].map(|part| self.pick(&all, 2, part)); // (B, T, heads, width)
        let mut order =
            |x: &Value, order: [i64; 4]| self.graph.node(Op::Transpose(order.to_vec()), &[x]);
        let query = order(&query?, [0, 2, 1, 3]);
        let key = order(&key?, [0, 2, 3, 1]);
        let value = order(&value?, [0, 2, 1, 3]);
        let scores = self.graph.node(Op::MatMul, &[&query, &key]);
        let scale = self.graph.number(1.0 / (width as f64).sqrt())?;
        let scores = self.graph.node(Op::Mul, &[&scores, &scale]);
        let scores = self.graph.node(Op::Add, &[&scores, hidden]);
        let weights = self.graph.node(Op::Softmax, &[&scores]);
        let mixed = self.graph.node(Op::MatMul, &[&weights, &value]); // (B, heads, T, width)
        let mixed = self.graph.node(Op::Transpose(vec![0, 2, 1, 3]), &[&mixed]);
        let mixed = self.reshape(&mixed, &[0, -1, heads * width])?;
        self.conv(&mixed, &format!("{name}.c_proj"))
    }

    fn activate(&mut self, x: &Value) -> Result<Value> {
        let share = match self.activation.as_str() {
            "relu" => return Ok(self.graph.node(Op::Relu, &[x])),
            "gelu" => {
                let root = self.graph.number(std::f64::consts::FRAC_1_SQRT_2)?;
                let scaled = self.graph.node(Op::Mul, &[x, &root]);
                self.graph.node(Op::Erf, &[&scaled])
            }
            "gelu_new" => {
                let (cubic, root) = (
                    self.graph.number(0.044_715)?,
                    self.graph.number(0.797_884_560_802_865_4)?,
                );
                let square = self.graph.node(Op::Mul, &[x, x]);
                let part = self.graph.node(Op::Mul, &[&square, &cubic]);
                let one = self.graph.number(1.0)?;
                let part = self.graph.node(Op::Add, &[&part, &one]);
                let inner = self.graph.node(Op::Mul, &[x, &part]);
                let inner = self.graph.node(Op::Mul, &[&inner, &root]);
                self.graph.node(Op::Tanh, &[&inner])
            }
            other => {
                let problem =
                    format!("can't be exported: the activation `{other}` is not known here");
                return Err(Error::unsupported(Ability::Export, problem));
            }
        };
        let (half, one) = (self.graph.number(0.5)?, self.graph.number(1.0)?);
        let share = self.graph.node(Op::Add, &[&share, &one]);
        let x = self.graph.node(Op::Mul, &[x, &half]);
        Ok(self.graph.node(Op::Mul, &[&x, &share]))
    }

    fn constant(&mut self, name: &str, stored: &str) -> Result<Value> {
        self.graph.constant(name, self.parts.get(stored)?)
    }

    fn norm(&mut self, x: &Value, name: &str) -> Result<Value> {
        let weight = self.constant(&format!("{name}.weight"), &format!("model.{name}.weight"))?;
        let bias = self.constant(&format!("{name}.bias"), &format!("model.{name}.bias"))?;
        Ok(self
            .graph
            .node(Op::LayerNormalization(EPSILON), &[x, &weight, &bias]))
    }

    /// A layer whose weight is stored as (out, in).
    fn linear(&mut self, x: &Value, name: &str) -> Result<Value> {
        let weight = self
            .parts
            .get(&format!("model.{name}.weight"))?
            .t()?
            .contiguous()?;
        self.parts.affine(&mut self.graph, x, name, &weight)
    }

    /// A layer whose weight is stored as (in, out).
    fn conv(&mut self, x: &Value, name: &str) -> Result<Value> {
        let weight = self.parts.get(&format!("model.{name}.weight"))?;
        self.parts.affine(&mut self.graph, x, name, weight)
    }

    fn reshape(&mut self, x: &Value, shape: &[i64]) -> Result<Value> {
        let shape = self.graph.integers(shape)?;
        Ok(self.graph.node(Op::Reshape, &[x, &shape]))
    }

    /// One row along a dimension, which goes.
    fn pick(&mut self, x: &Value, dim: i64, row: usize) -> Result<Value> {
        let number = Tensor::new(row as i64, &Device::Cpu)?;
        let number = self.graph.constant(&format!("row_{row}"), &number)?;
        Ok(self.graph.node(Op::Gather(dim), &[x, &number]))
    }
}

/// Acts with both through a few more than K steps, and past the last step that the network knows unless that is far; the
/// largest difference of an action.
fn compare(
    parts: &Parts,
    config: &DecisionTransformerConfig,
    graph: &Graph,
    policy: &mut dyn Policy,
) -> Result<f64> {
    let (mean, scale) = (
        parts.get("policy.normalizer.mean")?,
        parts.get("policy.normalizer.scale")?,
    );
    let (o, k) = (mean.elem_count(), config.context_steps);
    let target = config
        .target_returns
        .first()
        .copied()
        .unwrap_or(config.return_scale.of(None)? as f32);
    let start = EpisodeStart {
        rng: Rng::from_seed(0),
        target_return: Some(target),
        goal: None,
        instruction: None,
    };
    policy.begin(&[start])?;
    let rng = &mut Rng::from_seed(1);
    let mut seen = Seen::default();
    let (mut left, mut worst) = (target, 0.0f64);
    let last = match config.max_episode_steps {
        few if few <= MOST_COMPARED => few.max(k),
        _ => k,
    };
    for step in 0..last + 3 {
        let normal = rng.normal_tensor((1, o), DType::F32, &Device::Cpu)?;
        let observation = normal.broadcast_mul(scale)?.broadcast_add(mean)?;
        let expected = policy.act(&observation, &[true])?;
        let row = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        seen.push(
            k,
            (
                row(&observation)?,
                vec![0.0; expected.elem_count()],
                left,
                step as i64,
            ),
        );
        let found = graph.run(&seen.padded(k)?)?;
        worst = worst.max(parts.difference(&found, &expected)?);
        if let Some(last) = seen.0.back_mut() {
            last.1 = row(&expected)?;
        }
        let reward = rng.uniform() as f32 - 0.5;
        policy.observe(&[reward])?;
        left -= reward;
    }
    Ok(worst)
}

/// Observation, action, return to go and time of the last K steps.
#[derive(Default)]
struct Seen(VecDeque<(Vec<f32>, Vec<f32>, f32, i64)>);

impl Seen {
    fn push(&mut self, most: usize, step: (Vec<f32>, Vec<f32>, f32, i64)) {
        self.0.push_back(step);
        while self.0.len() > most {
            self.0.pop_front();
        }
    }

    /// The graph's inputs for a batch of one, padded on the left.
    fn padded(&self, k: usize) -> Result<[Tensor; 5]> {
        let Some(last) = self.0.back() else {
            return Err(Error::Unsuitable("no step was seen".into()));
        };
        let missing = k - self.0.len();
        let (o, a) = (last.0.len(), last.1.len());
        let (mut observations, mut actions) = (vec![0.0; missing * o], vec![0.0; missing * a]);
        let (mut returns, mut times) = (vec![0.0; missing], vec![0; missing]);
        let mut mask = vec![0f32; missing];
        for (observation, action, left, time) in &self.0 {
            observations.extend(observation);
            actions.extend(action);
            returns.push(*left);
            times.push(*time);
            mask.push(1.0);
        }
        let cpu = &Device::Cpu;
        Ok([
            Tensor::from_vec(observations, (1, k, o), cpu)?,
            Tensor::from_vec(actions, (1, k, a), cpu)?,
            Tensor::from_vec(returns, (1, k, 1), cpu)?,
            Tensor::from_vec(times, (1, k), cpu)?,
            Tensor::from_vec(mask, (1, k), cpu)?,
        ])
    }
}
