//! Runs the relay in this process, with a fake slot source and a fake mediator, on loopback only.
mod dns;
mod http;
pub(crate) mod mediator;
mod mediators_limits;
mod process;
mod proxy;
mod tls;
mod tunnel;
mod unfinished;
mod websocket;
pub(crate) mod world;
