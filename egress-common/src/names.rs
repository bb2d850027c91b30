//! Ports and addresses that the kernel programs, the relay, and the supervisor share.

/// Port of the relay's transparent listener on 127.0.0.1 and `::1` inside the boundary. The port is below 1024, and
/// `ip_unprivileged_port_start` is 1024 inside the boundary, so that the command cannot bind this port.
pub const TRANSPARENT_PORT: u16 = 1001;

/// Port of the stub resolver inside the boundary.
pub const DNS_PORT: u16 = 53;

/// Default of the explicit proxy port inside the boundary (`EGRESS_PROXY_PORT`).
pub const DEFAULT_PROXY_PORT: u16 = 3128;

/// First address and prefix length of the synthetic IPv4 addresses (RFC 2544 benchmarking range).
pub const SYNTHETIC_V4: ([u8; 4], u8) = ([198, 18, 0, 0], 15);

/// First address and prefix length of the synthetic IPv6 addresses: a ULA /64 (RFC 4193).
pub const SYNTHETIC_V6: ([u8; 16], u8) = (
    [
        0xfd, 0x65, 0x67, 0x72, 0x65, 0x73, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ],
    64,
);

/// IPv4 address on `lo`. Without this address, `AI_ADDRCONFIG` would leave out IPv4 (RFC 5737
/// documentation range).
pub const ADDRCONFIG_V4: [u8; 4] = [192, 0, 2, 1];

/// IPv6 address on `lo` for the same purpose: the last address of a ULA /64 beside the synthetic one.
pub const ADDRCONFIG_V6: [u8; 16] = [
    0xfd, 0x65, 0x67, 0x72, 0x65, 0x73, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1,
];
