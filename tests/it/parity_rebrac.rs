//! ReBRAC against CORL's JAX code: losses, gradients and ten updates with recorded noise.

use trajformer::algorithms::rebrac::{Rebrac, RebracConfig};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> RebracConfig {
    let switch = |name: &str| reference.constant(name).as_bool().unwrap();
    RebracConfig {
        actor_penalty: reference.number("actor_penalty"),
        critic_penalty: reference.number("critic_penalty"),
        normalize_q: switch("normalize_q"),
        discount: reference.number("discount"),
        target_rate: reference.number("target_rate"),
        policy_noise: reference.number("policy_noise"),
        noise_clip: reference.number("noise_clip"),
        policy_delay: reference.constant("policy_delay").as_u64().unwrap(),
        batch_size: reference.golden.integer("batch"),
        actor_learning_rate: reference.number("actor_learning_rate"),
        critic_learning_rate: reference.number("critic_learning_rate"),
        hidden: vec![reference.golden.integer("hidden"); reference.golden.integer("layers")],
        critic_layer_norm: switch("critic_layer_norm"),
        actor_layer_norm: switch("actor_layer_norm"),
        ..RebracConfig::default()
    }
}

#[test]
fn rebracs_losses_gradients_and_updates_equal_the_authors() {
    let golden = Golden::load("rebrac");
    for run in ["default", "other", "plain", "actor_norm"] {
        let reference = Reference::standard(&golden, run);
        check_updates(
            &reference,
            |start| Rebrac::new(&config(&reference), start).unwrap(),
            |step, dtype| step_tensor(&golden, "noise.next_actions", step, dtype),
        );
    }
}
