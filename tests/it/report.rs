//! Pictures: every kind is drawn with both back ends from made-up numbers.
//!
//! They stay in cargo's folder for temporary files of tests, to be looked at.

use std::path::PathBuf;

use trajformer::report::bars::{self, Bar, Bars, Emphasis};
use trajformer::report::curves::{self, Curves, ReferenceLine, Scale, Series};
use trajformer::report::intervals::{self, Colors, Column, Intervals, Mark};
use trajformer::report::maze::{self, Geometry, MazePanel, MazePath, Mazes, Role};
use trajformer::report::panels::{self, Panel, Panels};
use trajformer::report::plan::{self, Plan, PlanPanel};
use trajformer::report::tokens::{self, TokenPanel, TokenPicture};

/// Draws `name` as SVG and PNG and checks what can be checked without eyes.
fn check(name: &str, draw: impl Fn(&std::path::Path), words: &[&str]) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
    let svg_path = folder.join(format!("{name}.svg"));
    let png_path = folder.join(format!("{name}.png"));
    draw(&svg_path);
    draw(&png_path);

    let svg = std::fs::read_to_string(&svg_path).unwrap();
    assert!(
        svg.trim_start().starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
        "{name}"
    );
    for word in words {
        assert!(svg.contains(word), "{name}.svg lacks `{word}`");
    }

    let png = std::fs::read(&png_path).unwrap();
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n", "{name}");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    let (width, height) = (number(16), number(20));
    let head = svg.lines().find(|line| line.contains("<svg")).unwrap();
    // A PNG has two pixels for each of the SVG's.
    let size = format!("width=\"{}\" height=\"{}\"", width / 2, height / 2);
    assert!(
        head.contains(&size),
        "{name}: {width} x {height}, but {head}"
    );
    assert!(
        png.len() > 5_000,
        "{name}: {} bytes can't hold words and lines",
        png.len()
    );
}

/// Numbers that look like noise and are the same each time, in -1 to 1.
fn noise(seed: u64, index: u64) -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_mul(0xbf58_476d_1ce4);
    for _ in 0..3 {
        state = (state ^ (state >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
    (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

#[test]
fn learning_curves_show_the_mean_the_band_and_every_run() {
    let runs = |seed: u64, best: f64| -> Vec<Vec<(f64, f64)>> {
        let run = |index: u64| {
            let at = |step: u64| {
                let rise = 1.0 - (-(step as f64) / 5.0).exp();
                (
                    step as f64 * 2500.0,
                    best * rise + 7.0 * noise(seed + index, step),
                )
            };
            (0..=20).map(at).collect()
        };
        (0..4).map(run).collect()
    };
    let chart = Curves {
        title: "hopper-medium: score while training".to_owned(),
        subtitle: "mean and standard deviation of 4 seeds, 20 episodes each".to_owned(),
        x_label: "gradient updates".to_owned(),
        y_label: "normalized score (100 = expert)".to_owned(),
        y_scale: Scale::Linear,
        series: vec![
            Series::of_runs("Trajectory Transformer", runs(1, 62.0)),
            Series::of_runs("TD3+BC", runs(11, 48.0)),
            Series::of_runs("behavior cloning", runs(21, 35.0)),
        ],
        reference_lines: vec![
            ReferenceLine {
                label: "mean of the data".to_owned(),
                y: 55.0,
            },
            ReferenceLine {
                label: "behavior cloning, 10 %".to_owned(),
                y: 56.5,
            },
        ],
    };
    let words = [
        "hopper-medium",
        "TD3+BC",
        "gradient updates",
        "normalized score",
        "50k",
        "data",
    ];
    check("score", |path| curves::draw(path, &chart).unwrap(), &words);
}

#[test]
fn a_band_of_a_single_point_is_an_error_bar() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
    let lines = |band: Option<Vec<(f64, f64)>>| {
        let series = Series {
            band,
            ..Series::line("one evaluation", vec![(100.0, 20.0)])
        };
        let ends = Series::line("others", vec![(0.0, 10.0), (200.0, 40.0)]);
        let chart = Curves {
            series: vec![series, ends],
            ..Curves::default()
        };
        let path = folder.join("point.svg");
        curves::draw(&path, &chart).unwrap();
        std::fs::read_to_string(&path)
            .unwrap()
            .matches("<polyline ")
            .count()
    };
    // The bar and its two caps.
    assert_eq!(lines(Some(vec![(12.0, 28.0)])), lines(None) + 3);
}

#[test]
fn every_task_has_a_chart_of_its_own_under_one_legend() {
    let rising = |label: &str, seed: u64, best: f64| {
        let at = |step: u64| {
            let rise = 1.0 - (-(step as f64) / 5.0).exp();
            (step as f64 * 5_000.0, best * rise + 3.0 * noise(seed, step))
        };
        let points: Vec<_> = (1..=20).map(at).collect();
        let band = points.iter().map(|point| (point.1 - 6.0, point.1 + 6.0));
        Series {
            band: Some(band.collect()),
            ..Series::line(label, points.clone())
        }
    };
    let panel = |(index, label): (usize, &str)| {
        let index = index as u64;
        let mut series = vec![
            rising("td3_bc", index, 50.0 + 10.0 * index as f64),
            rising("iql", index + 7, 45.0 + 12.0 * index as f64),
            rising("bc", index + 14, 40.0),
        ];
        if index == 1 {
            series[2] = Series::line("bc", Vec::new()); // did not run there
        }
        Panel {
            label: label.to_owned(),
            series,
        }
    };
    let tasks = [
        "hopper-medium-replay-v2",
        "halfcheetah-medium-replay-v2",
        "walker2d-medium-replay-v2",
        "pen-human-v1",
    ];
    let charts = Panels {
        title: "Learning curves".to_owned(),
        subtitle:
            "mean normalised score of each evaluation, band: ± one standard deviation over seeds"
                .to_owned(),
        x_label: "updates".to_owned(),
        y_label: "normalised score".to_owned(),
        panels: tasks.into_iter().enumerate().map(panel).collect(),
    };
    let words = ["Learning", "pen-human-v1", "updates", "td3_bc", "100k"];
    check(
        "panels",
        |path| panels::draw(path, &charts).unwrap(),
        &words,
    );
    let two = Panels {
        panels: charts.panels[..2].to_vec(),
        ..charts
    };
    check("two_panels", |path| panels::draw(path, &two).unwrap(), &[]);
}

#[test]
fn intervals_stand_in_rows_under_the_names_of_their_numbers() {
    let mark = |value: f64, half: f64| {
        Some(Mark {
            value,
            ends: Some((value - half, value + 1.4 * half)),
        })
    };
    let column = |label: &str, shift: f64| Column {
        label: label.to_owned(),
        marks: vec![
            mark(61.2 + shift, 4.0),
            mark(55.4 + shift, 6.5),
            Some(Mark {
                value: 38.0 + shift,
                ends: None,
            }),
            None,
        ],
        decimals: 1,
        ..Column::default()
    };
    let rows = ["td3_bc", "iql", "bc (one seed)", "decision_transformer"];
    let chart = Intervals {
        title: "Last checkpoints".to_owned(),
        subtitle:
            "normalised score, 9 tasks, 5 seeds; bar: 95 % of 2000 bootstrap samples of the seeds"
                .to_owned(),
        rows: rows.map(str::to_owned).to_vec(),
        columns: vec![
            column("interquartile mean", 0.0),
            column("mean", -3.3),
            column("median", 2.1),
            column("optimality gap (less is better)", -20.0),
        ],
        colors: Colors::ByRow,
    };
    let words = [
        "interquartile",
        "61.2",
        "38.0",
        "decision_transformer",
        "(less",
    ];
    check(
        "intervals",
        |path| intervals::draw(path, &chart).unwrap(),
        &words,
    );
    let pair = |value: f64, half: f64| {
        Some(Mark {
            value,
            ends: Some((value - half, (value + half).min(1.0))),
        })
    };
    let chart = Intervals {
        title: "Probability of improvement".to_owned(),
        rows: ["td3_bc over iql", "td3_bc over bc"]
            .map(str::to_owned)
            .to_vec(),
        columns: vec![Column {
            label: "probability".to_owned(),
            marks: vec![pair(0.58, 0.17), pair(0.93, 0.1)],
            decimals: 2,
            reference: Some(0.5),
            range: Some((0.0, 1.0)),
        }],
        colors: Colors::One,
        ..chart
    };
    let words = ["Probability", "0.58", "td3_bc over bc"];
    check(
        "improvement",
        |path| intervals::draw(path, &chart).unwrap(),
        &words,
    );
}

#[test]
fn losses_fall_on_a_logarithmic_axis() {
    let losses = |seed: u64, end: f64| -> Vec<(f64, f64)> {
        let at = |step: u64| {
            let mean = end + 3.0 * (-(step as f64) / 120.0).exp();
            (step as f64 * 10.0, mean * (0.25 * noise(seed, step)).exp())
        };
        (0..800).map(at).collect()
    };
    let chart = Curves {
        title: "Training loss".to_owned(),
        subtitle: String::new(),
        x_label: "gradient updates".to_owned(),
        y_label: "cross-entropy per token (nats)".to_owned(),
        y_scale: Scale::Log,
        series: vec![
            Series::smoothed("seed 0", losses(1, 0.05), 10),
            Series::smoothed("seed 1", losses(2, 0.08), 10),
        ],
        reference_lines: Vec::new(),
    };
    let words = ["Training loss", "seed 1", "nats", "0.1"];
    check("loss", |path| curves::draw(path, &chart).unwrap(), &words);
}

/// A path that wanders through the cells (column, row) given.
fn wander(seed: u64, cells: &[(f64, f64)], spread: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for (index, pair) in cells.windows(2).enumerate() {
        for step in 0..12 {
            let part = f64::from(step) / 12.0;
            let at = index as u64 * 12 + step as u64;
            let shake = |axis: u64| {
                spread * (noise(seed, axis) + 0.6 * (0.4 * at as f64 + axis as f64).sin())
            };
            points.push((
                pair[0].0 + part * (pair[1].0 - pair[0].0) + 0.5 + shake(7),
                pair[0].1 + part * (pair[1].1 - pair[0].1) + 0.5 + shake(8),
            ));
        }
    }
    points
}

fn umaze() -> Geometry {
    let walls = ["#####", "#...#", "###.#", "#...#", "#####"];
    let walls = walls.map(|row| row.chars().map(|cell| cell == '#').collect());
    Geometry {
        walls: walls.to_vec(),
        cell: 1.0,
        origin: (0.0, 0.0),
    }
}

#[test]
fn a_maze_shows_data_plans_and_the_paths_taken() {
    let whole = [
        (1.0, 1.0),
        (2.0, 1.0),
        (3.0, 1.0),
        (3.0, 2.0),
        (3.0, 3.0),
        (2.0, 3.0),
        (1.0, 3.0),
    ];
    let paths = |role: Role, count: u64, spread: f64, cells: &[(f64, f64)]| -> Vec<MazePath> {
        let path = |seed: u64| MazePath {
            points: wander(seed + 1, cells, spread),
            role,
        };
        (0..count).map(path).collect()
    };
    let panel = |title: &str, note: &str, paths: Vec<MazePath>| MazePanel {
        title: title.to_owned(),
        note: note.to_owned(),
        geometry: umaze(),
        paths,
        starts: vec![(1.5, 1.5)],
        goals: vec![(1.5, 3.5)],
        reward_radius: 0.5,
    };
    let mut data = paths(Role::Data, 30, 0.22, &whole[..4]);
    data.extend(paths(Role::Data, 30, 0.22, &whole[3..]));
    let mut plans = paths(Role::Imagined, 16, 0.18, &whole[..5]);
    plans.extend(paths(Role::Chosen, 1, 0.1, &whole[..5]));
    let mut taken = paths(Role::Imitator, 1, 0.15, &whole[..3]);
    taken.extend(paths(Role::Planner, 1, 0.08, &whole));
    let picture = Mazes {
        title: "PointMaze: a planner joins pieces of paths that nobody took as a whole".to_owned(),
        subtitle: "the data never runs from the start to the goal".to_owned(),
        panels: vec![
            panel("The data", "60 of 400 episodes", data),
            panel(
                "Imagined at the start",
                "beam of 17 plans, 48 steps ahead",
                plans,
            ),
            panel(
                "What really happened",
                "planner 91, behavior cloning 12",
                taken,
            ),
        ],
        names: Vec::new(),
    };
    let words = [
        "paths in the data",
        "imagined plans",
        "path of the planner",
        "goal",
        "reward is paid",
        "beam of 17",
    ];
    check("maze", |path| maze::draw(path, &picture).unwrap(), &words);
}

#[test]
fn a_plan_shows_predictions_beside_what_happened() {
    let panel = |seed: u64, label: &str, size: f64| {
        let truth = |step: u64| size * (0.35 * step as f64 + seed as f64).sin();
        let predicted = |beam: u64, drift: f64| -> Vec<(f64, f64)> {
            let error = |step: u64| drift * size * (step - 10) as f64 * noise(seed, beam) / 15.0;
            (10..=25)
                .map(|step| (step as f64, truth(step) + error(step)))
                .collect()
        };
        PlanPanel {
            label: label.to_owned(),
            imagined: (0..24).map(|beam| predicted(beam, 1.0)).collect(),
            chosen: predicted(99, 0.3),
            real: (0..=25).map(|step| (step as f64, truth(step))).collect(),
        }
    };
    let picture = Plan {
        title: "hopper-v4: one plan and what came of it".to_owned(),
        subtitle: "beam of 25 plans, 15 steps ahead; the plan is carried out blindly".to_owned(),
        x_label: "environment step".to_owned(),
        planned_at: Some(10.0),
        panels: vec![
            panel(1, "observation 0", 0.02),
            panel(2, "observation 1", 1.0),
            panel(3, "observation 5", 4.0),
            panel(4, "observation 8", 300.0),
            panel(5, "reward", 3.0),
        ],
    };
    let words = [
        "what happened",
        "observation 8",
        "reward",
        "environment step",
    ];
    check("plan", |path| plan::draw(path, &picture).unwrap(), &words);
}

#[test]
fn bars_show_scores_with_their_errors() {
    let bar = |label: &str, value: f64, error: Option<f64>, emphasis: Emphasis| Bar {
        label: label.to_owned(),
        value,
        error,
        emphasis,
    };
    let chart = Bars {
        title: "PointMaze: who reaches the goal?".to_owned(),
        subtitle: "mean and 95 % interval over 50 episodes from starts spread over the maze"
            .to_owned(),
        value_label: "normalized score (0 = random, 100 = controller)".to_owned(),
        bars: vec![
            bar("controller", 100.0, Some(1.2), Emphasis::Quiet),
            bar("Trajectory Transformer", 83.4, Some(6.1), Emphasis::Strong),
            bar("mean of the data", 21.9, None, Emphasis::Quiet),
            bar("behavior cloning", 14.2, Some(5.3), Emphasis::Quiet),
            bar("random actions", -0.6, Some(1.9), Emphasis::Quiet),
        ],
        reference_lines: Vec::new(),
    };
    let words = ["controller", "83.4 ± 6.1", "−0.6 ± 1.9", "100 = controller"];
    check("bars", |path| bars::draw(path, &chart).unwrap(), &words);
}

#[test]
fn pictures_of_nothing_are_drawn_and_unknown_endings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["svg", "png"] {
        let path = folder
            .path()
            .join("new folder")
            .join(format!("empty.{ending}"));
        curves::draw(&path, &Curves::default()).unwrap();
        maze::draw(&path, &Mazes::default()).unwrap();
        maze::draw(
            &path,
            &Mazes {
                panels: vec![MazePanel::default()],
                ..Mazes::default()
            },
        )
        .unwrap();
        plan::draw(&path, &Plan::default()).unwrap();
        bars::draw(&path, &Bars::default()).unwrap();
    }
    let error = bars::draw(&folder.path().join("scores.pdf"), &Bars::default()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("scores.pdf") && error.contains(".svg or .png"),
        "{error}"
    );
    assert!(!folder.path().join("scores.pdf").exists());
}

#[test]
fn values_that_are_not_finite_interrupt_a_line_and_words_are_escaped() {
    let mut points: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), f64::from(x * x))).collect();
    points[4].1 = f64::NAN;
    points[7].1 = f64::INFINITY;
    let chart = Curves {
        title: "a < b & \"c\"".to_owned(),
        series: vec![Series::line("line", points)],
        ..Curves::default()
    };
    check(
        "gaps",
        |path| curves::draw(path, &chart).unwrap(),
        &["a &lt; b &amp; "],
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gaps.svg");
    curves::draw(&path, &chart).unwrap();
    let svg = std::fs::read_to_string(path).unwrap();
    let pieces = svg
        .lines()
        .filter(|l| l.contains("<polyline") && l.contains("#0072B2"))
        .count();
    assert_eq!(pieces, 4, "three pieces and the legend's line");
}

#[test]
fn tokens_show_bins_over_the_data_and_what_comes_back() {
    let bell = |at: usize| {
        let x = at as f64 / 10.0 - 3.0;
        (x, 0.08 * (-x * x / 2.0).exp())
    };
    let edges = (0..=20)
        .map(|edge| (f64::from(edge) / 10.0 - 1.0) * 3.0)
        .collect();
    let bins = TokenPicture {
        title: "20 uniform bins per dimension".to_owned(),
        subtitle: "made up".to_owned(),
        panels: vec![
            TokenPanel::Bins {
                label: "observation 0".to_owned(),
                histogram: (0..60).map(bell).collect(),
                edges,
            },
            TokenPanel::Bins {
                label: "never changes".to_owned(),
                histogram: vec![(2.0, 1.0)],
                edges: vec![2.0; 21],
            },
        ],
    };
    check(
        "token_bins",
        |path| tokens::draw(path, &bins).unwrap(),
        &["edges of the bins", "never changes"],
    );
    let wave = |step: u64| (step as f64, (step as f64 / 4.0).sin());
    let restored = |step: u64| (step as f64, wave(step).1 + 0.1 * noise(5, step));
    let path = TokenPicture {
        title: "FAST: chunks of 8 actions in 4.0 tokens".to_owned(),
        subtitle: String::new(),
        panels: vec![TokenPanel::Path {
            label: "action 0".to_owned(),
            original: (0..80).map(wave).collect(),
            restored: (0..80).map(restored).collect(),
        }],
    };
    check(
        "token_path",
        |file| tokens::draw(file, &path).unwrap(),
        &["from its tokens", "action 0"],
    );
}
