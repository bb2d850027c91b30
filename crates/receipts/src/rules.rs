//! The rules of the evidence check. A cause has a smaller rank than its consequences.

const REWRITTEN_ADVICE: &str = "Pipelock 2.x with flight_recorder.redact: true rewrites a signed receipt in which it finds a secret; \
run with redact: false, or use Pipelock 3.x, which redacts before it signs";
const FRESH_DIRECTORY: &str = "give each process a fresh evidence directory";
const EDITED: &str = "the file was changed after it was written";

crate::rules! {
// Causes that explain every later finding.
pub static NO_RECEIPTS: Rule = Rule::error(
    "evidence.empty",
    0,
    "there is no receipt",
    "Pipelock up to 3.0 does not write a receipt if there is no traffic",
);
pub static REWRITTEN: Rule = Rule::error(
    "receipt.rewritten",
    10,
    "the receipt was rewritten after it was signed",
    REWRITTEN_ADVICE,
);
pub static TORN: Rule = Rule::error(
    "file.torn",
    11,
    "the last line is incomplete",
    "the disk was full, or the writer was killed during a write; the lines before it were checked",
);
pub static UNTRUSTED: Rule = Rule::error(
    "trust.key",
    12,
    "the signer is not a pinned key",
    "pin the key of this run; the other checks used the signer's own key",
);
pub static MISSING_OPEN: Rule = Rule::error(
    "session.missing-open",
    13,
    "receipts name a run that no session_open opened",
    "Pipelock 2.8 and 3.0 write such evidence, which only their own verifier accepts; use 2.4, or 3.1 or later",
);
pub static SECOND_PROCESS: Rule = Rule::error(
    "v2.second-process",
    14,
    "a second process wrote into the same evidence",
    FRESH_DIRECTORY,
);
pub static SECOND_START: Rule = Rule::error(
    "chain.second-start",
    15,
    "a second receipt chain starts in the evidence",
    FRESH_DIRECTORY,
);
pub static MANY_SESSIONS: Rule = Rule::error(
    "file.sessions",
    16,
    "the evidence holds more than one recorder session",
    "verify the files of one session at a time",
);
pub static FILE_NAME: Rule = Rule::error(
    "file.name",
    17,
    "the file is named after another session",
    "the file was copied or renamed",
);
pub static FILE_ORDER: Rule = Rule::error(
    "file.order",
    18,
    "the number in the file's name is not that of its first entry",
    "a file is missing or was renamed",
);

// Lines and entries.
pub static LINE_LONG: Rule =
    Rule::error("line.long", 20, "the line is longer than 1 MiB", "");
pub static STOPPED: Rule = Rule::error(
    "evidence.stopped",
    69,
    "the rest of the evidence was not read",
    "the findings so far are enough to reject the file",
);
pub static LINE_JSON: Rule = Rule::error("line.json", 21, "the line is not strict JSON", "");
pub static BARE_RECEIPT: Rule = Rule::error(
    "entry.bare",
    22,
    "the line is a receipt without a recorder entry around it",
    "verify the whole evidence file",
);
pub static ENTRY_FORM: Rule = Rule::error(
    "entry.form",
    23,
    "a member of the entry does not match the schema",
    "",
);
pub static ENTRY_ALIAS: Rule = Rule::error(
    "entry.alias",
    24,
    "the entry has a member that some readers confuse with another one",
    "",
);
pub static ENTRY_VERSION: Rule =
    Rule::error("entry.version", 25, "the entry's version is unknown", "");
pub static ENTRY_TYPE: Rule =
    Rule::error("entry.type", 26, "the entry's type is unknown", "");
pub static ENTRY_TIME: Rule = Rule::error(
    "entry.time",
    27,
    "the entry's time is not in the form that writers emit",
    "",
);
pub static ENTRY_NUL: Rule = Rule::error(
    "entry.nul",
    28,
    "a hashed text contains NUL, which separates fields",
    "",
);
pub static ENTRY_GROUP: Rule = Rule::error(
    "entry.group",
    29,
    "the file is a shard of a receipt group",
    "receipt groups are not supported; set flight_recorder.receipt_chains to 1",
);

// Receipts.
pub static RECEIPT_FORM: Rule =
    Rule::error("receipt.form", 30, "the receipt does not match the schema", "");
pub static RECEIPT_VALUE: Rule = Rule::error(
    "receipt.value",
    31,
    "a value of the receipt is not allowed",
    "",
);
pub static SIGNATURE_FORM: Rule = Rule::error(
    "receipt.signature-form",
    32,
    "the signature or key is malformed",
    "",
);
pub static SIGNATURE: Rule = Rule::error(
    "receipt.signature",
    33,
    "the signature is not valid",
    "the receipt was changed, or signed by another key",
);
pub static CHECKPOINT_SIGNATURE: Rule = Rule::error(
    "checkpoint.signature",
    34,
    "the signature of the checkpoint does not match the entries before it",
    "an entry before it was changed, added, or removed",
);
pub static ENTRY_HASH: Rule =
    Rule::error("entry.hash", 35, "the hash of the entry is wrong", EDITED);
pub static ENTRY_SEQ: Rule = Rule::error(
    "entry.seq",
    36,
    "entries are missing, repeated, or out of order",
    EDITED,
);
pub static ENTRY_LINK: Rule = Rule::error(
    "entry.link",
    37,
    "the entry does not contain the hash of the previous entry",
    EDITED,
);
pub static ENTRY_V3: Rule = Rule::error(
    "entry.writer",
    38,
    "entries of different writers share a chain",
    "",
);

// The receipt chain.
pub static CHAIN_SEQ: Rule = Rule::error(
    "chain.seq",
    40,
    "receipts are missing, repeated, or out of order",
    EDITED,
);
pub static CHAIN_LINK: Rule = Rule::error(
    "chain.link",
    41,
    "the receipt does not contain the hash of the previous receipt",
    EDITED,
);
pub static CHAIN_SIGNER: Rule = Rule::error(
    "chain.signer",
    42,
    "the receipt is not signed by the key of the receipts before it",
    "",
);
pub static TRANSITION: Rule = Rule::error(
    "chain.transition",
    43,
    "the change of keys does not match the end of the chain before it",
    "",
);
pub static GENESIS_HASH: Rule = Rule::error(
    "session.genesis",
    44,
    "the hash of the session's parameters is not the hash that starts the chain",
    "",
);
pub static SESSION_FORM: Rule = Rule::error(
    "session.form",
    45,
    "the session record is malformed or names another run",
    "",
);
pub static SESSION_OPEN: Rule =
    Rule::error("session.open", 46, "the session is opened in a way that no writer uses", "");
pub static SESSION_AFTER: Rule = Rule::error(
    "session.after-close",
    47,
    "a receipt follows the close of its session",
    "",
);
pub static SESSION_BEAT: Rule = Rule::error(
    "session.heartbeat",
    48,
    "the heartbeat does not match the chain",
    "",
);
pub static SESSION_CLOSE: Rule =
    Rule::error("session.close", 49, "the close does not match the chain", "");
pub static SESSION_NONCE: Rule = Rule::error(
    "session.nonce",
    50,
    "a receipt does not name a run, although the chain contains sessions",
    "",
);
pub static DURABILITY: Rule = Rule::error(
    "session.durability",
    51,
    "a counter of failed writes went down",
    "",
);
pub static NO_INTENT: Rule = Rule::error(
    "action.no-intent",
    52,
    "an outcome has no earlier intent",
    "",
);
pub static ROOT: Rule = Rule::error(
    "root.mismatch",
    53,
    "the transcript root does not describe the chain",
    "",
);
pub static CHECKPOINT_FORM: Rule = Rule::error(
    "checkpoint.form",
    54,
    "the checkpoint does not describe the entries before it",
    "",
);

// The chain of version 2 receipts.
pub static V2_FORM: Rule =
    Rule::error("v2.form", 60, "the version 2 receipt does not match the schema", "");
pub static V2_SEQ: Rule = Rule::error(
    "v2.seq",
    61,
    "version 2 receipts are missing, repeated, or out of order",
    EDITED,
);
pub static V2_LINK: Rule = Rule::error(
    "v2.link",
    62,
    "the version 2 receipt does not contain the hash of the previous one",
    EDITED,
);
pub static V2_SIGNER: Rule = Rule::error(
    "v2.signer",
    63,
    "the version 2 receipt names another key",
    "",
);

// The posture capsule.
pub static CAPSULE_FORM: Rule = Rule::error(
    "capsule.form",
    80,
    "the posture capsule does not match the schema",
    "",
);
pub static CAPSULE_SIGNATURE: Rule = Rule::error(
    "capsule.signature",
    81,
    "the posture capsule is not signed by the key that it names",
    EDITED,
);
pub static CAPSULE_SIGNER: Rule = Rule::error(
    "capsule.signer",
    82,
    "the key that signed the posture capsule is not the boundary key",
    "check that the boundary key belongs to this run",
);
pub static CAPSULE_WINDOW: Rule = Rule::error(
    "capsule.window",
    83,
    "the time of a receipt is outside the period in which the posture capsule is valid",
    "the capsule belongs to another run, or a clock was set",
);
pub static CAPSULE_HASH: Rule = Rule::error(
    "capsule.hash",
    84,
    "session_open binds another posture capsule",
    "the capsule was changed, or belongs to another run",
);
pub static CAPSULE_KEY_ID: Rule = Rule::error(
    "capsule.key-id",
    85,
    "session_open binds a capsule signed by another key",
    "",
);
pub static CAPSULE_NONCE: Rule = Rule::error(
    "capsule.nonce",
    86,
    "session_open binds another signature of the posture capsule",
    "",
);
pub static CAPSULE_UID: Rule = Rule::error(
    "capsule.uid",
    87,
    "session_open binds a different user id of the command",
    "",
);

// Rules that are mostly warnings.
pub static CAPSULE_UNBOUND: Rule = Rule::warning(
    "capsule.unbound",
    10,
    "no receipt binds the posture capsule",
    "Pipelock before 3.1 cannot bind the posture capsule; if a later version wrote the receipts, it was started without the capsule",
);
pub static OPEN_INTENT: Rule = Rule::warning(
    "action.open",
    0,
    "an action was allowed, but its outcome is not recorded",
    "the action was in progress when the mediator stopped, so the amount of data is unknown",
);
pub static BEAT_GAP: Rule = Rule::warning("session.beats", 1, "heartbeats are missing", "");
pub static V2_COUNT: Rule = Rule::warning(
    "v2.count",
    2,
    "the numbers of decisions and version 2 receipts differ",
    "",
);
pub static UNSIGNED_CHECKPOINT: Rule = Rule::warning(
    "checkpoint.unsigned",
    3,
    "the checkpoint has no signature",
    "set flight_recorder.sign_checkpoints: true",
);
pub static SESSION_NAME: Rule = Rule::error(
    "session.recorder",
    55,
    "the signed session_open and its entry name different recorder sessions",
    "the unsigned texts of the entry were changed",
);
pub static POLICY_CHANGED: Rule = Rule::warning(
    "policy.changed",
    4,
    "decisions were made under more than one policy",
    "the mediator's configuration was changed during the run; read each policy before you trust what it allowed",
);
pub static ENTRY_UNKNOWN: Rule = Rule::warning(
    "entry.unknown",
    5,
    "the entry has a member that its hash does not cover",
    "",
);
pub static LINE_SPACE: Rule =
    Rule::warning("line.space", 6, "the line has white space that no writer emits", "");
pub static SECOND_OUTCOME: Rule = Rule::warning(
    "action.repeated",
    7,
    "an action has more than one intent or outcome",
    "",
);
pub static TIME_ORDER: Rule = Rule::warning(
    "receipt.time-order",
    8,
    "the time of a receipt is earlier than that of the previous receipt",
    "the clock was set back, or lines were moved before they were signed",
);
pub static ENTRY_TEXT: Rule = Rule::warning(
    "entry.text",
    9,
    "the unsigned texts of the entry do not match its receipt",
    "trust the receipt, which is signed",
);
}
