//! A sheet to draw on, in logical pixels, with an SVG and a PNG back end behind the same calls.
//!
//! Both back ends are plotters'. They take whole pixels only and draw bitmaps without smoothing
//! thick lines, so everything is drawn [`SCALE`] times larger: the SVG keeps the finer positions
//! through its view box, the bitmap is averaged down, which smooths every edge.

use std::path::Path;
use std::sync::Once;

use plotters::prelude::{
    BitMapBackend, Color, DrawingBackend, FontDesc, FontFamily, FontStyle, FontTransform, IntoFont,
    RGBColor, SVGBackend, ShapeStyle, TextStyle,
};
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::moving::Frame;
use crate::report::pixels::{Pixels, average_down, drawing_error, shrink};
use crate::report::style::{Anchor, Font, Point, Rgb, Stroke, WHITE};
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// Device pixels per logical pixel, in each direction.
const SCALE: u32 = 4;
/// Device pixels that become one pixel of a PNG: it has two pixels per logical pixel, for sharp words.
const AVERAGED: u32 = 2;
/// The name under which the built-in font is known to plotters, and the SVG's generic family.
const FAMILY: &str = "sans-serif";
/// What SVG viewers should look for, narrow fonts like the built-in one first.
const SVG_FAMILIES: &str = "font-family=\"Noto Sans, Arial, Helvetica, sans-serif\"";
/// Noto Sans: (ascent - descent) / units per em = (2189 + 600) / 2048; `ab_glyph` scales by this.
const RASTER_HEIGHT_PER_EM: f64 = 2789.0 / 2048.0;
/// plotters-svg writes `font-size` = size / 1.24.
const SVG_SIZE_PER_EM: f64 = 1.24;
/// plotters-svg puts the baseline of top-anchored text this far down, in em.
const SVG_BASELINE_EM: f64 = 0.76;
/// Points of a line closer than this to their predecessor are left out, in logical pixels.
const THINNING: f64 = 0.4;

/// A color as plotters has it.
fn plain(Rgb(red, green, blue): Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

fn description(font: &Font, plotters_size: f64) -> FontDesc<'static> {
    let style = if font.bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    FontDesc::new(FontFamily::Name(FAMILY), plotters_size, style)
}

impl Font {
    /// Width of `text` in logical pixels, in the built-in font.
    pub fn width(&self, text: &str) -> f64 {
        register_fonts();
        let font = description(self, self.size * f64::from(SCALE) * RASTER_HEIGHT_PER_EM);
        let ((left, _), (right, _)) = font.layout_box(text).unwrap_or_default();
        f64::from(right - left) / f64::from(SCALE)
    }
}

/// The sheet.
pub(super) struct Canvas<'a> {
    backend: Backend<'a>,
}

enum Backend<'a> {
    Svg(SVGBackend<'a>),
    Bitmap(Pixels<'a>),
}

/// Draws a picture of `size` logical pixels with `draw` and writes it to `path`.
///
/// # Errors
/// If the path ends in neither `.svg` nor `.png`, its folder can't be made or written.
pub(super) fn render(
    path: &Path,
    size: Point,
    draw: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<()> {
    register_fonts();
    let (width, height) = (size.0.ceil() as u32, size.1.ceil() as u32);
    let large = (width * SCALE, height * SCALE);
    let ending = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or("")
        .to_ascii_lowercase();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    match ending.as_str() {
        "svg" => {
            let mut text = String::new();
            let backend = Backend::Svg(SVGBackend::with_string(&mut text, large));
            Canvas::fill_in(backend, large, draw)?;
            let text = text
                .replacen(
                    &format!("width=\"{}\"", large.0),
                    &format!("width=\"{width}\""),
                    1,
                )
                .replacen(
                    &format!("height=\"{}\"", large.1),
                    &format!("height=\"{height}\""),
                    1,
                )
                .replace("<polyline ", "<polyline stroke-linejoin=\"round\" ")
                .replace("font-family=\"sans-serif\"", SVG_FAMILIES);
            write_atomically(path, text.as_bytes())
        }
        "png" => {
            let pixels = Canvas::bitmap(large, draw)?;
            let small = (large.0 / AVERAGED, large.1 / AVERAGED);
            let pixels = average_down(
                &pixels,
                (small.0 as usize, small.1 as usize),
                AVERAGED as usize,
            );
            // Written beside its place, whose ending it needs, and renamed.
            let mut name = path.file_stem().unwrap_or_default().to_owned();
            name.push(".tmp.png");
            let beside = path.with_file_name(name);
            let mut file = BitMapBackend::new(&beside, small);
            file.blit_bitmap((0, 0), small, &pixels)
                .map_err(drawing_error)?;
            file.present()
                .map_err(|error| Error::io(path)(std::io::Error::other(error.to_string())))?;
            drop(file);
            std::fs::rename(&beside, path).map_err(Error::io(path))
        }
        _ => Err(Error::Unsuitable(format!(
            "{}: a picture's name ends in .svg or .png, found `.{ending}`",
            path.display()
        ))),
    }
}

/// Draws a picture of `size` logical pixels with `draw`, as one of `width` pixels.
///
/// # Errors
/// If drawing fails.
pub(super) fn frame(
    size: Point,
    width: usize,
    draw: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<Frame> {
    register_fonts();
    let large = (size.0.ceil() as u32 * SCALE, size.1.ceil() as u32 * SCALE);
    let pixels = Canvas::bitmap(large, draw)?;
    let from = (large.0 as usize, large.1 as usize);
    let width = width.clamp(1, from.0);
    let size = (width, (from.1 * width).div_ceil(from.0));
    Ok(Frame {
        size,
        pixels: shrink(&pixels, from, size),
    })
}

/// Gives plotters the built-in font; later calls do nothing.
fn register_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A font that can't be read shows as an error of the first text drawn.
        let _ = register_font(FAMILY, FontStyle::Normal, notosans::REGULAR_TTF);
        let _ = register_font(FAMILY, FontStyle::Bold, notosans::BOLD_TTF);
    });
}

/// A place in device pixels.
fn device((x, y): Point) -> (i32, i32) {
    let scale = f64::from(SCALE);
    ((x * scale).round() as i32, (y * scale).round() as i32)
}

impl Canvas<'_> {
    /// The pixels of a bitmap of this size.
    fn bitmap(
        size: (u32, u32),
        draw: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let mut pixels = vec![255; (size.0 * size.1 * 3) as usize];
        let backend = Backend::Bitmap(Pixels::new(&mut pixels, size));
        Canvas::fill_in(backend, size, draw)?;
        Ok(pixels)
    }
}

impl<'a> Canvas<'a> {
    fn fill_in(
        backend: Backend<'a>,
        size: (u32, u32),
        draw: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut canvas = Canvas { backend };
        let (width, height) = (f64::from(size.0), f64::from(size.1));
        let scale = f64::from(SCALE);
        canvas.rectangle((0.0, 0.0), (width / scale, height / scale), WHITE)?;
        draw(&mut canvas)?;
        match &mut canvas.backend {
            Backend::Svg(svg) => svg.present().map_err(drawing_error),
            Backend::Bitmap(_) => Ok(()),
        }
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, from: Point, to: Point, color: Rgb) -> Result<()> {
        let ((left, top), (right, bottom)) = (device(from), device(to));
        match &mut self.backend {
            Backend::Svg(svg) => {
                let style = ShapeStyle::from(&plain(color)).filled();
                svg.draw_rect((left, top), (right, bottom), &style, true)
                    .map_err(drawing_error)
            }
            Backend::Bitmap(bitmap) => {
                let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
                bitmap.fill(&corners, plain(color).mix(1.0));
                Ok(())
            }
        }
    }

    /// A filled polygon; where it crosses itself, the even-odd rule holds.
    pub fn polygon(&mut self, corners: &[Point], color: Rgb, alpha: f64) -> Result<()> {
        let corners: Vec<_> = corners.iter().map(|&corner| device(corner)).collect();
        match &mut self.backend {
            Backend::Svg(svg) => svg
                .fill_polygon(corners, &plain(color).mix(alpha))
                .map_err(drawing_error),
            Backend::Bitmap(bitmap) => {
                bitmap.fill(&corners, plain(color).mix(alpha));
                Ok(())
            }
        }
    }

    /// A filled disc.
    pub fn disc(&mut self, center: Point, radius: f64, color: Rgb) -> Result<()> {
        match &mut self.backend {
            Backend::Svg(svg) => {
                let radius = (radius * f64::from(SCALE)).round() as u32;
                svg.draw_circle(device(center), radius, &plain(color).mix(1.0), true)
                    .map_err(drawing_error)
            }
            Backend::Bitmap(bitmap) => {
                let radius = radius * f64::from(SCALE);
                bitmap.stroke(
                    &[device(center), device(center)],
                    radius,
                    plain(color).mix(1.0),
                );
                Ok(())
            }
        }
    }

    /// A line through `points`, with round joins; places that are not finite interrupt it.
    pub fn line(&mut self, points: &[Point], stroke: Stroke) -> Result<()> {
        for piece in points.split(|(x, y)| !x.is_finite() || !y.is_finite()) {
            let piece = thinned(piece);
            match stroke.dash {
                None => self.solid_line(&piece, stroke)?,
                Some(dash) => {
                    for part in dashes(&piece, dash) {
                        self.solid_line(&part, stroke)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn solid_line(&mut self, points: &[Point], stroke: Stroke) -> Result<()> {
        let points: Vec<_> = points.iter().map(|&point| device(point)).collect();
        if points.len() < 2 {
            return Ok(());
        }
        match &mut self.backend {
            Backend::Svg(svg) => {
                let width = (stroke.width * f64::from(SCALE)).round().max(1.0) as u32;
                let style = ShapeStyle {
                    color: plain(stroke.color).mix(stroke.alpha),
                    filled: false,
                    stroke_width: width,
                };
                svg.draw_path(points, &style).map_err(drawing_error)
            }
            Backend::Bitmap(bitmap) => {
                let radius = stroke.width * f64::from(SCALE) / 2.0;
                bitmap.stroke(&points, radius, plain(stroke.color).mix(stroke.alpha));
                Ok(())
            }
        }
    }

    /// Words on one line; `place` is on their baseline.
    pub fn text(&mut self, text: &str, place: Point, anchor: Anchor, font: Font) -> Result<()> {
        self.turned_text(text, place, anchor, font, FontTransform::None)
    }

    /// Words that run upwards; `place` is on their baseline.
    pub fn upward_text(&mut self, text: &str, place: Point, font: Font) -> Result<()> {
        self.turned_text(text, place, Anchor::Middle, font, FontTransform::Rotate270)
    }

    fn turned_text(
        &mut self,
        text: &str,
        (x, y): Point,
        anchor: Anchor,
        font: Font,
        turn: FontTransform,
    ) -> Result<()> {
        let em = font.size * f64::from(SCALE);
        // From the top of the box, as each back end counts it, down to the baseline.
        let (size, drop) = match &self.backend {
            Backend::Svg(_) => (em * SVG_SIZE_PER_EM, em * SVG_BASELINE_EM),
            Backend::Bitmap(_) => (em * RASTER_HEIGHT_PER_EM, em * RASTER_HEIGHT_PER_EM / 2.0),
        };
        let drop = drop / f64::from(SCALE);
        let upward = matches!(turn, FontTransform::Rotate270);
        let place = device(if upward { (x - drop, y) } else { (x, y - drop) });
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let color = plain(font.color);
        let style = TextStyle::from(description(&font, size).transform(turn).into_font())
            .color(&color)
            .pos(Pos::new(horizontal, VPos::Top));
        match &mut self.backend {
            Backend::Svg(svg) => svg.draw_text(text, &style, place).map_err(drawing_error),
            Backend::Bitmap(bitmap) => bitmap
                .backend()
                .draw_text(text, &style, place)
                .map_err(drawing_error),
        }
    }
}

/// The line without points that can't be told from their predecessor; its ends stay.
fn thinned(points: &[Point]) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::with_capacity(points.len());
    for (index, &point) in points.iter().enumerate() {
        let near = kept
            .last()
            .is_some_and(|k| (k.0 - point.0).hypot(k.1 - point.1) < THINNING);
        if !near || index + 1 == points.len() {
            kept.push(point);
        }
    }
    kept
}

/// The pieces of a dashed line.
fn dashes(points: &[Point], (dash, gap): (f64, f64)) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let mut piece = points.first().map(|&point| vec![point]).unwrap_or_default();
    let (mut drawing, mut left) = (true, dash);
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let part = done / length;
            let point = (
                from.0 + part * (to.0 - from.0),
                from.1 + part * (to.1 - from.1),
            );
            if drawing {
                piece.push(point);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![point];
            }
            drawing = !drawing;
            left = if drawing { dash } else { gap };
        }
        left -= length - done;
        if drawing {
            piece.push(to);
        }
    }
    if drawing {
        pieces.push(piece);
    }
    pieces
}
