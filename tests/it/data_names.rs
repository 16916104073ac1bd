//! Public data sets by name, without a network: what is listed, and what a name stands for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::cli::isolated;

/// A machine with an empty cache of data.
pub struct Machine {
    pub folder: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A place in the cache of data.
    pub fn cached(&self, name: &str) -> PathBuf {
        self.path().join("cache").join(name)
    }

    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = isolated(self.path(), arguments);
        command
            .env("TRAJFORMER_DATA", self.path().join("cache"))
            // Nothing answers there.
            .env("TRAJFORMER_DATA_MIRROR", "http://127.0.0.1:9")
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .envs(variables.iter().copied());
        command
    }

    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    /// What is printed.
    pub fn succeeds(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let found = self.run(arguments, variables);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(found.stdout).unwrap()
    }

    /// What is complained about.
    pub fn fails(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let found = self.run(arguments, variables);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
        errors
    }

    /// Collects a little data; its bytes.
    pub fn collect(&self, file: &str) -> Vec<u8> {
        let arguments = [
            "data",
            "collect",
            "--env",
            "pendulum-v1",
            "--policy",
            "random",
            "--steps",
            "600",
            file,
        ];
        self.succeeds(&arguments, &[]);
        fs::read(self.path().join(file)).unwrap()
    }
}

const SET: &str = "maze2d-umaze-v1";

#[test]
fn data_sets_are_listed_with_what_is_known_of_them() {
    let machine = Machine::new();
    let text = machine.succeeds(&["data", "list"], &[]);
    for word in [
        "hopper-medium-v2",
        "mujoco/hopper/medium-v0",
        "antmaze-large-navigate-v0",
        "CC BY 4.0",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let printed = machine.succeeds(&["data", "list", "hopper-medium-v2", "--json"], &[]);
    let found: Value = serde_json::from_str(&printed).unwrap();
    let set = &found[0];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(set["size"], 152_756_557);
    assert_eq!(set["cached"], Value::Null);
    assert_eq!(set["env"], "hopper-v4");
    let address = set["addresses"][0].as_str().unwrap();
    assert!(
        address.ends_with("/gym_mujoco_v2/hopper_medium-v2.hdf5"),
        "{address}"
    );
    // What can't be read is not shown as if it could.
    let printed = machine.succeeds(&["data", "list", "ogbench", "--json"], &[]);
    let found: Value = serde_json::from_str(&printed).unwrap();
    assert!(
        found
            .as_array()
            .unwrap()
            .iter()
            .all(|set| set["reads"] == false)
    );

    machine.collect("data.hdf5");
    fs::create_dir_all(machine.cached("d4rl")).unwrap();
    fs::copy(
        machine.path().join("data.hdf5"),
        machine.cached("d4rl/maze2d-umaze-v1.hdf5"),
    )
    .unwrap();
    let printed = machine.succeeds(&["data", "list", "maze2d", "--json"], &[]);
    let found: Value = serde_json::from_str(&printed).unwrap();
    for set in found.as_array().unwrap() {
        assert_eq!(set["cached"].is_string(), set["name"] == SET, "{set}");
    }
    let errors = machine.fails(&["data", "list", "nothing-like-it"], &[]);
    assert!(errors.contains("`nothing-like-it`"), "{errors}");
}

#[test]
fn a_name_stands_for_its_file_wherever_data_is_named() {
    let machine = Machine::new();
    machine.collect("data.hdf5");
    let train = [
        "train",
        "bc.toml",
        "--set",
        "data.path=maze2d-umaze-v1",
        "--set",
        "train.updates=5",
        "--out",
        "run",
    ];
    let config = "[algorithm.bc]\n[evaluate]\nepisodes = 0\n";
    fs::write(machine.path().join("bc.toml"), config).unwrap();
    // It never fetches on its own: nothing answers, and it does not even ask.
    for arguments in [
        &train[..],
        &["data", "info", SET],
        &["data", "tokens", SET],
        &["data", "convert", SET, "a.npz"],
    ] {
        let errors = machine.fails(arguments, &[]);
        assert!(
            errors.contains("`trajformer data pull maze2d-umaze-v1`"),
            "{errors}"
        );
        assert!(
            errors.contains("cache/d4rl/maze2d-umaze-v1.hdf5"),
            "{errors}"
        );
        assert!(!errors.contains("127.0.0.1"), "{errors}");
    }
    assert!(!machine.path().join("run").exists());

    fs::create_dir_all(machine.cached("d4rl")).unwrap();
    fs::copy(
        machine.path().join("data.hdf5"),
        machine.cached("d4rl/maze2d-umaze-v1.hdf5"),
    )
    .unwrap();
    let file = machine.succeeds(&["data", "info", "data.hdf5", "--json"], &[]);
    let named = machine.succeeds(&["data", "info", SET, "--json"], &[]);
    let (file, named): (Value, Value) = (
        serde_json::from_str(&file).unwrap(),
        serde_json::from_str(&named).unwrap(),
    );
    assert_eq!(
        (&file["steps"], &file["return_mean"]),
        (&named["steps"], &named["return_mean"])
    );
    machine.succeeds(&train, &[]);
    let stored = fs::read_to_string(machine.path().join("run/config.toml")).unwrap();
    assert!(stored.contains("maze2d-umaze-v1\""), "{stored}");
    assert!(!stored.contains("cache/d4rl"), "{stored}");
    machine.succeeds(
        &["train", "--resume", "run", "--set", "train.updates=10"],
        &[],
    );
    machine.succeeds(&["report", "run", "--out", "report.html"], &[]);

    // A file of that name in the folder comes first, and other data is refused on resuming.
    machine.succeeds(
        &[
            "data",
            "collect",
            "--env",
            "pendulum-v1",
            "--policy",
            "zero",
            "--steps",
            "600",
            "other.npz",
        ],
        &[],
    );
    fs::copy(machine.path().join("other.npz"), machine.path().join(SET)).unwrap();
    let errors = machine.fails(
        &["train", "--resume", "run", "--set", "train.updates=15"],
        &[],
    );
    assert!(errors.contains("checksum"), "{errors}");
}

#[test]
fn slips_are_named_and_damaged_files_are_not_taken() {
    let machine = Machine::new();
    for (slip, meant) in [
        ("hopper-medum-v2", "hopper-medium-v2"),
        ("hopper-medium", "hopper-medium-v2"),
        ("mujoco/hoper/medium-v0", "mujoco/hopper/medium-v0"),
    ] {
        for command in ["info", "pull"] {
            let errors = machine.fails(&["data", command, slip], &[]);
            assert!(
                errors.contains(&format!("did you mean `{meant}`")),
                "{errors}"
            );
        }
    }
    let errors = machine.fails(&["data", "info", "mine.hdf5"], &[]);
    assert!(errors.contains("mine.hdf5: No such file"), "{errors}");
    let errors = machine.fails(&["data", "info", "hf://datasets/a/../b"], &[]);
    assert!(errors.contains("OWNER/NAME"), "{errors}");

    let file = machine.cached("d4rl/hopper-medium-v2.hdf5");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, b"\x89HDF cut off").unwrap();
    let errors = machine.fails(&["data", "info", "hopper-medium-v2"], &[]);
    assert!(
        errors.contains("has 12 bytes, hopper-medium-v2 has 152756557"),
        "{errors}"
    );
    let file = machine.cached("ogbench/cube-single-play-v0.npz");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, b"whatever").unwrap();
    let errors = machine.fails(&["data", "info", "cube-single-play-v0"], &[]);
    assert!(errors.contains("no rewards"), "{errors}");
}

#[test]
fn a_data_set_is_drawn_whole_or_not_at_all() {
    let machine = Machine::new();
    machine.collect("data.npz");
    for name in ["data.svg", "pictures/data.png"] {
        let printed = machine.succeeds(&["data", "info", "data.npz", "--picture", name], &[]);
        assert!(
            printed.contains("600") && printed.ends_with(&format!("wrote {name}\n")),
            "{printed}"
        );
    }
    let svg = fs::read_to_string(machine.path().join("data.svg")).unwrap();
    for word in [
        "Returns: ",
        "Lengths: 200",
        "Rewards: ",
        "Observations",
        "Actions",
        "600 steps of pendulum-v1 in 3 episodes",
    ] {
        assert!(svg.contains(word), "{word}");
    }
    let png = fs::read(machine.path().join("pictures/data.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000);
    assert_eq!(
        fs::read_dir(machine.path().join("pictures"))
            .unwrap()
            .count(),
        1
    );
    // What can't be drawn there is said before the data is read.
    for (name, words) in [("data.pdf", ".svg or .png"), (".", "svg")] {
        let errors = machine.fails(&["data", "info", "none.npz", "--picture", name], &[]);
        assert!(errors.contains(words), "{errors}");
    }
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_build_without_the_network_lists_and_says_what_it_lacks() {
    let machine = Machine::new();
    machine.succeeds(&["data", "list"], &[]);
    let errors = machine.fails(&["data", "pull", SET], &[]);
    assert!(errors.contains("build with the feature `hub`"), "{errors}");
    assert!(
        errors.contains("cache/d4rl/maze2d-umaze-v1.hdf5"),
        "{errors}"
    );
}
