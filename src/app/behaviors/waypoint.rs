//! [`WaypointPolicy`]: a controller for the point mazes that knows the walls. It is the expert of
//! their scores, and with random goals the collector of undirected data, as in D4RL's maze2d.

use candle_core::{DType, Device, Tensor};

use crate::envs::pointmaze::{Layout, center, distances, neighbors};
use crate::envs::rooms;
use crate::envs::rooms::Room;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};
use trajformer_models::rng::Rng;

/// Force per cell of distance to the waypoint.
const STIFFNESS: f64 = 4.0;
/// Force per cell per second of speed: with the maze's drag, close to critical damping.
const DAMPING: f64 = 1.4;
/// A random goal counts as reached within this distance, at up to half a cell per second.
const REACHED: f64 = 0.2;
/// After a random goal is reached, the ball rests there for up to this many steps.
const REST_STEPS: usize = 10;

/// Where the controller goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goals {
    /// To the maze's goal (or the one that the episode start names, as an observation or as a room in words), where
    /// it stays.
    Fixed,
    /// From one random free cell to the next, resting for a few steps at each.
    Random,
    /// To one random free cell, where it stays: so the last position of an episode is its goal.
    RandomOnce,
}

/// Shortest way through free cells, then a spring and a damper towards the farthest waypoint in
/// a straight line. Batched over episodes.
#[derive(Debug, Clone)]
pub struct WaypointPolicy {
    layout: Layout,
    goals: Goals,
    noise: f64,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    rng: Rng,
    goal: [f64; 2],
    /// Steps to the goal from every cell, row-major from the bottom.
    distances: Vec<Option<usize>>,
    /// Steps left to rest at a reached goal.
    rest: Option<usize>,
}

impl WaypointPolicy {
    /// A controller for this maze. `noise` is the standard deviation of Gaussian noise added to each force
    /// (0 for none); forces are clamped to ±1 afterwards.
    pub fn new(layout: Layout, goals: Goals, noise: f64) -> Self {
        Self {
            layout,
            goals,
            noise,
            rows: Vec::new(),
        }
    }

    fn start(&self, start: &EpisodeStart) -> Result<Row> {
        let mut rng = start.rng.clone();
        let goal = match (&start.goal, self.goals) {
            (Some(goal), _) => self.goal_position(goal)?,
            (None, Goals::Fixed) => match &start.instruction {
                Some(text) if self.layout.name() == rooms::MAZE => {
                    center(Room::named_in(text)?.middle)
                }
                _ => self.layout.goal(),
            },
            (None, Goals::Random | Goals::RandomOnce) => self.random_goal(&mut rng),
        };
        let distances = distances(&self.layout, self.layout.cell_of(goal));
        Ok(Row {
            rng,
            goal,
            distances,
            rest: None,
        })
    }

    /// Position of a goal observation: its first two numbers.
    fn goal_position(&self, goal: &[f32]) -> Result<[f64; 2]> {
        if let [x, y, ..] = *goal {
            let position = [f64::from(x), f64::from(y)];
            if !self.layout.is_blocked(position) {
                return Ok(position);
            }
        }
        let name = self.layout.name().to_owned();
        Err(Error::Env {
            name,
            problem: format!("goal {goal:?} is not a free position"),
        })
    }

    fn random_goal(&self, rng: &mut Rng) -> [f64; 2] {
        let cells = self.layout.free_cells();
        center(cells[rng.below(cells.len())])
    }

    fn force(&self, row: &mut Row, position: [f64; 2], velocity: [f64; 2]) -> [f32; 2] {
        if self.goals == Goals::Random {
            self.follow_random_goals(row, position, velocity);
        }
        let target = waypoint(&self.layout, &row.distances, row.goal, position);
        let mut force = [0.0; 2];
        for axis in 0..2 {
            let pull = STIFFNESS * (target[axis] - position[axis]) - DAMPING * velocity[axis];
            let noise = if self.noise > 0.0 {
                self.noise * row.rng.normal()
            } else {
                0.0
            };
            force[axis] = (pull.clamp(-1.0, 1.0) + noise).clamp(-1.0, 1.0) as f32;
        }
        force
    }

    /// Draws the next goal once this one is reached and the rest is over.
    fn follow_random_goals(&self, row: &mut Row, position: [f64; 2], velocity: [f64; 2]) {
        let distance = (row.goal[0] - position[0]).hypot(row.goal[1] - position[1]);
        row.rest = match row.rest {
            None if distance < REACHED && velocity[0].hypot(velocity[1]) < 0.5 => {
                Some(row.rng.below(REST_STEPS + 1))
            }
            None => None,
            Some(0) => {
                row.goal = self.random_goal(&mut row.rng);
                row.distances = distances(&self.layout, self.layout.cell_of(row.goal));
                None
            }
            Some(steps) => Some(steps - 1),
        };
    }
}

impl Policy for WaypointPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.rows = episodes
            .iter()
            .map(|start| self.start(start))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let observations = observations.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        check_rows(self.rows.len(), observations.len())?;
        let mut rows = std::mem::take(&mut self.rows);
        let mut actions = Vec::with_capacity(2 * rows.len());
        for ((row, observation), &active) in rows.iter_mut().zip(&observations).zip(active) {
            let [x, y, vx, vy] = observation[..] else {
                let found = observation.len();
                let problem = format!("an observation has 4 numbers, the controller got {found}");
                return Err(Error::Env {
                    name: self.layout.name().to_owned(),
                    problem,
                });
            };
            let force = if active {
                self.force(row, [x.into(), y.into()], [vx.into(), vy.into()])
            } else {
                [0.0; 2]
            };
            actions.extend(force);
        }
        self.rows = rows;
        Ok(Tensor::from_vec(
            actions,
            (observations.len(), 2),
            &Device::Cpu,
        )?)
    }
}

/// The farthest cell centre that lies straight ahead on the way, or the goal itself.
fn waypoint(
    layout: &Layout,
    distances: &[Option<usize>],
    goal: [f64; 2],
    position: [f64; 2],
) -> [f64; 2] {
    let columns = layout.size().0;
    let closer = |from: (usize, usize)| {
        let steps = distances[from.1 * columns + from.0]?;
        let next = neighbors(from)
            .into_iter()
            .filter(|&(c, r)| !layout.is_wall(c, r));
        next.filter(|&(c, r)| distances[r * columns + c].is_some_and(|d| d < steps))
            .min()
    };
    let start = layout.cell_of(position);
    let (mut cell, mut corner) = (start, None);
    while let Some(next) = closer(cell) {
        if next.0 != start.0 && next.1 != start.1 {
            corner = Some(center(cell));
            break;
        }
        cell = next;
    }
    corner.unwrap_or(goal)
}
