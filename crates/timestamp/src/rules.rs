//! The rules for checking a time stamp.

pipelock_receipts::rules! {
pub static FORM: Rule = Rule::error(
    "timestamp.form",
    60,
    "the time stamp is not a valid RFC 3161 reply",
    "get the file again from an unchanged copy of the packet",
);
pub static STATUS: Rule = Rule::error(
    "timestamp.status",
    60,
    "the authority did not grant the time stamp",
    "read the text of the authority, and run again",
);
pub static IMPRINT: Rule = Rule::error(
    "timestamp.imprint",
    61,
    "the time stamp belongs to another attestation",
    "attestation.json was changed after it was stamped, or the token belongs to another packet",
);
pub static NONCE: Rule = Rule::error(
    "timestamp.nonce",
    61,
    "the time stamp answers another request",
    "the authority, or a proxy in front of it, repeats old replies",
);
pub static SIGNATURE: Rule = Rule::error(
    "timestamp.signature",
    62,
    "the signature of the time stamp is not valid",
    "",
);
pub static SIGNER: Rule = Rule::error(
    "timestamp.signer",
    63,
    "the certificate of the time stamp's signer is not valid for time stamps",
    "",
);
pub static CHAIN: Rule = Rule::error(
    "timestamp.chain",
    64,
    "the certificate of the time stamp's signer does not chain to a root of --timestamp-ca",
    "check that the file contains the root of the authority that the run used",
);
pub static TIME: Rule = Rule::error(
    "timestamp.time",
    65,
    "the time stamp is not consistent with the times of the packet",
    "the clock of the runner was wrong, or the packet states a wrong time",
);
pub static NONE: Rule = Rule::error(
    "timestamp.none",
    65,
    "--timestamp-ca needs a time stamp, but the packet has none",
    "run with --timestamp-url, and verify the whole packet directory",
);
}
