//! `trajformer compare`: rliable's numbers, and the command over evaluation tables written by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use trajformer::compare::comparison::{Options, Sort, compared};
use trajformer::compare::statistics::{
    Draw, Interval, Scores, improvement, intervals, student_interval,
};

/// Relative; rliable adds in another order and counts in shares instead of percent.
const TOLERANCE: f64 = 1e-12;

fn near(found: f64, expected: f64, what: &str) {
    let wrong = (found - expected).abs() / expected.abs().max(1.0);
    assert!(wrong <= TOLERANCE, "{what}: {found}, expected {expected}");
}

fn numbers(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().expect("an array").iter();
    numbers
        .map(|number| number.as_f64().expect("a number"))
        .collect()
}

fn table(value: &Value) -> Vec<Vec<f64>> {
    value
        .as_array()
        .expect("an array")
        .iter()
        .map(numbers)
        .collect()
}

/// The runs of one resample: a digit each, task after task.
fn replayed(digits: &Value, sizes: &[usize]) -> Draw {
    let digits = digits.as_str().expect("text").bytes();
    let mut picks = digits.map(|digit| usize::from(digit - b'0'));
    let draw = sizes
        .iter()
        .map(|size| picks.by_ref().take(*size).collect())
        .collect();
    assert_eq!(picks.next(), None);
    draw
}

fn check_intervals(found: &[Interval], expected: &Value, unit: f64, what: &str) {
    let [low, high] = &table(expected)[..] else {
        panic!("{what}: two ends")
    };
    assert_eq!((found.len(), low.len()), (low.len(), high.len()), "{what}");
    for (found, (low, high)) in found.iter().zip(low.iter().zip(high)) {
        near(found.low / unit, *low, what);
        near(found.high / unit, *high, what);
    }
}

#[test]
fn aggregates_intervals_profiles_and_improvement_are_those_of_rliable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rliable_scores.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 5);
    for (name, case) in cases {
        let [x, y] = ["x", "y"].map(|name| Scores::new(table(&case[name])).unwrap());
        let draws = |key: &str| case[key].as_array().unwrap().clone();
        let aggregates = |scores: &Scores| {
            vec![
                scores.mean(),
                scores.median(),
                scores.interquartile_mean(),
                scores.optimality_gap(100.0),
            ]
        };
        let found = aggregates(&x);
        let expected = numbers(&case["aggregates"]);
        assert_eq!(expected.len(), 4);
        for (found, expected) in found.iter().zip(expected) {
            near(found / 100.0, expected, name);
        }
        let drawn: Vec<Scores> = draws("draws")
            .iter()
            .map(|digits| x.drawn(&replayed(digits, &x.sizes())))
            .collect();
        assert_eq!(drawn.len(), 60);
        let resamples: Vec<_> = drawn.iter().map(aggregates).collect();
        check_intervals(
            &intervals(&resamples),
            &case["aggregates_intervals"],
            100.0,
            name,
        );

        let thresholds = numbers(&case["thresholds"]);
        let profile = x.profile(&thresholds);
        for (found, expected) in profile.iter().zip(numbers(&case["profile"])) {
            near(*found, expected, name);
        }
        let resamples: Vec<_> = drawn
            .iter()
            .map(|scores| scores.profile(&thresholds))
            .collect();
        check_intervals(
            &intervals(&resamples),
            &case["profile_intervals"],
            1.0,
            name,
        );

        let over_tasks = |x: &Scores, y: &Scores| {
            let per_task = improvement(x, y);
            per_task.iter().sum::<f64>() / per_task.len() as f64
        };
        let expected = numbers(&case["improvement"]);
        near(over_tasks(&x, &y), expected[0], name);
        let per_task = improvement(&x, &y);
        assert_eq!(per_task.len() + 1, expected.len());
        for (found, expected) in per_task.iter().zip(&expected[1..]) {
            near(*found, *expected, name);
        }
        let resamples: Vec<Vec<f64>> = draws("pair_draws")
            .iter()
            .map(|both| {
                let x = x.drawn(&replayed(&both[0], &x.sizes()));
                vec![over_tasks(&x, &y.drawn(&replayed(&both[1], &y.sizes())))]
            })
            .collect();
        check_intervals(
            &intervals(&resamples),
            &case["improvement_interval"],
            1.0,
            name,
        );
    }
    for (freedom, expected) in golden["student"].as_object().unwrap() {
        let freedom: usize = freedom.parse().unwrap();
        let interval = student_interval(0.0, (freedom as f64).sqrt(), freedom + 1).unwrap();
        near(interval.high, expected.as_f64().unwrap(), "Student's t");
        assert_eq!(interval.low, -interval.high);
    }
}

/// A run directory without networks: configuration, shapes and evaluations.
struct Made<'a> {
    algorithm: &'a str,
    data: &'a str,
    env: &'a str,
    seed: u64,
    /// Lines of the algorithm's table.
    keys: &'a str,
    /// Rows of evaluations.csv; with seven columns there are scores.
    rows: &'a [&'a str],
}

const HOPPER: Made<'static> = Made {
    algorithm: "bc",
    data: "hopper-medium-v2",
    env: "hopper-v4",
    seed: 0,
    keys: "",
    rows: &["1000,60,10,300,30,10,3", "2000,120,10,600,90,20,9"],
};

impl Made<'_> {
    fn write(&self, folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let Self {
            algorithm,
            data,
            env,
            seed,
            keys,
            rows,
        } = self;
        let config = format!(
            "seed = {seed}\n[data]\npath = \"/data/{data}.hdf5\"\n[train]\nupdates = 2000\n[evaluate]\nenv = \"{env}\"\n\
             [algorithm.{algorithm}]\n{keys}\n"
        );
        fs::write(folder.join("config.toml"), config).unwrap();
        let spec = format!(
            "{{\"trajformer\": {{\"observation_dim\": 3, \"action_dim\": 1, \"action_low\": [-1.0], \"action_high\": [1.0], \
             \"env_name\": null, \"data\": {{\"steps\": 9, \"episodes\": 1, \"checksum\": \"{data}\"}}}}}}"
        );
        fs::write(folder.join("config.json"), spec).unwrap();
        if let Some(first) = rows.first() {
            let mut text = "update,seconds,episodes,return_mean,return_std".to_owned();
            if first.split(',').count() == 7 {
                text += ",score_mean,score_std";
            }
            let text = text + "\n" + &rows.join("\n") + "\n";
            fs::write(folder.join("evaluations.csv"), text).unwrap();
        }
        folder.to_path_buf()
    }
}

/// Two algorithms on two tasks, three seeds each but for td3_bc on walker2d with two: `sweep/ALGORITHM-TASK/seed-N`.
fn sweep() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lasts: [(&str, &str, &str, &[f64]); 4] = [
        ("bc", "hopper-medium-v2", "hopper-v4", &[10.0, 20.0, 30.0]),
        (
            "bc",
            "walker2d-medium-v2",
            "walker2d-v4",
            &[40.0, 50.0, 60.0],
        ),
        (
            "td3_bc",
            "hopper-medium-v2",
            "hopper-v4",
            &[30.0, 40.0, 110.0],
        ),
        ("td3_bc", "walker2d-medium-v2", "walker2d-v4", &[50.0, 80.0]),
    ];
    for (algorithm, data, env, lasts) in lasts {
        for (seed, last) in lasts.iter().enumerate() {
            let rows = [
                format!("1000,{},10,0,0,{},5", 60 + seed, last + 1.0 - seed as f64),
                format!("2000,{},10,0,0,{last},5", 120 + seed),
            ];
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            let run = Made {
                algorithm,
                data,
                env,
                seed: seed as u64,
                keys: "",
                rows: &rows,
            };
            run.write(
                &folder
                    .path()
                    .join(format!("sweep/{algorithm}-{data}/seed-{seed}")),
            );
        }
    }
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .arg("compare")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let found = run(folder, arguments);
    let errors = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(found.stdout).unwrap()
}

/// What a command that fails says; it prints no table before.
fn fails(folder: &Path, arguments: &[&str]) -> String {
    let found = run(folder, arguments);
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
    let printed = String::from_utf8_lossy(&found.stdout);
    assert!(printed.is_empty(), "{arguments:?} printed {printed}");
    errors
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = succeeds(folder, &[arguments, &["--json"]].concat());
    serde_json::from_str(output.lines().last().unwrap()).unwrap()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

fn notes(found: &Value) -> String {
    let notes = found["notes"].as_array().unwrap().iter();
    notes
        .map(|note| note.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_sweep_is_grouped_by_algorithm_into_lines_per_task_and_numbers_over_tasks() {
    let folder = sweep();
    let found = json(folder.path(), &["sweep", "--by", "algorithm"]);
    let lines = found["runs"].as_array().unwrap();
    let name = |line: &Value| format!("{} {}", line["name"], line["task"]).replace('"', "");
    let names: Vec<String> = lines.iter().map(name).collect();
    let expected = [
        "bc hopper-medium-v2",
        "td3_bc hopper-medium-v2",
        "bc walker2d-medium-v2",
        "td3_bc walker2d-medium-v2",
    ];
    assert_eq!(names, expected);
    let line = &lines[1];
    assert_eq!((&line["seeds"], &line["update"]), (&3.into(), &2000.into()));
    near(line["seconds"].as_f64().unwrap(), 121.0, "seconds");
    near(line["last"].as_f64().unwrap(), 60.0, "last");
    // Three runs' highest: 31 (after 1,000), 40 and 110; the mean over runs is highest after 2,000.
    near(line["best"].as_f64().unwrap(), 181.0 / 3.0, "best");
    near(line["highest_mean"].as_f64().unwrap(), 60.0, "highest mean");
    assert_eq!(line["interval"]["over"], "seeds");
    // 27 resamples of three runs: the lowest and highest of them have more than 2.5 % each.
    assert_eq!(line["interval"]["low"], 30.0);
    assert_eq!(line["interval"]["high"], 110.0);

    let over = &found["over_tasks"];
    assert_eq!(over["tasks"].as_array().unwrap().len(), 2);
    let group = &over["groups"][1];
    assert_eq!(group["runs"], serde_json::json!([3, 2]));
    let value = |name: &str| group[name]["value"].as_f64().unwrap();
    near(value("mean"), 62.5, "mean of 60 and 65");
    near(value("median"), 62.5, "median");
    near(value("interquartile_mean"), 170.0 / 3.0, "40, 50 and 80");
    // min(score, 100): means 170 / 3 and 65.
    near(
        value("optimality_gap"),
        100.0 - (170.0 / 3.0 + 65.0) / 2.0,
        "gap",
    );
    let (low, high) = (
        &group["mean"]["interval"]["low"],
        &group["mean"]["interval"]["high"],
    );
    assert!(
        low.as_f64() < Some(62.5) && high.as_f64() > Some(62.5),
        "{group}"
    );

    let pair = &over["improvements"][0];
    assert_eq!(
        (&pair["better"], &pair["worse"]),
        (&"td3_bc".into(), &"bc".into())
    );
    // Hopper: 8 of 9 pairs and a tie; walker2d: 4 of 6 pairs (50 wins against 40, 80 against all) and a tie.
    near(
        pair["per_task"][0]["value"].as_f64().unwrap(),
        8.5 / 9.0,
        "hopper",
    );
    near(
        pair["per_task"][1]["value"].as_f64().unwrap(),
        4.5 / 6.0,
        "walker2d",
    );
    near(
        pair["over_tasks"]["value"].as_f64().unwrap(),
        (8.5 / 9.0 + 0.75) / 2.0,
        "both",
    );

    let notes = notes(&found);
    has(
        &notes,
        &[
            "fewer than 5 seeds (bc, td3_bc)",
            "td3_bc has different numbers of seeds (hopper-medium-v2 3, walker2d-medium-v2 2)",
        ],
    );
    assert_eq!(found["skipped"], serde_json::json!([]));
}

#[test]
fn intervals_are_the_same_each_time_and_others_with_another_number_of_resamples() {
    let folder = sweep();
    let all = |resamples: &str| {
        let found = json(
            folder.path(),
            &["sweep", "--by", "algorithm", "--resamples", resamples],
        );
        found["over_tasks"]["groups"].to_string()
    };
    let once = all("50");
    assert_eq!(once, all("50"));
    assert_ne!(once, all("51"));
    let default = json(folder.path(), &["sweep", "--by", "algorithm"]);
    assert_eq!(default["over_tasks"]["resamples"], 2000);
    // A group's intervals don't depend on who stands beside it; few resamples, so that others would show.
    for resamples in ["20", "30", "40"] {
        let groups = |runs: &[&str]| {
            let arguments = ["--by", "algorithm", "--resamples", resamples];
            json(folder.path(), &[runs, &arguments[..]].concat())["over_tasks"]["groups"].clone()
        };
        let alone = groups(&["sweep/bc-hopper-medium-v2", "sweep/bc-walker2d-medium-v2"]);
        assert_eq!(alone[0], groups(&["sweep"])[0]);
    }
}

#[test]
fn the_last_evaluation_is_the_result_and_the_best_stands_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = &["1000,60,10,900,30,90,3", "2000,120,10,600,90,20,9"];
    Made { rows, ..HOPPER }.write(&folder.join("a"));
    let text = succeeds(folder, &["a"]);
    let row = text.lines().nth(1).unwrap();
    // 20 ± 2.262 * 9 / 3, and the best evaluation.
    let cells: Vec<&str> = row
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    let expected = [
        "a",
        "bc",
        "hopper-medium-v2",
        "1",
        "2000",
        "120",
        "20.0",
        "[13.2, 26.8]",
        "episodes",
        "90.0",
    ];
    assert_eq!(cells, expected, "{text}");
    has(
        &text,
        &[
            "last score",
            "best evaluation",
            "the result is the last",
            "one seed (a): the interval is over episodes and knows nothing of seeds",
        ],
    );
    // One run says nothing over seeds.
    assert!(json(folder, &["a"])["over_tasks"].is_null());
    // Two single runs neither.
    Made {
        rows,
        seed: 1,
        ..HOPPER
    }
    .write(&folder.join("b"));
    assert!(json(folder, &["a", "b"])["over_tasks"].is_null());
}

#[test]
fn lines_are_sorted_renamed_and_show_the_keys_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = |name: &str, keys: &str, last: &str| {
        let last = format!("2000,120,10,600,90,{last},9");
        let rows: &[&str] = &["1000,60,10,300,30,10,3", &last];
        Made {
            keys,
            rows,
            ..HOPPER
        }
        .write(&folder.join(name))
    };
    made("a", "batch_size = 64\nfraction = 0.5", "20");
    made("b", "batch_size = 256", "30");
    let text = succeeds(
        folder,
        &[
            "a",
            "b",
            "--sort",
            "last",
            "--label",
            "b=ours, tuned",
            "--labels",
            "a=theirs",
        ],
    );
    let lines: Vec<&str> = text.lines().collect();
    has(lines[0], &["algorithm.bc.batch_size"]);
    // What has no room is said below.
    has(&text, &["column algorithm.bc.fraction: "]);
    assert!(
        lines[1].starts_with("ours, tuned ") && lines[2].starts_with("theirs "),
        "{text}"
    );
    has(lines[2], &["64"]);

    let text = succeeds(
        folder,
        &["a", "b", "--keys", "algorithm.bc.fraction,train.updates"],
    );
    let head = text.lines().next().unwrap();
    has(head, &["algorithm.bc.fraction"]);
    // What has no room, and is the same in all lines, is said below.
    has(&text, &["column train.updates: ", " in all lines"]);
    assert!(
        text.lines().all(|line| line.chars().count() <= 110),
        "{text}"
    );
    assert!(!text.contains("batch_size"), "{text}");

    let error = fails(folder, &["a", "b", "--by", "batch_size"]);
    has(
        &error,
        &[
            "no run has the key `batch_size`",
            "did you mean `algorithm.bc.batch_size`?",
        ],
    );
    let error = fails(folder, &["a", "b", "--label", "c=x"]);
    has(&error, &["no line is called `c`; there are `a`, `b`"]);
    // Grouped by a key that differs, both are lines of their own; by one that does not, they count as seeds, and it is said.
    let found = json(folder, &["a", "b", "--by", "algorithm.bc.batch_size"]);
    assert_eq!(
        (&found["runs"][0]["name"], &found["runs"][1]["name"]),
        (&"64".into(), &"256".into())
    );
    let found = json(folder, &["a", "b", "--by", "algorithm"]);
    assert_eq!(found["runs"][0]["seeds"], 2);
    has(
        &notes(&found),
        &[
            "its runs differ in more than the seed, yet count as seeds: `algorithm.bc.batch_size` (64, 256)",
        ],
    );
}

#[test]
fn a_run_that_is_alone_in_a_folder_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    HOPPER.write(&folder.join("runs/first"));
    let name = |arguments: &[&str]| json(folder, arguments)["runs"][0]["name"].clone();
    assert_eq!(name(&["runs"]), "first");
    // Seeds are a series of their folder's name, also one.
    HOPPER.write(&folder.join("series/seed-0"));
    assert_eq!(name(&["series"]), "series");
}

#[test]
fn more_than_four_keys_are_named_and_shown_when_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    HOPPER.write(&folder.join("a"));
    let keys = "batch_size = 64\nfraction = 0.5\nlearning_rate = 0.1\nhidden = [8]\nnormalize_observations = false";
    Made { keys, ..HOPPER }.write(&folder.join("b"));
    let found = json(folder, &["a", "b"]);
    assert_eq!(found["keys"].as_array().unwrap().len(), 4);
    has(
        &notes(&found),
        &["runs also differ in `algorithm.bc.normalize_observations`, which have no column"],
    );
    let all = json(folder, &["a", "b", "--keys", "all"]);
    assert_eq!(all["keys"].as_array().unwrap().len(), 5);
}

#[test]
fn csv_markdown_and_latex_hold_the_same_numbers() {
    let folder = sweep();
    let folder = folder.path();
    let csv = succeeds(folder, &["sweep/td3_bc-hopper-medium-v2", "--csv", "-"]);
    let expected = "name,algorithm,task,env,seeds,updates,seconds,measure,last,last_std,low,high,over,best_evaluation,scores,run\n\
        td3_bc-hopper-medium-v2,td3_bc,hopper-medium-v2,hopper-v4,3,2000,121,score,60,";
    assert!(csv.starts_with(expected), "{csv}");
    assert!(
        csv.ends_with(",30,110,seeds,60.333333333333336,30 40 110,sweep/td3_bc-hopper-medium-v2\n"),
        "{csv}"
    );
    let text = succeeds(
        folder,
        &["sweep/td3_bc-hopper-medium-v2", "--csv", "lines.csv"],
    );
    has(
        &text,
        &["wrote lines.csv", "td3_bc-hopper-medium-v2  td3_bc"],
    );
    assert_eq!(fs::read_to_string(folder.join("lines.csv")).unwrap(), csv);

    let found = json(
        folder,
        &["sweep", "--by", "algorithm", "--aggregates", "over.csv"],
    );
    let text = fs::read_to_string(folder.join("over.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let row = |cells: [&str; 4]| {
        let is = |row: &&csv::StringRecord| (0..4).all(|at| row[at] == *cells[at]);
        rows.iter()
            .find(is)
            .unwrap_or_else(|| panic!("{cells:?}: {text}"))
    };
    let over = &found["over_tasks"];
    let number = |row: &csv::StringRecord, at: usize| row[at].parse::<f64>().unwrap();
    for group in over["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        for key in ["mean", "median", "interquartile_mean", "optimality_gap"] {
            let row = row([name, key, "", "all"]);
            let interval = &group[key]["interval"];
            for (at, value) in [
                (6, &group[key]["value"]),
                (7, &interval["low"]),
                (8, &interval["high"]),
            ] {
                assert_eq!(number(row, at), value.as_f64().unwrap(), "{name} {key}");
            }
        }
    }
    let pair = &over["improvements"][0];
    let [better, worse] = ["better", "worse"].map(|key| pair[key].as_str().unwrap());
    let whole = row([better, "probability_of_improvement", worse, "all"]);
    assert_eq!(
        number(whole, 6),
        pair["over_tasks"]["value"].as_f64().unwrap()
    );
    for (task, found) in over["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .zip(pair["per_task"].as_array().unwrap())
    {
        let row = row([
            better,
            "probability_of_improvement",
            worse,
            task.as_str().unwrap(),
        ]);
        assert_eq!(number(row, 6), found["value"].as_f64().unwrap());
        assert_eq!(&row[4], "1");
    }
    let error = fails(
        folder,
        &[
            "sweep/bc-hopper-medium-v2/seed-0",
            "--aggregates",
            "one.csv",
        ],
    );
    has(
        &error,
        &["`--aggregates one.csv`", "no numbers over runs and tasks"],
    );

    let markdown = succeeds(folder, &["sweep", "--by", "algorithm", "--markdown"]);
    has(
        &markdown,
        &[
            "| task | bc | td3\\_bc |\n| --- | ---: | ---: |\n| hopper-medium-v2 | 20.0 [10.0, 30.0] | 60.0 [30.0, 110.0] |\n",
            "| mean over tasks | 35.0 [",
            "Normalised score of the last checkpoint, mean of 2 to 3 seeds; in brackets 95 % bootstrap intervals over seeds.",
            "* fewer than 5 seeds",
        ],
    );
    let latex = succeeds(folder, &["sweep", "--by", "algorithm", "--latex"]);
    has(
        &latex,
        &[
            "\\usepackage{booktabs}",
            "task & bc & td3\\_bc \\\\\n\\midrule\nhopper-medium-v2 & 20.0 [10.0, 30.0] & 60.0 [30.0, 110.0] \\\\\n",
            "95 \\% bootstrap intervals",
        ],
    );
    // Every line of LaTeX that is a note is a comment.
    let after = latex.rsplit("\\end{table}").next().unwrap();
    assert!(
        after
            .lines()
            .filter(|line| !line.is_empty())
            .all(|line| line.starts_with("% ")),
        "{after}"
    );
}

#[test]
fn returns_and_scores_are_never_in_one_number_or_picture() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for seed in 0..2 {
        Made { seed, ..HOPPER }.write(&folder.join(format!("scores/seed-{seed}")));
        let rows = &["2000,120,10,-600,90"];
        Made {
            seed,
            rows,
            ..HOPPER
        }
        .write(&folder.join(format!("returns/seed-{seed}")));
    }
    let found = json(folder, &["scores", "returns"]);
    assert!(found["over_tasks"].is_null(), "{found}");
    has(
        &notes(&found),
        &["some lines have normalised scores and some only returns: no numbers over both"],
    );
    let text = succeeds(folder, &["scores", "returns"]);
    has(&text, &["score 20.0", "return -600.0"]);
    let error = fails(folder, &["scores", "returns", "--picture", "curves.svg"]);
    has(&error, &["don't fit one picture"]);
    let error = fails(
        folder,
        &[
            "scores",
            "returns",
            "--picture",
            "bars.svg",
            "--plot",
            "intervals",
        ],
    );
    has(
        &error,
        &[
            "no numbers over seeds and tasks to draw",
            "no numbers over both",
        ],
    );
    // Returns of one task can be summed up, those of two can't, and they have no reference.
    let found = json(folder, &["returns"]);
    assert_eq!(found["over_tasks"]["groups"][0]["mean"]["value"], -600.0);
    assert!(found["over_tasks"]["groups"][0]["optimality_gap"].is_null());
    for seed in 0..2 {
        let rows = &["2000,120,10,-9,1"];
        let run = Made {
            seed,
            rows,
            data: "other",
            ..HOPPER
        };
        run.write(&folder.join(format!("other/seed-{seed}")));
    }
    let found = json(folder, &["returns", "other", "--by", "algorithm"]);
    assert!(found["over_tasks"].is_null());
    has(
        &notes(&found),
        &["returns of different tasks have different units"],
    );
}

#[test]
fn a_run_without_evaluations_is_left_out_with_a_warning_unless_it_is_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    HOPPER.write(&folder.join("a"));
    Made {
        rows: &[],
        ..HOPPER
    }
    .write(&folder.join("b"));
    let found = run(folder, &["a", "b", "--json"]);
    let errors = String::from_utf8_lossy(&found.stderr);
    has(&errors, &["b has no evaluation yet and is left out"]);
    let output = String::from_utf8_lossy(&found.stdout);
    let found: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(
        (found["runs"].as_array().unwrap().len(), &found["skipped"]),
        (1, &serde_json::json!(["b"]))
    );
    let error = fails(folder, &["b"]);
    has(
        &error,
        &["b has no evaluation yet: train it with `evaluate.env` set"],
    );
    let error = fails(folder, &["nothing"]);
    has(&error, &["nothing"]);
}

#[test]
fn a_score_that_is_no_number_is_an_error_that_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = &["1000,60,10,300,30,10,3", "2000,120,10,600,90,NaN,9"];
    Made { rows, ..HOPPER }.write(&folder.join("a"));
    let error = fails(folder, &["a"]);
    has(
        &error,
        &["a/evaluations.csv: line 3: `score_mean` is `NaN`"],
    );
}

#[test]
fn a_run_that_can_not_be_read_is_named_and_the_others_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    HOPPER.write(&folder.join("a"));
    HOPPER.write(&folder.join("b"));
    for seed in 0..3 {
        Made { seed, ..HOPPER }.write(&folder.join(format!("seeds/seed-{seed}")));
        Made { seed, ..HOPPER }.write(&folder.join(format!("named/run-{seed}")));
    }
    for run in ["b", "seeds/seed-1", "named/run-1"] {
        fs::write(folder.join(run).join("config.toml"), vec![7; 4000]).unwrap();
        fs::write(
            folder.join(run).join("metrics.csv"),
            "update,seconds,loss\n1,1,x\n",
        )
        .unwrap();
    }
    for run in [
        "a",
        "seeds/seed-0",
        "seeds/seed-2",
        "named/run-0",
        "named/run-2",
    ] {
        fs::write(
            folder.join(run).join("metrics.csv"),
            "update,seconds,loss\n1,1,2\n",
        )
        .unwrap();
    }
    let found = json(folder, &["a", "b", "seeds", "named"]);
    let seeds: Vec<&Value> = (found["runs"].as_array().unwrap().iter())
        .map(|line| &line["seeds"])
        .collect();
    assert_eq!(seeds, [1, 2, 2]);
    let text = notes(&found);
    for run in ["b", "seeds/seed-1", "named/run-1"] {
        let note = format!("{run} is left out, it can't be read: run {run}: config.toml, line 1: ");
        has(&text, &[&note, "restore it from a copy"]);
    }
    assert!(!text.contains('\u{7}') && text.len() < 2000, "{text}");
    let found = run(folder, &["a", "b", "seeds", "--metric", "loss"]);
    let errors = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{errors}");
    has(&errors, &["b is left out", "seed-1 is left out"]);
    has(&fails(folder, &["b"]), &["config.toml, line 1"]);
}

#[test]
fn what_is_doubtful_about_seeds_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let series = folder.join("series");
    HOPPER.write(&series.join("seed-0"));
    Made {
        seed: 1,
        rows: &["1000,60,10,300,30,40,3"],
        ..HOPPER
    }
    .write(&series.join("seed-1"));
    let found = json(folder, &["series"]);
    let line = &found["runs"][0];
    assert_eq!(
        (&line["update"], &line["last"], &line["best"]),
        (&1000.into(), &25.0.into(), &25.0.into())
    );
    has(
        &notes(&found),
        &[
            "shown after 1000 updates, the last that all its runs were evaluated at; one has 2000",
            "not finished, evaluated after 1000 of 2000 updates",
        ],
    );
    // No number of updates in common: each run's last.
    Made {
        seed: 1,
        rows: &["1500,60,10,300,30,40,3"],
        ..HOPPER
    }
    .write(&series.join("seed-1"));
    let found = json(folder, &["series"]);
    assert_eq!(found["runs"][0]["last"], 30.0);
    has(
        &notes(&found),
        &["after different numbers of updates; the last ones are after 1500 to 2000"],
    );
    // The same run twice.
    HOPPER.write(&series.join("seed-1"));
    let found = json(folder, &["series"]);
    has(
        &notes(&found),
        &["have the same seed and settings: one run counts twice"],
    );
    // Named twice, grouped: counted once.
    let found = json(
        folder,
        &["series/seed-0", "series/seed-0", "--by", "algorithm"],
    );
    assert_eq!(found["runs"][0]["seeds"], 1);
}

#[test]
fn tasks_that_not_all_groups_have_are_left_out_of_numbers_over_tasks() {
    let folder = sweep();
    let folder = folder.path();
    fs::remove_dir_all(folder.join("sweep/bc-walker2d-medium-v2")).unwrap();
    let found = json(folder, &["sweep", "--by", "algorithm"]);
    assert_eq!(
        found["over_tasks"]["tasks"],
        serde_json::json!(["hopper-medium-v2"])
    );
    has(
        &notes(&found),
        &["numbers over tasks are without walker2d-medium-v2: not all of bc, td3_bc have it"],
    );
    // Series on different tasks have none in common, unless they get one name.
    let named = [
        "sweep/td3_bc-hopper-medium-v2",
        "sweep/td3_bc-walker2d-medium-v2",
    ];
    let found = json(folder, &named);
    assert!(found["over_tasks"].is_null());
    has(&notes(&found), &["the lines have no task in common"]);
    let labels = "td3_bc-hopper-medium-v2=ours,td3_bc-walker2d-medium-v2=ours";
    let found = json(folder, &[&named[..], &["--labels", labels]].concat());
    assert_eq!(found["over_tasks"]["groups"][0]["name"], "ours");
    near(
        found["over_tasks"]["groups"][0]["mean"]["value"]
            .as_f64()
            .unwrap(),
        62.5,
        "mean",
    );
}

#[test]
fn series_of_one_name_are_told_apart_by_the_folders_around_them() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["x/seed-0", "y/seed-0", "z"]
        .iter()
        .map(|name| HOPPER.write(&folder.path().join(name)))
        .collect();
    let options = Options {
        sort: Some(Sort::Name),
        ..Options::default()
    };
    let found = compared(&paths, &options).unwrap();
    let names: Vec<&str> = found.lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["x/seed-0", "y/seed-0", "z"]);
}

#[test]
fn every_plot_is_drawn_and_says_what_its_intervals_are() {
    let folder = sweep();
    let folder = folder.path();
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare");
    fs::create_dir_all(&kept).unwrap();
    let draw = |name: &str, arguments: &[&str], words: &[&str]| {
        for ending in ["svg", "png"] {
            let path = kept.join(format!("{name}.{ending}"));
            let picture = ["--picture", path.to_str().unwrap()];
            let text = succeeds(folder, &[arguments, &picture[..]].concat());
            has(&text, &["wrote "]);
        }
        let svg = fs::read_to_string(kept.join(format!("{name}.svg"))).unwrap();
        // A minus is a sign of its own; words stand one by one.
        has(&svg, words);
        assert!(
            fs::metadata(kept.join(format!("{name}.png")))
                .unwrap()
                .len()
                > 5_000
        );
    };
    let by = ["sweep", "--by", "algorithm"];
    let plot = |plot: &'static str| [&by[..], &["--plot", plot]].concat();
    let tasks = [
        "hopper-medium-v2",
        "walker2d-medium-v2",
        "± one standard deviation over seeds",
    ];
    draw(
        "curves",
        &by,
        &[&tasks[..], &["training time (minutes)"]].concat(),
    );
    draw(
        "curves-updates",
        &[&by[..], &["--x", "updates"]].concat(),
        &["Learning curves", "updates"],
    );
    let over = "2 tasks, 2 to 3 seeds; bar: 95 % of 2000 bootstrap samples of the seeds";
    draw(
        "intervals",
        &plot("intervals"),
        &[
            over,
            "interquartile mean",
            "optimality gap (less is better)",
        ],
    );
    draw(
        "profiles",
        &plot("profiles"),
        &[
            "2 to 3 seeds; band: 95 %",
            "share of runs with a higher score",
        ],
    );
    draw(
        "improvement",
        &plot("improvement"),
        &["td3_bc over bc", "0.85", over],
    );
    let one = [
        "sweep/bc-hopper-medium-v2/seed-0",
        "sweep/td3_bc-hopper-medium-v2",
    ];
    draw(
        "mixed",
        &one,
        &["over seeds, where there is one seed over episodes"],
    );
    // Profiles are in the JSON object as well.
    let path = kept.join("profiles.svg");
    let found = json(
        folder,
        &[
            &plot("profiles")[..],
            &["--picture", path.to_str().unwrap()],
        ]
        .concat(),
    );
    let profile = &found["profiles"][1];
    let last = profile["shares"].as_array().unwrap().len() - 1;
    assert_eq!(
        (&profile["shares"][0], &profile["shares"][last]),
        (&1.0.into(), &0.0.into())
    );
    assert_eq!(profile["band"].as_array().unwrap().len(), last + 1);
}

#[test]
fn a_single_evaluation_has_an_error_bar_instead_of_a_band() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Made {
        rows: &["2000,120,10,600,90,20,9"],
        ..HOPPER
    }
    .write(&folder.join("a"));
    Made {
        rows: &["2000,90,10,600,90,40,5"],
        keys: "fraction = 0.5",
        ..HOPPER
    }
    .write(&folder.join("b"));
    succeeds(folder, &["a", "b", "--picture", "points.svg"]);
    let svg = fs::read_to_string(folder.join("points.svg")).unwrap();
    has(
        &svg,
        &["band or bar: ± one standard deviation over episodes"],
    );
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare/points.png");
    succeeds(folder, &["a", "b", "--picture", path.to_str().unwrap()]);
}

#[test]
fn a_picture_that_can_not_be_drawn_is_refused_before_anything_is_printed() {
    let folder = sweep();
    let folder = folder.path();
    let error = fails(folder, &["sweep", "--picture", "curves.pdf"]);
    has(
        &error,
        &["a picture's name ends in .svg or .png, found `.pdf`"],
    );
    let error = fails(
        folder,
        &["sweep", "--picture", "curves.svg", "--plot", "profiles"],
    );
    has(
        &error,
        &[
            "no numbers over seeds and tasks to draw",
            "by algorithm, say",
        ],
    );
    let one = [
        "sweep/bc-hopper-medium-v2",
        "--picture",
        "p.svg",
        "--plot",
        "improvement",
    ];
    has(&fails(folder, &one), &["needs two groups"]);
}

#[test]
fn questions_that_can_not_be_answered_are_refused_before_anything_is_computed_or_ignored() {
    let folder = sweep();
    let folder = folder.path();
    fs::write(folder.join("file"), "mine").unwrap();
    let error = fails(folder, &["sweep", "--csv", "file/x.csv"]);
    has(&error, &["file/x.csv: its folder file can't be made"]);
    assert!(!error.contains(".tmp"), "{error}");
    let error = fails(folder, &["sweep", "--by", "algorithm.bc.fractoin"]);
    has(
        &error,
        &[
            "no run has the key `algorithm.bc.fractoin`",
            "did you mean `algorithm.bc.fraction`?",
        ],
    );
    assert!(!error.contains("configuration:"), "{error}");
    has(
        &fails(folder, &["sweep", "--by", "fractoin"]),
        &["did you mean `algorithm.bc.fraction`?"],
    );
    let error = fails(folder, &["sweep", "--by", "the data's checksum"]);
    has(&error, &["no run has the key", "`algorithm`"]);
    assert!(!error.contains("did you mean"), "{error}");
    let plot = [
        "--by",
        "algorithm",
        "--picture",
        "p.svg",
        "--plot",
        "profiles",
    ];
    let error = fails(
        folder,
        &[&["sweep"], &plot[..], &["--x", "updates"]].concat(),
    );
    has(&error, &["`--x` is the axis of curves"]);
    // Seeds on other data: what differs is no key to group by.
    let other = |seed: u64, data: &str| {
        let folder = folder.join(format!("mixed/seed-{seed}"));
        Made { seed, ..HOPPER }.write(&folder);
        let spec = fs::read_to_string(folder.join("config.json")).unwrap();
        fs::write(
            folder.join("config.json"),
            spec.replace("hopper-medium-v2", data),
        )
        .unwrap();
    };
    other(0, "one");
    other(1, "two");
    let error = fails(folder, &["mixed"]);
    has(
        &error,
        &[
            "learned from other data",
            "checksum one",
            "two in mixed/seed-1",
            "`algorithm`",
        ],
    );
    assert!(!error.contains("group them by this key"), "{error}");
}

#[test]
fn a_key_that_is_named_twice_groups_once_and_names_may_hold_equals_signs() {
    let folder = sweep();
    let folder = folder.path();
    let names = |arguments: &[&str]| -> Vec<String> {
        let found = json(folder, arguments);
        let lines = found["runs"].as_array().unwrap().iter();
        lines
            .map(|line| line["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let twice = names(&["sweep", "--by", "algorithm", "--by", "algorithm"]);
    assert_eq!(twice, names(&["sweep", "--by", "algorithm"]));
    for seed in [0, 1] {
        let place = folder.join(format!("alpha=1/seed-{seed}"));
        Made { seed, ..HOPPER }.write(&place);
    }
    let label = |text: &str| names(&["alpha=1", "--label", text]);
    assert_eq!(label("alpha=1=ours"), ["ours"]);
    assert_eq!(label("alpha=1=a=b"), ["a=b"]);
    let error = fails(folder, &["alpha=1", "--label", "alpha=ours"]);
    has(&error, &["no line is called `alpha`; there are `alpha=1`"]);
}

#[test]
fn values_of_a_metric_that_are_no_numbers_are_counted_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = HOPPER.write(&folder.join("a")).join("metrics.csv");
    fs::write(
        &path,
        "update,loss,rare\n10,1.5,\n20,NaN,\n30,inf,7\n40,0.5,\n",
    )
    .unwrap();
    let metric = |name: &str| {
        let found = run(folder, &["a", "--metric", name, "--json"]);
        assert!(found.status.success());
        let said = String::from_utf8(found.stderr).unwrap();
        let printed = String::from_utf8(found.stdout).unwrap();
        let value: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        (said, value["runs"][0].clone())
    };
    let (said, line) = metric("loss");
    has(
        &said,
        &["a: 2 values of `loss` are NaN or infinite and left out"],
    );
    assert_eq!((&line["left_out"], &line["last"]), (&2.into(), &0.5.into()));
    let (said, line) = metric("rare");
    assert!(
        !said.contains("left out") && line["left_out"] == 0,
        "{said}"
    );
    fs::write(&path, "update,loss\n10,NaN\n").unwrap();
    has(
        &fails(folder, &["a", "--metric", "loss"]),
        &["NaN and infinite values only, 1 of them"],
    );
    has(
        &fails(folder, &["a", "--metric", "los"]),
        &["no column `los`", "did you mean `loss`?"],
    );
}

#[test]
fn names_of_runs_stay_text_in_markdown_and_latex_and_long_ones_widen_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let name = "a*b*_c&d";
    HOPPER.write(&folder.join(name));
    let long = format!("first-{}-last", "x".repeat(200));
    HOPPER.write(&folder.join(&long));
    let printed = |form: &[&str]| {
        let arguments = [&[name, &long][..], form].concat();
        let found = run(folder, &arguments);
        assert!(found.status.success(), "{found:?}");
        String::from_utf8(found.stdout).unwrap()
    };
    let markdown = printed(&["--markdown"]);
    // In a cell and in a note, of which one is about each single seed.
    assert!(markdown.contains("| a\\*b\\*\\_c\\&d |"), "{markdown}");
    let note = markdown.lines().find(|line| line.starts_with("* one seed"));
    let note = note.unwrap_or_else(|| panic!("a note: {markdown}"));
    assert!(note.contains("a\\*b\\*\\_c\\&d"), "{note}");
    let latex = printed(&["--latex"]);
    assert!(latex.contains("a*b*\\_c\\&d"), "{latex}");
    assert!(!latex.contains("_c&d"), "{latex}");
    let text = printed(&[]);
    let table: Vec<&str> = text.lines().take(3).collect();
    assert!(
        table.iter().all(|line| line.chars().count() < 180),
        "{text}"
    );
    assert!(
        table[2].starts_with("first-xxx") && table[2].contains("xxx-last"),
        "{text}"
    );
    assert!(printed(&["--csv", "-"]).contains(&long));
}

#[test]
fn data_is_one_task_by_its_checksum_and_different_data_of_one_name_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let other = |name: &str, checksum: &str| {
        let made = folder.join(name);
        Made {
            data: "hopper-medium",
            ..HOPPER
        }
        .write(&made);
        let path = made.join("config.json");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace(
            "\"checksum\": \"hopper-medium\"",
            &format!("\"checksum\": \"{checksum}\""),
        );
        fs::write(path, text).unwrap();
    };
    HOPPER.write(&folder.join("named"));
    other("file", "hopper-medium-v2");
    other("else", "0badf00d");
    let tasks = |runs: &[&str]| {
        let found = json(folder, runs);
        let lines = found["runs"].as_array().unwrap().clone();
        let tasks: BTreeSet<String> = lines.iter().map(|line| line["task"].to_string()).collect();
        (tasks.len(), found["notes"].to_string())
    };
    let (count, notes) = tasks(&["named", "file"]);
    assert_eq!(count, 1, "{notes}");
    assert!(!notes.contains("different data"), "{notes}");
    let (count, notes) = tasks(&["file", "else"]);
    assert_eq!(count, 2, "{notes}");
    assert!(
        notes.contains("`hopper-medium` names different data"),
        "{notes}"
    );
}

#[test]
fn evaluations_in_one_table_are_compared_like_the_runs_that_they_tell_of() {
    let folder = sweep();
    let folder = folder.path();
    let by = ["--by", "algorithm", "--labels", "td3_bc=TD3+BC, ours"];
    // The option takes several labels, parted by commas.
    let by = [&by[..2], &["--label", by[3]]].concat();
    let from_runs = json(
        folder,
        &[&["sweep", "--evaluations", "all.csv"], &by[..]].concat(),
    );
    let text = fs::read_to_string(folder.join("all.csv")).unwrap();
    assert_eq!(text.lines().count(), 1 + 2 * (3 + 3 + 3 + 2), "{text}");
    has(
        &text,
        &[
            "name,algorithm,task,",
            "\"TD3+BC, ours\",td3_bc,hopper-medium-v2,hopper-medium-v2,hopper-v4,2,2000,2000,122,10,0,0,110,5",
        ],
    );
    fs::rename(folder.join("sweep"), folder.join("away")).unwrap();
    let from_table = json(folder, &["all.csv", "--by", "name"]);
    for key in ["over_tasks", "notes", "keys"] {
        assert_eq!(from_table[key], from_runs[key], "{key}");
    }
    let lines = |found: &Value| -> Vec<Value> {
        let mut lines = found["runs"].as_array().unwrap().clone();
        for line in &mut lines {
            for key in ["run", "runs"] {
                line.as_object_mut().unwrap().remove(key);
            }
        }
        lines
    };
    assert_eq!(lines(&from_table), lines(&from_runs));
    // Without groups the names are the lines; by algorithm as runs are.
    let found = json(folder, &["all.csv"]);
    assert_eq!(lines(&found).len(), 4);
    let found = json(folder, &["all.csv", "--by", "algorithm"]);
    assert_eq!(found["over_tasks"]["groups"][1]["name"], "td3_bc");
    // Written again from itself.
    succeeds(
        folder,
        &["all.csv", "--by", "name", "--evaluations", "again.csv"],
    );
    assert_eq!(fs::read_to_string(folder.join("again.csv")).unwrap(), text);
    // A run beside its own line in a table is one run.
    let text = notes(&json(folder, &["away", "all.csv", "--by", "algorithm"]));
    has(
        &text,
        &[
            "bc on hopper-medium-v2",
            "all.csv: bc on hopper-medium-v2, hopper-medium-v2, hopper-v4, seed 0 have the same evaluations: one run counts twice",
        ],
    );
}

#[test]
fn scores_of_other_programs_stand_beside_runs_with_what_they_say() {
    let folder = sweep();
    let folder = folder.path();
    let table = "seed, score_mean,note,task,name\n0,41.5,a,hopper-medium-v2,\"CORL, IQL\"\n1,55,b,hopper-medium-v2,\"CORL, IQL\"\n0,7,c,walker2d-medium-v2,other\n";
    fs::write(folder.join("corl.csv"), table).unwrap();
    let found = json(folder, &["sweep/bc-hopper-medium-v2", "corl.csv"]);
    let lines = found["runs"].as_array().unwrap();
    assert_eq!(lines[1]["name"], "CORL, IQL");
    assert_eq!(lines[1]["scores"], serde_json::json!([41.5, 55.0]));
    assert_eq!(
        (&lines[1]["last"], &lines[1]["seconds"]),
        (&48.25.into(), &Value::Null)
    );
    // One seed of which nobody says how far its episodes are apart has no interval.
    assert_eq!(
        (&lines[2]["interval"], &lines[2]["last_std"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(found["keys"], serde_json::json!([]));
    has(&notes(&found), &["corl.csv: column `note` is not read"]);
    let text = succeeds(folder, &["corl.csv", "--csv", "-"]);
    assert!(!text.contains("NaN"), "{text}");
    let text = fails(folder, &["corl.csv", "--picture", "curves.svg"]);
    has(&text, &["`seconds`", "(`--x updates`)"]);
    succeeds(
        folder,
        &["corl.csv", "--picture", "curves.svg", "--x", "updates"],
    );
    let picture = fs::read_to_string(folder.join("curves.svg")).unwrap();
    assert!(!picture.contains("NaN"));
}

#[test]
fn a_table_of_scores_that_says_too_little_or_nonsense_is_an_error_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let head = "name,task,seed,update,score_mean\n";
    let cases: [(&str, &[&str]); 23] = [
        ("", &["is empty"]),
        (
            "name;task;seed;score_mean\na;t;0;1,5\n",
            &["line 1", "parted by semicolons, expected commas"],
        ),
        (
            "name,task,seed,score_mean,score_std\na,t,0,1,-2\n",
            &["line 2: `score_std` is `-2`, expected 0 or more"],
        ),
        (
            "name,task,seed,score_mean\na,t,0,1,2\n",
            &["line 2: 5 cells, but the first line names 4 columns"],
        ),
        (
            "\u{feff}name,task,seed\n",
            &["no column `score_mean` or `return_mean`"],
        ),
        (
            "name,seed,score_mean\na,0,1\n",
            &[
                "line 1",
                "no column `task`",
                "here are name, seed, score_mean",
            ],
        ),
        (
            "name,task,seed,score\na,t,0,1\n",
            &["line 1", "no column `score_mean` or `return_mean`"],
        ),
        (
            "task,seed,score_mean\nt,0,1\n",
            &["no column `name` or `algorithm`"],
        ),
        (
            "name,name,task,seed,score_mean\na,a,t,0,1\n",
            &["two columns are called `name`"],
        ),
        (head, &["has no evaluation"]),
        (
            "name,task,seed,update,score_mean\na,t,0,1,NaN\n",
            &["line 2: `score_mean` is `NaN`, expected a finite number"],
        ),
        (
            "name,task,seed,update,score_mean\na,t,0,1,1\na,t,1,x,1\n",
            &["line 3: `update` is `x`, expected a whole number"],
        ),
        (
            "name,task,seed,update,score_mean\na,t,,1,1\n",
            &["line 2: `seed` is ``"],
        ),
        (
            "name,task,seed,update,score_mean\na,t,0,1,1\na,t,0,1,2\n",
            &["line 3", "was evaluated after 1 updates on a line before"],
        ),
        (
            "name,task,seed,update,score_mean\na,t,0,1\n",
            &["line 2: 4 cells, but the first line names 5 columns"],
        ),
        (
            "name,task,seed,update,score_mean\na,t,0,1,45",
            &["its last line has no end"],
        ),
        (
            "name,task,seed,update,updates,score_mean\na,t,0,1,9,1\na,t,0,2,8,1\n",
            &[
                "line 3: `updates` is `8`, and `9` on a line before with the same name, task and seed",
            ],
        ),
        (
            "name,task,seed,update,updates,score_mean\na,t,0,1,5,1\na,t,0,7,,1\n",
            &[
                "line 3: an evaluation after 7 updates, but the run is to have 5 (`updates`, line 2)",
            ],
        ),
        (
            "name,task,seed,update,stopped_early,score_mean\na,t,0,1,4,1\na,t,0,4,4,1\na,t,0,6,,1\n",
            &["line 4: an evaluation after 6 updates, but the run stopped early after 4 (line 2)"],
        ),
        (
            "name,task,seed,update,stopped_early,score_mean\na,t,0,1,4,1\na,t,0,3,5,1\n",
            &["line 3: `stopped_early` is `5`, and `4` on a line before"],
        ),
        (
            "name,task,seed,update,updates,stopped_early,score_mean\na,t,0,1,4,5,1\n",
            &["line 2: `stopped_early` is 5, but the run is to have 4 updates (`updates`, line 2)"],
        ),
        (
            "name,task,seed,stopped_by,score_mean\na,t,0,scores,1\n",
            &["line 2: `stopped_by` is `scores`, but no line of the run has `stopped_early`"],
        ),
        (
            "name,task,seed,update,stopped_early,stopped_by,score_mean\na,t,0,1,4,scores,1\na,t,0,3,4,held_out,1\n",
            &["line 3: `stopped_by` is `held_out`, and `scores` on a line before"],
        ),
    ];
    for (text, parts) in cases {
        fs::write(folder.join("table.csv"), text).unwrap();
        let said = fails(folder, &["table.csv"]);
        has(&said, &[&["table.csv"], parts].concat());
    }
    fs::write(
        folder.join("table.csv"),
        b"name,task,seed,score_mean\nM\xfcller,t,0,1\n",
    )
    .unwrap();
    has(
        &fails(folder, &["table.csv"]),
        &["table.csv", "no text in UTF-8"],
    );
    let mixed = "name,task,seed,score_mean,return_mean\na,t,0,1,\na,t,1,,1\n";
    fs::write(folder.join("table.csv"), mixed).unwrap();
    has(
        &fails(folder, &["table.csv"]),
        &["a on t", "scores alone and some returns alone"],
    );
    has(&fails(folder, &["none.csv"]), &["none.csv"]);
    // Why it stopped is said by nobody; what is said once holds for all lines of a run.
    let early =
        "name,task,seed,update,updates,stopped_early,score_mean\na,t,0,2,9,4,1\na,t,0,4,,,2\n";
    fs::write(folder.join("table.csv"), early).unwrap();
    let notes = notes(&json(folder, &["table.csv"]));
    let stopped =
        "stopped early, after 4 of 9 updates (1 of 1 runs), chosen by what its table does not say";
    has(&notes, &[stopped]);
    fs::write(folder.join("table.csv"), format!("{head}a,t,0,1,1\n")).unwrap();
    has(
        &fails(folder, &["table.csv", "--evaluations", "out.txt"]),
        &["out.txt", ".csv"],
    );
}

#[test]
fn a_table_that_says_nothing_of_the_environment_is_of_the_task_that_its_data_is_called_after() {
    let folder = sweep();
    let folder = folder.path();
    // As spreadsheets end tables: an empty row.
    let table =
        "name,task,seed,score_mean\nCORL,hopper-medium,0,41.5\nCORL,hopper-medium,1,55\n,,,\n";
    fs::write(folder.join("corl.csv"), table).unwrap();
    let found = json(folder, &["sweep/bc-hopper-medium-v2", "corl.csv"]);
    let lines = found["runs"].as_array().unwrap();
    assert_eq!(lines[0]["task"], lines[1]["task"], "{found}");
    has(
        &notes(&found),
        &["corl.csv does not say the checksum of its data, `hopper-medium`"],
    );
    // The same within a table.
    let table = "name,task,env,seed,score_mean\na,t,hopper-v4,0,1\na,t,,1,3\n";
    fs::write(folder.join("table.csv"), table).unwrap();
    let found = json(folder, &["table.csv", "./table.csv"]);
    assert_eq!(found["runs"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["runs"][0]["scores"], serde_json::json!([1.0, 3.0]));
    has(
        &notes(&found),
        &["./table.csv is named twice and counts once"],
    );
}

#[test]
fn tables_are_not_written_over_what_is_read_nor_with_runs_that_nothing_tells_apart() {
    let folder = sweep();
    let folder = folder.path();
    succeeds(folder, &["sweep", "--evaluations", "all.csv"]);
    let before = fs::read_to_string(folder.join("all.csv")).unwrap();
    for option in ["--csv", "--evaluations"] {
        has(
            &fails(folder, &["all.csv", option, "./all.csv"]),
            &["all.csv is read here"],
        );
    }
    has(
        &fails(
            folder,
            &["all.csv", "--csv", "x.csv", "--evaluations", "x.csv"],
        ),
        &["x.csv is to be written twice"],
    );
    Made {
        keys: "learning_rate = 0.5",
        ..HOPPER
    }
    .write(&folder.join("other/seed-0"));
    let pooled = [
        "sweep",
        "other",
        "--by",
        "algorithm",
        "--evaluations",
        "pooled.csv",
    ];
    let found = run(folder, &pooled);
    let errors = String::from_utf8_lossy(&found.stderr);
    assert!(!found.status.success(), "{errors}");
    has(
        &errors,
        &[
            "other/seed-0",
            "both are called `bc` and have the seed 0 on hopper-medium-v2",
        ],
    );
    assert!(!folder.join("pooled.csv").exists());
    assert_eq!(fs::read_to_string(folder.join("all.csv")).unwrap(), before);
}

#[test]
fn the_table_of_our_results_is_what_their_file_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/results.md")).unwrap();
    let command = "trajformer compare docs/medium-replay.csv --by name --markdown";
    has(&document, &[command]);
    let found = succeeds(root, &command.split(' ').skip(2).collect::<Vec<_>>());
    let table: Vec<&str> = found.lines().take_while(|line| !line.is_empty()).collect();
    assert!(table.len() > 5, "{found}");
    has(&document, &table);
    // The front page shows some of its lines.
    let front = fs::read_to_string(root.join("README.md")).unwrap();
    let is_shown = |line: &&&str| {
        !["mean over", "median over", "optimality"]
            .iter()
            .any(|word| line.contains(word))
    };
    let shown: Vec<&str> = table.iter().filter(is_shown).copied().collect();
    assert_eq!(shown.len(), 6);
    has(&front, &shown);
}
