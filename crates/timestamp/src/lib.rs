//! `timestamp.tsr`: the reply of a time stamp authority (RFC 3161) over the SHA-256 of `attestation.json`.
//!
//! The attestation cannot name this file, because the time stamp in the reply covers the attestation. The caller sends
//! the request, reads the reply, and names the authorities. Revocation lists are not checked.
#![forbid(unsafe_code)]
#![deny(clippy::as_conversions, clippy::arithmetic_side_effects)]

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Tag, Tagged};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339};
use x509_cert::spki::AlgorithmIdentifierRef;

use self::asn1::{Imprint, Reply, Request, SignedData, TstInfo};

mod algorithms;
mod asn1;
mod problem;
mod roots;
pub mod rules;
mod signer;

pub use problem::Problem;
pub use roots::Roots;

/// Size limit of a reply.
pub const MOST_BYTES: u64 = 64 << 10;
/// How far the clocks of the runner and the authority may differ.
const CLOCKS_APART: time::Duration = time::Duration::minutes(10);

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// The statuses `granted` and `grantedWithMods`.
const GRANTED: [u8; 2] = [0, 1];

/// The content of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Time of the token by the authority's clock. The attestation existed at this time.
    pub time: OffsetDateTime,
    /// Name in the certificate of the signer.
    pub authority: String,
    /// Whether the certificate of the signer leads to one of the caller's roots.
    pub is_trusted: bool,
}

impl Stamp {
    /// Returns the time as RFC 3339.
    pub fn time_text(&self) -> String {
        let text = self.time.format(&Rfc3339);
        text.unwrap_or_else(|_| self.time.unix_timestamp().to_string())
    }
}

/// Builds a request for a token over `attestation` that includes the certificate of the token's signer.
///
/// # Errors
/// Fails if `nonce` is too long for an integer.
pub fn request(attestation: &[u8], nonce: &[u8]) -> Result<Vec<u8>, String> {
    let digest = Sha256::digest(attestation);
    let write = || {
        Request {
            version: 1,
            imprint: Imprint {
                algorithm: AlgorithmIdentifierRef {
                    oid: signer::SHA256,
                    parameters: Some(AnyRef::NULL),
                },
                digest: OctetStringRef::new(&digest)?,
            },
            nonce: UintRef::new(nonce)?,
            wants_certificate: true,
        }
        .to_der()
    };
    write().map_err(|error| error.to_string())
}

/// Checks that a reply is a valid time stamp of `attestation`. Checks the status, the imprint, the signature, and the
/// purpose of the signer's certificate, and also the nonce if `nonce` is given. If `roots` are given, the certificate
/// must also lead to one of them at the time in the token.
///
/// # Errors
/// Returns a [`Problem`] for the first check that fails.
pub fn check(
    reply: &[u8],
    attestation: &[u8],
    nonce: Option<&[u8]>,
    roots: Option<&Roots>,
) -> Result<Stamp, Problem> {
    let length = u64::try_from(reply.len()).unwrap_or(u64::MAX);
    if length > MOST_BYTES {
        let expected = format!("at most {MOST_BYTES} bytes");
        return Err(Problem::new(
            &rules::FORM,
            &expected,
            format!("{length} bytes"),
        ));
    }
    let reply = Reply::from_der(reply).map_err(form)?;
    let signed = granted(&reply)?;
    let content = signed.content.content.as_bytes();
    let token = TstInfo::from_der(content).map_err(form)?;
    let time = check_token(&token)?;
    let digest = Sha256::digest(attestation);
    let imprint = &token.imprint;
    if imprint.algorithm.oid != signer::SHA256 || imprint.digest.as_bytes() != digest.as_slice() {
        let found = hex::encode(imprint.digest.as_bytes());
        return Err(Problem::new(&rules::IMPRINT, &hex::encode(digest), found));
    }
    if let Some(nonce) = nonce {
        let wanted = UintRef::new(nonce).map_err(form)?;
        if token.nonce != Some(wanted) {
            let found = token.nonce.map_or_else(
                || String::from("no nonce"),
                |nonce| hex::encode(nonce.as_bytes()),
            );
            return Err(Problem::new(&rules::NONCE, &hex::encode(nonce), found));
        }
    }
    let signer = signer::verify(signed, TST_INFO, roots)?;
    signer.check_purpose()?;
    if let Some(roots) = roots {
        let seconds = u64::try_from(time.unix_timestamp()).map_err(|_before| {
            Problem::new(&rules::FORM, "a time after 1970", "an earlier time")
        })?;
        signer.check_chain(signed, seconds, roots)?;
    }
    Ok(Stamp {
        time,
        authority: signer.subject(),
        is_trusted: roots.is_some(),
    })
}

/// Checks that the time of a token is consistent with the times of the packet, in RFC 3339. egress requests a token
/// when the packet has been `made`, right after the run was `completed`.
///
/// # Errors
/// Fails if the times are inconsistent, or if one of them cannot be read.
pub fn check_times(stamp: &Stamp, completed: &str, made: &str) -> Result<(), Problem> {
    let read = |text: &str| {
        OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_not_a_time| Problem::new(&rules::TIME, "a valid time in the packet", text))
    };
    let from = read(completed)?.checked_sub(CLOCKS_APART);
    let to = read(made)?.checked_add(CLOCKS_APART);
    let is_early = from.is_none_or(|from| stamp.time < from);
    let is_late = to.is_none_or(|to| stamp.time > to);
    if is_early || is_late {
        let expected = format!("from {completed} to {made}, with a tolerance of 10 minutes");
        return Err(Problem::new(&rules::TIME, &expected, stamp.time_text()));
    }
    Ok(())
}

fn granted<'a, 'b>(reply: &'b Reply<'a>) -> Result<&'b SignedData<'a>, Problem> {
    let status = &reply.status;
    if !GRANTED.contains(&status.code) {
        let texts = status.texts.iter().flatten();
        let texts: Vec<_> = texts
            .map(|text| String::from_utf8_lossy(text.value()))
            .collect();
        let found = format!("status {}: {}", status.code, texts.join(" "));
        return Err(Problem::new(&rules::STATUS, "status 0 or 1", found));
    }
    let Some(token) = &reply.token else {
        return Err(Problem::new(
            &rules::FORM,
            "a token",
            "a status without a token",
        ));
    };
    if token.content_type != SIGNED_DATA || token.content.content.content_type != TST_INFO {
        let found = token.content.content.content_type.to_string();
        return Err(Problem::new(&rules::FORM, "a signed TSTInfo", found));
    }
    Ok(&token.content)
}

/// Checks the fixed parts of a token and reads its time.
fn check_token(token: &TstInfo<'_>) -> Result<OffsetDateTime, Problem> {
    if token.version != 1 {
        let found = token.version.to_string();
        return Err(Problem::new(&rules::FORM, "version 1", found));
    }
    let extensions = token.extensions.iter().flatten();
    if let Some(unknown) = extensions.into_iter().find(|extension| extension.critical) {
        let found = unknown.extn_id.to_string();
        return Err(Problem::new(&rules::FORM, "no critical extension", found));
    }
    generalized_time(&token.time).ok_or_else(|| {
        let found = String::from_utf8_lossy(token.time.value());
        Problem::new(&rules::FORM, "a time in UTC", found)
    })
}

/// Reads `YYYYMMDDhhmmss[.s…]Z`. Unlike RFC 5280, RFC 3161 allows a fraction of a second.
fn generalized_time(value: &AnyRef<'_>) -> Option<OffsetDateTime> {
    const SECONDS: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year][month][day][hour][minute][second]");
    if value.tag() != Tag::GeneralizedTime {
        return None;
    }
    let text = std::str::from_utf8(value.value()).ok()?.strip_suffix('Z')?;
    let (seconds, fraction) = match text.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction),
        None => (text, "0"),
    };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: String = fraction.chars().chain("00000000".chars()).take(9).collect();
    let time = PrimitiveDateTime::parse(seconds, SECONDS)
        .ok()?
        .assume_utc();
    time.replace_nanosecond(nanoseconds.parse().ok()?).ok()
}

fn form(error: der::Error) -> Problem {
    Problem::new(&rules::FORM, "an RFC 3161 reply", error.to_string())
}
