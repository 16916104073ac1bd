//! Discounted returns that an episode reached from each of its steps, and of which steps they are known.

/// Returns of steps whose return is not known.
pub const UNKNOWN: f32 = f32::MIN;

/// What may be missing of a return, as a share of an endless one: steps of an episode that was broken off count as known
/// until the discount has fallen to this.
const UNSEEN_SHARE: f64 = 0.05;

/// How returns are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Returns {
    /// In [0, 1]; below 1 with a `failure_reward`.
    pub discount: f64,
    /// Reward, as it is learned from, of every step of an episode that fails: one that was broken off and holds no other is
    /// taken to go on like that without end.
    pub failure_reward: Option<f32>,
}

impl Returns {
    /// Discounted return to go of every step of an episode, and whether it is nearly all there is to come.
    pub fn to_go(&self, rewards: &[f32], terminated: bool) -> (Vec<f32>, Vec<bool>) {
        let (mut returns, mut whole) = (vec![0.0; rewards.len()], vec![false; rewards.len()]);
        let (mut sum, mut unseen) = (0.0, f64::from(u8::from(!terminated)));
        for (step, reward) in rewards.iter().enumerate().rev() {
            sum = f64::from(*reward) + self.discount * sum;
            unseen *= self.discount;
            returns[step] = sum as f32;
            whole[step] = unseen <= UNSEEN_SHARE;
        }
        (returns, whole)
    }

    /// Monte Carlo return of every step of an episode, [`UNKNOWN`] where too much of it is missing.
    pub fn monte_carlo(&self, rewards: &[f32], terminated: bool) -> Vec<f32> {
        if let Some(failure) = self.failure_reward
            && !terminated
            && rewards.iter().all(|reward| *reward == failure)
        {
            let endless = f64::from(failure) / (1.0 - self.discount);
            return vec![endless as f32; rewards.len()];
        }
        let (mut returns, whole) = self.to_go(rewards, terminated);
        let unknown = returns.iter_mut().zip(whole).filter(|(_, whole)| !whole);
        unknown.for_each(|(found, _)| *found = UNKNOWN);
        returns
    }
}

/// Rewards from each step to the end (T), added up in double precision and divided by `scale`.
pub fn scaled_to_go(rewards: &[f32], scale: f64) -> Vec<f32> {
    let mut left = 0.0;
    let mut returns: Vec<f32> = rewards
        .iter()
        .rev()
        .map(|&reward| {
            left += f64::from(reward);
            (left / scale) as f32
        })
        .collect();
    returns.reverse();
    returns
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALVES: Returns = Returns {
        discount: 0.5,
        failure_reward: None,
    };

    #[test]
    fn returns_are_known_to_the_end_of_a_task_and_nearly_to_where_an_episode_was_broken_off() {
        let rewards = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let whole = HALVES.monte_carlo(&rewards, true);
        assert_eq!(whole, [6.0, 10.0, 16.0, 24.0, 32.0, 32.0]);
        // A half to the fifth is 1/32, to the fourth 1/16.
        let broken_off = HALVES.monte_carlo(&rewards, false);
        assert_eq!(broken_off[..2], [6.0, 10.0]);
        assert!(broken_off[2..].iter().all(|found| *found == UNKNOWN));
    }

    #[test]
    fn an_episode_that_only_fails_is_taken_to_fail_without_end_but_not_if_it_ended_or_holds_another_reward()
     {
        let returns = Returns {
            failure_reward: Some(-5.0),
            ..HALVES
        };
        assert_eq!(returns.monte_carlo(&[-5.0; 3], false), [-10.0; 3]);
        assert_eq!(returns.monte_carlo(&[-5.0; 2], true), [-7.5, -5.0]);
        assert_eq!(returns.monte_carlo(&[-5.0, 5.0], false), [UNKNOWN; 2]);
    }
}
