//! Paths in a maze, in panels side by side: the data's, the beam's imagined plans, those taken.
//!
//! The maze is plain numbers: this file does not know the environment.

use std::path::Path;

use crate::report::axes::{Header, MARGIN, Mark};
use crate::report::canvas::{self, Canvas, render};
use crate::report::marks::{END_RADIUS, REWARD, draw_goal, draw_start};
use crate::report::moving::Frame;
use crate::report::style::{
    Anchor, BLACK, BLUE, Font, GREEN, MUTED, ORANGE, Point, Rgb, SKY, Stroke, TEXT, VERMILION,
};
use trajformer_core::error::Result;

const WALL: Rgb = Rgb(0x3d, 0x47, 0x55);

/// Walls on a grid of square cells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Geometry {
    /// `walls[row][column]`: whether that cell is solid. Row 0 is drawn at the bottom.
    pub walls: Vec<Vec<bool>>,
    /// Length of a cell's side, in the unit of the paths.
    pub cell: f64,
    /// The lower left corner of cell (0, 0): column c, row r covers x from
    /// `origin.0 + c * cell` and y from `origin.1 + r * cell`.
    pub origin: (f64, f64),
}

/// What a path is; it decides color, width and the words in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An episode of the data set.
    Data,
    /// A plan of the beam that was not chosen.
    Imagined,
    /// The plan that was chosen.
    Chosen,
    /// What a controller that knows the maze did.
    Controller,
    /// What a policy that imitates the data did.
    Imitator,
    /// What the planner really did.
    Planner,
    /// What a policy did under the name of this number in [`Mazes::names`].
    Named(usize),
}

/// Colors of named paths, in turn.
const NAMED: [Rgb; 6] = [BLUE, VERMILION, GREEN, ORANGE, SKY, BLACK];

impl Role {
    /// From back to front: the chosen plan's dashes let the path below them be seen.
    const ALL: [Self; 6] = [
        Self::Data,
        Self::Controller,
        Self::Imitator,
        Self::Imagined,
        Self::Planner,
        Self::Chosen,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Data => "paths in the data",
            Self::Imagined => "imagined plans",
            Self::Chosen => "chosen plan",
            Self::Controller => "path of the controller",
            Self::Imitator => "path of behaviour cloning",
            Self::Planner => "path of the planner",
            Self::Named(_) => "path",
        }
    }

    fn stroke(self) -> Stroke {
        match self {
            Self::Data => Stroke::new(SKY, 1.2).alpha(0.55),
            Self::Imagined => Stroke::new(ORANGE, 1.5).alpha(0.55),
            Self::Chosen => Stroke::new(BLACK, 2.0).dashed(4.0, 4.0),
            Self::Controller => Stroke::new(GREEN, 2.0),
            Self::Imitator => Stroke::new(VERMILION, 2.0),
            Self::Planner => Stroke::new(BLUE, 2.0),
            Self::Named(number) => Stroke::new(NAMED[number % NAMED.len()], 2.0),
        }
    }

    /// Whether somebody really went there, so that the path's end means something.
    fn was_taken(self) -> bool {
        matches!(
            self,
            Self::Controller | Self::Imitator | Self::Planner | Self::Named(_)
        )
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq)]
pub struct MazePath {
    /// Positions (x, y), in the unit of [`Geometry::cell`].
    pub points: Vec<(f64, f64)>,
    /// What it is.
    pub role: Role,
}

/// One maze with what happened in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MazePanel {
    /// Above the maze.
    pub title: String,
    /// One line below the title, e.g. a score; may be empty.
    pub note: String,
    /// Its walls.
    pub geometry: Geometry,
    /// Its paths, in any order: data is drawn at the back, then imagined plans, then paths that
    /// were taken, then chosen plans.
    pub paths: Vec<MazePath>,
    /// Where episodes start.
    pub starts: Vec<(f64, f64)>,
    /// Where they should end.
    pub goals: Vec<(f64, f64)>,
    /// Reward is paid within this distance of a goal, in the unit of the paths; 0: not shown.
    pub reward_radius: f64,
}

/// Mazes side by side, three in a row; four are two rows of two.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mazes {
    /// What the picture shows, in a few words.
    pub title: String,
    /// One line below the title; may be empty.
    pub subtitle: String,
    /// The mazes.
    pub panels: Vec<MazePanel>,
    /// What paths with names are called, in the legend.
    pub names: Vec<String>,
}

impl Mazes {
    /// Every role that a path can have, from back to front.
    fn roles(&self) -> impl Iterator<Item = Role> {
        let named = (0..self.names.len()).map(Role::Named);
        Role::ALL.into_iter().chain(named)
    }

    fn label(&self, role: Role) -> String {
        match role {
            Role::Named(number) => self.names[number].clone(),
            role => role.label().to_owned(),
        }
    }
}

/// Draws the mazes, at most about 1300 pixels wide.
///
/// # Errors
/// If `path` ends in neither `.svg` nor `.png`, or can't be written.
pub fn draw(path: &Path, picture: &Mazes) -> Result<()> {
    let (size, fill) = sheet(picture);
    render(path, size, fill)
}

/// The mazes as one of several pictures, `width` pixels wide.
///
/// # Errors
/// If drawing fails, or without the feature `pictures`.
pub fn frame(picture: &Mazes, width: usize) -> Result<Frame> {
    let (size, fill) = sheet(picture);
    canvas::frame(size, width, fill)
}

/// The size of the sheet in logical pixels, and what fills it.
fn sheet(picture: &Mazes) -> (Point, impl FnOnce(&mut Canvas<'_>) -> Result<()>) {
    const GAP: f64 = 28.0;
    let columns = match picture.panels.len() {
        4 => 2,
        count => count.clamp(1, 3),
    };
    let rows = picture.panels.len().div_ceil(columns);
    let views = || picture.panels.iter().map(|panel| View::of(&panel.geometry));
    let wide = views().map(|view| view.width()).fold(1.0, f64::max);
    let high = views().map(|view| view.height()).fold(1.0, f64::max);
    let space = if columns == 1 { 560.0 } else { 400.0 };
    let side = (space / wide).min(1.05 * space / high);
    let notes = picture.panels.iter().any(|panel| !panel.note.is_empty());
    let words = if notes { 50.0 } else { 28.0 };
    let panel = (wide * side, high * side + words);
    let header = Header {
        title: &picture.title,
        subtitle: &picture.subtitle,
        legend: legend(picture),
    };
    let spread = |length: f64, count: usize| length * count as f64 + GAP * (count - 1) as f64;
    let width = (spread(panel.0, columns) + 2.0 * MARGIN)
        .max(header.width())
        .max(520.0);
    let top = header.height(width) + 6.0;
    let height = top + spread(panel.1, rows.max(1)) + MARGIN;
    let fill = move |canvas: &mut Canvas<'_>| {
        header.draw(canvas, width)?;
        for (index, maze) in picture.panels.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let left = MARGIN + column as f64 * (panel.0 + GAP);
            let above = top + row as f64 * (panel.1 + GAP);
            let title = Font::bold(15.0, TEXT);
            canvas.text(&maze.title, (left, above + 14.0), Anchor::Start, title)?;
            let note = Font::new(14.0, MUTED);
            canvas.text(&maze.note, (left, above + 34.0), Anchor::Start, note)?;
            let roles: Vec<Role> = picture.roles().collect();
            draw_maze(canvas, (maze, &roles), (left, above + words), side)?;
        }
        Ok(())
    };
    ((width, height), fill)
}

fn legend(picture: &Mazes) -> Vec<(Mark, String)> {
    let panels = || picture.panels.iter();
    let used = |role: Role| panels().any(|panel| panel.paths.iter().any(|p| p.role == role));
    let mut entries: Vec<(Mark, String)> = picture
        .roles()
        .filter(|role| used(*role))
        .map(|role| {
            let stroke = role.stroke();
            let alpha = stroke.alpha.max(0.8); // a single faint line would be hard to recognize
            let width = stroke.width.max(2.0);
            (
                Mark::Line(Stroke {
                    alpha,
                    width,
                    ..stroke
                }),
                picture.label(role),
            )
        })
        .collect();
    let mut mark = |shown: bool, mark: Mark, words: &str| {
        if shown {
            entries.push((mark, words.to_owned()));
        }
    };
    let goals = || panels().filter(|panel| !panel.goals.is_empty());
    let starts = panels().any(|panel| !panel.starts.is_empty());
    mark(starts, Mark::Start, "start");
    let ends = picture.roles().any(|role| role.was_taken() && used(role));
    mark(ends, Mark::End, "end");
    mark(goals().next().is_some(), Mark::Goal, "goal");
    let paid = goals().any(|panel| panel.reward_radius > 0.0);
    mark(paid, Mark::Reward, "reward is paid");
    entries
}

/// The part of a maze that is shown, in cells: everything free and half a cell around it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct View {
    left: f64,
    bottom: f64,
    right: f64,
    top: f64,
}

impl View {
    fn of(geometry: &Geometry) -> Self {
        let rows = geometry.walls.len() as f64;
        let columns = geometry.walls.first().map_or(0, Vec::len) as f64;
        let free = || {
            let rows = geometry.walls.iter().enumerate();
            rows.flat_map(|(row, cells)| {
                let free = cells.iter().enumerate().filter(|(_, wall)| !**wall);
                free.map(move |(column, _)| (column as f64, row as f64))
            })
        };
        if free().next().is_none() {
            return Self {
                left: 0.0,
                bottom: 0.0,
                right: columns.max(1.0),
                top: rows.max(1.0),
            };
        }
        let least = |place: fn((f64, f64)) -> f64| free().map(place).fold(f64::INFINITY, f64::min);
        let most = |place: fn((f64, f64)) -> f64| free().map(place).fold(0.0, f64::max);
        Self {
            left: (least(|cell| cell.0) - 0.5).max(0.0),
            bottom: (least(|cell| cell.1) - 0.5).max(0.0),
            right: (most(|cell| cell.0) + 1.5).min(columns),
            top: (most(|cell| cell.1) + 1.5).min(rows),
        }
    }

    fn width(&self) -> f64 {
        self.right - self.left
    }

    fn height(&self) -> f64 {
        self.top - self.bottom
    }
}

/// From the paths' unit to the sheet.
struct Projection<'a> {
    geometry: &'a Geometry,
    view: View,
    corner: Point,
    side: f64,
}

impl Projection<'_> {
    /// Where a place given in cells lies on the sheet.
    fn cell(&self, column: f64, row: f64) -> Point {
        let x = self.corner.0 + (column - self.view.left) * self.side;
        (x, self.corner.1 + (self.view.top - row) * self.side)
    }

    /// Where a position lies on the sheet; NaN outside the view, which interrupts a line.
    fn place(&self, (x, y): (f64, f64)) -> Point {
        let column = (x - self.geometry.origin.0) / self.geometry.cell;
        let row = (y - self.geometry.origin.1) / self.geometry.cell;
        let view = &self.view;
        let inside =
            (view.left..=view.right).contains(&column) && (view.bottom..=view.top).contains(&row);
        if inside {
            self.cell(column, row)
        } else {
            (f64::NAN, f64::NAN)
        }
    }
}

fn draw_maze(
    canvas: &mut Canvas<'_>,
    (panel, roles): (&MazePanel, &[Role]),
    corner: Point,
    side: f64,
) -> Result<()> {
    let geometry = &panel.geometry;
    let projection = Projection {
        geometry,
        view: View::of(geometry),
        corner,
        side,
    };
    let visible = |places: &[(f64, f64)]| -> Vec<Point> {
        let places = places.iter().map(|&at| projection.place(at));
        places.filter(|place| place.0.is_finite()).collect()
    };
    if panel.reward_radius > 0.0 {
        for goal in visible(&panel.goals) {
            let radius = panel.reward_radius / geometry.cell * side;
            canvas.disc(goal, radius, REWARD)?;
        }
    }
    draw_walls(canvas, &projection)?; // they cover what of the disc lies behind them
    for &role in roles {
        for path in panel.paths.iter().filter(|path| path.role == role) {
            let places: Vec<Point> = path.points.iter().map(|&at| projection.place(at)).collect();
            canvas.line(&places, role.stroke())?;
            if let (true, Some(&end)) = (role.was_taken(), places.last())
                && end.0.is_finite()
            {
                canvas.disc(end, END_RADIUS, role.stroke().color)?;
            }
        }
    }
    for start in visible(&panel.starts) {
        draw_start(canvas, start)?;
    }
    for goal in visible(&panel.goals) {
        draw_goal(canvas, goal)?;
    }
    Ok(())
}

fn draw_walls(canvas: &mut Canvas<'_>, projection: &Projection<'_>) -> Result<()> {
    let view = projection.view;
    for (row, cells) in projection.geometry.walls.iter().enumerate() {
        let row = row as f64;
        let (low, high) = (row.max(view.bottom), (row + 1.0).min(view.top));
        // One rectangle for each run of walls: no seams between neighbors.
        let mut column = 0;
        for run in cells.chunk_by(|left, right| left == right) {
            let left = (column as f64).max(view.left);
            column += run.len();
            let right = (column as f64).min(view.right);
            if run[0] && low < high && left < right {
                let (from, to) = (projection.cell(left, high), projection.cell(right, low));
                // A little overlap hides seams between rows.
                let overlap = if low > view.bottom { 0.5 } else { 0.0 };
                canvas.rectangle(from, (to.0, to.1 + overlap), WALL)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Geometry, Projection, View};

    #[test]
    fn positions_keep_up_and_right_and_those_outside_have_no_place() {
        let free = |row: usize, column: usize| (1..=2).contains(&row) && (1..=3).contains(&column);
        let walls = (0..4)
            .map(|row| (0..5).map(|column| !free(row, column)).collect())
            .collect();
        let geometry = Geometry {
            walls,
            cell: 2.0,
            origin: (-10.0, 4.0),
        };
        let view = View::of(&geometry);
        assert_eq!(
            view,
            View {
                left: 0.5,
                bottom: 0.5,
                right: 4.5,
                top: 3.5
            }
        );

        let corner = (100.0, 50.0);
        let projection = Projection {
            geometry: &geometry,
            view,
            corner,
            side: 10.0,
        };
        assert_eq!(projection.place((-9.0, 11.0)), (100.0, 50.0)); // the view's upper left corner
        assert_eq!(projection.place((-1.0, 5.0)), (140.0, 80.0)); // its lower right corner
        assert!(projection.place((-9.1, 11.0)).0.is_nan());
        assert!(projection.place((-9.0, 11.1)).0.is_nan());
    }
}
