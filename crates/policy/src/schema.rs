//! The JSON Schema of the policy, for editors.
//!
//! A unit test compares these types with the keys that [`super::parse`] reads. The schema also has the
//! keys that only Pipelock implements, without their values, because only Pipelock checks them.
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::{Map, Value, json};

use super::keys::NOT_IMPLEMENTED;

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $key:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, JsonSchema)]
        #[schemars(default, deny_unknown_fields)]
        pub struct $name { $($(#[$of])* pub $key: $type,)+ }
    )+};
}

sections! {
    /// An egress policy, in Pipelock's policy language
    PolicyFile {
        /// Version of the policy language.
        #[schemars(extend("const" = 1))]
        version: u64,
        /// What happens to a destination that is not in `api_allowlist`.
        mode: Mode,
        /// Whether the policy is enforced. The built-in mediator accepts only `true`.
        enforce: bool,
        /// Destinations that the command may reach.
        api_allowlist: Vec<HostEntry>,
        /// Host names that may resolve to addresses of private networks.
        trusted_domains: Vec<HostEntry>,
        /// Addresses that the mediator may connect to although they are not public.
        ssrf: Ssrf,
        /// Actor in the receipts. The run sets this key.
        default_agent_identity: String,
        /// Whether the mediator ignores the identity that a client sends. The run sets this key.
        bind_default_agent_identity: bool,
        /// Settings for plain HTTP requests.
        fetch_proxy: FetchProxy,
        /// Settings for tunnels.
        forward_proxy: ForwardProxy,
        /// Settings for WebSocket connections.
        websocket_proxy: WebsocketProxy,
        /// Settings for receipts.
        flight_recorder: FlightRecorder,
        /// Settings without effect, because the receipts are the log.
        logging: Logging,
    }

    /// Addresses that the mediator may connect to although they are not public.
    Ssrf {
        /// Ranges of non-public addresses, such as `10.20.0.0/16`, that the mediator may connect to on every port.
        ip_allowlist: Vec<Range>,
    }

    /// Settings for plain HTTP requests.
    FetchProxy {
        /// Address at which the mediator listens. The run sets this key.
        listen: String,
        /// Time limit for the head of a response, in seconds.
        timeout_seconds: Count,
        /// Maximum length of a response, in MiB.
        max_response_mb: Count,
    }

    /// Settings for tunnels.
    ForwardProxy {
        /// Whether tunnels are allowed. The run sets this key.
        enabled: bool,
        /// Maximum lifetime of a tunnel, in seconds.
        max_tunnel_seconds: Count,
        /// Maximum time without a byte, in seconds.
        idle_timeout_seconds: Count,
        /// Whether the name in the `ClientHello` must be the requested name.
        sni_verification: bool,
        /// Whether a tunnel must carry TLS. The built-in mediator accepts only `true`.
        sni_require_tls: bool,
    }

    /// Settings for WebSocket connections.
    WebsocketProxy {
        /// Whether WebSocket connections are allowed. The run sets this key.
        enabled: bool,
        /// Maximum lifetime of a connection, in seconds.
        max_connection_seconds: Count,
        /// Maximum time without a byte, in seconds.
        idle_timeout_seconds: Count,
        /// Maximum number of concurrent connections.
        max_concurrent_connections: Count,
        /// Whether binary frames are passed on. The built-in mediator accepts only `true`.
        allow_binary_frames: bool,
        /// Whether cookies in handshakes are passed on. The built-in mediator accepts only `true`.
        forward_cookies: bool,
    }

    /// Settings for receipts.
    FlightRecorder {
        /// Whether receipts are written. The run sets this key.
        enabled: bool,
        /// Directory of the evidence. The run sets this key.
        dir: String,
        /// File of the signing key. The run sets this key.
        signing_key_path: String,
        /// Whether checkpoints are signed. The run sets this key.
        sign_checkpoints: bool,
        /// Whether Pipelock redacts targets in its evidence. A run with the built-in mediator sets this key.
        redact: bool,
        /// Whether an action requires a receipt. The built-in mediator accepts only `true`.
        require_receipts: bool,
        /// Number of entries between two signed checkpoints.
        checkpoint_interval: Count,
        /// Number of lines after which a new evidence file starts.
        max_entries_per_file: Count,
        /// Records that show whether receipts are missing.
        completeness: Completeness,
    }

    /// Records that show whether receipts are missing.
    Completeness {
        /// Time between two heartbeats, such as `60s` or `1m30s`.
        heartbeat_interval: String,
    }

    /// Settings without effect, because the receipts are the log.
    Logging {
        /// Has no effect.
        format: String,
        /// Has no effect.
        output: String,
        /// Has no effect.
        include_allowed: bool,
        /// Has no effect.
        include_blocked: bool,
    }
}

/// What happens to a destination that is not in `api_allowlist`.
#[derive(Debug, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Mode {
    /// The destination is denied. The built-in mediator has no other mode.
    #[default]
    Strict,
    /// Pipelock allows the destination and scans the traffic.
    Balanced,
    /// Pipelock allows the destination, and only records what it would deny.
    Audit,
}

/// A name, an address, or `*.` followed by a name, which matches that name and every name below it. URLs and ports are
/// not accepted.
#[derive(Debug, Default, JsonSchema)]
#[schemars(transparent)]
pub struct HostEntry(
    #[schemars(regex(
        pattern = r"^((\*\.)?[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?)$"
    ))]
    pub String,
);

/// A range of addresses, `ADDRESS/BITS`.
#[derive(Debug, Default, JsonSchema)]
#[schemars(transparent)]
pub struct Range(#[schemars(regex(pattern = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"))] pub String);

/// A whole number of at least 1.
#[derive(Debug, Default, JsonSchema)]
#[schemars(transparent)]
pub struct Count(#[schemars(range(min = 1))] pub u64);

/// Returns the schema.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<PolicyFile>();
    RecursiveTransform(|part: &mut schemars::Schema| {
        // The value of an absent key depends on the mediator, and integers have no format in JSON.
        part.remove("default");
        part.remove("format");
    })
    .transform(&mut schema);
    let mut schema = schema.to_value();
    for path in NOT_IMPLEMENTED {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        if let Some(keys) = properties(&mut schema, section) {
            let what = "Only Pipelock implements this key: use --mediator pipelock.";
            keys.insert(key.to_owned(), json!({"description": what}));
        }
    }
    schema
}

/// Returns the keys of a section. The type of a section has the name of its key in camel case.
fn properties<'s>(schema: &'s mut Value, section: &str) -> Option<&'s mut Map<String, Value>> {
    if section.is_empty() {
        return schema.get_mut("properties")?.as_object_mut();
    }
    let reference = schema.pointer(&format!("/properties/{section}"))?;
    let reference = reference
        .get("$ref")
        .or_else(|| reference.pointer("/allOf/0/$ref"));
    let pointer = reference?.as_str()?.strip_prefix('#')?.to_owned();
    let of_type = schema.pointer_mut(&pointer)?;
    of_type.get_mut("properties")?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PolicyError, parse::parse};

    /// Returns the keys that the parser reads in a section, and the keys that only Pipelock has.
    fn keys_of_parser(section: &str) -> Vec<String> {
        let prefix = if section.is_empty() {
            String::new()
        } else {
            format!("{section}.")
        };
        let text = section
            .split('.')
            .rev()
            .filter(|name| !name.is_empty())
            .fold(String::from("{qqqqqqqqqq: 1}"), |inner, name| {
                format!("{{{name}: {inner}}}")
            });
        let error = parse(&text).unwrap_err();
        let PolicyError::UnknownKey { known, nearest, .. } = error else {
            panic!("{section}: {error}");
        };
        assert_eq!(nearest, None);
        let only_pipelock = NOT_IMPLEMENTED.iter().map(|key| (*key).to_owned());
        let all = known.into_iter().chain(only_pipelock);
        let here = all.filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned()));
        let mut keys: Vec<String> = here.filter(|key| !key.contains('.')).collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_schema_has_the_keys_of_the_parser() {
        let mut schema = schema();
        let sections = [
            "",
            "ssrf",
            "fetch_proxy",
            "forward_proxy",
            "websocket_proxy",
            "flight_recorder",
            "logging",
        ];
        for section in sections {
            let mut keys: Vec<String> = properties(&mut schema, section)
                .unwrap()
                .keys()
                .cloned()
                .collect();
            keys.sort();
            assert_eq!(keys, keys_of_parser(section), "{section}");
        }
        let completeness = schema
            .pointer("/definitions/Completeness/properties")
            .unwrap();
        let keys: Vec<&String> = completeness.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["heartbeat_interval"]);
        assert_eq!(
            keys_of_parser("flight_recorder.completeness"),
            ["heartbeat_interval"]
        );
    }
}
