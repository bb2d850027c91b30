//! Hooks, verdicts, and reasons, with their numbers in an event and their words in the flow log.

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)+ }

        impl $name {
            /// Returns the word in the flow log.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// Returns the number in an event.
            pub const fn raw(self) -> u32 {
                match self { $(Self::$variant => $value,)+ }
            }

            /// Returns the variant of a number, or `None` for a number that this version does not emit.
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw { $($value => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

wire_enum! {
    /// The kernel hook that judged an attempt.
    Hook {
        /// `cgroup/connect4` on the command's cgroup.
        Connect4 = 1 => "connect4",
        /// `cgroup/connect6` on the command's cgroup.
        Connect6 = 2 => "connect6",
        /// `cgroup/sendmsg4` on the command's cgroup.
        Sendmsg4 = 3 => "sendmsg4",
        /// `cgroup/sendmsg6` on the command's cgroup.
        Sendmsg6 = 4 => "sendmsg6",
        /// `cgroup/sock_create` on the command's cgroup.
        SockCreate = 5 => "sock_create",
        /// `cgroup_skb/egress` on the command's cgroup.
        SkbEgress = 6 => "skb_egress",
        /// `cgroup/connect_unix` on the command's cgroup.
        ConnectUnix = 8 => "connect_unix",
        /// `cgroup/sendmsg_unix` on the command's cgroup.
        SendmsgUnix = 9 => "sendmsg_unix",
        /// `cgroup/connect4` on the mediator's cgroup. The label is the same as that of [`Self::Connect4`], because the
        /// source of the flow names the cgroup.
        MediatorConnect4 = 10 => "connect4",
        /// `cgroup/connect6` on the mediator's cgroup.
        MediatorConnect6 = 11 => "connect6",
        /// `cgroup/sendmsg4` on the mediator's cgroup.
        MediatorSendmsg4 = 12 => "sendmsg4",
        /// `cgroup/sendmsg6` on the mediator's cgroup.
        MediatorSendmsg6 = 13 => "sendmsg6",
        /// `cgroup/sock_create` on the mediator's cgroup.
        MediatorSockCreate = 14 => "sock_create",
        /// `cgroup_skb/egress` on the mediator's cgroup.
        MediatorSkbEgress = 15 => "skb_egress",
    }
}

impl Hook {
    /// Returns whether the hook is on the mediator's cgroup.
    pub const fn is_of_mediator(self) -> bool {
        self.raw() >= Self::MediatorConnect4.raw()
    }
}

wire_enum! {
    /// The decision about an attempt.
    Verdict {
        /// Denied with `EPERM`.
        Deny = 1 => "denied",
        /// Allowed, because the attempt stays on the boundary's loopback.
        Local = 2 => "local",
        /// Denied. A program makes this attempt only to sort addresses or to check for a feature, and the attempt would
        /// not have sent anything.
        Probe = 3 => "probe",
        /// Allowed to the explicit proxy port.
        Proxy = 4 => "proxy",
        /// Rewritten to the relay.
        Redirect = 5 => "redirected",
        /// Allowed in audit mode; would be denied.
        WouldDeny = 6 => "would_deny",
        /// Allowed in audit mode; would be redirected to the relay.
        WouldRedirect = 7 => "would_redirect",
    }
}

wire_enum! {
    /// The reason for a verdict.
    Reason {
        /// No reason is needed.
        None = 0 => "",
        /// Port 53 or 853 of a host other than the stub resolver.
        Dns = 1 => "dns_to_other_resolver",
        /// A datagram to an address other than loopback.
        Udp = 2 => "udp",
        /// A protocol other than TCP and UDP.
        Protocol = 3 => "protocol",
        /// A socket type that cannot be mediated: raw, ping, MPTCP, SCTP …
        SocketType = 4 => "socket_type",
        /// A direct connection to the relay's transparent port.
        ControlPort = 5 => "control_port",
        /// IPv6 in a boundary in which the relay has no IPv6 listener.
        NoIpv6 = 6 => "ipv6_unavailable",
        /// The program could not read or store data that it needs, and therefore denied the attempt.
        Internal = 8 => "internal",
        /// A connection of the mediator to an address of the machine itself.
        OwnAddress = 9 => "own_address",
        /// A connection of the mediator to a service address of the cloud platform.
        PlatformAddress = 10 => "platform_address",
        /// A connection of the mediator to an address that is not public.
        NotPublic = 11 => "not_public",
        /// A connection of the mediator to a port that is not allowed.
        Port = 12 => "port_not_allowed",
        /// A TCP connection to a loopback port without a listener, which the kernel refuses.
        NothingListens = 13 => "nothing_listens",
    }
}
