//! Finds a compiler that can build the kernel programs.
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{cargo, output, program, without_package};

/// If this variable has the value `debian`, Debian's compiler is used even if the active one can build the kernel
/// programs.
const TOOLCHAIN_VARIABLE: &str = "EGRESS_EBPF_TOOLCHAIN";

/// A compiler that can build `core` for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// The compiler that builds the rest of the project.
    Active,
    /// `/usr/bin/rustc` and `/usr/bin/cargo` of Debian's packages.
    Debian,
}

impl Compiler {
    /// Returns the compiler to use, or `None` if no compiler on this machine has its library sources.
    pub(crate) fn find() -> Option<Self> {
        if Self::debian_wanted() {
            return Self::Debian.sources().map(|_| Self::Debian);
        }
        [Self::Active, Self::Debian]
            .into_iter()
            .find(|compiler| compiler.sources().is_some())
    }

    /// Returns whether the caller requests Debian's compiler.
    pub(crate) fn debian_wanted() -> bool {
        env::var_os(TOOLCHAIN_VARIABLE).is_some_and(|value| value == "debian")
    }

    fn rustc(self) -> Command {
        match self {
            Self::Active => program(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())),
            Self::Debian => program("/usr/bin/rustc"),
        }
    }

    pub(crate) fn cargo(self) -> Command {
        match self {
            Self::Active => cargo(),
            Self::Debian => {
                let mut command = program("/usr/bin/cargo");
                without_package(&mut command);
                command
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTDOC", "/usr/bin/rustdoc")
                    .env_remove("CARGO")
                    .env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        }
    }

    fn sysroot(self) -> Option<PathBuf> {
        let text = output(self.rustc().args(["--print", "sysroot"])).ok()?;
        Some(PathBuf::from(text.trim_end()))
    }

    /// Returns the directory of the library sources, or `None` if the compiler lacks them.
    pub(crate) fn sources(self) -> Option<PathBuf> {
        if self == Self::Debian && !Path::new("/usr/bin/cargo").exists() {
            return None;
        }
        let library = self.sysroot()?.join("lib/rustlib/src/rust/library");
        library.join("core/Cargo.toml").exists().then_some(library)
    }

    /// Returns the directory of this compiler's LLVM. `bpf-linker` is built without LLVM and must find the LLVM that
    /// wrote the bitcode.
    pub(crate) fn llvm_dir(self) -> Option<PathBuf> {
        match self {
            Self::Active => Some(self.sysroot()?.join("lib")),
            Self::Debian => Some(PathBuf::from(format!(
                "/usr/lib/{}-linux-gnu",
                env::consts::ARCH
            ))),
        }
    }
}
