//! Attempts to get around the boundary, and the parts of the machine that the command can see.
#![forbid(unsafe_code)]

mod caller;
mod credentials;
mod environment;
mod exploited_relay;
mod file_view;
mod filters;
mod home;
mod hostile;
mod mediator_gate;
mod poisoning;
mod probes;
mod reach;
mod unix;
mod ways_out;
