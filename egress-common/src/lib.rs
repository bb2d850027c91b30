//! What the kernel programs and the supervisor share: record layouts, names, verdicts and the
//! pure decision that every hook takes.
//!
//! `no_std` and free of kernel helpers, so all of it is tested on the host.
#![no_std]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

pub mod abi;
pub mod datagram;
pub mod decide;
pub mod names;
pub mod place;
pub mod verdict;
