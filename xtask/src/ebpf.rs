//! `ebpf`: builds the kernel programs from source with a compiler that has its library sources.
//!
//! The BPF target has no prebuilt `core`, so the compiler builds it (`-Zbuild-std`). Stable compilers allow this with
//! `RUSTC_BOOTSTRAP`. This module sets the compiler flags itself, so that flags in a configuration file of cargo do not
//! apply.
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};
use sha2::{Digest as _, Sha256};

use crate::compiler::Compiler;
use crate::layout::Layout;
use crate::program::{self, cargo_home, on_path_or_installed, run as run_program};
use crate::setup;

/// Variable with the path of the object, for `egress-user/build.rs`.
const OBJECT_VARIABLE: &str = "EGRESS_BPF_OBJECT";

/// Variable with the path of the object with diagnostics.
const DEBUG_OBJECT_VARIABLE: &str = "EGRESS_BPF_DEBUG_OBJECT";

/// Variable with the path of a file that is locked until the objects are built, for `egress-user/build.rs`.
const LOCK_VARIABLE: &str = "EGRESS_BPF_LOCK";

const TARGET: &str = "bpfel-unknown-none";

/// Arguments for the kernel programs with diagnostics.
const DIAGNOSTICS: &[&str] = &["--features", "log"];

pub(crate) struct Object {
    pub(crate) path: PathBuf,
    /// SHA-256 of the object, lowercase hex. Every packet states this digest.
    pub(crate) sha256: String,
}

/// Makes `command` embed the kernel programs that were built last. `command` runs cargo and may build `egress-user`.
/// All builds with one profile must name the same objects. If a build does not name objects, the next build that names
/// them compiles everything again.
pub(crate) fn embed<'a>(layout: &Layout, command: &'a mut Command) -> &'a mut Command {
    embed_without_diagnostics(layout, command).env(DEBUG_OBJECT_VARIABLE, debug_object(layout))
}

/// Makes `command` embed the kernel programs, without those for `egress run --debug`.
pub(crate) fn embed_without_diagnostics<'a>(
    layout: &Layout,
    command: &'a mut Command,
) -> &'a mut Command {
    command
        .env(OBJECT_VARIABLE, layout.object())
        .env_remove(DEBUG_OBJECT_VARIABLE)
}

/// Takes the lock on which `egress-user/build.rs` waits, until the returned file is dropped.
///
/// # Errors
/// Fails if the file cannot be created or locked.
pub(crate) fn lock(layout: &Layout) -> Result<File> {
    let path = lock_file(layout);
    let file = fs::create_dir_all(layout.target.join("ebpf")).and_then(|()| {
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    });
    file.with_context(|| format!("cannot lock {}", path.display()))
}

/// Makes `command` embed the kernel programs, without those for `egress run --debug`, as soon as [`lock`] is released.
pub(crate) fn embed_when_unlocked(layout: &Layout, command: &mut Command) {
    embed_without_diagnostics(layout, command).env(LOCK_VARIABLE, lock_file(layout));
}

fn lock_file(layout: &Layout) -> PathBuf {
    layout.target.join("ebpf/lock")
}

/// Sets the modification time of an object that was written after `lock` was taken to the time of `lock`. Otherwise, the
/// next build would find the object newer than the start of the build script, and compile egress-user again.
///
/// # Errors
/// Fails if the time cannot be read or set.
pub(crate) fn set_time(object: &Object, lock: &File) -> Result<()> {
    let set = || {
        let began = lock.metadata()?.modified()?;
        let file = File::options().append(true).open(&object.path)?;
        if file.metadata()?.modified()? > began {
            file.set_modified(began)?;
        }
        Ok::<_, std::io::Error>(())
    };
    set().with_context(|| format!("cannot set the time of {}", object.path.display()))
}

/// Returns the path of the kernel programs with diagnostics, for `egress run --debug`.
fn debug_object(layout: &Layout) -> PathBuf {
    layout.object().with_extension("debug.o")
}

/// Builds the kernel programs with and without diagnostics.
///
/// # Errors
/// Fails if the build fails, or a tool that it needs cannot be installed.
pub(crate) fn run(layout: &Layout) -> Result<Object> {
    setup::for_ebpf(layout)?;
    // The object with diagnostics comes first, so that the other one stays in the build directory.
    let mut debug = compile(layout, DIAGNOSTICS)?;
    plain_type_names(&mut debug)?;
    keep(&debug_object(layout), &debug)?;
    without_diagnostics(layout)
}

/// Builds only the kernel programs without diagnostics, which takes half the time.
///
/// # Errors
/// Returns the errors of [`run`].
pub(crate) fn without_diagnostics(layout: &Layout) -> Result<Object> {
    setup::for_ebpf(layout)?;
    let bytes = compile(layout, &[])?;
    let path = layout.object();
    keep(&path, &bytes)?;
    // The build script of egress-user uses the objects only while no source file is newer than this file.
    fs::write(path.with_file_name("built"), "")?;
    Ok(Object {
        path,
        sha256: hex::encode(Sha256::digest(&bytes)),
    })
}

/// Fails if a build of the kernel programs after [`run`] compiles anything.
///
/// # Errors
/// Fails if the build compiles something or cannot run.
pub(crate) fn compiles_nothing(layout: &Layout) -> Result<()> {
    for features in [DIAGNOSTICS, &[]] {
        let (mut build, _) = build(layout, features)?;
        program::compiles_nothing(&mut build)?;
    }
    Ok(())
}

/// Compiles the kernel programs and returns the object.
fn compile(layout: &Layout, features: &[&str]) -> Result<Vec<u8>> {
    let (mut build, built) = build(layout, features)?;
    run_program(&mut build)?;
    read_object(&built)
}

/// Returns the command that compiles the kernel programs, and the path of the object.
fn build(layout: &Layout, features: &[&str]) -> Result<(Command, PathBuf)> {
    let compiler = Compiler::find()
        .context("no compiler on this machine has its library sources; run `cargo xtask setup`")?;
    let linker = on_path_or_installed("bpf-linker")
        .context("bpf-linker is not installed; run `cargo xtask setup`")?;
    let build_dir = layout.target.join("ebpf").join(match compiler {
        Compiler::Active => "active",
        Compiler::Debian => "debian",
    });
    let mut build = compiler.cargo();
    build
        .current_dir(&layout.root)
        .args(["build", "--locked", "--release", "-Zbuild-std=core"])
        .args(["--target", TARGET])
        .arg("--manifest-path")
        .arg(layout.root.join("egress-ebpf/Cargo.toml"))
        .arg("--target-dir")
        .arg(&build_dir)
        .args(features);
    environment(&mut build, layout, compiler, &linker)?;
    let built = build_dir.join(TARGET).join("release/egress-ebpf");
    Ok((build, built))
}

fn read_object(built: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if !bytes.starts_with(b"\x7fELF") {
        bail!("{} is not an ELF object", built.display());
    }
    Ok(bytes)
}

/// Writes an object to a file. If the file already has this content, the file is not changed, because the build script
/// of egress-user watches its modification time.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Replaces `<` and `>` in the strings of the BTF section. The kernel rejects such names, and bpf-linker keeps them in
/// the names of unions, such as `MaybeUninit<u8>` in the code for logging.
fn plain_type_names(bytes: &mut [u8]) -> Result<()> {
    let file = object::File::parse(&*bytes).context("cannot read the object")?;
    let section = file
        .section_by_name(".BTF")
        .context("the object has no BTF")?;
    let (start, length) = section.file_range().context("the BTF section is empty")?;
    let start = usize::try_from(start)?;
    let section = bytes.get_mut(start..start.saturating_add(usize::try_from(length)?));
    let section = section.context("the BTF section lies outside the object")?;
    // struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
    let word = |at: usize| -> Result<usize> {
        let bytes = section
            .get(at..at.saturating_add(4))
            .context("the BTF header is incomplete")?;
        Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
    };
    let strings = word(4)?.saturating_add(word(16)?);
    for byte in section
        .get_mut(strings..)
        .context("the BTF strings are incomplete")?
    {
        if matches!(byte, b'<' | b'>') {
            *byte = b'_';
        }
    }
    Ok(())
}

/// Lints the kernel programs with the compiler that builds them.
///
/// # Errors
/// Fails if clippy finds anything or cannot run.
pub(crate) fn clippy(layout: &Layout) -> Result<()> {
    let compiler = Compiler::Active;
    let linker = on_path_or_installed("bpf-linker")
        .context("bpf-linker is not installed; run `cargo xtask setup`")?;
    let mut clippy = compiler.cargo();
    clippy
        .current_dir(&layout.root)
        .args(["clippy", "--locked", "--release", "-Zbuild-std=core"])
        .args(["--target", TARGET])
        .arg("--manifest-path")
        .arg(layout.root.join("egress-ebpf/Cargo.toml"))
        .arg("--target-dir")
        .arg(layout.target.join("ebpf/clippy"))
        .args(["--", "-D", "warnings"]);
    environment(&mut clippy, layout, compiler, &linker)?;
    run_program(&mut clippy)
}

/// Sets the variables for a compilation for the BPF target.
fn environment(
    command: &mut Command,
    layout: &Layout,
    compiler: Compiler,
    linker: &Path,
) -> Result<()> {
    let sources = compiler
        .sources()
        .context("the library sources were removed")?;
    let cargo_home = cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let flags = [
        "--cfg".to_owned(),
        format!("bpf_target_arch=\"{}\"", env::consts::ARCH),
        // BTF is generated from the debug information. The kernel needs BTF for map types and SK_STORAGE.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // BTF contains the paths of source files. Without this option, the digest would depend on the path of the
        // project.
        remap(&layout.root, "egress"),
        remap(&cargo_home, "cargo"),
        remap(&sources, "library"),
    ];
    command
        .env("RUSTC_BOOTSTRAP", "1")
        // This variable takes precedence over RUSTFLAGS, which apply to the host.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    if let Some(llvm) = compiler.llvm_dir() {
        let mut path = OsString::from(llvm);
        if let Some(rest) = env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
            path.push(":");
            path.push(rest);
        }
        command.env("LD_LIBRARY_PATH", path);
    }
    Ok(())
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}
