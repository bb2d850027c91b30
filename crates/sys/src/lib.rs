//! Safe functions around single system calls. This crate contains the `unsafe` code of user space, except for the
//! marker traits of shared types in `egress-common`.
#![cfg(target_os = "linux")]
#![expect(
    unsafe_code,
    reason = "system calls that no library wraps safely; each block states why its preconditions hold"
)]

pub mod attempt;
pub mod bpf;
pub mod channel;
pub mod clock;
pub mod dir;
pub mod elevate;
pub mod entry_xattr;
pub mod fd;
pub mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod handle;
pub mod handover;
pub mod identity;
pub mod kernel_file;
pub mod mount;
pub mod netdev;
pub mod netlink;
pub mod privileges;
pub mod process;
mod raw;
pub mod rename;
pub mod routes;
pub mod slots;
pub mod sock_diag;
pub mod terminal;
pub mod xattr;
