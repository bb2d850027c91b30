//! Records that cross between the kernel programs and user space. The records contain no padding, no `bool`, and no
//! Rust enum. Numbers and addresses are machine words in host byte order, and texts are arrays of words, because the
//! kernel's verifier takes several times as long for byte arrays.
#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The original destination of one connection. Slots are in `BPF_F_MMAPABLE` arrays, indexed by the local port of the
/// command's socket (one array for IPv4 on the wire, one for IPv6, and one for the proxy port).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct Slot {
    /// `bpf_get_socket_cookie` of the command's socket.
    pub cookie: u64,
    /// `bpf_ktime_get_ns` at the connect call, which distinguishes two connects of one socket.
    pub connect_ns: u64,
    /// Original destination as two numbers, high half first, with IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u64; 2],
    /// Port of the original destination.
    pub port: u32,
    /// One of the `SLOT_*` values.
    pub kind: u32,
    /// Thread group id of the caller, in the initial pid namespace.
    pub pid: u32,
    /// Always zero.
    pub reserved: u32,
}

/// The slot was not written yet, or was cleared.
pub const SLOT_EMPTY: u32 = 0;
/// The connection was redirected to the transparent listener.
pub const SLOT_REDIRECTED: u32 = 1;
/// The connection was not redirected, so the transparent listener never serves it.
pub const SLOT_LOCAL: u32 = 2;
/// The command connected to the explicit proxy port.
pub const SLOT_PROXY: u32 = 3;

/// Number of slots in each array, one for each local port.
pub const SLOTS: u32 = 65_536;

const _: () = assert!(size_of::<Slot>() == 48);

/// Returns the address of a record as one number.
pub const fn address(halves: [u64; 2]) -> u128 {
    let [high, low] = halves;
    ((high as u128) << 64) | low as u128
}

/// Low half of `::ffff:0.0.0.0` (RFC 4291, section 2.5.5.2).
pub(crate) const MAPPED: u64 = 0xffff_0000_0000;

/// Returns the halves of an address, as records contain it.
pub const fn halves(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64]
}

/// Settings of the kernel programs, in a read-only global that the loader fills before it loads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct Config {
    /// [`ABI_VERSION`] of the loader. With another value, the programs deny every attempt that they judge.
    pub abi_version: u32,
    /// Explicit proxy port inside the boundary.
    pub proxy_port: u32,
    /// 1 if the relay listens on `::1`.
    pub ipv6: u32,
    /// The IPv4 address of the mediator as a number. The relay may connect only to this address.
    pub mediator_addr: u32,
    /// Port of the mediator. With 0, the relay cannot connect at all.
    pub mediator_port: u32,
    /// 1 for `--mode audit`, in which the hooks on the command's cgroup only record their
    /// decisions.
    pub audit: u32,
    /// 1 if the mediator may reach private networks, because the policy trusts host names there and
    /// the hooks cannot check names.
    pub private: u32,
}

/// Version of the layouts in this module. Increase it with every change of a layout.
pub const ABI_VERSION: u32 = 5;

impl Config {
    /// Creates settings without a mediator. The relay's hooks then deny every attempt.
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

/// One attempt that a hook judged, as a record of the first ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct Event {
    /// `bpf_ktime_get_ns`. For a connect, it is also the `connect_ns` of the slot.
    pub ktime_ns: u64,
    /// Socket cookie; 0 if the hook has none.
    pub cookie: u64,
    /// `comm` of the calling thread, padded with NUL.
    pub comm: [u64; 2],
    /// Destination as two numbers, with IPv4 as `::ffff:a.b.c.d`; zero if there is none.
    pub addr: [u64; 2],
    /// Thread group id, in the initial pid namespace.
    pub pid: u32,
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// User id, in the initial user namespace.
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

/// One use of an `AF_UNIX` address, as a record of the second ring buffer. Records of this buffer are distinguished by
/// size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct UnixEvent {
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
    /// `comm` of the calling thread, padded with NUL.
    pub comm: [u64; 2],
    /// Thread group id, in the initial pid namespace.
    pub pid: u32,
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// User id, in the initial user namespace.
    pub uid: u32,
    /// `verdict::Hook`.
    pub hook: u32,
    /// Socket type, `SOCK_*`.
    pub sock_type: u32,
    /// Number of bytes in `address` that the caller passed.
    pub length: u32,
    /// `struct sockaddr_un`: two bytes of family, then the path. Bytes beyond `length` are undefined.
    pub address: [u64; UNIX_ADDRESS_WORDS],
}

/// Number of words for a `struct sockaddr_un`, which has 110 bytes.
pub const UNIX_ADDRESS_WORDS: usize = 14;

/// One answer of a name server to the command, as a record of the second ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct DnsAnswer {
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
    /// Address of the name server as two numbers, with IPv4 as `::ffff:a.b.c.d`.
    pub server: [u64; 2],
    /// Length of the whole message.
    pub whole: u32,
    /// Number of message bytes in this record.
    pub length: u32,
    /// The message. Bytes beyond `length` are undefined.
    pub message: [u64; DNS_ANSWER_BYTES as usize / 8],
}

/// Maximum number of message bytes in a [`DnsAnswer`]. Servers use this size for one datagram (DNS
/// Flag Day 2020).
pub const DNS_ANSWER_BYTES: u32 = 1232;

/// The traffic of one socket, as a record of the third ring buffer. `kind` distinguishes the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct Traffic {
    /// `bpf_ktime_get_ns`.
    pub ktime_ns: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// Time of the connect call, or of the datagram.
    pub connect_ns: u64,
    /// Destination as two numbers, with IPv4 as `::ffff:a.b.c.d`. Zero for [`TRAFFIC_COMMAND`].
    pub addr: [u64; 2],
    /// Number of acknowledged bytes, including SYN and FIN of the socket; 0 for a datagram.
    pub bytes_acked: u64,
    /// Number of bytes that arrived in order, including the peer's FIN; 0 for a datagram.
    pub bytes_received: u64,
    /// Number of bytes that were sent and not acknowledged. For a datagram, the size of its payload.
    pub in_flight: u32,
    /// Destination port; 0 for [`TRAFFIC_COMMAND`], and if the packet contains no port.
    pub port: u32,
    /// One of the `TRAFFIC_*` values.
    pub kind: u32,
    /// `IPPROTO_*` of the socket.
    pub protocol: u32,
    /// TCP state that the socket enters, `TCP_*`; 0 for a datagram.
    pub state: u32,
    /// 1 once the connection was established.
    pub established: u32,
}

/// A redirected or proxied connection of the command closes.
pub const TRAFFIC_COMMAND: u32 = 1;
/// A connection that the mediator opened enters another TCP state.
pub const TRAFFIC_MEDIATOR: u32 = 2;
/// The mediator sends a datagram.
pub const TRAFFIC_DATAGRAM: u32 = 3;

/// `TCP_ESTABLISHED` (include/net/tcp_states.h).
pub const TCP_ESTABLISHED: u32 = 1;
/// `TCP_SYN_SENT`.
pub const TCP_SYN_SENT: u32 = 2;
/// `TCP_FIN_WAIT1`, in which the process closed its end first.
pub const TCP_FIN_WAIT1: u32 = 4;
/// `TCP_CLOSE`. A socket also enters this state on the transition to TIME_WAIT, because the kernel
/// then continues with another object.
pub const TCP_CLOSE: u32 = 7;
/// `TCP_LAST_ACK`, in which the process closed its end second.
pub const TCP_LAST_ACK: u32 = 9;

/// Data that the mediator's hooks store for each socket that the mediator connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "zerocopy",
    derive(FromBytes, IntoBytes, Immutable, KnownLayout)
)]
#[repr(C)]
pub struct Opened {
    /// `bpf_ktime_get_ns` at the connect call.
    pub connect_ns: u64,
    /// 1 once the connection was established.
    pub established: u64,
}

const _: () = assert!(size_of::<Traffic>() == 80);
const _: () = assert!(size_of::<DnsAnswer>() == 1264);
const _: () = assert!(size_of::<Config>() == 28);
const _: () = assert!(size_of::<Event>() == 88);
const _: () = assert!(size_of::<UnixEvent>() == 160);

/// Index of a counter in `COUNTERS`. Each CPU has its own counters. The supervisor adds them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Records that were lost because a ring buffer was full.
    RingFull = 0,
    /// Cases in which a program could not read or store data that it needs. A program that judges an attempt then
    /// denies it.
    Internal = 1,
    /// Packets that would have left through an interface other than loopback.
    SkbDropped = 2,
    /// Denials by the hooks on the relay's cgroup.
    RelayDenied = 3,
    /// Slots that were written.
    SlotWritten = 4,
    /// Packets to the mediator's listener that did not come from a port of the relay or the supervisor.
    CallerRefused = 5,
    /// Connections of the command whose close a program will report.
    CloseExpected = 6,
    /// Connections of the command whose close a program reported.
    CloseSeen = 7,
    /// Denials by the hooks on the mediator's cgroup.
    MediatorDenied = 8,
}

/// Number of counters.
pub const COUNTERS: u32 = 9;

/// Returns an address as the key of a trie. A trie compares the bits of a key from the first byte
/// on.
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
            // SAFETY: the bound above proves that every byte pattern is a value, and that there is no
            // padding and no interior mutability. Copying bytes in and out needs nothing else.
            unsafe impl aya::Pod for $shared {}
        )+};
    }
    pod!(Config, Event, Slot);
}
