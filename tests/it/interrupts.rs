//! Interrupts: each work stops at its own token.

use std::thread;

use trajformer::checkpoint::RunDir;
use trajformer::evaluate::Evaluator;
use trajformer::fqe::{self, FqeConfig};
use trajformer::interrupt::Interrupt;
use trajformer::metrics::table::Table;
use trajformer::run::{self, RunOptions};
use trajformer::{Error, demo, policy};

use crate::runs::{check_same_run, config, write_data};

fn options(interrupt: &Interrupt) -> RunOptions<'static> {
    RunOptions {
        interrupt: interrupt.clone(),
        ..RunOptions::default()
    }
}

#[test]
fn of_two_trainings_in_one_process_the_one_whose_token_is_set_stops() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["evaluate.episodes=0".to_owned()];
    let finite = config(folder, "bc", 20).with_overrides(&keys).unwrap();
    let long = config(folder, "bc", 400).with_overrides(&keys).unwrap();
    let (stopped, other) = (Interrupt::new(), Interrupt::new());
    assert!(!stopped.set(), "it was not set before");
    let (long_run, finite_run) = (folder.join("long"), folder.join("finite"));
    let trainings = [
        (&long, &long_run, options(&stopped)),
        (&finite, &finite_run, options(&other)),
    ];
    let [interrupted, whole] = thread::scope(|scope| {
        trainings
            .map(|(config, out, options)| {
                scope.spawn(move || run::start_with(config, out, &options))
            })
            .map(|training| training.join().unwrap().unwrap())
    });
    assert_eq!((interrupted.update, interrupted.interrupted), (1, true));
    let checkpoint = RunDir::open(&long_run).unwrap().state().unwrap();
    assert_eq!(checkpoint.unwrap().update, 1);
    assert_eq!((whole.update, whole.interrupted), (20, false));
    assert!(stopped.is_set() && !other.is_set());

    // A run that goes on is stopped by its token as well, after one update.
    let again = run::resume_with(&long_run, &[], &options(&stopped)).unwrap();
    assert_eq!((again.update, again.interrupted), (2, true));
}

/// Each row of metrics is the mean of all updates since the last, also where each of them was the last of a process.
#[test]
fn a_training_that_is_stopped_after_every_update_has_the_tables_of_one_that_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["evaluate.episodes=1", "evaluate.every_updates=0"].map(str::to_owned);
    for algorithm in ["td3_bc", "decision_transformer"] {
        let config = config(folder, algorithm, 12).with_overrides(&keys).unwrap();
        let [whole, parts] = ["whole", "parts"].map(|name| folder.join(algorithm).join(name));
        run::start(&config, &whole).unwrap();
        let set = Interrupt::new();
        set.set();
        run::start_with(&config, &parts, &options(&set)).unwrap();
        for update in 2..=12 {
            let outcome = run::resume_with(&parts, &[], &options(&set)).unwrap();
            assert_eq!((outcome.update, outcome.interrupted), (update, true));
            assert_eq!(outcome.lost_rows, [""; 0]);
        }
        // The evaluation at the end was broken off.
        run::resume(&parts, &[]).unwrap();
        check_same_run(&whole, &parts, algorithm);
        let table = Table::read(&parts.join("metrics.csv")).unwrap();
        assert_eq!(table.updates().unwrap(), [5, 10, 12]);
    }
}

#[test]
fn evaluations_estimates_series_and_demonstrations_stop_at_their_token() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let config = config(folder, "bc", 5);
    run::start(&config, &folder.join("run")).unwrap();
    let set = Interrupt::new();
    set.set();

    let evaluator = || Evaluator::new(&config.evaluate).unwrap().unwrap();
    let spec = evaluator().spec().clone();
    let mut random = policy::simple::RandomPolicy::new(&spec);
    let found = evaluator().with_interrupt(&set).run(&mut random);
    assert!(matches!(found, Err(Error::Interrupted)));
    evaluator()
        .with_interrupt(&Interrupt::new())
        .run(&mut random)
        .unwrap();

    let judge = |interrupt: &Interrupt| {
        let quick = FqeConfig {
            updates: 2,
            members: 2,
            hidden: vec![4],
            interrupt: interrupt.clone(),
            ..FqeConfig::default()
        };
        let data = folder.join("data.npz");
        run::judge(&folder.join("run"), &[], &data, &quick)
    };
    let found: trajformer::Result<fqe::Estimate> = judge(&set);
    assert!(matches!(found, Err(Error::NothingYet { .. })));
    judge(&Interrupt::new()).unwrap();

    let series = run::series(&config, &folder.join("seeds"), &[0, 1], &options(&set)).unwrap();
    assert!(series.outcomes.is_empty() && series.failures.is_empty());
    let found = demo::demo(&folder.join("demo"), &set);
    assert!(matches!(found, Err(Error::Interrupted)));
}
