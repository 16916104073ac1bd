//! How things look on a picture: colors, lines and words.

/// Red, green and blue, 0 to 255 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rgb(pub u8, pub u8, pub u8);

pub(super) const BLACK: Rgb = Rgb(0x1f, 0x24, 0x2b);
pub(super) const TEXT: Rgb = Rgb(0x1f, 0x24, 0x2b);
pub(super) const MUTED: Rgb = Rgb(0x5b, 0x64, 0x70);
pub(super) const GRID: Rgb = Rgb(0xe4, 0xe7, 0xeb);
pub(super) const WHITE: Rgb = Rgb(0xff, 0xff, 0xff);
pub(super) const BLUE: Rgb = Rgb(0x00, 0x72, 0xb2);
pub(super) const VERMILION: Rgb = Rgb(0xd5, 0x5e, 0x00);
pub(super) const GREEN: Rgb = Rgb(0x00, 0x9e, 0x73);
pub(super) const PURPLE: Rgb = Rgb(0xcc, 0x79, 0xa7);
pub(super) const ORANGE: Rgb = Rgb(0xe6, 0x9f, 0x00);
pub(super) const SKY: Rgb = Rgb(0x56, 0xb4, 0xe9);

/// Colors of series in the order they are given; they start again when they are used up.
pub(super) const SERIES: [Rgb; 7] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK];

/// A place on the sheet or a size, in logical pixels from the top left corner.
pub(super) type Point = (f64, f64);

/// How a line looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub color: Rgb,
    /// 0 (invisible) to 1.
    pub alpha: f64,
    /// Logical pixels.
    pub width: f64,
    /// Lengths of a dash and of the gap after it, in logical pixels.
    pub dash: Option<(f64, f64)>,
}

impl Stroke {
    pub fn new(color: Rgb, width: f64) -> Self {
        Self {
            color,
            alpha: 1.0,
            width,
            dash: None,
        }
    }

    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    pub fn dashed(self, dash: f64, gap: f64) -> Self {
        Self {
            dash: Some((dash, gap)),
            ..self
        }
    }
}

/// How words look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    /// Height of an em in logical pixels.
    pub size: f64,
    pub bold: bool,
    pub color: Rgb,
}

impl Font {
    pub fn new(size: f64, color: Rgb) -> Self {
        Self {
            size,
            bold: false,
            color,
        }
    }

    pub fn bold(size: f64, color: Rgb) -> Self {
        Self {
            size,
            bold: true,
            color,
        }
    }
}

/// Which end of the words lies at the given place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}
