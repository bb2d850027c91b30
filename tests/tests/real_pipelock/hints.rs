//! For a denial by the allow-list, a real Pipelock states no reason, or a reason that does not name the allow-list.
//! egress therefore checks the allow-list itself to find the line to add.
use super::support::{NO_PROXY, allow, has_sessions, with};
use egress_tests::World;

#[test]
fn a_denial_by_the_list_has_the_line_to_add() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}get() {{ curl -s -o /dev/null -m 20 \"$@\"; }}
         get https://denied.test/; get http://two.denied.test:8080/; get https://gone.allowed.test/; true\n"
    );
    let names = allow(&["allowed.test", "gone.allowed.test"]);
    let run = with(&world, &names).script(&agent).run();
    assert_eq!(run.status, Some(0), "{run}");
    let summary = std::fs::read_to_string(run.packet.join("summary.md")).unwrap();
    for text in [&run.stderr, &summary] {
        let hint = |target: &str, hint: &str| {
            let line = text
                .lines()
                .find(|line| line.contains(&format!(" {target} ")));
            assert!(
                line.is_some_and(|line| line.contains(hint)),
                "{target}: {text}"
            );
        };
        hint("denied.test:443", "api_allowlist: [\"denied.test\"]");
        hint(
            "two.denied.test:8080",
            "api_allowlist: [\"two.denied.test\"] and --allow-port 8080",
        );
        let block = "\napi_allowlist:\n  - \"denied.test\"\n  - \"two.denied.test\"\n";
        assert!(text.contains(block), "{text}");
        // A name on the list that does not resolve has no line to add.
        assert!(!text.contains("[\"gone.allowed.test\"]"), "{text}");
    }
    // Pipelock 2.3 states no reason. Pipelock 3.2 states the same reason for names that do not resolve and for private
    // addresses.
    let is_named = run
        .stderr
        .contains("gone.allowed.test:443 by curl (tls ssrf:");
    let hint = "the name does not resolve, or resolves to a private address";
    assert_eq!(run.stderr.contains(hint), is_named, "{run}");
    assert_eq!(is_named, has_sessions(&run), "{run}");
    let list = world.tool([
        "policy".as_ref(),
        "suggest".as_ref(),
        run.packet.as_os_str(),
    ]);
    let rows = "  - \"denied.test\" # curl (1)\n  - \"two.denied.test\" # curl (1)\n";
    assert!(list.stdout.contains(rows), "{list}");
    assert!(list.stdout.contains("--allow-port 8080 "), "{list}");
    // With the lines, the same requests go through.
    let wider = allow(&["denied.test", "two.denied.test"]);
    let wider = with(&world, &wider)
        .arg("--allow-port")
        .arg("8080")
        .script(&format!(
            "{NO_PROXY}for url in https://denied.test/ http://two.denied.test:8080/; do
                 curl -s -f -o /dev/null -m 20 $url || echo failed $url
             done\n"
        ))
        .run();
    assert_eq!(wider.stdout, "", "{wider}");
}
