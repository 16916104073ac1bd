//! Runs that earlier versions trained open, act and go on learning as they did.
//!
//! `golden/runs/VERSION/RUN` is a run directory of that version, with two things beside it that the same version found:
//! `acting.npz`, an episode that the run acted in (seed 7), and `resumed.json`, the return after more updates.
//! Every release adds a folder.

use std::fs;
use std::path::{Path, PathBuf};

use trajformer::evaluate::Evaluator;
use trajformer::{data, run};

/// Actions of another processor, whose products round otherwise, over [`STEPS`] steps.
const ACTION_TOLERANCE: f32 = 1e-3;
/// Steps that are compared: later ones amplify differences of rounding.
const STEPS: usize = 10;
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

#[test]
fn they_go_on_learning() {
    for (stored, data) in runs() {
        let what = stored.display();
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(&stored).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
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
    }
}
