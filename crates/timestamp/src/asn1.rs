//! The ASN.1 types of time stamps: requests and replies of RFC 3161, the signature of RFC 5652, and the attribute of
//! RFC 5035 that names the signer's certificate. Unused parts are not decoded.
use der::Sequence;
use der::asn1::{AnyRef, IntRef, ObjectIdentifier, OctetStringRef, SetOfVec, UintRef};
use x509_cert::ext::Extension;
use x509_cert::spki::AlgorithmIdentifierRef;

/// `TimeStampReq`.
#[derive(Debug, Sequence)]
pub(super) struct Request<'a> {
    pub(super) version: u8,
    pub(super) imprint: Imprint<'a>,
    pub(super) nonce: UintRef<'a>,
    #[asn1(default = "Default::default")]
    pub(super) wants_certificate: bool,
}

/// `MessageImprint`.
#[derive(Debug, Sequence)]
pub(super) struct Imprint<'a> {
    pub(super) algorithm: AlgorithmIdentifierRef<'a>,
    pub(super) digest: &'a OctetStringRef,
}

/// `TimeStampResp`.
#[derive(Debug, Sequence)]
pub(super) struct Reply<'a> {
    pub(super) status: Status<'a>,
    pub(super) token: Option<ContentInfo<'a>>,
}

/// `PKIStatusInfo`.
#[derive(Debug, Sequence)]
pub(super) struct Status<'a> {
    pub(super) code: u8,
    pub(super) texts: Option<Vec<AnyRef<'a>>>,
    pub(super) failure: Option<AnyRef<'a>>,
}

/// `ContentInfo`, whose content is a `SignedData`.
#[derive(Debug, Sequence)]
pub(super) struct ContentInfo<'a> {
    pub(super) content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) content: SignedData<'a>,
}

#[derive(Debug, Sequence)]
pub(super) struct SignedData<'a> {
    pub(super) version: u8,
    pub(super) digest_algorithms: SetOfVec<AnyRef<'a>>,
    pub(super) content: EncapsulatedContent<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) certificates: Option<SetOfVec<AnyRef<'a>>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) revocations: Option<SetOfVec<AnyRef<'a>>>,
    pub(super) signers: SetOfVec<AnyRef<'a>>,
}

/// `EncapsulatedContentInfo`.
#[derive(Debug, Sequence)]
pub(super) struct EncapsulatedContent<'a> {
    pub(super) content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) content: &'a OctetStringRef,
}

#[derive(Debug, Sequence)]
pub(super) struct SignerInfo<'a> {
    pub(super) version: u8,
    pub(super) signer: AnyRef<'a>,
    pub(super) digest_algorithm: AlgorithmIdentifierRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    pub(super) signed_attributes: SetOfVec<AnyRef<'a>>,
    pub(super) signature_algorithm: AlgorithmIdentifierRef<'a>,
    pub(super) signature: &'a OctetStringRef,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) unsigned_attributes: Option<SetOfVec<AnyRef<'a>>>,
}

/// `IssuerAndSerialNumber`.
#[derive(Debug, Sequence)]
pub(super) struct IssuerAndSerial<'a> {
    pub(super) issuer: AnyRef<'a>,
    pub(super) serial: IntRef<'a>,
}

#[derive(Debug, Sequence)]
pub(super) struct Attribute<'a> {
    pub(super) kind: ObjectIdentifier,
    pub(super) values: SetOfVec<AnyRef<'a>>,
}

/// `SigningCertificate` and `SigningCertificateV2`.
#[derive(Debug, Sequence)]
pub(super) struct SigningCertificate<'a> {
    pub(super) certificates: Vec<CertificateId<'a>>,
    pub(super) policies: Option<AnyRef<'a>>,
}

/// `ESSCertID`, which has no algorithm, and `ESSCertIDv2`.
#[derive(Debug, Sequence)]
pub(super) struct CertificateId<'a> {
    pub(super) algorithm: Option<AlgorithmIdentifierRef<'a>>,
    pub(super) digest: &'a OctetStringRef,
    pub(super) issuer_and_serial: Option<AnyRef<'a>>,
}

#[derive(Debug, Sequence)]
pub(super) struct TstInfo<'a> {
    pub(super) version: u8,
    pub(super) policy: ObjectIdentifier,
    pub(super) imprint: Imprint<'a>,
    pub(super) serial: IntRef<'a>,
    /// A `GeneralizedTime` that may have a fraction of a second.
    pub(super) time: AnyRef<'a>,
    pub(super) accuracy: Option<Vec<AnyRef<'a>>>,
    #[asn1(default = "Default::default")]
    pub(super) ordering: bool,
    pub(super) nonce: Option<UintRef<'a>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) authority: Option<AnyRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) extensions: Option<Vec<Extension>>,
}
