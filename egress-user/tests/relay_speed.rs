//! Measures the relay against a client that talks to the mediator itself:
//! `cargo test --release --test relay_speed -- --ignored --nocapture --test-threads 1`.
#![expect(
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement"
)]
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress_common::abi::{SLOT_REDIRECTED, Slot};
use egress_relay::plan::PlainHttp;
use egress_relay::{Config, Limits, SlotSource, SlotTable, Sockets, serve};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

#[path = "support/hello.rs"]
mod hello;

/// Bytes of one large transfer.
const BULK: u64 = 1 << 30;
/// Short connections at each concurrency.
const SHORT: usize = 4_000;
/// Bytes of a small answer.
const SMALL: usize = 1_024;

#[test]
#[ignore = "a measurement; run it alone and in release"]
fn bulk() {
    let mediator = start_mediator();
    let relay = start_relay(mediator);
    let hello = hello::hello("a.test");
    for kind in [Kind::Tls, Kind::Http] {
        compare(&format!("{kind:?} bulk down, s/GiB"), 3, |through| {
            let mut client = through.connect(mediator, &relay, kind);
            let read = through.ask(&mut client, kind, &hello, true);
            drain(&mut client, BULK - read);
        });
    }
}

#[test]
#[ignore = "a measurement; run it alone and in release"]
fn short() {
    let mediator = start_mediator();
    let relay = start_relay(mediator);
    let hello = hello::hello("a.test");
    for (kind, concurrency) in [
        (Kind::Tls, 1),
        (Kind::Tls, 32),
        (Kind::Http, 1),
        (Kind::Http, 32),
    ] {
        let label = format!("{kind:?} short, {concurrency} at a time, s/{SHORT}");
        compare(&label, 3, |through| {
            std::thread::scope(|scope| {
                for _ in 0..concurrency {
                    scope.spawn(|| {
                        for _ in 0..SHORT / concurrency {
                            let mut client = through.connect(mediator, &relay, kind);
                            let read = through.ask(&mut client, kind, &hello, false);
                            drain(&mut client, SMALL as u64 - read);
                        }
                    });
                }
            });
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tls,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    Direct,
    Relay,
}

/// Runs both in turn and prints the best of each: wall time, and the processor time of all threads,
/// which other work on the machine does not change as much.
fn compare(label: &str, rounds: usize, run: impl Fn(Through)) {
    let mut best = [(f64::MAX, f64::MAX); 2];
    for _ in 0..rounds {
        for (at, through) in [Through::Direct, Through::Relay].into_iter().enumerate() {
            let (started, busy) = (Instant::now(), busy());
            run(through);
            let (wall, cpu) = (started.elapsed().as_secs_f64(), self::busy() - busy);
            best[at] = (best[at].0.min(wall), best[at].1.min(cpu));
        }
    }
    let [direct, relay] = best;
    println!(
        "{label}: direct {:.3}, relay {:.3}, ratio {:.2}; processor {:.3}, {:.3}, ratio {:.2}",
        direct.0,
        relay.0,
        relay.0 / direct.0,
        direct.1,
        relay.1,
        relay.1 / direct.1,
    );
}

/// Seconds that the threads of this process have run.
fn busy() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            Duration::from_micros(time.num_microseconds().try_into().unwrap()).as_secs_f64()
        })
        .iter()
        .sum()
}

impl Through {
    fn connect(self, mediator: SocketAddr, relay: &RelayUnderTest, kind: Kind) -> TcpStream {
        let stream = match self {
            Self::Direct => TcpStream::connect(mediator).unwrap(),
            Self::Relay => relay.connect(match kind {
                Kind::Tls => 443,
                Kind::Http => 80,
            }),
        };
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Asks for a large or a small answer, reads its head, and returns the bytes read behind it.
    fn ask(self, client: &mut TcpStream, kind: Kind, hello: &[u8], large: bool) -> u64 {
        match kind {
            Kind::Tls => {
                if self == Self::Direct {
                    client
                        .write_all(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
                        .unwrap();
                    read_head(client);
                }
                client.write_all(hello).unwrap();
                // The stand-in for the rest of the handshake.
                let mut flight = [0; 64];
                client.read_exact(&mut flight).unwrap();
                client.write_all(&[u8::from(large)]).unwrap();
                0
            }
            Kind::Http => {
                let path = if large { "/large" } else { "/small" };
                let target = match self {
                    Self::Direct => format!("http://a.test{path}"),
                    Self::Relay => path.to_owned(),
                };
                let head =
                    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
                client.write_all(head.as_bytes()).unwrap();
                read_head(client)
            }
        }
    }
}

/// Reads a head and returns how many bytes of what follows were read with it.
fn read_head(client: &mut TcpStream) -> u64 {
    let mut room = [0; 4096];
    let mut end = 0;
    loop {
        let read = client.read(&mut room[end..]).unwrap();
        assert_ne!(read, 0, "closed in the head");
        end += read;
        if let Some(at) = room[..end]
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
        {
            return (end - at - 4) as u64;
        }
    }
}

/// Reads the answer and then the end: whoever closes first keeps the port in TIME-WAIT.
fn drain(client: &mut TcpStream, mut left: u64) {
    let mut room = vec![0; 256 * 1024];
    while left > 0 {
        let read = client.read(&mut room).unwrap();
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= read as u64;
    }
    assert_eq!(client.read(&mut room).unwrap(), 0);
}

/// Answers as a mediator would, in a thread of its own.
fn start_mediator() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    in_a_runtime(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(mediate(stream));
        }
    });
    address
}

async fn mediate(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let block = vec![7; 256 * 1024];
    let mut held = Vec::new();
    loop {
        while !held.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        }
        let large = if held.starts_with(b"CONNECT") {
            stream
                .write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                .await?;
            held.clear();
            while stream.read_buf(&mut held).await? < 100 {}
            stream.write_all(&[1; 64]).await?;
            stream.read_u8().await? == 1
        } else {
            let large = held.windows(6).any(|bytes| bytes == b"/large");
            let length = if large { BULK } else { SMALL as u64 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            large
        };
        let mut left = if large { BULK } else { SMALL as u64 };
        while left > 0 {
            let step = usize::try_from(left).unwrap().min(block.len());
            stream.write_all(&block[..step]).await?;
            left -= step as u64;
        }
        let closes = held
            .windows(17)
            .any(|bytes| bytes.eq_ignore_ascii_case(b"connection: close"));
        if closes || held.first() != Some(&b'G') {
            return Ok(());
        }
        held.clear();
    }
}

struct RelayUnderTest {
    address: SocketAddr,
    slots: Slots,
    cookies: AtomicU64,
    ip: Ipv4Addr,
}

#[derive(Clone)]
struct Slots(Arc<Mutex<Vec<Slot>>>);

impl SlotSource for Slots {
    fn read(&self, _: SlotTable, port: u16) -> Slot {
        self.0.lock().unwrap()[usize::from(port)]
    }
}

impl RelayUnderTest {
    fn connect(&self, port: u16) -> TcpStream {
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&own.into()).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap().port();
        self.slots.0.lock().unwrap()[usize::from(local)] = Slot {
            cookie: self.cookies.fetch_add(1, Ordering::Relaxed),
            connect_ns: 1,
            addr: egress_common::abi::halves(self.ip.to_ipv6_mapped().into()),
            port: port.into(),
            kind: SLOT_REDIRECTED,
            ..egress_sys::slots::EMPTY
        };
        socket.connect(&self.address.into()).unwrap();
        socket.into()
    }
}

fn start_relay(mediator: SocketAddr) -> RelayUnderTest {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = dns.local_addr().unwrap();
    let sockets = Sockets {
        transparent_v4: bind(),
        transparent_v6: None,
        proxy_v4: bind(),
        dns_udp: Some(dns),
        dns_tcp: None,
    };
    let address = sockets.transparent_v4.local_addr().unwrap();
    let slots = Slots(Arc::new(Mutex::new(vec![egress_sys::slots::EMPTY; 65_536])));
    let config = Config {
        mediator,
        allowed_ports: vec![80, 443],
        ipv6: false,
        plain_http: PlainHttp::Scan,
        answer_cut: None,
        mark: None,
        redaction_key: egress_policy::redact::Key::new("k"),
        limits: Limits::default(),
    };
    let source = Box::new(slots.clone());
    in_a_runtime(async move {
        let (out, mut reports) = mpsc::channel(64);
        tokio::spawn(async move { while reports.recv().await.is_some() {} });
        serve(config, sockets, source, out, std::future::pending())
            .await
            .unwrap();
    });
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(
        Name::from_ascii("a.test.").unwrap(),
        RecordType::A,
    ));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .send_to(&question.to_vec().unwrap(), resolver)
        .unwrap();
    client.recv(&mut [0; 512]).unwrap();
    RelayUnderTest {
        address,
        slots,
        cookies: AtomicU64::new(1),
        ip: Ipv4Addr::new(198, 18, 0, 1),
    }
}

fn in_a_runtime(future: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future);
    });
}
