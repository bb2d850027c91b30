//! Table tests of the policy: documents, hosts, entries, runtime documents.
use std::time::Duration;

use super::host::HostError;
use super::runtime::{OwnedKeys, build, policy_hash};
use super::{AllowList, Host, PolicyError, document, parse::parse};

mod addresses;
mod mistakes;

fn owned() -> OwnedKeys {
    OwnedKeys {
        listen: String::from("127.0.0.1:8888"),
        agent_identity: String::from("ci-agent"),
        evidence_dir: String::from("/run/egress/r/evidence"),
        signing_key_path: String::from("/run/egress/r/key"),
    }
}

#[test]
fn refused_documents_name_key_and_line() {
    let cases = [
        ("", "policy line 1: the document is not a mapping of keys"),
        (
            "# nothing\n",
            "policy line 2: the document is not a mapping of keys",
        ),
        (
            "- a\n",
            "policy line 1: the document is not a mapping of keys",
        ),
        (
            "secret-token\n",
            "policy line 1: the document is not a mapping of keys",
        ),
        ("version: 2\n", "policy line 1: `version` must be 1, not 2"),
        (
            "version: 1\nmod: strict\n",
            "policy line 2: unknown key `mod`; did you mean `mode`?",
        ),
        ("a\u{7}b: 1\n", "policy line 1: not valid YAML for a policy"),
        (
            "mode: strict\nmode: strict\n",
            "policy line 2: duplicate key `mode`",
        ),
        (
            "forward_proxy:\n  enabled: true\n  enabled: false\n",
            "policy line 3: duplicate key `enabled`",
        ),
        (
            "version: 1\n---\nversion: 1\n",
            "policy line 3: a second document follows the first",
        ),
        (
            "api_allowlist: *none\n",
            "policy line 1: an alias refers to an anchor that is not defined",
        ),
        (
            "mode: strict\ndlp:\n  scan_env: true\n",
            "policy line 2: `dlp` is not implemented by the built-in mediator; use --mediator pipelock",
        ),
        (
            "fetch_proxy:\n  monitoring: {max_requests_per_minute: 5}\n",
            "policy line 2: `fetch_proxy.monitoring` is not implemented by the built-in mediator; use --mediator pipelock",
        ),
        (
            "forward_proxy:\n  idle: 5\n",
            "policy line 2: unknown key `forward_proxy.idle`; the keys here are forward_proxy.enabled, forward_proxy.max_tunnel_seconds, forward_proxy.idle_timeout_seconds, forward_proxy.sni_verification, forward_proxy.sni_require_tls",
        ),
        (
            "forward_proxy: true\n",
            "policy line 1: `forward_proxy` must be a mapping of keys, not true",
        ),
        (
            "fetch_proxy:\n",
            "policy line 1: `fetch_proxy` must be a mapping of keys; indent its keys two spaces deeper than its name",
        ),
        (
            "forward_proxy: {enabled: yes}\n",
            "policy line 1: `forward_proxy.enabled` must be true or false, not \"yes\"",
        ),
        (
            "api_allowlist: a.test\n",
            "policy line 1: `api_allowlist` must be a list, not \"a.test\"",
        ),
        (
            "api_allowlist:\n  - a.test\n  - 7\n",
            "policy line 3: `api_allowlist[1]` must be text (quote it), not 7",
        ),
        (
            "api_allowlist: [\"https://a.test\"]\n",
            "policy line 1: `api_allowlist[0]` is \"https://a.test\", a URL; write a.test",
        ),
        (
            "ssrf: {ip_allowlist: [\"10.0.0.1\"]}\n",
            "policy line 1: `ssrf.ip_allowlist[0]` must be an address range such as 198.51.100.0/24, not \"10.0.0.1\"",
        ),
        (
            "flight_recorder: {completeness: {heartbeat_interval: 500ms}}\n",
            "policy line 1: `flight_recorder.completeness.heartbeat_interval` must be a duration of whole seconds such as 60s or 1m30s, not \"500ms\"",
        ),
        (
            "default_agent_identity: \" a\"\n",
            "policy line 1: `default_agent_identity` must be 1 to 128 characters without leading or trailing spaces, not \" a\"",
        ),
        (
            "x: !!python/object:os.system 1\n",
            "policy line 1: not valid YAML for a policy",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text);
        assert_eq!(error.to_string(), expected, "for {text:?}");
    }
}

#[test]
fn only_strict_is_accepted() {
    assert!(parse("version: 1\n").is_ok());
    assert!(parse("mode: strict\nenforce: true\n").is_ok());
    for text in [
        "mode: balanced\n",
        "mode: audit\n",
        "mode: Strict\n",
        "enforce: false\n",
    ] {
        assert!(
            matches!(parse(text), Err(PolicyError::Invalid { .. })),
            "{text}"
        );
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        let row = vec![below; 10].join(", ");
        for part in [
            "a",
            &level.to_string(),
            ": &a",
            &level.to_string(),
            " [",
            &row,
            "]\n",
        ] {
            text.push_str(part);
        }
    }
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.contains("expands its aliases too far"), "{error}");
    let deep = format!("a: {}{}", "[".repeat(2000), "]".repeat(2000));
    assert!(parse(&deep).is_err());
    assert!(parse(&"a".repeat(document::MAX_DOCUMENT_BYTES + 1)).is_err());
}

#[test]
fn a_full_document_is_read() {
    let policy = parse(
        "version: 1
mode: strict
trusted_domains: &hosts [a.test, '*.b.test']
",
    )
    .unwrap();
    assert!(
        policy
            .guard
            .trusted_domains
            .allows(&Host::parse("x.b.test").unwrap())
    );
    let policy = parse(
        "api_allowlist: &hosts [a.test, '*.b.test', 198.51.100.12]
trusted_domains: *hosts
ssrf: {ip_allowlist: ['127.0.0.0/8', '::1/128']}
fetch_proxy: {listen: '127.0.0.1:1', timeout_seconds: 7, max_response_mb: 3}
forward_proxy: {enabled: true, max_tunnel_seconds: 9, idle_timeout_seconds: 8, sni_verification: false}
websocket_proxy: {enabled: true, max_connection_seconds: 11, idle_timeout_seconds: 12, max_concurrent_connections: 13}
default_agent_identity: me
bind_default_agent_identity: true
flight_recorder: {enabled: true, dir: /e, redact: false, sign_checkpoints: true, signing_key_path: /k, checkpoint_interval: 14, max_entries_per_file: 15, require_receipts: true, completeness: {heartbeat_interval: 1m30s}}
logging: {format: json, output: stdout, include_allowed: true, include_blocked: true}
",
    )
    .unwrap();
    assert_eq!(policy.fetch.timeout, Duration::from_secs(7));
    assert_eq!(policy.fetch.max_response_bytes, Some(3 << 20));
    assert_eq!(policy.forward.max_tunnel, Some(Duration::from_secs(9)));
    assert_eq!(policy.forward.idle_timeout, Duration::from_secs(8));
    assert!(!policy.forward.sni_verification);
    assert_eq!(policy.websocket.max_concurrent, 13);
    assert_eq!(policy.recorder.heartbeat, Duration::from_secs(90));
    assert_eq!(policy.recorder.max_entries_per_file, Some(15));
    assert_eq!(policy.recorder.checkpoint_interval, 14);
    assert_eq!(policy.agent_identity.as_deref(), Some("me"));
    assert!(policy.allow.allows(&Host::parse("198.51.100.12").unwrap()));
}

/// Claims: crate-policy
#[test]
fn hosts_have_one_spelling() {
    let name = |text: &str| Host::Name(text.to_owned());
    let ip = |text: &str| Host::Ip(text.parse().unwrap());
    for (text, expected) in [
        ("Api.Example.TEST", name("api.example.test")),
        ("api.example.test.", name("api.example.test")),
        ("xn--bcher-kva.test", name("xn--bcher-kva.test")),
        ("a_b.test", name("a_b.test")),
        ("1.2.3.4.test", name("1.2.3.4.test")),
        ("127.0.0.1", ip("127.0.0.1")),
        ("127.0.0.1.", ip("127.0.0.1")),
        ("[::1]", ip("::1")),
        ("::1", ip("::1")),
        ("[::ffff:10.0.0.1]", ip("10.0.0.1")),
        ("[0:0:0:0:0:ffff:7f00:1]", ip("127.0.0.1")),
    ] {
        assert_eq!(Host::parse(text), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("", HostError::Empty),
        (".", HostError::Empty),
        ("a..test", HostError::Label),
        (".a.test", HostError::Label),
        ("a.test..", HostError::Label),
        ("-a.test", HostError::Label),
        ("a-.test", HostError::Label),
        ("a b.test", HostError::Character),
        ("a%2etest", HostError::Character),
        ("a\0.test", HostError::Character),
        ("a.test\t", HostError::Character),
        ("b\u{fc}cher.test", HostError::Character),
        ("a\u{3002}test", HostError::Character),
        ("\u{ff21}.test", HostError::Character),
        ("user@a.test", HostError::Character),
        ("*.a.test", HostError::Character),
        ("2130706433", HostError::AddressSpelling),
        ("0x7f000001", HostError::AddressSpelling),
        ("0x7f.1", HostError::AddressSpelling),
        ("127.1", HostError::AddressSpelling),
        ("127.0.0.01", HostError::AddressSpelling),
        ("0177.0.0.1", HostError::AddressSpelling),
        ("a.test.0X1f", HostError::AddressSpelling),
        ("1.2.3.4.5", HostError::AddressSpelling),
        ("0x", HostError::AddressSpelling),
        ("fe80::1%eth0", HostError::AddressSpelling),
        ("[127.0.0.1]", HostError::AddressSpelling),
        ("[::1", HostError::Character),
        ("[::1]x", HostError::Character),
    ] {
        assert_eq!(Host::parse(text), Err(expected), "{text}");
    }
    assert_eq!(Host::parse(&"a".repeat(64)), Err(HostError::Label));
    assert_eq!(Host::parse(&"a.".repeat(150)), Err(HostError::TooLong));
}

/// Claims: crate-policy*
#[test]
fn the_list_matches_at_label_borders_only() {
    let mut list = AllowList::default();
    for entry in [
        "Exact.test.",
        "*.Wild.test",
        "198.51.100.7",
        "[2001:db8::7]",
    ] {
        list.insert(entry).unwrap();
    }
    let allows = |text: &str| list.allows(&Host::parse(text).unwrap());
    for text in [
        "exact.test",
        "EXACT.test.",
        "wild.test",
        "a.wild.test",
        "a.b.wild.test",
        "198.51.100.7",
        "[::ffff:198.51.100.7]",
        "[2001:db8:0::7]",
    ] {
        assert!(allows(text), "{text}");
    }
    for text in [
        "a.exact.test",
        "exact.test.evil.test",
        "notwild.test",
        "wild.test.evil.test",
        "test",
        "198.51.100.8",
        "[2001:db8::8]",
        "7.198.51.100.test",
    ] {
        assert!(!allows(text), "{text}");
    }
    for entry in [
        "*",
        "*.",
        "*.*",
        "a.*",
        "*a.test",
        "**.a.test",
        "*.127.0.0.1",
        "a.test:443",
        "[::1]:443",
        "10.0.0.0/8",
        "http://a.test",
        "a.test/x",
        "",
        " a.test",
        "127.1",
        "*.b\u{fc}cher.test",
    ] {
        assert!(AllowList::default().insert(entry).is_err(), "{entry}");
    }
    assert!(!AllowList::default().allows(&Host::parse("a.test").unwrap()));
}

#[test]
fn without_a_caller_nothing_may_be_reached() {
    let built = build(None, &owned()).unwrap();
    assert!(built.policy.allow.is_empty());
    assert!(built.overridden.is_empty());
    assert!(built.policy.forward.enabled && built.policy.websocket.enabled);
    assert_eq!(built.policy.agent_identity.as_deref(), Some("ci-agent"));
    assert_eq!(parse(&built.yaml).unwrap(), built.policy);
    assert_eq!(policy_hash(&built.yaml).len(), 64);
    assert_eq!(build(None, &owned()).unwrap().yaml, built.yaml);
}

/// Claims: crate-policy
#[test]
fn owned_keys_are_forced_and_the_rest_is_kept() {
    let caller = "
mode: strict
api_allowlist: &list ['*.a.test', \"no\", '1.2.3.4', 'x.test']
trusted_domains: *list
default_agent_identity: intruder
bind_default_agent_identity: true
fetch_proxy: {listen: '0.0.0.0:1', timeout_seconds: 5}
forward_proxy: {enabled: false, idle_timeout_seconds: 77}
flight_recorder: {redact: false, dir: /elsewhere, checkpoint_interval: 3}
";
    let built = build(Some(caller), &owned()).unwrap();
    assert_eq!(
        built.overridden,
        [
            "default_agent_identity",
            "fetch_proxy.listen",
            "forward_proxy.enabled",
            "flight_recorder.dir",
            "flight_recorder.redact",
        ]
    );
    let policy = parse(&built.yaml).unwrap();
    assert_eq!(policy, built.policy);
    assert_eq!(policy.fetch.listen.as_deref(), Some("127.0.0.1:8888"));
    assert_eq!(policy.fetch.timeout, Duration::from_secs(5));
    assert_eq!(policy.forward.idle_timeout, Duration::from_secs(77));
    assert_eq!(policy.recorder.checkpoint_interval, 3);
    assert!(policy.allow.allows(&Host::parse("no").unwrap()));
    assert!(policy.allow.allows(&Host::parse("b.a.test").unwrap()));
    assert!(!built.yaml.contains("intruder") && !built.yaml.contains("elsewhere"));
}

#[test]
fn a_callers_mistake_is_reported_on_its_own_line() {
    let cases = [
        ("\nmode: balanced\n", 2),
        ("a: 1\n", 1),
        ("\n\nfetch_proxy: [1]\n", 3),
        ("flight_recorder:\n  require_receipts: false\n", 2),
    ];
    for (caller, expected) in cases {
        let line = match build(Some(caller), &owned()).unwrap_err() {
            PolicyError::Invalid { line, .. } | PolicyError::UnknownKey { line, .. } => line,
            PolicyError::Syntax { .. }
            | PolicyError::DuplicateKey { .. }
            | PolicyError::NotImplemented { .. }
            | PolicyError::NotFaithful => panic!("{caller:?}"),
        };
        assert_eq!(line, expected, "{caller:?}");
    }
    // Values that will be replaced are not checked.
    assert!(build(Some("default_agent_identity: ' x '\n"), &owned()).is_ok());
    assert!(build(Some("flight_recorder: {dir: 7}\n"), &owned()).is_ok());
}

#[test]
fn documents_read_back_as_written() {
    let text = "a: ['*.x', '- y', 'yes', 'null', '0x10', '1e3', '', ' lead', \"tab\\t\", '#no', 'a: b', '~', \"multi\\nline\\n\"]\nb: {c: 1.5, d: -7, e: null, f: true}\n";
    let entries = document::read(text).unwrap();
    let again = document::write(&entries).unwrap();
    assert_eq!(document::read(&again).unwrap(), entries);
}
