//! What the boundary holds: each attempt to get around it, and what of the machine the command can see.
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
