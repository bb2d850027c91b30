//! A built-in mediator that signs false statements. The receipts of this mediator are valid, and the verification of
//! the packet reports the records that contradict them.

use std::path::PathBuf;

use egress_tests::trial::{assert_lies_are_named, policy};

/// Claims: read-receipts, verify-same-code
#[test]
fn lies_of_the_builtin_mediator_are_named() {
    let program = std::env::var_os("EGRESS_LYING_MEDIATOR_BIN").map(PathBuf::from);
    let program = program.expect("EGRESS_LYING_MEDIATOR_BIN: use cargo xtask test");
    assert_lies_are_named(
        "kernel_enforced",
        |lie| lie.builtin,
        |world, lie| world.egress().binary(&program).config(&policy(lie)),
    );
}
