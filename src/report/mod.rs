//! Pictures of a run: learning curves, paths in a maze, plans beside what happened, scores as bars,
//! tokens beside the data; and [`page`], which shows all of a run in a browser.
//!
//! Each picture is plain data plus one `draw(path, &picture)`; the file's ending chooses the back
//! end, `.svg` (text, sharp at every size) or `.png` (needs no font on the machine). Nothing here
//! knows runs, policies or environments: callers fill in numbers and words.
//!
//! Colors are Okabe and Ito's set, which stays distinguishable with color-vision deficiency.

pub mod bars;
pub mod curves;
mod marks;
pub mod maze;
pub mod page;
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

use trajformer_core::error::{Error, Result};

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
