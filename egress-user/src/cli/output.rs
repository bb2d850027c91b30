//! Writes results to standard output.
use std::io::{self, ErrorKind, Write};

/// Writes `text`. A reader that stops early, such as `head`, is not an error.
///
/// # Errors
/// Fails with any other write error, because the result is then lost.
pub(super) fn write(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes `text` without the white space at its end, and a line break.
///
/// # Errors
/// Returns the errors of [`write()`].
pub(super) fn line(text: &str) -> io::Result<()> {
    write(format!("{}\n", text.trim_end()).as_bytes())
}
