//! Records that cross between kernel and user space. There is no padding, no `bool` and no Rust enum
//! in them. Fields are machine words in host order, addresses too: byte arrays cost the kernel's
//! verifier several times as long.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the original destination of one connection was, indexed by the local port of the agent's
/// socket in a `BPF_F_MMAPABLE` array (one array for IPv4 on the wire, one for IPv6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// `bpf_get_socket_cookie` of the agent's socket.
    pub cookie: u64,
    /// `bpf_ktime_get_ns` of the connect call: tells apart two connects of one socket.
    pub connect_ns: u64,
    /// Address that was asked for, as two numbers, high half first; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u64; 2],
    /// Port that was asked for.
    pub port: u32,
    /// One of the `SLOT_*` values.
    pub kind: u32,
    /// Thread group id of the caller, in the initial pid namespace.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Nothing was written yet.
pub const SLOT_EMPTY: u32 = 0;
/// The connection was redirected to the transparent listener.
pub const SLOT_REDIRECTED: u32 = 1;
/// The agent connected to loopback itself: never served by the transparent listener.
pub const SLOT_LOCAL: u32 = 2;
/// The agent connected to the explicit proxy port.
pub const SLOT_PROXY: u32 = 3;

/// Slots in each array: one for each local port.
pub const SLOTS: u32 = 65_536;

const _: () = assert!(size_of::<Slot>() == 48);

/// The address of a record as one number.
pub const fn address(halves: [u64; 2]) -> u128 {
    let [high, low] = halves;
    ((high as u128) << 64) | low as u128
}

/// Low half of `::ffff:0.0.0.0` (RFC 4291, section 2.5.5.2).
pub(crate) const MAPPED: u64 = 0xffff_0000_0000;

/// The halves of an address, as records hold it.
pub const fn halves(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

/// Settings of the programs, in a read-only global that the loader fills before it loads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// [`ABI_VERSION`] of the loader; programs refuse everything on another value.
    pub abi_version: u32,
    /// Explicit proxy port inside the boundary.
    pub proxy_port: u32,
    /// 1 when the relay listens on `::1`.
    pub ipv6: u32,
    /// The one IPv4 address that the relay may connect to, as a number.
    pub mediator_addr: u32,
    /// Its port; 0 refuses everything.
    pub mediator_port: u32,
    /// 1 for `--mode audit`: the agent's hooks record what they would do, and do nothing.
    pub audit: u32,
    /// 1 if the mediator may reach private networks: the policy trusts names there, which no hook sees.
    pub private: u32,
}

/// Changes with every change of a layout in this module.
pub const ABI_VERSION: u32 = 4;

impl Config {
    /// Settings with no mediator yet: the relay's gate refuses everything.
    pub const fn new(proxy_port: u16, ipv6: bool) -> Self {
        Self {
            abi_version: ABI_VERSION,
            proxy_port: proxy_port as u32,
            ipv6: ipv6 as u32,
            mediator_addr: 0,
            mediator_port: 0,
            audit: 0,
            private: 0,
        }
    }
}

/// One attempt, as a hook saw it; the record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// `bpf_ktime_get_ns`; for a connect also the `connect_ns` of its slot.
    pub ktime_ns: u64,
    /// Socket cookie, 0 where the hook has none.
    pub cookie: u64,
    /// `comm` of the calling thread, NUL padded.
    pub comm: [u64; 2],
    /// Destination as two numbers; IPv4 as `::ffff:a.b.c.d`; zero where there is none.
    pub addr: [u64; 2],
    /// Thread group id, initial pid namespace.
    pub pid: u32,
    /// Thread id, initial pid namespace.
    pub tid: u32,
    /// User id, initial user namespace.
    pub uid: u32,
    /// Protocol, `IPPROTO_*`.
    pub protocol: u32,
    /// Destination port.
    pub port: u32,
    /// `verdict::Hook`.
    pub hook: u32,
    /// `verdict::Verdict`.
    pub verdict: u32,
    /// `verdict::Reason`.
    pub reason: u32,
    /// Socket type, `SOCK_*`.
    pub sock_type: u32,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u32,
}

/// One use of an `AF_UNIX` address; a record of the second ring, told from others by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixEvent {
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
    /// `comm` of the calling thread, NUL padded.
    pub comm: [u64; 2],
    /// Thread group id, initial pid namespace.
    pub pid: u32,
    /// Thread id, initial pid namespace.
    pub tid: u32,
    /// User id, initial user namespace.
    pub uid: u32,
    /// `verdict::Hook`.
    pub hook: u32,
    /// Socket type, `SOCK_*`.
    pub sock_type: u32,
    /// Bytes of `address` that the caller gave.
    pub length: u32,
    /// `struct sockaddr_un`: two bytes of family, then the path. Meaningless beyond `length`.
    pub address: [u64; UNIX_ADDRESS_WORDS],
}

/// Words that hold a `struct sockaddr_un`, 110 bytes.
pub const UNIX_ADDRESS_WORDS: usize = 14;

/// One answer of a name server, seen on its way to the agent; a record of the second ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DnsAnswer {
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
    /// Who sent it, as two numbers; IPv4 as `::ffff:a.b.c.d`.
    pub server: [u64; 2],
    /// Length of the message.
    pub whole: u32,
    /// Bytes of it that are here.
    pub length: u32,
    /// The message. Meaningless beyond `length`.
    pub message: [u64; DNS_ANSWER_BYTES as usize / 8],
}

/// Bytes of a [`DnsAnswer`]'s message: as much as servers put into one datagram (DNS Flag Day 2020).
pub const DNS_ANSWER_BYTES: u32 = 1232;

/// What one socket carried: the record of the third ring, which `kind` tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traffic {
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// Time of the connect call; for a datagram the time of the datagram.
    pub connect_ns: u64,
    /// Destination as two numbers; IPv4 as `::ffff:a.b.c.d`. Zero for [`TRAFFIC_COMMAND`].
    pub addr: [u64; 2],
    /// Bytes that the peer acknowledged, its SYN and FIN included. For a datagram zero.
    pub bytes_acked: u64,
    /// Bytes that arrived in order, the peer's FIN included. For a datagram zero.
    pub bytes_received: u64,
    /// Bytes that were sent and not acknowledged; for a datagram its payload.
    pub in_flight: u32,
    /// Destination port; 0 where the packet does not show one, and for [`TRAFFIC_COMMAND`].
    pub port: u32,
    /// One of the `TRAFFIC_*` values.
    pub kind: u32,
    /// `IPPROTO_*` of the socket.
    pub protocol: u32,
    /// The TCP state that the socket enters, `TCP_*`; 0 for a datagram.
    pub state: u32,
    /// 1 once the connection was established.
    pub established: u32,
}

/// A redirected or proxied connection of the command closes.
pub const TRAFFIC_COMMAND: u32 = 1;
/// A connection that the mediator opened enters another state.
pub const TRAFFIC_MEDIATOR: u32 = 2;
/// The mediator sends a datagram.
pub const TRAFFIC_DATAGRAM: u32 = 3;

/// `TCP_ESTABLISHED` (include/net/tcp_states.h), and so on.
pub const TCP_ESTABLISHED: u32 = 1;
/// `TCP_SYN_SENT`.
pub const TCP_SYN_SENT: u32 = 2;
/// `TCP_FIN_WAIT1`: the process closed its end first.
pub const TCP_FIN_WAIT1: u32 = 4;
/// `TCP_CLOSE`; also the step to TIME_WAIT, which is another object.
pub const TCP_CLOSE: u32 = 7;
/// `TCP_LAST_ACK`: the process closed its end second.
pub const TCP_LAST_ACK: u32 = 9;

/// What the mediator's hook keeps with each socket that the mediator connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Opened {
    /// `bpf_ktime_get_ns` of the connect call.
    pub connect_ns: u64,
    /// 1 once the connection was established.
    pub established: u64,
}

const _: () = assert!(size_of::<Traffic>() == 80);
const _: () = assert!(size_of::<DnsAnswer>() == 1264);
const _: () = assert!(size_of::<Config>() == 28);
const _: () = assert!(size_of::<Event>() == 88);
const _: () = assert!(size_of::<UnixEvent>() == 160);

/// Counters that every CPU keeps for itself and the supervisor adds up; the index into `COUNTERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Events that found the ring buffer full.
    RingFull = 0,
    /// Refusals because a program could not read or store what it needs.
    Internal = 1,
    /// Packets that would have left by another interface than loopback.
    SkbDropped = 2,
    /// Refusals of the relay's own gates.
    RelayDenied = 3,
    /// Slots written.
    SlotWritten = 4,
    /// Packets to the mediator's listener that did not come from the relay.
    CallerRefused = 5,
    /// Connections of the command whose close a program will report.
    CloseExpected = 6,
    /// Connections of the command whose close a program saw.
    CloseSeen = 7,
    /// Refusals of the gates on the mediator's own sockets.
    MediatorDenied = 8,
}

/// Length of `COUNTERS`.
pub const COUNTERS: u32 = 9;

/// Addresses in the order in which a trie compares their bits.
pub const fn trie_key([high, low]: [u64; 2]) -> [u32; 4] {
    [
        ((high >> 32) as u32).to_be(),
        (high as u32).to_be(),
        ((low >> 32) as u32).to_be(),
        (low as u32).to_be(),
    ]
}

#[cfg(feature = "user")]
mod user {
    #![expect(unsafe_code, reason = "aya's marker trait for map values and globals")]
    use super::{Config, Event, Slot};
    use zerocopy::{FromBytes, Immutable, IntoBytes};

    const fn plain<T: IntoBytes + FromBytes + Immutable + Copy + 'static>() {}

    macro_rules! pod {
        ($($shared:ty),+) => {$(
            const _: () = plain::<$shared>();
            // SAFETY: the bound above proves that every byte pattern is a value, that there is no
            // padding and no interior mutability, which is all that copying bytes in and out needs.
            unsafe impl aya::Pod for $shared {}
        )+};
    }
    pod!(Config, Event, Slot);
}
