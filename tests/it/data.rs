//! Data-set files in and out: what other programs wrote is read, what is written is read again, and
//! no file ends the program.

use std::path::{Path, PathBuf};

use serde_json::Value;
use trajformer::data::formats::npz::{NpyValues, read_npz};
use trajformer::data::{self, ActionKind, Dataset, Episode};
use trajformer::rng::Rng;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/data")
        .join(name)
}

/// What tests/golden/data_files.py put into the files.
fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixture("expected.json")).expect("a fixture");
    match serde_json::from_str(&text).expect("JSON") {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list");
    list.iter()
        .map(|v| v.as_f64().expect("a number") as f32)
        .collect()
}

fn check(name: &str, data: &Dataset, expected: &Value) {
    assert_eq!(
        data.observations,
        numbers(&expected["observations"]),
        "{name}"
    );
    assert_eq!(data.actions, numbers(&expected["actions"]), "{name}");
    assert_eq!(data.rewards, numbers(&expected["rewards"]), "{name}");
    assert_eq!(
        data.env_name.as_deref(),
        expected["env_name"].as_str(),
        "{name}"
    );
    let references = expected["reference_returns"].as_array();
    let references = references.map(|pair| (pair[0].as_f64(), pair[1].as_f64()));
    assert_eq!(
        data.reference_returns.map(|(a, b)| (Some(a), Some(b))),
        references,
        "{name}"
    );
    let kind = expected["choices"]
        .as_u64()
        .map_or(ActionKind::Continuous, |count| ActionKind::Discrete {
            count: count as usize,
        });
    assert_eq!(data.action_kind, kind, "{name}");
    let finals = expected["final_observations"].as_array().expect("a list");
    let whole = |value: &Value| value.as_u64().expect("a count") as usize;
    let episodes = expected["episodes"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(finals);
    let episodes: Vec<Episode> = episodes
        .map(|(episode, last)| Episode {
            terminated: episode["terminated"] == true,
            truncated: episode["truncated"] == true,
            final_observation: last.is_array().then(|| numbers(last).into_boxed_slice()),
            ..Episode::new(whole(&episode["start"]), whole(&episode["steps"]))
        })
        .collect();
    assert_eq!(data.episodes, episodes, "{name}");
}

#[test]
fn files_of_h5py_numpy_and_minari_are_read_as_they_were_written() {
    let mut expected = expected();
    expected.remove("broken");
    assert_eq!(expected.len(), 9);
    for (name, expected) in &expected {
        let data = data::load_one(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        check(name, &data, expected);
        assert_eq!(data.sources, [fixture(name)]);
    }
}

#[test]
fn minari_data_is_found_by_folder_inner_folder_and_file() {
    for inner in ["", "data", "data/main_data.hdf5"] {
        let data = data::load_one(&fixture("minari/boxes-v0").join(inner)).expect("loads");
        check(inner, &data, &expected()["minari/boxes-v0"]);
    }
}

#[test]
fn a_broken_file_is_refused_with_file_array_and_row() {
    let expected = expected();
    let broken = expected["broken"].as_object().expect("a table");
    assert_eq!(broken.len(), 29);
    for (name, words) in broken {
        let path = fixture("broken").join(name);
        let message = match data::load_one(&path) {
            Ok(_) => panic!("{name} was read"),
            Err(error) => error.to_string(),
        };
        assert!(
            message.starts_with(&path.display().to_string()),
            "{message}"
        );
        for word in words.as_array().expect("a list") {
            assert!(
                message.contains(word.as_str().expect("text")),
                "{message}: no {word}"
            );
        }
    }
    for name in ["minari/goals-v0", "minari/goals-arrow-v0"] {
        let message = data::load_one(&fixture(name))
            .expect_err("dictionaries")
            .to_string();
        assert!(message.contains("is a dictionary"), "{message}");
        assert!(message.contains("desired_goal"), "{message}");
    }
}

#[test]
fn what_is_no_data_set_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "hello").expect("writes");
    for path in [&path, folder.path(), &folder.path().join("missing")] {
        assert!(data::load_one(path).is_err(), "{}", path.display());
    }
    for (start, words) in [
        (&b"\x93NUMPY\x01\0"[..], "np.savez"),
        (b"\x80\x04\x95", "pickle"),
        (b"PAR1", "Parquet"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"<!DOCTYPE html>", "page for browsers"),
    ] {
        std::fs::write(&path, start).expect("writes");
        let message = data::load_one(&path).expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    }
    assert!(data::load(&[]).is_err());
}

#[test]
fn every_type_of_numpy_is_read() {
    let arrays = read_npz(&fixture("types.npz")).expect("reads");
    let values = |name: &str| arrays[name].values.clone();
    assert_eq!(values("f2"), NpyValues::F32(vec![1.5, -2.0]));
    assert_eq!(values("f4"), NpyValues::F32(vec![0.1, -3.0]));
    assert_eq!(values("f8"), NpyValues::F64(vec![0.1, 1e300]));
    assert_eq!(values("i1"), NpyValues::I64(vec![-128, 127]));
    assert_eq!(values("i2"), NpyValues::I64(vec![-32768, 5]));
    assert_eq!(values("i4"), NpyValues::I64(vec![-7, 7]));
    assert_eq!(values("i8"), NpyValues::I64(vec![i64::MIN, i64::MAX]));
    assert_eq!(values("u1"), NpyValues::U64(vec![0, 255]));
    assert_eq!(values("u2"), NpyValues::U64(vec![65535]));
    assert_eq!(values("u4"), NpyValues::U64(vec![u64::from(u32::MAX)]));
    assert_eq!(values("u8"), NpyValues::U64(vec![u64::MAX]));
    assert_eq!(values("b"), NpyValues::Bool(vec![true, false]));
    assert_eq!(values("text"), NpyValues::Text(vec!["tanh".into()]));
    assert_eq!(
        (arrays["scalar"].shape.len(), arrays["scalar"].to_f32()),
        (0, vec![2.5])
    );
    assert_eq!(arrays["empty"].shape, [0, 3]);
    assert_eq!(arrays["fortran"].shape, [2, 3, 4]);
    let row_major: Vec<f64> = (0..24).map(f64::from).collect();
    assert_eq!(arrays["fortran"].to_f64(), row_major);
    assert_eq!(arrays["b"].to_f64(), [1.0, 0.0]);
    assert_eq!(arrays["f2"].to_bool(), [true, true]);
}

/// The same data, but for where it came from.
fn check_same(name: &str, found: &Dataset, expected: &Dataset) {
    assert_eq!(found.observations, expected.observations, "{name}");
    assert_eq!(found.actions, expected.actions, "{name}");
    assert_eq!(found.rewards, expected.rewards, "{name}");
    assert_eq!(found.episodes, expected.episodes, "{name}");
    assert_eq!(found.env_name, expected.env_name, "{name}");
    assert_eq!(found.observation_dim, expected.observation_dim, "{name}");
    assert_eq!(found.action_dim, expected.action_dim, "{name}");
}

#[test]
fn every_reader_and_writer_keep_the_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sources = expected();
    sources.remove("broken");
    for (number, name) in sources.keys().enumerate() {
        let original = data::load_one(&fixture(name)).expect("loads");
        for ending in [".hdf5", ".npz", ""] {
            let path = folder.path().join(format!("copy{number}{ending}"));
            data::convert(&fixture(name), &path).expect("converts");
            let copy = data::load_one(&path).expect("loads again");
            check_same(&format!("{name} as {}", path.display()), &copy, &original);
            if ending != ".npz" {
                assert_eq!(copy.reference_returns, original.reference_returns);
            }
        }
    }
    let left = std::fs::read_dir(folder.path()).expect("lists").flatten();
    let partial = left.filter(|entry| entry.path().to_string_lossy().contains("partial"));
    assert_eq!(partial.count(), 0);
}

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data::load_one(&fixture("stored.npz")).expect("loads");
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).expect("a folder");
    for name in [
        "taken",
        "data.csv",
        "no/such/folder.npz",
        "no/such/folder.hdf5",
    ] {
        assert!(
            data::save(&data, &folder.path().join(name)).is_err(),
            "{name}"
        );
    }
    assert_eq!(std::fs::read_dir(&taken).expect("lists").count(), 0);
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
}

#[test]
fn files_are_joined_and_must_fit_together() {
    let (d4rl, minari) = (fixture("d4rl.hdf5"), fixture("minari/arrow-v0"));
    let joined = data::load(&[d4rl.clone(), minari.clone()]).expect("joins");
    let (first, second) = (
        data::load_one(&d4rl).expect("loads"),
        data::load_one(&minari).expect("loads"),
    );
    assert_eq!(joined.steps(), 23 + 16);
    assert_eq!(joined.episodes.len(), 7);
    assert_eq!(joined.episodes[4].start, 23);
    assert_eq!(
        joined.returns(),
        [first.returns(), second.returns()].concat()
    );
    assert_eq!(joined.observation(23 + 15), second.observation(15));
    assert_eq!(joined.sources, [d4rl.clone(), minari]);
    // The environments differ: said, not mapped.
    assert!(
        joined
            .warnings
            .iter()
            .any(|w| w.contains("MountainCarContinuous-v0"))
    );
    let message = data::load(&[d4rl, fixture("starts.npz")])
        .expect_err("dims")
        .to_string();
    assert!(message.contains("can't be joined"), "{message}");
}

#[test]
fn without_timeouts_episodes_are_cut_as_d4rl_does_it() {
    let options = data::LoadOptions {
        max_episode_steps: Some(4),
        ..data::LoadOptions::default()
    };
    let path = fixture("d4rl_no_timeouts.hdf5");
    let data = data::load_with(&[path], &options).expect("loads");
    // Terminals at 4 and 15: 0..4 cut, 4..5 terminated, 5..9 and 9..13 cut, 13..16 terminated, ...
    let ends: Vec<(usize, bool, bool)> = data
        .episodes
        .iter()
        .map(|e| (e.steps, e.terminated, e.truncated))
        .collect();
    let (cut, end) = ((4, false, true), |steps| (steps, true, false));
    assert_eq!(
        ends,
        [cut, end(1), cut, cut, end(3), cut, (3, false, false)]
    );
    assert!(
        data.warnings
            .iter()
            .any(|warning| warning.contains("timeouts"))
    );
}

#[test]
fn the_summary_counts_an_open_episode_in_steps_only() {
    let info = data::info(&data::load_one(&fixture("d4rl.hdf5")).expect("loads"));
    assert_eq!(
        (info.episodes, info.unfinished_episodes, info.steps),
        (3, 1, 23)
    );
    assert_eq!((info.terminated, info.truncated), (2, 1));
    assert_eq!((info.observation_dim, info.action_dim), (3, 2));
    // Returns of rewards k/4 - 1: -2.5, 3.75, 12.75; numpy: mean 14/3, std 6.2594...
    assert_eq!(
        (info.return_min, info.return_max),
        (Some(-2.5), Some(12.75))
    );
    let near = |found: Option<f64>, expected: f64| {
        found.is_some_and(|found| (found - expected).abs() < 1e-9)
    };
    assert!(near(info.return_mean, 14.0 / 3.0), "{:?}", info.return_mean);
    assert!(
        near(info.return_std, 6.259_437_319_404_641),
        "{:?}",
        info.return_std
    );
    assert!(
        info.warnings
            .iter()
            .any(|warning| warning.contains("neither terminate nor"))
    );
    let json = serde_json::to_value(&info).expect("JSON");
    for key in [
        "episodes",
        "steps",
        "observation_dim",
        "action_dim",
        "return_mean",
        "return_std",
        "return_min",
        "return_max",
        "terminated",
        "truncated",
    ] {
        assert!(json[key].is_number(), "{key}");
    }
    let text = info.to_string();
    assert!(
        text.contains("3 and 1 without an end") && text.contains("Boxes-v4"),
        "{text}"
    );
}

#[test]
fn what_a_method_cannot_use_is_said() {
    let choices = data::load_one(&fixture("starts.npz")).expect("loads");
    let message = choices
        .require_continuous_actions("TD3+BC")
        .expect_err("discrete")
        .to_string();
    assert!(
        message.contains("4 choices") && message.contains("TD3+BC"),
        "{message}"
    );
    let mut open = data::load_one(&fixture("d4rl.hdf5")).expect("loads");
    assert!(open.require_returns("DT").is_ok());
    open.episodes
        .iter_mut()
        .for_each(|e| (e.terminated, e.truncated) = (false, false));
    let message = open
        .require_returns("DT")
        .expect_err("no returns")
        .to_string();
    assert!(message.contains("no episode is complete"), "{message}");
}

#[test]
fn oddities_become_warnings() {
    let mut data = data::load_one(&fixture("stored.npz")).expect("loads");
    data.observations
        .chunks_exact_mut(3)
        .for_each(|row| row[1] = 7.0);
    data.observations[3] = -1e30;
    data.actions[0] = -3.0;
    data.rewards.fill(0.5);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.npz");
    data::save(&data, &path).expect("saves");
    let warnings = data::load_one(&path).expect("loads").warnings.join("\n");
    for part in [
        "never change in column 1",
        "observations reach 1e30 (row 1, column 0)",
        "outside -1..1",
        "every reward is 0.5",
    ] {
        assert!(warnings.contains(part), "{warnings}");
    }
}

#[test]
fn actions_are_held_against_the_range_that_the_data_allows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bounds.npz");
    let mut data = data::load_one(&fixture("stored.npz")).expect("loads");
    let dims = data.action_dim;
    data.actions.fill(0.5);
    data.actions[0] = -2.0;
    data.action_bounds = Some((vec![-2.0; dims], vec![2.0; dims]));
    let mut warnings = |first: f32| {
        data.actions[0] = first;
        data::save(&data, &path).expect("saves");
        data::load_one(&path).expect("loads").warnings.join("\n")
    };
    let found = warnings(-2.0);
    assert!(!found.contains("outside"), "{found}");
    let found = warnings(-2.5);
    assert!(
        found.contains("outside the range that the data allows"),
        "{found}"
    );
    assert!(!found.contains("outside -1..1"), "{found}");
}

#[test]
fn a_copied_last_observation_is_not_taken_for_a_real_one() {
    let mut data = data::load_one(&fixture("stored.npz")).expect("loads");
    for index in 0..data.episodes.len() {
        let last = data
            .observation(data.episodes[index].range().end - 1)
            .into();
        data.episodes[index].final_observation = Some(last);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copied");
    data::save(&data, &path).expect("saves");
    let copied = data::load_one(&path).expect("loads");
    assert!(
        copied
            .episodes
            .iter()
            .all(|episode| episode.final_observation.is_none())
    );
    assert!(
        copied
            .warnings
            .iter()
            .any(|warning| warning.contains("copy"))
    );
}

/// A copy of a fixture, and the file in it that is damaged or taken apart.
pub fn copy_of(name: &str, folder: &Path) -> (PathBuf, PathBuf) {
    let file = match name {
        "minari/boxes-v0" => "data/main_data.hdf5",
        "minari/arrow-v0" => "data/1/part-0.arrow",
        _ => {
            let copy = folder.join(name);
            std::fs::copy(fixture(name), &copy).expect("copies");
            return (copy.clone(), copy);
        }
    };
    let source = fixture(name).join("data");
    for inner in ["", "0", "1", "2"] {
        let Ok(entries) = std::fs::read_dir(source.join(inner)) else {
            continue;
        };
        std::fs::create_dir_all(folder.join("data").join(inner)).expect("a folder");
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            let to = folder.join("data").join(inner).join(entry.file_name());
            std::fs::copy(entry.path(), to).expect("copies");
        }
    }
    (folder.to_path_buf(), folder.join(file))
}

/// The fixtures that are damaged on purpose, one per format and layout.
const FRAGILE: [&str; 6] = [
    "d4rl.hdf5",
    "d4rl_no_timeouts.hdf5",
    "stored.npz",
    "starts.npz",
    "minari/boxes-v0",
    "minari/arrow-v0",
];

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    for name in FRAGILE {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, file) = copy_of(name, folder.path());
        let whole = std::fs::read(&file).expect("reads");
        data::load_one(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        // All of the first bytes, then every 1/97 of the file.
        let places = (0..40).chain((0..97).map(|part| whole.len() * part / 97));
        for length in places {
            std::fs::write(&file, &whole[..length]).expect("writes");
            let found = data::load_one(&path);
            let message = found.err().map(|e| e.to_string());
            let message = message.unwrap_or_else(|| panic!("{name} was read from {length} bytes"));
            assert!(
                message.contains(&*folder.path().to_string_lossy()),
                "{message}"
            );
        }
    }
}

#[test]
fn a_file_with_changed_bytes_never_ends_the_program() {
    let mut rng = Rng::from_seed(5);
    for name in FRAGILE {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, file) = copy_of(name, folder.path());
        let whole = std::fs::read(&file).expect("reads");
        for _ in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..1 + rng.below(3) {
                let place = rng.below(damaged.len());
                damaged[place] = match rng.below(3) {
                    0 => 0xff,
                    1 => damaged[place] ^ (1 << rng.below(8)),
                    _ => rng.below(256) as u8,
                };
            }
            std::fs::write(&file, &damaged).expect("writes");
            // Either is right: not every byte matters. Data that was read is finite and consistent.
            if let Ok(data) = data::load_one(&path) {
                assert_eq!(data.observations.len(), data.steps() * data.observation_dim);
                assert!(data.observations.iter().all(|value| value.is_finite()));
                assert_eq!(
                    data.episodes.iter().map(|e| e.steps).sum::<usize>(),
                    data.steps()
                );
            }
        }
    }
}

#[test]
fn a_changed_number_in_an_archive_is_noticed_by_its_checksum() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("stored.npz");
    let mut bytes = std::fs::read(fixture("stored.npz")).expect("reads");
    // Observations come first, stored as they are: a name and two headers, then the numbers.
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    for message in [
        data::load_one(&path).expect_err("damaged").to_string(),
        read_npz(&path).expect_err("damaged").to_string(),
    ] {
        assert!(
            message.contains("`observations`") && message.contains("checksum"),
            "{message}"
        );
    }
}
