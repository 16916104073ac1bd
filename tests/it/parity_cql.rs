//! CQL against CORL's code: losses, gradients, ten updates with recorded noise, for every option that changes them.

use candle_core::{DType, Tensor};
use trajformer::algorithms::cql::{Cql, CqlConfig, CqlDraws, Penalty};

use crate::golden::Golden;
use crate::value_based::{Reference, check_updates, step_tensor};

fn config(reference: &Reference<'_>) -> CqlConfig {
    let golden = reference.golden;
    let number = |name: &str| reference.number(name);
    let flag = |name: &str| reference.constant(name).as_bool().unwrap();
    let count = |name: &str| reference.constant(name).as_u64().unwrap();
    // Null where there is no limit.
    let limit = |name: &str| golden.constants["runs"][reference.run][name].as_f64();
    CqlConfig {
        alpha: number("alpha"),
        penalty: match reference.constant("penalty").as_str().unwrap() {
            "importance" => Penalty::ImportanceSampled,
            "plain" => Penalty::Logsumexp,
            "policy" => Penalty::PolicyMean,
            other => panic!("no penalty `{other}`"),
        },
        actions: count("actions") as usize,
        penalty_temperature: number("temperature"),
        lagrange_gap: flag("lagrange").then(|| number("gap")),
        gap_min: limit("clip_min"),
        gap_max: limit("clip_max"),
        max_backup: flag("max_backup"),
        backup_entropy: flag("backup_entropy"),
        calibrate: flag("calibrate"),
        cloning_updates: count("cloning_steps"),
        automatic_temperature: flag("automatic_temperature"),
        temperature_scale: number("alpha_multiplier"),
        target_entropy: Some(number("target_entropy")),
        discount: number("discount"),
        target_rate: number("tau"),
        target_every: count("target_period"),
        batch_size: golden.integer("batch"),
        actor_learning_rate: number("actor_learning_rate"),
        critic_learning_rate: number("critic_learning_rate"),
        log_std_range: (number("log_std_min"), number("log_std_max")),
        hidden: vec![golden.integer("hidden"); 3],
        // As the actor where the run says nothing.
        critic_hidden: golden.constants["runs"][reference.run]["critic_layers"]
            .as_u64()
            .map(|layers| vec![golden.integer("hidden"); layers as usize]),
        ..CqlConfig::default()
    }
}

fn draws(golden: &Golden, config: &CqlConfig, step: usize, dtype: DType) -> CqlDraws {
    let get = |name: &str| step_tensor(golden, &format!("noise.{name}"), step, dtype);
    // (B, n, A), of which the first are used, as (n, B, A).
    let many = |name: &str| {
        let used = get(name).narrow(1, 0, config.actions).unwrap();
        used.transpose(0, 1).unwrap().contiguous().unwrap()
    };
    let uniforms: Tensor = many("random");
    CqlDraws {
        policy: get("policy"),
        next: if config.max_backup {
            many("backup")
        } else {
            get("next").unsqueeze(0).unwrap()
        },
        random: ((uniforms * 2.0).unwrap() - 1.0).unwrap(),
        current: many("current"),
        following: many("following"),
    }
}

fn check(file: &str, runs: &[&str]) {
    let golden = &Golden::load(file);
    for run in runs {
        let reference = Reference::standard(golden, run);
        let config = config(&reference);
        check_updates(
            &reference,
            |start| Cql::new(&config, start).unwrap(),
            |step, dtype| draws(golden, &config, step, dtype),
        );
    }
}

#[test]
fn losses_gradients_and_parameter_changes_equal_the_authors() {
    check("cql", &["default", "other", "lagrange"]);
}

#[test]
fn so_they_do_with_other_targets_penalties_and_a_fixed_temperature() {
    let runs = [
        "max_backup",
        "plain_logsumexp",
        "policy",
        "fixed_temperature",
    ];
    check("cql_options", &runs);
}

#[test]
fn and_while_the_actor_clones_the_data_and_after_it() {
    check("cql_cloning", &["cloning"]);
}

#[test]
fn and_with_all_that_antmaze_has_together() {
    check("cql_antmaze", &["antmaze", "narrow"]);
}

#[test]
fn calibrated_values_do_too() {
    check("cal_ql", &["importance", "plain_lagrange"]);
}
