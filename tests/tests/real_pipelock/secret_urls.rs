//! A secret in a URL is in no file of the Audit Packet, and in nothing that a run prints.
use egress_tests::World;
use egress_tests::secret_urls::{assert_secrets_are_nowhere, assert_token_is_nowhere};

use crate::support::{allow, assert_verified, has_sessions, with};

#[test]
fn a_token_in_a_url_is_in_nothing_that_a_run_leaves_behind() {
    let world = World::new();
    // Pipelock finds the token, denies the request, and redacts the target.
    let run = with(&world, &allow(&["allowed.test"]));
    let run = assert_token_is_nowhere(&world, run, &["core_dlp", "redacted"]);
    // A Pipelock without sessions redacts a receipt after it has signed it.
    if has_sessions(&run) {
        assert_eq!(run.status, Some(0), "{run}");
        assert_verified(&world, &run);
    }
}

/// Starts of the secrets that Pipelock 3.2 does not redact in its receipts, although egress does: short tokens, the token of a
/// Telegram bot, the address of an account, and a part of a JSON Web Token.
const SIGNED: [&str; 5] = ["sk-7", "pypi-7", "bot123456:", "0x", "eyJ"];

#[test]
fn no_kind_of_secret_in_a_path_is_in_the_packet() {
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"]));
    let (run, signed) = assert_secrets_are_nowhere(&world, run);
    if has_sessions(&run) {
        let is_known = |secret: &String| SIGNED.iter().any(|start| secret.starts_with(start));
        assert!(signed.iter().all(is_known), "{signed:#?}\n{run}");
        assert!(signed.len() <= SIGNED.len(), "{signed:#?}\n{run}");
        assert_eq!(run.status, Some(0), "{run}");
        assert_verified(&world, &run);
    }
}
