//! Where return is lost, and the sentence that says it.

use serde::Serialize;

use crate::app::diagnose::Diagnosis;
use crate::app::diagnose::episodes::Difference;

/// A replay that returns less than this share of what was logged says nothing about bins: the simulator did not repeat it.
const FAITHFUL: f64 = 0.9;

/// Where return can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Actions are rounded to what their bins stand for.
    Bins,
    /// The most likely actions return less than the data's episodes do.
    Imitation,
    /// The search returns more when the simulator answers in place of what is imagined.
    Imagination,
    /// Even with the simulator the search returns less than the best tenth of the data's episodes: what it proposes, how far it
    /// looks, and what it takes ends to be worth.
    Proposals,
    /// Less is reached than is asked for.
    Aiming,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    /// Where.
    pub place: Place,
    /// How much return, in the environment's units; below 0: gained.
    pub lost: Difference,
}

impl Loss {
    /// Whether its interval leaves no doubt that something is lost.
    pub fn is_certain(&self) -> bool {
        self.lost.interval.is_some_and(|interval| interval.low > 0.0)
    }
}

impl Place {
    /// What is lost there, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Bins => "the bins, which round every action",
            Self::Imitation => {
                "imitation: the most likely actions return less than the data's episodes"
            }
            Self::Imagination => {
                "imagination: with the simulator in place of imagined observations and rewards the same search returns more"
            }
            Self::Proposals => {
                "what the search tries and how it values where it ends: even with the simulator it stays below the best tenth of \
                 the data's episodes"
            }
            Self::Aiming => "aiming: the run's own target is asked for, and less is reached",
        }
    }
}

/// Losses, most first, and the sentence.
pub(super) fn judge(found: &Diagnosis) -> (Vec<Loss>, String) {
    let mut losses = losses(found);
    losses.sort_by(|a, b| b.lost.mean.total_cmp(&a.lost.mean));
    let sentence = match losses.first() {
        None if found.interrupted => "It was stopped before anything could be compared.".to_owned(),
        None => "Nothing acted, or there is no data to hold it against: no loss of return can be named.".to_owned(),
        Some(most) if most.lost.mean <= 0.0 => {
            "Nothing that was measured loses return against what it was held against.".to_owned()
        }
        Some(most) => sentence(most, &losses, found),
    };
    (losses, sentence)
}

fn sentence(most: &Loss, losses: &[Loss], found: &Diagnosis) -> String {
    let within = match most.lost.interval {
        Some(interval) => format!(" (95 %: {:.0} to {:.0})", interval.low, interval.high),
        None => String::new(),
    };
    let cut = if found.whole_episodes {
        "an episode".to_owned()
    } else {
        format!("the first {} steps of an episode", found.steps)
    };
    let mut text = format!(
        "Most is lost by {}: {:.0} of return{within} in {cut}.",
        most.place.words(),
        most.lost.mean
    );
    let overlaps = |other: &&Loss| match (most.lost.interval, other.lost.interval) {
        (Some(most), Some(other)) => other.high >= most.low,
        _ => true,
    };
    if !most.is_certain() {
        text += &format!(
            " Its interval holds 0: {} episodes don't tell it from chance.",
            found.episodes
        );
    } else if let Some(second) = losses[1..].iter().find(|loss| loss.lost.mean > 0.0 && overlaps(loss)) {
        text += &format!(
            " The intervals overlap with what is lost by {}: which is more can't be said with {} episodes.",
            second.place.words().split(':').next().unwrap_or_default(),
            found.episodes
        );
    }
    text
}

fn losses(found: &Diagnosis) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mut lost = |place, lost| losses.push(Loss { place, lost });
    if let Some(bins) = &found.bins {
        if let Some(through) = &bins.through {
            lost(Place::Bins, through.plain.above_paired(&through.binned));
        } else if let Some(replay) = &bins.replay
            && (replay.replayed.mean - replay.logged.mean).abs()
                <= (1.0 - FAITHFUL) * replay.logged.mean.abs()
        {
            lost(Place::Bins, replay.replayed.above_paired(&replay.binned));
        }
    }
    // What it learned from, where that is there.
    let data = found.data.first();
    if let (Some(data), Some(greedy)) = (data, &found.greedy) {
        lost(Place::Imitation, data.all.above(greedy));
    }
    if let (Some(simulated), Some(configured)) = (&found.simulated, &found.configured) {
        lost(Place::Imagination, simulated.above_paired(configured));
    }
    if let (Some(data), Some(simulated)) = (data, &found.simulated) {
        lost(Place::Proposals, data.best.above(simulated));
    }
    let own = found.aims.iter().find(|aim| {
        let configured = found.configured.as_ref();
        configured.is_some_and(|configured| *configured == aim.reached)
    });
    if let Some(aim) = own {
        let reached = &aim.reached;
        let interval = reached.interval.map(|interval| crate::app::compare::statistics::Interval {
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
