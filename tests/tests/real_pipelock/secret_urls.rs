//! A token in a URL is in no file of the Audit Packet, and in nothing that a run prints.
use egress_tests::World;
use egress_tests::secret_urls::assert_token_is_nowhere;

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
