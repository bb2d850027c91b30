//! Starts `egress run` as root with the checked inputs.
//!
//! Claims: read-missing-policy
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use egress_sys::elevate;
use nix::unistd::{getegid, geteuid};
use serde_json::Value;

use super::inputs::{Inputs, MediatorKind, PREFIX};
use crate::run::plan::Mode;

/// Environment variables that `egress run` receives. Only the script receives the others.
const NAMES: [&str; 2] = ["CI", "GITHUB_ACTIONS"];

/// Policy file that is used if the input `config` is empty and the file exists.
const DEFAULT_CONFIG: &str = ".pipelock/ci.yaml";

/// `PATH` of root.
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The checked paths of a run.
#[derive(Debug)]
pub(super) struct RunPaths {
    workdir: PathBuf,
    config: Option<PathBuf>,
    /// Path of a policy that does not exist. The path is protected so that the script cannot write a policy for the
    /// next step.
    no_config: Option<PathBuf>,
    script: PathBuf,
}

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    /// The JSON result of `egress run`; null if `egress run` wrote none.
    pub(super) run_result: Value,
    /// Exit status of sudo or of the run.
    pub(super) status: std::process::ExitStatus,
}

impl RunPaths {
    /// Returns the warning that is shown before the start.
    pub(super) fn warning(&self, inputs: &Inputs) -> Option<&'static str> {
        if inputs.mode == Mode::Audit {
            return Some(
                "mode is audit, so NOTHING IS DENIED: the script uses the network of this machine, and its \
                 connections are only recorded",
            );
        }
        match (&self.config, inputs.mediator) {
            (Some(_), _) => None,
            (None, MediatorKind::Pipelock) => Some(
                "there is no policy file, so NO ALLOW-LIST IS ENFORCED: Pipelock runs in mode balanced \
                 and allows every public destination; write a policy with mode strict and set the input config",
            ),
            (None, MediatorKind::Builtin) => Some(
                "there is no policy file, so EVERY DESTINATION IS DENIED; write a policy with mode strict and \
                 an api_allowlist, and set the input config",
            ),
        }
    }
}

/// Finds the working directory, the script, and the policy.
///
/// # Errors
/// Fails if the working directory, the script, or a policy that was named is missing, or a file is outside the working
/// directory.
pub(super) fn paths(inputs: &Inputs) -> anyhow::Result<RunPaths> {
    let shown = inputs.workdir.display();
    let workdir = inputs
        .workdir
        .canonicalize()
        .with_context(|| format!("cannot use working-directory {shown}"))?;
    let script = resolve_below(&workdir, &inputs.script)
        .with_context(|| format!("script-path {} cannot be used", inputs.script.display()))?
        .ok()
        .with_context(|| format!("script-path {} does not exist", inputs.script.display()))?;
    let config = inputs.config.as_deref().unwrap_or(DEFAULT_CONFIG.as_ref());
    let found = resolve_below(&workdir, config)
        .with_context(|| format!("config {} cannot be used", config.display()))?;
    ensure!(
        found.is_ok() || inputs.config.is_none(),
        "config {} does not exist; correct the path, or leave the input out to run without a policy",
        config.display()
    );
    let (config, no_config) = (found.clone().ok(), found.err());
    Ok(RunPaths {
        workdir,
        config,
        no_config,
        script,
    })
}

/// Resolves all links of `path` below `workdir`. If the file does not exist, the inner error is the path where it would
/// be.
fn resolve_below(workdir: &Path, path: &Path) -> anyhow::Result<Result<PathBuf, PathBuf>> {
    let joined = workdir.join(path);
    let mut found = joined.as_path();
    // If the file does not exist, its deepest existing directory must be inside the working directory.
    let real = loop {
        match found.canonicalize() {
            Ok(real) => break real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found = found.parent().context("the path has no parent directory")?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let climbs = path.components().any(|part| part.as_os_str() == "..");
    ensure!(
        real.starts_with(workdir) && (found == joined || !climbs),
        "the path is outside the working directory"
    );
    if found != joined {
        return Ok(Err(real.join(joined.strip_prefix(found)?)));
    }
    ensure!(real.is_file(), "not a regular file");
    Ok(Ok(real))
}

/// A private directory of this step, which is removed when dropped.
struct StepDir(PathBuf);

impl StepDir {
    fn new() -> anyhow::Result<Self> {
        let base = env::var_os("RUNNER_TEMP").map_or_else(env::temp_dir, PathBuf::from);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = base.join(format!("egress-step-{}", hex::encode(random)));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for StepDir {
    fn drop(&mut self) {
        // If the removal fails, only the result is left behind, which is not secret.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs `egress run` as root and reads its result.
///
/// # Errors
/// Fails if the process cannot be started, or its result cannot be read.
pub(super) fn run(inputs: &Inputs, paths: &RunPaths) -> anyhow::Result<Finished> {
    let step_dir = StepDir::new()?;
    let result = step_dir.0.join("result.json");
    File::create_new(&result)?;
    let mut argv = as_root();
    argv.push(env::current_exe()?.into());
    argv.extend(arguments(inputs, paths, &result));
    let status = match elevate::run(&argv, &environment(env::vars_os())) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "cannot find sudo, and egress needs root for namespaces, cgroups, and kernel programs; use a \
             runner with sudo, or run the job as root in a privileged container"
        ),
        Err(error) => return Err(error).context("cannot start egress as root"),
    };
    let text = fs::read(&result)?;
    let run_result = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&text).context("the result of egress run is not JSON")?
    };
    Ok(Finished { run_result, status })
}

/// Returns the first words of a command line. These words run the rest of the line as root with a minimal environment.
fn as_root() -> Vec<OsString> {
    let mut argv: Vec<OsString> = Vec::new();
    if !geteuid().is_root() {
        argv.extend(["sudo", "-n", "--"].map(OsString::from));
    }
    argv.extend(["/usr/bin/env", "-i"].map(OsString::from));
    argv.push(format!("PATH={ROOT_PATH}").into());
    for name in NAMES {
        if let Some(value) = env::var_os(name) {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            argv.push(word);
        }
    }
    argv
}

fn arguments(inputs: &Inputs, paths: &RunPaths, result: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["run".into(), "--driven".into()];
    let mut option = |name: &str, value: &OsStr| {
        words.push(name.into());
        words.push(value.into());
    };
    option("--result", result.as_os_str());
    let owner = format!("{}:{}", geteuid(), getegid());
    option("--packet-owner", owner.as_ref());
    option("--workdir", paths.workdir.as_os_str());
    option("--script", paths.script.as_os_str());
    option("--packet-dir", inputs.packet_dir.as_os_str());
    option("--agent-identity", inputs.identity.as_ref());
    option("--dns", inputs.dns.as_ref());
    option("--workspace", inputs.workspace.as_ref());
    if let Some(config) = &paths.config {
        option("--config", config.as_os_str());
    }
    if let Some(path) = &paths.no_config {
        option("--protect", path.as_os_str());
    }
    if let Some(key) = &inputs.private_key {
        option("--signer-private-key", key.as_os_str());
    }
    if let Some(key) = &inputs.public_key {
        option("--signer-public-key", key.as_ref());
    }
    if let Some(seconds) = inputs.timeout {
        option("--timeout", seconds.to_string().as_ref());
    }
    if let Some(key) = &inputs.boundary_key {
        option("--boundary-key", key.as_os_str());
    }
    if let Some(url) = &inputs.timestamp_url {
        option("--timestamp-url", url.as_ref());
    }
    for authority in &inputs.timestamp_ca {
        option("--timestamp-ca", authority.as_os_str());
    }
    option("--mode", inputs.mode.label().as_ref());
    match (inputs.mode, inputs.mediator) {
        // An audit has no mediator. The value is the default of `egress run`.
        (Mode::Audit, _) | (_, MediatorKind::Builtin) => option("--mediator", "builtin".as_ref()),
        (Mode::Enforce, MediatorKind::Pipelock) => {
            option("--mediator", "pipelock".as_ref());
            if let Some(binary) = &inputs.pipelock {
                option("--pipelock-bin", binary.as_os_str());
            }
            if paths.config.is_none() && !inputs.passed.has("--require-strict") {
                words.push("--allow-no-config".into());
            }
        }
    }
    if inputs.debug {
        words.push("--debug".into());
    }
    words.extend(inputs.passed.words().map(OsString::from));
    words.push("--".into());
    words.extend(inputs.script_args.iter().map(OsString::from));
    words
}

/// Encodes the script's environment for `--driven`: each entry ends with NUL, and an empty entry ends the environment.
/// The inputs of the action are left out.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in variables {
        if name.as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
        out.push(0);
    }
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_are_denied_and_missing_files_are_reported() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let space = base.join("space");
        fs::create_dir(&space).unwrap();
        fs::write(space.join("in.sh"), "").unwrap();
        fs::write(base.join("out.sh"), "").unwrap();
        std::os::unix::fs::symlink(base.join("out.sh"), space.join("link.sh")).unwrap();
        std::os::unix::fs::symlink(&base, space.join("up")).unwrap();
        let find = |path: &str| resolve_below(&space, Path::new(path));
        std::os::unix::fs::symlink(".", space.join("here")).unwrap();
        assert_eq!(find("in.sh").unwrap(), Ok(space.join("in.sh")));
        assert_eq!(find("../space/in.sh").unwrap(), Ok(space.join("in.sh")));
        for path in ["missing/file", "here/missing/file"] {
            assert_eq!(
                find(path).unwrap(),
                Err(space.join("missing/file")),
                "{path}"
            );
        }
        for path in [
            "../out.sh",
            "link.sh",
            "up/none",
            "x/../../out.sh",
            "x/../none",
            ".",
            "/etc/passwd",
        ] {
            assert!(find(path).is_err(), "{path}");
        }
    }

    /// Claims: action-sudo, action-environment
    #[test]
    fn inputs_do_not_reach_the_script() {
        let entry = |name: &str| (OsString::from(name), OsString::from("v"));
        let text = environment([entry("A"), entry("INPUT_DEBUG"), entry("B")].into_iter());
        assert_eq!(text, b"A=v\0B=v\0\0");
    }
}
