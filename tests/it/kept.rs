//! Kept checkpoints: which there are, what opens them, runs that go on from them, kills and failing disks, early stopping.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trajformer::checkpoint::RunDir;
use trajformer::config::RunConfig;
use trajformer::{compare, run};

use crate::cli::{fails, output, succeeds};
use crate::runs::{SEAL, check_same_checkpoint, check_same_run, config, write_data};

/// A small run of `algorithm`, evaluated and saved every five updates, with further keys.
fn with(folder: &Path, algorithm: &str, updates: u64, keys: &[&str]) -> RunConfig {
    let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
    let config = config(folder, algorithm, updates);
    config.with_overrides(&keys).unwrap()
}

/// Names of what lies in the folder of a run's kept checkpoints.
fn kept(run: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else {
        return Vec::new();
    };
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

fn at(run: &Path, name: &str) -> PathBuf {
    PathBuf::from(format!("{}@{name}", run.display()))
}

/// The folder that a checkpoint of that name lies in.
fn folder_at(run: &Path, name: &str) -> PathBuf {
    RunDir::open(&at(run, name)).unwrap().path().to_path_buf()
}

fn update_of(run: &Path) -> u64 {
    RunDir::open(run).unwrap().state().unwrap().unwrap().update
}

#[test]
fn nothing_is_kept_and_nothing_new_is_written_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let run = folder.join("run");
    run::start(&config(folder, "bc", 10), &run).unwrap();
    assert!(!run.join("checkpoints").exists());
    for file in ["config.toml", "state.toml"] {
        let text = fs::read_to_string(run.join(file)).unwrap();
        for key in ["keep", "patience", "without_gain", "held_out"] {
            assert!(!text.contains(key), "{file}: {text}");
        }
    }
}

#[test]
fn a_kept_checkpoint_is_the_run_after_its_update_and_what_goes_on_from_it_ends_with_the_same_bits()
{
    for algorithm in [
        "td3_bc",
        "iql",
        "decision_transformer",
        "trajectory_transformer",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_data(folder);
        let (whole, half) = (folder.join("whole"), folder.join("half"));
        run::start(&with(folder, algorithm, 20, &["train.keep=all"]), &whole).unwrap();
        assert_eq!(
            kept(&whole),
            ["00000005", "00000010", "00000015", "00000020"]
        );
        run::start(&config(folder, algorithm, 20), &half).unwrap();
        // What keeps more trains no other.
        check_same_run(&whole, &half, algorithm);

        let (branch, again) = (folder.join("branch"), folder.join("again"));
        run::branch(&at(&whole, "10"), &branch).unwrap();
        assert_eq!(update_of(&branch), 10, "{algorithm}");
        check_same_checkpoint(&folder_at(&whole, "10"), &branch, algorithm);
        assert_eq!(kept(&branch), ["00000005", "00000010"]);
        run::resume(&branch, &[]).unwrap();
        check_same_run(&whole, &branch, algorithm);
        assert_eq!(kept(&branch), kept(&whole), "{algorithm}");
        check_same_checkpoint(
            &folder_at(&whole, "15"),
            &folder_at(&branch, "15"),
            algorithm,
        );
        // From the run's own checkpoint, too, and from a kept one that lies alone.
        run::branch(&at(&whole, "last"), &again).unwrap();
        check_same_run(&whole, &again, algorithm);
        let (alone, from_alone) = (folder.join("alone"), folder.join("from-alone"));
        fs::rename(whole.join("checkpoints/00000010"), &alone).unwrap();
        run::branch(&alone, &from_alone).unwrap();
        run::resume(&from_alone, &[]).unwrap();
        check_same_run(&whole, &from_alone, algorithm);
    }
}

#[test]
fn the_best_checkpoint_stays_until_a_better_one_and_every_so_many_stay_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let run = folder.join("run");
    let keys = [
        "train.keep=best",
        "train.checkpoint_every_updates=50",
        "train.keep_every_updates=20",
    ];
    run::start(&with(folder, "cql", 60, &keys), &run).unwrap();
    let state = RunDir::open(&run).unwrap().state().unwrap().unwrap();
    let best = state.best.unwrap().update;
    let rows = trajformer::metrics::table::numbers(
        &run.join("evaluations.csv"),
        ["update", "return_mean"],
    )
    .unwrap();
    let found = rows.iter().fold(
        [0.0, f64::NEG_INFINITY],
        |a, b| if b[1] > a[1] { *b } else { a },
    );
    assert_eq!(best, found[0] as u64);
    let mut expected = vec![best, 20, 40, 60];
    expected.sort_unstable();
    expected.dedup();
    let expected: Vec<String> = expected
        .iter()
        .map(|update| format!("{update:08}"))
        .collect();
    assert_eq!(kept(&run), expected);
    assert_eq!(update_of(&at(&run, "best")), best);
    let trained = run::open(&at(&run, "best"), &[]).unwrap();
    assert_eq!(trained.state.update, best);
    // The test can tell: there was a better one after a first one.
    assert!(
        best > 5 && best < 60 && !best.is_multiple_of(20),
        "best after {best}"
    );
}

#[test]
fn everything_that_takes_a_run_takes_a_kept_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["train.keep_every_updates=5", "evaluate.every_updates=0"];
    run::start(&with(folder, "td3_bc", 20, &keys), &folder.join("run")).unwrap();
    run::start(&with(folder, "td3_bc", 10, &keys), &folder.join("half")).unwrap();
    let json = |arguments: &[&str]| -> Value {
        let printed = succeeds(folder, arguments);
        serde_json::from_str(printed.lines().last().unwrap()).unwrap()
    };
    let evaluate = |run: &str| json(&["evaluate", run, "--json"]);
    assert_eq!(evaluate("run@10"), evaluate("half"));
    assert_ne!(evaluate("run@10"), evaluate("run"));
    assert_eq!(evaluate("run@20"), evaluate("run"));
    assert_eq!(evaluate("run@last"), evaluate("run"));
    let fqe = |run: &str| {
        json(&[
            "evaluate",
            run,
            "--off-policy",
            "data.npz",
            "--updates",
            "5",
            "--json",
        ])
    };
    assert_eq!(fqe("run@10"), fqe("half"));
    for (run, out) in [("run@10", "kept.onnx"), ("half", "half.onnx")] {
        succeeds(folder, &["export", run, out]);
    }
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(read("kept.onnx") == read("half.onnx"));
    let report = json(&[
        "report",
        "run@10",
        "run",
        "--episodes",
        "1",
        "--out",
        "report.html",
        "--json",
    ]);
    assert_eq!(
        (&report["runs"], &report["episodes"]),
        (&2.into(), &2.into())
    );
    let collect = [
        "data",
        "collect",
        "--env",
        "pendulum-v1",
        "--steps",
        "200",
        "--policy",
    ];
    succeeds(folder, &[&collect[..], &["run@10", "kept.npz"]].concat());
    succeeds(folder, &[&collect[..], &["half", "half.npz"]].concat());
    assert!(read("kept.npz") == read("half.npz"));
    succeeds(folder, &["compare", "run@20", "run"]);
    #[cfg(feature = "hub")]
    {
        let card = succeeds(folder, &["hub", "push", "run@10", "me/model", "--dry-run"]);
        assert!(card.contains(" 10 updates, seed 3."), "{card}");
    }
    // The rows of online learning start at a kept checkpoint of learning on data alone.
    let go_on = [
        "train",
        "--resume",
        "run@20",
        "--out",
        "online",
        "--set",
        "online.steps=5",
    ];
    succeeds(folder, &go_on);
    assert_eq!(update_of(&folder.join("online")), 25);
    assert_eq!(update_of(&folder.join("run")), 20);
}

#[test]
fn names_of_checkpoints_that_are_not_kept_say_which_are() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["train.keep_every_updates=20"];
    run::start(&with(folder, "cql", 25, &keys), &folder.join("run")).unwrap();
    let has = "it has @20, @25 (@last is @25)";
    for (name, problem) in [
        ("run@15", "no checkpoint of update 15 is kept"),
        (
            "run@newest",
            "`newest` names no checkpoint, expected `last`, `best` or a number",
        ),
        ("run@99999999999999999999", "is no number of updates"),
    ] {
        for command in ["evaluate", "report", "compare"] {
            let errors = fails(folder, &[command, name]);
            assert!(
                errors.contains(problem) && errors.contains(has),
                "{command}: {errors}"
            );
        }
    }
    // The best was after 10 updates, whatever this run learned; what is kept decides.
    let state = folder.join("run/state.toml");
    let text = fs::read_to_string(&state).unwrap();
    let (others, best) = text.split_once("[best]").unwrap();
    let found = best
        .lines()
        .find(|line| line.starts_with("update ="))
        .unwrap();
    let best = best.replacen(found, "update = 10", 1);
    let changed = format!("{others}[best]{best}").replace(SEAL, "");
    fs::write(&state, changed).unwrap();
    let errors = fails(folder, &["evaluate", "run@best"]);
    assert!(
        errors.contains("after 10 updates")
            && errors.contains("`train.keep` decides")
            && errors.contains(has),
        "{errors}"
    );
    // Kept checkpoints are not trained on, and not written over.
    let before = fs::read(folder.join("run/checkpoints/00000020/state.toml")).unwrap();
    for name in ["run@20", "run/checkpoints/00000020"] {
        let errors = fails(folder, &["train", "--resume", name]);
        assert!(
            errors.contains("stays as it is") && errors.contains("--out DIR"),
            "{errors}"
        );
    }
    assert!(before == fs::read(folder.join("run/checkpoints/00000020/state.toml")).unwrap());
    let errors = fails(folder, &["train", "--resume", "run@20", "--out", "run"]);
    assert!(errors.contains("run"), "{errors}");
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(folder.join("other/notes.txt"), "mine").unwrap();
    let errors = fails(folder, &["train", "--resume", "run@20", "--out", "other"]);
    assert!(
        errors.contains("something else is there already"),
        "{errors}"
    );
    assert_eq!(
        fs::read_to_string(folder.join("other/notes.txt")).unwrap(),
        "mine"
    );

    // Folders that have an @ in their names are themselves.
    fs::rename(folder.join("run"), folder.join("a@20")).unwrap();
    assert_eq!(update_of(&folder.join("a@20")), 25);
    assert_eq!(update_of(&at(&folder.join("a@20"), "20")), 20);
    succeeds(folder, &["evaluate", "a@20"]);
    let errors = fails(folder, &["evaluate", "nowhere@20"]);
    assert!(errors.contains("there is no such folder"), "{errors}");
}

#[test]
fn keys_that_keep_say_what_they_take_and_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let error = config(folder, "td3_bc", 10).with_overrides(&keys);
        error.unwrap_err().to_string()
    };
    let words = refused(&["train.keep=both"]);
    for word in ["`train.keep=both`", "last", "best", "all"] {
        assert!(words.contains(word), "{words}");
    }
    for keys in [
        &["train.keep=best", "evaluate.episodes=0"],
        &["train.patience_evaluations=2", "evaluate.episodes=0"],
    ] {
        assert!(
            refused(keys).contains("nothing scores the run"),
            "{}",
            refused(keys)
        );
    }
    let once = refused(&["train.patience_evaluations=2", "evaluate.every_updates=0"]);
    assert!(once.contains("one evaluation only"), "{once}");
    let online = refused(&["train.patience_evaluations=2", "online.steps=5"]);
    assert!(online.contains("never learn online"), "{online}");
    let config = config(folder, "td3_bc", 10);
    config
        .with_overrides(&["train.keep=\"all\"".to_owned()])
        .unwrap();
}

#[test]
fn a_kill_between_a_checkpoint_and_its_copy_leaves_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let (whole, killed) = (folder.join("whole"), folder.join("killed"));
    let all = with(folder, "td3_bc", 20, &["train.keep=all"]);
    run::start(&all, &whole).unwrap();
    run::branch(&at(&whole, "10"), &killed).unwrap();
    // Killed in the middle of the copy: it has another name, and lacks files.
    let folder_of = |name: &str| killed.join("checkpoints").join(name);
    fs::rename(folder_of("00000010"), folder_of("00000010.new")).unwrap();
    fs::remove_file(folder_of("00000010.new/state.toml")).unwrap();
    assert_eq!(update_of(&at(&killed, "10")), 10); // the run's own
    run::open(&killed, &[]).unwrap();
    run::resume(&killed, &[]).unwrap();
    assert_eq!(kept(&killed), kept(&whole));
    check_same_run(&whole, &killed, "killed");
    check_same_checkpoint(
        &folder_at(&whole, "10"),
        &folder_at(&killed, "10"),
        "killed",
    );

    // Killed after a better one was kept, before the one that was the best is removed.
    let (best, twice) = (folder.join("best"), folder.join("twice"));
    let keys = ["train.keep=best"];
    run::start(&with(folder, "cql", 60, &keys), &best).unwrap();
    let update = RunDir::open(&best)
        .unwrap()
        .state()
        .unwrap()
        .unwrap()
        .best
        .unwrap()
        .update;
    run::branch(&at(&best, "best"), &twice).unwrap();
    let name = |update: u64| format!("checkpoints/{update:08}");
    fs::create_dir(twice.join(name(1))).unwrap();
    for entry in fs::read_dir(best.join(name(update))).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, twice.join(name(1)).join(path.file_name().unwrap())).unwrap();
    }
    run::resume(&twice, &[]).unwrap();
    assert_eq!(kept(&twice), kept(&best));
    check_same_run(&best, &twice, "twice");
}

#[test]
fn a_disk_that_fails_while_a_checkpoint_is_kept_leaves_the_run_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let (whole, failed) = (folder.join("whole"), folder.join("failed"));
    let all = with(folder, "td3_bc", 20, &["train.keep=all"]);
    run::start(&all, &whole).unwrap();
    run::branch(&at(&whole, "5"), &failed).unwrap();
    // Nothing can be made in a file.
    let (place, aside) = (failed.join("checkpoints"), folder.join("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "").unwrap();
    let error = run::resume(&failed, &[]).unwrap_err().to_string();
    assert!(
        error.contains("checkpoints") && error.contains("resume the run"),
        "{error}"
    );
    run::open(&failed, &[]).unwrap();
    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
    run::resume(&failed, &[]).unwrap();
    assert_eq!(kept(&failed), kept(&whole));
    check_same_run(&whole, &failed, "failed");
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_again_and_again_keeps_what_an_undisturbed_one_keeps() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let all = [
        "train.keep=all",
        "evaluate.every_updates=50",
        "train.checkpoint_every_updates=2",
    ];
    let config = with(folder, "td3_bc", 200, &all);
    fs::write(folder.join("run.toml"), config.to_toml().unwrap()).unwrap();
    let whole = folder.join("whole");
    run::start(&config, &whole).unwrap();
    let killed = folder.join("killed");
    let mut kills = 0;
    loop {
        let go_on: &[&str] = if killed.join("config.toml").is_file() {
            &["train", "--resume", "killed"]
        } else {
            &["train", "run.toml", "--out", "killed"]
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_trajformer"))
            .args(go_on)
            .current_dir(folder)
            .env("RAYON_NUM_THREADS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (begin, before) = (Instant::now(), kept(&killed).len());
        // Killed once some checkpoints more are there, at whatever place of the next.
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if kills < 5 && kept(&killed).len() >= before + 3 + 2 * kills {
                break None;
            }
            assert!(begin.elapsed() < Duration::from_secs(120), "too slow");
            std::thread::yield_now();
        };
        match ended {
            Some(status) => {
                assert!(status.success(), "{status}");
                break;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                for name in kept(&killed).iter().filter(|name| !name.contains('.')) {
                    run::open(&killed.join("checkpoints").join(name), &[]).unwrap();
                }
            }
        }
    }
    assert_eq!(kills, 5);
    assert_eq!(kept(&killed), kept(&whole));
    check_same_run(&whole, &killed, "killed");
    for name in ["2", "100", "150"] {
        check_same_checkpoint(&folder_at(&whole, name), &folder_at(&killed, name), name);
    }
}

#[test]
fn a_run_stops_early_where_its_scores_rise_no_more_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = [
        "train.patience_evaluations=2",
        "train.checkpoint_every_updates=1000",
    ];
    let (early, patient) = (folder.join("early"), folder.join("patient"));
    let config = with(folder, "cql", 200, &keys);
    let outcome = run::start(&config, &early).unwrap();
    assert!(outcome.stopped_early.is_some() && !outcome.interrupted && outcome.update < 200);
    let rows = trajformer::metrics::table::numbers(
        &early.join("evaluations.csv"),
        ["update", "return_mean"],
    )
    .unwrap();
    let best = outcome.best.unwrap();
    // The best, and two evaluations after it.
    assert_eq!(rows[rows.len() - 3], [best.update as f64, best.score]);
    assert_eq!(outcome.update, best.update + 10);
    assert_eq!(update_of(&early), outcome.update);

    // It goes no further by itself; a killed one ends at the same place.
    let before = fs::read(early.join("model.safetensors")).unwrap();
    let again = run::resume(&early, &[]).unwrap();
    assert!(again.stopped_early.is_some() && again.update == outcome.update);
    assert!(before == fs::read(early.join("model.safetensors")).unwrap());
    let killed = folder.join("killed");
    let kept = config
        .with_overrides(&["train.keep=all".to_owned()])
        .unwrap();
    run::start(&kept, &folder.join("kept")).unwrap();
    let from = at(&folder.join("kept"), &(best.update + 5).to_string());
    run::branch(&from, &killed).unwrap();
    run::resume(&killed, &[]).unwrap();
    check_same_run(&early, &killed, "killed");

    // With more patience it goes on as if it had had it from the start.
    let more = ["train.patience_evaluations=5".to_owned()];
    run::start(&config.with_overrides(&more).unwrap(), &patient).unwrap();
    assert!(update_of(&patient) > update_of(&early));
    run::resume(&killed, &more).unwrap();
    check_same_run(&patient, &killed, "more patience");

    // Every result says so.
    let printed = succeeds(folder, &["train", "--resume", "early", "--json"]);
    assert!(printed.contains("stopped early"), "{printed}");
    let json: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(json["stopped_early"], serde_json::json!(["early"]));
    let printed = succeeds(folder, &["compare", "early"]);
    let note = format!("stopped early, after {} of 200 updates", outcome.update);
    let words: Vec<&str> = printed.split_whitespace().collect();
    assert!(words.join(" ").contains(&note), "{printed}");
    assert!(!printed.contains("not finished"), "{printed}");
    let found = compare::found::Run::read(&early).unwrap();
    assert_eq!(found.stopped_early, Some(outcome.update));
    succeeds(
        folder,
        &["report", "early", "--episodes", "0", "--out", "report.html"],
    );
    #[cfg(feature = "hub")]
    {
        let card = succeeds(folder, &["hub", "push", "early", "me/model", "--dry-run"]);
        let words = format!(
            " {} updates (stopped early, of 200), seed 3.",
            outcome.update
        );
        assert!(card.contains(&words), "{card}");
    }
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("\"stopped_early\":true"));
}

/// Lines say how far a command has come where nobody sees a bar.
#[test]
fn commands_whose_output_is_no_terminal_say_how_far_they_have_come() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    fs::write(
        folder.join("run.toml"),
        config(folder, "td3_bc", 20).to_toml().unwrap(),
    )
    .unwrap();
    let log = |arguments: &[&str], seconds: &str| {
        let found = std::process::Command::new(env!("CARGO_BIN_EXE_trajformer"))
            .args(arguments)
            .current_dir(folder)
            .env("TRAJFORMER_PROGRESS_SECONDS", seconds)
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap();
        assert!(found.status.success(), "{arguments:?}");
        String::from_utf8(found.stderr).unwrap()
    };
    let train = log(&["train", "run.toml", "--out", "run"], "0");
    let line = train
        .lines()
        .find(|line| line.contains("10 of 20 updates (50 %)"));
    let line = line.unwrap_or_else(|| panic!("{train}"));
    for word in ["/s, ", " left; ", "score -", "actor_loss "] {
        assert!(line.contains(word), "{line}");
    }
    let evaluate = ["evaluate", "run", "--episodes", "3"];
    assert!(log(&evaluate, "0").contains("0 of 3 episodes have ended, in step 1"));
    let collect = [
        "data",
        "collect",
        "--env",
        "pendulum-v1",
        "--policy",
        "random",
        "--steps",
    ];
    let collected = log(&[&collect[..], &["50", "c.npz"]].concat(), "0");
    assert!(collected.contains("25 of 50 steps (50 %)"), "{collected}");
    let fqe = [
        "evaluate",
        "run",
        "--off-policy",
        "data.npz",
        "--updates",
        "10",
    ];
    assert!(log(&fqe, "0").contains("5 of 10 updates (50 %)"));
    let act = ["act", "run", "--observations", "data.npz", "--out", "a.npz"];
    assert!(log(&act, "0").contains("0 of "), "act");
    let tokens = [
        "data",
        "tokens",
        "data.npz",
        "--tokenizer",
        "kmeans",
        "--bins",
        "4",
    ];
    let said = log(&tokens, "0");
    assert!(
        said.contains(" chunks (") && said.contains("4 centers"),
        "{said}"
    );
    let rates = log(&evaluate, "0");
    // By steps of running episodes, from the first step on.
    assert!(
        rates.contains("3 of 600 steps (") && rates.contains(" left; 0 of 3"),
        "{rates}"
    );
    // What is over soon says nothing.
    assert!(!log(&evaluate, "1000").contains("steps ("));
}

#[test]
fn watching_shows_runs_from_their_files_and_changes_none() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    run::start(&config(folder, "td3_bc", 20), &folder.join("runs/a")).unwrap();
    run::start(
        &with(folder, "cql", 200, &["train.patience_evaluations=2"]),
        &folder.join("runs/b"),
    )
    .unwrap();
    let listed = || {
        let files = fs::read_dir(folder.join("runs/a")).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    let before = listed();
    let stopped = update_of(&folder.join("runs/b"));
    assert!(stopped < 200, "{stopped}");
    let stopped = format!("{stopped}/200");
    let shown = succeeds(folder, &["watch", "runs", "--size", "120x40"]);
    for word in [
        "finished",
        "stopped early",
        "20/20",
        stopped.as_str(),
        "return",
        "critic_loss",
    ] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
    assert_eq!(listed(), before);
    assert_eq!(
        shown,
        succeeds(folder, &["watch", "runs", "--once", "--size", "120x40"])
    );
    // A line that is being written, a table that is damaged, a folder that is none: each is said, the rest is shown.
    let metrics = folder.join("runs/a/metrics.csv");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, format!("{text}25,1.0,0.")).unwrap();
    fs::write(folder.join("runs/b/evaluations.csv"), [0xff]).unwrap();
    let errors = fails(folder, &["watch", "--once"]);
    assert!(
        errors.contains("name runs to watch") && errors.contains("`trajformer watch runs --once`"),
        "{errors}"
    );
    let found = output(folder, &["watch", "runs", "nowhere", "--size", "120x40"]);
    assert_eq!(found.status.code(), Some(1), "a folder is none");
    let errors = String::from_utf8(found.stderr).unwrap();
    assert!(
        errors.contains("error: run nowhere: there is no such folder"),
        "{errors}"
    );
    let shown = String::from_utf8(found.stdout).unwrap();
    for word in ["b: ", "evaluations.csv", "nowhere", "20/20", "critic_loss"] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
}

#[test]
fn policies_with_a_distribution_act_by_samples_where_they_are_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let json = |arguments: &[&str]| -> Value {
        let printed = succeeds(folder, arguments);
        serde_json::from_str(printed.lines().last().unwrap()).unwrap()
    };
    for algorithm in [
        "awac", "bear", "brac", "cql", "crr", "edac", "fast", "iql", "sac", "sac_n", "sac_rnd",
    ] {
        run::start(
            &with(folder, algorithm, 6, &["evaluate.every_updates=0"]),
            &folder.join(algorithm),
        )
        .unwrap();
        let mean = json(&["evaluate", algorithm, "--json"]);
        let sampled = json(&["evaluate", algorithm, "--sample", "--json"]);
        assert_eq!(
            (&mean["sampled"], &sampled["sampled"]),
            (&false.into(), &true.into())
        );
        assert_ne!(mean["returns"], sampled["returns"], "{algorithm}");
        // The same seed draws the same; another draws others from the same starts of other seeds.
        assert_eq!(
            sampled,
            json(&["evaluate", algorithm, "--sample", "--json"])
        );
        let printed = succeeds(folder, &["evaluate", algorithm, "--sample"]);
        assert!(printed.contains("actions were sampled"), "{printed}");
    }
    for algorithm in [
        "bc",
        "td3_bc",
        "rebrac",
        "decision_transformer",
        "trajectory_transformer",
    ] {
        run::start(
            &with(folder, algorithm, 2, &["evaluate.episodes=0"]),
            &folder.join(algorithm),
        )
        .unwrap();
        let errors = fails(
            folder,
            &["evaluate", algorithm, "--sample", "--episodes", "1"],
        );
        assert!(
            errors.contains("no distribution to sample") && errors.contains("leave `--sample` out"),
            "{errors}"
        );
    }
}

/// Samples of a Gaussian actor have its mean and its spread: a narrow one's stay at the mean.
#[test]
fn samples_are_spread_around_the_mean_as_the_distribution_says() {
    use candle_core::{Device, Tensor};
    use trajformer::EpisodeStart;
    use trajformer::rng::Rng;

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    run::start(
        &with(folder, "awac", 5, &["evaluate.episodes=0"]),
        &folder.join("run"),
    )
    .unwrap();
    let trained = run::open(&folder.join("run"), &[]).unwrap();
    let rows = 4000;
    let observations = Tensor::new(&[[0.5f32, 0.8, 0.1]], &Device::Cpu).unwrap();
    let observations = observations
        .broadcast_as((rows, 3))
        .unwrap()
        .contiguous()
        .unwrap();
    let act = |mut policy: Box<dyn trajformer::Policy>| {
        let starts: Vec<EpisodeStart> = (0..rows)
            .map(|row| EpisodeStart::new(Rng::from_seed(row as u64)))
            .collect();
        policy.begin(&starts).unwrap();
        let actions = policy.act(&observations, &vec![true; rows]).unwrap();
        actions.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let mean = f64::from(act(trained.algorithm.policy().unwrap())[0]);
    let mut drawn = act(trained.sampling_policy().unwrap());
    drawn.sort_by(f32::total_cmp);
    let (median, spread) = (
        f64::from(drawn[rows / 2]),
        f64::from(drawn[rows * 3 / 4] - drawn[rows / 4]),
    );
    // The median is no other for what is clipped at the bounds. Four of its standard errors.
    let error = 1.253 * (spread / 1.349) / (rows as f64).sqrt();
    assert!(
        (median - mean).abs() < 4.0 * error,
        "{median} {mean} {error}"
    );
    assert!(spread > 0.01, "{spread}");
}

#[test]
fn a_series_is_kept_by_the_configuration_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let options = run::RunOptions::default();
    let series = folder.join("series");
    let train = |keys: &[&str], updates: u64| {
        let config = with(folder, "bc", updates, keys);
        let found = run::series(&config, &series, &[1], &options).unwrap();
        assert!(found.failures.is_empty(), "{:?}", found.failures);
    };
    train(&["train.keep=all"], 10);
    train(&[], 20);
    let seed = series.join("seed-1");
    assert_eq!(kept(&seed), ["00000005", "00000010"]);
    train(&["train.keep_every_updates=15"], 30);
    assert_eq!(kept(&seed), ["00000005", "00000010", "00000030"]);
}
