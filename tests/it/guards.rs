//! What is refused, with what words: run directories that are not what they were, numbers that are not
//! finite, data without returns, files of other kinds.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::ALGORITHMS;
use trajformer::checkpoint::RunDir;
use trajformer::config::RunConfig;
use trajformer::evaluate::Evaluator;
use trajformer::policy::file::{FilePolicy, FilePolicyOptions, HiddenActivation, OutputActivation};
use trajformer::{compare, data, envs, policy, run};

use crate::runs::SEAL;

/// Small sizes for algorithms whose defaults are large.
fn small(name: &str) -> &'static str {
    match name {
        "bear" => "batch_size = 8\nhidden = [8]\nvae_hidden = [8]\nacting_samples = 3",
        "brac" => "batch_size = 8\nhidden = [8]\nactor_hidden = [8]\nbehavior_updates = 1",
        "decision_transformer" => {
            "batch_size = 2\nlayers = 1\nembedding = 8\ncontext_steps = 3\nwarmup_updates = 1\n\
             target_returns = [-200.0, -1000.0]"
        }
        "lamo" => {
            "batch_size = 2\nlayers = 1\nheads = 1\nembedding = 8\nrank = 2\ncontext_steps = 3\nwarmup_updates = 1"
        }
        "qt" => {
            "batch_size = 2\nlayers = 1\nheads = 1\nembedding = 8\ncritic_hidden = [8]\ncontext_steps = 3\ncandidates = 3\n\
             target_returns = [-200.0, -1000.0]"
        }
        "online_dt" => {
            "batch_size = 2\nlayers = 1\nheads = 1\nembedding = 8\ncontext_steps = 3\nacting_context_steps = 2\nwarmup_updates = 1"
        }
        "reinformer" => {
            "batch_size = 2\nlayers = 1\nheads = 1\nembedding = 8\ncontext_steps = 3\nwarmup_updates = 1"
        }
        "trajectory_transformer" => {
            "bins = 5\nbatch_size = 2\nlayers = 1\nheads = 1\nembedding_per_head = 8\n\
             window_transitions = 3\nwarmup_updates = 1\ndecay_updates = 5\nplanner.horizon = 10\n\
             planner.beam_width = 2\nplanner.plan_every_steps = 10"
        }
        "fast" => {
            "chunk_steps = 3\nexecute_steps = 2\nvocab_size = 128\nbatch_size = 4\nlayers = 1\nheads = 1\n\
             embedding = 8\nwarmup_updates = 1\ndecay_updates = 5"
        }
        "tap" => {
            "codes = 8\ncode_width = 6\nlatent_steps = 2\nlayers = 1\nheads = 2\nembedding_per_head = 4\n\
             window_transitions = 4\nbatch_size = 4\nautoencoder_updates = 1\nplanner.horizon = 4\n\
             planner.beam_width = 2\nplanner.n_expand = 2\nplanner.plan_every_steps = 4\n\
             termination_penalty = \"none\""
        }
        "sac_rnd" => "batch_size = 8\nhidden = [8]\npretraining_updates = 1",
        _ => "batch_size = 8\nhidden = [8]",
    }
}

/// Random actions in pendulum, `steps` of them; an episode has 200.
fn collect(steps: usize, seed: u64) -> data::Dataset {
    let mut env = envs::make("pendulum-v1").unwrap();
    let mut random = policy::simple::RandomPolicy::new(env.spec());
    data::collect::collect(&mut *env, &mut random, steps, seed).unwrap()
}

fn config(folder: &Path, algorithm: &str, overrides: &[&str]) -> RunConfig {
    let text = format!(
        "[data]\npath = \"{}\"\n[train]\nupdates = 4\ncheckpoint_every_updates = 2\n\
         log_every_updates = 4\n[evaluate]\nenv = \"pendulum-v1\"\nevery_updates = 1\n\
         episodes = 1\n[algorithm.{algorithm}]\n{}\n",
        folder.join("data.npz").display(),
        small(algorithm)
    );
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    RunConfig::parse(&text)
        .unwrap()
        .with_overrides(&overrides)
        .unwrap()
}

/// A folder with data and a trained run.
fn trained(algorithm: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    data::save(&collect(400, 1), &folder.path().join("data.npz")).unwrap();
    let out = folder.path().join("run");
    run::start(&config(folder.path(), algorithm, &[]), &out).unwrap();
    (folder, out)
}

/// The words of an error that must be one.
fn words<T>(result: trajformer::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn resume(out: &Path, overrides: &[&str]) -> trajformer::Result<trajformer::trainer::Outcome> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    run::resume(out, &overrides)
}

/// Every learning rate of an algorithm, beyond what f32 holds.
fn huge_rates(folder: &Path, name: &str) -> Vec<String> {
    let table = serde_json::to_value(config(folder, name, &[]).algorithm).unwrap();
    let keys = table[name].as_object().unwrap().keys();
    let rates = keys.filter(|key| key.ends_with("learning_rate"));
    rates
        .map(|key| format!("algorithm.{name}.{key}=1e39"))
        .collect()
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        data::save(&collect(400, 1), &folder.path().join("data.npz")).unwrap();
        let rates = huge_rates(folder.path(), algorithm.name);
        let mut overrides: Vec<&str> = rates.iter().map(String::as_str).collect();
        overrides.push("train.checkpoint_every_updates=1");
        let out = folder.path().join("run");
        let config = config(folder.path(), algorithm.name, &overrides);
        let error = words(run::start(&config, &out));
        let stopped = error.starts_with("training stopped at update");
        // A loss of the same update may show it first.
        let why = ["not finite", "is NaN", "is inf"];
        let why = why.iter().any(|words| error.contains(words));
        assert!(stopped && why, "{error}");
        // Where the rate warms up the first update changes nothing.
        match RunDir::open(&out).unwrap().state().unwrap() {
            None => assert!(
                error.contains("no checkpoint was written before"),
                "{error}"
            ),
            Some(state) => {
                let kept = format!("the checkpoint of update {} in", state.update);
                assert!(error.contains(&kept), "{error}");
                for group in ["model", "policy", "training"] {
                    let path = out.join(format!("{group}.safetensors"));
                    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
                    for (name, tensor) in tensors {
                        let numbers = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                        let numbers = numbers.to_vec1::<f64>().unwrap();
                        assert!(numbers.iter().all(|x| x.is_finite()), "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn predictions_that_are_not_finite_end_a_plan_with_an_error() {
    let (_folder, out) = trained("trajectory_transformer");
    let (model, state) = (out.join("model.safetensors"), out.join("state.toml"));
    let tensors = candle_core::safetensors::load(&model, &Device::Cpu).unwrap();
    let before = format!("{:08x}", crc32fast::hash(&fs::read(&model).unwrap()));
    let broken = tensors
        .into_iter()
        .map(|(name, tensor)| (name, (tensor * f64::NAN).unwrap()))
        .collect::<std::collections::HashMap<String, Tensor>>();
    candle_core::safetensors::save(&broken, &model).unwrap();
    let after = format!("{:08x}", crc32fast::hash(&fs::read(&model).unwrap()));
    let text = fs::read_to_string(&state).unwrap().replace(&before, &after);
    fs::write(&state, text.replace(SEAL, "")).unwrap();
    let stored = run::open(&out, &[]).unwrap();
    let mut evaluator = Evaluator::new(&stored.config.evaluate).unwrap().unwrap();
    let error = words(evaluator.run(&mut *stored.algorithm.policy().unwrap()));
    assert!(error.contains("predictions are not finite"), "{error}");
}

#[test]
fn a_run_is_trained_by_one_process_at_a_time() {
    let (folder, out) = trained("bc");
    let held = RunDir::open_to_train(&out).unwrap();
    let error = words(resume(&out, &["train.updates=6"]));
    assert!(error.contains("another process trains it now"), "{error}");
    drop(held);
    assert_eq!(resume(&out, &["train.updates=6"]).unwrap().update, 6);
    // Somebody who has only just started has no configuration there yet.
    let fresh = folder.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    let lock = fs::File::create(fresh.join("train.lock")).unwrap();
    lock.lock().unwrap();
    let error = words(run::start(&config(folder.path(), "bc", &[]), &fresh));
    assert!(error.contains("another process trains it now"), "{error}");
}

#[test]
fn a_folder_with_any_file_of_a_run_is_not_trained_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&collect(400, 1), &folder.join("data.npz")).unwrap();
    let config = config(folder, "bc", &[]);
    let files = [
        "config.json",
        "model.safetensors.new",
        "metrics.csv",
        "events.out.tfevents.1.x",
    ];
    for (index, file) in files.into_iter().enumerate() {
        let out = folder.join(index.to_string());
        fs::create_dir(&out).unwrap();
        fs::write(out.join(file), "somebody's").unwrap();
        let error = words(run::start(&config, &out));
        assert!(
            error.contains(file) && error.contains("another folder"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(out.join(file)).unwrap(), "somebody's");
        assert!(!out.join("config.toml").exists());
    }
}

#[test]
fn a_run_goes_on_only_as_what_it_was() {
    let (folder, out) = trained("bc");
    let longer = ["train.updates=6"];
    // Another learning rate in its configuration.
    let path = out.join("config.toml");
    let stored = fs::read_to_string(&path).unwrap();
    fs::write(&path, stored.replace("seed = 0", "seed = 5")).unwrap();
    let error = words(resume(&out, &longer));
    assert!(
        error.contains("`seed` was 0, is 5") && error.contains("config.toml"),
        "{error}"
    );
    fs::write(&path, &stored).unwrap();
    // Other data of the same size; data of another size.
    let data_path = folder.path().join("data.npz");
    let kept = fs::read(&data_path).unwrap();
    data::save(&collect(400, 2), &data_path).unwrap();
    let error = words(resume(&out, &longer));
    assert!(
        error.contains("checksum") && error.contains("400 steps"),
        "{error}"
    );
    data::save(&collect(600, 1), &data_path).unwrap();
    let error = words(resume(&out, &longer));
    assert!(
        error.contains("400 steps in 2 episodes") && error.contains("600"),
        "{error}"
    );
    // The same data in another place.
    fs::remove_file(&data_path).unwrap();
    let error = words(resume(
        &out,
        &["train.updates=6", "data.path=elsewhere.npz"],
    ));
    assert!(
        error.contains("elsewhere.npz") && error.contains("working directory"),
        "{error}"
    );
    let moved = folder.path().join("moved.npz");
    fs::write(&moved, kept).unwrap();
    let place = format!("data.path={}", moved.display());
    assert_eq!(
        resume(&out, &["train.updates=6", &place]).unwrap().update,
        6
    );
    // Tensors, and nothing that says what they are.
    fs::remove_file(out.join("state.toml")).unwrap();
    let model = fs::read(out.join("model.safetensors")).unwrap();
    let error = words(resume(&out, &["train.updates=8"]));
    assert!(error.contains("state.toml is missing"), "{error}");
    assert!(model == fs::read(out.join("model.safetensors")).unwrap());
}

#[test]
fn methods_that_need_returns_refuse_data_without_a_complete_episode() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&collect(150, 1), &folder.join("data.npz")).unwrap();
    let start = |algorithm: &str, overrides: &[&str]| {
        let out = folder.join(format!("{algorithm}-{}", overrides.len()));
        run::start(&config(folder, algorithm, overrides), &out)
    };
    for algorithm in ["decision_transformer", "trajectory_transformer"] {
        let error = words(start(algorithm, &[]));
        let named = error.contains("data.npz") && error.contains("no episode is complete");
        assert!(named, "{algorithm}: {error}");
    }
    let likelihood = [
        "algorithm.trajectory_transformer.value=none",
        "algorithm.trajectory_transformer.planner.objective=likelihood",
    ];
    start("trajectory_transformer", &likelihood).unwrap();
    start("bc", &[]).unwrap();
    start("td3_bc", &[]).unwrap();
}

#[test]
fn every_target_return_is_reported() {
    let (_folder, out) = trained("decision_transformer");
    let stored = run::open(&out, &[]).unwrap();
    let mut evaluator = Evaluator::new(&stored.config.evaluate).unwrap().unwrap();
    let found = evaluator
        .run(&mut *stored.algorithm.policy().unwrap())
        .unwrap();
    let summary = found.summary();
    let both = summary.contains("aiming at -200") && summary.contains("aiming at -1000");
    assert!(both, "{summary}");
    let table = out.join("evaluations.csv");
    let names = ["return_mean", "return_mean_aiming_at_-1000"];
    let last = *trajformer::metrics::table::numbers(&table, names)
        .unwrap()
        .last()
        .unwrap();
    let expected = [found.return_mean, found.by_target[1].return_mean];
    assert_eq!(last, expected);
}

#[test]
fn a_folder_of_unrelated_runs_is_not_taken_for_seeds() {
    let (folder, out) = trained("bc");
    let group = folder.path().join("group");
    fs::create_dir(&group).unwrap();
    fs::rename(&out, group.join("a")).unwrap();
    let other = config(folder.path(), "bc", &["algorithm.bc.batch_size=4"]);
    run::start(&other, &group.join("b")).unwrap();
    let lines = compare::compare(std::slice::from_ref(&group)).unwrap();
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line.run.clone(), line.seeds))
        .collect();
    assert_eq!(found, [(group.join("a"), 1), (group.join("b"), 1)]);
    // Folders that are called seeds have to be seeds.
    let seeds = folder.path().join("seeds");
    fs::create_dir(&seeds).unwrap();
    for (from, to) in [("a", "seed-0"), ("b", "seed-1")] {
        fs::rename(group.join(from), seeds.join(to)).unwrap();
    }
    let error = words(compare::compare(std::slice::from_ref(&seeds)));
    let named = error.contains("`algorithm.bc.batch_size` is 8 in") && error.contains("4 in");
    assert!(named, "{error}");
    for (from, to) in [("seed-0", "a"), ("seed-1", "b")] {
        fs::rename(seeds.join(from), group.join(to)).unwrap();
    }
    fs::remove_dir_all(group.join("b")).unwrap();
    let seed = config(folder.path(), "bc", &["seed=1"]);
    run::start(&seed, &group.join("b")).unwrap();
    assert_eq!(compare::compare(&[group]).unwrap()[0].seeds, 2);
}

fn hdf5(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data/hdf5_kinds");
    folder.join(name)
}

#[test]
fn half_floats_in_hdf5_are_read_and_links_are_followed() {
    for name in ["half.hdf5", "half_big_endian.hdf5", "soft_link.hdf5"] {
        let data = data::load_one(&hdf5(name)).unwrap();
        let observations: Vec<f32> = (0..12u8).map(|i| f32::from(i) / 8.0 - 0.5).collect();
        let rewards: Vec<f32> = (0..6u8).map(|i| f32::from(i) / 2.0).collect();
        assert_eq!(
            (data.observations, data.rewards),
            (observations, rewards),
            "{name}"
        );
    }
}

#[test]
fn errors_in_minari_files_name_the_episode() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = collect(400, 1);
    data.rewards[205] = f32::NAN;
    let path = folder.path().join("minari-v0");
    data::save(&data, &path).unwrap();
    let error = words(data::load_one(&path));
    assert!(error.contains("`episode_1/rewards`, row 5"), "{error}");
}

/// An array in NumPy's format.
fn npy(descr: &str, shape: &str, content: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(content);
    bytes
}

#[test]
fn text_instead_of_numbers_in_a_policy_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.npz");
    let env = envs::make("pendulum-v1").unwrap();
    let check = |texts: [&str; 2], culprit: &str| {
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        let stored = zip::write::SimpleFileOptions::default();
        let arrays = [
            ("w0", "(1, 3)", 3),
            ("b0", "(1,)", 1),
            ("log_std", "(1,)", 1),
        ];
        for (name, shape, count) in arrays {
            let array = if texts.contains(&name) {
                npy("<U1", shape, &u32::from('a').to_le_bytes().repeat(count))
            } else {
                npy("<f4", shape, &0.5f32.to_le_bytes().repeat(count))
            };
            archive.start_file(format!("{name}.npy"), stored).unwrap();
            archive.write_all(&array).unwrap();
        }
        archive.finish().unwrap();
        let options = FilePolicyOptions {
            sample: true,
            hidden_activation: Some(HiddenActivation::Relu),
            output: Some(OutputActivation::Tanh),
        };
        let error = words(FilePolicy::load(&path, env.spec(), &options));
        let expected = format!("array `{culprit}` holds text, expected numbers");
        assert!(error.contains(&expected), "{error}");
    };
    check(["b0", ""], "b0");
    check(["w0", ""], "w0");
    check(["log_std", ""], "log_std");
}
