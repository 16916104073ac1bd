//! Seeds of one configuration that are there already, in part or beside other commands: what counts, what is waited for, and what is said of the rest.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cli::{fails, output, succeeds, trained};

fn last_json(printed: &str) -> Value {
    serde_json::from_str(printed.lines().last().expect("a line")).unwrap()
}

/// Trains these seeds in `s`, with `rest`, and fails if that does not succeed; what it prints.
fn seeds(folder: &Path, range: &str, rest: &[&str]) -> String {
    let series = ["train", "run.toml", "--out", "s", "--seeds", range];
    succeeds(folder, &[&series[..], rest].concat())
}

/// As [`seeds`], of what must fail; what it complains about.
fn refused(folder: &Path, range: &str, rest: &[&str]) -> String {
    let series = ["train", "run.toml", "--out", "s", "--seeds", range];
    fails(folder, &[&series[..], rest].concat())
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

/// Other data of the same shape in `other.npz`, and the same in another place, `moved.npz`.
fn with_other_data() -> tempfile::TempDir {
    let folder = trained();
    let path = folder.path();
    let collect = "data collect --env pendulum-v1 --policy random --seed 7 --steps 400 other.npz";
    succeeds(path, &collect.split(' ').collect::<Vec<_>>());
    fs::copy(path.join("data.npz"), path.join("moved.npz")).unwrap();
    folder
}

#[test]
fn finished_seeds_are_no_result_of_settings_that_they_were_not_trained_with() {
    let folder = with_other_data();
    let folder = folder.path();
    seeds(folder, "0..2", &[]);
    let other = [
        "`data.path` was [\"data.npz\"], is [\"other.npz\"]: its data had checksum",
        "choose another folder, or give what it was trained with",
        "2 of 2 seeds failed; the same command tries them again, once what is said of them is mended",
        "`--out DIR`",
    ];
    for jobs in ["1", "2"] {
        let keys = ["--jobs", jobs, "--set", "data.path=other.npz"];
        has(&refused(folder, "0..2", &keys), &other);
    }
    // Also where updates are left, and where seeds of other data lie beside those that are asked for.
    let longer = ["--set", "data.path=other.npz", "--set", "train.updates=6"];
    has(&refused(folder, "0..2", &longer), &other);
    let beside = refused(folder, "2..4", &longer[..2]);
    has(&beside, &["it holds s/seed-0, a seed of another", other[0]]);
    // What is not there may be any data.
    let gone = refused(folder, "0..2", &["--set", "data.path=gone.npz"]);
    has(
        &gone,
        &["is [\"gone.npz\"]: whether that is the data that it learned from is not known"],
    );
    // Keys that a run may change on its way change nothing of one that is finished.
    let patience = refused(folder, "0..2", &["--set", "train.patience_evaluations=3"]);
    has(
        &patience,
        &["`train.patience_evaluations` was not set, is 3"],
    );
    // A run that is resumed by name follows the same rule.
    let resume = ["train", "--resume", "s/seed-0", "--set"];
    for (key, words) in [
        ("data.path=other.npz", other[0]),
        ("train.patience_evaluations=3", "it is finished"),
    ] {
        has(&fails(folder, &[&resume[..], &[key]].concat()), &[words]);
    }
    // Where the same data lies, and what is kept, are no settings of a result.
    seeds(folder, "0..2", &["--set", "data.path=moved.npz"]);
    seeds(folder, "0..2", &["--set", "train.keep=all"]);

    let sweep = |keys: &str| {
        let text = format!("configs = \"run.toml\"\nseeds = \"0..2\"\n{keys}\n");
        fs::write(folder.join("sweep.toml"), text).unwrap();
        let found = output(folder, &["sweep", "sweep.toml", "--out", "w"]);
        (
            found.status.code(),
            String::from_utf8(found.stderr).unwrap(),
        )
    };
    assert_eq!(sweep("").0, Some(0));
    let (code, errors) = sweep("set.data.path = \"other.npz\"");
    assert_eq!(code, Some(1), "{errors}");
    has(
        &errors,
        &[
            "2 of its runs are there with another configuration",
            other[0],
        ],
    );
    let (code, errors) = sweep("set.data.path = \"moved.npz\"");
    assert_eq!(code, Some(0), "{errors}");

    // Other data under the same name is other data.
    fs::copy(folder.join("other.npz"), folder.join("data.npz")).unwrap();
    let replaced = ["`data.path`", "its data had checksum"];
    for asked in ["0..2", "0..3"] {
        has(&refused(folder, asked, &[]), &replaced);
    }
    has(
        &fails(folder, &["train", "--resume", "s/seed-0"]),
        &replaced,
    );
    let (code, errors) = sweep("");
    assert_eq!(code, Some(1), "{errors}");
    has(&errors, &replaced);
}

#[test]
fn what_is_missing_from_tables_is_said_by_whoever_reads_them_for_a_result() {
    let folder = trained();
    let folder = folder.path();
    seeds(folder, "0..2", &[]);
    fs::remove_file(folder.join("s/seed-0/evaluations.csv")).unwrap();
    let metrics = folder.join("s/seed-1/metrics.csv");
    let whole = fs::read_to_string(&metrics).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(&metrics, lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    let said = [
        "s/seed-0: evaluations.csv is missing, and the run was evaluated after 4 updates: its scores are not known; restore it from a copy",
        "s/seed-1: metrics.csv ends with update 2, and the run has logged until 4 updates: rows are missing; restore it from a copy",
    ];
    for command in [
        "train run.toml --out s --seeds 0..2 --json",
        "compare s --json",
        "report s --episodes 0",
    ] {
        let found = output(folder, &command.split(' ').collect::<Vec<_>>());
        let text = [found.stdout, found.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(found.status.success(), "{command}: {text}");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        has(&flat, &said);
        if command.starts_with("train") {
            has(
                &flat,
                &["no mean over seeds: 1 of 2 have no score", "\"warnings\":["],
            );
        }
        if command.starts_with("compare") {
            assert!(!flat.contains("no evaluation yet"), "{flat}");
        }
    }
    let losses = output(folder, &["compare", "s", "--metric", "actor_loss"]);
    has(&String::from_utf8(losses.stderr).unwrap(), &[said[1]]);
    fs::remove_file(folder.join("s/seed-1/evaluations.csv")).unwrap();
    fs::remove_file(&metrics).unwrap();
    let none = fails(folder, &["compare", "s"]);
    has(
        &none,
        &[
            "s has no evaluation: ",
            said[0],
            "s/seed-1: metrics.csv is missing, and the run has logged until 4 updates: its losses are not known",
        ],
    );
}

#[test]
fn a_seed_that_lost_its_scores_is_said_to_have_at_the_end_of_a_sweep() {
    let folder = trained();
    let folder = folder.path();
    fs::write(
        folder.join("sweep.toml"),
        "configs = \"run.toml\"\nseeds = \"0..2\"\n",
    )
    .unwrap();
    let sweep = ["sweep", "sweep.toml", "--out", "w"];
    succeeds(folder, &sweep);
    let lines = fs::read_dir(folder.join("w")).unwrap().flatten();
    let mut lines = lines.map(|entry| entry.path());
    let line = lines.find(|path| path.join("seed-0").is_dir()).unwrap();
    fs::remove_file(line.join("seed-0/evaluations.csv")).unwrap();
    let printed = succeeds(folder, &sweep);
    let flat = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    has(
        &flat,
        &["seed-0: evaluations.csv is missing, and the run was evaluated after 4 updates"],
    );
}

/// What a command that succeeds prints and complains about, in one line.
fn said(folder: &Path, command: &str) -> String {
    let found = output(folder, &command.split(' ').collect::<Vec<_>>());
    let text = String::from_utf8([found.stdout, found.stderr].concat()).unwrap();
    assert!(found.status.success(), "{command}: {text}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn rows_that_were_lost_before_a_run_went_on_are_said_then_and_by_whoever_reads_its_tables() {
    let folder = trained();
    let folder = folder.path();
    let sweep = |updates: u64| {
        let text =
            format!("configs = \"run.toml\"\nseeds = \"0..3\"\nset.train.updates = {updates}\n");
        fs::write(folder.join("sweep.toml"), text).unwrap();
        said(folder, "sweep sweep.toml --out w")
    };
    sweep(4);
    let lines = fs::read_dir(folder.join("w")).unwrap().flatten();
    let mut lines = lines.map(|entry| entry.path());
    let line = lines.find(|path| path.join("seed-0").is_dir()).unwrap();
    fs::remove_file(line.join("seed-0/metrics.csv")).unwrap();
    fs::remove_file(line.join("seed-0/evaluations.csv")).unwrap();
    let metrics = line.join("seed-1/metrics.csv");
    let whole = fs::read_to_string(&metrics).unwrap();
    let rows: Vec<&str> = whole.lines().collect();
    fs::write(&metrics, rows[..rows.len() - 1].join("\n") + "\n").unwrap();
    let lost = [
        "seed-0: metrics.csv begins with update 6: earlier rows were lost",
        "seed-0: evaluations.csv begins with update 6: earlier rows were lost",
        "seed-1: metrics.csv has no row between the updates 2 and 6: rows were lost",
    ];
    let at_its_end = sweep(8);
    has(
        &at_its_end,
        &[
            "seed-0: metrics.csv is missing, and the run has logged until 4 updates: its losses are not known; it goes on without",
            "seed-0: evaluations.csv is missing, and the run was evaluated after 4 updates: its scores are not known; it goes on without",
            "seed-1: metrics.csv ends with update 2, and the run has logged until 4 updates: rows are missing; it goes on without",
        ],
    );
    has(&at_its_end, &lost);
    let name = format!("w/{}", line.file_name().unwrap().to_str().unwrap());
    for command in [
        format!("train run.toml --out {name} --seeds 0..3 --set train.updates=8"),
        format!("compare {name}"),
        format!("compare {name} --metric actor_loss"),
        format!("report {name} --episodes 0"),
        format!("choose {name} --updates 2 --members 2"),
    ] {
        let found = said(folder, &command);
        has(&found, &lost);
        assert!(!found.contains("seed-2: metrics"), "{found}");
        assert!(!found.contains("seed-2: evaluations"), "{found}");
    }
    let watched = said(folder, &format!("watch {name} --once --size 200x60"));
    for words in lost {
        has(&watched, &[words.split_once(": ").unwrap().1]);
    }
}

#[test]
fn seeds_that_were_not_trained_alike_are_said_to_be_wherever_they_share_a_mean() {
    let folder = trained();
    let folder = folder.path();
    let small = fs::read_to_string(folder.join("run.toml")).unwrap();
    let iql = small.replace("[algorithm.bc]", "[algorithm.iql]");
    assert_ne!(iql, small);
    fs::write(folder.join("iql.toml"), &iql).unwrap();
    let train = |rest: &str| said(folder, &format!("train iql.toml --out i --seeds {rest}"));
    train("0..1");
    // Its rates fell over 4 updates, the other's fall over 8.
    let first = train("0..2 --set train.updates=8 --json");
    let unlike = [
        "its runs were not trained alike, yet count as seeds; learning rates changed on the way of i/seed-0 \
         (`train.updates` was 4, is 8 from update 4 on)",
    ];
    has(&first, &unlike);
    has(
        &first,
        &["\"warnings\":[\"i: its runs were not trained alike"],
    );
    for command in [
        "train iql.toml --out i --seeds 0..2 --set train.updates=8",
        "compare i",
        "compare i --metric critic_loss",
        "report i --episodes 0",
    ] {
        has(&said(folder, command), &unlike);
    }
    let of_one = "i/seed-0: `train.updates` was 4, is 8 from update 4 on: what was done before was trained at other learning rates";
    has(&said(folder, "choose i --updates 2 --members 2"), &[of_one]);
    let alone = said(folder, "compare i/seed-0");
    let words =
        "seed-0 on data: `train.updates` was 4, is 8 from update 4 on: what was done before";
    has(&alone, &[words]);
    assert!(!said(folder, "compare i/seed-1").contains("update 4 on"));
    // Where it goes on from keeps what it was, and a later change comes to it.
    said(
        folder,
        "train --resume i/seed-0 --out b --set train.updates=10",
    );
    let both = "`train.updates` was 4, is 8 from update 4 on, `train.updates` was 8, is 10 from update 8 on";
    has(&said(folder, "compare b"), &[both]);

    // Without schedules a longer run is what it would have been; seeds of two lengths are none of one configuration.
    said(folder, "train run.toml --out s --seeds 0..1");
    said(
        folder,
        "train run.toml --out s --seeds 0..2 --set train.updates=8",
    );
    assert!(!said(folder, "compare s").contains("alike"));
    said(folder, "train --resume s/seed-1 --set train.updates=10");
    let lengths =
        "s: its runs differ in more than the seed, yet count as seeds: `train.updates` (8, 10)";
    for command in ["report s --episodes 0", "compare s --metric actor_loss"] {
        has(&said(folder, command), &[lengths]);
    }
}

#[test]
fn a_run_that_another_process_trains_is_not_to_be_resumed_now() {
    let folder = trained();
    let folder = folder.path();
    let lock = fs::File::create(folder.join("run/train.lock")).unwrap();
    lock.lock().unwrap();
    for command in ["train run.toml --out run", "train --resume run --out run"] {
        let said = fails(folder, &command.split(' ').collect::<Vec<_>>());
        has(
            &said,
            &["run run: another process trains it now: wait for its end"],
        );
        assert!(!said.contains("--resume"), "{said}");
    }
    drop(lock);
    let said = fails(folder, &["train", "run.toml", "--out", "run"]);
    has(&said, &["there is a run already", "`train --resume run`"]);
}

#[test]
fn data_of_seeds_beside_those_that_are_asked_for_is_read_once() {
    use trajformer::config::RunConfig;
    use trajformer::run::{self, RunOptions};

    let folder = with_other_data();
    let folder = folder.path();
    seeds(folder, "0..2", &[]);
    let moved = folder.join("moved.npz");
    let text = fs::read_to_string(folder.join("run.toml")).unwrap();
    let text = text.replace("data.npz", moved.to_str().unwrap());
    let config = RunConfig::parse(&text).unwrap();
    let (out, options) = (folder.join("s"), RunOptions::default());
    let mut asked = run::check_series(&config, &out, &[1], &options).unwrap();
    fs::remove_file(&moved).unwrap();
    let series = run::series_beside(&config, &out, &[1], &options, &mut asked);
    assert!(series.failures.is_empty(), "{series:?}");
    // It can tell: nothing is known of it otherwise.
    let series = run::series(&config, &out, &[0, 1], &options).unwrap();
    assert_eq!(series.failures.len(), 2, "{series:?}");
}

/// The command, and the lines that it complains with.
fn started(mut command: Command) -> (Child, impl Iterator<Item = String>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("RAYON_NUM_THREADS", "2")
        .env("TRAJFORMER_LOG", "info")
        .spawn()
        .unwrap();
    let errors = BufReader::new(child.stderr.take().unwrap());
    (child, errors.lines().map_while(Result::ok))
}

/// A lock of the run in `folder/s/seed-N`, as a process has it that trains there.
fn held(folder: &Path, seed: u64) -> fs::File {
    let run = folder.join(format!("s/seed-{seed}"));
    fs::create_dir_all(&run).unwrap();
    let lock = fs::File::create(run.join("train.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_seed_that_another_command_trains_comes_last_and_is_waited_for() {
    let folder = trained();
    let folder = folder.path();
    for (jobs, words) in [
        (
            "1",
            "s: the seed 0 is being trained by other processes: waiting",
        ),
        ("2", "1 run is being trained by other processes: waiting"),
    ] {
        let _ = fs::remove_dir_all(folder.join("s"));
        let lock = held(folder, 0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
        let series = "train run.toml --out s --seeds 0..3 --json --jobs";
        command
            .args(series.split(' '))
            .arg(jobs)
            .current_dir(folder);
        let (child, mut lines) = started(command);
        let waits = |line: String| {
            // What is started now would be waited for without a word, and so would this test.
            assert!(!line.contains("seed-0: started"), "{line}");
            line.contains(words)
        };
        assert!(lines.any(waits), "{words}: never said");
        for seed in [1, 2] {
            let state = folder.join(format!("s/seed-{seed}/state.toml"));
            assert!(state.exists(), "{jobs}: seed {seed} waited too");
        }
        assert!(!folder.join("s/seed-0/state.toml").exists());
        drop(lock);
        let rest: Vec<String> = lines.collect();
        let found = child.wait_with_output().unwrap();
        assert!(found.status.success(), "{rest:?}");
        let json = last_json(&String::from_utf8(found.stdout).unwrap());
        let runs: Vec<&str> = json["runs"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(Value::as_str)
            .collect();
        assert_eq!(runs, ["s/seed-0", "s/seed-1", "s/seed-2"], "{jobs}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_is_replaced_while_it_trains_goes_on_with_itself() {
    use std::os::unix::fs::PermissionsExt;

    let folder = trained();
    let folder = folder.path();
    // On the disk of the program, for the link.
    let bin = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = bin.path().join("program");
    fs::hard_link(env!("CARGO_BIN_EXE_trajformer"), &program).unwrap();
    let lock = held(folder, 2);
    let mut command = Command::new(&program);
    let series = "train run.toml --out s --seeds 0..3 --jobs 2";
    command.args(series.split(' ')).current_dir(folder);
    let (child, mut lines) = started(command);
    assert!(lines.any(|line| line.contains(": waiting")));
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    drop(lock);
    let rest: Vec<String> = lines.collect();
    let found = child.wait_with_output().unwrap();
    assert!(found.status.success(), "{rest:?}");
    assert!(folder.join("s/seed-2/state.toml").exists());
}

#[test]
fn an_interrupt_takes_nothing_from_seeds_that_were_finished_before() {
    let folder = trained();
    let folder = folder.path();
    seeds(folder, "2..4", &[]);
    for (range, jobs, left) in [("1..4", "1", vec![1]), ("0..4", "2", vec![0, 1])] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
        // Enough to do that none of those that are left is finished before its end is asked for, at once.
        let series = "train run.toml --out s --until-stdin-closes --json --seeds";
        command
            .args(series.split(' '))
            .args([range, "--jobs", jobs]);
        let found = command
            .stdin(Stdio::null())
            .current_dir(folder)
            .output()
            .unwrap();
        let printed = String::from_utf8(found.stdout).unwrap();
        assert_eq!(found.status.code(), Some(130), "{printed}");
        let json = last_json(&printed);
        assert_eq!(json["interrupted"], true);
        assert_eq!(json["seeds_left"], serde_json::json!(left), "{json}");
        let runs = json["runs"].to_string();
        has(&runs, &["s/seed-2", "s/seed-3"]);
        assert!(json["return_mean"].is_number(), "{json}");
        let said = format!("interrupted: 2 of {} seeds are finished", left.len() + 2);
        has(&printed, &[&said, "over 2 seeds"]);
    }
}
