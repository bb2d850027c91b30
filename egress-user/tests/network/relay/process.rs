//! The relay as a process of a run, with its own user, its own system call filter, and inherited descriptors.
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::process::Child;
use std::time::Duration;

use egress_common::abi::{SLOT_REDIRECTED, SLOTS};
use egress_relay::Limits;
use egress_relay::plan::{Config, Listeners, PlainHttp, RelayPlan, Report};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixDatagram};
use tokio::time::timeout;
use zerocopy::IntoBytes;

use super::mediator::MockMediator;
use super::world::{PATIENCE, question, read_answer, read_to_end, short};
use egress_test_support::client_hello::hello;

const UID: u32 = 61_234;

struct Process {
    child: Child,
    control: UnixDatagram,
    slots: File,
    transparent: SocketAddr,
    dns: SocketAddr,
    cookie: u64,
}

/// Starts the relay as the supervisor does.
#[expect(clippy::disallowed_methods, reason = "the test is the supervisor here")]
fn start(mediator: SocketAddr) -> Process {
    let _inheriting = crate::inheriting();
    let slots = tempfile::tempfile().unwrap();
    slots.set_len(u64::from(SLOTS) * 48).unwrap();
    let transparent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let slots_v6 = slots.try_clone().unwrap();
    let slots_proxy = slots.try_clone().unwrap();
    let plan = RelayPlan {
        uid: UID,
        gid: UID,
        listeners: Listeners {
            transparent_v4: transparent.as_raw_fd(),
            transparent_v6: None,
            proxy_v4: proxy.as_raw_fd(),
            dns_udp: Some(dns.as_raw_fd()),
            dns_tcp: None,
        },
        slots_v4_fd: slots.as_raw_fd(),
        slots_v6_fd: slots_v6.as_raw_fd(),
        slots_proxy_fd: slots_proxy.as_raw_fd(),
        config: Config {
            mediator,
            allowed_ports: vec![80, 443],
            ipv6: false,
            plain_http: PlainHttp::Scan,
            answer_cut: None,
            mark: None,
            redaction_key: egress_policy::redact::Key::new("k"),
            redaction_patterns: egress_policy::patterns::Patterns::default(),
            limits: Limits::default(),
        },
    };
    let mut memory = File::from(memfd_create(c"plan", MFdFlags::MFD_CLOEXEC).unwrap());
    serde_json::to_writer(&mut memory, &plan).unwrap();
    memory.flush().unwrap();
    let addresses = (transparent.local_addr().unwrap(), dns.local_addr().unwrap());
    let inherited: [OwnedFd; 8] = [
        memory.into(),
        theirs,
        transparent.into(),
        proxy.into(),
        dns.into(),
        slots.try_clone().unwrap().into(),
        slots_v6.into(),
        slots_proxy.into(),
    ];
    // These descriptors have the numbers in the plan. The clone above has another number.
    for fd in [
        &inherited[0],
        &inherited[1],
        &inherited[2],
        &inherited[3],
        &inherited[4],
        &inherited[6],
        &inherited[7],
    ] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    fcntl(&slots, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_egress"))
        .arg("__relay")
        .arg(inherited[0].as_raw_fd().to_string())
        .arg(inherited[1].as_raw_fd().to_string())
        .env_clear()
        .spawn()
        .unwrap();
    drop(inherited);
    let control = StdDatagram::from(ours);
    control.set_nonblocking(true).unwrap();
    Process {
        child,
        control: UnixDatagram::from_std(control).unwrap(),
        slots,
        transparent: addresses.0,
        dns: addresses.1,
        cookie: 0,
    }
}

impl Process {
    async fn report(&self) -> Option<Report> {
        let mut room = vec![0; 64 * 1024];
        let length = timeout(PATIENCE, self.control.recv(&mut room))
            .await
            .unwrap()
            .unwrap();
        (length > 0).then(|| serde_json::from_slice(&room[..length]).unwrap())
    }

    async fn flow(&self) -> String {
        loop {
            match self.report().await.expect("the relay has ended") {
                Report::Flow(flow) => return short(&flow),
                Report::Name(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn connect(&mut self, to: &str) -> TcpStream {
        self.cookie += 1;
        let to: std::net::SocketAddrV4 = to.parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let slot = egress_common::abi::Slot {
            cookie: self.cookie,
            connect_ns: 1,
            addr: egress_common::abi::halves(to.ip().to_ipv6_mapped().into()),
            port: to.port().into(),
            kind: SLOT_REDIRECTED,
            ..egress_sys::slots::EMPTY
        };
        let port = socket.local_addr().unwrap().port();
        self.slots
            .seek(SeekFrom::Start(u64::from(port) * 48))
            .unwrap();
        self.slots.write_all(slot.as_bytes()).unwrap();
        socket.connect(self.transparent).await.unwrap()
    }

    fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }
}

/// Claims: hidden-argument, process-relay, read-relay-log*
#[tokio::test]
async fn the_process_serves_without_privileges_and_ends_with_its_supervisor() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let mediator = MockMediator::start().await;
    let mut relay = start(mediator.address);
    assert_eq!(relay.report().await, Some(Report::Ready));
    assert_eq!(relay.status("Uid:"), UID.to_string());
    assert_eq!(relay.status("Gid:"), UID.to_string());
    assert_eq!(relay.status("CapBnd:"), "0000000000000000");
    assert_eq!(relay.status("CapEff:"), "0000000000000000");
    assert_eq!(relay.status("NoNewPrivs:"), "1");
    assert_eq!(relay.status("Seccomp:"), "2");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", relay.child.id())).unwrap();
    let of_files = limits
        .lines()
        .find(|line| line.starts_with("Max file size"));
    let words: Vec<&str> = of_files.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["1048576"; 2], "{limits}");
    let open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", relay.child.id()))
        .unwrap()
        .map(|entry| {
            std::fs::read_link(entry.unwrap().path())
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    assert!(
        open.iter()
            .all(|fd| !fd.contains("deleted") && !fd.contains("memfd")),
        "{open:?}"
    );

    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ask = question("a.test.", hickory_proto::rr::RecordType::A)
        .to_vec()
        .unwrap();
    socket.send_to(&ask, relay.dns).await.unwrap();
    let mut room = [0; 512];
    timeout(PATIENCE, socket.recv(&mut room))
        .await
        .unwrap()
        .unwrap();

    let mut client = relay.connect("198.18.0.1:80").await;
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(
        read_answer(&mut client).await.1,
        b"GET http://a.test/x HTTP/1.1\n"
    );
    assert_eq!(relay.flow().await, "http a.test forwarded");

    // These bytes make the relay use its large buffers, and make hyper's buffers grow.
    let mut client = relay.connect("198.18.0.1:80").await;
    client
        .write_all(b"GET /bytes/8000000 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_to_end(&mut client).await.len() > 8_000_000);
    assert_eq!(relay.flow().await, "http a.test forwarded");

    let mut client = relay.connect("198.18.0.1:443").await;
    let hello = hello("a.test");
    client.write_all(&hello).await.unwrap();
    client.read_exact(&mut vec![0; hello.len()]).await.unwrap();

    shutdown(relay.control.as_raw_fd(), Shutdown::Write).unwrap();
    assert_eq!(relay.flow().await, "tls a.test unfinished stopped");
    assert_eq!(relay.report().await, None);
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let status = loop {
        match relay.child.try_wait().unwrap() {
            Some(status) => break status,
            None if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            None => panic!("the relay does not end"),
        }
    };
    assert_eq!(status.code(), Some(0));
}
