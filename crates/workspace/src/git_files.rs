//! Searches files that may contain credentials, and the files that a git configuration names.
//!
//! Claims: git-stores
use std::collections::{BTreeSet, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::credentials::{Found, Redaction, Shown};
use super::git_directory::resolved;
use super::git_redact::{self, Reader, Redacted, Reference};
use super::known_files::Content;
use super::reach::Reach;
use super::secret_text;

/// The maximum depth of includes. git stops with an error at this depth (`MAX_INCLUDE_DEPTH` in its
/// config.c).
const DEEPEST_INCLUDE: usize = 10;
/// The maximum number of files that configurations may name in total.
const MOST_NAMED: usize = 1000;
/// The maximum length of a configuration that is searched, in bytes. A longer configuration is
/// shown empty.
const LARGEST: u64 = 1 << 20;
/// The maximum number of bytes that are searched in total. Further files are shown empty.
const LARGEST_READ: u64 = 32 << 20;
/// The maximum number of bytes of all replacement files together. Further files are shown empty.
const LARGEST_SHOWN: usize = 4 << 20;
/// The maximum length of the part of a file that is searched for a private key, in bytes.
const LARGEST_KEY: u64 = 1 << 10;
/// The maximum number of known files that are hidden.
const MOST_KNOWN: usize = 1000;
/// The text that stands for the keys of a file if the file is a private key of egress.
const KEY: &str = "(a private key of egress)";
/// The text that stands for the keys of a file if the whole file is hidden.
const WHOLE: &str = "(the whole file)";
/// The text that stands for the keys of a file if the file is too long to be searched.
const TOO_LARGE: &str = "(a file of that size)";

/// How a file is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// The file is git's configuration.
    Config(Bounds),
    /// The file is configuration that belongs to the work tree.
    Tracked,
    /// The file is text that may contain URLs.
    Text,
    /// The file contains only credentials.
    Whole,
    /// The file is one in which a tool keeps credentials.
    Known(Content),
    /// The file may be a private key of egress.
    Key,
}

/// The locations of files that a configuration may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Only in the workspace or the caller's home, because a run may have written the configuration.
    Repository,
    /// Anywhere, because the host wrote the configuration.
    Host,
}

/// A file to search.
#[derive(Debug)]
struct Job {
    path: PathBuf,
    treatment: Treatment,
    /// Number of includes that led to the file.
    depth: usize,
}

/// The files to search, and the results so far.
#[derive(Debug)]
pub struct Files {
    workspace: PathBuf,
    home: Option<PathBuf>,
    found: Found,
    /// Files to search, with configurations first.
    jobs: VecDeque<Job>,
    seen: BTreeSet<PathBuf>,
    named: usize,
    known: usize,
    read: u64,
    shown: usize,
    key: &'static str,
}

impl Files {
    /// Starts without files. `home` is the caller's home directory. The paths `workspace` and `home` must not contain
    /// links. `key` is the text with which private keys of egress begin.
    pub fn new(workspace: &Path, home: Option<&Path>, key: &'static str) -> Self {
        Self {
            workspace: workspace.to_path_buf(),
            home: home.map(Path::to_path_buf),
            found: Found::default(),
            jobs: VecDeque::new(),
            seen: BTreeSet::new(),
            named: 0,
            known: 0,
            read: 0,
            shown: 0,
            key,
        }
    }

    /// Whether a path is in the workspace or in the caller's home.
    pub fn is_near(&self, path: &Path) -> bool {
        let home = self.home.as_deref();
        path.starts_with(&self.workspace) || home.is_some_and(|home| path.starts_with(home))
    }

    /// Adds a file to search.
    pub fn add(&mut self, path: &Path, treatment: Treatment) {
        self.job(Job {
            path: path.to_path_buf(),
            treatment,
            depth: 0,
        });
    }

    fn job(&mut self, job: Job) {
        // An included file in a git directory is configuration, whatever its name is.
        match job.treatment {
            Treatment::Config(_) => self.jobs.push_front(job),
            Treatment::Tracked
            | Treatment::Text
            | Treatment::Whole
            | Treatment::Known(_)
            | Treatment::Key => self.jobs.push_back(job),
        }
    }

    /// Searches the added files, and the files that these files include.
    ///
    /// # Errors
    /// Fails if a file that the command could read cannot be read.
    pub fn look(mut self, reach: &Reach) -> io::Result<Found> {
        while let Some(job) = self.jobs.pop_front() {
            let Some(path) = resolved(&job.path) else {
                continue;
            };
            if self.seen.contains(&path) {
                continue;
            }
            let left = LARGEST_READ.saturating_sub(self.read);
            let most = match job.treatment {
                Treatment::Whole | Treatment::Known(Content::Any) => 0,
                Treatment::Key | Treatment::Known(Content::PrivateKey) => LARGEST_KEY,
                Treatment::Config(_) | Treatment::Tracked | Treatment::Known(Content::Secrets) => {
                    LARGEST.min(left)
                }
                Treatment::Text => left,
            };
            let Some(file) = reach.read(&path, most)? else {
                continue;
            };
            let length = file.text.len() as u64;
            self.read += length;
            let redacted = match job.treatment {
                Treatment::Whole if length == 0 => continue,
                Treatment::Whole => emptied(WHOLE),
                Treatment::Known(_) | Treatment::Key => {
                    match self.known(job.treatment, &file.text, length > most) {
                        Some(why) => emptied(why),
                        None => continue,
                    }
                }
                _ if length > most => emptied(TOO_LARGE),
                Treatment::Config(_) => git_redact::config(&file.text, Reader::Git),
                Treatment::Tracked => git_redact::config(&file.text, Reader::WorkTree),
                Treatment::Text => git_redact::text(&file.text),
            };
            // An include may name any file. git stops with an error if that file is not a
            // configuration.
            if job.depth > 0 && !redacted.is_whole {
                self.found.cut_short |= length > most;
                continue;
            }
            self.seen.insert(path.clone());
            self.named(&job, &path, &redacted.paths);
            self.show(path, redacted, &file.meta);
        }
        Ok(self.found)
    }

    /// Returns why a known file with this text is hidden, or `None` if it is shown.
    fn known(&mut self, treatment: Treatment, bytes: &[u8], is_long: bool) -> Option<&'static str> {
        // In UTF-16, which XML permits, every second byte of these texts is 0.
        let text = String::from_utf8_lossy(bytes).replace('\0', "");
        let is_key = text.trim_start().starts_with(self.key);
        let is_hidden = match treatment {
            _ if bytes.is_empty() => false,
            _ if is_key => true,
            Treatment::Known(Content::Any) => true,
            Treatment::Known(Content::Secrets) => is_long || secret_text::holds_secret(&text),
            Treatment::Known(Content::PrivateKey) => secret_text::is_private_key(&text),
            Treatment::Config(_)
            | Treatment::Tracked
            | Treatment::Text
            | Treatment::Whole
            | Treatment::Key => false,
        };
        if !is_hidden {
            return None;
        }
        if self.known == MOST_KNOWN {
            self.found.cut_short = true;
            return None;
        }
        self.known += 1;
        Some(if is_key {
            KEY
        } else if is_long && treatment == Treatment::Known(Content::Secrets) {
            TOO_LARGE
        } else {
            WHOLE
        })
    }

    /// Adds the files that the configuration at `path` names.
    fn named(&mut self, job: &Job, path: &Path, references: &[Reference]) {
        let Treatment::Config(bounds) = job.treatment else {
            return;
        };
        // A run may have written a configuration of the caller that is in the workspace.
        let bounds = if path.starts_with(&self.workspace) {
            Bounds::Repository
        } else {
            bounds
        };
        for reference in references {
            if self.named == MOST_NAMED {
                self.found.cut_short = true;
                return;
            }
            self.named += 1;
            let (name, treatment, depth) = match reference {
                Reference::Include(name) => (name, Treatment::Config(bounds), job.depth + 1),
                Reference::Secret(name) => (name, Treatment::Whole, 0),
            };
            if depth > DEEPEST_INCLUDE {
                continue;
            }
            for place in self.places(job, path, name, treatment) {
                if bounds == Bounds::Host || self.is_near(&place) {
                    self.job(Job {
                        path: place,
                        treatment,
                        depth,
                    });
                }
            }
        }
    }

    /// Returns the paths to which git may resolve `name` in the configuration at `path`. The paths
    /// are relative to that configuration. For a file that is not an include, the paths may also be
    /// relative to the directory in which a program of git runs.
    fn places(&self, job: &Job, path: &Path, name: &str, treatment: Treatment) -> Vec<PathBuf> {
        if let (Some(below), Some(home)) = (name.strip_prefix("~/"), &self.home) {
            return resolved(&home.join(below)).into_iter().collect();
        }
        let mut dirs: Vec<&Path> = [job.path.parent(), path.parent()]
            .into_iter()
            .flatten()
            .collect();
        if treatment == Treatment::Whole {
            let above: Vec<&Path> = dirs.iter().filter_map(|dir| dir.parent()).collect();
            dirs.extend(above);
            dirs.push(&self.workspace);
        }
        let places = dirs.into_iter().filter_map(|dir| resolved(&dir.join(name)));
        places.collect()
    }

    fn show(&mut self, path: PathBuf, mut redacted: Redacted, meta: &Metadata) {
        if redacted.keys.is_empty() {
            return;
        }
        self.shown += redacted.text.len();
        if self.shown > LARGEST_SHOWN {
            self.shown -= redacted.text.len();
            redacted = emptied(TOO_LARGE);
        }
        self.found.redactions.push(Redaction {
            path,
            keys: redacted.keys,
            shown: Shown {
                content: redacted.text,
                uid: meta.uid(),
                gid: meta.gid(),
                mode: meta.mode() & 0o777,
            },
        });
    }
}

/// Hides a whole file, for the reason `key`.
fn emptied(key: &str) -> Redacted {
    Redacted {
        keys: vec![key.to_owned()],
        is_whole: key != TOO_LARGE,
        ..Redacted::default()
    }
}
