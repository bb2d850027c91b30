//! The kernel programs of egress.
//!
//! Three sets: the gates and witnesses on the cgroups of the agent (`agent_*`), the relay (`relay_*`) and the mediator (`mediator_*`). Every program is an
//! entry of a few lines around a `try_*` function; what an error means is one table, in `error`, and
//! for a gate it always means refusal. The decisions are `egress_common::decide`, tested on the host.
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
