//! How much one run may hold open, and for how long.
use std::time::Duration;

/// Sizes and times; the defaults are what the product uses, tests shorten them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections from the agent at a time; more wait in the listen backlog.
    pub connections: usize,
    /// Names that get an address.
    pub names: usize,
    /// Tunnels, `/ws` among them, at the mediator at a time; more wait. Pipelock refuses the 1,025th without a
    /// receipt, and frees a place later than its tunnel ends.
    pub tunnels: usize,
    /// Buffers of the tunnels together, bytes; beyond it a tunnel gets small ones only.
    pub buffers: usize,
    /// From accept to the first bytes that tell the protocol, and to a complete `ClientHello`.
    pub first_bytes: Duration,
    /// The same where the port is refused anyway.
    pub refused_first_bytes: Duration,
    /// From one request to the complete head of the next.
    pub keep_alive: Duration,
    /// Connecting to the mediator.
    pub connect: Duration,
    /// The mediator's answer to CONNECT.
    pub answer: Duration,
    /// The head of the mediator's answer to a request.
    pub response: Duration,
    /// A tunnel in which no byte moves.
    pub idle: Duration,
    /// Reading on after a refusal, so that the client gets to see it.
    pub linger: Duration,
    /// What is open when the relay is told to stop.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            names: super::names::MAX_NAMES,
            tunnels: 1_000,
            buffers: 64 << 20,
            first_bytes: Duration::from_secs(5),
            refused_first_bytes: Duration::from_secs(1),
            keep_alive: Duration::from_mins(1),
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            response: Duration::from_mins(5),
            idle: Duration::from_mins(10),
            linger: Duration::from_secs(1),
            shutdown: Duration::from_millis(1_500),
        }
    }
}
