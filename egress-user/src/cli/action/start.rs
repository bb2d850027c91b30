//! From checked inputs to one `egress run` as root.
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

use super::inputs::{Inputs, Mediator, PREFIX};

/// What root gets of this process's environment; the rest goes to the script alone.
const NAMES: [&str; 2] = ["CI", "GITHUB_ACTIONS"];

/// Where root looks for programs.
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where things are, all found to be in their place.
#[derive(Debug)]
pub(super) struct Place {
    workdir: PathBuf,
    config: Option<PathBuf>,
    /// Where a policy would be: the script must not write one for the next step.
    no_config: Option<PathBuf>,
    script: PathBuf,
}

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    /// What `egress run` said of itself; null when it never came to that.
    pub(super) said: Value,
    /// How sudo, or the run, ended.
    pub(super) status: std::process::ExitStatus,
}

impl Place {
    /// What the reader must know before the start.
    pub(super) fn warning(&self, inputs: &Inputs) -> Option<&'static str> {
        match (&self.config, inputs.mediator) {
            (Some(_), _) => None,
            (None, Mediator::Pipelock) => Some(
                "there is no policy file, so NO ALLOW-LIST IS ENFORCED: Pipelock runs in mode balanced \
                 and lets every public host through; write one with mode strict and name it with config",
            ),
            (None, Mediator::Builtin) => Some(
                "there is no policy file, so NOTHING MAY BE REACHED; write one with mode strict and an \
                 api_allowlist, and name it with config",
            ),
        }
    }
}

/// Finds working directory, script and policy.
///
/// # Errors
/// When one is missing or lies outside the working directory.
pub(super) fn place(inputs: &Inputs) -> anyhow::Result<Place> {
    let shown = inputs.workdir.display();
    let workdir = inputs
        .workdir
        .canonicalize()
        .with_context(|| format!("cannot use working-directory {shown}"))?;
    let script = inside(&workdir, &inputs.script)
        .with_context(|| format!("script-path {} cannot be used", inputs.script.display()))?
        .ok()
        .with_context(|| format!("script-path {} is not there", inputs.script.display()))?;
    let (config, no_config) = match &inputs.config {
        None => (None, None),
        Some(config) => {
            let found = inside(&workdir, config)
                .with_context(|| format!("config {} cannot be used", config.display()))?;
            (found.clone().ok(), found.err())
        }
    };
    Ok(Place {
        workdir,
        config,
        no_config,
        script,
    })
}

/// The file `path` below `workdir` without links; where it would be, if there is none.
fn inside(workdir: &Path, path: &Path) -> anyhow::Result<Result<PathBuf, PathBuf>> {
    let joined = workdir.join(path);
    let mut found = joined.as_path();
    // Of what is not there, the directories that are must not lead outside either.
    let real = loop {
        match found.canonicalize() {
            Ok(real) => break real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found = found.parent().context("it has no directory")?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let climbs = path.components().any(|part| part.as_os_str() == "..");
    ensure!(
        real.starts_with(workdir) && (found == joined || !climbs),
        "it lies outside the working directory"
    );
    if found != joined {
        return Ok(Err(real.join(joined.strip_prefix(found)?)));
    }
    ensure!(real.is_file(), "it is no file");
    Ok(Ok(real))
}

/// A directory for this step alone, removed when dropped.
struct Private(PathBuf);

impl Private {
    fn new() -> anyhow::Result<Self> {
        let base = env::var_os("RUNNER_TEMP").map_or_else(env::temp_dir, PathBuf::from);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = base.join(format!("egress-step-{}", hex::encode(random)));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What stays holds no secret: the result alone.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs it as root and reads what it said.
///
/// # Errors
/// When it cannot be started.
pub(super) fn run(inputs: &Inputs, place: &Place) -> anyhow::Result<Finished> {
    let private = Private::new()?;
    let result = private.0.join("result.json");
    File::create_new(&result)?;
    let mut argv = as_root();
    argv.push(env::current_exe()?.into());
    argv.extend(arguments(inputs, place, &result));
    let status = match elevate::run(&argv, &environment(env::vars_os())) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "there is no sudo here: egress needs root for namespaces, cgroups and kernel programs; \
             use a runner with sudo, or run the job as root in a privileged container"
        ),
        Err(error) => return Err(error).context("cannot start egress as root"),
    };
    let text = fs::read(&result)?;
    let said = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&text).context("what egress run said of itself is no JSON")?
    };
    Ok(Finished { said, status })
}

/// The words that make the rest of a command line root's, with an environment of a few names.
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

fn arguments(inputs: &Inputs, place: &Place, result: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["run".into(), "--driven".into()];
    let mut option = |name: &str, value: &OsStr| {
        words.push(name.into());
        words.push(value.into());
    };
    option("--result", result.as_os_str());
    let owner = format!("{}:{}", geteuid(), getegid());
    option("--packet-owner", owner.as_ref());
    option("--workdir", place.workdir.as_os_str());
    option("--script", place.script.as_os_str());
    option("--packet-dir", inputs.packet_dir.as_os_str());
    option("--agent-identity", inputs.identity.as_ref());
    option("--dns", inputs.dns.as_ref());
    option("--workspace", inputs.workspace.as_ref());
    if let Some(config) = &place.config {
        option("--config", config.as_os_str());
    }
    if let Some(path) = &place.no_config {
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
    match inputs.mediator {
        Mediator::Builtin => option("--mediator", "builtin".as_ref()),
        Mediator::Pipelock => {
            option("--mediator", "pipelock".as_ref());
            if let Some(binary) = &inputs.pipelock {
                option("--pipelock-bin", binary.as_os_str());
            }
            if place.config.is_none() {
                words.push("--allow-no-config".into());
            }
        }
    }
    if inputs.debug {
        words.push("--debug".into());
    }
    words.push("--".into());
    words.extend(inputs.script_args.iter().map(OsString::from));
    words
}

/// The script's environment as `--driven` takes it: entries ended by NUL, an empty one at the end.
/// The inputs were for this process.
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
    fn what_lies_outside_is_refused_and_what_is_missing_is_said() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let space = base.join("space");
        fs::create_dir(&space).unwrap();
        fs::write(space.join("in.sh"), "").unwrap();
        fs::write(base.join("out.sh"), "").unwrap();
        std::os::unix::fs::symlink(base.join("out.sh"), space.join("link.sh")).unwrap();
        std::os::unix::fs::symlink(&base, space.join("up")).unwrap();
        let find = |path: &str| inside(&space, Path::new(path));
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

    #[test]
    fn inputs_do_not_reach_the_script() {
        let entry = |name: &str| (OsString::from(name), OsString::from("v"));
        let text = environment([entry("A"), entry("INPUT_DEBUG"), entry("B")].into_iter());
        assert_eq!(text, b"A=v\0B=v\0\0");
    }
}
