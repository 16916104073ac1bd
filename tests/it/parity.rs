//! Compares networks, gradients and optimiser steps with reference numbers, tensor by tensor.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use trajformer::metrics::Metrics;
use trajformer_models::params::Params;

use crate::golden::{Golden, check_close, relative_maximum};

/// Predictions, losses and gradients of a sequence model in f64: sums over some thousand terms in another order than PyTorch's. Found:
/// 6e-15 at most.
pub const EXACT: f64 = 1e-13;

/// Changes after ten updates in f64: Adam divides a gradient by its own size, so that the rounding of the smallest elements of a
/// tensor counts as much as that of the largest. Found: 1.4e-11 at most.
pub const EXACT_CHANGES: f64 = 1e-10;

/// The same as [`EXACT`] in f32, which has 24 bits. Found: 1.4e-6 at most.
pub const SINGLE: f64 = 1e-5;

/// The same as [`EXACT_CHANGES`] in f32. Found: 5.5e-4 at most.
pub const SINGLE_CHANGES: f64 = 5e-3;

pub fn in_f64(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).expect("numbers")
}

/// Our name of each of the authors' parameters, if it has one.
pub type Names = fn(&str) -> Option<String>;

/// What is compared of the gradient or change of a parameter of ours; `None`: nothing, since it is
/// zero in exact arithmetic and Adam moves what is left of it, rounding, by whole steps.
pub type Compared = fn(&str, &Tensor) -> Option<Tensor>;

/// Sets the parameters from the golden tensors `{prefix}AUTHORS_NAME`; parameters that the file
/// does not have keep their value.
pub fn set_parameters(params: &Params, golden: &Golden, prefix: &str, names: Names) {
    let copy = |(name, tensor): (String, Tensor)| (name, tensor.copy().expect("a copy"));
    let mut tensors: BTreeMap<String, Tensor> = params
        .tensors()
        .expect("tensors")
        .into_iter()
        .map(copy)
        .collect();
    for (name, tensor) in golden.under(prefix) {
        if let Some(name) = names(name) {
            let known = tensors.insert(name.clone(), tensor.clone());
            assert!(known.is_some(), "the network has no parameter `{name}`");
        }
    }
    params.load(&tensors).expect("fitting parameters");
}

/// Checks one metric of consecutive updates (S), each number by itself.
pub fn check_metric(metrics: &[Metrics], name: &str, expected: &Tensor, tolerance: f64) {
    assert_eq!(expected.dims(), [metrics.len()], "{name}");
    for (step, metrics) in metrics.iter().enumerate() {
        let values = metrics.values().expect("numbers");
        let value = values.iter().find(|(other, _)| *other == name);
        let found = Tensor::new(&[value.expect("the metric").1], &Device::Cpu);
        let expected = expected.narrow(0, step, 1).expect("a step");
        let place = format!("{name} of step {step}");
        check_close(&place, &found.expect("a number"), &expected, tolerance);
    }
}

/// Checks every gradient of the golden file, and that no other trainable parameter has one.
pub fn check_gradients(
    params: &Params,
    gradients: &GradStore,
    golden: &Golden,
    (prefix, names, compared): (&str, Names, Compared),
    tolerance: f64,
) {
    let mut seen = Vec::new();
    for (authors_name, expected) in golden.under(prefix) {
        let Some(name) = names(authors_name) else {
            continue;
        };
        let slot = &params
            .get(&name)
            .unwrap_or_else(|| panic!("no parameter `{name}`"))
            .slot;
        let found = &slot
            .gradient(gradients)
            .expect("a part")
            .unwrap_or_else(|| panic!("no gradient of `{name}`"));
        if let (Some(found), Some(expected)) = (compared(&name, found), compared(&name, expected)) {
            check_close(&format!("gradient of {name}"), &found, &expected, tolerance);
        }
        seen.push(name);
    }
    assert!(!seen.is_empty(), "no golden gradients under `{prefix}`");
    for param in params
        .iter()
        .filter(|p| p.trainable && gradients.get(p.slot.var()).is_some())
    {
        assert!(
            seen.contains(&param.name),
            "`{}` has a gradient that nobody expects",
            param.name
        );
    }
}

/// Checks the change of every parameter, after all steps, against that of the golden file.
pub fn check_changes(
    params: &Params,
    golden: &Golden,
    (before, after, names, compared): (&str, &str, Names, Compared),
    tolerance: f64,
) {
    let mut count = 0;
    for (authors_name, start) in golden.under(before) {
        let Some(name) = names(authors_name) else {
            continue;
        };
        let end = golden.tensor(&format!("{after}{authors_name}"));
        let value = &params
            .get(&name)
            .unwrap_or_else(|| panic!("no parameter `{name}`"))
            .slot
            .tensor()
            .expect("numbers");
        if relative_maximum(end, start) == 0.0 {
            let start = start.to_dtype(value.dtype()).expect("the start");
            assert_eq!(
                relative_maximum(value, &start),
                0.0,
                "`{name}` must not change"
            );
            continue;
        }
        let change = |end: &Tensor| (in_f64(end) - in_f64(start)).expect("a change");
        let (found, expected) = (change(value), change(end));
        if let (Some(found), Some(expected)) = (compared(&name, &found), compared(&name, &expected))
        {
            check_close(&format!("change of {name}"), &found, &expected, tolerance);
            count += 1;
        }
    }
    assert!(count > 0, "no golden changes under `{before}`");
}

/// Checks updates that clip gradients: each one's loss and gradient norm, and the change of every
/// parameter after all of them.
pub fn check_clipped_updates(
    params: &Params,
    metrics: &[Metrics],
    golden: &Golden,
    (names, compared): (Names, Compared),
    (tolerance, change_tolerance): (f64, f64),
) {
    check_metric(metrics, "loss", golden.tensor("steps.loss"), tolerance);
    let norms = golden.tensor("steps.grad_norm");
    check_metric(metrics, "gradient_norm", norms, tolerance);
    check_changes(
        params,
        golden,
        ("param.", "after.", names, compared),
        change_tolerance,
    );
}
