//! The evidence of one session, in a form that can be changed. The receipts have no places in the chains, because they
//! are signed and chained again when the evidence is written.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use pipelock_receipts::outer::claimed_name;
use sha2::{Digest as _, Sha256};

use super::tree::Tree;

/// Position of `event_kind` among the texts that the outer chain hashes. Entries of version 1 do not have this member.
const EVENT_KIND: usize = 6;

/// The evidence of one session.
#[derive(Clone, Debug)]
pub(crate) struct Testimony {
    pub(crate) items: Vec<Item>,
}

/// One entry of the recorder. If the mediator writes each receipt in two versions, the item holds both.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// An action receipt.
    Receipt(Receipt),
    /// Any other entry.
    Other(Tree),
}

/// An action receipt.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    /// The entry that contains the receipt.
    pub(crate) entry: Tree,
    /// The signed record.
    pub(crate) record: Tree,
    /// The unsigned part, as JSON text.
    pub(crate) ext: Option<String>,
    /// The receipt of version 2 about the same decision.
    pub(crate) twin: Option<Twin>,
}

/// A receipt of version 2.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    pub(crate) entry: Tree,
    pub(crate) receipt: Tree,
    /// Number of entries between the receipt of version 1 and this one. Requests that are served at the same time write their
    /// two receipts independently of each other.
    behind: usize,
}

impl Receipt {
    /// Returns the text of the member `name` of the record.
    pub(crate) fn text(&self, name: &str) -> String {
        self.record.text(name)
    }

    /// Sets a text of the record, and the members of the twin that depend on it.
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        self.record.set(name, text);
        let name = match name {
            "pattern" => "rule_id",
            "target" | "verdict" | "transport" => name,
            _ => return,
        };
        if let Some(twin) = &mut self.twin {
            twin.set(name, text);
        }
    }

    /// Removes a text of the record.
    pub(crate) fn remove(&mut self, name: &str) {
        self.record.remove(name);
        if let Some(payload) = self.twin.as_mut().filter(|_| name == "pattern")
            && let Some(payload) = payload.receipt.at_mut(&["payload"])
        {
            payload.remove("rule_id");
        }
    }

    /// Returns whether the receipt is about an action. Other receipts are about the session.
    pub(crate) fn is_decision(&self) -> bool {
        self.record.at(&["session_control"]).is_none()
    }

    /// Sets the time of the receipt.
    pub(crate) fn set_time(&mut self, time: &str) {
        self.record.set("timestamp", time);
        self.entry.set("ts", time);
        if let Some(twin) = &mut self.twin {
            twin.receipt.set("timestamp", time);
            twin.entry.set("ts", time);
        }
    }
}

impl Twin {
    /// Sets a text of the decision.
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        if let Some(payload) = self.receipt.at_mut(&["payload"]) {
            payload.set(name, text);
        }
    }

    fn has_content_of(&self, receipt: &Receipt) -> bool {
        let payload = self.receipt.at(&["payload"]);
        payload.is_some_and(|payload| {
            ["target", "verdict", "transport"]
                .iter()
                .all(|name| payload.text(name) == receipt.text(name))
                && payload.text("rule_id") == receipt.text("pattern")
        })
    }
}

impl Testimony {
    /// Reads the evidence files of a directory, and returns their paths as well.
    pub(crate) fn read(dir: &Path) -> io::Result<(Self, Vec<PathBuf>)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(claimed) = claimed_name(&name) {
                files.push((claimed, path));
            }
        }
        files.sort();
        let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
        let texts = files.iter().map(fs::read_to_string);
        let text = texts.collect::<io::Result<Vec<_>>>()?.concat();
        let testimony = Self::of(&text).map_err(io::Error::other)?;
        Ok((testimony, files))
    }

    /// Reads the lines of evidence.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let mut testimony = Self { items: Vec::new() };
        // The place of each item among the entries that are kept.
        let mut places = Vec::new();
        let mut next = 0;
        for line in text.lines() {
            let items = testimony.items.len();
            if testimony.take(line, &places, next)? {
                if testimony.items.len() > items {
                    places.push(next);
                }
                next += 1;
            }
        }
        Ok(testimony)
    }

    /// Takes the entry of one line, whose place is `next`. Returns whether the entry is kept.
    fn take(&mut self, line: &str, places: &[usize], next: usize) -> Result<bool, String> {
        let entry = Tree::read(line)?;
        let detail = entry.at(&["detail"]).ok_or("an entry without detail")?;
        match entry.text("type").as_str() {
            "action_receipt" => {
                let record = detail.at(&["action_record"]).ok_or("no action_record")?;
                let receipt = Receipt {
                    record: record.clone(),
                    ext: detail.at(&["ext"]).map(Tree::compact),
                    entry,
                    twin: None,
                };
                self.items.push(Item::Receipt(receipt));
            }
            "evidence_receipt" => {
                let mut twin = Twin {
                    receipt: detail.clone(),
                    entry,
                    behind: 0,
                };
                // Under load, receipts about other requests may be between the version 1 receipt and its version 2
                // receipt.
                let items = self.items.iter_mut().zip(places);
                let mut receipts = items.filter_map(|(item, place)| match item {
                    Item::Receipt(receipt) => Some((receipt, place)),
                    Item::Other(_) => None,
                });
                let first = receipts.find(|(receipt, _)| {
                    receipt.is_decision() && receipt.twin.is_none() && twin.has_content_of(receipt)
                });
                let (receipt, place) = first.ok_or(
                    "a receipt of version 2 has no receipt of version 1 about the same decision",
                )?;
                twin.behind = next - place - 1;
                receipt.twin = Some(twin);
            }
            // The old checkpoint is dropped, and a new one is written at the end.
            "checkpoint" if !self.is_closed() => return Ok(false),
            _ => self.items.push(Item::Other(entry)),
        }
        Ok(true)
    }

    /// Returns whether only the end of the evidence can follow. A mediator without sessions ends its evidence with a
    /// checkpoint.
    fn is_closed(&self) -> bool {
        let has_sessions = self.receipts().any(|receipt| !receipt.is_decision());
        !has_sessions
            || self.items.iter().any(|item| match item {
                Item::Receipt(_) => false,
                Item::Other(entry) => entry.text("type") == "transcript_root",
            })
    }

    /// Returns all receipts.
    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.items.iter().filter_map(|item| match item {
            Item::Receipt(receipt) => Some(receipt),
            Item::Other(_) => None,
        })
    }

    /// Returns the receipts about actions, so that they can be changed.
    pub(crate) fn decisions_mut(&mut self) -> impl Iterator<Item = &mut Receipt> {
        self.items.iter_mut().filter_map(|item| match item {
            Item::Receipt(receipt) if receipt.is_decision() => Some(receipt),
            Item::Receipt(_) | Item::Other(_) => None,
        })
    }

    /// Removes the receipts about actions for which `keep` returns false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Receipt) -> bool) {
        self.items.retain(|item| match item {
            Item::Receipt(receipt) if receipt.is_decision() => keep(receipt),
            Item::Receipt(_) | Item::Other(_) => true,
        });
    }

    /// Adds receipts after the last receipt about an action.
    pub(crate) fn add(&mut self, receipts: Vec<Receipt>) {
        let last = self
            .items
            .iter()
            .rposition(|item| matches!(item, Item::Receipt(receipt) if receipt.is_decision()));
        let at = last.map_or(0, |last| last + 1);
        let items = receipts.into_iter().map(Item::Receipt);
        self.items.splice(at..at, items);
    }

    /// Sets the times of all entries, including session records.
    pub(crate) fn set_times(&mut self, mut time: impl FnMut(&str) -> String) {
        for item in &mut self.items {
            match item {
                Item::Receipt(receipt) => receipt.set_time(&time(&receipt.text("timestamp"))),
                Item::Other(entry) => {
                    entry.set("ts", &time(&entry.text("ts")));
                    if let Some(detail) = entry.at_mut(&["detail"])
                        && detail.at(&["start_time"]).is_some()
                    {
                        for name in ["start_time", "end_time"] {
                            detail.set(name, &time(&detail.text(name)));
                        }
                    }
                }
            }
        }
    }

    /// Signs and chains all entries again, and returns the lines of the file.
    pub(crate) fn write(self, key: &SigningKey) -> Vec<u8> {
        let mut writer = Writer {
            key,
            lines: String::new(),
            seq: 0,
            head: String::from("genesis"),
            receipts: Chain::default(),
            twins: Chain::default(),
            waiting: Vec::new(),
        };
        for item in self.items {
            match item {
                Item::Receipt(receipt) => writer.receipt(receipt),
                Item::Other(entry) => writer.other(entry),
            }
            writer.write_twins();
        }
        writer.write_all_twins();
        writer.lines.into_bytes()
    }
}

/// One chain of receipts.
#[derive(Debug, Default)]
struct Chain {
    count: u64,
    head: String,
}

impl Chain {
    /// Makes the receipt with the hash `hash` the head of the chain.
    fn grow(&mut self, hash: String) {
        self.count += 1;
        self.head = hash;
    }

    /// Sets the sequence number of a receipt, and the hash of the receipt before it. The first receipt keeps its own
    /// hash.
    fn place(&self, receipt: &mut Tree) {
        receipt.set_raw("chain_seq", &self.count.to_string());
        if self.count > 0 {
            receipt.set("chain_prev_hash", &self.head);
        }
    }
}

struct Writer<'k> {
    key: &'k SigningKey,
    lines: String,
    seq: u64,
    head: String,
    receipts: Chain,
    twins: Chain,
    /// The receipts of version 2 that were not written yet, each with the number of entries to which it comes.
    waiting: Vec<(u64, Twin)>,
}

impl Writer<'_> {
    /// Writes the receipts of version 2 whose place has come.
    fn write_twins(&mut self) {
        while let Some(at) = self.waiting.iter().position(|(seq, _)| *seq <= self.seq) {
            let (_, twin) = self.waiting.remove(at);
            self.twin(twin);
        }
    }

    /// Writes the receipts of version 2 that are left. Fewer entries than expected follow if a lie removed some.
    fn write_all_twins(&mut self) {
        for (_, twin) in std::mem::take(&mut self.waiting) {
            self.twin(twin);
        }
    }

    fn receipt(&mut self, mut receipt: Receipt) {
        if receipt.record.at(&["session_control", "close"]).is_some() {
            self.write_all_twins();
        }
        let record = &mut receipt.record;
        if self.receipts.count == 0 && record.at(&["session_control"]).is_none() {
            record.set("chain_prev_hash", "genesis");
        }
        self.receipts.place(record);
        let [head, seq] = [self.receipts.head.clone(), self.receipts.count.to_string()];
        if let Some(beat) = record.at_mut(&["session_control", "heartbeat"]) {
            beat.set("chain_head", &head);
            beat.set_raw(
                "chain_seq_head",
                &self.receipts.count.saturating_sub(1).to_string(),
            );
        }
        if let Some(close) = record.at_mut(&["session_control", "close"]) {
            close.set("root_hash", &head);
            close.set_raw("final_seq", &seq);
            close.set_raw("receipt_count", &(self.receipts.count + 1).to_string());
        }
        let text = record.compact();
        let signature = self.key.sign(&Sha256::digest(&text)).to_bytes();
        let ext = receipt
            .ext
            .map_or_else(String::new, |ext| format!(",\"ext\":{ext}"));
        let detail = format!(
            "{{\"version\":1,\"action_record\":{text},\"signature\":\"ed25519:{}\",\"signer_key\":\"{}\"{ext}}}",
            hex::encode(signature),
            hex::encode(self.key.verifying_key().to_bytes()),
        );
        self.receipts.grow(hex::encode(Sha256::digest(&detail)));
        let [verdict, action, transport] =
            ["verdict", "action_type", "transport"].map(|name| record.text(name));
        // Entries of version 1 have no member `event_kind`.
        if receipt.entry.at(&["event_kind"]).is_some() {
            receipt.entry.set("event_kind", &action);
        }
        receipt.entry.set("transport", &transport);
        let summary = format!("receipt: {verdict} {action} {transport}");
        receipt.entry.set("summary", &summary);
        self.entry(receipt.entry, detail);
        if let Some(twin) = receipt.twin {
            self.waiting.push((self.seq + twin.behind as u64, twin));
        }
    }

    fn twin(&mut self, mut twin: Twin) {
        let receipt = &mut twin.receipt;
        if self.twins.count == 0 {
            receipt.set("chain_prev_hash", "genesis");
        }
        self.twins.place(receipt);
        let signature = self.key.sign(receipt.canonical(true).as_bytes());
        let text = format!("ed25519:{}", hex::encode(signature.to_bytes()));
        if let Some(signature) = receipt.at_mut(&["signature"]) {
            signature.set("signature", &text);
        }
        let hash = Sha256::digest(receipt.canonical(false));
        self.twins.grow(hex::encode(hash));
        let payload = receipt.at(&["payload"]).cloned();
        if let Some(payload) = payload {
            let [action, verdict, source, transport] =
                ["action_type", "verdict", "winning_source", "transport"]
                    .map(|name| payload.text(name));
            let summary = format!("proxy_decision: {action} {verdict} via {source}");
            twin.entry.set("summary", &summary);
            twin.entry.set("transport", &transport);
        }
        let detail = twin.receipt.compact();
        self.entry(twin.entry, detail);
    }

    fn other(&mut self, mut entry: Tree) {
        self.write_all_twins();
        let [count, seq] = [self.receipts.count, self.seq];
        let kind = entry.text("type");
        let mut summary = entry.text("summary");
        if let Some(detail) = entry.at_mut(&["detail"]) {
            if kind == "transcript_root" {
                detail.set("root_hash", &self.receipts.head);
                detail.set_raw("final_seq", &count.saturating_sub(1).to_string());
                detail.set_raw("receipt_count", &count.to_string());
                let short: String = self.receipts.head.chars().take(16).collect();
                summary = format!("transcript_root: {count} receipts, root={short}");
            }
            if kind == "checkpoint" {
                let signature = self.key.sign(self.head.as_bytes());
                detail.set("signature", &hex::encode(signature.to_bytes()));
                let last = seq.saturating_sub(1);
                for (name, number) in [("entry_count", seq), ("first_seq", 0), ("last_seq", last)] {
                    detail.set_raw(name, &number.to_string());
                }
                summary = format!("checkpoint: {seq} entries [seq 0-{last}]");
            }
        }
        entry.set("summary", &summary);
        let detail = entry.at(&["detail"]).map(Tree::compact);
        self.entry(entry, detail.unwrap_or_default());
    }

    /// Appends `entry` with the member `detail` to the outer chain.
    fn entry(&mut self, mut entry: Tree, detail: String) {
        entry.set_raw("seq", &self.seq.to_string());
        entry.set_raw("detail", &detail);
        entry.set("prev_hash", &self.head);
        let text = |name: &str| entry.text(name);
        let version = entry.at(&["v"]).map(Tree::compact).unwrap_or_default();
        let mut parts = vec![
            version.clone(),
            self.seq.to_string(),
            text("ts"),
            text("session_id"),
            text("trace_id"),
            text("type"),
            text("event_kind"),
            text("transport"),
            text("summary"),
            detail,
            text("raw_ref"),
            self.head.clone(),
        ];
        if version == "1" {
            parts.remove(EVENT_KIND);
        }
        self.head = hex::encode(Sha256::digest(parts.join("\0")));
        entry.set("hash", &self.head);
        self.lines.push_str(&entry.compact());
        self.lines.push('\n');
        self.seq += 1;
    }
}

#[cfg(test)]
mod tests;
