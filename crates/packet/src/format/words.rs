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

    /// The decision of a hook about an attempt.
    KernelVerdict {
        /// The hook denied the attempt with `EPERM`.
        Denied = "denied",
        /// The hook did not change the attempt, because the destination is the boundary's loopback.
        Local = "local",
        /// The hook denied the attempt. A library made the attempt only to compare addresses, and would not have sent
        /// data.
        Probe = "probe",
        /// The hook did not change the attempt, because the destination is the explicit proxy port.
        Proxy = "proxy",
        /// The connection was sent to the relay.
        Redirected = "redirected",
        /// The hook did not change the attempt, because the run is an audit. A boundary would deny the attempt.
        WouldDeny = "would_deny",
        /// The hook did not change the attempt, because the run is an audit. A boundary would send the connection to
        /// the relay.
        WouldRedirect = "would_redirect",
    }

    /// The reason for the verdict of a hook.
    KernelReason {
        /// The verdict does not need a reason.
        None = "",
        /// The destination is port 53 or 853 of a resolver other than the stub resolver.
        Dns = "dns_to_other_resolver",
        /// The attempt is a datagram to an address other than loopback.
        Udp = "udp",
        /// The mediator does not carry this protocol.
        Protocol = "protocol",
        /// The mediator does not carry traffic of this socket type.
        SocketType = "socket_type",
        /// The destination is the relay's own port.
        ControlPort = "control_port",
        /// The attempt uses IPv6, and the relay has no IPv6 listener.
        NoIpv6 = "ipv6_unavailable",
        /// Nothing listened at this address and port of the boundary's loopback, so the kernel refused the connection.
        NothingListens = "nothing_listens",
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
        /// The address is inside the boundary.
        Local = "local",
        /// The address is that of a host socket that the caller allowed.
        Allowed = "allowed_unix",
        /// No socket that the command can reach has the address inside the boundary, or the path is relative and the process
        /// ended before the supervisor read the record.
        Unreachable = "unreachable",
        /// No socket that the command can reach has the address. The C library used the address only to find a name
        /// service cache.
        Probe = "probe",
        /// The kernel program could not read the address.
        Unread = "unread",
    }

    /// The reason for the verdict about the use of an `AF_UNIX` address.
    UnixReason {
        /// The verdict does not need a reason.
        None = "",
        /// No socket that the command can reach has the path inside the boundary.
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

    /// The decision of a hook about a connection or datagram of the mediator.
    MediatorVerdict {
        /// The hook denied the connection or datagram.
        Denied = "denied",
        /// The hook denied the call. A library of the mediator made the call only to sort addresses or to check for
        /// MPTCP, and would not have sent data.
        Probe = "probe",
    }

    /// The reason for a denial by the hooks on the mediator's own sockets.
    MediatorReason {
        /// The machine itself has the address.
        OwnAddress = "own_address",
        /// The address belongs to a service of the machine's cloud platform.
        PlatformAddress = "platform_address",
        /// The address is not public.
        NotPublic = "not_public",
        /// The run does not allow connections to the TCP port.
        PortNotAllowed = "port_not_allowed",
        /// The type of the socket is neither TCP nor UDP.
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
        /// The mediator allowed the request, and the request and its answer ended normally.
        Forwarded = "forwarded",
        /// The relay denied the request and did not send it to the mediator.
        Refused = "refused",
        /// The mediator denied the request, and the mark on the answer shows that the mediator sent the answer.
        Blocked = "blocked",
        /// The answer looks like a denial by the mediator, but an origin may have written the answer.
        Answered = "answered",
        /// An error ended the exchange.
        Failed = "failed",
        /// The exchange was cut before the request and its answer had ended.
        Unfinished = "unfinished",
    }

    /// The reason why an answer of the stub resolver has no address.
    ResolverReason {
        /// The answer has an address.
        None = "",
        /// All synthetic addresses are in use.
        Exhausted = "exhausted",
        /// The query is not a valid DNS message.
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

    /// The mode in which the command used the workspace.
    WorkspaceMode {
        /// The command used an overlay. At the end, the changes that the rules allow are applied.
        Apply = "apply",
        /// The command used a copy of the workspace, and none of its changes is applied.
        Copy = "copy",
        /// The command used the workspace itself.
        Direct = "direct",
        /// The command used an overlay, and none of its changes is applied.
        Discard = "discard",
        /// The command could not write to the workspace.
        ReadOnly = "read-only",
    }
}
