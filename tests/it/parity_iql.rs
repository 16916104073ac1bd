//! IQL against CORL's code, and in the order of its authors: losses, gradients, ten updates.

use trajformer::algorithms::iql::{ActorKind, Iql, IqlConfig, ValueTiming};
use trajformer::schedules::DecayUpdates;

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates};

fn config(reference: &Reference<'_>) -> IqlConfig {
    let golden = reference.golden;
    let deterministic = reference.constant("deterministic").as_bool().unwrap();
    let official = reference.constant("order").as_str().unwrap() == "official";
    IqlConfig {
        expectile: reference.number("expectile"),
        beta: reference.number("beta"),
        max_weight: reference.number("max_weight"),
        actor: if deterministic {
            ActorKind::Deterministic
        } else {
            ActorKind::Gaussian
        },
        log_std_range: (
            reference.number("log_std_min"),
            reference.number("log_std_max"),
        ),
        value_timing: if official {
            ValueTiming::AfterStep
        } else {
            ValueTiming::BeforeStep
        },
        discount: reference.number("discount"),
        target_rate: reference.number("tau"),
        batch_size: golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        actor_decay_updates: match reference.constant("max_steps").as_u64().unwrap() {
            0 => DecayUpdates::None,
            length => DecayUpdates::Updates(length),
        },
        critic_learning_rate: reference.number("critic_learning_rate"),
        value_learning_rate: reference.number("value_learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        ..IqlConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    let golden = &Golden::load("iql");
    for run in ["default", "other", "deterministic", "official", "no_decay"] {
        let reference = Reference::standard(golden, run);
        check_updates(
            &reference,
            |start| Iql::new(&config(&reference), start).unwrap(),
            |_, _| (),
        );
    }
}
