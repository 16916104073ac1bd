//! TD3 against its authors' code: losses, gradients, ten updates with recorded noise.

use trajformer::algorithms::td3::{Td3, Td3Config};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> Td3Config {
    let golden = reference.golden;
    Td3Config {
        discount: reference.number("discount"),
        target_rate: reference.number("target_rate"),
        policy_noise: reference.number("policy_noise"),
        noise_clip: reference.number("noise_clip"),
        policy_delay: reference.constant("policy_delay").as_u64().unwrap(),
        batch_size: golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        critic_learning_rate: reference.number("critic_learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        ..Td3Config::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    let golden = &Golden::load("td3");
    for run in ["default", "other"] {
        let reference = Reference::standard(golden, run);
        check_updates(
            &reference,
            |start| Td3::new(&config(&reference), start).unwrap(),
            |step, dtype| step_tensor(golden, "noise.target", step, dtype),
        );
    }
}
