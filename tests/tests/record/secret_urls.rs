//! A secret in a URL is in no file of the Audit Packet, and in nothing that a run prints.
use egress_tests::secret_urls::{assert_secrets_are_nowhere, assert_token_is_nowhere};
use egress_tests::{Judged, World};

#[test]
fn a_token_in_a_url_is_in_nothing_that_a_run_leaves_behind() {
    let world = World::new();
    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let run = assert_token_is_nowhere(&world, run, &["harmless-query", "harmless-path"]);
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}

#[test]
fn no_kind_of_secret_in_a_path_is_in_the_packet() {
    let world = World::new();
    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let (run, signed) = assert_secrets_are_nowhere(&world, run);
    assert_eq!(signed, Vec::<String>::new(), "{run}");
    assert_eq!(run.status, Some(0), "{run}");
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}
