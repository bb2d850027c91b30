//! Tests of the texts for mistakes in a policy.
use super::parse;

#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let said = parse(text).map_or_else(|error| error.to_string(), |_| String::from("nothing"));
        assert!(said.contains(expected), "{text:?}: {said}");
    }
}

#[test]
fn a_text_that_may_be_a_secret_is_not_shown() {
    for text in [
        "\"s3cr3t value\": 1\n",
        "license_key: s3cr3t\n",
        "s3cr3t\n",
        "a: *s3cr3t\n",
        "a: \"s3cr3t\n",
        "api_allowlist: ['https://s3cr3t:s3cr3t@a.test/x?token=s3cr3t']\n",
        "api_allowlist: ['a.test/#s3cr3t']\n",
        "mode: 's3cr3t@y://s3cr3t@z'\n",
    ] {
        let said = parse(text).map_or_else(|error| error.to_string(), |_| String::from("nothing"));
        assert!(!said.contains("s3cr3t"), "{said}");
    }
    let long = format!("mode: {}\n", "x".repeat(500));
    assert!(parse(&long).unwrap_err().to_string().len() < 300);
}

#[test]
fn a_mistake_in_keys_and_layout_has_its_own_text() {
    refused(&[
        (
            "api_allow_list: []",
            "line 1: unknown key `api_allow_list`; did you mean `api_allowlist`?",
        ),
        (
            "ssrf:\n  ip_allow_list: []",
            "line 2: unknown key `ssrf.ip_allow_list`; did you mean `ssrf.ip_allowlist`?",
        ),
        ("dpl: {}", "unknown key `dpl`; did you mean `dlp`?"),
        (
            "mode: Strict",
            "`mode` must be strict, not \"Strict\"; write it in lower case",
        ),
        (
            "mode: stric",
            "`mode` must be strict, not \"stric\"; did you mean strict?",
        ),
        (
            "mode: balanced",
            "`mode` must be strict, not \"balanced\", because the built-in mediator has no other mode; use --mediator pipelock",
        ),
        (
            "mode: strict\napi_allowlist:\n\t- a.test\n",
            "line 3: the line starts with a tab; indent with spaces",
        ),
        (
            "mode: strict\n api_allowlist: [a.test]\n",
            "line 2: the indentation does not match any line above it",
        ),
        (
            "api_allowlist:\n  - a.test\n - b.test\n",
            "line 3: the indentation does not match any line above it",
        ),
        (
            "api_allowlist:\n  - a.test\n    - b.test\n",
            "line 2: `api_allowlist[0]` is \"a.test - b.test\", which looks like several items; indent all items",
        ),
        (
            "ssrf:\nip_allowlist: [10.0.0.0/8]\n",
            "line 1: `ssrf` must be a mapping of keys; indent its keys",
        ),
        (
            "api_allowlist: [*.example.org]",
            "line 1: an unquoted `*` is a YAML alias; quote the entry: \"*.example.org\"",
        ),
        (
            "api_allowlist:\n  - a.test\n  - *.example.org\n",
            "line 3: an unquoted `*` is a YAML alias; quote the entry: \"*.example.org\"",
        ),
        (
            "api_allowlist: [a.test, *]",
            "line 1: an unquoted `*` is a YAML alias",
        ),
    ]);
}

#[test]
fn a_bracket_or_quote_that_is_not_closed_has_its_place() {
    let open = "the `[` in column 16 is not closed; add `]` after the last item";
    refused(&[
        (
            "mode: strict\napi_allowlist: [a.test\n",
            &format!("policy line 2: {open}"),
        ),
        // The parser stops at a later line.
        (
            "api_allowlist: [a.test,\n  \"b.test\" # one more ]\nmode: strict\n",
            &format!("line 1: {open}"),
        ),
        (
            "api_allowlist: [a.test, *.example.org\nssrf:\n  ip_allowlist: [10.0.0.0/8]\n",
            &format!("line 1: {open}"),
        ),
        (
            "ssrf: {ip_allowlist: [10.0.0.0/8}\n",
            "line 1: the `[` in column 22 is not closed; add `]` after the last item",
        ),
        (
            "mode: strict\nssrf: {ip_allowlist: []\n",
            "line 2: the `{` in column 7 is not closed; add `}` after the last key",
        ),
        (
            "api_allowlist: [a.test]]\n",
            "line 1: the `]` in column 24 closes nothing; remove it",
        ),
        (
            "mode: \"strict\napi_allowlist: [a.test]\n",
            "line 1: the `\"` in column 7 is not closed; add the same quote at the end of the text",
        ),
        // Brackets in texts are not brackets of a list.
        (
            "api_allowlist: ['it''s [', \"\\\"[\"]\n\tx: y\n",
            "line 2: the line starts with a tab",
        ),
        (
            "mode: strict[\n b: [\n",
            "line 2: the `[` in column 5 is not closed",
        ),
    ]);
}

#[test]
fn a_mistake_in_a_list_of_hosts_has_its_own_text() {
    refused(&[
        (
            "api_allowlist: ['https://a.example/v1']",
            "is \"https://a.example/v1\", a URL; write a.example",
        ),
        (
            "api_allowlist: ['https://u:p@a.example:8443/v1?x']",
            "is \"***@a.example:8443/v1…\", a URL; write a.example, and add --allow-port 8443 to egress run",
        ),
        (
            "api_allowlist: ['a.example:8443']",
            "is \"a.example:8443\", a host with a port; write a.example, and add --allow-port 8443 to egress run",
        ),
        (
            "api_allowlist: ['a.example:443']",
            "a host with a port; write a.example, because port 443 is always open",
        ),
        (
            "api_allowlist: ['[2001:db8::1]:8443']",
            "a host with a port; write [2001:db8::1], and add --allow-port 8443",
        ),
        (
            "api_allowlist: ['*.a.example/v1']",
            "a host with a path; write \"*.a.example\"",
        ),
        (
            "api_allowlist: [10.0.0.0/8]",
            "a range of addresses; list single addresses here, and put the range into ssrf.ip_allowlist",
        ),
        (
            "api_allowlist: ['*']",
            "is \"*\", which would allow every destination",
        ),
        (
            "api_allowlist: ['api-*.example.org']",
            "`*` is allowed only at the beginning, followed by a dot and a name; write \"*.example.org\"",
        ),
        (
            "api_allowlist: ['b\u{fc}cher.example']",
            "is \"b\u{fc}cher.example\", an international name; write xn--bcher-kva.example",
        ),
        (
            "api_allowlist: ['*.B\u{fc}cher.example']",
            "an international name; write *.xn--bcher-kva.example",
        ),
        (
            "api_allowlist: ['a_b.test', 'a b.test']",
            "`api_allowlist[1]` is \"a b.test\", which contains a space",
        ),
        ("trusted_domains: [7.5]", "must be text (quote it), not 7.5"),
        (
            "api_allowlist:\n  -\n",
            "must be text (quote it), not nothing",
        ),
    ]);
}
