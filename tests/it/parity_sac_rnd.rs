//! SAC-RND against its authors' JAX code: ten updates of the bonus, then ten of the rest with recorded noise.

use candle_core::Device;
use trajformer::algorithms::sac_rnd::{SacRnd, SacRndConfig, SacRndDraws};
use trajformer::data::Normalizer;

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> SacRndConfig {
    let count = |name: &str| reference.constant(name).as_u64().unwrap() as usize;
    let golden = reference.golden;
    SacRndConfig {
        actor_penalty: reference.number("actor_penalty"),
        critic_penalty: reference.number("critic_penalty"),
        pretraining_updates: golden.integer("pretraining") as u64,
        rnd_learning_rate: reference.number("rnd_learning_rate"),
        rnd_hidden: count("rnd_hidden"),
        rnd_embedding: count("rnd_embedding"),
        discount: reference.number("discount"),
        target_rate: reference.number("target_rate"),
        initial_temperature: reference.number("initial_temperature"),
        target_entropy: Some(reference.number("target_entropy")),
        batch_size: golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        critic_learning_rate: reference.number("critic_learning_rate"),
        temperature_learning_rate: reference.number("temperature_learning_rate"),
        hidden: vec![golden.integer("hidden"); golden.integer("layers")],
        members: count("members"),
        critic_layer_norm: reference.constant("critic_layer_norm").as_bool().unwrap(),
        ..SacRndConfig::default()
    }
}

#[test]
fn sac_rnds_losses_gradients_and_updates_equal_the_authors() {
    let golden = Golden::load("sac_rnd");
    for run in ["default", "other", "plain"] {
        let reference = Reference::standard(&golden, run);
        check_updates(
            &reference,
            |start| {
                // The golden file's means and scales are set with the networks.
                let [observations, actions] = [start.observation_dim, start.action_dim]
                    .map(|width| Normalizer::identity(width, &Device::Cpu).unwrap());
                SacRnd::new(&config(&reference), start, &observations, &actions).unwrap()
            },
            |step, dtype| SacRndDraws {
                actions: step_tensor(&golden, "noise.actions", step, dtype),
                next_actions: step_tensor(&golden, "noise.next_actions", step, dtype),
            },
        );
    }
}
