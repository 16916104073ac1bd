//! Muon with AdamW for the rest against its authors' PyTorch.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device};
use trajformer_models::muon::{Muon, MuonConfig};
use trajformer_models::optim::{AdamConfig, ParamGroup};
use trajformer_models::params::Params;

use crate::golden::{Golden, check_close};

/// Parameters after every step, replayed with the recorded gradients.
fn check(dtype: DType, tolerance: f64) {
    let golden = Golden::load("muon");
    let mut params = Params::new(dtype, &Device::Cpu);
    for (name, value) in golden.under("param.") {
        params.insert(name, value, true).unwrap();
    }
    let matrices: Vec<String> =
        serde_json::from_value(golden.constants["matrices"].clone()).unwrap();
    let adam = AdamConfig {
        beta1: golden.number("beta1"),
        beta2: golden.number("beta2"),
        epsilon: golden.number("epsilon"),
        ..AdamConfig::default()
    };
    let rate = golden.number("adam_rate");
    let muon = MuonConfig {
        momentum: golden.number("momentum"),
        weight_decay: golden.number("muon_decay"),
        rate_scale: golden.number("muon_rate") / rate,
    };
    let decay = golden.number("adam_decay");
    let group = |_: &str| ParamGroup::decay(decay);
    let is_matrix = |name: &str| matrices.iter().any(|matrix| matrix == name);
    let mut muon = Muon::new(&params, (adam, muon), group, is_matrix).unwrap();
    let factors = golden.constants["factors"].as_array().unwrap();
    assert_eq!((matrices.len(), params.len(), factors.len()), (3, 5, 6));
    for (step, factor) in factors.iter().enumerate() {
        let mut store = GradStore::default();
        for param in params.iter() {
            let gradient = golden.tensor(&format!("grad.{step}.{}", param.name));
            store.insert(param.slot.var(), gradient.to_dtype(dtype).unwrap());
        }
        muon.step(&store, rate * factor.as_f64().unwrap()).unwrap();
        for param in params.iter() {
            let name = format!("after.{step}.{}", param.name);
            let found = param.slot.tensor().unwrap();
            check_close(&name, &found, golden.tensor(&name), tolerance);
        }
    }
}

#[test]
fn steps_are_the_authors_in_double_precision() {
    check(DType::F64, 1e-13);
}

#[test]
fn steps_are_the_authors_in_single_precision() {
    // Rounding of five iterations, in six steps of about a fiftieth of the parameters.
    check(DType::F32, 1e-5);
}
