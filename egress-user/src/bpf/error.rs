//! Errors of the kernel programs and their records.
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use nix::errno::Errno;

/// Why the kernel programs cannot be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfError {
    /// The binary was built without the kernel programs.
    #[error("this binary was built without the kernel programs")]
    NotEmbedded,
    /// The descriptor limit could not be changed for the loader.
    #[error("cannot change the descriptor limit")]
    Limit(#[source] Errno),
    /// The object could not be parsed, or its maps could not be created.
    #[error("cannot load the kernel programs")]
    Load(#[source] EbpfError),
    /// The kernel rejected a program, because its verifier rejected the code or because a feature is missing.
    #[error("cannot load or attach kernel program {name}")]
    Program {
        /// Name of the program.
        name: String,
        /// The cause.
        #[source]
        source: ProgramError,
    },
    /// The kernel rejected a program that `bpf::unix` loads itself, because aya cannot load the program.
    #[error("cannot load or attach kernel program {name}")]
    Witness {
        /// Name of the program.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel does not report where a program is attached.
    #[error("cannot determine where the kernel programs are attached")]
    Links(#[source] io::Error),
    /// The buffer for the kernel programs' diagnostics cannot be used.
    #[error("cannot read the kernel programs' diagnostics")]
    Diagnostics(#[source] aya_log::Error),
    /// The thread that loads programs panicked.
    #[error("loading the kernel programs panicked")]
    Panicked,
    /// The object lacks a map, or the map has another type.
    #[error("kernel map {name} is not usable")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// The cause, if the kernel reported one.
        #[source]
        source: Option<MapError>,
    },
}

impl BpfError {
    /// Returns a function that turns a cause into an error about the map `name`.
    pub(super) fn map(name: &'static str) -> impl Fn(MapError) -> Self + Copy {
        move |error| Self::Map {
            name,
            source: Some(error),
        }
    }

    /// Returns the next step for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotEmbedded => "build it with `cargo xtask build`",
            Self::Diagnostics(_)
            | Self::Limit(_)
            | Self::Links(_)
            | Self::Load(_)
            | Self::Panicked
            | Self::Program { .. }
            | Self::Witness { .. }
            | Self::Map { .. } => {
                "run as root on Linux 6.1 or later with BPF enabled (CONFIG_CGROUP_BPF, CONFIG_BPF_JIT); \
                 `egress doctor` reports what is missing"
            }
        }
    }
}

/// A kernel event that no program of this version writes. The supervisor counts such events, and states in the packet
/// that its record is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedEvent;
