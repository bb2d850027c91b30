//! The files of an honest packet, and the signatures over changed files.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use pipelock_receipts::keys::load_private;
use sha2::{Digest as _, Sha256};

use super::json::Json;

pub(super) const ATTESTATION: &str = "attestation.json";
pub(super) const BOUNDARY: &str = "boundary.json";
pub(super) const CAPSULE: &str = "posture-capsule.json";
pub(super) const EVIDENCE: &str = "evidence.jsonl";
pub(super) const FLOWS: &str = "flows.jsonl";
pub(super) const PACKET: &str = "packet.json";

/// The payload type in the attestation's envelope.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Members of a row that depend on its position in the chain.
pub(super) const OF_THE_CHAIN: [&str; 3] = ["seq", "prev_hash", "hash"];

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// An honest packet with the keys that signed it.
#[derive(Debug)]
pub struct HonestPacket {
    pub(super) files: Files,
    /// The files of another run with the same keys.
    pub(super) other_run: Files,
    /// The key of the receipts.
    pub(super) key: SigningKey,
    /// The key of the boundary.
    pub(super) boundary: SigningKey,
}

impl HonestPacket {
    /// Reads a packet and the packet of another run that is signed with the same private keys.
    ///
    /// # Errors
    /// Fails if a file or a key cannot be read.
    pub fn read(packet: &Path, other: &Path, key: &Path, boundary: &Path) -> io::Result<Self> {
        let private = |path: &Path| load_private(path).map_err(io::Error::other);
        Ok(Self {
            files: read_files(packet)?,
            other_run: read_files(other)?,
            key: private(key)?,
            boundary: private(boundary)?,
        })
    }

    /// Replaces the text `from` in one file, signs the packet again with the boundary key, and writes the packet into
    /// `dir`.
    ///
    /// # Panics
    /// Panics if the file does not contain `from`, or the packet cannot be written.
    pub fn write_edited(&self, dir: &Path, name: &str, from: &str, to: &str) {
        let mut files = self.files.clone();
        let text = String::from_utf8_lossy(files.get(name).expect("a file of the packet"));
        assert!(text.contains(from), "{from} in {name}");
        let edited = text.replacen(from, to, 1).into_bytes();
        files.insert(name.to_owned(), edited);
        let statement = self.statement().expect("the honest attestation");
        let statement = with_digests(&statement, &files);
        let signed = attestation(&statement, &self.boundary);
        files.insert(ATTESTATION.to_owned(), signed);
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).expect("write a file of the packet");
        }
    }

    /// Parses a JSON file.
    pub(super) fn json(&self, name: &str) -> Option<Json> {
        read_json(self.files.get(name)?)
    }

    /// Returns the rows of the flow log.
    pub(super) fn rows(&self) -> Vec<Json> {
        self.lines(FLOWS)
    }

    /// Parses a file in which each line is a JSON object.
    pub(super) fn lines(&self, name: &str) -> Vec<Json> {
        let text = self.files.get(name).map(Vec::as_slice).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        text.lines()
            .filter_map(|line| Json::read(line).ok())
            .collect()
    }

    /// Returns the statement of the attestation.
    pub(super) fn statement(&self) -> Option<Json> {
        let envelope = self.json(ATTESTATION)?;
        let payload = BASE64_STANDARD
            .decode(envelope.member_text("payload"))
            .ok()?;
        read_json(&payload)
    }
}

pub(super) fn read_json(bytes: &[u8]) -> Option<Json> {
    Json::read(str::from_utf8(bytes).ok()?).ok()
}

fn read_files(dir: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read(entry.path())?);
    }
    Ok(files)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Hashes and chains the rows of a flow log again.
pub(super) fn flow_log(rows: &[Json]) -> Vec<u8> {
    let mut log = String::new();
    let mut head = String::from("genesis");
    for (seq, row) in rows.iter().enumerate() {
        let mut members = vec![
            (String::from("seq"), Json::number(seq)),
            (String::from("prev_hash"), Json::string(&head)),
        ];
        if let Json::Object(own) = row {
            let own = own
                .iter()
                .filter(|(name, _)| !OF_THE_CHAIN.contains(&name.as_str()));
            members.extend(own.cloned());
        }
        let mut text = Json::Object(members).compact();
        let hashed = [head.as_bytes(), &[0], text.as_bytes()].concat();
        head = sha256(&hashed);
        text.pop();
        log.push_str(&text);
        log.push_str(&format!(",\"hash\":\"{head}\"}}\n"));
    }
    log.into_bytes()
}

/// Signs a capsule, and returns its file.
pub(super) fn signed_capsule(capsule: &Json, key: &SigningKey) -> Vec<u8> {
    let mut sorted = canonical(capsule);
    let signature = match &mut sorted {
        Json::Object(members) => {
            members.retain(|(name, _)| !matches!(name.as_str(), "signature" | "signer_key_id"));
            key.sign(Json::Object(members.clone()).compact().as_bytes())
        }
        Json::Array(_) | Json::Leaf(_) => return sorted.compact().into_bytes(),
    };
    sorted.set(
        "signature",
        Json::string(&hex::encode(signature.to_bytes())),
    );
    let signer = hex::encode(key.verifying_key().to_bytes());
    sorted.set("signer_key_id", Json::string(&signer));
    (canonical(&sorted).compact() + "\n").into_bytes()
}

/// Returns a copy of the value in which the members of every object are sorted.
fn canonical(node: &Json) -> Json {
    match node {
        Json::Leaf(raw) => Json::Leaf(raw.clone()),
        Json::Array(items) => Json::Array(items.iter().map(canonical).collect()),
        Json::Object(members) => {
            let each = members.iter();
            let mut members: Vec<_> = each
                .map(|(name, value)| (name.clone(), canonical(value)))
                .collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Json::Object(members)
        }
    }
}

/// Returns the statement with the digests of these files.
pub(super) fn with_digests(statement: &Json, files: &Files) -> Json {
    let subjects = files.iter().filter(|(name, _)| *name != ATTESTATION);
    let subject = |(name, bytes): (&String, &Vec<u8>)| {
        let digest = Json::Object(vec![(String::from("sha256"), Json::string(&sha256(bytes)))]);
        Json::Object(vec![
            (String::from("name"), Json::string(name)),
            (String::from("digest"), digest),
        ])
    };
    let mut statement = statement.clone();
    statement.set("subject", Json::Array(subjects.map(subject).collect()));
    statement
}

/// Returns the signed envelope around a statement.
pub(super) fn attestation(statement: &Json, key: &SigningKey) -> Vec<u8> {
    let payload = statement.compact();
    let message = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} {payload}",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    let signature = key.sign(message.as_bytes()).to_bytes();
    let member = |name: &str, text: &str| (name.to_owned(), Json::string(text));
    let signature = Json::Object(vec![
        member("keyid", &hex::encode(key.verifying_key().to_bytes())),
        member("sig", &BASE64_STANDARD.encode(signature)),
    ]);
    let envelope = Json::Object(vec![
        member("payload", &BASE64_STANDARD.encode(payload)),
        member("payloadType", PAYLOAD_TYPE),
        (String::from("signatures"), Json::Array(vec![signature])),
    ]);
    envelope.pretty().into_bytes()
}
