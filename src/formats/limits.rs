//! How many steps an episode has at most in D4RL's environments, for files that don't mark time-outs.
//!
//! Source: `max_episode_steps` where D4RL (commit 89141a6) registers its environments
//! (d4rl/{gym_mujoco,pointmaze,pointmaze_bullet,hand_manipulation_suite,locomotion,kitchen,flow,carla,gym_minigrid,
//! gym_bullet}/\_\_init\_\_.py), and the names of its files in d4rl/infos.py.

/// D4RL's limit for `name`, an environment's or a file's; `None` if it is none of D4RL's.
pub(super) fn d4rl_limit(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let has = |part: &str| name.contains(part);
    let of = |choices: &[(&str, usize)]| {
        let found = choices.iter().find(|(part, _)| has(part));
        found.map(|&(_, limit)| limit)
    };
    if has("maze2d") {
        // The first version has shorter ones; version 1 is meant where none is named.
        let first = has("-v0") && !has("bullet");
        return if first {
            of(&[
                ("open", 150),
                ("umaze", 150),
                ("medium", 250),
                ("large", 600),
            ])
        } else {
            of(&[
                ("open", 150),
                ("umaze", 300),
                ("medium", 600),
                ("large", 800),
            ])
        };
    }
    if has("antmaze") || has("ant-maze") {
        return of(&[("umaze", 700), ("u-maze", 700)]).or(Some(1000));
    }
    if has("kitchen") {
        return Some(280);
    }
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let has_word = |word: &&str| words.contains(word);
    let longer = has("longhorizon");
    let hands = [
        ("pen", 100, 200),
        ("door", 200, 300),
        ("hammer", 200, 600),
        ("relocate", 200, 500),
    ];
    if let Some(&(_, usual, long)) = hands.iter().find(|(hand, ..)| has_word(hand)) {
        return Some(if longer { long } else { usual });
    }
    let others = [
        ("flow-ring", 500),
        ("flow-merge", 750),
        ("carla-lane", 250),
        ("carla-town", 1000),
        ("minigrid-fourrooms", 50),
        ("minigrid4rooms", 50),
    ];
    let walkers = ["hopper", "halfcheetah", "walker2d", "walker", "ant"];
    of(&others).or_else(|| walkers.iter().any(has_word).then_some(1000))
}

#[cfg(test)]
mod tests {
    use super::d4rl_limit;

    #[test]
    fn names_of_files_and_environments_have_their_limits() {
        for (name, limit) in [
            ("maze2d-umaze-sparse-v1.hdf5", Some(300)),
            ("maze2d-eval-medium-dense-v1", Some(600)),
            ("maze2d-large-v1", Some(800)),
            ("maze2d-large-v0", Some(600)),
            ("maze2d-open-sparse.hdf5", Some(150)),
            ("bullet-maze2d-umaze-v0", Some(300)),
            (
                "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5",
                Some(700),
            ),
            (
                "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse.hdf5",
                Some(1000),
            ),
            ("antmaze-umaze-diverse-v2", Some(700)),
            ("antmaze-medium-play-v0", Some(1000)),
            ("pen-demos-v0-bc-combined.hdf5", Some(100)),
            ("pen-human-longhorizon-v1", Some(200)),
            ("hammer-v0_expert_clipped.hdf5", Some(200)),
            ("relocate-human-longhorizon-v0", Some(500)),
            (
                "mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
                Some(280),
            ),
            ("hopper_medium_replay-v2.hdf5", Some(1000)),
            ("walker_mixed.hdf5", Some(1000)),
            ("bullet-ant_random.hdf5", Some(1000)),
            ("carla_lane_follow_flat-v0.hdf5", Some(250)),
            ("minigrid4rooms_random.hdf5", Some(50)),
            ("flow-merge-v0-idm.hdf5", Some(750)),
            ("opening-doors-of-pens.hdf5", None),
            ("mine.hdf5", None),
        ] {
            assert_eq!(d4rl_limit(name), limit, "{name}");
        }
    }
}
