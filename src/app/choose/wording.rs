//! A [`Choice`] as text for people, and as comma-separated values.

use std::path::Path;

use crate::app::choose::ranking::Interval;
use crate::app::choose::{Candidate, Choice};
use crate::app::compare::tables::{Align, Table, wrapped};
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::Result;

/// Letters in a line of text.
const WIDTH: usize = 110;
/// Runs that are named in a sentence.
const NAMED: usize = 5;

/// The report: table, what follows, what should be known.
pub fn report(choice: &Choice) -> String {
    let mut text = String::new();
    if choice.interrupted {
        text += &wrapped(
            &format!(
                "interrupted after {} of {} runs: what follows is so far and no result",
                choice.runs.len(),
                choice.planned_runs
            ),
            WIDTH,
            "",
        );
    }
    text += &table(choice).text(WIDTH);
    for line in conclusions(choice) {
        text += &wrapped(&line, WIDTH, "  ");
    }
    text += &judged(choice);
    for note in &choice.notes {
        text += &wrapped(&format!("note: {note}"), WIDTH, "  ");
    }
    text
}

fn table(choice: &Choice) -> Table {
    let word = |name: &str| (name.to_owned(), Align::Words);
    let number = |name: &str| (name.to_owned(), Align::Numbers);
    let mut columns = vec![
        word("run"),
        word("algorithm"),
        number("updates"),
        number("value"),
        number("90 %"),
        number("best"),
        number("regret"),
        number("behind, 90 %"),
        number("distance"),
        number("TD error"),
    ];
    let measure = choice.judged.as_ref().map(|judged| judged.measure);
    columns.extend(measure.map(number));
    let caption = format!(
        "value: discounted return ({}) by fitted Q evaluation, mean of {} resamples of {} episodes; best: share of the resamples in \
         which a run is the best; regret: what is lost by taking it, on average; behind: the first run's value minus its own in the \
         same resample; distance: root mean square of its actions minus the data's, in ±1, of choices the share that \
         differ; TD error: of its own critics. !: above the \
         data's best return",
        choice.discount, choice.members, choice.episodes
    );
    let mut table = Table::new(caption, columns);
    for (at, run) in choice.runs.iter().enumerate() {
        let behind = (at > 0).then_some(run.behind);
        table.push(row(run, behind, measure.is_some()));
    }
    table
}

fn row(run: &Candidate, behind: Option<Interval>, with_score: bool) -> Vec<String> {
    let range = |found: Interval| format!("{:.1} to {:.1}", found.low, found.high);
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let above = if run.above_data { "!" } else { "" };
    let mut cells = vec![
        run.name.clone(),
        run.algorithm.clone(),
        run.train_updates.to_string(),
        format!("{:.1}{above}", run.value),
        range(run.interval),
        format!("{:.0} %", 100.0 * run.probability_best),
        format!("{:.1}", run.expected_regret),
        or_none(behind.map(range)),
        format!("{:.2}", run.action_distance),
        or_none(run.td_error.map(|error| format!("{error:.3}"))),
    ];
    if with_score {
        cells.push(or_none(run.score.map(|score| format!("{score:.1}"))));
    }
    cells
}

/// What follows from the table, a sentence or two each.
pub fn conclusions(choice: &Choice) -> Vec<String> {
    let mut lines = Vec::new();
    let first = &choice.runs[0];
    if !choice.undecided.is_empty() {
        lines.push(format!(
            "Can't tell: {}. {} has the highest value so far, which is no reason to take it.",
            choice.undecided.join("; "),
            choice.chosen
        ));
    } else if choice.not_told_apart.is_empty() {
        lines.push(format!(
            "Take {}: the 90 % interval of its lead over each other run is above 0; expected regret {:.1}.",
            choice.chosen, choice.expected_regret
        ));
    } else {
        lines.push(format!(
            "Can't tell: {} has the highest value (best in {:.0} % of the resamples, expected regret {:.1}), and the 90 % interval of \
             its lead over {} contains 0.",
            choice.chosen,
            100.0 * first.probability_best,
            choice.expected_regret,
            listed(&choice.not_told_apart)
        ));
    }
    if let (Some(mean), Some(best)) = (choice.data_value, choice.data_best) {
        lines.push(format!(
            "The data's own episodes: {mean:.1} on average, {best:.1} at best ({} of {} episodes, {} steps).",
            choice.episodes, choice.episodes_of_data, choice.steps
        ));
    }
    let above: Vec<String> = choice
        .runs
        .iter()
        .filter(|run| run.above_data)
        .map(|run| run.name.clone())
        .collect();
    if !above.is_empty() {
        lines.push(format!(
            "Above the data's best return: {}. Nothing in the data shows that this can be reached; critics overestimate actions \
             that it has not.",
            listed(&above)
        ));
    }
    lines.push(
        "The intervals cover which episodes were drawn, not what critics get wrong about actions that the data has not."
            .to_owned(),
    );
    lines
}

fn judged(choice: &Choice) -> String {
    let Some(found) = &choice.judged else {
        return String::new();
    };
    let correlation = match found.rank_correlation {
        Some(correlation) => format!("{correlation:.2}"),
        None => "none (all equal)".to_owned(),
    };
    let mut text = wrapped(
        &format!(
            "Measured in {} by the {} runs' own evaluations: {}s from {:.1} to {:.1}, rank correlation (Spearman) {correlation}",
            found.env, found.runs, found.measure, found.worst_score, found.best_score
        ),
        WIDTH,
        "  ",
    );
    let columns = [("take", Align::Words), ("regret", Align::Numbers)];
    let columns = columns.map(|(name, align)| (name.to_owned(), align));
    let mut table = Table::new("", columns.to_vec());
    table.push(vec![
        "the highest value".to_owned(),
        format!("{:.1}", found.regret),
    ]);
    for baseline in &found.baselines {
        let needs = if baseline.needs_environment {
            " (needs the environment)"
        } else {
            ""
        };
        table.push(vec![
            format!("{}{needs}", baseline.name),
            format!("{:.1}", baseline.regret),
        ]);
    }
    text += &table.text(WIDTH);
    text
}

/// `a, b and 3 more`.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The runs with all their numbers as comma-separated values.
pub fn csv(choice: &Choice) -> String {
    let names = [
        "name",
        "algorithm",
        "train_updates",
        "value",
        "low",
        "high",
        "probability_best",
        "expected_regret",
        "behind_low",
        "behind_high",
        "has_history",
        "action_distance",
        "td_error",
        "above_data",
        "score",
        "run",
    ];
    let columns = names.map(|name| (name.to_owned(), Align::Words));
    let mut table = Table::new("", columns.to_vec());
    for run in &choice.runs {
        let or_empty = |value: Option<f64>| value.map_or_else(String::new, |x| x.to_string());
        table.push(vec![
            run.name.clone(),
            run.algorithm.clone(),
            run.train_updates.to_string(),
            run.value.to_string(),
            run.interval.low.to_string(),
            run.interval.high.to_string(),
            run.probability_best.to_string(),
            run.expected_regret.to_string(),
            run.behind.low.to_string(),
            run.behind.high.to_string(),
            run.has_history.to_string(),
            run.action_distance.to_string(),
            or_empty(run.td_error),
            run.above_data.to_string(),
            or_empty(run.score),
            run.run.display().to_string(),
        ]);
    }
    table.csv()
}

/// Writes [`csv()`] to a file.
///
/// # Errors
/// If it can't be written.
pub fn write_csv(choice: &Choice, path: &Path) -> Result<()> {
    write_atomically(path, csv(choice).as_bytes())
}
