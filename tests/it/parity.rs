//! Compares networks, gradients and optimiser steps with reference numbers, tensor by tensor.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use trajformer_models::params::Params;

use crate::golden::Golden;

/// max |found - expected| / max |expected| of one tensor.
pub fn relative_difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let largest = |x: &Tensor| {
        let x = x
            .abs()
            .and_then(|x| x.flatten_all()?.max(0))
            .expect("numbers");
        x.to_scalar::<f64>().expect("a number")
    };
    let (found, expected) = (in_f64(found), in_f64(expected));
    let difference = (found - &expected).expect("a difference");
    largest(&difference) / largest(&expected).max(f64::MIN_POSITIVE)
}

pub fn in_f64(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).expect("numbers")
}

/// Checks that `found` lies within `tolerance` (relative maximum) of `expected`.
pub fn check_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    let difference = relative_difference(found, expected);
    assert!(
        difference <= tolerance,
        "{what}: relative difference {difference:e} > {tolerance:e}"
    );
}

/// Our name of each of the authors' parameters, if it has one.
pub type Names = fn(&str) -> Option<String>;

/// Sets the parameters from the golden tensors `{prefix}AUTHORS_NAME`; parameters that the file
/// does not have keep their value.
pub fn set_parameters(params: &Params, golden: &Golden, prefix: &str, names: Names) {
    let copy = |(name, tensor): (String, Tensor)| (name, tensor.copy().expect("a copy"));
    let mut tensors: BTreeMap<String, Tensor> = params.tensors().into_iter().map(copy).collect();
    for (name, tensor) in golden.under(prefix) {
        if let Some(name) = names(name) {
            let known = tensors.insert(name.clone(), tensor.clone());
            assert!(known.is_some(), "the network has no parameter `{name}`");
        }
    }
    params.load(&tensors).expect("fitting parameters");
}

/// Checks every gradient of the golden file, and that no other trainable parameter has one.
pub fn check_gradients(
    params: &Params,
    gradients: &GradStore,
    golden: &Golden,
    (prefix, names, exempt): (&str, Names, fn(&str) -> bool),
    tolerance: f64,
) {
    let mut seen = Vec::new();
    for (authors_name, expected) in golden.under(prefix) {
        let Some(name) = names(authors_name) else {
            continue;
        };
        seen.push(name.clone());
        if exempt(&name) {
            continue;
        }
        let var = &params
            .get(&name)
            .unwrap_or_else(|| panic!("no parameter `{name}`"))
            .var;
        let found = gradients
            .get(var)
            .unwrap_or_else(|| panic!("no gradient of `{name}`"));
        check_close(&format!("gradient of {name}"), found, expected, tolerance);
    }
    assert!(!seen.is_empty(), "no golden gradients under `{prefix}`");
    for param in params
        .iter()
        .filter(|p| p.trainable && gradients.get(&p.var).is_some())
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
    (before, after, names, exempt): (&str, &str, Names, fn(&str) -> bool),
    tolerance: f64,
) {
    let mut count = 0;
    for (authors_name, start) in golden.under(before) {
        let Some(name) = names(authors_name) else {
            continue;
        };
        let end = golden.tensor(&format!("{after}{authors_name}"));
        let expected = (in_f64(end) - in_f64(start)).expect("a change");
        let value = &params
            .get(&name)
            .unwrap_or_else(|| panic!("no parameter `{name}`"))
            .var;
        let found = (in_f64(value) - in_f64(start)).expect("a change");
        if expected
            .abs()
            .and_then(|x| x.sum_all())
            .expect("a sum")
            .to_scalar::<f64>()
            .ok()
            == Some(0.0)
        {
            let start = start.to_dtype(value.dtype()).expect("the start");
            assert_eq!(
                relative_difference(value, &start),
                0.0,
                "`{name}` must not change"
            );
        } else if !exempt(&name) {
            check_close(&format!("change of {name}"), &found, &expected, tolerance);
            count += 1;
        }
    }
    assert!(count > 0, "no golden changes under `{before}`");
}
