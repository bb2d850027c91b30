//! How runs end: exit statuses, processes that are killed, a clock that is set, and a Pipelock that fails.
#![forbid(unsafe_code)]

mod clock;
mod deaths;
mod deaths_operator;
mod deaths_phases;
mod exits;
mod killed;
mod pipelock_faults;
mod places;
mod terminal;
mod umask;
