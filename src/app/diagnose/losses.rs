//! Where return is lost, and the sentence that says it.

use crate::app::compare::statistics::Interval;
use crate::app::diagnose::episodes::Difference;
use crate::app::diagnose::found::{Diagnosis, Loss, Place};
use crate::app::diagnose::replay::Replay;

/// A replay that returns less than this share of what was logged says nothing about bins: the simulator did not repeat it.
const FAITHFUL: f64 = 0.9;

/// Losses, most first, and the sentence.
pub(super) fn judge(found: &Diagnosis) -> (Vec<Loss>, String) {
    let mut losses = losses(found);
    losses.sort_by(|a, b| b.lost.mean.total_cmp(&a.lost.mean));
    let sentence = match losses.first() {
        None if found.interrupted => "It was stopped before anything could be compared.".to_owned(),
        None => {
            "Nothing acted, or there is no data to hold it against: no loss of return can be named."
                .to_owned()
        }
        Some(most) if most.lost.mean <= 0.0 => {
            "Nothing that was measured loses return against what it was held against.".to_owned()
        }
        Some(most) => sentence(most, &losses, found),
    };
    (losses, sentence)
}

fn sentence(most: &Loss, losses: &[Loss], found: &Diagnosis) -> String {
    let within = match most.lost.interval {
        Some(interval) => format!(" (95 %: {:.1} to {:.1})", interval.low, interval.high),
        None => String::new(),
    };
    let cut = if found.whole_episodes {
        "an episode".to_owned()
    } else {
        format!("the first {} steps of an episode", found.steps)
    };
    format!(
        "Most is lost by {}: {:.1} of return{within} in {cut}. {}{}",
        most.place.name(),
        most.lost.mean,
        most.place.meaning(),
        doubt(most, &losses[1..], found.episodes)
    )
}

/// What to say where it is not certain that something is lost by `most`, or more than by `others`.
fn doubt(most: &Loss, others: &[Loss], episodes: usize) -> String {
    let overlaps = |other: &&Loss| match (most.lost.interval, other.lost.interval) {
        (Some(most), Some(other)) => other.high >= most.low,
        _ => true,
    };
    if most.lost.interval.is_none() {
        // One of the two means may be of a single episode all the same: that of the data's best tenth.
        let few = if episodes == 1 {
            "With one episode there is no interval"
        } else {
            "One of the two means is of a single episode, so that there is no interval"
        };
        return format!(" {few}: nothing tells it from chance.");
    }
    if !most.is_certain() {
        return format!(" Its interval holds 0: {episodes} episodes don't tell it from chance.");
    }
    let mut others = others.iter().filter(|loss| loss.lost.mean > 0.0);
    let Some(second) = others.find(overlaps) else {
        return String::new();
    };
    let place = second.place.name();
    match second.lost.interval {
        Some(_) => format!(
            " The interval overlaps with that of {place}: which loses more can't be said with {episodes} episodes."
        ),
        None => format!(
            " What is lost by {place} is known of a single episode, without an interval: which loses more can't be said."
        ),
    }
}

/// Whether the simulator repeats what was logged.
fn is_faithful(replay: &Replay) -> bool {
    let logged = replay.logged.mean;
    (replay.replayed.mean - logged).abs() <= (1.0 - FAITHFUL) * logged.abs()
}

fn losses(found: &Diagnosis) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mut lost = |place, lost| losses.push(Loss { place, lost });
    if let Some(bins) = &found.bins {
        if let Some(through) = &bins.through {
            lost(Place::Bins, through.plain.above_paired(&through.binned));
        } else if let Some(replay) = bins.replay.as_ref().filter(|replay| is_faithful(replay)) {
            lost(Place::Bins, replay.replayed.above_paired(&replay.binned));
        }
    }
    if let Some(replay) = found
        .code_replay
        .as_ref()
        .filter(|replay| is_faithful(replay))
    {
        lost(Place::Codes, replay.replayed.above_paired(&replay.binned));
    }
    // What it learned from, where that is there.
    let data = found.data.first();
    if let (Some(data), Some(greedy)) = (data, &found.greedy) {
        lost(Place::Imitation, data.all.above(greedy));
    }
    let own = found.aims.iter().find(|aim| {
        let configured = found.configured.as_ref();
        configured.is_some_and(|configured| *configured == aim.reached)
    });
    // Nothing but itself says whether it imitates, where nobody asks it for one return.
    if let (Some(data), Some(configured), None, None) =
        (data, &found.configured, &found.greedy, own)
    {
        lost(Place::Imitation, data.all.above(configured));
    }
    if let (Some(simulated), Some(configured)) = (&found.simulated, &found.configured) {
        lost(Place::Imagination, simulated.above_paired(configured));
    }
    if let (Some(data), Some(simulated)) = (data, &found.simulated) {
        lost(Place::Proposals, data.best.above(simulated));
    }
    if let Some(aim) = own {
        let reached = &aim.reached;
        let interval = reached.interval.map(|interval| Interval {
            low: aim.asked - interval.high,
            high: aim.asked - interval.low,
        });
        lost(
            Place::Aiming,
            Difference {
                mean: aim.asked - reached.mean,
                interval,
            },
        );
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::diagnose::episodes::Arm;

    #[test]
    fn a_single_episode_has_no_interval_and_equal_ones_have_one_without_width() {
        let arm = |returns: &[f64]| Arm::new(returns.to_vec(), vec![5; returns.len()], None);
        let loss = |place, lost| Loss { place, lost };
        let one = loss(Place::Imagination, arm(&[3.0]).above_paired(&arm(&[1.0])));
        let said = doubt(&one, &[], 1);
        assert_eq!(
            said,
            " With one episode there is no interval: nothing tells it from chance."
        );
        let best = loss(Place::Proposals, arm(&[9.0]).above(&arm(&[1.0, 2.0])));
        let said = doubt(&best, &[], 2);
        assert!(said.contains("is of a single episode"), "{said}");
        let unsure = arm(&[9.0, -3.0]).above(&arm(&[1.0, 2.0]));
        let said = doubt(&loss(Place::Imitation, unsure), &[], 2);
        assert!(said.contains("Its interval holds 0: 2 episodes"), "{said}");
        let equal = loss(Place::Imitation, arm(&[4.0; 3]).above(&arm(&[1.0; 3])));
        assert_eq!(doubt(&equal, &[], 3), "");
        let said = doubt(&equal, &[one], 3);
        assert!(
            said.contains("imagination is known of a single episode"),
            "{said}"
        );
        let second = loss(Place::Aiming, unsure);
        let said = doubt(&equal, &[second], 3);
        assert!(said.contains("overlaps with that of aiming"), "{said}");
    }
}
