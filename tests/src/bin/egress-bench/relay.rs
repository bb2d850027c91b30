//! Measures the cost of the relay for the command's requests. The same client also makes the requests on the host, once
//! directly to the mediator and once without a boundary.
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use egress_tests::World;

use crate::turns::Inside;
use crate::{Result, ratio, text};

const ROUNDS: usize = 7;
const BULK: u64 = 256 << 20;
const REQUESTS: u32 = 200;

pub(crate) fn bench() -> Result<()> {
    let world = World::new();
    let mut turns = Inside::start(&world)?;
    let mediator = world.on_runner(listener)?;
    println!("medians of {} rounds", ROUNDS - 1);
    for (name, work, per, aim) in [
        (
            "256 MiB in one answer",
            format!("bulk {BULK}"),
            1,
            "<= 1.25",
        ),
        (
            "one request, 200 in turn",
            format!("short {REQUESTS}"),
            REQUESTS,
            "<= 1.60",
        ),
    ] {
        let mut relay = Vec::new();
        let mut direct = Vec::new();
        let mut bare = Vec::new();
        for _ in 0..ROUNDS {
            relay.push(turns.inside(&work)? / per);
            direct.push(turns.as_relay(&format!("{work} {mediator}"))? / per);
            bare.push(turns.outside(&work)? / per);
        }
        ratio(
            &format!("{name}, compared with the mediator alone"),
            &relay,
            &direct,
            aim,
        );
        ratio(
            &format!("{name}, compared with no boundary"),
            &relay,
            &bare,
            "",
        );
    }
    turns.end()?;
    curls(&world)
}

/// Measures 200 runs of curl, because a user notices how long they take.
fn curls(world: &World) -> Result<()> {
    const SCRIPT: &str = "for i in {1..200}; do curl -sS --noproxy '*' -o /dev/null http://allowed.test/ || exit; done";
    let mut inside = Vec::new();
    let mut outside = Vec::new();
    for _ in 0..3 {
        let run = world.egress().allow(&["allowed.test"]);
        let run = run.limit(Duration::from_mins(2)).script(SCRIPT).run();
        if !run.success() {
            return Err(run.to_string());
        }
        inside.push(run.elapsed);
        outside.push(world.shell(SCRIPT).elapsed);
    }
    ratio(
        "200 runs of curl, whole run, compared with no boundary",
        &inside,
        &outside,
        "<= 1.30",
    );
    Ok(())
}

/// Returns the address of the mediator, which is the only listener on the runner's loopback.
fn listener() -> Result<SocketAddr> {
    const LISTENING: &str = "0A";
    let table = fs::read_to_string("/proc/thread-self/net/tcp").map_err(text)?;
    let found = table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next()?;
        let state = fields.nth(1)?;
        let (_, port) = local.split_once(':')?;
        (state == LISTENING).then(|| u16::from_str_radix(port, 16).ok())?
    });
    let port = found.ok_or("the mediator has no listener")?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}
