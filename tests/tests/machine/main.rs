//! The resources of the machine that a run uses, and the objects that it leaves behind. Each of these tests counts or
//! fills something that the machine has only once. The tests therefore run one after the other, and no other test runs
//! at the same time.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod limits;
mod shares;
mod teardown;

/// Waits until no other test in this folder runs. A failed test does not block the others.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
