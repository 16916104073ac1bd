//! Moving pictures: frames one after the other, as a GIF or an animated PNG.

use std::path::Path;

use trajformer_core::error::{Error, Result};

/// One picture of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Red, green and blue, 0 to 255 each, row by row from the top: width * height * 3.
    pub pixels: Vec<u8>,
}

impl Frame {
    /// The same picture `width` pixels wide: of larger ones each pixel is a mean, of smaller ones pixels are repeated.
    ///
    /// # Errors
    /// If it has other pixels than its size says, or without the feature `pictures`.
    pub fn with_width(self, width: usize) -> Result<Self> {
        let from = self.size;
        if from.0 == 0 || from.1 == 0 || self.pixels.len() != from.0 * from.1 * 3 {
            return Err(Error::Internal(format!(
                "a picture of {} bytes is said to have {} x {} pixels",
                self.pixels.len(),
                from.0,
                from.1
            )));
        }
        if width == from.0 {
            return Ok(self);
        }
        let size = (width, (from.1 * width).div_ceil(from.0));
        let pixels = encode::resized(&self.pixels, from, size)?;
        Ok(Self { size, pixels })
    }
}

/// Fails if no moving picture can be written to `path`, so that long work for it need not begin.
///
/// # Errors
/// If the name ends in neither `.gif` nor `.png`, or without the feature `pictures`.
pub fn check_path(path: &Path) -> Result<()> {
    crate::report::check_built()?;
    Kind::of(path).map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gif,
    Png,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match ending.to_ascii_lowercase().as_str() {
            "gif" => Ok(Self::Gif),
            "png" => Ok(Self::Png),
            _ => Err(Error::Unsuitable(format!(
                "{}: the name of a moving picture ends in .gif or .png, found `.{ending}`",
                path.display()
            ))),
        }
    }
}

/// Writes `count` frames of one size, each shown for so many `seconds`, again and again: whole or not at all. An animated PNG shows `still`
/// where a viewer does not animate, and its first frame without one; a GIF its first frame.
///
/// # Errors
/// If the path ends in neither `.gif` nor `.png`, there are no frames, or fewer or others than said, or it can't be written.
pub fn write(
    path: &Path,
    still: Option<&Frame>,
    (count, seconds): (usize, f64),
    mut next: impl FnMut() -> Result<Option<Frame>>,
) -> Result<()> {
    let kind = Kind::of(path)?;
    let first = next()?;
    let first = first.ok_or_else(|| Error::Unsuitable("a moving picture of nothing".to_owned()))?;
    let size = first.size;
    let mut first = Some(first);
    if still.is_some_and(|still| still.size != size) {
        return Err(Error::Internal(
            "a still picture of another size".to_owned(),
        ));
    }
    let mut left = count;
    let mut next = || -> Result<Option<Frame>> {
        let Some(frame) = first
            .take()
            .map_or_else(&mut next, |frame| Ok(Some(frame)))?
        else {
            return Ok(None);
        };
        let is_right = frame.size == size && frame.pixels.len() == size.0 * size.1 * 3 && left > 0;
        if !is_right {
            return Err(Error::Internal(
                "a moving picture with other frames than were announced".to_owned(),
            ));
        }
        left -= 1;
        Ok(Some(frame))
    };
    let bytes = encode::encode((kind, size), still, (count, seconds), &mut next)?;
    trajformer_core::atomic::write_atomically(path, &bytes)
}

#[cfg(feature = "pictures")]
mod encode {
    use rayon::prelude::*;

    use super::{Frame, Kind};
    use trajformer_core::error::{Error, Result};

    /// A bitmap of another size.
    pub(super) fn resized(
        pixels: &[u8],
        from: (usize, usize),
        to: (usize, usize),
    ) -> Result<Vec<u8>> {
        Ok(crate::report::pixels::shrink(pixels, from, to))
    }

    /// How hard the 256 colors of a frame are looked for, from 1 (longest) to 30.
    const SPEED: i32 = 10;

    pub(super) fn encode(
        (kind, size): (Kind, (usize, usize)),
        still: Option<&Frame>,
        (count, seconds): (usize, f64),
        next: &mut dyn FnMut() -> Result<Option<Frame>>,
    ) -> Result<Vec<u8>> {
        match kind {
            Kind::Gif => gif(size, seconds, next),
            Kind::Png => png(size, still, (count, seconds), next),
        }
    }

    fn failed(error: impl std::fmt::Display) -> Error {
        Error::Unsuitable(format!("a moving picture can't be encoded: {error}"))
    }

    fn gif(
        size: (usize, usize),
        seconds: f64,
        next: &mut dyn FnMut() -> Result<Option<Frame>>,
    ) -> Result<Vec<u8>> {
        let side = |pixels: usize| u16::try_from(pixels).map_err(failed);
        let (width, height) = (side(size.0)?, side(size.1)?);
        let mut bytes = Vec::new();
        let mut encoder = ::gif::Encoder::new(&mut bytes, width, height, &[]).map_err(failed)?;
        encoder
            .set_repeat(::gif::Repeat::Infinite)
            .map_err(failed)?;
        // Viewers show hundredths of a second, and no fewer than two.
        let delay = (seconds * 100.0).round().clamp(2.0, 1000.0) as u16;
        let mut drawn = Vec::new();
        loop {
            // Looking for colors takes longer than most drawing: several frames side by side.
            drawn.clear();
            while drawn.len() < rayon::current_num_threads() {
                match next()? {
                    Some(frame) => drawn.push(frame),
                    None => break,
                }
            }
            if drawn.is_empty() {
                break;
            }
            let frame = |frame: &Frame| {
                let frame = ::gif::Frame::from_rgb_speed(width, height, &frame.pixels, SPEED);
                ::gif::Frame { delay, ..frame }
            };
            let frames: Vec<_> = drawn.par_iter().map(frame).collect();
            for frame in &frames {
                encoder.write_frame(frame).map_err(failed)?;
            }
        }
        drop(encoder);
        Ok(bytes)
    }

    fn png(
        size: (usize, usize),
        still: Option<&Frame>,
        (count, seconds): (usize, f64),
        next: &mut dyn FnMut() -> Result<Option<Frame>>,
    ) -> Result<Vec<u8>> {
        let number = |of: usize| u32::try_from(of).map_err(failed);
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, number(size.0)?, number(size.1)?);
        encoder.set_color(::png::ColorType::Rgb);
        encoder.set_depth(::png::BitDepth::Eight);
        encoder.set_animated(number(count)?, 0).map_err(failed)?;
        let milliseconds = (seconds * 1000.0).round().clamp(1.0, 10_000.0) as u16;
        encoder
            .set_frame_delay(milliseconds, 1000)
            .map_err(failed)?;
        encoder.set_sep_def_img(still.is_some()).map_err(failed)?;
        let mut writer = encoder.write_header().map_err(failed)?;
        if let Some(still) = still {
            writer.write_image_data(&still.pixels).map_err(failed)?;
        }
        while let Some(frame) = next()? {
            writer.write_image_data(&frame.pixels).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }
}

#[cfg(not(feature = "pictures"))]
mod encode {
    use super::{Frame, Kind};
    use trajformer_core::error::Result;

    pub(super) fn resized(_: &[u8], _: (usize, usize), _: (usize, usize)) -> Result<Vec<u8>> {
        crate::report::check_built()?;
        Ok(Vec::new())
    }

    pub(super) fn encode(
        _: (Kind, (usize, usize)),
        _: Option<&Frame>,
        _: (usize, f64),
        _: &mut dyn FnMut() -> Result<Option<Frame>>,
    ) -> Result<Vec<u8>> {
        crate::report::check_built()?;
        Ok(Vec::new())
    }
}
