//! EDAC against CORL's code: losses, gradients, ten updates with recorded noise.

use trajformer::algorithms::edac::{Edac, EdacConfig, EdacDraws};

use crate::golden::Golden;
use crate::value_based::{Reference, SATURATED_TOLERANCE, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> EdacConfig {
    let golden = reference.golden;
    let members = reference.constant("members").as_u64().unwrap();
    EdacConfig {
        members: usize::try_from(members).unwrap(),
        diversity: reference.number("diversity"),
        discount: reference.number("discount"),
        target_rate: reference.number("target_rate"),
        target_entropy: Some(reference.number("target_entropy")),
        batch_size: golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        critic_learning_rate: reference.number("critic_learning_rate"),
        temperature_learning_rate: reference.number("temperature_learning_rate"),
        hidden: vec![golden.integer("hidden"); 3],
        ..EdacConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    let golden = &Golden::load("edac");
    for run in ["default", "other"] {
        let reference = Reference::standard(golden, run).within(SATURATED_TOLERANCE);
        check_updates(
            &reference,
            |start| Edac::new(&config(&reference), start).unwrap(),
            |step, dtype| {
                let noise = |name: &str| step_tensor(golden, &format!("noise.{name}"), step, dtype);
                EdacDraws {
                    temperature: noise("temperature"),
                    actor: noise("actor"),
                    next: noise("next"),
                }
            },
        );
    }
}
