//! A comparison in tables and words.

use std::collections::HashMap;
use std::path::Path;

use crate::app::compare::aggregates::{Aggregates, Estimate, OverTasks, names};
use crate::app::compare::comparison::Comparison;
use crate::app::compare::lines::{Line, distinct};
use crate::app::compare::statistics::Interval;
use crate::app::compare::tables::{
    Align, Table, escaped_for_latex, escaped_for_markdown, known, wrapped,
};
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::Result;
use trajformer_core::printable::printable;

/// Columns of a terminal that sentences are wrapped to, and the table of lines is folded to; other tables are as wide as they are.
const WIDTH: usize = 110;
/// With more groups than this, each is held only against the one with the highest interquartile mean.
const MOST_IN_PAIRS: usize = 4;
/// With more tasks than this, probabilities of single tasks are left to the JSON object.
const MOST_TASKS_BESIDE: usize = 5;

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Aligned columns.
    #[default]
    Text,
    /// GitHub's.
    Markdown,
    /// With `booktabs`.
    Latex,
}

/// The whole comparison: lines, numbers over tasks, notes. Where lines are groups (`by` of the options), Markdown and LaTeX have
/// a row per task and a column per group.
pub fn report(found: &Comparison, form: Form, grouped: bool) -> String {
    let papers = grouped && form != Form::Text;
    let mut folded = Vec::new();
    let mut tables = vec![if papers { by_task(found) } else { lines(found) }];
    if form == Form::Text {
        // Keys first; of the others only what says the same in every line.
        let is_key = |name: &str| found.keys.iter().any(|key| key == name);
        let own = ["task", "seeds", "updates", "seconds", "over"];
        let may_go = |name: &str, is_same: bool| is_key(name) || (is_same && own.contains(&name));
        let (table, notes) = tables.remove(0).folded(WIDTH, may_go);
        tables.push(table);
        folded = notes;
    }
    if let Some(over) = &found.over_tasks {
        if !papers {
            tables.push(over_tasks(over));
        }
        if !over.improvements.is_empty() {
            tables.push(improvements(over));
        }
    }
    let render = |table: &Table| match form {
        Form::Text => table.text(WIDTH),
        Form::Markdown => table.markdown(),
        Form::Latex => table.latex(),
    };
    let mut parts: Vec<String> = tables.iter().map(render).collect();
    if form == Form::Latex {
        parts.insert(0, "% \\usepackage{booktabs}\n".to_owned());
    }
    let note = |note: &String| match form {
        Form::Text => wrapped(&format!("note: {note}"), WIDTH, "  "),
        Form::Markdown => format!("* {}\n", escaped_for_markdown(note)),
        Form::Latex => format!("% {}\n", escaped_for_latex(note)),
    };
    let column = |text: &String| wrapped(&format!("column {text}"), WIDTH, "  ");
    if !folded.is_empty() {
        parts.insert(1, folded.iter().map(column).collect());
    }
    if !found.notes.is_empty() {
        parts.push(found.notes.iter().map(note).collect());
    }
    // The sentences too: the table may be kept in a file.
    printable(&parts.join("\n")).into_owned()
}

/// Every line with all its numbers, for other programs.
pub fn csv(found: &Comparison) -> String {
    let names = [
        "name",
        "algorithm",
        "task",
        "env",
        "seeds",
        "updates",
        "seconds",
        "measure",
        "last",
        "last_std",
        "low",
        "high",
        "over",
        "best_evaluation",
        "scores",
    ];
    let keys = found.keys.iter().map(String::as_str);
    let columns = names.into_iter().chain(keys).chain(["run"]);
    let mut table = Table::new(
        "",
        columns
            .map(|name| (name.to_owned(), Align::Words))
            .collect(),
    );
    for line in &found.lines {
        let end = |end: fn(Interval) -> f64| {
            let found = line.interval.map(|found| end(found.ends).to_string());
            found.unwrap_or_default()
        };
        let scores: Vec<String> = line.scores.iter().map(f64::to_string).collect();
        let mut row = vec![
            line.name.clone(),
            line.algorithm.clone(),
            line.task.clone(),
            line.env.clone().unwrap_or_default(),
            line.seeds.to_string(),
            line.update.to_string(),
            known(line.seconds),
            measure(line).to_owned(),
            line.last.to_string(),
            known(line.last_std),
            end(|found| found.low),
            end(|found| found.high),
            line.interval
                .map_or("", |found| found.over.name())
                .to_owned(),
            line.best.to_string(),
            scores.join(" "),
        ];
        row.extend(
            found
                .keys
                .iter()
                .map(|key| line.keys.get(key).cloned().unwrap_or_default()),
        );
        row.push(line.run.display().to_string());
        table.push(row);
    }
    table.csv()
}

/// The numbers over runs and tasks, a line each, for other programs: a group's mean, median, interquartile mean and optimality gap, and
/// the probability that its runs score higher than another group's (`over`), of all tasks together (`all`) and of each by itself.
pub fn aggregates_csv(over: &OverTasks) -> String {
    let names = [
        "name", "number", "over", "task", "tasks", "runs", "value", "low", "high",
    ];
    let columns = names.map(|name| (name.to_owned(), Align::Words)).to_vec();
    let mut table = Table::new("", columns);
    let count = over.tasks.len();
    let runs: HashMap<&String, &Vec<usize>> = over
        .groups
        .iter()
        .map(|group| (&group.name, &group.runs))
        .collect();
    let mut push = |[name, number, other, task]: [&str; 4], runs: usize, found: &Estimate| {
        let end = |end: fn(Interval) -> f64| {
            let found = found.interval.map(|found| end(found).to_string());
            found.unwrap_or_default()
        };
        let tasks = if task == "all" { count } else { 1 };
        table.push(vec![
            name.to_owned(),
            number.to_owned(),
            other.to_owned(),
            task.to_owned(),
            tasks.to_string(),
            runs.to_string(),
            found.value.to_string(),
            end(|found| found.low),
            end(|found| found.high),
        ]);
    };
    for group in &over.groups {
        let numbers = [
            ("mean", Some(group.mean)),
            ("median", Some(group.median)),
            ("interquartile_mean", Some(group.interquartile_mean)),
            ("optimality_gap", group.optimality_gap),
        ];
        for (number, found) in numbers {
            if let Some(found) = found {
                push(
                    [&group.name, number, "", "all"],
                    group.runs.iter().sum(),
                    &found,
                );
            }
        }
    }
    for pair in &over.improvements {
        let of = [&pair.better, "probability_of_improvement", &pair.worse];
        let tasks = std::iter::once("all").chain(over.tasks.iter().map(String::as_str));
        let better = runs.get(&pair.better).map_or(&[][..], |runs| &runs[..]);
        let counts = std::iter::once(better.iter().sum()).chain(better.iter().copied());
        let found = std::iter::once(&pair.over_tasks).chain(&pair.per_task);
        for ((task, found), runs) in tasks.zip(found).zip(counts) {
            push([of[0], of[1], of[2], task], runs, found);
        }
    }
    table.csv()
}

/// Writes [`csv()`] to a file.
///
/// # Errors
/// If the disk fails.
pub fn write_csv(found: &Comparison, path: &Path) -> Result<()> {
    write_atomically(path, csv(found).as_bytes())
}

/// Writes [`aggregates_csv()`] to a file.
///
/// # Errors
/// If the disk fails.
pub fn write_aggregates(over: &OverTasks, path: &Path) -> Result<()> {
    write_atomically(path, aggregates_csv(over).as_bytes())
}

fn seconds(line: &Line) -> String {
    if line.seconds.is_nan() {
        return "-".to_owned();
    }
    format!("{:.0}", line.seconds)
}

/// What a line's numbers are.
pub fn measure(line: &Line) -> &'static str {
    if line.normalized { "score" } else { "return" }
}

fn lines(found: &Comparison) -> Table {
    let one_kind = found.one_kind();
    let last = if one_kind {
        format!("last {}", measure(&found.lines[0]))
    } else {
        "last".to_owned()
    };
    let word = |name: &str| (name.to_owned(), Align::Words);
    let number = |name: &str| (name.to_owned(), Align::Numbers);
    let mut columns = vec![
        word("run"),
        word("algorithm"),
        word("task"),
        number("seeds"),
        number("updates"),
        number("seconds"),
        number(&last),
        number("95 % interval"),
        word("over"),
        number("best evaluation"),
    ];
    columns.extend(found.keys.iter().map(|key| word(key)));
    let mut table = Table::new(line_caption(found), columns);
    for line in &found.lines {
        let kind = if one_kind {
            String::new()
        } else {
            format!("{} ", measure(line))
        };
        let interval = line.interval.map(|found| interval_text(found.ends, 1));
        let over = line.interval.map_or("-", |found| found.over.name());
        let mut row = vec![
            line.name.clone(),
            line.algorithm.clone(),
            line.task.clone(),
            line.seeds.to_string(),
            line.update.to_string(),
            seconds(line),
            format!("{kind}{:.1}", line.last),
            interval.unwrap_or_else(|| "-".to_owned()),
            over.to_owned(),
            format!("{:.1}", line.best),
        ];
        row.extend(
            found
                .keys
                .iter()
                .map(|key| line.keys.get(key).cloned().unwrap_or_default()),
        );
        table.push(row);
    }
    let is_named = |line: &Line| line.name == line.algorithm;
    if found.lines.iter().all(is_named) {
        table = table.without("algorithm");
    }
    table
}

fn line_caption(found: &Comparison) -> String {
    let several = found.lines.iter().any(|line| line.seeds > 1);
    let last = if several {
        "Last: the last evaluation, its mean over seeds. Intervals: bootstrap over seeds; of one seed Student's t over episodes."
    } else {
        "Last: the last evaluation. Intervals: Student's t over episodes."
    };
    let best = if several {
        "the mean over seeds of each run's highest"
    } else {
        "the run's highest"
    };
    format!(
        "{last} Best evaluation: {best}, chosen by the number that it shows; the result is the last."
    )
}

/// A row per task and a column per group, then the numbers over tasks.
fn by_task(found: &Comparison) -> Table {
    let names = names(&found.lines);
    let mut columns = vec![("task".to_owned(), Align::Words)];
    columns.extend(names.iter().map(|name| (name.clone(), Align::Numbers)));
    let mut table = Table::new(by_task_caption(found), columns);
    let tasks = distinct(found.lines.iter().map(|line| &line.task));
    let one_kind = found.one_kind();
    let mut places: HashMap<(&String, &String), &Line> = HashMap::new();
    for line in &found.lines {
        places.entry((&line.task, &line.name)).or_insert(line);
    }
    let cell = |task: &String, name: &String| {
        let line = places.get(&(task, name));
        line.map_or_else(
            || "-".to_owned(),
            |line| {
                let kind = if one_kind {
                    String::new()
                } else {
                    format!("{} ", measure(line))
                };
                let last = Estimate {
                    value: line.last,
                    interval: line.interval.map(|found| found.ends),
                };
                format!("{kind}{}", estimate(&last, 1))
            },
        )
    };
    for task in tasks {
        let cells = names.iter().map(|name| cell(task, name));
        table.push(std::iter::once(task.clone()).chain(cells).collect());
    }
    if let Some(over) = &found.over_tasks {
        type Number = fn(&Aggregates) -> Option<Estimate>;
        let groups: HashMap<&String, &Aggregates> = over
            .groups
            .iter()
            .map(|group| (&group.name, group))
            .collect();
        let numbers: [(&str, Number); 4] = [
            ("mean over tasks", |group| group.over_tasks(group.mean)),
            ("median over tasks", |group| group.over_tasks(group.median)),
            ("interquartile mean", |group| Some(group.interquartile_mean)),
            ("optimality gap", |group| group.optimality_gap),
        ];
        for (label, number) in numbers {
            let of_group = |name: &String| groups.get(name).copied().and_then(number);
            let found: Vec<_> = names.iter().map(of_group).collect();
            if found.iter().any(Option::is_some) {
                let cells = found.iter().map(|found| {
                    found
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), |found| estimate(found, 1))
                });
                table.push(std::iter::once(label.to_owned()).chain(cells).collect());
            }
        }
    }
    table
}

fn by_task_caption(found: &Comparison) -> String {
    let seeds = found.lines.iter().map(|line| line.seeds);
    let (least, most) = (seeds.clone().min().unwrap_or(1), seeds.max().unwrap_or(1));
    let seeds = match (least, most) {
        (1, 1) => "one seed".to_owned(),
        _ if least == most => format!("{least} seeds"),
        _ => format!("{least} to {most} seeds"),
    };
    let kind = if found.one_kind() {
        measure(&found.lines[0])
    } else {
        "score or return"
    };
    let kind = if kind == "score" {
        "Normalised score"
    } else {
        "Return"
    };
    let intervals = if most == 1 {
        "95 % intervals of Student's t over episodes"
    } else if least == 1 {
        "95 % bootstrap intervals over seeds, of one seed Student's t over episodes"
    } else {
        "95 % bootstrap intervals over seeds"
    };
    format!("{kind} of the last checkpoint, mean of {seeds}; in brackets {intervals}.")
}

fn over_tasks(over: &OverTasks) -> Table {
    let names = [
        "run",
        "seeds",
        "interquartile mean",
        "mean",
        "median",
        "optimality gap",
    ];
    let align = |name: &str| {
        if name == "run" {
            Align::Words
        } else {
            Align::Numbers
        }
    };
    let columns = names
        .iter()
        .map(|name| ((*name).to_owned(), align(name)))
        .collect();
    let mut table = Table::new(over_tasks_caption(over), columns);
    for group in &over.groups {
        let counts: Vec<String> = group.runs.iter().map(usize::to_string).collect();
        let same = counts.iter().all(|count| *count == counts[0]);
        let gap = group.optimality_gap.as_ref();
        table.push(vec![
            group.name.clone(),
            if same {
                counts[0].clone()
            } else {
                counts.join(", ")
            },
            estimate(&group.interquartile_mean, 1),
            estimate(&group.mean, 1),
            estimate(&group.median, 1),
            gap.map_or_else(|| "-".to_owned(), |gap| estimate(gap, 1)),
        ]);
    }
    if !over.normalized {
        table = table.without("optimality gap");
    }
    if over.tasks.len() == 1 {
        table = table.without("median"); // of one mean
    }
    table
}

fn over_tasks_caption(over: &OverTasks) -> String {
    let tasks = match &over.tasks[..] {
        [task] => format!("Over the seeds on {task}"),
        tasks => format!(
            "Over seeds and {} tasks ({})",
            tasks.len(),
            tasks.join(", ")
        ),
    };
    let gap = if over.normalized {
        "; the gap is to a score of 100, less is better"
    } else {
        ""
    };
    format!(
        "{tasks}: last {}s, 95 % intervals from {} bootstrap samples of the seeds of each task{gap}.",
        if over.normalized { "score" } else { "return" },
        over.resamples
    )
}

fn improvements(over: &OverTasks) -> Table {
    let beside = over.tasks.len() > 1 && over.tasks.len() <= MOST_TASKS_BESIDE;
    let mut columns = vec![
        ("run".to_owned(), Align::Words),
        ("against".to_owned(), Align::Words),
    ];
    columns.push(("higher with probability".to_owned(), Align::Numbers));
    if beside {
        columns.extend(over.tasks.iter().map(|task| (task.clone(), Align::Numbers)));
    }
    let shown = shown_pairs(over);
    let mut caption = "Probability that a run of the one scores higher than one of the other, the mean over tasks; a tie counts half. \
         An interval at 0 or 1 has no width however few the runs are, which is no certainty."
        .to_owned();
    if shown.len() < over.improvements.len() {
        caption += " Only pairs with the highest interquartile mean; the JSON form has all.";
    }
    let mut table = Table::new(caption, columns);
    for pair in shown {
        let mut row = vec![
            over.improvements[pair].better.clone(),
            over.improvements[pair].worse.clone(),
            estimate(&over.improvements[pair].over_tasks, 2),
        ];
        if beside {
            row.extend(
                over.improvements[pair]
                    .per_task
                    .iter()
                    .map(|found| estimate(found, 2)),
            );
        }
        table.push(row);
    }
    table
}

/// Indices of the pairs that are printed and drawn: all, or those with the group of the highest interquartile mean.
pub fn shown_pairs(over: &OverTasks) -> Vec<usize> {
    let best = over.groups.iter().max_by(|a, b| {
        a.interquartile_mean
            .value
            .total_cmp(&b.interquartile_mean.value)
    });
    let is_shown = |index: &usize| {
        let pair = &over.improvements[*index];
        let with_best =
            best.is_some_and(|best| best.name == pair.better || best.name == pair.worse);
        over.groups.len() <= MOST_IN_PAIRS || with_best
    };
    (0..over.improvements.len()).filter(is_shown).collect()
}

fn estimate(found: &Estimate, decimals: usize) -> String {
    let value = format!("{:.decimals$}", found.value);
    match found.interval {
        Some(interval) => format!("{value} {}", interval_text(interval, decimals)),
        None => value,
    }
}

fn interval_text(interval: Interval, decimals: usize) -> String {
    format!(
        "[{:.decimals$}, {:.decimals$}]",
        interval.low, interval.high
    )
}
