//! The attackers that change a packet. An attacker can make the parts consistent again for which it has keys.
use audit_packet::build::{PacketInputs, build};
use audit_packet::check::read_packet;
use ed25519_dalek::SigningKey;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};

use super::change::Change;
use super::follow;
use super::packet::{
    ATTESTATION, BOUNDARY, CAPSULE, EVIDENCE, FLOWS, Files, HonestPacket, PACKET, attestation,
    flow_log, read_json, signed_capsule, with_digests,
};
use crate::liar::testimony::Testimony;

/// An attacker that may have changed a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attacker {
    /// An attacker without a key.
    Keyless,
    /// An attacker that signs everything again with its own keys.
    OwnKeys,
    /// An attacker that signs the boundary's files again with its own key. The verifier pins only the key of the
    /// receipts.
    OwnBoundaryKey,
    /// The mediator, which has the key of the receipts. An honest boundary writes everything else.
    Mediator,
    /// The boundary, which has its own key and writes everything except the receipts.
    Boundary,
}

impl Attacker {
    /// All attackers.
    pub(super) const ALL: [Self; 5] = [
        Self::Keyless,
        Self::OwnKeys,
        Self::OwnBoundaryKey,
        Self::Mediator,
        Self::Boundary,
    ];

    /// Returns the attacker's name, which is one word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Keyless => "keyless",
            Self::OwnKeys => "own_keys",
            Self::OwnBoundaryKey => "own_boundary_key",
            Self::Mediator => "mediator",
            Self::Boundary => "boundary",
        }
    }
}

/// The keys that an attacker without the real keys generates.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) key: SigningKey,
    pub(super) boundary: SigningKey,
}

impl HonestPacket {
    /// Returns the files of the packet after a change by this attacker.
    pub(super) fn forged(
        &self,
        attacker: Attacker,
        change: &Change,
        own: &Keys,
    ) -> Result<Files, String> {
        let mut files = self.files.clone();
        let mut statement = self
            .statement()
            .ok_or("the honest attestation cannot be read")?;
        let mut has_rows = false;
        let mut capsule = self.json(CAPSULE);
        match change {
            Change::Nothing | Change::Disk(..) => {}
            Change::File(name, bytes) => {
                files.insert(name.clone(), bytes.clone());
                capsule = capsule.filter(|_| name != CAPSULE);
            }
            Change::Missing(name) => {
                files.remove(name);
                capsule = capsule.filter(|_| name != CAPSULE);
            }
            Change::Document(name, json) => {
                files.insert(name.clone(), json.pretty().into_bytes());
                if name == CAPSULE {
                    capsule = Some(json.clone());
                }
            }
            Change::Statement(json) => statement = json.clone(),
            Change::Rows(rows) => {
                files.insert(FLOWS.to_owned(), flow_log(rows));
                has_rows = true;
            }
            Change::Testimony(testimony) => {
                let key = match attacker {
                    Attacker::OwnKeys => &own.key,
                    _ => &self.key,
                };
                files.insert(EVIDENCE.to_owned(), testimony.clone().write(key));
            }
        }
        let boundary = match attacker {
            Attacker::Keyless => return Ok(files),
            Attacker::OwnKeys | Attacker::OwnBoundaryKey => &own.boundary,
            Attacker::Mediator | Attacker::Boundary => &self.boundary,
        };
        if has_rows && let Some(json) = self.json(BOUNDARY) {
            let json = follow::boundary(json, &files, &self.rows());
            files.insert(BOUNDARY.to_owned(), json.pretty().into_bytes());
        }
        // An attacker with its own key also signs the capsule. The boundary signs a capsule that it changed.
        let is_changed = matches!(change, Change::Document(name, _) if name == CAPSULE);
        if (is_changed || !matches!(attacker, Attacker::Mediator | Attacker::Boundary))
            && let Some(capsule) = &capsule
        {
            files.insert(CAPSULE.to_owned(), signed_capsule(capsule, boundary));
        }
        if attacker == Attacker::OwnKeys && !matches!(change, Change::Testimony(_)) {
            let text =
                String::from_utf8_lossy(files.get(EVIDENCE).map(Vec::as_slice).unwrap_or_default())
                    .into_owned();
            if let Ok(testimony) = Testimony::of(&text) {
                files.insert(EVIDENCE.to_owned(), testimony.write(&own.key));
            }
        }
        let is_testimony = matches!(change, Change::Testimony(_));
        if is_testimony || attacker == Attacker::OwnKeys {
            let key = if attacker == Attacker::OwnKeys {
                &own.key
            } else {
                &self.key
            };
            rebuild_packet(&mut files, key);
        }
        if !matches!(change, Change::Statement(_)) {
            statement = with_digests(&statement, &files);
        }
        if !matches!(change, Change::Document(name, _) | Change::Missing(name) | Change::File(name, _) if name == ATTESTATION)
        {
            files.insert(ATTESTATION.to_owned(), attestation(&statement, boundary));
        }
        Ok(files)
    }
}

/// Builds the `packet.json` that an honest supervisor would write for this evidence.
pub(super) fn rebuild_packet(files: &mut Files, key: &SigningKey) {
    let (Some(bytes), Some(evidence)) = (files.get(PACKET), files.get(EVIDENCE)) else {
        return;
    };
    let Ok(packet) = read_packet(bytes) else {
        return;
    };
    let file = EvidenceFile {
        name: EVIDENCE,
        bytes: evidence,
    };
    let trust = Trust {
        keys: vec![key.verifying_key()],
    };
    let report = check_evidence(&[file], &trust);
    let rebuilt = build(
        PacketInputs {
            packet_id: packet.packet_id,
            generated_at: packet.generated_at,
            run: packet.run,
            config_path: packet.policy.config_path,
            runtime_config_path: packet.policy.runtime_config_path,
            config_snapshot_sha256: packet.policy.config_snapshot_sha256,
            scanner_config_snapshot: packet.scanner_config_snapshot,
            posture: packet.posture,
        },
        &report,
    );
    if let Ok(text) = rebuilt.to_json()
        && read_json(text.as_bytes()).is_some()
    {
        files.insert(PACKET.to_owned(), text.into_bytes());
    }
}
