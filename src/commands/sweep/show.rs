//! What is seen of a sweep while it runs: a table that is drawn anew on a terminal, a line per event elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use trajformer::sweep::{Plan, Standing};
use trajformer::watch::seconds_between_lines;

use crate::commands::sweep::children::{Event, Fate};
use crate::output::complain;

/// Most lines of the table.
const MOST_LINES: usize = 20;

/// Shows events.
pub struct Show<'a> {
    plan: &'a Plan,
    runs: &'a [usize],
    jobs: usize,
    /// Where the standing of each run was when it was last looked at.
    standings: BTreeMap<usize, Standing>,
    /// When a running one was first seen, and with how many updates.
    since: BTreeMap<usize, (Instant, u64)>,
    ended: usize,
    /// How many runs gave each warning.
    warned: BTreeMap<String, usize>,
    /// When lines on what is running were last printed, where there is no terminal, and how often they are.
    told: Instant,
    every: Duration,
    table: Option<ProgressBar>,
}

impl<'a> Show<'a> {
    /// Nothing has happened yet; `runs` are those of this process, with what is there of them.
    pub fn new(
        plan: &'a Plan,
        runs: &'a [usize],
        standings: BTreeMap<usize, Standing>,
        jobs: usize,
    ) -> Self {
        let table = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg}");
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let ended = standings
            .values()
            .filter(|standing| standing.is_finished())
            .count();
        Self {
            plan,
            runs,
            jobs,
            standings,
            since: BTreeMap::new(),
            ended,
            warned: BTreeMap::new(),
            told: Instant::now(),
            every: seconds_between_lines(),
            table,
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(at) => {
                let updates = self.look(*at).map_or(0, |standing| standing.updates);
                self.since.insert(*at, (Instant::now(), updates));
                if self.table.is_none() {
                    let from = match updates {
                        0 => String::new(),
                        updates => format!(" from update {updates}"),
                    };
                    complain(format_args!("{}: started{from}", self.name(*at)));
                }
            }
            Event::Ended(at, fate) => {
                let standing = self.look(*at);
                self.since.remove(at);
                self.ended += usize::from(**fate == Fate::Finished);
                let text = self.ending(fate, standing);
                let of = (self.ended, self.runs.len());
                let text = format!("{}: {text} ({} of {})", self.name(*at), of.0, of.1);
                match &self.table {
                    None => complain(text),
                    Some(table) if matches!(fate, Fate::Failed(_)) => {
                        table.suspend(|| complain(text));
                    }
                    Some(_) => {}
                }
            }
            Event::Warned(text) => {
                let count = self.warned.entry((*text).to_owned()).or_default();
                *count += 1;
                if *count == 1 {
                    let warn = || tracing::warn!("{text}");
                    match &self.table {
                        None => warn(),
                        Some(table) => table.suspend(warn),
                    }
                }
            }
            Event::Waiting(runs) => {
                let text = format!(
                    "{} being trained by other processes: waiting",
                    runs_are(*runs)
                );
                match &self.table {
                    None => complain(text),
                    Some(table) => table.suspend(|| complain(text)),
                }
            }
            Event::Running(running) => {
                for at in *running {
                    self.look(*at);
                }
                match &self.table {
                    Some(table) => {
                        table.set_message(self.text(running));
                        table.tick();
                    }
                    None if self.told.elapsed() >= self.every => {
                        self.told = Instant::now();
                        running.iter().for_each(|at| complain(self.line(*at)));
                    }
                    None => {}
                }
            }
        }
    }

    /// Takes the table away, and says how many runs gave the same warning.
    pub fn finish(&self) {
        if let Some(table) = &self.table {
            table.finish_and_clear();
        }
        let runs = self.runs.len();
        for (text, count) in self.warned.iter().filter(|(_, count)| **count > 1) {
            complain(format_args!(
                "{count} of {runs} runs gave the warning that is shown once: {text}"
            ));
        }
    }

    fn name(&self, at: usize) -> String {
        self.plan.name(&self.plan.runs[at])
    }

    fn look(&mut self, at: usize) -> Option<Standing> {
        let standing = self.plan.standing(&self.plan.runs[at]).ok()?;
        self.standings.insert(at, standing);
        Some(standing)
    }

    fn ending(&self, fate: &Fate, standing: Option<Standing>) -> String {
        match fate {
            Fate::Finished => {
                let score = standing.and_then(|standing| standing.score);
                let seconds = standing.map_or(0.0, |standing| standing.seconds);
                let score =
                    score.map_or_else(String::new, |score| format!(", last score {score:.1}"));
                format!("finished{score}, {}", duration(seconds))
            }
            Fate::Failed(why) => format!("failed: {}", why.replace('\n', "\n    ")),
            Fate::Left => format!(
                "stopped at update {}",
                standing.map_or(0, |standing| standing.updates)
            ),
        }
    }

    /// How far a running run is.
    fn line(&self, at: usize) -> String {
        let (updates, total, score) = self.standings.get(&at).map_or((0, 0, None), |found| {
            (found.logged, found.total, found.score)
        });
        let rate = self.rate(at).filter(|rate| *rate > 0.0);
        let rest = rate.map_or_else(String::new, |rate| {
            let left = duration(total.saturating_sub(updates) as f64 / rate);
            format!(", {rate:.0}/s, {left} left")
        });
        let score = score.map_or_else(String::new, |score| format!("; last score {score:.1}"));
        let share = 100.0 * updates as f64 / total.max(1) as f64;
        format!(
            "{}: {updates} of {total} updates ({share:.0} %){rest}{score}",
            self.name(at)
        )
    }

    /// The table.
    fn text(&self, running: &[usize]) -> String {
        let estimate = Estimate::new(self.plan, &self.standings);
        let mut rows = Vec::new();
        let mut finished_lines = 0;
        for (number, line) in self.plan.lines.iter().enumerate() {
            let own: Vec<usize> = self
                .runs
                .iter()
                .copied()
                .filter(|at| self.plan.runs[*at].line == number)
                .collect();
            if own.is_empty() {
                continue;
            }
            let here = |at: &&usize| running.contains(at);
            let standings: Vec<&Standing> =
                own.iter().filter_map(|at| self.standings.get(at)).collect();
            let done = standings
                .iter()
                .filter(|standing| standing.is_finished())
                .count();
            let active = own.iter().filter(here).count();
            if done == own.len() {
                finished_lines += 1;
            }
            let scores: Vec<f64> = standings
                .iter()
                .filter_map(|standing| standing.score)
                .collect();
            let score = match scores.len() {
                0 => "-".to_owned(),
                count => format!("{:.1}", scores.iter().sum::<f64>() / count as f64),
            };
            let rate: f64 = own
                .iter()
                .filter(here)
                .filter_map(|at| self.rate(*at))
                .sum();
            let rate = if rate > 0.0 {
                format!("{rate:.0}/s")
            } else {
                "-".to_owned()
            };
            let left = estimate
                .seconds_left(&own, self.plan)
                .map_or_else(|| "-".to_owned(), duration);
            rows.push((
                active,
                done == own.len(),
                [
                    line.name.clone(),
                    format!("{done}/{active}/{}", own.len() - done - active),
                    score,
                    rate,
                    left,
                ],
            ));
        }
        // What is going on first.
        rows.sort_by_key(|(active, done, _)| (*active == 0, *done));
        let hidden = rows.len().saturating_sub(MOST_LINES);
        rows.truncate(MOST_LINES);
        let width = rows
            .iter()
            .map(|(.., cells)| cells[0].chars().count())
            .max()
            .unwrap_or(0);
        let mut text = format!(
            "{:width$}  done/running/left  last score     rate  time of one core\n",
            "configuration"
        );
        for (.., [name, counts, score, rate, left]) in &rows {
            let _ = writeln!(
                text,
                "{name:width$}  {counts:>17}  {score:>10}  {rate:>7}  {left:>16}"
            );
        }
        if hidden > 0 {
            let _ = writeln!(
                text,
                "... and {hidden} more ({finished_lines} finished in all)"
            );
        }
        let left = estimate.seconds_left(self.runs, self.plan);
        let left =
            left.map(|seconds| format!(", about {} left", duration(seconds / self.jobs as f64)));
        let _ = write!(
            text,
            "{} of {} runs finished{}",
            self.ended,
            self.runs.len(),
            left.unwrap_or_default()
        );
        text
    }

    /// Updates per second of a running run, since it was started here.
    fn rate(&self, at: usize) -> Option<f64> {
        let (begin, updates) = self.since.get(&at)?;
        let done = self.standings.get(&at)?.logged.checked_sub(*updates)?;
        (done > 0).then(|| done as f64 / begin.elapsed().as_secs_f64())
    }
}

/// How long what is left takes, from what is there.
pub struct Estimate<'a> {
    standings: &'a BTreeMap<usize, Standing>,
    /// Seconds per update of each line, where a run of it says so.
    of_line: BTreeMap<usize, f64>,
    of_algorithm: BTreeMap<&'a str, f64>,
}

impl<'a> Estimate<'a> {
    /// From what is there of each run.
    pub fn new(plan: &'a Plan, standings: &'a BTreeMap<usize, Standing>) -> Self {
        let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (at, standing) in standings {
            let sum = sums.entry(plan.runs[*at].line).or_default();
            *sum = (sum.0 + standing.seconds, sum.1 + standing.logged as f64);
        }
        sums.retain(|_, (seconds, updates)| *seconds > 0.0 && *updates > 0.0);
        let mut algorithms: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (line, (seconds, updates)) in &sums {
            let sum = algorithms
                .entry(plan.lines[*line].config.algorithm.name())
                .or_default();
            *sum = (sum.0 + seconds, sum.1 + updates);
        }
        Self {
            standings,
            of_line: sums
                .into_iter()
                .map(|(line, (seconds, updates))| (line, seconds / updates))
                .collect(),
            of_algorithm: algorithms
                .into_iter()
                .map(|(name, (seconds, updates))| (name, seconds / updates))
                .collect(),
        }
    }

    /// With seconds per update of lines, where no run says how long its own take.
    pub fn or_timed(mut self, timed: impl IntoIterator<Item = (usize, f64)>) -> Self {
        for (line, seconds) in timed {
            self.of_line.entry(line).or_insert(seconds);
        }
        self
    }

    /// Whether nothing says how long updates of a line take.
    pub fn is_unknown(&self, line: usize, plan: &Plan) -> bool {
        let name = plan.lines[line].config.algorithm.name();
        !self.of_line.contains_key(&line) && !self.of_algorithm.contains_key(name)
    }

    /// Seconds that `runs` need one after the other; `None` where nothing says how long one takes.
    pub fn seconds_left(&self, runs: &[usize], plan: &Plan) -> Option<f64> {
        let of_run = |at: &usize| {
            let line = plan.runs[*at].line;
            let total = plan.lines[line].config.total_updates();
            let standing = self.standings.get(at);
            if standing.is_some_and(Standing::is_finished) {
                return Some(0.0);
            }
            let left = total.saturating_sub(standing.map_or(0, |standing| standing.logged)) as f64;
            let name = plan.lines[line].config.algorithm.name();
            let per_update = self
                .of_line
                .get(&line)
                .or_else(|| self.of_algorithm.get(name))?;
            Some(left * per_update)
        };
        runs.iter().map(of_run).sum()
    }
}

/// `1 run is`, `2 runs are`.
pub fn runs_are(count: usize) -> String {
    match count {
        1 => "1 run is".to_owned(),
        _ => format!("{count} runs are"),
    }
}

/// `3 h 20 min`, `4 min 10 s`, `12 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) if hours < 48 => format!("{hours} h {minutes} min"),
        (hours, ..) => format!("{} d {} h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(250.0), "4 min 10 s");
        assert_eq!(duration(12_000.0), "3 h 20 min");
        assert_eq!(duration(200_000.0), "2 d 7 h");
    }
}
