//! `cgroup_skb/ingress` on the command's cgroup, only in audit mode: copies the answers of name
//! servers, because nothing else maps addresses to names in an audit. This hook allows every
//! packet.
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use egress_common::abi::{DNS_ANSWER_BYTES, DnsAnswer};
use egress_common::decide::{IPPROTO_UDP, mapped};
use egress_common::names::DNS_PORT;

use crate::error::PASS;
use crate::maps::{WAKE_IF_IDLE, text};
use crate::read;

/// Offsets in an IPv4 header (RFC 791) and in an IPv6 header (RFC 8200), and the length of an IPv6 header.
const V4_PROTOCOL: usize = 9;
const V4_SOURCE: usize = 12;
const V6_PROTOCOL: usize = 6;
const V6_SOURCE: usize = 8;
const V6_HEADER: usize = 40;
/// Length of a UDP header.
const UDP_HEADER: usize = 8;

#[cgroup_skb(ingress)]
pub fn agent_skb_ingress(ctx: SkBuffContext) -> i32 {
    if let Some((server, message)) = datagram(&ctx) {
        record(&ctx, server, message);
    }
    PASS
}

/// Returns the sender of a datagram from port 53, and the offset of its message in the packet.
#[inline(always)]
fn datagram(ctx: &SkBuffContext) -> Option<([u64; 2], usize)> {
    let first: u8 = ctx.load(0).ok()?;
    let (protocol, header) = match first >> 4 {
        4 => (V4_PROTOCOL, usize::from(first & 0xf) * 4),
        6 => (V6_PROTOCOL, V6_HEADER),
        _ => return None,
    };
    let protocol: u8 = ctx.load(protocol).ok()?;
    let port: u16 = ctx.load(header).ok()?;
    if u32::from(protocol) != IPPROTO_UDP || u16::from_be(port) != DNS_PORT {
        return None;
    }
    let server = if first >> 4 == 4 {
        mapped(u32::from_be(ctx.load(V4_SOURCE).ok()?))
    } else {
        read::v6_halves(ctx.load(V6_SOURCE).ok()?)
    };
    Some((server, header + UDP_HEADER))
}

#[inline(always)]
fn record(ctx: &SkBuffContext, server: [u64; 2], offset: usize) {
    let whole = ctx.len().wrapping_sub(offset as u32);
    if whole == 0 || whole > u16::MAX as u32 {
        return;
    }
    let length = if whole > DNS_ANSWER_BYTES {
        DNS_ANSWER_BYTES
    } else {
        whole
    };
    let Some(mut entry) = text::<DnsAnswer>() else {
        return;
    };
    if read::fill_answer(ctx, &mut entry, server, [whole, length], offset as u32) {
        entry.submit(WAKE_IF_IDLE);
    } else {
        entry.discard(WAKE_IF_IDLE);
    }
}
