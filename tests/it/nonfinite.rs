//! Losses that are not finite: where training stops and what it says, and steps that are left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device};
use serde_json::Value;
use trajformer::checkpoint::RunDir;
use trajformer::config::RunConfig;
use trajformer::metrics::table::Table;
use trajformer::{data, run};

use crate::runs::{check_same_checkpoint, config, pendulum_data};

/// Steps whose rewards single precision holds, and the square of no error near them.
const EXTREME: usize = 100;

fn write_data(folder: &Path, steps: usize) {
    let mut data = pendulum_data();
    data.rewards[EXTREME..EXTREME + steps].fill(3e38);
    data::save(&data, &folder.join("data.npz")).unwrap();
}

fn small(folder: &Path, algorithm: &str, updates: u64, overrides: &[&str]) -> RunConfig {
    let mut all = vec!["evaluate.episodes=0".to_owned()];
    all.extend(overrides.iter().map(|&text| text.to_owned()));
    config(folder, algorithm, updates)
        .with_overrides(&all)
        .unwrap()
}

const SKIP: &str = "train.on_nonfinite=\"skip\"";

fn fault(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("nonfinite.json")).unwrap()).unwrap()
}

/// The numbers of a column of `metrics.csv`; of empty cells none.
fn column(out: &Path, name: &str) -> Vec<Option<f64>> {
    let table = Table::read(&out.join("metrics.csv")).unwrap();
    let at = table.columns.iter().position(|column| column == name);
    let at = at.unwrap_or_else(|| panic!("{name}: {:?}", table.columns));
    table.rows.iter().map(|row| row[at].parse().ok()).collect()
}

fn trained(folder: &Path, config: &RunConfig, name: &str) -> PathBuf {
    let out = folder.join(name);
    run::start(config, &out).unwrap();
    out
}

#[test]
fn it_stops_before_the_step_and_names_the_network_and_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder, 1);
    let out = folder.join("run");
    let config = small(folder, "td3_bc", 400, &[]);
    let error = run::start(&config, &out).unwrap_err().to_string();
    let fault = fault(&out);
    let update = fault["update"].as_u64().unwrap();
    let checkpoint = (update - 1) / 5 * 5;
    let file = out.join("nonfinite.json").display().to_string();
    for said in [
        format!("training stopped at update {update}: the loss of `model.critics` is inf"),
        "the batch has steps ".to_owned(),
        format!(" and 11 more, all in {file}"),
        "`train.on_nonfinite = \"skip\"`".to_owned(),
        format!("the checkpoint of update {checkpoint} in"),
    ] {
        assert!(error.contains(&said), "{said}: {error}");
    }
    assert_eq!(fault["checkpoint"].as_u64(), Some(checkpoint));
    assert_eq!(fault["problem"], "the loss of `model.critics` is inf");
    let batches = fault["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 1, "one batch an update");
    let steps = batches[0]["numbers"].as_array().unwrap();
    assert_eq!(
        (steps.len(), &batches[0]["of"]),
        (16, &Value::from("steps"))
    );
    assert!(steps.contains(&Value::from(EXTREME)), "{steps:?}");
    // What was saved is what a shorter run has, and a report says why the run ends there.
    let shorter = small(folder, "td3_bc", checkpoint, &[]);
    check_same_checkpoint(&out, &trained(folder, &shorter, "shorter"), "before");
    let page = folder.join("report.html");
    let mut report = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    report.args([Path::new("report"), &out, Path::new("--out"), &page]);
    assert!(report.output().unwrap().status.success());
    let page = fs::read_to_string(page).unwrap();
    let said = format!("stopped at update {update}: the loss of `model.critics` is inf");
    assert!(page.contains(&said), "{said}");
    // Resumed with `skip` it goes on past that update.
    let outcome = run::resume(&out, &[SKIP.to_owned()]).unwrap();
    assert_eq!(outcome.update, 400);
}

#[test]
fn steps_that_are_left_out_change_nothing_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder, 40);
    for algorithm in ["td3_bc", "awac", "rebrac"] {
        let config = small(folder, algorithm, 60, &[SKIP]);
        let out = trained(folder, &config, algorithm);
        let shares = column(&out, "skipped_share");
        let skipped: f64 = shares.iter().map(|share| share.unwrap()).sum();
        assert!(skipped > 0.0, "{algorithm}: no batch had the step");
        for group in ["model", "policy", "training"] {
            let path = out.join(format!("{group}.safetensors"));
            for (name, tensor) in candle_core::safetensors::load(path, &Device::Cpu).unwrap() {
                let numbers = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                let numbers = numbers.to_vec1::<f64>().unwrap();
                assert!(numbers.iter().all(|x| x.is_finite()), "{algorithm}: {name}");
            }
        }
        assert!(!out.join("nonfinite.json").exists(), "nothing stopped it");
        // Broken off and resumed it has the same bits, and counts the same.
        let half = small(folder, algorithm, 33, &[SKIP]);
        let again = trained(folder, &half, &format!("{algorithm}-again"));
        run::resume(&again, &["train.updates=60".to_owned()]).unwrap();
        check_same_checkpoint(&out, &again, algorithm);
    }
}

#[test]
fn where_nothing_is_wrong_skipping_has_the_bits_of_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    crate::runs::write_data(folder);
    for algorithm in ["cql", "trajectory_transformer"] {
        let stop = trained(folder, &small(folder, algorithm, 10, &[]), algorithm);
        let config = small(folder, algorithm, 10, &[SKIP]);
        let skip = trained(folder, &config, &format!("{algorithm}-skip"));
        check_same_checkpoint(&stop, &skip, algorithm);
        let none = column(&skip, "skipped_share");
        assert!(none.iter().all(|share| *share == Some(0.0)), "{none:?}");
    }
}

#[test]
fn too_many_steps_in_a_row_end_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut data = pendulum_data();
    data.rewards.fill(3e38);
    data::save(&data, &folder.join("data.npz")).unwrap();
    let out = folder.join("run");
    let config = small(folder, "td3_bc", 50, &[SKIP, "train.nonfinite_limit=7"]);
    let error = run::start(&config, &out).unwrap_err().to_string();
    let said = [
        "stopped at update 7: the loss of `model.critics` is inf",
        "as in the 6 updates before, and `train.nonfinite_limit` is 7",
    ];
    assert!(said.iter().all(|said| error.contains(said)), "{error}");
    // The count goes on where the run does: the checkpoint is of update 5.
    let state = RunDir::open(&out).unwrap().state().unwrap().unwrap();
    assert_eq!((state.update, state.skipped_in_a_row), (5, 5));
    let error = run::resume(&out, &[]).unwrap_err().to_string();
    assert!(error.contains("stopped at update 7"), "{error}");
    // Weights that a rate has driven to infinity don't come back.
    crate::runs::write_data(folder);
    let rate = "algorithm.decision_transformer.learning_rate=1e39";
    // A checkpoint would find them first.
    let seldom = "train.checkpoint_every_updates=50";
    let config = small(folder, "decision_transformer", 50, &[SKIP, rate, seldom]);
    let error = run::start(&config, &folder.join("sequences")).unwrap_err();
    let error = error.to_string();
    let said = ["the loss of `model` is", "`train.nonfinite_limit` is 10"];
    assert!(said.iter().all(|said| error.contains(said)), "{error}");
    let error = small_error(folder, "train.nonfinite_limit=0");
    assert!(error.contains("train.nonfinite_limit"), "{error}");
}

fn small_error(folder: &Path, setting: &str) -> String {
    let config = config(folder, "td3_bc", 5);
    let found = config.with_overrides(&[setting.to_owned()]);
    found
        .and_then(|config| config.check())
        .unwrap_err()
        .to_string()
}
