//! CQL, BC and IQL of actions that are choices against d3rlpy's code and our own in PyTorch: losses, gradients, ten updates.

use trajformer::algorithms::bc::{BcConfig, DiscreteBc};
use trajformer::algorithms::cql::{CqlConfig, DiscreteCql};
use trajformer::algorithms::iql::{DiscreteIql, IqlConfig};
use trajformer::schedules::DecayUpdates;

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates};

#[test]
fn discrete_cql_is_d3rlpys() {
    let golden = &Golden::load("discrete_cql");
    for run in ["default", "other"] {
        let reference = Reference::standard(golden, run);
        let config = CqlConfig {
            alpha: reference.number("alpha"),
            discount: reference.number("discount"),
            target_rate: reference.number("target_rate"),
            target_every: reference.constant("target_every").as_u64().unwrap(),
            batch_size: golden.integer("batch"),
            critic_learning_rate: reference.number("learning_rate"),
            hidden: vec![golden.integer("hidden"); 2],
            ..CqlConfig::default()
        };
        check_updates(
            &reference,
            |start| {
                let settings = config.of_choices(start).unwrap();
                DiscreteCql::new(settings, start).unwrap()
            },
            |_, _| (),
        );
    }
}

#[test]
fn discrete_cloning_is_d3rlpys() {
    let golden = &Golden::load("discrete_bc");
    for run in ["default", "other"] {
        let reference = Reference::standard(golden, run);
        let config = BcConfig {
            batch_size: golden.integer("batch"),
            learning_rate: reference.number("learning_rate"),
            hidden: vec![golden.integer("hidden"); 2],
            ..BcConfig::default()
        };
        check_updates(
            &reference,
            |start| DiscreteBc::new(&config, start).unwrap(),
            |_, _| (),
        );
    }
}

#[test]
fn discrete_iql_is_the_papers() {
    let golden = &Golden::load("discrete_iql");
    for run in ["default", "other"] {
        let reference = Reference::standard(golden, run);
        let rate = reference.number("learning_rate");
        let config = IqlConfig {
            expectile: reference.number("expectile"),
            beta: reference.number("beta"),
            max_weight: reference.number("max_weight"),
            discount: reference.number("discount"),
            target_rate: reference.number("tau"),
            batch_size: golden.integer("batch"),
            actor_learning_rate: rate,
            actor_decay_updates: DecayUpdates::None,
            critic_learning_rate: rate,
            value_learning_rate: rate,
            hidden: vec![golden.integer("hidden"); 2],
            ..IqlConfig::default()
        };
        check_updates(
            &reference,
            |start| DiscreteIql::of_choices(&config, start).unwrap(),
            |_, _| (),
        );
    }
}
