//! The layers of the boundary. A test can leave out one layer to show which attacks that layer
//! prevents.
//!
//! Only an unoptimized binary built with `--features without-layers` can leave out a layer. In
//! every other binary, [`Layers::has`] always returns true.
use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

#[cfg(all(feature = "without-layers", not(debug_assertions)))]
compile_error!("`without-layers` is for tests only and cannot be combined with an optimized build");

/// The environment variable that names the layer to leave out.
const VARIABLE: &str = "EGRESS_TEST_WITHOUT";

/// One layer of the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The kernel programs on the cgroups.
    Ebpf,
    /// The network namespace.
    Netns,
    /// The command's file view, including a private /run.
    PrivateRun,
    /// The system call filters.
    Seccomp,
}

impl Layer {
    const ALL: [Self; 4] = [Self::Ebpf, Self::Netns, Self::PrivateRun, Self::Seccomp];

    /// Returns the word in [`VARIABLE`].
    const fn word(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Netns => "netns",
            Self::PrivateRun => "private-run",
            Self::Seccomp => "seccomp",
        }
    }
}

/// The layers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layers {
    without: Option<Layer>,
}

impl Layers {
    /// Reads the layer to leave out from the environment.
    ///
    /// # Errors
    /// Fails if the variable is set and this binary cannot leave out a layer, or if its value
    /// is not a layer.
    pub fn from_environment() -> io::Result<Self> {
        std::env::var_os(VARIABLE).map_or(Ok(Self::default()), |name| Self::without(&name))
    }

    fn without(name: &OsStr) -> io::Result<Self> {
        if !cfg!(feature = "without-layers") {
            let text =
                format!("{VARIABLE} is set, but this binary cannot leave out a layer; unset it");
            return Err(io::Error::other(text));
        }
        let without = Layer::ALL.into_iter().find(|layer| name == layer.word());
        if without.is_none() {
            let text = format!("{VARIABLE} must be ebpf, netns, private-run, or seccomp");
            return Err(io::Error::other(text));
        }
        Ok(Self { without })
    }

    /// Whether the run has `layer`.
    pub fn has(self, layer: Layer) -> bool {
        !cfg!(feature = "without-layers") || self.without != Some(layer)
    }

    /// Returns the `CLONE_NEW*` flags of the boundary's namespaces.
    pub fn namespaces(self) -> i32 {
        let network = if self.has(Layer::Netns) {
            libc::CLONE_NEWNET
        } else {
            0
        };
        network
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP
    }

    /// Returns the warning for a run without one of the layers; `None` for a complete boundary.
    pub fn warning(self) -> Option<String> {
        let layer = self.without.filter(|_| cfg!(feature = "without-layers"))?;
        Some(format!(
            "NOT A BOUNDARY: a test left out {}; the receipts are signed with a throwaway key",
            layer.word()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: layers-left-out
    #[test]
    fn an_ordinary_binary_leaves_nothing_out() {
        let requested = Layers::without(OsStr::new("seccomp"));
        assert_eq!(requested.is_ok(), cfg!(feature = "without-layers"));
        let layers: Layers = serde_json::from_str(r#"{"without":"seccomp"}"#).unwrap();
        assert_eq!(
            layers.has(Layer::Seccomp),
            !cfg!(feature = "without-layers")
        );
        assert!(layers.has(Layer::Netns));
        assert!(Layers::without(OsStr::new("")).is_err());
    }
}
