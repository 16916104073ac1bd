//! Runs whose files are gone, empty, or folders in their place: what every command says, where a copy is, and what is done with the rest.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::damaged::{content, copy, ends, has, trained};

/// What stands in a file's place.
#[derive(Debug, Clone, Copy, PartialEq)]
enum There {
    Nothing,
    Folder,
    Empty,
}

/// A new copy `runs/b` of `runs/a` with something else in the place of its file `name`.
fn hurt(folder: &Path, name: &str, there: There) {
    let run = folder.join("runs/b");
    if run.exists() {
        fs::remove_dir_all(&run).unwrap();
    }
    copy(&folder.join("runs/a"), &run);
    let path = run.join(name);
    fs::remove_file(&path).unwrap();
    match there {
        There::Nothing => {}
        There::Folder => fs::create_dir(&path).unwrap(),
        There::Empty => fs::write(&path, "").unwrap(),
    }
}

/// The line of JSON that a command has printed.
fn json(said: &str) -> Value {
    let line = said.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_run_that_lost_its_state_is_said_to_have_by_every_command_that_reads_it() {
    let folder = trained();
    let folder = folder.path();
    hurt(folder, "state.toml", There::Nothing);
    let said = [
        "runs/b",
        "state.toml is missing, but model.safetensors is there",
        "nothing says which update the weights are of",
        "restore it from a copy, or use runs/b@20, which it keeps",
    ];
    for command in [
        "evaluate runs/b",
        "export runs/b b.onnx",
        "train --resume runs/b",
        "train --resume runs/b --out new",
        "choose runs/b runs/a",
        "watch runs/b --once",
    ] {
        has(&ends(folder, command, 1), &said);
    }
    for command in [
        "compare runs/b",
        "compare runs/b --metric actor_loss",
        "report runs/b --episodes 0",
        "report runs --episodes 0",
    ] {
        let shown = ends(folder, command, 0);
        has(&shown, &said);
        assert!(!shown.contains(" of 20 updates"), "{command}: {shown}");
    }
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    let block = page.split_once("application/json\">").unwrap().1;
    let block = block.split_once("</script>").unwrap().0;
    let page: Value = serde_json::from_str(block).unwrap();
    assert_eq!(page["runs"][1]["done"], 20, "what its tables know");
    has(&page["notes"].to_string(), &said);
    has(&ends(folder, "report runs/b --episodes 1", 1), &said);
    // What is kept can be used, and says nothing of it.
    let kept = ends(folder, "evaluate runs/b@20", 0);
    assert!(!kept.contains("state.toml"), "{kept}");
    // A kept checkpoint without it: the run is whole.
    fs::remove_file(folder.join("runs/a/checkpoints/00000010/state.toml")).unwrap();
    let said = [
        "state.toml of this kept checkpoint is missing",
        "runs/a itself",
    ];
    has(&ends(folder, "evaluate runs/a@10", 1), &said);
    has(&ends(folder, "compare runs/a@10", 0), &said);
    // Before there are weights nothing is lost.
    for name in [
        "model.safetensors",
        "policy.safetensors",
        "training.safetensors",
    ] {
        fs::remove_file(folder.join("runs/b").join(name)).unwrap();
    }
    let begun = ends(folder, "compare runs/b", 0);
    assert!(!begun.contains("state.toml"), "{begun}");
}

#[test]
fn a_folder_or_nothing_in_the_place_of_a_runs_file_is_one_sentence_with_a_way_out() {
    let folder = trained();
    let folder = folder.path();
    let kept = "runs/b/checkpoints/00000020";
    let same = |name: &str| format!("{kept}/{name}");
    let resume = "train --resume runs/b --set train.updates=30";
    let metric = "compare runs/b --metric actor_loss";
    for (name, command, copy_of_it) in [
        ("config.toml", "evaluate runs/b", true),
        ("config.toml", "compare runs/b", true),
        ("config.toml", resume, true),
        ("config.json", "evaluate runs/b", true),
        ("config.json", "compare runs/b", true),
        ("config.json", resume, true),
        ("state.toml", "evaluate runs/b", false),
        ("state.toml", "report runs/b --episodes 0", false),
        ("state.toml", "evaluate runs/b@best", false),
        ("model.safetensors", "evaluate runs/b", true),
        ("policy.safetensors", "evaluate runs/b", true),
        ("training.safetensors", resume, true),
        ("metrics.csv", metric, true),
        ("metrics.csv", resume, true),
        ("evaluations.csv", "compare runs/b", true),
        ("evaluations.csv", resume, true),
    ] {
        for there in [There::Folder, There::Empty] {
            hurt(folder, name, there);
            let said = ends(folder, command, 1);
            let what = match there {
                There::Folder => "is a folder, where the run has a file",
                _ => "is empty",
            };
            has(&said, &["runs/b", name, what]);
            assert!(!said.contains("name a file"), "{command}: {said}");
            assert!(!said.contains("another library"), "{command}: {said}");
            let moved = said.contains("move that folder away and");
            assert_eq!(moved, there == There::Folder, "{command}: {said}");
            if copy_of_it {
                has(&said, &[&same(name)]);
            } else {
                has(&said, &["runs/b@20, which it keeps"]);
            }
            // What is said mends it.
            let place = folder.join("runs/b").join(name);
            if there == There::Folder {
                fs::remove_dir(&place).unwrap();
            }
            fs::copy(folder.join(same(name)), &place).unwrap();
            ends(folder, command, 0);
        }
    }
    for name in ["state.toml", "config.toml", "config.json"] {
        for there in [There::Nothing, There::Folder, There::Empty] {
            hurt(folder, name, there);
            ends(folder, "evaluate runs/b@10", 0);
        }
    }
    for (name, command, code) in [
        ("train.lock", resume, 1),
        ("origin.json", "report runs/b --episodes 0", 0),
    ] {
        hurt(folder, name, There::Folder);
        let said = ends(folder, command, code);
        let words = [
            "is a folder, where the run has a file",
            "move that folder away",
        ];
        has(&said, &[&[name][..], &words].concat());
    }
    // Others are shown beside it, and without a copy that is said.
    for (name, rest) in [
        ("config.toml", "restore it from a copy, or remove the run"),
        (
            "config.json",
            "restore it from a copy, or train the same run anew",
        ),
        ("evaluations.csv", "restore it from a copy, or remove it"),
    ] {
        hurt(folder, name, There::Folder);
        let compared = ends(folder, "compare runs", 0);
        has(&compared, &["b is left out", name, "is a folder"]);
        fs::remove_dir_all(folder.join("runs/b/checkpoints")).unwrap();
        has(&ends(folder, "compare runs/b", 1), &[rest]);
    }
}

#[test]
fn weights_of_another_update_are_no_copy() {
    let folder = trained();
    let folder = folder.path();
    hurt(folder, "model.safetensors", There::Nothing);
    fs::remove_dir_all(folder.join("runs/b/checkpoints/00000020")).unwrap();
    let said = ends(folder, "evaluate runs/b", 1);
    has(
        &said,
        &[
            "model.safetensors is missing",
            "or use runs/b@10, which it keeps",
        ],
    );
    assert!(!said.contains("same file"), "{said}");
    let kept = folder.join("runs/a/checkpoints/00000020/model.safetensors");
    // It may be one file on the disk with the run's own.
    fs::remove_file(&kept).unwrap();
    fs::write(kept, "cut").unwrap();
    let said = ends(folder, "evaluate runs/a/checkpoints/00000020", 1);
    has(&said, &["runs/a/model.safetensors is the same file"]);
}

#[test]
fn seeds_that_are_not_whole_are_named_by_train_as_by_a_sweep() {
    let folder = trained();
    let folder = folder.path();
    let sweep = "configs = \"bc.toml\"\nseeds = \"0..4\"\n";
    fs::write(folder.join("sweep.toml"), sweep).unwrap();
    ends(folder, "sweep sweep.toml --out all --jobs 1", 0);
    let lines = fs::read_dir(folder.join("all")).unwrap().flatten();
    let line = lines.map(|entry| entry.path());
    let line = line.filter(|path| path.join("seed-0").is_dir()).last();
    let line = line.unwrap();
    let name = line.file_name().unwrap().to_str().unwrap();
    let train = format!("train bc.toml --out all/{name} --seeds 0..4");
    ends(folder, &train, 0);
    let weights = line.join("seed-0/training.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 4]).unwrap();
    fs::write(line.join("seed-1/metrics.csv"), "").unwrap();
    fs::write(line.join("seed-2/evaluations.csv"), "").unwrap();
    let before = content(&line);
    for (command, count) in [
        (train.as_str(), "3 of 4 seeds failed"),
        ("sweep sweep.toml --out all --dry-run", "3 runs are damaged"),
    ] {
        let said = ends(folder, command, 1);
        has(
            &said,
            &[
                count,
                "seed-0: training.safetensors is damaged or cut off",
                "seed-1/metrics.csv: is empty",
                "seed-2/evaluations.csv: is empty",
            ],
        );
        assert!(!said.contains("seed-3: training"), "{said}");
    }
    assert!(before == content(&line), "what is damaged stays as it is");
    let one = format!("train --resume all/{name}/seed-0");
    has(&ends(folder, &one, 1), &["cut off"]);
    // A run without its configuration is no place for a new one; a table of something else than text says so.
    fs::remove_file(line.join("seed-3/config.toml")).unwrap();
    fs::create_dir(line.join("seed-3/config.toml")).unwrap();
    fs::write(line.join("seed-1/metrics.csv"), [0xff, 0xfe, 0x00]).unwrap();
    let said = ends(folder, &train, 1);
    let config = "config.toml is a folder, where the run has a file";
    has(
        &said,
        &[
            "4 of 4 seeds failed",
            config,
            "seed-1/metrics.csv: holds something that is no text",
        ],
    );
    assert!(!said.contains("there is a run already"), "{said}");
}

#[test]
fn a_look_says_what_is_wrong_with_runs_that_can_not_be_opened() {
    let folder = trained();
    let folder = folder.path();
    let watch = "watch runs --once --size 200x40";
    let healthy = ends(folder, watch, 0);
    assert!(!healthy.contains("damaged"), "{healthy}");
    let cut = |name: &str| {
        hurt(folder, name, There::Nothing);
        let bytes = fs::read(folder.join("runs/a").join(name)).unwrap();
        fs::write(folder.join("runs/b").join(name), &bytes[..bytes.len() / 2]).unwrap();
    };
    let edited = || {
        let text = fs::read_to_string(folder.join("runs/a/config.toml")).unwrap();
        let other = text.replace("fraction = 1.0", "fraction = 0.5");
        assert_ne!(other, text);
        fs::write(folder.join("runs/b/config.toml"), other).unwrap();
    };
    let check = |words: &str| {
        let watched = ends(folder, watch, 1);
        has(&watched, &["damaged", "error: run runs/b", words]);
        assert_eq!(watched.matches("finished").count(), 1, "{watched}");
    };
    hurt(folder, "config.json", There::Nothing);
    check("config.json is missing");
    cut("policy.safetensors");
    check("policy.safetensors is damaged or cut off");
    cut("state.toml");
    check("state.toml, line");
    cut("train.lock");
    edited();
    check("`algorithm.bc.fraction` was 1.0, is 0.5");
    // It acts: that is no error, and is said.
    cut("training.safetensors");
    let watched = ends(folder, watch, 0);
    has(&watched, &["training.safetensors is damaged or cut off"]);
    assert_eq!(watched.matches("finished").count(), 2, "{watched}");
}

#[test]
fn a_run_that_names_other_data_than_it_learned_from_is_left_out_of_a_choice() {
    let folder = trained();
    let folder = folder.path();
    for name in ["b", "c"] {
        copy(&folder.join("runs/a"), &folder.join("runs").join(name));
    }
    let collect = "data collect --env pendulum-v1 --policy random --seed 5 --steps 400";
    ends(folder, &format!("{collect} other.hdf5"), 0);
    let name_data = |run: &str, data: &str| {
        let place = folder.join(format!("runs/{run}/config.toml"));
        let text = fs::read_to_string(&place).unwrap();
        let line = text.lines().find(|line| line.starts_with("path = "));
        let text = text.replace(line.unwrap(), &format!("path = \"{data}\""));
        fs::write(place, text).unwrap();
    };
    let choose = "choose runs --updates 2 --members 2 --json";
    let whole = json(&ends(folder, choose, 0));
    assert_eq!(whole["runs"].as_array().unwrap().len(), 3);
    // Whichever comes first.
    for run in ["a", "b"] {
        for (data, words) in [
            ("gone.hdf5", "gone.hdf5"),
            ("other.hdf5", "its data had checksum"),
        ] {
            name_data(run, data);
            let said = ends(folder, choose, 0);
            let left = format!("runs/{run} is left out, the data that it names");
            has(&said, &[&left, words]);
            let found = json(&said);
            assert_eq!(found["runs"].as_array().unwrap().len(), 2, "{said}");
            // Data that is given is everybody's.
            let given = json(&ends(folder, &format!("{choose} --data data.hdf5"), 0));
            assert_eq!(given["runs"].as_array().unwrap().len(), 3);
        }
        name_data(run, "data.hdf5");
    }
    name_data("a", "gone.hdf5");
    name_data("b", "other.hdf5");
    let one = ["runs/c is one run", "runs/a is left out"];
    has(&ends(folder, choose, 1), &one);
    name_data("c", "gone.hdf5");
    let none = ["runs/a is left out", "runs/c is left out", "`--data DATA`"];
    has(&ends(folder, choose, 1), &none);
}

#[test]
fn kept_checkpoints_have_one_name_and_count_once() {
    let folder = trained();
    let folder = folder.path();
    let names = |said: &str, key: &str| -> Vec<String> {
        let mut names: Vec<String> = json(said)["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run[key].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let inside = "runs/a/checkpoints/00000010";
    for checkpoint in ["runs/a@10", inside] {
        let chosen = format!("choose {checkpoint} runs/a --updates 2 --members 2 --json");
        let chosen = ends(folder, &chosen, 0);
        assert_eq!(names(&chosen, "name"), ["runs/a", "runs/a@10"]);
        let report = format!("report runs/a {checkpoint} --episodes 1");
        let said = ends(folder, &report, 0);
        has(&said, &["runs/a@10: recording 1 episodes"]);
        let page = fs::read_to_string(folder.join("report.html")).unwrap();
        assert!(page.contains("\"path\":\"runs/a@10\""));
        let compared = ends(folder, &format!("compare {checkpoint} --json"), 0);
        assert_eq!(names(&compared, "name"), ["a@10"]);
    }
    // The folder that holds them is no folder of seeds, and the last one is the run itself.
    let all = ends(folder, "compare runs/a runs/a/checkpoints --json", 0);
    assert_eq!(names(&all, "name"), ["a", "a@10"]);
    has(&all, &["runs/a@20 is named twice and counts once"]);
    let alone = ends(folder, "compare runs/a/checkpoints --json", 0);
    assert_eq!(names(&alone, "name"), ["a@10", "a@20"]);
    let grouped = ends(folder, "compare runs runs/a@20 --by algorithm --json", 0);
    let grouped = json(&grouped);
    assert_eq!(grouped["runs"][0]["seeds"], 1, "{grouped}");
    // One that can't be read is called so too.
    fs::write(folder.join(inside).join("config.json"), "").unwrap();
    let left = ends(folder, "report runs/a runs/a@10 --episodes 0", 0);
    has(&left, &["runs/a@10 is left out"]);
}

#[test]
fn a_finished_run_that_lost_its_last_evaluations_is_not_taken_for_whole() {
    let folder = trained();
    let folder = folder.path();
    hurt(folder, "evaluations.csv", There::Nothing);
    let whole = fs::read_to_string(folder.join("runs/a/evaluations.csv")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    assert!(lines.len() > 2, "{whole}");
    let cut = lines[..lines.len() - 1].join("\n") + "\n";
    fs::write(folder.join("runs/b/evaluations.csv"), cut).unwrap();
    let said = ends(folder, "train --resume runs/b", 1);
    has(
        &said,
        &[
            "runs/b",
            "evaluations.csv ends with update",
            "rows are missing; copy runs/b/checkpoints/00000020/evaluations.csv to runs/b/evaluations.csv: it has all of its rows and more",
        ],
    );
    let kept = folder.join("runs/b/checkpoints/00000020/evaluations.csv");
    fs::copy(&kept, folder.join("runs/b/evaluations.csv")).unwrap();
    ends(folder, "train --resume runs/b", 0);
    // No copy has more than what is there.
    let header = whole.lines().next().unwrap();
    for place in [
        "runs/b",
        "runs/b/checkpoints/00000020",
        "runs/b/checkpoints/00000010",
    ] {
        fs::write(
            folder.join(place).join("evaluations.csv"),
            format!("{header}\n{}\n", lines[1]),
        )
        .unwrap();
    }
    has(
        &ends(folder, "train --resume runs/b", 1),
        &["rows are missing; restore it from a copy"],
    );
}

/// What lies in `folder` beside the runs, by the first letter of a branch's folder.
fn branches(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('m')).collect()
}

#[test]
fn a_checkpoint_that_lacks_a_file_or_is_asked_for_what_it_can_not_do_leaves_no_branch() {
    let folder = trained();
    let folder = folder.path();
    let kept = folder.join("runs/a/checkpoints/00000010");
    let branch = "train --resume runs/a@10 --out mine";
    for name in [
        "config.json",
        "config.toml",
        "state.toml",
        "model.safetensors",
        "policy.safetensors",
        "training.safetensors",
    ] {
        let whole = fs::read(kept.join(name)).unwrap();
        fs::remove_file(kept.join(name)).unwrap();
        has(&ends(folder, branch, 1), &[name]);
        assert_eq!(branches(folder), [""; 0], "{name}");
        fs::write(kept.join(name), whole).unwrap();
    }
    for key in [
        "train.nonsense=1",
        "algorithm.bc.batch_size=4",
        "train.updates=5",
    ] {
        ends(folder, &format!("{branch} --set {key}"), 1);
        assert_eq!(branches(folder), [""; 0], "{key}");
    }
    ends(folder, branch, 0);
}

#[test]
fn a_branch_that_fails_while_it_is_copied_leaves_nothing() {
    let folder = trained();
    let folder = folder.path();
    // As long as it should be, and of another update, which is found when it is read.
    let kept = folder.join("runs/a/checkpoints/00000010/training.safetensors");
    fs::remove_file(&kept).unwrap();
    fs::copy(folder.join("runs/a/training.safetensors"), &kept).unwrap();
    let said = ends(folder, "train --resume runs/a@10 --out mine", 1);
    has(
        &said,
        &["training.safetensors is damaged or that of another update"],
    );
    assert_eq!(branches(folder), [""; 0]);
}

#[test]
fn a_branch_whose_checkpoint_lost_its_table_is_not_told_to_write_over_newer_rows() {
    let folder = trained();
    let folder = folder.path();
    ends(folder, "train --resume runs/a --set train.updates=40", 0);
    fs::remove_file(folder.join("runs/a/checkpoints/00000030/metrics.csv")).unwrap();
    let said = ends(folder, "train --resume runs/a@30 --out mine", 0);
    has(
        &said,
        &[
            "mine: metrics.csv is missing, and the run has logged until 30 updates: its losses are not known; it goes on without",
            "mine: metrics.csv begins with update 40: earlier rows were lost; mine/checkpoints/00000020/metrics.csv has some of them: put those in \
             before the others, not the file in this one's place",
        ],
    );
    assert!(!said.contains("copy mine"), "{said}");
    let table = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    let newer = table("mine/metrics.csv");
    let (head, newer) = newer.split_once('\n').unwrap();
    let older = table("mine/checkpoints/00000020/metrics.csv");
    assert!(older.starts_with(head));
    fs::write(folder.join("mine/metrics.csv"), older + newer).unwrap();
    let compared = ends(folder, "compare mine", 0);
    has(
        &compared,
        &["metrics.csv has no row between the updates 20 and 40"],
    );
    assert!(!compared.contains("begins with"), "{compared}");
}

#[test]
fn a_branch_leaves_folders_of_others_alone_and_takes_a_name_with_a_slash() {
    let folder = trained();
    let folder = folder.path();
    let foreign = folder.join("mine.unfinished-branch");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes"), "keep me").unwrap();
    let said = ends(folder, "train --resume runs/a@10 --out mine", 1);
    has(&said, &["mine.unfinished-branch", "move it away"]);
    assert_eq!(
        fs::read_to_string(foreign.join("notes")).unwrap(),
        "keep me"
    );
    fs::remove_dir_all(&foreign).unwrap();
    // What a killed process left is no obstacle, and what another one makes is not touched.
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("model.safetensors"), "half").unwrap();
    let lock = fs::File::create(foreign.join("train.lock")).unwrap();
    lock.lock().unwrap();
    let said = ends(folder, "train --resume runs/a@10 --out mine", 1);
    has(&said, &["mine.unfinished-branch", "another process"]);
    assert!(foreign.join("model.safetensors").exists());
    drop(lock);
    // It is locked as every run is.
    fs::remove_file(foreign.join("train.lock")).unwrap();
    fs::create_dir(foreign.join("train.lock")).unwrap();
    let said = ends(folder, "train --resume runs/a@10 --out mine", 1);
    let words = "train.lock is a folder, where the run has a file";
    has(&said, &["mine.unfinished-branch", words]);
    fs::remove_dir(foreign.join("train.lock")).unwrap();
    fs::write(foreign.join("train.lock"), "").unwrap();
    ends(folder, "train --resume runs/a@10 --out mine/", 0);
    assert!(folder.join("mine/config.toml").exists() && !foreign.exists());
}
