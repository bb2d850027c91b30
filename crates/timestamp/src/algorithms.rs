//! The supported signature algorithms: RSA (PKCS #1 v1.5, 2048 to 8192 bits) and ECDSA (P-256, P-384), each with
//! SHA-256, SHA-384, and SHA-512. The implementations are written in Rust, so that a verification does not need a C
//! library. Verification does not use secrets.
use std::fmt;

use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Sequence};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::pkcs1v15::{Signature as RsaSignature, VerifyingKey as RsaKey};
use rsa::{BoxedUint, PublicKey as RsaPublic};
use rustls_pki_types::alg_id::{
    ECDSA_P256, ECDSA_P384, ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512, RSA_ENCRYPTION,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use sha2::digest::const_oid::AssociatedOid;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Allowed sizes of an RSA key, bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Checks a signature, given the key, the message, and the signature. Returns `None` if the
/// signature is not valid.
type Verify = fn(&[u8], &[u8], &[u8]) -> Option<()>;

pub(super) struct Algorithm {
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    verify: Verify,
}

const fn algorithm(
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    verify: Verify,
) -> Algorithm {
    Algorithm {
        key,
        signature,
        verify,
    }
}

static RSA_256: Algorithm = algorithm(RSA_ENCRYPTION, RSA_PKCS1_SHA256, rsa::<Sha256>);
static RSA_384: Algorithm = algorithm(RSA_ENCRYPTION, RSA_PKCS1_SHA384, rsa::<Sha384>);
static RSA_512: Algorithm = algorithm(RSA_ENCRYPTION, RSA_PKCS1_SHA512, rsa::<Sha512>);
static P256_256: Algorithm = algorithm(ECDSA_P256, ECDSA_SHA256, p256::<Sha256>);
static P256_384: Algorithm = algorithm(ECDSA_P256, ECDSA_SHA384, p256::<Sha384>);
static P256_512: Algorithm = algorithm(ECDSA_P256, ECDSA_SHA512, p256::<Sha512>);
static P384_256: Algorithm = algorithm(ECDSA_P384, ECDSA_SHA256, p384::<Sha256>);
static P384_384: Algorithm = algorithm(ECDSA_P384, ECDSA_SHA384, p384::<Sha384>);
static P384_512: Algorithm = algorithm(ECDSA_P384, ECDSA_SHA512, p384::<Sha512>);

/// The algorithms of one kind of signature, for every kind of key.
pub(super) type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// All algorithms, for the signatures of certificates.
pub(super) static ALL: Algorithms = &[
    &RSA_256, &RSA_384, &RSA_512, &P256_256, &P256_384, &P256_512, &P384_256, &P384_384, &P384_512,
];

/// Returns the algorithms for a token's signature. The identifiers of the signature and of the digest must agree. For
/// RSA, OpenSSL and others write the identifier of the key type in place of the signature's identifier.
pub(super) fn of(signature: ObjectIdentifier, digest: ObjectIdentifier) -> Option<Algorithms> {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const NAMED: [(&str, ObjectIdentifier, Algorithms); 6] = [
        ("1.2.840.113549.1.1.11", Sha256::OID, &[&RSA_256]),
        ("1.2.840.113549.1.1.12", Sha384::OID, &[&RSA_384]),
        ("1.2.840.113549.1.1.13", Sha512::OID, &[&RSA_512]),
        ("1.2.840.10045.4.3.2", Sha256::OID, &[&P256_256, &P384_256]),
        ("1.2.840.10045.4.3.3", Sha384::OID, &[&P256_384, &P384_384]),
        ("1.2.840.10045.4.3.4", Sha512::OID, &[&P256_512, &P384_512]),
    ];
    let signature = signature.to_string();
    let is_rsa = |name: &str| name.starts_with("1.2.840.113549.1.1.");
    let found = NAMED.iter().find(|(name, of, _)| {
        *of == digest && (*name == signature || signature == RSA && is_rsa(name))
    });
    found.map(|(_, _, algorithms)| *algorithms)
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Algorithm({:?}, {:?})", self.key, self.signature)
    }
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(
        &self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        (self.verify)(key, message, signature).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// `RSAPublicKey` of RFC 8017.
#[derive(Sequence)]
struct Key<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn rsa<D: Digest + AssociatedOid>(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = Key::from_der(key).ok()?;
    let number = |digits: UintRef<'_>| {
        let bits = u32::try_from(digits.as_bytes().len())
            .ok()?
            .checked_mul(8)?;
        BoxedUint::from_be_slice(digits.as_bytes(), bits).ok()
    };
    let (modulus, exponent) = (number(key.modulus)?, number(key.exponent)?);
    let key = RsaPublic::new_with_size_limits(modulus, exponent, RSA_BITS).ok()?;
    let signature = RsaSignature::try_from(signature).ok()?;
    let key = RsaKey::<D>::new(key);
    key.verify_prehash(&D::digest(message), &signature).ok()
}

fn p256<D: Digest>(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(&D::digest(message), &signature).ok()
}

fn p384<D: Digest>(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(&D::digest(message), &signature).ok()
}
