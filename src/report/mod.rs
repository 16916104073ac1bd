//! Pictures of a run: learning curves, paths in a maze, plans beside what happened, scores as bars and as
//! intervals, data sets, tokens beside the data, small charts of several kinds; and [`page`], which shows all of a run in a browser.
//!
//! Each picture is plain data plus one `draw(path, &picture)`; the file's ending chooses the back
//! end, `.svg` (text, sharp at every size) or `.png` (needs no font on the machine). [`moving`] puts frames into one file. Nothing here
//! knows runs, policies or environments: callers fill in numbers and words.
//!
//! Colors are Okabe and Ito's set, which stays distinguishable with color-vision deficiency.

pub mod bars;
pub mod curves;
pub mod data;
pub mod figure;
pub mod intervals;
mod marks;
pub mod maze;
pub mod moving;
pub mod page;
pub mod panels;
pub mod plan;
pub mod tokens;

mod axes;
#[cfg(feature = "pictures")]
mod canvas;
#[cfg(not(feature = "pictures"))]
#[path = "no_canvas.rs"]
mod canvas;
#[cfg(feature = "pictures")]
mod pixels;
#[cfg_attr(not(feature = "pictures"), expect(dead_code))]
mod style;

use std::path::Path;

use trajformer_core::error::{Error, Result};

/// Endings of pictures.
const ENDINGS: [&str; 2] = ["svg", "png"];

/// Fails if nothing can be drawn to `path`, so that long work for a picture need not begin.
///
/// # Errors
/// If the name ends in neither `.svg` nor `.png`, or without the feature `pictures`.
pub fn check_path(path: &Path) -> Result<()> {
    check_built()?;
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Error::Unsuitable(format!(
        "{}: a picture's name ends in .svg or .png, found `.{ending}`",
        path.display()
    )))
}

/// Fails in a build that can't draw, so that long work for a picture need not begin.
///
/// # Errors
/// Without the feature `pictures`.
pub fn check_built() -> Result<()> {
    if cfg!(feature = "pictures") {
        return Ok(());
    }
    Err(Error::NotBuilt {
        feature: "pictures",
        problem: "this build can't draw: build with the feature `pictures` (a default one)"
            .to_owned(),
    })
}
