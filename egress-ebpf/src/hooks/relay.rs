//! Hooks on the relay's cgroup. The relay may only open TCP connections to the mediator. The relay
//! parses hostile bytes in the host's network namespace, so a bug in the relay must not open other
//! connections.
//!
//! Claims: relay-bug
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use egress_common::abi::Counter;
use egress_common::decide::{IPPROTO_TCP, SOCK_STREAM, mapped};

use crate::counters::count;
use crate::error::{Error, PASS, REFUSE};
use crate::maps::config;
use crate::read::{self, AF_INET};

#[cgroup_sock_addr(connect4)]
pub fn relay_connect4(ctx: SockAddrContext) -> i32 {
    try_connect4(&ctx).unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[cgroup_sock_addr(connect6)]
pub fn relay_connect6(_ctx: SockAddrContext) -> i32 {
    refuse()
}

#[cgroup_sock_addr(sendmsg4)]
pub fn relay_sendmsg4(_ctx: SockAddrContext) -> i32 {
    refuse()
}

#[cgroup_sock_addr(sendmsg6)]
pub fn relay_sendmsg6(_ctx: SockAddrContext) -> i32 {
    refuse()
}

#[cgroup_sock(sock_create)]
pub fn relay_sock_create(ctx: SockContext) -> i32 {
    let (family, sock_type, protocol) = read::new_socket(&ctx);
    if family == AF_INET && sock_type == SOCK_STREAM && protocol == IPPROTO_TCP {
        return PASS;
    }
    refuse()
}

#[inline(always)]
fn try_connect4(ctx: &SockAddrContext) -> Result<i32, Error> {
    let config = config()?;
    let attempt = read::attempt4(ctx);
    let wanted = mapped(config.mediator_addr);
    // Port 0 means that the run has no mediator.
    let port = config.mediator_port;
    if port != 0
        && attempt.addr == wanted
        && attempt.port == port
        && attempt.protocol == IPPROTO_TCP
    {
        return Ok(PASS);
    }
    Ok(refuse())
}

/// Counts the denial without writing an event. Any denial makes the evidence of the run incomplete.
#[inline(always)]
fn refuse() -> i32 {
    count(Counter::RelayDenied);
    REFUSE
}
