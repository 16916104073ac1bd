//! The command itself: exit codes, what it prints, closed pipes, full disks and Ctrl-C.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("TRAJFORMER_LOG", "info")
        .env("RAYON_NUM_THREADS", "1");
    command
}

/// A command in `folder` that knows nothing of this machine's Hub, proxies and caches, and reaches nobody but this machine.
pub fn isolated(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    for name in [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN",
        "HF_HUB_DOWNLOAD_TIMEOUT",
        "SSL_CERT_FILE",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("HF_HOME", folder.join("home"));
    command
}

/// What a command ends with.
pub fn output(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a command that succeeds.
pub fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let found = output(folder, arguments);
    assert!(
        found.status.success(),
        "{arguments:?}: {}{}",
        text(&found.stdout),
        text(&found.stderr)
    );
    text(&found.stdout)
}

/// Standard error of a command that ends with status 1 and no panic.
pub fn fails(folder: &Path, arguments: &[&str]) -> String {
    let found = output(folder, arguments);
    let errors = text(&found.stderr);
    assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
    errors
}

fn last_json(output: &str) -> Value {
    serde_json::from_str(output.lines().last().expect("a line")).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

fn collect(folder: &Path, policy: &str) {
    let collect = [
        "data",
        "collect",
        "--env",
        "pendulum-v1",
        "--policy",
        policy,
    ];
    let to = ["--steps", "400", "data.npz"];
    succeeds(folder, &[&collect[..], &to[..]].concat());
}

/// A small run on pendulum: `train`, `evaluate` and `algorithm` are lines of their tables.
fn write_config(folder: &Path, train: &str, evaluate: &str, algorithm: &str) {
    let text = format!(
        "[data]\npath = \"data.npz\"\n[train]\n{train}\n[evaluate]\nenv = \"pendulum-v1\"\n\
         {evaluate}\n{algorithm}\n"
    );
    fs::write(folder.join("run.toml"), text).unwrap();
}

const SMALL: &str = "[algorithm.bc]\nbatch_size = 8\nhidden = [8]";

/// A folder with data and a small run in `run`.
pub fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    collect(path, "random");
    let train = "updates = 4\ncheckpoint_every_updates = 2\nlog_every_updates = 2";
    write_config(path, train, "episodes = 2\nevery_updates = 2", SMALL);
    succeeds(path, &["train", "run.toml", "--out", "run"]);
    folder
}

#[test]
fn errors_name_the_flags_that_mend_them() {
    let folder = trained();
    let folder = folder.path();
    let check = |arguments: &[&str], words: &[&str]| {
        let errors = fails(folder, arguments);
        for word in words {
            assert!(errors.contains(word), "{arguments:?}: {errors}");
        }
        errors
    };
    let train = |more: &[&'static str]| [&["train", "run.toml", "--out", "new"], more].concat();
    check(
        &["train", "run.toml", "--out", "run"],
        &[
            "there is a run already",
            "`train --resume run`",
            "`--out DIR`",
        ],
    );
    let word = [
        "`--set planner.likelihood_of=3`: `planner.likelihood_of`: found 3, expected ",
        "`plan`",
        "`code`",
    ];
    let plan = ["bench", "plan", "--algorithm", "tap", "--set"];
    check(&[&plan[..], &["planner.likelihood_of=3"]].concat(), &word);
    check(
        &[
            "bench",
            "update",
            "--algorithm",
            "bc",
            "--set",
            "fractoin=1",
        ],
        &[
            "`--set fractoin=1`",
            "unknown field `fractoin`",
            "`fraction`",
        ],
    );
    check(
        &train(&["--set", "data.path=[]"]),
        &["`data.path` is not set", "`--set data.path=FILE`"],
    );
    check(
        &train(&["--set", "train.updates=0"]),
        &["`--set train.updates=0`: `train.updates` is 0, expected at least 1"],
    );
    check(
        &["evaluate", "run", "--instruction", "go"],
        &["trained without instructions", "(`--instruction`)"],
    );
    let zero = ["--env", "pendulum-v1", "--policy", "zero", "--sample"];
    check(
        &[
            &["data", "collect"],
            &zero[..],
            &["--steps", "5", "new.npz"],
        ]
        .concat(),
        &["no distribution to sample from", "leave `--sample` out"],
    );
    // Only the `data` commands have flags for keys of `[data]`.
    let columns = "`data.observation_columns`";
    let flag = "(`--observation-columns`) is 0..99";
    check(
        &["data", "info", "data.npz", "--observation-columns", "0..99"],
        &[columns, flag],
    );
    let errors = check(
        &train(&["--set", "data.observation_columns=0..99"]),
        &[columns],
    );
    assert!(!errors.contains("--observation-columns"), "{errors}");
    let differences = ["config", "show", "run.toml", "--differences"];
    let differences = [&differences[..], &["--set", "seed=3"]].concat();
    let found = succeeds(folder, &differences);
    assert!(
        found.contains("seed = 3 (there 0), set by --set seed=3"),
        "{found}"
    );
    // Without its state a checkpoint can't go on; without its tensors there is none.
    fs::remove_file(folder.join("run/state.toml")).unwrap();
    for arguments in [&["evaluate", "run"][..], &["train", "--resume", "run"]] {
        let errors = check(
            arguments,
            &["state.toml is missing", "from a copy", "config.toml"],
        );
        assert!(!errors.contains("`--"), "{errors}");
    }
    for file in [
        "model.safetensors",
        "policy.safetensors",
        "training.safetensors",
    ] {
        fs::remove_file(folder.join("run").join(file)).unwrap();
    }
    check(
        &["evaluate", "run"],
        &["it has no checkpoint yet", "(`train --resume run`)"],
    );
}

#[test]
fn every_command_prints_one_json_object_with_its_keys_last() {
    let folder = trained();
    let folder = folder.path();
    let check = |arguments: &[&str], expected: &[&str]| {
        let found = last_json(&succeeds(folder, &[arguments, &["--json"]].concat()));
        assert_eq!(keys(&found), expected, "{arguments:?}");
        found
    };
    let training = [
        "interrupted",
        "return_best",
        "return_mean",
        "return_std",
        "run",
        "runs",
        "score_best",
        "score_mean",
        "score_std",
        "seconds",
        "updates",
        "updates_per_s",
    ];
    let one = check(&["train", "run.toml", "--out", "one"], &training);
    assert!(
        one["score_best"].is_null() && one["return_mean"].is_number(),
        "{one}"
    );
    let both = check(
        &["train", "run.toml", "--out", "two", "--seeds", "0..2"],
        &training,
    );
    assert!(
        both["return_std"].is_number() && both["run"] == "two",
        "{both}"
    );
    let evaluation = [
        "env",
        "episodes",
        "lengths",
        "return_mean",
        "return_std",
        "returns",
        "sampled",
        "score_mean",
        "score_std",
        "seed",
    ];
    check(&["evaluate", "run"], &evaluation);
    let comparison = ["keys", "notes", "over_tasks", "runs", "skipped"];
    let compared = check(&["compare", "run", "two"], &comparison);
    let line = [
        "algorithm",
        "best",
        "env",
        "episodes",
        "highest_mean",
        "highest_mean_update",
        "interval",
        "keys",
        "last",
        "last_std",
        "name",
        "normalized",
        "run",
        "runs",
        "scores",
        "seconds",
        "seeds",
        "task",
        "update",
    ];
    assert_eq!(keys(&compared["runs"][0]), line);
    let info = last_json(&succeeds(folder, &["data", "info", "data.npz", "--json"]));
    assert_eq!(info["episodes"], 2);
    let planner = "[algorithm.trajectory_transformer]\nbins = 5\nbatch_size = 2\nlayers = 1\n\
                   heads = 1\nembedding_per_head = 4\nplanner.horizon = 2\nplanner.beam_width = 2";
    write_config(folder, "updates = 1", "episodes = 0", planner);
    succeeds(folder, &["train", "run.toml", "--out", "planner"]);
    let plan = [
        "beams",
        "horizon",
        "predicted_rewards",
        "rewards",
        "seconds",
    ];
    check(&["plan", "planner"], &plan);
    let whole = [
        "algorithm",
        "data",
        "device",
        "evaluate",
        "online",
        "seed",
        "train",
    ];
    check(&["config", "show", "run.toml"], &whole);
    let differs = [
        "algorithm",
        "config",
        "extends",
        "from_defaults",
        "from_extended",
    ];
    let differences = ["config", "show", "run.toml", "--differences"];
    let found = check(&differences, &differs);
    assert!(found["extends"].is_null(), "{found}");
    let bench = [
        "bench",
        "critics",
        "--members",
        "1",
        "--hidden",
        "4",
        "--seconds",
        "0.01",
    ];
    let found = last_json(&succeeds(folder, &[&bench[..], &["--json"]].concat()));
    assert!(found.is_object());
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_who_leaves_is_no_error_and_a_full_disk_is_one() {
    let folder = trained();
    let folder = folder.path();
    let commands: [&[&str]; 7] = [
        &["data", "info", "data.npz"],
        &["config", "show", "run.toml"],
        &["evaluate", "run", "--json"],
        &["compare", "run"],
        &["train", "--resume", "run"],
        &["bench", "envs", "--env", "pendulum-v1", "--seconds", "0.01"],
        &["--help"],
    ];
    for arguments in commands {
        // Closed before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let found = command(folder, arguments).stdout(writer).output().unwrap();
        assert!(
            found.status.success(),
            "{arguments:?}: {}",
            text(&found.stderr)
        );
        if arguments == ["--help"] {
            continue; // clap's own
        }
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let found = command(folder, arguments).stdout(full).output().unwrap();
        let errors = text(&found.stderr);
        assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(
            errors.contains("standard output: No space left"),
            "{errors}"
        );
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn training_does_not_depend_on_who_reads_its_log() {
    let folder = trained();
    let folder = folder.path();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    for (out, log) in [("a", Stdio::from(writer)), ("b", Stdio::from(full))] {
        let status = command(folder, &["train", "run.toml", "--out", out])
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .unwrap();
        assert!(status.success(), "{out}: {status}");
        assert!(folder.join(out).join("state.toml").exists());
    }
}

#[test]
fn outputs_are_checked_before_the_work() {
    let folder = trained();
    let folder = folder.path();
    let wrong = [
        ("notes.xyz", "end it in .hdf5"),
        ("data.npz/x.npz", "folder data.npz can't be made"),
        ("data.npz", "exists already"),
    ];
    for (name, words) in wrong {
        let collect = [
            "data",
            "collect",
            "--env",
            "pendulum-v1",
            "--policy",
            "random",
        ];
        // So many steps would take a day.
        let to = ["--steps", "10000000000", name];
        let commands: [&[&str]; 3] = [
            &[&collect[..], &to[..]].concat(),
            &["data", "convert", "data.npz", name],
            &["evaluate", "run", "--episodes", "100000", "--record", name],
        ];
        for arguments in commands {
            let errors = fails(folder, arguments);
            assert!(errors.contains(name) && errors.contains(words), "{errors}");
            assert!(!errors.contains(".partial"), "{errors}");
        }
    }
    // A full disk is seen before the work too: what is written beside goes nowhere.
    #[cfg(target_os = "linux")]
    for (name, arguments) in [
        (
            "full.npz",
            &[
                "data",
                "collect",
                "--env",
                "pendulum-v1",
                "--policy",
                "random",
                "--steps",
                "10000000000",
                "full.npz",
            ][..],
        ),
        (
            "full.hdf5",
            &[
                "evaluate",
                "run",
                "--episodes",
                "100000",
                "--record",
                "full.hdf5",
            ],
        ),
    ] {
        std::os::unix::fs::symlink("/dev/full", folder.join(format!("{name}.partial"))).unwrap();
        let errors = fails(folder, arguments);
        assert!(
            errors.contains(&format!("{name}: can't be written")),
            "{errors}"
        );
    }
    let printed = succeeds(folder, &["evaluate", "run", "--record", "new/kept.hdf5"]);
    assert!(printed.contains("return") && folder.join("new/kept.hdf5").exists());
}

#[test]
fn a_finished_run_reports_again_and_a_series_goes_on() {
    let folder = trained();
    let folder = folder.path();
    let once = last_json(&succeeds(
        folder,
        &["train", "run.toml", "--out", "once", "--json"],
    ));
    let files = || {
        let entries = fs::read_dir(folder.join("once")).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    };
    let before = files();
    let again = last_json(&succeeds(folder, &["train", "--resume", "once", "--json"]));
    for key in [
        "return_mean",
        "return_std",
        "return_best",
        "score_mean",
        "updates",
    ] {
        assert_eq!(once[key], again[key], "{key}");
    }
    assert_eq!(before, files());

    let series = ["train", "run.toml", "--out", "series", "--json", "--seeds"];
    let two = last_json(&succeeds(folder, &[&series[..], &["0..2"]].concat()));
    let three = last_json(&succeeds(folder, &[&series[..], &["0..3"]].concat()));
    assert_eq!(
        (two["runs"].as_array().unwrap().len(), &two["updates"]),
        (2, &4.into())
    );
    assert_eq!(three["runs"].as_array().unwrap().len(), 3);
    let longer = ["0..3", "--set", "train.updates=6"];
    let longer = last_json(&succeeds(folder, &[&series[..], &longer].concat()));
    assert_eq!(longer["updates"], 6);
    let other = ["0..3", "--set", "algorithm.bc.batch_size=3"];
    let errors = fails(folder, &[&series[..], &other].concat());
    assert!(
        errors.contains("`algorithm.bc.batch_size` was 8, is 3"),
        "{errors}"
    );
    let errors = fails(folder, &["train", "--resume", "series"]);
    assert!(errors.contains("series/seed-0"), "{errors}");
}

#[test]
fn seeds_side_by_side_are_those_one_after_the_other() {
    let folder = trained();
    let folder = folder.path();
    let train = |jobs: &str| {
        let series = [
            "train", "run.toml", "--out", jobs, "--seeds", "0..3", "--jobs", jobs, "--json",
        ];
        let found = output(folder, &series);
        let errors = text(&found.stderr);
        assert!(found.status.success(), "{errors}");
        let mut json = last_json(&text(&found.stdout));
        for key in ["run", "runs", "seconds", "updates_per_s"] {
            json.as_object_mut().unwrap().remove(key);
        }
        (errors, json)
    };
    let (in_turn, one) = train("1");
    let (beside, two) = train("2");
    assert!(!in_turn.contains("side by side"), "{in_turn}");
    for words in [
        "3 seeds to train, 2 side by side with ",
        "2/seed-2: finished",
    ] {
        assert!(beside.contains(words), "no `{words}` in {beside}");
    }
    assert!(!beside.contains("are done; raise"), "{beside}");
    assert_eq!(one, two);
    for seed in 0..3 {
        let weights = |out: &str| {
            fs::read(folder.join(format!("{out}/seed-{seed}/model.safetensors"))).unwrap()
        };
        assert!(weights("1") == weights("2"), "seed {seed}");
        // A run says with which command a person began it.
        let origin = fs::read_to_string(folder.join(format!("2/seed-{seed}/origin.json"))).unwrap();
        let typed = "train run.toml --out 2 --seeds 0..3 --jobs 2 --json";
        assert!(
            origin.contains(typed) && !origin.contains("--beside"),
            "{origin}"
        );
    }
    // Called again nothing is trained, and the result is told as it is.
    let (again, same) = train("2");
    assert!(!again.contains("started"), "{again}");
    assert_eq!(same, two);
}

#[test]
fn seeds_that_fail_side_by_side_are_not_trained_again_and_keep_no_other_from_training() {
    let folder = trained();
    let folder = folder.path();
    let train = |out: &str, seeds: &str, rest: &[&str]| {
        let series = [
            "train", "run.toml", "--out", out, "--jobs", "2", "--json", "--seeds", seeds,
        ];
        let found = output(folder, &[&series[..], rest].concat());
        (
            found.status.code(),
            text(&found.stderr),
            last_json(&text(&found.stdout)),
        )
    };
    // One of another configuration.
    let other = ["--set", "algorithm.bc.batch_size=3"];
    assert_eq!(train("s", "1..2", &other).0, Some(0));
    let (code, errors, json) = train("s", "0..4", &[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("1 of 4 seeds failed") && errors.contains("seed 1 (s/seed-1)"),
        "{errors}"
    );
    assert!(
        errors.contains("`algorithm.bc.batch_size` was 3, is 8"),
        "{errors}"
    );
    assert_eq!(json["runs"].as_array().unwrap().len(), 3);
    assert_eq!(json["failed"].as_array().unwrap().len(), 1);
    assert!(json["updates_per_s"].as_f64().unwrap() > 0.0);
    // All fail, each once.
    let (code, errors, json) = train(
        "none",
        "0..2",
        &["--set", "train.held_out_fraction=0.000001"],
    );
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("2 of 2 seeds failed"), "{errors}");
    assert_eq!(json["runs"].as_array().unwrap().len(), 0);
    assert_eq!(json["seconds"].to_string(), "0.0");
    let logs = fs::read_dir(folder.join("none/.sweep/logs")).unwrap();
    let logs: Vec<String> = logs
        .map(|log| fs::read_to_string(log.unwrap().path()).unwrap())
        .collect();
    assert!(
        logs.len() == 2 && logs.iter().all(|log| log.contains("error: ")),
        "{logs:?}"
    );
}

#[test]
fn a_seed_that_fails_does_not_keep_the_others_from_training() {
    let folder = trained();
    let folder = folder.path();
    fs::create_dir_all(folder.join("s/seed-1")).unwrap();
    fs::write(folder.join("s/seed-1/metrics.csv"), "").unwrap();
    let series = [
        "train", "run.toml", "--out", "s", "--seeds", "0..4", "--json",
    ];
    let found = output(folder, &series);
    let (printed, errors) = (text(&found.stdout), text(&found.stderr));
    assert_eq!(found.status.code(), Some(1), "{errors}");
    for seed in [0, 2, 3] {
        let run = folder.join(format!("s/seed-{seed}"));
        assert!(run.join("state.toml").exists(), "{errors}");
    }
    let last = errors.split("error: ").last().unwrap();
    assert!(
        last.contains("1 of 4 seeds failed")
            && last.contains("seed 1 (s/seed-1)")
            && last.contains("metrics.csv"),
        "{errors}"
    );
    assert!(printed.contains("over 3 seeds"), "{printed}");
    let json = last_json(&printed);
    assert_eq!(json["runs"].as_array().unwrap().len(), 3);
    assert_eq!(json["run"], "s");
    let failed = json["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["seed"], &failed[0]["run"]),
        (&1.into(), &"s/seed-1".into())
    );
    // Mended, the same command does the rest.
    fs::remove_dir_all(folder.join("s/seed-1")).unwrap();
    let json = last_json(&succeeds(folder, &series));
    assert_eq!(json["runs"].as_array().unwrap().len(), 4);
    assert!(json.get("failed").is_none(), "{json}");
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_run_is_said_to_have_been_trained_where_it_was() {
    let folder = trained();
    let folder = folder.path();
    let resume = ["train", "--resume", "run", "--set", "train.updates=6"];
    let errors = fails(folder, &[&resume[..], &["--device", "cuda"]].concat());
    let words = "the run was trained on `cpu`, where it can go on";
    assert!(errors.contains(words), "{errors}");
    assert!(!errors.contains("trained there"), "{errors}");
    let config = folder.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let elsewhere = text.replace("device = \"cpu\"", "device = \"cuda\"");
    assert_ne!(elsewhere, text);
    fs::write(config, elsewhere).unwrap();
    let errors = fails(folder, &resume);
    assert!(errors.contains("the run was trained there"), "{errors}");
}

#[test]
fn an_export_is_named_onnx_and_replaces_nothing() {
    let folder = trained();
    let folder = folder.path();
    for (name, words) in [
        ("x.pt", "end the name in .onnx, e.g. x.onnx"),
        ("policy", "end the name in .onnx, e.g. policy.onnx"),
        ("run.toml/x.onnx", "its folder run.toml can't be made"),
        ("run", "end the name in .onnx"),
    ] {
        let errors = fails(folder, &["export", "run", name]);
        assert!(errors.contains(words), "{errors}");
        // Before the run is opened: another fault of it is not what is said.
        let errors = fails(folder, &["export", "no-run", name]);
        assert!(errors.contains(words), "{errors}");
    }
    succeeds(folder, &["export", "run", "x.onnx"]);
    let errors = fails(folder, &["export", "run", "x.onnx"]);
    assert!(errors.contains("exists already"), "{errors}");
}

#[test]
fn senseless_arguments_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_config(folder, "", "", SMALL);
    for seeds in [
        "0..18446744073709551615",
        "0..4000000000",
        "9223372036854775808..9223372036854775809",
    ] {
        let errors = fails(folder, &["train", "run.toml", "--seeds", seeds]);
        assert!(errors.contains("--seeds"), "{errors}");
    }
    let usage: [&[&str]; 4] = [
        &["--threads", "100000", "config", "show", "run.toml"],
        &["bench", "critics", "--batch", "0"],
        &["bench", "critics", "--seconds", "nan"],
        &["bench", "critics", "--seconds", "inf"],
    ];
    for arguments in usage {
        let found = output(folder, arguments);
        assert_eq!(found.status.code(), Some(2), "{arguments:?}");
        assert!(text(&found.stderr).contains("expected"), "{arguments:?}");
    }
}

#[cfg(unix)]
mod interruption {
    use super::*;

    fn start(folder: &Path, arguments: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
        let mut child = command(folder, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        (child, log.lines().map_while(Result::ok))
    }

    fn interrupt(child: &Child) {
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Reads the log up to a line with `words`.
    fn wait_for(log: &mut impl Iterator<Item = String>, words: &str) {
        assert!(log.any(|line| line.contains(words)), "{words} never came");
    }

    /// Interrupts once the log says `words`; status and standard output at the end.
    fn interrupt_at(folder: &Path, arguments: &[&str], words: &str) -> (Option<i32>, String) {
        let (child, mut log) = start(folder, arguments);
        wait_for(&mut log, words);
        interrupt(&child);
        log.for_each(drop);
        let found = child.wait_with_output().unwrap();
        (found.status.code(), text(&found.stdout))
    }

    fn evaluations(run: &Path) -> Vec<Vec<String>> {
        let table = trajformer::metrics::table::Table::read(&run.join("evaluations.csv")).unwrap();
        let mut rows = table.rows;
        let seconds = table
            .columns
            .iter()
            .position(|column| column == "seconds")
            .unwrap();
        rows.iter_mut().for_each(|row| drop(row.remove(seconds)));
        rows
    }

    #[test]
    fn an_interrupted_evaluation_is_made_when_the_run_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        collect(folder, "random");
        // The evaluation at update 5 says when; the one at update 6, which comes with a checkpoint,
        // takes long enough to be met.
        let train = "updates = 7\ncheckpoint_every_updates = 6\nlog_every_updates = 2";
        write_config(folder, train, "episodes = 3000\nevery_updates = 1", SMALL);
        succeeds(folder, &["train", "run.toml", "--out", "whole"]);
        for (out, words, update) in [("with", "update 5:", 6), ("without", "update 3:", 4)] {
            let run = ["train", "run.toml", "--out", out, "--json"];
            let (status, printed) = interrupt_at(folder, &run, words);
            assert_eq!(status, Some(130), "{printed}");
            let found = last_json(&printed);
            assert_eq!(
                (&found["interrupted"], &found["updates"]),
                (&true.into(), &update.into())
            );
            let state = fs::read_to_string(folder.join(out).join("state.toml")).unwrap();
            assert!(state.contains("evaluation_pending = true"), "{state}");
            succeeds(folder, &["train", "--resume", out]);
            let (whole, parts) = (folder.join("whole"), folder.join(out));
            assert_eq!(evaluations(&whole), evaluations(&parts));
            let model = |run: &Path| fs::read(run.join("model.safetensors")).unwrap();
            assert!(model(&whole) == model(&parts));
            let best = |run: &Path| {
                let run = trajformer::checkpoint::RunDir::open(run).unwrap();
                run.state().unwrap().unwrap().best
            };
            assert_eq!(best(&whole), best(&parts));
        }
    }

    #[test]
    fn an_interrupted_series_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        collect(folder, "random");
        let train = "updates = 100000000\nlog_every_updates = 100";
        write_config(folder, train, "episodes = 1\nevery_updates = 100", SMALL);
        let mut shapes = Vec::new();
        for (jobs, words) in [("1", "update 100:"), ("3", "s3/seed-2: started")] {
            let out = format!("s{jobs}");
            let run = [
                "train", "run.toml", "--out", &out, "--seeds", "0..3", "--jobs", jobs, "--json",
            ];
            // What an earlier command had begun is there, too.
            let before = ["train", "run.toml", "--out", &out, "--seeds", "1..2"];
            let (status, _) = interrupt_at(folder, &before, "update 100:");
            assert_eq!(status, Some(130));
            let (status, printed) = interrupt_at(folder, &run, words);
            assert_eq!(status, Some(130), "{printed}");
            let found = last_json(&printed);
            assert_eq!(found["interrupted"], true);
            let begun = (0..3).map(|seed| format!("{out}/seed-{seed}"));
            let begun = begun.filter(|run| folder.join(run).join("state.toml").exists());
            let begun: Vec<String> = begun.collect();
            assert!(begun.contains(&format!("{out}/seed-1")), "{begun:?}");
            assert_eq!(found["runs"], serde_json::json!(begun), "{jobs}");
            for run in begun {
                let words = format!("continue with: trajformer train --resume {run}");
                assert!(printed.contains(&words), "{words}: {printed}");
            }
            assert_eq!(found["seeds_left"], serde_json::json!([0, 1, 2]));
            assert!(found["updates"].as_u64() > Some(0), "{found}");
            shapes.push(keys(&found).join(" "));
            let said = "interrupted: 0 of 3 seeds are finished; the same command goes on";
            assert!(printed.contains(said), "{printed}");
        }
        assert_eq!(shapes[0], shapes[1]);
    }

    #[test]
    fn a_second_interruption_ends_join() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // Actions that never change: a warning says when the data is there.
        collect(folder, "zero");
        // One update of this size takes far longer than the test.
        let large = "[algorithm.bc]\nbatch_size = 60000\nhidden = [8000, 8000]";
        write_config(folder, "updates = 10", "episodes = 0", large);
        let (mut child, mut log) = start(folder, &["train", "run.toml", "--out", "run"]);
        wait_for(&mut log, "actions never change");
        interrupt(&child);
        wait_for(&mut log, "once more ends at once");
        interrupt(&child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(!folder.join("run/state.toml").exists());
    }
}

#[test]
fn what_was_typed_in_the_wrong_place_is_answered_with_what_to_type() {
    let folder = trained();
    let folder = folder.path();
    let check = |arguments: &[&str], words: &[&str], never: &str| {
        let errors = fails(folder, arguments);
        for word in words {
            assert!(
                errors.contains(word),
                "{arguments:?}: no `{word}` in {errors}"
            );
        }
        assert!(never.is_empty() || !errors.contains(never), "{errors}");
    };
    let own = "configs/own-data/td3_bc.toml --set data.path=data.npz";
    check(
        &["train", "data.npz"],
        &["data.npz is a data set", own],
        "UTF-8",
    );
    check(
        &["train", "run"],
        &["run is a run", "`trajformer train --resume run`"],
        "",
    );
    fs::create_dir(folder.join("empty")).unwrap();
    check(
        &["train", "empty"],
        &["empty is a folder, expected a configuration"],
        "",
    );
    let train = ["train", "run.toml", "--out", "new"];
    let with = |more: &[&'static str]| [&train[..], more].concat();
    check(
        &with(&["--seeds", "3"]),
        &["`--seeds`", "0..3 for 3 seeds", "3..4 for the seed 3"],
        "",
    );
    let both = with(&["--seeds", "0..2", "--set", "seed=3"]);
    check(
        &both,
        &["`--set seed=3`", "`--seeds` gives every run its seed"],
        "",
    );
    check(
        &with(&["--set", "train.update=3"]),
        &["`--set train.update=3`", "did you mean `updates`?"],
        "",
    );
    check(
        &with(&["--set", "evaluate.env=pendulum-v2"]),
        &["pendulum-v2", "did you mean `pendulum-v1`?"],
        "",
    );
    check(
        &["data", "convert", "data.npz", "data.hdf"],
        &["data.hdf", "did you mean `hdf5`?"],
        "",
    );
    let missing = |path: &str| format!("data.path={path}");
    check(
        &[&train[..], &["--set", &missing("data/hopper-medium.hdf5")]].concat(),
        &[
            "data/hopper-medium.hdf5: No such file",
            "`data.path` starts at the working directory",
            "docs/data.md",
            "`trajformer data pull hopper-medium-v2`",
        ],
        "",
    );
    check(
        &[&train[..], &["--set", &missing("mine.npz")]].concat(),
        &["mine.npz: No such file", "`--set data.path=FILE`"],
        "data pull",
    );
    let collect = [
        "data",
        "collect",
        "--env",
        "gym:Any-v0",
        "--python",
        "/nonexistent",
    ];
    check(
        &[
            &collect[..],
            &["--policy", "random", "--steps", "5", "new.npz"],
        ]
        .concat(),
        &["/nonexistent", "`--python`"],
        "evaluate.python",
    );
    let held = fs::File::create(folder.join("run/train.lock")).unwrap();
    held.lock().unwrap();
    let longer = ["train", "--resume", "run", "--set", "train.updates=9"];
    check(
        &longer,
        &["another process trains it now: wait for its end"],
        "--out",
    );
}

#[test]
fn a_time_limit_that_is_no_number_of_seconds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "data",
        "collect",
        "--env",
        "gym:Any-v0",
        "--policy",
        "random",
        "--steps",
        "5",
        "new.npz",
    ];
    let mut command = command(folder.path(), &arguments);
    let found = command
        .env("TRAJFORMER_GYM_TIMEOUT_S", "ten")
        .output()
        .unwrap();
    let errors = text(&found.stderr);
    assert_eq!(found.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("TRAJFORMER_GYM_TIMEOUT_S is `ten`, expected a number of seconds"),
        "{errors}"
    );
}

#[test]
fn the_best_evaluation_of_seeds_is_the_mean_of_each_runs_best() {
    let folder = trained();
    let folder = folder.path();
    let series = [
        "train", "run.toml", "--out", "two", "--seeds", "0..2", "--json",
    ];
    let said = succeeds(folder, &series);
    let best = |name: &str| -> f64 {
        let text = fs::read_to_string(folder.join("two").join(name).join("state.toml")).unwrap();
        let state: toml::Table = toml::from_str(&text).unwrap();
        state["best"]["score"].as_float().unwrap()
    };
    let expected = (best("seed-0") + best("seed-1")) / 2.0;
    let found = last_json(&said);
    assert_eq!(found["return_best"].as_f64(), Some(expected), "{said}");
    let line = last_json(&succeeds(folder, &["compare", "two", "--json"]));
    assert_eq!(line["runs"][0]["best"].as_f64(), Some(expected));
    assert!(
        said.contains("one standard deviation between seeds"),
        "{said}"
    );
    assert!(
        !said.lines().any(|line| line.trim().starts_with("best:")),
        "{said}"
    );
}
