//! What may be wrong with a time stamp.

pipelock_receipts::rules! {
pub static FORM: Rule = Rule::error(
    "timestamp.form",
    60,
    "the time stamp is not a reply of RFC 3161 that can be checked",
    "get the token again from a copy of the packet that nobody changed",
);
pub static STATUS: Rule = Rule::error(
    "timestamp.status",
    60,
    "the authority did not grant the time stamp",
    "read the authority's words, and run again",
);
pub static IMPRINT: Rule = Rule::error(
    "timestamp.imprint",
    61,
    "the time stamp is of another attestation",
    "attestation.json was changed after it was stamped, or the token belongs to another packet",
);
pub static NONCE: Rule = Rule::error(
    "timestamp.nonce",
    61,
    "the time stamp answers another request",
    "the authority, or something on the way to it, replays its replies",
);
pub static SIGNATURE: Rule = Rule::error(
    "timestamp.signature",
    62,
    "the signature of the time stamp does not hold",
    "",
);
pub static SIGNER: Rule = Rule::error(
    "timestamp.signer",
    63,
    "the certificate of the time stamp's signer is not one for time stamps",
    "",
);
pub static CHAIN: Rule = Rule::error(
    "timestamp.chain",
    64,
    "no authority of --timestamp-ca vouches for the time stamp's signer",
    "check that the file holds the root of the authority that the run used",
);
pub static TIME: Rule = Rule::error(
    "timestamp.time",
    65,
    "the time stamp does not fit the times that the packet states",
    "the clock of the runner was wrong, or the packet was made at another time than it states",
);
pub static NONE: Rule = Rule::error(
    "timestamp.none",
    65,
    "the packet has no time stamp, and --timestamp-ca asks for one",
    "run with --timestamp-url; --timestamp-ca needs a packet with timestamp.tsr and attestation.json",
);
}
