//! Standard output and standard error. Writing to either never panics.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Its reader has gone, as `head` does once it has its lines. The program ends quietly.
    #[error("standard output is closed")]
    Closed,
    /// The system refused, for example because a disk is full.
    #[error("standard output: {0}")]
    Io(io::Error),
}

/// Writes one line to standard error.
///
/// A line that cannot be written is lost: whoever does not read messages must not stop the work.
pub fn say(line: impl Display) {
    // One write for the whole line, so that lines of several ranks do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes text to standard output, and flushes it.
///
/// # Errors
///
/// If the text could not be written.
pub fn show(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => OutputError::Closed,
        _ => OutputError::Io(error),
    })
}
