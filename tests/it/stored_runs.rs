//! Runs that earlier versions trained open, act and go on learning as they did.
//!
//! `golden/runs/VERSION/RUN` is a run directory of that version, with two things beside it that the same version found:
//! `acting.npz`, an episode that the run acted in (seed 7), and `resumed.json`, the return after more updates; where updates draw noise also
//! `resumed.safetensors`, the networks after them.
//! Every release adds a folder.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use trajformer::evaluate::Evaluator;
use trajformer::{data, run};

/// Actions of another processor, whose products round otherwise, over [`STEPS`] steps.
const ACTION_TOLERANCE: f32 = 1e-3;
/// Steps that are compared: later ones amplify differences of rounding.
const STEPS: usize = 10;
/// Relative to the largest of a tensor, of weights after five more updates on another processor. Other noise moves them by 0.09 and more.
const WEIGHT_TOLERANCE: f32 = 1e-3;
/// Relative, of returns after five more updates on another processor.
const RETURN_TOLERANCE: f64 = 1e-2;

/// The stored runs, and the data of their version.
fn runs() -> Vec<(PathBuf, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs");
    let mut found = Vec::new();
    for version in fs::read_dir(folder).unwrap() {
        let version = version.unwrap().path();
        for run in fs::read_dir(&version).unwrap() {
            let run = run.unwrap().path();
            if run.is_dir() {
                found.push((run, version.join("data.npz")));
            }
        }
    }
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

#[test]
fn they_act_as_they_did() {
    for (folder, _) in runs() {
        let what = folder.display();
        let trained = run::open(&folder, &[]).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut settings = trained.config.evaluate.clone();
        (settings.episodes, settings.seed) = (1, 7);
        let mut evaluator = Evaluator::new(&settings).unwrap().unwrap();
        let mut policy = trained.algorithm.policy().unwrap();
        let (_, found) = evaluator.run_recorded(&mut *policy).unwrap();
        let expected = data::load_one(&folder.join("acting.npz")).unwrap();
        assert_eq!(found.actions.len(), expected.actions.len(), "{what}");
        let compared = STEPS * expected.action_dim;
        let pairs = found.actions.iter().zip(&expected.actions).take(compared);
        for (step, (found, expected)) in pairs.enumerate() {
            let close = (found - expected).abs() <= ACTION_TOLERANCE;
            assert!(close, "{what}: {found}, not {expected} in step {step}");
        }
    }
}

fn copy(run: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(run).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn they_go_on_learning() {
    let mut drew_noise = 0;
    for (stored, data) in runs() {
        let what = stored.display();
        let folder = copy(&stored);
        let text = fs::read_to_string(stored.join("resumed.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let overrides = [
            format!("train.updates={}", expected["updates"]),
            format!("data.path={}", data.display()),
        ];
        let outcome = run::resume(folder.path(), &overrides)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = outcome.evaluation.unwrap().return_mean;
        let expected = expected["return_mean"].as_f64().unwrap();
        let close = (found - expected).abs() <= RETURN_TOLERANCE * expected.abs();
        assert!(close, "{what}: {found}, not {expected}");
        let weights = stored.join("resumed.safetensors");
        if weights.exists() {
            compare(
                &folder.path().join("model.safetensors"),
                &weights,
                &what.to_string(),
            );
            drew_noise += 1;
        }
    }
    assert_eq!(drew_noise, 2);
}

fn compare(found: &Path, expected: &Path, what: &str) {
    let [found, expected] =
        [found, expected].map(|file| candle_core::safetensors::load(file, &Device::Cpu).unwrap());
    assert_eq!(found.len(), expected.len(), "{what}");
    for (name, expected) in expected {
        let error = (&found[&name] - &expected).unwrap();
        let [error, largest] = [error, expected].map(|tensor| {
            let largest = tensor.abs().unwrap().max_all().unwrap();
            largest.to_scalar::<f32>().unwrap()
        });
        assert!(
            error <= WEIGHT_TOLERANCE * largest,
            "{what}: {name} is off by {error:e} of {largest}"
        );
    }
}

#[test]
fn a_run_whose_random_stream_has_an_unknown_version_is_refused() {
    let (stored, data) = runs().swap_remove(0);
    let folder = copy(&stored);
    let state = folder.path().join("state.toml");
    let text = fs::read_to_string(&state).unwrap();
    for (rng, problem) in [
        ("rng = \"3:", "version 3"),
        ("rng = \"x", "not a random stream's state"),
    ] {
        fs::write(&state, text.replace("rng = \"", rng)).unwrap();
        let overrides = [
            "train.updates=15".to_owned(),
            format!("data.path={}", data.display()),
        ];
        let error = run::resume(folder.path(), &overrides)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(problem) && error.contains("state.toml"),
            "{error}"
        );
    }
}
