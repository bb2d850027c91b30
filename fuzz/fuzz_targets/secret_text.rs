//! Secrets in settings files: a setting with a secret is found, whatever else the file contains.
#![no_main]
use egress_workspace::secret_text::{holds_secret, is_private_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let is_secret = holds_secret(text);
    for setting in ["password=x1", "npmAuthToken: \"x1\"", "<password>x1</password>"] {
        assert!(holds_secret(&format!("{text}\n{setting}\n")), "{setting}");
        assert!(holds_secret(&format!("{setting}\n{text}")), "{setting}");
    }
    // More text in front, on a line of its own, hides nothing.
    assert!(!is_secret || holds_secret(&format!("registry=https://r.test/\n{text}")));
    assert_eq!(is_private_key(text), is_private_key(&format!("\n \n{text}")));
});
