//! The name server of `test`, the only domain of the world.
//!
//! The server uses no DNS library, so that it does not share mistakes with the product.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::journal::{Journal, Query};
use crate::topology::{Families, INTERNET, RUNNER_V4};

const A: u16 = 1;
const AAAA: u16 = 28;
const NAME_ERROR: u8 = 3;

/// Listens on both addresses, over UDP and TCP.
pub(super) async fn start(journal: &Arc<Journal>, families: Families) -> io::Result<()> {
    let mut addresses = vec![IpAddr::from(INTERNET.resolver)];
    if families == Families::Both {
        addresses.push(INTERNET.resolver_v6.into());
    }
    for address in addresses {
        let socket = UdpSocket::bind((address, 53)).await?;
        tokio::spawn(udp(socket, Arc::clone(journal)));
        let listener = TcpListener::bind((address, 53)).await?;
        tokio::spawn(tcp(listener, Arc::clone(journal)));
    }
    Ok(())
}

async fn udp(socket: UdpSocket, journal: Arc<Journal>) {
    let mut buffer = [0; 1500];
    loop {
        // The error is an ICMP message about an earlier answer.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let message = buffer.get(..length).unwrap_or_default();
        if let Some((query, reply)) = answer(message, false, |name| journal.asked(name)) {
            journal.query(query);
            drop(socket.send_to(&reply, peer).await);
        }
    }
}

async fn tcp(listener: TcpListener, journal: Arc<Journal>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { drop(stream_of_questions(stream, &journal).await) });
        }
    }
}

async fn stream_of_questions(mut stream: TcpStream, journal: &Journal) -> io::Result<()> {
    loop {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        let Some((query, reply)) = answer(&message, true, |name| journal.asked(name)) else {
            return Ok(());
        };
        journal.query(query);
        let length = u16::try_from(reply.len()).unwrap_or(0);
        // The answer is sent in one piece, because some clients read only once.
        let framed = [length.to_be_bytes().as_slice(), &reply].concat();
        stream.write_all(&framed).await?;
    }
}

/// Returns the question of `message` and the reply to it, or `None` if the message is not a query. `asked` returns how
/// often the address of a name was queried before.
fn answer(
    message: &[u8],
    tcp: bool,
    asked: impl FnOnce(&str) -> usize,
) -> Option<(Query, Vec<u8>)> {
    const HEADER: usize = 12;
    let id = message.get(..2)?;
    let mut name = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = message.get(at..at.checked_add(length)?)?;
        name.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let question = message.get(HEADER..at + 4)?;
    let query = Query {
        name: name.join("."),
        kind,
        tcp,
    };

    let known = lookup(&query.name, asked);
    let records: Vec<Vec<u8>> = match (&known, kind) {
        (Some(addresses), A) => addresses.v4.iter().map(|v4| v4.octets().to_vec()).collect(),
        (Some(addresses), AAAA) => addresses.v6.iter().map(|v6| v6.octets().to_vec()).collect(),
        _ => Vec::new(),
    };
    let code = if known.is_some() { 0 } else { NAME_ERROR };
    let mut reply = id.to_vec();
    // The flags mark an authoritative response with recursion desired and available.
    reply.extend([
        0x85,
        0x80 | code,
        0,
        1,
        0,
        u8::try_from(records.len()).ok()?,
        0,
        0,
        0,
        0,
    ]);
    reply.extend(question);
    for record in records {
        // The name is a pointer to the question. The class is IN, and the time to live is a minute.
        reply.extend([0xc0, 0x0c]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(record.len()).ok()?]);
        reply.extend(record);
    }
    Some((query, reply))
}

struct Addresses {
    v4: Vec<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// An address to which a name of the world resolves.
fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, last)
}

/// Returns the address of a name, or `None` if the name does not exist.
fn lookup(name: &str, asked: impl FnOnce(&str) -> usize) -> Option<Addresses> {
    let both = |last: u8| Addresses {
        v4: vec![host(last)],
        v6: Some(Ipv6Addr::new(
            0x2001,
            0xdb8,
            1,
            0,
            0,
            0,
            0,
            // The IPv6 address ends with the same digits as the IPv4 address.
            u16::from_str_radix(&last.to_string(), 16).unwrap_or(0),
        )),
    };
    let only_v4 = |v4: Ipv4Addr| Addresses {
        v4: vec![v4],
        v6: None,
    };
    let addresses = match name {
        "allowed.test" => both(10),
        "two.allowed.test" => both(11),
        "denied.test" => both(20),
        "two.denied.test" => both(21),
        "v4.test" => only_v4(host(30)),
        "v6.test" => Addresses {
            v4: Vec::new(),
            ..both(31)
        },
        // Public names that resolve to private addresses.
        "loopback.test" => only_v4(Ipv4Addr::LOCALHOST),
        "private.test" => only_v4(Ipv4Addr::new(10, 77, 0, 1)),
        "metadata.test" => only_v4(INTERNET.metadata),
        // Names that resolve to a public address when the mediator judges them, and to a private one afterwards:
        // `any.rebind.test`.
        name if name.ends_with(".rebind.test") => only_v4(match asked(name) {
            0 => host(10),
            _ => INTERNET.metadata,
        }),
        // Alternates between a public and a private address.
        "flips.test" => only_v4(match asked(name) % 2 {
            0 => host(10),
            _ => Ipv4Addr::LOCALHOST,
        }),
        "mixed.test" => Addresses {
            v4: vec![host(10), Ipv4Addr::LOCALHOST],
            v6: None,
        },
        "runner.test" => only_v4(RUNNER_V4),
        // Names that contain the address that they resolve to: `192-0-2-1.at.test`, `2001-db8--1.at.test`.
        name if name.ends_with(".at.test") => at(name.trim_end_matches(".at.test"))?,
        // Names with more labels: `any.thing.more.test`.
        name if name.ends_with(".more.test") => both(40),
        _ => return None,
    };
    Some(addresses)
}

/// Returns the address that a label contains, as in `192-0-2-1.at.test`.
fn at(label: &str) -> Option<Addresses> {
    let v4 = label.replace('-', ".").parse().ok();
    let v6 = label.replace('-', ":").parse().ok();
    (v4.is_some() || v6.is_some()).then(|| Addresses {
        v4: v4.into_iter().collect(),
        v6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn known_name_has_one_address() {
        let (query, reply) = answer(&question("Allowed.test", A), false, |_| 0).unwrap();
        assert_eq!(query.name, "allowed.test");
        assert_eq!(reply[..4], [0xab, 0xcd, 0x85, 0x80]);
        assert_eq!(reply[reply.len() - 4..], [198, 51, 100, 10]);
    }

    #[test]
    fn other_types_have_no_data_and_unknown_names_do_not_exist() {
        let (_, reply) = answer(&question("allowed.test", 16), false, |_| 0).unwrap();
        assert_eq!((reply[3], reply[7]), (0x80, 0));
        let (_, reply) = answer(&question("nowhere.test", A), false, |_| 0).unwrap();
        assert_eq!((reply[3], reply[7]), (0x83, 0));
    }

    #[test]
    fn rebinding_name_leads_inside_from_the_second_time_on() {
        let address = |asked| {
            let (_, reply) = answer(&question("one.rebind.test", A), false, |_| asked).unwrap();
            reply[reply.len() - 4..].to_vec()
        };
        assert_eq!(address(0), [198, 51, 100, 10]);
        assert_eq!(address(1), INTERNET.metadata.octets());
    }

    #[test]
    fn malformed_queries_get_no_answer() {
        let whole = question("allowed.test", A);
        for length in 0..whole.len() {
            assert!(answer(&whole[..length], false, |_| 0).is_none(), "{length}");
        }
    }
}
