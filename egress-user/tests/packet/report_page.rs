//! `report.html` is one page that loads nothing else. No text of a run can become markup in the page.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a page that cannot be read has failed the test"
)]
use super::support::{chain, packet_for};
use audit_packet::boundary::BoundaryReport;
use audit_packet::denied::Denied;
use audit_packet::format::boundary::{
    AllowedRow, AttestationKey, BoundaryDocument, Control, DeniedRow, Probe, ProbeOutcome, Probes,
};
use audit_packet::grade::{Grade, Graded};
use audit_packet::html::render;
use audit_packet::rendered::{self, Found, Source, VERSION};
use audit_packet::summary::Shown;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use egress_policy::allowed::Allowed;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::findings::Findings;
use serde_json::json;
use sha2::{Digest, Sha256};

/// All tags that the page may have after its head.
const TAGS: [&str; 18] = [
    "h1", "/h1", "h2", "/h2", "p", "/p", "pre", "/pre", "table", "/table", "tr", "/tr", "th",
    "/th", "td", "/td", "/body", "/html",
];

const HOSTILE: &str = "</td><script src=//evil.test/x>alert(1)</script><img src=x onerror=alert(1)>\
                       \"'`&lt;&#x3c;</style>{{x}}\u{202e}\u{200b}\u{0}\u{1b}[2J\n<!--";

/// Returns the page of a run in which every text is `text`.
fn page_of(text: &str) -> String {
    let chain = chain(4, 2);
    let bytes = chain.bytes();
    let file = EvidenceFile {
        name: "evidence.jsonl",
        bytes: &bytes,
    };
    let trust = Trust {
        keys: vec![chain.key.verifying_key()],
    };
    let report = check_evidence(&[file], &trust);
    let mut packet = packet_for(&report);
    let hostile = || String::from(text);
    packet.run.agent_identity = hostile();
    packet.run.repository = Some(hostile());
    packet.run.workflow = Some(hostile());
    packet.run.sha = Some(hostile());
    packet.posture.script_basename = Some(hostile());
    packet.posture.unsupported_paths = vec![hostile()];
    packet.verifier.signer_key = Some(hostile());
    packet.verifier.error = Some(hostile());
    let through =
        json!({"requests": 2, "bytes_up": 3, "bytes_down": 5, "head_bytes": 13, "target_bytes": 8});
    let channels = json!({
        "allowed_hosts": {text: through}, "other_hosts": through, "blocked": through, "names": 11, "name_bytes": 13,
    });
    let boundary_document = BoundaryDocument {
        denied: vec![DeniedRow {
            count: 3,
            attempt: Denied {
                destination: hostile(),
                port: 0,
                protocol: hostile(),
                reason: hostile(),
                process: hostile(),
            },
        }],
        allowed: vec![AllowedRow {
            host: hostile().into(),
            port: 443,
            count: 7,
        }],
        probes: Probes {
            results: vec![Probe {
                name: hostile().into(),
                outcome: ProbeOutcome::Denied,
                detail: hostile().into(),
                control: Control {
                    succeeded: true,
                    detail: hostile().into(),
                },
            }],
            ..Probes::default()
        },
        residual_channels: serde_json::from_value(channels).unwrap(),
        notices: vec![hostile().into()],
        incomplete: vec![hostile().into()],
        attestation: AttestationKey {
            key: hostile().into(),
            pinned: true,
        },
        packet_directory: hostile().into(),
        ..BoundaryDocument::default()
    };
    let graded = Graded {
        grade: Grade::KernelObserved,
        reasons: vec![hostile()],
    };
    render(&Shown {
        packet: &packet,
        report: &report,
        boundary_document: &boundary_document,
        graded: &graded,
        allowed: &Allowed::default(),
        packet_sha256: text,
    })
}

/// Returns the tags of a page, without their brackets.
fn tags(page: &str) -> Vec<&str> {
    let parts = page.split('<').skip(1);
    parts
        .map(|part| part.split_once('>').unwrap_or_else(|| panic!("{part}")).0)
        .collect()
}

#[test]
fn hostile_names_are_text_wherever_they_stand() {
    let page = page_of(HOSTILE);
    let plain = page_of("a.test");
    // The tags do not depend on the names, and none of them contains a URL or an event handler.
    assert_eq!(tags(&page), tags(&plain));
    let (head, body) = page.split_once("<body>").unwrap();
    for tag in tags(body) {
        assert!(TAGS.contains(&tag), "{tag}");
    }
    for word in [
        "<script", "<link", "<base", "src=", "href=", "url(", "@import", "://",
    ] {
        assert!(!head.contains(word), "{word}: {head}");
    }
    assert!(!page.contains(['\u{202e}', '\u{200b}', '\u{0}', '\u{1b}']));
    assert!(!page.contains("<img") && !page.contains("<script") && !page.contains("<!--"));
    // The name appears in each place, as text.
    let shown = "&lt;/td&gt;&lt;script src=//evil.test/x&gt;";
    // Some names would need quotes in a shell. Only the suggested command omits or replaces such names.
    let places = plain.matches("a.test").count();
    assert_eq!(page.matches(shown).count() + 3, places);
    assert!(places >= 15, "{plain}");
    assert!(page.contains("<pre>egress verify PACKET --allow-unpinned</pre>"));
}

#[test]
fn page_admits_its_own_style_and_nothing_else() {
    let page = page_of("a.test");
    let (_, rest) = page.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let digest = STANDARD.encode(Sha256::digest(style));
    let policy = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'; \
         base-uri 'none'; form-action 'none'\">"
    );
    assert!(page.contains(&policy), "{page}");
    // The content security policy comes before everything that it restricts.
    assert!(page.find(&policy).unwrap() < page.find("<style>").unwrap());
    assert_eq!(page.matches("<style>").count(), 1);
}

#[test]
fn page_has_every_section_and_value() {
    let page = page_of("a.test");
    let mut rest = page.as_str();
    for title in [
        "Verdict",
        "Why the boundary is not graded higher",
        "The record is incomplete",
        "Notices",
        "Denied",
        "Allowed",
        "Posture",
        "Probes inside the boundary before the start",
        "Residual channels",
        "Check it",
    ] {
        let found = rest.split_once(&format!("<h2>{title}</h2>"));
        (_, rest) = found.unwrap_or_else(|| panic!("{title}: {page}"));
    }
    for text in [
        "<td>valid</td>",
        "<td>kernel_observed</td>",
        "<td>a.test:443</td><td>7</td>",
        "<td>a.test</td><td>2</td><td>3</td><td>5</td><td>8</td>",
        "<td>Boundary signed by</td><td>a.test</td>",
        "egress verify a.test --key a.test --boundary-key a.test</pre>",
        "11, 13 bytes",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

/// Claims: compare-pages*
#[test]
fn pages_are_compared_with_those_of_the_same_version() {
    let chain = chain(4, 2);
    let bytes = chain.bytes();
    let file = EvidenceFile {
        name: "evidence.jsonl",
        bytes: &bytes,
    };
    let trust = Trust {
        keys: vec![chain.key.verifying_key()],
    };
    let report = check_evidence(&[file], &trust);
    let packet = packet_for(&report);
    let graded = || Graded {
        grade: Grade::KernelEnforced,
        reasons: Vec::new(),
    };
    let broken = |version: &str, change: fn(&mut String)| -> Vec<&'static str> {
        let mut boundary_document = BoundaryDocument::default();
        boundary_document.egress.version = version.into();
        let boundary = BoundaryReport {
            graded: graded(),
            as_written: graded(),
            boundary_document: Some(boundary_document),
            signer: None,
            is_attested: false,
            is_identity_signed: false,
            reconciliation: None,
            allowed: Allowed::default(),
            flows: None,
            findings: Vec::new(),
        };
        let source = Source {
            packet: &packet,
            packet_sha256: "",
            report: &report,
            verdict: report.verdict,
            boundary: &boundary,
        };
        let mut pages = rendered::render(&source);
        change(&mut pages.summary);
        let found = Found {
            summary: Some(pages.summary.as_bytes()),
            verifier: Some(pages.verifier.as_bytes()),
            report: Some(pages.report.as_bytes()),
        };
        let mut findings = Findings::default();
        rendered::check(&source, &found, &mut findings);
        let found = findings.into_ranked().0;
        found.iter().map(|finding| finding.rule.id).collect()
    };
    assert_eq!(broken(VERSION, |_| {}), Vec::<&str>::new());
    let change = |page: &mut String| page.push('x');
    assert_eq!(broken(VERSION, change), ["packet.rendered"]);
    assert_eq!(broken("0.0.0", change), ["packet.not-rendered"]);
}
