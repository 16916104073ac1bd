//! A planner that scores with the critic of a run of IQL: its numbers, where it is kept, and what it refuses.

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use trajformer::config::RunConfig;
use trajformer::planning::{Critic, CriticSpec};
use trajformer::policy::EpisodeStart;
use trajformer::rng::{Rng, Streams};
use trajformer::{critic, run};

use crate::cli::{output, succeeds};
use crate::runs::{check_same_run, config, write_data};

/// Keys of a planner whose plans take a moment.
const SHORT: [&str; 3] = [
    "algorithm.trajectory_transformer.planner.plan_every_steps=1",
    "algorithm.trajectory_transformer.planner.horizon=2",
    "algorithm.trajectory_transformer.planner.beam_width=3",
];

fn value_key() -> String {
    "algorithm.trajectory_transformer.planner.value=critic".to_owned()
}

fn critic_key(run: &Path) -> String {
    format!(
        "algorithm.trajectory_transformer.planner.critic={}",
        run.display()
    )
}

/// A run of IQL on the folder's data, at `iql`.
fn with_iql(folder: &Path, further: &[&str]) -> std::path::PathBuf {
    write_data(folder);
    let further: Vec<String> = further.iter().map(|&key| key.to_owned()).collect();
    let config = config(folder, "iql", 10).with_overrides(&further).unwrap();
    let out = folder.join("iql");
    run::start(&config, &out).unwrap();
    out
}

fn transformer(folder: &Path, updates: u64, further: &[String]) -> RunConfig {
    let mut keys: Vec<String> = SHORT.iter().map(|&key| key.to_owned()).collect();
    keys.extend_from_slice(further);
    let config = config(folder, "trajectory_transformer", updates);
    config.with_overrides(&keys).unwrap()
}

/// What a run does in an episode of made-up observations, and what its plans promise, as bits.
fn acts(out: &Path, overrides: &[String]) -> Vec<u64> {
    let mut policy = run::open(out, overrides)
        .unwrap()
        .algorithm
        .policy()
        .unwrap();
    let rng = Streams::from_seed(5).numbered("policy", 0);
    policy.begin(&[EpisodeStart::new(rng)]).unwrap();
    let rng = &mut Rng::from_seed(6);
    let mut bits = Vec::new();
    for _ in 0..6 {
        let observation: Vec<f32> = (0..3).map(|_| rng.normal() as f32).collect();
        let observation = Tensor::from_vec(observation, (1, 3), &Device::Cpu).unwrap();
        let action = policy.act(&observation, &[true]).unwrap();
        let action = action.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        bits.push(u64::from(action.to_bits()));
        let promised = policy.imagined(0).unwrap().unwrap().scores[0];
        bits.push(promised.to_bits());
        policy.observe(&[-1.0]).unwrap();
    }
    bits
}

#[test]
fn a_critics_values_are_those_of_the_run_that_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let shift = "algorithm.iql.data.rewards={ affine = { scale = 0.5, shift = -1.0 } }";
    let iql = with_iql(folder.path(), &[shift, "algorithm.iql.discount=0.9"]);
    let found = critic::open(&iql).unwrap();
    let rng = &mut Rng::from_seed(1);
    let mut numbers = |count: usize, size: f64| -> Vec<f32> {
        (0..count).map(|_| (size * rng.normal()) as f32).collect()
    };
    // Some of the actions are out of their range of ±2; 21 rows are two groups and a part.
    let (observations, actions) = (numbers(21 * 3, 2.0), numbers(21, 2.0));
    let own = run::open(&iql, &[]).unwrap().algorithm;
    for row in 0..21 {
        let observation = &observations[3 * row..3 * row + 3];
        let tensor = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu);
        let expected = own.action_values(
            &tensor(observation).unwrap(),
            &tensor(&actions[row..=row]).unwrap(),
        );
        let expected = expected.unwrap().unwrap().to_vec1::<f32>().unwrap()[0];
        let alone = found.values(observation.to_vec(), actions[row..=row].to_vec());
        let alone = alone.unwrap()[0];
        // One row is computed in another way than a group of eight.
        assert!(
            (alone - f64::from(expected)).abs() < 1e-5,
            "{alone} {expected}"
        );
        let together = found.values(observations.clone(), actions.clone()).unwrap();
        assert_eq!(together[row].to_bits(), alone.to_bits());
    }
    assert_eq!((found.reward(4.0), found.spec().discount), (1.0, 0.9));
    let again = Critic::from_bytes(&found.to_bytes().unwrap()).unwrap();
    let values = |critic: &Critic| {
        critic
            .values(observations.clone(), actions.clone())
            .unwrap()
    };
    assert_eq!(values(&again), values(&found));
    assert_eq!(again.spec(), found.spec());
    for cut in [0, 7, 40, found.to_bytes().unwrap().len() - 1] {
        let error = Critic::from_bytes(&found.to_bytes().unwrap()[..cut]).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn a_plan_of_one_transition_is_worth_what_the_critic_says_of_its_action() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let iql = with_iql(folder, &[]);
    let found = critic::open(&iql).unwrap();
    for (horizon, at_once) in [(1, false), (2, false), (1, true), (2, true)] {
        let out = folder.join(format!("planner-{horizon}-{at_once}"));
        let multi_token = format!("algorithm.trajectory_transformer.multi_token={at_once}");
        let keys = [value_key(), critic_key(&iql), multi_token];
        run::start(&transformer(folder, 5, &keys), &out).unwrap();
        let set = format!("algorithm.trajectory_transformer.planner.horizon={horizon}");
        let mut policy = run::open(&out, &[set]).unwrap().algorithm.policy().unwrap();
        let rng = Streams::from_seed(5).numbered("policy", 0);
        policy.begin(&[EpisodeStart::new(rng)]).unwrap();
        let observation = Tensor::new(&[[0.5f32, 0.5, 1.0]], &Device::Cpu).unwrap();
        policy.act(&observation, &[true]).unwrap();
        let plan = policy.imagined(0).unwrap().unwrap();
        let last = |part: &Tensor| -> Vec<f32> {
            let part = part.narrow(0, 0, 1).unwrap().narrow(1, horizon - 1, 1);
            part.unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let value = found
            .values(last(&plan.observations), last(&plan.actions))
            .unwrap()[0];
        if horizon == 1 {
            assert_eq!(plan.scores[0].to_bits(), value.to_bits());
        } else {
            // The reward of the first transition, as the network expects it, is between the data's least and largest.
            let reward = plan.scores[0] - found.spec().discount * value;
            assert!((-17.0..=0.0).contains(&reward), "{reward}");
        }
    }
}

#[test]
fn a_run_keeps_its_critic_and_goes_on_without_the_other_run_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let iql = with_iql(folder, &[]);
    let keys = [value_key(), critic_key(&iql)];
    let whole = folder.join("whole");
    run::start(&transformer(folder, 10, &keys), &whole).unwrap();
    let halves = folder.join("halves");
    run::start(&transformer(folder, 5, &keys), &halves).unwrap();
    let before = acts(&whole, &[]);
    fs::rename(&iql, folder.join("gone")).unwrap();
    run::resume(&halves, &["train.updates=10".to_owned()]).unwrap();
    check_same_run(&whole, &halves, "resumed without the critic's run");
    assert_eq!(acts(&whole, &[]), before);
    let model = value_key().replace("=critic", "=model");
    assert_ne!(acts(&whole, &[model]), before);
    // A new run needs it.
    let error = run::start(&transformer(folder, 5, &keys), &folder.join("new")).unwrap_err();
    assert!(error.to_string().contains("iql"), "{error}");
    assert!(!folder.join("new").exists());
    // Another one that its file names would not be asked: it has the first one's.
    let file = whole.join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("critic = "))
        .unwrap();
    fs::write(&file, text.replace(line, "critic = \"elsewhere\"")).unwrap();
    let refused = run::open(&whole, &[]).err().expect("another critic");
    assert!(
        refused.to_string().contains("planner.critic` was"),
        "{refused}"
    );
}

#[test]
fn a_run_that_was_trained_without_takes_a_critic_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let iql = with_iql(folder, &[]);
    let (plain, scored) = (folder.join("plain"), folder.join("scored"));
    let keys = [value_key(), critic_key(&iql)];
    run::start(&transformer(folder, 5, &[]), &plain).unwrap();
    run::start(&transformer(folder, 5, &keys), &scored).unwrap();
    assert_eq!(acts(&plain, &keys), acts(&scored, &[]));
    assert_ne!(acts(&plain, &[]), acts(&scored, &[]));
    // The networks are the same: a critic decides nothing in training.
    let model = |out: &Path| fs::read(out.join("model.safetensors")).unwrap();
    assert!(model(&plain) == model(&scored));
    // Another one takes the place of the run's own.
    let other = folder.join("other");
    let different = config(folder, "iql", 10).with_overrides(&["seed=9".to_owned()]);
    run::start(&different.unwrap(), &other).unwrap();
    let replaced = acts(&scored, &[critic_key(&other)]);
    assert_eq!(replaced, acts(&plain, &[value_key(), critic_key(&other)]));
    assert_ne!(replaced, acts(&scored, &[]));
}

#[test]
fn a_critic_that_nothing_asks_is_an_error_and_one_of_other_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let iql = with_iql(folder, &[]);
    let alone = [critic_key(&iql)];
    let out = folder.join("new");
    let error = run::start(&transformer(folder, 5, &alone), &out).unwrap_err();
    let error = error.to_string();
    for words in [
        "planner.critic` names",
        "planner.value = \"critic\"`",
        "iql",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!out.exists());
    let plain = folder.join("plain");
    run::start(&transformer(folder, 5, &[]), &plain).unwrap();
    let error = run::open(&plain, &alone).err().unwrap().to_string();
    assert!(error.contains("planner.value"), "{error}");

    let mut data = crate::runs::pendulum_data();
    data.rewards[0] += 1.0;
    let other = folder.join("other");
    run::start_on(&config(folder, "iql", 5), &data, &other).unwrap();
    // The critic's data when the planner is trained, and when it is given a critic later.
    let said = |critic: &Path, out: &str| {
        let keys = [value_key(), critic_key(critic)];
        let text = transformer(folder, 5, &keys).to_toml().unwrap();
        fs::write(folder.join("planner.toml"), text).unwrap();
        let trained = output(folder, &["train", "planner.toml", "--out", out]);
        let [value, critic] = keys;
        let planned = output(
            folder,
            &["plan", "plain", "--set", &value, "--set", &critic],
        );
        [trained, planned].map(|found| {
            let errors = String::from_utf8_lossy(&found.stderr).into_owned();
            assert!(found.status.success(), "{errors}");
            errors
        })
    };
    for errors in said(&other, "by-other") {
        let words = "other learned from other data (800 steps in 4 episodes with the checksum";
        assert!(errors.contains(words), "{errors}");
    }
    for errors in said(&iql, "by-own") {
        assert!(!errors.contains("learned from other data"), "{errors}");
    }
    // What plans promise is in the critic's units, which is said.
    let budget = "algorithm.trajectory_transformer.planner.budget_tokens=50";
    let planned = succeeds(folder, &["plan", "by-own", "--set", budget, "--json"]);
    let words = "predicted returns are the critic's (`planner.value`): sums discounted by 0.99 ";
    assert!(planned.contains(words), "{planned}");
    assert!(planned.contains("\"critic_discount\":0.99"), "{planned}");
    let planned = succeeds(folder, &["plan", "plain", "--set", budget, "--json"]);
    assert!(!planned.contains("critic"), "{planned}");
}

#[test]
fn keys_that_do_nothing_and_warm_ups_that_never_end_are_named_and_so_are_lengthened_schedules() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let table = "algorithm.trajectory_transformer";
    let said = |keys: &[&str], out: &str| {
        let keys: Vec<String> = keys.iter().map(|key| format!("{table}.{key}")).collect();
        let text = transformer(folder, 5, &keys).to_toml().unwrap();
        fs::write(folder.join("planner.toml"), text).unwrap();
        let found = output(folder, &["train", "planner.toml", "--out", out]);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{errors}");
        errors
    };
    let errors = said(&["muon_momentum=0.9"], "idle");
    let words = format!("`{table}.muon_momentum` does nothing: `{table}.optimizer` is \"adamw\"");
    assert!(errors.contains(&words), "{errors}");
    let never = "and `train.updates` 5: the rate never reaches its full value";
    assert!(!errors.contains(never), "{errors}");
    for (warmup, shown) in [
        ("5", "is 5"),
        ("1 epoch", "is 1 epoch (199 updates on this data)"),
    ] {
        let warmup = format!("warmup_updates={warmup}");
        let errors = said(&[&warmup, "decay_updates=20 epochs"], &warmup);
        let words = format!("`{table}.warmup_updates` {shown} {never}");
        assert!(errors.contains(&words), "{words}: {errors}");
    }
    let going_on = |run: &str| {
        let arguments = ["train", "--resume", run, "--set", "train.updates=8"];
        let found = output(folder, &arguments);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{errors}");
        errors
    };
    said(&["schedule=warmup_stable_decay"], "stable");
    let errors = going_on("stable");
    let words = format!("`train.updates` was 5 and is 8: `{table}.decay_fraction` goes by it");
    assert!(errors.contains(&words), "{errors}");
    assert!(!going_on("idle").contains("goes by it"));
}

#[test]
fn runs_that_are_no_critic_are_refused_with_what_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let opened = |run: &Path| critic::open(run).unwrap_err().to_string();
    assert!(opened(&folder.join("nothing")).contains("no such folder"));
    let cloned = folder.join("bc");
    run::start(&config(folder, "bc", 5), &cloned).unwrap();
    assert!(
        opened(&cloned).contains("a run of bc"),
        "{}",
        opened(&cloned)
    );
    let range = "algorithm.iql.data.rewards=return_range".to_owned();
    let scaled = folder.join("scaled");
    run::start(
        &config(folder, "iql", 5).with_overrides(&[range]).unwrap(),
        &scaled,
    )
    .unwrap();
    assert!(
        opened(&scaled).contains("rewards = \"none\""),
        "{}",
        opened(&scaled)
    );

    let spec = CriticSpec {
        observation_dim: 4,
        action_dim: 1,
        hidden: vec![8],
        discount: 0.99,
        reward_scale: 1.0,
        reward_shift: 0.0,
        run: "elsewhere".to_owned(),
        updates: 1,
    };
    let missing = Critic::new(spec.clone(), std::collections::BTreeMap::new()).unwrap_err();
    assert!(missing.to_string().contains("net."), "{missing}");
}
