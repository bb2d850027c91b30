//! `egress verify` on files that are too large to read, and on a directory that changes during the check.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::{Chain, SESSION, chain, write_packet};
use audit_packet::attest::{self, Predicate};
use audit_packet::stream::FileDigest;
use audit_packet::{
    ATTESTATION_FILE, CHANGES_FILE, EVIDENCE_FILE, FLOWS_FILE, PACKET_FILE, PACKET_FILES,
    POLICY_FILE, REPORT_FILE, SUMMARY_FILE, VERIFIER_FILE,
};
use ed25519_dalek::SigningKey;
use egress::cli::exit;
use egress::cli::verify::{self, VerifyArgs, VerifyError, VerifyOutcome, status};
use pipelock_receipts::keys;

/// Time limit of a verification. This time is too short to read a gigabyte.
const SOON: Duration = Duration::from_secs(2);

/// A packet with an attestation, and the keys that signed it.
struct Packet {
    directory: tempfile::TempDir,
    chain: Chain,
    boundary: SigningKey,
}

impl Packet {
    /// Builds a packet with or without file sizes in its attestation.
    fn new(with_sizes: bool) -> Self {
        let packet = Self {
            directory: tempfile::tempdir().unwrap(),
            chain: chain(20, 0),
            boundary: keys::generate().unwrap(),
        };
        write_packet(packet.path(), &packet.chain);
        for name in [REPORT_FILE, CHANGES_FILE] {
            fs::write(packet.path().join(name), "[]").unwrap();
        }
        let files: Vec<FileDigest> = PACKET_FILES
            .iter()
            .filter_map(|name| {
                let bytes = fs::read(packet.path().join(name)).ok()?;
                let digest = FileDigest::of(name, &bytes);
                let size = digest.size.filter(|_| with_sizes);
                Some(FileDigest { size, ..digest })
            })
            .collect();
        let attestation = attest::sign(&files, Predicate::default(), &packet.boundary).unwrap();
        fs::write(packet.path().join(ATTESTATION_FILE), attestation).unwrap();
        packet
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn args(&self, pins_boundary: bool) -> VerifyArgs {
        let key = hex::encode(self.boundary.verifying_key().to_bytes());
        VerifyArgs {
            path: self.path().to_owned(),
            keys: vec![self.chain.key_hex()],
            boundary_keys: if pins_boundary { vec![key] } else { Vec::new() },
            ..VerifyArgs::default()
        }
    }

    /// Returns the broken rules about the attestation, and the broken rules about the evidence.
    fn check(&self, pins_boundary: bool) -> Result<Vec<&'static str>, VerifyError> {
        let outcome = verify::verify(&self.args(pins_boundary))?;
        Ok(rules(&outcome))
    }
}

fn rules(outcome: &VerifyOutcome) -> Vec<&'static str> {
    // These two rules are always broken: the test packets have no boundary documents, and their receipts bind a key
    // that signed nothing.
    let always = ["attestation.predicate", "attestation.signer"];
    let rules = outcome.findings.iter().map(|finding| finding.rule.id);
    rules.filter(|rule| !always.contains(rule)).collect()
}

/// Makes a file longer without writing data, so it takes no space on the disk.
fn stretch(path: &Path, length: u64) {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.set_len(length).unwrap();
}

/// Claims: verify-streams*
#[test]
fn file_of_terabytes_is_refused_at_once() {
    for (with_sizes, pins_boundary) in [(true, true), (true, false), (false, true), (false, false)]
    {
        let packet = Packet::new(with_sizes);
        assert_eq!(packet.check(pins_boundary).unwrap(), Vec::<&str>::new());
        for name in [
            EVIDENCE_FILE,
            CHANGES_FILE,
            FLOWS_FILE,
            PACKET_FILE,
            POLICY_FILE,
            REPORT_FILE,
            SUMMARY_FILE,
            VERIFIER_FILE,
            ATTESTATION_FILE,
            "extra",
        ] {
            let path = packet.path().join(name);
            let own = fs::read(&path).ok();
            for length in [40_u64 << 30, 8 << 40] {
                stretch(&path, length);
                let start = Instant::now();
                let checked = packet.check(pins_boundary);
                let took = start.elapsed();
                assert!(took < SOON, "{name} of {length} bytes: {took:?}");
                assert!(checked.map_or(true, |rules| !rules.is_empty()), "{name}");
            }
            match own {
                Some(own) => fs::write(&path, own).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
        }
        assert_eq!(packet.check(pins_boundary).unwrap(), Vec::<&str>::new());
    }
}

#[test]
fn file_longer_than_was_signed_is_not_read() {
    let packet = Packet::new(true);
    let earlier = Packet::new(false);
    for name in [EVIDENCE_FILE, FLOWS_FILE, REPORT_FILE] {
        for packet in [&packet, &earlier] {
            let mut file = File::options()
                .append(true)
                .open(packet.path().join(name))
                .unwrap();
            file.write_all(b"\n").unwrap();
        }
        // Without a stated size, the verifier reads the whole file before it can reject it.
        let told = |packet: &Packet| {
            let outcome = verify::verify(&packet.args(true)).unwrap();
            let found = outcome.findings.iter().map(|finding| finding.found.clone());
            found.collect::<Vec<_>>().join("\n")
        };
        assert!(told(&packet).contains("larger than"), "{name}");
        assert!(!told(&earlier).contains("larger than"), "{name}");
        assert_ne!(earlier.check(true).unwrap(), Vec::<&str>::new(), "{name}");
    }
}

/// Claims: verify-reads-once, add-packet-file
#[test]
fn file_that_is_not_named_is_not_opened() {
    let packet = Packet::new(true);
    let extra = packet.path().join("extra");
    // Opening this FIFO would wait for a writer forever.
    nix::unistd::mkfifo(&extra, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(packet.check(true).unwrap(), ["attestation.extra"]);
    fs::remove_file(&extra).unwrap();
    assert_eq!(packet.check(true).unwrap(), Vec::<&str>::new());
}

#[test]
fn evidence_without_end_and_evidence_of_errors_end_soon() {
    let directory = tempfile::tempdir().unwrap();
    let chain = chain(20, 0);
    let path = directory.path().join(format!("evidence-{SESSION}-0.jsonl"));
    let check = |path: &Path| {
        let args = VerifyArgs {
            path: path.to_owned(),
            keys: vec![chain.key_hex()],
            ..VerifyArgs::default()
        };
        let start = Instant::now();
        let outcome = verify::verify(&args).unwrap();
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        (status(&outcome, &args), rules(&outcome))
    };
    fs::write(&path, chain.bytes()).unwrap();
    for path in [&path, directory.path()] {
        assert_eq!(check(path), (exit::SUCCESS, Vec::new()));
    }
    stretch(&path, 8 << 40);
    for path in [&path, directory.path()] {
        let (status, rules) = check(path);
        assert_eq!(status, exit::INVALID);
        assert_eq!(rules, ["line.long", "evidence.stopped"]);
    }
    fs::write(&path, "{}\n".repeat(30 << 20)).unwrap();
    let (status, rules) = check(&path);
    assert_eq!(status, exit::INVALID);
    assert!(rules.contains(&"evidence.stopped"), "{rules:?}");
}

/// Claims: verify-reads-once*
#[test]
fn what_is_judged_is_what_is_hashed() {
    let packet = Packet::new(true);
    let path = packet.path().join(PACKET_FILE);
    let honest = fs::read(&path).unwrap();
    let text = String::from_utf8(honest.clone()).unwrap();
    let forged = text.replace("\"ci-agent\"", "\"ci-Agent\"").into_bytes();
    assert_eq!((honest.len(), honest == forged), (forged.len(), false));
    let forged_path = packet.path().with_extension("forged");
    let honest_path = packet.path().with_extension("honest");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while !is_over.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(150) {
                for (bytes, beside) in [(&forged, &forged_path), (&honest, &honest_path)] {
                    fs::write(beside, bytes).unwrap();
                    fs::rename(beside, &path).unwrap();
                }
            }
        });
        let mut swapped_between_two_reads = 0;
        let mut judged_forged = 0;
        let start = Instant::now();
        let mut rounds = 0;
        // On a busy machine, the writer may need some time.
        while rounds < 100 || judged_forged == 0 || swapped_between_two_reads == 0 {
            rounds += 1;
            assert!(
                start.elapsed() < Duration::from_mins(2),
                "the writer never wrote"
            );
            // The control: a program that reads the file twice gets two different contents.
            let first = fs::read(&path).unwrap();
            thread::sleep(Duration::from_millis(1));
            let second = fs::read(&path).unwrap();
            swapped_between_two_reads += u32::from(first == forged && second == honest);
            let outcome = verify::verify(&packet.args(true)).unwrap();
            let is_forged = outcome
                .packet
                .as_ref()
                .is_some_and(|packet| packet.run.agent_identity == "ci-Agent");
            let is_attested = !rules(&outcome).contains(&"attestation.digest");
            assert_eq!(is_forged, !is_attested);
            judged_forged += u32::from(is_forged);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Claims: verify-log-first
#[test]
fn rows_of_another_flow_log_than_the_attested_one_are_not_read() {
    let packet = Packet::new(true);
    let path = packet.path().join(FLOWS_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let edited = text.replace("start", "stop!");
    assert_ne!(edited, text);
    fs::write(&path, edited).unwrap();
    assert_eq!(packet.check(true).unwrap(), ["attestation.digest"]);
    // The control: without a stated hash, the rows are read, and their chain is broken.
    fs::remove_file(packet.path().join(ATTESTATION_FILE)).unwrap();
    assert_eq!(packet.check(false).unwrap(), ["flows.hash"]);
}
