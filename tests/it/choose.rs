//! `trajformer choose`: runs whose worth is known, copies of one run, policies that remember, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;
use trajformer::choose::{Choice, ChooseOptions, choose};
use trajformer::config::RunConfig;
use trajformer::data::{self, Dataset, Episode};
use trajformer::fqe::FqeConfig;
use trajformer::interrupt::Interrupt;
use trajformer::rng::Rng;
use trajformer::run::{self, RunOptions};
use trajformer::{Result, TrainedRun};

use crate::cli::{fails, succeeds};
use crate::runs::{config, write_data};

/// Episodes of ten steps whose reward is the action; nothing ends but the time.
fn rewarded(action: impl Fn(&mut Rng) -> f32) -> Dataset {
    let mut data = Dataset::blank(1, 1);
    let rng = &mut Rng::from_seed(5);
    for _ in 0..30 {
        data.episodes.push(Episode {
            truncated: true,
            final_observation: Some(vec![rng.normal() as f32].into_boxed_slice()),
            ..Episode::new(data.rewards.len(), 10)
        });
        for _ in 0..10 {
            let action = action(rng);
            data.observations.push(rng.normal() as f32);
            data.actions.push(action);
            data.rewards.push(action);
        }
    }
    data
}

/// A run of BC that does what `data` does on average.
fn cloned(data: &Dataset, out: &Path) {
    let text = "[data]\naction_range = [-1.0, 1.0]\n[train]\nupdates = 300\n[evaluate]\nepisodes = 0\n[algorithm.bc]\nhidden = \
                [8]\nbatch_size = 32\nlearning_rate = 0.01\n";
    let options = RunOptions {
        data: Some(data),
        ..RunOptions::default()
    };
    run::start_with(&RunConfig::parse(text).unwrap(), out, &options).unwrap();
}

fn quick() -> FqeConfig {
    FqeConfig {
        updates: 600,
        discount: 0.8,
        members: 8,
        hidden: vec![16],
        batch_size: 64,
        learning_rate: 3e-3,
        ..FqeConfig::default()
    }
}

fn chosen(runs: &[PathBuf], data: Option<PathBuf>, fqe: FqeConfig) -> Result<Choice> {
    let options = ChooseOptions {
        data,
        fqe,
        ..ChooseOptions::default()
    };
    choose(runs, &options)
}

/// Runs that do 0.8, about 0 and -0.8, and logged random actions.
fn known_runs() -> (tempfile::TempDir, Vec<PathBuf>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let random = |rng: &mut Rng| 2.0 * rng.uniform() as f32 - 1.0;
    let log = folder.path().join("log.npz");
    data::save(&rewarded(random), &log).unwrap();
    let near = |center: f32| move |rng: &mut Rng| center + 0.1 * (rng.uniform() as f32 - 0.5);
    let out = |name: &str| folder.path().join(name);
    cloned(&rewarded(near(-0.8)), &out("bad"));
    cloned(&rewarded(random), &out("random"));
    cloned(&rewarded(near(0.8)), &out("good"));
    let runs = ["bad", "random", "good"].map(out).to_vec();
    (folder, runs, log)
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

#[test]
fn a_run_whose_weights_are_cut_off_is_left_out_and_named() {
    let (folder, runs, log) = known_runs();
    let hurt = folder.path().join("hurt");
    fs::create_dir(&hurt).unwrap();
    for file in fs::read_dir(&runs[0]).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, hurt.join(file.file_name().unwrap())).unwrap();
    }
    let weights = fs::read(hurt.join("model.safetensors")).unwrap();
    fs::write(
        hurt.join("model.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    let brief = || FqeConfig {
        updates: 20,
        members: 2,
        ..quick()
    };
    let all = [hurt.clone(), runs[0].clone(), runs[1].clone()];
    let found = chosen(&all, Some(log.clone()), brief()).unwrap();
    let names: Vec<&str> = found.runs.iter().map(|run| name(&run.name)).collect();
    assert!(names.len() == 2 && !names.contains(&"hurt"), "{names:?}");
    let notes = found.notes.join("\n");
    assert!(
        notes.contains("hurt is left out") && notes.contains("cut off"),
        "{notes}"
    );
    // As long as ever, but others than were saved: before any run is judged.
    let mut flipped = weights;
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(hurt.join("model.safetensors"), flipped).unwrap();
    let found = chosen(&all, Some(log.clone()), brief()).unwrap();
    let notes = found.notes.join("\n");
    assert!(
        notes.contains("hurt is left out") && notes.contains("checksum"),
        "{notes}"
    );
    let error = chosen(&all[..2], Some(log), brief()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("bad is one run") && error.contains("hurt is left out"),
        "{error}"
    );
}

#[test]
fn good_random_and_bad_policies_are_ranked_by_what_they_are_worth() {
    let (folder, runs, log) = known_runs();
    let found = chosen(&runs, Some(log.clone()), quick()).unwrap();
    let names: Vec<&str> = found.runs.iter().map(|run| name(&run.name)).collect();
    assert_eq!(names, ["good", "random", "bad"]);
    assert_eq!(name(&found.chosen), "good");
    assert!(found.not_told_apart.is_empty() && found.expected_regret == 0.0);
    assert_eq!(found.runs[0].probability_best, 1.0);
    for (run, expected) in found.runs.iter().zip([0.8, 0.0, -0.8]) {
        // The sum of 0.8ⁿ is 5; of small networks after few updates.
        assert!((run.value - 5.0 * expected).abs() < 0.6, "{run:?}");
        // Root mean square of a constant minus uniform actions; the clone of the random one is not quite constant.
        let distance = (expected * expected + 1.0 / 3.0f64).sqrt();
        assert!((run.action_distance - distance).abs() < 0.08, "{run:?}");
        assert_eq!(run.action_distances.len(), 1);
        assert_eq!((run.td_error, run.has_history), (None, false));
        assert_eq!(run.members.len(), 8);
    }
    let text = trajformer::choose::wording::report(&found);
    assert!(text.contains("good. Nothing in the data shows"), "{text}");
    // Nothing in the log goes on doing 0.8: its best episode is below.
    assert!(found.runs[0].above_data && !found.runs[2].above_data);
    assert_eq!(
        found.notes,
        ["2 of 3 runs learned from other data than they are judged by"]
    );

    // What a run is worth doesn't depend on which others are beside it.
    let pair = chosen(&runs[..2], Some(log.clone()), quick()).unwrap();
    assert_eq!(pair.runs[0].members, found.runs[1].members);
    assert_eq!(pair.runs[1].members, found.runs[2].members);
    let interrupt = Interrupt::new();
    interrupt.set();
    let stopped = chosen(
        &runs,
        Some(log.clone()),
        FqeConfig {
            interrupt,
            ..quick()
        },
    );
    let said = stopped.err().map(|error| error.to_string()).unwrap();
    assert!(
        said.starts_with("interrupted in the first of 3 runs (")
            && said.ends_with("): nothing can be said yet"),
        "{said}"
    );

    let arguments = "choose bad good random --data log.npz --updates 400 --members 5 --hidden 16 --discount 0.8 --episodes 20 --csv \
                     choice.csv --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = succeeds(folder.path(), &arguments);
    let value: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(value["chosen"], "good");
    // What it will do is said at once, and how long all take as soon as that is known.
    assert_eq!(ChooseOptions::default().fqe.hidden, [64, 64]);
    let logged = std::process::Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(&arguments)
        .current_dir(folder.path())
        .env("TRAJFORMER_LOG", "info")
        .output()
        .unwrap();
    let logged = String::from_utf8(logged.stderr).unwrap();
    for words in [
        "3 runs on 20 of 30 episodes (200 steps): for each 5 critics (16 units), 400 updates",
        "400 updates take about ",
        "; with those of 2 more runs ",
        "1 of 3 runs (bad), about ",
    ] {
        assert!(logged.contains(words), "{words}: {logged}");
    }
    assert_eq!(
        (&value["episodes"], &value["steps"]),
        (&20.into(), &200.into())
    );
    assert!(output.contains("Take good: "), "{output}");
    assert!(value["undecided"].as_array().unwrap().is_empty(), "{value}");
    // One resample, and critics that still say what they said at first: whatever the values, nothing follows.
    for (updates, members, reason) in [
        ("400", "1", "1 of at least 5 resamples"),
        ("400", "4", "4 of at least 5 resamples"),
        ("60", "5", "first values are left after 60 updates"),
    ] {
        let arguments = format!(
            "choose bad good random --data log.npz --updates {updates} --members {members} --hidden 16 --discount 0.8 --episodes 20"
        );
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = succeeds(folder.path(), &arguments);
        let flat = output.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains("Can't tell: ") && flat.contains(reason),
            "{output}"
        );
        assert!(!output.contains("Take "), "{output}");
    }
    let table = fs::read_to_string(folder.path().join("choice.csv")).unwrap();
    assert_eq!(table.lines().count(), 4);
    assert!(
        table.lines().nth(1).unwrap().starts_with("good,bc,300,"),
        "{table}"
    );
}

#[test]
fn two_copies_of_one_run_are_not_told_apart() {
    let (folder, runs, log) = known_runs();
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&runs[2]).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
    }
    let few = FqeConfig {
        updates: 50,
        ..quick()
    };
    let found = chosen(&[runs[2].clone(), copy, runs[0].clone()], Some(log), few).unwrap();
    let [first, second, bad] = &found.runs[..] else {
        panic!("three runs: {found:?}")
    };
    assert_eq!(first.members, second.members);
    assert_eq!(
        (first.probability_best, second.probability_best),
        (0.5, 0.5)
    );
    assert_eq!((second.behind.low, second.behind.high), (0.0, 0.0));
    assert!(bad.behind.low > 0.0, "{bad:?}");
    let names: Vec<&str> = found.not_told_apart.iter().map(|path| name(path)).collect();
    assert_eq!((name(&found.chosen), names), ("good", vec!["copy"]));
    let text = trajformer::choose::wording::report(&found);
    assert!(text.contains("Can't tell: "), "{text}");
    assert!(!text.contains("no result"), "{text}");
    let so_far = Choice {
        interrupted: true,
        planned_runs: 5,
        ..found
    };
    let text = trajformer::choose::wording::report(&so_far);
    assert!(
        text.starts_with("interrupted after 3 of 5 runs: what follows is so far and no result"),
        "{text}"
    );
}

/// All kinds of policies on one task, judged by the scores that they got when they were trained.
#[test]
fn policies_that_remember_stand_beside_those_that_do_not_and_the_choice_is_judged_by_their_scores()
{
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let algorithms = [
        "td3_bc",
        "decision_transformer",
        "trajectory_transformer",
        "fast",
    ];
    for algorithm in algorithms {
        run::start(
            &config(folder, algorithm, 10),
            &folder.join(format!("runs/{algorithm}")),
        )
        .unwrap();
    }
    let arguments = "choose runs --updates 30 --members 4 --hidden 8 --episodes 2 --judge --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = succeeds(folder, &arguments);
    let found: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    let (mut best, mut taken) = (f64::NEG_INFINITY, f64::NAN);
    for run in runs {
        let algorithm = run["algorithm"].as_str().unwrap();
        assert_eq!(run["has_history"], algorithm != "td3_bc", "{algorithm}");
        assert_eq!(
            run["td_error"].is_null(),
            algorithm != "td3_bc",
            "{algorithm}"
        );
        let table = folder.join(format!("runs/{algorithm}/evaluations.csv"));
        let [[last]] = trajformer::metrics::table::numbers(&table, ["return_mean"]).unwrap()[1..]
        else {
            panic!("two evaluations")
        };
        assert_eq!(run["score"].as_f64(), Some(last), "{algorithm}");
        best = best.max(last);
        if run["name"] == found["chosen"] {
            taken = last;
        }
    }
    let judged = &found["judged"];
    assert_eq!(
        (&judged["measure"], &judged["runs"]),
        (&"return".into(), &4.into())
    );
    assert_eq!(judged["regret"].as_f64(), Some(best - taken));
    let names: Vec<&Value> = judged["baselines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    let expected = [
        "one at random",
        "the most updates",
        "the last one named",
        "nearest to the data",
        "the best earlier score",
    ];
    assert_eq!(names, expected);
    assert!(output.contains("Measured in pendulum-v1"), "{output}");
    assert!(
        output.contains("Can't tell: ") || output.contains("Take "),
        "{output}"
    );
}

/// Its critics see half the reward and 1 more; the error is in the environment's rewards.
#[test]
fn the_temporal_difference_error_is_that_of_the_runs_own_critics_on_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = [
        "evaluate.episodes=0",
        "algorithm.td3_bc.data.rewards={affine={scale=0.5,shift=1.0}}",
    ];
    let scaled = config(folder, "td3_bc", 20)
        .with_overrides(&keys.map(str::to_owned))
        .unwrap();
    let runs = ["scaled", "bc"].map(|name| folder.join(name));
    run::start(&scaled, &runs[0]).unwrap();
    run::start(&config(folder, "bc", 5), &runs[1]).unwrap();
    let fqe = FqeConfig {
        updates: 5,
        ..quick()
    };
    let found = chosen(&runs, None, fqe).unwrap();
    let error_of = |run: &str| {
        found
            .runs
            .iter()
            .find(|one| name(&one.name) == run)
            .unwrap()
            .td_error
    };
    assert_eq!(error_of("bc"), None);

    let data = data::load_one(&folder.join("data.npz")).unwrap();
    let trained = run::open(&runs[0], &[]).unwrap();
    let row = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
    let value = |trained: &TrainedRun, observation: &[f32], action: &[f32]| {
        let found = trained
            .algorithm
            .action_values(&row(observation), &row(action))
            .unwrap();
        f64::from(found.unwrap().to_vec1::<f32>().unwrap()[0])
    };
    let (mut sum, mut count) = (0.0, 0);
    for episode in &data.episodes {
        for step in episode.range() {
            let next = if step + 1 < episode.range().end {
                Some(data.observation(step + 1))
            } else {
                episode.final_observation.as_deref()
            };
            let Some(next) = next else { continue };
            let action = trained.act(next).unwrap();
            let target =
                f64::from(data.rewards[step]) * 0.5 + 1.0 + 0.99 * value(&trained, next, &action);
            let error = target - value(&trained, data.observation(step), data.action(step));
            sum += (error / 0.5).powi(2);
            count += 1;
        }
    }
    let expected = (sum / f64::from(count)).sqrt();
    let error = error_of("scaled").unwrap();
    // Products of other numbers of rows, in f32.
    assert!(
        (error - expected).abs() < 1e-3 * expected,
        "{error}, not {expected}"
    );
    assert!(expected > 0.5, "{expected}");
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_reason() {
    let (folder, runs, log) = known_runs();
    let folder = folder.path();
    let check = |arguments: &[&str], expected: &[&str]| {
        let errors = fails(folder, &[&["choose"], arguments].concat());
        for part in expected {
            assert!(
                errors.contains(part),
                "{arguments:?}: no `{part}` in {errors}"
            );
        }
    };
    check(&["good"], &["good is one run", "at least two"]);
    check(&["good", "good", "--data", "log.npz"], &["is one run"]);
    check(
        &["good", "bad"],
        &["names no data of its own", "`--data DATA`"],
    );
    check(&["good", "nowhere", "--data", "log.npz"], &["nowhere"]);
    check(
        &["good", "bad", "--data", "log.npz", "--episodes", "1"],
        &["1 episodes", "at least 2"],
    );
    check(
        &["good", "bad", "--data", "log.npz", "--discount", "1"],
        &["discount must lie in [0, 1)"],
    );
    let judged = [
        "good",
        "bad",
        "--data",
        "log.npz",
        "--judge",
        "--updates",
        "5",
        "--members",
        "2",
    ];
    check(&judged, &["name no environment", "`evaluate.env`"]);
    write_data(folder);
    run::start(&config(folder, "bc", 5), &folder.join("other")).unwrap();
    let shapes = ["good has 1 observations and 1 actions, other has 3 and 1"];
    check(&["good", "other", "--data", "log.npz"], &shapes);
    check(
        &["good", "bad", "--data", "data.npz"],
        &["the runs have 1 observations", "has 3 and 1"],
    );
    let one = rewarded(|rng| rng.uniform() as f32).of_episodes(&[3]);
    data::save(&one, &folder.join("one.npz")).unwrap();
    check(&["good", "bad", "--data", "one.npz"], &["has one alone"]);
    assert_eq!(runs.len(), 3);
    assert!(log.is_file());
}
