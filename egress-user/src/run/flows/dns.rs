//! Writes the rows about answers from name servers in audit mode. Such a row maps an address to the name that the
//! command looked up. The bytes of an answer come from the network and are not trusted.
use std::io;
use std::net::IpAddr;

use audit_packet::format::Row;
use audit_packet::format::rows::DnsAnswerRow;
use hickory_proto::op::{Message, MessageType};

use super::log::FlowLog;
use super::seen::Answer;
use crate::bpf::events::DnsAnswer;

/// Maximum number of distinct answers that get a row. Later answers are only counted.
const ROWS: usize = 10_000;
/// Maximum number of addresses that are read from one answer.
const ADDRESSES: usize = 64;
/// Size limit of a host name (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;

impl FlowLog {
    /// Writes one answer from a name server.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(super) fn dns(&mut self, answer: &DnsAnswer) -> io::Result<()> {
        *self
            .counts
            .by_verdict
            .entry(String::from("dns_answer"))
            .or_default() += 1;
        let parsed = answer.message.as_deref().and_then(parse);
        let is_known = self.answers.servers.contains(&answer.server);
        let key = (
            answer.server,
            parsed.clone().unwrap_or(Answer {
                name: String::new(),
                addresses: Vec::new(),
            }),
        );
        if self.answers.seen.len() >= ROWS || !self.answers.seen.insert(key) {
            return Ok(());
        }
        if let Some(found) = parsed.as_ref().filter(|_| is_known) {
            for address in &found.addresses {
                self.names.insert(*address, found.name.clone());
            }
        }
        let (name, addresses) = match parsed {
            Some(found) => (Some(found.name), found.addresses),
            None => (None, Vec::new()),
        };
        self.row(&Row::DnsAnswer(DnsAnswerRow {
            ts: self.wall_time(answer.ktime_ns),
            hook: "skb_ingress".into(),
            verdict: "dns_answer".into(),
            server: answer.server.to_string().into(),
            trusted: is_known,
            name: name.map(Into::into),
            addresses: addresses.iter().map(|one| one.to_string().into()).collect(),
        }))
    }
}

/// Returns the name in the only question of an answer, and the addresses in the answer. The program that sent the query
/// will connect to one of these addresses. Returns `None` if the message has another form.
fn parse(message: &[u8]) -> Option<Answer> {
    let message = Message::from_vec(message).ok()?;
    let [question] = message.queries.as_slice() else {
        return None;
    };
    if message.metadata.message_type != MessageType::Response {
        return None;
    }
    let mut name = question.name().to_ascii().to_ascii_lowercase();
    name.truncate(name.trim_end_matches('.').len());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_plain) {
        return None;
    }
    let mut addresses: Vec<IpAddr> = message
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .map(|address| address.to_canonical())
        .take(ADDRESSES)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Some(Answer { name, addresses })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;

    fn answer(names: &[&str], kind: MessageType) -> Vec<u8> {
        let mut message = Message::new(7, kind, OpCode::Query);
        for name in names {
            let name = Name::from_ascii(name).unwrap();
            message.add_query(Query::query(name, RecordType::A));
        }
        let alias = Name::from_ascii("alias.test.").unwrap();
        for data in [
            RData::CNAME(CNAME(alias.clone())),
            RData::A(A(Ipv4Addr::new(198, 51, 100, 7))),
            RData::A(A(Ipv4Addr::new(198, 51, 100, 7))),
            RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)),
        ] {
            message
                .answers
                .push(Record::from_rdata(alias.clone(), 60, data));
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn question_is_tied_to_the_addresses_of_the_answer() {
        let whole = answer(&["Api.Test."], MessageType::Response);
        let found = parse(&whole).unwrap();
        assert_eq!(found.name, "api.test");
        assert_eq!(
            found.addresses,
            [
                IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            ]
        );
        // A truncated or changed message is parsed as an answer for the same name, or not at all.
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_none_or(|found| found.name == "api.test"));
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            drop(parse(&changed));
        }
    }

    #[test]
    fn anything_else_names_nothing() {
        assert_eq!(parse(&answer(&["api.test."], MessageType::Query)), None);
        assert_eq!(parse(&answer(&[], MessageType::Response)), None);
        let two = answer(&["a.test.", "b.test."], MessageType::Response);
        assert_eq!(parse(&two), None);
        assert_eq!(parse(&answer(&["."], MessageType::Response)), None);
        let mut odd = answer(&["axb.test."], MessageType::Response);
        let at = odd.windows(3).position(|bytes| bytes == b"axb").unwrap();
        odd[at + 1] = b'\n';
        assert_eq!(parse(&odd), None);
    }
}
