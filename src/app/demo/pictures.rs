//! The demonstration's pictures: the maze, scores, learning curves.

use std::path::Path;

use crate::app::demo::scored::{Plan, Scored, position};
use crate::app::table;
use crate::envs::pointmaze::{GOAL_RADIUS, Layout};
use crate::report::bars::{Bar, Bars, Emphasis};
use crate::report::curves::{Curves, Series};
use crate::report::maze::{Geometry, MazePanel, MazePath, Mazes, Role};
use crate::report::{bars, curves, maze};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;

/// Paths in a picture: more hide the maze.
const SHOWN_DATA_EPISODES: usize = 6;
const SHOWN_EPISODES: usize = 6;
/// Shown plans start at least this far from each other and from the goal, in cells.
const BETWEEN_PLANS: f64 = 0.8;

/// What the maze picture shows.
pub(super) struct Shown<'a> {
    pub layout: &'a Layout,
    pub dataset: &'a Dataset,
    pub bc: &'a Scored,
    pub planner: &'a Scored,
}

impl Shown<'_> {
    pub fn draw(&self, path: &Path) -> Result<()> {
        let words = |score: f64| format!("{score:.0}").replace('-', "−");
        let (planner_score, bc_score) = (words(self.planner.score().0), words(self.bc.score().0));
        let goal = self.layout.goal();
        let plans = spread_out(&self.planner.plans, (goal[0], goal[1]));
        let futures = plans.first().map_or(0, |plan| plan.futures.len());
        let steps = plans.first().map_or(0, |plan| plan.futures[0].len());
        let panels = vec![
            self.panel(
                "The data",
                "a controller went to random places, the star as any other",
                self.logged(),
            ),
            self.panel(
                "What behaviour cloning does",
                &format!("score {bc_score}: whatever the data does on average"),
                taken(self.bc, Role::Imitator),
            ),
            self.panel(
                "What the planner imagines",
                &format!("{futures} futures of {steps} steps from each ring, and what came of it"),
                self.imagined(&plans),
            ),
            self.panel(
                "What the planner does",
                &format!(
                    "score {planner_score}: the best future's first steps, then it plans anew"
                ),
                taken(self.planner, Role::Planner),
            ),
        ];
        let picture = Mazes {
            title: "The same data, used in two ways".to_owned(),
            subtitle: "Reward is paid in the yellow disc only. Score: 0 random actions, 100 a \
                       controller that knows the maze."
                .to_owned(),
            panels,
            names: Vec::new(),
        };
        maze::draw(path, &picture)
    }

    fn panel(
        &self,
        title: &str,
        note: &str,
        paths: impl IntoIterator<Item = MazePath>,
    ) -> MazePanel {
        let (columns, rows) = self.layout.size();
        let row = |row: usize| {
            (0..columns)
                .map(|column| self.layout.is_wall(column, row))
                .collect()
        };
        let paths: Vec<MazePath> = paths.into_iter().collect();
        let real = paths
            .iter()
            .filter(|path| !matches!(path.role, Role::Imagined | Role::Chosen));
        let goal = self.layout.goal();
        MazePanel {
            title: title.to_owned(),
            note: note.to_owned(),
            geometry: Geometry {
                walls: (0..rows).map(row).collect(),
                cell: 1.0,
                origin: (0.0, 0.0),
            },
            starts: real
                .filter_map(|path| path.points.first().copied())
                .collect(),
            goals: vec![(goal[0], goal[1])],
            reward_radius: GOAL_RADIUS,
            paths,
        }
    }

    fn logged(&self) -> impl Iterator<Item = MazePath> + '_ {
        let episodes = self.dataset.episodes.iter().take(SHOWN_DATA_EPISODES);
        episodes.map(|episode| MazePath {
            points: episode
                .range()
                .map(|step| position(self.dataset.observation(step)))
                .collect(),
            role: Role::Data,
        })
    }

    /// Plans, and where the planner really went in the steps after each of them.
    fn imagined(&self, plans: &[&Plan]) -> Vec<MazePath> {
        let mut paths = Vec::new();
        for plan in plans {
            for (index, points) in plan.futures.iter().enumerate() {
                let role = if index == 0 {
                    Role::Chosen
                } else {
                    Role::Imagined
                };
                let points = points.clone();
                paths.push(MazePath { points, role });
            }
            let after = self.planner.rows[plan.episode].iter().skip(plan.step);
            paths.push(MazePath {
                points: after.take(plan.futures[0].len()).copied().collect(),
                role: Role::Planner,
            });
        }
        paths
    }
}

/// The first plans that leave some room between them and to the goal.
fn spread_out(plans: &[Plan], goal: (f64, f64)) -> Vec<&Plan> {
    let mut chosen: Vec<&Plan> = Vec::new();
    for plan in plans {
        let (x, y) = plan.place();
        let mut others = chosen.iter().map(|plan| plan.place()).chain([goal]);
        if others.all(|other| (other.0 - x).hypot(other.1 - y) >= BETWEEN_PLANS) {
            chosen.push(plan);
        }
    }
    chosen
}

fn taken(scored: &Scored, role: Role) -> impl Iterator<Item = MazePath> + '_ {
    let shown = scored.rows.iter().take(SHOWN_EPISODES);
    shown.map(move |points| MazePath {
        points: points.clone(),
        role,
    })
}

pub(super) fn draw_scores(
    path: &Path,
    episodes: usize,
    scores: &[(&str, (f64, f64), Emphasis)],
) -> Result<()> {
    let bars = scores.iter().map(|(label, (value, error), emphasis)| Bar {
        label: (*label).to_owned(),
        value: *value,
        error: Some(*error),
        emphasis: *emphasis,
    });
    bars::draw(
        path,
        &Bars {
            title: "Who gets to the goal".to_owned(),
            subtitle: format!(
                "mean and deviation over {episodes} episodes from starts all over the maze"
            ),
            value_label: "normalised score".to_owned(),
            bars: bars.collect(),
            reference_lines: Vec::new(),
        },
    )
}

/// A learning curve, in words.
pub(super) struct LossPicture {
    title: &'static str,
    subtitle: &'static str,
    /// Column of metrics.csv.
    column: &'static str,
    unit: &'static str,
}

impl LossPicture {
    pub const PLANNER: Self = Self {
        title: "Trajectory Transformer: learning to predict the data",
        subtitle: "weighted cross-entropy of the next token, in training batches",
        column: "loss",
        unit: "loss (nats)",
    };
    pub const BC: Self = Self {
        title: "Behaviour cloning: learning to act as the data",
        subtitle: "squared error of the action, in training batches",
        column: "actor_loss",
        unit: "mean squared error",
    };

    /// Draws the curve of the run in folder `run`.
    pub fn draw(&self, run: &Path, path: &Path) -> Result<()> {
        let rows = table::numbers(&run.join("metrics.csv"), ["update", self.column])?;
        let points = rows.iter().map(|&[update, loss]| (update, loss)).collect();
        curves::draw(
            path,
            &Curves {
                title: self.title.to_owned(),
                subtitle: self.subtitle.to_owned(),
                x_label: "updates".to_owned(),
                y_label: self.unit.to_owned(),
                series: vec![Series::line("training loss", points)],
                ..Curves::default()
            },
        )
    }
}
