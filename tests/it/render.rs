//! `trajformer render`: moving pictures of episodes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn command(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .envs(variables.iter().copied());
    command.output().unwrap()
}

fn succeeds(folder: &Path, arguments: &[&str]) -> Value {
    let found = command(folder, arguments, &[]);
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "{arguments:?}: {errors}");
    let printed = String::from_utf8(found.stdout).unwrap();
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_default()
}

fn fails(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let found = command(folder, arguments, variables);
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

/// A run of two updates in `folder/run`, of an algorithm with settings, on random steps of an environment.
fn trained(folder: &Path, env: &str, algorithm: &str) {
    let collect = ["data", "collect", "--env", env, "--policy", "random"];
    succeeds(
        folder,
        &[&collect[..], &["--steps", "400", "steps.npz"]].concat(),
    );
    let text = format!(
        "[data]\npath = 'steps.npz'\n[train]\nupdates = 2\n[evaluate]\nenv = '{env}'\nepisodes = 0\nseed = 5\n{algorithm}"
    );
    fs::write(folder.join("run.toml"), text).unwrap();
    succeeds(folder, &["train", "run.toml", "--out", "run"]);
}

const BC: &str = "[algorithm.bc]\nhidden = [8]\n";
const PLANNER: &str = "[algorithm.trajectory_transformer]\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 4\n\
    window_transitions = 3\nbins = 10\n[algorithm.trajectory_transformer.planner]\nhorizon = 3\nbeam_width = 2\n\
    max_context_transitions = 2\nplan_every_steps = 3\n";

/// Frames of a GIF as pixels (RGBA), and how long each is shown in hundredths of a second.
fn frames_of_gif(path: &Path) -> (Vec<Vec<u8>>, Vec<u16>) {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(fs::File::open(path).unwrap()).unwrap();
    let (mut frames, mut delays) = (Vec::new(), Vec::new());
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        frames.push(frame.buffer.to_vec());
        delays.push(frame.delay);
    }
    (frames, delays)
}

#[test]
fn episodes_in_a_maze_are_a_gif_whose_frames_are_their_steps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder, "pointmaze-umaze", BC);
    let render = |out: &str, episodes: &str, every: &str| {
        let arguments = ["render", "run", "--out", out, "--episodes", episodes];
        succeeds(
            folder,
            &[&arguments[..], &["--every", every, "--json"]].concat(),
        )
    };
    let said = render("two.gif", "2", "100");
    // Two episodes of 300 steps.
    assert_eq!(said["frames"], 6);
    assert_eq!(said["lengths"], serde_json::json!([300, 300]));
    let (frames, delays) = frames_of_gif(&folder.join("two.gif"));
    assert_eq!(frames.len(), 6);
    assert_eq!(delays, [1000; 6]);
    assert_eq!(frames[0].len() % (480 * 4), 0);
    for (number, pair) in frames.windows(2).enumerate() {
        assert_ne!(pair[0], pair[1], "frame {number}");
    }
    // The path grows: more of the picture is its blue.
    let blue = |frame: &[u8]| {
        let pixels = frame.chunks_exact(4);
        let is_blue = |pixel: &&[u8]| i32::from(pixel[2]) > i32::from(pixel[0]) + 80;
        pixels.filter(is_blue).count()
    };
    let found = [blue(&frames[0]), blue(&frames[2])];
    assert!(found[0] < found[1], "{found:?}");
    // The same run and seed give the same pictures; the episodes are those that `evaluate` scores.
    render("one.gif", "1", "100");
    let (again, _) = frames_of_gif(&folder.join("one.gif"));
    assert!(again[..] == frames[..3]);
    let scored = ["evaluate", "run", "--env", "pointmaze-umaze", "--seed", "5"];
    let scored = succeeds(
        folder,
        &[&scored[..], &["--episodes", "2", "--json"]].concat(),
    );
    assert_eq!(scored["returns"], said["returns"]);

    // As an animated PNG, which has colors as they are drawn.
    render("one.png", "1", "150");
    let file = std::io::BufReader::new(fs::File::open(folder.join("one.png")).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let control = reader.info().animation_control.unwrap();
    assert_eq!((control.num_frames, control.num_plays), (2, 0));
    assert_eq!(reader.info().width, 480);
    // A viewer that does not animate shows the path as it ends: more blue than in the first frame.
    let mut reader = reader;
    let mut picture = || {
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        let rows: Vec<&[u8]> = pixels.chunks_exact(3).collect();
        let is_blue = |pixel: &&&[u8]| i32::from(pixel[2]) > i32::from(pixel[0]) + 80;
        rows.iter().filter(is_blue).count()
    };
    let (still, first, second) = (picture(), picture(), picture());
    assert!(still > first && still >= second, "{still} {first} {second}");
}

#[test]
fn what_a_planner_imagines_is_drawn_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder, "pointmaze-umaze", PLANNER);
    let arguments = [
        "render", "run", "--out", "a.gif", "--every", "100", "--json",
    ];
    let said = succeeds(folder, &arguments);
    assert_eq!(said["frames"], 3);
    let (frames, _) = frames_of_gif(&folder.join("a.gif"));
    assert_eq!(frames.len(), 3);
    for frame in &frames {
        let pixels = frame.chunks_exact(4);
        let orange = pixels.filter(|pixel| i32::from(pixel[0]) > i32::from(pixel[2]) + 60);
        assert!(orange.count() > 20);
    }
}

#[test]
fn what_can_not_be_drawn_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder, "pendulum-v1", BC);
    fs::create_dir(folder.join("folder.gif")).unwrap();
    fs::write(folder.join("run/kept.gif"), "kept").unwrap();
    fs::write(folder.join("kept.txt"), "kept").unwrap();
    for (out, further, words) in [
        ("a.svg", &[][..], "ends in .gif or .png"),
        ("folder.gif", &[], "a folder"),
        ("kept.txt/a.gif", &[], "can't be made"),
        ("run/kept.gif", &[], "a file of a run directory"),
        ("new/a.gif", &[], "pendulum-v1"),
    ] {
        let arguments = [&["render", "run", "--out", out][..], further].concat();
        let error = fails(folder, &arguments, &[]);
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!folder.join("new/a.gif").exists());
    let wide = ["render", "run", "--out", "a.gif", "--width", "10"];
    let found = command(folder, &wide, &[]);
    assert_eq!(found.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&found.stderr).contains("64 to 1920"));
}

#[cfg(feature = "mujoco")]
#[test]
fn a_robot_is_drawn_where_there_is_egl_and_the_rest_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    trained(folder, "hopper-v4", PLANNER);
    let arguments = [
        "render", "run", "--out", "a.gif", "--every", "4", "--width", "96", "--json",
    ];
    let error = fails(folder, &arguments, &[("TRAJFORMER_EGL_LIB", "nowhere.so")]);
    for word in ["nowhere.so", "libegl1", "hopper-v4"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(!folder.join("a.gif").exists());
    let found = command(folder, &arguments, &[]);
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    if !found.status.success() && errors.contains("EGL") {
        eprintln!("not tried, this machine draws no robots: {errors}");
        return;
    }
    assert!(found.status.success(), "{errors}");
    let printed = String::from_utf8(found.stdout).unwrap();
    let said: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let (frames, delays) = frames_of_gif(&folder.join("a.gif"));
    let steps = said["lengths"][0].as_u64().unwrap() as usize;
    assert_eq!(frames.len(), steps.div_ceil(4));
    assert_eq!(delays[0], 3);
    // The robot moves, on ground and before a sky of other colors.
    let low = |frame: &[u8]| frame[frame.len() / 2..].to_vec(); // below the words
    assert_ne!(low(&frames[0]), low(&frames[1]));
    let colors: std::collections::BTreeSet<&[u8]> = frames[0].chunks_exact(4).collect();
    assert!(colors.len() > 50, "{} colors", colors.len());
    assert_eq!(frames[0].len(), 96 * 72 * 4);
}
