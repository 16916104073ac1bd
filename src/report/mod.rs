//! Pictures of a run: learning curves, paths in a maze, plans beside what happened, scores as bars,
//! tokens beside the data.
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
pub mod plan;
pub mod tokens;

mod axes;
mod canvas;
mod pixels;
