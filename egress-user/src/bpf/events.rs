//! Reads the kernel's records from the ring buffer.
use std::net::{IpAddr, Ipv6Addr};

use aya::maps::{MapData, RingBuf};
use egress_common::abi;
use egress_common::verdict::{Hook, Reason, Verdict};
use zerocopy::{FromBytes, IntoBytes};

/// One attempt, with its bytes turned into values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Kernel monotonic time, ns.
    pub ktime_ns: u64,
    /// Socket cookie; 0 where the hook has none.
    pub cookie: u64,
    /// Name of the thread, NUL padded.
    pub comm: [u8; 16],
    /// Destination; unspecified where there is none.
    pub addr: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Process, initial pid namespace.
    pub pid: u32,
    /// User, initial user namespace.
    pub uid: u32,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// `SOCK_*`.
    pub sock_type: u32,
    /// `AF_*`.
    pub family: u32,
    /// Which hook.
    pub hook: Hook,
    /// What it did.
    pub verdict: Verdict,
    /// Why.
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

/// A record that no program of this version writes; it is counted and makes the log incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedEvent;

/// The reading end of the ring.
pub struct Events(RingBuf<MapData>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Wraps the ring.
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// The next record, if there is one. Never waits.
    pub fn take(&mut self) -> Option<Result<Event, MalformedEvent>> {
        self.0.next().map(|item| Event::try_from(&*item))
    }
}
