//! Several ranks train one run together: with threads of this process in their place, every algorithm that shares its updates ends with the
//! parameters of one rank, to rounding, and all ranks with the same bits.

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use candle_core::Device;
use trajformer::config::RunConfig;
use trajformer::models::ranks::Ranks;
use trajformer::run::{self, RunOptions};
use trajformer::{data, envs, models, policy};

use crate::golden::relative_maximum;
use crate::runs::{config, write_data};

/// Threads that meet.
#[derive(Debug)]
struct Meeting {
    barrier: Barrier,
    brought: Vec<Mutex<Vec<f64>>>,
}

/// One of them.
#[derive(Debug)]
struct Thread {
    rank: usize,
    meeting: Arc<Meeting>,
}

fn threads(count: usize) -> Vec<Arc<dyn Ranks>> {
    let meeting = Arc::new(Meeting {
        barrier: Barrier::new(count),
        brought: (0..count).map(|_| Mutex::default()).collect(),
    });
    let thread = |rank| {
        Arc::new(Thread {
            rank,
            meeting: meeting.clone(),
        }) as Arc<dyn Ranks>
    };
    (0..count).map(thread).collect()
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.meeting.brought.len()
    }

    fn sum(&self, values: &mut [f32]) -> models::Result<()> {
        let mut wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        self.sum_f64(&mut wide)?;
        for (value, wide) in values.iter_mut().zip(wide) {
            *value = wide as f32;
        }
        Ok(())
    }

    fn sum_f64(&self, values: &mut [f64]) -> models::Result<()> {
        *self.meeting.brought[self.rank].lock().unwrap() = values.to_vec();
        self.meeting.barrier.wait();
        values.fill(0.0);
        for brought in &self.meeting.brought {
            let brought = brought.lock().unwrap();
            assert_eq!(
                brought.len(),
                values.len(),
                "the ranks bring different things"
            );
            for (value, other) in values.iter_mut().zip(&*brought) {
                *value += other;
            }
        }
        self.meeting.barrier.wait();
        Ok(())
    }
}

/// What every rank makes of its options.
fn together<T: Send>(
    count: usize,
    interrupted: Option<usize>,
    work: impl Fn(&RunOptions<'_>) -> T + Sync,
) -> Vec<T> {
    let (work, ranks) = (&work, threads(count));
    thread::scope(|scope| {
        let begin = |ranks: Arc<dyn Ranks>| {
            scope.spawn(move || {
                let options = RunOptions {
                    ranks: Some(ranks.clone()),
                    ..RunOptions::default()
                };
                if interrupted == Some(ranks.rank()) {
                    options.interrupt.set();
                }
                work(&options)
            })
        };
        let started: Vec<_> = ranks.into_iter().map(begin).collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

const SHARING: [&str; 13] = [
    "bc",
    "td3",
    "td3_bc",
    "iql",
    "awac",
    "crr",
    "sac",
    "sac_n",
    "edac",
    "cql",
    "rebrac",
    "decision_transformer",
    "trajectory_transformer",
];

/// The configuration of a hundred updates whose batch two and four ranks can share, and whose numbers are the same then: without dropout.
fn shared(folder: &Path, algorithm: &str, updates: u64) -> RunConfig {
    let mut set = vec![
        "train.checkpoint_every_updates=1000".to_owned(),
        "evaluate.every_updates=1000".to_owned(),
    ];
    match algorithm {
        "decision_transformer" | "trajectory_transformer" => {
            set.push(format!("algorithm.{algorithm}.dropout=0"));
        }
        // With one action, directions of slopes are signs, and rounding turns them over.
        "edac" => {
            let path = folder.join("maze.npz");
            let mut env = envs::make("pointmaze-umaze").unwrap();
            let mut random = policy::simple::RandomPolicy::new(env.spec());
            let data = data::collect::collect(&mut *env, &mut random, 800, 1).unwrap();
            data::save(&data, &path).unwrap();
            set.push(format!("data.path={}", path.display()));
            set.push("evaluate.env=pointmaze-umaze".to_owned());
        }
        "iql" => set.push("algorithm.iql.actor_decay_updates=100".to_owned()),
        _ => {}
    }
    config(folder, algorithm, updates)
        .with_overrides(&set)
        .unwrap()
}

/// Largest difference of a tensor's values between two runs, over the largest value.
fn difference(left: &Path, right: &Path) -> f64 {
    let mut largest: f64 = 0.0;
    for file in ["model.safetensors", "training.safetensors"] {
        let read =
            |run: &Path| candle_core::safetensors::load(run.join(file), &Device::Cpu).unwrap();
        let (left, right) = (read(left), read(right));
        assert_eq!(left.len(), right.len());
        for (name, tensor) in left {
            // Softmax takes no notice of what all scores of a row have in common: the gradient of a key's bias is nothing but rounding, which Adam
            // makes steps of.
            if !name.ends_with("key.bias") {
                largest = largest.max(relative_maximum(&tensor, &right[&name]));
            }
        }
    }
    largest
}

/// Of a parameter after a hundred steps, whose sums were added up in another order: rounding grows with the steps.
const ROUNDING: f64 = 1e-4;

#[test]
fn two_and_four_ranks_end_where_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    for algorithm in SHARING {
        let config = shared(folder, algorithm, 100);
        let alone = folder.join(format!("{algorithm}-alone"));
        run::start(&config, &alone).unwrap();
        for count in [2, 4] {
            let trained = together(count, None, |options| {
                trajformer::fit_with(&config, options).unwrap()
            });
            let mut first = None;
            for (rank, mut trained) in trained.into_iter().enumerate() {
                let path = folder.join(format!("{algorithm}-{count}-{rank}"));
                trained.save(&path).unwrap();
                let first = first.get_or_insert(path.clone());
                for file in ["model", "policy", "training"] {
                    let bytes = |run: &Path| {
                        std::fs::read(run.join(format!("{file}.safetensors"))).unwrap()
                    };
                    assert!(
                        bytes(first) == bytes(&path),
                        "{algorithm}: rank {rank} of {count} differs in {file}"
                    );
                }
                assert_eq!(trained.state.update, 100);
            }
            let found = difference(&alone, &first.unwrap());
            assert!(found < ROUNDING, "{algorithm}, {count} ranks: {found}");
        }
    }
}

#[test]
fn a_run_goes_on_on_another_number_of_ranks_and_stops_where_one_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    let config = shared(folder, "td3_bc", 60);
    run::start(&config, &whole).unwrap();
    let stopped = together(4, Some(2), |options| {
        run::start_with(&config, &parts, options).unwrap()
    });
    for outcome in stopped {
        assert!(outcome.interrupted);
        assert_eq!(outcome.update, 1, "all stop after the same update");
    }
    let rows = || std::fs::read_to_string(parts.join("evaluations.csv")).unwrap();
    for (count, updates) in [(2, 30), (1, 40), (4, 60)] {
        let set = [format!("train.updates={updates}")];
        let outcomes = together(count, None, |options| {
            run::resume_with(&parts, &set, options).unwrap()
        });
        for (rank, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.update, updates);
            assert_eq!(
                outcome.evaluation.is_some(),
                rank == 0,
                "the first evaluates"
            );
        }
    }
    assert_eq!(rows().lines().count(), 4, "{}", rows());
    let found = difference(&whole, &parts);
    assert!(found < ROUNDING, "{found}");
    // What is finished is finished on all of them.
    for outcome in together(2, None, |options| run::resume_with(&parts, &[], options)) {
        assert_eq!(outcome.unwrap().update, 60);
    }
}

#[test]
fn what_several_ranks_cannot_train_is_refused_by_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let of = |algorithm: &str, count: usize, set: &[&str]| -> Vec<String> {
        let set: Vec<String> = set.iter().map(|&key| key.to_owned()).collect();
        let config = shared(folder, algorithm, 5).with_overrides(&set).unwrap();
        let out = folder.join(format!("{algorithm}-{count}"));
        let found = together(count, None, |options| {
            run::start_with(&config, &out, options)
                .unwrap_err()
                .to_string()
        });
        assert!(!out.exists(), "{algorithm}: a folder was made");
        found
    };
    for (algorithm, count, set, expected) in [
        ("tap", 2, &[][..], "can't train this algorithm together"),
        (
            "td3_bc",
            3,
            &[],
            "a batch of 16 can't be cut into 3 equal shares",
        ),
        ("td3_bc", 2, &["online.steps=10"], "`online.steps` is set"),
        (
            "td3_bc",
            2,
            &["train.patience_evaluations=2"],
            "`train.patience_evaluations` is set",
        ),
    ] {
        let found = of(algorithm, count, set);
        assert!(found[0].contains(expected), "{found:?}");
        for other in &found[1..] {
            assert!(other.contains("another rank could not begin"), "{found:?}");
        }
    }
}

#[test]
fn an_error_of_one_rank_ends_the_others_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let config = shared(folder, "bc", 5);
    let out = folder.join("there");
    run::start(&config, &out).unwrap();
    // The first finds a run in its place, the second finds nothing wrong.
    let found = together(2, None, |options| {
        let error = run::start_with(&config, &out, options).unwrap_err();
        error.to_string()
    });
    assert!(found[0].contains("there is a run already"), "{found:?}");
    assert!(found[1].contains("another rank"), "{found:?}");
}

#[cfg(all(feature = "cli", not(feature = "mpi")))]
#[test]
fn a_build_without_mpi_says_so_where_it_is_one_of_several_processes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    shared(folder, "bc", 5);
    let trained = |more: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_trajformer"))
            .args([&["train", "bc-5.toml", "--out", "run"], more].concat())
            .current_dir(folder)
            .env("OMPI_COMM_WORLD_SIZE", "2")
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap()
    };
    let found = trained(&[]);
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(
        !found.status.success() && said.contains("one of 2 processes of an MPI job"),
        "{said}"
    );
    assert!(!folder.join("run").exists());
    // Processes that train seeds side by side know nothing of each other.
    assert!(trained(&["--seeds", "0..1"]).status.success());
}
