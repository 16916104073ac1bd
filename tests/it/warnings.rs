//! What training says of settings that would do harm to the data at hand, as users meet it: on standard error.

use std::fs;
use std::path::Path;
use std::process::Command;

use trajformer::data::{self, Dataset, Episode};

/// Episodes of four steps whose only reward is 1, at the end; every action is within ±0.001.
fn goal_data(terminated: bool, truncated: bool) -> Dataset {
    const STEPS: usize = 4;
    const EPISODES: usize = 30;
    let count = STEPS * EPISODES;
    let wave = |step: usize| (step as f32 * 0.7).sin();
    Dataset {
        observations: (0..2 * count).map(wave).collect(),
        actions: (0..count).map(|step| 1e-3 * wave(3 * step)).collect(),
        rewards: (0..count)
            .map(|step| f32::from(u8::from(step % STEPS == STEPS - 1)))
            .collect(),
        episodes: (0..EPISODES)
            .map(|number| Episode {
                terminated,
                truncated,
                ..Episode::new(STEPS * number, STEPS)
            })
            .collect(),
        ..Dataset::blank(2, 1)
    }
}

/// Standard error of three updates.
fn said(folder: &Path, algorithm: &str) -> String {
    let text =
        format!("[data]\npath = \"goal.npz\"\n[train]\nupdates = 3\n[algorithm.{algorithm}\n");
    fs::write(folder.join("run.toml"), text).unwrap();
    let out = algorithm.split(']').next().unwrap();
    let found = Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(["train", "run.toml", "--out", out])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "{algorithm}: {said}");
    said
}

fn check(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn training_names_what_does_harm_with_numbers_and_the_key_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let place = folder.join("goal.npz");
    data::save(&goal_data(true, false), &place).unwrap();
    let range = "column 0 from -0.00";
    let tt = "trajectory_transformer]\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 4\n\
              window_transitions = 3\nwarmup_updates = 1\ndecay_updates = 5";
    check(
        &said(folder, tt),
        &[
            "goal.npz",
            "`algorithm.trajectory_transformer.termination_penalty = -100` replaces the rewards of all 30 steps",
            "max_context_transitions` is 5, but the network reads 3 transitions",
            range,
            "`data.action_range`",
        ],
    );
    let wide = "trajectory_transformer]\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 1\n\
                window_transitions = 900\nwarmup_updates = 1\ndecay_updates = 5";
    fs::remove_dir_all(folder.join("trajectory_transformer")).unwrap();
    check(
        &said(folder, wide),
        &[
            "`algorithm.trajectory_transformer.window_transitions = 900` makes sequences of 4500 tokens",
            "1.0e7 pairs",
            "the longest episode has 4 steps",
            "`algorithm.trajectory_transformer.window_transitions=4` reads all there is",
        ],
    );
    let small =
        "layers = 1\nembedding = 8\nbatch_size = 4\nwarmup_updates = 1\nmax_episode_steps = 3";
    check(
        &said(folder, &format!("decision_transformer]\n{small}")),
        &[
            "`algorithm.decision_transformer.return_scale = 1000`",
            "`algorithm.decision_transformer.max_episode_steps = 3`",
        ],
    );
    let both = goal_data(true, true);
    data::save(&both, &place).unwrap();
    let iql = "iql]\nhidden = [8]\nbatch_size = 8";
    let quiet = said(folder, iql);
    assert!(!quiet.contains("left out"), "{quiet}");
    check(&quiet, &[range]);
    data::save(&goal_data(false, true), &place).unwrap();
    let sac = "sac]\nhidden = [8]\nbatch_size = 8";
    check(
        &said(folder, sac),
        &["30 of 120 steps are left out", "100 %", "sum up to 30"],
    );
}

#[test]
fn keys_that_have_moved_are_told_the_author_of_a_file_once_and_nobody_of_a_stored_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&goal_data(true, true), &folder.join("goal.npz")).unwrap();
    let before =
        "iql]\nhidden = [8]\nbatch_size = 8\nkeep_truncations = true\nrewards = { scale = 2.0 }";
    let found = said(folder, before);
    let now = "run.toml: `algorithm.iql.rewards`, `algorithm.iql.keep_truncations` are read, and are now `rewards`, \
               `keep_truncations` in the table `[algorithm.iql.data]`";
    assert_eq!(found.matches(now).count(), 1, "{found}");
    assert_eq!(found.matches("is now").count(), 0, "{found}");
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs/0.1.0/iql");
    let evaluate = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
        command
            .arg("evaluate")
            .arg(&stored)
            .args(["--episodes", "1"]);
        let found = command.args(more).output().unwrap();
        let said = String::from_utf8_lossy(&found.stderr).into_owned();
        (found.status.success(), said)
    };
    let (opened, quiet) = evaluate(&[]);
    assert!(opened && !quiet.contains("iql.data"), "{quiet}");
    // An override is somebody's who is there to read it.
    let (opened, told) = evaluate(&["--set", "algorithm.iql.rewards=none"]);
    let decided = "`algorithm.iql.data.rewards` was decided by training";
    assert!(!opened && told.contains(decided), "{told}");
    assert!(told.contains("`[algorithm.iql.data]`"), "{told}");
}

#[test]
fn a_warning_that_every_seed_gives_is_shown_once_with_how_many_gave_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&goal_data(true, false), &folder.join("goal.npz")).unwrap();
    let text = "[data]\npath = \"goal.npz\"\n[train]\nupdates = 3\n[algorithm.bc]\n";
    fs::write(folder.join("run.toml"), text).unwrap();
    let mut shown = Vec::new();
    for jobs in ["1", "2"] {
        let found = Command::new(env!("CARGO_BIN_EXE_trajformer"))
            .args([
                "train", "run.toml", "--seeds", "0..3", "--jobs", jobs, "--out", jobs,
            ])
            .current_dir(folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{said}");
        assert_eq!(said.contains("2 side by side"), jobs == "2", "{said}");
        let warnings: Vec<String> = said
            .lines()
            .filter_map(|line| Some(line.strip_prefix(" WARN ")?.to_owned()))
            .collect();
        let mut different = warnings.clone();
        different.sort_unstable();
        different.dedup();
        assert!(
            !warnings.is_empty() && warnings.len() == different.len(),
            "{said}"
        );
        check(
            &said,
            &["3 of 3 runs gave the warning that is shown once: "],
        );
        shown.push(different);
    }
    assert_eq!(shown[0], shown[1]);
}

#[test]
fn noise_on_the_actions_of_a_policy_that_draws_them_is_said_to_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let found = Command::new(env!("CARGO_BIN_EXE_trajformer"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {said}");
        said
    };
    let collect = "data collect --env pendulum-v1 --policy random --steps 200 data.npz";
    run(&collect.split(' ').collect::<Vec<_>>());
    let words = "`online.noise` does nothing";
    for (table, expected) in [
        ("sac]\nhidden = [8]", true),
        ("td3_bc]\nhidden = [8]", false),
        ("iql]\nhidden = [8]\nactor = \"deterministic\"", false),
    ] {
        let name = table.split(']').next().unwrap();
        let text = format!(
            "[data]\npath = \"data.npz\"\n[train]\nupdates = 2\n[online]\nsteps = 2\nnoise = 0.2\n[evaluate]\nenv = \"pendulum-v1\"\n\
             episodes = 1\n[algorithm.{table}\nbatch_size = 8\n"
        );
        fs::write(folder.path().join("run.toml"), text).unwrap();
        let said = run(&["train", "run.toml", "--out", name]);
        assert_eq!(said.contains(words), expected, "{name}: {said}");
    }
}
