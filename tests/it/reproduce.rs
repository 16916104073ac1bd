//! `trajformer reproduce`: what it says before it runs, and the verdicts, over runs written by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trajformer::reproduce::{Reproduction, Request, Verdict, table};

fn request(folder: &Path) -> Request {
    Request {
        name: "d4rl-locomotion".to_owned(),
        algorithms: vec!["td3_bc".to_owned()],
        datasets: vec!["hopper-medium".to_owned()],
        seeds: (0..5).collect(),
        updates: None,
        data_dir: folder.join("data"),
    }
}

/// A finished run of each seed with these last scores, on so many steps.
fn write_runs(reproduction: &Reproduction, scores: &[f64], steps: usize) {
    let plan = &reproduction.plan;
    for (run, score) in plan.runs.iter().zip(scores) {
        let (folder, config) = (&run.folder, plan.config(run));
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.toml"), config.to_toml().unwrap()).unwrap();
        let spec = format!(
            "{{\"trajformer\": {{\"observation_dim\": 11, \"action_dim\": 3, \"action_low\": [-1.0], \"action_high\": [1.0], \
             \"env_name\": null, \"data\": {{\"steps\": {steps}, \"episodes\": 1, \"checksum\": \"1\"}}}}}}"
        );
        fs::write(folder.join("config.json"), spec).unwrap();
        let updates = config.total_updates();
        let state =
            format!("format = 1\nupdate = {updates}\nseconds = 5.0\nrng = \"\"\n[checksums]\n");
        fs::write(folder.join("state.toml"), state).unwrap();
        let rows = format!(
            "update,seconds,episodes,return_mean,return_std,score_mean,score_std\n{},1,10,0,0,999,0\n{updates},5,10,0,0,{score},0\n",
            updates / 2
        );
        fs::write(folder.join("evaluations.csv"), rows).unwrap();
    }
}

#[test]
fn a_verdict_says_no_more_than_the_seeds_do() {
    // Published: 60.37 ± 3.49 over 4 seeds.
    let check = |scores: &[f64], steps: usize, updates: Option<u64>, verdict: Verdict| {
        let folder = tempfile::tempdir().unwrap();
        let request = Request {
            updates,
            ..request(folder.path())
        };
        let reproduction = Reproduction::new(&request, &folder.path().join("out")).unwrap();
        write_runs(&reproduction, scores, steps);
        let judged = reproduction.judged().unwrap();
        assert_eq!((judged.len(), judged[0].published), (1, (60.37, 3.49)));
        assert_eq!(judged[0].verdict, verdict, "{scores:?}: {judged:?}");
        assert_eq!(judged[0].scores, scores);
        let text = table(&judged).text(100);
        assert!(
            text.contains(verdict.words()) && text.contains("60.4 ± 3.5"),
            "{text}"
        );
    };
    let d4rl = 999_906;
    check(&[58.0, 62.0, 61.0, 59.0, 60.0], d4rl, None, Verdict::Within);
    check(&[55.0, 61.0, 58.0], d4rl, None, Verdict::Within);
    check(&[70.0, 72.0, 71.0, 69.0, 70.0], d4rl, None, Verdict::Above);
    check(&[50.0, 52.0, 51.0, 49.0, 50.0], d4rl, None, Verdict::Below);
    // As far away, but nobody knows how seeds differ.
    check(&[50.0, 51.0], d4rl, None, Verdict::NotEnoughSeeds);
    check(&[], d4rl, None, Verdict::NotEnoughSeeds);
    check(&[50.0, 52.0, 51.0], 100_000, None, Verdict::OtherData);
    check(&[50.0, 52.0, 51.0], d4rl, Some(1000), Verdict::Shortened);
}

#[test]
fn names_that_are_unknown_are_said_with_those_that_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |request: Request| {
        let error = Reproduction::new(&request, folder.path()).unwrap_err();
        error.to_string()
    };
    let base = || request(folder.path());
    let error = fails(Request {
        name: "atari".to_owned(),
        ..base()
    });
    assert!(
        error.contains("unknown reproduction `atari`, expected one of d4rl-locomotion (hopper")
            && error.contains("antmaze")
            && error.contains("no score would be comparable"),
        "{error}"
    );
    let error = fails(Request {
        algorithms: vec!["td3bc".to_owned()],
        ..base()
    });
    assert!(
        error.contains("unknown algorithm `td3bc`") && error.contains("td3_bc"),
        "{error}"
    );
    let error = fails(Request {
        datasets: vec!["ant-medium".to_owned()],
        ..base()
    });
    assert!(
        error.contains("unknown data set `ant-medium`") && error.contains("hopper-medium-replay"),
        "{error}"
    );
    let all = Request {
        algorithms: Vec::new(),
        datasets: Vec::new(),
        ..base()
    };
    let all = Reproduction::new(&all, folder.path()).unwrap();
    assert_eq!((all.plan.lines.len(), all.plan.runs.len()), (99, 495));
}

/// Standard output and error of a command in `folder` that ends with `status`.
fn ends(folder: &Path, arguments: &[&str], status: i32) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    let found = command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&found.stdout), text(&found.stderr));
    assert_eq!(
        found.status.code(),
        Some(status),
        "{arguments:?}: {printed}{errors}"
    );
    (printed, errors)
}

#[test]
fn what_it_needs_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("d4rl")).unwrap();
    fs::write(folder.join("d4rl/hopper_medium-v2.hdf5"), "").unwrap();
    let arguments = [
        "reproduce",
        "d4rl-locomotion",
        "--algorithms",
        "bc",
        "--datasets",
        "hopper-medium,walker2d-medium",
        "--data-dir",
        "d4rl",
        "--seeds",
        "0..4",
    ];
    let (printed, errors) = ends(folder, &arguments, 1);
    for words in [
        "8 runs",
        "999906 steps  there, but can't be read (",
        "999995 steps  MISSING: d4rl/walker2d-medium-v2.hdf5",
        "MuJoCo",
        "bc: CORL's table",
        "Time of the updates alone",
        "algorithm  one update",
        "episodes",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(errors.contains("add `--yes`"), "{errors}");
    // Times are kept: the second time nothing is timed.
    assert!(errors.contains("timing a few updates"), "{errors}");
    let (again, errors) = ends(folder, &arguments, 1);
    assert!(
        !errors.contains("timing") && again == printed,
        "{errors}{again}"
    );
    let (printed, _) = ends(folder, &[&arguments[..], &["--json"]].concat(), 1);
    let planned: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    // A million updates with a score every 5,000, ten episodes each.
    assert_eq!(
        (&planned["planned_runs"], &planned["episodes"]),
        (&8.into(), &(8 * 200 * 10).into())
    );
    assert_eq!(planned["missing_data"][0], "d4rl/walker2d-medium-v2.hdf5");
    let (_, errors) = ends(folder, &[&arguments[..], &["--yes"]].concat(), 1);
    assert!(
        errors.contains("d4rl/walker2d-medium-v2.hdf5: no such data"),
        "{errors}"
    );
    assert!(!errors.contains("started"), "{errors}");
    // What is missing is said where nothing is trained, too.
    let (printed, errors) = ends(
        folder,
        &[&arguments[..], &["--yes", "--dry-run"]].concat(),
        1,
    );
    assert_eq!(printed.matches("to do").count(), 8, "{printed}");
    assert!(
        errors.contains("d4rl/walker2d-medium-v2.hdf5: no such data"),
        "{errors}"
    );
}

#[cfg(feature = "mujoco")]
#[test]
fn a_shortened_reproduction_trains_and_has_no_verdict() {
    use trajformer::{data, envs, policy};
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut env = envs::make("hopper-v4").unwrap();
    let mut random = policy::simple::RandomPolicy::new(env.spec());
    let found = data::collect::collect(&mut *env, &mut random, 300, 0).unwrap();
    fs::create_dir(folder.join("data")).unwrap();
    data::save(&found, &folder.join("data/hopper-medium.hdf5")).unwrap();
    let arguments = [
        "reproduce",
        "d4rl-locomotion",
        "--algorithms",
        "bc",
        "--datasets",
        "hopper-medium",
        "--seeds",
        "0..2",
        "--updates",
        "2",
        "--jobs",
        "1",
        "--yes",
        "--json",
    ];
    let preview = &arguments[..arguments.len() - 2];
    let (printed, _) = ends(folder, preview, 1);
    assert!(
        printed
            .contains("999906 steps  there, with 300 steps, NOT D4RL's: data/hopper-medium.hdf5"),
        "{printed}"
    );
    let (printed, _) = ends(folder, &arguments, 0);
    let json: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(json["finished"], 2);
    assert_eq!(json["verdicts"][0]["verdict"], "shortened");
    assert_eq!(json["verdicts"][0]["scores"].as_array().unwrap().len(), 2);
    let out: PathBuf = folder.join("runs/d4rl-locomotion");
    let text = fs::read_to_string(out.join(".sweep/verdicts.txt")).unwrap();
    assert!(
        text.contains("shortened, not comparable") && text.contains("CORL's table"),
        "{text}"
    );
    assert!(
        out.join("bc-hopper-medium/seed-1/model.safetensors")
            .exists()
    );
}
