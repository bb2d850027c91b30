//! The paths of the project and of its builds.
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::program::{cargo, output};

pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    /// Cargo's target directory, which `CARGO_TARGET_DIR` or a configuration file may set.
    pub(crate) target: PathBuf,
}

impl Layout {
    /// Reads the directories from cargo, so that the target directory is right however it was set.
    ///
    /// # Errors
    /// Fails if cargo cannot read the workspace.
    pub(crate) fn find() -> Result<Self> {
        let mut metadata = cargo();
        metadata.args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ]);
        // `cargo run` sets this variable. Without this variable, cargo searches for the project from the current
        // directory.
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

    /// Returns the path of the built kernel programs.
    pub(crate) fn object(&self) -> PathBuf {
        self.target.join("ebpf/egress.bpf.o")
    }

    /// Returns the directory in which `setup` installs tools for this project.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Returns the path of the published verifier in Rust.
    pub(crate) fn verifier_rs(&self) -> PathBuf {
        self.tools().join("bin/pipelock-verifier-rs")
    }

    /// Returns the path of the published verifier in Python.
    pub(crate) fn verifier_py(&self) -> PathBuf {
        self.tools().join("venv/bin/pipelock-verify")
    }
}
