//! Ordinary clients behind the boundary, with Pipelock.
use std::time::Duration;

use egress_tests::World;
use egress_tests::clients::{Column, GRPC_PORT, check};

use crate::support::{allow, with};

#[test]
fn clients_with_pipelock_match_the_table() {
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"]))
        .arg("--allow-port")
        .arg(GRPC_PORT.to_string())
        .limit(Duration::from_mins(5));
    check(&world, run, Column::Pipelock);
}
