//! Counters of the programs. Each CPU has its own counters.
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use egress_common::abi::{COUNTERS as COUNTERS_LEN, Counter};

use crate::read::add_one;

/// The counters, indexed by `abi::Counter`.
#[btf_map]
static COUNTERS: PerCpuArray<u64, { COUNTERS_LEN as usize }> = PerCpuArray::new();

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    add_one(&COUNTERS, counter as u32);
}
