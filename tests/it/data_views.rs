//! Raw data in D4RL's layout becomes what D4RL's and CORL's own code makes of it (tests/golden/data_views.py): transitions,
//! next actions, normalisation, rewards; and where ours deviates, both numbers.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use trajformer::data::transitions::{
    RewardTransform, Transitions, TransitionsConfig, best_fraction,
};
use trajformer::data::{self, ActionBounds, Dataset};

use crate::golden::{Golden, relative_maximum};

/// Means, standard deviations and what is divided by them, of some hundred numbers, in f32 on either side.
const NORMALIZED_TOLERANCE: f64 = 2e-6;
/// Rewards in f32 after one product or sum in f32, or the quotient and product by which CORL scales them.
const REWARD_TOLERANCE: f64 = 1e-6;
/// Discounted sums of up to nine rewards, ours rounded to f32.
const RETURN_TOLERANCE: f64 = 1e-6;

struct View<'a> {
    golden: &'a Golden,
    name: String,
    data: Dataset,
}

impl View<'_> {
    fn expected(&self, key: &str) -> Tensor {
        self.golden.tensor(&format!("{}.{key}", self.name)).clone()
    }

    fn rows(&self, key: &str) -> Vec<usize> {
        let rows = self.golden.integers(&format!("{}.{key}", self.name));
        rows.into_iter().map(|row| row as usize).collect()
    }

    fn transitions(&self, config: &TransitionsConfig) -> Transitions {
        // Actions are in ±1 as they are.
        let bounds = ActionBounds::unit(self.data.action_dim, &Device::Cpu).unwrap();
        Transitions::new(&self.data, &bounds, config, &Device::Cpu).unwrap()
    }

    fn check(&self, key: &str, found: &Tensor, tolerance: f64) {
        let expected = self.expected(key).to_dtype(DType::F64).unwrap();
        let error = relative_maximum(found, &expected);
        assert!(
            error <= tolerance,
            "{}: {key} differs by {error:e}",
            self.name
        );
    }

    fn rewards(&self, rewards: RewardTransform) -> Tensor {
        self.transitions(&TransitionsConfig { rewards, ..raw() })
            .rewards()
            .clone()
    }
}

fn raw() -> TransitionsConfig {
    TransitionsConfig {
        normalize_observations: false,
        ..TransitionsConfig::default()
    }
}

fn views(golden: &Golden) -> Vec<View<'_>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data_views");
    let names = golden.constants["names"].as_array().unwrap();
    let view = |name: &serde_json::Value| {
        let name = name.as_str().unwrap().to_owned();
        let mut data = data::load(&[folder.join(format!("{name}.hdf5"))]).unwrap();
        // D4RL's view is for D4RL's own files, which are known by their names.
        (data.sources, data.env_name) = (vec!["hopper-medium.hdf5".into()], None);
        View { golden, name, data }
    };
    names.iter().map(view).collect()
}

#[test]
fn transitions_are_d4rls_whatever_ends_episodes_and_the_data() {
    for view in views(&Golden::load("data_views")) {
        let found = view.transitions(&TransitionsConfig {
            next_actions: true,
            ..raw()
        });
        view.check("observations", found.observations(), 0.0);
        view.check("actions", found.actions(), 0.0);
        view.check("rewards", found.rewards(), 0.0);
        view.check("terminals", found.terminated(), 0.0);
        view.check("next_observations", found.next_observations(), 0.0);
        view.check("next_actions", found.next_actions().unwrap(), 0.0);
        let without = view.transitions(&raw());
        view.check("observations", without.observations(), 0.0);
    }
}

#[test]
fn observations_are_normalized_as_corl_does() {
    for view in views(&Golden::load("data_views")) {
        let found = view.transitions(&TransitionsConfig::default());
        view.check("normalized", found.observations(), NORMALIZED_TOLERANCE);
        view.check(
            "next_normalized",
            found.next_observations(),
            NORMALIZED_TOLERANCE,
        );
        let normalizer = found.normalizer();
        view.check(
            "mean",
            &normalizer.mean().flatten_all().unwrap(),
            NORMALIZED_TOLERANCE,
        );
        view.check(
            "deviation",
            &normalizer.scale().flatten_all().unwrap(),
            NORMALIZED_TOLERANCE,
        );
    }
}

#[test]
fn rewards_of_mazes_are_changed_as_corl_does() {
    for view in views(&Golden::load("data_views")) {
        for (key, transform) in [
            ("rewards.antmaze", RewardTransform::Shift(-1.0)),
            (
                "rewards.affine",
                RewardTransform::Affine {
                    scale: 10.0,
                    shift: -5.0,
                },
            ),
            ("rewards.scale", RewardTransform::Scale(100.0)),
        ] {
            view.check(key, &view.rewards(transform), REWARD_TOLERANCE);
        }
    }
}

/// Ours is the true range; CORL's and IQL's authors' come from the view without the steps of time-outs, which they cut
/// differently. Where every episode terminates, all agree.
#[test]
fn rewards_are_scaled_by_the_range_of_true_episodes_and_as_corl_does_where_all_terminate() {
    for view in views(&Golden::load("data_views")) {
        let range = |who: &str| {
            let range = view.golden.numbers(&format!("{}.range.{who}", view.name));
            range[1] - range[0]
        };
        let found = view.rewards(RewardTransform::ReturnRange);
        let raw = view.expected("rewards");
        let ours = (raw * (1000.0 / range("episodes"))).unwrap();
        let error = relative_maximum(&found, &ours);
        assert!(error <= REWARD_TOLERANCE, "{}: {error:e}", view.name);
        for who in ["corl", "iql"] {
            let key = format!("rewards.{who}");
            if view.name == "terminals" {
                view.check(&key, &found, REWARD_TOLERANCE);
                continue;
            }
            let theirs = relative_maximum(&found, &view.expected(&key));
            let expected = (range(who) / range("episodes") - 1.0).abs();
            assert!(
                (theirs - expected).abs() < 1e-4,
                "{}: {who} {theirs} {expected}",
                view.name
            );
        }
        if view.name != "terminals" {
            // The deviation that `RewardTransform::ReturnRange` states is one.
            assert!(
                (range("corl") / range("episodes") - 1.0).abs() > 0.01,
                "{}",
                view.name
            );
        }
    }
}

/// CORL keeps rows of D4RL's view, ours true episodes of the raw data: where all terminate they are the same rows, but for the
/// data's last one, which the view lacks.
#[test]
fn the_best_episodes_are_true_ones_and_corls_where_all_terminate() {
    let golden = Golden::load("data_views");
    let fractions = golden.constants["fractions"].as_array().unwrap();
    for view in views(&golden) {
        for fraction in fractions {
            let fraction = fraction.as_str().unwrap();
            let key = format!("kept.{fraction}");
            let ours = best_fraction(&view.data, fraction.parse().unwrap()).unwrap();
            let width = view.data.observation_dim;
            let of_rows = |rows: &[usize]| -> Vec<f32> {
                rows.iter()
                    .flat_map(|&row| view.data.observation(row)[..width].to_vec())
                    .collect()
            };
            let rows = view.rows(&format!("{key}.episodes"));
            assert_eq!(
                ours.observations,
                of_rows(&rows),
                "{} {fraction}",
                view.name
            );
            let theirs = view.rows(&format!("{key}.corl"));
            if view.name == "terminals" {
                let seen: Vec<usize> = rows
                    .into_iter()
                    .filter(|row| row + 1 < view.data.steps())
                    .collect();
                // Without its last row CORL's last episode is no episode.
                let last = view.data.episodes.last().unwrap().range();
                let seen: Vec<usize> = seen.into_iter().filter(|row| !last.contains(row)).collect();
                assert_eq!(theirs, seen, "{fraction}");
            }
        }
    }
}

/// Where the data's episodes terminate a return is whole. Elsewhere CORL takes what it sees of it; ours is not known until the
/// discount has made the rest small.
#[test]
fn returns_reached_are_corls_where_they_are_known() {
    let golden = Golden::load("data_views");
    for view in views(&golden) {
        let config = TransitionsConfig {
            monte_carlo_returns: true,
            returns_discount: golden.number("discount"),
            ..raw()
        };
        let transitions = view.transitions(&config);
        let rows: Vec<u32> = (0..transitions.len() as u32).collect();
        let found = transitions
            .gather(&rows)
            .unwrap()
            .monte_carlo_returns
            .unwrap();
        let found = found.to_vec1::<f32>().unwrap();
        let theirs = golden.numbers(&format!("{}.reached", view.name));
        let episodes = transitions.episodes(&view.data);
        let mut known = 0;
        for ((found, theirs), episode) in found.iter().zip(&theirs).zip(episodes) {
            let episode = &view.data.episodes[episode];
            // The last episode lacks its last row in CORL's view.
            let last = episode.range().end == view.data.steps();
            if episode.terminated && !episode.truncated && !last {
                assert!(
                    (f64::from(*found) - theirs).abs() <= RETURN_TOLERANCE * theirs.abs().max(1.0),
                    "{}",
                    view.name
                );
                known += 1;
            } else if !episode.terminated {
                assert_eq!(*found, f32::MIN, "{}", view.name);
            }
        }
        assert!(known > 20, "{}: {known}", view.name);
    }
}
