//! `cgroup/sendmsg4` and `sendmsg6`: denies datagrams with a destination other than loopback.
//!
//! Claims: other-protocols, udp, table-udp
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use egress_common::decide::{self, Attempt};
use egress_common::verdict::{Hook, Verdict};

use crate::error::{Error, PASS, answer, diagnose};
use crate::event;
use crate::maps::{config, emit};
use crate::read::{self, AF_INET, AF_INET6};

#[cgroup_sock_addr(sendmsg4)]
pub fn agent_sendmsg4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, Hook::Sendmsg4, AF_INET, &read::attempt4(&ctx))
        .unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn agent_sendmsg6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, Hook::Sendmsg6, AF_INET6, &read::attempt6(&ctx))
        .unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[inline(always)]
fn judge(ctx: &SockAddrContext, hook: Hook, family: u32, attempt: &Attempt) -> Result<i32, Error> {
    let config = config()?;
    let decision = decide::enacted(decide::datagram(attempt), &config);
    // Only denials are recorded, because the stub resolver and servers of the command produce many local datagrams.
    if decision.0 == Verdict::Local {
        return Ok(PASS);
    }
    let mut event = event::begin(read::cookie(ctx), hook, family, attempt);
    event::decide(&mut event, decision);
    emit(&event);
    diagnose!(
        ctx,
        "datagram by {}: protocol {} verdict {} reason {}",
        event.pid,
        event.protocol,
        event.verdict,
        event.reason
    );
    Ok(answer(decision.0))
}
