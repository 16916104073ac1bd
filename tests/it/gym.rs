//! Environments of Gymnasium, with a stand-in for the package: toys that behave and misbehave. Nothing needs to be installed
//! but python3.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use tempfile::TempDir;
use trajformer::data::{ActionKind, collect};
use trajformer::envs::gym::{ActionSpace, Workers};
use trajformer::envs::{self, Environment, GymOptions, VectorEnv};
use trajformer::policy::simple::RandomPolicy;

const TOYS: &str = include_str!("gymnasium/toys.py");

/// A folder with the stand-in, and without NumPy, whatever else is installed.
fn toys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |package: &str, text: &str| {
        fs::create_dir_all(folder.path().join(package)).unwrap();
        fs::write(folder.path().join(package).join("__init__.py"), text).unwrap();
    };
    write("gymnasium", TOYS);
    write("numpy", "raise ImportError('left out')");
    folder
}

fn options(toys: &TempDir) -> GymOptions {
    GymOptions {
        python: Some("python3".into()),
        variables: vec![("PYTHONPATH".to_owned(), shown(toys.path()))],
        ..GymOptions::default()
    }
}

fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn with(options: &GymOptions, variable: &str, value: &Path) -> GymOptions {
    let mut options = options.clone();
    options.variables.push((variable.to_owned(), shown(value)));
    options
}

fn problem<T>(found: trajformer::Result<T>) -> String {
    match found {
        Ok(_) => panic!("no error"),
        Err(error) => error.to_string(),
    }
}

fn check_words(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

fn actions(numbers: &[f32], width: usize) -> Tensor {
    let rows = numbers.len() / width;
    Tensor::from_slice(numbers, (rows, width), &Device::Cpu).unwrap()
}

/// Runs `work` where there are so many threads.
fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}

/// What the toy does, in Rust.
struct Expected {
    place: [f32; 2],
    steps: usize,
}

impl Expected {
    fn start(seed: u64) -> Self {
        let place = [(seed % 4) as f32, 0.0];
        Self { place, steps: 0 }
    }

    fn step(&mut self, action: &[f32]) -> (f32, bool, bool) {
        // The bounds of the toy's actions.
        self.place[0] += action[0].clamp(-1.0, 1.0);
        self.place[1] += action[1].clamp(-1.0, 2.0) / 2.0;
        self.steps += 1;
        let [x, y] = self.place;
        (x + 8.0 * y, x > 6.0, self.steps >= 5)
    }
}

#[test]
fn observations_rewards_and_ends_are_the_toys_for_any_number_of_processes() {
    let toys = toys();
    let check = |threads: usize| {
        let env = VectorEnv::make_with("gym:Toy-v0?limit=5", 4, &options(&toys));
        let mut env = env.unwrap();
        assert_eq!(env.spec().max_episode_steps, 5);
        assert_eq!(env.spec().action_high, [1.0, 2.0]);
        env.resize(5).unwrap();
        let seeds = [3, 2, 1, 2 + (1 << 40), 0];
        env.reset(&seeds).unwrap();
        let mut expected = seeds.map(Expected::start);
        let active = [true, true, false, true, true];
        let mut ends = BTreeSet::new();
        for step in 0..5 {
            let numbers: Vec<f32> = (0..10)
                .map(|i| ((i * 3 + step * 5) % 9) as f32 / 4.0)
                .collect();
            let found = env.step(&actions(&numbers, 2), &active).unwrap();
            for row in (0..5).filter(|&row| active[row]) {
                let (reward, terminated, truncated) = expected[row].step(&numbers[2 * row..][..2]);
                assert_eq!(found.rewards[row], reward, "row {row} on {threads} threads");
                assert_eq!(
                    (found.terminated[row], found.truncated[row]),
                    (terminated, truncated)
                );
                assert_eq!(env.observation(row), expected[row].place);
                ends.insert((terminated, truncated));
            }
            assert_eq!((found.rewards[2], found.truncated[2]), (0.0, false));
            assert_eq!(env.observation(2), [1.0, 0.0], "it stands still");
        }
        assert!(ends.len() > 2, "each kind of end: {ends:?}");
        env.reset_row(2, 7).unwrap();
        assert_eq!(env.observation(2), [3.0, 0.0]);
        env.resize(2).unwrap();
        assert_eq!((env.len(), env.observation(1)), (2, &expected[1].place[..]));
    };
    for threads in [1, 2, 7] {
        on_threads(threads, || check(threads));
    }
}

#[test]
fn copies_are_spread_over_processes_that_step_at_the_same_time() {
    let toys = toys();
    let processes = |threads: usize, rows: usize| {
        on_threads(threads, || {
            let mut env = VectorEnv::make_with("gym:Process-v0", rows, &options(&toys)).unwrap();
            env.reset(&vec![0; rows]).unwrap();
            let numbers = (0..rows).map(|row| env.observation(row)[0] as u64);
            numbers.collect::<Vec<u64>>()
        })
    };
    for (threads, rows, expected) in [(1, 5, 1), (3, 7, 3), (4, 2, 2)] {
        let found = processes(threads, rows);
        let different: BTreeSet<&u64> = found.iter().collect();
        assert_eq!(different.len(), expected, "{found:?}");
        let of_each = different
            .iter()
            .map(|each| found.iter().filter(|it| it == each).count());
        assert!(
            of_each.max().unwrap() <= rows.div_ceil(expected),
            "{found:?}"
        );
    }
    let together = tempfile::tempdir().unwrap();
    on_threads(2, || {
        let options = with(&options(&toys), "TOGETHER", together.path());
        let mut env = VectorEnv::make_with("gym:Together-v0", 2, &options).unwrap();
        env.reset(&[0, 1]).unwrap();
        env.step(&actions(&[0.0; 4], 2), &[true, true]).unwrap();
    });
}

#[test]
fn dictionaries_become_vectors_in_the_order_of_their_keys_or_as_asked() {
    let toys = toys();
    let check = |keys: &[&str], expected: &[f32]| {
        let mut options = options(&toys);
        options.observation_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let mut env = envs::make_with("gym:Sorted-v0", &options).unwrap();
        assert_eq!(env.reset(2).unwrap(), expected, "{keys:?}");
        assert_eq!(env.spec().observation_dim, expected.len());
    };
    check(&[], &[3.0, 1.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.25]);
    check(
        &["observation", "achieved_goal"],
        &[2.0, 0.0, 0.25, 3.0, 1.0],
    );
    check(&["observation/speed", "choice"], &[0.25, 0.0, 1.0, 0.0]);
    let mut options = options(&toys);
    options.observation_keys = vec!["desired_goal".to_owned()];
    let said = problem(envs::make_with("gym:Sorted-v0", &options));
    check_words(&said, &["no `desired_goal`", "`observation/place`"]);
    // Vectors have no keys: what is asked of the data's dictionaries says nothing here.
    assert_eq!(
        envs::make_with("gym:Toy-v0", &options)
            .unwrap()
            .spec()
            .observation_dim,
        2
    );
}

#[test]
fn an_exception_comes_with_its_traceback_and_the_process_goes_on() {
    let toys = toys();
    let mut env = VectorEnv::make_with("gym:Raises-v0", 3, &options(&toys)).unwrap();
    env.reset(&[0, 1, 2]).unwrap();
    let fast = actions(&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 2);
    let said = problem(env.step(&fast, &[true; 3]));
    let words = [
        "`gym:Raises-v0`",
        "`step` raised ValueError: too fast",
        "__init__.py",
        "raise ValueError",
    ];
    check_words(&said, &words);
    assert!(
        !said.contains("copies.step"),
        "frames of the worker: {said}"
    );
    env.reset(&[0, 1, 2]).unwrap();
    let step = env.step(&fast, &[true, false, true]).unwrap();
    assert_eq!(step.rewards, [0.0, 0.0, 2.0]);
}

#[test]
fn a_process_that_ends_is_told_of_with_its_last_words() {
    let toys = toys();
    let check = |id: &str, words: &[&str]| {
        let mut env = envs::make_with(id, &options(&toys)).unwrap();
        env.reset(0).unwrap();
        check_words(&problem(env.step(&[0.0, 0.0])), words);
        check_words(&problem(env.reset(0)), &["ended before"]);
    };
    check(
        "gym:Exits-v0",
        &["ended in `step`", "exit status: 7", "last words of the toy"],
    );
    // Python says where it was.
    check(
        "gym:Killed-v0",
        &[
            "ended in `step`",
            "signal: 11",
            "Segmentation fault",
            "in step",
        ],
    );
}

#[test]
fn what_the_environment_prints_or_reads_does_not_disturb_the_frames() {
    let toys = toys();
    let mut env = envs::make_with("gym:Prints-v0", &options(&toys)).unwrap();
    env.reset(1).unwrap();
    for _ in 0..3 {
        env.step(&[0.5, 0.0]).unwrap();
    }
    assert_eq!(env.step(&[0.0, 0.0]).unwrap().observation, [2.5, 0.0]);
}

/// Waits until `done`; fails after a minute.
#[cfg(target_os = "linux")]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

/// Whether a process runs: one that has ended and that nobody asks about does not.
#[cfg(target_os = "linux")]
fn runs(process: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = state.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

/// The number of the process that wrote it to `path`, once it is there.
#[cfg(target_os = "linux")]
fn process_in(path: &Path) -> String {
    let read = || fs::read_to_string(path).unwrap_or_default();
    wait_for("a number of a process", || read().ends_with('\n'));
    read().trim().to_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn a_call_that_hangs_is_named_and_its_process_is_ended() {
    let toys = toys();
    let path = toys.path().join("process");
    let mut options = with(&options(&toys), "PROCESS", &path);
    options.timeout = Some(Duration::from_secs(2));
    let mut env = envs::make_with("gym:Hangs-v0", &options).unwrap();
    env.reset(0).unwrap();
    let process = process_in(&path);
    assert!(runs(&process));
    let said = problem(env.step(&[0.0, 0.0]));
    check_words(
        &said,
        &[
            "`step` has not come back for 2 s",
            "TRAJFORMER_GYM_TIMEOUT_S",
        ],
    );
    assert!(!runs(&process), "{process}");
    check_words(&problem(env.step(&[0.0, 0.0])), &["ended before"]);
}

#[cfg(target_os = "linux")]
#[test]
fn no_process_is_left_behind_and_environments_are_closed() {
    let toys = toys();
    let closed = toys.path().join("closed");
    let options = with(&options(&toys), "CLOSED", &closed);
    let processes = on_threads(2, || {
        let mut env = VectorEnv::make_with("gym:Process-v0", 4, &options).unwrap();
        env.reset(&[0; 4]).unwrap();
        let found: Vec<String> = (0..2)
            .map(|row| format!("{}", env.observation(row)[0]))
            .collect();
        assert!(found.iter().all(|process| runs(process)));
        found
    });
    assert!(!processes.iter().any(|process| runs(process)));
    assert_eq!(fs::read_to_string(closed).unwrap().lines().count(), 4);
}

fn command(toys: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command.args(arguments).current_dir(toys.path());
    command
        .env("PYTHONPATH", toys.path())
        .env_remove("VIRTUAL_ENV");
    command
}

#[test]
fn what_was_collected_before_a_failure_is_saved() {
    let toys = toys();
    let collect = |policy: &str, out: &str| {
        let arguments = [
            "data",
            "collect",
            "--env",
            "gym:Raises-v0",
            "--python",
            "python3",
            "--steps",
            "500",
        ];
        let rest = ["--policy", policy, out];
        command(&toys, &[&arguments[..], &rest].concat())
            .output()
            .unwrap()
    };
    let found = collect("random", "kept.npz");
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1), "{errors}");
    let data = trajformer::data::load_one(&toys.path().join("kept.npz")).unwrap();
    let said = format!(
        "the {} of 500 steps before it are in kept.npz",
        data.steps()
    );
    check_words(&errors, &["too fast", &said]);
    assert!((1..500).contains(&data.steps()));
    assert!(
        data.actions.chunks(2).all(|action| action[0] <= 0.5),
        "the step that failed is not among them"
    );
    // Nothing fails.
    assert!(collect("zero", "whole.npz").status.success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_hanging_process_ends_with_the_program_even_if_that_is_killed() {
    let toys = toys();
    let path = toys.path().join("process");
    let arguments = [
        "data",
        "collect",
        "--env",
        "gym:Hangs-v0",
        "--policy",
        "zero",
        "--steps",
        "9",
        "out.npz",
    ];
    let mut program = command(&toys, &arguments)
        .env("PROCESS", &path)
        .spawn()
        .unwrap();
    let process = process_in(&path);
    assert!(runs(&process));
    program.kill().unwrap();
    program.wait().unwrap();
    wait_for("the worker ends", || !runs(&process));
}

#[test]
fn choices_are_sent_and_policies_act_by_them() {
    let toys = toys();
    let mut env = envs::make_with("gym:Choices-v0", &options(&toys)).unwrap();
    assert_eq!(env.spec().action_kind, ActionKind::Discrete { count: 3 });
    let start = env.reset(0).unwrap()[0];
    // Its first choice is called 1.
    assert_eq!(env.step(&[1.0]).unwrap().observation[0], start + 2.0);
    for wrong in [3.0, 0.5, -1.0] {
        check_words(&problem(env.step(&[wrong])), &["whole number in 0..3"]);
    }
    let mut random = RandomPolicy::new(env.spec());
    let data = collect::collect(&mut *env, &mut random, 30, 1).unwrap();
    assert_eq!(data.action_kind, env.spec().action_kind);
    for choice in [0.0, 1.0, 2.0] {
        assert!(data.actions.contains(&choice), "{choice}");
    }
    let mut workers = Workers::start("gym:Choices-v0", 2, &options(&toys)).unwrap();
    assert_eq!(
        workers.spaces().action,
        ActionSpace::Discrete { choices: 3 }
    );
    workers.reset(&[0, 1], &[0, 1]).unwrap();
    let steps = workers.step(&[2.0, 0.0], &[true, true]).unwrap();
    // Its first choice is called 1.
    let places = steps
        .iter()
        .map(|step| step.as_ref().unwrap().observation[0]);
    assert_eq!(places.collect::<Vec<f32>>(), [3.0, 2.0]);
    assert!(workers.step(&[0.0], &[true, true]).is_err());
    assert!(workers.reset(&[2], &[0]).is_err());
}

#[test]
fn pictures_are_refused_as_observations_and_given_when_rendering() {
    let toys = toys();
    let said = problem(envs::make_with("gym:Picture-v0", &options(&toys)));
    check_words(
        &said,
        &[
            "`image`",
            "picture of 4x4x3",
            "evaluate.observation_keys",
            "`place`",
        ],
    );
    let mut place = options(&toys);
    place.observation_keys = vec!["task".to_owned()];
    check_words(
        &problem(envs::make_with("gym:Picture-v0", &place)),
        &["`task`", "Text(9)"],
    );
    place.observation_keys = vec!["place".to_owned()];
    assert_eq!(
        envs::make_with("gym:Picture-v0", &place)
            .unwrap()
            .spec()
            .observation_dim,
        2
    );
    let mut workers = Workers::start("gym:Toy-v0", 1, &options(&toys)).unwrap();
    check_words(&problem(workers.render(0)), &["no picture"]);
    let shown = GymOptions {
        render: true,
        ..options(&toys)
    };
    let picture = Workers::start("gym:Toy-v0", 2, &shown)
        .unwrap()
        .render(1)
        .unwrap();
    assert_eq!((picture.height, picture.width), (1, 2));
    assert_eq!(picture.rgb, [0, 1, 2, 3, 4, 5]);
}

/// Frames of a GIF as pixels (RGBA), their size, and how long each is shown in hundredths of a second.
fn gif_frames(path: &Path) -> ((u16, u16), Vec<Vec<u8>>, Vec<u16>) {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(fs::File::open(path).unwrap()).unwrap();
    let size = (decoder.width(), decoder.height());
    let (mut frames, mut delays) = (Vec::new(), Vec::new());
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        frames.push(frame.buffer.to_vec());
        delays.push(frame.delay);
    }
    (size, frames, delays)
}

#[test]
fn what_the_environment_draws_is_a_moving_picture_of_its_steps() {
    let toys = toys();
    let collect = ["data", "collect", "--env", "gym:Drawn-v0?limit=6"];
    let further = ["--policy", "random", "--steps", "60", "data.npz"];
    succeeds(&toys, &[&collect[..], &further].concat());
    let run = "[data]\npath = 'data.npz'\n[train]\nupdates = 2\n[evaluate]\nenv = 'gym:Drawn-v0?limit=6'\nepisodes = 0\nseed = 3\n\
               [algorithm.bc]\nbatch_size = 8\nhidden = [8]\n";
    fs::write(toys.path().join("run.toml"), run).unwrap();
    succeeds(&toys, &["train", "run.toml", "--out", "run"]);
    let said = |text: String| -> serde_json::Value {
        let line = text.lines().find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str(line).unwrap()
    };
    let render = ["render", "run", "--out", "a.gif", "--episodes", "3"];
    let more = ["--width", "64", "--python", "python3", "--json"];
    let found = said(succeeds(&toys, &[&render[..], &more].concat()));
    let scored = ["evaluate", "run", "--episodes", "3", "--json"];
    assert_eq!(found["returns"], said(succeeds(&toys, &scored))["returns"]);
    let lengths = found["lengths"].as_array().unwrap();
    let steps: u64 = lengths.iter().map(|length| length.as_u64().unwrap()).sum();
    let (size, frames, delays) = gif_frames(&toys.path().join("a.gif"));
    assert_eq!((size, frames.len() as u64), ((64, 32), steps));
    assert_eq!(delays, vec![5; frames.len()], "20 pictures for a second");
    // Each frame is blue in one column of four, sharp though it is larger than the environment's.
    let blue = |frame: &[u8]| {
        let row: Vec<bool> = frame[..64 * 4]
            .chunks_exact(4)
            .map(|pixel| pixel[0] < 9)
            .collect();
        assert_eq!(row.iter().filter(|blue| **blue).count(), 16);
        assert_eq!(&frame[..64 * 4], &frame[31 * 64 * 4..]);
        row.iter().position(|blue| *blue).unwrap() / 16
    };
    let columns: Vec<usize> = frames.iter().map(|frame| blue(frame)).collect();
    assert!(
        columns.iter().any(|column| *column != columns[0]),
        "{columns:?}"
    );

    let refused = |env: &str, words: &[&str]| {
        let arguments = ["render", "run", "--out", "b.gif", "--env", env];
        let found = command(&toys, &arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{errors}");
        check_words(&errors, words);
        assert!(!toys.path().join("b.gif").exists());
    };
    refused("gym:Restless-v0?limit=6", &["another one from step 1 on"]);
    refused("gym:Growing-v0?limit=6", &["several sizes", "4 x 2"]);
}

#[test]
fn what_can_not_be_used_is_said() {
    let toys = toys();
    let made = |id: &str| problem(envs::make_with(id, &options(&toys)));
    check_words(
        &made("gym:Unbounded-v0"),
        &["no finite bounds", "RescaleAction"],
    );
    check_words(
        &made("gym:Nothing-v0"),
        &["`Nothing-v0` doesn't exist", "gym:MODULE:ID"],
    );
    check_words(&made("gym:"), &["gym:Hopper-v5"]);
    check_words(
        &made("gym:Toy-v0?size=3"),
        &["gymnasium.make", "unexpected keyword argument 'size'"],
    );
    let stepped = |id: &str| {
        let mut env = envs::make_with(id, &options(&toys)).unwrap();
        env.reset(1).and_then(|_| env.step(&[1.0, 0.0]))
    };
    check_words(
        &problem(stepped("gym:NotFinite-v0")),
        &["`step` gave NaN as number 1"],
    );
    check_words(
        &problem(stepped("gym:TooLong-v0")),
        &["has 3 numbers, its space has 2"],
    );
    let mut env = envs::make_with("gym:Toy-v0", &options(&toys)).unwrap();
    env.reset(1).unwrap();
    for action in [&[0.0][..], &[0.0, f32::NAN]] {
        check_words(&problem(env.step(action)), &["expected"]);
    }
    assert!(VectorEnv::make_with("gym:Toy-v0", 0, &options(&toys)).is_err());
}

#[test]
fn a_missing_interpreter_or_package_is_said_with_what_to_do() {
    let toys = toys();
    let nowhere = GymOptions {
        python: Some("nowhere/python".into()),
        ..options(&toys)
    };
    let said = problem(envs::make_with("gym:Toy-v0", &nowhere));
    check_words(
        &said,
        &[
            "no Python interpreter: nowhere/python",
            "`evaluate.python` names",
        ],
    );
    let other = GymOptions {
        python: Some("cat".into()),
        ..options(&toys)
    };
    check_words(
        &problem(envs::make_with("gym:Toy-v0", &other)),
        &["ended in `starting`", "cat"],
    );
    // A package whose import says nothing is unknown, too.
    let said = problem(envs::make_with("gym:MiniGrid-Toy-v0", &options(&toys)));
    check_words(
        &said,
        &["no module named minigrid: python3 -m pip install 'minigrid'"],
    );
    let registers = "import gymnasium\ngymnasium.registry['MiniGrid-Toy-v0'] = gymnasium.Toy\n";
    fs::write(toys.path().join("minigrid.py"), registers).unwrap();
    envs::make_with("gym:MiniGrid-Toy-v0", &options(&toys)).unwrap();
    fs::write(
        toys.path().join("mine.py"),
        registers.replace("MiniGrid", "Mine"),
    )
    .unwrap();
    envs::make_with("gym:mine:Mine-Toy-v0", &options(&toys)).unwrap();
    let absent = "raise ModuleNotFoundError('no', name='gymnasium')";
    fs::write(toys.path().join("gymnasium/__init__.py"), absent).unwrap();
    let said = problem(envs::make_with("gym:Toy-v0", &options(&toys)));
    check_words(
        &said,
        &["no module named gymnasium: python3 -m pip install 'gymnasium'"],
    );
}

fn succeeds(toys: &TempDir, arguments: &[&str]) -> String {
    let found = command(toys, arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{arguments:?}: {errors}");
    format!("{}{errors}", String::from_utf8_lossy(&found.stdout))
}

#[test]
fn the_commands_collect_train_learn_online_score_and_resume_in_it() {
    let toys = toys();
    let collect = |seed: &str, out: &str| {
        let arguments = [
            "data",
            "collect",
            "--env",
            "gym:Toy-v0",
            "--policy",
            "random",
            "--steps",
            "80",
        ];
        succeeds(&toys, &[&arguments[..], &["--seed", seed, out]].concat());
        fs::read(toys.path().join(out)).unwrap()
    };
    let first = collect("1", "data.npz");
    assert!(
        first == collect("1", "same.npz"),
        "the same seed gives the same steps"
    );
    assert!(first != collect("2", "other.npz"));
    let data = trajformer::data::load_one(&toys.path().join("data.npz")).unwrap();
    assert_eq!(data.env_name.as_deref(), Some("gym:Toy-v0"));
    assert_eq!(data.action_bounds, Some((vec![-1.0, -1.0], vec![1.0, 2.0])));
    let run = "[data]\npath = 'data.npz'\n[train]\nupdates = 4\nlog_every_updates = 2\n\
               [online]\nsteps = 30\n[evaluate]\nenv = 'gym:Toy-v0'\nepisodes = 3\nevery_updates = 2\n\
               [algorithm.td3_bc]\nbatch_size = 8\nhidden = [8]\n";
    fs::write(toys.path().join("run.toml"), run).unwrap();
    succeeds(
        &toys,
        &["train", "run.toml", "--out", "whole", "--python", "python3"],
    );
    succeeds(
        &toys,
        &[
            "train",
            "run.toml",
            "--out",
            "half",
            "--set",
            "online.steps=13",
        ],
    );
    let more = [
        "train",
        "--resume",
        "half",
        "--set",
        "online.steps=30",
        "--python",
        "python3",
    ];
    succeeds(&toys, &more);
    let weights = |run: &str| fs::read(toys.path().join(run).join("model.safetensors")).unwrap();
    assert!(
        weights("whole") == weights("half"),
        "resumed in the middle of an episode"
    );
    let mut scores = Vec::new();
    for threads in ["1", "3"] {
        let evaluate = [
            "evaluate",
            "whole",
            "--episodes",
            "4",
            "--threads",
            threads,
            "--json",
        ];
        let said = succeeds(&toys, &evaluate);
        let line = said.lines().find(|line| line.starts_with('{')).unwrap();
        let found: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&found["env"], &found["score_mean"]),
            (&"gym:Toy-v0".into(), &serde_json::Value::Null)
        );
        scores.push(found["returns"].clone());
    }
    assert_eq!(scores[0].as_array().unwrap().len(), 4);
    assert_eq!(scores[0], scores[1]);
}

#[test]
fn observations_of_the_environment_are_made_of_the_keys_of_the_data() {
    let toys = toys();
    let keys = "observation/place,choice";
    let arguments = [
        "data",
        "collect",
        "--env",
        "gym:Sorted-v0",
        "--policy",
        "random",
        "--steps",
        "60",
    ];
    succeeds(
        &toys,
        &[&arguments[..], &["--observation-keys", keys, "data.npz"]].concat(),
    );
    let said = succeeds(&toys, &[&arguments[..], &["all.npz"]].concat());
    check_words(
        &said,
        &["achieved_goal (2), choice (3), observation/place (2), observation/speed (1)"],
    );
    let run = "[data]\npath = 'data.npz'\n[train]\nupdates = 2\nlog_every_updates = 2\n\
               [evaluate]\nenv = 'gym:Sorted-v0'\nepisodes = 2\nobservation_keys = ['observation/place', 'choice']\n\
               [algorithm.bc]\nbatch_size = 8\nhidden = [8]\n";
    fs::write(toys.path().join("run.toml"), run).unwrap();
    succeeds(&toys, &["train", "run.toml", "--out", "run"]);
    succeeds(&toys, &["evaluate", "run"]);
    // Where it names none, those of the data.
    let own = trajformer::RunConfig::parse(
        &run.replace("data.npz'", "data.npz'\nobservation_keys = ['place']"),
    );
    assert_eq!(
        own.unwrap().evaluation().observation_keys,
        ["observation/place", "choice"]
    );
    let text = "[data]\nobservation_keys = ['place']\n[algorithm.bc]\n";
    let config = trajformer::RunConfig::parse(text).unwrap();
    assert_eq!(config.evaluation().observation_keys, ["place"]);
}

/// The first lines of this test's Python: robots of Gymnasium that start where they are told to.
const SAME_START: &str = "
import json
import os

import gymnasium
import numpy
from gymnasium.envs.mujoco import ant_v5, half_cheetah_v5, hopper_v5, walker2d_v5

KINDS = {
    'Hopper-v5': hopper_v5.HopperEnv,
    'HalfCheetah-v5': half_cheetah_v5.HalfCheetahEnv,
    'Walker2d-v5': walker2d_v5.Walker2dEnv,
    'Ant-v5': ant_v5.AntEnv,
}


def started(kind):
    class Started(kind):
        def reset_model(self):
            with open(os.environ['STARTS']) as file:
                positions, velocities = json.load(file)
            self.set_state(numpy.array(positions), numpy.array(velocities))
            return self._get_obs()

    return Started


for name, kind in KINDS.items():
    gymnasium.register('Same' + name, started(kind), max_episode_steps=1000)
";

/// The interpreter that `TRAJFORMER_TEST_GYM_PYTHON` names, which has Gymnasium itself, gymnasium-robotics and MuJoCo 3.3.7.
fn gymnasium() -> Option<GymOptions> {
    let python = std::env::var_os("TRAJFORMER_TEST_GYM_PYTHON")?;
    Some(GymOptions {
        python: Some(python.into()),
        ..GymOptions::default()
    })
}

#[test]
fn environments_of_gymnasium_itself_run_to_their_ends() {
    let Some(options) = gymnasium() else {
        return;
    };
    let mut cart = Workers::start("gym:CartPole-v1", 3, &options).unwrap();
    assert_eq!(cart.spaces().action, ActionSpace::Discrete { choices: 2 });
    let play = |cart: &mut Workers| {
        cart.reset(&[0, 1, 2], &[5, 6, 5]).unwrap();
        let (mut active, mut lengths) = (vec![true; 3], [0; 3]);
        for step in 0.. {
            if !active.contains(&true) {
                break;
            }
            let steps = cart.step(&[(step % 2) as f32; 3], &active).unwrap();
            for (row, step) in steps.iter().enumerate() {
                let Some(step) = step else { continue };
                lengths[row] += 1;
                active[row] = !(step.terminated || step.truncated);
                assert_eq!((step.reward, step.observation.len()), (1.0, 4));
            }
        }
        lengths
    };
    let lengths = play(&mut cart);
    assert!(
        lengths[0] == lengths[2] && lengths[0] != lengths[1] && lengths[0] < 500,
        "{lengths:?}"
    );
    assert_eq!(play(&mut cart), lengths);
    for (id, observations, actions, limit) in [
        ("gym:Pendulum-v1", 3, 1, 200),
        ("gym:AntMaze_UMaze-v5", 109, 8, 700),
        ("gym:AdroitHandDoor-v1", 39, 28, 200),
    ] {
        let mut env = envs::make_with(id, &options).unwrap();
        let spec = env.spec().clone();
        assert_eq!(
            (spec.observation_dim, spec.action_dim),
            (observations, actions)
        );
        assert_eq!(spec.max_episode_steps, limit);
        let first = env.reset(1).unwrap();
        assert_eq!(env.reset(1).unwrap(), first);
        assert_ne!(env.reset(2).unwrap(), first);
        let end = (1..=limit).find(|_| {
            let step = env.step(&vec![0.0; actions]).unwrap();
            assert!(!step.terminated);
            step.truncated
        });
        assert_eq!(end, Some(limit), "{id}");
    }
}

#[cfg(feature = "mujoco")]
#[test]
fn robots_of_gymnasium_itself_do_what_the_built_in_ones_do_from_the_same_state() {
    use trajformer::envs::mujoco::Mujoco;
    use trajformer::rng::Rng;

    let Some(options) = gymnasium() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("same_start.py"), SAME_START).unwrap();
    let starts = folder.path().join("starts.json");
    let options = with(&options, "PYTHONPATH", folder.path());
    let options = with(&options, "STARTS", &starts);
    for (id, name) in [
        ("Hopper-v5", "hopper-v5"),
        ("HalfCheetah-v5", "halfcheetah-v5"),
        ("Walker2d-v5", "walker2d-v5"),
        ("Ant-v5", "ant-v5"),
    ] {
        let mut ours = Mujoco::new(name).unwrap();
        let mut theirs = envs::make_with(&format!("gym:same_start:Same{id}"), &options).unwrap();
        assert_eq!(theirs.spec().observation_dim, ours.spec().observation_dim);
        assert_eq!(theirs.spec().action_low, ours.spec().action_low);
        let mut steps = 0;
        for seed in 0..5 {
            let mut rng = Rng::from_seed(seed);
            let first = Environment::reset(&mut ours, seed).unwrap();
            let (positions, velocities) = ours.state();
            fs::write(
                &starts,
                serde_json::json!([positions, velocities]).to_string(),
            )
            .unwrap();
            assert_eq!(theirs.reset(seed).unwrap(), first);
            loop {
                let width = ours.spec().action_dim;
                let action: Vec<f32> = (0..width)
                    .map(|_| (2.0 * rng.uniform() - 1.0) as f32)
                    .collect();
                let (a, b) = (ours.step(&action).unwrap(), theirs.step(&action).unwrap());
                // Gymnasium computes the cost of an action in f32.
                assert!(
                    (a.reward - b.reward).abs() < 1e-5 * b.reward.abs().max(1.0),
                    "{id}: {a:?}, {b:?}"
                );
                assert_eq!(a.observation, b.observation, "{id}, seed {seed}");
                assert_eq!((a.terminated, a.truncated), (b.terminated, b.truncated));
                steps += 1;
                if a.terminated || a.truncated {
                    break;
                }
            }
        }
        assert!(steps > 50, "{id}: {steps} steps");
    }
}

#[test]
fn a_diagnosis_leaves_out_what_needs_an_environment_that_can_be_copied() {
    let toys = toys();
    let done = |arguments: &[&str]| {
        let found = command(&toys, arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    let python = ["--env", "gym:Toy-v0", "--python", "python3"];
    let collect = [
        "data", "collect", "--steps", "200", "--policy", "random", "data.npz",
    ];
    done(&[&collect[..], &python].concat());
    let config = format!(
        "[data]\npath = \"data.npz\"\n[train]\nupdates = 3\n[evaluate]\nenv = \"gym:Toy-v0\"\npython = \"python3\"\n\
         episodes = 1\nevery_updates = 0\n[algorithm.trajectory_transformer]\n{}\n",
        crate::runs::small("trajectory_transformer")
    );
    fs::write(toys.path().join("planner.toml"), config).unwrap();
    done(&["train", "planner.toml", "--out", "run"]);
    let said = done(&["diagnose", "run", "--episodes", "1", "--decisions", "1"]);
    check_words(
        &said,
        &[
            "the state of `gym:Toy-v0` can't be saved and restored",
            "`gym:Toy-v0` can't be set to the states that the data starts at",
            "search as configured",
        ],
    );
    assert!(!said.contains("values of the model"), "{said}");
}
