//! Trainings that are killed, terminated, or run out of space at instants that the clock chooses end with the bits of one that nothing
//! disturbed. `tests/soak/run` does the same for hours, and kills at every system call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trajformer::checkpoint::RunDir;
use trajformer::run;

use crate::damaged::has;
use crate::runs::{check_same_checkpoint, check_same_run, config, small, write_data};

const UPDATES: u64 = 20;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Data, the configuration `FILE.toml`, and how long the run `whole` takes.
fn whole(folder: &Path, algorithm: &str, keep: &str) -> Duration {
    write_data(folder);
    let text = format!(
        "seed = 3\n[data]\npath = \"data.npz\"\n[train]\nupdates = {UPDATES}\ncheckpoint_every_updates = 2\nlog_every_updates = 3\n\
         keep = \"{keep}\"\nkeep_every_updates = 10\n[evaluate]\nenv = \"pendulum-v1\"\nevery_updates = 5\nepisodes = 1\n\
         [algorithm.{algorithm}]\n{}\n",
        small(algorithm)
    );
    fs::write(folder.join("run.toml"), text).unwrap();
    let begin = Instant::now();
    let (status, said) = ended(start(folder, "whole"));
    assert_eq!(status, Some(0), "{said}");
    begin.elapsed()
}

/// Begins the run `out`, or goes on with it.
fn start(folder: &Path, out: &str) -> Child {
    let is_there = folder.join(out).join("config.toml").exists();
    let begun = &["train", "--resume", out][..];
    let new = &["train", "run.toml", "--out", out];
    let arguments = if is_there { begun } else { new };
    command(folder, arguments).spawn().unwrap()
}

fn ended(child: Child) -> (Option<i32>, String) {
    let found = child.wait_with_output().unwrap();
    let said = [found.stdout, found.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (found.status.code(), said)
}

/// Waits, for this time at most; whether the process has ended.
fn ended_within(child: &mut Child, time: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < time {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn files(run: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![run.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().contains("tfevents") {
                found.push(path.strip_prefix(run).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// The same checkpoint, tables and kept checkpoints, and nothing beside them.
fn check_same(folder: &Path, out: &str, what: &str) {
    let (whole, other) = (folder.join("whole"), folder.join(out));
    check_same_run(&whole, &other, what);
    assert_eq!(files(&whole), files(&other), "{what}");
    let Ok(kept) = fs::read_dir(whole.join("checkpoints")) else {
        return;
    };
    for name in kept.map(|entry| entry.unwrap().file_name()) {
        let of = |run: &Path| run.join("checkpoints").join(&name);
        let (whole, other) = (of(&whole), of(&other));
        // There is a table once something was evaluated.
        if whole.join("evaluations.csv").exists() {
            check_same_run(&whole, &other, &format!("{what}, {name:?}"));
        } else {
            check_same_checkpoint(&whole, &other, &format!("{what}, {name:?}"));
        }
    }
}

/// Instants that are spread over a run; not the same at every call of the tests, as clocks are not.
fn instants(seed: u64) -> impl FnMut(Duration) -> Duration {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |within| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        within.mul_f64((state >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[test]
fn a_training_that_is_killed_at_any_instant_ends_with_the_bits_of_an_undisturbed_one() {
    const KILLS: usize = 8;
    for (seed, (algorithm, keep)) in [
        ("td3_bc", "best"),
        ("edac", "last"),
        ("decision_transformer", "all"),
        ("trajectory_transformer", "last"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let takes = whole(folder, algorithm, keep);
        let mut instant = instants(seed as u64 + 1);
        let mut kills = 0;
        while kills < KILLS {
            let out = format!("killed-{kills}");
            loop {
                let mut child = start(folder, &out);
                let wait = if kills < KILLS {
                    instant(takes.mul_f64(0.8))
                } else {
                    Duration::from_secs(600)
                };
                if !ended_within(&mut child, wait) {
                    child.kill().unwrap();
                    let (_, said) = ended(child);
                    assert!(!said.contains("error"), "{algorithm}: {said}");
                    kills += 1;
                    continue;
                }
                let (status, said) = ended(child);
                assert_eq!(status, Some(0), "{algorithm}: {said}");
                break;
            }
            check_same(folder, &out, algorithm);
        }
    }
}

/// Between a checkpoint and its copy, after the last update: nothing else is left to do.
#[test]
fn the_copy_of_a_last_checkpoint_that_a_kill_left_out_is_made_when_the_run_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    for keep in ["all", "best"] {
        let keys = [format!("train.keep={keep}")];
        let config = config(folder, "bc", 5).with_overrides(&keys).unwrap();
        let out = folder.join(keep);
        run::start(&config, &out).unwrap();
        let kept = out.join("checkpoints/00000005");
        let before = folder.join(format!("{keep}-kept"));
        fs::rename(&kept, &before).unwrap();
        fs::create_dir(kept.with_extension("new")).unwrap();
        let there = RunDir::open(&out).unwrap();
        let mut state = there.state().unwrap().unwrap();
        assert!(!state.copy_pending && state.is_end_of(&config));
        state.copy_pending = true;
        assert!(!state.is_end_of(&config));
        there.record(state).unwrap();
        let outcome = run::resume(&out, &[]).unwrap();
        assert!(outcome.update == 5 && outcome.evaluation.is_some());
        check_same_checkpoint(&before, &kept, keep);
        assert!(!kept.with_extension("new").exists());
        for run in [&out, &kept] {
            let state = RunDir::open(run).unwrap().state().unwrap().unwrap();
            assert!(!state.copy_pending);
        }
    }
}

#[cfg(unix)]
mod signals {
    use super::*;

    fn send(child: &Child, signal: &str) {
        let id = child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    fn wait_for_a_checkpoint(run: &Path, child: &mut Child) {
        while !run.join("state.toml").exists() {
            assert!(!ended_within(child, Duration::from_millis(5)), "it ended");
        }
    }

    #[test]
    fn a_terminated_training_saves_says_how_to_go_on_and_has_the_tables_of_an_undisturbed_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        whole(folder, "td3_bc", "last");
        // So long that it is met; the rest is trained at once.
        let long = |out: &str| {
            let keys = "train.updates=1000000";
            let all = ["train", "run.toml", "--out", out, "--set", keys];
            command(folder, &all)
        };
        for (signals, status, environment) in [
            (&["-TERM"][..], 0, None),
            (&["-TERM", "-TERM", "-TERM"], 0, None),
            (&["-TERM"], 143, Some("143")),
            (&["-INT"], 130, Some("143")),
        ] {
            let out = format!("{}{status}", signals.len());
            let mut command = long(&out);
            command.envs(environment.map(|status| ("TRAJFORMER_TERMINATED_STATUS", status)));
            let mut child = command.spawn().unwrap();
            wait_for_a_checkpoint(&folder.join(&out), &mut child);
            signals.iter().for_each(|signal| send(&child, signal));
            let (found, said) = ended(child);
            assert_eq!(found, Some(status), "{said}");
            has(
                &said,
                &[
                    "saving a checkpoint",
                    "interrupted; continue with: trajformer train --resume",
                ],
            );
            let state = RunDir::open(&folder.join(&out)).unwrap().state();
            assert!(state.unwrap().is_some());
        }
        // Between two rows of metrics: the next has the mean of all updates since the last.
        for seed in 0..3 {
            let out = format!("again-{seed}");
            let mut instant = instants(seed + 1);
            loop {
                let mut child = start(folder, &out);
                if !ended_within(&mut child, instant(Duration::from_millis(900))) {
                    send(&child, "-TERM");
                }
                let (_, said) = ended(child);
                if folder.join(&out).join("state.toml").exists() && !said.contains("interrupted") {
                    break;
                }
            }
            check_same(folder, &out, "terminated");
        }
    }
}

/// On a disk of so many kilobytes, in a namespace of its own; skipped where the system has none for this user.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_the_run_goes_on_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    whole(folder, "bc", "all");
    fs::create_dir(folder.join("disk")).unwrap();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["-Urm", "sh", "-ec", script])
            .current_dir(folder);
        command.env("RAYON_NUM_THREADS", "1").env("NO_COLOR", "1");
        command.output()
    };
    let mount = "mount -t tmpfs -o size=64k none disk";
    match unshare(mount) {
        Ok(found) if found.status.success() => {}
        found => {
            eprintln!("left out: no file system can be mounted here: {found:?}");
            return;
        }
    }
    let program = env!("CARGO_BIN_EXE_trajformer");
    for size in ["8k", "28k", "64k"] {
        let script = format!(
            "mount -t tmpfs -o size={size} none disk\n\
             {program} train run.toml --out disk/run && exit 9\n\
             mount -o remount,size=64m disk\n\
             test -e disk/run/config.toml && way='--resume disk/run' || way='run.toml --out disk/run'\n\
             {program} train $way >&2\n\
             cp -r disk/run full-{size}\n"
        );
        let found = unshare(&script).unwrap();
        let said = String::from_utf8_lossy(&[found.stdout, found.stderr].concat()).into_owned();
        assert!(found.status.success(), "{size}: {said}");
        has(
            &said,
            &["No space left on device", "free space there", "disk/run/"],
        );
        check_same(folder, &format!("full-{size}"), size);
    }
}
