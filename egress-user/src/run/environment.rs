//! Builds the command's environment from the caller's environment. Removes variables that hold tokens of the runner.
//! Also removes variables that control shells and the dynamic loader, and adds variables that the boundary needs. The
//! record contains the names of the variables, but not their values.
//!
//! Claims: step-values
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use audit_packet::format::boundary::Environment;
use egress_sandbox::view::COMMAND_FILES;
use egress_workspace::users::AGENT_NAME;

use super::plan::Exceptions;
use super::trust;
use crate::variable::variable;

/// Home directory of the command.
pub const AGENT_HOME: &str = "/home/pipelock-agent";

/// The command's environment.
#[derive(Debug, Clone)]
pub struct AgentEnvironment {
    /// `NAME=value`, as `execve(2)` takes it.
    pub entries: Vec<Vec<u8>>,
    /// The names of the variables that were passed, removed, and set.
    pub record: Environment,
}

/// Variables that name the runner's command files. The command gets other files, because scripts that write to
/// these files would fail otherwise.
pub(super) const COMMAND_VARIABLES: [&str; 5] = [
    "GITHUB_ENV",
    "GITHUB_OUTPUT",
    "GITHUB_PATH",
    "GITHUB_STATE",
    "GITHUB_STEP_SUMMARY",
];
/// Variables that are removed. These variables name startup files of shells, set options of resolvers, or describe the
/// caller's session.
const DROPPED: [&str; 14] = [
    "BASH_ENV",
    "DBUS_SESSION_BUS_ADDRESS",
    "ENV",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "MAIL",
    "OLDPWD",
    "RES_OPTIONS",
    "RUNNER_TEMP",
    "SHLVL",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "_",
];
/// Prefixes of variables that are removed.
const DROPPED_PREFIXES: [&str; 3] = ["ACTIONS_", "LD_", "SUDO_"];

fn is_dropped(name: &str) -> bool {
    DROPPED.contains(&name)
        || DROPPED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || (name.starts_with("RUNNER_") && name.ends_with("TOKEN"))
}

impl Exceptions {
    fn drops(&self, name: &str) -> bool {
        let is_in = |names: &[String]| names.iter().any(|one| one == name);
        is_in(&self.drop) || (is_dropped(name) && !is_in(&self.pass))
    }
}

/// Returns the variables to which every run gives its own value.
fn own_variables(home: &Path, workdir: &Path) -> [(&'static str, OsString); 5] {
    [
        ("HOME", home.into()),
        ("LOGNAME", AGENT_NAME.into()),
        ("PWD", workdir.into()),
        ("TMPDIR", "/tmp".into()),
        ("USER", AGENT_NAME.into()),
    ]
}

/// Returns whether every run gives this variable its own value.
pub fn is_set_by_run(name: &str) -> bool {
    let nowhere = Path::new("");
    let mut own = own_variables(nowhere, nowhere)
        .into_iter()
        .chain(proxy_variables(0));
    COMMAND_VARIABLES.contains(&name) || own.any(|(own, _)| own == name)
}

/// Returns the variables of command files that the caller has set.
pub fn command_files(caller: &[(OsString, OsString)]) -> impl Iterator<Item = &'static str> {
    COMMAND_VARIABLES
        .into_iter()
        .filter(|wanted| caller.iter().any(|(name, _)| name == wanted))
}

/// Returns the variables that make programs use the explicit proxy in the boundary.
fn proxy_variables(port: u16) -> Vec<(&'static str, OsString)> {
    let proxy = OsString::from(format!("http://127.0.0.1:{port}"));
    let proxies = [
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "all_proxy",
        "http_proxy",
        "https_proxy",
    ]
    .map(|name| (name, proxy.clone()));
    let exceptions = ["NO_PROXY", "no_proxy"].map(|name| (name, "localhost,127.0.0.1,::1".into()));
    proxies.into_iter().chain(exceptions).collect()
}

/// Returns whether a variable with this name holds a token of the runner.
pub(super) fn is_token(name: &str) -> bool {
    name.ends_with("TOKEN") && is_dropped(name)
}

/// Builds the command's environment from the caller's environment.
pub fn for_agent(
    caller: &[(OsString, OsString)],
    toolchains: Option<&Path>,
    exceptions: &Exceptions,
    home: &Path,
    workdir: &Path,
    proxy_port: Option<u16>,
    authorities: Option<&Path>,
) -> AgentEnvironment {
    let mut ours = own_variables(home, workdir).to_vec();
    if let Some(port) = proxy_port {
        ours.extend(proxy_variables(port));
    }
    if let Some(path) = authorities {
        for name in trust::VARIABLES {
            ours.push((name, path.into()));
        }
    }
    for name in command_files(caller) {
        ours.push((name, Path::new(COMMAND_FILES).join(name).into()));
    }
    let path = OsStr::new("PATH");
    if !caller.iter().any(|(name, _)| name == path) {
        ours.push((
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        ));
    }
    if let Some(toolchains) = toolchains {
        ours.push(("RUSTUP_HOME", toolchains.into()));
    }
    let mut record = Environment::default();
    let mut entries = Vec::new();
    for (name, value) in caller {
        let readable = name.to_string_lossy();
        if ours.iter().any(|(set, _)| OsStr::new(set) == name) {
            continue;
        }
        if exceptions.drops(&readable) {
            record.dropped.push(readable.into());
        } else {
            record.passed.push(readable.into());
            entries.push(entry(name, value));
        }
    }
    for (name, value) in ours {
        record.set.push(name.into());
        entries.push(entry(OsStr::new(name), &value));
    }
    for names in [&mut record.passed, &mut record.dropped, &mut record.set] {
        names.sort_unstable();
    }
    AgentEnvironment { entries, record }
}

/// Returns the caller's Rust toolchains, if the command may read them. The command may read toolchains that are among
/// the shown `tools` of the caller's `home`, and toolchains whose directory and parent directories are all open to
/// other users. Without `RUSTUP_HOME`, rustup would search for toolchains below the command's HOME. Caches that
/// programs write to (`CARGO_HOME`, npm, pip) are in the command's home.
pub(super) fn toolchains(
    caller: &[(OsString, OsString)],
    home: Option<&Path>,
    tools: &[PathBuf],
) -> Option<PathBuf> {
    let path = match variable(caller, "RUSTUP_HOME") {
        Some(path) => PathBuf::from(path),
        None => home?.join(".rustup"),
    };
    let is_open = path.is_absolute() && path.ancestors().all(others_may_enter);
    (tools.contains(&path) || is_open).then_some(path)
}

/// Whether the mode of a directory lets users other than its owner and its group enter.
pub(crate) fn others_may_enter(directory: &Path) -> bool {
    directory
        .metadata()
        .is_ok_and(|meta| meta.mode() & 0o001 != 0)
}

fn entry(name: &OsStr, value: &OsStr) -> Vec<u8> {
    let mut entry = OsString::from(name).into_vec();
    entry.push(b'=');
    entry.extend_from_slice(value.as_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_are_named_only_where_others_may_enter() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let rustup = home.path().join(".rustup");
        std::fs::create_dir(&rustup).unwrap();
        let found = |tools: &[PathBuf]| toolchains(&[], Some(home.path()), tools);
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(home.path(), closed).unwrap();
        assert_eq!(found(&[]), None);
        assert_eq!(found(std::slice::from_ref(&rustup)), Some(rustup.clone()));
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(home.path(), open).unwrap();
        assert_eq!(found(&[]), Some(rustup));
    }

    #[test]
    fn tokens_command_files_and_loader_switches_stay_outside() {
        let caller: Vec<(OsString, OsString)> = [
            ("ACTIONS_RUNTIME_TOKEN", "canary"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "canary"),
            ("GITHUB_ENV", "canary"),
            ("RUNNER_REGISTRATION_TOKEN", "canary"),
            ("BASH_ENV", "canary"),
            ("LD_PRELOAD", "canary"),
            ("RES_OPTIONS", "canary"),
            ("HTTP_PROXY", "canary"),
            ("HOME", "canary"),
            ("GITHUB_SHA", "kept"),
            ("RUNNER_OS", "kept"),
            ("PATH", "/bin"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        let agent = for_agent(
            &caller,
            None,
            &Exceptions::default(),
            Path::new("/home/a"),
            Path::new("/w"),
            Some(3128),
            None,
        );
        let text: Vec<String> = agent
            .entries
            .iter()
            .map(|entry| String::from_utf8(entry.clone()).unwrap())
            .collect();
        assert!(
            text.iter().all(|entry| !entry.contains("canary")),
            "{text:?}"
        );
        for wanted in [
            "GITHUB_SHA=kept",
            "RUNNER_OS=kept",
            "PATH=/bin",
            "HOME=/home/a",
            "http_proxy=http://127.0.0.1:3128",
            "GITHUB_ENV=/run/command-files/GITHUB_ENV",
        ] {
            assert!(text.iter().any(|entry| entry == wanted), "{wanted}");
        }
        assert_eq!(agent.record.passed, ["GITHUB_SHA", "PATH", "RUNNER_OS"]);
        assert_eq!(agent.record.dropped.len(), 6);
    }
}
