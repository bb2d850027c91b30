//! What is kept with each connection that the mediator opens.
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use egress_common::abi::Opened;

use crate::maps::OPENED;

/// What is kept with a socket that the mediator connects; a socket that it accepted has nothing. `sk` is not null.
#[inline(always)]
pub(super) fn connected(sk: *mut bpf_sock, flags: u64) -> Option<*mut Opened> {
    // SAFETY: OPENED is an SK_STORAGE map of Opened, and the socket is not null (checked).
    let opened = unsafe {
        bpf_sk_storage_get(
            (&raw const OPENED).cast_mut().cast(),
            sk.cast(),
            core::ptr::null_mut(),
            flags,
        )
    }
    .cast::<Opened>();
    (!opened.is_null()).then_some(opened)
}
