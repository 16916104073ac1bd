//! Shapes as pixels, for bitmaps: plotters fills wide lines by the even-odd rule, which leaves holes
//! where a line crosses itself.

use std::ops::Range;

use plotters::prelude::{BitMapBackend, Color, RGBAColor};
use rayon::prelude::*;
use trajformer_core::error::Error;

/// A bitmap; places are pixels from its top left corner.
pub(super) struct Pixels<'a> {
    buffer: &'a mut [u8],
    size: (i32, i32),
}

impl<'a> Pixels<'a> {
    /// Draws into `buffer`: width * height * 3 bytes, row by row.
    pub fn new(buffer: &'a mut [u8], (width, height): (u32, u32)) -> Self {
        Self {
            buffer,
            size: (width as i32, height as i32),
        }
    }

    /// plotters' own, for words.
    pub fn backend(&mut self) -> BitMapBackend<'_> {
        let (width, height) = self.size;
        BitMapBackend::with_buffer(self.buffer, (width as u32, height as u32))
    }

    /// Fills every pixel whose center lies inside the polygon (even-odd rule).
    pub fn fill(&mut self, corners: &[(i32, i32)], color: RGBAColor) {
        let Some(top) = corners.iter().map(|corner| corner.1).min() else {
            return;
        };
        let bottom = corners.iter().map(|corner| corner.1).max().unwrap_or(top);
        let mut crossings: Vec<f64> = Vec::new();
        for row in top.max(0)..bottom.min(self.size.1) {
            let y = f64::from(row) + 0.5;
            crossings.clear();
            for (index, &(x0, y0)) in corners.iter().enumerate() {
                let (x1, y1) = corners[(index + 1) % corners.len()];
                if (f64::from(y0) <= y) != (f64::from(y1) <= y) {
                    let part = (y - f64::from(y0)) / f64::from(y1 - y0);
                    crossings.push(f64::from(x0) + part * f64::from(x1 - x0));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let span = (pair[0] - 0.5).ceil() as i32..(pair[1] - 0.5).ceil() as i32;
                self.blend(row, span, color);
            }
        }
    }

    /// Draws a line of round pen strokes; a pixel is colored once however often the line crosses it.
    pub fn stroke(&mut self, points: &[(i32, i32)], radius: f64, color: RGBAColor) {
        let reach = radius.ceil() as i32 + 1;
        let (width, height) = self.size;
        let left = points
            .iter()
            .map(|p| p.0)
            .min()
            .unwrap_or(0)
            .saturating_sub(reach)
            .max(0);
        let right = points
            .iter()
            .map(|p| p.0)
            .max()
            .unwrap_or(0)
            .saturating_add(reach)
            .min(width);
        let top = points
            .iter()
            .map(|p| p.1)
            .min()
            .unwrap_or(0)
            .saturating_sub(reach)
            .max(0);
        let bottom = points
            .iter()
            .map(|p| p.1)
            .max()
            .unwrap_or(0)
            .saturating_add(reach)
            .min(height);
        if right <= left || bottom <= top {
            return;
        }
        let columns = (right - left) as usize;
        let mut covered = vec![false; columns * (bottom - top) as usize];
        for segment in points.windows(2) {
            let (from, to) = (segment[0], segment[1]);
            let rows = (from.1.min(to.1) - reach).max(top)..(from.1.max(to.1) + reach).min(bottom);
            for y in rows {
                let span =
                    (from.0.min(to.0) - reach).max(left)..(from.0.max(to.0) + reach).min(right);
                for x in span {
                    if distance((f64::from(x) + 0.5, f64::from(y) + 0.5), from, to) <= radius {
                        covered[(y - top) as usize * columns + (x - left) as usize] = true;
                    }
                }
            }
        }
        for (row, covered) in (top..).zip(covered.chunks_exact(columns)) {
            let mut x = left;
            for run in covered.chunk_by(|one, next| one == next) {
                let end = x + run.len() as i32;
                if run[0] {
                    self.blend(row, x..end, color);
                }
                x = end;
            }
        }
    }

    /// Colors pixels of a row, as plotters' `draw_pixel` does each, in one go: of large shapes a call for each pixel is most of the work.
    fn blend(&mut self, row: i32, span: Range<i32>, color: RGBAColor) {
        let (width, height) = self.size;
        let span = span.start.max(0)..span.end.min(width);
        if row < 0 || row >= height || span.is_empty() {
            return;
        }
        let place = |x: i32| (row as usize * width as usize + x as usize) * 3;
        let pixels = self.buffer[place(span.start)..place(span.end)]
            .as_chunks_mut::<3>()
            .0;
        let (red, green, blue) = color.rgb();
        let new = [red, green, blue];
        let alpha = color.alpha();
        if alpha >= 1.0 - 1.0 / 256.0 {
            pixels.fill(new);
        } else if alpha > 0.0 {
            let alpha = (alpha * 256.0).floor() as u32;
            for pixel in pixels {
                for (old, new) in pixel.iter_mut().zip(new) {
                    let change = u32::from(old.abs_diff(new)) * alpha / 256;
                    *old = if new > *old {
                        *old + change as u8
                    } else {
                        *old - change as u8
                    };
                }
            }
        }
    }
}

/// Distance of a pixel from a segment, in pixels.
fn distance((x, y): (f64, f64), from: (i32, i32), to: (i32, i32)) -> f64 {
    let (x0, y0) = (f64::from(from.0), f64::from(from.1));
    let (dx, dy) = (f64::from(to.0) - x0, f64::from(to.1) - y0);
    let length_squared = dx * dx + dy * dy;
    let along = if length_squared > 0.0 {
        (((x - x0) * dx + (y - y0) * dy) / length_squared).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (x - x0 - along * dx).hypot(y - y0 - along * dy)
}

/// Means over squares of `scale` x `scale` pixels, three bytes each; width and height are those of
/// the result.
pub(super) fn average_down(
    pixels: &[u8],
    (width, height): (usize, usize),
    scale: usize,
) -> Vec<u8> {
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0_usize;
                for row in y * scale..(y + 1) * scale {
                    let start = (row * width * scale + x * scale) * 3 + channel;
                    sum += (0..scale)
                        .map(|i| usize::from(pixels[start + i * 3]))
                        .sum::<usize>();
                }
                small.push(((sum + scale * scale / 2) / (scale * scale)) as u8);
            }
        }
    }
    small
}

/// A bitmap of another size: each pixel is the mean of the whole pixels that it covers, at least one.
pub(super) fn shrink(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let covered = |index: usize, from: usize, to: usize| {
        let start = (index * from / to).min(from - 1);
        start..((index + 1) * from / to).clamp(start + 1, from)
    };
    let columns: Vec<Range<usize>> = (0..to.0).map(|x| covered(x, from.0, to.0)).collect();
    let mut small = vec![0; to.0 * to.1 * 3];
    let lines = small.par_chunks_mut((to.0 * 3).max(1)).enumerate();
    lines.for_each(|(y, line)| {
        let rows = covered(y, from.1, to.1);
        let mut sums = vec![[0u32; 3]; to.0];
        for row in rows.clone() {
            let row = pixels[row * from.0 * 3..][..from.0 * 3].as_chunks::<3>().0;
            for (sums, columns) in sums.iter_mut().zip(&columns) {
                for pixel in &row[columns.clone()] {
                    for (sum, &byte) in sums.iter_mut().zip(pixel) {
                        *sum += u32::from(byte);
                    }
                }
            }
        }
        let line = line.as_chunks_mut::<3>().0.iter_mut();
        for ((pixel, sums), columns) in line.zip(sums).zip(&columns) {
            let count = (rows.len() * columns.len()) as u32;
            *pixel = sums.map(|sum| ((sum + count / 2) / count) as u8);
        }
    });
    small
}

pub(super) fn drawing_error(error: impl std::error::Error) -> Error {
    Error::Unsuitable(format!("drawing a picture failed: {error}"))
}

#[cfg(test)]
mod tests {
    use plotters::prelude::{BitMapBackend, Color, DrawingBackend, RGBColor};

    use super::{Pixels, average_down, shrink};

    const BLACK: RGBColor = RGBColor(0, 0, 0);

    /// Draws on a white sheet of 20 x 20 pixels; gives the red bytes, row by row.
    fn drawn(draw: impl FnOnce(&mut Pixels<'_>)) -> Vec<u8> {
        let mut buffer = vec![255; 20 * 20 * 3];
        draw(&mut Pixels::new(&mut buffer, (20, 20)));
        buffer.into_iter().step_by(3).collect()
    }

    #[test]
    fn rows_of_pixels_have_the_colors_that_plotters_gives_each() {
        let before: Vec<u8> = (0..20 * 20 * 3).map(|at| (at * 7 % 256) as u8).collect();
        for alpha in [0.0, 0.003, 0.3, 0.55, 0.995, 0.997, 1.0] {
            let color = RGBColor(200, 40, 127).mix(alpha);
            let mut ours = before.clone();
            let mut theirs = before.clone();
            let mut pixels = Pixels::new(&mut ours, (20, 20));
            let mut backend = BitMapBackend::with_buffer(&mut theirs, (20, 20));
            for (row, span) in [
                (-1, 0..20),
                (0, -3..5),
                (7, 4..4),
                (8, 3..17),
                (19, 15..40),
                (20, 0..20),
            ] {
                pixels.blend(row, span.clone(), color);
                for x in span {
                    let color = color.to_backend_color();
                    backend.draw_pixel((x, row), color).unwrap();
                }
            }
            drop(backend);
            assert!(ours == theirs, "{alpha}");
        }
    }

    #[test]
    fn a_rectangle_covers_its_pixels_and_no_others() {
        let corners = [(2, 3), (7, 3), (7, 5), (2, 5)];
        let sheet = drawn(|pixels| pixels.fill(&corners, BLACK.mix(1.0)));
        let black: Vec<usize> = (0..400).filter(|index| sheet[*index] == 0).collect();
        assert_eq!(black, [62, 63, 64, 65, 66, 82, 83, 84, 85, 86]);
    }

    #[test]
    fn a_line_that_crosses_itself_has_no_holes_and_one_shade() {
        let cross = [(2, 10), (18, 10), (10, 2), (10, 18)];
        let sheet = drawn(|pixels| pixels.stroke(&cross, 3.0, BLACK.mix(0.5)));
        let mut shades = sheet.clone();
        shades.sort_unstable();
        shades.dedup();
        assert_eq!(shades.len(), 2, "{shades:?}");
        assert!(sheet[10 * 20 + 10] < 255);
    }

    #[test]
    fn shapes_beyond_the_sheet_are_cut() {
        let corners = [(-50, -50), (50, -50), (50, 50), (-50, 50)];
        let sheet = drawn(|pixels| {
            pixels.fill(&corners, BLACK.mix(1.0));
            pixels.stroke(&corners, 5.0, BLACK.mix(1.0));
            pixels.stroke(&[(90, 90), (99, 99)], 2.0, BLACK.mix(1.0));
        });
        assert!(sheet.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn shrinking_takes_the_mean_of_what_a_pixel_covers() {
        let grey = |values: &[u8]| -> Vec<u8> { values.iter().flat_map(|&v| [v; 3]).collect() };
        let row = [0, 10, 20, 40, 80];
        assert_eq!(shrink(&grey(&row), (5, 1), (2, 1)), grey(&[5, 47]));
        assert_eq!(shrink(&grey(&row), (5, 1), (5, 1)), grey(&row));
        let square = [0, 10, 20, 30];
        assert_eq!(shrink(&grey(&square), (2, 2), (1, 1)), grey(&[15]));
    }

    #[test]
    fn averaging_takes_the_mean_of_each_square_and_channel() {
        let row = |left: u8, right: u8| [left, 0, 9, right, 0, 9];
        let pixels = [row(10, 20), row(30, 41)].concat();
        assert_eq!(average_down(&pixels, (1, 1), 2), [25, 0, 9]);
    }
}
