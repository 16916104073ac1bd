//! Reports of runs: the numbers of the page are the runs' own, recorded episodes are those of an evaluation, and what can't be
//! shown says why.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trajformer::compare::compare;
use trajformer::run_report::{self, ReportOptions};
use trajformer::scoring::{self, EvaluateRequest, Scores};
use trajformer::{candle_core, data, run};

use candle_core::{Device, Tensor};

use crate::cli::{fails, succeeds};
use crate::runs::SEAL;

fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs/0.1.0")
}

fn runs(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| stored().join(name)).collect()
}

fn without_episodes() -> ReportOptions {
    ReportOptions {
        episodes: Some(0),
        data: vec![stored().join("data.npz")],
        ..ReportOptions::default()
    }
}

/// The JSON in the page of a report, read back from its file.
fn page(report: &run_report::contract::Report) -> (Value, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    run_report::write(&path, report).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "one file");
    let block = text.split_once("application/json\">").unwrap().1;
    let block = block.split_once("</script>").unwrap().0;
    (serde_json::from_str(block).unwrap(), text.len())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// The page has all digits; serde_json reads them but for the last bit.
fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 4.0 * f64::EPSILON * b.abs();
    let all = found.iter().zip(expected).all(close);
    assert!(
        all && found.len() == expected.len(),
        "{what}: {found:?}, expected {expected:?}"
    );
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn the_pages_numbers_are_those_of_the_tables_and_of_compare() {
    let names = ["bc", "cql", "decision_transformer"];
    let folders = runs(&names);
    let report = run_report::report(&folders, &without_episodes()).unwrap();
    let (page, _) = page(&report);
    let lines = compare(&folders).unwrap();
    for ((folder, line), at) in folders.iter().zip(&lines).zip(0..) {
        let run = &page["runs"][at];
        let text = fs::read_to_string(folder.join("evaluations.csv")).unwrap();
        let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = rows.next().unwrap();
        let rows: Vec<_> = rows.collect();
        for name in ["update", "seconds", "episodes", "return_mean", "return_std"] {
            let place = head.iter().position(|column| *column == name).unwrap();
            let expected: Vec<f64> = rows.iter().map(|row| row[place].parse().unwrap()).collect();
            assert_close(&numbers(&run["evaluations"][name]), &expected, name);
        }
        let curve = page["series"][at]["curve"].as_array().unwrap();
        let last = numbers(curve.last().unwrap());
        let expected = [line.update as f64, line.seconds, line.last, line.last_std];
        assert_close(&last, &expected, "the curve");
        assert_eq!(page["series"][at]["name"], names[at]);
        let best = run["best"]["score"].as_f64().unwrap();
        assert_close(&[best], &[line.best], "the best");
        assert_eq!((&run["done"], &run["updates"]), (&10.into(), &10.into()));
        assert_eq!(run["config"]["train.updates"], "10");
        assert_eq!(
            run["defaults"]["train.checkpoint_every_updates"]
                .as_str()
                .map(str::is_empty),
            Some(false)
        );
        assert_eq!(run["data"]["steps"], 400);
        assert!(run["origin"].is_null(), "an earlier version recorded none");
    }
    // Each return that is aimed at, the first one included.
    let targets = page["runs"][2]["targets"].as_array().unwrap();
    let asked: Vec<f64> = targets
        .iter()
        .map(|one| one["asked"].as_f64().unwrap())
        .collect();
    assert_eq!(asked, [-200.0, -1000.0]);
    assert_eq!(
        targets[0]["return_mean"],
        page["runs"][2]["evaluations"]["return_mean"]
    );
    let second = numbers(&targets[1]["return_mean"]);
    assert_close(&second, &[-1_274.336_904_603_055_6], "the second target");
    // Metrics to six digits.
    let losses = &page["runs"][0]["metrics"]["columns"]["actor_loss"];
    assert_eq!(numbers(&losses["update"]), [5.0, 10.0]);
    assert_eq!(numbers(&losses["value"]), [0.419_253, 0.439_701]);
    let data = &page["data"][0];
    assert_eq!(
        (&data["info"]["episodes"], &data["info"]["steps"]),
        (&2.into(), &400.into())
    );
    let counts = numbers(&data["actions"][0]["hist"]["counts"]);
    assert_eq!(counts.iter().sum::<f64>(), 400.0);
    assert_eq!(page["title"], "bc, cql, decision_transformer");
}

#[test]
fn recorded_episodes_are_those_that_evaluate_scores() {
    let names = [
        "bc",
        "iql",
        "decision_transformer",
        "trajectory_transformer",
    ];
    let options = ReportOptions {
        episodes: Some(2),
        ..without_episodes()
    };
    let report = run_report::report(&runs(&names), &options).unwrap();
    for (name, found) in names.iter().zip(&report.runs) {
        let mut trained = run::open(&stored().join(name), &[]).unwrap();
        let request = EvaluateRequest {
            episodes: Some(2),
            ..EvaluateRequest::default()
        };
        let scored = scoring::evaluate(&mut trained, &request).unwrap();
        let Scores::Episodes(expected) = scored.scores else {
            panic!("{name}: no episodes")
        };
        let totals: Vec<f64> = found.episodes.iter().map(|episode| episode.total).collect();
        let lengths: Vec<usize> = found
            .episodes
            .iter()
            .map(|episode| episode.length)
            .collect();
        assert_eq!(
            (totals, lengths),
            (expected.returns, expected.lengths),
            "{name}"
        );
        for episode in &found.episodes {
            let steps = episode.step.len();
            assert!(
                (2..=201).contains(&steps) && episode.seed == 42,
                "{name}: {steps}"
            );
            assert_eq!(episode.step[steps - 1], episode.length - 1);
            let last = episode.return_so_far[steps - 1];
            assert!(
                (last - episode.total).abs() < 1e-4 * episode.total.abs(),
                "{name}"
            );
            let lists = episode.observations.iter().chain(&episode.actions);
            assert!(
                lists
                    .chain([&episode.reward])
                    .all(|list| list.len() == steps)
            );
            assert_eq!((episode.observations.len(), episode.actions.len()), (3, 1));
        }
        let episode = &found.episodes[0];
        assert_eq!(episode.asked.is_some(), *name == "decision_transformer");
        if let Some(asked) = &episode.asked {
            assert_eq!(asked[0], -200.0);
            assert!((asked[1] - (-200.0 - episode.reward[0])).abs() < 1e-2);
        }
        let planned = *name == "trajectory_transformer";
        assert_eq!(episode.plans.is_empty(), !planned, "{name}");
        assert_eq!(episode.value.is_some(), planned || *name == "iql", "{name}");
        for plan in &episode.plans {
            // It plans every second step, four futures of three steps.
            assert_eq!((plan.step % 2, plan.futures.len()), (0, 4));
            let future = &plan.futures[0];
            assert_eq!((future.observations.len(), future.rewards.len()), (3, 3));
            assert!(plan.futures.iter().all(|other| other.score <= future.score));
        }
    }
}

#[test]
fn token_models_are_told_by_dimension_on_what_they_learned_from_and_what_was_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    crate::runs::write_data(folder);
    let config = crate::runs::config(folder, "trajectory_transformer", 10);
    let config = config.with_overrides(&["train.held_out_fraction=0.5".to_owned()]);
    run::start(&config.unwrap(), &folder.join("planner")).unwrap();
    run::start(&crate::runs::config(folder, "tap", 10), &folder.join("tap")).unwrap();
    let options = ReportOptions {
        episodes: Some(0),
        ..ReportOptions::default()
    };
    let names = ["planner", "tap"].map(|name| folder.join(name));
    let report = run_report::report(&names, &options).unwrap();
    let [planner, tap] = [0, 1].map(|run| &report.runs[run].tokens);
    let sets: Vec<&str> = planner.iter().map(|told| told.data).collect();
    assert_eq!(sets, ["training", "held-out"]);
    let dimensions = [
        "observation 0",
        "observation 1",
        "observation 2",
        "action 0",
        "reward",
        "value",
    ];
    for told in planner {
        let names: Vec<&str> = told
            .dimensions
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, dimensions);
        for one in &told.dimensions {
            assert!((0.0..=1.0).contains(&one.accuracy.unwrap()), "{one:?}");
            assert!(
                one.cross_entropy.unwrap() > 0.0 && one.error.is_none(),
                "{one:?}"
            );
        }
    }
    assert_ne!(planner[0].dimensions, planner[1].dimensions);
    // The same as the network says of the whole data, where nothing was held out.
    let trained = run::open(&folder.join("tap"), &[]).unwrap();
    let network = trained.algorithm.as_any().unwrap();
    let network: &trajformer::algorithms::tap::Tap = network.downcast_ref().unwrap();
    let data = data::load_one(&folder.join("data.npz")).unwrap();
    let expected = network.code_scores(&network.windows_of(&data).unwrap(), 256);
    let expected = expected.unwrap();
    assert_eq!(tap.len(), 1);
    let codes = &tap[0].dimensions[0];
    assert_eq!((tap[0].data, codes.name.as_str()), ("training", "codes"));
    assert!((codes.accuracy.unwrap() - expected.accuracy).abs() < 1e-5);
    assert_eq!(tap[0].dimensions[1].name, "observation 0");
    assert!((tap[0].dimensions[1].error.unwrap() / expected.errors[0] - 1.0).abs() < 1e-5);
    // Other data is not called theirs, and data that has gone is no error.
    let other = ReportOptions {
        data: vec![stored().join("data.npz")],
        ..options.clone()
    };
    let report = run_report::report(&names, &other).unwrap();
    assert!(report.runs.iter().all(|run| run.tokens[0].data == "given"));
    fs::remove_file(folder.join("data.npz")).unwrap();
    let report = run_report::report(&names, &options).unwrap();
    assert!(report.runs.iter().all(|run| run.tokens.is_empty()));
    let said = report
        .notes
        .iter()
        .filter(|note| note.contains("no accuracy of its tokens"));
    assert_eq!(said.count(), 2, "{:?}", report.notes);
}

#[test]
fn a_return_that_a_policy_took_from_its_data_is_what_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    crate::runs::write_data(folder);
    let config = crate::runs::config(folder, "decision_transformer", 10);
    let key = "algorithm.decision_transformer.target_returns=[]".to_owned();
    run::start(&config.with_overrides(&[key]).unwrap(), &folder.join("run")).unwrap();
    let report = run_report::report(&[folder.join("run")], &without_episodes()).unwrap();
    let run = &report.runs[0];
    let best = data::load_one(&folder.join("data.npz"))
        .unwrap()
        .best_return();
    assert_eq!(run.targets.len(), 1);
    assert!(
        (run.targets[0].asked - f64::from(best as f32)).abs() < 1e-3,
        "{best}"
    );
    let reached: Vec<f64> = run.targets[0]
        .return_mean
        .iter()
        .flatten()
        .copied()
        .collect();
    assert_eq!(reached, run.evaluations.return_mean);
}

#[test]
fn values_of_an_episode_are_the_critics() {
    let trained = run::open(&stored().join("iql"), &[]).unwrap();
    let options = ReportOptions {
        episodes: Some(1),
        ..without_episodes()
    };
    let report = run_report::report(&runs(&["iql"]), &options).unwrap();
    let episode = &report.runs[0].episodes[0];
    assert_eq!(episode.value_name, Some("Q of the action"));
    let table = |lists: &[Vec<f64>]| {
        let steps = lists[0].len();
        let values = (0..steps).flat_map(|at| lists.iter().map(move |list| list[at] as f32));
        Tensor::from_vec(
            values.collect::<Vec<f32>>(),
            (steps, lists.len()),
            &Device::Cpu,
        )
        .unwrap()
    };
    let (observations, actions) = (table(&episode.observations), table(&episode.actions));
    let values = trained
        .algorithm
        .action_values(&observations, &actions)
        .unwrap()
        .unwrap();
    let values = values.to_vec1::<f32>().unwrap();
    let shown = episode.value.as_ref().unwrap();
    for (value, shown) in values.iter().zip(shown) {
        assert!((f64::from(*value) - shown).abs() < 1e-4, "{value}, {shown}");
    }
    // Other actions are worth something else: -a.
    let others = trained
        .algorithm
        .action_values(&observations, &actions.neg().unwrap());
    assert_ne!(values, others.unwrap().unwrap().to_vec1::<f32>().unwrap());
    // Over the data they are what training logged, for some of its rows.
    let data = trajformer::data::load_one(&stored().join("data.npz")).unwrap();
    let rows = |values: &[f32], width: usize| {
        Tensor::from_slice(values, (data.steps(), width), &Device::Cpu).unwrap()
    };
    let (observations, actions) = (rows(&data.observations, 3), rows(&data.actions, 1));
    let values = trained.algorithm.action_values(&observations, &actions);
    let mean = values.unwrap().unwrap().mean_all().unwrap();
    let mean = mean.to_scalar::<f32>().unwrap();
    let metrics = stored().join("iql/metrics.csv");
    let logged = trajformer::metrics::table::numbers(&metrics, ["q_data_mean"]).unwrap();
    let logged = logged.last().unwrap()[0];
    // 256 rows of 400: their mean is another by some thousandths.
    assert!((f64::from(mean) - logged).abs() < 0.01, "{mean}, {logged}");
    let cloned = run::open(&stored().join("bc"), &[]).unwrap();
    let none = cloned
        .algorithm
        .action_values(&observations, &actions)
        .unwrap();
    assert!(none.is_none(), "cloning has no critics");
}

#[test]
fn ten_long_runs_are_a_page_of_less_than_two_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut named = Vec::new();
    for number in 0..10 {
        let run = folder.path().join(format!("run-{number}"));
        copy(&stored().join("trajectory_transformer"), &run);
        let columns: Vec<String> = (0..16).map(|column| format!("metric_{column}")).collect();
        let mut text = format!("update,seconds,{}\n", columns.join(","));
        for row in 1..=3_000 {
            let values = (0..16).map(|at| (f64::from(row * (at + 1)).sin() * 1e3).to_string());
            let values: Vec<String> = values.collect();
            text += &format!("{},{row}.5,{}\n", row * 1000, values.join(","));
        }
        fs::write(run.join("metrics.csv"), text).unwrap();
        named.push(run);
    }
    let options = ReportOptions {
        episodes: Some(2),
        ..without_episodes()
    };
    let report = run_report::report(&named, &options).unwrap();
    let (page, length) = page(&report);
    assert!(length < 2_000_000, "{length} bytes");
    assert!(length > 800_000, "{length} bytes: more could be shown");
    assert_eq!(report.runs.len(), 10);
    let column = &page["runs"][3]["metrics"]["columns"]["metric_7"];
    assert_eq!(numbers(&column["update"]).last(), Some(&3_000_000.0));
    assert_eq!(page["runs"][3]["metrics"]["rows"], 3_000);
    let notes = page["notes"].to_string();
    assert!(notes.contains("at most 250 points"), "{notes}");
    assert!(
        report
            .runs
            .iter()
            .all(|run| !run.episodes[1].plans.is_empty())
    );
}

#[test]
fn what_is_missing_is_said_with_what_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("bc");
    copy(&stored().join("bc"), &run);
    let named = [run.clone()];
    let usual = ReportOptions::default();
    // The data is not in the working directory of this test.
    let report = run_report::report(&named, &usual).unwrap();
    let missing = report.data[0].missing.as_deref().unwrap();
    assert!(
        missing.contains("data.npz") && missing.contains("working directory"),
        "{missing}"
    );
    assert_eq!(report.runs[0].episodes.len(), 2, "by default");
    let report = run_report::report(&named, &without_episodes()).unwrap();
    let missing = report.runs[0].episodes_missing.as_deref().unwrap();
    assert!(missing.contains("No episodes were asked for"), "{missing}");

    // As if it had been scored in an environment that this build has not.
    let files = ["config.toml", "config.json"].map(|name| {
        let path = run.join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("pendulum-v1", "marsrover-v0")).unwrap();
        (path, text)
    });
    let report = run_report::report(&named, &usual).unwrap();
    let missing = report.runs[0].episodes_missing.as_deref().unwrap();
    assert!(missing.contains("marsrover-v0"), "{missing}");
    let asked = ReportOptions {
        episodes: Some(1),
        ..usual.clone()
    };
    let error = run_report::report(&named, &asked).unwrap_err().to_string();
    assert!(error.contains("marsrover-v0"), "{error}");
    for (path, text) in files {
        fs::write(path, text).unwrap();
    }

    // A run that has lost its state, and one that has just begun: no table, no checkpoint.
    for file in ["state.toml", "metrics.csv", "evaluations.csv"] {
        fs::remove_file(run.join(file)).unwrap();
    }
    let report = run_report::report(&named, &usual).unwrap();
    assert_eq!((report.runs[0].done, report.series[0].curve.len()), (0, 0));
    let missing = report.runs[0].episodes_missing.as_deref().unwrap();
    assert!(missing.contains("state.toml is missing"), "{missing}");
    for group in ["model", "policy", "training"] {
        fs::remove_file(run.join(format!("{group}.safetensors"))).unwrap();
    }
    let report = run_report::report(&named, &usual).unwrap();
    let missing = report.runs[0].episodes_missing.as_deref().unwrap();
    assert!(missing.contains("no checkpoint yet"), "{missing}");
}

#[test]
fn what_can_not_be_read_or_compared_is_noted_and_the_rest_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = (0..4)
        .map(|seed| {
            let run = folder.path().join(format!("bc/seed-{seed}"));
            copy(&stored().join("bc"), &run);
            let config = fs::read_to_string(run.join("config.toml")).unwrap();
            assert!(config.contains("\nseed = "), "{config}");
            let mut named = false;
            let config: Vec<String> = config
                .lines()
                .map(|line| {
                    if line.starts_with("seed = ") && !std::mem::replace(&mut named, true) {
                        format!("seed = {seed}")
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
            fs::write(run.join("config.toml"), config.join("\n")).unwrap();
            run
        })
        .collect();
    let both = [folder.path().join("bc"), runs[1].clone()];
    let notes = || {
        let report = run_report::report(&both, &without_episodes()).unwrap();
        (report.notes.join("\n"), report.runs.len())
    };
    let (text, count) = notes();
    assert!(
        count == 4 && text.contains("seed-1 is named twice"),
        "{text}"
    );
    // Damage: a table, an origin, an empty table of evaluations, and a run that is behind.
    fs::write(runs[0].join("metrics.csv"), "update,actor_loss\n5,x\n").unwrap();
    fs::write(runs[1].join("origin.json"), "{").unwrap();
    let state = fs::read_to_string(runs[2].join("state.toml")).unwrap();
    let update = state.lines().find(|line| line.starts_with("update = "));
    let behind = state
        .replace(update.unwrap(), "update = 1")
        .replace(SEAL, "");
    fs::write(runs[2].join("state.toml"), behind).unwrap();
    let table = fs::read_to_string(runs[3].join("evaluations.csv")).unwrap();
    let (_, cells) = table.lines().last().unwrap().split_once(',').unwrap();
    let longer = format!("{}\n20,{cells}\n", table.trim_end());
    fs::write(runs[3].join("evaluations.csv"), longer).unwrap();
    let (text, count) = notes();
    assert_eq!(count, 3, "{text}");
    for words in [
        "seed-0 is left out",
        "`actor_loss` is `x`",
        "Where a run was made is not known",
        "seed-2 is not finished: 1 of",
        "are not there in every run",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Nothing that can be read is an error.
    let error = run_report::report(&runs[..1], &without_episodes()).unwrap_err();
    assert!(error.to_string().contains("`actor_loss` is `x`"), "{error}");
}

#[test]
fn a_run_with_damaged_weights_or_files_is_named_and_the_others_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, hurt) = (folder.path().join("whole"), folder.path().join("hurt"));
    let heal = || {
        let _ = fs::remove_dir_all(&hurt);
        copy(&stored().join("bc"), &hurt);
    };
    copy(&stored().join("bc"), &whole);
    let options = ReportOptions {
        episodes: Some(1),
        ..without_episodes()
    };
    let shown = || {
        let report = run_report::report(&[hurt.clone(), whole.clone()], &options).unwrap();
        let episodes: Vec<usize> = report.runs.iter().map(|run| run.episodes.len()).collect();
        (report.notes.join("\n"), episodes)
    };
    // Weights that are cut off, and others of the same length: what the tables say is shown.
    heal();
    let weights = fs::read(hurt.join("model.safetensors")).unwrap();
    let mut others = weights.clone();
    *others.last_mut().unwrap() ^= 1;
    for (bytes, words) in [
        (&weights[..weights.len() / 2], "cut off"),
        (&others[..], "damaged"),
    ] {
        fs::write(hurt.join("model.safetensors"), bytes).unwrap();
        let (notes, episodes) = shown();
        assert_eq!(episodes, [0, 1], "{notes}");
        for words in [
            "hurt: no episodes",
            "model.safetensors",
            words,
            "restore it from a copy",
        ] {
            assert!(notes.contains(words), "{words}: {notes}");
        }
    }
    // Other files: nothing of the run can be shown.
    let junk = [b"\x00\x7f\x01[[".to_vec(), vec![7; 4000]].concat();
    let bytes = [b"seed = \xff\xfe\n".to_vec(), junk.clone()].concat();
    for name in ["config.toml", "config.json", "state.toml"] {
        for bytes in [&junk, &bytes] {
            heal();
            fs::write(hurt.join(name), bytes).unwrap();
            let (notes, episodes) = shown();
            assert_eq!(episodes, [1], "{notes}");
            for words in ["hurt is left out", name, "restore it from a copy"] {
                assert!(notes.contains(words), "{words}: {notes}");
            }
            assert!(!notes.contains('\u{7}') && notes.len() < 1000, "{notes}");
        }
    }
    heal();
    let table = fs::read_to_string(hurt.join("evaluations.csv")).unwrap();
    let (front, _) = table.trim_end().rsplit_once(',').unwrap();
    fs::write(hurt.join("evaluations.csv"), format!("{front},NaN\n")).unwrap();
    let (notes, episodes) = shown();
    assert_eq!(episodes, [1], "{notes}");
    assert!(
        notes.contains("hurt is left out") && notes.contains("NaN"),
        "{notes}"
    );
    // Alone, it is an error.
    let error = run_report::report(std::slice::from_ref(&hurt), &options).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
}

#[test]
fn of_many_evaluations_those_of_all_seeds_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("bc");
    copy(&stored().join("bc"), &run);
    let table = fs::read_to_string(run.join("evaluations.csv")).unwrap();
    let (header, row) = table.trim_end().split_once('\n').unwrap();
    let row: Vec<&str> = row.lines().next().unwrap().split(',').collect();
    let columns: Vec<&str> = header.split(',').collect();
    let place = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let mut text = format!("{header}\n");
    for update in 1..=3_000 {
        let mut cells: Vec<String> = row.iter().map(ToString::to_string).collect();
        cells[place("update")] = update.to_string();
        cells[place("return_mean")] = if update == 1_234 { "7" } else { "-900" }.to_owned();
        text += &(cells.join(",") + "\n");
    }
    fs::write(run.join("evaluations.csv"), text).unwrap();
    let report = run_report::report(&[run], &without_episodes()).unwrap();
    let kept = &report.runs[0].evaluations;
    assert!(
        (290..=302).contains(&kept.update.len()),
        "{}",
        kept.update.len()
    );
    assert!(kept.update.contains(&1_234) && kept.update.contains(&3_000));
    assert_eq!(report.series[0].curve.len(), kept.update.len());
    let text = report.notes.join("\n");
    assert!(text.contains("of 3000 evaluations"), "{text}");
}

#[test]
fn other_data_of_the_same_size_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("data.npz");
    let mut data = data::load_one(&stored().join("data.npz")).unwrap();
    data.rewards[0] += 1.0;
    data::save(&data, &other).unwrap();
    let options = ReportOptions {
        data: vec![other],
        ..without_episodes()
    };
    let report = run_report::report(&runs(&["bc"]), &options).unwrap();
    let warnings = report.data[0].info.as_ref().unwrap().warnings.join("\n");
    assert!(warnings.contains("but checksum"), "{warnings}");
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    copy(&stored().join("bc"), &folder.join("bc"));
    let report = |arguments: &[&str]| fails(folder, &[&["report"], arguments].concat());
    for (arguments, words) in [
        (&["nowhere"][..], "nowhere"),
        (&["bc", "--out", "bc/config.toml/x.html"], "can't be made"),
        (&["bc", "--out", "bc"], "a folder: name the file to write"),
        (&["bc", "--data", "no.npz"], "no.npz"),
        (&["bc", "--episodes", "21"], "at most 20 episodes"),
        (&["bc", "--out", "w.txt"], "ends in .html"),
    ] {
        let errors = report(arguments);
        assert!(errors.contains(words), "{arguments:?}: {errors}");
        assert!(!folder.join("report.html").exists(), "{arguments:?}");
    }
    fs::write(folder.join("bc/metrics.csv"), "update,actor_loss\n5,x\n").unwrap();
    let errors = report(&["bc"]);
    assert!(
        errors.contains("metrics.csv: line 2: `actor_loss` is `x`"),
        "{errors}"
    );
}

#[test]
fn the_command_writes_a_page_of_runs_and_seeds_that_says_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = "[data]\npath = \"data.npz\"\n[train]\nupdates = 4\nlog_every_updates = 1\n[evaluate]\nenv = \"pendulum-v1\"\n\
                  every_updates = 2\nepisodes = 1\n[algorithm.td3_bc]\nbatch_size = 8\nhidden = [8]\n";
    fs::write(folder.join("run.toml"), config).unwrap();
    fs::copy(stored().join("data.npz"), folder.join("data.npz")).unwrap();
    succeeds(
        folder,
        &["train", "run.toml", "--seeds", "0..2", "--out", "a/run"],
    );
    succeeds(folder, &["train", "run.toml", "--out", "b/run"]);
    let title = "</script><b>Two & \"more\"";
    let arguments = [
        "report",
        "a/run",
        "b/run",
        "--title",
        title,
        "--json",
        "--episodes",
        "1",
    ];
    let printed = succeeds(folder, &arguments);
    let printed: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(
        printed,
        serde_json::json!({"report": "report.html", "runs": 3, "episodes": 2})
    );
    let text = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(text.contains("<title>&lt;/script&gt;&lt;b&gt;Two &amp; &quot;more&quot;</title>"));
    let block = text.split_once("application/json\">").unwrap().1;
    let page: Value = serde_json::from_str(block.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(page["title"], title);
    let names: Vec<&str> = page["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a/run", "b/run"], "told apart by their folders");
    assert_eq!(page["series"][0]["runs"], serde_json::json!([0, 1]));
    assert_eq!(page["series"][0]["curve"].as_array().unwrap().len(), 2);
    for at in 0..3 {
        let origin = &page["runs"][at]["origin"];
        let command = origin["command"].as_str().unwrap();
        assert!(
            command.starts_with("trajformer train run.toml"),
            "{command}"
        );
        assert_eq!(origin["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(origin["machine"]["threads"], 1);
    }
    let command = page["made"]["command"].as_str().unwrap();
    assert!(
        command.starts_with("trajformer report a/run b/run --title '"),
        "{command}"
    );
    assert!(page["data"][0]["missing"].is_null());
    let alone = [
        "report",
        "./a/run/seed-1",
        "--episodes",
        "0",
        "--out",
        "alone.html",
    ];
    succeeds(folder, &alone);
    let text = fs::read_to_string(folder.join("alone.html")).unwrap();
    let heading = "<title>run/seed-1</title>";
    assert!(text.contains(heading), "a seed's folder alone says little");
    // Only what each series begins with is recorded.
    let episodes = |at: usize| page["runs"][at]["episodes"].as_array().unwrap().len();
    assert_eq!([episodes(0), episodes(1), episodes(2)], [1, 0, 1]);
}

#[test]
fn neither_a_report_nor_a_table_takes_the_place_of_a_file_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_trajformer"));
        command
            .current_dir(folder)
            .args(arguments)
            .output()
            .unwrap()
    };
    let succeeds = |arguments: &[&str]| {
        let found = command(arguments);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {errors}");
    };
    let collect = [
        "data",
        "collect",
        "--env",
        "pendulum-v1",
        "--policy",
        "random",
    ];
    succeeds(&[&collect[..], &["--steps", "400", "data.npz"]].concat());
    std::fs::write(
        folder.join("bc.toml"),
        "[data]\npath = \"data.npz\"\n[train]\nupdates = 2\n[evaluate]\nenv = \"pendulum-v1\"\nepisodes = 2\n[algorithm.bc]\nhidden = [4]\nbatch_size = 8\n",
    )
    .unwrap();
    for out in ["one/bc", "one/other"] {
        let different = if out == "one/bc" {
            "hidden=[4]"
        } else {
            "hidden=[5]"
        };
        let set = format!("algorithm.bc.{different}");
        succeeds(&["train", "bc.toml", "--set", &set, "--out", out]);
    }
    let weights = folder.join("one/bc/model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    let target = "one/bc/model.safetensors";
    for arguments in [
        &["report", "one/bc", "--episodes", "0", "--out", target][..],
        &["compare", "one/bc", "--csv", target][..],
    ] {
        let found = command(arguments);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(!found.status.success(), "{arguments:?}");
        assert!(errors.contains("a file of a run directory"), "{errors}");
    }
    assert_eq!(std::fs::read(&weights).unwrap(), before);
    // Runs of several configurations in one folder are a line each, named by their folders.
    let found = command(&["compare", "one", "--json"]);
    let printed = String::from_utf8(found.stdout).unwrap();
    let last: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let names: Vec<&str> = last["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["run"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["one/bc", "one/other"]);
}
