//! `report.html` and `summary.md` show the run to people. The page loads nothing else, and no text of a run can become
//! markup.
#![expect(
    clippy::panic,
    reason = "a page that cannot be read has failed the test"
)]
use std::collections::BTreeSet;

use super::pages::{HOSTILE, PageRun};
use super::support::{chain, packet_for};
use audit_packet::activity::Activity;
use audit_packet::boundary::BoundaryReport;
use audit_packet::format::boundary::BoundaryDocument;
use audit_packet::grade::{Grade, Graded};
use audit_packet::held_back::HeldBack;
use audit_packet::rendered::{self, Found, Source, VERSION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use egress_policy::allowed::Allowed;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::findings::Findings;
use sha2::{Digest, Sha256};

/// All tags that the page may have after its head.
const TAGS: [&str; 33] = [
    "bdi", "caption", "code", "dd", "details", "div", "dl", "dt", "footer", "h1", "h2", "header",
    "li", "main", "p", "path", "pre", "rect", "section", "span", "summary", "svg", "table",
    "tbody", "td", "text", "th", "thead", "tr", "ul", "wbr", "body", "html",
];

/// Returns the tags of a page, without their brackets.
fn tags(page: &str) -> Vec<&str> {
    let parts = page.split('<').skip(1);
    parts
        .map(|part| part.split_once('>').unwrap_or_else(|| panic!("{part}")).0)
        .collect()
}

#[test]
fn hostile_names_are_text_wherever_they_stand() {
    let page = PageRun::new(3, HOSTILE).report();
    // Like the hostile name, this is not a host name, so no hint names it.
    let plain = PageRun::new(3, "a test").report();
    // The tags do not depend on the names, and none of them contains a URL or an event handler.
    assert_eq!(tags(&page), tags(&plain));
    let (head, body) = page.split_once("<body>").unwrap();
    for tag in tags(body) {
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        assert!(TAGS.contains(&name), "{tag}");
        for word in [" on", "href", "src", "style", "url", "//"] {
            assert!(!tag.contains(word), "{tag}");
        }
    }
    for word in [
        "<script", "<link", "<base", "src=", "href=", "url(", "@import", "://",
    ] {
        assert!(!head.contains(word), "{word}: {head}");
    }
    assert!(!page.contains(['\u{202e}', '\u{200b}', '\u{0}', '\u{1b}']));
    assert!(!page.contains("<img") && !page.contains("<script") && !page.contains("<!--"));
    // The name appears in each place, as text.
    let places = plain.matches("a test").count();
    assert_eq!(page.matches("&lt;/td&gt;&lt;script").count(), places);
    assert!(places >= 60, "{places}: {plain}");
    // A name that would need quotes in a shell is not in the command.
    for page in [page, plain] {
        assert!(page.contains(">egress verify PACKET --key"), "{page}");
    }
}

#[test]
fn page_admits_its_own_style_and_nothing_else() {
    let page = PageRun::new(3, "a.test").report();
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
    assert!(!page.contains(" style="));
}

#[test]
fn page_begins_with_the_verdict_and_has_every_section_in_order() {
    let page = PageRun::new(3, "a.test").report();
    let summary = PageRun::new(3, "a.test").summary();
    let sentence = "Valid, boundary kernel_observed: 6 attempts denied, 3 changes held back, one of them a write to \
                    .github/workflows.";
    let first = format!(
        "<header class=\"warning\">\n<h1><span class=\"icon\" aria-hidden=\"true\">!</span> {sentence}</h1>"
    );
    assert!(page.contains(&format!("<body>\n{first}")), "{page}");
    assert!(
        summary.starts_with(&format!(
            "# ⚠️ {sentence}\n\nNot valid: ` a.test `\n\n## Denied\n"
        )),
        "{summary}"
    );
    let mut rest = page.as_str();
    for title in [
        "<h2>Denied</h2>",
        "<h2>Changes held back</h2>",
        "<h2>Allowed or denied: not known</h2>",
        "<h2>Allowed</h2>",
        "<h2>Requests that could be read</h2>",
        "<h2>Timeline</h2>",
        "<h2>Who talked to whom</h2>",
        "<h2>Processes</h2>",
        "<h2>Why the boundary is not graded higher</h2>",
        "<h2>The record is incomplete</h2>",
        "<h2>Not enforced</h2>",
        "<h2>Notices</h2>",
        "<h2>Check it</h2>",
        "<summary>Hashes, keys, and counts</summary>",
        "<summary>Posture</summary>",
        "<summary>Probes inside the boundary before the start</summary>",
        "<summary>Residual channels</summary>",
        "<footer>",
    ] {
        let found = rest.split_once(title);
        (_, rest) = found.unwrap_or_else(|| panic!("{title}: {page}"));
    }
    for text in [
        // Denied, with its code in words.
        "The allow-list does not contain the destination.",
        "<code>connect allowlist:<wbr>not_<wbr>in_<wbr>allowlist</code>",
        // Held back: the workflow comes first.
        "<tbody role=\"rowgroup\">\n<tr role=\"row\"><th role=\"rowheader\" scope=\"row\"><code>.github/workflows/x.yml</code>",
        // Allowed: process, bytes, and times.
        "data-label=\"Sent\">2\u{a0}KiB<svg class=\"bar\"",
        "data-label=\"First to last\">0.50\u{a0}s to 20.00\u{a0}s</td>",
        "<code>GET http://h1.a.test/path?[query 3 00]</code>",
        "aria-label=\"allowed 2 times, 0.50\u{a0}s to 20.00\u{a0}s\"",
        "<path class=\"no\"",
        "process 101, 102",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn page_can_be_read_by_a_screen_reader() {
    let page = PageRun::new(30, "a.test").report();
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    for (tag, count) in [("<h1", 1), ("<main>", 1), ("<header ", 1), ("<footer>", 1)] {
        assert_eq!(page.matches(tag).count(), count, "{tag}");
    }
    let tables = page.matches("<table role=\"table\">\n<caption>").count();
    assert_eq!(page.matches("<table").count(), tables);
    for tag in tags(&page) {
        let name = tag.split(' ').next().unwrap();
        match name {
            "th" => assert!(tag.contains("scope=") && tag.contains("role="), "{tag}"),
            "td" => assert!(tag.contains("role=\"cell\" data-label="), "{tag}"),
            "svg" => assert!(
                tag.contains("role=\"img\" aria-label=\"") || tag.contains("aria-hidden=\"true\""),
                "{tag}"
            ),
            "section" => assert!(tag.contains("aria-label="), "{tag}"),
            _ => {}
        }
    }
    // Each element is closed.
    let mut open = Vec::new();
    let (_, body) = page.split_once("<body>").unwrap();
    for tag in tags(body) {
        match tag.strip_prefix('/') {
            Some("body" | "html") => {}
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if tag.ends_with('/') || tag == "wbr" => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn many_and_hostile_names_do_not_make_the_pages_large() {
    let longest = "<'\"&".repeat(200);
    for (count, text) in [
        (3_000, "a.test"),
        (3_000, HOSTILE),
        (3_000, longest.as_str()),
    ] {
        let run = PageRun::new(count, text);
        let (report, summary) = (run.report(), run.summary());
        for page in [&report, &summary] {
            assert!(page.len() < 1_000_000, "{}", page.len());
        }
        // The lists end with the number of rows that they leave out.
        let head = |title: &str| report.find(title).unwrap_or_else(|| panic!("{title}"));
        for (title, all) in [("<h2>Denied</h2>", 6_000), ("<h2>Allowed</h2>", 3_000)] {
            let (_, section) = report.split_at(head(title));
            let (section, _) = section.split_once("</section>").unwrap();
            let rows = section
                .matches("<tr role=\"row\"><th role=\"rowheader\"")
                .count();
            let more = format!("<p class=\"more\">and {} more</p>", all - rows);
            assert!(rows >= 5 && section.contains(&more), "{rows}: {section}");
        }
    }
}

#[test]
fn commands_to_check_name_no_key_of_the_packet() {
    let mut run = PageRun::new(3, "a.test");
    let check = |run: &PageRun| {
        let page = run.report();
        let (_, rest) = page.split_once("<h2>Check it</h2>").unwrap();
        let (section, _) = rest.split_once("</section>").unwrap();
        let command = section.split("<pre tabindex=\"0\">").nth(1).unwrap();
        let command = command.split("</pre>").next().unwrap().to_owned();
        assert!(run.summary().contains(&format!("```sh\n{command}\n```")));
        assert!(!command.contains(&run.key) && !section.contains(&run.key));
        command
    };
    assert_eq!(
        check(&run),
        "egress verify a.test --key RECEIPT_KEY --boundary-key BOUNDARY_KEY"
    );
    run.document.attestation.pinned = false;
    assert_eq!(check(&run), "egress verify a.test --key RECEIPT_KEY");
    run.packet.verifier.verdict = audit_packet::model::PacketVerdict::SelfConsistentOnly;
    assert_eq!(check(&run), "egress verify a.test --allow-unpinned");
}

#[test]
fn first_sentence_follows_verdict_and_grade() {
    use audit_packet::model::PacketVerdict;
    let mut run = PageRun::new(1, "a.test");
    let first = |run: &PageRun| run.summary().lines().next().unwrap().to_owned();
    run.graded.grade = Grade::KernelEnforced;
    run.graded.reasons.clear();
    let good = first(&run);
    assert!(
        good.starts_with("# ✅ Valid, boundary kernel_enforced: 2 attempts denied, "),
        "{good}"
    );
    assert!(run.report().contains("<header class=\"good\">"));
    run.document.denied.clear();
    run.held_back = HeldBack::default();
    assert_eq!(
        first(&run),
        "# ✅ Valid, boundary kernel_enforced: nothing denied, no change held back."
    );
    run.document.workspace.changes = None;
    assert_eq!(
        first(&run),
        "# ✅ Valid, boundary kernel_enforced: nothing denied."
    );
    run.packet.verifier.verdict = PacketVerdict::SelfConsistentOnly;
    run.graded.grade = Grade::Unpinned;
    assert_eq!(
        first(&run),
        "# ⚠️ Consistent, signed by a key that exists only for this run, boundary unpinned: nothing denied."
    );
    run.packet.verifier.verdict = PacketVerdict::Invalid;
    assert!(first(&run).starts_with("# ❌ Invalid, "));
    assert!(run.report().contains("<header class=\"bad\">"));
    run.packet.posture.enforcement_mode = String::from("none_audit");
    assert_eq!(
        first(&run),
        "# ⚠️ Audit only, nothing was enforced: no attempt that every policy denies."
    );
    run.deny("a.test", "curl");
    assert_eq!(
        first(&run),
        "# ⚠️ Audit only, nothing was enforced: 1 attempt that every policy denies."
    );
    // `egress verify` rejects the packet of an audit, so the pages name no command that checks it.
    for page in [run.summary(), run.report()] {
        assert!(
            !page.contains("Check it") && !page.contains("egress verify"),
            "{page}"
        );
    }
}

/// Returns the parts of a line that are outside its code spans.
fn outside_code(line: &str) -> String {
    let mut outside = String::new();
    let mut open = None;
    for word in line.split(' ') {
        let is_fence = !word.is_empty() && word.bytes().all(|byte| byte == b'`');
        match open {
            None if is_fence => open = Some(word),
            Some(fence) if word == fence => open = None,
            Some(_) => {}
            None => outside.push_str(word),
        }
    }
    assert_eq!(open, None, "{line}");
    outside
}

#[test]
fn hostile_names_stay_in_code_spans_of_the_summary() {
    let hostile = "`x`](https://evil.test) <img src=x> @team #1 | \u{202e}\u{200b}\n## Verdict: valid ```\n# evil";
    let (summary, plain) = (
        PageRun::new(3, hostile).summary(),
        PageRun::new(3, "evil").summary(),
    );
    assert!(!summary.contains(['\u{202e}', '\u{200b}']), "{summary}");
    let titles = |text: &str| -> BTreeSet<String> {
        let lines = text
            .lines()
            .filter(|line| line.starts_with('#') || line.starts_with('<'));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(titles(&summary), titles(&plain));
    let lines: Vec<&str> = summary
        .lines()
        .filter(|line| line.contains("evil"))
        .collect();
    assert!(lines.len() > 20, "{summary}");
    for line in lines {
        let outside = outside_code(line);
        assert!(
            !outside.contains(['<', '>', '[', '@', '#', '`']),
            "{outside}"
        );
    }
}

#[test]
fn many_denials_end_in_one_block() {
    let mut run = PageRun::new(0, "curl");
    run.deny("h10.test", "curl");
    run.deny("h2.test", "curl");
    run.deny("```\n# x", "git");
    run.document.allowed_ports = vec![80, 443];
    run.allowed = Allowed::strict(egress_policy::AllowList::default());
    let summary = run.summary();
    let block =
        "\nTo allow them all:\n\n```yaml\napi_allowlist:\n  - \"h2.test\"\n  - \"h10.test\"\n```\n";
    assert!(summary.contains(block), "{summary}");
    let row = "| ` h2.test:443 ` | ` curl ` | 1 | The allow-list does not contain the destination. \
               ` connect allowlist:not_in_allowlist ` | ` api_allowlist: [\"h2.test\"] ` |";
    assert!(summary.contains(row), "{summary}");
}

/// The first sentence, the table, and the settings to paste agree if `boundary.json` does not list all destinations.
#[test]
fn counts_agree_if_the_packet_leaves_destinations_out() {
    let mut run = PageRun::new(0, "curl");
    for number in 0..500 {
        run.deny(&format!("h{number}.test"), "curl");
    }
    run.document.denied_left_out = 1001;
    run.document.allowed_ports = vec![80, 443];
    run.allowed = Allowed::strict(egress_policy::AllowList::default());
    for page in [run.report(), run.summary()] {
        assert!(page.contains(": 1501 attempts denied, "), "{page}");
        assert!(page.contains("and 1401 more"), "{page}");
        assert!(
            page.contains("  # and up to 1401 more: egress policy suggest"),
            "{page}"
        );
    }
    // Rows that are left out may count as many attempts as the last row that is listed.
    for row in &mut run.document.denied {
        row.count = 2;
    }
    let summary = run.summary();
    assert!(
        summary.contains(": at least 2001 attempts denied, "),
        "{summary}"
    );
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
            activity: Activity::default(),
            held_back: HeldBack::default(),
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

/// The drawing and the processes show fewer destinations than a long run has, and state how many they leave out.
#[test]
fn drawing_and_processes_state_how_many_destinations_they_leave_out() {
    let section = |run: &PageRun, title: &str| {
        let page = run.report();
        let (_, rest) = page.split_once(&format!("<h2>{title}</h2>")).unwrap();
        rest.split_once("</section>").unwrap().0.to_owned()
    };
    let (drawing, processes) = ("Who talked to whom", "Processes");
    let mut run = PageRun::new(0, "curl");
    for number in 0..32 {
        run.deny(&format!("h{number}.test"), "curl");
    }
    // Removes the answered request that every `PageRun` has, because its destination would be counted as well.
    run.document.answered.clear();
    let drawn = section(&run, drawing);
    assert!(drawn.contains("Not drawn: 20 destinations.</p>"), "{drawn}");
    let listed = section(&run, processes);
    assert!(listed.contains("and 24 more</p>"), "{listed}");

    // The pages list 100 denied destinations, and the packet leaves some out.
    for number in 32..500 {
        run.deny(&format!("h{number}.test"), "curl");
    }
    run.document.denied_left_out = 2_500;
    let drawn = section(&run, drawing);
    assert!(
        drawn.contains("Not drawn: at least 488 destinations.</p>"),
        "{drawn}"
    );
    let listed = section(&run, processes);
    assert!(listed.contains("and at least 92 more</p>"), "{listed}");

    let mut run = PageRun::new(0, "curl");
    run.document.answered.clear();
    for number in 0..20 {
        run.deny("h.test", &format!("agent{number}"));
    }
    let drawn = section(&run, drawing);
    assert!(drawn.contains("Not drawn: 4 programs.</p>"), "{drawn}");
    for number in 20..60 {
        run.deny("h.test", &format!("agent{number}"));
    }
    let drawn = section(&run, drawing);
    assert!(
        drawn.contains("Not drawn: at least 25 programs.</p>"),
        "{drawn}"
    );
    let mut run = PageRun::new(3, "curl");
    run.document.answered.clear();
    let page = run.report();
    assert!(!page.contains("Not drawn"), "{page}");
}
