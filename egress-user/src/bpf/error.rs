//! Why the kernel programs could not be put up, or a record of theirs not be read.
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use nix::errno::Errno;

/// Why the gates could not be put up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfError {
    /// The binary was built without them.
    #[error("this binary was built without the kernel programs")]
    NotEmbedded,
    /// The descriptor limit could not be changed for the loader.
    #[error("cannot change the descriptor limit")]
    Limit(#[source] Errno),
    /// The object could not be read or its maps not made.
    #[error("cannot load the kernel programs")]
    Load(#[source] EbpfError),
    /// The kernel's verifier or a missing feature refused one program.
    #[error("cannot load or attach kernel program {name}")]
    Program {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The same for a program that aya does not know.
    #[error("cannot load or attach kernel program {name}")]
    Witness {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not say where a program is attached.
    #[error("cannot see the kernel programs in place")]
    Links(#[source] io::Error),
    /// The diagnostics' buffer is not usable.
    #[error("cannot read the kernel programs' diagnostics")]
    Diagnostics(#[source] aya_log::Error),
    /// The loading thread panicked.
    #[error("loading the kernel programs panicked")]
    Panicked,
    /// The object lacks a map, or a map has another shape.
    #[error("kernel map {name} is not usable")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why, when the kernel said so.
        #[source]
        source: Option<MapError>,
    },
}

impl BpfError {
    /// What the reader can do.
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
                 `egress doctor` says what is missing"
            }
        }
    }
}

/// A record that no program of this version writes; it is counted and makes the log incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedEvent;
