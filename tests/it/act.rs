//! `trajformer act`: recorded episodes get the actions that the policy took in them; and data of one's own, from arrays to actions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use trajformer::act::{ActOptions, Acted, Recorded, act};
use trajformer::config::RunConfig;
use trajformer::data;
use trajformer::data::formats::npz::{self, NpyArray};
use trajformer::evaluate::Evaluator;
use trajformer::policy::EpisodeStart;
use trajformer::policy::simple::RandomPolicy;
use trajformer::rng::Rng;
use trajformer::{Dataset, TrainedRun, envs, fit, run};

use crate::cli::{fails, output, succeeds};

fn pendulum(steps: usize) -> Dataset {
    let mut env = envs::make("pendulum-v1").unwrap();
    let mut policy = RandomPolicy::new(env.spec());
    data::collect::collect(&mut *env, &mut policy, steps, 3).unwrap()
}

const ALGORITHMS: [&str; 7] = [
    "[algorithm.bc]\nhidden = [8]\nbatch_size = 8",
    "[algorithm.td3_bc]\nhidden = [8]\nbatch_size = 8",
    // Draws its actions.
    "[algorithm.crr]\nhidden = [8]\nbatch_size = 8\nsamples = 3\nweighted_acting = true",
    "[algorithm.decision_transformer]\nembedding = 8\nlayers = 1\nbatch_size = 4\ncontext_steps = 4\ntarget_returns = [-300.0]",
    "[algorithm.trajectory_transformer]\nbins = 7\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 4\n\
     window_transitions = 3\nplanner.horizon = 2\nplanner.beam_width = 3\nplanner.n_expand = 2\nplanner.k_act = 3\n\
     planner.max_context_transitions = 2\nplanner.plan_every_steps = 2",
    "[algorithm.fast]\nchunk_steps = 4\nexecute_steps = 2\nlayers = 1\nheads = 1\nembedding = 8\nbatch_size = 4",
    "[algorithm.tap]\ncodes = 8\ncode_width = 4\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 4\n\
     window_transitions = 6\nautoencoder_updates = 2\nplanner.horizon = 6\nplanner.beam_width = 3\nplanner.plan_every_steps = 2",
];

/// Actions in a range that numbers go to and back from with a rounding.
fn trained(algorithm: &str, data: &Dataset) -> TrainedRun {
    let text = format!(
        "[data]\naction_range = [-1.7, 1.9]\n[train]\nupdates = 4\n[evaluate]\nenv = \"pendulum-v1\"\nepisodes = 2\nevery_updates = 1000\n{algorithm}\n"
    );
    let config = RunConfig::parse(&text).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
    fit(data, &config).unwrap_or_else(|error| panic!("{algorithm}: {error}"))
}

fn recorded(data: &Dataset) -> Recorded {
    Recorded::of_dataset(Path::new("a.npz"), data.clone())
}

fn acted(trained: &mut TrainedRun, recorded: &Recorded, last: bool) -> Acted {
    let options = ActOptions {
        last,
        ..ActOptions::default()
    };
    act(trained, recorded, &options).unwrap()
}

#[test]
fn recorded_episodes_get_the_actions_that_were_taken_in_them_to_the_last_bit() {
    let data = pendulum(600);
    for algorithm in ALGORITHMS {
        let mut trained = trained(algorithm, &data);
        let mut evaluator = Evaluator::new(&trained.config.evaluate).unwrap().unwrap();
        let mut policy = trained.policy().unwrap();
        let (_, rollouts) = evaluator.run_recorded(&mut *policy).unwrap();
        assert_eq!(rollouts.episodes.len(), 2);
        let recorded = recorded(&rollouts);
        let found = acted(&mut trained, &recorded, false);
        assert_eq!(found.shape, [400, 1], "{algorithm}");
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found.actions), bits(&rollouts.actions), "{algorithm}");
        let different = rollouts.actions.iter().any(|x| *x != rollouts.actions[0]);
        assert!(
            different,
            "{algorithm}: a policy of one action shows nothing"
        );
        // Planners don't plan again in the past, and draw anew.
        let planners = ["algorithm.trajectory_transformer", "algorithm.tap"];
        if !planners.iter().any(|name| algorithm.contains(name)) {
            let last = acted(&mut trained, &recorded, true);
            assert_eq!(last.shape, [2, 1]);
            let expected = [rollouts.actions[199], rollouts.actions[399]];
            assert_eq!(last.actions, expected, "{algorithm}");
        }
    }
}

/// What a policy does in an episode that it did not act in: the past is the recording's, not its own.
#[test]
fn a_policy_is_told_what_was_really_done_and_rewarded() {
    let data = pendulum(200);
    let dt = ALGORITHMS[3];
    let mut trained = trained(dt, &data);
    let before = acted(&mut trained, &recorded(&data), false);
    let changed = |change: fn(&mut Dataset)| {
        let mut data = data.clone();
        change(&mut data);
        data
    };
    for other in [
        changed(|data| data.actions[100] = -data.actions[100] + 0.1),
        changed(|data| data.rewards[100] -= 50.0),
    ] {
        let after = acted(&mut trained, &recorded(&other), false);
        assert_eq!(before.actions[..=100], after.actions[..=100]);
        assert_ne!(before.actions[101..105], after.actions[101..105]);
        // An action is forgotten after the context's four steps; what was rewarded is not.
        let forgets = other.rewards == data.rewards;
        assert_eq!(before.actions[105..] == after.actions[105..], forgets);
    }
    // By hand: begin, act, and tell.
    let mut policy = trained.policy().unwrap();
    let start = EpisodeStart::new(Rng::from_seed(0));
    policy.begin(&[start]).unwrap();
    let row = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
    for step in 0..5 {
        let action = policy.act(&row(data.observation(step)), &[true]).unwrap();
        let action = action.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(action, before.actions[step..=step]);
        policy.took(&row(data.action(step))).unwrap();
        policy.observe(&[data.rewards[step]]).unwrap();
    }
    let text = policy.took(&row(&[0.0, 1.0])).unwrap_err().to_string();
    assert!(!text.is_empty());
}

#[test]
fn a_target_of_the_file_is_aimed_at_and_sequences_are_episodes() {
    let data = pendulum(400);
    let mut trained = trained(ALGORITHMS[3], &data);
    let rows = recorded(&data);
    let whole = acted(&mut trained, &rows, false);
    let aimed = Recorded {
        target_returns: Some(vec![-300.0, 500.0]),
        ..rows.clone()
    };
    let found = acted(&mut trained, &aimed, false);
    assert_eq!(found.actions[..200], whole.actions[..200]);
    assert_ne!(found.actions[200..], whole.actions[200..]);
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// Arrays as an `.npz` file in NumPy's layout.
    fn npz(&self, name: &str, arrays: &[(&str, &[usize], Vec<f32>)]) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut writer = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, shape, values) in arrays {
            let options = zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored);
            writer.start_file(format!("{name}.npy"), options).unwrap();
            std::io::Write::write_all(&mut writer, &npy(shape, values)).unwrap();
        }
        writer.finish().unwrap();
        path
    }
}

/// An `.npy` file.
fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len());
    let sizes: String = shape.iter().map(|size| format!("{size},")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn actions(path: &Path) -> NpyArray {
    let arrays: BTreeMap<String, NpyArray> = npz::read_npz(path).unwrap();
    assert_eq!(arrays.keys().collect::<Vec<_>>(), ["actions"]);
    arrays.into_values().next().unwrap()
}

/// A folder with runs `bc` and `dt`.
fn files() -> Files {
    let folder = tempfile::tempdir().unwrap();
    let data = pendulum(400);
    data::save(&data, &folder.path().join("data.npz")).unwrap();
    for (name, algorithm) in [("bc", ALGORITHMS[0]), ("dt", ALGORITHMS[3])] {
        trained(algorithm, &data)
            .save(&folder.path().join(name))
            .unwrap();
    }
    Files { folder }
}

#[test]
fn the_command_takes_rows_sequences_and_data_sets_and_says_which_array_is_wrong() {
    let files = files();
    let folder = files.folder.path();
    let act = |run: &str, file: &str, more: &[&str]| -> Vec<String> {
        let arguments = ["act", run, "--observations", file, "--out", "out.npz"];
        let all = arguments.iter().chain(more);
        all.map(|text| (*text).to_owned()).collect()
    };
    let runs = |run: &str, file: &str, more: &[&str]| {
        let arguments = act(run, file, more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = succeeds(folder, &arguments);
        (said, actions(&folder.join("out.npz")))
    };
    let data = data::load_one(&folder.join("data.npz")).unwrap();
    // The same rows as a plain array, as sequences, and as the data set.
    let (said, whole) = runs("bc", "data.npz", &[]);
    assert!(said.contains("400 rows, each by itself"), "{said}");
    assert_eq!(whole.shape, [400, 1]);
    fs::write(folder.join("rows.npy"), npy(&[400, 3], &data.observations)).unwrap();
    assert_eq!(runs("bc", "rows.npy", &[]).1, whole);
    files.npz(
        "blocks.npz",
        &[("obs", &[2, 200, 3], data.observations.clone())],
    );
    let (_, blocks) = runs("bc", "blocks.npz", &[]);
    assert_eq!(
        (&blocks.shape[..], blocks.to_f32()),
        (&[2, 200, 1][..], whole.to_f32())
    );
    // Each row is what the run itself answers.
    let opened = run::open(&folder.join("bc"), &[]).unwrap();
    for row in [0, 7, 399] {
        let found = opened.act(data.observation(row)).unwrap();
        assert_eq!(found, whole.to_f32()[row..=row]);
    }

    let (said, whole) = runs("dt", "data.npz", &["--json"]);
    assert!(said.contains("400 steps of 2 episodes"), "{said}");
    let json: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(json["shape"], serde_json::json!([400, 1]));
    assert_eq!((&json["rows"], &json["episodes"]), (&400.into(), &2.into()));
    // The last action and reward of a sequence may be missing: nothing has been done yet.
    let mut known = (data.actions.clone(), data.rewards.clone());
    known.0.remove(399);
    known.0.remove(199);
    known.1.remove(399);
    known.1.remove(199);
    let observations = ("observations", &[2, 200, 3][..], data.observations.clone());
    files.npz(
        "sequences.npz",
        &[
            observations.clone(),
            ("actions", &[2, 199, 1], known.0),
            ("rewards", &[2, 199], known.1),
        ],
    );
    let (_, sequences) = runs("dt", "sequences.npz", &[]);
    assert_eq!(sequences.shape, [2, 200, 1]);
    assert_eq!(sequences.to_f32(), whole.to_f32());
    let (_, last) = runs("dt", "sequences.npz", &["--last"]);
    assert_eq!(last.to_f32(), [whole.to_f32()[199], whole.to_f32()[399]]);

    // Episodes one after the other, told apart by their lengths, first steps, or numbers of steps.
    let flat = [
        ("observations", &[400, 3][..], data.observations.clone()),
        ("actions", &[400, 1], data.actions.clone()),
        ("rewards", &[400], data.rewards.clone()),
    ];
    let numbers = |of: fn(usize) -> usize| (0..400).map(|row| of(row) as f32).collect::<Vec<f32>>();
    let ends: [(&str, &[usize], Vec<f32>); 4] = [
        ("episode_lengths", &[2], vec![200.0; 2]),
        (
            "episode_starts",
            &[400],
            numbers(|row| usize::from(row % 200 == 0)),
        ),
        ("timeouts", &[400], numbers(|row| usize::from(row == 199))),
        ("timesteps", &[400], numbers(|row| row % 200)),
    ];
    for end in ends {
        let name = end.0;
        files.npz("told.npz", &[&flat[..], &[end]].concat());
        let (said, told) = runs("dt", "told.npz", &[]);
        assert!(said.contains("of 2 episodes"), "{name}: {said}");
        assert_eq!(told.to_f32(), whole.to_f32(), "{name}");
    }
    files.npz("one.npz", &flat);
    let (said, one) = runs("dt", "one.npz", &[]);
    assert!(said.contains("400 steps of one episode"), "{said}");
    assert_ne!(one.to_f32(), whole.to_f32());

    let refused = |run: &str, file: &str, words: &[&str]| {
        fs::remove_file(folder.join("out.npz")).ok();
        let arguments = act(run, file, &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let errors = fails(folder, &arguments);
        for word in words {
            assert!(errors.contains(word), "{file}: {errors}");
        }
        assert!(!folder.join("out.npz").exists(), "{file}");
    };
    files.npz("alone.npz", std::slice::from_ref(&observations));
    refused(
        "dt",
        "alone.npz",
        &["array `actions` is missing", "(2, 200, 1)", "(N, 1, 3)"],
    );
    let taken = ("actions", &[2, 200, 1][..], data.actions.clone());
    files.npz("no-rewards.npz", &[observations.clone(), taken.clone()]);
    refused(
        "dt",
        "no-rewards.npz",
        &["array `rewards` is missing", "(2, 200)"],
    );
    files.npz(
        "wide.npz",
        &[("observations", &[300, 4], data.observations.clone())],
    );
    refused(
        "bc",
        "wide.npz",
        &["`observations` has 4 numbers in a row, expected 3"],
    );
    let mut broken = data.observations.clone();
    broken[7] = f32::NAN;
    files.npz("nan.npz", &[("observations", &[400, 3], broken)]);
    refused("bc", "nan.npz", &["`observations`, row 2, column 1: NaN"]);
    let short = ("rewards", &[2, 100][..], vec![0.0; 200]);
    files.npz("short.npz", &[observations.clone(), taken.clone(), short]);
    refused(
        "dt",
        "short.npz",
        &["`rewards` has the shape (2, 100), expected (2, 200)"],
    );
    let late: Vec<f32> = (0..400).map(|row| (row % 200 + 5) as f32).collect();
    let late = ("timesteps", &[2, 200][..], late);
    files.npz("late.npz", &[observations.clone(), taken, late]);
    refused("dt", "late.npz", &["`timesteps` is 5 at row 0, expected 0"]);
    let wrong = ("episode_lengths", &[2][..], vec![200.0, 100.0]);
    files.npz("lengths.npz", &[&flat[..], &[wrong]].concat());
    refused("dt", "lengths.npz", &["`episode_lengths`", "sum up to 400"]);
    let target = ("targets", &[1][..], vec![1.0]);
    files.npz("target.npz", &[observations.clone(), target]);
    refused(
        "bc",
        "target.npz",
        &["`target_returns`", "aims at no return"],
    );
    files.npz("flat.npz", &[("observations", &[3], vec![0.0; 3])]);
    refused("bc", "flat.npz", &["the shape (3,)", "(N, O)", "(1, O)"]);
    files.npz("none.npz", &[("actions", &[1, 1], vec![0.0])]);
    refused(
        "bc",
        "none.npz",
        &["`observations` is missing", "there is actions"],
    );
    let same = ["act", "bc", "--observations", "rows.npy", "--out"];
    let errors = fails(folder, &[&same[..], &["rows.npy"]].concat());
    assert!(errors.contains("end the name in .npz"), "{errors}");
    let same = [
        "act",
        "bc",
        "--observations",
        "data.npz",
        "--out",
        "data.npz",
    ];
    assert!(fails(folder, &same).contains("would be lost"));
    // A folder that is not there is made, as by all commands that write a file.
    let below = [
        "act",
        "bc",
        "--observations",
        "data.npz",
        "--out",
        "new/below/out.npz",
    ];
    succeeds(folder, &below);
    assert!(folder.join("new/below/out.npz").is_file());
}

/// Numbers of 64 bits in an `.npz` file.
fn npz64(files: &Files, name: &str, arrays: &[(&str, &[usize], Vec<f64>)]) {
    let path = files.folder.path().join(name);
    let mut writer = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, shape, values) in arrays {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(format!("{name}.npy"), options).unwrap();
        let narrow: Vec<f32> = values.iter().map(|_| 0.0).collect();
        let mut bytes = npy(shape, &narrow);
        bytes.truncate(bytes.len() - 4 * narrow.len());
        let at = bytes.windows(3).position(|part| part == b"<f4").unwrap();
        bytes[at + 2] = b'8';
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        std::io::Write::write_all(&mut writer, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn numbers_that_no_policy_can_take_are_named_and_histories_out_of_range_are_said() {
    let files = files();
    let folder = files.folder.path();
    let arguments = |run: &'static str, file: &'static str| {
        ["act", run, "--observations", file, "--out", "out.npz"]
    };
    let refused = |run: &'static str, file: &'static str, words: &[&str]| {
        let errors = fails(folder, &arguments(run, file));
        for word in words {
            assert!(errors.contains(word), "{file}: {word}: {errors}");
        }
        assert!(!folder.join("out.npz").exists(), "{file}");
    };
    let observations = |value: f64| ("observations", &[4, 3][..], vec![value; 12]);
    npz64(&files, "huge.npz", &[observations(1e300)]);
    refused(
        "bc",
        "huge.npz",
        &["`observations`, number 0: 1e300", "32 bits"],
    );
    // Finite as they are, and not when they have gone through a network.
    npz64(&files, "large.npz", &[observations(3e38)]);
    let found = output(folder, &arguments("bc", "large.npz"));
    let said = String::from_utf8_lossy(&found.stderr);
    if found.status.success() {
        let actions = actions(&folder.join("out.npz")).to_f32();
        assert!(actions.iter().all(|value| value.is_finite()), "{said}");
        fs::remove_file(folder.join("out.npz")).unwrap();
    } else {
        assert!(said.contains("the policy answers with"), "{said}");
    }
    for (name, steps) in [
        ("timesteps", [0.0, 1.0, 2.000_000_01, 3.0]),
        ("timesteps", [0.0, 0.5, 1.0, 1.5]),
        ("timesteps", [0.0, 1.0, f64::NAN, 3.0]),
        ("episode_starts", [1.0, 0.0, 0.25, 0.0]),
    ] {
        let steps = (name, &[4][..], steps.to_vec());
        npz64(&files, "steps.npz", &[observations(0.0), steps]);
        refused("bc", "steps.npz", &[name, "expected whole numbers"]);
    }
    let history = |action: f64| {
        [
            observations(0.0),
            ("actions", &[4, 1][..], vec![action; 4]),
            ("rewards", &[4][..], vec![0.0; 4]),
            ("episode_starts", &[4][..], vec![1.0, 0.0, 0.0, 0.0]),
        ]
    };
    for (action, is_said) in [(500.0, true), (1.5, false)] {
        npz64(&files, "history.npz", &history(action));
        let found = output(folder, &arguments("dt", "history.npz"));
        let said = String::from_utf8_lossy(&found.stderr);
        assert!(found.status.success(), "{said}");
        assert_eq!(
            said.contains("lie outside of the run's range"),
            is_said,
            "{said}"
        );
        fs::remove_file(folder.join("out.npz")).unwrap();
    }
}

/// A robot nobody has a simulator of: two numbers are to be brought to zero. No environment has such dimensions.
fn own_data(path: &Path) {
    let rng = &mut Rng::from_seed(5);
    let (mut observations, mut actions, mut rewards, mut terminals) =
        (vec![], vec![], vec![], vec![]);
    for _ in 0..12 {
        let mut place = [
            rng.uniform() as f32 * 4.0 - 2.0,
            rng.uniform() as f32 * 4.0 - 2.0,
        ];
        for step in 0..20 {
            let action = [0, 1, 2].map(|at| {
                let toward = if at < 2 { -0.3 * place[at] } else { 0.0 };
                toward + rng.normal() as f32 * 0.1
            });
            observations.extend(place);
            actions.extend(action);
            rewards.push(-(place[0].abs() + place[1].abs()) * 100.0);
            terminals.push(f32::from(u8::from(step == 19)));
            place = [place[0] + action[0], place[1] + action[1]];
        }
    }
    let files = Files {
        folder: tempfile::tempdir().unwrap(),
    };
    let made = files.npz(
        "mine.npz",
        &[
            ("observations", &[240, 2], observations),
            ("actions", &[240, 3], actions),
            ("rewards", &[240], rewards),
            ("terminals", &[240], terminals),
        ],
    );
    fs::copy(made, path).unwrap();
}

#[test]
fn every_configuration_for_own_data_trains_on_arrays_and_acts_without_an_environment() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    own_data(&folder.join("mine.npz"));
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/own-data");
    let small: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("bc", &["hidden=[8]", "batch_size=8"][..]),
        ("td3_bc", &["hidden=[8]", "batch_size=8"]),
        ("iql", &["hidden=[8]", "batch_size=8"]),
        (
            "decision_transformer",
            &["embedding=8", "layers=1", "batch_size=4"],
        ),
        (
            "trajectory_transformer",
            &[
                "embedding_per_head=4",
                "layers=1",
                "batch_size=4",
                "planner.beam_width=4",
                "planner.horizon=3",
            ],
        ),
        (
            "tap",
            &[
                "embedding_per_head=4",
                "code_width=4",
                "layers=1",
                "batch_size=4",
                "autoencoder_updates=2",
                "planner.beam_width=4",
                "planner.horizon=3",
            ],
        ),
    ]);
    let names = fs::read_dir(&configs).unwrap();
    assert_eq!(names.count(), small.len());
    for (name, keys) in small {
        let config = configs.join(format!("{name}.toml")).display().to_string();
        let keys = keys.iter().map(|key| format!("algorithm.{name}.{key}"));
        let keys: Vec<String> = keys.chain(["train.updates=3".to_owned()]).collect();
        let set: Vec<&str> = keys.iter().flat_map(|key| ["--set", key]).collect();
        let train = ["train", &config, "--out", name];
        succeeds(folder, &[&train[..], &set].concat());
        // The same command with seeds goes on with what it left to the data.
        if name == "decision_transformer" {
            let stored = RunConfig::load(&folder.join(name).join("config.toml"), &[]).unwrap();
            let scale =
                toml::Table::try_from(&stored).unwrap()["algorithm"][name]["return_scale"].clone();
            let largest = data::load_one(&folder.join("mine.npz")).unwrap().returns();
            let largest = largest.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            assert_eq!(scale.as_float(), Some(largest));
            let series = ["train", &config, "--out", "seeds", "--seeds", "0..1"];
            for _ in 0..2 {
                succeeds(folder, &[&series[..], &set].concat());
            }
        }
        let act = [
            "act",
            name,
            "--observations",
            "mine.npz",
            "--out",
            "actions.npz",
        ];
        succeeds(folder, &act);
        let found = actions(&folder.join("actions.npz"));
        assert_eq!(found.shape, [240, 3], "{name}");
        assert!(found.to_f32().iter().all(|x| x.is_finite()), "{name}");
    }
    let plan = [
        "plan",
        "trajectory_transformer",
        "--data",
        "mine.npz",
        "--json",
    ];
    let said = succeeds(
        folder,
        &[&plan[..], &["--episode", "2", "--step", "5"]].concat(),
    );
    let json: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&json["episode"], &json["step"]), (&2.into(), &5.into()));
    let dataset = data::load_one(&folder.join("mine.npz")).unwrap();
    let logged: Vec<f32> = serde_json::from_value(json["rewards"].clone()).unwrap();
    assert_eq!(logged, dataset.rewards[45..48]);
    assert!(said.contains("logged reward"), "{said}");
    // A row of the whole data set, and a picture that says which dimensions it shows.
    let picture = ["--row", "45", "--picture", "plan.svg"];
    let same = succeeds(folder, &[&plan[..], &picture].concat());
    let again: serde_json::Value = serde_json::from_str(same.lines().last().unwrap()).unwrap();
    assert_eq!(again["predicted_rewards"], json["predicted_rewards"]);
    let drawn = fs::read_to_string(folder.join("plan.svg")).unwrap();
    for word in [
        "step 5 of episode 2",
        "all 2 observations and all 3 actions",
        "action 2",
        "observation 1",
        "reward",
    ] {
        assert!(drawn.contains(word), "{word}");
    }
    let beyond = fails(folder, &[&plan[..], &["--row", "240"]].concat());
    assert!(beyond.contains("no row 240, expected 0 to 239"), "{beyond}");
    let none = fails(folder, &["plan", "bc", "--data", "mine.npz"]);
    assert!(none.contains("does not plan"), "{none}");
}
