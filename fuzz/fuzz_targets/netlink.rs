//! Netlink messages from the kernel.
#![no_main]
use egress_sys::fuzz::netlink;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((destinations, _memory, _is_whole)) = netlink(data) {
        // Adds a header for each message.
        assert!(destinations.len() <= data.len().div_ceil(16));
    }
});
