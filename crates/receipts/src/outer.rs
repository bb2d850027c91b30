//! Checks the outer hash chain and the values that all of its entries share (evidence protocol, sections 1.2 and 1.5).
use super::entry::RecorderEntry;
use super::findings::{Findings, Place, Rule};
use super::record::GENESIS;
use super::rules;

#[derive(Debug, Default)]
pub(crate) struct Outer {
    /// Recorder session of the first entry.
    pub(crate) session: Option<String>,
    started: bool,
    /// Hash of the last entry. `None` after a line that could not be read.
    head: Option<String>,
    next_seq: Option<u64>,
    writer: Option<Writer>,
}

/// The values that all entries of version 3 share. Older entries do not have these values.
#[derive(Debug, PartialEq, Eq)]
struct Writer {
    is_v3: bool,
    chain_kind: String,
    instance: String,
}

impl Outer {
    /// Checks one entry and makes it the head of the chain. The next entry is compared with the
    /// hash in the file, even if that hash is wrong, so that one edit produces one finding.
    pub(crate) fn check(
        &mut self,
        entry: &RecorderEntry<'_>,
        place: &Place,
        findings: &mut Findings,
    ) {
        let mut add = |rule: &'static Rule, expected: &str, found: &str| {
            findings.add(rule, place.clone(), expected, found);
        };
        let session = entry.text("session_id");
        match &self.session {
            None => self.session = Some(String::from(session)),
            Some(first) if first != session => add(&rules::MANY_SESSIONS, first, session),
            Some(_) => {}
        }
        let writer = Writer {
            is_v3: entry.version == 3,
            chain_kind: String::from(entry.text("chain_kind")),
            instance: String::from(entry.text("writer_instance_id")),
        };
        match &self.writer {
            None => self.writer = Some(writer),
            Some(first) if *first != writer => {
                add(&rules::ENTRY_V3, &first.instance, &writer.instance);
            }
            Some(_) => {}
        }
        let prev = entry.text("prev_hash");
        if !self.started {
            if entry.seq != 0 {
                add(
                    &rules::ENTRY_SEQ,
                    "entry 0",
                    &format!("entry {}", entry.seq),
                );
            }
            if prev != GENESIS {
                add(&rules::ENTRY_LINK, GENESIS, prev);
            }
        }
        if let Some(expected) = self.next_seq
            && expected != entry.seq
        {
            add(
                &rules::ENTRY_SEQ,
                &format!("entry {expected}"),
                &format!("entry {}", entry.seq),
            );
        }
        if let Some(head) = &self.head
            && head != prev
        {
            add(&rules::ENTRY_LINK, head, prev);
        }
        let hash = entry.text("hash");
        let computed = entry.computed_hash();
        if hash != computed {
            add(&rules::ENTRY_HASH, &computed, hash);
        }
        self.started = true;
        self.head = Some(String::from(hash));
        self.next_seq = entry.seq.checked_add(1);
    }

    /// Notes that a line could not be read, so that the next entry cannot be linked.
    pub(crate) fn lose(&mut self) {
        self.started = true;
        self.head = None;
        self.next_seq = None;
    }
}

/// Returns the session and the first sequence number in a file name `evidence-<session>-<seq>.jsonl`.
pub fn claimed_name(name: &str) -> Option<(String, u64)> {
    let (session, seq) = name
        .strip_prefix("evidence-")?
        .strip_suffix(".jsonl")?
        .rsplit_once('-')?;
    let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !session.is_empty()).then(|| Some((String::from(session), seq.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_claim_session_and_number() {
        let claimed = |session: &str, seq| Some((String::from(session), seq));
        assert_eq!(claimed_name("evidence-proxy-0.jsonl"), claimed("proxy", 0));
        assert_eq!(
            claimed_name("evidence-a-b.run.1-20.jsonl"),
            claimed("a-b.run.1", 20)
        );
        for name in [
            "evidence.jsonl",
            "evidence-proxy.jsonl",
            "evidence--0.jsonl",
            "evidence-a-x.jsonl",
        ] {
            assert_eq!(claimed_name(name), None, "{name}");
        }
    }
}
