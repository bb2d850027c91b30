//! All raw access to kernel contexts. Every field is read with the width that the kernel's
//! verifier admits for it.
use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_socket_cookie};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns};
use aya_ebpf::programs::{SockAddrContext, SockContext, SockOpsContext};
use egress_common::abi::Event;
use egress_common::decide::Attempt;
use egress_common::verdict::{Hook, Reason, Verdict};

/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;

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

/// Address words in network byte order as 16 bytes.
#[inline(always)]
pub fn v6_bytes(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2],
        d[3],
    ]
}

/// An IPv4 word in network byte order as its mapped 16 bytes.
#[inline(always)]
pub fn mapped_bytes(word: u32) -> [u8; 16] {
    v6_bytes([0, 0, 0x0000_ffff_u32.to_be(), word])
}

/// The destination of a `connect4`, `sendmsg4` or `getpeername4` context.
#[inline(always)]
pub fn attempt4(ctx: &SockAddrContext) -> Attempt {
    let addr = ctx.sock_addr;
    attempt(addr, mapped_bytes(field!(addr, user_ip4)))
}

/// The destination of a `connect6`, `sendmsg6` or `getpeername6` context.
#[inline(always)]
pub fn attempt6(ctx: &SockAddrContext) -> Attempt {
    let addr = ctx.sock_addr;
    attempt(addr, v6_bytes(words!(addr, user_ip6)))
}

#[inline(always)]
fn attempt(ctx: *mut bpf_sock_addr, addr: [u8; 16]) -> Attempt {
    let port_be = field!(ctx, user_port) as u16;
    Attempt {
        addr,
        port: u16::from_be(port_be),
        sock_type: field!(ctx, type_),
        protocol: field!(ctx, protocol),
    }
}

/// Replaces the destination of a `*4` context. `ip` is in network byte order, `port` in host order.
#[inline(always)]
pub fn rewrite4(ctx: &SockAddrContext, ip: u32, port: u16) {
    let addr = ctx.sock_addr;
    // SAFETY: connect4 and getpeername4 may write these two fields, whole, by the verifier's rules.
    unsafe {
        core::ptr::write_volatile(&raw mut (*addr).user_ip4, ip);
        core::ptr::write_volatile(&raw mut (*addr).user_port, u32::from(port.to_be()));
    }
}

/// Replaces the destination of a `*6` context. `bytes` is the address, `port` in host order.
#[inline(always)]
pub fn rewrite6(ctx: &SockAddrContext, bytes: &[u8; 16], port: u16) {
    let addr = ctx.sock_addr;
    let word = |i: usize| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    // SAFETY: connect6 and getpeername6 may write these fields, word by word, by the verifier's rules.
    unsafe {
        let at = (&raw mut (*addr).user_ip6).cast::<u32>();
        core::ptr::write_volatile(at, word(0));
        core::ptr::write_volatile(at.add(1), word(4));
        core::ptr::write_volatile(at.add(2), word(8));
        core::ptr::write_volatile(at.add(3), word(12));
        core::ptr::write_volatile(&raw mut (*addr).user_port, u32::from(port.to_be()));
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

/// The full socket of a sockops context; null where there is none.
#[inline(always)]
pub fn socket_of_ops(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: `sk` is part of the context; the other member of the union only gives it a width.
    unsafe { (*ctx.ops).__bindgen_anon_2.sk }
}

/// Type and protocol of a socket that is being created.
#[inline(always)]
pub fn new_socket(ctx: &SockContext) -> (u8, u32, u32) {
    let sock = ctx.sock;
    (
        field!(sock, family) as u8,
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

/// An event of the current thread; the socket cookie is read from `ctx`.
#[inline(always)]
pub fn event(
    cookie: u64,
    hook: Hook,
    family: u8,
    attempt: &Attempt,
    (verdict, reason): (Verdict, Reason),
) -> Event {
    let (pid, tid, uid) = caller();
    let mut comm = [0_u64; 2];
    // The one error is a null task, and then the name stays empty.
    // SAFETY: the buffer is 16 bytes, as the second argument says.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), 16) };
    Event {
        // SAFETY: the helper has no precondition.
        ktime_ns: unsafe { bpf_ktime_get_ns() },
        cookie,
        comm,
        addr: attempt.addr,
        pid,
        tid,
        uid,
        protocol: attempt.protocol,
        port_be: attempt.port.to_be_bytes(),
        hook: hook.raw(),
        verdict: verdict.raw(),
        reason: reason.raw(),
        sock_type: attempt.sock_type as u8,
        family,
        reserved: 0,
    }
}

/// Cookie of the socket behind an address context.
#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the program's own context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
