//! Reads Pipelock's evidence during the run, to find its `session_open` and to count its receipts, and checks the free
//! space on the disk. This module does not verify signatures. The supervisor verifies the evidence at the end of the
//! run.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use pipelock_receipts::record::Posture;
use serde::Deserialize;

/// Free space below which a file system counts as full, so that the end of the run can still be recorded.
const ROOM_BYTES: u64 = 1 << 20;
/// Maximum number of bytes of one file per read. The rest is read later.
const PORTION_BYTES: u64 = 64 << 20;
/// Transports whose allowed actions leave a receipt when they end.
const TRANSPORTS: [&str; 5] = ["connect", "fetch", "forward", "intercept", "websocket"];

/// Returns the evidence files of all sessions, ordered by the number of their first entry.
///
/// # Errors
/// Fails if the directory or the type of an entry cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let name = name.strip_prefix("evidence-")?.strip_suffix(".jsonl")?;
            name.rsplit('-').next()?.parse::<u64>().ok()
        });
        if let Some(number) = number
            && entry.file_type()?.is_file()
        {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// Returns whether the file system of `dir` has so little free space that evidence could get lost.
///
/// # Errors
/// Fails if `statvfs(3)` fails, for example because `dir` does not exist.
pub(super) fn is_full(dir: &Path) -> io::Result<bool> {
    let stat = statvfs(dir)?;
    Ok(stat.blocks_available() * stat.fragment_size() < ROOM_BYTES)
}

/// The members of an evidence line that are read.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    detail: Option<Detail>,
}

#[derive(Debug, Deserialize)]
struct Detail {
    #[serde(default)]
    action_record: Option<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    transport: String,
    #[serde(default)]
    layer: String,
    #[serde(default)]
    decision_phase: String,
    #[serde(default)]
    session_control: Option<Control>,
}

#[derive(Debug, Deserialize)]
struct Control {
    #[serde(default)]
    open: Option<Open>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Open {
    posture_capsule_sha256: String,
    posture_signer_key_id: String,
    containment_nonce: String,
    contained_uid: String,
}

/// Counts over the evidence that was read so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Number of bytes that were read from each file.
    read: BTreeMap<PathBuf, u64>,
    /// Number of intents without an outcome.
    pub(super) open: i64,
    /// Whether actions have an intent and an outcome.
    phased: bool,
    /// Number of allowed actions that have ended.
    pub(super) allowed: u64,
    /// Number of receipts of decisions in version 1.
    decisions: u64,
    /// Number of the same receipts in version 2, if this Pipelock writes them.
    twins: u64,
    /// Type of the last whole line.
    pub(super) last: Option<String>,
    /// Number of whole lines in the last file.
    pub(super) in_last_file: u64,
    /// Posture that the first `session_open` binds, if there is one.
    pub(super) bound: Option<Posture>,
}

impl Tally {
    /// Reads the lines that were added since the last call.
    pub(super) fn read_on(&mut self, dir: &Path) -> io::Result<()> {
        for path in files(dir)? {
            let from = self.read.get(&path).copied().unwrap_or_default();
            let mut file = File::options()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            if from == 0 {
                self.in_last_file = 0;
            }
            let mut text = Vec::new();
            file.take(PORTION_BYTES).read_to_end(&mut text)?;
            let whole = text
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            for line in text
                .get(..whole)
                .unwrap_or_default()
                .split(|byte| *byte == b'\n')
            {
                self.take(line);
            }
            let read = from + u64::try_from(whole).unwrap_or_default();
            self.read.insert(path, read);
        }
        Ok(())
    }

    /// Returns the number of decisions whose receipt in version 2 is missing.
    pub(super) fn missing_twins(&self) -> u64 {
        match self.twins {
            0 => 0,
            twins => self.decisions.saturating_sub(twins),
        }
    }

    fn take(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        self.in_last_file += 1;
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            self.last = None;
            return;
        };
        let record = line.detail.and_then(|detail| detail.action_record);
        let is_receipt = line.kind == "action_receipt";
        self.twins += u64::from(line.kind == "evidence_receipt");
        self.last = Some(line.kind);
        let Some(record) = record.filter(|_| is_receipt) else {
            return;
        };
        self.decisions += u64::from(record.session_control.is_none());
        if let Some(open) = record.session_control.and_then(|control| control.open)
            && self.bound.is_none()
        {
            self.bound = Some(Posture {
                capsule_sha256: open.posture_capsule_sha256,
                signer_key_id: open.posture_signer_key_id,
                containment_nonce: open.containment_nonce,
                contained_uid: open.contained_uid,
            });
        }
        self.phased |= record.decision_phase == "intent";
        // In a Pipelock without phases, the last receipt of an allowed WebSocket that lost a frame is a block.
        let is_cut = !self.phased && record.layer == "session_close";
        let was_allowed = record.verdict == "allow" || is_cut;
        if !was_allowed || !TRANSPORTS.contains(&record.transport.as_str()) {
            return;
        }
        match record.decision_phase.as_str() {
            "intent" => self.open += 1,
            "outcome" => {
                self.open -= 1;
                self.allowed += 1;
            }
            _ => self.allowed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_in_numeric_order_and_read_on_where_they_were_left() {
        let dir = tempfile::tempdir().unwrap();
        let receipt = |phase: &str| {
            format!(
                "{{\"type\":\"action_receipt\",\"detail\":{{\"action_record\":\
                 {{\"verdict\":\"allow\",\"transport\":\"connect\",\"decision_phase\":\"{phase}\"}}}}}}\n"
            )
        };
        fs::write(
            dir.path().join("evidence-proxy.run.ab-9.jsonl"),
            receipt("intent"),
        )
        .unwrap();
        fs::write(
            dir.path().join("evidence-proxy.run.ab-10.jsonl"),
            receipt(""),
        )
        .unwrap();
        fs::write(dir.path().join("evidence-proxy.jsonl.tmp"), "{").unwrap();
        let names: Vec<_> = files(dir.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "evidence-proxy.run.ab-9.jsonl",
                "evidence-proxy.run.ab-10.jsonl"
            ]
        );
        let mut tally = Tally::default();
        tally.read_on(dir.path()).unwrap();
        assert_eq!((tally.open, tally.allowed), (1, 1));
        assert_eq!(tally.in_last_file, 1);
        assert_eq!(tally.missing_twins(), 0);
        let more = receipt("outcome")
            + "{\"type\":\"evidence_receipt\"}\n{\"type\":\"checkpoint\"}\n{\"half\":";
        let last = dir.path().join("evidence-proxy.run.ab-10.jsonl");
        fs::write(last, receipt("") + &more).unwrap();
        tally.read_on(dir.path()).unwrap();
        assert_eq!((tally.open, tally.allowed), (0, 2));
        assert_eq!(tally.in_last_file, 4);
        assert_eq!(tally.missing_twins(), 2);
        assert_eq!(tally.last.as_deref(), Some("checkpoint"));
    }
}
