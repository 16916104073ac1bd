//! Policies as ONNX graphs: what they compute, and the files that onnxruntime has confirmed.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use trajformer::algorithms::ALGORITHMS;
use trajformer::pretrained::Request;
use trajformer::{export, run};

use crate::golden::{Golden, check_close};
use crate::runs::{config, write_data};

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
        let mut trained = run::open(&out, &[]).unwrap();
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
                assert!(
                    error.contains("more than one network"),
                    "{}: {error}",
                    algorithm.name
                );
                assert!(!file.exists());
                refused.push(algorithm.name);
            }
        }
    }
    let expected = [
        "bear",
        "brac",
        "crr",
        "fast",
        "lamo",
        "trajectory_transformer",
    ];
    assert_eq!(refused, expected);
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
        let mut trained = run::open_with(&run, &Request::default()).unwrap();
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
