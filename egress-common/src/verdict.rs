//! What a hook decided and why, and their numbers in an event.

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)+ }

        impl $name {
            /// The word that records carry.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// The number in an event.
            pub const fn raw(self) -> u32 {
                match self { $(Self::$variant => $value,)+ }
            }

            /// The variant of a number; `None` for one that no writer of this version emits.
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw { $($value => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

wire_enum! {
    /// The kernel hook that saw an attempt.
    Hook {
        /// `cgroup/connect4`.
        Connect4 = 1 => "connect4",
        /// `cgroup/connect6`.
        Connect6 = 2 => "connect6",
        /// `cgroup/sendmsg4`.
        Sendmsg4 = 3 => "sendmsg4",
        /// `cgroup/sendmsg6`.
        Sendmsg6 = 4 => "sendmsg6",
        /// `cgroup/sock_create`.
        SockCreate = 5 => "sock_create",
        /// `cgroup_skb/egress`.
        SkbEgress = 6 => "skb_egress",
        /// `cgroup/connect_unix`.
        ConnectUnix = 8 => "connect_unix",
        /// `cgroup/sendmsg_unix`.
        SendmsgUnix = 9 => "sendmsg_unix",
        /// `cgroup/connect4` of the mediator, and so on: the row's source names whose hook it is.
        MediatorConnect4 = 10 => "connect4",
        /// `cgroup/connect6` of the mediator.
        MediatorConnect6 = 11 => "connect6",
        /// `cgroup/sendmsg4` of the mediator.
        MediatorSendmsg4 = 12 => "sendmsg4",
        /// `cgroup/sendmsg6` of the mediator.
        MediatorSendmsg6 = 13 => "sendmsg6",
        /// `cgroup/sock_create` of the mediator.
        MediatorSockCreate = 14 => "sock_create",
        /// `cgroup_skb/egress` of the mediator.
        MediatorSkbEgress = 15 => "skb_egress",
    }
}

impl Hook {
    /// Whether the hook is on the mediator's cgroup.
    pub const fn is_of_mediator(self) -> bool {
        self.raw() >= Self::MediatorConnect4.raw()
    }
}

wire_enum! {
    /// What was done with an attempt.
    Verdict {
        /// Refused with `EPERM`.
        Deny = 1 => "denied",
        /// Left alone: it stays on the boundary's own loopback.
        Local = 2 => "local",
        /// Refused, but only a resolver sorting its answers: not an attempt to leave.
        Probe = 3 => "probe",
        /// Left alone: the explicit proxy port.
        Proxy = 4 => "proxy",
        /// Rewritten to the relay.
        Redirect = 5 => "redirected",
        /// Audit mode: left alone, would be refused.
        WouldDeny = 6 => "would_deny",
        /// Audit mode: left alone, would go to the relay.
        WouldRedirect = 7 => "would_redirect",
    }
}

wire_enum! {
    /// Why.
    Reason {
        /// Nothing to explain.
        None = 0 => "",
        /// Port 53 or 853 of anything but the stub resolver.
        Dns = 1 => "dns_to_other_resolver",
        /// A datagram to anything but loopback.
        Udp = 2 => "udp",
        /// A protocol other than TCP and UDP.
        Protocol = 3 => "protocol",
        /// A socket type that carries no mediated traffic: raw, ping, MPTCP, SCTP …
        SocketType = 4 => "socket_type",
        /// The relay's transparent port, asked for by number.
        ControlPort = 5 => "control_port",
        /// IPv6 where the relay has no IPv6 listener.
        NoIpv6 = 6 => "ipv6_unavailable",
        /// A packet that would leave by an interface other than loopback.
        NotLoopback = 7 => "not_loopback",
        /// The program could not read or store what it needs; it refuses then.
        Internal = 8 => "internal",
        /// An address of the machine itself, asked for by the mediator.
        OwnAddress = 9 => "own_address",
        /// An address at which the platform serves the machine, asked for by the mediator.
        PlatformAddress = 10 => "platform_address",
        /// An address that no host of the Internet has, asked for by the mediator.
        NotPublic = 11 => "not_public",
        /// A port that the run does not open, asked for by the mediator.
        Port = 12 => "port_not_allowed",
    }
}
