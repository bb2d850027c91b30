//! `cgroup/sock_create`: denies IPv4 and IPv6 sockets of the command other than TCP and UDP.
//!
//! Claims: other-protocols, other-ip
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use egress_common::decide::{self, Attempt};
use egress_common::verdict::{Hook, Verdict};

use crate::error::{Error, PASS, answer, diagnose};
use crate::event;
use crate::maps::{config, emit};
use crate::read;

#[cgroup_sock(sock_create)]
pub fn agent_sock_create(ctx: SockContext) -> i32 {
    judge(&ctx).unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[inline(always)]
fn judge(ctx: &SockContext) -> Result<i32, Error> {
    let config = config()?;
    let (family, sock_type, protocol) = read::new_socket(ctx);
    let decision = decide::enacted(decide::socket(sock_type, protocol), &config);
    if decision.0 == Verdict::Local {
        return Ok(PASS);
    }
    let attempt = Attempt {
        addr: [0; 2],
        port: 0,
        sock_type,
        protocol,
    };
    let mut event = event::begin(0, Hook::SockCreate, family, &attempt);
    event::decide(&mut event, decision);
    emit(&event);
    diagnose!(
        ctx,
        "socket by {}: protocol {} verdict {} reason {}",
        event.pid,
        event.protocol,
        event.verdict,
        event.reason
    );
    Ok(answer(decision.0))
}
