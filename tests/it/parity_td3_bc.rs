//! TD3+BC against its authors' code: losses, gradients, ten updates with recorded noise.

use candle_core::Tensor;
use trajformer::algorithms::td3_bc::{Td3Bc, Td3BcConfig};

use crate::golden::Golden;
use crate::value_based::{Kind, Reference, check_updates, step_tensor};

/// The authors' tensors: their networks are `actor`, `critic_1`, `critic_2` and, behind `_target`, the targets.
fn lookup(golden: &Golden, run: &str, kind: Kind, network: &str, param: &str) -> Tensor {
    let kind = match kind {
        Kind::Start => "param",
        Kind::Gradient => "grad",
        Kind::After => "after",
    };
    let (network, suffix) = match network.strip_prefix("target_") {
        Some(network) => (network, "_target"),
        None => (network, ""),
    };
    let theirs = |name: &str| {
        let name = format!("{run}.{kind}.{name}{suffix}.{param}");
        golden.tensor(&name).clone()
    };
    if network == "actor" {
        return theirs("actor");
    }
    // Both critics as one ensemble: (N, in, out) and (N, 1, out).
    let both = ["critic_1", "critic_2"].map(|name| {
        if param.ends_with("weight") {
            theirs(name).t().unwrap()
        } else {
            theirs(name).unsqueeze(0).unwrap()
        }
    });
    Tensor::stack(&both, 0).unwrap()
}

fn config(reference: &Reference<'_>) -> Td3BcConfig {
    let golden = reference.golden;
    Td3BcConfig {
        alpha: reference.number("alpha"),
        discount: reference.number("discount"),
        target_rate: reference.number("tau"),
        policy_noise: reference.number("policy_noise"),
        noise_clip: reference.number("noise_clip"),
        policy_delay: reference.constant("policy_freq").as_u64().unwrap(),
        batch_size: golden.integer("batch"),
        learning_rate: golden.number("learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        ..Td3BcConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    for file in ["td3_bc_hopper", "td3_bc_halfcheetah"] {
        let golden = &Golden::load(file);
        for run in ["default", "other"] {
            let reference = Reference {
                lookup,
                metrics: "",
                ..Reference::standard(golden, run)
            };
            check_updates(
                &reference,
                |start| Td3Bc::new(&config(&reference), start).unwrap(),
                |step, dtype| step_tensor(golden, "noise", step, dtype),
            );
        }
    }
}
