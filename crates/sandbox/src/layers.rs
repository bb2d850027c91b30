//! The layers of the boundary that a test may leave out, one at a time, to see what each of them stops.
//!
//! Only a binary built for that (`--features without-layers`, never optimised) can: in every other the answer
//! of [`Layers::has`] is a constant.
use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

#[cfg(all(feature = "without-layers", not(debug_assertions)))]
compile_error!("`without-layers` is for tests: a binary with it is never built optimised");

/// Names the layer to leave out.
const VARIABLE: &str = "EGRESS_TEST_WITHOUT";

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The kernel programs on the cgroups.
    Ebpf,
    /// The network namespace.
    Netns,
    /// The agent's own view of the file system, /run included.
    PrivateRun,
    /// The system call filters.
    Seccomp,
}

/// Which layers a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layers {
    without: Option<Layer>,
}

impl Layers {
    /// What the environment asks for.
    ///
    /// # Errors
    /// When it asks for something that this binary does not do.
    pub fn from_environment() -> io::Result<Self> {
        std::env::var_os(VARIABLE).map_or(Ok(Self::default()), |name| Self::without(&name))
    }

    fn without(name: &OsStr) -> io::Result<Self> {
        if !cfg!(feature = "without-layers") {
            let text = format!("{VARIABLE} is set, but this binary leaves no layer out: unset it");
            return Err(io::Error::other(text));
        }
        let without = match name.to_str() {
            Some("ebpf") => Layer::Ebpf,
            Some("netns") => Layer::Netns,
            Some("private-run") => Layer::PrivateRun,
            Some("seccomp") => Layer::Seccomp,
            _ => {
                let text =
                    format!("{VARIABLE} names no layer: ebpf, netns, private-run or seccomp");
                return Err(io::Error::other(text));
            }
        };
        Ok(Self {
            without: Some(without),
        })
    }

    /// Whether the run has `layer`.
    pub fn has(self, layer: Layer) -> bool {
        !cfg!(feature = "without-layers") || self.without != Some(layer)
    }

    /// `CLONE_NEW*` flags of the boundary's namespaces.
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

    /// What to say of a run that is no boundary; nothing of any other.
    pub fn warning(self) -> Option<String> {
        let layer = self.without.filter(|_| cfg!(feature = "without-layers"))?;
        Some(format!(
            "NOT A BOUNDARY: a test left out {layer:?}, and the receipts are signed by a key that nobody knows"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_binary_leaves_nothing_out() {
        let asked = Layers::without(OsStr::new("seccomp"));
        assert_eq!(asked.is_ok(), cfg!(feature = "without-layers"));
        let told: Layers = serde_json::from_str(r#"{"without":"seccomp"}"#).unwrap();
        assert_eq!(told.has(Layer::Seccomp), !cfg!(feature = "without-layers"));
        assert!(told.has(Layer::Netns));
        assert!(Layers::without(OsStr::new("")).is_err());
    }
}
