//! `trajformer sweep`: what a file means, shards, and sweeps of tiny runs that are killed, fail, and go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use trajformer::sweep::{Plan, Shard, SweepFile};
use trajformer::{data, policy};

use crate::runs::check_same_checkpoint;

/// Configurations of three algorithms in `configs/ALGORITHM/tiny.toml`, for data that the sweep names.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tables = [
        ("bc", "batch_size = 8\nhidden = [8]"),
        ("td3_bc", "batch_size = 8\nhidden = [8]"),
        ("iql", "batch_size = 8\nhidden = [8]"),
    ];
    for (algorithm, table) in tables {
        let path = folder.path().join("configs").join(algorithm);
        fs::create_dir_all(&path).unwrap();
        let text = format!(
            "[train]\nupdates = 30\ncheckpoint_every_updates = 10\nlog_every_updates = 10\n[evaluate]\nenv = \"pendulum-v1\"\n\
             every_updates = 10\nepisodes = 1\n[algorithm.{algorithm}]\n{table}\n"
        );
        fs::write(path.join("tiny.toml"), text).unwrap();
    }
    folder
}

/// Two data sets beside the configurations.
fn with_data() -> tempfile::TempDir {
    let folder = folder();
    for (name, seed) in [("one", 1), ("two", 2)] {
        let mut env = trajformer::envs::make("pendulum-v1").unwrap();
        let mut random = policy::simple::RandomPolicy::new(env.spec());
        let found = data::collect::collect(&mut *env, &mut random, 400, seed).unwrap();
        data::save(&found, &folder.path().join(format!("{name}.npz"))).unwrap();
    }
    let text = "configs = \"configs/{algorithm}/tiny.toml\"\nalgorithms = [\"bc\", \"td3_bc\", \"iql\"]\nseeds = \"0..2\"\n\
                jobs = 2\n[datasets]\none = \"one.npz\"\ntwo = \"two.npz\"\n";
    fs::write(folder.path().join("sweep.toml"), text).unwrap();
    folder
}

fn plan(folder: &Path, text: &str) -> trajformer::Result<Plan> {
    let file = SweepFile::parse(text, &folder.join("sweep.toml"))?;
    Plan::of_file(&file, &folder.join("out"))
}

fn names(plan: &Plan) -> Vec<String> {
    plan.lines.iter().map(|line| line.name.clone()).collect()
}

fn key(plan: &Plan, line: usize, key: &str) -> String {
    let settings = trajformer::checkpoint::fingerprint::all_settings(&plan.lines[line].config);
    settings.unwrap()[key].clone()
}

const ALL: &str = "configs = \"configs/{algorithm}/tiny.toml\"\nalgorithms = [\"bc\", \"iql\"]\n";

#[test]
fn algorithms_data_sets_grids_and_seeds_are_multiplied() {
    let folder = folder();
    let folder = folder.path();
    let text = format!(
        "{ALL}seeds = [4, 7]\n[datasets]\na = \"a.npz\"\nb = [\"b.npz\", \"c.npz\"]\n[set]\ntrain.updates = 20\n\
         [grid]\n\"algorithm.iql.expectile\" = [0.7, 0.9]\n\"train.log_every_updates\" = [5, 10]\n"
    );
    let found = plan(folder, &text).unwrap();
    let expected = [
        "bc-tiny-a-log_every_updates=5",
        "bc-tiny-a-log_every_updates=10",
        "bc-tiny-b-log_every_updates=5",
        "bc-tiny-b-log_every_updates=10",
        "iql-tiny-a-expectile=0.7-log_every_updates=5",
        "iql-tiny-a-expectile=0.7-log_every_updates=10",
        "iql-tiny-a-expectile=0.9-log_every_updates=5",
        "iql-tiny-a-expectile=0.9-log_every_updates=10",
    ];
    assert_eq!(names(&found)[..8], expected);
    assert_eq!((found.lines.len(), found.runs.len()), (12, 24));
    assert_eq!(key(&found, 6, "algorithm.iql.expectile"), "0.9");
    assert_eq!(key(&found, 6, "train.log_every_updates"), "5");
    for line in 0..12 {
        assert_eq!(key(&found, line, "train.updates"), "20");
    }
    assert_eq!(key(&found, 2, "data.path"), "[\"b.npz\", \"c.npz\"]");
    let run = &found.runs[13];
    assert_eq!((run.line, run.seed, found.config(run).seed), (6, 7, 7));
    assert_eq!(
        run.folder,
        folder.join("out").join(expected[6]).join("seed-7")
    );
}

#[test]
fn groups_have_what_is_common_and_keys_of_their_own() {
    let folder = folder();
    let text = "configs = \"configs/{algorithm}/tiny.toml\"\nseeds = \"0..2\"\ndata_dir = \"elsewhere\"\nset.train.updates = 20\n\
                [datasets]\na = \"a.npz\"\n\
                [[runs]]\nalgorithms = \"bc\"\nset.train.updates = 50\n[[runs]]\nalgorithms = [\"iql\"]\nseeds = 9\nlabel = \"late\"\n";
    let found = plan(folder.path(), text).unwrap();
    assert_eq!(names(&found), ["bc-tiny-a", "iql-tiny-a-late"]);
    assert_eq!(
        [0, 1].map(|line| key(&found, line, "train.updates")),
        ["50", "20"]
    );
    assert_eq!(key(&found, 1, "data.path"), "[\"elsewhere/a.npz\"]");
    let seeds: Vec<u64> = found.runs.iter().map(|run| run.seed).collect();
    assert_eq!(seeds, [0, 1, 9]);
}

#[test]
fn keys_that_take_whole_numbers_are_drawn_as_such_with_both_ends() {
    let folder = folder();
    let text = "configs = \"configs/iql/tiny.toml\"\n[random]\nsamples = 400\nseed = 5\n\
                \"algorithm.iql.batch_size\" = { int = [2, 5] }\n\"train.updates\" = { log_int = [1, 64] }\n";
    let found = plan(folder.path(), text).unwrap();
    let values = |name: &str| {
        let values = (0..400).map(|line| key(&found, line, name).parse().unwrap());
        values.collect::<Vec<u64>>()
    };
    let sizes = values("algorithm.iql.batch_size");
    for size in 2..=5 {
        let count = sizes.iter().filter(|found| **found == size).count();
        // 100 expected, with a standard deviation of 9.
        assert!((55..145).contains(&count), "{size}: {count}");
    }
    assert!(sizes.iter().all(|size| (2..=5).contains(size)));
    let updates = values("train.updates");
    assert!(updates.iter().all(|updates| (1..=64).contains(updates)));
    // Half of the logarithms from 1 to 65 are below 8.06.
    let low = updates.iter().filter(|updates| **updates <= 7).count();
    assert!((150..250).contains(&low), "{low}");
    assert!(updates.contains(&1) && updates.iter().any(|updates| *updates > 50));
}

#[test]
fn random_values_are_drawn_within_their_ranges_the_same_each_time() {
    let folder = folder();
    let text = |samples: usize| {
        format!(
            "configs = \"configs/iql/tiny.toml\"\n[random]\nsamples = {samples}\nseed = 5\n\
             \"algorithm.iql.expectile\" = {{ uniform = [0.6, 0.9] }}\n\"algorithm.iql.beta\" = {{ log_uniform = [0.1, 10] }}\n\
             \"algorithm.iql.batch_size\" = {{ choice = [4, 8] }}\n"
        )
    };
    let few = plan(folder.path(), &text(3)).unwrap();
    let many = plan(folder.path(), &text(30)).unwrap();
    assert_eq!(
        names(&few),
        [
            "iql-tiny-sample-0",
            "iql-tiny-sample-1",
            "iql-tiny-sample-2"
        ]
    );
    assert_eq!(few.lines[..], many.lines[..3]);
    let values = |name: &str| {
        (0..30)
            .map(|line| key(&many, line, name).parse().unwrap())
            .collect::<Vec<f64>>()
    };
    let expectiles = values("algorithm.iql.expectile");
    assert!(
        expectiles.iter().all(|value| (0.6..0.9).contains(value)),
        "{expectiles:?}"
    );
    let distinct: BTreeSet<String> = expectiles.iter().map(f64::to_string).collect();
    assert_eq!(distinct.len(), 30);
    assert!(
        values("algorithm.iql.beta")
            .iter()
            .all(|value| (0.1..10.0).contains(value))
    );
    let sizes: BTreeSet<String> = values("algorithm.iql.batch_size")
        .iter()
        .map(f64::to_string)
        .collect();
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), ["4", "8"]);
}

#[test]
fn what_a_sweep_can_not_mean_is_said() {
    let folder = folder();
    let check = |text: &str, words: &[&str]| {
        let error = plan(folder.path(), text).unwrap_err().to_string();
        for word in [&["sweep.toml"], words].concat() {
            assert!(error.contains(word), "{text}: {error}");
        }
    };
    let all = |more: &str| format!("{ALL}{more}");
    check(&all("sedes = [1]"), &["`sedes`", "did you mean `seeds`?"]);
    check(
        &all("[[runs]]\ngird.x = [1]"),
        &["`runs[0].gird`", "did you mean `grid`?"],
    );
    check(&all("thread = 2"), &["did you mean `threads`?"]);
    check(&all("seeds = [1, 1]"), &["`seeds` holds 1 twice"]);
    check(&all("seeds = \"5..0\""), &["5..0"]);
    check(&all("jobs = 0"), &["`jobs` is 0", "1 to 1024"]);
    check(&all("set.seed = 1"), &["`seeds`"]);
    check(
        &all("grid.train.updates = 5"),
        &["`grid.train.updates` is 5", "a list"],
    );
    check(&all("grid.train.updates = [5, 5]"), &["holds 5 twice"]);
    check(
        &all("set.train.update = 5"),
        &["unknown field `update`", "did you mean `updates`?"],
    );
    check(&all("\"set.algorithm.td3_bc.alpha\" = 5"), &["unknown key"]);
    check(
        &all("set.algorithm.td3_bc.alpha = 5"),
        &["`algorithm.td3_bc.alpha`", "none of the configurations"],
    );
    check(
        &all("[random]\nsamples = 2\nsample = 3"),
        &["did you mean `random.samples`?"],
    );
    check(&all("[random]\nseed = 2"), &["`random.samples` is missing"]);
    check(
        &all("[random]\nsamples = 2\ntrain.updates = { log_uniform = [0, 1] }"),
        &["above 0"],
    );
    check(
        &all("[random]\nsamples = 2\ntrain.updates = { int = [1.5, 3] }"),
        &["two whole numbers, the lower one first"],
    );
    check(
        &all("[random]\nsamples = 2\ntrain.updates = { uniform = [10, 30] }"),
        &[
            "`random.train.updates`",
            "takes whole numbers",
            "{ int = [LOW, HIGH] }",
        ],
    );
    check(
        &all("[random]\nsamples = 2\ntrain.updates = { log_uniform = [10, 30] }"),
        &["{ log_int = [LOW, HIGH] }"],
    );
    check("seeds = 1", &["`configs` is missing"]);
    check(
        "configs = \"configs/{algorithm}/tiny.toml\"",
        &["{algorithm}", "`algorithms`"],
    );
    check(
        "configs = \"configs/bc/{data}.toml\"",
        &["only {algorithm} and {dataset}"],
    );
    check(
        "configs = \"configs/bc/tiny.toml\"\ndatasets = [\"a\"]",
        &["{dataset}", "name no files"],
    );
    check(
        "configs = \"configs/bc/small.toml\"",
        &["configs/bc/small.toml is not there"],
    );
    check(
        "[[runs]]\nconfigs = \"configs/bc/tiny.toml\"\n[[runs]]\nconfigs = \"configs/bc/tiny.toml\"\nset.train.updates = 5",
        &[
            "two configurations have the folder `bc-tiny`",
            "`train.updates` was 30, is 5",
            "`label`",
        ],
    );
    let equal = "[[runs]]\nconfigs = \"configs/bc/tiny.toml\"\n[[runs]]\nconfigs = \"configs/bc/tiny.toml\"";
    check(equal, &["they are equal: leave one out"]);
}

#[test]
fn the_projects_own_sweep_is_thirty_by_three_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/medium-replay.toml");
    let found = Plan::of_file(&SweepFile::read(&path).unwrap(), Path::new("out")).unwrap();
    assert_eq!((found.lines.len(), found.runs.len()), (18, 90));
    assert_eq!(found.lines[0].name, "bc-hopper-medium-replay-short");
}

#[test]
fn shards_have_every_run_once() {
    for count in 1..12 {
        let shards: Vec<Shard> = (0..count)
            .map(|index| Shard::new(index, count).unwrap())
            .collect();
        for run in 0..60 {
            let having = shards.iter().filter(|shard| shard.has(run)).count();
            assert_eq!(having, 1, "run {run} of {count} shards");
        }
        let sizes: Vec<usize> = shards
            .iter()
            .map(|shard| (0..60).filter(|run| shard.has(*run)).count())
            .collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 1, "{sizes:?}");
    }
    assert_eq!(Shard::parse("2/3").unwrap(), Shard::new(1, 3).unwrap());
    for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"] {
        assert!(Shard::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn shards_are_what_schedulers_say() {
    let read = |variables: &[(&str, &str)], completions: Option<usize>| {
        let variables: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let found = Shard::of_environment(|name| variables.get(name).cloned(), completions);
        found
            .map(|found| found.map(|found| found.shard.to_string()))
            .map_err(|error| error.to_string())
    };
    let is = |variables: &[(&str, &str)], completions: Option<usize>, shard: &str| {
        assert_eq!(
            read(variables, completions),
            Ok(Some(shard.to_owned())),
            "{variables:?}"
        );
    };
    let array = |id: &'static str, count: &'static str, first: &'static str| {
        vec![
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_COUNT", count),
            ("SLURM_ARRAY_TASK_MIN", first),
        ]
    };
    is(&array("0", "3", "0"), None, "1/3");
    is(&array("3", "3", "1"), None, "3/3");
    let steps = [
        ("SLURM_ARRAY_TASK_STEP", "5"),
        ("SLURM_ARRAY_TASK_MAX", "15"),
    ];
    is(&[&array("10", "3", "5")[..], &steps].concat(), None, "2/3");
    // A list such as 1,4,5: which part of it a task is can't be told from its number.
    let list = [
        ("SLURM_ARRAY_TASK_STEP", "1"),
        ("SLURM_ARRAY_TASK_MAX", "5"),
    ];
    let error = read(&[&array("4", "3", "1")[..], &list].concat(), None).unwrap_err();
    assert!(error.contains("equal steps"), "{error}");
    // Two tasks of a step in the second task of an array; a batch script is no step.
    let inside = [
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", "1"),
        ("SLURM_STEP_NUM_TASKS", "2"),
    ];
    is(&[&array("1", "3", "0")[..], &inside].concat(), None, "4/6");
    is(&inside, None, "2/2");
    assert_eq!(
        read(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")], None),
        Ok(None)
    );
    is(
        &[
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "3"),
            ("SLURM_NTASKS", "4"),
        ],
        None,
        "4/4",
    );
    is(&[("JOB_COMPLETION_INDEX", "2")], Some(5), "3/5");
    let error = read(&[("JOB_COMPLETION_INDEX", "2")], None).unwrap_err();
    assert!(error.contains("JOB_COMPLETION_INDEX"), "{error}");
    is(
        &[
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("PMI_RANK", "0"),
            ("PMI_SIZE", "1"),
        ],
        None,
        "2/4",
    );
    is(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")], None, "1/2");
    assert!(
        read(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")], None)
            .unwrap_err()
            .contains("no shard 3 of 2")
    );
    assert!(
        read(&[("PMI_RANK", "x"), ("PMI_SIZE", "2")], None)
            .unwrap_err()
            .contains("PMI_RANK is `x`")
    );
    assert_eq!(read(&[], None), Ok(None));
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env_remove("TRAJFORMER_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Output of a command that ends with this status.
fn ends(folder: &Path, arguments: &[&str], status: i32) -> (String, String) {
    let Output {
        status: found,
        stdout,
        stderr,
    } = command(folder, arguments).output().unwrap();
    let (printed, errors) = (text(&stdout), text(&stderr));
    assert_eq!(
        found.code(),
        Some(status),
        "{arguments:?}: {printed}{errors}"
    );
    assert!(!errors.contains("panicked"), "{errors}");
    (printed, errors)
}

/// A sweep that has started this many runs, and the lines that follow.
fn started(
    folder: &Path,
    arguments: &[&str],
    runs: usize,
) -> (Child, impl Iterator<Item = String>) {
    let mut child = command(folder, arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    for _ in 0..runs {
        assert!(
            lines.any(|line| line.contains(": started")),
            "fewer runs than {runs}"
        );
    }
    (child, lines)
}

/// Fails if a process has a log of the sweep: a child holds its log's lock as long as it lives.
fn check_no_orphans(out: &Path) {
    let logs: Vec<_> = fs::read_dir(out.join(".sweep/logs")).unwrap().collect();
    assert!(!logs.is_empty());
    for entry in logs {
        let path = entry.unwrap().path();
        let free = fs::File::open(&path).unwrap().try_lock();
        assert!(free.is_ok(), "{}: {free:?}", path.display());
    }
}

fn run_folders(out: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in fs::read_dir(out).unwrap() {
        found.extend(trajformer::checkpoint::runs_inside(&line.unwrap().path()));
    }
    found.sort();
    found
}

/// Updates and scores of every evaluation.
fn scores(run: &Path) -> Vec<[f64; 2]> {
    trajformer::metrics::table::numbers(&run.join("evaluations.csv"), ["update", "return_mean"])
        .unwrap()
}

fn last_json(output: &str) -> Value {
    serde_json::from_str(output.lines().last().expect("a line")).unwrap()
}

#[test]
fn a_sweep_that_is_killed_again_and_again_ends_with_the_bits_of_an_undisturbed_one() {
    let folder = with_data();
    let folder = folder.path();
    let (printed, _) = ends(
        folder,
        &["sweep", "sweep.toml", "--out", "whole", "--json"],
        0,
    );
    let found = last_json(&printed);
    assert_eq!(
        (&found["finished"], &found["left"]),
        (&12.into(), &0.into())
    );
    assert_eq!(found["compare"]["runs"].as_array().unwrap().len(), 6);
    for kills in [1, 3, 2, 3] {
        let (mut child, _) = started(folder, &["sweep", "sweep.toml", "--out", "killed"], kills);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let before = run_folders(&folder.join("killed"));
    assert!(!before.is_empty() && before.len() < 12, "{}", before.len());
    // At once: what was left behind may still be there.
    ends(folder, &["sweep", "sweep.toml", "--out", "killed"], 0);
    check_no_orphans(&folder.join("killed"));
    let whole = run_folders(&folder.join("whole"));
    assert_eq!(whole.len(), 12);
    for run in whole {
        let inside = run.strip_prefix(folder.join("whole")).unwrap();
        let (other, what) = (
            folder.join("killed").join(inside),
            inside.display().to_string(),
        );
        check_same_checkpoint(&run, &other, &what);
        assert_eq!(scores(&run), scores(&other), "{what}");
    }

    // A finished sweep trains nothing, and its folder is what `compare` reads.
    let (_, errors) = ends(folder, &["sweep", "sweep.toml", "--out", "killed"], 0);
    assert!(
        !errors.contains("started") && errors.contains("12 finished"),
        "{errors}"
    );
    let (printed, _) = ends(folder, &["compare", "killed", "--json"], 0);
    let lines = last_json(&printed);
    let lines = lines["runs"].as_array().unwrap();
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line["seeds"] == 2));
    // So is what `killed/*` stands for.
    let entries = fs::read_dir(folder.join("killed")).unwrap();
    let entries = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let visible: Vec<String> = entries
        .filter(|name| !name.starts_with('.'))
        .map(|name| format!("killed/{name}"))
        .collect();
    let visible: Vec<&str> = visible.iter().map(String::as_str).collect();
    let (found, _) = ends(folder, &[&["compare", "--json"], &visible[..]].concat(), 0);
    assert_eq!(last_json(&found)["runs"].as_array().unwrap().len(), 6);
    let table = fs::read_to_string(folder.join("killed/.sweep/compare.txt")).unwrap();
    assert!(
        table.contains("iql-tiny-two") && printed.starts_with(&table),
        "{table}"
    );
}

#[test]
fn a_sweep_that_is_asked_to_stop_stops_its_runs_with_checkpoints() {
    let folder = with_data();
    let folder = folder.path();
    let long = ["sweep", "sweep.toml", "--out", "out"];
    let text = fs::read_to_string(folder.join("sweep.toml")).unwrap();
    fs::write(
        folder.join("sweep.toml"),
        format!("set.train.updates = 100_000_000\n{text}"),
    )
    .unwrap();
    let (child, lines) = started(folder, &long, 2);
    // Both train: their logs say nothing, their tables do.
    let trained =
        ["bc-tiny-one", "bc-tiny-two"].map(|line| folder.join("out").join(line).join("seed-0"));
    while !trained.iter().all(|run| run.join("state.toml").exists()) {
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let lines: Vec<String> = lines.collect();
    let mut child = child;
    assert_eq!(child.wait().unwrap().code(), Some(130), "{lines:?}");
    let stopped = lines
        .iter()
        .filter(|line| line.contains("stopped at update"));
    assert_eq!(stopped.count(), 2, "{lines:?}");
    for run in trained {
        let state = trajformer::checkpoint::RunDir::open(&run)
            .unwrap()
            .state()
            .unwrap()
            .unwrap();
        let line = lines.iter().find(|line| {
            line.contains("stopped")
                && line.contains(run.parent().unwrap().file_name().unwrap().to_str().unwrap())
        });
        let said = format!("stopped at update {} ", state.update);
        assert!(line.unwrap().contains(&said), "{line:?}: {said}");
    }
    check_no_orphans(&folder.join("out"));
}

#[test]
fn a_run_that_another_process_has_is_left_alone_and_waited_for() {
    let folder = with_data();
    let folder = folder.path();
    let emit = [
        "sweep",
        "sweep.toml",
        "--out",
        "out",
        "--emit-commands",
        "all.sh",
    ];
    ends(folder, &emit, 0); // makes the folders
    let log = folder.join("out/.sweep/logs/bc-tiny-two-seed-0.log");
    let held = fs::File::create(&log).unwrap();
    held.lock().unwrap();
    let (mut child, mut lines) = started(folder, &["sweep", "sweep.toml", "--out", "out"], 11);
    let waits = |line: String| line.contains("1 run is being trained by other processes");
    assert!(lines.any(waits), "it never waited");
    assert!(!folder.join("out/bc-tiny-two/seed-0").exists());
    assert_eq!(run_folders(&folder.join("out")).len(), 11);
    drop(held);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert!(
        folder
            .join("out/bc-tiny-two/seed-0/model.safetensors")
            .exists()
    );
}

#[test]
fn a_run_that_fails_is_named_and_tried_again_and_the_others_go_on() {
    let folder = with_data();
    let folder = folder.path();
    let good = fs::read(folder.join("two.npz")).unwrap();
    fs::write(folder.join("two.npz"), "no archive").unwrap();
    let sweep = ["sweep", "sweep.toml", "--out", "out", "--json"];
    let (printed, errors) = ends(folder, &sweep, 1);
    let found = last_json(&printed);
    assert_eq!(
        (&found["finished"], &found["failed"]),
        (&6.into(), &6.into())
    );
    assert!(
        errors.contains(
            "error: iql-tiny-two/seed-1 failed (out/.sweep/logs/iql-tiny-two-seed-1.log)"
        ),
        "{errors}"
    );
    assert!(
        errors.contains("exit status 1") && errors.contains("two.npz"),
        "{errors}"
    );
    assert!(
        errors.contains("6 runs are left; the same command goes on"),
        "{errors}"
    );
    fs::write(folder.join("two.npz"), good).unwrap();
    let (printed, errors) = ends(folder, &sweep, 0);
    assert_eq!(last_json(&printed)["finished"], 12);
    assert_eq!(errors.matches(": started").count(), 6, "{errors}");
}

#[test]
fn runs_that_stop_early_are_finished_and_damaged_tables_of_finished_ones_are_errors() {
    let folder = with_data();
    let folder = folder.path();
    let text = "configs = \"configs/bc/tiny.toml\"\nset.train.updates = 400\nset.train.patience_evaluations = 1\n\
                set.evaluate.env = \"pendulum-v1\"\nset.evaluate.every_updates = 1\nset.evaluate.episodes = 1\n[datasets]\none = \"one.npz\"\n";
    fs::write(folder.join("early.toml"), text).unwrap();
    let sweep = ["sweep", "early.toml", "--out", "early", "--json"];
    let (printed, errors) = ends(folder, &sweep, 0);
    assert_eq!(last_json(&printed)["finished"], 1, "{errors}");
    let run = &run_folders(&folder.join("early"))[0];
    let update = scores(run).last().unwrap()[0];
    assert!(update < 400.0, "{update}: it was to stop early");
    let (printed, errors) = ends(folder, &sweep, 0);
    assert_eq!(last_json(&printed)["finished"], 1, "{errors}");
    assert!(!errors.contains(": started"), "{errors}");
    let table = run.join("evaluations.csv");
    let damaged = fs::read_to_string(&table).unwrap().replace("\n1,", "\nx,");
    fs::write(&table, damaged).unwrap();
    let (_, errors) = ends(folder, &sweep, 1);
    assert!(errors.contains("evaluations.csv: line 2"), "{errors}");
}

#[test]
fn a_file_in_the_place_of_a_run_and_a_damaged_seed_are_named_and_the_others_go_on() {
    let folder = with_data();
    let folder = folder.path();
    let out = folder.join("out");
    fs::create_dir_all(out.join("bc-tiny-one")).unwrap();
    // A file in the place of a run, one in the place of a folder of seeds, and a run that lost its configuration to something else.
    fs::write(out.join("bc-tiny-one/seed-0"), "mine").unwrap();
    fs::write(out.join("iql-tiny-two"), "mine").unwrap();
    fs::create_dir_all(out.join("td3_bc-tiny-one/seed-1")).unwrap();
    fs::write(
        out.join("td3_bc-tiny-one/seed-1/config.toml"),
        vec![7; 4000],
    )
    .unwrap();
    let named = [
        "run out/bc-tiny-one/seed-0: out/bc-tiny-one/seed-0 is a file, where a run directory is to be; move it away",
        "run out/iql-tiny-two/seed-0: out/iql-tiny-two is a file",
        "run out/iql-tiny-two/seed-1: out/iql-tiny-two is a file",
        "run out/td3_bc-tiny-one/seed-1: config.toml, line 1",
    ];
    let sweep = ["sweep", "sweep.toml", "--out", "out", "--json"];
    let (printed, errors) = ends(folder, &[&sweep[..], &["--dry-run"]].concat(), 1);
    for words in named {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    assert_eq!(
        printed.matches("\nDAMAGED").count() + usize::from(printed.starts_with("DAMAGED")),
        4,
        "{printed}"
    );
    let (printed, errors) = ends(folder, &sweep, 1);
    let found = last_json(&printed);
    assert_eq!(
        (&found["finished"], &found["failed"]),
        (&8.into(), &0.into()),
        "{errors}"
    );
    for words in named {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    assert_eq!(fs::read(out.join("bc-tiny-one/seed-0")).unwrap(), b"mine");
    assert!(found["compare"]["runs"].is_array(), "{printed}");
}

#[test]
fn what_is_missing_or_in_the_way_is_said_before_anything_starts() {
    let folder = with_data();
    let folder = folder.path();
    // A run that `train` has made in the same place with the same configuration counts, another one is left alone.
    let train = |keys: &[&str], seeds: &str, line: &str| {
        let out = format!("out/{line}");
        let config = format!("configs/{}/tiny.toml", line.split('-').next().unwrap());
        let arguments = [
            &["train", &config, "--seeds", seeds, "--out", &out][..],
            keys,
        ]
        .concat();
        ends(folder, &arguments, 0);
    };
    train(&["--set", "data.path=one.npz"], "0..1", "bc-tiny-one");
    let sweep = ["sweep", "sweep.toml", "--out", "out"];
    let (printed, _) = ends(folder, &[&sweep[..], &["--dry-run"]].concat(), 0);
    assert!(
        printed.contains("finished  out/bc-tiny-one/seed-0: 30 of 30 updates, last score"),
        "{printed}"
    );
    assert!(printed.contains("12 runs, 1 finished"), "{printed}");
    assert_eq!(printed.matches("to do").count(), 11, "{printed}");

    train(
        &[
            "--set",
            "data.path=two.npz",
            "--set",
            "algorithm.td3_bc.alpha=9.0",
        ],
        "1..2",
        "td3_bc-tiny-two",
    );
    let foreign = folder.join("out/td3_bc-tiny-two/seed-1/config.toml");
    let before = fs::read(&foreign).unwrap();
    let (_, errors) = ends(folder, &sweep, 1);
    assert!(
        errors.contains("out/td3_bc-tiny-two/seed-1: `algorithm.td3_bc.alpha` was 9.0, is 2.5"),
        "{errors}"
    );
    assert!(!errors.contains("started"), "{errors}");
    assert_eq!(fs::read(&foreign).unwrap(), before);
    fs::remove_dir_all(folder.join("out/td3_bc-tiny-two")).unwrap();

    let (_, errors) = ends(
        folder,
        &[&sweep[..], &["--data-dir", "nowhere"]].concat(),
        1,
    );
    assert!(
        errors.contains("nowhere/one.npz: no such data") && errors.contains("nowhere/two.npz"),
        "{errors}"
    );
    let (_, errors) = ends(folder, &[&sweep[..], &["--shard", "4/3"]].concat(), 1);
    assert!(errors.contains("expected I/N"), "{errors}");
    let (_, errors) = ends(folder, &[&sweep[..], &["--devices", "cpu,tpu"]].concat(), 1);
    assert!(
        errors.contains("`--devices`") && errors.contains("`tpu`"),
        "{errors}"
    );
    assert!(!errors.contains("started"), "{errors}");

    // Its first seed is trained, the second is a shard's of two.
    let (printed, errors) = ends(folder, &[&sweep[..], &["--shard", "1/2"]].concat(), 0);
    assert!(
        !errors.contains("\nbc-tiny-one/seed-0: started"),
        "{errors}"
    );
    assert_eq!(errors.matches(": started").count(), 5, "{errors}");
    assert!(
        printed.contains("of other shards 6 runs are not finished"),
        "{printed}"
    );
    let of_slurm = command(folder, &sweep)
        .envs([
            ("SLURM_ARRAY_TASK_ID", "8"),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
            ("SLURM_ARRAY_TASK_MIN", "7"),
        ])
        .output()
        .unwrap();
    let errors = text(&of_slurm.stderr);
    assert!(
        of_slurm.status.success() && errors.contains("shard 2/2, from SLURM_ARRAY_TASK_ID=8"),
        "{errors}"
    );
    assert_eq!(run_folders(&folder.join("out")).len(), 12);
}

#[test]
fn sweeps_are_written_for_others_to_run() {
    let folder = with_data();
    let folder = folder.path();
    let emit = [
        "sweep",
        "sweep.toml",
        "--out",
        "my out",
        "--emit-commands",
        "all.sh",
        "--emit-hyperqueue",
        "job.toml",
    ];
    ends(folder, &emit, 0);
    let commands = fs::read_to_string(folder.join("all.sh")).unwrap();
    assert_eq!(commands.lines().count(), 12);
    let job: toml::Table =
        toml::from_str(&fs::read_to_string(folder.join("job.toml")).unwrap()).unwrap();
    let tasks = job["task"].as_array().unwrap();
    assert_eq!(tasks.len(), 12);
    assert_eq!(tasks[0]["request"][0]["resources"]["cpus"], 1.into());
    let last = commands.lines().last().unwrap();
    let words = tasks[11]["command"].as_array().unwrap();
    assert!(
        words
            .iter()
            .all(|word| last.contains(word.as_str().unwrap())),
        "{last}"
    );
    // A command of either is the run of the sweep.
    assert!(
        Command::new("sh")
            .args(["-c", last])
            // Wherever it is run.
            .current_dir("/")
            .output()
            .unwrap()
            .status
            .success()
    );
    let words: Vec<&str> = tasks[0]["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let here = tasks[0]["cwd"].as_str().unwrap();
    assert!(
        Command::new(words[0])
            .args(&words[1..])
            .current_dir(here)
            .output()
            .unwrap()
            .status
            .success()
    );
    let (printed, _) = ends(
        folder,
        &["sweep", "sweep.toml", "--out", "my out", "--dry-run"],
        0,
    );
    assert!(printed.contains("12 runs, 2 finished"), "{printed}");
    // No run says how long td3_bc takes: it is timed if that is asked for.
    assert!(printed.contains("`--measure` times"), "{printed}");
    let measure = [
        "sweep",
        "sweep.toml",
        "--out",
        "my out",
        "--dry-run",
        "--measure",
    ];
    let (printed, _) = ends(folder, &measure, 0);
    assert!(
        printed.contains("left for the updates alone with"),
        "{printed}"
    );
    let timed = printed.lines().find(|line| line.starts_with("td3_bc "));
    let timed: Vec<&str> = timed.expect("a row").split_whitespace().collect();
    assert_eq!((timed[2], timed[timed.len() - 3]), ("ms", "4"), "{timed:?}");
    let (printed, _) = ends(
        folder,
        &[
            "sweep",
            "sweep.toml",
            "--out",
            "my out",
            "--dry-run",
            "--json",
        ],
        0,
    );
    let found = last_json(&printed);
    assert_eq!(
        (&found["finished"], &found["runs"][0]["state"]),
        (&2.into(), &"finished".into())
    );
}
