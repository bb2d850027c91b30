//! The pages for people, written by a real run and laid out by a real browser.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a page that cannot be read has failed the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use egress_tests::evidence::verify;
use egress_tests::{RunOutput, World};

/// Writes to a workflow, links outside the workspace, and sends a datagram, plain HTTP, and TLS, under names that are
/// markup in HTML and Markdown.
const AGENT: &str = "mkdir -p .github/workflows; echo 1 >.github/workflows/x.yml; echo 2 >fine
    ln -s '/etc/<img src=x onerror=alert(1)>' \"$(printf '<b>`x`](evil) \\342\\200\\256 @me |')\"
    cp \"$(command -v python3)\" './<svg onload>'
    './<svg onload>' -c 'import socket; socket.socket(2, 2).sendto(b\"x\", (\"192.0.2.7\", 53))' 2>/dev/null
    get() { curl -s -o /dev/null --noproxy '*' \"$@\"; }
    get http://allowed.test/some/path?token=1; get -d 0123456789 http://allowed.test/upload
    get https://allowed.test/; get http://denied.test/
    for n in $(seq 40); do get http://n$n.denied.test/; done; true";
const WIDTHS: [u32; 3] = [390, 820, 1280];

/// Returns the width of the window and of the page. A copy of the page with a script that measures it is in a frame of
/// this width, because windows have a minimum width.
fn laid_out(world: &World, page: &Path, width: u32) -> (u32, u32) {
    let text = fs::read_to_string(page).unwrap();
    let (_, policy) = text.split_once("<meta http-equiv=").unwrap();
    let (policy, _) = policy.split_once('>').unwrap();
    let measured = text.replace(policy, "\"x-none\"").replace(
        "</body>",
        "<script>for (const one of document.querySelectorAll('details')) one.open = true;
         parent.document.title = `${innerWidth} ${document.documentElement.scrollWidth}`</script></body>",
    );
    assert_ne!(measured, text);
    let measured = measured.replace('&', "&amp;").replace('"', "&quot;");
    let frame = format!(
        "<!DOCTYPE html><title>not measured</title><iframe width={width} height=900 style='border:0' \
         srcdoc=\"{measured}\"></iframe>"
    );
    let copy = world.dir().join(format!("page-{width}.html"));
    fs::write(&copy, frame).unwrap();
    let shown = world.shell(&format!(
        "chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
         --disable-component-update --disable-sync --user-data-dir=$PWD/chromium-{width} --window-size=1400,1000 \
         --hide-scrollbars --dump-dom file://{} 2>/dev/null",
        copy.display()
    ));
    let title = shown.stdout.split("<title>").nth(1);
    let title = title.and_then(|rest| rest.split("</title>").next());
    let mut numbers = title.unwrap_or_default().split(' ').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(window)), Some(Ok(page))) => (window, page),
        _ => panic!("{shown}"),
    }
}

fn public(key: &Path) -> PathBuf {
    PathBuf::from(format!("{}.pub", key.display()))
}

fn page(run: &RunOutput, name: &str) -> String {
    fs::read_to_string(run.packet.join(name)).unwrap()
}

#[test]
fn pages_show_a_reviewer_what_was_denied_held_back_and_sent() {
    let world = World::new();
    // The control: the attempts work if they are made directly.
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {AGENT}", by_hand.display()));
    assert!(control.success(), "{control}");
    assert!(by_hand.join(".github/workflows/x.yml").exists());
    assert!(
        world
            .requests()
            .iter()
            .any(|one| one.host.as_deref() == Some("denied.test"))
    );

    let (key, boundary) = (world.key("key"), world.key("boundary"));
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&key)
        .arg("--boundary-key")
        .arg(&boundary)
        .arg("--workspace")
        .arg("apply")
        .script(AGENT)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let verified = verify(&[
        run.packet.as_os_str(),
        "--key".as_ref(),
        public(&key).as_os_str(),
        "--boundary-key".as_ref(),
        public(&boundary).as_os_str(),
    ]);
    assert_eq!(verified.status, Some(0), "{verified}\n{run}");

    let (report, summary) = (page(&run, "report.html"), page(&run, "summary.md"));
    let sentence = "Valid, boundary kernel_enforced: 42 attempts denied, 4 changes held back, one of them a write to \
                    .github/workflows.";
    assert!(
        summary.starts_with(&format!("# ✅ {sentence}\n")),
        "{summary}"
    );
    assert!(
        report.contains(&format!("✓</span> {sentence}</h1>")),
        "{report}"
    );
    // Without the places at which a long text may break.
    let whole = report.replace("<wbr>", "");
    for text in [
        ".github/workflows/x.yml",
        "The allow-list does not contain the destination.",
        "The boundary resolves names itself, so other name servers are denied.",
        "the link points outside the workspace",
        "http://allowed.test/some/path?[query ",
        "POST http://allowed.test/upload",
        "allowed.test:443",
        "curl",
    ] {
        assert!(whole.contains(text), "{text}: {report}");
        assert!(summary.contains(text), "{text}: {summary}");
    }
    assert!(!report.contains("token=1") && !summary.contains("token=1"));
    assert!(
        report.contains("<code>&lt;svg onload&gt;</code>"),
        "{report}"
    );
    assert!(!report.contains("<svg onload") && !report.contains("<img") && !report.contains("<b>"));
    for text in [&report, &summary] {
        assert!(text.contains("\\u{202e}") && !text.contains('\u{202e}'));
    }

    // No page is wider than its window, even with all parts open.
    for width in WIDTHS {
        let (window, page) = laid_out(&world, &run.packet.join("report.html"), width);
        assert_eq!((window, page), (width, width));
    }
}
