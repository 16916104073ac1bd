//! BRAC against its authors' code: the behaviour policy's updates and those after them, with recorded noise.

use trajformer::algorithms::brac::{Brac, BracConfig, BracDraws};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> BracConfig {
    let golden = reference.golden;
    let number = |name: &str| reference.number(name);
    let switch = |name: &str| reference.constant(name).as_bool().unwrap();
    BracConfig {
        penalty: number("penalty"),
        train_penalty: switch("train_penalty"),
        target_divergence: number("target_divergence"),
        value_penalty: switch("value_penalty"),
        samples: number("samples") as usize,
        behavior_updates: number("behavior_updates") as u64,
        warm_start_updates: number("warm_start") as u64,
        behavior_temperature: number("behavior_temperature"),
        discount: number("discount"),
        target_rate: number("target_rate"),
        batch_size: golden.integer("batch"),
        actor_learning_rate: number("actor_learning_rate"),
        critic_learning_rate: number("critic_learning_rate"),
        behavior_learning_rate: number("behavior_learning_rate"),
        penalty_learning_rate: number("penalty_learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        actor_hidden: vec![golden.integer("hidden"); 2],
        ..BracConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    let golden = &Golden::load("brac");
    for run in ["default", "policy_only", "dual", "largest", "other"] {
        let reference = Reference::standard(golden, run);
        let config = config(&reference);
        check_updates(
            &reference,
            |start| Brac::new(&config, start).unwrap(),
            |step, dtype| {
                let get = |name: &str| step_tensor(golden, &format!("noise.{name}"), step, dtype);
                // A run with fewer samples takes the first ones.
                let first = |name: &str| get(name).narrow(0, 0, config.samples).unwrap();
                if (step as u64) < config.behavior_updates {
                    return BracDraws::Behavior {
                        actions: get("behavior"),
                        temperature: get("behavior_temperature"),
                    };
                }
                BracDraws::Policy {
                    next_actions: get("next_actions"),
                    next_divergence: config.value_penalty.then(|| first("next_divergence")),
                    actor: get("actor"),
                    divergence: first("divergence"),
                    penalty: config.train_penalty.then(|| first("penalty")),
                }
            },
        );
    }
}
