//! `cgroup/connect_unix` and `sendmsg_unix`: records the AF_UNIX addresses that the command uses. These hooks do not
//! deny anything, because they receive only the text of a path. The command's file view decides which socket the path
//! leads to.
//!
//! Claims: path-sockets
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use egress_common::abi::{UNIX_ADDRESS_WORDS, UnixEvent};
use egress_common::verdict::Hook;

use crate::error::PASS;
use crate::event;
use crate::maps::{WAKE_IF_IDLE, text};
use crate::read;

// The loader has no section name for these two attach types. The programs have the same type as the
// programs of `connect4`, and `bpf/unix.rs` loads them with the correct attach type.
#[cgroup_sock_addr(connect4)]
pub fn agent_unix_connect(ctx: SockAddrContext) -> i32 {
    record(&ctx, Hook::ConnectUnix);
    PASS
}

#[cgroup_sock_addr(connect4)]
pub fn agent_unix_sendmsg(ctx: SockAddrContext) -> i32 {
    record(&ctx, Hook::SendmsgUnix);
    PASS
}

#[inline(always)]
fn record(ctx: &SockAddrContext, hook: Hook) {
    let Some(mut entry) = text::<UnixEvent>() else {
        return;
    };
    let (pid, tid, uid) = event::caller();
    let event = UnixEvent {
        ktime_ns: read::now(),
        comm: read::comm(),
        pid,
        tid,
        uid,
        hook: hook.raw(),
        sock_type: read::sock_type(ctx),
        length: 0,
        address: [0; UNIX_ADDRESS_WORDS],
    };
    read::fill(&mut entry, &event);
    read::fill_address(ctx, &mut entry);
    entry.submit(WAKE_IF_IDLE);
}
