//! Puts the kernel programs beside the code that embeds them.
//!
//! `cargo xtask build` builds the object and names it in `EGRESS_BPF_OBJECT`. Without that variable an
//! empty file is embedded: a bare `cargo build` then needs neither bpf-linker nor library sources,
//! and `egress run` refuses to start with `built without the kernel programs: use cargo xtask build`.
use std::path::Path;
use std::{env, fs};

const VARIABLE: &str = "EGRESS_BPF_OBJECT";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let embedded = Path::new(&out).join("egress.bpf.o");
    let object = match env::var_os(VARIABLE).filter(|object| !object.is_empty()) {
        None => Vec::new(),
        Some(object) => {
            let path = Path::new(&object);
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(path).map_err(|error| format!("{VARIABLE}={}: {error}", path.display()))?
        }
    };
    fs::write(&embedded, object)?;
    Ok(())
}
