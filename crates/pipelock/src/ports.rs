//! Ports on the host's loopback that are Pipelock's before it listens there.
//!
//! Each is bound by a socket of the supervisor that does not listen. The kernel then gives the port
//! to nobody who asks for any port, and Pipelock, which like that socket sets `SO_REUSEADDR`, can
//! bind it all the same. So no port changes hands between its choice and its use.
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// One such port.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddrV4,
    _socket: Socket,
}

impl HeldPort {
    fn any() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        // Only now: with it set before, the kernel could choose a port that another process holds so.
        socket.set_reuse_address(true)?;
        let address = socket
            .local_addr()?
            .as_socket_ipv4()
            .ok_or_else(|| io::Error::other("a socket of IPv4 without an address of IPv4"))?;
        Ok(Self {
            address,
            _socket: socket,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

/// The ports of one Pipelock.
#[derive(Debug)]
pub struct Ports {
    /// Proxy, `/fetch`, `/ws` and `/health`.
    pub proxy: HeldPort,
    /// `/metrics` and `/stats`.
    pub metrics: HeldPort,
    /// The kill switch, which nobody is told the token of.
    pub kill_switch: HeldPort,
}

impl Ports {
    /// Takes three ports of the kernel's choice.
    ///
    /// # Errors
    /// When there is none left.
    pub fn hold() -> io::Result<Self> {
        Ok(Self {
            proxy: HeldPort::any()?,
            metrics: HeldPort::any()?,
            kill_switch: HeldPort::any()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn held_port_can_be_listened_at_and_is_given_to_nobody() {
        let port = HeldPort::any().unwrap();
        // The library sets SO_REUSEADDR, as Go does.
        let listener = TcpListener::bind(port.address()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), port.address().into());
        assert!(TcpListener::bind(port.address()).is_err());
        let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(
            plain
                .bind(&SocketAddr::from(port.address()).into())
                .is_err()
        );
    }
}
