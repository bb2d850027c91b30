//! Traffic that passes with the built-in mediator: clients, names, ports, and shapes of traffic.
#![forbid(unsafe_code)]

mod audit_mode;
mod clients;
mod closed_home;
mod databases;
mod destinations;
mod programs;
mod retry;
mod scenarios;
mod shapes;
