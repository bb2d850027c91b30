//! Copies the kernel programs to the directory from which the code embeds them.
//!
//! `cargo xtask build` builds the object and names it in `EGRESS_BPF_OBJECT`, and a second one with diagnostics in
//! `EGRESS_BPF_DEBUG_OBJECT`. Without these variables, empty files are embedded. A bare `cargo build` then needs
//! neither bpf-linker nor library sources, and `egress run` fails with `built without the kernel programs: use cargo
//! xtask build`.
use std::path::Path;
use std::{env, fs};

/// Variables that name objects, and the names under which they are embedded.
const OBJECTS: [(&str, &str); 2] = [
    ("EGRESS_BPF_OBJECT", "egress.bpf.o"),
    ("EGRESS_BPF_DEBUG_OBJECT", "egress.bpf.debug.o"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    for (variable, name) in OBJECTS {
        println!("cargo::rerun-if-env-changed={variable}");
        let object = match env::var_os(variable).filter(|object| !object.is_empty()) {
            None => Vec::new(),
            Some(object) => {
                let path = Path::new(&object);
                println!("cargo::rerun-if-changed={}", path.display());
                fs::read(path).map_err(|error| format!("{variable}={}: {error}", path.display()))?
            }
        };
        fs::write(Path::new(&out).join(name), object)?;
    }
    Ok(())
}
