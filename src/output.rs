//! What the command writes: results on standard output, complaints on standard error.
//!
//! A reader who has left is no error: what nobody reads is dropped, and the work goes on. A full disk
//! is one. Neither ever ends the program in the middle.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;
use trajformer::printable::printable;

/// Writes a line to standard output at once.
///
/// # Errors
/// If it can't be written, but for want of a reader.
pub fn line(text: impl Display) -> anyhow::Result<()> {
    whole(format!("{text}\n"))
}

/// Writes text that ends its lines itself. Names of files, columns and runs may be in it: what a terminal would obey is spelled out.
///
/// # Errors
/// As [`line`].
pub fn whole(text: impl Display) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    let written = output
        .write_all(printable(&text.to_string()).as_bytes())
        .and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

/// Writes a line to standard error; if that fails there is nobody left to tell.
pub fn complain(text: impl Display) {
    let text = text.to_string();
    let _ = writeln!(std::io::stderr(), "{}", printable(&text));
}

/// Writes a line of results to standard output: see [`line`].
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
pub(crate) use say;
