//! `sockops`: copies the original destination of a redirected socket to a slot before the SYN
//! leaves. The slot is at the socket's local port, in the array of its listener and address family.
//! When the socket closes, its traffic is recorded.
//!
//! Claims: tcp-mediated
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use egress_common::abi::{
    Config, Counter, SLOT_PROXY, SLOT_REDIRECTED, Slot, TCP_CLOSE, TRAFFIC_COMMAND, Traffic,
};
use egress_common::decide::{IPPROTO_TCP, Wire};
use egress_common::names::TRANSPARENT_PORT;

use crate::counters::count;
use crate::error::Error;
use crate::maps::{SLOTS_PROXY, SLOTS_V4, SLOTS_V6, STORAGE, config, report};
use crate::read::{self, AF_INET, Ends, Place};

/// `BPF_SOCK_OPS_TCP_CONNECT_CB`, called for an outgoing connection when its addresses are chosen and the SYN is not
/// sent yet.
pub const TCP_CONNECT_CB: u32 = 3;
/// `BPF_SOCK_OPS_STATE_CB`, called when the state changes from the first argument to the second.
pub const STATE_CB: u32 = 10;
/// `BPF_SOCK_OPS_STATE_CB_FLAG`.
const STATE_CB_FLAG: u32 = 1 << 2;
const LOOPBACK_V4: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const LOOPBACK_V6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];

#[sock_ops]
pub fn agent_sockops(ctx: SockOpsContext) -> u32 {
    let done = match ctx.op() {
        TCP_CONNECT_CB => opens(&ctx),
        STATE_CB if ctx.arg(1) == TCP_CLOSE => closes(&ctx),
        _ => Ok(()),
    };
    if done.is_err() {
        // The relay does not serve a connection without a fresh slot, so the error cannot open a way out.
        count(Counter::Internal);
    }
    1
}

/// Turns the state callbacks of a socket on or off. The command cannot turn the callbacks on or
/// off, because no option of `setsockopt(2)` changes their flag. Only `bpf_setsockopt` in a kernel
/// program changes the flag.
#[inline(always)]
pub fn watch(ctx: &SockOpsContext, is_on: bool) -> Result<(), Error> {
    let others = ctx.cb_flags() & !STATE_CB_FLAG;
    let flags = if is_on {
        others | STATE_CB_FLAG
    } else {
        others
    };
    ctx.set_cb_flags(flags as i32).or(Err(Error::Storage))
}

#[inline(always)]
fn opens(ctx: &SockOpsContext) -> Result<(), Error> {
    let config = config()?;
    // `remote_port` is the network-order port in the upper half of a big-endian word.
    let remote_port = u32::from_be(ctx.remote_port());
    let is_relay = remote_port == u32::from(TRANSPARENT_PORT) || remote_port == config.proxy_port;
    if !is_relay || config.audit != 0 {
        return Ok(());
    }
    let slot = slot(ctx, &config, remote_port)?;
    let watched = storage(ctx).and_then(|stored| watch(ctx, true).map(|()| stored));
    match (watched, slot) {
        (Ok(stored), slot) => {
            count(Counter::CloseExpected);
            if let Some(slot) = slot {
                slot.copy(&stored);
                count(Counter::SlotWritten);
            }
            Ok(())
        }
        (Err(error), slot) => {
            // The socket did not pass a connect hook, or its close would not be reported. The slot is cleared, so that
            // it is not taken for the slot of this socket.
            if let Some(slot) = slot {
                slot.clear();
            }
            Err(error)
        }
    }
}

/// Returns the slot of a connection's local port, in the array of its listener. Returns `None` if the address is not
/// exactly 127.0.0.1 or `::1`. A socket on 127.0.0.2 may have the same local port as another socket, so the relay
/// closes a connection from this address without reading a slot. The close of this connection is still recorded.
#[inline(always)]
fn slot(
    ctx: &SockOpsContext,
    config: &Config,
    remote_port: u32,
) -> Result<Option<Place<Slot>>, Error> {
    let ends = read::ends(ctx);
    let is_proxy = remote_port == config.proxy_port;
    let slots = match wire(ctx, &ends) {
        Wire::V4 if ends.v4 != (LOOPBACK_V4, LOOPBACK_V4) => return Ok(None),
        Wire::V4 if is_proxy => &SLOTS_PROXY,
        Wire::V4 => &SLOTS_V4,
        // The proxy does not listen on `::1`.
        Wire::V6 if is_proxy => return Ok(None),
        Wire::V6 if differs(ends.v6.0, LOOPBACK_V6) | differs(ends.v6.1, LOOPBACK_V6) == 0 => {
            &SLOTS_V6
        }
        Wire::V6 => return Ok(None),
    };
    read::element(slots, ctx.local_port())
        .map(Some)
        .ok_or(Error::Storage)
}

/// Returns the storage in which the connect hook stored the destination of this socket.
#[inline(always)]
fn storage(ctx: &SockOpsContext) -> Result<Place<Slot>, Error> {
    let socket = read::socket_of_ops(ctx).ok_or(Error::Storage)?;
    read::stored(&STORAGE, socket, false).ok_or(Error::Storage)
}

/// Records the traffic of a redirected or proxied connection. This function is called however a
/// connection ends: `close(2)`, the end of its process, a reset by either side, `connect(2)` with
/// `AF_UNSPEC`, and the transition to TIME_WAIT.
#[inline(always)]
fn closes(ctx: &SockOpsContext) -> Result<(), Error> {
    // There is one record for each connect, because the same socket may then listen or connect again.
    watch(ctx, false)?;
    let slot = storage(ctx)?.read();
    if slot.kind != SLOT_REDIRECTED && slot.kind != SLOT_PROXY {
        return Ok(());
    }
    let mut traffic = Traffic {
        ktime_ns: read::now(),
        cookie: slot.cookie,
        connect_ns: slot.connect_ns,
        addr: [0; 2],
        bytes_acked: 0,
        bytes_received: 0,
        in_flight: 0,
        port: 0,
        kind: TRAFFIC_COMMAND,
        protocol: IPPROTO_TCP,
        state: TCP_CLOSE,
        established: 0,
    };
    read::carried(ctx, &mut traffic);
    report(&traffic);
    count(Counter::CloseSeen);
    Ok(())
}

/// Returns the address family on the wire. An AF_INET6 socket with a mapped peer sends IPv4.
#[inline(always)]
fn wire(ctx: &SockOpsContext, ends: &Ends) -> Wire {
    let [a, b, c, d] = ends.v6.1;
    let mapped = [0, 0, 0xffff_u32.to_be(), d];
    if ctx.family() == AF_INET || differs([a, b, c, d], mapped) == 0 {
        Wire::V4
    } else {
        Wire::V6
    }
}

/// Returns 0 if both are equal. This function has no branches, because the kernel's verifier walks
/// the code after a branch once for each path.
#[inline(always)]
fn differs(one: [u32; 4], other: [u32; 4]) -> u32 {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3])
}
