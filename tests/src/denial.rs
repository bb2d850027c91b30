//! The structure of denial tests: without the boundary, the attempt succeeds. With the boundary, no network packet
//! leaves.
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::run::{Run, RunOutput};
use crate::world::World;

/// Whether the attempt sends a network packet without the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// The attempt sends a network packet, and the counter must record it.
    OnTheWire,
    /// The attempt does not send a network packet, because it only creates a socket, for example. The control then
    /// requires that the attempt succeeds.
    None,
}

impl World {
    /// Runs `attempt` behind the boundary of a run that allows nothing, and then on the runner without a boundary.
    /// `attempt` is a bash script that exits with 0 only if it succeeds. In this order, packets of the second run of
    /// the script cannot be counted for the first run. Before each test, this function waits until earlier connections
    /// have ended. The function cannot wait for late answers to datagrams, so use a separate world for each attempt
    /// that sends datagrams.
    ///
    /// # Panics
    /// Panics if the attempt succeeds with the boundary, or a network packet leaves the runner during it. Also panics
    /// if the attempt fails without the boundary, because it then proves nothing.
    #[track_caller]
    pub fn assert_contained(&self, trace: Trace, attempt: &str) -> RunOutput {
        let run = self.egress().allow(&[]);
        self.assert_contained_by(run, trace, attempt)
    }

    /// Does the same as [`World::assert_contained`] with a boundary that the caller has set up.
    ///
    /// # Panics
    /// Panics in the same cases as [`World::assert_contained`].
    #[track_caller]
    pub fn assert_contained_by(&self, run: Run<'_>, trace: Trace, attempt: &str) -> RunOutput {
        self.wait_for_quiet();
        let start = self.wire().snapshot();
        // The script prints a line at its end, which shows that the command ran.
        let wrapped = format!("( {attempt}\n) && echo THROUGH || echo CONTAINED\n");
        let contained = run.script(&wrapped).run();
        self.wire().assert_still(start);
        assert_eq!(contained.status, Some(0), "{contained}");
        assert!(
            contained.stdout.ends_with("CONTAINED\n"),
            "with the boundary: {contained}"
        );

        let start = self.wire().snapshot();
        let control = self.shell(attempt);
        assert!(control.success(), "without a boundary: {control}");
        if trace == Trace::OnTheWire {
            self.wire().assert_moved(start);
        }
        contained
    }

    /// Waits until no connection of the runner is half closed. The kernel continues the connections of a program that
    /// has ended, and the packets of these connections would be counted for the next attempt.
    ///
    /// # Panics
    /// Panics if a connection is still half closed after ten seconds.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.on_runner(has_open_connection) {
            assert!(Instant::now() < deadline, "a connection does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns whether the network namespace of this thread has a connection that may still send.
fn has_open_connection() -> bool {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .any(|table| {
            table
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(3))
                .any(|state| state != TIME_WAIT && state != LISTEN)
        })
}
