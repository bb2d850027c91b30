//! Attempts of the command, as the kernel programs saw them.
use std::net::{IpAddr, SocketAddr};

use pipelock_receipts::json::Node;

use super::{Caller, Joined, Made, text};

/// `SOCK_STREAM`, `SOCK_DGRAM`, and `SOCK_SEQPACKET`.
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const SEQPACKET: u64 = 5;

/// The first of an attempt that was repeated: hook, verdict, protocol, who, why, where to, and whether the mediator made it.
pub(super) type Alike = [String; 7];

impl Joined {
    pub(super) fn attempt(&mut self, node: &Node<'_>, verdict: &str, at: i128) {
        self.first_of.entry(alike(node)).or_default().insert(at);
        let [reason, hook, protocol] =
            ["reason", "hook", "protocol"].map(|name| node.member_text(name));
        let has_reason = matches!(verdict, "denied" | "unreachable" | "unread");
        let has_none = matches!(verdict, "local" | "proxy" | "redirected" | "allowed_unix");
        let fits = !(has_reason && reason.is_empty() || has_none && !reason.is_empty());
        let fits = fits && !(verdict == "probe" && reason.is_empty());
        self.say(
            fits,
            format!("an attempt is {verdict} for the reason {reason:?}"),
        );
        let sock_type = node.member_unsigned("sock_type");
        // What is created or sent may be of another type than its protocol: a raw socket.
        let fits = match protocol {
            _ if !hook.starts_with("connect") && !hook.starts_with("sendmsg") => true,
            "udp" => sock_type == Some(DATAGRAM),
            "unix" => matches!(sock_type, Some(STREAM | DATAGRAM | SEQPACKET)),
            _ => true,
        };
        self.say(
            fits,
            "an attempt has a socket type that its protocol does not have",
        );
        if protocol == "unix" {
            return;
        }
        let connect_ns = node.member_unsigned("connect_ns").unwrap_or(0);
        self.offsets
            .insert(at.saturating_sub(i128::from(connect_ns)));
        let address = node.member_text("dst").parse::<IpAddr>().ok();
        let family = node.member_unsigned("family");
        let is_v4 = hook.ends_with('4');
        let fits = match (address, family) {
            (Some(IpAddr::V4(_)), Some(2)) => !hook.ends_with('6'),
            (Some(_), Some(10)) => !is_v4,
            (Some(_), _) => matches!(hook, "sock_create" | "skb_egress"),
            (None, _) => false,
        };
        self.say(
            fits,
            format!("an attempt by {hook} leads to no address of its family"),
        );
        let is_stream = protocol == "tcp" && sock_type == Some(STREAM);
        let leads_inside =
            address.is_some_and(|address| address.is_loopback() || address.is_unspecified());
        let fits = match verdict {
            "redirected" => is_stream && !leads_inside && hook.starts_with("connect"),
            "proxy" => is_stream && leads_inside && hook.starts_with("connect"),
            "local" => leads_inside || hook == "sock_create",
            _ => true,
        };
        self.say(fits, format!("an attempt that cannot have been {verdict}"));
        let port = node
            .member_unsigned("port")
            .and_then(|port| u16::try_from(port).ok());
        self.name(node);
        if verdict == "proxy" {
            let port = node.member_unsigned("port").unwrap_or(0);
            self.proxies.insert(i64::try_from(port).unwrap_or(i64::MAX));
        }
        let is_made = matches!(verdict, "redirected" | "proxy");
        if let Some(cookie) = node
            .member_unsigned("cookie")
            .filter(|cookie| is_made && *cookie != 0)
        {
            let made = Made {
                at,
                dst: address.zip(port).map(SocketAddr::from),
                is_proxy: verdict == "proxy",
                caller: Caller {
                    pid: node.member_unsigned("pid"),
                    program: self.program(text(node, "process"), text(node, "exe")),
                },
            };
            let before = self.made.insert((cookie, connect_ns), made);
            self.say(before.is_none(), "a connection was made twice");
        }
    }

    /// The name that the address of an attempt stands for.
    pub(super) fn name(&mut self, node: &Node<'_>) {
        let address = node.member_text("dst").parse::<IpAddr>();
        if let (Some(name), Ok(address)) = (node.member("name").and_then(Node::text), address) {
            self.named.push((name.to_owned(), address));
        }
    }
}

/// What makes two attempts the same.
pub(super) fn alike(node: &Node<'_>) -> Alike {
    let port = node.member_unsigned("port").map(|port| port.to_string());
    let place = [
        text(node, "dst"),
        port.unwrap_or_default(),
        text(node, "path"),
    ]
    .join(" ");
    let [hook, verdict, protocol, process, reason] =
        ["hook", "verdict", "protocol", "process", "reason"].map(|name| text(node, name));
    let is_of_mediator = node.member_text("source").starts_with("kernel_mediator");
    [
        hook,
        verdict,
        protocol,
        process,
        reason,
        place,
        is_of_mediator.to_string(),
    ]
}
