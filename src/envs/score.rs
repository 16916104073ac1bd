//! Reference returns and the normalised score: 0 is a random policy, 100 a reference expert.

use crate::envs::pointmaze;
pub use crate::envs::reference::ReferenceReturns;

/// 100 * (return - random) / (expert - random), D4RL's normalised score.
pub fn normalized_score(reference: ReferenceReturns, episode_return: f64) -> f64 {
    100.0 * (episode_return - reference.random) / (reference.expert - reference.random)
}

/// D4RL's constants by family (d4rl/infos.py, commit 89141a689b): every data set of a family has
/// the same two.
///
/// They were measured in the environments of gym 0.x on mujoco-py. Scores in -v4 and -v5
/// environments are given against the same numbers, as everywhere in the literature.
const FAMILIES: [(&str, ReferenceReturns); 10] = [
    ("hopper", ReferenceReturns::new(-20.272305, 3234.3)),
    ("halfcheetah", ReferenceReturns::new(-280.178953, 12135.0)),
    ("walker2d", ReferenceReturns::new(1.629008, 4592.3)),
    ("ant", ReferenceReturns::new(-325.6, 3879.7)),
    ("antmaze", ReferenceReturns::new(0.0, 1.0)),
    ("kitchen", ReferenceReturns::new(0.0, 4.0)),
    ("pen", ReferenceReturns::new(96.262799, 3076.8331017826877)),
    (
        "hammer",
        ReferenceReturns::new(-274.856578, 12794.134825156867),
    ),
    (
        "relocate",
        ReferenceReturns::new(-6.425911, 4233.877797728884),
    ),
    (
        "door",
        ReferenceReturns::new(-56.512833, 2880.5693087298737),
    ),
];

/// D4RL's constants of the data sets that differ within their family. D4RL has them for maze2d's
/// -v1 alone.
const DATA_SETS: [(&str, ReferenceReturns); 8] = [
    ("maze2d-open-v0", ReferenceReturns::new(0.01, 20.66)),
    (
        "maze2d-open-dense-v0",
        ReferenceReturns::new(11.17817, 27.166538620695782),
    ),
    ("maze2d-umaze-v1", ReferenceReturns::new(23.85, 161.86)),
    ("maze2d-medium-v1", ReferenceReturns::new(13.13, 277.39)),
    ("maze2d-large-v1", ReferenceReturns::new(6.7, 273.99)),
    (
        "maze2d-umaze-dense-v1",
        ReferenceReturns::new(68.537689, 193.66285642381482),
    ),
    (
        "maze2d-medium-dense-v1",
        ReferenceReturns::new(44.264742, 297.4552547777125),
    ),
    (
        "maze2d-large-dense-v1",
        ReferenceReturns::new(30.569041, 303.4857382709002),
    ),
];

/// Reference returns of an environment or a D4RL data set, e.g. `hopper-v4`, `Hopper-v5`,
/// `hopper-medium-replay-v2`, `maze2d-umaze-v1`, `pointmaze-umaze`. Case does not matter.
///
/// `None` where nobody has measured any (`pendulum-v1`), or the name is unknown: there is no score
/// then, only a return.
pub fn reference_for(name: &str) -> Option<ReferenceReturns> {
    let name = name.to_ascii_lowercase();
    if let Some(reference) = pointmaze::reference_for(&name) {
        return Some(reference);
    }
    if let Some((_, reference)) = DATA_SETS.iter().find(|(data_set, _)| *data_set == name) {
        return Some(*reference);
    }
    let family = name
        .split_once('-')
        .map_or(name.as_str(), |(family, _)| family);
    FAMILIES
        .iter()
        .find(|(known, _)| *known == family)
        .map(|(_, reference)| *reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_returns_score_zero_and_a_hundred() {
        let reference = ReferenceReturns::new(-20.0, 180.0);
        assert_eq!(normalized_score(reference, -20.0), 0.0);
        assert_eq!(normalized_score(reference, 180.0), 100.0);
        assert_eq!(normalized_score(reference, 80.0), 50.0);
    }

    #[test]
    fn environments_and_data_sets_of_a_family_share_the_constants() {
        for name in [
            "hopper-v4",
            "Hopper-v5",
            "hopper-medium-replay-v2",
            "hopper",
        ] {
            let reference = reference_for(name).expect(name);
            assert_eq!(
                (reference.random, reference.expert),
                (-20.272305, 3234.3),
                "{name}"
            );
        }
        assert_eq!(
            reference_for("ant-medium-v2").map(|r| r.random),
            Some(-325.6)
        );
        assert_eq!(
            reference_for("antmaze-large-play-v2").map(|r| r.expert),
            Some(1.0)
        );
    }

    #[test]
    fn names_without_constants_have_no_reference() {
        // maze2d's constants exist for -v1 only; AntMaze_UMaze-v4 is another task than antmaze-*.
        for name in [
            "maze2d-umaze-v0",
            "maze2d-umaze",
            "AntMaze_UMaze-v4",
            "pendulum-v1",
            "",
        ] {
            assert_eq!(reference_for(name), None, "{name}");
        }
    }
}
