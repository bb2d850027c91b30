//! Support for the tests: the relay, its slots, and its mediator.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress_common::abi::{SLOT_PROXY, SLOT_REDIRECTED, Slot};
use egress_relay::plan::{FlowReport, PlainHttp, Report};
use egress_relay::{Config, Limits, Outgoing, SlotSource, SlotTable, Sockets, serve};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::mediator::MockMediator;

/// Time limit for each step of a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running relay.
pub(crate) struct RelayWorld {
    pub(crate) mediator: MockMediator,
    pub(crate) transparent_v4: SocketAddr,
    pub(crate) transparent_v6: SocketAddr,
    pub(crate) proxy: SocketAddr,
    pub(crate) dns_udp: SocketAddr,
    pub(crate) dns_tcp: SocketAddr,
    pub(crate) slots: Slots,
    pub(crate) reports: mpsc::Receiver<Report>,
    stop: Option<oneshot::Sender<()>>,
    relay: JoinHandle<std::io::Result<()>>,
    cookies: AtomicU64,
}

/// Slots that the test writes in place of the kernel programs.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<HashMap<(SlotTable, u16), Slot>>>);

impl Slots {
    pub(crate) fn set(&self, table: SlotTable, port: u16, slot: Slot) {
        self.0.lock().unwrap().insert((table, port), slot);
    }
}

impl SlotSource for Slots {
    fn read(&self, table: SlotTable, port: u16) -> Slot {
        let slots = self.0.lock().unwrap();
        slots
            .get(&(table, port))
            .copied()
            .unwrap_or(egress_sys::slots::EMPTY)
    }
}

/// Returns limits that are short enough for tests.
pub(crate) fn quick() -> Limits {
    Limits {
        first_bytes: Duration::from_millis(300),
        refused_first_bytes: Duration::from_millis(200),
        linger: Duration::from_millis(300),
        shutdown: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// Passes reports on, as the relay process writes them to its control socket.
async fn send(mut outgoing: mpsc::Receiver<Outgoing>, socket: mpsc::Sender<Report>) {
    while let Some(outgoing) = outgoing.recv().await {
        if socket.send(outgoing.report().clone()).await.is_err() {
            return;
        }
        outgoing.sent();
    }
}

impl RelayWorld {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mediator = MockMediator::start().await;
        let mut config = Config {
            mediator: mediator.address,
            allowed_ports: vec![80, 443, 8080],
            ipv6: true,
            plain_http: PlainHttp::Scan,
            answer_cut: None,
            mark: None,
            redaction_key: egress_policy::redact::Key::new("k"),
            redaction_patterns: egress_policy::patterns::Patterns::default(),
            limits: quick(),
        };
        change(&mut config);
        let v4 = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Sockets {
            transparent_v4: v4(),
            transparent_v6: Some(std::net::TcpListener::bind("[::1]:0").unwrap()),
            proxy_v4: v4(),
            dns_udp: Some(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()),
            dns_tcp: Some(v4()),
        };
        let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
        let slots = Slots::default();
        let (out, outgoing) = mpsc::channel(16);
        let (socket, reports) = mpsc::channel(16);
        tokio::spawn(send(outgoing, socket));
        let (stop, stopped) = oneshot::channel::<()>();
        Self {
            mediator,
            transparent_v4: address(&sockets.transparent_v4),
            transparent_v6: address(sockets.transparent_v6.as_ref().unwrap()),
            proxy: address(&sockets.proxy_v4),
            dns_udp: sockets.dns_udp.as_ref().unwrap().local_addr().unwrap(),
            dns_tcp: address(sockets.dns_tcp.as_ref().unwrap()),
            slots: slots.clone(),
            reports,
            stop: Some(stop),
            relay: tokio::spawn(serve(config, sockets, Box::new(slots), out, async {
                drop(stopped.await);
            })),
            cookies: AtomicU64::new(100),
        }
    }

    /// Queries the stub resolver.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let question = question(name, kind).to_vec().unwrap();
        socket.send_to(&question, self.dns_udp).await.unwrap();
        let mut room = [0; 2048];
        let length = timeout(PATIENCE, socket.recv(&mut room))
            .await
            .unwrap()
            .unwrap();
        Message::from_vec(&room[..length]).unwrap()
    }

    /// Returns the synthetic IPv4 address of a name.
    pub(crate) async fn resolve(&self, name: &str) -> IpAddr {
        match &self.ask(name, RecordType::A).await.answers[0].data {
            RData::A(ip) => IpAddr::V4(ip.0),
            other => panic!("{other}"),
        }
    }

    /// Opens the connection that the boundary would make from a connect to `name:port`.
    pub(crate) async fn connect(&self, name: &str, port: u16) -> TcpStream {
        let ip = self.resolve(name).await;
        self.connect_to(SocketAddr::new(ip, port)).await
    }

    /// Opens the connection that the boundary would make from a connect to `to`, over the same address family.
    pub(crate) async fn connect_to(&self, to: SocketAddr) -> TcpStream {
        let slot = self.slot(to, SLOT_REDIRECTED);
        match to.ip() {
            IpAddr::V4(_) => self.dial(self.transparent_v4, slot).await,
            IpAddr::V6(_) => self.dial(self.transparent_v6, slot).await,
        }
    }

    /// Connects to the proxy port.
    pub(crate) async fn connect_proxy(&self) -> TcpStream {
        let slot = self.slot(self.proxy, SLOT_PROXY);
        self.dial(self.proxy, slot).await
    }

    pub(crate) fn slot(&self, to: SocketAddr, kind: u32) -> Slot {
        let addr = match to.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Slot {
            cookie: self.cookies.fetch_add(1, Ordering::Relaxed),
            connect_ns: 1,
            addr: egress_common::abi::halves(addr.into()),
            port: to.port().into(),
            kind,
            ..egress_sys::slots::EMPTY
        }
    }

    pub(crate) async fn dial(&self, relay: SocketAddr, slot: Slot) -> TcpStream {
        let (socket, own, table) = match relay {
            SocketAddr::V4(_) => (
                TcpSocket::new_v4().unwrap(),
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                SlotTable::V4,
            ),
            SocketAddr::V6(_) => (
                TcpSocket::new_v6().unwrap(),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
                SlotTable::V6,
            ),
        };
        let table = if relay == self.proxy {
            SlotTable::Proxy
        } else {
            table
        };
        socket.bind(SocketAddr::new(own, 0)).unwrap();
        self.slots
            .set(table, socket.local_addr().unwrap().port(), slot);
        socket.connect(relay).await.unwrap()
    }

    /// Returns the next report about a flow. Reports about names are skipped.
    pub(crate) async fn flow(&mut self) -> FlowReport {
        loop {
            match timeout(PATIENCE, self.reports.recv())
                .await
                .expect("no report")
                .unwrap()
            {
                Report::Flow(flow) => return flow,
                Report::Name(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the next report about a flow in short form: protocol, host, verdict, and reason.
    pub(crate) async fn short(&mut self) -> String {
        short(&self.flow().await)
    }

    /// Stops the relay, and returns its mediator and its last reports about flows.
    pub(crate) async fn stop(mut self) -> (MockMediator, Vec<FlowReport>) {
        drop(self.stop.take());
        let mut flows = Vec::new();
        while let Some(report) = timeout(PATIENCE, self.reports.recv())
            .await
            .expect("no end")
        {
            if let Report::Flow(flow) = report {
                flows.push(flow);
            }
        }
        self.relay.await.unwrap().unwrap();
        (self.mediator, flows)
    }
}

pub(crate) fn short(flow: &FlowReport) -> String {
    let host = flow.host.as_deref().unwrap_or("-");
    format!("{} {host} {} {}", flow.protocol, flow.verdict, flow.reason)
        .trim_end()
        .to_owned()
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Sends all bytes and reads until the connection ends.
pub(crate) async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.unwrap();
    read_to_end(stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut read))
        .await
        .expect("no end")
        .unwrap();
    read
}

/// Reads one answer with a Content-Length. Returns the head and the body of the answer.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        let mut byte = [0];
        let read = timeout(PATIENCE, stream.read(&mut byte))
            .await
            .expect("no answer")
            .unwrap();
        assert_ne!(
            read,
            0,
            "closed in the head: {}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.push(byte[0]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut body))
        .await
        .expect("no body")
        .unwrap();
    (head, body)
}

/// Returns bytes in which any shift or loss can be detected.
pub(crate) fn pattern(length: usize, offset: usize) -> Vec<u8> {
    let first = offset / 8;
    let words = (offset + length).div_ceil(8) - first;
    let mut bytes = Vec::with_capacity(words * 8);
    for word in first..first + words {
        let mixed = (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(&mixed.to_be_bytes());
    }
    bytes.drain(..offset % 8);
    bytes.truncate(length);
    bytes
}
