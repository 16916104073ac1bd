//! Episodes that are kept apart: never learned from, measured the same way by every run, and what stops early by them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use trajformer::checkpoint::{EarlyStop, RunDir};
use trajformer::config::RunConfig;
use trajformer::data::Dataset;
use trajformer::metrics::table::{self, Table};
use trajformer::{compare, held_out, run};

use crate::cli::succeeds;
use crate::runs::{check_same_checkpoint, check_same_run, config, pendulum_data, write_data};

/// Those that have a loss without a step.
const LEARNERS: [&str; 4] = [
    "bc",
    "iql",
    "decision_transformer",
    "trajectory_transformer",
];

/// A small run, without scores, that keeps half of the four episodes apart.
fn with(folder: &Path, algorithm: &str, updates: u64, keys: &[&str]) -> RunConfig {
    let keys = [
        "train.held_out_fraction=0.5",
        "evaluate.episodes=0",
        "data.action_range=[-2.0, 2.0]",
    ]
    .iter()
    .chain(keys);
    let keys: Vec<String> = keys.map(|&key| key.to_owned()).collect();
    config(folder, algorithm, updates)
        .with_overrides(&keys)
        .unwrap()
}

/// A column of `metrics.csv`.
fn column(run: &Path, name: &str) -> Vec<f64> {
    let rows = table::numbers(&run.join("metrics.csv"), ["update", name]).unwrap();
    rows.into_iter().map(|[_, value]| value).collect()
}

#[test]
fn what_is_held_out_is_the_same_for_every_algorithm_and_another_with_another_seed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = pendulum_data();
    let split = |config: &RunConfig| {
        let split = held_out::split(config, &data).unwrap();
        (split.training.into_owned(), split.held_out.unwrap())
    };
    write_data(folder);
    let (training, kept) = split(&with(folder, "bc", 5, &[]));
    assert_eq!((training.episodes.len(), kept.episodes.len()), (2, 2));
    // Whole episodes, each on one side.
    let rows = |data: &Dataset| -> Vec<Vec<u32>> {
        let bits = |row: &[f32]| row.iter().map(|number| number.to_bits()).collect();
        (0..data.steps())
            .map(|step| bits(data.observation(step)))
            .collect()
    };
    let mut all = [rows(&training), rows(&kept)].concat();
    let mut expected = rows(&data);
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
    for algorithm in LEARNERS {
        let other = split(&with(folder, algorithm, 7, &["train.log_every_updates=1"]));
        assert_eq!(other.1.observations, kept.observations, "{algorithm}");
    }
    let seeds = (0..20).map(|seed| {
        let config = with(folder, "bc", 5, &[]);
        split(&RunConfig { seed, ..config }).1.observations
    });
    assert!(seeds.into_iter().any(|other| other != kept.observations));
    // None without the key.
    let none = config(folder, "bc", 5);
    assert!(held_out::split(&none, &data).unwrap().held_out.is_none());
}

#[test]
fn nothing_is_learned_from_what_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let data = pendulum_data();
    for algorithm in LEARNERS {
        let config = with(folder, algorithm, 10, &[]);
        let apart = folder.join(format!("{algorithm}-apart"));
        run::start(&config, &apart).unwrap();
        // The same as a run that never had the other episodes: batches, normaliser and bins.
        let kept = held_out::split(&config, &data).unwrap().held_out.unwrap();
        let is_apart = |number: &usize| {
            let first = data.observation(data.episodes[*number].start);
            let starts = kept.episodes.iter().map(|episode| episode.start);
            let mut starts = starts.map(|start| kept.observation(start));
            starts.any(|start| start == first)
        };
        let (apart_numbers, share): (Vec<usize>, Vec<usize>) = (0..4).partition(is_apart);
        assert_eq!((apart_numbers.len(), share.len()), (2, 2));
        let share = data.of_episodes(&share);
        let alone = config
            .with_overrides(&["train.held_out_fraction=0".to_owned()])
            .unwrap();
        let without = folder.join(format!("{algorithm}-without"));
        run::start_on(&alone, &share, &without).unwrap();
        check_same_checkpoint(&apart, &without, algorithm);
        assert_eq!(column(&apart, "update"), column(&without, "update"));
        // And it is measured, while the networks change.
        let losses = column(&apart, "held_out_loss");
        assert_eq!(losses.len(), 2, "{algorithm}");
        assert!(
            losses[0].is_finite() && losses[0] != losses[1],
            "{losses:?}"
        );
        let table = Table::read(&without.join("metrics.csv")).unwrap();
        assert!(!table.columns.iter().any(|name| name.contains("held_out")));
    }
}

#[test]
fn a_held_out_loss_is_the_mean_over_the_episodes_that_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["algorithm.bc.fraction=1.0"];
    let (config, out) = (with(folder, "bc", 10, &keys), folder.join("run"));
    run::start(&config, &out).unwrap();
    let data = pendulum_data();
    let kept = held_out::split(&config, &data).unwrap().held_out.unwrap();
    let trained = run::open(&out, &[]).unwrap();
    let mut sum = 0.0;
    for step in 0..kept.steps() {
        let found = trained.act(kept.observation(step)).unwrap()[0];
        // In ±1, of actions in ±2.
        sum += f64::from((found - kept.action(step)[0]) / 2.0).powi(2);
    }
    let (expected, found) = (sum / kept.steps() as f64, column(&out, "held_out_loss")[1]);
    // Actions are f32.
    assert!(
        (found / expected - 1.0).abs() < 1e-4,
        "{found} instead of {expected}"
    );
}

#[test]
fn token_models_say_their_cross_entropy_by_what_a_token_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let weights = ["action", "reward", "value"]
        .map(|kind| format!("algorithm.trajectory_transformer.{kind}_weight=1"));
    let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
    let out = folder.join("run");
    run::start(&with(folder, "trajectory_transformer", 10, &weights), &out).unwrap();
    let last = |name: &str| column(&out, name)[1];
    let kinds = ["observation", "action", "reward", "value"];
    let kinds = kinds.map(|kind| last(&format!("held_out_{kind}_cross_entropy")));
    let all = last("held_out_cross_entropy");
    // Of 3 + 1 + 1 + 1 numbers in windows of three transitions, the first of which is never asked for; of the last of the 199 windows
    // of an episode of 200 steps, what lies past the longest path does not count.
    let counts = [8.0, 3.0, 3.0, 3.0].map(|count| 198.0 * count);
    let counts = [0, 1, 2, 3].map(|kind| counts[kind] + [6.0, 2.0, 2.0, 2.0][kind]);
    let counted = counts.iter().sum::<f64>();
    let mean = kinds.iter().zip(counts).map(|(kind, count)| kind * count);
    let mean = mean.sum::<f64>() / counted;
    // Ten bins and the end: never far above their logarithm, and no two kinds equal.
    assert!((1.0..11f64.ln() + 0.1).contains(&all), "{all}");
    assert!(
        (mean / all - 1.0).abs() < 1e-6,
        "{mean} of kinds, {all} of all"
    );
    let loss = all * counted / (199.0 * 17.0);
    assert!((last("held_out_loss") / loss - 1.0).abs() < 1e-6);
    assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]));

    let out = folder.join("at-once");
    let weights = [
        &weights[..],
        &["algorithm.trajectory_transformer.multi_token=true"],
    ]
    .concat();
    run::start(&with(folder, "trajectory_transformer", 10, &weights), &out).unwrap();
    let last = |name: &str| column(&out, name)[1];
    let told = ["observation", "value"];
    let at_once = told.map(|kind| last(&format!("held_out_multi_token_{kind}_cross_entropy")));
    let next = told.map(|kind| last(&format!("held_out_next_{kind}_cross_entropy")));
    // Two observations and three values of a window; of the last window one observation and the first number of another.
    let counts = [198.0 * 6.0 + 4.0, 198.0 * 3.0 + 2.0];
    let sum: f64 = at_once
        .iter()
        .zip(counts)
        .map(|(kind, count)| kind * count)
        .sum();
    let loss = sum / (199.0 * 17.0);
    assert!((last("held_out_multi_token_loss") / loss - 1.0).abs() < 1e-6);
    // Every value follows an action of its window.
    assert!((next[1] / last("held_out_value_cross_entropy") - 1.0).abs() < 1e-9);
    assert!((0..2).all(|kind| at_once[kind] != next[kind] && next[kind] > 0.5));
    let sum = next[0] * counts[0];
    let first = last("held_out_observation_cross_entropy") * (198.0 * 8.0 + 6.0) - sum;
    // What is left are the first observations of windows: two numbers of each.
    assert!((0.5..3.0).contains(&(first / (199.0 * 2.0))), "{first}");
}

#[test]
fn a_run_that_goes_on_measures_the_same_to_the_last_bit() {
    for algorithm in LEARNERS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_data(folder);
        let (whole, parts) = (folder.join("whole"), folder.join("parts"));
        let scored = "evaluate.episodes=1";
        let keys = ["train.held_out_every_updates=3", scored];
        let kept = with(folder, algorithm, 20, &["train.keep=all", scored]);
        run::start(&kept, &whole).unwrap();
        run::branch(
            Path::new(&format!("{}@10", whole.display())),
            &folder.join("branch"),
        )
        .unwrap();
        run::resume(&folder.join("branch"), &[]).unwrap();
        check_same_run(&whole, &folder.join("branch"), algorithm);
        // How often is measured changes nothing but the table, and may change on the way.
        run::start(&with(folder, algorithm, 20, &keys), &parts).unwrap();
        check_same_checkpoint(&whole, &parts, algorithm);
        // Each loss has a row of its own, where it is measured, and rows of means are as they are without.
        let measured = |run: &Path| -> Vec<[f64; 2]> {
            let rows = table::numbers(&run.join("metrics.csv"), ["update", "held_out_loss"]);
            let rows = rows.unwrap().into_iter();
            rows.filter(|[_, loss]| loss.is_finite()).collect()
        };
        let (all, some) = (measured(&whole), measured(&parts));
        let updates: Vec<f64> = some.iter().map(|[update, _]| *update).collect();
        assert_eq!(
            updates,
            [3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 20.0],
            "{algorithm}"
        );
        assert_eq!((some[4], some[6]), (all[2], all[3]), "{algorithm}");
        let means = |run: &Path| -> Vec<Vec<String>> {
            let Table { columns, rows, .. } = Table::read(&run.join("metrics.csv")).unwrap();
            let is_mean = |name: &str| name != "seconds" && !name.starts_with("held_out");
            let rows = rows.into_iter().map(|row| {
                let mut cells: Vec<String> = (columns.iter().zip(row))
                    .filter(|(name, _)| is_mean(name))
                    .map(|(name, cell)| format!("{name} {cell}"))
                    .collect();
                cells.sort();
                cells
            });
            let filled =
                |row: &Vec<String>| row.iter().filter(|cell| !cell.ends_with(' ')).count() > 1;
            rows.filter(filled).collect()
        };
        assert_eq!(means(&whole), means(&parts), "{algorithm}");
        // A run that goes on may change how often; one that is finished was measured as it was.
        let every = "train.held_out_every_updates=4".to_owned();
        let refused = run::resume(&parts, std::slice::from_ref(&every));
        let refused = refused.unwrap_err().to_string();
        let said = "`train.held_out_every_updates` was 3, is 4";
        assert!(refused.contains(said), "{refused}");
        let mut longer = vec![every, "train.updates=22".to_owned()];
        if algorithm == "iql" {
            longer.push("algorithm.iql.actor_decay_updates=22".to_owned());
        }
        run::resume(&parts, &longer).unwrap();
    }
}

#[test]
fn a_run_stops_early_where_its_held_out_loss_falls_no_more_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = [
        "train.log_every_updates=1",
        "train.patience_held_out=3",
        "algorithm.bc.learning_rate=0.003",
        "train.checkpoint_every_updates=1000",
        "evaluate.episodes=1",
        "evaluate.every_updates=0",
    ];
    let (early, killed) = (folder.join("early"), folder.join("killed"));
    let config = with(folder, "bc", 300, &keys);
    let outcome = run::start(&config, &early).unwrap();
    assert_eq!(outcome.stopped_early, Some(EarlyStop::HeldOut));
    assert!(!outcome.interrupted && outcome.update < 300);
    let (losses, lowest) = (column(&early, "held_out_loss"), outcome.held_out.unwrap());
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(lowest.loss, least);
    assert_eq!(losses[lowest.update as usize - 1], least);
    assert_eq!(outcome.update, lowest.update + 3);
    assert_eq!(losses.len() as u64, outcome.update);
    // It is evaluated and saved where it ends.
    assert!(outcome.evaluation.is_some());
    let state = RunDir::open(&early).unwrap().state().unwrap().unwrap();
    assert_eq!(
        (state.update, state.held_out),
        (outcome.update, outcome.held_out)
    );

    // A killed one ends at the same place, and goes on with more patience.
    let often = with(
        folder,
        "bc",
        300,
        &[&keys[..], &["train.keep_every_updates=1"]].concat(),
    );
    run::start(&often, &folder.join("kept")).unwrap();
    let at = format!("{}@{}", folder.join("kept").display(), lowest.update + 1);
    run::branch(Path::new(&at), &killed).unwrap();
    run::resume(&killed, &[]).unwrap();
    check_same_run(&early, &killed, "killed");
    let again = run::resume(&early, &[]).unwrap();
    assert_eq!(
        (again.stopped_early, again.update),
        (outcome.stopped_early, outcome.update)
    );
    let more = run::resume(&killed, &["train.patience_held_out=0".to_owned()]).unwrap();
    assert_eq!((more.stopped_early, more.update), (None, 300));

    // Every result says so.
    let printed = succeeds(folder, &["train", "--resume", "early", "--json"]);
    let words =
        "stopped early: its loss on held-out episodes fell no more (`train.patience_held_out`)";
    assert!(printed.contains(words), "{printed}");
    let json: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(json["stopped_early"], serde_json::json!(["early"]));
    let printed = succeeds(folder, &["compare", "early"]);
    let words: Vec<&str> = printed.split_whitespace().collect();
    let note = format!(
        "stopped early, after {} of 300 updates (1 of 1 runs), chosen by losses on held-out episodes",
        outcome.update
    );
    assert!(words.join(" ").contains(&note), "{printed}");
    let found = compare::found::Run::read(&early).unwrap();
    assert_eq!(found.early_stop, Some(EarlyStop::HeldOut));
    let page = ["report", "early", "--episodes", "0", "--out", "report.html"];
    succeeds(folder, &page);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("\"stopped_early\":true") && page.contains("held_out_loss"));
    let watched = succeeds(folder, &["watch", "early", "--once"]);
    assert!(watched.contains("held_out_loss"), "{watched}");
}

#[test]
fn a_series_measures_each_seed_on_its_own_share() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let config = with(folder, "bc", 5, &[]);
    let options = run::RunOptions::default();
    let series = run::series(&config, &folder.join("runs"), &[0, 1], &options).unwrap();
    assert_eq!(series.outcomes.len(), 2);
    let losses = series
        .outcomes
        .iter()
        .map(|(run, _)| column(run, "held_out_loss"));
    let losses: Vec<Vec<f64>> = losses.collect();
    assert_ne!(losses[0], losses[1]);
}

#[test]
fn shares_that_keep_nothing_apart_and_algorithms_without_a_loss_are_errors_that_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let start = |algorithm: &str, keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let config = config(folder, algorithm, 10).with_overrides(&keys);
        let error = config
            .and_then(|config| run::start(&config, &folder.join("refused")))
            .unwrap_err();
        assert!(!folder.join("refused").exists());
        error.to_string()
    };
    let few = start("bc", &["train.held_out_fraction=0.2"]);
    for words in [
        "data.npz",
        "`train.held_out_fraction` is 0.2",
        "none of the 4 complete episodes",
        "at least 0.250",
    ] {
        assert!(few.contains(words), "{few}");
    }
    for wrong in ["-0.1", "1.0", "nan"] {
        let error = start("bc", &[&format!("train.held_out_fraction={wrong}")]);
        assert!(error.contains("train.held_out_fraction"), "{error}");
    }
    let none = start("td3_bc", &["train.held_out_fraction=0.5"]);
    assert!(
        none.contains("no loss that is known without a step"),
        "{none}"
    );
    for key in ["patience_held_out=2", "held_out_every_updates=2"] {
        let error = start("bc", &[&format!("train.{key}")]);
        assert!(error.contains("set `train.held_out_fraction`"), "{error}");
    }
    let one = Dataset {
        episodes: pendulum_data().episodes[..1].to_vec(),
        ..pendulum_data()
    };
    let config = with(folder, "bc", 10, &[]);
    let error = held_out::split(&config, &one).err().unwrap().to_string();
    assert!(error.contains("at least two"), "{error}");
}

/// Optimiser, schedule, averages and network that are not the authors'.
#[test]
fn a_modern_recipe_goes_on_to_the_same_bits_and_acts_with_its_averages() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let key = |key: &str| format!("algorithm.trajectory_transformer.{key}");
    let recipe = [
        key("optimizer=muon"),
        key("schedule=warmup_stable_decay"),
        key("decay_fraction=0.5"),
        key("average_decay=0.9"),
        key("mlp=squared_relu"),
        key("norm=rms"),
        key("qk_norm=true"),
        key("positions=step_and_dimension"),
        key("tied_heads=true"),
        key("multi_token=true"),
        key("multi_token_weight=0.5"),
    ];
    let keys: Vec<&str> = recipe.iter().map(String::as_str).collect();
    let keys = [&keys[..], &["train.keep=all", "evaluate.episodes=1"]].concat();
    let (whole, branch) = (folder.join("whole"), folder.join("branch"));
    run::start(&with(folder, "trajectory_transformer", 20, &keys), &whole).unwrap();
    let from = format!("{}@10", whole.display());
    run::branch(Path::new(&from), &branch).unwrap();
    run::resume(&branch, &[]).unwrap();
    check_same_run(&whole, &branch, "the recipe");
    // What acts is not what learns, and opens as any other.
    let tensors = |file: &str| {
        candle_core::safetensors::load(whole.join(file), &candle_core::Device::Cpu).unwrap()
    };
    let (model, training) = (
        tensors("model.safetensors"),
        tensors("training.safetensors"),
    );
    let name = "blocks.0.mlp.0.weight";
    let flat = |of: &candle_core::Tensor| of.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let average = flat(&model[name]);
    assert_ne!(average, flat(&training[&format!("weights.{name}")]));
    assert!(training.contains_key(&format!("optimizer.momentum.{name}")));
    assert!(!training.contains_key(&format!("optimizer.first.{name}")));
    // What was judged is what opens.
    let found = run::open(&whole, &[]).unwrap().evaluate().unwrap();
    let rows = table::numbers(&whole.join("evaluations.csv"), ["update", "return_mean"]).unwrap();
    assert_eq!(rows.last(), Some(&[20.0, found.return_mean]));
    // Each key alone changes what is learned.
    let config = with(
        folder,
        "trajectory_transformer",
        20,
        &["evaluate.episodes=1"],
    );
    run::start(&config, &folder.join("authors")).unwrap();
    let path = |name: &str| folder.join(name).join("model.safetensors");
    let authors = fs::read(path("authors")).unwrap();
    let gated = [key("mlp=swiglu")];
    let alone = recipe.iter().chain(&gated);
    for (number, key) in alone.enumerate() {
        // Keys that count beside others.
        if key.contains("decay_fraction") || key.contains("multi_token_weight") {
            continue;
        }
        let name = format!("alone-{number}");
        let config = config.with_overrides(std::slice::from_ref(key)).unwrap();
        run::start(&config, &folder.join(&name)).unwrap();
        assert!(authors != fs::read(path(&name)).unwrap(), "{key}");
    }
}
