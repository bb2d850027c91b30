//! A system clock that is set while a run is under way, for the binary alone.
use std::fs;
use std::path::PathBuf;

use crate::run::Run;
use crate::world::World;

/// AFTER seconds after a process has first asked for it, its system clock is STEP seconds off. The kernel's own,
/// which is everybody's, stays.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *to) {
    static int (*real)(clockid_t, struct timespec *);
    static time_t first;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, to);
    if (result == 0 && id == CLOCK_REALTIME) {
        struct timespec now;
        real(CLOCK_MONOTONIC, &now);
        if (!first) first = now.tv_sec;
        if (now.tv_sec - first >= AFTER) to->tv_sec += STEP;
    }
    return result;
}
"#;

/// A run of the binary whose clock is set by `step` seconds, so many seconds after its start.
///
/// # Panics
/// If the library that sets it cannot be made.
pub fn stepped<'w>(world: &'w World, run: Run<'w>, after: u32, step: i64) -> Run<'w> {
    run.env("LD_PRELOAD", library(world, after, step))
}

/// A library that sets the clock for what is run with it.
fn library(world: &World, after: u32, step: i64) -> PathBuf {
    let path = world.dir().join(format!("clock{step}.so"));
    fs::write(world.dir().join("clock.c"), LIBRARY).expect("write the library");
    let built = world.shell(&format!(
        "cc -shared -fPIC -DAFTER={after} -DSTEP={step} -o '{}' clock.c -ldl",
        path.display()
    ));
    assert!(built.success(), "{built}");
    path
}
