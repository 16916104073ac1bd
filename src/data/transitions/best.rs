//! [`best_fraction`]: the best episodes of a data set.

use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::error::{Error, Result};

/// The complete episodes with the highest returns, in their order in the data: `fraction` of them,
/// rounded down, at least one. This is the data of BC-10 %.
///
/// Like CORL's `keep_best_trajectories` (algorithms/offline/any_percent_bc.py), but on the true
/// episodes (CORL cuts the q-learning view after 1000 rows) and by undiscounted returns (CORL
/// discounts them with 0.99).
///
/// # Errors
/// If `fraction` is not in (0, 1], or no episode is complete.
pub fn best_fraction(data: &Dataset, fraction: f64) -> Result<Dataset> {
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(Error::settings(format!(
            "fraction of episodes to keep is {fraction}, expected in (0, 1]"
        )));
    }
    data.require_returns("choosing the best episodes")?;
    let mut ranked: Vec<&Episode> = data.episodes.iter().filter(|e| e.is_complete()).collect();
    let count = ((fraction * ranked.len() as f64) as usize).max(1);
    ranked.sort_by(|a, b| data.episode_return(b).total_cmp(&data.episode_return(a)));
    ranked.truncate(count);
    ranked.sort_by_key(|episode| episode.start);
    let (observation_dim, action_dim) = (data.observation_dim, data.action_dim);
    let mut best = Dataset {
        observations: Vec::new(),
        actions: Vec::new(),
        rewards: Vec::new(),
        episodes: Vec::new(),
        env_name: data.env_name.clone(),
        action_bounds: data.action_bounds.clone(),
        sources: data.sources.clone(),
        warnings: data.warnings.clone(),
        ..*data
    };
    for episode in ranked {
        let (from, to) = (episode.start, episode.start + episode.steps);
        best.episodes.push(Episode {
            start: best.steps(),
            ..episode.clone()
        });
        let observations = &data.observations[from * observation_dim..to * observation_dim];
        best.observations.extend_from_slice(observations);
        best.actions
            .extend_from_slice(&data.actions[from * action_dim..to * action_dim]);
        best.rewards.extend_from_slice(&data.rewards[from..to]);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transitions::tests::data;

    #[test]
    fn the_best_episodes_are_those_with_the_highest_returns() {
        let rows = data(&[
            (1, true, false, None),
            (3, false, true, Some(9.0)),
            (2, true, false, None),
            (4, false, false, None),
        ]);
        let best = best_fraction(&rows, 0.7).expect("two of three");
        assert_eq!(best.returns(), [9.0, 11.0]);
        assert_eq!(best.observations, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(best.episodes[1].start, 3);
        assert_eq!(
            best_fraction(&rows, 0.01).expect("at least one").returns(),
            [11.0]
        );
        assert!(best_fraction(&rows, 0.0).is_err());
        assert!(best_fraction(&data(&[(3, false, false, None)]), 0.5).is_err());
    }
}
