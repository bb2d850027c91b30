//! Looks up the socket that would accept a connection to loopback.
#![expect(
    unsafe_code,
    reason = "helpers take raw pointers here; the kernel's verifier checks each access again"
)]
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release};
use aya_ebpf::programs::SockAddrContext;
use egress_common::decide::{Attempt, Wire};

/// Returns whether a socket listens for a TCP connection to a loopback destination, in the namespace of the caller.
#[inline(always)]
pub fn is_listening(ctx: &SockAddrContext, attempt: &Attempt) -> bool {
    let dport = (attempt.port as u16).to_be();
    let [high, low] = attempt.addr;
    match attempt.wire() {
        // 0.0.0.0 and `::` lead to loopback.
        Wire::V4 => {
            let address = if low as u32 == 0 {
                0x7f00_0001
            } else {
                low as u32
            };
            let mut tuple = TupleV4 {
                saddr: 0,
                daddr: address.to_be(),
                sport: 0,
                dport,
            };
            finds_socket(ctx, &mut tuple)
        }
        Wire::V6 => {
            let low = if high == 0 && low == 0 { 1 } else { low };
            let words = [
                (high >> 32) as u32,
                high as u32,
                (low >> 32) as u32,
                low as u32,
            ];
            let mut tuple = TupleV6 {
                saddr: [0; 4],
                daddr: words.map(u32::to_be),
                sport: 0,
                dport,
            };
            finds_socket(ctx, &mut tuple)
        }
    }
}

/// Looks up a TCP socket by a tuple, which is the IPv4 or the IPv6 half of `bpf_sock_tuple`.
#[inline(always)]
fn finds_socket<T>(ctx: &SockAddrContext, tuple: &mut T) -> bool {
    let at = ptr::from_mut(tuple).cast::<bpf_sock_tuple>();
    let namespace = i64::from(BPF_F_CURRENT_NETNS) as u64;
    // SAFETY: the helper reads as many bytes of the tuple as it is long. The kernel's verifier requires that the
    // program releases the socket that the helper found.
    unsafe {
        let socket = bpf_sk_lookup_tcp(ctx.as_ptr(), at, size_of::<T>() as u32, namespace, 0);
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
    }
    true
}
