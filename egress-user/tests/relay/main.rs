//! Runs the relay in this process, with a fake slot source and a fake mediator, on loopback only.
mod dns;
mod http;
mod mediator;
mod proxy;
mod tls;
mod tunnel;
mod websocket;
mod world;
