//! The words of the rows, and the words that two documents share.
words! {
    /// The kernel hook that recorded an attempt.
    Hook {
        /// `cgroup/connect4`.
        Connect4 = "connect4",
        /// `cgroup/connect6`.
        Connect6 = "connect6",
        /// `cgroup/sendmsg4`.
        Sendmsg4 = "sendmsg4",
        /// `cgroup/sendmsg6`.
        Sendmsg6 = "sendmsg6",
        /// `cgroup/sock_create`.
        SockCreate = "sock_create",
        /// `cgroup_skb/egress`.
        SkbEgress = "skb_egress",
    }

    /// What a hook did with an attempt.
    KernelVerdict {
        /// Denied with `EPERM`.
        Denied = "denied",
        /// Left alone, because it stays on the boundary's loopback.
        Local = "local",
        /// Denied. No data would have been sent, because a library only compared addresses.
        Probe = "probe",
        /// Left alone, because it goes to the explicit proxy port.
        Proxy = "proxy",
        /// Sent to the relay.
        Redirected = "redirected",
        /// Left alone in an audit; a boundary would deny it.
        WouldDeny = "would_deny",
        /// Left alone in an audit; a boundary would send it to the relay.
        WouldRedirect = "would_redirect",
    }

    /// The reason why a hook denied an attempt.
    KernelReason {
        /// The verdict needs no reason.
        None = "",
        /// It went to port 53 or 853 of anything except the stub resolver.
        Dns = "dns_to_other_resolver",
        /// It was a datagram to anything except loopback.
        Udp = "udp",
        /// Its protocol carries no mediated traffic.
        Protocol = "protocol",
        /// Its socket type carries no mediated traffic.
        SocketType = "socket_type",
        /// It named the relay's own port.
        ControlPort = "control_port",
        /// It used IPv6 without an IPv6 listener.
        NoIpv6 = "ipv6_unavailable",
        /// The network packet would have left by another interface.
        NotLoopback = "not_loopback",
        /// The kernel program could not read or store data that it needs.
        Internal = "internal",
    }

    /// The kernel hook that recorded the use of an `AF_UNIX` address.
    UnixHook {
        /// `cgroup/connect_unix`.
        ConnectUnix = "connect_unix",
        /// `cgroup/sendmsg_unix`.
        SendmsgUnix = "sendmsg_unix",
    }

    /// The result of the use of an `AF_UNIX` address.
    UnixVerdict {
        /// It stays inside the boundary.
        Local = "local",
        /// It leads to a host socket that the caller opened.
        Allowed = "allowed_unix",
        /// It leads nowhere inside the boundary.
        Unreachable = "unreachable",
        /// It leads nowhere, and only a library that looks for a name service cache used it.
        Probe = "probe",
        /// The kernel program could not read the address.
        Unread = "unread",
    }

    /// The reason why the use of an `AF_UNIX` address led nowhere.
    UnixReason {
        /// The verdict needs no reason.
        None = "",
        /// Nothing is at that path inside the boundary.
        NotInside = "not_in_the_boundary",
        /// The kernel program could not read or store data that it needs.
        Internal = "internal",
    }

    /// The protocol of an `AF_UNIX` socket.
    UnixProtocol {
        /// The only value.
        Unix = "unix",
    }

    /// The protocol of a connection of the mediator.
    MediatorProtocol {
        /// A connection.
        Tcp = "tcp",
        /// A datagram.
        Udp = "udp",
    }

    /// What a hook did with a connection or datagram of the mediator.
    MediatorVerdict {
        /// Denied.
        Denied = "denied",
        /// Denied. No data would have been sent.
        Probe = "probe",
    }

    /// The reason why the mediator's own sockets cannot reach an address.
    MediatorReason {
        /// The machine itself has the address.
        OwnAddress = "own_address",
        /// The address belongs to a service of the cloud platform for the machine.
        PlatformAddress = "platform_address",
        /// The address is not public.
        NotPublic = "not_public",
        /// The run does not allow the TCP port.
        PortNotAllowed = "port_not_allowed",
        /// The mediator uses TCP and UDP only.
        SocketType = "socket_type",
    }

    /// The transport of a request from the relay to the mediator.
    Transport {
        /// A tunnel.
        Connect = "connect",
        /// A request with an absolute URL.
        Forward = "forward",
        /// A WebSocket.
        Websocket = "websocket",
        /// A request that the mediator makes by itself.
        Fetch = "fetch",
    }

    /// The result of a request or tunnel.
    RelayVerdict {
        /// The mediator allowed it, and both halves ended normally.
        Forwarded = "forwarded",
        /// The relay denied it and sent no request to the mediator.
        Refused = "refused",
        /// The mediator denied it, and the mark on the answer shows that the mediator sent it.
        Blocked = "blocked",
        /// The answer looks like a denial by the mediator, but an origin can imitate such a denial.
        Answered = "answered",
        /// An error ended it.
        Failed = "failed",
        /// It was cut before both halves had ended.
        Unfinished = "unfinished",
    }

    /// The reason why an answer of the stub resolver has no address.
    ResolverReason {
        /// The answer has an address.
        None = "",
        /// All synthetic addresses are in use.
        Exhausted = "exhausted",
        /// The name is not a valid host name.
        Malformed = "malformed",
    }

    /// The kind of a check of the enforcement.
    BeatEvent {
        /// A check while the command runs.
        Heartbeat = "heartbeat",
        /// The check when no process of the command is left.
        AgentGone = "agent_gone",
    }

    /// The last check of the enforcement.
    EndEvent {
        /// The only value.
        End = "end",
    }

    /// How the command saw the workspace.
    WorkspaceMode {
        /// Its changes are applied at the end.
        Apply = "apply",
        /// It had a copy.
        Copy = "copy",
        /// It had the workspace itself.
        Direct = "direct",
        /// Its changes are discarded.
        Discard = "discard",
        /// It could not write.
        ReadOnly = "read-only",
    }
}
