//! Netlink messages from the kernel: a message yields no more destinations than fit into it, whatever its bytes are.
#![no_main]
use egress_sys::fuzz::netlink;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((destinations, _memory, _is_whole)) = netlink(data) {
        // Each destination takes at least the header of a message.
        assert!(destinations.len() <= data.len().div_ceil(16));
    }
});
