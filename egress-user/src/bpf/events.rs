//! Reads the kernel's records from the ring buffers.
//!
//! Claims: read-kernel-events
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use egress_common::abi;
use egress_common::verdict::{Hook, Reason, Verdict};
use zerocopy::{FromBytes, IntoBytes};

use super::error::MalformedEvent;
use super::traffic::Traffic;

/// One attempt to use a socket, as a hook recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Kernel monotonic time, ns.
    pub ktime_ns: u64,
    /// Cookie of the socket; 0 if the hook has none.
    pub cookie: u64,
    /// Name of the thread, padded with NUL.
    pub comm: [u8; 16],
    /// Destination; the unspecified address if there is none.
    pub addr: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// `SOCK_*`.
    pub sock_type: u32,
    /// `AF_*`.
    pub family: u32,
    /// The hook that wrote the record.
    pub hook: Hook,
    /// The hook's decision.
    pub verdict: Verdict,
    /// The reason for the decision.
    pub reason: Reason,
}

impl TryFrom<&[u8]> for Event {
    type Error = MalformedEvent;

    fn try_from(bytes: &[u8]) -> Result<Self, MalformedEvent> {
        let raw = abi::Event::read_from_bytes(bytes)
            .ok()
            .ok_or(MalformedEvent)?;
        let mut comm = [0; 16];
        comm.copy_from_slice(raw.comm.as_bytes());
        Ok(Self {
            ktime_ns: raw.ktime_ns,
            cookie: raw.cookie,
            comm,
            addr: Ipv6Addr::from(abi::address(raw.addr)).to_canonical(),
            port: u16::try_from(raw.port).ok().ok_or(MalformedEvent)?,
            pid: raw.pid,
            uid: raw.uid,
            protocol: raw.protocol,
            sock_type: raw.sock_type,
            family: raw.family,
            hook: Hook::from_raw(raw.hook).ok_or(MalformedEvent)?,
            verdict: Verdict::from_raw(raw.verdict).ok_or(MalformedEvent)?,
            reason: Reason::from_raw(raw.reason).ok_or(MalformedEvent)?,
        })
    }
}

/// One use of an `AF_UNIX` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixEvent {
    /// Kernel monotonic time, ns.
    pub ktime_ns: u64,
    /// Name of the thread, padded with NUL.
    pub comm: [u8; 16],
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// `SOCK_*`.
    pub sock_type: u32,
    /// The hook that wrote the record.
    pub hook: Hook,
    /// The address that the process used.
    pub address: UnixAddress,
}

/// An `AF_UNIX` address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnixAddress {
    /// A path as the process wrote it, perhaps relative.
    Path(Vec<u8>),
    /// A name in the network namespace, without its leading NUL.
    Abstract(Vec<u8>),
    /// The kernel program could not read the address.
    Unread,
}

impl UnixAddress {
    /// Parses a `struct sockaddr_un` of `length` bytes (unix(7), "Address format").
    fn of(sockaddr: &[u8], length: u32) -> Self {
        let given = usize::try_from(length)
            .ok()
            .and_then(|length| sockaddr.get(..length));
        let Some([low, high, name @ ..]) = given else {
            return Self::Unread;
        };
        if i32::from(u16::from_ne_bytes([*low, *high])) != libc::AF_UNIX {
            return Self::Unread;
        }
        match name {
            [0, name @ ..] => Self::Abstract(name.to_vec()),
            path => Self::Path(
                path.split(|byte| *byte == 0)
                    .next()
                    .unwrap_or_default()
                    .to_vec(),
            ),
        }
    }
}

impl TryFrom<abi::UnixEvent> for UnixEvent {
    type Error = MalformedEvent;

    fn try_from(raw: abi::UnixEvent) -> Result<Self, MalformedEvent> {
        let mut comm = [0; 16];
        comm.copy_from_slice(raw.comm.as_bytes());
        Ok(Self {
            ktime_ns: raw.ktime_ns,
            comm,
            pid: raw.pid,
            uid: raw.uid,
            sock_type: raw.sock_type,
            hook: Hook::from_raw(raw.hook).ok_or(MalformedEvent)?,
            address: UnixAddress::of(raw.address.as_bytes(), raw.length),
        })
    }
}

/// One answer from a name server, as unparsed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAnswer {
    /// Kernel monotonic time, ns.
    pub ktime_ns: u64,
    /// Address of the name server.
    pub server: IpAddr,
    /// The message; `None` if it is longer than a record.
    pub message: Option<Vec<u8>>,
}

impl From<abi::DnsAnswer> for DnsAnswer {
    fn from(raw: abi::DnsAnswer) -> Self {
        let length = usize::try_from(raw.length).unwrap_or(usize::MAX);
        let here = raw.message.as_bytes().get(..length);
        Self {
            ktime_ns: raw.ktime_ns,
            server: Ipv6Addr::from(abi::address(raw.server)).to_canonical(),
            message: here.filter(|_| raw.whole == raw.length).map(<[u8]>::to_vec),
        }
    }
}

/// A record with bytes of variable length, from the second ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// An answer from a name server.
    Dns(DnsAnswer),
    /// A use of an `AF_UNIX` address.
    Unix(UnixEvent),
}

impl TryFrom<&[u8]> for Text {
    type Error = MalformedEvent;

    fn try_from(bytes: &[u8]) -> Result<Self, MalformedEvent> {
        // A record is as long as its type, and no two types have the same length.
        if let Ok(raw) = abi::DnsAnswer::read_from_bytes(bytes) {
            return Ok(Self::Dns(raw.into()));
        }
        let raw = abi::UnixEvent::read_from_bytes(bytes)
            .ok()
            .ok_or(MalformedEvent)?;
        UnixEvent::try_from(raw).map(Self::Unix)
    }
}

/// The read ends of the ring buffers.
pub struct Events {
    attempts: RingBuf<MapData>,
    texts: RingBuf<MapData>,
    traffic: RingBuf<MapData>,
    /// Kernel monotonic time, ns. Records about connections that were made before this time are skipped.
    since_ns: u64,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Takes the read end of each ring buffer.
    pub(super) fn new(
        attempts: RingBuf<MapData>,
        texts: RingBuf<MapData>,
        traffic: RingBuf<MapData>,
    ) -> Self {
        Self {
            attempts,
            texts,
            traffic,
            since_ns: 0,
        }
    }

    /// Discards the waiting attempts and the waiting records with a text, and returns the number of each. From then on,
    /// records about connections that were made before this call are skipped, because a probe's connection may close
    /// later.
    ///
    /// # Errors
    /// Fails if the kernel's clock cannot be read.
    pub fn discard(&mut self) -> io::Result<(usize, usize)> {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
        self.since_ns = u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX);
        let attempts = std::iter::from_fn(|| self.take()).count();
        let texts = std::iter::from_fn(|| self.take_text()).count();
        Ok((attempts, texts))
    }

    /// Returns the descriptors of the rings. The descriptor of a ring becomes readable when a record arrives in the
    /// ring after all earlier ones were read.
    pub fn watched(&self) -> [BorrowedFd<'_>; 3] {
        [&self.attempts, &self.texts, &self.traffic].map(AsFd::as_fd)
    }

    /// Returns the next attempt, if there is one, without waiting.
    pub fn take(&mut self) -> Option<Result<Event, MalformedEvent>> {
        self.attempts.next().map(|item| Event::try_from(&*item))
    }

    /// Returns the next record with a text, if there is one, without waiting.
    pub fn take_text(&mut self) -> Option<Result<Text, MalformedEvent>> {
        self.texts.next().map(|item| Text::try_from(&*item))
    }

    /// Returns the next record about the bytes of a socket, if there is one, without waiting.
    pub fn take_traffic(&mut self) -> Option<Result<Traffic, MalformedEvent>> {
        loop {
            let traffic = Traffic::try_from(&*self.traffic.next()?);
            let is_earlier = matches!(
                &traffic, Ok(Traffic::Closed(close)) if close.connect_ns < self.since_ns
            );
            if !is_earlier {
                return Some(traffic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: read-kernel-events*
    #[test]
    fn event_has_one_size_and_numbers_that_are_defined() {
        let event = abi::Event {
            ktime_ns: 1,
            cookie: 2,
            comm: [0; 2],
            addr: [0; 2],
            pid: 3,
            tid: 4,
            uid: 5,
            protocol: 6,
            port: 443,
            hook: Hook::Connect4 as u32,
            verdict: Verdict::Deny as u32,
            reason: Reason::OwnAddress as u32,
            sock_type: 1,
            family: 2,
        };
        let read = Event::try_from(event.as_bytes()).unwrap();
        assert_eq!((read.pid, read.port, read.verdict), (3, 443, Verdict::Deny));
        let short = event.as_bytes().split_last().unwrap().1;
        let long = [event.as_bytes(), &[0]].concat();
        for bytes in [&[], short, &long] {
            assert!(Event::try_from(bytes).is_err(), "{} bytes", bytes.len());
            assert!(Text::try_from(bytes).is_err(), "{} bytes", bytes.len());
        }
        for broken in [
            abi::Event {
                port: 1 << 16,
                ..event
            },
            abi::Event {
                hook: u32::MAX,
                ..event
            },
            abi::Event {
                verdict: u32::MAX,
                ..event
            },
            abi::Event {
                reason: u32::MAX,
                ..event
            },
        ] {
            assert!(Event::try_from(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    /// Claims: read-kernel-events
    #[test]
    fn unix_addresses_are_parsed() {
        let of = |name: &[u8], length: usize| {
            let mut bytes = [b'x'; 112];
            bytes[..2].copy_from_slice(&1_u16.to_ne_bytes());
            bytes[2..2 + name.len()].copy_from_slice(name);
            UnixAddress::of(&bytes, u32::try_from(length).unwrap())
        };
        assert_eq!(of(b"/a\0", 5), UnixAddress::Path(b"/a".to_vec()));
        assert_eq!(of(b"/ab", 4), UnixAddress::Path(b"/a".to_vec()));
        assert_eq!(of(b"\0a\0b", 6), UnixAddress::Abstract(b"a\0b".to_vec()));
        assert_eq!(of(b"", 2), UnixAddress::Path(Vec::new()));
        for length in [0, 1, 113, usize::from(u16::MAX)] {
            assert_eq!(of(b"/a", length), UnixAddress::Unread, "{length}");
        }
        assert_eq!(UnixAddress::of(&[2, 0, 47], 3), UnixAddress::Unread);
    }
}
