//! Finds the caller's home, and the directories of programs in it.
//!
//! Claims: home-tools
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use nix::unistd::{Uid, User};

use super::super::heading::WORKSPACE;
use crate::run::closed_home::ClosedHome;
use crate::run::environment::others_may_enter;
use crate::run::umask;
use crate::variable::variable;

/// Directories below a home in which package managers and installers put programs and libraries. None of them is meant
/// for credentials.
const TOOLS: [&str; 41] = [
    ".asdf",
    ".bun/bin",
    ".bun/install/global",
    ".cargo/bin",
    ".claude/local",
    ".deno/bin",
    ".dotnet",
    ".fnm",
    ".gem/ruby",
    ".ghcup/bin",
    ".go/bin",
    ".goenv",
    ".jenv",
    ".juliaup",
    ".krew/bin",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/claude/versions",
    ".local/share/cursor-agent/versions",
    ".local/share/fnm",
    ".local/share/mise/installs",
    ".local/share/mise/shims",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/uv/python",
    ".local/share/uv/tools",
    ".nodenv",
    ".npm-global",
    ".npm-packages",
    ".nvm",
    ".opencode/bin",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman/candidates",
    ".volta",
    "bin",
    "go/bin",
    "miniconda3",
    "miniforge3",
];

/// Directories below a home that a login shell of its user has in PATH.
const PROGRAMS: [&str; 9] = [
    ".local/bin",
    "bin",
    ".cargo/bin",
    "go/bin",
    ".npm-global/bin",
    ".bun/bin",
    ".deno/bin",
    ".volta/bin",
    ".claude/local",
];

/// Options for the homes of the caller and of the command.
#[derive(Debug, Args)]
pub(super) struct HomeArgs {
    /// Keep the caches of package managers in this directory between runs. The command can write to all files in the
    /// directory
    #[arg(long, value_name = "DIR", help_heading = WORKSPACE)]
    cache: Option<PathBuf>,
    /// Do not show directories of programs in the caller's home if other users cannot enter the home
    #[arg(long, help_heading = WORKSPACE)]
    no_home_tools: bool,
}

/// The caller's home.
#[derive(Debug, Default)]
pub(super) struct CallerHome {
    /// Path of the home without links, if the caller has one.
    pub(super) path: Option<PathBuf>,
    /// Directories of programs in the home, if the command cannot enter the home itself.
    pub(super) tools: Vec<PathBuf>,
    /// The home, if the command cannot enter it.
    pub(super) closed: Option<ClosedHome>,
}

impl HomeArgs {
    /// Returns the caller's home. If `sudo` started egress, adds the directories of the user's programs to PATH.
    pub(super) fn find(
        &self,
        environment: &mut [(OsString, OsString)],
        workdir: &Path,
    ) -> CallerHome {
        CallerHome::find(environment, workdir, !self.no_home_tools)
    }

    /// Checks the directory of `--cache`, and creates it if it does not exist.
    ///
    /// # Errors
    /// Fails if the directory cannot be created, contains the working directory, or is in the working directory.
    pub(super) fn cache(
        &self,
        workdir: &Path,
        environment: &[(OsString, OsString)],
    ) -> anyhow::Result<Option<PathBuf>> {
        let owner = sudo_user(environment);
        let path = self.cache.as_deref();
        path.map(|path| cache(workdir, path, owner)).transpose()
    }
}

impl CallerHome {
    /// Finds the home of the user who called `sudo`, or HOME. Adds the directories of that user's programs at the end
    /// of PATH, because `sudo` removes them.
    pub(super) fn find(
        environment: &mut [(OsString, OsString)],
        workdir: &Path,
        shows_tools: bool,
    ) -> Self {
        let value = |name| variable(environment, name).map(OsStr::to_owned);
        let by_sudo = value("SUDO_UID").and_then(|uid| {
            let uid = uid.to_str()?.parse().ok()?;
            Some(User::from_uid(Uid::from_raw(uid)).ok()??.dir)
        });
        let home = by_sudo.clone().or_else(|| value("HOME").map(PathBuf::from));
        let home = home.and_then(|home| home.canonicalize().ok());
        let Some(home) = home.filter(|home| home != Path::new("/")) else {
            return Self::default();
        };
        let mut path = value("PATH").unwrap_or_default();
        if by_sudo.is_some() && shows_tools {
            add_programs(&home, &mut path);
            if let Some((_, value)) = environment.iter_mut().find(|(name, _)| name == "PATH") {
                value.clone_from(&path);
            }
        }
        let is_closed = !home.ancestors().all(others_may_enter);
        let tools = if shows_tools && is_closed {
            tools(
                &home,
                &std::env::split_paths(&path).collect::<Vec<_>>(),
                workdir,
            )
        } else {
            Vec::new()
        };
        let closed = is_closed.then(|| ClosedHome {
            path: home.clone(),
            shows_tools,
            shown: tools.iter().cloned().chain([workdir.to_owned()]).collect(),
            searched: std::env::split_paths(&path)
                .chain(PROGRAMS.iter().map(|name| home.join(name)))
                .collect(),
        });
        Self {
            path: Some(home),
            tools,
            closed,
        }
    }
}

/// Returns the user who called `sudo`.
fn sudo_user(environment: &[(OsString, OsString)]) -> Option<(u32, u32)> {
    let number = |name| variable(environment, name)?.to_str()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

/// Checks the directory of `--cache`, and creates it for `owner` if it does not exist.
fn cache(workdir: &Path, path: &Path, owner: Option<(u32, u32)>) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let mode = umask::reduced(0o777).bits();
    if let Err(error) = DirBuilder::new().mode(mode).create(path) {
        ensure!(
            error.kind() == std::io::ErrorKind::AlreadyExists,
            "--cache {shown}: cannot create the directory: {error}"
        );
    } else if let Some((uid, gid)) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    let real = path
        .canonicalize()
        .with_context(|| format!("--cache {shown}: cannot find the directory"))?;
    ensure!(
        !real.starts_with(workdir) && !workdir.starts_with(&real),
        "--cache {shown}: the cache and the working directory {} contain each other; choose another directory",
        workdir.display()
    );
    ensure!(
        real.to_str().is_some(),
        "--cache {shown}: the path is not UTF-8"
    );
    Ok(real)
}

fn add_programs(home: &Path, path: &mut OsString) {
    let present: Vec<PathBuf> = std::env::split_paths(path).collect();
    let programs = PROGRAMS.iter().map(|name| home.join(name));
    for dir in programs.filter(|dir| dir.is_dir() && !present.contains(dir)) {
        if !path.is_empty() {
            path.push(":");
        }
        path.push(dir);
    }
}

/// Returns the directories of programs in `home`. Leaves out directories below another returned directory, directories
/// that contain the workspace, and directories in the workspace.
fn tools(home: &Path, path: &[PathBuf], workdir: &Path) -> Vec<PathBuf> {
    let known = TOOLS.iter().map(|name| home.join(name));
    let named = path.iter().filter_map(|dir| dir.canonicalize().ok());
    let is_shown = |dir: &PathBuf| {
        let is_real = dir.canonicalize().is_ok_and(|real| real == *dir);
        is_real
            && dir.is_dir()
            && others_may_enter(dir)
            && dir != home
            && dir.starts_with(home)
            && dir.to_str().is_some()
            && !dir.starts_with(workdir)
            && !workdir.starts_with(dir)
    };
    let mut found: Vec<PathBuf> = known.chain(named).filter(is_shown).collect();
    found.sort();
    found.dedup_by(|later, kept| later.starts_with(&*kept));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_programs_are_found_in_a_closed_home_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let home = top.join("home");
        for name in [".cargo/bin", ".nvm/v1/bin", "tools", ".ssh", "work/bin"] {
            std::fs::create_dir_all(home.join(name)).unwrap();
        }
        let closed = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(&home, closed).unwrap();
        let listed = ["tools", ".nvm/v1/bin", "work/bin", ""].map(|name| home.join(name));
        let path = std::env::join_paths(listed).unwrap();
        let environment = [("HOME", home.clone().into()), ("PATH", path)];
        let mut environment = environment.map(|(name, value)| (OsString::from(name), value));
        let mut found = |shows| CallerHome::find(&mut environment, &home.join("work"), shows).tools;
        let wanted = [".cargo/bin", ".nvm", "tools"].map(|name| home.join(name));
        assert_eq!(found(true), wanted);
        assert_eq!(found(false), Vec::<PathBuf>::new());
    }
}
