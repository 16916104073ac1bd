//! The dashboard of `watch`: a table of runs above their curves, drawn on a terminal or as text.

use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Cell, Chart, Dataset, GraphType, Paragraph, Row, Table};
use ratatui::{Frame, Terminal};
use trajformer::watch::{Glance, Status, duration};

/// Colours of runs, one after the other.
const COLORS: [Color; 6] = [
    Color::Cyan,
    Color::Yellow,
    Color::Magenta,
    Color::Green,
    Color::Red,
    Color::Blue,
];
/// Least columns and lines of a chart.
const CHART: (u16, u16) = (36, 9);
/// Most letters of a run's name.
const NAME: usize = 34;
/// Columns of a run's row without its name.
const BESIDE_NAME: usize = 2 + 13 + (BAR + 5) + 13 + 9 + 11 + 9 + 9 + 8;
/// Cells of a bar of progress.
const BAR: usize = 12;
/// Most points of a line: more can't be told apart.
const POINTS: usize = 600;

/// Which of the charts are shown.
#[derive(Debug, Default)]
pub struct View {
    /// The page, where not all fit; one past the last becomes the last.
    pub page: usize,
    /// Whether colours are missing, so that lines are drawn with the numbers of their runs.
    plain: bool,
}

/// One frame as plain text, of so many columns and lines at most.
pub fn text(glances: &[Glance], (columns, lines): (u16, u16)) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, lines));
    let mut view = View {
        plain: true,
        ..View::default()
    };
    let Ok(frame) = terminal.draw(|frame| draw(frame, glances, &mut view));
    let mut text = String::new();
    for row in frame.buffer.content.chunks(usize::from(columns)) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    format!("{}\n", text.trim_end())
}

/// Draws the whole frame.
pub fn draw(frame: &mut Frame<'_>, glances: &[Glance], view: &mut View) {
    let area = frame.area();
    let problems: Vec<Line<'_>> = glances.iter().flat_map(problem_lines).collect();
    let most = area.height / 2;
    let rows = (glances.len() as u16 + 1).min(most.max(2));
    let said = (problems.len() as u16).min(most / 2);
    let [head, below, charts, foot] = Layout::vertical([
        Constraint::Length(rows),
        Constraint::Length(said),
        Constraint::Min(0),
        Constraint::Length(if view.plain { 0 } else { 1 }),
    ])
    .areas(area);
    frame.render_widget(
        table(
            glances,
            usize::from(rows.saturating_sub(1)),
            area.width,
            view,
        ),
        head,
    );
    frame.render_widget(Paragraph::new(problems).style(Style::new().red()), below);
    let pages = draw_charts(frame, charts, glances, view);
    let keys = if pages > 1 {
        format!("q quit   ←/→ more curves ({}/{pages})", view.page + 1)
    } else {
        "q quit".to_owned()
    };
    frame.render_widget(Paragraph::new(keys).style(Style::new().dim()), foot);
}

fn problem_lines(glance: &Glance) -> Vec<Line<'static>> {
    let name = name(glance);
    let line = |problem: &String| Line::from(format!("{name}: {problem}"));
    glance.problems.iter().map(line).collect()
}

/// The last part of a run's folder, with the one above it for a seed.
fn name(glance: &Glance) -> String {
    let parts: Vec<_> = glance
        .folder
        .iter()
        .map(|part| part.to_string_lossy())
        .collect();
    match &parts[..] {
        [.., above, last] if last.starts_with("seed-") => format!("{above}/{last}"),
        [.., last] => last.to_string(),
        [] => ".".to_owned(),
    }
}

/// The last letters of a text that is longer than `most`: what tells runs apart, a seed or a checkpoint, comes last.
fn ending(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let last = text.chars().skip(count + 1 - most);
    std::iter::once('…').chain(last).collect()
}

fn color(run: usize) -> Color {
    COLORS[run % COLORS.len()]
}

fn table<'a>(glances: &[Glance], rows: usize, columns: u16, view: &View) -> Table<'a> {
    let room = usize::from(columns).saturating_sub(BESIDE_NAME);
    let longest = glances.iter().map(|glance| name(glance).chars().count());
    let longest = longest.max().unwrap_or(0).clamp(10, NAME.min(room.max(10)));
    let row = |numbered| run_row(numbered, longest);
    let mut shown: Vec<Row<'_>> = glances.iter().enumerate().take(rows).map(row).collect();
    let hidden = glances.len().saturating_sub(rows);
    if hidden > 0 && !shown.is_empty() {
        let last = format!("… {} more", hidden + 1);
        shown.pop();
        shown.push(Row::new([Cell::from(""), Cell::from(last)]));
    }
    let widths = [
        Constraint::Length(2),
        Constraint::Length(longest as u16),
        Constraint::Length(13),
        Constraint::Length(BAR as u16 + 5),
        Constraint::Length(13),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Min(9),
    ];
    let head = [
        "", "run", "state", "progress", "updates", "rate", "left", "last", "best",
    ];
    let style = if view.plain {
        Style::new()
    } else {
        Style::new().bold()
    };
    Table::new(shown, widths)
        .header(Row::new(head).style(style))
        .column_spacing(1)
}

fn run_row<'a>((at, glance): (usize, &Glance), letters: usize) -> Row<'a> {
    let share = (glance.update as f64 / glance.total.max(1) as f64).min(1.0);
    let full = (share * BAR as f64).floor() as usize;
    let progress = match glance.total {
        0 => String::new(),
        _ => format!(
            "{}{} {:3.0}%",
            "█".repeat(full),
            "░".repeat(BAR - full),
            100.0 * share
        ),
    };
    let (state, style) = match glance.status {
        Status::Finished => ("finished".to_owned(), Style::new().green()),
        Status::StoppedEarly => ("stopped early".to_owned(), Style::new().green()),
        Status::Training => ("training".to_owned(), Style::new().cyan()),
        Status::Quiet(time) => (
            format!("quiet {}", duration(time.as_secs_f64())),
            Style::new().yellow(),
        ),
        Status::Damaged => ("damaged".to_owned(), Style::new().red()),
        Status::Unknown => ("unknown".to_owned(), Style::new().red()),
    };
    let rate = glance
        .rate
        .filter(|_| !matches!(glance.status, Status::Unknown));
    let score = |value: Option<f64>| value.map_or(String::new(), compact);
    let cells = [
        Cell::from(Span::styled((at + 1).to_string(), color(at))),
        Cell::from(ending(&name(glance), letters)),
        Cell::from(Span::styled(state, style)),
        Cell::from(progress),
        Cell::from(format!(
            "{}/{}",
            compact(glance.update as f64),
            compact(glance.total as f64)
        )),
        Cell::from(rate.map_or(String::new(), |rate| format!("{}/s", compact(rate)))),
        Cell::from(glance.left().map_or(String::new(), duration)),
        Cell::from(score(glance.last())),
        Cell::from(score(glance.best())),
    ];
    Row::new(cells)
}

/// A number in few letters: `0.0123`, `12.3`, `1234`, `50k`, `1.2M`.
fn compact(number: f64) -> String {
    let size = number.abs();
    let (scaled, unit) = match size {
        _ if size >= 1e15 => return format!("{number:.1e}"),
        _ if size >= 1e9 => (number / 1e9, "G"),
        _ if size >= 1e6 => (number / 1e6, "M"),
        _ if size >= 1e4 => (number / 1e3, "k"),
        _ if size > 0.0 && size < 1e-3 => return format!("{number:.1e}"),
        _ => (number, ""),
    };
    let decimals = match scaled.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

/// What one chart shows: a line for each run, by the run's place.
struct Panel {
    title: String,
    lines: Vec<(usize, Vec<(f64, f64)>)>,
}

/// Scores first, then the columns of `metrics.csv` in their order.
fn panels(glances: &[Glance]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    let mut add = |title: &str, run: usize, points: &[(f64, f64)]| {
        let points = thinned(points);
        match panels.iter_mut().find(|panel| panel.title == title) {
            Some(panel) => panel.lines.push((run, points)),
            None => panels.push(Panel {
                title: title.to_owned(),
                lines: vec![(run, points)],
            }),
        }
    };
    for title in ["score", "return"] {
        for (run, glance) in glances.iter().enumerate() {
            if !glance.scores.is_empty() && glance.normalized == (title == "score") {
                add(title, run, &glance.scores);
            }
        }
    }
    for (run, glance) in glances.iter().enumerate() {
        for curve in &glance.curves {
            add(&curve.name, run, &curve.points);
        }
    }
    panels
}

/// Means of neighbours, where there are more points than can be told apart.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(size).map(mean).collect()
}

/// Draws what fits of the charts; how many pages there are.
fn draw_charts(frame: &mut Frame<'_>, area: Rect, glances: &[Glance], view: &mut View) -> usize {
    let panels = panels(glances);
    let columns = usize::from((area.width / CHART.0).max(1));
    let rows = usize::from(area.height / CHART.1);
    if rows == 0 {
        return 1;
    }
    if panels.is_empty() {
        frame.render_widget(Paragraph::new("no rows yet"), area);
        return 1;
    }
    // No more places than there are charts.
    let columns = columns.min(panels.len());
    let rows = rows.min(panels.len().div_ceil(columns));
    let pages = panels.len().div_ceil(columns * rows);
    view.page = view.page.min(pages - 1);
    let shown = panels.iter().skip(view.page * columns * rows);
    let places = Layout::vertical(vec![Constraint::Ratio(1, rows as u32); rows]).split(area);
    let places = places.iter().flat_map(|row| {
        let parts = vec![Constraint::Ratio(1, columns as u32); columns];
        Layout::horizontal(parts).split(*row).to_vec()
    });
    for (panel, place) in shown.zip(places) {
        draw_panel(frame, place, panel, view);
    }
    pages
}

fn draw_panel(frame: &mut Frame<'_>, area: Rect, panel: &Panel, view: &View) {
    let marker = |run: usize| {
        let digit = (b'1' + (run % 9) as u8) as char;
        if view.plain && panel.lines.len() > 1 {
            Marker::Custom(digit)
        } else {
            Marker::Braille
        }
    };
    let data = panel.lines.iter().map(|(run, points)| {
        let kind = if points.len() > 1 {
            GraphType::Line
        } else {
            GraphType::Scatter
        };
        Dataset::default()
            .marker(marker(*run))
            .graph_type(kind)
            .style(color(*run))
            .data(points)
    });
    let last = panel.lines.iter().filter_map(|(_, points)| points.last());
    let last: Vec<String> = last.map(|point| compact(point.1)).take(4).collect();
    let all = || panel.lines.iter().flat_map(|(_, points)| points);
    let end = all().map(|point| point.0).fold(0.0, f64::max);
    let (low, high) = range(all().map(|point| point.1).collect());
    let labels = [low, (low + high) / 2.0, high].map(compact);
    let chart = Chart::new(data.collect())
        .block(Block::bordered().title(format!(" {}  {} ", panel.title, last.join(" "))))
        .legend_position(None)
        .x_axis(axis([0.0, end.max(1.0)], ["0".to_owned(), compact(end)]))
        .y_axis(axis([low, high], labels));
    frame.render_widget(chart, area);
}

fn axis<'a, const N: usize>(bounds: [f64; 2], labels: [String; N]) -> Axis<'a> {
    Axis::default()
        .bounds(bounds)
        .labels(labels)
        .style(Style::new().dark_gray())
}

/// From the lowest to the highest value, a little more on both sides. Single values that make the rest a flat line (losses of the first
/// updates) are left outside.
fn range(mut values: Vec<f64>) -> (f64, f64) {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let (Some(&least), Some(&most)) = (values.first(), values.last()) else {
        return (0.0, 1.0);
    };
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(0.02), at(0.98));
    let (low, high) = if most - least > 3.0 * (high - low) && high > low {
        (low, high)
    } else {
        (least, most)
    };
    let margin = if high > low {
        0.05 * (high - low)
    } else {
        // A flat line stands in the middle.
        (0.1 * high.abs()).max(1e-6)
    };
    (low - margin, high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::time::Duration;
    use trajformer::watch::Curve;

    fn glance(name: &str, status: Status) -> Glance {
        let curve = |name: &str, value: fn(f64) -> f64| Curve {
            name: name.to_owned(),
            points: (1..=50)
                .map(|at| (f64::from(at) * 1000.0, value(f64::from(at))))
                .collect(),
        };
        Glance {
            folder: PathBuf::from("runs").join(name),
            algorithm: "td3_bc".to_owned(),
            env: Some("hopper-v4".to_owned()),
            update: 50_000,
            total: 100_000,
            seconds: 100.0,
            rate: Some(500.0),
            status,
            normalized: true,
            scores: vec![(10_000.0, 20.0), (30_000.0, 52.5), (50_000.0, 41.25)],
            curves: vec![
                curve("actor_loss", |at| 1.0 / at),
                curve("critic_loss", |at| at),
            ],
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_frame_shows_runs_rates_scores_and_curves() {
        let shown = text(&[glance("a", Status::Training)], (110, 30));
        assert!(shown.lines().count() <= 30, "{shown}");
        for word in [
            "training",
            "50k/100k",
            "██████░░░░░░  50%",
            "500/s",
            "100 s",
            "41.2",
            "52.5",
            "score",
            "actor_loss",
            "critic_loss",
            "100k",
        ] {
            assert!(shown.contains(word), "{word}\n{shown}");
        }
        // Curves are drawn in dots.
        let dots = |line: &str| line.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
        assert!(
            shown.lines().filter(|line| dots(line)).count() > 10,
            "{shown}"
        );
    }

    #[test]
    fn runs_are_told_apart_by_their_numbers_where_there_are_no_colours() {
        let mut other = glance("b", Status::Finished);
        other.scores.iter_mut().for_each(|point| point.1 += 20.0);
        let shown = text(
            &[glance("a", Status::Quiet(Duration::from_secs(600))), other],
            (110, 30),
        );
        for word in ["quiet 10 min", "finished"] {
            assert!(shown.contains(word), "{word}\n{shown}");
        }
        let digits = |line: &&str| line.contains("111") || line.contains("222");
        assert!(shown.lines().filter(digits).count() > 3, "{shown}");
    }

    #[test]
    fn long_names_keep_their_ends() {
        let name = "decision_transformer-halfcheetah-medium-replay-short/seed-0";
        for (columns, end) in [
            (140, "…heetah-medium-replay-short/seed-0 "),
            (110, "…eplay-short/seed-0 "),
        ] {
            let shown = text(&[glance(name, Status::Training)], (columns, 30));
            assert!(shown.contains(end), "{shown}");
        }
        assert_eq!(ending("seed-0", 6), "seed-0");
        assert_eq!(ending("/seed-0", 6), "…eed-0");
    }

    #[test]
    fn problems_are_shown_and_the_rest_too() {
        let mut bad = glance("a", Status::Unknown);
        bad.problems = vec!["metrics.csv: line 3 is odd".to_owned()];
        let shown = text(&[bad, glance("b", Status::Training)], (110, 30));
        assert!(shown.contains("a: metrics.csv: line 3 is odd"), "{shown}");
        assert!(
            shown.contains("training") && shown.contains("actor_loss"),
            "{shown}"
        );
        let nothing = text(&[], (110, 30));
        assert!(nothing.contains("no rows yet"), "{nothing}");
    }

    #[test]
    fn any_size_and_any_number_of_runs_can_be_drawn() {
        let many: Vec<Glance> = (0..40)
            .map(|at| glance(&format!("r{at}"), Status::Training))
            .collect();
        let mut odd = glance("odd", Status::Training);
        odd.scores = vec![(0.0, f64::MAX), (0.0, f64::MIN), (1.0, 0.0)];
        odd.curves[0].points = vec![(5.0, 3.0)];
        odd.curves[1].points = vec![(5.0, 3.0); 5000];
        for (w, h) in [(1, 1), (2, 40), (40, 10), (80, 24), (300, 90), (500, 300)] {
            text(&many, (w, h));
            text(&[odd.clone()], (w, h));
        }
        let shown = text(&many, (110, 30));
        assert!(shown.contains("… 27 more"), "{shown}");
    }

    #[test]
    fn pages_end_with_the_last_chart() {
        let mut all = glance("a", Status::Training);
        let curve = all.curves[0].clone();
        all.curves = (0..30)
            .map(|at| Curve {
                name: format!("metric_{at}"),
                ..curve.clone()
            })
            .collect();
        let Ok(mut terminal) = Terminal::new(TestBackend::new(80, 24));
        let mut view = View {
            page: 99,
            plain: false,
        };
        let Ok(frame) = terminal.draw(|frame| draw(frame, &[all], &mut view));
        let shown: String = frame
            .buffer
            .content
            .iter()
            .map(|cell| cell.symbol())
            .collect();
        assert!(
            shown.contains("metric_29") && shown.contains("q quit"),
            "{shown}"
        );
        assert!(view.page < 99);
    }

    #[test]
    fn numbers_are_short_and_outliers_do_not_flatten_a_curve() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.34, "12.3"),
            (1234.0, "1234"),
            (50_000.0, "50k"),
            (1_250_000.0, "1.25M"),
            (-3.0, "-3"),
            (0.000_04, "4.0e-5"),
        ] {
            assert_eq!(compact(number), text);
        }
        let mut losses: Vec<f64> = (0..100).map(|at| f64::from(at % 10)).collect();
        losses[0] = 1e6;
        let (low, high) = range(losses);
        assert!(low > -1.0 && high < 10.0, "{low} {high}");
        assert_eq!(range(vec![2.0, 2.0]), (1.8, 2.2));
        assert_eq!(range(vec![f64::NAN]), (0.0, 1.0));
    }
}
