//! SAC against a widely used code: losses, gradients, ten updates with recorded noise.

use trajformer::algorithms::sac::{Sac, SacConfig, SacDraws};

use crate::golden::Golden;
use crate::value_based::{Reference, SATURATED_TOLERANCE, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> SacConfig {
    let golden = reference.golden;
    SacConfig {
        discount: reference.number("discount"),
        target_rate: reference.number("target_rate"),
        target_every: reference.constant("target_every").as_u64().unwrap(),
        initial_temperature: reference.number("log_alpha").exp(),
        automatic_temperature: reference
            .constant("automatic_temperature")
            .as_bool()
            .unwrap(),
        target_entropy: Some(reference.number("target_entropy")),
        batch_size: golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        critic_learning_rate: reference.number("critic_learning_rate"),
        temperature_learning_rate: reference.number("temperature_learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        ..SacConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_reference() {
    let golden = &Golden::load("sac");
    for run in ["default", "other", "fixed"] {
        let reference = Reference::standard(golden, run).within(SATURATED_TOLERANCE);
        check_updates(
            &reference,
            |start| Sac::new(&config(&reference), start).unwrap(),
            |step, dtype| {
                let noise = |name: &str| step_tensor(golden, &format!("noise.{name}"), step, dtype);
                SacDraws {
                    next: noise("next"),
                    actor: noise("actor"),
                }
            },
        );
    }
}
