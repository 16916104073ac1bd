//! Reference returns and the normalized score: 0 is a random policy, 100 a reference expert.

use crate::envs::gym;
pub use crate::envs::reference::ReferenceReturns;
use crate::envs::reference::d4rl;
use crate::envs::registry::entry;

/// 100 * (return - random) / (expert - random), D4RL's normalized score.
pub fn normalized_score(reference: ReferenceReturns, episode_return: f64) -> f64 {
    100.0 * (episode_return - reference.random) / (reference.expert - reference.random)
}

/// Reference returns of an environment or a D4RL data set, e.g. `hopper-v4`, `Hopper-v5`,
/// `hopper-medium-replay-v2`, `maze2d-umaze-v1`, `pointmaze-umaze`. Case does not matter. An environment of Gymnasium has
/// those of the built-in robot of the same name (`gym:Hopper-v5`), which is the same task, and no others.
///
/// `None` where nobody has measured any (`pendulum-v1`), or the name is unknown: there is no score
/// then, only a return.
pub fn reference_for(name: &str) -> Option<ReferenceReturns> {
    if gym::is_gym(name) {
        let robot = gym::own_id(name).and_then(entry);
        return robot.and_then(|robot| d4rl(robot.name()));
    }
    let name = name.to_ascii_lowercase();
    match entry(&name) {
        Some(entry) => entry.reference(),
        None => d4rl(&name),
    }
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
    fn environments_of_gymnasium_have_the_constants_of_the_same_robots_only() {
        assert_eq!(reference_for("gym:Hopper-v5"), reference_for("hopper-v5"));
        for name in [
            "gym:Pendulum-v1",
            "gym:AntMaze_UMaze-v5",
            "gym:AdroitHandDoor-v1",
            "gym:Hopper-v2",
            "gym:pointmaze-umaze",
            "gym:mine:Hopper-v5",
            "gym:Hopper-v5?healthy_reward=0",
        ] {
            assert_eq!(reference_for(name), None, "{name}");
        }
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
