//! `trajformer watch`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use trajformer::watch::{Glance, Status, look};

use crate::commands::dashboard::{self, View};
use crate::output;

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Run directories, or folders that hold some; new runs in them appear by themselves.
    pub runs: Vec<PathBuf>,
    /// Print one frame as text and exit, e.g. `watch runs --once`; always so where standard output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Columns and lines of the frame that is printed, e.g. `watch runs --once --size 160x50`.
    #[arg(long, value_name = "COLUMNSxLINES", default_value = "110x36", value_parser = size)]
    pub size: (u16, u16),
    /// Seconds between two looks at the files, e.g. `watch runs --every 10`.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x');
    let parsed = parsed.and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parsed {
        Some((w, h)) if (40..=500).contains(&w) && (10..=300).contains(&h) => Ok((w, h)),
        _ => Err("expected COLUMNSxLINES, 40 to 500 and 10 to 300, e.g. 110x36".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0.1 to 3600".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// If the terminal fails.
pub fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    if args.runs.is_empty() {
        anyhow::bail!(
            "name runs to watch: run directories, or folders that hold some, e.g. `trajformer watch runs{}`",
            if args.once { " --once" } else { "" }
        );
    }
    if args.once || !std::io::stdout().is_terminal() {
        let glances = look(&args.runs);
        output::whole(dashboard::text(&glances, args.size))?;
        let useless = |glance: &&Glance| matches!(glance.status, Status::Unknown | Status::Damaged);
        let useless: Vec<_> = glances.iter().filter(useless).collect();
        for problem in useless.iter().flat_map(|glance| &glance.problems) {
            output::complain(format_args!("error: {problem}"));
        }
        return Ok(if useless.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let watched = watch(&mut terminal, args);
    ratatui::restore();
    watched.context("the terminal")?;
    Ok(ExitCode::SUCCESS)
}

/// Draws until somebody quits.
fn watch(terminal: &mut DefaultTerminal, args: &WatchArgs) -> std::io::Result<()> {
    let every = Duration::from_secs_f64(args.every);
    let mut view = View::default();
    let (mut glances, mut looked) = (look(&args.runs), Instant::now());
    loop {
        terminal.draw(|frame| dashboard::draw(frame, &glances, &mut view))?;
        if event::poll(every.saturating_sub(looked.elapsed()))? {
            // A new size is drawn at once, as whatever else comes.
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if control => return Ok(()),
                    KeyCode::Right | KeyCode::Down | KeyCode::PageDown | KeyCode::Char(' ') => {
                        view.page += 1;
                    }
                    KeyCode::Left | KeyCode::Up | KeyCode::PageUp => {
                        view.page = view.page.saturating_sub(1);
                    }
                    _ => {}
                }
            }
        } else {
            (glances, looked) = (look(&args.runs), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_seconds_have_ranges() {
        assert_eq!(size("160x50"), Ok((160, 50)));
        for text in ["160", "x", "1x1", "160x5000", "-4x50", "160x"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(seconds("2.5"), Ok(2.5));
        for text in ["0", "-1", "nan", "inf", "often"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
