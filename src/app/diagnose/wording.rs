//! A diagnosis as a page of text.

use std::fmt::Write;

use crate::app::diagnose::aims::Aim;
use crate::app::diagnose::codes::Codes;
use crate::app::diagnose::episodes::Arm;
use crate::app::diagnose::found::{DiagnoseOptions, Diagnosis};
use crate::app::diagnose::replay::{Bins, Replay};
use crate::app::diagnose::search::{HorizonError, Imagination};
use crate::app::diagnose::tokens::{Tokens, Told};

/// Imagined steps whose errors are shown.
const SHOWN_STEPS: [usize; 6] = [1, 2, 3, 5, 10, 15];
/// A search that ends with fewer different candidates has little to choose from.
const FEW_SEQUENCES: f64 = 2.0;
/// Dimensions that bins round most, which are shown.
const SHOWN_DIMENSIONS: usize = 3;
/// Width of the names of lines; that of longer ones where there are some.
const NAME: usize = 46;

/// What is about to be done, and how much of it: `steps` are those of each episode.
pub fn budget(options: &DiagnoseOptions, algorithm: &str, steps: Option<usize>) -> String {
    let episodes = options.episodes;
    match steps {
        None => "no environment is named: what follows is from data alone".to_owned(),
        Some(steps) if algorithm == "trajectory_transformer" => format!(
            "{episodes} episodes of up to {steps} steps each for the most likely actions, for the search as configured and for the \
             search in the simulator: at most {} plans of each search",
            options.decisions
        ),
        Some(steps) if algorithm == "tap" => format!(
            "{episodes} episodes of up to {steps} steps each for codes as they are drawn, for the search as configured and for its plans \
             tried in the simulator: at most {} plans of each",
            options.decisions
        ),
        Some(steps) if ["fast", "reinformer"].contains(&algorithm) => {
            format!("{episodes} episodes of up to {steps} steps each")
        }
        Some(steps) => {
            format!("{episodes} episodes of up to {steps} steps for each return that is asked for")
        }
    }
}

/// The page.
pub fn page(found: &Diagnosis) -> String {
    let mut text = format!("{}\n", found.verdict);
    if found.interrupted {
        text += "It was stopped early: parts that were not finished are left out.\n";
    }
    returns(found, &mut text);
    if let Some(bins) = &found.bins {
        bin_errors(bins, &mut text);
    }
    if let Some(imagination) = &found.imagination {
        imagined(imagination, &mut text);
    }
    tokens(&found.tokens, &mut text);
    codes(&found.codes, &mut text);
    actions(found, &mut text);
    if !found.notes.is_empty() {
        text += "\nNotes\n";
        for note in &found.notes {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

/// Returns of one part of the table, with its name.
type Row<'a> = (String, &'a Arm);

fn returns(found: &Diagnosis, text: &mut String) {
    let length = if found.whole_episodes || found.env.is_none() {
        "whole episodes".to_owned()
    } else {
        format!("the first {} steps", found.steps)
    };
    let heads = ["mean", "95 % interval", "score", "episodes"].map(str::to_owned);
    let mut lines = vec![(format!("Return of {length}"), heads)];
    lines.extend(rows(found).into_iter().map(|(name, arm)| {
        let interval = arm
            .interval
            .map(|interval| format!("[{:.1}, {:.1}]", interval.low, interval.high));
        let score = arm.score.map(|score| format!("{score:.1}"));
        let cells = [
            format!("{:.1}", arm.mean),
            interval.unwrap_or_default(),
            score.unwrap_or_default(),
            arm.returns.len().to_string(),
        ];
        (name, cells)
    }));
    // Names are as long as they are: a run's, say.
    let names = lines.iter().map(|(name, _)| name.chars().count());
    let name = names.max().unwrap_or(0).max(NAME);
    let [mean, interval, score, episodes] =
        [(0, 10), (1, 22), (2, 7), (3, 8)].map(|(at, least)| {
            let cells = lines.iter().map(|(_, cells)| cells[at].chars().count());
            cells.max().unwrap_or(0).max(least)
        });
    text.push('\n');
    for (called, cells) in &lines {
        let _ = writeln!(
            text,
            "  {called:<name$}{:>mean$}  {:<interval$}{:>score$}  {:>episodes$}",
            cells[0], cells[1], cells[2], cells[3]
        );
    }
}

fn replayed<'a>(replay: &'a Replay, what: &str) -> [Row<'a>; 3] {
    [
        ("logged episodes".to_owned(), &replay.logged),
        ("  their actions replayed".to_owned(), &replay.replayed),
        (format!("  the same through the {what}"), &replay.binned),
    ]
}

fn rows(found: &Diagnosis) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for data in &found.data {
        rows.push((format!("{} data, all episodes", data.data), &data.all));
        rows.push((format!("{} data, best tenth", data.data), &data.best));
    }
    if let Some(bins) = &found.bins {
        if let Some(replay) = &bins.replay {
            rows.extend(replayed(replay, "bins"));
        }
        if let Some(through) = &bins.through {
            rows.push((format!("{} as it is", through.run), &through.plain));
            rows.push(("  its actions through the bins".to_owned(), &through.binned));
        }
    }
    if let Some(replay) = &found.code_replay {
        rows.extend(replayed(replay, "codes"));
    }
    let of_codes = found.algorithm == "tap";
    if let Some(arm) = &found.greedy {
        let name = if of_codes {
            "codes as they are drawn, no search"
        } else {
            "most likely actions, no search"
        };
        rows.push((name.to_owned(), arm));
    }
    if let Some(arm) = &found.simulated {
        let worth = match found.simulated_worth {
            Some("nothing") => "true rewards alone",
            _ => "values of the model",
        };
        let what = if of_codes {
            "its plans tried in the simulator"
        } else {
            "search in the simulator"
        };
        rows.push((format!("{what}, {worth}"), arm));
    }
    if let Some(arm) = &found.configured {
        let name = if found.greedy.is_some() {
            "search as configured"
        } else {
            "as configured"
        };
        rows.push((name.to_owned(), arm));
    }
    let asked = |aim: &Aim| format!("asked for {:.1} ({})", aim.asked, aim.origin);
    rows.extend(found.aims.iter().map(|aim| (asked(aim), &aim.reached)));
    rows
}

fn bin_errors(bins: &Bins, text: &mut String) {
    let mut dimensions: Vec<_> = bins.dimensions.iter().collect();
    dimensions.sort_by(|a, b| b.error_rms.total_cmp(&a.error_rms));
    let part = |action: bool| {
        let errors = bins.dimensions.iter();
        let errors: Vec<f64> = errors
            .filter(|dim| dim.name.starts_with("action") == action)
            .map(|dim| dim.error_rms.powi(2))
            .collect();
        (errors.iter().sum::<f64>() / errors.len().max(1) as f64).sqrt()
    };
    let largest = dimensions.iter().take(SHOWN_DIMENSIONS);
    let largest: Vec<String> = largest
        .map(|dim| format!("{} {:.3}", dim.name, dim.error_rms))
        .collect();
    let _ = writeln!(
        text,
        "\nBins round by {:.3} of a standard deviation (observations), {:.3} (actions); most: {}",
        part(false),
        part(true),
        largest.join(", ")
    );
}

fn imagined(found: &Imagination, text: &mut String) {
    let _ = writeln!(
        text,
        "\nA search ended with {:.1} different action sequences on average{}",
        found.distinct,
        if found.distinct < FEW_SEQUENCES {
            ": its candidates were nearly all the same in the end"
        } else {
            ""
        }
    );
    if !found.horizon.is_empty() {
        let _ = writeln!(
            text,
            "\nWhat {} plans imagined, against what their actions lead to (errors in the data's standard deviations)",
            found.plans
        );
        let shown = |error: &&HorizonError| SHOWN_STEPS.contains(&error.steps);
        let errors: Vec<&HorizonError> = found.horizon.iter().filter(shown).collect();
        let mut line = |name: &str, of: &dyn Fn(&HorizonError) -> Option<f64>, decimals: usize| {
            let _ = write!(text, "  {name:<NAME$}");
            for error in &errors {
                let _ = match of(error) {
                    Some(value) => write!(text, "{value:>8.decimals$}"),
                    None => write!(text, "{:>8}", "-"),
                };
            }
            text.push('\n');
        };
        line(
            "after so many actions",
            &|error| Some(error.steps as f64),
            0,
        );
        line("observations", &|error| error.observation, 2);
        line("  if nothing had changed", &|error| error.unchanged, 2);
        line(
            "rewards (of steps without an end)",
            &|error| error.reward,
            2,
        );
        let percent = |plans: usize| 100.0 * plans as f64 / found.plans.max(1) as f64;
        let _ = writeln!(
            text,
            "  An end was imagined in {:.0} % of the plans, and came in {:.0} %.",
            percent(found.ends_imagined),
            percent(found.ends_come)
        );
    }
    if let Some(returns) = found.returns {
        let _ = writeln!(
            text,
            "\nPlans promised a discounted return of {:.1} on average, {:.1} came ({} decisions; correlation {:.2})",
            returns.predicted, returns.realized, returns.decisions, returns.correlation
        );
    } else if !found.horizon.is_empty() {
        text.push_str(
            "\nEpisodes are cut too early to say what returns came of the plans: allow more decisions, or fewer episodes\n",
        );
    }
}

fn tokens(found: &[Tokens], text: &mut String) {
    if found.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n  {:<24}{:>14}{:>14}{:>14}{:>14}{:>10}",
        "Tokens (nats, % right)", "observations", "actions", "rewards", "values", "loss"
    );
    let told = |told: &Told| {
        if told.tokens == 0 {
            "-".to_owned()
        } else {
            format!("{:.2}, {:.0} %", told.cross_entropy, 100.0 * told.accuracy)
        }
    };
    for part in found {
        let _ = writeln!(
            text,
            "  {:<24}{:>14}{:>14}{:>14}{:>14}{:>10.3}",
            format!("{} data", part.data),
            told(&part.observations),
            told(&part.actions),
            told(&part.rewards),
            told(&part.values),
            part.loss
        );
        if let Some(found) = &part.at_once {
            for (how, observations, values) in [
                ("at once", found.observations, found.values),
                (
                    "the same, one by one",
                    found.observations_one_by_one,
                    found.values_one_by_one,
                ),
            ] {
                let _ = writeln!(
                    text,
                    "  {:<24}{:>14}{:>14}{:>14}{:>14}",
                    format!("  {how}"),
                    told(&observations),
                    "",
                    "",
                    told(&values)
                );
            }
        }
    }
}

fn codes(found: &[Codes], text: &mut String) {
    if found.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n  {:<24}{:>14}{:>10}{:>10}{:>10}   Codes told",
        "Lost in the codes", "observations", "actions", "rewards", "values"
    );
    for part in found {
        let _ = writeln!(
            text,
            "  {:<24}{:>14.2}{:>10.2}{:>10.2}{:>10.2}   {:.2} nats, {:.0} % right; {} of {} used, worth {:.0}",
            format!("{} data", part.data),
            part.observations,
            part.actions,
            part.rewards,
            part.values,
            part.cross_entropy,
            100.0 * part.accuracy,
            part.used,
            part.of,
            part.perplexity
        );
    }
    text.push_str(
        "  (errors after encoding and decoding, in the training data's standard deviations)\n",
    );
}

fn actions(found: &Diagnosis, text: &mut String) {
    for errors in &found.actions {
        if let Some(choices) = errors.choices {
            let _ = writeln!(
                text,
                "\nOf the choices along {} steps of the {} data {:.1} % are those that were made (the most frequent one alone: {:.1} %)",
                errors.steps,
                errors.data,
                100.0 * choices.right,
                100.0 * choices.most_frequent
            );
            continue;
        }
        let dims: Vec<String> = errors
            .dimensions
            .iter()
            .map(|dim| format!("{:.2}", dim.error_rms))
            .collect();
        let _ = writeln!(
            text,
            "\nActions along {} steps of the {} data are off by so many of the data's standard deviations (1: the mean action): {}",
            errors.steps,
            errors.data,
            dims.join(" ")
        );
    }
}
