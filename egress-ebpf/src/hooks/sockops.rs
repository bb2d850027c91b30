//! `sockops`: when a redirected socket's SYN is about to leave, copies its destination to the
//! slot of its local port, of the listener and the family on the wire.
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use egress_common::abi::{Counter, SLOT_EMPTY, Slot};
use egress_common::decide::Wire;
use egress_common::names::TRANSPARENT_PORT;

use crate::error::Error;
use crate::maps::{SLOTS_PROXY, SLOTS_V4, SLOTS_V6, STORAGE, config, count};
use crate::read::{self, AF_INET, Ends};

/// `BPF_SOCK_OPS_TCP_CONNECT_CB`: an active connection, addresses chosen, SYN not yet sent.
const TCP_CONNECT_CB: u32 = 3;
const LOOPBACK_V4: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const LOOPBACK_V6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];

#[sock_ops]
pub fn agent_sockops(ctx: SockOpsContext) -> u32 {
    if ctx.op() == TCP_CONNECT_CB && record(&ctx).is_err() {
        // Not recorded is not served: the relay closes a peer whose slot is not fresh.
        count(Counter::Internal);
    }
    1
}

#[inline(always)]
fn record(ctx: &SockOpsContext) -> Result<(), Error> {
    let config = config()?;
    // `remote_port` is the network-order port in the upper half of a big-endian word.
    let remote_port = u32::from_be(ctx.remote_port());
    let is_relay = remote_port == u32::from(TRANSPARENT_PORT) || remote_port == config.proxy_port;
    if !is_relay || config.audit != 0 {
        return Ok(());
    }
    // Only sockets whose address is exactly loopback: one bound to 127.0.0.2 may share the local
    // port of another, and the relay closes it without looking at a slot.
    let ends = read::ends(ctx);
    let is_proxy = remote_port == config.proxy_port;
    let slots = match wire(ctx, &ends) {
        Wire::V4 if ends.v4 != (LOOPBACK_V4, LOOPBACK_V4) => return Ok(()),
        Wire::V4 if is_proxy => &SLOTS_PROXY,
        Wire::V4 => &SLOTS_V4,
        // Nobody listens on the proxy port of `::1`.
        Wire::V6 if is_proxy => return Ok(()),
        Wire::V6 if differs(ends.v6.0, LOOPBACK_V6) | differs(ends.v6.1, LOOPBACK_V6) == 0 => {
            &SLOTS_V6
        }
        Wire::V6 => return Ok(()),
    };
    let slot = slots.get_ptr_mut(ctx.local_port()).ok_or(Error::Storage)?;
    let sk = read::socket_of_ops(ctx);
    if sk.is_null() {
        return Err(Error::Storage);
    }
    // SAFETY: STORAGE is an SK_STORAGE map of Slot, and the socket is not null (checked).
    let stored = unsafe {
        bpf_sk_storage_get(
            (&raw const STORAGE).cast_mut().cast(),
            sk.cast(),
            core::ptr::null_mut(),
            0,
        )
    }
    .cast::<Slot>();
    if stored.is_null() {
        // A socket that passed no connect hook: leave nothing that could be taken for its own.
        // SAFETY: the pointer is into the array's value (bounds checked by the lookup).
        unsafe { (&raw mut (*slot).kind).write_volatile(SLOT_EMPTY) };
        return Err(Error::Storage);
    }
    // SAFETY: `stored` is this socket's own Slot and not null (checked), and `slot` is a whole Slot
    // inside the array's value (bounds checked by the look-up).
    unsafe { read::copy_words(stored, slot) };
    count(Counter::SlotWritten);
    Ok(())
}

/// The family on the wire: an AF_INET6 socket with a mapped peer sends IPv4.
#[inline(always)]
fn wire(ctx: &SockOpsContext, ends: &Ends) -> Wire {
    let [a, b, c, d] = ends.v6.1;
    let mapped = [0, 0, 0xffff_u32.to_be(), d];
    if ctx.family() == AF_INET || differs([a, b, c, d], mapped) == 0 {
        Wire::V4
    } else {
        Wire::V6
    }
}

/// 0 if both are the same, without a branch for each word: the kernel's verifier walks what
/// follows a branch once for each way.
#[inline(always)]
fn differs(one: [u32; 4], other: [u32; 4]) -> u32 {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3])
}
