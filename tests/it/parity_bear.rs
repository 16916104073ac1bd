//! BEAR against d3rlpy's, its bugs corrected: losses, gradients, ten updates with recorded noise.

use trajformer::algorithms::bear::{Bear, BearConfig, BearDraws, Kernel};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> BearConfig {
    let golden = reference.golden;
    let number = |name: &str| reference.number(name);
    BearConfig {
        kernel: match reference.constant("kernel").as_str().unwrap() {
            "laplacian" => Kernel::Laplacian,
            other => (other == "gaussian").then_some(Kernel::Gaussian).unwrap(),
        },
        bandwidth: number("bandwidth"),
        threshold: number("threshold"),
        samples: number("samples") as usize,
        target_samples: number("target_samples") as usize,
        min_weight: number("min_weight"),
        vae_kl_weight: number("vae_kl_weight"),
        warmup_updates: number("warmup") as u64,
        initial_multiplier: number("initial_multiplier"),
        discount: number("discount"),
        target_rate: number("target_rate"),
        log_std_range: (number("log_std_min"), number("log_std_max")),
        batch_size: golden.integer("batch"),
        actor_learning_rate: number("actor_learning_rate"),
        critic_learning_rate: number("critic_learning_rate"),
        vae_learning_rate: number("vae_learning_rate"),
        multiplier_learning_rate: number("multiplier_learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        vae_hidden: vec![golden.integer("hidden"); 2],
        ..BearConfig::default()
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_d3rlpys_without_its_bugs() {
    let golden = &Golden::load("bear");
    for run in ["default", "gaussian", "other"] {
        let reference = Reference::standard(golden, run);
        let config = config(&reference);
        check_updates(
            &reference,
            |start| Bear::new(&config, start).unwrap(),
            |step, dtype| {
                let get = |name: &str| step_tensor(golden, &format!("noise.{name}"), step, dtype);
                // A run with fewer samples takes the first ones.
                let first = |name: &str, count: usize| get(name).narrow(0, 0, count).unwrap();
                BearDraws {
                    vae: get("vae"),
                    next_actions: first("next_actions", config.target_samples),
                    actor: get("actor"),
                    latents: first("latents", config.samples),
                    actions: first("actions", config.samples),
                }
            },
        );
    }
}
