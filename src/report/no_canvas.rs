//! In place of the sheet in a build without the feature `pictures`: nothing can be drawn.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::path::Path;

use crate::report::moving::Frame;
use crate::report::style::{Anchor, Font, Point, Rgb, Stroke};
use trajformer_core::error::{Error, Result};

/// A sheet that never is.
pub(super) struct Canvas<'a> {
    never: Infallible,
    backend: PhantomData<&'a ()>,
}

/// Fails: says which feature draws.
pub(super) fn render(
    path: &Path,
    _: Point,
    _: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<()> {
    Err(Error::NotBuilt {
        feature: "pictures",
        problem: format!(
            "{}: this build can't draw; build with the feature `pictures` (a default one), or leave the picture out",
            path.display()
        ),
    })
}

/// Fails: says which feature draws.
pub(super) fn frame(
    _: Point,
    _: usize,
    _: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<Frame> {
    crate::report::check_built()?;
    Err(Error::Internal("a sheet in a build without".to_owned()))
}

impl Font {
    /// Nothing is measured for a sheet that never is.
    pub fn width(&self, _: &str) -> f64 {
        0.0
    }
}

impl Canvas<'_> {
    pub fn rectangle(&mut self, _: Point, _: Point, _: Rgb) -> Result<()> {
        match self.never {}
    }

    pub fn polygon(&mut self, _: &[Point], _: Rgb, _: f64) -> Result<()> {
        match self.never {}
    }

    pub fn disc(&mut self, _: Point, _: f64, _: Rgb) -> Result<()> {
        match self.never {}
    }

    pub fn line(&mut self, _: &[Point], _: Stroke) -> Result<()> {
        match self.never {}
    }

    pub fn text(&mut self, _: &str, _: Point, _: Anchor, _: Font) -> Result<()> {
        match self.never {}
    }

    pub fn upward_text(&mut self, _: &str, _: Point, _: Font) -> Result<()> {
        match self.never {}
    }
}
