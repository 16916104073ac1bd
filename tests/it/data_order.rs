//! Data whose rows, ends, keys or bounds need more than the usual arrays: what becomes of them in runs.

use std::fs;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use trajformer::config::RunConfig;
use trajformer::data::{self, Dataset, LoadOptions};
use trajformer::run;

/// A run of behavior cloning's smallest kind on `path`, and its folder.
fn train(
    folder: &Path,
    algorithm: &str,
    path: &Path,
    more: &[&str],
) -> trajformer::error::Result<PathBuf> {
    let text = format!("[algorithm.{algorithm}]\n");
    let mut overrides = vec![
        format!("data.path={}", path.display()),
        "train.updates=2".to_owned(),
        "evaluate.episodes=0".to_owned(),
    ];
    overrides.extend(more.iter().map(|text| (*text).to_owned()));
    let config = RunConfig::parse(&text)?.with_overrides(&overrides)?;
    let out = folder.join(format!("run-{algorithm}-{}", more.len()));
    let _ = std::fs::remove_dir_all(&out);
    run::start(&config, &out)?;
    Ok(out)
}

/// Twenty episodes of fifty steps whose rows lie in any order, as a replay buffer is saved; and the last numbers of each.
fn shuffled(folder: &Path) -> PathBuf {
    let mut rng = trajformer::rng::Rng::from_seed(7);
    let mut data = Dataset {
        action_bounds: None,
        ..data::load_one(&fixture("stored.npz")).expect("loads")
    };
    let mut places: Vec<usize> = (0..1000).collect();
    for index in (1..places.len()).rev() {
        places.swap(index, rng.below(index + 1));
    }
    let state = |row: usize, after: usize| -> Vec<f32> {
        let (episode, step) = (row / 50, row % 50 + after);
        (0..3)
            .map(|c| ((episode * 60 + step) * 3 + c) as f32 / 8.0)
            .collect()
    };
    data.observations = places.iter().flat_map(|&row| state(row, 0)).collect();
    data.actions = places
        .iter()
        .flat_map(|&row| [row as f32 / 1000.0, 0.0])
        .collect();
    data.rewards = places.iter().map(|&row| row as f32).collect();
    data.episodes = places
        .iter()
        .enumerate()
        .map(|(place, &row)| data::Episode {
            terminated: row % 50 == 49,
            final_observation: Some(state(row, 1).into_boxed_slice()),
            ..data::Episode::new(place, 1)
        })
        .collect();
    let path = folder.join("replay.npz");
    data::save(&data, &path).expect("saves");
    without(&path, "episode_parts.npy");
    path
}

/// Removes one array from an archive.
pub fn without(path: &Path, array: &str) {
    let bytes = std::fs::read(path).expect("reads");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("an archive");
    let mut copy = zip::ZipWriter::new(std::fs::File::create(path).expect("a file"));
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).expect("an entry");
        if entry.name().expect("a name") != array {
            copy.raw_copy_file(entry).expect("copies");
        }
    }
    copy.finish().expect("finishes");
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/data")
        .join(name)
}

#[test]
fn a_shuffled_replay_buffer_trains_what_needs_no_order_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = shuffled(folder.path());
    let data = data::load_one(&path).expect("loads");
    assert_eq!((data.returns().len(), data.steps()), (0, 1000));
    let said = data.warnings.join("\n");
    assert!(
        said.contains("of 1000 rows are not the observation of the row after them"),
        "{said}"
    );
    for algorithm in ["td3_bc", "bc"] {
        train(folder.path(), algorithm, &path, &[]).expect("trains");
    }
    for (algorithm, word) in [
        ("decision_transformer", "no episode is whole"),
        ("trajectory_transformer", "in the order of time"),
        ("tap", "in the order of time"),
        ("fast", "in the order of time"),
        ("rebrac", "in the order of time"),
    ] {
        let keys: &[&str] = match algorithm {
            "tap" => &["algorithm.tap.autoencoder_updates=1"],
            _ => &[],
        };
        let error = train(folder.path(), algorithm, &path, keys)
            .expect_err(algorithm)
            .to_string();
        assert!(
            error.contains(word) && error.contains("replay.npz"),
            "{algorithm}: {error}"
        );
    }
    // The best tenth needs returns; none is made up.
    let best = train(folder.path(), "bc", &path, &["algorithm.bc.fraction=0.1"]);
    assert!(
        best.expect_err("no returns")
            .to_string()
            .contains("no episode is whole")
    );
}

#[test]
fn a_run_takes_the_range_of_actions_that_minari_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut data = data::load_one(&fixture("stored.npz")).expect("loads");
    data.action_bounds = Some((vec![-2.0, 0.0], vec![2.0, f32::INFINITY]));
    let path = folder.path().join("bounded-v0");
    data::save(&data, &path).expect("saves");
    let read = data::load_one(&path).expect("loads");
    assert_eq!(read.action_bounds, data.action_bounds);
    let bounds = |more: &[&str]| {
        let run = train(folder.path(), "bc", &path, more).expect("trains");
        let spec = run::open(&run, &[]).expect("opens").spec;
        (spec.action_low, spec.action_high)
    };
    // The second has a lower bound only: as if it had none.
    assert_eq!(bounds(&[]), (vec![-2.0, -1.0], vec![2.0, 1.0]));
    let chosen = bounds(&["data.action_range=[-3.0, 3.0]"]);
    assert_eq!(chosen, (vec![-3.0; 2], vec![3.0; 2]));
}

#[test]
fn files_with_other_ranges_of_actions_are_joined_to_the_range_that_holds_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut data = data::load_one(&fixture("stored.npz")).expect("loads");
    let mut paths = Vec::new();
    for (name, low, high) in [
        ("a.npz", -1.0, 0.5),
        ("b.hdf5", -0.5, 2.0),
        ("c.npz", -1.0, 0.5),
    ] {
        data.action_bounds = Some((vec![low; 2], vec![high; 2]));
        paths.push(folder.path().join(name));
        data::save(&data, &paths[paths.len() - 1]).expect("saves");
    }
    let joined = data::load(&paths[..2]).expect("joins");
    assert_eq!(joined.action_bounds, Some((vec![-1.0; 2], vec![2.0; 2])));
    assert!(
        joined
            .warnings
            .iter()
            .any(|w| w.contains("range of actions"))
    );
    let same = data::load(&[paths[0].clone(), paths[2].clone()]).expect("joins");
    assert!(!same.warnings.iter().any(|w| w.contains("range of actions")));
    let twice = data::load(&[paths[0].clone(), paths[0].clone()]).expect("joins");
    assert!(twice.warnings.iter().any(|w| w.contains("given twice")));
}

#[test]
fn keys_and_columns_of_a_configuration_reach_its_readers() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["minari/goals-v0", "minari/goals-arrow-v0"] {
        let path = fixture(name);
        let keys = "data.observation_keys=[\"observation\", \"desired_goal\"]";
        let run = train(
            folder.path(),
            "bc",
            &path,
            &[keys, "data.observation_columns=\"1..5\""],
        )
        .expect("trains");
        assert_eq!(run::open(&run, &[]).expect("opens").spec.observation_dim, 4);
        let error = train(folder.path(), "bc", &path, &[])
            .expect_err("a dictionary")
            .to_string();
        assert!(
            error.contains("data.observation_keys = [\"observation\", \"desired_goal\"]"),
            "{error}"
        );
        let wrong = LoadOptions {
            observation_keys: vec!["achieved".to_owned()],
            ..LoadOptions::default()
        };
        let error = data::load_with(&[path], &wrong)
            .expect_err("no such key")
            .to_string();
        assert!(
            error.contains("`achieved`") && error.contains("`desired_goal`"),
            "{error}"
        );
    }
    let columns = LoadOptions {
        observation_columns: Some("0..4".parse().expect("columns")),
        ..LoadOptions::default()
    };
    let error = data::load_with(&[fixture("stored.npz")], &columns)
        .expect_err("3 columns")
        .to_string();
    assert!(error.contains("0..3"), "{error}");
    let keys = LoadOptions {
        observation_keys: vec!["a".to_owned()],
        ..LoadOptions::default()
    };
    for name in [
        "stored.npz",
        "d4rl.hdf5",
        "minari/boxes-v0",
        "minari/arrow-v0",
    ] {
        let error = data::load_with(&[fixture(name)], &keys)
            .expect_err("plain")
            .to_string();
        assert!(
            error.contains("plain") && error.contains("observation_keys"),
            "{error}"
        );
    }
}

#[test]
fn rows_of_zeros_at_the_end_are_mentioned() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut data = data::load_one(&fixture("stored.npz")).expect("loads");
    data.observations[20 * 3..].fill(0.0);
    data.actions[20 * 2..].fill(0.0);
    data.rewards[20..].fill(0.0);
    data.episodes
        .iter_mut()
        .for_each(|e| e.final_observation = None);
    let path = folder.path().join("buffer.npz");
    data::save(&data, &path).expect("saves");
    let warnings = data::load_one(&path).expect("loads").warnings;
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("the last 3 rows are zero")),
        "{warnings:?}"
    );
}

#[test]
fn a_fragment_is_no_start_to_judge_a_policy_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = shuffled(folder.path());
    let run = train(folder.path(), "bc", &path, &[]).expect("trains");
    let config = trajformer::fqe::FqeConfig {
        updates: 2,
        ..Default::default()
    };
    let error = run::judge(&run, &[], &path, &config)
        .expect_err("no starts")
        .to_string();
    assert!(error.contains("known to be an episode's first"), "{error}");
}

/// A file of these observations and of what followed each, in which nothing marks an end.
fn unmarked(folder: &Path, rows: &[(Vec<f32>, Vec<f32>)]) -> Dataset {
    let mut data = Dataset::blank(rows[0].0.len(), 1);
    data.observations = rows.iter().flat_map(|row| row.0.clone()).collect();
    data.actions = (0..rows.len()).map(|row| (row % 7) as f32 / 7.0).collect();
    data.rewards = vec![1.0; rows.len()];
    let episode = |(start, row): (usize, &(Vec<f32>, Vec<f32>))| data::Episode {
        final_observation: Some(row.1.clone().into_boxed_slice()),
        ..data::Episode::new(start, 1)
    };
    data.episodes = rows.iter().enumerate().map(episode).collect();
    let path = folder.join("unmarked.npz");
    data::save(&data, &path).expect("saves");
    without(&path, "episode_parts.npy");
    data::load_one(&path).expect("loads")
}

/// After which rows it is cut: all but the last one.
fn cuts(data: &Dataset) -> Vec<usize> {
    let ends = data.episodes.iter().map(|episode| episode.range().end - 1);
    ends.filter(|&row| row + 1 < data.steps()).collect()
}

/// A walk of two numbers, as pairs of what was seen and what followed.
fn walk(steps: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
    let rng = &mut trajformer::rng::Rng::from_seed(3);
    let mut at = vec![0.1f32, -0.3];
    let mut rows = Vec::new();
    for _ in 0..steps {
        let next: Vec<f32> = at.iter().map(|x| x + rng.normal() as f32).collect();
        rows.push((at, next.clone()));
        at = next;
    }
    rows
}

#[test]
fn what_followed_is_what_the_file_says_wherever_the_next_row_is_something_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |rows: &[(Vec<f32>, Vec<f32>)], what: &str| {
        let apart = |&row: &usize| rows[row].1 != rows[row + 1].0;
        let expected: Vec<usize> = (0..rows.len() - 1).filter(apart).collect();
        let data = unmarked(folder.path(), rows);
        assert!(expected.len() > 20 && cuts(&data) == expected, "{what}");
        for row in expected {
            let episode = data.episodes.iter().find(|e| e.range().end - 1 == row);
            let found = episode.and_then(|e| e.final_observation.as_deref());
            assert_eq!(found, Some(&rows[row].1[..]), "{what}, row {row}");
        }
    };
    // Cells of a corridor: no episode begins at its end, and none comes back to its start.
    let cell = |at: usize| (0..5).map(|i| f32::from(u8::from(i == at))).collect();
    let corridor: Vec<_> = (0..100)
        .map(|row| (cell(row % 4), cell(row % 4 + 1)))
        .collect();
    check(&corridor, "cells");
    // Time that hardly moves, with every second row left out, or backwards.
    let point = |t: usize| vec![(t as f32 / 400.0).sin(), (t as f32 / 400.0).cos()];
    let holes: Vec<_> = (0..2000)
        .map(|row| (point(2 * row), point(2 * row + 1)))
        .collect();
    check(&holes, "rows left out");
    let backwards: Vec<_> = (0..2000).rev().map(|t| (point(t), point(t + 1))).collect();
    check(&backwards, "backwards");
    // A row that exploded says nothing of the others.
    let mut shuffled = walk(500);
    let rng = &mut trajformer::rng::Rng::from_seed(4);
    (1..shuffled.len())
        .rev()
        .for_each(|row| shuffled.swap(row, rng.below(row + 1)));
    shuffled[250].0 = vec![1e6, 1e6];
    check(&shuffled, "an exploded row");
}

#[test]
fn copies_that_are_cut_off_or_rounded_are_copies_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = walk(400);
    assert!(cuts(&unmarked(folder.path(), &rows)).is_empty());
    let change = |to: fn(f32) -> f32| -> Vec<(Vec<f32>, Vec<f32>)> {
        let copy = |next: &Vec<f32>| next.iter().map(|&x| to(x)).collect();
        rows.iter()
            .map(|(seen, next)| (seen.clone(), copy(next)))
            .collect()
    };
    let cut_off = change(|x| x.clamp(-3.3, 3.3));
    assert!(cut_off != rows);
    assert!(cuts(&unmarked(folder.path(), &cut_off)).is_empty());
    let halves = change(|x| f32::from_bits((x.to_bits() + 0x1000) & !0x1fff));
    assert!(cuts(&unmarked(folder.path(), &halves)).is_empty());
    let normalized = change(|x| (x - 5.1) / 2.7 * 2.7 + 5.1);
    assert!(cuts(&unmarked(folder.path(), &normalized)).is_empty());
}

#[test]
fn the_parts_of_an_episode_follow_each_other_by_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let (copy, part) = crate::data::copy_of("minari/arrow-v0", folder.path());
    let file = fs::File::open(&part).expect("a part");
    let reader = FileReader::try_new(file, None).expect("an Arrow file");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("rows")).collect();
    let [batch] = &batches[..] else {
        panic!("{} batches", batches.len());
    };
    assert!(batch.num_rows() > 4);
    // Sorted as text, parts 10 and 11 would come before part 2.
    for (row, number) in (0..batch.num_rows()).zip([0, 1, 2, 10, 11, 12, 13]) {
        let path = part.with_file_name(format!("part-{number}.arrow"));
        let file = fs::File::create(path).expect("a part");
        let mut writer = FileWriter::try_new(file, &batch.schema()).expect("a part");
        writer.write(&batch.slice(row, 1)).expect("a row");
        writer.finish().expect("a part");
    }
    let load = |path: &Path| data::load_one(path).expect("loads");
    let (found, expected) = (load(&copy), load(&fixture("minari/arrow-v0")));
    assert_eq!(found.observations, expected.observations);
    assert_eq!(found.actions, expected.actions);
    assert_eq!(found.rewards, expected.rewards);
}
