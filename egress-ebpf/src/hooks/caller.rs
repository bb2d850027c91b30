//! Controls which processes may connect to the mediator, because all processes of the host can use the same loopback
//! device. A hook on the relay's cgroup records the local port of each connection to the mediator before its SYN
//! leaves, and the supervisor records the ports of its own requests. The hook on the mediator's cgroup denies packets
//! from other ports to a listener there.
//!
//! Claims: mediator-gate
use aya_ebpf::macros::{cgroup_skb, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use egress_common::abi::{Counter, TCP_CLOSE};

use super::sockops::{STATE_CB, TCP_CONNECT_CB, watch};
use crate::counters::count;
use crate::error::{Error, PASS, REFUSE};
use crate::maps::{CALLERS, config};
use crate::read::{self, AF_INET};

/// Offset of the source address in an IPv4 header.
const SOURCE_ADDRESS: usize = 12;
/// Offset of the protocol in an IPv4 header, and of the next header in an IPv6 header.
const PROTOCOL_V4: usize = 9;
const NEXT_HEADER_V6: usize = 6;
/// `IPPROTO_UDP`.
const UDP: u8 = 17;

#[sock_ops]
pub fn relay_sockops(ctx: SockOpsContext) -> u32 {
    let noted = match ctx.op() {
        TCP_CONNECT_CB => opens(&ctx),
        STATE_CB if ctx.arg(1) == TCP_CLOSE => note(ctx.local_port(), 0),
        _ => Ok(()),
    };
    if noted.is_err() {
        // A port that was not recorded is denied.
        count(Counter::Internal);
    }
    1
}

#[inline(always)]
fn opens(ctx: &SockOpsContext) -> Result<(), Error> {
    let config = config()?;
    // `remote_port` is the network-order port in the upper half of a big-endian word.
    let port = u32::from_be(ctx.remote_port());
    let mediator = config.mediator_addr.to_be();
    if ctx.family() != AF_INET || port != config.mediator_port {
        return Ok(());
    }
    let (local, remote) = read::ends_v4(ctx);
    if local != mediator || remote != mediator {
        return Ok(());
    }
    // Without the callback at the close, the port would stay admitted for the next process that gets it.
    watch(ctx, true)?;
    note(ctx.local_port(), 1)
}

#[inline(always)]
fn note(port: u32, is_open: u32) -> Result<(), Error> {
    let entry = read::element(&CALLERS, port).ok_or(Error::Storage)?;
    entry.write(is_open);
    Ok(())
}

#[cgroup_skb(ingress)]
pub fn mediator_skb_ingress(ctx: SkBuffContext) -> i32 {
    match may_pass(&ctx) {
        Ok(true) => PASS,
        Ok(false) => {
            count(Counter::CallerRefused);
            REFUSE
        }
        Err(error) => error.refuse(&ctx),
    }
}

/// Allows packets to connected sockets, and UDP packets such as the answers of name servers. A TCP packet to a listener
/// must come from a recorded port.
#[inline(always)]
fn may_pass(ctx: &SkBuffContext) -> Result<bool, Error> {
    let config = config()?;
    // A connected socket was either admitted before, or connected by the mediator itself.
    if read::remote_port_of_packet(ctx) != 0 {
        return Ok(true);
    }
    let first: u8 = ctx.load(0).or(Err(Error::Packet))?;
    let is_v4 = first >> 4 == 4;
    let at = if is_v4 { PROTOCOL_V4 } else { NEXT_HEADER_V6 };
    let protocol: u8 = ctx.load(at).or(Err(Error::Packet))?;
    if protocol == UDP || !is_v4 {
        return Ok(protocol == UDP);
    }
    let source: u32 = ctx.load(SOURCE_ADDRESS).or(Err(Error::Packet))?;
    let port: u16 = ctx
        .load(usize::from(first & 0xf) * 4)
        .or(Err(Error::Packet))?;
    let caller = read::element(&CALLERS, u32::from(u16::from_be(port))).ok_or(Error::Storage)?;
    Ok(source == config.mediator_addr.to_be() && caller.read() == 1)
}
