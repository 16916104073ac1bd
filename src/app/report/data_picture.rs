//! [`data_picture`]: a data set as a picture shows it.

use crate::app::report::thin::histogram;
use crate::report::data::{DataPicture, Range, Ranges, Spread};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::statistics::mean_std;
use trajformer_data::info::info;

/// Dimensions that are shown.
const MOST_DIMENSIONS: usize = 80;

/// Histograms of returns and lengths (of whole episodes) and of rewards, and the range of each dimension of observations and
/// actions; of discrete actions, how often which is taken.
pub fn data_picture(data: &Dataset) -> DataPicture {
    let info = info(data);
    let whole = data.episodes.iter().filter(|episode| episode.is_complete());
    let lengths: Vec<f64> = whole.map(|episode| episode.steps as f64).collect();
    let rewards: Vec<f64> = data
        .rewards
        .iter()
        .map(|&reward| f64::from(reward))
        .collect();
    let mut spreads = vec![
        spread("Returns", "return", "episodes", &data.returns()),
        spread("Lengths", "steps", "episodes", &lengths),
        spread("Rewards", "reward", "steps", &rewards),
    ];
    let mut shown = vec![ranges(
        "Observations",
        &data.observations,
        data.observation_dim,
    )];
    match data.action_kind {
        ActionKind::Continuous => shown.push(ranges("Actions", &data.actions, data.action_dim)),
        ActionKind::Discrete { count } => {
            let counts = info.action_counts.clone().unwrap_or_default();
            spreads.push(Spread {
                label: format!("Actions: one of {count}"),
                value_label: "action".to_owned(),
                count_label: "steps".to_owned(),
                ends: (-0.5, count as f64 - 0.5),
                counts,
                bar_names: (0..count).map(|choice| choice.to_string()).collect(),
            });
        }
    }
    let last = data.sources.last().and_then(|path| path.file_name());
    let name = last.map(|name| name.to_string_lossy().into_owned());
    let others = match data.sources.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let env = info
        .env_name
        .as_ref()
        .map_or_else(String::new, |env| format!(" of {env}"));
    DataPicture {
        title: format!("{}{others}", name.unwrap_or("Data set".to_owned())),
        subtitle: format!(
            "{} steps{env} in {} episodes: {} terminated, {} truncated, {} not whole",
            info.steps,
            data.episodes.len(),
            info.terminated,
            info.truncated,
            info.unfinished_episodes
        ),
        spreads,
        ranges: shown,
    }
}

fn spread(label: &str, value_label: &str, count_label: &str, values: &[f64]) -> Spread {
    let found = histogram(values.iter().copied());
    let (mean, std) = mean_std(values);
    Spread {
        label: match &found {
            Some(_) => format!("{label}: {} ± {}", short(mean), short(std)).replace('-', "−"),
            None => label.to_owned(),
        },
        value_label: value_label.to_owned(),
        count_label: count_label.to_owned(),
        ends: found
            .as_ref()
            .map_or((0.0, 1.0), |found| (found.low, found.high)),
        counts: found.map_or_else(Vec::new, |found| found.counts),
        bar_names: Vec::new(),
    }
}

/// A number with about four digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn ranges(label: &str, values: &[f32], width: usize) -> Ranges {
    let shown = width.min(MOST_DIMENSIONS);
    let dimension = |dim: usize| {
        let own = values.iter().skip(dim).step_by(width);
        let own: Vec<f64> = own.map(|&value| f64::from(value)).collect();
        let (mean, std) = mean_std(&own);
        Range {
            low: own.iter().copied().fold(f64::INFINITY, f64::min),
            high: own.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean,
            std,
        }
    };
    let first = if shown < width {
        format!(", the first {shown} of {width} dimensions")
    } else {
        String::new()
    };
    Ranges {
        label: format!("{label}{first}"),
        dimensions: (0..shown).map(dimension).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_core::dataset::Episode;

    #[test]
    fn every_episode_step_and_dimension_is_shown() {
        let mut data =
            crate::app::collect::empty(crate::envs::make("pendulum-v1").expect("built in").spec());
        for step in 0..6_u8 {
            data.observations.extend([f32::from(step), -1.0, 0.5]);
            data.actions.push(2.0);
            data.rewards.push(f32::from(step));
        }
        for (start, steps) in [(0, 2), (2, 3), (5, 1)] {
            let truncated = start < 5;
            data.episodes.push(Episode {
                truncated,
                ..Episode::new(start, steps)
            });
        }
        let picture = data_picture(&data);
        let counted = |at: usize| picture.spreads[at].counts.iter().sum::<usize>();
        // The last episode is not whole.
        assert_eq!((counted(0), counted(1), counted(2)), (2, 2, 6));
        assert_eq!(picture.spreads[0].ends, (1.0, 9.0));
        assert_eq!(picture.ranges[0].dimensions.len(), 3);
        let first = picture.ranges[0].dimensions[0];
        assert_eq!((first.low, first.high, first.mean), (0.0, 5.0, 2.5));
        assert_eq!(picture.ranges[1].dimensions[0].std, 0.0);
        assert!(
            picture.subtitle.contains("1 not whole"),
            "{}",
            picture.subtitle
        );
    }
}
