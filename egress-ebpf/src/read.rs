//! All raw access to kernel contexts. Every field is read with the width that the kernel's
//! verifier admits for it.
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_socket_cookie, bpf_sk_fullsock};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext};
use egress_common::abi::{Event, Traffic};
use egress_common::decide::{Attempt, Decision, mapped};
use egress_common::verdict::{Hook, Reason, Verdict};
use zerocopy::IntoBytes;

/// `AF_INET`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`.
pub const AF_INET6: u32 = 10;

/// Reads one context field exactly once and with its own width: the verifier refuses a load that
/// the compiler widened or split.
macro_rules! field {
    ($ptr:expr, $field:ident) => {{
        let ptr = $ptr;
        // SAFETY: the kernel hands a valid context pointer to the program, and the field is part of it.
        unsafe { core::ptr::read_volatile(&raw const (*ptr).$field) }
    }};
}

/// The four words of an IPv6 address field, read one by one.
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

/// Address words in network byte order as halves of a number.
#[inline(always)]
pub fn v6_halves([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    let join =
        |high: u32, low: u32| (u64::from(u32::from_be(high)) << 32) | u64::from(u32::from_be(low));
    [join(a, b), join(c, d)]
}

/// The destination of a `connect4` or `sendmsg4` context.
#[inline(always)]
pub fn attempt4(ctx: &SockAddrContext) -> Attempt {
    let addr = ctx.sock_addr;
    attempt(addr, mapped(u32::from_be(field!(addr, user_ip4))))
}

/// The destination of a `connect6` or `sendmsg6` context.
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

/// The socket of an address context.
#[inline(always)]
pub fn socket_of(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: `sk` is set for every sock_addr hook; the union's other members only give it a width.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The two ends of a connection at a sockops callback, network byte order.
pub struct Ends {
    /// Local and remote IPv4 word.
    pub v4: (u32, u32),
    /// Local and remote IPv6 words.
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

/// Local and remote IPv4 word of a sockops context, network byte order.
#[inline(always)]
pub fn ends_v4(ctx: &SockOpsContext) -> (u32, u32) {
    (field!(ctx.ops, local_ip4), field!(ctx.ops, remote_ip4))
}

/// Remote address and port of a sockops context.
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

/// Puts what a connection has carried until now into a record.
#[inline(always)]
pub fn carried(ctx: &SockOpsContext, traffic: &mut Traffic) {
    let ops = ctx.ops;
    traffic.bytes_acked = field!(ops, bytes_acked);
    traffic.bytes_received = field!(ops, bytes_received);
    // Sequence numbers wrap.
    traffic.in_flight = field!(ops, snd_nxt).wrapping_sub(field!(ops, snd_una));
}

/// `LOOPBACK_IFINDEX`: `lo` is interface 1 in every network namespace.
/// <https://github.com/torvalds/linux/blob/v6.1/include/net/flow.h>
const LOOPBACK_IFINDEX: u32 = 1;

/// Whether a packet leaves by the loopback interface, as those for the machine's own addresses do.
#[inline(always)]
pub fn stays(ctx: &SkBuffContext) -> bool {
    field!(ctx.skb.skb, ifindex) == LOOPBACK_IFINDEX
}

/// A full socket that sends a packet.
#[derive(Clone, Copy)]
pub struct Sender {
    /// The socket.
    pub sk: *mut bpf_sock,
    /// Its protocol, `IPPROTO_*`.
    pub protocol: u32,
}

/// The socket that sends a packet; `None` for one that is not a full one.
#[inline(always)]
pub fn sender(ctx: &SkBuffContext) -> Option<Sender> {
    // SAFETY: `sk` is part of the context; the other member of the union only gives it a width.
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
        sk,
        protocol: field!(sk, protocol),
    })
}

/// Where a socket is connected to, if the packet that it sends goes there: address and port. Nothing for a socket that
/// is not connected, and for a packet that a firewall rule of the host sends elsewhere.
#[inline(always)]
pub fn peer_of_packet(ctx: &SkBuffContext, sender: &Sender) -> Option<([u64; 2], u32)> {
    let port = u32::from(u16::from_be(field!(sender.sk, dst_port)));
    let first: u8 = ctx.load(0).ok()?;
    let (peer, packet) = if first >> 4 == 4 {
        let to: u32 = ctx.load(16).ok()?;
        (
            mapped(u32::from_be(field!(sender.sk, dst_ip4))),
            mapped(u32::from_be(to)),
        )
    } else {
        (
            v6_halves(words!(sender.sk, dst_ip6)),
            v6_halves(ctx.load(24).ok()?),
        )
    };
    (peer == packet && port != 0).then_some((peer, port))
}

/// Remote port of the socket that a packet is for; a listener's is zero.
#[inline(always)]
pub fn remote_port_of_packet(ctx: &SkBuffContext) -> u32 {
    field!(ctx.skb.skb, remote_port)
}

/// The full socket of a sockops context; null where there is none.
#[inline(always)]
pub fn socket_of_ops(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: `sk` is part of the context; the other member of the union only gives it a width.
    unsafe { (*ctx.ops).__bindgen_anon_2.sk }
}

/// Type and protocol of a socket that is being created.
#[inline(always)]
pub fn new_socket(ctx: &SockContext) -> (u32, u32, u32) {
    let sock = ctx.sock;
    (
        field!(sock, family),
        field!(sock, type_),
        field!(sock, protocol),
    )
}

/// The caller: thread group id, thread id, user id.
#[inline(always)]
pub fn caller() -> (u32, u32, u32) {
    let ids = bpf_get_current_pid_tgid();
    (
        (ids >> 32) as u32,
        ids as u32,
        bpf_get_current_uid_gid() as u32,
    )
}

/// `comm` of the current thread.
#[inline(always)]
pub fn comm() -> [u64; 2] {
    let mut comm = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: the buffer is 16 bytes, as the second argument says.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), 16) };
    // SAFETY: the helper fills the whole buffer, with zeros when there is no task.
    unsafe { comm.assume_init() }
}

/// The time that records carry.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Type of the socket behind an address context.
#[inline(always)]
pub fn sock_type(ctx: &SockAddrContext) -> u32 {
    field!(ctx.sock_addr, type_)
}

/// An event of the current thread, refused until [`decide`] says otherwise.
///
/// Made before the decision: the kernel's verifier walks everything behind a decision once for each
/// of its outcomes, and the helper calls in here are most of a program.
#[inline(always)]
pub fn event(cookie: u64, hook: Hook, family: u32, attempt: &Attempt) -> Event {
    let (pid, tid, uid) = caller();
    Event {
        ktime_ns: now(),
        cookie,
        comm: comm(),
        addr: attempt.addr,
        pid,
        tid,
        uid,
        protocol: attempt.protocol,
        port: attempt.port,
        hook: hook.raw(),
        verdict: Verdict::Deny.raw(),
        reason: Reason::Internal.raw(),
        sock_type: attempt.sock_type,
        family,
    }
}

/// Copies a record word by word. A plain copy becomes a loop over bytes, which the kernel's
/// verifier walks one by one.
///
/// # Safety
/// Both pointers are valid for one `T` and aligned to 8 bytes, `T` is whole words of 8 bytes
/// without padding, and `to` is writable.
#[inline(always)]
pub unsafe fn copy_words<T: IntoBytes>(from: *const T, to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let mut word = 0;
    while word < size_of::<T>() / 8 {
        // SAFETY: `word` stays below the words of a T (caller's promise).
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
        word += 1;
    }
}

/// Puts the decision into an event.
#[inline(always)]
pub fn decide(event: &mut Event, (verdict, reason): Decision) {
    event.verdict = verdict.raw();
    event.reason = reason.raw();
}

/// Cookie of the socket behind an address context.
#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the program's own context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
