//! Embeds the kernel programs that `cargo xtask build` names.
use std::path::PathBuf;
fn main() {
    println!("cargo::rerun-if-env-changed=EGRESS_BPF_OBJECT");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
        .join("egress.bpf.o");
    let object = match std::env::var_os("EGRESS_BPF_OBJECT") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.to_string_lossy());
            std::fs::read(path).expect("EGRESS_BPF_OBJECT names a readable file")
        }
        None => Vec::new(),
    };
    std::fs::write(out, object).expect("OUT_DIR is writable");
}
