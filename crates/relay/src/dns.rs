//! The stub resolver: answers with synthetic addresses and never sends a query upstream.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egress_policy::host::is_localhost;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::authority::Host;
use super::names::{Assigned, Names, Pair};
use super::plan::NameReport;
use super::state::Relay;

/// Seconds for which a client may cache an answer. The addresses of a name stay the same for the whole run.
const TTL: u32 = 30;

/// UDP payload size that EDNS advertises.
const PAYLOAD: u16 = 1_232;

/// Idle timeout of a TCP client between queries.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers datagrams until the future is dropped.
pub(super) async fn serve_udp(relay: &Relay, socket: &UdpSocket) {
    let mut room = [0; 4_096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut room).await else {
            // The error is usually an ICMP error for an earlier answer. The pause limits how often a persistent error
            // is read.
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let question = room.get(..length).unwrap_or_default();
        if let Some(answer) = respond(relay, question).await
            && socket.send_to(&answer, from).await.is_err()
        {
            // The client has usually closed its socket. A client that still waits repeats its query.
        }
    }
}

/// Answers the queries of one TCP connection.
pub(super) async fn serve_tcp(relay: Arc<Relay>, mut stream: TcpStream, _peer: SocketAddr) {
    let stop = relay.stopped();
    let questions = async {
        while let Ok(Some(question)) = timeout(TCP_IDLE, read_framed(&mut stream)).await {
            let Some(answer) = respond(&relay, &question).await else {
                return;
            };
            let Ok(length) = u16::try_from(answer.len()) else {
                return;
            };
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = questions => {}
        () = stop => {}
    }
}

async fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut question = vec![0; usize::from(length)];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}

async fn respond(relay: &Relay, question: &[u8]) -> Option<Vec<u8>> {
    let answered = answer(&mut relay.names(), question, relay.config.ipv6)?;
    if let Some(name) = answered.report {
        relay.reporter.name(name).await;
    }
    Some(answered.bytes)
}

/// An answer to a query, and the report of the queried name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The encoded message.
    pub bytes: Vec<u8>,
    /// The report of the name, unless the name was already reported.
    pub report: Option<NameReport>,
}

/// Answers one encoded query. The only state that it changes is the table of names.
///
/// Returns `None` if the message gets no answer, because it is a response or is too short to have an id and flags.
pub fn answer(names: &mut Names, question: &[u8], ipv6: bool) -> Option<Answered> {
    let id = u16::from_be_bytes([*question.first()?, *question.get(1)?]);
    // Answering a response could make two servers answer each other endlessly.
    if question.get(2)? & 0x80 != 0 {
        return None;
    }
    let Ok(message) = Message::from_vec(question) else {
        let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
        let report = names.note("").map(|_| unanswered("", "malformed"));
        return encode(&error).map(|bytes| Answered { bytes, report });
    };
    let mut reply = Message::new(id, MessageType::Response, message.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&message.metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.queries.clone_from(&message.queries);
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        reply.edns = Some(edns);
    }
    let (code, data, report) = match message.queries.as_slice() {
        _ if message.metadata.op_code != OpCode::Query => (ResponseCode::NotImp, None, None),
        [query] if query.query_class() == DNSClass::IN => judge(names, query, ipv6),
        [_] => (ResponseCode::Refused, None, None),
        _ => (ResponseCode::FormErr, None, None),
    };
    reply.metadata.response_code = code;
    if let (Some(data), [query]) = (data, message.queries.as_slice()) {
        reply.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
    }
    encode(&reply).map(|bytes| Answered { bytes, report })
}

/// Response code, address or name, and report for one query.
type Judged = (ResponseCode, Option<RData>, Option<NameReport>);

fn judge(names: &mut Names, query: &Query, ipv6: bool) -> Judged {
    const NO_DATA: Judged = (ResponseCode::NoError, None, None);
    const NO_NAME: Judged = (ResponseCode::NXDomain, None, None);
    let kind = query.query_type();
    if kind == RecordType::PTR {
        return match name_of(names, query.name()) {
            Some(name) => (ResponseCode::NoError, Some(RData::PTR(PTR(name))), None),
            None => NO_NAME,
        };
    }
    let Some(name) = text(query.name()) else {
        return NO_NAME;
    };
    let v4_or_v6 = |pair: Pair| {
        if kind == RecordType::A {
            Some(RData::A(A(pair.v4)))
        } else {
            (kind == RecordType::AAAA && ipv6).then_some(RData::AAAA(AAAA(pair.v6)))
        }
    };
    if is_localhost(&name) {
        let own = Pair {
            v4: Ipv4Addr::LOCALHOST,
            v6: Ipv6Addr::LOCALHOST,
        };
        return (ResponseCode::NoError, v4_or_v6(own), None);
    }
    // Only address queries assign an address, because a client connects only after an address query.
    if !matches!(kind, RecordType::A | RecordType::AAAA) {
        return NO_DATA;
    }
    match names.assign(&name) {
        Assigned::Known(pair) => (ResponseCode::NoError, v4_or_v6(pair), None),
        Assigned::New(pair) => {
            let report = NameReport {
                name,
                address: Some(IpAddr::V4(pair.v4)),
                reason: String::new(),
            };
            (ResponseCode::NoError, v4_or_v6(pair), Some(report))
        }
        Assigned::Exhausted => {
            let report = names.note(&name).map(|name| unanswered(&name, "exhausted"));
            (ResponseCode::ServFail, None, report)
        }
    }
}

fn unanswered(name: &str, reason: &str) -> NameReport {
    NameReport {
        name: name.to_owned(),
        address: None,
        reason: reason.to_owned(),
    }
}

/// Returns the name in lower case without the trailing dot, if it is a host name. Uses the raw labels, so that the
/// escaped form of an unusual byte is not taken for a name.
fn text(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        if label.contains(&b'.') {
            return None;
        }
        text.push_str(std::str::from_utf8(label).ok()?);
    }
    match Host::parse(&text) {
        Ok(Host::Name(name)) => Some(name),
        Ok(Host::Ip(_)) | Err(_) => None,
    }
}

/// Returns the name of the address in a reverse query if the address is a loopback address or a synthetic address of a
/// name.
fn name_of(names: &Names, reverse: &Name) -> Option<Name> {
    let network = reverse.parse_arpa_name().ok()?;
    if network.prefix_len() != network.max_prefix_len() {
        return None;
    }
    match names.resolve(Host::Ip(network.addr())) {
        Ok(Host::Name(name)) => Name::from_ascii(format!("{name}.")).ok(),
        Ok(Host::Ip(ip)) if ip.is_loopback() => Name::from_ascii("localhost.").ok(),
        _ => None,
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
