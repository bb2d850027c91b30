//! The shape of every denial test: the attempt gets through without the boundary, and with it
//! nothing leaves.
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
    /// Makes `attempt`, a bash script that exits with 0 only if it got through, on the runner and then
    /// behind the boundary of a run that allows nothing.
    ///
    /// # Panics
    /// If the attempt fails without the boundary, for then it proves nothing; if it gets through
    /// with it; or if any packet leaves the runner meanwhile.
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
        let start = self.wire().snapshot();
        let control = self.shell(attempt);
        assert!(control.success(), "without a boundary: {control}");
        if trace == Trace::OnTheWire {
            self.wire().assert_moved(start);
        }

        let start = self.wire().snapshot();
        // The script runs to its end and its status shows that the agent ran at all.
        let wrapped = format!("( {attempt}\n) && echo THROUGH || echo CONTAINED\n");
        let contained = run.script(&wrapped).run();
        self.wire().assert_still(start);
        assert_eq!(contained.status, Some(0), "{contained}");
        assert!(
            contained.stdout.ends_with("CONTAINED\n"),
            "with the boundary: {contained}"
        );
        contained
    }
}
