//! Names in the kernel's records, in the form that all rows use.
/// Returns the process name in a `comm`, without the NUL bytes after it.
pub(super) fn process_name(comm: &[u8; 16]) -> String {
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    String::from_utf8_lossy(comm.get(..end).unwrap_or_default()).into_owned()
}

/// Returns IANA's name of a protocol number, or the number.
pub(super) fn protocol_name(number: u32) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        255 => "raw".into(),
        262 => "mptcp".into(),
        other => other.to_string(),
    }
}
