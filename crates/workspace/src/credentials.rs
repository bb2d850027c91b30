//! Shows the command files of git without the credentials in them. [`git_search`](super::git_search)
//! finds these files.
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::store::About;

/// A file that the agent sees without its credentials.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Redaction {
    /// Where it is.
    pub path: PathBuf,
    /// Names of what is not shown; never values.
    pub keys: Vec<String>,
    /// What is shown.
    #[serde(skip)]
    pub shown: Shown,
}

/// A file to be shown in place of another.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    /// Its content.
    pub content: Vec<u8>,
    /// Its owner on the host.
    pub uid: u32,
    /// Its group on the host.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Files with credentials.
    pub redactions: Vec<Redaction>,
    /// Whether the workspace has more directories than were looked at.
    pub cut_short: bool,
}

impl Shown {
    /// Writes it to `path`, with the owner that it has for the agent.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.content)?;
        chown(path, Some(self.uid), Some(self.gid))?;
        fs::set_permissions(path, Permissions::from_mode(self.mode))
    }

    /// The same file as an idmapped workspace shows it.
    #[must_use]
    pub fn mapped(&self, about: Exchange) -> Self {
        Self {
            uid: about.uid(self.uid),
            gid: about.gid(self.gid),
            ..self.clone()
        }
    }
}

/// Owner and agent of a workspace, which the agent's view exchanges.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    owner: (u32, u32),
    agent: u32,
}

impl Exchange {
    /// That of the directory `workspace` and `agent`.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub fn of(workspace: &Path, agent: u32) -> io::Result<Self> {
        let meta = workspace.metadata()?;
        let owner = (meta.uid(), meta.gid());
        Ok(Self { owner, agent })
    }

    fn uid(self, id: u32) -> u32 {
        if id == self.owner.0 { self.agent } else { id }
    }

    fn gid(self, id: u32) -> u32 {
        if id == self.owner.1 { self.agent } else { id }
    }
}

impl From<&About> for Exchange {
    fn from(about: &About) -> Self {
        Self {
            owner: (about.uid, about.gid),
            agent: about.agent,
        }
    }
}

/// Fills `layer`, which lies over the workspace in the agent's overlay, with what is shown there.
///
/// # Errors
/// Those of writing.
pub fn fill_layer(layer: &Path, about: &About, redactions: &[Redaction]) -> io::Result<()> {
    let exchange = Exchange::from(about);
    for one in redactions {
        let Ok(below) = one.path.strip_prefix(&about.workspace) else {
            continue;
        };
        let (mut host, mut at) = (about.workspace.clone(), layer.to_path_buf());
        for component in below.parent().into_iter().flat_map(Path::components) {
            host.push(component);
            at.push(component);
            if !at.is_dir() {
                let meta = host.metadata()?;
                DirBuilder::new().mode(0o700).create(&at)?;
                let (uid, gid) = (exchange.uid(meta.uid()), exchange.gid(meta.gid()));
                chown(&at, Some(uid), Some(gid))?;
                fs::set_permissions(&at, Permissions::from_mode(meta.mode() & 0o777))?;
            }
        }
        one.shown.mapped(exchange).write(&layer.join(below))?;
    }
    Ok(())
}

/// Puts what is shown into `copy`, a copy of the workspace.
///
/// # Errors
/// Those of writing.
pub fn put_into_copy(copy: &Path, about: &About, redactions: &[Redaction]) -> io::Result<()> {
    for one in redactions {
        if let Ok(below) = one.path.strip_prefix(&about.workspace) {
            let shown = one.shown.mapped(Exchange::from(about));
            shown.write(&copy.join(below))?;
        }
    }
    Ok(())
}
