//! Whole runs: exact resume, the same bits from the same seed, damaged and foreign run directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use trajformer::algorithms::{ALGORITHMS, Actions};
use trajformer::checkpoint::RunDir;
use trajformer::config::RunConfig;
use trajformer::evaluate::Evaluator;
use trajformer::metrics::table::Table;
use trajformer::{compare, data, envs, policy, run};

/// What stands before the checksum in a file of a run: without it the file may be changed.
pub const SEAL: &str = "trajformer-crc32-";

/// Small sizes for algorithms whose defaults are large.
pub fn small(name: &str) -> &'static str {
    match name {
        "bc" => "fraction = 0.5\nbatch_size = 16\nhidden = [16, 16]",
        "bear" => {
            "batch_size = 16\nhidden = [16, 16]\nvae_hidden = [16]\nwarmup_updates = 3\n\
             acting_samples = 5"
        }
        "brac" => {
            "batch_size = 16\nhidden = [16, 16]\nactor_hidden = [16]\nbehavior_updates = 3\n\
             warm_start_updates = 3\ntrain_penalty = true"
        }
        "decision_transformer" => {
            "batch_size = 4\nlayers = 2\nembedding = 16\ncontext_steps = 5\nwarmup_updates = 3\n\
             target_returns = [-200.0, -1000.0]"
        }
        "lamo" => {
            "batch_size = 4\nlayers = 2\nheads = 2\nembedding = 16\nrank = 3\ncontext_steps = 5\nwarmup_updates = 3"
        }
        "qt" => {
            "batch_size = 4\nlayers = 2\nheads = 2\nembedding = 16\ncritic_hidden = [16, 16]\ncontext_steps = 5\n\
             candidates = 5\naverage_from = 1\naverage_every = 2\ndecay_updates = 20\ndecay_every = 3\n\
             target_returns = [-200.0, -1000.0]"
        }
        "online_dt" => {
            "batch_size = 4\nlayers = 2\nheads = 2\nembedding = 16\nwarmup_updates = 3\nupdates_per_episode = 4\nreplay_episodes = 3"
        }
        "reinformer" => "batch_size = 4\nlayers = 2\nheads = 2\nembedding = 16\nwarmup_updates = 3",
        "trajectory_transformer" => {
            "bins = 10\nbatch_size = 4\nlayers = 1\nheads = 2\nembedding_per_head = 8\n\
             window_transitions = 3\nwarmup_updates = 3\ndecay_updates = 15\n\
             planner.horizon = 10\nplanner.beam_width = 2\nplanner.plan_every_steps = 10\n\
             planner.max_context_transitions = 2\n\
             termination_penalty = \"none\""
        }
        "fast" => {
            "chunk_steps = 4\nexecute_steps = 3\nvocab_size = 128\nbatch_size = 8\nlayers = 1\nheads = 2\n\
             embedding = 16\nwarmup_updates = 3\ndecay_updates = 15"
        }
        // Twenty updates or ten and ten more: the same rates.
        "iql" => "batch_size = 16\nhidden = [16, 16]\nactor_decay_updates = 20",
        "tap" => {
            "codes = 8\ncode_width = 6\nlatent_steps = 2\nlayers = 1\nheads = 2\nembedding_per_head = 4\n\
             window_transitions = 4\nbatch_size = 4\nautoencoder_updates = 3\nplanner.horizon = 4\n\
             planner.beam_width = 4\nplanner.n_expand = 8\nplanner.plan_every_steps = 2\n\
             termination_penalty = \"none\""
        }
        "sac_rnd" => "batch_size = 16\nhidden = [16, 16]\nrnd_hidden = 16\npretraining_updates = 3",
        _ => "batch_size = 16\nhidden = [16, 16]",
    }
}

/// Pendulum data of random actions, with four episodes.
pub fn pendulum_data() -> data::Dataset {
    let mut env = envs::make("pendulum-v1").unwrap();
    let mut random = policy::simple::RandomPolicy::new(env.spec());
    data::collect::collect(&mut *env, &mut random, 800, 1).unwrap()
}

pub fn write_data(folder: &Path) {
    data::save(&pendulum_data(), &folder.join("data.npz")).unwrap();
}

/// A small run of `algorithm` on that data.
pub fn config(folder: &Path, algorithm: &str, updates: u64) -> RunConfig {
    let text = format!(
        "seed = 3\ndevice = \"{}\"\n[data]\npath = \"{}\"\n[train]\nupdates = {updates}\n\
         checkpoint_every_updates = 5\nlog_every_updates = 5\n\
         [evaluate]\nenv = \"pendulum-v1\"\nevery_updates = 5\nepisodes = 2\n\
         [algorithm.{algorithm}]\n{}\n",
        crate::device::name(),
        folder.join("data.npz").display(),
        small(algorithm)
    );
    let path = folder.join(format!("{algorithm}-{updates}.toml"));
    fs::write(&path, text).unwrap();
    RunConfig::load(&path, &[]).unwrap()
}

/// A table without its `seconds` column, which differs from run to run.
fn table_without_seconds(path: &Path) -> Vec<Vec<String>> {
    let Table { columns, rows, .. } = Table::read(path).unwrap();
    let seconds = columns
        .iter()
        .position(|column| column == "seconds")
        .unwrap();
    let mut table = vec![columns];
    table.extend(rows);
    table.iter_mut().for_each(|row| drop(row.remove(seconds)));
    table
}

/// All that a checkpoint keeps but the seconds it took: the same bits.
pub fn check_same_checkpoint(left: &Path, right: &Path, what: &str) {
    for file in ["model", "policy", "training"].map(|name| format!("{name}.safetensors")) {
        let (a, b) = (
            fs::read(left.join(&file)).unwrap(),
            fs::read(right.join(&file)).unwrap(),
        );
        assert!(a == b, "{what}: {file} differs");
    }
    let states = [left, right].map(|dir| RunDir::open(dir).unwrap().state().unwrap().unwrap());
    assert_eq!(states[0].update, states[1].update, "{what}");
    assert_eq!(states[0].rng, states[1].rng, "{what}");
    assert_eq!(states[0].best, states[1].best, "{what}");
}

/// The same checkpoint, and the same rows of metrics and evaluations.
pub fn check_same_run(left: &Path, right: &Path, what: &str) {
    check_same_checkpoint(left, right, what);
    for file in ["metrics.csv", "evaluations.csv"] {
        let tables = [left, right].map(|dir| table_without_seconds(&dir.join(file)));
        assert_eq!(tables[0], tables[1], "{what}: {file}");
    }
}

#[test]
fn ten_updates_saved_loaded_and_ten_more_are_twenty_for_every_algorithm() {
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_data(folder);
        let (whole, parts) = (folder.join("whole"), folder.join("parts"));
        run::start(&config(folder, algorithm.name, 20), &whole).unwrap();
        run::start(&config(folder, algorithm.name, 10), &parts).unwrap();
        let half = fs::read(parts.join("model.safetensors")).unwrap();
        run::resume(&parts, &["train.updates=20".to_owned()]).unwrap();
        assert!(
            half != fs::read(parts.join("model.safetensors")).unwrap(),
            "nothing was trained"
        );
        check_same_run(&whole, &parts, algorithm.name);
    }
}

#[test]
fn every_algorithm_logs_the_norms_of_its_gradients_and_token_models_their_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let run = folder.join(name);
        run::start(&config(folder, name, 10), &run).unwrap();
        let Table { columns, rows, .. } = Table::read(&run.join("metrics.csv")).unwrap();
        let last = |column: &str| -> Option<f64> {
            let place = columns.iter().position(|known| known == column)?;
            rows.last().unwrap()[place].parse().ok()
        };
        let norms: Vec<&str> = columns
            .iter()
            .map(String::as_str)
            .filter(|column| column.ends_with("gradient_norm"))
            .collect();
        assert!(!norms.is_empty(), "{name}: {columns:?}");
        for norm in &norms {
            // Not each network learns until the end.
            let place = columns.iter().position(|known| known == norm).unwrap();
            let mut found = rows.iter().filter_map(|row| row[place].parse().ok());
            assert!(found.any(|norm: f64| norm > 0.0), "{name}: {norm}");
        }
        // A network for each loss.
        for (loss, norm) in [
            ("actor_loss", "actor_gradient_norm"),
            ("critic_loss", "critic_gradient_norm"),
            ("value_loss", "value_gradient_norm"),
        ] {
            let has = |column: &str| columns.iter().any(|known| known == column);
            // What one network has several losses of is one step.
            let is_known = has(norm) || has("gradient_norm");
            assert!(!has(loss) || is_known, "{name}: {columns:?}");
        }
        let shares: &[&str] = match name {
            "trajectory_transformer" => &[
                "observation_accuracy",
                "action_accuracy",
                "reward_accuracy",
                "value_accuracy",
            ],
            "tap" => &["code_accuracy"],
            "fast" => &["token_accuracy"],
            _ => &[],
        };
        for share in shares {
            let entropy = share.replace("accuracy", "cross_entropy");
            let found = [last(share).unwrap(), last(&entropy).unwrap()];
            assert!((0.0..=1.0).contains(&found[0]), "{name}: {share} {found:?}");
            assert!(found[1] > 0.0, "{name}: {entropy} {found:?}");
        }
    }
}

#[test]
fn norms_of_gradients_are_taken_before_rows_alone_and_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    for algorithm in ["td3_bc", "iql"] {
        // Every update is near a row, or the last ten of thirty.
        let decay = "algorithm.iql.actor_decay_updates=30".to_owned();
        let own = if algorithm == "iql" {
            vec![decay]
        } else {
            Vec::new()
        };
        let often = config(folder, algorithm, 20).with_overrides(&own).unwrap();
        let longer = ["train.updates=30".to_owned()];
        let often = often.with_overrides(&longer).unwrap();
        let rows = ["checkpoint_every_updates=30", "log_every_updates=30"];
        let rows = rows.map(|key| format!("train.{key}"));
        let seldom = often.with_overrides(&rows).unwrap();
        let runs = ["often", "seldom"].map(|name| folder.join(format!("{algorithm}-{name}")));
        run::start(&often, &runs[0]).unwrap();
        run::start(&seldom, &runs[1]).unwrap();
        check_same_checkpoint(&runs[0], &runs[1], algorithm);
        let column = |run: &Path, name: &str| -> Vec<f64> {
            let rows = trajformer::metrics::table::numbers(&run.join("metrics.csv"), [name]);
            rows.unwrap().into_iter().map(|[value]| value).collect()
        };
        let [often, seldom] = [0, 1].map(|run| column(&runs[run], "critic_gradient_norm"));
        assert_eq!((often.len(), seldom.len()), (6, 1), "{algorithm}");
        // The last ten updates are those of the last two rows.
        let mean = (often[4] + often[5]) / 2.0;
        assert!(
            (seldom[0] / mean - 1.0).abs() < 1e-9,
            "{often:?} {seldom:?}"
        );
    }
}

/// Learning online from update 10 on, broken off in the middle of an episode and in the middle of another.
#[test]
fn own_experience_is_saved_and_an_episode_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let online = |steps: u64| format!("online.steps={steps}");
    let config = config(folder, "td3_bc", 10)
        .with_overrides(&["evaluate.every_updates=10".to_owned()])
        .unwrap();
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    let all = config.with_overrides(&[online(270)]).unwrap();
    run::start(&all, &whole).unwrap();
    run::start(&config, &parts).unwrap();
    let offline = fs::read(parts.join("training.safetensors")).unwrap();
    for steps in [70, 230, 270] {
        run::resume(&parts, &[online(steps)]).unwrap();
    }
    check_same_run(&whole, &parts, "online");
    let training = fs::read(parts.join("training.safetensors")).unwrap();
    // Observations, actions, rewards, next observations and ends of 270 steps, and names.
    assert!(training.len() > offline.len() + 270 * (3 + 1 + 1 + 3 + 1) * 4);
    let metrics = Table::read(&whole.join("metrics.csv")).unwrap();
    assert!(
        metrics
            .columns
            .iter()
            .any(|name| name == "online_return_mean")
    );

    let refused = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        run::resume(&parts, &overrides).unwrap_err().to_string()
    };
    assert!(refused(&["train.updates=20"]).contains("online since update 10"));
    assert!(refused(&["online.steps=5"]).contains("280 updates are done"));
}

#[test]
fn calibrated_critics_learn_online() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["online.steps=5", "algorithm.cql.calibrate=true"].map(str::to_owned);
    let config = config(folder, "cql", 5).with_overrides(&keys).unwrap();
    run::start(&config, &folder.join("cql")).unwrap();
    let metrics = Table::read(&folder.join("cql/metrics.csv")).unwrap();
    assert_eq!(metrics.rows.last().unwrap()[0], "10");
}

#[test]
fn algorithms_that_cannot_learn_online_say_so_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let start = |algorithm: &str, keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let config = config(folder, algorithm, 10).with_overrides(&keys)?;
        run::start(&config, &folder.join(algorithm))
    };
    let refused = start("bc", &["online.steps=5"]).unwrap_err().to_string();
    assert!(refused.contains("does not learn online"), "{refused}");
    assert!(!folder.join("bc").exists());
    let more = ["online.noise=-1", "online.steps=5"];
    let refused = start("td3_bc", &more).unwrap_err().to_string();
    assert!(refused.contains("`online.noise` is -1"), "{refused}");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let config = config(folder, "td3_bc", 10);
    for name in ["a", "b"] {
        run::start(&config, &folder.join(name)).unwrap();
    }
    check_same_run(&folder.join("a"), &folder.join("b"), "same seed");
    run::start(&RunConfig { seed: 4, ..config }, &folder.join("c")).unwrap();
    let model = |name: &str| fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert!(model("a") != model("c"));
}

/// Sizes at which batches, sequences and parameters are cut into several pieces of work.
fn wide(name: &str) -> &'static [&'static str] {
    match name {
        "decision_transformer" => &["batch_size=32", "embedding=32", "context_steps=10"],
        "lamo" => &["batch_size=32", "embedding=32", "context_steps=10"],
        "qt" => &[
            "batch_size=32",
            "embedding=32",
            "context_steps=10",
            "critic_hidden=[160, 160]",
        ],
        "online_dt" => &["batch_size=32", "embedding=32", "context_steps=10"],
        "reinformer" => &["batch_size=32", "embedding=32", "context_steps=10"],
        "trajectory_transformer" => &[
            "batch_size=32",
            "embedding_per_head=32",
            "window_transitions=6",
        ],
        "fast" => &["batch_size=64", "embedding=32", "chunk_steps=8"],
        "tap" => &[
            "batch_size=64",
            "embedding_per_head=32",
            "code_width=32",
            "codes=100",
        ],
        _ => &["batch_size=700", "hidden=[160, 160]"],
    }
}

#[test]
fn training_gives_the_same_bits_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let keys = wide(name);
        let mut overrides: Vec<String> = keys
            .iter()
            .map(|key| format!("algorithm.{name}.{key}"))
            .collect();
        overrides.push("evaluate.episodes=0".to_owned());
        let config = config(folder, name, 5).with_overrides(&overrides).unwrap();
        let runs = [1, 2, 5].map(|threads| {
            let out = folder.join(format!("{name}-on-{threads}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let outcome = pool.unwrap().install(|| run::start(&config, &out)).unwrap();
            assert_eq!(outcome.update, 5, "{name}");
            out
        });
        for (run, threads) in runs[1..].iter().zip([2, 5]) {
            let what = format!("{name}, {threads} threads");
            check_same_checkpoint(&runs[0], run, &what);
            let metrics =
                [&runs[0], run].map(|dir| table_without_seconds(&dir.join("metrics.csv")));
            assert_eq!(metrics[0], metrics[1], "{what}");
        }
    }
}

#[test]
fn rows_past_the_checkpoint_are_cut_and_a_killed_save_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let (whole, killed) = (folder.join("whole"), folder.join("killed"));
    run::start(&config(folder, "td3_bc", 20), &whole).unwrap();
    run::start(&config(folder, "td3_bc", 10), &killed).unwrap();
    // A kill after state.toml was renamed, before the tensor files were; and rows written later.
    let model = killed.join("model.safetensors");
    fs::rename(&model, killed.join("model.safetensors.new")).unwrap();
    fs::write(&model, "an older model").unwrap();
    for table in ["metrics.csv", "evaluations.csv"] {
        let path = killed.join(table);
        let text = fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap().replacen("10,", "13,", 1);
        fs::write(&path, format!("{text}{last}\n14,0.5")).unwrap();
    }
    run::resume(&killed, &["train.updates=20".to_owned()]).unwrap();
    check_same_run(&whole, &killed, "killed");
}

#[test]
fn resume_changes_the_number_of_updates_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let out = folder.join("run");
    run::start(&config(folder, "bc", 10), &out).unwrap();
    let refused = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        run::resume(&out, &overrides).unwrap_err().to_string()
    };
    let free = "`online.steps`, how long a learning rate decays, what is kept and when it stops early only";
    assert!(refused(&["seed=4"]).contains(free));
    assert!(refused(&["train.updates=20", "algorithm.bc.batch_size=3"]).contains("only"));
    assert!(refused(&["train.updates=5"]).contains("10 updates are done"));
    let again = run::start(&config(folder, "bc", 10), &out)
        .unwrap_err()
        .to_string();
    assert!(
        again.contains("resuming it") && again.contains("another folder"),
        "{again}"
    );
}

#[test]
fn a_run_from_before_a_key_goes_on_with_the_default_of_the_key() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let out = folder.path().join("run");
    let config = config(folder.path(), "decision_transformer", 5);
    run::start(&config, &out).unwrap();
    let edit = |file: &str, change: &dyn Fn(&str) -> Option<String>| {
        let path = out.join(file);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<String> = text.lines().filter_map(change).collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
    };
    let without = |line: &str| (!line.contains("matmul")).then(|| line.replace(SEAL, ""));
    edit("config.toml", &without);
    edit("config.json", &without);
    let resume = |updates: u64| run::resume(&out, &[format!("train.updates={updates}")]);
    resume(6).unwrap();

    edit("config.toml", &|line| {
        Some(line.replace("\"f32\"", "\"bf16\""))
    });
    let error = resume(7).unwrap_err().to_string();
    assert!(
        error.contains("matmul` was not set, is \"bf16\""),
        "{error}"
    );
}

#[test]
fn a_damaged_run_says_which_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let out = folder.join("run");
    run::start(&config(folder, "bc", 10), &out).unwrap();
    for file in ["model.safetensors", "policy.safetensors"] {
        let path = out.join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = run::open(&out, &[]).err().expect("damaged").to_string();
        assert!(error.contains(file) && error.contains("damaged"), "{error}");
        fs::write(&path, &bytes).unwrap();
    }
    run::open(&out, &[]).unwrap();
    fs::write(out.join("state.toml"), "format = 1\nupdate = ").unwrap();
    let error = run::open(&out, &[]).err().expect("damaged").to_string();
    assert!(error.contains("state.toml"), "{error}");
    let error = run::open(folder, &[]).err().expect("no run").to_string();
    assert!(error.contains("not a run directory"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_at_its_update_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let config = config(folder, "td3_bc", 400);
    let overrides = ["evaluate.episodes=0", "train.log_every_updates=7"].map(str::to_owned);
    let config = config.with_overrides(&overrides).unwrap();
    let whole = data::load_one(&folder.join("data.npz")).unwrap();
    // No reader lets it in: one reward that is not a number, which some update will draw.
    let mut damaged = whole.clone();
    damaged.rewards[100] = f32::NAN;
    let out = folder.join("run");
    let error = run::start_on(&config, &damaged, &out).unwrap_err();
    let trajformer::Error::Training {
        update, problem, ..
    } = error
    else {
        panic!("{error}")
    };
    let said = "the loss of `model.critics` is NaN";
    assert!(problem.contains(said), "{problem}");
    let checkpoint = (update - 1) / 5 * 5;
    assert!(checkpoint > 0, "stopped at {update}, before a checkpoint");

    let stored = run::open(&out, &[]).unwrap();
    assert_eq!(stored.state.update, checkpoint, "stopped at {update}");
    // Training that ends there, on data without the damage, gives the same bits.
    let mut shorter = config.clone();
    shorter.train.updates = checkpoint;
    let expected = folder.join("expected");
    run::start_on(&shorter, &whole, &expected).unwrap();
    check_same_checkpoint(&out, &expected, "the last checkpoint");
}

#[test]
fn a_stored_run_opens_without_its_data_and_scores_what_it_scored() {
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_data(folder);
        let config = config(folder, algorithm.name, 10);
        let out = folder.join("run");
        let trained = run::start(&config, &out).unwrap().evaluation.unwrap();
        fs::remove_file(folder.join("data.npz")).unwrap();
        let stored = run::open(&out, &[]).unwrap();
        let mut evaluator = Evaluator::new(&stored.config.evaluate).unwrap().unwrap();
        let found = evaluator
            .run(&mut *stored.algorithm.policy().unwrap())
            .unwrap();
        assert_eq!(found, trained, "{}", algorithm.name);
    }
}

/// `tests/golden/transformers_names.py --run` shows by hand that it acts the same there.
#[test]
fn a_decision_transformer_has_the_files_that_transformers_opens() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let out = folder.path().join("run");
    run::start(&config(folder.path(), "decision_transformer", 5), &out).unwrap();

    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let found: BTreeMap<String, Vec<usize>> = metadata
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.shape.clone()))
        .collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformers_names.json");
    let expected: BTreeMap<String, Vec<usize>> =
        serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    assert_eq!(found, expected);
    let format = metadata.metadata().as_ref().and_then(|m| m.get("format"));
    assert_eq!(format.map(String::as_str), Some("pt"));

    let text = fs::read_to_string(out.join("config.json")).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(keys["model_type"], "decision_transformer");
    assert_eq!(keys["architectures"][0], "DecisionTransformerModel");
}

#[test]
fn discrete_actions_are_refused_at_once_by_every_algorithm_that_can_not_take_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let mut dataset = data::load_one(&folder.join("data.npz")).unwrap();
    dataset.action_kind = data::ActionKind::Discrete { count: 2 };
    for algorithm in ALGORITHMS {
        // An environment that nobody has: it would be the next thing that fails.
        let mut config = config(folder, algorithm.name, 10);
        config.evaluate.env = Some("nowhere-v0".to_owned());
        let error = run::start_on(&config, &dataset, &folder.join("run"))
            .unwrap_err()
            .to_string();
        match algorithm.actions {
            Actions::Both => assert!(error.contains("nowhere-v0"), "{error}"),
            Actions::Continuous => {
                for words in ["actions are discrete (2 choices)", algorithm.name, "`cql`"] {
                    assert!(error.contains(words), "{}: {error}", algorithm.name);
                }
            }
        }
    }
}

#[test]
fn every_run_of_a_series_has_its_own_seed_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let mut config = config(folder, "bc", 1);
    config.evaluate.episodes = 0;
    let series = run::series(&config, &folder.join("bc"), &[4, 2], &Default::default()).unwrap();
    assert!(series.failures.is_empty());
    let [four, two] = &series.outcomes[..] else {
        panic!("{} runs", series.outcomes.len());
    };
    for ((folder, _), seed) in [(four, 4), (two, 2)] {
        assert!(folder.ends_with(format!("seed-{seed}")));
        assert_eq!(RunDir::open(folder).unwrap().config().unwrap().seed, seed);
    }
    let weights = [four, two].map(|(run, _)| fs::read(run.join("model.safetensors")).unwrap());
    assert!(weights[0] != weights[1]);

    // Neither hides the other, and seeds of two configurations are never mixed.
    let hidden = run::start(&config, &folder.join("bc"))
        .unwrap_err()
        .to_string();
    assert!(hidden.contains("it holds runs"), "{hidden}");
    assert!(!folder.join("bc/config.toml").exists());
    let inside = run::series(&config, &four.0, &[1], &Default::default());
    let inside = inside.unwrap_err().to_string();
    assert!(inside.contains("it is a run itself"), "{inside}");
    assert!(!four.0.join("seed-1").exists());
    config.data.sample_ratio = Some(0.5);
    let mixed = run::series(&config, &folder.join("bc"), &[5], &Default::default());
    let mixed = mixed.unwrap_err().to_string();
    assert!(
        mixed.contains("another configuration (`data.sample_ratio`"),
        "{mixed}"
    );
    assert!(!folder.join("bc/seed-5").exists());
}

#[test]
fn runs_are_compared_alone_and_over_seeds_by_their_evaluations() {
    let dir = tempfile::tempdir().unwrap();
    write_data(dir.path());
    let config = config(dir.path(), "bc", 10);
    let seeds = dir.path().join("bc");
    for seed in 0..2 {
        let config = RunConfig {
            seed,
            ..config.clone()
        };
        run::start(&config, &seeds.join(format!("seed-{seed}"))).unwrap();
    }
    let lines = compare::compare(&[seeds.join("seed-0"), seeds.join("seed-1"), seeds]).unwrap();
    let [first, second, both] = &lines[..] else {
        panic!("three lines")
    };
    assert_eq!(
        (first.seeds, both.seeds, both.update, both.curve.len()),
        (1, 2, 10, 2)
    );
    assert!(!both.normalized, "pendulum has no reference returns");
    let mean = (first.last + second.last) / 2.0;
    assert!((both.last - mean).abs() < 1e-9 * mean.abs());
    assert!((both.last_std - (first.last - mean).abs()).abs() < 1e-9 * mean.abs());
    assert_ne!(first.last, second.last);
    let rows = trajformer::metrics::table::numbers(
        &first.run.join("evaluations.csv"),
        ["return_mean", "return_std"],
    );
    let expected = *rows.unwrap().last().unwrap();
    assert_eq!([first.last, first.last_std], expected);
    let picture = dir.path().join("curves.svg");
    compare::draw(&picture, "Two seeds", &lines).unwrap();
    let text = fs::read_to_string(&picture).unwrap();
    assert!(text.contains("Two seeds") && text.contains("seed-1"));
    // A folder of such folders holds its series.
    let lines = compare::compare(&[dir.path().to_path_buf()]).unwrap();
    assert_eq!(
        (lines.len(), lines[0].seeds, &lines[0].name[..]),
        (1, 2, "bc")
    );
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = compare::compare(&[empty]).unwrap_err().to_string();
    assert!(error.contains("not a run directory"), "{error}");
}

#[test]
fn a_configuration_says_how_often_its_run_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    for (at, keys) in [
        &["evaluate.every_updates=5", "train.updates=12"][..],
        &["evaluate.every_updates=6", "train.updates=12"],
        &["evaluate.every_updates=0", "train.updates=7"],
        &[
            "evaluate.every_updates=4",
            "train.updates=6",
            "online.steps=4",
        ],
        &[
            "evaluate.every_updates=0",
            "train.updates=6",
            "online.steps=4",
        ],
    ]
    .iter()
    .enumerate()
    {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let config = config(folder, "td3_bc", 20).with_overrides(&keys).unwrap();
        let out = folder.join(format!("run-{at}"));
        run::start(&config, &out).unwrap();
        let table = Table::read(&out.join("evaluations.csv")).unwrap();
        assert_eq!(table.rows.len() as u64, config.evaluations(), "{keys:?}");
    }
}
