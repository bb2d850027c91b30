//! What a run takes of the machine, and what it leaves there. Each of these tests counts or fills what the
//! machine has only once, so they take turns, and no other test runs beside them.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod limits;
mod shares;
mod teardown;

/// Waits until no other test of this folder runs. A test that failed has had its turn.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
