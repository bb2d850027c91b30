//! The kernel programs of egress.
//!
//! There are three sets of programs, attached to the cgroups of the command (`agent_*`), the relay (`relay_*`), and the
//! mediator (`mediator_*`). Some programs deny attempts; others only record them. Each program is a short entry
//! function around the function that does the work. `error` maps errors to verdicts: a program that judges an attempt
//! denies it on every error. The decisions are in `egress_common::decide` and are tested on the host.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod counters;
mod error;
mod event;
mod hooks;
mod maps;
mod read;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
