//! Learning from a share of the episodes, LaMo's `sample_ratio`.

use std::collections::BTreeSet;

use trajformer::data::Dataset;
use trajformer::data::dataset::Episode;
use trajformer::rng::Rng;
use trajformer::{prepare, run};

use crate::runs::{pendulum_data, write_data};

/// Episodes of one, two, three steps in turn, each with its number as observation, and one that the file breaks off.
fn numbered(episodes: usize) -> Dataset {
    let mut data = Dataset::blank(1, 1);
    for number in 0..=episodes {
        let (start, steps) = (data.observations.len(), 1 + number % 3);
        data.observations.extend(vec![number as f32; steps]);
        data.episodes.push(Episode {
            terminated: number < episodes,
            ..Episode::new(start, steps)
        });
    }
    let steps = data.observations.len();
    (data.actions, data.rewards) = (data.observations.clone(), vec![1.0; steps]);
    data
}

#[test]
fn as_many_episodes_are_kept_as_by_the_authors_script() {
    let golden = include_str!("../golden/sample_ratio.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let kept = golden["kept"].as_object().unwrap();
    assert!(kept.len() > 40);
    for (key, expected) in kept {
        let (episodes, ratio) = key.split_once(' ').unwrap();
        let (episodes, ratio): (usize, f64) = (episodes.parse().unwrap(), ratio.parse().unwrap());
        let data = numbered(episodes);
        match data.sample_episodes(ratio, &mut Rng::from_seed(1)) {
            Ok(kept) => assert_eq!(Some(kept.episodes.len() as u64), expected.as_u64(), "{key}"),
            Err(error) => {
                // Theirs goes on with nothing, and fails later.
                assert_eq!(expected.as_u64(), Some(0), "{key}");
                assert!(error.to_string().contains("data.sample_ratio"), "{error}");
            }
        }
    }
}

#[test]
fn whole_episodes_are_kept_once_each_and_in_order() {
    let data = numbered(200);
    let mut reached = BTreeSet::new();
    for seed in 0..100 {
        let kept = data
            .sample_episodes(0.1, &mut Rng::from_seed(seed))
            .unwrap();
        assert_eq!(kept.episodes.len(), 20);
        let mut next = 0;
        let mut numbers = Vec::new();
        for episode in &kept.episodes {
            assert_eq!(episode.start, next);
            next += episode.steps;
            let number = kept.observation(episode.start)[0];
            assert_eq!(episode.steps, 1 + number as usize % 3);
            assert!(
                episode
                    .range()
                    .all(|step| kept.observation(step)[0] == number)
            );
            assert!(episode.range().all(|step| kept.action(step)[0] == number));
            numbers.push(number as usize);
        }
        assert_eq!(next, kept.steps());
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        reached.extend(numbers);
    }
    // An episode is never drawn with probability 0.9^100.
    assert_eq!(reached.len(), 200, "all but the one without an end");
    let all = data.sample_episodes(1.0, &mut Rng::from_seed(0)).unwrap();
    assert_eq!((all.episodes.len(), all.steps()), (200, data.steps() - 3));
}

#[test]
fn a_run_on_a_share_of_the_episodes_goes_on_with_the_same_ones() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let whole = pendulum_data().episodes.len();
    let config = |updates| {
        let config = crate::runs::config(folder.path(), "decision_transformer", updates);
        let share = "data.sample_ratio=0.5".to_owned();
        config.with_overrides(&[share]).unwrap()
    };
    let data = prepare::load_data(&config(1)).unwrap();
    assert_eq!((whole, data.episodes.len()), (4, 2));
    let bytes = |name: &str| std::fs::read(folder.path().join(name).join("model.safetensors"));
    run::start(&config(6), &folder.path().join("at-once")).unwrap();
    let path = folder.path().join("in-two");
    run::start(&config(3), &path).unwrap();
    run::resume(&path, &["train.updates=6".to_owned()]).unwrap();
    assert_eq!(bytes("at-once").unwrap(), bytes("in-two").unwrap());
    for (wrong, word) in [
        ("0.0", "sample_ratio"),
        ("1.5", "sample_ratio"),
        ("0.1", "none of the 4"),
    ] {
        let config = crate::runs::config(folder.path(), "bc", 1);
        let problem = config
            .with_overrides(&[format!("data.sample_ratio={wrong}")])
            .and_then(|config| prepare::load_data(&config));
        let problem = problem.expect_err(wrong).to_string();
        assert!(problem.contains(word), "{problem}");
    }
}
