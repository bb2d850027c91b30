//! `cgroup/connect_unix` and `sendmsg_unix`: what AF_UNIX addresses the agent uses. Witnesses, not
//! gates: a path is text here, and what it leads to is decided by the agent's view of the files.
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use egress_common::abi::{UNIX_ADDRESS_WORDS, UnixEvent};
use egress_common::verdict::Hook;

use crate::error::PASS;
use crate::maps::text;
use crate::read;

/// The first members of `struct bpf_sock_addr_kern`, which the kernel has at the address that a program receives as its
/// context. If a kernel changes this layout, the address cannot be read, and its row has the verdict `unread`.
/// <https://github.com/torvalds/linux/blob/v6.7/include/linux/filter.h>
#[repr(C)]
struct KernelContext {
    sk: u64,
    address: u64,
    scratch: u64,
    t_ctx: u64,
    length: u32,
    padding: u32,
}

/// `struct sockaddr_un`. Callers keep it in a `struct sockaddr_storage`, which is longer.
const ADDRESS_BYTES: u32 = 110;

// The loader knows no section for these two attach types. The programs are of the same kind as those
// of `connect4`; `bpf/unix.rs` loads them as what they are.
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
    let (pid, tid, uid) = read::caller();
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
    let to = entry.as_mut_ptr();
    // SAFETY: both are one whole UnixEvent, and the ring's entry is writable and aligned to 8.
    unsafe { read::copy_words(&raw const event, to) };
    let length = address(ctx, to);
    // SAFETY: `to` is the ring's own entry.
    unsafe { (&raw mut (*to).length).write_volatile(length) };
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Copies the address and gives its length; 0 where the kernel does not let it be read.
#[inline(always)]
fn address(ctx: &SockAddrContext, to: *mut UnixEvent) -> u32 {
    let mut kernel = core::mem::MaybeUninit::<KernelContext>::uninit();
    // SAFETY: the buffer has the size that is named; the helper checks what it reads.
    let failed = unsafe {
        bpf_probe_read_kernel(
            kernel.as_mut_ptr().cast(),
            size_of::<KernelContext>() as u32,
            ctx.sock_addr.cast_const().cast(),
        )
    };
    if failed != 0 {
        return 0;
    }
    // SAFETY: the helper filled the whole buffer.
    let kernel = unsafe { kernel.assume_init() };
    // SAFETY: the destination is part of the ring's entry and longer than what is read; the helper
    // checks the source.
    let failed = unsafe {
        bpf_probe_read_kernel(
            (&raw mut (*to).address).cast(),
            ADDRESS_BYTES,
            kernel.address as *const core::ffi::c_void,
        )
    };
    if failed != 0 {
        return 0;
    }
    kernel.length
}
