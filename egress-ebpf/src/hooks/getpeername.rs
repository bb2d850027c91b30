//! `cgroup/getpeername4` and `getpeername6`: returns the original destination of a redirected socket.
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use egress_common::abi::{SLOT_REDIRECTED, Slot};

use crate::error::PASS;
use crate::maps::STORAGE;
use crate::read;

#[cgroup_sock_addr(getpeername4)]
pub fn agent_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(slot) = redirected(&ctx) {
        let [_, low] = slot.addr;
        read::rewrite4(&ctx, low as u32, slot.port);
    }
    PASS
}

#[cgroup_sock_addr(getpeername6)]
pub fn agent_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(slot) = redirected(&ctx) {
        read::rewrite6(&ctx, slot.addr, slot.port);
    }
    PASS
}

/// Returns the original destination if the socket was redirected. Returns `None` otherwise, so that the command
/// receives the real peer. This hook cannot deny, because the kernel accepts only [`PASS`] as its return value.
#[inline(always)]
fn redirected(ctx: &SockAddrContext) -> Option<Slot> {
    let slot = read::stored(&STORAGE, read::socket_of(ctx), false)?.read();
    (slot.kind == SLOT_REDIRECTED).then_some(slot)
}
