//! Writes packets with a forged identity in which no file contradicts another.
use std::fs;
use std::path::Path;

use egress::cli::verify::{VerifyArgs, verify};
use pipelock_receipts::json::{MAX_DEPTH, parse_bytes};
use pipelock_receipts::keys::generate;
use pipelock_receipts::session::computed_genesis;

use super::attacker::rebuild_packet;
use super::json::Json;
use super::judge::with_pages;
use super::packet::{
    ATTESTATION, BOUNDARY, CAPSULE, EVIDENCE, Files, HonestPacket, attestation, read_json, sha256,
    signed_capsule, with_digests,
};
use crate::liar::testimony::{Item, Testimony};

const IDENTITY: &str = "identity.json";
/// The members of `session_open` that bind a capsule.
const BINDING: [&str; 4] = [
    "posture_capsule_sha256",
    "posture_signer_key_id",
    "containment_nonce",
    "contained_uid",
];

/// The receipts of a packet with a forged identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// The attacker signed the receipts as well, with its own key.
    Forged,
    /// The mediator signed the receipts, but they do not bind the capsule, like receipts of a Pipelock before 3.1.
    Unbound,
}

impl HonestPacket {
    /// Replaces a text in `identity.json`, and writes the packet into `dir`. All signatures that depend on this file
    /// are made again with keys that are not pinned.
    ///
    /// # Panics
    /// Panics if `identity.json` does not contain the text `from`, or the packet is malformed.
    pub fn write_forged_identity(&self, dir: &Path, from: &str, to: &str, receipts: Receipts) {
        let [key, boundary] = [(); 2].map(|()| generate().expect("a key"));
        let mut files = self.files.clone();
        let text = String::from_utf8_lossy(files.get(IDENTITY).expect("an identity"));
        assert!(text.contains(from), "{from} in {text}");
        let identity = text.replacen(from, to, 1).into_bytes();
        let mut capsule = self.json(CAPSULE).expect("a capsule");
        let mut evidence = capsule.member("evidence").expect("evidence").clone();
        let mut launch = evidence.member("contain_launch").expect("a launch").clone();
        launch.set("env_sha256", Json::string(&sha256(&identity)));
        evidence.set("contain_launch", launch);
        capsule.set("evidence", evidence);
        files.insert(IDENTITY.to_owned(), identity);
        let capsule = signed_capsule(&capsule, &boundary);

        let signer = match receipts {
            Receipts::Forged => &key,
            Receipts::Unbound => &self.key,
        };
        let text = String::from_utf8_lossy(files.get(EVIDENCE).expect("evidence"));
        let mut testimony = Testimony::of(&text).expect("evidence");
        let bound = match receipts {
            Receipts::Forged => Some(binding(&capsule)),
            Receipts::Unbound => None,
        };
        let epoch = hex::encode(signer.verifying_key().to_bytes());
        bind(&mut testimony, bound.as_ref(), &epoch);
        files.insert(EVIDENCE.to_owned(), testimony.write(signer));
        files.insert(CAPSULE.to_owned(), capsule);
        let mut document = self.json(BOUNDARY).expect("measurements");
        let mut stated = document.member("attestation").expect("a key").clone();
        let public = hex::encode(boundary.verifying_key().to_bytes());
        stated.set("key", Json::string(&public));
        document.set("attestation", stated);
        files.insert(BOUNDARY.to_owned(), document.pretty().into_bytes());
        rebuild_packet(&mut files, signer);

        let mut statement = self.statement().expect("an attestation");
        if receipts == Receipts::Unbound {
            let mut predicate = statement.member("predicate").expect("a predicate").clone();
            predicate.set("grade", Json::string("kernel_observed"));
            statement.set("predicate", predicate);
        }
        let sign = |files: &mut Files| {
            let signed = attestation(&with_digests(&statement, files), &boundary);
            files.insert(ATTESTATION.to_owned(), signed);
        };
        sign(&mut files);
        write(dir, &files);
        let outcome = verify(&VerifyArgs {
            path: dir.to_owned(),
            ..VerifyArgs::default()
        });
        let mut files = with_pages(&outcome.expect("a packet"), &files).expect("pages");
        sign(&mut files);
        write(dir, &files);
    }
}

fn write(dir: &Path, files: &Files) {
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).expect("write a file of the packet");
    }
}

/// Returns the values of [`BINDING`] for a capsule.
fn binding(capsule: &[u8]) -> [String; 4] {
    let json = read_json(capsule).expect("a capsule");
    let canonical = capsule.strip_suffix(b"\n").unwrap_or(capsule);
    let evidence = json.member("evidence").expect("evidence");
    let containment = evidence.member("containment").expect("a containment");
    [
        sha256(canonical),
        json.member_text("signer_key_id"),
        json.member_text("signature"),
        containment.member_text("target_uid"),
    ]
}

/// Makes `session_open` bind the capsule with these `values`, or no capsule.
fn bind(testimony: &mut Testimony, values: Option<&[String; 4]>, signer: &str) {
    let mut receipts = testimony.items.iter_mut().filter_map(|item| match item {
        Item::Receipt(receipt) => Some(receipt),
        Item::Other(_) => None,
    });
    let first = receipts.next().expect("a receipt");
    let open = first.record.at_mut(&["session_control", "open"]);
    let open = open.expect("a session_open");
    for (at, name) in BINDING.into_iter().enumerate() {
        match values.and_then(|values| values.get(at)) {
            Some(value) => open.set(name, value),
            None => open.remove(name),
        }
    }
    open.set("signer_key_epoch", signer);
    let text = open.compact();
    let node = parse_bytes(text.as_bytes(), MAX_DEPTH).expect("a session_open");
    let hash = computed_genesis(&node);
    open.set("genesis_hash", &hash);
    first.record.set("chain_prev_hash", &hash);
}
