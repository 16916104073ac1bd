//! Which steps of a data set have a place among its transitions, and what follows them.
//!
//! Every step but an episode's last is kept, with the next row as its next observation. Last steps:
//!
//! | last step | by default | with `keep_truncations` | in D4RL's own files |
//! |---|---|---|---|
//! | terminated, whether truncated too or not | kept | kept | lost if truncated too, or the last row |
//! | truncated, or the file stops | left out | kept where the observation after it is known | left out |
//! | cut: no end, but the next row is not what followed | kept with the file's `next_observations` | kept | kept |
//!
//! What terminated has no future, so that nothing need be known of what follows. The last column is D4RL's
//! `qlearning_dataset` (d4rl/\_\_init\_\_.py), which reported results were made with; it is meant for its own HDF5
//! files, known by their names ([`is_d4rls`]). For BC, which needs no next step, every step is kept but there.

use crate::transitions_config::TransitionsConfig;
use trajformer_core::dataset::{Dataset, Episode};

/// A step that has a place among the transitions.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    /// Its number in the data.
    pub step: usize,
    /// What followed (O); arbitrary where terminated.
    pub next_observation: &'a [f32],
    /// Whether the environment ended the episode there.
    pub terminated: bool,
}

/// The steps that are kept, in order.
pub(super) fn kept_steps<'a>(data: &'a Dataset, config: &TransitionsConfig) -> Vec<Kept<'a>> {
    let d4rls = is_d4rls(data);
    let mut kept = Vec::with_capacity(data.steps());
    for episode in &data.episodes {
        let last = episode.start + episode.steps - 1;
        for step in episode.start..last {
            kept.push(Kept {
                step,
                next_observation: data.observation(step + 1),
                terminated: false,
            });
        }
        if let Some(next_observation) = after_last(data, episode, config, d4rls) {
            kept.push(Kept {
                step: last,
                next_observation,
                terminated: episode.terminated,
            });
        }
    }
    kept
}

/// What follows the last step of an episode, if that is kept.
fn after_last<'a>(
    data: &'a Dataset,
    episode: &'a Episode,
    config: &TransitionsConfig,
    d4rls: bool,
) -> Option<&'a [f32]> {
    let last = episode.start + episode.steps - 1;
    let known = episode.final_observation.as_deref();
    let next_row = (last + 1 < data.steps()).then(|| data.observation(last + 1));
    let arbitrary = || known.or(next_row).unwrap_or(data.observation(last));
    if episode.terminated {
        if d4rls && !config.keep_truncations {
            next_row.filter(|_| !episode.truncated)
        } else {
            Some(arbitrary())
        }
    } else if config.keep_truncations && !config.next_actions {
        known
    } else if !episode.has_end() && !config.next_actions {
        // Cut where the next row is another observation than the one that followed: that one is taken.
        next_row.and(known)
    } else {
        (!config.next_step && !d4rls).then(arbitrary)
    }
}

/// More than this of what distinguishes rewards is worth a warning, if it is gone with the steps that are left out ...
const LOST_SHARE: f64 = 0.1;
/// ... and this many times their share of the steps.
const LOST_RATIO: f64 = 2.0;

/// A warning where the steps that are left out hold much of what rewards tell: with numbers, and what can be done.
pub(super) fn warning(
    data: &Dataset,
    kept: &[Kept<'_>],
    config: &TransitionsConfig,
) -> Option<String> {
    let steps = data.steps();
    let count = steps - kept.len();
    if count == 0 {
        return None;
    }
    let mut sorted = data.rewards.clone();
    let (_, median, _) = sorted.select_nth_unstable_by(steps / 2, f32::total_cmp);
    let median = f64::from(*median);
    let mut left_out = vec![true; steps];
    kept.iter().for_each(|k| left_out[k.step] = false);
    // By size where 0 is usual, and by distance from what is usual where every other step costs, say, 1.
    let share_of = |tells: &dyn Fn(f64) -> f64| {
        let (mut lost, mut all) = (0.0, f64::MIN_POSITIVE);
        for (&reward, &left_out) in data.rewards.iter().zip(&left_out) {
            let tells = tells(f64::from(reward));
            all += tells;
            lost += if left_out { tells } else { 0.0 };
        }
        lost / all
    };
    let share = share_of(&f64::abs).max(share_of(&|reward| (reward - median).abs()));
    let gone = data.rewards.iter().zip(&left_out).filter(|pair| *pair.1);
    let sum: f64 = gone.map(|(&reward, _)| f64::from(reward)).sum();
    if share <= LOST_SHARE || share < LOST_RATIO * count as f64 / steps as f64 {
        return None;
    }
    let keeping = TransitionsConfig {
        keep_truncations: true,
        ..config.clone()
    };
    let more = kept_steps(data, &keeping).len() - kept.len();
    let way = match more {
        0 => "what came after them is not in the data: give it as `next_observations`, or mark them as \
              terminated if the task ended there"
            .to_owned(),
        _ => format!(
            "`{}.data.keep_truncations = true` keeps {more} of them",
            config.table
        ),
    };
    Some(format!(
        "{}: {count} of {steps} steps are left out, the last ones of truncated episodes. Their rewards sum up to \
         {sum:.4} and hold {:.0} % of what all rewards tell, by their size or by how far they are from the usual \
         {median}: nothing learns from them; {way}",
        data.source_names(),
        100.0 * share,
    ))
}

/// Words that names of D4RL's tasks are made of, after the first.
const TASK_WORDS: &str = "random medium expert replay full mixed umaze large open play diverse eval sparse dense human \
                          cloned demos complete partial v0 v1 v2 v3";

/// Whether all of it comes from HDF5 files that are named as D4RL's are (`hopper_medium-v2.hdf5`,
/// `Ant_maze_..._sparse.hdf5`, or the task's identifier), and that name no other environment.
pub(super) fn is_d4rls(data: &Dataset) -> bool {
    let own = |path: &std::path::PathBuf| {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
        let kind = text(path.extension()).unwrap_or_default();
        matches!(kind.as_str(), "hdf5" | "h5")
            && text(path.file_stem()).is_some_and(|stem| is_d4rls_task(&stem))
    };
    let named = data.env_name.as_deref().is_none_or(is_d4rls_task);
    named && !data.sources.is_empty() && data.sources.iter().all(own)
}

fn is_d4rls_task(name: &str) -> bool {
    let name = name.to_lowercase().replace('_', "-");
    if name.starts_with("ant-maze-") {
        return true;
    }
    let mut words = name.split('-');
    let known = [
        "hopper",
        "halfcheetah",
        "walker2d",
        "ant",
        "antmaze",
        "maze2d",
        "pen",
        "hammer",
        "door",
        "relocate",
        "kitchen",
    ];
    words.next().is_some_and(|task| known.contains(&task))
        && words.clone().next().is_some()
        && words.all(|word| TASK_WORDS.split(' ').any(|known| known == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Episodes of two steps, (terminated, truncated, whether the observation after it is known); the reward is 1 on
    /// the last step, observations are row numbers, what followed the last is -1.
    fn data(ends: &[(bool, bool, bool)], source: &str) -> Dataset {
        let episode =
            |(number, &(terminated, truncated, known)): (usize, &(bool, bool, bool))| Episode {
                terminated,
                truncated,
                final_observation: known.then(|| vec![-1.0].into_boxed_slice()),
                ..Episode::new(2 * number, 2)
            };
        let steps = 2 * ends.len();
        Dataset {
            observations: (0..steps).map(|step| step as f32).collect(),
            actions: vec![0.0; steps],
            rewards: (0..steps).map(|step| (step % 2) as f32).collect(),
            episodes: ends.iter().enumerate().map(episode).collect(),
            sources: vec![source.into()],
            ..Dataset::blank(1, 1)
        }
    }

    /// Numbers of the steps that end episodes and are kept, and what follows.
    fn last(data: &Dataset, config: &TransitionsConfig) -> Vec<(usize, f32, bool)> {
        let kept = kept_steps(data, config);
        let ends = kept.iter().filter(|k| k.step % 2 == 1);
        ends.map(|k| (k.step, k.next_observation[0], k.terminated))
            .collect()
    }

    const ENDS: [(bool, bool, bool); 5] = [
        (true, true, false),
        (true, false, true),
        (false, true, true),
        (false, true, false),
        (true, false, false),
    ];

    #[test]
    fn a_terminated_step_is_kept_whatever_else_it_is_but_in_d4rls_own_files() {
        let config = TransitionsConfig::default();
        let mine = last(&data(&ENDS, "mine.hdf5"), &config);
        assert_eq!(mine, [(1, 2.0, true), (3, -1.0, true), (9, 9.0, true)]);
        let d4rls = last(&data(&ENDS, "data/hopper_medium-v2.hdf5"), &config);
        assert_eq!(d4rls, [(3, 4.0, true)]);
        let named = Dataset {
            env_name: Some("Hopper-v5".into()),
            ..data(&ENDS, "hopper-medium.hdf5")
        };
        assert_eq!(last(&named, &config), mine);
    }

    #[test]
    fn truncated_steps_are_kept_where_asked_for_and_known_and_all_where_nothing_follows() {
        let keep = TransitionsConfig {
            keep_truncations: true,
            ..TransitionsConfig::default()
        };
        for source in ["mine.npz", "hopper-medium.hdf5"] {
            let found = last(&data(&ENDS, source), &keep);
            let kept = found.iter().map(|&(step, ..)| step);
            assert_eq!(kept.collect::<Vec<_>>(), [1, 3, 5, 9], "{source}");
        }
        let cloning = TransitionsConfig {
            next_step: false,
            ..TransitionsConfig::default()
        };
        assert_eq!(kept_steps(&data(&ENDS, "mine.npz"), &cloning).len(), 10);
        let d4rls = data(&ENDS, "hopper-medium.hdf5");
        assert_eq!(kept_steps(&d4rls, &cloning).len(), 6);
    }

    #[test]
    fn steps_that_are_left_out_with_the_rewards_are_warned_of() {
        let config = TransitionsConfig {
            table: "algorithm.iql",
            ..TransitionsConfig::default()
        };
        let said = |data: &Dataset| warning(data, &kept_steps(data, &config), &config);
        let unknown = said(&data(&[(false, true, false); 4], "mine.npz")).expect("a warning");
        for words in [
            "mine.npz",
            "4 of 8 steps",
            "sum up to 4",
            "100 %",
            "next_observations",
        ] {
            assert!(unknown.contains(words), "{unknown}");
        }
        let known = said(&data(&[(false, true, true); 4], "mine.npz")).expect("a warning");
        let words = "`algorithm.iql.data.keep_truncations = true` keeps 4 of them";
        assert!(known.contains(words), "{known}");
        assert_eq!(said(&data(&[(true, true, false); 4], "mine.npz")), None);
        // The last step costs as any other: only its share of the steps is gone.
        let mut even = data(&[(false, true, false); 40], "mine.npz");
        even.rewards
            .iter_mut()
            .enumerate()
            .for_each(|(step, r)| *r = (step % 3) as f32);
        assert_eq!(said(&even), None);
    }

    #[test]
    fn d4rls_files_are_known_by_their_names() {
        let d4rls = |name: &str| is_d4rls(&data(&ENDS, name));
        for name in [
            "hopper_medium-v2.hdf5",
            "data/halfcheetah-medium-replay.hdf5",
            "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5",
            "maze2d-umaze-sparse-v1.hdf5",
            "pen-human-v1_demos.h5",
        ] {
            assert!(d4rls(name), "{name}");
        }
        for name in [
            "hopper.hdf5",
            "hopper-medium-mine.hdf5",
            "hopper-medium.npz",
            "replay.hdf5",
        ] {
            assert!(!d4rls(name), "{name}");
        }
    }
}
