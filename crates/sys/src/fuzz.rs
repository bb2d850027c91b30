//! Exposes the parsers of the kernel's netlink answers, only for `fuzz/`.
use std::io;
use std::net::IpAddr;

use super::netlink::{Answer, read};
use super::{routes, sock_diag};

/// Parses one datagram as the answer to each kind of request of this crate. Returns the destination of each entry (if
/// the entry has one), the sum of the sockets' memory in bytes, and whether the answer is complete.
///
/// # Errors
/// Returns the errors of the parsers.
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
