//! What a run takes of the machine, and what it leaves there.
#![forbid(unsafe_code)]

mod limits;
mod shares;
mod teardown;
