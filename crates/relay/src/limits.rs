//! Limits of the relay: counts, sizes, and timeouts.
use std::time::Duration;

/// Counts, sizes, and timeouts. A run uses the defaults; tests shorten the timeouts.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of connections from the command at a time. Further connections wait in the
    /// listen backlog.
    pub connections: usize,
    /// Maximum number of names that get an address.
    pub names: usize,
    /// Maximum number of tunnels at the mediator at a time, including `/ws`. Further tunnels wait.
    /// Pipelock denies the 1,025th tunnel without a receipt, and frees a place only some time after
    /// its tunnel has ended.
    pub tunnels: usize,
    /// Total size in bytes above which no more large buffers are allocated for tunnels. Small buffers are always
    /// allocated.
    pub buffers: usize,
    /// Time from accept to the bytes that identify the protocol. The relay allows the same time again from these bytes
    /// to a complete `ClientHello`.
    pub first_bytes: Duration,
    /// Time from accept to the bytes that identify the protocol, for a connection whose port is denied.
    pub refused_first_bytes: Duration,
    /// Time to receive the complete head of a request, from the start of the connection or from the end of the previous
    /// request.
    pub keep_alive: Duration,
    /// Time to connect to the mediator.
    pub connect: Duration,
    /// Time for the mediator's answer to CONNECT.
    pub answer: Duration,
    /// Time for the head of the mediator's answer to a request.
    pub response: Duration,
    /// Time without traffic after which a tunnel may be closed. After twice this time, the tunnel is closed.
    pub idle: Duration,
    /// Time without bytes from the client after which the relay closes a denied connection. The relay reads until then,
    /// so that the client receives the denial.
    pub linger: Duration,
    /// Time for open connections to end when the relay stops.
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
