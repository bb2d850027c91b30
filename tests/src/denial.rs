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
    /// Makes `attempt`, a bash script that exits with 0 only if it got through, behind the boundary of
    /// a run that allows nothing, and then on the runner without any. Once in a world: packets of
    /// the second part may come late and would be taken for those of the next attempt.
    ///
    /// # Panics
    /// If the attempt gets through with the boundary, or any packet leaves the runner meanwhile; if
    /// it fails without the boundary, for then it proves nothing; or if it is not the world's first.
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
        assert!(self.first_attempt(), "a world for each attempt");
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
}
