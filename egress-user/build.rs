//! Copies the kernel programs to the directory from which the binary embeds them.
//!
//! `cargo xtask build` builds the object and sets `EGRESS_BPF_OBJECT` to its path. The same command sets
//! `EGRESS_BPF_DEBUG_OBJECT` to the path of a second object with diagnostics. Without these variables, `cargo build`
//! and `cargo install` embed the objects that `cargo xtask ebpf` or `cargo xtask build` left in the target directory.
//! If there are no such objects, or a source file of the kernel programs is newer, empty files are embedded. A bare
//! `cargo build` then needs neither bpf-linker nor library sources. The built `egress run` fails with `built without
//! the kernel programs: use cargo xtask build`.
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs, io};

/// Variables with the paths of the objects, and the file names from which the binary embeds the objects.
const OBJECTS: [(&str, &str); 2] = [
    ("EGRESS_BPF_OBJECT", "egress.bpf.o"),
    ("EGRESS_BPF_DEBUG_OBJECT", "egress.bpf.debug.o"),
];

/// Variable with the path of a file that `cargo xtask demo` locks while it builds the kernel programs.
const LOCK: &str = "EGRESS_BPF_LOCK";

/// Folders of the repository with the sources of the kernel programs.
const SOURCES: [&str; 2] = ["egress-ebpf", "egress-common"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let out = Path::new(&out);
    if let Some(lock) = env::var_os(LOCK) {
        fs::File::open(lock)?.lock_shared()?;
    }
    for (variable, name) in OBJECTS {
        println!("cargo::rerun-if-env-changed={variable}");
        let named = env::var_os(variable).filter(|object| !object.is_empty());
        let object = match named.map(PathBuf::from).or_else(|| built_before(out, name)) {
            None => {
                if name == OBJECTS[0].1 {
                    warn_without_programs(out);
                }
                Vec::new()
            }
            Some(path) => {
                println!("cargo::rerun-if-changed={}", path.display());
                fs::read(&path)
                    .map_err(|error| format!("{variable}={}: {error}", path.display()))?
            }
        };
        fs::write(out.join(name), object)?;
    }
    Ok(())
}

/// Returns the object that an earlier `cargo xtask ebpf` left in the target directory, if no source file is newer.
fn built_before(out: &Path, name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    // Cargo places `OUT_DIR` in the target directory that the command line or the environment names.
    let mut folders = out.ancestors().map(|folder| folder.join("ebpf"));
    let folder = folders.find(|folder| folder.join("built").is_file())?;
    let built = fs::metadata(folder.join("built"))
        .and_then(|file| file.modified())
        .ok()?;
    let newest = SOURCES.iter().map(|folder| newest(&root.join(folder)));
    let newest = newest.collect::<io::Result<Vec<_>>>().ok()?;
    newest
        .into_iter()
        .all(|source| source <= built)
        .then(|| folder.join(name))
        // `cargo xtask demo` builds no object with diagnostics.
        .filter(|object| object.is_file())
}

/// Warns that the binary of a release build is not usable, and makes cargo run this script again in the next build.
fn warn_without_programs(out: &Path) {
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!(
            "cargo::warning=`egress run` is built without the kernel programs; run `cargo xtask ebpf` first"
        );
        // Cargo runs a script again if a file that it watches does not exist.
        println!("cargo::rerun-if-changed={}", out.join("none").display());
    }
}

/// Returns the time of the newest file below `folder`.
fn newest(folder: &Path) -> io::Result<SystemTime> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let time = if entry.file_type()?.is_dir() {
            self::newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        newest = newest.max(time);
    }
    Ok(newest)
}
