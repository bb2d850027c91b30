//! Ordinary clients behind the boundary, with the built-in mediator.

use std::time::Duration;

use egress_tests::World;
use egress_tests::clients::{Column, GRPC_PORT, check};

#[test]
fn clients_with_the_built_in_mediator_match_the_table() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .arg("--allow-port")
        .arg(GRPC_PORT.to_string())
        .limit(Duration::from_mins(5));
    check(&world, run, Column::Builtin);
}
