//! The record of an attempt.
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use egress_common::abi::Event;
use egress_common::decide::{Attempt, Decision};
use egress_common::verdict::{Hook, Reason, Verdict};

use crate::read::{comm, now};

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

/// An event of the current thread, refused until [`decide`] says otherwise.
///
/// Made before the decision: the kernel's verifier walks everything behind a decision once for each
/// of its outcomes, and the helper calls in here are most of a program.
#[inline(always)]
pub fn begin(cookie: u64, hook: Hook, family: u32, attempt: &Attempt) -> Event {
    let (pid, tid, uid) = caller();
    Event {
        ktime_ns: now(),
        cookie,
        comm: comm(),
        addr: attempt.addr,
        pid,
        tid,
        uid,
        protocol: attempt.protocol,
        port: attempt.port,
        hook: hook.raw(),
        verdict: Verdict::Deny.raw(),
        reason: Reason::Internal.raw(),
        sock_type: attempt.sock_type,
        family,
    }
}

/// Puts the decision into an event.
#[inline(always)]
pub fn decide(event: &mut Event, (verdict, reason): Decision) {
    event.verdict = verdict.raw();
    event.reason = reason.raw();
}
