//! `demo`: runs an example agent behind the boundary. The demo works on a new machine and ends with a verified packet.
use anyhow::Result;

use crate::build;
use crate::layout::Layout;
use crate::program::{program, run as run_program};
use crate::setup;

/// Builds `egress` and runs the example agent.
///
/// # Errors
/// Fails if `egress` cannot be built, or if the demo fails.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    setup::for_demo()?;
    let egress = build::quick(layout)?;
    let mut demo = program(layout.root.join("examples/demo/demo.sh"));
    run_program(demo.arg(egress).arg(layout.target.join("demo")))
}
