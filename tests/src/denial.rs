//! The shape of every denial test: the attempt gets through without the boundary, and with it
//! nothing leaves.
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::run::{Run, RunOutput};
use crate::world::World;

/// Whether the attempt, made without the boundary, puts something on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It does, and the counter must have seen it.
    OnTheWire,
    /// It does not, such as the making of a socket: its success is the control.
    None,
}

impl World {
    /// Makes `attempt`, a bash script that exits with 0 only if it got through, behind the boundary of
    /// a run that allows nothing, and then on the runner without any: in this order nothing of the
    /// second can be taken for the first. Several attempts in one world wait for each other's
    /// connections; late answers to datagrams cannot be waited for, so give those a world each.
    ///
    /// # Panics
    /// If the attempt gets through with the boundary, or any packet leaves the runner meanwhile; or if
    /// it fails without the boundary, for then it proves nothing.
    #[track_caller]
    pub fn assert_contained(&self, trace: Trace, attempt: &str) -> RunOutput {
        let run = self.egress().allow(&[]);
        self.assert_contained_by(run, trace, attempt)
    }

    /// The same with a boundary of the caller's own.
    ///
    /// # Panics
    /// As [`World::assert_contained`].
    #[track_caller]
    pub fn assert_contained_by(&self, run: Run<'_>, trace: Trace, attempt: &str) -> RunOutput {
        self.wait_for_quiet();
        let start = self.wire().snapshot();
        // The script runs to its end, and what it says shows that the agent ran at all.
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

    /// Waits until no connection of the runner's is half closed: the kernel goes on with those of a program that has
    /// ended, and its packets would be taken for those of the next.
    ///
    /// # Panics
    /// If one still is after ten seconds.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.on_runner(has_open_connection) {
            assert!(Instant::now() < deadline, "a connection does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether this thread's network namespace has a connection that may still send.
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
