//! Checks the signer of a time stamp: the signature over the token, the signer's certificate, and its chain to a root.
use std::time::Duration;

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Tag, Tagged};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use webpki::{EndEntityCert, KeyUsage as Purpose, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier};
use x509_cert::spki::AlgorithmIdentifierRef;

use super::asn1::{Attribute, IssuerAndSerial, SignedData, SignerInfo, SigningCertificate};
use super::problem::Problem;
use super::roots::Roots;
use super::{algorithms, rules};

const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
pub(super) const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The value of [`TIME_STAMPING`] in the form that webpki compares.
const TIME_STAMPING_DER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// The signer of a token with a valid signature.
pub(super) struct Signer {
    der: CertificateDer<'static>,
    certificate: Certificate,
}

/// Checks the signature of `signed` over its content, and finds the certificate of the signer.
pub(super) fn verify(
    signed: &SignedData<'_>,
    content_type: ObjectIdentifier,
    roots: Option<&Roots>,
) -> Result<Signer, Problem> {
    let form = |error: der::Error| Problem::new(&rules::FORM, "a signed token", error.to_string());
    let [signer] = signed.signers.as_slice() else {
        let found = format!("{} signatures", signed.signers.len());
        return Err(Problem::new(&rules::FORM, "one signature", found));
    };
    let signer: SignerInfo<'_> = signer.decode_as().map_err(form)?;
    let attributes = Attributes::read(&signer).map_err(form)?;
    let stated: Option<ObjectIdentifier> = attributes
        .one(CONTENT_TYPE)
        .and_then(|value| value.decode_as().ok());
    if stated != Some(content_type) {
        let expected = format!("signed content type {content_type}");
        let found = stated.map_or_else(
            || String::from("no signed content type"),
            |kind| format!("signed content type {kind}"),
        );
        return Err(Problem::new(&rules::SIGNATURE, &expected, found));
    }
    let content = signed.content.content.as_bytes();
    let digest = digest(signer.digest_algorithm.oid, content)
        .filter(|_| signer.digest_algorithm.oid != SHA1)
        .ok_or_else(|| unsupported(&signer.digest_algorithm))?;
    let stated: Option<&OctetStringRef> = attributes
        .one(MESSAGE_DIGEST)
        .and_then(|value| value.decode_as().ok());
    let stated = stated.map(OctetStringRef::as_bytes);
    if stated != Some(digest.as_slice()) {
        let expected = format!("signed digest {}", hex::encode(digest));
        let found = stated.map_or_else(
            || String::from("no signed digest"),
            |stated| format!("signed digest {}", hex::encode(stated)),
        );
        return Err(Problem::new(&rules::SIGNATURE, &expected, found));
    }
    let found = find(signed, &attributes, roots)?;
    if !found.is_named_by(&signer.signer) {
        return Err(Problem::new(
            &rules::SIGNER,
            "the certificate that the signature names",
            found.subject(),
        ));
    }
    let message = signer.signed_attributes.to_der().map_err(form)?;
    let end_entity = EndEntityCert::try_from(&found.der)
        .map_err(|error| Problem::new(&rules::SIGNER, "a certificate", error.to_string()))?;
    let signature = signer.signature.as_bytes();
    let algorithm = &signer.signature_algorithm;
    let holds = algorithms::of(algorithm.oid, signer.digest_algorithm.oid)
        .ok_or_else(|| unsupported(algorithm))?
        .iter()
        .any(|one| {
            end_entity
                .verify_signature(*one, &message, signature)
                .is_ok()
        });
    if holds {
        Ok(found)
    } else {
        Err(Problem::new(
            &rules::SIGNATURE,
            "a signature by the key of the certificate",
            "a signature that this key did not make",
        ))
    }
}

impl Signer {
    fn read(der: &[u8]) -> Option<Self> {
        Some(Self {
            der: CertificateDer::from(der.to_vec()),
            certificate: Certificate::from_der(der).ok()?,
        })
    }

    pub(super) fn subject(&self) -> String {
        self.certificate.tbs_certificate().subject().to_string()
    }

    fn is_named_by(&self, identifier: &AnyRef<'_>) -> bool {
        let certificate = self.certificate.tbs_certificate();
        if identifier.tag() == Tag::Sequence {
            let Ok(named) = identifier.decode_as::<IssuerAndSerial<'_>>() else {
                return false;
            };
            let issuer = certificate.issuer().to_der().ok();
            return issuer.is_some()
                && issuer == named.issuer.to_der().ok()
                && certificate.serial_number().as_bytes() == named.serial.as_bytes();
        }
        let key = certificate.get_extension::<SubjectKeyIdentifier>();
        matches!(key, Ok(Some((_, key))) if key.0.as_bytes() == identifier.value())
    }

    /// Checks that the certificate has only the purpose that RFC 3161, section 2.3, requires.
    pub(super) fn check_purpose(&self) -> Result<(), Problem> {
        let certificate = self.certificate.tbs_certificate();
        let usage = certificate.get_extension::<ExtendedKeyUsage>();
        let expected =
            &format!("the critical extended key usage timeStamping ({TIME_STAMPING}) and no other");
        match usage {
            Ok(Some((true, usage))) if usage.0 == [TIME_STAMPING] => {}
            Ok(Some((true, usage))) => {
                let usages: Vec<String> = usage.0.iter().map(ToString::to_string).collect();
                let found = format!("{} usages ({})", usages.len(), usages.join(", "));
                return Err(self.unfit(expected, &found));
            }
            Ok(Some((false, _))) => {
                return Err(self.unfit(expected, "an extension that is not critical"));
            }
            Ok(None) => return Err(self.unfit(expected, "no extended key usage")),
            Err(error) => return Err(self.unfit(expected, &error.to_string())),
        }
        match certificate.get_extension::<KeyUsage>() {
            Ok(None) => Ok(()),
            Ok(Some((_, usage))) if usage.digital_signature() || usage.non_repudiation() => Ok(()),
            Ok(Some(_)) => Err(self.unfit("a key for signatures", "a key for other uses")),
            Err(error) => Err(self.unfit("a key for signatures", &error.to_string())),
        }
    }

    fn unfit(&self, expected: &str, found: &str) -> Problem {
        let found = format!("{found}, in the certificate of {}", self.subject());
        Problem::new(&rules::SIGNER, expected, found)
    }

    /// Checks that the certificate leads to a root at `time`, in seconds after 1970, or is itself among the roots and
    /// valid at that time.
    pub(super) fn check_chain(
        &self,
        signed: &SignedData<'_>,
        time: u64,
        roots: &Roots,
    ) -> Result<(), Problem> {
        let untrusted = |why: &str| {
            let found = format!("{why}, for the certificate of {}", self.subject());
            Problem::new(
                &rules::CHAIN,
                "a chain to a root that was valid at that time",
                found,
            )
        };
        if roots.certificates.contains(&self.der) {
            let was_valid = was_valid(&self.certificate, time);
            return was_valid
                .then_some(())
                .ok_or_else(|| untrusted("it was not valid at that time"));
        }
        // Only an authority may sign other certificates. The pinned certificate of a signer must not sign other
        // certificates.
        let anchors: Vec<_> = roots
            .certificates
            .iter()
            .filter(|root| is_authority(root, time))
            .filter_map(|root| anchor_from_trusted_cert(root).ok())
            .collect();
        let between: Vec<_> = certificates(signed).map(CertificateDer::from).collect();
        EndEntityCert::try_from(&self.der)
            .and_then(|signer| {
                signer
                    .verify_for_usage(
                        algorithms::ALL,
                        &anchors,
                        &between,
                        UnixTime::since_unix_epoch(Duration::from_secs(time)),
                        Purpose::required_if_present(TIME_STAMPING_DER),
                        None,
                        None,
                    )
                    .map(drop)
            })
            .map_err(|error| untrusted(&error.to_string()))
    }
}

/// Whether a certificate belongs to an authority and was valid at `time`.
fn is_authority(der: &[u8], time: u64) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else {
        return false;
    };
    let constraints = certificate
        .tbs_certificate()
        .get_extension::<BasicConstraints>();
    matches!(constraints, Ok(Some((_, constraints))) if constraints.ca)
        && was_valid(&certificate, time)
}

fn was_valid(certificate: &Certificate, time: u64) -> bool {
    let validity = certificate.tbs_certificate().validity();
    let [from, to] =
        [validity.not_before, validity.not_after].map(|limit| limit.to_unix_duration().as_secs());
    (from..=to).contains(&time)
}

struct Attributes<'a>(Vec<Attribute<'a>>);

impl<'a> Attributes<'a> {
    fn read(signer: &SignerInfo<'a>) -> der::Result<Self> {
        let attributes = signer.signed_attributes.iter();
        attributes
            .map(|one| one.decode_as())
            .collect::<der::Result<_>>()
            .map(Self)
    }

    /// Returns the value of an attribute that occurs once and has one value.
    fn one(&self, kind: ObjectIdentifier) -> Option<AnyRef<'a>> {
        let mut all = self.0.iter().filter(|attribute| attribute.kind == kind);
        let (Some(attribute), None) = (all.next(), all.next()) else {
            return None;
        };
        match attribute.values.as_slice() {
            [value] => Some(*value),
            _ => None,
        }
    }

    /// Returns the digests that name the signer's own certificate, one for each attribute, as algorithm and value.
    /// Returns `None` if no attribute names a certificate, or if an attribute cannot be read.
    fn own_certificate(&self) -> Option<Vec<(ObjectIdentifier, &'a [u8])>> {
        let mut ids = Vec::new();
        for (kind, usual) in [
            (SIGNING_CERTIFICATE, SHA1),
            (SIGNING_CERTIFICATE_V2, SHA256),
        ] {
            if !self.0.iter().any(|attribute| attribute.kind == kind) {
                continue;
            }
            let named: SigningCertificate<'_> = self.one(kind)?.decode_as().ok()?;
            let id = named.certificates.first()?;
            let algorithm = id.algorithm.map_or(usual, |algorithm| algorithm.oid);
            ids.push((algorithm, id.digest.as_bytes()));
        }
        (!ids.is_empty()).then_some(ids)
    }
}

/// Finds the certificate that the signed attributes name, in the token or among the roots.
fn find(
    signed: &SignedData<'_>,
    attributes: &Attributes<'_>,
    roots: Option<&Roots>,
) -> Result<Signer, Problem> {
    let roots = roots.map_or(&[][..], |roots| &roots.certificates);
    let expected = "the certificate that the attribute signing-certificate names";
    let ids = attributes
        .own_certificate()
        .ok_or_else(|| Problem::new(&rules::SIGNER, expected, "no such attribute"))?;
    let is_named = |der: &Vec<u8>| {
        let mut ids = ids.iter();
        ids.all(|(algorithm, value)| digest(*algorithm, der).is_some_and(|own| own == *value))
    };
    certificates(signed)
        .chain(roots.iter().map(|root| root.as_ref().to_vec()))
        .find(is_named)
        .and_then(|der| Signer::read(&der))
        .ok_or_else(|| Problem::new(&rules::SIGNER, expected, "no such certificate in the token"))
}

/// Returns the certificates of a token. Other kinds of objects in the same set are skipped.
fn certificates(signed: &SignedData<'_>) -> impl Iterator<Item = Vec<u8>> {
    let all = signed.certificates.iter().flat_map(|set| set.iter());
    all.filter(|one| one.tag() == Tag::Sequence)
        .filter_map(|one| one.to_der().ok())
}

fn digest(algorithm: ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        SHA1 => Some(Sha1::digest(bytes).to_vec()),
        SHA256 => Some(Sha256::digest(bytes).to_vec()),
        SHA384 => Some(Sha384::digest(bytes).to_vec()),
        SHA512 => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}

fn unsupported(algorithm: &AlgorithmIdentifierRef<'_>) -> Problem {
    let expected = "RSA (PKCS #1 v1.5) or ECDSA, with SHA-256, SHA-384, or SHA-512";
    let found = format!("algorithm {}", algorithm.oid);
    Problem::new(&rules::SIGNATURE, expected, found)
}
