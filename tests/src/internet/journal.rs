//! What the peers saw, for tests to read.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// A request that reached an HTTP or HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The address that the client connected to.
    pub server: SocketAddr,
    /// Name in the `ClientHello`, if it came by TLS.
    pub sni: Option<String>,
    /// Its method.
    pub method: String,
    /// Its target, as it stood in the request line.
    pub target: String,
    /// Its Host field.
    pub host: Option<String>,
    /// All its fields, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A question that reached the name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name, without the last dot.
    pub name: String,
    /// Number of the record type: 1 is A, 28 is AAAA.
    pub kind: u16,
    /// Whether it came by TCP.
    pub tcp: bool,
}

/// Something that reached one of the sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// The port that it was sent to.
    pub port: u16,
    /// Bytes that came.
    pub bytes: Vec<u8>,
}

/// The peers' common record.
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

    /// How often the IPv4 address of `name` was asked for.
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

    /// Bytes of a body that reached the server of this name, as they come. The port of the name does not count.
    pub(crate) fn receive(&self, host: &str, bytes: usize) {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        *received.entry(name).or_default() += bytes as u64;
    }

    /// What has been received so far.
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
