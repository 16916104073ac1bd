//! Hundreds of small data sets that h5py, NumPy and the minari package wrote (tests/golden/random_data_files.py and
//! odd_data_files.py), read and converted, beside what their scripts say is in them.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trajformer::data::{self, ActionKind, Dataset, LoadOptions};

/// How many files of both kinds odd_data_files.py makes.
const ODD_FILES: usize = 89;
const ODD_FAULTS: usize = 34;

/// Unpacks an archive; gives the names and expectations.
fn unpack(archive: &str, folder: &Path) -> serde_json::Map<String, Value> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = golden.join(archive);
    let file = std::fs::File::open(path).expect("the archive");
    let mut archive = zip::ZipArchive::new(file).expect("an archive");
    archive.extract(folder).expect("unpacks");
    let mut text = String::new();
    let mut entry = archive.by_name("expected.json").expect("is there");
    entry.read_to_string(&mut text).expect("text");
    match serde_json::from_str(&text).expect("JSON") {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn options(expected: &Value) -> LoadOptions {
    let given = &expected["options"];
    let keys = given["observation_keys"].as_array().into_iter().flatten();
    LoadOptions {
        max_episode_steps: given["max_episode_steps"].as_u64().map(|n| n as usize),
        observation_keys: keys
            .map(|key| key.as_str().expect("text").to_owned())
            .collect(),
        observation_columns: given["observation_columns"]
            .as_str()
            .map(|text| text.parse().expect("columns")),
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list").iter();
    list.map(|v| v.as_f64().expect("a number") as f32).collect()
}

/// Also what other formats keep: how many choices there are is known to Minari alone.
fn check(name: &str, data: &Dataset, expected: &Value) {
    check_rows(name, data, expected);
    let choices = match data.action_kind {
        ActionKind::Continuous => None,
        ActionKind::Discrete { count } => Some(count as u64),
    };
    assert_eq!(choices, expected["choices"].as_u64(), "{name}: choices");
}

fn check_rows(name: &str, data: &Dataset, expected: &Value) {
    assert_eq!(data.observation_dim as u64, expected["dim"], "{name}");
    assert_eq!(
        data.observations,
        numbers(&expected["observations"]),
        "{name}: observations"
    );
    assert_eq!(
        data.actions,
        numbers(&expected["actions"]),
        "{name}: actions"
    );
    assert_eq!(
        data.rewards,
        numbers(&expected["rewards"]),
        "{name}: rewards"
    );
    assert_eq!(
        data.env_name.as_deref(),
        expected["env"].as_str(),
        "{name}: name"
    );
    let pieces = expected["pieces"].as_array().expect("a list");
    assert_eq!(data.episodes.len(), pieces.len(), "{name}: episodes");
    for (number, (episode, piece)) in data.episodes.iter().zip(pieces).enumerate() {
        let found = serde_json::json!([
            episode.start,
            episode.steps,
            episode.terminated,
            episode.truncated,
            episode.fragment
        ]);
        let piece = piece.as_array().expect("a list");
        assert_eq!(
            found.as_array().expect("a list")[..],
            piece[..5],
            "{name}: episode {number}"
        );
        let last = piece[5].is_array().then(|| numbers(&piece[5]));
        assert_eq!(
            episode.final_observation.as_deref(),
            last.as_deref(),
            "{name}: episode {number}"
        );
    }
    let returns: Vec<f64> = expected["returns"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect();
    assert_eq!(data.returns(), returns, "{name}: returns");
    let bound = |value: &Value, none: f32| value.as_f64().map_or(none, |v| v as f32);
    let side = |side: usize, none: f32| -> Vec<f32> {
        let list = expected["bounds"][side].as_array().expect("a list");
        list.iter().map(|value| bound(value, none)).collect()
    };
    let bounds = expected["bounds"]
        .is_array()
        .then(|| (side(0, f32::NEG_INFINITY), side(1, f32::INFINITY)));
    assert_eq!(data.action_bounds, bounds, "{name}: bounds");
}

#[test]
fn random_files_of_h5py_numpy_and_minari_hold_what_their_script_put_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = unpack("random_data.zip", folder.path());
    assert_eq!(expected.len(), 220);
    let mut cut = 0;
    for (name, expected) in &expected {
        let path = folder.path().join(name);
        let found = data::load_with(&[path], &options(expected));
        let data = found.unwrap_or_else(|error| panic!("{error}"));
        check(name, &data, expected);
        // Cuts are counted in a warning, and only they.
        let cuts = expected["cuts"].as_u64().expect("a count");
        let counted = format!("`next_observations` of {cuts} of {} rows", data.steps());
        let said = data
            .warnings
            .iter()
            .any(|warning| warning.contains(&counted));
        assert_eq!(said, cuts > 0, "{name}: {:?}", data.warnings);
        cut += usize::from(cuts > 0);
        if let Some(word) = expected["warning"].as_str() {
            assert!(data.warnings.iter().any(|w| w.contains(word)), "{name}");
        }
    }
    assert!(cut > 30, "{cut} files are cut");
}

#[test]
fn faults_are_named_with_what_can_be_done_and_no_function_of_a_library() {
    let folder = tempfile::tempdir().expect("a folder");
    unpack("random_data.zip", folder.path());
    let text = std::fs::read_to_string(folder.path().join("faults.json")).expect("text");
    let faults: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(faults.len(), 35);
    for (name, words) in &faults {
        check_fault(
            name,
            &folder.path().join(name),
            &LoadOptions::default(),
            words,
        );
    }
}

/// The file is refused, and the message names it and what `words` lists.
fn check_fault(name: &str, path: &Path, options: &LoadOptions, words: &Value) {
    let message = match data::load_with(&[path.to_path_buf()], options) {
        Ok(_) => panic!("{name} was read"),
        Err(error) => error.to_string(),
    };
    let place = path.display().to_string();
    assert!(message.starts_with(&place), "{name}: {message}");
    for word in texts(words) {
        assert!(message.contains(word), "{name}: no {word} in {message}");
    }
    for foreign in ["::", "H5P", "libver", "hdf5_pure", "damaged"] {
        assert!(!message.contains(foreign), "{name}: {message}");
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("text"))
}

#[test]
fn odd_files_hold_what_their_script_put_there_and_what_is_doubtful_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = unpack("odd_data.zip", folder.path());
    assert_eq!(expected.len(), ODD_FILES);
    let mut wrong = Vec::new();
    for (name, expected) in &expected {
        let path = folder.path().join(name);
        let found = data::load_with(&[path], &options(expected));
        let data = found.unwrap_or_else(|error| panic!("{error}"));
        check(name, &data, expected);
        let all = data.warnings.join("\n");
        let missing = texts(&expected["said"]).filter(|word| !all.contains(word));
        wrong.extend(missing.map(|word| format!("{name}: no {word} in {all}")));
        let needless = texts(&expected["unsaid"]).filter(|word| all.contains(word));
        wrong.extend(needless.map(|word| format!("{name}: {word} in {all}")));
        let cuts = expected["cuts"].as_u64().expect("a count");
        let counted = format!("`next_observations` of {cuts} of {} rows", data.steps());
        assert_eq!(all.contains(&counted), cuts > 0, "{name}: {all}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn odd_faults_are_named_with_what_can_be_done() {
    let folder = tempfile::tempdir().expect("a folder");
    unpack("odd_data.zip", folder.path());
    let text = std::fs::read_to_string(folder.path().join("faults.json")).expect("text");
    let faults: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(faults.len(), ODD_FAULTS);
    for (name, fault) in &faults {
        let path = folder.path().join(name);
        check_fault(name, &path, &options(fault), &fault["said"]);
    }
}

#[test]
fn odd_files_stay_what_they_are_in_every_other_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = unpack("odd_data.zip", folder.path());
    for (number, (name, expected)) in expected.iter().enumerate() {
        let source: PathBuf = folder.path().join(name);
        let ending = [".hdf5", ".npz", ""][number % 3];
        let to = folder.path().join(format!("copy{number}{ending}"));
        data::convert_with(&source, &to, &options(expected))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let copy = data::load_one(&to).unwrap_or_else(|e| panic!("{e}"));
        check_rows(&format!("{name} as {}", to.display()), &copy, expected);
    }
}

#[test]
fn random_files_stay_what_they_are_in_every_other_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = unpack("random_data.zip", folder.path());
    for (number, (name, expected)) in expected.iter().enumerate() {
        let source: PathBuf = folder.path().join(name);
        // From each to the next, and on to the one after it.
        let mut from = (source, options(expected));
        for step in 0..2 {
            let ending = [".hdf5", ".npz", ""][(number + step) % 3];
            let to = folder.path().join(format!("copy{number}-{step}{ending}"));
            data::convert_with(&from.0, &to, &from.1).unwrap_or_else(|e| panic!("{name}: {e}"));
            let copy = data::load_one(&to).unwrap_or_else(|e| panic!("{e}"));
            check_rows(&format!("{name} as {}", to.display()), &copy, expected);
            from = (to, LoadOptions::default());
        }
    }
}
