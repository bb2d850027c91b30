//! Builds the runtime policy of a real Pipelock from the caller's document. Keys that the run sets are forced, and
//! limits that could disturb a run are raised unless the caller set them.
//!
//! Pipelock rejects unknown keys, and its versions have different keys. [`Attempt`] is the order in
//! which keys of newer versions are left out when an older version rejects them.
use super::advice;
use super::document::{self, MappingEntry, Node, Value};
use super::error::PolicyError;
use super::notices::{self, Notice};
use super::patterns::Patterns;
use super::runtime::{OwnedKeys, owned_values, replace, set_default};

/// Values that the run sets, whatever the caller's document contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelockKeys {
    /// Values that the built-in mediator uses too.
    pub common: OwnedKeys,
    /// `metrics_listen`, as `127.0.0.1:PORT`.
    pub metrics_listen: String,
    /// `kill_switch.api_listen`, as `127.0.0.1:PORT`.
    pub kill_switch_listen: String,
    /// `kill_switch.api_token`, random for each run. The packet contains the token, but the token is useless after the
    /// run.
    pub kill_switch_token: String,
    /// `tls_interception.ca_cert` and `.ca_key`: copies of the caller's files, if the caller has
    /// them.
    pub authority: Option<(String, String)>,
}

/// Which of egress's additional keys go into the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// All of them, for Pipelock 3.1 and later.
    Whole,
    /// All except the heartbeats, because Pipelock 3.1 introduced them.
    NoHeartbeats,
    /// Also leaves out `require_receipts`, because Pipelock 2.8 introduced it.
    NoReceiptGate,
    /// Also leaves out the raised limits, except `fetch_proxy.max_response_mb`.
    Bare,
}

impl Attempt {
    /// Returns the next variant to try when Pipelock rejects this one.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::NoHeartbeats),
            Self::NoHeartbeats => Some(Self::NoReceiptGate),
            Self::NoReceiptGate => Some(Self::Bare),
            Self::Bare => None,
        }
    }

    /// Keys that this variant leaves out.
    fn left_out(self) -> Vec<String> {
        let keys: &[&str] = match self {
            Self::Whole => &[],
            Self::NoHeartbeats => &[HEARTBEATS],
            Self::NoReceiptGate => &[HEARTBEATS, RECEIPT_GATE],
            Self::Bare => &[HEARTBEATS, RECEIPT_GATE, "raised limits"],
        };
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    /// Whether a Pipelock that accepts this variant binds the posture capsule in its
    /// `session_open`.
    pub fn binds_posture(self) -> bool {
        self == Self::Whole
    }
}

const HEARTBEATS: &str = "flight_recorder.completeness.heartbeat_interval";
/// The key that makes every receipt durable before its action. Pipelock 2.8 introduced this key.
pub const RECEIPT_GATE: &str = "flight_recorder.require_receipts";
const REDACT: &str = "flight_recorder.redact";

/// The `mode` if the caller sets no mode, as in Pipelock's own GitHub Action.
const DEFAULT_MODE: &str = "balanced";

/// Limits that could disturb an ordinary run, each with the value that is used unless the caller sets one.
const RAISED: [(&str, i64); 9] = [
    ("fetch_proxy.monitoring.max_requests_per_minute", 1_000_000),
    ("fetch_proxy.timeout_seconds", 600),
    ("fetch_proxy.max_response_mb", 100),
    ("forward_proxy.max_tunnel_seconds", 86_400),
    ("forward_proxy.idle_timeout_seconds", 3_600),
    ("websocket_proxy.max_message_bytes", 8 << 20),
    ("websocket_proxy.max_concurrent_connections", 1_024),
    ("websocket_proxy.max_connection_seconds", 86_400),
    ("websocket_proxy.idle_timeout_seconds", 3_600),
];

/// The key that limits the number of entries in one evidence file. Every supported version has this key.
const ENTRIES_PER_FILE: &str = "flight_recorder.max_entries_per_file";
/// The value of [`ENTRIES_PER_FILE`] unless the caller sets one.
///
/// Pipelock 3.2 also starts a new file when the old one reaches 8 MiB, and may then give two entries the same sequence
/// number. Entries have about 1.5 KiB, so a file with this number of entries stays far below 8 MiB. When a signed
/// checkpoint is due at the same entry as a new file, Pipelock 3.2 may leave out a sequence number. It writes a
/// checkpoint after each 1,000 entries, so this number keeps the two apart in the first 160 files.
const FEW_ENTRIES: i64 = 1_200;

/// The section that configures TLS interception.
const INTERCEPTION: &str = "tls_interception";

/// The key that limits the length of a response. Pipelock 2.x truncates a longer response without an error. Every
/// supported version has this key.
const LONGEST_ANSWER: &str = "fetch_proxy.max_response_mb";

/// The policy that a real Pipelock receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelockPolicy {
    /// The document, which is byte for byte the packet's `policy.yaml`.
    pub yaml: String,
    /// The value of `mode`. Only `strict` enforces the allow-list.
    pub mode: String,
    /// Keys for which the caller's value was replaced.
    pub overridden: Vec<String>,
    /// The value of `flight_recorder.redact`.
    pub redact: bool,
    /// The expressions of `dlp.patterns`.
    pub patterns: Patterns,
    /// Limits that were raised, each with its value.
    pub raised: Vec<String>,
    /// Keys that were left out because this Pipelock rejects them.
    pub left_out: Vec<String>,
    /// The length in bytes at which a response may be truncated.
    pub answer_cut: Option<u64>,
    /// The number of entries in one evidence file. `None` if the caller's value is not a positive number.
    pub entries_per_file: Option<u64>,
    /// Notices about the caller's own keys.
    pub notices: Vec<Notice>,
}

/// Builds the runtime policy of a real Pipelock. Pipelock itself interprets the caller's keys.
///
/// # Errors
/// Returns [`PolicyError`] if the caller's document is not one YAML document with a mapping at
/// the top, if a section that the run writes to is not a mapping, or if an expression of `dlp.patterns` cannot be
/// compiled.
pub fn build(
    caller_yaml: Option<&str>,
    keys: &PipelockKeys,
    attempt: Attempt,
) -> Result<PipelockPolicy, PolicyError> {
    let mut entries = caller_yaml
        .map(document::read)
        .transpose()?
        .unwrap_or_default();
    set_default(&mut entries, "version", Node::of(Value::Int(1)));
    set_default(&mut entries, "mode", Node::text(DEFAULT_MODE));
    let notices = notices::of(&entries);
    let patterns = Patterns::of(&entries)?;

    let mut overridden = Vec::new();
    for (path, value) in forced(keys, attempt) {
        let (fields, key) = mapping_for(&mut entries, &path)?;
        if replace(fields, key, value) {
            overridden.push(path);
        }
    }
    let yes = || Node::of(Value::Bool(true));
    set_if_absent(&mut entries, REDACT, yes())?;
    let (fields, key) = mapping_for(&mut entries, REDACT)?;
    let redact = fields
        .iter()
        .any(|entry| entry.key == key && entry.value == yes());
    if attempt == Attempt::Whole {
        set_if_absent(&mut entries, HEARTBEATS, Node::text("60s"))?;
    }
    let mut raised = Vec::new();
    for (path, value) in RAISED {
        if (attempt != Attempt::Bare || path == LONGEST_ANSWER)
            && set_if_absent(&mut entries, path, Node::of(Value::Int(value)))?
        {
            raised.push(format!("{path}: {value}"));
        }
    }
    set_if_absent(
        &mut entries,
        ENTRIES_PER_FILE,
        Node::of(Value::Int(FEW_ENTRIES)),
    )?;
    let entries_per_file = count(&mut entries, ENTRIES_PER_FILE)?.filter(|entries| *entries > 0);
    let answer_cut =
        count(&mut entries, LONGEST_ANSWER)?.and_then(|megabytes| megabytes.checked_mul(1 << 20));
    let mode = entries
        .iter()
        .find(|entry| entry.key == "mode")
        .and_then(|entry| entry.value.as_text());
    Ok(PipelockPolicy {
        mode: mode.unwrap_or_default().to_owned(),
        yaml: document::write(&entries)?,
        overridden,
        redact,
        patterns,
        raised,
        left_out: attempt.left_out(),
        answer_cut,
        entries_per_file,
        notices,
    })
}

/// Returns the value of the key `path`, if it is a number that is not negative.
fn count(entries: &mut Vec<MappingEntry>, path: &str) -> Result<Option<u64>, PolicyError> {
    let (fields, key) = mapping_for(entries, path)?;
    let entry = fields.iter().find(|entry| entry.key == key);
    Ok(entry.and_then(|entry| entry.value.as_count()))
}

/// Returns the certificate and key files of the authority, if the caller's document enables TLS
/// interception with one.
///
/// # Errors
/// Returns [`PolicyError`] if the text is not one YAML document with a mapping at the top.
pub fn interception(caller_yaml: &str) -> Result<Option<(String, String)>, PolicyError> {
    let mut entries = document::read(caller_yaml)?;
    let find =
        |entries: &[MappingEntry], key: &str| entries.iter().position(|entry| entry.key == key);
    let Some(fields) = find(&entries, INTERCEPTION)
        .and_then(|at| entries.get_mut(at))
        .and_then(|section| section.value.as_map_mut())
    else {
        return Ok(None);
    };
    let value = |key| {
        find(fields, key)
            .and_then(|at| fields.get(at))
            .map(|entry| &entry.value)
    };
    let is_on = value("enabled").is_some_and(|node| matches!(node.value, Value::Bool(true)));
    let text = |key| value(key).and_then(Node::as_text).map(str::to_owned);
    Ok(text("ca_cert").zip(text("ca_key")).filter(|_| is_on))
}

/// Returns the forced keys by their full names.
fn forced(keys: &PipelockKeys, attempt: Attempt) -> Vec<(String, Node)> {
    let mut forced: Vec<(String, Node)> = owned_values(&keys.common)
        .into_iter()
        .map(|(section, key, value)| match section {
            "" => (key.to_owned(), value),
            _ => (format!("{section}.{key}"), value),
        })
        // With redaction, Pipelock before 2.8 rewrites receipts that it has signed, so the caller may switch redaction
        // off.
        .filter(|(path, _)| path != REDACT)
        .collect();
    let own = [
        ("metrics_listen", &keys.metrics_listen),
        ("kill_switch.api_listen", &keys.kill_switch_listen),
        ("kill_switch.api_token", &keys.kill_switch_token),
    ];
    forced.extend(own.map(|(path, value)| (path.to_owned(), Node::text(value))));
    if let Some((certificate, key)) = &keys.authority {
        forced.push((format!("{INTERCEPTION}.ca_cert"), Node::text(certificate)));
        forced.push((format!("{INTERCEPTION}.ca_key"), Node::text(key)));
    }
    if matches!(attempt, Attempt::Whole | Attempt::NoHeartbeats) {
        forced.push((RECEIPT_GATE.to_owned(), Node::of(Value::Bool(true))));
    }
    forced
}

/// Sets the key `path` unless the caller set it. Returns whether this call set the key.
fn set_if_absent(
    entries: &mut Vec<MappingEntry>,
    path: &str,
    value: Node,
) -> Result<bool, PolicyError> {
    let (fields, key) = mapping_for(entries, path)?;
    let is_absent = !fields.iter().any(|entry| entry.key == key);
    set_default(fields, key, value);
    Ok(is_absent)
}

/// Returns the mapping that holds the last key of a full name. Missing sections are created.
fn mapping_for<'a, 'b>(
    entries: &'a mut Vec<MappingEntry>,
    path: &'b str,
) -> Result<(&'a mut Vec<MappingEntry>, &'b str), PolicyError> {
    let (sections, key) = path.rsplit_once('.').map_or(("", path), |split| split);
    let mut fields = entries;
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        set_default(fields, section, Node::of(Value::Map(Vec::new())));
        let entry = fields.iter_mut().find(|entry| entry.key == section);
        let not_a_section = entry.as_ref().map_or(PolicyError::NotFaithful, |entry| {
            advice::not_a_section(entry.line, section, &entry.value.value)
        });
        fields = entry
            .and_then(|entry| entry.value.as_map_mut())
            .ok_or(not_a_section)?;
    }
    Ok((fields, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> PipelockKeys {
        PipelockKeys {
            common: OwnedKeys {
                listen: "127.0.0.1:1".into(),
                agent_identity: "ci".into(),
                evidence_dir: "/run/egress/x/evidence".into(),
                signing_key_path: "/run/egress/x/signing.key".into(),
            },
            metrics_listen: "127.0.0.1:2".into(),
            kill_switch_listen: "127.0.0.1:3".into(),
            kill_switch_token: "t".into(),
            authority: None,
        }
    }

    fn value(yaml: &str) -> serde_json::Value {
        serde_saphyr::from_str(yaml).unwrap()
    }

    /// Claims: crate-pipelock
    #[test]
    fn callers_keys_stay_and_owned_ones_are_forced() {
        let caller = "mode: strict\napi_allowlist: [a.test]\nanything: {at: [all, 4.5]}\n\
                      fetch_proxy:\n  listen: 0.0.0.0:80\n  monitoring: {max_requests_per_minute: 7}\n\
                      metrics_listen: 0.0.0.0:9\nflight_recorder: {redact: false, dir: /etc}\n";
        let policy = build(Some(caller), &keys(), Attempt::Whole).unwrap();
        let yaml = value(&policy.yaml);
        assert_eq!(yaml["anything"]["at"][1], 4.5);
        assert_eq!(yaml["fetch_proxy"]["listen"], "127.0.0.1:1");
        assert_eq!(yaml["metrics_listen"], "127.0.0.1:2");
        assert_eq!(yaml["kill_switch"]["api_listen"], "127.0.0.1:3");
        assert_eq!(yaml["flight_recorder"]["dir"], "/run/egress/x/evidence");
        assert_eq!(yaml["flight_recorder"]["require_receipts"], true);
        assert_eq!(yaml["flight_recorder"]["max_entries_per_file"], FEW_ENTRIES);
        assert_eq!(policy.entries_per_file, Some(1_200));
        // The caller's own values stay.
        assert_eq!(yaml["flight_recorder"]["redact"], false);
        let monitoring = &yaml["fetch_proxy"]["monitoring"];
        assert_eq!(monitoring["max_requests_per_minute"], 7);
        assert_eq!(
            policy.overridden,
            [
                "fetch_proxy.listen",
                "flight_recorder.dir",
                "metrics_listen"
            ]
        );
        assert!(policy.raised.iter().all(|key| !key.contains("per_minute")));
        assert_eq!(policy.raised.len(), RAISED.len() - 1);
        assert!(policy.notices.is_empty(), "{:?}", policy.notices);
    }

    #[test]
    fn keys_are_given_up_in_the_order_in_which_versions_brought_them() {
        let mut attempt = Some(Attempt::Whole);
        let mut seen = Vec::new();
        while let Some(now) = attempt {
            let policy = build(Some("mode: strict\n"), &keys(), now).unwrap();
            let yaml = value(&policy.yaml);
            let recorder = &yaml["flight_recorder"];
            seen.push([
                recorder.get("completeness").is_some(),
                recorder.get("require_receipts").is_some(),
                yaml["fetch_proxy"].get("monitoring").is_some(),
            ]);
            attempt = now.next();
        }
        assert_eq!(
            seen,
            [
                [true, true, true],
                [false, true, true],
                [false, false, true],
                [false, false, false],
            ]
        );
    }

    #[test]
    fn callers_number_of_entries_in_a_file_is_kept() {
        for (text, kept) in [("7", Some(7)), ("0", None), ("-1", None), ("many", None)] {
            let caller = format!("flight_recorder: {{max_entries_per_file: {text}}}\n");
            let policy = build(Some(&caller), &keys(), Attempt::Whole).unwrap();
            assert_eq!(policy.entries_per_file, kept, "{text}");
            assert!(
                policy
                    .yaml
                    .contains(&format!("max_entries_per_file: {text}"))
            );
        }
    }

    /// Claims: pipelock-authority
    #[test]
    fn authority_of_an_interception_is_found_and_its_files_are_forced() {
        let caller = "mode: strict\ntls_interception: {enabled: true, ca_cert: /a, ca_key: /b}\n";
        let files = Some(("/a".into(), "/b".into()));
        assert_eq!(interception(caller).unwrap(), files);
        for off in [
            "mode: strict\n",
            "tls_interception: {enabled: false, ca_cert: /a, ca_key: /b}\n",
            "tls_interception: {enabled: true, ca_cert: /a}\n",
            "tls_interception: true\n",
        ] {
            assert_eq!(interception(off).unwrap(), None, "{off}");
        }
        let mut keys = keys();
        keys.authority = Some(("/run/x/ca.pem".into(), "/run/x/ca-key.pem".into()));
        let policy = build(Some(caller), &keys, Attempt::Bare).unwrap();
        let yaml = value(&policy.yaml);
        assert_eq!(yaml["tls_interception"]["ca_cert"], "/run/x/ca.pem");
        assert_eq!(yaml["tls_interception"]["ca_key"], "/run/x/ca-key.pem");
        assert_eq!(yaml["tls_interception"]["enabled"], true);
    }

    #[test]
    fn documents_that_are_no_mapping_or_ambiguous_are_refused() {
        for caller in [
            "[]",
            "mode: strict\nmode: audit\n",
            "mode: strict\n---\nmode: audit\n",
            "flight_recorder: none\n",
            "fetch_proxy: {monitoring: 3}\n",
            "kill_switch:\n",
        ] {
            assert!(
                build(Some(caller), &keys(), Attempt::Whole).is_err(),
                "{caller}"
            );
        }
    }
}
