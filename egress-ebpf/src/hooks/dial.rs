//! Judges the mediator's own connections and datagrams. Whatever the mediator decided about a name, its connections and
//! datagrams must not reach the machine itself, the machine's cloud platform, or a network that is not public, and its
//! TCP connections must not reach a port that is not allowed. Ranges in the policy, except addresses of the cloud
//! platform, and DNS to the machine's name servers are allowed.
//!
//! Claims: special-addresses, ports
use aya_ebpf::EbpfContext;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext};
use egress_common::abi::{Config, Counter, trie_key};
use egress_common::decide::{self, Attempt, IPPROTO_TCP, Known, mapped};
use egress_common::names::DNS_PORT;
use egress_common::place::{self, EMBEDDED};
use egress_common::verdict::{Hook, Reason, Verdict};

use crate::counters::count;
use crate::error::{Error, PASS, REFUSE, diagnose};
use crate::event;
use crate::maps::{LISTED, NAME_SERVERS, OPENED, OWN, PORTS, config, emit};
use crate::read::{self, AF_INET, AF_INET6, Sender};

#[cgroup_sock_addr(connect4)]
pub fn mediator_connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Hook::MediatorConnect4, AF_INET, &read::attempt4(&ctx))
        .unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[cgroup_sock_addr(connect6)]
pub fn mediator_connect6(ctx: SockAddrContext) -> i32 {
    connect(
        &ctx,
        Hook::MediatorConnect6,
        AF_INET6,
        &read::attempt6(&ctx),
    )
    .unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[cgroup_sock_addr(sendmsg4)]
pub fn mediator_sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&ctx, Hook::MediatorSendmsg4, AF_INET, &read::attempt4(&ctx))
        .unwrap_or_else(|error: Error| error.refuse(&ctx))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn mediator_sendmsg6(ctx: SockAddrContext) -> i32 {
    send(
        &ctx,
        Hook::MediatorSendmsg6,
        AF_INET6,
        &read::attempt6(&ctx),
    )
    .unwrap_or_else(|error: Error| error.refuse(&ctx))
}

/// Allows only TCP and UDP sockets, because other protocols do not pass the hooks above. MPTCP connects with sockets
/// that the kernel creates itself.
#[cgroup_sock(sock_create)]
pub fn mediator_sock_create(ctx: SockContext) -> i32 {
    let (family, sock_type, protocol) = read::new_socket(&ctx);
    let (verdict, reason) = decide::socket(sock_type, protocol);
    if verdict == Verdict::Local {
        return PASS;
    }
    let attempt = Attempt {
        addr: [0; 2],
        port: 0,
        sock_type,
        protocol,
    };
    // Libraries create an MPTCP socket only to check for support, so the verdict does not count as
    // a denied connection.
    refuse(
        &ctx,
        0,
        Hook::MediatorSockCreate,
        family,
        &attempt,
        (Verdict::Probe, reason),
    )
}

#[inline(always)]
fn connect(
    ctx: &SockAddrContext,
    hook: Hook,
    family: u32,
    attempt: &Attempt,
) -> Result<i32, Error> {
    // The storage marks a socket that the mediator connects. The packets of a marked socket are judged as well.
    read::stored(&OPENED, read::socket_of(ctx), true).ok_or(Error::Storage)?;
    send(ctx, hook, family, attempt)
}

#[inline(always)]
fn send(ctx: &SockAddrContext, hook: Hook, family: u32, attempt: &Attempt) -> Result<i32, Error> {
    let config = config()?;
    let reason = reason(attempt, &config);
    if reason == Reason::None {
        return Ok(PASS);
    }
    let is_connect = matches!(hook, Hook::MediatorConnect4 | Hook::MediatorConnect6);
    // Resolvers connect datagram sockets to sort addresses (RFC 6724), without sending anything.
    let verdict = if is_connect && attempt.protocol != IPPROTO_TCP {
        Verdict::Probe
    } else {
        Verdict::Deny
    };
    Ok(refuse(
        ctx,
        read::cookie(ctx),
        hook,
        family,
        attempt,
        (verdict, reason),
    ))
}

/// Returns why the mediator must not reach an address, or an IPv4 address that is embedded in it.
#[inline(always)]
fn reason(attempt: &Attempt, config: &Config) -> Reason {
    // The classes are computed before the first branch, because the kernel's verifier walks the
    // code after a branch once for each path.
    let marks = read::opaque(place::marks(attempt.addr));
    if is_dns(attempt.addr, attempt.port) {
        return Reason::None;
    }
    let known = Known {
        is_listed: is_listed(attempt.addr),
        opens_private: config.private != 0,
        is_own: is_own(attempt.addr),
        opens_port: opens_port(attempt),
    };
    decide::reach(place::of_marks(marks), known)
}

/// Returns whether the run allows the port of a connection. Ports of datagrams are not checked, because a mediator
/// sends datagrams only to name servers.
#[inline(always)]
fn opens_port(attempt: &Attempt) -> bool {
    attempt.protocol != IPPROTO_TCP || holds(PORTS.get(attempt.port)) != 0
}

#[inline(always)]
fn is_listed(addr: [u64; 2]) -> bool {
    holds(LISTED.get(&Key::new(128, trie_key(addr)))) != 0
}

/// Returns whether an address, or an IPv4 address that is embedded in it, belongs to the machine.
#[inline(always)]
fn is_own(addr: [u64; 2]) -> bool {
    let mut found = holds(OWN.get(&Key::new(128, trie_key(addr))));
    let readings = place::embedded(addr);
    let any = readings.iter().fold(0, |any, reading| any | reading);
    if any != 0 {
        let mut at = 0;
        while at < EMBEDDED {
            found |= holds(OWN.get(&Key::new(128, trie_key(mapped(readings[at])))));
            at += 1;
        }
    }
    found != 0
}

/// Returns the value of an entry, or 0 without an entry. The range of all IPv4 addresses has an
/// entry with value 0, so that an IPv6 prefix does not cover them.
#[inline(always)]
fn holds(found: Option<&u32>) -> u32 {
    found.map_or(0, |found| *found)
}

#[inline(always)]
fn is_dns(addr: [u64; 2], port: u32) -> bool {
    port == u32::from(DNS_PORT) && NAME_SERVERS.get_ptr(addr).is_some()
}

/// Judges a packet that does not leave the machine. The destination of the packet's connection
/// belongs to the machine, but `OWN` may not contain that address yet. Packets that the host
/// redirects to one of its programs, such as a transparent proxy, are allowed.
#[inline(always)]
pub(super) fn may_stay(ctx: &SkBuffContext, sender: &Sender) -> Result<bool, Error> {
    config()?;
    let Some((addr, port)) = read::peer_of_packet(ctx, sender) else {
        return Ok(true);
    };
    let attempt = Attempt {
        addr,
        port,
        sock_type: 0,
        protocol: sender.protocol,
    };
    if is_dns(attempt.addr, attempt.port) || is_listed(attempt.addr) {
        return Ok(true);
    }
    let family = if attempt.wire() == decide::Wire::V4 {
        AF_INET
    } else {
        AF_INET6
    };
    let decision = (Verdict::Deny, Reason::OwnAddress);
    refuse(
        ctx,
        read::cookie(ctx),
        Hook::MediatorSkbEgress,
        family,
        &attempt,
        decision,
    );
    Ok(false)
}

#[inline(always)]
fn refuse(
    ctx: &impl EbpfContext,
    cookie: u64,
    hook: Hook,
    family: u32,
    attempt: &Attempt,
    decision: decide::Decision,
) -> i32 {
    let mut event = event::begin(cookie, hook, family, attempt);
    // The current thread is not always the sender of the packet.
    event.comm = [0; 2];
    event::decide(&mut event, decision);
    emit(&event);
    count(Counter::MediatorDenied);
    diagnose!(
        ctx,
        "mediator: {:x}{:x} port {} protocol {}: reason {}",
        event.addr[0],
        event.addr[1],
        event.port,
        event.protocol,
        event.reason
    );
    REFUSE
}
