//! Runs that are trained in memory, and learning rules that are not of this library.

use std::fs;

use trajformer::algorithms::Build;
use trajformer::config::RunConfig;
use trajformer::interrupt::Interrupt;
use trajformer::run::{self, RunOptions};
use trajformer::{Algorithm, data, fit};

use crate::runs::{check_same_checkpoint, config, write_data};

#[test]
fn a_run_in_memory_has_the_bits_of_one_on_disk_and_is_saved_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let dataset = data::load_one(&folder.join("data.npz")).unwrap();
    for algorithm in ["td3_bc", "iql", "decision_transformer"] {
        let config = config(folder, algorithm, 10);
        let (disk, memory) = (
            folder.join(format!("{algorithm}-disk")),
            folder.join(format!("{algorithm}-memory")),
        );
        let outcome = run::start_on(&config, &dataset, &disk).unwrap();
        let files = || fs::read_dir(folder).unwrap().count();
        let before = files();
        let mut trained = fit(&dataset, &config).unwrap();
        assert_eq!(files(), before, "{algorithm}: something was written");
        assert_eq!(trained.evaluate().unwrap(), outcome.evaluation.unwrap());

        trained.save(&memory).unwrap();
        check_same_checkpoint(&disk, &memory, algorithm);
        let again = trained.save(&memory).unwrap_err().to_string();
        assert!(again.contains("there is a run already"), "{again}");
        let mut opened = run::open(&memory, &[]).unwrap();
        assert_eq!(opened.evaluate().unwrap(), trained.evaluate().unwrap());
        let refused = opened.save(&folder.join("copy")).unwrap_err().to_string();
        assert!(refused.contains("copy that"), "{refused}");

        for run in [&disk, &memory] {
            run::resume(run, &["train.updates=20".to_owned()]).unwrap();
        }
        check_same_checkpoint(&disk, &memory, &format!("{algorithm}, resumed"));
    }
}

#[test]
fn a_memoryless_run_acts_at_one_observation_and_others_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let dataset = data::load_one(&folder.join("data.npz")).unwrap();
    let fitted = |algorithm: &str| fit(&dataset, &config(folder, algorithm, 5)).unwrap();
    let cloning = fitted("bc");
    let action = cloning.act(&[1.0, 0.0, 0.0]).unwrap();
    assert_eq!(action.len(), 1);
    assert!(action[0].abs() <= 2.0);
    assert_ne!(action, cloning.act(&[-1.0, 0.0, 4.0]).unwrap());
    let problem = cloning.act(&[1.0]).unwrap_err().to_string();
    assert!(problem.contains("1 numbers, the run's have 3"), "{problem}");
    let problem = fitted("decision_transformer").act(&[1.0, 0.0, 0.0]);
    let problem = problem.unwrap_err().to_string();
    assert!(problem.contains("begin an episode"), "{problem}");
}

#[test]
fn an_interrupted_run_in_memory_keeps_what_it_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let interrupt = Interrupt::new();
    interrupt.set();
    let options = RunOptions {
        interrupt,
        ..RunOptions::default()
    };
    let mut trained = trajformer::fit_with(&config(folder, "bc", 20), &options).unwrap();
    assert_eq!(trained.state.update, 1);
    let (parts, whole) = (folder.join("parts"), folder.join("whole"));
    trained.save(&parts).unwrap();
    run::resume(&parts, &[]).unwrap();
    run::start(&config(folder, "bc", 20), &whole).unwrap();
    for file in ["model.safetensors", "training.safetensors"] {
        let bytes = |run: &std::path::Path| fs::read(run.join(file)).unwrap();
        assert!(bytes(&parts) == bytes(&whole), "{file}");
    }
}

#[test]
fn a_finished_run_is_not_taken_for_one_of_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let mut dataset = data::load_one(&folder.join("data.npz")).unwrap();
    let (config, out) = (config(folder, "bc", 5), folder.join("run"));
    run::start_on(&config, &dataset, &out).unwrap();
    let resumed = |dataset: &data::Dataset| {
        let options = RunOptions {
            data: Some(dataset),
            ..RunOptions::default()
        };
        run::start_or_resume(&config, &out, &options)
    };
    assert_eq!(resumed(&dataset).unwrap().update, 5);
    dataset.rewards[0] += 1.0;
    let problem = resumed(&dataset).unwrap_err().to_string();
    assert!(problem.contains("checksum"), "{problem}");
}

#[test]
fn a_rule_of_another_program_is_trained_and_opened_with_it_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let text = format!(
        "[data]\npath = \"{}\"\n[train]\nupdates = 5\n[algorithm.custom]\nname = \"own\"\nsettings.rate = 0.5\n",
        folder.join("data.npz").display()
    );
    let own = RunConfig::parse(&text).unwrap();
    assert_eq!(RunConfig::parse(&own.to_toml().unwrap()).unwrap(), own);
    let cloning = config(folder, "bc", 5).algorithm;
    let rule =
        |build: Build<'_>| -> trajformer::Result<Box<dyn Algorithm>> { cloning.build(build) };
    let options = RunOptions {
        rule: Some(&rule),
        ..RunOptions::default()
    };
    let out = folder.join("run");
    run::start_with(&own, &out, &options).unwrap();
    run::resume_with(&out, &["train.updates=10".to_owned()], &options).unwrap();
    let changed = ["algorithm.custom.settings.rate=0.25".to_owned()];
    let problem = run::resume_with(&out, &changed, &options).unwrap_err();
    let problem = problem.to_string();
    assert!(problem.contains("custom.settings.rate"), "{problem}");
    let opened = run::open_custom(&out, &[], &options).unwrap();
    assert_eq!(opened.state.update, 10);
    for problem in [
        run::open(&out, &[]).err().expect("without the rule"),
        run::resume(&out, &["train.updates=20".to_owned()]).unwrap_err(),
        run::start(&own, &folder.join("other")).unwrap_err(),
    ] {
        let problem = problem.to_string();
        assert!(
            problem.contains("`own` belongs to another program"),
            "{problem}"
        );
    }
    let nameless = text.replace("name = \"own\"\n", "");
    let problem = RunConfig::parse(&nameless).unwrap_err().to_string();
    assert!(problem.contains("`algorithm.custom.name`"), "{problem}");
}
