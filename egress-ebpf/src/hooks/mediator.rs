//! Records each connection that the mediator opens, and each datagram that the mediator sends to a name server.
//! Connections that the mediator's listener accepts come from the relay and are not recorded here. Packets that do not
//! leave the machine are judged again as in `dial`, because the machine may have received the destination address after
//! the connect.
use aya_ebpf::macros::{cgroup_skb, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use egress_common::abi::{
    Counter, Opened, TCP_CLOSE, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_LAST_ACK, TCP_SYN_SENT,
    TRAFFIC_DATAGRAM, TRAFFIC_MEDIATOR, Traffic,
};
use egress_common::datagram;
use egress_common::decide::IPPROTO_TCP;
use egress_common::names::DNS_PORT;

use super::dial;
use super::sockops::{STATE_CB, TCP_CONNECT_CB, watch};
use crate::counters::count;
use crate::error::{Error, PASS, REFUSE};
use crate::maps::{OPENED, config, report};
use crate::read::{self, Place};

#[sock_ops]
pub fn mediator_sockops(ctx: SockOpsContext) -> u32 {
    let reported = match ctx.op() {
        TCP_CONNECT_CB => opens(&ctx),
        STATE_CB => changes(&ctx, ctx.arg(1)),
        _ => Ok(()),
    };
    if reported.is_err() {
        count(Counter::Internal);
    }
    1
}

#[inline(always)]
fn opens(ctx: &SockOpsContext) -> Result<(), Error> {
    config()?;
    let opened = storage(ctx, true).ok_or(Error::Storage)?;
    let value = Opened {
        connect_ns: read::now(),
        established: 0,
    };
    opened.write(value);
    // The connection is reported even if its later states cannot be reported.
    record(ctx, &value, TCP_SYN_SENT);
    watch(ctx, true)
}

/// Writes a record for each relevant state: established, closed by the process, and closed. The
/// second record contains the bytes up to that time, in case the run ends before the peer has
/// acknowledged them.
#[inline(always)]
fn changes(ctx: &SockOpsContext, state: u32) -> Result<(), Error> {
    if !matches!(
        state,
        TCP_ESTABLISHED | TCP_FIN_WAIT1 | TCP_LAST_ACK | TCP_CLOSE
    ) {
        return Ok(());
    }
    // Only sockets that the mediator connected have storage.
    let Some(opened) = storage(ctx, false) else {
        return Ok(());
    };
    let mut value = opened.read();
    if state == TCP_ESTABLISHED {
        value.established = 1;
        opened.write(value);
    }
    record(ctx, &value, state);
    if state == TCP_CLOSE {
        watch(ctx, false)?;
    }
    Ok(())
}

#[inline(always)]
fn record(ctx: &SockOpsContext, opened: &Opened, state: u32) {
    let (addr, port) = read::peer(ctx);
    let mut traffic = Traffic {
        ktime_ns: read::now(),
        cookie: read::cookie(ctx),
        connect_ns: opened.connect_ns,
        addr,
        bytes_acked: 0,
        bytes_received: 0,
        in_flight: 0,
        port,
        kind: TRAFFIC_MEDIATOR,
        protocol: IPPROTO_TCP,
        state,
        established: opened.established as u32,
    };
    read::carried(ctx, &mut traffic);
    report(&traffic);
}

/// Returns the storage of a socket that the mediator connects. A socket that the mediator accepted
/// has no storage.
#[inline(always)]
fn storage(ctx: &SockOpsContext, create: bool) -> Option<Place<Opened>> {
    read::stored(&OPENED, read::socket_of_ops(ctx)?, create)
}

/// Denies packets to addresses of the machine, and records datagrams to name servers.
#[cgroup_skb(egress)]
pub fn mediator_skb_egress(ctx: SkBuffContext) -> i32 {
    // The protocol comes from the socket, so no extension header can hide a datagram. A socket that
    // is not a full socket is a TCP socket, either of a handshake that the mediator did not start
    // or after a close.
    let Some(sender) = read::sender(&ctx) else {
        return PASS;
    };
    if sender.protocol != IPPROTO_TCP {
        datagram(&ctx, sender.protocol);
    }
    if !read::stays(&ctx) || read::stored(&OPENED, sender.socket, false).is_none() {
        return PASS;
    }
    match dial::may_stay(&ctx, &sender) {
        Ok(true) => PASS,
        Ok(false) => REFUSE,
        Err(error) => error.refuse(&ctx),
    }
}

/// Records a datagram to a name server, or a datagram whose destination cannot be parsed.
#[inline(always)]
fn datagram(ctx: &SkBuffContext, protocol: u32) {
    let found = datagram::parse(|at| ctx.load::<u32>(at).ok().map(u32::from_be));
    if found.port != 0 && found.port != u32::from(DNS_PORT) {
        return;
    }
    let ktime_ns = read::now();
    report(&Traffic {
        ktime_ns,
        cookie: read::cookie(ctx),
        connect_ns: ktime_ns,
        addr: found.addr,
        bytes_acked: 0,
        bytes_received: 0,
        in_flight: ctx.len().wrapping_sub(found.payload as u32),
        port: found.port,
        kind: TRAFFIC_DATAGRAM,
        protocol,
        state: 0,
        established: 1,
    });
}
