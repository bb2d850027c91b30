//! The counter at the far end of the wire, which receives every network packet that left the runner.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt::RcvBufForce,
};

use crate::namespaces::Namespaces;
use crate::topology::{INTERNET, RUNNER_V4};

/// Counts the network packets that left the runner.
#[derive(Debug)]
pub struct Wire {
    tap: OwnedFd,
    marker: UdpSocket,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    packets: Vec<Packet>,
    markers_sent: u64,
    last_marker: u64,
}

/// The number of network packets that had left by a certain time.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot(usize);

/// One network packet that left the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of the transport protocol. 0 if the packet is neither IPv4 nor IPv6.
    pub protocol: u8,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Destination port of a TCP or UDP packet.
    pub port: Option<u16>,
    /// Length on the wire.
    pub length: usize,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            1 | 58 => f.write_str("ICMP")?,
            6 => f.write_str("TCP")?,
            17 => f.write_str("UDP")?,
            other => write!(f, "protocol {other}")?,
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        write!(f, ", {} bytes", self.length)
    }
}

/// Start of the payload of the counter's own packets. A number follows this text.
const MARKER: &[u8; 16] = b"egress-tests-wir";
/// Port of the discard service, to which the counter sends its own packets.
const MARKER_PORT: u16 = 9;

impl Wire {
    /// Starts to listen at the far end. The two namespaces must already be connected.
    pub(crate) fn new(runner: &Namespaces, internet: &Namespaces) -> std::io::Result<Self> {
        let tap = internet.inside(|| {
            let tap = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )?;
            setsockopt(&tap, RcvBufForce, &(16 << 20))?;
            Ok::<_, Errno>(tap)
        })?;
        let marker = runner.inside(|| UdpSocket::bind((RUNNER_V4, 0)))?;
        Ok(Self {
            tap,
            marker,
            tally: Mutex::default(),
        })
    }

    /// Returns the number of packets that have left so far.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.flushed().packets.len())
    }

    /// Returns the packets that have left since `start`, the oldest first.
    pub fn since(&self, start: Snapshot) -> Vec<Packet> {
        let tally = self.flushed();
        tally.packets.iter().skip(start.0).cloned().collect()
    }

    /// Fails the test if a packet left since `start`.
    ///
    /// # Panics
    /// Panics with the packets that left.
    #[track_caller]
    pub fn assert_still(&self, start: Snapshot) {
        let packets = self.since(start);
        assert!(packets.is_empty(), "left the runner: {}", list(&packets));
    }

    /// Fails the test if no packet left since `start`, because the attempt then proves nothing.
    ///
    /// # Panics
    /// Panics if the counter did not change.
    #[track_caller]
    pub fn assert_moved(&self, start: Snapshot) {
        assert!(!self.since(start).is_empty(), "nothing left the runner");
    }

    /// Fails the test unless a packet that `wanted` accepts has left since `start`.
    ///
    /// # Panics
    /// Panics if no such packet has left. The message lists the packets that have left.
    #[track_caller]
    pub fn assert_left(&self, start: Snapshot, wanted: impl Fn(&Packet) -> bool) {
        let packets = self.since(start);
        assert!(
            packets.iter().any(wanted),
            "left the runner: {}",
            list(&packets)
        );
    }

    /// Returns the count. All packets that were sent before this call are counted.
    ///
    /// The counter sends its own packet after the others and waits until it arrives. A counter that receives nothing is
    /// therefore not mistaken for a silent wire.
    fn flushed(&self) -> MutexGuard<'_, Tally> {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.markers_sent += 1;
        let number = tally.markers_sent;
        let payload = [MARKER.as_slice(), &number.to_be_bytes()].concat();
        let deadline = Instant::now() + Duration::from_secs(5);
        while tally.last_marker < number {
            assert!(Instant::now() < deadline, "the counter sees nothing at all");
            self.marker
                .send_to(&payload, (INTERNET.marker, MARKER_PORT))
                .expect("send the counter's own packet");
            self.drain(&mut tally);
            if tally.last_marker < number {
                thread::sleep(Duration::from_millis(1));
            }
        }
        tally
    }

    fn drain(&self, tally: &mut Tally) {
        // Packets of the loopback interface and packets from `internet` also arrive at this socket.
        const OUTGOING: u8 = 4;
        const ETHERNET: u16 = 1;
        let mut frame = vec![0; 1 << 17];
        loop {
            match recvfrom::<LinkAddr>(self.tap.as_raw_fd(), &mut frame) {
                Ok((length, Some(source))) => {
                    let frame = frame.get(..length).unwrap_or_default();
                    if source.pkttype() != OUTGOING && source.hatype() == ETHERNET {
                        tally.enter(frame);
                    }
                }
                Ok((_, None)) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(error) => panic!("cannot read the counter: {error}"),
            }
        }
    }
}

impl Tally {
    fn enter(&mut self, frame: &[u8]) {
        let Some((header, payload)) = frame.split_at_checked(14) else {
            return;
        };
        if let Some(number) = marker(payload) {
            self.last_marker = self.last_marker.max(number);
            return;
        }
        let packet = match header.get(12..) {
            Some([0x08, 0x00]) => v4(payload),
            Some([0x86, 0xdd]) => v6(payload),
            // ARP packets are not counted, because the kernel sends them and no program does.
            Some([0x08, 0x06]) => return,
            _ => None,
        };
        let packet = packet.unwrap_or(Packet {
            protocol: 0,
            destination: None,
            port: None,
            length: 0,
        });
        if !is_housekeeping(&packet, payload) {
            self.packets.push(Packet {
                length: frame.len(),
                ..packet
            });
        }
    }
}

fn marker(packet: &[u8]) -> Option<u64> {
    // The headers are 20 bytes of IPv4 and 8 bytes of UDP.
    let number = packet.get(28..)?.strip_prefix(MARKER)?;
    Some(u64::from_be_bytes(number.first_chunk().copied()?))
}

fn v4(packet: &[u8]) -> Option<Packet> {
    let words = packet.first()? & 0x0f;
    let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let protocol = *packet.get(9)?;
    Some(Packet {
        protocol,
        destination: Some(Ipv4Addr::from(destination).into()),
        port: port(protocol, packet.get(usize::from(words) * 4..)?),
        length: 0,
    })
}

fn v6(packet: &[u8]) -> Option<Packet> {
    const HOP_BY_HOP: u8 = 0;
    let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
    let mut protocol = *packet.get(6)?;
    let mut payload = packet.get(40..)?;
    if protocol == HOP_BY_HOP {
        protocol = *payload.first()?;
        let length = (usize::from(*payload.get(1)?) + 1) * 8;
        payload = payload.get(length..)?;
    }
    Some(Packet {
        protocol,
        destination: Some(Ipv6Addr::from(destination).into()),
        port: port(protocol, payload),
        length: 0,
    })
}

fn port(protocol: u8, payload: &[u8]) -> Option<u16> {
    if !matches!(protocol, 6 | 17) {
        return None;
    }
    let bytes: [u8; 2] = payload.get(2..4)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes))
}

/// Returns whether a packet is neighbor discovery or a multicast listener report. The kernel sends these packets by
/// itself to multicast addresses of the link.
fn is_housekeeping(packet: &Packet, payload: &[u8]) -> bool {
    let multicast = packet
        .destination
        .is_some_and(|address| address.is_multicast());
    // The type follows the fixed header, or the hop-by-hop header, which has eight bytes.
    let kind = match payload.get(6) {
        Some(0) => payload.get(48),
        _ => payload.get(40),
    };
    packet.protocol == 58 && multicast && matches!(kind, Some(130..=137 | 143))
}

fn list(packets: &[Packet]) -> String {
    let mut lines: Vec<String> = packets.iter().take(20).map(Packet::to_string).collect();
    if packets.len() > lines.len() {
        lines.push(format!("and {} more", packets.len() - lines.len()));
    }
    lines.join("; ")
}
