//! Code that the kernel programs and the supervisor share: record layouts, names, verdicts, and the decisions of the
//! hooks.
//!
//! The crate is `no_std` and does not use kernel helpers, so that it can be tested on the host.
#![no_std]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

pub mod abi;
pub mod datagram;
pub mod decide;
pub mod names;
pub mod place;
pub mod verdict;
