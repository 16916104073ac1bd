//! Interrupts: each work stops at its own token.

use std::thread;

use trajformer::checkpoint::RunDir;
use trajformer::evaluate::Evaluator;
use trajformer::fqe::{self, FqeConfig};
use trajformer::interrupt::Interrupt;
use trajformer::run::{self, RunOptions};
use trajformer::{Error, demo, policy};

use crate::runs::{config, write_data};

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
