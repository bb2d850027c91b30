//! Measures the time and memory of a program that a benchmark starts.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Interval between two reads of the program's memory.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The exit status of the program.
    pub status: ExitStatus,
    /// Time from the start to the end of the program.
    pub wall: Duration,
    /// The peak memory of the program, in KiB.
    pub rss_kib: u64,
}

/// Runs a program to its end, and returns its status, time, and memory.
///
/// # Errors
/// Fails if the program cannot be started.
pub fn run(command: &mut Command) -> io::Result<Measured> {
    let started = Instant::now();
    let mut child = command.spawn()?;
    let status_file = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut rss_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        rss_kib = high_water(&status_file).unwrap_or(rss_kib);
        thread::sleep(LOOK_EVERY);
    };
    Ok(Measured {
        status,
        wall: started.elapsed(),
        rss_kib,
    })
}

fn high_water(status_file: &Path) -> Option<u64> {
    let text = fs::read_to_string(status_file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
