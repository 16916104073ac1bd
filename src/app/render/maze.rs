//! The ball on its way through a maze, and the plans at each step.

use crate::app::render::scene::{Scene, Words};
use crate::app::report::episodes::Recorded;
use crate::envs::pointmaze::{GOAL_RADIUS, Layout, SECONDS_PER_STEP};
use crate::report::maze::{self, Geometry, MazePanel, MazePath, Mazes, Role};
use crate::report::moving::Frame;
use trajformer_core::error::Result;

pub(super) struct Maze {
    layout: Layout,
    width: usize,
}

impl Maze {
    pub(super) fn new(layout: Layout, width: usize) -> Self {
        Self { layout, width }
    }

    fn geometry(&self) -> Geometry {
        let (columns, rows) = self.layout.size();
        let row = |row: usize| {
            (0..columns)
                .map(|column| self.layout.is_wall(column, row))
                .collect()
        };
        Geometry {
            walls: (0..rows).map(row).collect(),
            cell: 1.0,
            origin: (0.0, 0.0),
        }
    }
}

fn place(observation: &[f32]) -> (f64, f64) {
    (f64::from(observation[0]), f64::from(observation[1]))
}

impl Scene for Maze {
    fn seconds_per_step(&self) -> f64 {
        SECONDS_PER_STEP
    }

    fn begin(&mut self, _: &Recorded) -> Result<()> {
        Ok(())
    }

    fn frame(&mut self, episode: &Recorded, step: usize, words: &Words) -> Result<Frame> {
        let here = place(episode.observation(step));
        let mut paths = Vec::new();
        if episode.is_planned() {
            let (ahead, futures) = episode.plan(step).unwrap_or((0, &[]));
            // Also without a plan at this step, so that every frame has the same legend.
            let path = |future: Option<&Vec<Vec<f32>>>, role| {
                let later = future.into_iter().flatten().skip(ahead + 1);
                let points = std::iter::once(here).chain(later.map(|row| place(row)));
                MazePath {
                    points: points.collect(),
                    role,
                }
            };
            paths.push(path(futures.first(), Role::Chosen));
            paths.push(path(None, Role::Imagined));
            paths.extend(
                futures
                    .iter()
                    .skip(1)
                    .map(|f| path(Some(f), Role::Imagined)),
            );
        }
        let taken = (0..=step).map(|step| place(episode.observation(step)));
        paths.push(MazePath {
            points: taken.collect(),
            role: if episode.is_planned() {
                Role::Planner
            } else {
                Role::Named(0)
            },
        });
        let goal = episode.place_to_reach();
        let number = episode.number() + 1;
        let panel = MazePanel {
            title: episode.instruction().map_or_else(
                || format!("Episode {number}"),
                |text| format!("Episode {number}: {text}"),
            ),
            note: format!("step {}, return {:.1}", words.step, words.sum),
            geometry: self.geometry(),
            paths,
            starts: vec![place(episode.observation(0))],
            goals: goal.map(|[x, y]| (x, y)).into_iter().collect(),
            reward_radius: GOAL_RADIUS,
        };
        let picture = Mazes {
            title: self.layout.name().to_owned(),
            subtitle: String::new(),
            panels: vec![panel],
            names: if episode.is_planned() {
                Vec::new()
            } else {
                vec!["path".to_owned()]
            },
        };
        maze::frame(&picture, self.width)
    }

    /// The last one: the whole path is there.
    fn telling_step(&self, steps: usize) -> usize {
        steps - 1
    }

    fn advance(&mut self, _: &Recorded, _: usize) -> Result<()> {
        Ok(())
    }
}
