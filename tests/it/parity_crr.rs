//! CRR against d3rlpy's: losses, gradients, ten updates with recorded noise.

use trajformer::algorithms::crr::{Advantage, Crr, CrrConfig, CrrDraws, Weight};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> CrrConfig {
    let golden = reference.golden;
    let word = |name: &str| reference.constant(name).as_str().unwrap();
    CrrConfig {
        weight: match word("weight") {
            "binary" => Weight::Binary,
            other => (other == "exponential")
                .then_some(Weight::Exponential)
                .unwrap(),
        },
        advantage: match word("advantage") {
            "mean" => Advantage::Mean,
            other => (other == "max").then_some(Advantage::Max).unwrap(),
        },
        temperature: reference.number("temperature"),
        max_weight: reference.number("max_weight"),
        samples: reference.number("samples") as usize,
        // Two where the run says nothing.
        members: golden.constants["runs"][reference.run]["members"]
            .as_u64()
            .unwrap_or(2) as usize,
        discount: reference.number("discount"),
        target_rate: reference.number("target_rate"),
        target_every_updates: reference.number("target_every") as u64,
        log_std_range: (
            reference.number("log_std_min"),
            reference.number("log_std_max"),
        ),
        batch_size: golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        critic_learning_rate: reference.number("critic_learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        ..CrrConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_d3rlpys() {
    let golden = &Golden::load("crr");
    for run in [
        "default",
        "exponential",
        "one_critic",
        "binary_max",
        "other",
    ] {
        let reference = Reference::standard(golden, run);
        let config = config(&reference);
        check_updates(
            &reference,
            |start| Crr::new(&config, start).unwrap(),
            |step, dtype| {
                let get = |name: &str| step_tensor(golden, &format!("noise.{name}"), step, dtype);
                CrrDraws {
                    next_actions: get("next_actions"),
                    // A run with fewer samples takes the first ones.
                    actions: get("actions").narrow(0, 0, config.samples).unwrap(),
                }
            },
        );
    }
}
