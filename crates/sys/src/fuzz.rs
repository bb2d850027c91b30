//! Makes the readers of the kernel's netlink answers public, for `fuzz/` alone.
use std::io;
use std::net::IpAddr;

use super::netlink::{Answer, read};
use super::{routes, sock_diag};

/// Reads one datagram as an answer to each question that this crate asks, and returns what its entries hold: a
/// destination for each, where there is one, and bytes of memory.
///
/// # Errors
/// As the questions have them.
pub fn netlink(datagram: &[u8]) -> io::Result<(Vec<[Option<IpAddr>; 2]>, u64, bool)> {
    let mut destinations = Vec::new();
    let mut memory = 0_u64;
    let answer = read(datagram, &mut |body| {
        destinations.push([true, false].map(|is_v4| routes::destination(body, is_v4).ok()));
        memory += sock_diag::memory_of(body).unwrap_or_default();
        Ok(())
    })?;
    Ok((destinations, memory, answer == Answer::Whole))
}
