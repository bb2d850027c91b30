//! Where the project and what it builds lie.
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::program::{cargo, output};

/// The project's directories.
pub(crate) struct Layout {
    /// The workspace's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, as `CARGO_TARGET_DIR` or a configuration file has it.
    pub(crate) target: PathBuf,
}

impl Layout {
    /// Asks cargo, so that every way of setting the target directory counts.
    ///
    /// # Errors
    /// If cargo cannot read the workspace.
    pub(crate) fn find() -> Result<Self> {
        let mut metadata = cargo();
        metadata.args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ]);
        // Set by `cargo run`; without it (the binary was started by hand) the current directory decides.
        if let Some(dir) = env::var_os("CARGO_MANIFEST_DIR") {
            metadata
                .arg("--manifest-path")
                .arg(Path::new(&dir).join("Cargo.toml"));
        }
        let value: Value = serde_json::from_str(&output(&mut metadata)?)?;
        let dir = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .map(PathBuf::from)
                .with_context(|| format!("cargo metadata has no {key}"))
        };
        Ok(Self {
            root: dir("workspace_root")?,
            target: dir("target_directory")?,
        })
    }

    /// Where the kernel programs' object lies once built.
    pub(crate) fn object(&self) -> PathBuf {
        self.target.join("ebpf/egress.bpf.o")
    }

    /// Root of what `setup` installs for this project alone.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The published verifier written in Rust.
    pub(crate) fn verifier_rs(&self) -> PathBuf {
        self.tools().join("bin/pipelock-verifier-rs")
    }

    /// The published verifier written in Python.
    pub(crate) fn verifier_py(&self) -> PathBuf {
        self.tools().join("venv/bin/pipelock-verify")
    }
}
