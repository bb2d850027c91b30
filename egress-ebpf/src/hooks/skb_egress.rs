//! `cgroup_skb/egress`: the second layer. Whatever a hook missed, a packet that would leave by
//! anything but loopback is dropped and counted.
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use egress_common::abi::Counter;

use crate::error::{PASS, REFUSE};
use crate::maps::{config, count};

/// `LOOPBACK_IFINDEX`: `lo` is interface 1 in every network namespace.
/// <https://github.com/torvalds/linux/blob/v6.1/include/net/flow.h>
const LOOPBACK_IFINDEX: u32 = 1;

#[cgroup_skb(egress)]
pub fn agent_skb_egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the kernel hands a valid `__sk_buff`, and `ifindex` is readable for this program type.
    let ifindex = unsafe { core::ptr::read_volatile(&raw const (*ctx.skb.skb).ifindex) };
    // Without settings this is no audit: the packet is dropped.
    let is_audit = config().is_ok_and(|config| config.audit != 0);
    if ifindex == LOOPBACK_IFINDEX || is_audit {
        return PASS;
    }
    count(Counter::SkbDropped);
    REFUSE
}
