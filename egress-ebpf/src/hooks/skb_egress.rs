//! `cgroup_skb/egress`: the second layer of enforcement. Drops and counts packets that would leave through an interface
//! other than loopback, even if another hook missed them. In audit mode, the packets pass.
//!
//! Claims: relay-only, tcp
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use egress_common::abi::Counter;

use crate::counters::count;
use crate::error::{PASS, REFUSE};
use crate::maps::config;
use crate::read;

#[cgroup_skb(egress)]
pub fn agent_skb_egress(ctx: SkBuffContext) -> i32 {
    // Without valid settings, the mode is not audit, so the packet is dropped.
    let is_audit = config().is_ok_and(|config| config.audit != 0);
    if read::stays(&ctx) || is_audit {
        return PASS;
    }
    count(Counter::SkbDropped);
    REFUSE
}
