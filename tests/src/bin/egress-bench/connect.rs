//! Measures the cost of all hooks for a connection that is opened and closed. The server is the command's own, so that
//! only the hooks differ.
use egress_tests::World;

use crate::turns::Inside;
use crate::{Result, ratio};

const ROUNDS: usize = 11;
const CONNECTIONS: u32 = 5000;

pub(crate) fn bench() -> Result<()> {
    let world = World::new();
    let mut turns = Inside::start(&world)?;
    let work = format!("connect {CONNECTIONS}");
    let mut inside = Vec::new();
    let mut outside = Vec::new();
    for _ in 0..ROUNDS {
        inside.push(turns.inside(&work)? / CONNECTIONS);
        outside.push(turns.outside(&work)? / CONNECTIONS);
    }
    turns.end()?;
    println!("medians of {} rounds of {CONNECTIONS}", ROUNDS - 1);
    ratio(
        "connect and close with all hooks, compared with none",
        &inside,
        &outside,
        "<= 1.15",
    );
    Ok(())
}
