//! Attempts to get around the boundary, and what the command can see of the machine.
#![forbid(unsafe_code)]

mod caller;
mod environment;
mod exploited_relay;
mod file_view;
mod filters;
mod hostile;
mod mediator_gate;
mod poisoning;
mod probes;
mod reach;
mod unix;
mod ways_out;
