//! The stub resolver: an answer matches its query, and contains only synthetic and loopback addresses.
#![no_main]
use std::net::IpAddr;

use egress_relay::authority::Host;
use egress_relay::dns::answer;
use egress_relay::names::Names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut names = Names::new(4);
    for ipv6 in [true, false] {
        let Some(answered) = answer(&mut names, data, ipv6) else {
            continue;
        };
        let bytes = &answered.bytes;
        assert!(bytes.len() <= 2 * data.len() + 512);
        assert_eq!(bytes.get(..2), data.get(..2), "the id");
        assert!(bytes[2] & 0x80 != 0, "an answer");
        // A message that is a response gets no answer. A repeated query gets the same answer.
        assert_eq!(answer(&mut names, bytes, ipv6), None);
        let again = answer(&mut names, data, ipv6).expect("an answer");
        assert_eq!(&again.bytes, bytes);
        assert_eq!(again.report, None, "a report is made once");
        if let Some(IpAddr::V4(address)) = answered.report.and_then(|report| report.address) {
            let named = names.resolve(Host::Ip(address.into()));
            assert!(matches!(named, Ok(Host::Name(_))));
        }
    }
});
