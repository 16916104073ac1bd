//! Runs that were killed between their creation and their first checkpoint: all that they have is `config.toml` and
//! `config.json`, and they resume to the bits of a run that nothing disturbed.

use std::fs;
use std::path::{Path, PathBuf};

use trajformer::algorithms::ALGORITHMS;
use trajformer::config::RunConfig;
use trajformer::run::RunOptions;
use trajformer::{data, run};

use crate::instructions;
use crate::runs::{check_same_run, config, write_data};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// What is left in `killed` of the run in `whole` if it was killed before its first checkpoint.
fn leave_configuration(whole: &Path, killed: &Path) {
    fs::create_dir_all(killed).unwrap();
    for file in ["config.toml", "config.json"] {
        fs::copy(whole.join(file), killed.join(file)).unwrap();
    }
}

/// Trains `config` undisturbed and killed before its first checkpoint, and compares everything that the two keep.
fn check(config: &RunConfig, folder: &Path, what: &str) {
    let (whole, killed) = (folder.join("whole"), folder.join("killed"));
    run::start(config, &whole).unwrap();
    leave_configuration(&whole, &killed);
    run::resume(&killed, &[]).unwrap();
    check_same_run(&whole, &killed, what);
    let instructions = |run: &Path| fs::read(run.join("instructions.safetensors")).ok();
    assert!(instructions(&whole) == instructions(&killed), "{what}");
    run::open(&killed, &[]).unwrap();
}

/// Keys of the algorithm's table that name files beside the data, where an algorithm has such keys.
fn with_files(algorithm: &str, folder: &Path) -> Vec<String> {
    let set = |key: &str, value: &Path| format!("algorithm.{algorithm}.{key}={}", value.display());
    match algorithm {
        "lamo" => {
            let text = folder.join("text.txt");
            fs::write(
                &text,
                "the robot hops over the hill and back again\n".repeat(40),
            )
            .unwrap();
            vec![
                set("pretrained", &golden("text/gpt2")),
                set("text.path", &text),
                "algorithm.lamo.text.batch_size=2".to_owned(),
                "algorithm.lamo.text.sequence_tokens=6".to_owned(),
                "algorithm.lamo.text.vocabulary=300".to_owned(),
            ]
        }
        "fast" => vec![
            set("tokenizer", &golden("fast_tokenizer")),
            "algorithm.fast.vocab_size=512".to_owned(),
        ],
        _ => Vec::new(),
    }
}

#[test]
fn every_algorithm_killed_before_its_first_checkpoint_resumes_to_the_bits_of_an_undisturbed_run() {
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_data(folder);
        let plain = config(folder, algorithm.name, 5);
        check(&plain, &folder.join("plain"), algorithm.name);
        let files = with_files(algorithm.name, folder);
        if !files.is_empty() {
            let config = plain.with_overrides(&files).unwrap();
            let what = format!("{} with files", algorithm.name);
            check(&config, &folder.join("files"), &what);
        }
    }
}

#[test]
fn what_a_killed_process_has_left_beside_a_runs_files_is_removed_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let out = folder.join("run");
    run::start(&config(folder, "bc", 5), &out).unwrap();
    let left = [
        "state.toml.17.tmp",
        "metrics.csv.4711.tmp",
        "config.toml.9.tmp",
    ];
    let somebodys = [
        "state.toml.tmp",
        "metrics.csv.old.tmp",
        "notes.17.tmp",
        "metrics.csv.tmp.17",
    ];
    for name in left.iter().chain(&somebodys) {
        fs::write(out.join(name), "half").unwrap();
    }
    run::resume(&out, &["train.updates=7".to_owned()]).unwrap();
    let there = |name: &str| out.join(name).exists();
    assert!(!left.iter().any(|name| there(name)));
    assert!(somebodys.iter().all(|name| there(name)));
}

#[test]
fn a_run_killed_while_it_is_made_can_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    data::save(&instructions::rooms(1000), &folder.join("rooms.npz")).unwrap();
    let text = instructions::with_text(&golden("text/bert"));
    let told = instructions::config(folder, 4, &text);
    let plain = config(folder, "bc", 5);
    for (next, name) in [(&told, "told"), (&plain, "plain")] {
        let out = folder.join(name);
        // `config.toml`, the last file, can't be written.
        let obstacle = out.join(format!("config.toml.{}.tmp", std::process::id()));
        fs::create_dir_all(&obstacle).unwrap();
        run::start(&told, &out).unwrap_err();
        for file in ["instructions.safetensors", "config.json"] {
            assert!(out.join(file).exists(), "{name}: {file}");
        }
        fs::remove_dir(&obstacle).unwrap();
        let whole = folder.join(format!("{name}-whole"));
        run::start(next, &whole).unwrap();
        run::start(next, &out).unwrap();
        check_same_run(&whole, &out, name);
        for file in ["instructions.safetensors", "unfinished"] {
            let there = |run: &Path| run.join(file).exists();
            assert_eq!(there(&out), there(&whole), "{name}: {file}");
        }
        assert!(!out.join("unfinished").exists(), "{name}");
        run::open(&out, &[]).unwrap();
    }
    // Without the word for it, files of a run are somebody's.
    let out = folder.join("somebodys");
    fs::create_dir(&out).unwrap();
    fs::copy(folder.join("told/config.json"), out.join("config.json")).unwrap();
    run::start(&plain, &out).unwrap_err();
    fs::write(out.join("unfinished"), "").unwrap();
    fs::write(out.join("metrics.csv"), "").unwrap();
    run::start(&plain, &out).unwrap_err();
    fs::remove_file(out.join("metrics.csv")).unwrap();
    run::start(&plain, &out).unwrap();
}

#[test]
fn a_series_goes_on_with_a_seed_that_was_killed_before_its_first_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = with_files("lamo", folder);
    let config = config(folder, "lamo", 5).with_overrides(&keys).unwrap();
    let (whole, killed) = (folder.join("whole"), folder.join("killed"));
    let options = RunOptions::default();
    assert_eq!(
        run::series(&config, &whole, &[7], &options)
            .unwrap()
            .outcomes
            .len(),
        1
    );
    leave_configuration(&whole.join("seed-7"), &killed.join("seed-7"));
    let series = run::series(&config, &killed, &[7], &options).unwrap();
    assert!(series.failures.is_empty(), "{:?}", series.failures);
    check_same_run(&whole.join("seed-7"), &killed.join("seed-7"), "seed 7");
}

#[test]
fn a_run_with_instructions_killed_before_its_first_checkpoint_embeds_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&instructions::rooms(1000), &folder.join("rooms.npz")).unwrap();
    let text = instructions::with_text(&golden("text/bert"));
    let decision_transformer = instructions::config(folder, 4, &text);
    let [trajectory_transformer, fast] = instructions::token_models(folder, 4);
    for config in [decision_transformer, trajectory_transformer, fast] {
        let name = config.algorithm.name();
        let scored = ["evaluate.episodes=1".to_owned()];
        let config = config.with_overrides(&scored).unwrap();
        check(&config, &folder.join(name), name);
    }
}
