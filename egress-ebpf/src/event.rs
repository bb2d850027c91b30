//! Creates the event that records an attempt.
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use egress_common::abi::Event;
use egress_common::decide::{Attempt, Decision};
use egress_common::verdict::{Hook, Reason, Verdict};

use crate::read::{comm, now};

/// Returns thread group id, thread id, and user id of the current thread.
#[inline(always)]
pub fn caller() -> (u32, u32, u32) {
    let ids = bpf_get_current_pid_tgid();
    (
        (ids >> 32) as u32,
        ids as u32,
        bpf_get_current_uid_gid() as u32,
    )
}

/// Creates an event of the current thread. The verdict of the event is denial until [`decide`] sets
/// another one.
///
/// Call this before the decision. The kernel's verifier walks the code after a decision once for
/// each outcome, and the helper calls in this function are the largest part of a program.
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

/// Sets the decision of an event.
#[inline(always)]
pub fn decide(event: &mut Event, (verdict, reason): Decision) {
    event.verdict = verdict.raw();
    event.reason = reason.raw();
}
