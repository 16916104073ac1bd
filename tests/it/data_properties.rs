//! Properties of the readers on random data: every format gives back what was written, and what a file says about each
//! row is what learning gets, in whatever order the rows lie.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use hdf5_pure::FileBuilder;
use proptest::prelude::*;
use trajformer::data::{
    self, ActionBounds, ActionKind, Dataset, Episode, Transitions, TransitionsConfig,
};

/// Random cases of one property: enough to see each layout many times, in a second.
const CASES: u32 = 48;

/// One step: observation, action, reward, what came next, ends.
#[derive(Debug, Clone)]
struct Row {
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: f32,
    next: Vec<f32>,
    terminated: bool,
    truncated: bool,
}

/// Numbers that every format keeps, none of them twice: the hundreds are the row's.
fn walk(dim: usize, from: usize, steps: usize) -> Vec<Vec<f32>> {
    let number = |step: usize, column: usize| ((from + step) * 128 + column) as f32 / 8.0;
    let row = |step| (0..dim).map(|column| number(step, column)).collect();
    (0..=steps).map(row).collect()
}

/// Episodes as rows in time order: how long each is, and how it ends.
fn rows(dim: usize, action_dim: usize, episodes: &[(usize, bool, bool)]) -> Vec<Row> {
    let (mut rows, mut from) = (Vec::new(), 0);
    for &(steps, terminated, truncated) in episodes {
        let states = walk(dim, from, steps);
        for step in 0..steps {
            let last = step + 1 == steps;
            let place = (from + step) as f32;
            rows.push(Row {
                observation: states[step].clone(),
                action: (0..action_dim).map(|a| (place + a as f32).sin()).collect(),
                reward: place * 0.25 - 3.0,
                next: states[step + 1].clone(),
                terminated: last && terminated,
                truncated: last && truncated,
            });
        }
        from += steps + 1;
    }
    rows
}

fn episodes() -> impl Strategy<Value = Vec<(usize, bool, bool)>> {
    proptest::collection::vec((1usize..7, any::<bool>(), any::<bool>()), 1..8)
}

/// Writes rows as they lie, as an HDF5 file in D4RL's layout: chunks of any size, deflated or not.
fn write_hdf5(path: &Path, rows: &[Row], chunk: usize, packed: bool) {
    let mut builder = FileBuilder::new();
    let count = rows.len() as u64;
    let chunk = (chunk as u64).min(count);
    let mut add = |name: &str, values: Vec<f32>, width: u64| {
        let dataset = builder.create_dataset(name).with_f32_data(&values);
        dataset
            .with_shape(&[count, width])
            .with_chunks(&[chunk, width]);
        if packed {
            dataset.with_shuffle().with_deflate(4);
        }
    };
    let all =
        |part: fn(&Row) -> &Vec<f32>| -> Vec<f32> { rows.iter().flat_map(part).copied().collect() };
    let (dim, action_dim) = (
        rows[0].observation.len() as u64,
        rows[0].action.len() as u64,
    );
    add("observations", all(|row| &row.observation), dim);
    add("next_observations", all(|row| &row.next), dim);
    add("actions", all(|row| &row.action), action_dim);
    add("rewards", rows.iter().map(|row| row.reward).collect(), 1);
    let flags = |flag: fn(&Row) -> bool| {
        rows.iter()
            .map(|row| f32::from(u8::from(flag(row))))
            .collect()
    };
    add("terminals", flags(|row| row.terminated), 1);
    add("timeouts", flags(|row| row.truncated), 1);
    builder.write(path).expect("writes");
}

/// The same as npz.
fn write_npz(path: &Path, rows: &[Row], fortran: bool) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).expect("a file"));
    let mut add = |name: &str, values: Vec<f32>, width: usize| {
        let count = rows.len();
        let mut header = format!(
            "{{'descr': '<f4', 'fortran_order': {}, 'shape': ({count}, {width}), }}",
            if fortran { "True" } else { "False" }
        );
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let place = |k: usize| {
            if fortran {
                k % count * width + k / count
            } else {
                k
            }
        };
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend((0..values.len()).flat_map(|k| values[place(k)].to_le_bytes()));
        let options = zip::write::SimpleFileOptions::default();
        archive
            .start_file(format!("{name}.npy"), options)
            .expect("starts");
        std::io::Write::write_all(&mut archive, &bytes).expect("writes");
    };
    let all =
        |part: fn(&Row) -> &Vec<f32>| -> Vec<f32> { rows.iter().flat_map(part).copied().collect() };
    let (dim, action_dim) = (rows[0].observation.len(), rows[0].action.len());
    add("obs", all(|row| &row.observation), dim);
    add("next_observations", all(|row| &row.next), dim);
    add("actions", all(|row| &row.action), action_dim);
    add("rewards", rows.iter().map(|row| row.reward).collect(), 1);
    let flags = |flag: fn(&Row) -> bool| {
        rows.iter()
            .map(|row| f32::from(u8::from(flag(row))))
            .collect()
    };
    add("terminations", flags(|row| row.terminated), 1);
    add("truncations", flags(|row| row.truncated), 1);
    archive.finish().expect("finishes");
}

/// A row without its order: bits of observation, action, reward, next observation (none after an end), end.
type Fact = (Vec<u32>, Vec<u32>, u32, Option<Vec<u32>>, bool);

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// What value-based methods learn from, as a bag.
fn learned(data: &Dataset, keep_truncations: bool) -> BTreeMap<Fact, usize> {
    let config = TransitionsConfig {
        normalize_observations: false,
        keep_truncations,
        ..TransitionsConfig::default()
    };
    // Actions are in ±1 as they are.
    let bounds = ActionBounds::unit(data.action_dim, &Device::Cpu).expect("bounds");
    let Ok(view) = Transitions::new(data, &bounds, &config, &Device::Cpu) else {
        return BTreeMap::new();
    };
    let table = |tensor: &candle_core::Tensor| tensor.to_vec2::<f32>().expect("rows");
    let column = |tensor: &candle_core::Tensor| tensor.to_vec1::<f32>().expect("numbers");
    let (now, acts, next) = (
        table(view.observations()),
        table(view.actions()),
        table(view.next_observations()),
    );
    let (rewards, ends) = (column(view.rewards()), column(view.terminated()));
    let mut facts = BTreeMap::new();
    for row in 0..view.len() {
        let ended = ends[row] == 1.0;
        let after = (!ended).then(|| bits(&next[row]));
        let fact = (
            bits(&now[row]),
            bits(&acts[row]),
            rewards[row].to_bits(),
            after,
            ended,
        );
        *facts.entry(fact).or_insert(0) += 1;
    }
    facts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_row_is_learned_from_with_its_own_next_observation_in_whatever_order_rows_lie(
        dim in 1usize..4,
        action_dim in 1usize..3,
        episodes in episodes(),
        order in any::<u64>(),
        blocks in 1usize..9,
        (hdf5, chunk, flag) in (any::<bool>(), 1usize..20, any::<bool>()),
    ) {
        let truth = rows(dim, action_dim, &episodes);
        // Blocks of rows in random order: single rows, stretches, or all of them as they were.
        let mut shuffled: Vec<&[Row]> = truth.chunks(if blocks == 8 { truth.len() } else { blocks }).collect();
        let mut rng = trajformer::rng::Rng::from_seed(order);
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, rng.below(index + 1));
        }
        let lying: Vec<Row> = shuffled.concat();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows");
        if hdf5 { write_hdf5(&path, &lying, chunk, flag) } else { write_npz(&path, &lying, flag) }
        let data = data::load_one(&path).expect("loads");
        prop_assert_eq!(data.steps(), truth.len());
        let found = learned(&data, true);
        let mut expected = BTreeMap::new();
        for row in &truth {
            // Of a file that one shifted copy can't be told from, the last observation is not used.
            let after = (!row.terminated).then(|| bits(&row.next));
            let fact = (bits(&row.observation), bits(&row.action), row.reward.to_bits(), after, row.terminated);
            *expected.entry(fact).or_insert(0) += 1;
        }
        prop_assert_eq!(&found, &expected);
        // No return that no episode had.
        let mut true_returns: Vec<f64> = Vec::new();
        let mut rest = &truth[..];
        for &(steps, terminated, truncated) in &episodes {
            let (episode, others) = rest.split_at(steps);
            let sum = episode.iter().map(|row| f64::from(row.reward)).sum();
            if terminated || truncated {
                true_returns.push(sum);
            }
            rest = others;
        }
        for found in data.returns() {
            prop_assert!(true_returns.contains(&found), "{} is the return of no episode", found);
        }
    }

    #[test]
    fn every_format_gives_back_what_was_written(
        dim in 1usize..4,
        action_dim in 1usize..3,
        discrete in any::<bool>(),
        episodes in episodes(),
        marks in proptest::collection::vec((any::<bool>(), any::<bool>(), 0usize..3), 8),
        bounded in any::<bool>(),
    ) {
        let action_dim = if discrete { 1 } else { action_dim };
        let truth = rows(dim, action_dim, &episodes);
        let mut start = 0;
        let mut list = Vec::new();
        for (&(steps, terminated, truncated), &(known, fragment, text)) in episodes.iter().zip(&marks) {
            let end = start + steps - 1;
            list.push(Episode {
                start,
                steps,
                terminated,
                truncated,
                final_observation: known.then(|| truth[end].next.clone().into_boxed_slice()),
                instruction: ["", "go left", "open the door"].get(text).filter(|t| !t.is_empty()).map(|&t| Arc::from(t)),
                fragment,
            });
            start += steps;
        }
        let actions = truth.iter().enumerate().flat_map(|(i, row)| if discrete { vec![(i % 4) as f32] } else { row.action.clone() });
        let data = Dataset {
            observation_dim: dim,
            action_dim,
            action_kind: if discrete { ActionKind::Discrete { count: truth.len().min(4) } } else { ActionKind::Continuous },
            observations: truth.iter().flat_map(|row| row.observation.clone()).collect(),
            actions: actions.collect(),
            rewards: truth.iter().map(|row| row.reward).collect(),
            episodes: list,
            env_name: Some("Walk-v3".to_owned()),
            reference_returns: None,
            action_bounds: (bounded && !discrete).then(|| (vec![-2.5; action_dim], vec![1.5; action_dim])),
            sources: Vec::new(),
            warnings: Vec::new(),
        };
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.hdf5", "a.npz", "a-v0"] {
            let path = folder.path().join(name);
            data::save(&data, &path).expect("saves");
            let copy = data::load_one(&path).expect("loads");
            prop_assert_eq!(&copy.observations, &data.observations, "{}", name);
            prop_assert_eq!(&copy.actions, &data.actions, "{}", name);
            prop_assert_eq!(&copy.rewards, &data.rewards, "{}", name);
            prop_assert_eq!(&copy.episodes, &data.episodes, "{}", name);
            prop_assert_eq!(copy.action_kind, data.action_kind, "{}", name);
            if bounded && !discrete {
                prop_assert_eq!(&copy.action_bounds, &data.action_bounds, "{}", name);
            }
        }
    }
}
