//! Raw access to the kernel's contexts, to map values, and to records. This is the only `unsafe` code of the kernel
//! programs. Every field is read with the width that the kernel's verifier admits.
#![expect(
    unsafe_code,
    reason = "contexts, map values, and records are raw pointers here; the kernel's verifier checks each access again"
)]
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr};
use aya_ebpf::btf_maps::{Array, PerCpuArray, SkStorage};
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_probe_read_kernel,
    bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_load_bytes,
};
use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext};
use egress_common::abi::{
    Config, DNS_ANSWER_BYTES, DnsAnswer, SLOT_EMPTY, Slot, Traffic, UnixEvent,
};
use egress_common::decide::{Attempt, mapped};
pub use listener::is_listening;
use zerocopy::IntoBytes;

mod listener;

/// `AF_INET`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`.
pub const AF_INET6: u32 = 10;

/// The license of the programs, in the form of `include/linux/license.h`. The kernel rejects GPL-only helpers in
/// programs whose license is not compatible with the GPL.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The settings, which the loader fills before it loads the programs.
#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    abi_version: 0,
    proxy_port: 0,
    ipv6: 0,
    mediator_addr: 0,
    mediator_port: 0,
    audit: 0,
    private: 0,
};

/// Returns the settings that the loader stored in [`CONFIG`].
#[inline(always)]
pub fn settings() -> Config {
    // SAFETY: `CONFIG` is an initialized static. The volatile read keeps the compiler from folding the placeholder that
    // the loader replaces.
    unsafe { ptr::read_volatile(&raw const CONFIG) }
}

/// Reads one context field once and with its own width. The verifier rejects a load that the compiler widened or split.
macro_rules! field {
    ($ptr:expr, $field:ident) => {{
        let ptr = $ptr;
        // SAFETY: the kernel passes a valid context pointer to the program. The field is part of it.
        unsafe { core::ptr::read_volatile(&raw const (*ptr).$field) }
    }};
}

/// Reads the four words of an IPv6 address field one by one.
macro_rules! words {
    ($ptr:expr, $field:ident) => {{
        let ptr = $ptr;
        // SAFETY: as in `field!`.
        unsafe {
            let at = (&raw const (*ptr).$field).cast::<u32>();
            [
                core::ptr::read_volatile(at),
                core::ptr::read_volatile(at.add(1)),
                core::ptr::read_volatile(at.add(2)),
                core::ptr::read_volatile(at.add(3)),
            ]
        }
    }};
}

/// Returns the halves of an address from its words in network byte order.
#[inline(always)]
pub fn v6_halves([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    let join =
        |high: u32, low: u32| (u64::from(u32::from_be(high)) << 32) | u64::from(u32::from_be(low));
    [join(a, b), join(c, d)]
}

/// Returns the attempt of a `connect4` or `sendmsg4` context.
#[inline(always)]
pub fn attempt4(ctx: &SockAddrContext) -> Attempt {
    let addr = ctx.sock_addr;
    attempt(addr, mapped(u32::from_be(field!(addr, user_ip4))))
}

/// Returns the attempt of a `connect6` or `sendmsg6` context.
#[inline(always)]
pub fn attempt6(ctx: &SockAddrContext) -> Attempt {
    let addr = ctx.sock_addr;
    attempt(addr, v6_halves(words!(addr, user_ip6)))
}

#[inline(always)]
fn attempt(ctx: *mut bpf_sock_addr, addr: [u64; 2]) -> Attempt {
    Attempt {
        addr,
        port: u32::from(u16::from_be(field!(ctx, user_port) as u16)),
        sock_type: field!(ctx, type_),
        protocol: field!(ctx, protocol),
    }
}

/// Replaces the destination of a `*4` context. `ip` is a number.
#[inline(always)]
pub fn rewrite4(ctx: &SockAddrContext, ip: u32, port: u32) {
    let addr = ctx.sock_addr;
    // SAFETY: connect4 and getpeername4 may write these two fields, whole, by the verifier's rules.
    unsafe {
        core::ptr::write_volatile(&raw mut (*addr).user_ip4, ip.to_be());
        core::ptr::write_volatile(&raw mut (*addr).user_port, u32::from((port as u16).to_be()));
    }
}

/// Replaces the destination of a `*6` context.
#[inline(always)]
pub fn rewrite6(ctx: &SockAddrContext, [high, low]: [u64; 2], port: u32) {
    let addr = ctx.sock_addr;
    // SAFETY: connect6 and getpeername6 may write these fields, word by word, by the verifier's rules.
    unsafe {
        let at = (&raw mut (*addr).user_ip6).cast::<u32>();
        core::ptr::write_volatile(at, ((high >> 32) as u32).to_be());
        core::ptr::write_volatile(at.add(1), (high as u32).to_be());
        core::ptr::write_volatile(at.add(2), ((low >> 32) as u32).to_be());
        core::ptr::write_volatile(at.add(3), (low as u32).to_be());
        core::ptr::write_volatile(&raw mut (*addr).user_port, u32::from((port as u16).to_be()));
    }
}

/// A full socket of a context. The pointer is not null.
#[derive(Clone, Copy)]
pub struct Socket(*mut bpf_sock);

/// Returns the socket of an address context.
#[inline(always)]
pub fn socket_of(ctx: &SockAddrContext) -> Socket {
    // SAFETY: `sk` is set for every sock_addr hook. The other members only give `sk` its width.
    Socket(unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk })
}

/// The two ends of a connection in a sockops callback, in network byte order.
pub struct Ends {
    /// Local and remote IPv4 address.
    pub v4: (u32, u32),
    /// Local and remote IPv6 address.
    pub v6: ([u32; 4], [u32; 4]),
}

/// Reads both ends of a sockops context.
#[inline(always)]
pub fn ends(ctx: &SockOpsContext) -> Ends {
    let ops = ctx.ops;
    Ends {
        v4: (field!(ops, local_ip4), field!(ops, remote_ip4)),
        v6: (words!(ops, local_ip6), words!(ops, remote_ip6)),
    }
}

/// Returns local and remote IPv4 address of a sockops context, in network byte order.
#[inline(always)]
pub fn ends_v4(ctx: &SockOpsContext) -> (u32, u32) {
    (field!(ctx.ops, local_ip4), field!(ctx.ops, remote_ip4))
}

/// Returns remote address and port of a sockops context.
#[inline(always)]
pub fn peer(ctx: &SockOpsContext) -> ([u64; 2], u32) {
    let ops = ctx.ops;
    let addr = if field!(ops, family) == AF_INET {
        mapped(u32::from_be(field!(ops, remote_ip4)))
    } else {
        v6_halves(words!(ops, remote_ip6))
    };
    // `remote_port` is the network-order port in the upper half of a big-endian word.
    (addr, u32::from_be(field!(ops, remote_port)))
}

/// Sets the byte counts of a connection in a record.
#[inline(always)]
pub fn carried(ctx: &SockOpsContext, traffic: &mut Traffic) {
    let ops = ctx.ops;
    traffic.bytes_acked = field!(ops, bytes_acked);
    traffic.bytes_received = field!(ops, bytes_received);
    // Sequence numbers wrap around.
    traffic.in_flight = field!(ops, snd_nxt).wrapping_sub(field!(ops, snd_una));
}

/// `LOOPBACK_IFINDEX`: `lo` is interface 1 in every network namespace.
/// <https://github.com/torvalds/linux/blob/v6.1/include/net/flow.h>
const LOOPBACK_IFINDEX: u32 = 1;

/// Whether a packet leaves through loopback, as packets to the machine's own addresses do.
#[inline(always)]
pub fn stays(ctx: &SkBuffContext) -> bool {
    field!(ctx.skb.skb, ifindex) == LOOPBACK_IFINDEX
}

/// A full socket that sends a packet.
#[derive(Clone, Copy)]
pub struct Sender {
    /// The sending socket.
    pub socket: Socket,
    /// Protocol of the socket, `IPPROTO_*`.
    pub protocol: u32,
}

/// Returns the socket that sends a packet, or `None` if it is not a full socket.
#[inline(always)]
pub fn sender(ctx: &SkBuffContext) -> Option<Sender> {
    // SAFETY: `sk` is part of the context. The other member of the union only gives `sk` its width.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: the socket comes from the context and is not null (checked).
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return None;
    }
    Some(Sender {
        socket: Socket(sk),
        protocol: field!(sk, protocol),
    })
}

/// Returns the address and the port of a socket's peer if the packet goes to this peer. Returns `None` for a socket
/// that is not connected, and for a packet that a firewall rule of the host redirects.
#[inline(always)]
pub fn peer_of_packet(ctx: &SkBuffContext, sender: &Sender) -> Option<([u64; 2], u32)> {
    let port = u32::from(u16::from_be(field!(sender.socket.0, dst_port)));
    let first: u8 = ctx.load(0).ok()?;
    let (peer, packet) = if first >> 4 == 4 {
        let to: u32 = ctx.load(16).ok()?;
        (
            mapped(u32::from_be(field!(sender.socket.0, dst_ip4))),
            mapped(u32::from_be(to)),
        )
    } else {
        (
            v6_halves(words!(sender.socket.0, dst_ip6)),
            v6_halves(ctx.load(24).ok()?),
        )
    };
    (peer == packet && port != 0).then_some((peer, port))
}

/// Returns the remote port of the socket that receives a packet; 0 for a listener.
#[inline(always)]
pub fn remote_port_of_packet(ctx: &SkBuffContext) -> u32 {
    field!(ctx.skb.skb, remote_port)
}

/// Returns the full socket of a sockops context, if there is one.
#[inline(always)]
pub fn socket_of_ops(ctx: &SockOpsContext) -> Option<Socket> {
    // SAFETY: `sk` is part of the context. The other member of the union only gives `sk` its width.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    (!sk.is_null()).then_some(Socket(sk))
}

/// Returns family, type, and protocol of a socket that is being created.
#[inline(always)]
pub fn new_socket(ctx: &SockContext) -> (u32, u32, u32) {
    let sock = ctx.sock;
    (
        field!(sock, family),
        field!(sock, type_),
        field!(sock, protocol),
    )
}

/// Returns `comm` of the current thread.
#[inline(always)]
pub fn comm() -> [u64; 2] {
    let mut comm = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: the buffer is 16 bytes long, as the second argument states.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), 16) };
    // SAFETY: the helper fills the whole buffer, with zeros when there is no task.
    unsafe { comm.assume_init() }
}

/// Returns the time for records.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_ns() }
}

/// Returns the type of the socket in an address context.
#[inline(always)]
pub fn sock_type(ctx: &SockAddrContext) -> u32 {
    field!(ctx.sock_addr, type_)
}

/// Copies a record word by word. The compiler turns a plain copy into a loop over bytes, and the kernel's verifier
/// walks each iteration.
///
/// # Safety
/// Both pointers are valid for one `T` and aligned to 8 bytes, `T` is whole words of 8 bytes without padding, and `to`
/// is writable.
#[inline(always)]
unsafe fn copy_words<T: IntoBytes>(from: *const T, to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let mut word = 0;
    while word < size_of::<T>() / 8 {
        // SAFETY: `word` is below the number of words of a `T`, and the caller promises that both point to a `T`.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
        word += 1;
    }
}

/// Returns the cookie of the socket in a context.
#[inline(always)]
pub fn cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: the helper takes the program's own context. The kernel loads only programs whose kind has the helper.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// The value of a map entry. The value stays valid while the program runs, even if the entry is removed. Other
/// processors may write to the value at the same time. Each word is then old or new.
pub struct Place<T>(*mut T);

impl<T: Copy> Place<T> {
    /// Reads the value.
    #[inline(always)]
    pub fn read(&self) -> T {
        // SAFETY: a place is a whole and aligned `T`, which `element` and `stored` got from a map of such values.
        unsafe { self.0.read() }
    }

    /// Writes the value.
    #[inline(always)]
    pub fn write(&self, value: T) {
        // SAFETY: as in `read`, and programs may write to the values of these maps.
        unsafe { self.0.write(value) };
    }
}

impl Place<Slot> {
    /// Copies another slot to this one.
    #[inline(always)]
    pub fn copy(&self, from: &Self) {
        // SAFETY: both are whole and aligned Slots, as in `read`, and this one may be written to.
        unsafe { copy_words(from.0, self.0) };
    }

    /// Marks the slot as empty.
    #[inline(always)]
    pub fn clear(&self) {
        // SAFETY: as in `write`.
        unsafe { (&raw mut (*self.0).kind).write_volatile(SLOT_EMPTY) };
    }
}

/// Returns the element of an array at an index, if the index is in range.
#[inline(always)]
pub fn element<T, const N: usize, const FLAGS: usize>(
    array: &Array<T, N, FLAGS>,
    index: u32,
) -> Option<Place<T>> {
    array.get_ptr_mut(index).map(Place)
}

/// Returns the storage of a socket in `map`. With `create`, missing storage is created and filled with zeros.
#[inline(always)]
pub fn stored<T>(map: &SkStorage<T>, Socket(sk): Socket, create: bool) -> Option<Place<T>> {
    let flags = u64::from(create) * u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    let map = ptr::from_ref(map).cast_mut().cast::<c_void>();
    // SAFETY: `map` holds a `T` for each socket, and the socket is one of a context and not null.
    let place = unsafe { bpf_sk_storage_get(map, sk.cast(), ptr::null_mut(), flags) }.cast::<T>();
    (!place.is_null()).then_some(Place(place))
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn add_one<const N: usize>(counters: &PerCpuArray<u64, N>, index: u32) {
    if let Some(value) = counters.get_ptr_mut(index) {
        // SAFETY: the lookup returned a counter, which is this CPU's alone while the program runs.
        unsafe { *value += 1 };
    }
}

/// Writes a record to `entry` in a ring.
#[inline(always)]
pub fn fill<T: IntoBytes + 'static>(entry: &mut RingBufEntry<T>, record: &T) {
    // SAFETY: both are one whole `T`. The ring's entry is writable and aligned to 8 bytes, and `copy_words` takes no
    // `T` with another alignment; `IntoBytes` has no padding.
    unsafe { copy_words(record, entry.as_mut_ptr()) };
}

/// Writes the message of a packet to its entry. The message begins at `offset`. `whole` is the
/// length of the message, of which `length` bytes are copied. Returns whether the copy succeeded.
#[inline(always)]
pub fn fill_answer(
    ctx: &SkBuffContext,
    entry: &mut RingBufEntry<DnsAnswer>,
    server: [u64; 2],
    [whole, length]: [u32; 2],
    offset: u32,
) -> bool {
    let to = entry.as_mut_ptr();
    // SAFETY: the ring's entry is a whole DnsAnswer, writable and aligned to 8.
    unsafe {
        (&raw mut (*to).ktime_ns).write_volatile(now());
        (&raw mut (*to).server).write_volatile(server);
        (&raw mut (*to).whole).write_volatile(whole);
        (&raw mut (*to).length).write_volatile(length);
    }
    // The compiler can prove the bounds and would remove the comparison, which the kernel's verifier requires.
    let length = opaque(length);
    if length == 0 || length > DNS_ANSWER_BYTES {
        return false;
    }
    // SAFETY: the destination holds DNS_ANSWER_BYTES, and `length` is no more than that. The helper checks the source.
    let failed = unsafe {
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            offset,
            (&raw mut (*to).message).cast(),
            length,
        )
    };
    failed == 0
}

/// The first members of `struct bpf_sock_addr_kern`, which is at the address that a program receives as its context. If
/// a kernel changes this layout, a program may fail to read the address, and the flow then has the verdict `unread`.
/// <https://github.com/torvalds/linux/blob/v6.7/include/linux/filter.h>
#[repr(C)]
struct KernelContext {
    sk: u64,
    address: u64,
    scratch: u64,
    t_ctx: u64,
    length: u32,
    padding: u32,
}

/// Size of `struct sockaddr_un`. The kernel stores the address in a `struct sockaddr_storage`, which is longer.
const ADDRESS_BYTES: u32 = 110;

/// Writes the address in a context and its length to `entry`. The length is 0 if the address cannot be read.
#[inline(always)]
pub fn fill_address(ctx: &SockAddrContext, entry: &mut RingBufEntry<UnixEvent>) {
    let to = entry.as_mut_ptr();
    let mut length = 0;
    let mut kernel = MaybeUninit::<KernelContext>::uninit();
    let from = ctx.sock_addr.cast_const().cast();
    // SAFETY: the buffer has the size in the second argument. The helper checks the source.
    let failed = unsafe {
        bpf_probe_read_kernel(
            kernel.as_mut_ptr().cast(),
            size_of::<KernelContext>() as u32,
            from,
        )
    };
    if failed == 0 {
        // SAFETY: the helper filled the whole buffer.
        let kernel = unsafe { kernel.assume_init() };
        // SAFETY: the destination is part of the ring's entry and longer than the bytes that are
        // read. The helper checks the source.
        let failed = unsafe {
            bpf_probe_read_kernel(
                (&raw mut (*to).address).cast(),
                ADDRESS_BYTES,
                kernel.address as *const c_void,
            )
        };
        if failed == 0 {
            length = kernel.length;
        }
    }
    // SAFETY: `to` is the ring's own entry, which is writable.
    unsafe { (&raw mut (*to).length).write_volatile(length) };
}

/// Returns `value`, and hides from the optimizer that the result is the same value.
#[inline(always)]
pub fn opaque<T: Copy>(mut value: T) -> T {
    // SAFETY: both accesses are to a local variable.
    unsafe {
        ptr::write_volatile(&raw mut value, value);
        ptr::read_volatile(&raw const value)
    }
}
