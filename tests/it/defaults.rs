//! Default settings are those of the references' own code, key by key (tests/golden/defaults.json, which
//! tests/golden/defaults.py reads from their files); each deliberate difference is listed with its reason.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use trajformer::algorithms::{
    awac::AwacConfig, bc::BcConfig, bear::BearConfig, brac::BracConfig, cql::CqlConfig,
    crr::CrrConfig, decision_transformer::DecisionTransformerConfig, edac::EdacConfig,
    iql::IqlConfig, lamo::LamoConfig, rebrac::RebracConfig, sac::SacConfig, sac_n::SacNConfig,
    sac_rnd::SacRndConfig, tap::TapConfig, td3::Td3Config, td3_bc::Td3BcConfig,
    trajectory_transformer::TrajectoryTransformerConfig,
};

/// Where a default comes from.
enum Source {
    /// From these entries of the reference, which are all equal to it.
    Of(&'static [&'static str]),
    /// Lower and upper bound.
    Bounds(&'static str, &'static str),
    /// Our value where the reference's entry has this one.
    Word(&'static str, Value, Value),
    /// Deliberately not the entry's value.
    Not(&'static str, &'static str),
    /// The reference has no such choice.
    Ours(&'static str),
}
use Source::{Bounds, Not, Of, Ours, Word};

/// Last steps of truncated episodes.
const D4RL_VIEW: Source = Ours("D4RL's view drops them");
const TARGET_ENTROPY: Source = Ours("minus the number of actions, as there");
const NO_SCALER: Source = Ours("not normalised there");
const ALWAYS_NORMALIZED: Source = Ours("its train() always normalises");
const NO_REWARD_CHANGE: Source = Ours("rewards stay as they are there");

type Table = Vec<(&'static str, Source)>;

fn references() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/defaults.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Nested tables as `outer.inner`.
fn flat(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else {
        panic!("a configuration is a table")
    };
    let mut out = Map::new();
    for (key, value) in map {
        match value {
            Value::Object(_) => {
                let inner = flat(value).into_iter();
                out.extend(inner.map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            other => {
                out.insert(key, other);
            }
        }
    }
    out
}

fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        // What is switched off has no value of its own here.
        (Value::Null, Value::Bool(false)) => true,
        (Value::String(word), Value::Bool(false)) => word == "none",
        _ => match (found.as_f64(), expected.as_f64()) {
            // Settings of f32 are written with its digits.
            (Some(a), Some(b)) => a == b || a as f32 == b as f32,
            _ => found == expected,
        },
    }
}

/// What is wrong with the default of a key, if anything is.
fn difference(found: &Value, from: &Source, reference: &Value) -> Option<String> {
    let entry = |name: &str| {
        let entry = reference.get(name);
        entry.unwrap_or_else(|| panic!("the reference has no `{name}`"))
    };
    match from {
        Of(names) => names
            .iter()
            .find(|name| !same(found, entry(name)))
            .map(|name| format!("is {found}, and `{name}` {}", entry(name))),
        Bounds(low, high) => {
            let expected = json!([entry(low), entry(high)]);
            (!same(found, &expected)).then(|| format!("is {found}, expected {expected}"))
        }
        Word(name, theirs, ours) => {
            let right = same(entry(name), theirs) && same(found, ours);
            (!right).then(|| format!("is {found}, and `{name}` {}", entry(name)))
        }
        Not(name, reason) => same(found, entry(name))
            .then(|| format!("is {found} as `{name}`: this is no longer a difference ({reason})")),
        Ours(reason) => {
            assert!(!reason.is_empty());
            None
        }
    }
}

/// Every key of the configuration stands in the table, or with `some` those of the table in the configuration.
fn check(name: &str, config: impl Serialize, table: &Table, keys: Keys) {
    let reference = &references()[name];
    let found = flat(serde_json::to_value(config).unwrap());
    for (key, from) in table {
        let value = found.get(*key).unwrap_or(&Value::Null);
        if let Some(problem) = difference(value, from, reference) {
            panic!("{name}: the default of `{key}` {problem}");
        }
    }
    let listed: BTreeSet<&str> = table.iter().map(|(key, _)| *key).collect();
    assert_eq!(listed.len(), table.len(), "{name}: a key stands twice");
    let missing: Vec<&String> = found
        .keys()
        .filter(|key| !listed.contains(key.as_str()))
        .collect();
    assert!(
        keys == Keys::Some || missing.is_empty(),
        "{name}: no reference for {missing:?}"
    );
}

#[derive(PartialEq, Eq)]
enum Keys {
    All,
    Some,
}

#[test]
fn defaults_of_corls_methods_are_its_own() {
    check("td3_bc", Td3BcConfig::default(), &td3_bc(), Keys::All);
    check("bc", BcConfig::default(), &bc(), Keys::All);
    check("iql", IqlConfig::default(), &iql(), Keys::All);
    check("awac", AwacConfig::default(), &awac(), Keys::All);
    check("cql", CqlConfig::default(), &cql(), Keys::All);
    check("sac_n", SacNConfig::default(), &ensemble(), Keys::All);
    let mut edac = ensemble();
    edac.push(("diversity", Of(&["TrainConfig.eta"])));
    check("edac", EdacConfig::default(), &edac, Keys::All);
    check("rebrac", RebracConfig::default(), &rebrac(), Keys::All);
}

#[test]
fn defaults_of_other_value_based_methods_are_their_references() {
    check("td3", Td3Config::default(), &td3(), Keys::All);
    check("sac", SacConfig::default(), &sac(), Keys::All);
    check("sac_rnd", SacRndConfig::default(), &sac_rnd(), Keys::All);
    check("crr", CrrConfig::default(), &crr(), Keys::All);
    check("bear", BearConfig::default(), &bear(), Keys::All);
    check("brac", BracConfig::default(), &brac(), Keys::All);
}

#[test]
fn defaults_of_sequence_models_are_their_authors() {
    let config = DecisionTransformerConfig::default();
    check(
        "decision_transformer",
        config,
        &decision_transformer(),
        Keys::Some,
    );
    let config = TrajectoryTransformerConfig::default();
    check(
        "trajectory_transformer",
        config,
        &trajectory_transformer(),
        Keys::Some,
    );
    check("lamo", LamoConfig::default(), &lamo(), Keys::Some);
    check("tap", TapConfig::default(), &tap(), Keys::All);
}

#[test]
fn other_values_are_seen() {
    let reference = &references()["td3_bc"];
    let wrong = |value: Value, from: &Source| difference(&value, from, reference).is_some();
    assert!(wrong(json!(2.4), &Of(&["TrainConfig.alpha"])));
    assert!(wrong(json!([256]), &Of(&["hidden.actor"])));
    assert!(wrong(json!(false), &Of(&["TrainConfig.normalize"])));
    assert!(wrong(
        json!("return_range"),
        &Of(&["TrainConfig.normalize_reward"])
    ));
    assert!(wrong(
        json!(2.5),
        &Not("TrainConfig.alpha", "a difference that is none")
    ));
    assert!(!wrong(json!(2.5), &Of(&["TrainConfig.alpha"])));
}

fn td3_bc() -> Table {
    vec![
        ("alpha", Of(&["TrainConfig.alpha"])),
        ("discount", Of(&["TrainConfig.discount"])),
        ("target_rate", Of(&["TrainConfig.tau"])),
        ("policy_noise", Of(&["TrainConfig.policy_noise"])),
        ("noise_clip", Of(&["TrainConfig.noise_clip"])),
        ("policy_delay", Of(&["TrainConfig.policy_freq"])),
        ("batch_size", Of(&["TrainConfig.batch_size"])),
        ("learning_rate", Of(&["Adam.lr"])),
        ("hidden", Of(&["hidden.actor", "hidden.critics"])),
        (
            "data.normalize_observations",
            Of(&["TrainConfig.normalize"]),
        ),
        ("data.rewards", Of(&["TrainConfig.normalize_reward"])),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn bc() -> Table {
    vec![
        (
            "fraction",
            Not(
                "TrainConfig.frac",
                "plain behaviour cloning; BC-10% is asked for by name",
            ),
        ),
        ("batch_size", Of(&["TrainConfig.batch_size"])),
        ("learning_rate", Of(&["Adam.lr"])),
        ("hidden", Of(&["hidden.actor"])),
        ("normalize_observations", Of(&["TrainConfig.normalize"])),
    ]
}

fn iql() -> Table {
    vec![
        ("expectile", Of(&["TrainConfig.iql_tau"])),
        ("beta", Of(&["TrainConfig.beta"])),
        ("max_weight", Of(&["iql.py.EXP_ADV_MAX"])),
        (
            "actor",
            Word(
                "TrainConfig.iql_deterministic",
                json!(false),
                json!("gaussian"),
            ),
        ),
        (
            "log_std_range",
            Bounds("iql.py.LOG_STD_MIN", "iql.py.LOG_STD_MAX"),
        ),
        (
            "value_timing",
            Ours("CORL's order; its authors' is the other"),
        ),
        ("discount", Of(&["TrainConfig.discount"])),
        ("target_rate", Of(&["TrainConfig.tau"])),
        ("batch_size", Of(&["TrainConfig.batch_size"])),
        ("actor_learning_rate", Of(&["TrainConfig.actor_lr"])),
        (
            "actor_decay_updates",
            Ours("the training's own, as T_max there"),
        ),
        ("critic_learning_rate", Of(&["TrainConfig.qf_lr"])),
        ("value_learning_rate", Of(&["TrainConfig.vf_lr"])),
        (
            "hidden",
            Of(&["hidden.actor", "hidden.critics", "hidden.value"]),
        ),
        (
            "data.normalize_observations",
            Of(&["TrainConfig.normalize"]),
        ),
        ("data.rewards", Of(&["TrainConfig.normalize_reward"])),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn awac() -> Table {
    vec![
        ("lambda", Of(&["yaml.awac_lambda"])),
        (
            "max_weight",
            Of(&["AdvantageWeightedActorCritic.exp_adv_max"]),
        ),
        (
            "log_std_range",
            Bounds("Actor.min_log_std", "Actor.max_log_std"),
        ),
        ("discount", Of(&["TrainConfig.gamma", "yaml.gamma"])),
        ("target_rate", Of(&["TrainConfig.tau", "yaml.tau"])),
        (
            "batch_size",
            Of(&["TrainConfig.batch_size", "yaml.batch_size"]),
        ),
        (
            "learning_rate",
            Of(&["TrainConfig.learning_rate", "yaml.learning_rate"]),
        ),
        ("hidden", Of(&["hidden.actor", "hidden.critics"])),
        ("data.normalize_observations", ALWAYS_NORMALIZED),
        ("data.rewards", Of(&["TrainConfig.normalize_reward"])),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn cql() -> Table {
    vec![
        ("alpha", Of(&["TrainConfig.cql_alpha"])),
        (
            "penalty",
            Word(
                "TrainConfig.cql_importance_sample",
                json!(true),
                json!("importance_sampled"),
            ),
        ),
        ("actions", Of(&["TrainConfig.cql_n_actions"])),
        ("penalty_temperature", Of(&["TrainConfig.cql_temp"])),
        ("lagrange_gap", Of(&["TrainConfig.cql_lagrange"])),
        ("gap_min", Of(&["TrainConfig.cql_clip_diff_min"])),
        ("gap_max", Of(&["TrainConfig.cql_clip_diff_max"])),
        ("max_backup", Of(&["TrainConfig.cql_max_target_backup"])),
        ("backup_entropy", Of(&["TrainConfig.backup_entropy"])),
        ("calibrate", Ours("Cal-QL is a program of its own there")),
        ("failure_reward", Ours("Cal-QL's, on sparse rewards")),
        ("cloning_updates", Of(&["TrainConfig.bc_steps"])),
        (
            "automatic_temperature",
            Of(&["TrainConfig.use_automatic_entropy_tuning"]),
        ),
        ("temperature_scale", Of(&["TrainConfig.alpha_multiplier"])),
        ("target_entropy", TARGET_ENTROPY),
        ("discount", Of(&["TrainConfig.discount"])),
        ("target_rate", Of(&["TrainConfig.soft_target_update_rate"])),
        ("target_every", Of(&["TrainConfig.target_update_period"])),
        ("batch_size", Of(&["TrainConfig.batch_size"])),
        ("actor_learning_rate", Of(&["TrainConfig.policy_lr"])),
        ("critic_learning_rate", Of(&["TrainConfig.qf_lr"])),
        (
            "log_std_range",
            Bounds(
                "ReparameterizedTanhGaussian.log_std_min",
                "ReparameterizedTanhGaussian.log_std_max",
            ),
        ),
        (
            "log_std_scale",
            Of(&["TrainConfig.policy_log_std_multiplier"]),
        ),
        ("hidden", Of(&["hidden.actor", "hidden.critics"])),
        (
            "critic_hidden",
            Ours("as `hidden`; there a number of layers"),
        ),
        ("orthogonal_init", Of(&["TrainConfig.orthogonal_init"])),
        (
            "data.normalize_observations",
            Of(&["TrainConfig.normalize"]),
        ),
        ("data.rewards", Of(&["TrainConfig.normalize_reward"])),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn ensemble() -> Table {
    vec![
        ("members", Of(&["TrainConfig.num_critics"])),
        ("discount", Of(&["TrainConfig.gamma"])),
        ("target_rate", Of(&["TrainConfig.tau"])),
        ("target_entropy", TARGET_ENTROPY),
        ("batch_size", Of(&["TrainConfig.batch_size"])),
        (
            "actor_learning_rate",
            Of(&["TrainConfig.actor_learning_rate"]),
        ),
        (
            "critic_learning_rate",
            Of(&["TrainConfig.critic_learning_rate"]),
        ),
        (
            "temperature_learning_rate",
            Of(&["TrainConfig.alpha_learning_rate"]),
        ),
        ("hidden", Of(&["hidden.actor", "hidden.critics"])),
        (
            "initialization",
            Ours("the authors', not CORL's: tests/it/initial_values.rs"),
        ),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", Of(&["TrainConfig.normalize_reward"])),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn rebrac() -> Table {
    let locomotion = "that of locomotion's files; the class's own belongs to no data set";
    vec![
        ("actor_penalty", Not("Config.actor_bc_coef", locomotion)),
        ("critic_penalty", Not("Config.critic_bc_coef", locomotion)),
        ("normalize_q", Of(&["Config.normalize_q"])),
        ("discount", Of(&["Config.gamma"])),
        ("target_rate", Of(&["Config.tau"])),
        ("policy_noise", Of(&["Config.policy_noise"])),
        ("noise_clip", Of(&["Config.noise_clip"])),
        ("policy_delay", Of(&["Config.policy_freq"])),
        ("batch_size", Of(&["Config.batch_size"])),
        ("actor_learning_rate", Of(&["Config.actor_learning_rate"])),
        ("critic_learning_rate", Of(&["Config.critic_learning_rate"])),
        ("hidden", Of(&["hidden.actor", "hidden.critic"])),
        ("critic_layer_norm", Of(&["Config.critic_ln"])),
        ("actor_layer_norm", Of(&["Config.actor_ln"])),
        (
            "data.normalize_observations",
            Of(&["Config.normalize_states"]),
        ),
        ("data.keep_truncations", D4RL_VIEW),
        ("data.rewards", Of(&["Config.normalize_reward"])),
        (
            "online_penalty_share",
            Ours("online learning is a program of its own there"),
        ),
    ]
}

fn td3() -> Table {
    vec![
        ("discount", Of(&["main.py.--discount"])),
        ("target_rate", Of(&["main.py.--tau"])),
        ("policy_noise", Of(&["main.py.--policy_noise"])),
        ("noise_clip", Of(&["main.py.--noise_clip"])),
        ("policy_delay", Of(&["main.py.--policy_freq"])),
        ("batch_size", Of(&["main.py.--batch_size"])),
        ("actor_learning_rate", Of(&["actor_optimizer.lr"])),
        ("critic_learning_rate", Of(&["critic_optimizer.lr"])),
        ("hidden", Of(&["hidden.actor", "hidden.critic"])),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", NO_REWARD_CHANGE),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn sac() -> Table {
    let paper = "the temperature is learned in the paper, from 1 on";
    vec![
        ("discount", Of(&["main.py.--gamma"])),
        ("target_rate", Of(&["main.py.--tau"])),
        ("target_every", Of(&["main.py.--target_update_interval"])),
        ("initial_temperature", Not("main.py.--alpha", paper)),
        (
            "automatic_temperature",
            Not("main.py.--automatic_entropy_tuning", paper),
        ),
        ("target_entropy", TARGET_ENTROPY),
        ("batch_size", Of(&["main.py.--batch_size"])),
        ("actor_learning_rate", Of(&["main.py.--lr"])),
        ("critic_learning_rate", Of(&["main.py.--lr"])),
        ("temperature_learning_rate", Of(&["main.py.--lr"])),
        (
            "log_std_range",
            Bounds("model.py.LOG_SIG_MIN", "model.py.LOG_SIG_MAX"),
        ),
        ("hidden", Of(&["hidden.actor"])),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", NO_REWARD_CHANGE),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn sac_rnd() -> Table {
    vec![
        ("actor_penalty", Of(&["Config.actor_beta"])),
        ("critic_penalty", Of(&["Config.critic_beta"])),
        (
            "pretraining_updates",
            Ours("one epoch of 1,000 updates in all their files"),
        ),
        ("rnd_learning_rate", Of(&["Config.rnd_learning_rate"])),
        ("rnd_hidden", Of(&["Config.rnd_hidden_dim"])),
        ("rnd_embedding", Of(&["Config.rnd_embedding_dim"])),
        ("discount", Of(&["Config.gamma"])),
        ("target_rate", Of(&["Config.tau"])),
        ("initial_temperature", Ours("Alpha's own first value is 1")),
        ("target_entropy", TARGET_ENTROPY),
        ("batch_size", Of(&["yaml.batch_size"])),
        ("actor_learning_rate", Of(&["yaml.actor_learning_rate"])),
        ("critic_learning_rate", Of(&["yaml.critic_learning_rate"])),
        (
            "temperature_learning_rate",
            Of(&["yaml.alpha_learning_rate"]),
        ),
        ("hidden", Of(&["hidden.actor"])),
        ("members", Of(&["Config.num_critics"])),
        ("critic_layer_norm", Of(&["Config.critic_layernorm"])),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", Of(&["Config.normalize_reward"])),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn crr() -> Table {
    vec![
        ("weight", Of(&["reproduction.weight_type"])),
        ("advantage", Of(&["reproduction.advantage_type"])),
        ("temperature", Of(&["CRRConfig.beta"])),
        ("max_weight", Of(&["CRRConfig.max_weight"])),
        ("samples", Of(&["CRRConfig.n_action_samples"])),
        (
            "weighted_acting",
            Ours("as its inner_predict_best_action: tests/it/acting.rs"),
        ),
        ("members", Of(&["CRRConfig.n_critics"])),
        ("discount", Of(&["CRRConfig.gamma"])),
        ("target_rate", Of(&["CRRConfig.tau"])),
        (
            "target_every_updates",
            Word("reproduction.target_update_type", json!("soft"), json!(1)),
        ),
        (
            "log_std_range",
            Bounds(
                "create_normal_policy.min_logstd",
                "create_normal_policy.max_logstd",
            ),
        ),
        ("batch_size", Of(&["reproduction.batch_size"])),
        (
            "actor_learning_rate",
            Of(&["reproduction.actor_learning_rate"]),
        ),
        (
            "critic_learning_rate",
            Of(&["reproduction.critic_learning_rate"]),
        ),
        ("hidden", Of(&["hidden.actor"])),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", NO_REWARD_CHANGE),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn bear() -> Table {
    vec![
        ("kernel", Of(&["BEARConfig.mmd_kernel"])),
        ("bandwidth", Of(&["reproduction.mmd_sigma"])),
        ("threshold", Of(&["reproduction.alpha_threshold"])),
        ("samples", Of(&["reproduction.n_mmd_action_samples"])),
        ("target_samples", Of(&["reproduction.n_target_samples"])),
        ("acting_samples", Of(&["reproduction.n_action_samples"])),
        ("min_weight", Of(&["BEARConfig.lam"])),
        ("vae_kl_weight", Of(&["BEARConfig.vae_kl_weight"])),
        ("warmup_updates", Of(&["reproduction.warmup_steps"])),
        ("initial_multiplier", Of(&["BEARConfig.initial_alpha"])),
        ("discount", Of(&["BEARConfig.gamma"])),
        ("target_rate", Of(&["BEARConfig.tau"])),
        (
            "log_std_range",
            Bounds(
                "create_normal_policy.min_logstd",
                "create_normal_policy.max_logstd",
            ),
        ),
        ("batch_size", Of(&["reproduction.batch_size"])),
        (
            "actor_learning_rate",
            Of(&["reproduction.actor_learning_rate"]),
        ),
        (
            "critic_learning_rate",
            Of(&["reproduction.critic_learning_rate"]),
        ),
        (
            "vae_learning_rate",
            Of(&["reproduction.imitator_learning_rate"]),
        ),
        (
            "multiplier_learning_rate",
            Of(&["reproduction.alpha_learning_rate"]),
        ),
        ("hidden", Of(&["hidden.actor"])),
        ("vae_hidden", Of(&["hidden.vae"])),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", NO_REWARD_CHANGE),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn brac() -> Table {
    vec![
        ("penalty", Of(&["train_brac.py.--alpha"])),
        ("train_penalty", Of(&["Agent.train_alpha"])),
        ("target_divergence", Of(&["Agent.target_divergence"])),
        ("value_penalty", Of(&["Agent.value_penalty"])),
        ("samples", Of(&["Agent.n_div_samples"])),
        ("acting_samples", Of(&["MaxQSoftPolicy.n"])),
        ("behavior_updates", Of(&["train_brac.py.--bc_train_steps"])),
        ("warm_start_updates", Of(&["Agent.warm_start"])),
        ("behavior_temperature", Of(&["bc.Agent.alpha_entropy"])),
        ("discount", Of(&["train_eval_offline.discount"])),
        ("target_rate", Of(&["train_eval_offline.update_rate"])),
        ("batch_size", Of(&["train_eval_offline.batch_size"])),
        ("critic_learning_rate", Of(&["main.opt_params.0"])),
        ("actor_learning_rate", Of(&["main.opt_params.1"])),
        ("penalty_learning_rate", Of(&["main.opt_params.2"])),
        ("behavior_learning_rate", Of(&["train_bc.opt_params.0"])),
        ("hidden", Of(&["main.model_arch.critics"])),
        (
            "actor_hidden",
            Of(&["main.model_arch.actor", "train_bc.model_arch.actor"]),
        ),
        ("data.normalize_observations", NO_SCALER),
        ("data.rewards", NO_REWARD_CHANGE),
        ("data.keep_truncations", D4RL_VIEW),
    ]
}

fn decision_transformer() -> Table {
    vec![
        ("context_steps", Of(&["experiment.py.--K"])),
        ("layers", Of(&["experiment.py.--n_layer"])),
        ("heads", Of(&["experiment.py.--n_head"])),
        ("embedding", Of(&["experiment.py.--embed_dim"])),
        ("dropout", Of(&["experiment.py.--dropout"])),
        ("batch_size", Of(&["experiment.py.--batch_size"])),
        ("learning_rate", Of(&["experiment.py.--learning_rate"])),
        ("weight_decay", Of(&["experiment.py.--weight_decay"])),
        ("warmup_updates", Of(&["experiment.py.--warmup_steps"])),
    ]
}

fn tap() -> Table {
    const CALLS: Source =
        Ours("no key there: given to the trainer by scripts/train.py; settings.rs compares it");
    vec![
        ("codes", Of(&["train.K"])),
        ("code_width", Of(&["train.trajectory_embd"])),
        ("latent_steps", Of(&["train.latent_step"])),
        ("layers", Of(&["train.n_layer"])),
        ("heads", Of(&["train.n_head"])),
        ("embedding_per_head", Of(&["train.n_embd"])),
        (
            "dropout",
            Of(&["train.embd_pdrop", "train.resid_pdrop", "train.attn_pdrop"]),
        ),
        (
            "window_transitions",
            Word(
                "train.subsampled_sequence_length",
                json!(25),
                json!(24), // the last one is only a target, and of nothing
            ),
        ),
        ("discount", Of(&["train.discount"])),
        ("termination_penalty", Of(&["train.termination_penalty"])),
        ("state_conditional", Of(&["train.state_conditional"])),
        ("position_weight", Of(&["train.position_weight"])),
        ("action_weight", Of(&["train.action_weight"])),
        ("reward_weight", Of(&["train.reward_weight"])),
        ("value_weight", Of(&["train.value_weight"])),
        ("first_action_weight", Of(&["train.first_action_weight"])),
        ("sum_reward_weight", Of(&["train.sum_reward_weight"])),
        ("last_value_weight", Of(&["train.last_value_weight"])),
        (
            "autoencoder_updates",
            Word("train.n_epochs_ref", json!(50), json!(97_656)), // 50 passes over a million steps in batches of 512
        ),
        ("batch_size", Of(&["train.batch_size"])),
        ("learning_rate", Of(&["train.learning_rate"])),
        ("betas", CALLS),
        ("weight_decay", CALLS),
        ("clip_norm", CALLS),
        ("planner.horizon", Of(&["plan.horizon"])),
        ("planner.beam_width", Of(&["plan.beam_width"])),
        ("planner.n_expand", Of(&["plan.n_expand"])),
        ("planner.likelihood_threshold", Of(&["plan.prob_threshold"])),
        ("planner.likelihood_weight", Of(&["plan.prob_weight"])),
        (
            "planner.likelihood_of",
            Ours("one threshold for the whole plan, as there"),
        ),
        ("planner.plan_every_steps", Of(&["plan.plan_freq"])),
    ]
}

fn trajectory_transformer() -> Table {
    vec![
        ("bins", Of(&["train.N"])),
        (
            "discretizer",
            Word(
                "train.discretizer",
                json!("QuantileDiscretizer"),
                json!("quantile"),
            ),
        ),
        ("layers", Of(&["train.n_layer"])),
        ("heads", Of(&["train.n_head"])),
        ("embedding_per_head", Of(&["train.n_embd"])),
        (
            "dropout",
            Of(&["train.embd_pdrop", "train.resid_pdrop", "train.attn_pdrop"]),
        ),
        (
            "window_transitions",
            Of(&["train.subsampled_sequence_length"]),
        ),
        ("discount", Of(&["train.discount"])),
        ("termination_penalty", Of(&["train.termination_penalty"])),
        ("action_weight", Of(&["train.action_weight"])),
        ("reward_weight", Of(&["train.reward_weight"])),
        ("value_weight", Of(&["train.value_weight"])),
        ("batch_size", Of(&["train.batch_size"])),
        ("learning_rate", Of(&["train.learning_rate"])),
        ("planner.horizon", Of(&["plan.horizon"])),
        ("planner.beam_width", Of(&["plan.beam_width"])),
        ("planner.n_expand", Of(&["plan.n_expand"])),
        ("planner.k_obs", Of(&["plan.k_obs"])),
        ("planner.k_act", Word("plan.k_act", Value::Null, json!(0))),
        (
            "planner.cdf_obs",
            Word("plan.cdf_obs", Value::Null, json!(0)),
        ),
        ("planner.cdf_act", Of(&["plan.cdf_act"])),
        (
            "planner.percentile",
            Word("plan.percentile", json!("mean"), Value::Null),
        ),
        (
            "planner.max_context_transitions",
            Of(&["plan.max_context_transitions"]),
        ),
        ("planner.prefix_context", Of(&["plan.prefix_context"])),
        ("planner.plan_every_steps", Of(&["plan.plan_freq"])),
    ]
}

fn lamo() -> Table {
    vec![
        ("context_steps", Of(&["experiment.py.--K", "run.sh.K"])),
        (
            "dropout",
            Of(&["experiment.py.--dropout", "run.sh.dropout"]),
        ),
        ("batch_size", Of(&["experiment.py.--batch_size"])),
        ("learning_rate", Of(&["run.sh.lr"])),
        ("weight_decay", Of(&["run.sh.weight_decay"])),
        ("warmup_updates", Of(&["run.sh.warmup_steps"])),
    ]
}
