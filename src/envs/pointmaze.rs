//! `pointmaze-umaze`, `-medium`, `-large`: push a ball through a maze to a fixed goal; `pointmaze-rooms`: to the
//! room that the episode is asked for, in words (see [`rooms`]).
//!
//! The task of D4RL's maze2d (mazes of the same shape, reward 1 in every step that ends within 0.5
//! of the goal, no termination, 300 / 600 / 800 steps), in plain Rust. Not its simulator: a step is
//! ten times longer, so that a cell takes about five steps, and walls stop the ball dead. Scores
//! are measured against own reference returns and **can't be compared with D4RL's**.
//!
//! The world is in cells: x to the right, y up, cell (column, row from the bottom) spans
//! `column..column + 1` and `row..row + 1`. Observations: x, y, x velocity, y velocity (cells per
//! second). Actions: forces in ±1 along x and y.

use std::collections::VecDeque;

use crate::envs::reference::ReferenceReturns;
use crate::envs::rooms;
use crate::envs::rooms::Room;
use trajformer_core::dataset::ActionKind;
use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::environment::{check_action, check_observation};
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Rng;

/// The ball's radius in cells.
pub const BALL_RADIUS: f64 = 0.1;
/// Within this distance of the goal a step is rewarded.
pub const GOAL_RADIUS: f64 = 0.5;
/// Seconds that an action lasts.
pub const SECONDS_PER_STEP: f64 = 0.1;
/// Acceleration of a force of 1, cells per second².
pub(super) const ACCELERATION: f64 = 5.0;
/// Drag per second: a force of 1 ends at 2.5 cells per second.
const DRAG: f64 = 2.0;
/// Integration steps per action; in each, the ball moves at most a quarter of its radius.
const SUBSTEPS: usize = 10;
/// Starts are this far from a cell's centre, at most, along x and y.
const START_SPREAD: f64 = 0.3;

/// Walls, goal and limits of one maze.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    name: &'static str,
    max_episode_steps: usize,
    reference: ReferenceReturns,
    columns: usize,
    rows: usize,
    /// Row-major from the bottom; true is a wall.
    walls: Vec<bool>,
    goal: (usize, usize),
}

/// Name, limit in steps, reference returns (random, controller), picture.
type Maze = (&'static str, usize, (f64, f64), &'static [&'static str]);

/// Mazes as pictures, the top row first: `#` wall, `.` free, `G` goal.
///
/// Reference returns: mean undiscounted return of uniformly random actions, and of
/// [`WaypointPolicy`](super::waypoint::WaypointPolicy) heading for the goal, over 2,000 episodes
/// each, measured with this code (tests/it/envs.rs measures them again); in the maze of rooms one of them drawn per
/// episode.
const MAZES: [Maze; 4] = [
    (
        "pointmaze-umaze",
        300,
        (32.56, 283.57),
        &["#####", "#G..#", "###.#", "#...#", "#####"],
    ),
    (
        "pointmaze-medium",
        600,
        (22.95, 560.7),
        &[
            "########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#G.#",
            "########",
        ],
    ),
    (
        "pointmaze-large",
        800,
        (12.26, 752.38),
        &[
            "############",
            "#....#.....#",
            "#.##.#.#.#.#",
            "#......#...#",
            "#.####.###.#",
            "#..#.#.....#",
            "##.#.#.#.###",
            "#..#...#.G.#",
            "############",
        ],
    ),
    (
        rooms::MAZE,
        100,
        (0.64, 59.73),
        &[
            "###########",
            "#...#.#...#",
            "#.......G.#",
            "#...#.#...#",
            "#####.#####",
            "#####.#####",
            "#####.#####",
            "#...#.#...#",
            "#.........#",
            "#...#.#...#",
            "###########",
        ],
    ),
];

/// Names of the mazes.
pub fn names() -> impl Iterator<Item = &'static str> {
    MAZES.iter().map(|maze| maze.0)
}

/// Reference returns of the maze called `name`, measured with this code.
pub(super) fn reference_for(name: &str) -> Option<ReferenceReturns> {
    MAZES
        .iter()
        .find(|maze| maze.0 == name)
        .map(|maze| maze.2.into())
}

/// The maze called `name` as an environment.
pub(super) fn make(name: &str) -> Result<Box<dyn Environment>> {
    match Layout::named(name) {
        Some(layout) => Ok(Box::new(PointMaze::new(layout))),
        None => Err(Error::Env {
            name: name.to_owned(),
            problem: "no point maze has this name".to_owned(),
        }),
    }
}

impl Layout {
    /// The maze called `name`, e.g. `pointmaze-umaze`.
    pub fn named(name: &str) -> Option<Self> {
        let (name, max_episode_steps, reference, picture) =
            MAZES.iter().find(|maze| maze.0 == name)?;
        let (columns, rows) = (picture[0].len(), picture.len());
        let from_bottom: String = picture.iter().rev().copied().collect();
        let goal = from_bottom.find('G')?;
        Some(Self {
            name,
            max_episode_steps: *max_episode_steps,
            reference: (*reference).into(),
            columns,
            rows,
            walls: from_bottom.chars().map(|cell| cell == '#').collect(),
            goal: (goal % columns, goal / columns),
        })
    }

    /// Its registered name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns of the random policy and of the controller.
    pub fn reference(&self) -> ReferenceReturns {
        self.reference
    }

    /// Width and height in cells, the outer walls included.
    pub fn size(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// Whether cell (column, row from the bottom) is a wall; everything outside is.
    pub fn is_wall(&self, column: usize, row: usize) -> bool {
        column >= self.columns || row >= self.rows || self.walls[row * self.columns + column]
    }

    /// The free cells (column, row from the bottom), row by row from the bottom.
    pub fn free_cells(&self) -> Vec<(usize, usize)> {
        let cells = (0..self.rows).flat_map(|row| (0..self.columns).map(move |c| (c, row)));
        cells
            .filter(|&(column, row)| !self.is_wall(column, row))
            .collect()
    }

    /// The goal's cell.
    pub fn goal_cell(&self) -> (usize, usize) {
        self.goal
    }

    /// The goal: the centre of its cell.
    pub fn goal(&self) -> [f64; 2] {
        center(self.goal)
    }

    /// The cell that a position lies in.
    pub fn cell_of(&self, position: [f64; 2]) -> (usize, usize) {
        let index = |value: f64, count: usize| (value.max(0.0) as usize).min(count - 1);
        (
            index(position[0], self.columns),
            index(position[1], self.rows),
        )
    }

    /// Whether the ball, taken as a square, overlaps a wall when its centre is here.
    pub fn is_blocked(&self, position: [f64; 2]) -> bool {
        // Touching is not overlapping: rounding must not glue the ball to a wall it slides along.
        let reach = BALL_RADIUS - 1e-9;
        let (left, bottom) = self.cell_of([position[0] - reach, position[1] - reach]);
        let (right, top) = self.cell_of([position[0] + reach, position[1] + reach]);
        (left..=right).any(|column| (bottom..=top).any(|row| self.is_wall(column, row)))
    }
}

/// The centre of a cell.
pub fn center((column, row): (usize, usize)) -> [f64; 2] {
    [column as f64 + 0.5, row as f64 + 0.5]
}

/// A ball in a maze.
#[derive(Debug, Clone)]
pub struct PointMaze {
    spec: EnvSpec,
    layout: Layout,
    /// Where reward is paid, in a maze of rooms.
    room: Option<&'static Room>,
    position: [f64; 2],
    velocity: [f64; 2],
    steps: usize,
}

impl PointMaze {
    /// The ball at rest on the goal; [`Environment::reset`] draws a start.
    pub fn new(layout: Layout) -> Self {
        let spec = EnvSpec {
            name: layout.name.to_owned(),
            observation_dim: 4,
            action_dim: 2,
            action_kind: ActionKind::Continuous,
            action_low: vec![-1.0; 2],
            action_high: vec![1.0; 2],
            max_episode_steps: layout.max_episode_steps,
        };
        let has_rooms = layout.name == rooms::MAZE;
        Self {
            spec,
            room: has_rooms.then(|| Room::at(layout.goal_cell())).flatten(),
            position: layout.goal(),
            velocity: [0.0; 2],
            layout,
            steps: 0,
        }
    }

    /// Walls and goal.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Position and velocity.
    pub fn state(&self) -> ([f64; 2], [f64; 2]) {
        (self.position, self.velocity)
    }

    /// Replaces position and velocity and starts counting steps anew.
    ///
    /// # Errors
    /// If the ball would overlap a wall.
    pub fn set_state(&mut self, position: [f64; 2], velocity: [f64; 2]) -> Result<()> {
        if self.layout.is_blocked(position) {
            let problem = format!(
                "a ball at ({}, {}) overlaps a wall",
                position[0], position[1]
            );
            return Err(trajformer_core::error::Error::Env {
                name: self.spec.name.clone(),
                problem,
            });
        }
        (self.position, self.velocity, self.steps) = (position, velocity, 0);
        Ok(())
    }

    fn observation(&self) -> Vec<f32> {
        self.position
            .iter()
            .chain(&self.velocity)
            .map(|&v| v as f32)
            .collect()
    }

    /// One integration step of one axis: drag and force, then the move, which a wall cuts short.
    fn advance(&mut self, axis: usize, force: f64) {
        let seconds = SECONDS_PER_STEP / SUBSTEPS as f64;
        let acceleration = ACCELERATION * force - DRAG * self.velocity[axis];
        self.velocity[axis] += acceleration * seconds;
        let mut target = self.position;
        target[axis] += self.velocity[axis] * seconds;
        if !self.layout.is_blocked(target) {
            self.position = target;
            return;
        }
        // The ball moves less than a cell: the wall begins where its leading edge enters a cell.
        let direction = self.velocity[axis].signum();
        let edge = target[axis] + direction * BALL_RADIUS;
        let face = if direction > 0.0 {
            edge.floor()
        } else {
            edge.ceil()
        };
        self.position[axis] = face - direction * BALL_RADIUS;
        self.velocity[axis] = 0.0;
    }
}

impl Environment for PointMaze {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// At rest, in a free cell drawn uniformly, up to 0.3 from its centre along x and y; in a maze of rooms
    /// outside the one to reach.
    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::from_seed(seed);
        let cells = self.layout.free_cells();
        let mut cell = cells[rng.below(cells.len())];
        while self.room.is_some_and(|room| room.contains(cell)) {
            cell = cells[rng.below(cells.len())];
        }
        let mut position = center(cell);
        for value in &mut position {
            *value += START_SPREAD * (2.0 * rng.uniform() - 1.0);
        }
        self.set_state(position, [0.0; 2])?;
        Ok(self.observation())
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        check_action(&self.spec, action)?;
        for _ in 0..SUBSTEPS {
            for (axis, &force) in action.iter().enumerate() {
                self.advance(axis, f64::from(force).clamp(-1.0, 1.0));
            }
        }
        self.steps += 1;
        let near = match self.room {
            Some(room) => room.contains(self.layout.cell_of(self.position)),
            None => {
                let [x, y] = self.layout.goal();
                (self.position[0] - x).hypot(self.position[1] - y) <= GOAL_RADIUS
            }
        };
        Ok(Step {
            observation: self.observation(),
            reward: f32::from(u8::from(near)),
            terminated: false,
            truncated: self.steps >= self.spec.max_episode_steps,
        })
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        Some(Box::new(self.clone()))
    }

    fn reset_to(&mut self, observation: &[f32]) -> Result<Option<Vec<f32>>> {
        check_observation(&self.spec, observation)?;
        let at = |index: usize| f64::from(observation[index]);
        self.set_state([at(0), at(1)], [at(2), at(3)])?;
        Ok(Some(self.observation()))
    }

    /// At rest on the goal, or in the middle of the room: its position, and no velocity.
    fn goal(&self) -> Option<Vec<f32>> {
        let [x, y] = self
            .room
            .map_or(self.layout.goal(), |room| center(room.middle));
        Some(vec![x as f32, y as f32, 0.0, 0.0])
    }

    fn instructions(&self) -> Vec<String> {
        self.room.map_or_else(Vec::new, |_| rooms::instructions())
    }

    fn instruct(&mut self, instruction: &str) -> Result<()> {
        if self.room.is_some() {
            self.room = Some(Room::named_in(instruction)?);
        }
        Ok(())
    }
}

/// Steps through free cells from every cell to `goal`, row-major from the bottom; `None` in walls
/// and where there is no way.
pub fn distances(layout: &Layout, goal: (usize, usize)) -> Vec<Option<usize>> {
    let (columns, rows) = layout.size();
    let mut distances = vec![None; columns * rows];
    distances[goal.1 * columns + goal.0] = Some(0);
    let mut queue = VecDeque::from([(goal, 0)]);
    while let Some((cell, steps)) = queue.pop_front() {
        for (column, row) in neighbors(cell) {
            if !layout.is_wall(column, row) && distances[row * columns + column].is_none() {
                distances[row * columns + column] = Some(steps + 1);
                queue.push_back(((column, row), steps + 1));
            }
        }
    }
    distances
}

/// The four cells beside one; walls all around keep the subtraction in range, and cells outside
/// count as walls.
/// (column, row) each.
pub fn neighbors((column, row): (usize, usize)) -> [(usize, usize); 4] {
    [
        (column + 1, row),
        (column, row + 1),
        (column.wrapping_sub(1), row),
        (column, row.wrapping_sub(1)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maze(name: &str) -> PointMaze {
        PointMaze::new(Layout::named(name).expect(name))
    }

    #[test]
    fn layouts_are_walled_in_and_connected_to_the_goal() {
        for name in names() {
            let layout = Layout::named(name).expect(name);
            let (columns, rows) = layout.size();
            assert_eq!(
                layout.walls.len(),
                columns * rows,
                "{name}: rows of equal length"
            );
            let border = |c: usize, r: usize| c == 0 || r == 0 || c + 1 == columns || r + 1 == rows;
            assert!(
                layout.free_cells().iter().all(|&(c, r)| !border(c, r)),
                "{name}"
            );
            let distances = distances(&layout, layout.goal_cell());
            let reached = |&(c, r): &(usize, usize)| distances[r * columns + c].is_some();
            assert!(layout.free_cells().iter().all(reached), "{name}");
        }
    }

    #[test]
    fn the_ball_never_enters_a_wall_whatever_pushes_it() {
        let mut rng = Rng::from_seed(5);
        for name in names() {
            let mut env = maze(name);
            for seed in 0..20 {
                env.reset(seed).expect("reset");
                let mut force = [0.0; 2];
                for step in 0..300 {
                    if step % 7 == 0 {
                        force = [0, 1].map(|_| (rng.below(3) as f32 - 1.0) * 3.0);
                    }
                    env.step(&force).expect("step");
                    assert!(
                        !env.layout.is_blocked(env.position),
                        "{name} {:?}",
                        env.position
                    );
                }
            }
        }
    }

    #[test]
    fn a_wall_stops_the_ball_at_its_radius_and_lets_it_slide() {
        let mut env = maze("pointmaze-umaze");
        env.set_state([1.5, 1.5], [0.0; 2]).expect("free");
        for _ in 0..10 {
            env.step(&[0.3, 1.0]).expect("step");
        }
        let (position, velocity) = env.state();
        assert_eq!((position[1], velocity[1]), (2.0 - BALL_RADIUS, 0.0));
        assert!(
            position[0] > 1.7 && velocity[0] > 0.4,
            "{position:?} {velocity:?}"
        );
        assert!(env.set_state([1.95, 2.05], [0.0; 2]).is_err());
    }

    #[test]
    fn rewards_are_one_within_half_a_cell_of_the_goal_and_zero_elsewhere() {
        let mut env = maze("pointmaze-umaze");
        let [x, y] = env.layout().goal();
        for (offset, expected) in [(0.0, 1.0), (0.45, 1.0), (0.55, 0.0)] {
            env.set_state([x + offset, y], [0.0; 2]).expect("free");
            assert_eq!(
                env.step(&[0.0, 0.0]).expect("step").reward,
                expected,
                "{offset}"
            );
        }
    }

    #[test]
    fn an_episode_is_truncated_at_its_limit_and_never_terminates() {
        let mut env = maze("pointmaze-umaze");
        env.reset(0).expect("reset");
        for step in 1..=300 {
            let after = env.step(&[0.0, 0.0]).expect("step");
            assert_eq!((after.terminated, after.truncated), (false, step == 300));
        }
    }

    #[test]
    fn starts_spread_over_every_free_cell() {
        let mut env = maze("pointmaze-umaze");
        let mut cells = std::collections::BTreeSet::new();
        for seed in 0..100 {
            env.reset(seed).expect("reset");
            cells.insert(env.layout.cell_of(env.position));
        }
        assert_eq!(cells.len(), env.layout.free_cells().len());
    }
}
