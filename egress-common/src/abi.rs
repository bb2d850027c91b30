//! Records that cross between kernel and user space. Network data is big-endian bytes; there is
//! no padding, no `bool` and no Rust enum in them.
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
    /// Address that was asked for; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// Port that was asked for.
    pub port_be: [u8; 2],
    /// One of the `SLOT_*` values.
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// Thread group id of the caller, in the initial pid namespace.
    pub pid: u32,
    /// Zero.
    pub reserved2: u32,
}

/// Nothing was written yet.
pub const SLOT_EMPTY: u8 = 0;
/// The connection was redirected to the transparent listener.
pub const SLOT_REDIRECTED: u8 = 1;
/// The agent connected to loopback itself: never served by the transparent listener.
pub const SLOT_LOCAL: u8 = 2;
/// The agent connected to the explicit proxy port.
pub const SLOT_PROXY: u8 = 3;

/// Slots in each array: one for each local port.
pub const SLOTS: u32 = 65_536;

const _: () = assert!(size_of::<Slot>() == 48 && size_of::<Slot>() % 8 == 0);

impl Slot {
    /// The port that was asked for, host order.
    pub fn port(&self) -> u16 {
        u16::from_be_bytes(self.port_be)
    }
}
