//! Checks the rows about the command's attempts. The kernel programs recorded these attempts.
use std::net::{IpAddr, SocketAddr};

use super::super::format::rows::{AttemptRow, UnixRow};
use super::super::format::{Hook, KernelReason, KernelVerdict, UnixHook, UnixReason, UnixVerdict};
use super::{Caller, Joined, Made};

/// `SOCK_STREAM`, `SOCK_DGRAM`, and `SOCK_SEQPACKET`.
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const SEQPACKET: u64 = 5;
/// End of the path of a name service cache, and the text in place of a path if there are too many paths.
const CACHE: &str = "/nscd/socket";
const OMITTED: &str = "…";

impl Joined {
    pub(super) fn attempt(&mut self, row: &AttemptRow, at: i128) {
        self.uids.insert(row.uid);
        self.first_of.entry(row.into()).or_default().insert(at);
        let (verdict, hook) = (&row.verdict, &row.hook);
        let has_reason = row.reason != KernelReason::None;
        let fits = match verdict {
            KernelVerdict::Denied | KernelVerdict::Probe => has_reason,
            KernelVerdict::Local => !has_reason || row.reason == KernelReason::NothingListens,
            KernelVerdict::Proxy | KernelVerdict::Redirected => !has_reason,
            KernelVerdict::WouldDeny | KernelVerdict::WouldRedirect | KernelVerdict::Unknown(_) => {
                true
            }
        };
        self.reason(fits, verdict.as_str(), row.reason.as_str());
        let is_connect = matches!(hook, Hook::Connect4 | Hook::Connect6);
        // In rows of other hooks, the socket type may differ from that of the protocol, because the socket may be raw.
        let is_sent = is_connect || matches!(hook, Hook::Sendmsg4 | Hook::Sendmsg6);
        let is_other = row.protocol == "udp" && row.sock_type != DATAGRAM;
        self.socket_type(!(is_sent && is_other));
        self.offsets
            .insert(at.saturating_sub(i128::from(row.connect_ns)));
        self.ipv6(verdict, &row.reason, &row.dst);
        let address = row.dst.parse::<IpAddr>().ok();
        let is_v4 = matches!(hook, Hook::Connect4 | Hook::Sendmsg4);
        let is_v6 = matches!(hook, Hook::Connect6 | Hook::Sendmsg6);
        let fits = match (address, row.family) {
            (Some(IpAddr::V4(_)), 2) => !is_v6,
            (Some(_), 10) => !is_v4,
            (Some(_), _) => matches!(hook, Hook::SockCreate | Hook::SkbEgress),
            (None, _) => false,
        };
        self.require(
            fits,
            format!("an attempt by {hook} has no address of its family"),
        );
        let is_stream = row.protocol == "tcp" && row.sock_type == STREAM;
        let leads_inside =
            address.is_some_and(|address| address.is_loopback() || address.is_unspecified());
        let fits = match verdict {
            KernelVerdict::Redirected => is_stream && !leads_inside && is_connect,
            KernelVerdict::Proxy => is_stream && leads_inside && is_connect,
            KernelVerdict::Local => leads_inside || *hook == Hook::SockCreate,
            KernelVerdict::Denied
            | KernelVerdict::Probe
            | KernelVerdict::WouldDeny
            | KernelVerdict::WouldRedirect
            | KernelVerdict::Unknown(_) => true,
        };
        self.require(
            fits,
            format!("an attempt by {hook} has the impossible verdict {verdict}"),
        );
        self.name(row.name.as_deref(), &row.dst);
        let is_proxy = *verdict == KernelVerdict::Proxy;
        if is_proxy {
            self.proxies.insert(row.port.into());
        }
        if row.cookie != 0 && (is_proxy || *verdict == KernelVerdict::Redirected) {
            let made = Made {
                at,
                dst: address.map(|address| SocketAddr::from((address, row.port))),
                is_proxy,
                caller: Caller {
                    pid: Some(row.pid),
                    program: self.program(&row.process, row.exe.as_deref()),
                },
            };
            let before = self.made.insert((row.cookie, row.connect_ns), made);
            self.require(before.is_none(), "a connection appears twice");
        }
    }

    /// Notes whether the kernel redirected a connection to an IPv6 address, or denied an attempt because the relay has
    /// no IPv6 listener.
    pub(super) fn ipv6(&mut self, verdict: &KernelVerdict, reason: &KernelReason, dst: &str) {
        let is_ipv6 = dst
            .parse::<IpAddr>()
            .is_ok_and(|dst| dst.to_canonical().is_ipv6());
        self.has_ipv6 |= is_ipv6 && *verdict == KernelVerdict::Redirected;
        self.lacks_ipv6 |= *reason == KernelReason::NoIpv6;
    }

    pub(super) fn unix(&mut self, row: &UnixRow, at: i128) {
        self.uids.insert(row.uid);
        self.first_of.entry(row.into()).or_default().insert(at);
        let has_reason = row.reason != UnixReason::None;
        self.has_opened |= row.verdict == UnixVerdict::Allowed;
        let fits = match row.verdict {
            UnixVerdict::Unreachable | UnixVerdict::Unread | UnixVerdict::Probe => has_reason,
            UnixVerdict::Local | UnixVerdict::Allowed => !has_reason,
            UnixVerdict::Unknown(_) => true,
        };
        self.reason(fits, row.verdict.as_str(), row.reason.as_str());
        let path = &*row.path;
        let fits = match row.verdict {
            UnixVerdict::Probe => path.ends_with(CACHE),
            UnixVerdict::Unreachable => !path.ends_with(CACHE),
            UnixVerdict::Unread => path.is_empty(),
            UnixVerdict::Local | UnixVerdict::Allowed | UnixVerdict::Unknown(_) => true,
        };
        self.require(
            fits || path == OMITTED,
            "a use of a Unix socket has a verdict that its path does not have",
        );
        // Only a datagram has the address of its receiver. A socket of another type must be connected.
        let is_sent = row.hook == UnixHook::SendmsgUnix;
        let is_connected = !is_sent && matches!(row.sock_type, STREAM | SEQPACKET);
        self.socket_type(is_connected || row.sock_type == DATAGRAM);
    }

    fn reason(&mut self, fits: bool, verdict: &str, reason: &str) {
        self.require(
            fits,
            format!("an attempt is {verdict} with the reason {reason:?}"),
        );
    }

    fn socket_type(&mut self, fits: bool) {
        self.require(
            fits,
            "an attempt has a socket type that does not fit its protocol or its hook",
        );
    }

    /// Notes that the address `dst` of an attempt has this name.
    pub(super) fn name(&mut self, name: Option<&str>, dst: &str) {
        if let (Some(name), Ok(address)) = (name, dst.parse()) {
            self.named.push((name.to_owned(), address));
        }
    }
}
