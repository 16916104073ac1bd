//! Marks of places: starts, ends, goals, rewards.

use std::f64::consts::PI;

use crate::report::canvas::Canvas;
use crate::report::style::{BLACK, MUTED, Point, Rgb, Stroke, WHITE};
use trajformer_core::error::Result;

pub(super) const GOAL: Rgb = Rgb(0xf0, 0xe4, 0x42);
/// Where reward is paid: the goal's yellow, faint enough for every path.
pub(super) const REWARD: Rgb = Rgb(0xfb, 0xf7, 0xc8);

/// Radius of the disc at the end of a path.
pub(super) const END_RADIUS: f64 = 4.5;

/// A disc in the path's color; in the legend for all of them, in none.
pub(super) fn draw_end(canvas: &mut Canvas<'_>, place: Point) -> Result<()> {
    canvas.disc(place, END_RADIUS, MUTED)
}

/// A pale disc.
pub(super) fn draw_reward(canvas: &mut Canvas<'_>, place: Point) -> Result<()> {
    canvas.disc(place, 10.0, GOAL)?;
    canvas.disc(place, 9.0, REWARD)
}

/// A ring.
pub(super) fn draw_start(canvas: &mut Canvas<'_>, place: Point) -> Result<()> {
    canvas.disc(place, 6.0, BLACK)?;
    canvas.disc(place, 4.0, WHITE)
}

/// A star.
pub(super) fn draw_goal(canvas: &mut Canvas<'_>, (x, y): Point) -> Result<()> {
    let corner = |index: usize| {
        let radius = if index.is_multiple_of(2) { 11.0 } else { 4.8 };
        let angle = PI * index as f64 / 5.0;
        (x + radius * angle.sin(), y - radius * angle.cos())
    };
    let mut corners: Vec<Point> = (0..10).map(corner).collect();
    canvas.polygon(&corners, GOAL, 1.0)?;
    corners.push(corners[0]);
    canvas.line(&corners, Stroke::new(BLACK, 1.5))
}
