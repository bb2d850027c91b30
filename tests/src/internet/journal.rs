//! The records of the servers, which tests read.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// A request that reached an HTTP or HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Address that the client connected to.
    pub server: SocketAddr,
    /// Name in the `ClientHello`, if the request came over TLS.
    pub sni: Option<String>,
    /// Method of the request.
    pub method: String,
    /// Target in the request line.
    pub target: String,
    /// Value of the Host field.
    pub host: Option<String>,
    /// All header fields, with names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A query that reached the name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name without the last dot.
    pub name: String,
    /// Number of the record type (1 is A, 28 is AAAA).
    pub kind: u16,
    /// Whether the query came over TCP.
    pub tcp: bool,
}

/// Data that reached a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Destination port.
    pub port: u16,
    /// The received bytes.
    pub bytes: Vec<u8>,
}

/// The record that all servers share.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    requests: Log<Request>,
    queries: Log<Query>,
    arrivals: Log<Arrival>,
    received: Mutex<BTreeMap<String, u64>>,
}

impl Journal {
    pub(crate) fn request(&self, request: Request) {
        self.requests.push(request);
    }

    pub(crate) fn query(&self, query: Query) {
        self.queries.push(query);
    }

    /// Returns how often the IPv4 address of `name` was queried.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let queries = self.queries.all();
        queries
            .iter()
            .filter(|query| query.kind == 1 && query.name == name)
            .count()
    }

    pub(crate) fn arrival(&self, arrival: Arrival) {
        self.arrivals.push(arrival);
    }

    /// Counts bytes of a body as they arrive at the server `host`. A port in `host` is ignored.
    pub(crate) fn receive(&self, host: &str, bytes: usize) {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        *received.entry(name).or_default() += bytes as u64;
    }

    /// Returns the number of bytes that each server has received so far.
    pub(crate) fn received(&self) -> BTreeMap<String, u64> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.all()
    }

    pub(crate) fn queries(&self) -> Vec<Query> {
        self.queries.all()
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.all()
    }
}

#[derive(Debug)]
struct Log<T>(Mutex<Vec<T>>);

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Log<T> {
    fn push(&self, entry: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
    }

    fn all(&self) -> Vec<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
