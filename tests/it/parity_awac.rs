//! AWAC against CORL's code: losses, gradients, ten updates with recorded noise.

use trajformer::algorithms::awac::{Awac, AwacConfig, AwacDraws};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> AwacConfig {
    let golden = reference.golden;
    AwacConfig {
        lambda: reference.number("lambda"),
        max_weight: reference.number("max_weight"),
        log_std_range: (
            reference.number("log_std_min"),
            reference.number("log_std_max"),
        ),
        discount: reference.number("discount"),
        target_rate: reference.number("tau"),
        batch_size: golden.integer("batch"),
        learning_rate: reference.number("learning_rate"),
        hidden: vec![golden.integer("hidden"); 3],
        ..AwacConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    let golden = &Golden::load("awac");
    for run in ["default", "other"] {
        let reference = Reference::standard(golden, run);
        check_updates(
            &reference,
            |start| Awac::new(&config(&reference), start).unwrap(),
            |step, dtype| AwacDraws {
                next: step_tensor(golden, "noise.next", step, dtype),
                policy: step_tensor(golden, "noise.policy", step, dtype),
            },
        );
    }
}
