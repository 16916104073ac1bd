//! Runs that were damaged, and commands that are given what they can't use: what is said, and that nothing else is lost.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = "[data]\npath = \"data.hdf5\"\n[train]\nupdates = 20\nlog_every_updates = 10\nkeep = \"all\"\n\
                      [evaluate]\nenv = \"pendulum-v1\"\nepisodes = 1\nevery_updates = 10\n\
                      [algorithm.bc]\nhidden = [8]\nbatch_size = 16\n";

fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(arguments.split(' '))
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// What is printed and what is complained about.
pub fn ends(folder: &Path, arguments: &str, code: i32) -> String {
    let found = run(folder, arguments);
    let text = [found.stdout, found.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(found.status.code(), Some(code), "{arguments}: {text}");
    assert!(!text.contains("panicked"), "{arguments}: {text}");
    text
}

pub fn has(text: &str, words: &[&str]) {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(flat.contains(word), "{word}: {text}");
    }
}

/// Data, a configuration and a run `a` of it.
pub fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("bc.toml"), CONFIG).unwrap();
    ends(
        path,
        "data collect --env pendulum-v1 --policy random --steps 400 data.hdf5",
        0,
    );
    ends(path, "train bc.toml --out runs/a", 0);
    folder
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &place);
        } else {
            fs::copy(&path, place).unwrap();
        }
    }
}

/// Every file with its content.
pub fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_run_without_its_configuration_is_named_and_the_others_are_shown() {
    let folder = trained();
    let folder = folder.path();
    copy(&folder.join("runs/a"), &folder.join("runs/b"));
    fs::remove_file(folder.join("runs/b/config.toml")).unwrap();
    let weights = folder.join("runs/deep/seed-0");
    fs::create_dir_all(&weights).unwrap();
    fs::copy(
        folder.join("runs/a/training.safetensors"),
        weights.join("training.safetensors"),
    )
    .unwrap();
    let said = ["b is left out: a damaged run: state.toml is there, but config.toml is missing"];
    let compared = ends(folder, "compare runs", 0);
    has(&compared, &said);
    has(&compared, &["seed-0 is left out", "training.safetensors"]);
    has(&ends(folder, "compare runs --metric actor_loss", 0), &said);
    has(&ends(folder, "report runs --episodes 0", 0), &said);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("runs/b is left out: a damaged run"));
    let watched = ends(folder, "watch runs --once --size 200x40", 1);
    has(&watched, &["a damaged run", "finished"]);
    // One that is named is left out as one that is found, and so is what is no run at all.
    copy(&folder.join("runs/a"), &folder.join("other"));
    fs::write(folder.join("notes.txt"), "what was tried").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    for command in [
        "compare",
        "compare --metric actor_loss",
        "report --episodes 0",
        "choose --updates 2 --members 2",
    ] {
        let named = format!("{command} runs/a runs/b other notes.txt empty runs/a");
        let shown = ends(folder, &named, 0);
        has(&shown, &said);
        has(
            &shown,
            &[
                "notes.txt is left out",
                "empty is left out",
                "it has no config.toml",
                "runs/a is named twice and counts once",
            ],
        );
        assert_eq!(shown.matches("b is left out").count(), 1, "{shown}");
        has(
            &ends(folder, &format!("{command} runs/a runs/bb"), 1),
            &["runs/bb", "there is no such folder"],
        );
    }
    has(
        &ends(folder, "choose runs/a runs/b", 1),
        &["runs/a is one run", "b is left out: a damaged run"],
    );
    has(
        &ends(folder, "compare empty notes.txt", 1),
        &["run empty: it is not a run directory"],
    );
    // By itself it is an error for everybody.
    for command in ["compare runs/b", "evaluate runs/b", "train --resume runs/b"] {
        has(&ends(folder, command, 1), &["runs/b: a damaged run"]);
    }
    has(
        &ends(folder, "compare runs/deep", 1),
        &["runs/deep/seed-0: a damaged run"],
    );
    has(
        &ends(folder, "compare nowhere", 1),
        &["there is no such folder"],
    );
    let watched = ends(folder, "watch nowhere --once", 1);
    has(&watched, &["error: run nowhere: there is no such folder"]);
}

#[test]
fn a_run_without_its_description_is_told_what_that_was_and_where_a_copy_is() {
    let folder = trained();
    let folder = folder.path();
    copy(&folder.join("runs/a"), &folder.join("runs/b"));
    fs::remove_file(folder.join("runs/b/config.json")).unwrap();
    let what = [
        "config.json is missing",
        "the range of actions",
        "neither act nor go on",
    ];
    let copy_of_it = "runs/b/checkpoints/00000020/config.json is the same file";
    for command in [
        "evaluate runs/b",
        "train --resume runs/b --set train.updates=30",
        "export runs/b model.onnx",
    ] {
        let said = ends(folder, command, 1);
        has(&said, &what);
        has(&said, &["run runs/b", copy_of_it]);
    }
    has(
        &ends(folder, "compare runs", 0),
        &["runs/b is left out", what[0], copy_of_it],
    );
    // A kept checkpoint has the run's, and without any there is no copy.
    let kept = folder.join("runs/a/checkpoints/00000010/config.json");
    fs::remove_file(kept).unwrap();
    let said = ends(folder, "evaluate runs/a@10", 1);
    has(&said, &[what[0], "runs/a/config.json is the same file"]);
    fs::remove_dir_all(folder.join("runs/b/checkpoints")).unwrap();
    let said = ends(folder, "evaluate runs/b", 1);
    has(
        &said,
        &[what[0], "restore it from a copy", "train the same run anew"],
    );
}

#[test]
fn nothing_is_trained_inside_of_a_run_and_kept_checkpoints_are_what_they_are_called() {
    let folder = trained();
    let folder = folder.path();
    let before = content(&folder.join("runs/a"));
    for out in ["runs/a/checkpoints/new", "runs/a/sub", "runs/a/x/y"] {
        for command in ["train --resume runs/a@10", "train bc.toml"] {
            let said = ends(folder, &format!("{command} --out {out}"), 1);
            has(&said, &[out, "inside of the run"]);
        }
    }
    assert!(
        before == content(&folder.join("runs/a")),
        "nothing was written"
    );
    ends(folder, "train --resume runs/a@10 --out runs/beside", 0);

    let kept = folder.join("runs/a/checkpoints");
    fs::rename(kept.join("00000010"), kept.join("00000015")).unwrap();
    for command in ["evaluate runs/a@15", "train --resume runs/a@15 --out new"] {
        has(
            &ends(folder, command, 1),
            &["called after update 15", "its state.toml is of update 10"],
        );
    }
    assert!(!folder.join("new").exists());
    fs::remove_file(kept.join("00000020/state.toml")).unwrap();
    fs::write(folder.join("runs/a/state.toml"), "update = 30 x\n").unwrap();
    let said = ends(folder, "evaluate runs/a", 1);
    has(&said, &["state.toml, line 1:", "restore it from a copy"]);
    let said = ends(folder, "evaluate runs/a/checkpoints/00000020", 1);
    has(
        &said,
        &[
            "state.toml of this kept checkpoint is missing",
            "train the same run anew",
        ],
    );
}

#[test]
fn a_sweep_names_all_damaged_runs_and_goes_on_beside_them() {
    let folder = trained();
    let folder = folder.path();
    fs::write(
        folder.join("sweep.toml"),
        "configs = \"bc.toml\"\nseeds = \"0..6\"\n",
    )
    .unwrap();
    ends(folder, "sweep sweep.toml --out all --jobs 1", 0);
    let seed = |number: usize| {
        let runs = fs::read_dir(folder.join("all")).unwrap().flatten();
        let line = runs
            .map(|entry| entry.path())
            .find(|path| !path.ends_with(".sweep"));
        line.unwrap().join(format!("seed-{number}"))
    };
    fs::write(seed(0).join("state.toml"), "bad\n").unwrap();
    fs::write(seed(1).join("evaluations.csv"), "update,seconds\n10,x\n").unwrap();
    let weights = fs::read(seed(2).join("model.safetensors")).unwrap();
    fs::write(
        seed(2).join("model.safetensors"),
        &weights[..weights.len() - 4],
    )
    .unwrap();
    fs::remove_file(seed(3).join("policy.safetensors")).unwrap();
    fs::remove_file(seed(4).join("config.toml")).unwrap();
    fs::remove_dir_all(seed(5)).unwrap();
    let said = [
        "seed-0: state.toml, line 1",
        "seed-1/evaluations.csv",
        "seed-2: model.safetensors is damaged or cut off",
        "seed-3: policy.safetensors is missing",
        "seed-4: a damaged run: state.toml is there, but config.toml is missing",
    ];
    let damaged: Vec<_> = (0..5).map(|number| content(&seed(number))).collect();
    let listed = ends(folder, "sweep sweep.toml --out all --dry-run", 1);
    has(&listed, &said);
    has(&listed, &["DAMAGED", "to do", "5 runs are damaged"]);
    assert!(!seed(5).exists());
    let went_on = ends(folder, "sweep sweep.toml --out all --jobs 1", 1);
    has(&went_on, &said);
    has(&went_on, &["seed-5: finished", "1 of 6 runs finished"]);
    let after: Vec<_> = (0..5).map(|number| content(&seed(number))).collect();
    assert!(damaged == after, "what is damaged stays as it is");

    // What is missing is seen before anything is trained, where only a list is asked for too.
    fs::rename(folder.join("data.hdf5"), folder.join("moved.hdf5")).unwrap();
    let listed = ends(folder, "sweep sweep.toml --out other --dry-run", 1);
    has(&listed, &["data.hdf5: no such data"]);
    let emitted = ends(
        folder,
        "sweep sweep.toml --out other --emit-commands new/list.txt",
        0,
    );
    has(
        &emitted,
        &["on this machine", "data.hdf5: no such data", "(6 runs)"],
    );
    assert!(folder.join("new/list.txt").is_file());

    has(
        &ends(folder, "sweep nowhere.toml", 1),
        &["there is no such file"],
    );
    has(&ends(folder, "sweep runs", 1), &["is a folder"]);
    let index = Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(["sweep", "sweep.toml", "--dry-run", "--completions", "3"])
        .current_dir(folder)
        .env("JOB_COMPLETION_INDEX", "first")
        .output()
        .unwrap();
    let said = String::from_utf8(index.stderr).unwrap();
    has(
        &said,
        &[
            "JOB_COMPLETION_INDEX",
            "is `first`, expected a whole number",
            "`--shard I/N`",
        ],
    );
    assert!(!said.contains("configuration:"), "{said}");
}

/// One behaviour of all commands that write a file: its folder is made, and what can't be written is refused before any work.
#[test]
fn every_output_has_its_folder_made_and_is_tried_before_the_work() {
    let folder = trained();
    let folder = folder.path();
    let outputs = [
        "data info data.hdf5 --picture OUT.svg",
        "data tokens data.hdf5 --picture OUT.svg",
        "compare runs --csv OUT.csv",
        "compare runs --picture OUT.svg",
        "report runs --episodes 0 --out OUT.html",
        "export runs/a OUT.onnx",
        "act runs/a --observations data.hdf5 --out OUT.npz",
        "data convert data.hdf5 OUT.npz",
        "data collect --env pendulum-v1 --policy random --steps 200 OUT.npz",
        "evaluate runs/a --record OUT.npz",
    ];
    for (at, command) in outputs.iter().enumerate() {
        let place = format!("new-{at}/below/x");
        ends(folder, &command.replace("OUT", &place), 0);
        let made = fs::read_dir(folder.join(format!("new-{at}/below"))).unwrap();
        assert_eq!(made.count(), 1, "{command}: one file and nothing beside it");
    }
    // Where nothing can be written, whatever else is wrong is not looked at before.
    let early = [
        "plan nowhere --picture OUT.svg",
        "render nowhere --out OUT.gif",
        "choose nowhere --csv OUT.csv",
    ];
    for command in outputs.iter().chain(&early) {
        let said = ends(folder, &command.replace("OUT", "data.hdf5/x"), 1);
        has(&said, &["data.hdf5/x", "can't be"]);
        #[cfg(target_os = "linux")]
        has(
            &ends(folder, &command.replace("OUT", "/proc/x"), 1),
            &["/proc/x", "can't be written"],
        );
    }
    for width in ["63", "1921", "many"] {
        let said = ends(
            folder,
            &format!("render runs/a --out x.gif --width {width}"),
            2,
        );
        has(&said, &["expected 64 to 1920 pixels"]);
    }
}

#[test]
fn a_configuration_that_was_edited_after_training_is_refused_by_all_and_one_of_acting_is_not() {
    let folder = trained();
    let folder = folder.path();
    copy(&folder.join("runs/a"), &folder.join("runs/b"));
    let place = folder.join("runs/b/config.toml");
    let text = fs::read_to_string(&place).unwrap();
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        fs::write(&place, text.replacen(from, to, 1)).unwrap();
    };
    // The networks' shapes stay: nothing else would tell.
    for (from, to, key) in [
        (
            "normalize_observations = true",
            "normalize_observations = false",
            "`algorithm.bc.normalize_observations` was true, is false",
        ),
        (
            "fraction = 1.0",
            "fraction = 0.5",
            "`algorithm.bc.fraction` was 1.0, is 0.5",
        ),
    ] {
        edited(from, to);
        let said = [key, "put it back in config.toml"];
        for command in [
            "evaluate runs/b",
            "compare runs/b",
            "export runs/b b.onnx",
            "report runs/b --episodes 0",
            "compare runs/b --metric actor_loss",
        ] {
            has(&ends(folder, command, 1), &said);
        }
        let compared = ends(folder, "compare runs/a runs/b", 0);
        has(&compared, &["runs/b is left out", key]);
    }
    // Scores stay those of the environment in which they were taken.
    edited("env = \"pendulum-v1\"", "env = \"pendulum-v2\"");
    for command in ["compare runs/b", "report runs/b --episodes 0"] {
        let said = ["`evaluate.env` was \"pendulum-v1\", is \"pendulum-v2\""];
        has(&ends(folder, command, 1), &said);
    }
    edited("episodes = 1", "episodes = 2");
    has(&ends(folder, "evaluate runs/b", 0), &["2 episodes"]);
}

#[test]
fn an_edit_of_what_returns_are_divided_by_is_refused_and_another_one_can_be_asked_for() {
    let folder = trained();
    let folder = folder.path();
    let small = crate::runs::small("decision_transformer");
    let text = CONFIG.split("[algorithm.bc]").next().unwrap();
    let text = format!("{text}[algorithm.decision_transformer]\n{small}\n");
    fs::write(folder.join("dt.toml"), text).unwrap();
    ends(
        folder,
        "train dt.toml --out runs/dt --set train.updates=5",
        0,
    );
    let place = folder.join("runs/dt/config.toml");
    let stored = fs::read_to_string(&place).unwrap();
    let edited = stored.replace("return_scale = 1000.0", "return_scale = 10.0");
    assert_ne!(edited, stored);
    fs::write(&place, edited).unwrap();
    let key = "algorithm.decision_transformer.return_scale";
    let said = [
        &format!("`{key}` was 1000.0, is 10.0"),
        "put it back in config.toml",
    ];
    for command in ["evaluate runs/dt", "export runs/dt dt.onnx"] {
        has(&ends(folder, command, 1), &said);
    }
    fs::write(&place, stored).unwrap();
    ends(folder, &format!("evaluate runs/dt --set {key}=10"), 0);
}

#[test]
fn a_diagnosis_takes_no_other_episodes_for_held_out_than_training_kept_apart() {
    let folder = trained();
    let folder = folder.path();
    let small = crate::runs::small("decision_transformer");
    let text = CONFIG.split("[algorithm.bc]").next().unwrap();
    let text = format!("{text}[algorithm.decision_transformer]\n{small}\n");
    fs::write(folder.join("dt.toml"), text).unwrap();
    let train =
        "train dt.toml --out runs/dt --set train.updates=5 --set train.held_out_fraction=0.5";
    ends(folder, train, 0);
    let place = folder.join("runs/dt/config.toml");
    let stored = fs::read_to_string(&place).unwrap();
    for (key, from, to) in [
        (
            "train.held_out_fraction",
            "held_out_fraction = 0.5",
            "held_out_fraction = 0.9",
        ),
        ("seed", "seed = 0", "seed = 7"),
    ] {
        let edited = stored.replacen(from, to, 1);
        assert_ne!(edited, stored);
        fs::write(&place, edited).unwrap();
        let said = ends(folder, "diagnose runs/dt --episodes 1", 1);
        has(
            &said,
            &[&format!("`{key}` was"), "put it back in config.toml"],
        );
    }
}

#[test]
fn an_edited_run_is_told_from_another_configuration_by_train_and_sweep() {
    let folder = trained();
    let folder = folder.path();
    let sweep = "configs = \"bc.toml\"\nseeds = \"0..1\"\n";
    fs::write(folder.join("sweep.toml"), sweep).unwrap();
    ends(folder, "sweep sweep.toml --out all --jobs 1", 0);
    ends(folder, "train bc.toml --out seeds --seeds 0..1", 0);
    let lines = fs::read_dir(folder.join("all")).unwrap().flatten();
    let line = lines
        .map(|entry| entry.path())
        .find(|path| path.join("seed-0").is_dir());
    for run in [line.unwrap().join("seed-0"), folder.join("seeds/seed-0")] {
        let place = run.join("config.toml");
        let text = fs::read_to_string(&place).unwrap();
        let edited = text.replace("batch_size = 16", "batch_size = 32");
        assert_ne!(edited, text);
        fs::write(place, edited).unwrap();
    }
    let said = ["seed-0", "`algorithm.bc.batch_size` was 16, is 32"];
    for command in [
        "train bc.toml --out seeds --seeds 0..1",
        "train bc.toml --out seeds --seeds 1..2",
        "sweep sweep.toml --out all --jobs 1",
    ] {
        has(&ends(folder, command, 1), &said);
    }
    // Another configuration is what it was.
    fs::remove_dir_all(folder.join("seeds")).unwrap();
    ends(folder, "train bc.toml --out seeds --seeds 0..1", 0);
    let other = "train bc.toml --out seeds --seeds 0..1 --set algorithm.bc.batch_size=32";
    has(
        &ends(folder, other, 1),
        &["another configuration already", said[1]],
    );
}

#[test]
fn a_run_learned_from_what_it_began_with_wherever_its_data_is_said_to_lie() {
    let folder = trained();
    let folder = folder.path();
    copy(&folder.join("runs/a"), &folder.join("b"));
    let place = folder.join("b/config.toml");
    let text = fs::read_to_string(&place).unwrap();
    let edited = text.replace("data.hdf5", "elsewhere.hdf5");
    assert_ne!(edited, text);
    fs::write(place, edited).unwrap();
    for runs in ["b", "b runs/a"] {
        let said = ends(folder, &format!("compare {runs} --json"), 0);
        let json = said.lines().find(|line| line.starts_with('{')).unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        for line in json["runs"].as_array().unwrap() {
            assert_eq!(line["task"], "data", "{said}");
        }
    }
}

#[test]
fn a_table_with_a_short_row_or_other_names_is_no_source_of_numbers() {
    let folder = trained();
    let folder = folder.path();
    copy(&folder.join("runs/a"), &folder.join("runs/b"));
    let place = folder.join("runs/b/metrics.csv");
    let text = fs::read_to_string(&place).unwrap();
    let short: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            1 => "10,0.5".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let names = text.replacen("update", "step", 1);
    for (text, said) in [
        (short.join("\n") + "\n", "metrics.csv: line 2: 2 cells"),
        (names, "metrics.csv: line 1: column 1 is called `step`"),
    ] {
        fs::write(&place, &text).unwrap();
        for command in [
            "compare runs/b --metric actor_loss",
            "report runs/b --episodes 0",
            "train --resume runs/b --set train.updates=30",
        ] {
            has(&ends(folder, command, 1), &[said]);
        }
        assert_eq!(fs::read_to_string(&place).unwrap(), text, "kept");
        let config = fs::read_to_string(folder.join("runs/b/config.toml")).unwrap();
        assert!(config.contains("updates = 20"), "as it was: {config}");
    }
    // Nor is a table with another name for what it has from its start gone on with.
    fs::write(&place, &text).unwrap();
    let evaluations = folder.join("runs/b/evaluations.csv");
    let scores = fs::read_to_string(&evaluations).unwrap();
    fs::write(&evaluations, scores.replacen("return_mean", "returns", 1)).unwrap();
    let refused = ends(folder, "train --resume runs/b --set train.updates=30", 1);
    has(
        &refused,
        &["evaluations.csv: line 1: no column `return_mean`"],
    );
    fs::write(&evaluations, scores).unwrap();
    // Empty is not begun anew without a word; a run counts once.
    fs::write(&place, "").unwrap();
    let resume = "train --resume runs/b --set train.updates=30";
    has(&ends(folder, resume, 1), &["metrics.csv: is empty"]);
    fs::write(folder.join("runs/b/model.safetensors"), "").unwrap();
    let refused = ends(folder, "evaluate runs/b", 1);
    has(
        &refused,
        &[
            "model.safetensors is empty",
            "runs/b/checkpoints/00000020/model.safetensors is the same file",
        ],
    );
    let compared = ends(folder, "compare runs/a runs/../runs/a", 0);
    has(&compared, &["runs/a is named twice and counts once"]);
    let watched = ends(folder, "watch runs/b --once --size 200x40", 1);
    has(
        &watched,
        &["metrics.csv: is empty", "model.safetensors is empty"],
    );
    // Nor is one that is gone without a word.
    fs::remove_file(&place).unwrap();
    let shown = ends(folder, "compare runs/a runs/b --metric actor_loss", 0);
    has(
        &shown,
        &[
            "runs/b is left out",
            "metrics.csv is missing",
            "log_every_updates",
        ],
    );
    // A column that one run lacks is no reason to show none.
    fs::write(&place, text.replacen("actor_loss", "loss_of_actor", 1)).unwrap();
    let shown = ends(folder, "compare runs/a runs/b --metric actor_loss", 0);
    has(&shown, &["runs/b is left out", "no column `actor_loss`"]);
}

#[test]
fn what_training_alone_needs_is_missed_by_training_alone() {
    let folder = trained();
    let folder = folder.path();
    copy(&folder.join("runs/a"), &folder.join("runs/b"));
    fs::remove_file(folder.join("runs/b/training.safetensors")).unwrap();
    ends(folder, "evaluate runs/b", 0);
    let chosen = ends(
        folder,
        "choose runs/a runs/b --updates 5 --members 2 --judge",
        0,
    );
    assert!(!chosen.contains("left out"), "{chosen}");
    ends(folder, "report runs/b --episodes 1", 0);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("can't be trained on, which its policy does not need"));
    has(
        &ends(folder, "train --resume runs/b --set train.updates=30", 1),
        &["training.safetensors"],
    );
    // A run without a checkpoint is shown beside one that acts.
    copy(&folder.join("runs/a"), &folder.join("runs/c"));
    for file in [
        "state.toml",
        "model.safetensors",
        "policy.safetensors",
        "training.safetensors",
    ] {
        fs::remove_file(folder.join("runs/c").join(file)).unwrap();
    }
    let shown = ends(folder, "report runs/a runs/c --episodes 1", 0);
    has(
        &shown,
        &["runs/c: no episodes, the run has no checkpoint yet"],
    );
    let refused = ends(folder, "report runs/c --episodes 1", 1);
    has(&refused, &["no checkpoint yet"]);
    // Before critics are fitted.
    let begun = std::time::Instant::now();
    fs::remove_file(folder.join("runs/b/evaluations.csv")).unwrap();
    let refused = ends(folder, "choose runs/a runs/b --judge", 1);
    has(&refused, &["1 of 2 runs have a score of their checkpoint"]);
    assert!(
        !refused.contains("critics ("),
        "{:?}: {refused}",
        begun.elapsed()
    );
}
