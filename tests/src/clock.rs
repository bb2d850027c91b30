//! Changes the time that the binary reads during a run. The system clock does not change.
use std::fs;
use std::path::PathBuf;

use crate::run::Run;
use crate::world::World;

/// Source of a library that shifts the clock of a process by STEP seconds. The shift begins AFTER seconds after the
/// process first reads the clock. The kernel's clock does not change.
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

/// Returns a run of the binary. The binary's clock is shifted by `step` seconds, `after` seconds after the binary first
/// reads it.
///
/// # Panics
/// Panics if the library that shifts the clock cannot be built.
pub fn stepped<'w>(world: &'w World, run: Run<'w>, after: u32, step: i64) -> Run<'w> {
    run.env("LD_PRELOAD", library(world, after, step))
}

/// Builds the library that shifts the clock of a process.
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
