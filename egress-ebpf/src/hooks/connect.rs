//! `cgroup/connect4` and `connect6`: sends every TCP connection to the relay, refuses the rest,
//! and writes on every call where the socket goes, so that no stale destination is ever read.
use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use egress_common::abi::{Event, SLOT_LOCAL, SLOT_PROXY, SLOT_REDIRECTED, Slot};
use egress_common::decide::{self, Attempt, IPPROTO_TCP, MAPPED_PREFIX, Wire};
use egress_common::names::TRANSPARENT_PORT;
use egress_common::verdict::{Hook, Verdict};

use crate::error::{Error, PASS, REFUSE};
use crate::maps::{STORAGE, config, emit};
use crate::read::{self, AF_INET, AF_INET6};

const LOOPBACK_V4: [u8; 4] = [127, 0, 0, 1];
const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

#[cgroup_sock_addr(connect4)]
pub fn agent_connect4(ctx: SockAddrContext) -> i32 {
    try_connect4(&ctx).unwrap_or_else(Error::refuse)
}

#[cgroup_sock_addr(connect6)]
pub fn agent_connect6(ctx: SockAddrContext) -> i32 {
    try_connect6(&ctx).unwrap_or_else(Error::refuse)
}

#[inline(always)]
fn try_connect4(ctx: &SockAddrContext) -> Result<i32, Error> {
    let attempt = read::attempt4(ctx);
    let verdict = judge(ctx, Hook::Connect4, AF_INET, &attempt)?;
    if verdict == Verdict::Redirect {
        read::rewrite4(ctx, u32::from_ne_bytes(LOOPBACK_V4), TRANSPARENT_PORT);
    }
    Ok(answer(verdict))
}

#[inline(always)]
fn try_connect6(ctx: &SockAddrContext) -> Result<i32, Error> {
    let attempt = read::attempt6(ctx);
    let verdict = judge(ctx, Hook::Connect6, AF_INET6, &attempt)?;
    if verdict == Verdict::Redirect {
        // A mapped destination is IPv4 on the wire, and a V6ONLY socket cannot take a mapped one.
        match attempt.wire() {
            Wire::V4 => {
                let mut mapped = [0; 16];
                mapped[..12].copy_from_slice(&MAPPED_PREFIX);
                mapped[12..].copy_from_slice(&LOOPBACK_V4);
                read::rewrite6(ctx, &mapped, TRANSPARENT_PORT);
            }
            Wire::V6 => read::rewrite6(ctx, &LOOPBACK_V6, TRANSPARENT_PORT),
        }
    }
    Ok(answer(verdict))
}

#[inline(always)]
fn judge(
    ctx: &SockAddrContext,
    hook: Hook,
    family: u8,
    attempt: &Attempt,
) -> Result<Verdict, Error> {
    let decision = decide::connect(attempt, &config()?);
    let event = read::event(read::cookie(ctx), hook, family, attempt, decision);
    if attempt.protocol == IPPROTO_TCP {
        remember(ctx, &event, decision.0)?;
    }
    emit(event);
    Ok(decision.0)
}

/// Writes the destination into the socket's storage.
#[inline(always)]
fn remember(ctx: &SockAddrContext, event: &Event, verdict: Verdict) -> Result<(), Error> {
    let kind = match verdict {
        Verdict::Redirect => SLOT_REDIRECTED,
        Verdict::Proxy => SLOT_PROXY,
        Verdict::Deny | Verdict::Local | Verdict::Probe => SLOT_LOCAL,
    };
    // SAFETY: STORAGE is an SK_STORAGE map of Slot, and the socket comes from the context.
    let slot = unsafe {
        bpf_sk_storage_get(
            (&raw const STORAGE).cast_mut().cast(),
            read::socket_of(ctx).cast(),
            core::ptr::null_mut(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    }
    .cast::<Slot>();
    if slot.is_null() {
        return Err(Error::Storage);
    }
    let value = Slot {
        cookie: event.cookie,
        connect_ns: event.ktime_ns,
        addr: event.addr,
        port_be: event.port_be,
        kind,
        reserved: [0; 5],
        pid: event.pid,
        reserved2: 0,
    };
    // SAFETY: the pointer is not null (checked) and points to this socket's own Slot.
    unsafe { slot.write(value) };
    Ok(())
}

#[inline(always)]
fn answer(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Local | Verdict::Proxy | Verdict::Redirect => PASS,
        Verdict::Deny | Verdict::Probe => REFUSE,
    }
}
