//! Parts of the Trajectory Transformer that are not its authors' against PyTorch's: logits, loss and gradients of a network with
//! each of them, and with all.

use candle_core::{DType, Device};
use trajformer::algorithms::trajectory_transformer::{
    MlpKind, NormName, PositionKind, TrajectoryTransformerConfig,
};
use trajformer::data::sequences::TokenBatch;
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::TrajectoryTransformer as Network;

use crate::golden::{Golden, check_close};
use crate::parity::{EXACT, SINGLE};

/// The configuration with the parts that PyTorch's network had.
fn config(golden: &Golden, parts: &[String]) -> TrajectoryTransformerConfig {
    let mut config = TrajectoryTransformerConfig {
        bins: golden.integer("bins"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding_per_head: golden.integer("width") / golden.integer("heads"),
        window_transitions: golden.integer("window"),
        dropout: 0.0,
        action_weight: golden.number("action_weight"),
        reward_weight: golden.number("reward_weight"),
        value_weight: golden.number("value_weight"),
        ..TrajectoryTransformerConfig::default()
    };
    for part in parts {
        match part.as_str() {
            "qk_norm" => config.qk_norm = true,
            "rms" => config.norm = NormName::Rms,
            "step_and_dimension" => config.positions = PositionKind::StepAndDimension,
            "tied_heads" => config.tied_heads = true,
            "swiglu" => config.mlp = MlpKind::Swiglu,
            other => panic!("no key for `{other}`"),
        }
    }
    config
}

fn check(dtype: DType, tolerance: f64) {
    let golden = Golden::load("trajectory_transformer_parts");
    let variants = golden.constants["variants"].as_object().unwrap().clone();
    assert_eq!(variants.len(), 7);
    let mut losses = Vec::new();
    for (variant, parts) in &variants {
        let parts: Vec<String> = serde_json::from_value(parts.clone()).unwrap();
        let config = config(&golden, &parts);
        let dims = [
            golden.integer("observation_dim"),
            golden.integer("action_dim"),
        ];
        let mut params = Params::new(dtype, &Device::Cpu);
        let rng = &mut Rng::from_seed(0);
        let sizes = config.sizes(dims[0], dims[1]);
        let network = Network::new(&sizes, &mut params.init(rng)).unwrap();
        // Layers of another width have names of their own in the file.
        let stored = |name: &str| {
            let gated = config.mlp == MlpKind::Swiglu && name.contains(".mlp.");
            let front = if gated { "gated." } else { "" };
            format!("{front}{name}")
        };
        for param in params.iter() {
            let value = golden.tensor(&format!("param.{}", stored(&param.name)));
            param.slot.set(&value.to_dtype(dtype).unwrap()).unwrap();
        }
        let batch = TokenBatch {
            inputs: golden.tensor("tokens").clone(),
            targets: golden.tensor("targets").clone(),
            mask: golden.tensor("mask").clone(),
            instructions: None,
        };
        let named = |what: &str| format!("{variant}.{what}");
        let logits = network.logits(&batch.inputs, None).unwrap();
        let of = |name: &str| golden.tensor(&named(name));
        check_close(&named("logits"), &logits, of("logits"), tolerance);
        let loss = network.loss(&batch, Dropout::off()).unwrap();
        let found = loss.reshape(1).unwrap();
        check_close(&named("loss"), &found, of("loss"), tolerance);
        losses.push(golden.numbers(&named("loss"))[0].to_bits());
        let gradients = loss.backward().unwrap();
        let prefix = named("grad.");
        let expected = golden.under(&prefix).count();
        assert_eq!(params.len(), expected, "{variant}: PyTorch's gradients");
        for param in params.iter() {
            // A key's bias shifts all plain scores of a row alike: its gradient is rounding.
            if !config.qk_norm && param.name.ends_with("attn.key.bias") {
                continue;
            }
            let name = named(&format!("grad.{}", stored(&param.name)));
            let found = gradients.get(param.slot.var()).expect("a gradient");
            check_close(&name, found, golden.tensor(&name), tolerance);
        }
    }
    losses.sort_unstable();
    losses.dedup();
    assert_eq!(losses.len(), 7, "each part matters");
}

#[test]
fn networks_with_other_parts_are_pytorchs_in_double_precision() {
    check(DType::F64, EXACT);
}

#[test]
fn networks_with_other_parts_are_pytorchs_in_single_precision() {
    check(DType::F32, SINGLE);
}
