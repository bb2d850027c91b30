//! Lines of `/proc/self/mountinfo` and the text of `/proc/self/cgroup`: a path in the kernel's form is read unchanged.
#![no_main]
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use egress_sandbox::fuzz::{mount, own_cgroup};
use libfuzzer_sys::fuzz_target;

/// Returns a path in the kernel's escaped form.
fn escaped(path: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        other => vec![*other],
    };
    path.iter().flat_map(escape).collect()
}

fuzz_target!(|data: &[u8]| {
    if let Some(found) = mount(data) {
        assert!(found.target.as_os_str().len() <= data.len());
        let line = [
            found.id.to_string().as_bytes(),
            b" 1 0:1 ",
            &escaped(found.root.as_os_str().as_bytes()),
            b" ",
            &escaped(found.target.as_os_str().as_bytes()),
            b" rw - ",
            found.fstype.as_bytes(),
            b" none ",
            found.options.as_bytes(),
        ]
        .concat();
        assert_eq!(mount(&line), Some(found));
    }
    // Every path without a NUL byte must be read unchanged.
    let path: Vec<u8> = data.iter().copied().filter(|byte| *byte != 0).collect();
    let line = [
        b"1 1 0:1 / /".as_slice(),
        &escaped(&path),
        b" rw - tmpfs none rw",
    ]
    .concat();
    let target = mount(&line).expect("a line of the kernel").target;
    assert_eq!(
        target.as_os_str().as_bytes(),
        [b"/", path.as_slice()].concat()
    );
    if let Ok(text) = std::str::from_utf8(data) {
        let root = Path::new("/sys/fs/cgroup");
        assert!(own_cgroup(root, text).starts_with(root));
    }
});
