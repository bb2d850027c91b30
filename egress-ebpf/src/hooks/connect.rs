//! `cgroup/connect4` and `connect6`: redirects TCP connections that would leave the boundary to the relay, and denies
//! connections over other protocols and to other resolvers. Stores the destination of the socket on every call, so that
//! no stale destination is ever read.
//!
//! Claims: relay-only, tcp-mediated, tcp, udp
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use egress_common::abi::{SLOT_LOCAL, SLOT_PROXY, SLOT_REDIRECTED, Slot};
use egress_common::decide::{self, Attempt, IPPROTO_TCP, Wire, mapped};
use egress_common::names::TRANSPARENT_PORT;
use egress_common::verdict::{Hook, Reason, Verdict};

use crate::error::{Error, answer, diagnose};
use crate::event;
use crate::maps::{STORAGE, config, emit};
use crate::read::{self, AF_INET, AF_INET6};

const LOOPBACK_V4: u32 = 0x7f00_0001;
const LOOPBACK_V6: [u64; 2] = [0, 1];
const RELAY_PORT: u32 = TRANSPARENT_PORT as u32;

#[cgroup_sock_addr(connect4)]
pub fn agent_connect4(ctx: SockAddrContext) -> i32 {
    try_connect4(&ctx).unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[cgroup_sock_addr(connect6)]
pub fn agent_connect6(ctx: SockAddrContext) -> i32 {
    try_connect6(&ctx).unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[inline(always)]
fn try_connect4(ctx: &SockAddrContext) -> Result<i32, Error> {
    let attempt = read::attempt4(ctx);
    let verdict = judge(ctx, Hook::Connect4, AF_INET, &attempt)?;
    if verdict == Verdict::Redirect {
        read::rewrite4(ctx, LOOPBACK_V4, RELAY_PORT);
    }
    Ok(answer(verdict))
}

#[inline(always)]
fn try_connect6(ctx: &SockAddrContext) -> Result<i32, Error> {
    let attempt = read::attempt6(ctx);
    let verdict = judge(ctx, Hook::Connect6, AF_INET6, &attempt)?;
    if verdict == Verdict::Redirect {
        // A mapped destination is IPv4 on the wire. A V6ONLY socket cannot connect to a mapped address.
        match attempt.wire() {
            Wire::V4 => read::rewrite6(ctx, mapped(LOOPBACK_V4), RELAY_PORT),
            Wire::V6 => read::rewrite6(ctx, LOOPBACK_V6, RELAY_PORT),
        }
    }
    Ok(answer(verdict))
}

#[inline(always)]
fn judge(
    ctx: &SockAddrContext,
    hook: Hook,
    family: u32,
    attempt: &Attempt,
) -> Result<Verdict, Error> {
    let config = config()?;
    let mut event = event::begin(read::cookie(ctx), hook, family, attempt);
    let slot = read::stored(&STORAGE, read::socket_of(ctx), true).ok_or(Error::Storage)?;
    let mut decision = decide::enacted(decide::connect(attempt, &config), &config);
    let is_local_tcp = decision.0 == Verdict::Local && attempt.protocol == IPPROTO_TCP;
    if is_local_tcp && !read::is_listening(ctx, attempt) {
        decision.1 = Reason::NothingListens;
    }
    let kind = match decision.0 {
        Verdict::Redirect => SLOT_REDIRECTED,
        Verdict::Proxy => SLOT_PROXY,
        Verdict::Deny
        | Verdict::Local
        | Verdict::Probe
        | Verdict::WouldDeny
        | Verdict::WouldRedirect => SLOT_LOCAL,
    };
    let value = Slot {
        cookie: event.cookie,
        connect_ns: event.ktime_ns,
        addr: event.addr,
        port: event.port,
        kind,
        pid: event.pid,
        reserved: 0,
    };
    slot.write(value);
    event::decide(&mut event, decision);
    emit(&event);
    diagnose!(
        ctx,
        "connect by {}: {:x}{:x} port {} protocol {}: verdict {} reason {}",
        event.pid,
        event.addr[0],
        event.addr[1],
        event.port,
        event.protocol,
        event.verdict,
        event.reason
    );
    Ok(decision.0)
}
