//! Writes results to standard output.
use std::io::{self, ErrorKind, Write};

use super::exit;

/// Writes `text` and returns `status`. A reader that stops early, such as `head`, does not change the status; any other
/// error does, because the result is then lost.
pub(super) fn write(text: &[u8], status: u8) -> u8 {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => exit::CANNOT_READ,
        Ok(()) | Err(_) => status,
    }
}

/// Does the same as [`write()`], with a line break after the text.
pub(super) fn line(text: &str, status: u8) -> u8 {
    write(format!("{}\n", text.trim_end()).as_bytes(), status)
}
