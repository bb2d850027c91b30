//! What goes through: clients, names, ports, and shapes of traffic, with the built-in mediator.
#![forbid(unsafe_code)]

mod audit_mode;
mod clients;
mod destinations;
mod programs;
mod retry;
mod scenarios;
mod shapes;
