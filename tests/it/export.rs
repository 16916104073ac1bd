//! Policies as ONNX graphs: what they compute, and the files that onnxruntime has confirmed.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use trajformer::algorithms::ALGORITHMS;
use trajformer::policy::EpisodeStart;
use trajformer::rng::Rng;
use trajformer::{export, run};

use crate::golden::{Golden, check_close};
use crate::runs::{SEAL, config, write_data};

/// Single precision in another order of sums.
const TOLERANCE: f64 = 1e-5;

#[test]
fn every_policy_that_is_one_network_becomes_a_graph_that_acts_like_it() {
    let mut refused = Vec::new();
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        write_data(folder.path());
        let out = folder.path().join("run");
        run::start(&config(folder.path(), algorithm.name, 5), &out).unwrap();
        let mut trained = export::open(&out, &[]).unwrap();
        let file = folder.path().join("policy.onnx");
        match export::write(&mut trained, &file) {
            Ok(graph) => {
                assert_eq!(
                    graph.output,
                    ("action".to_owned(), vec![1]),
                    "{}",
                    algorithm.name
                );
                let error = export::write(&mut trained, &file).unwrap_err().to_string();
                assert!(error.contains("exists already"), "{error}");
            }
            Err(error) => {
                let error = error.to_string();
                let reasons = ["more than one network", "no graph is written for it"];
                assert!(
                    reasons.iter().any(|reason| error.contains(reason)),
                    "{}: {error}",
                    algorithm.name
                );
                assert!(!file.exists());
                refused.push(algorithm.name);
            }
        }
    }
    let expected = [
        "fast",
        "lamo",
        "online_dt",
        "qt",
        "reinformer",
        "tap",
        "trajectory_transformer",
    ];
    assert_eq!(refused, expected);
}

/// What `evaluate` does with the key that the warning of an export names.
#[test]
fn policies_that_choose_among_samples_are_exported_as_what_they_do_without_samples() {
    for (name, key) in [
        ("bear", "acting_samples=0"),
        ("brac", "acting_samples=0"),
        ("crr", "weighted_acting=false"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_data(folder.path());
        let out = folder.path().join("run");
        run::start(&config(folder.path(), name, 5), &out).unwrap();
        let graph = export::graph_of(&mut export::open(&out, &[]).unwrap()).unwrap();
        let observations = [[0.3f32, -0.2, 1.5], [1.0, 0.0, -4.0]];
        let observations = Tensor::new(&observations, &candle_core::Device::Cpu).unwrap();
        let exported = graph.run(std::slice::from_ref(&observations)).unwrap();
        let acts = |overrides: &[String]| {
            let trained = run::open(&out, overrides).unwrap();
            let mut policy = trained.algorithm.policy().unwrap();
            let start = EpisodeStart {
                rng: Rng::from_seed(0),
                target_return: None,
                goal: None,
                instruction: None,
            };
            policy.begin(&[start.clone(), start]).unwrap();
            assert_eq!(policy.draws(), overrides.is_empty(), "{name}");
            policy.act(&observations, &[true; 2]).unwrap()
        };
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mean = acts(&[format!("algorithm.{name}.{key}")]);
        for (found, expected) in numbers(&exported).into_iter().zip(numbers(&mean)) {
            assert!(f64::from((found - expected).abs()) < TOLERANCE, "{name}");
        }
        assert_ne!(numbers(&acts(&[])), numbers(&mean), "{name}");
    }
}

/// BRAC's behavior policy acts while it is fitted, its actor afterwards.
#[test]
fn brac_is_exported_at_any_time_as_the_mean_that_acts_then() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let mut constants = Vec::new();
    for behavior_updates in [2, 100] {
        let out = folder.path().join(format!("run-{behavior_updates}"));
        let fitted = "algorithm.brac.behavior_updates=2".to_owned();
        let config = config(folder.path(), "brac", 5).with_overrides(&[fitted]);
        run::start(&config.unwrap(), &out).unwrap();
        // As if it had been broken off after 5 of many updates.
        for (file, before) in [
            ("config.toml", "behavior_updates = 2"),
            ("config.json", "\"algorithm.brac.behavior_updates\": \"2\""),
        ] {
            let stored = std::fs::read_to_string(out.join(file)).unwrap();
            assert!(stored.contains(before), "{file}: {stored}");
            let now = before.replace('2', &behavior_updates.to_string());
            let changed = stored.replace(before, &now).replace(SEAL, "");
            std::fs::write(out.join(file), changed).unwrap();
        }
        // Compared with the policy where it is made.
        let graph = export::graph_of(&mut export::open(&out, &[]).unwrap()).unwrap();
        let weights = graph.constants.into_iter().map(|(name, _)| name);
        constants.push(weights.collect::<Vec<_>>());
    }
    for (constants, front) in constants.iter().zip(["actor.net", "behavior.net"]) {
        assert!(
            constants.iter().any(|name| name.starts_with(front)),
            "{constants:?}"
        );
    }
}

/// Time steps after the last that the network knows, and before the first, count as these.
#[test]
fn a_decision_transformer_is_exported_beyond_its_last_time_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = completed(folder.path());
    let mut trained = run::open(&run, &[]).unwrap();
    let graph = export::graph_of(&mut trained).unwrap();
    let k = graph.inputs[0].dims[0];
    let at = |first: i64| {
        let tensors = graph.inputs.iter().map(|input| {
            let shape: Vec<usize> = [&[1], &input.dims[..]].concat();
            match input.name.as_str() {
                "timesteps" => {
                    let steps = (first..first + k as i64).collect::<Vec<_>>();
                    Tensor::from_vec(steps, shape, &candle_core::Device::Cpu).unwrap()
                }
                "attention_mask" => {
                    Tensor::ones(shape, DType::F32, &candle_core::Device::Cpu).unwrap()
                }
                _ => Tensor::full(0.3f32, shape, &candle_core::Device::Cpu).unwrap(),
            }
        });
        let found = graph.run(&tensors.collect::<Vec<_>>()).unwrap();
        found.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    // The table has 60 rows.
    assert_eq!(at(60), at(1000));
    assert_eq!(at(-1000), at(-20));
    assert_ne!(at(60), at(30));
    assert_ne!(at(-20), at(0));
    for (input, words) in graph.inputs.iter().zip([
        "in the environment's units",
        "is not looked at",
        "the target, less all rewards received",
        "above 59 counts as 59",
        "0 for padding",
    ]) {
        assert!(
            input.meaning.contains(words),
            "{}: {}",
            input.name,
            input.meaning
        );
    }
    assert!(
        graph.meaning.contains("less the reward received")
            && graph.meaning.contains("divides returns by 1000"),
        "{}",
        graph.meaning
    );
}

fn fixture(name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden.join(name)
}

/// The tiny Decision Transformer of the Hub's fixtures in a folder, with what stands beside its weights.
fn completed(folder: &Path) -> PathBuf {
    let run = folder.join("transformer");
    fs::create_dir(&run).unwrap();
    for file in [
        "onnx/policy.safetensors",
        "hub/decision_transformer/config.json",
        "hub/decision_transformer/model.safetensors",
    ] {
        let file = fixture(file);
        fs::copy(&file, run.join(file.file_name().unwrap())).unwrap();
    }
    run
}

#[test]
fn every_activation_of_a_decision_transformer_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let run = completed(folder.path());
    let config = run.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    for activation in ["gelu", "gelu_new"] {
        let changed = text.replace("\"relu\"", &format!("\"{activation}\""));
        fs::write(&config, changed).unwrap();
        let mut trained = run::open(&run, &[]).unwrap();
        // Compares with the policy by itself.
        let graph = export::graph_of(&mut trained).unwrap();
        let ops: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
        assert!(!ops.contains(&"Relu"), "{activation}");
    }
}

/// `tests/golden/onnx.py` has run these very files in onnxruntime.
#[test]
fn files_are_those_that_onnxruntime_has_confirmed() {
    let golden = Golden::load("onnx");
    let folder = tempfile::tempdir().unwrap();
    let transformer = completed(folder.path());
    for (name, run, inputs) in [
        ("bc", fixture("onnx/bc"), &["observation"][..]),
        ("bear", fixture("onnx/bear"), &["observation"][..]),
        (
            "decision_transformer",
            transformer,
            &[
                "observations",
                "actions",
                "returns_to_go",
                "timesteps",
                "attention_mask",
            ],
        ),
    ] {
        let mut trained = export::open(&run, &[]).unwrap();
        let file = folder.path().join(format!("{name}.onnx"));
        let graph = export::write(&mut trained, &file).unwrap();
        let checksum = crc32fast::hash(&fs::read(&file).unwrap());
        assert_eq!(
            golden.integer(&format!("{name}.crc32")),
            checksum as usize,
            "{name}"
        );
        let declared: Vec<&str> = graph
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .collect();
        assert_eq!(declared, inputs);
        let fed = |input: &export::graph::Input| {
            let tensor = golden.tensor(&format!("{name}.{}", input.name));
            tensor.to_dtype(input.dtype).unwrap()
        };
        let fed: Vec<Tensor> = graph.inputs.iter().map(fed).collect();
        let found = graph.run(&fed).unwrap().to_dtype(DType::F64).unwrap();
        check_close(
            name,
            &found,
            golden.tensor(&format!("{name}.action")),
            TOLERANCE,
        );
    }
}

/// The value of `environment` in a file's metadata: what stands before the key's value in the protocol buffer is its length.
fn environment(file: &Path) -> String {
    let bytes = fs::read(file).unwrap();
    let key = b"\x0a\x0benvironment\x12";
    let at = bytes
        .windows(key.len())
        .rposition(|part| part == key)
        .unwrap()
        + key.len();
    let length = usize::from(bytes[at]);
    String::from_utf8(bytes[at + 1..at + 1 + length].to_vec()).unwrap()
}

#[test]
fn a_file_names_the_environment_that_its_policy_fits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let data = trajformer::data::load_one(&folder.join("data.npz")).unwrap();
    let named = |name: Option<&str>| trajformer::Dataset {
        env_name: name.map(str::to_owned),
        ..data.clone()
    };
    let exported = |env: Option<&str>, data: &trajformer::Dataset| {
        let mut config = config(folder, "bc", 2);
        config.evaluate.env = env.map(str::to_owned);
        config.evaluate.episodes = 0;
        let mut trained = trajformer::fit(data, &config).unwrap();
        let file = folder.join("named.onnx");
        fs::remove_file(&file).ok();
        export::write(&mut trained, &file).unwrap();
        environment(&file)
    };
    assert_eq!(exported(Some("pendulum-v1"), &named(None)), "pendulum-v1");
    // Nothing scored, and so nothing found out that the maze is another environment.
    assert_eq!(exported(Some("pointmaze-umaze"), &named(None)), "");
    let of_data = exported(Some("pointmaze-umaze"), &named(Some("Pendulum-v1")));
    assert_eq!(of_data, "Pendulum-v1");
    assert_eq!(exported(None, &named(Some("MyArm-v0"))), "MyArm-v0");
    assert_eq!(exported(None, &named(None)), "");
}
