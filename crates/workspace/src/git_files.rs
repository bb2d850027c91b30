//! Looks through files that may hold credentials of git's, and through those that they name.
use std::collections::{BTreeSet, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::credentials::{Found, Redaction, Shown};
use super::git_directory::resolved;
use super::git_redact::{self, Reader, Redacted, Reference};
use super::reach::Reach;

/// How deep includes go; git ends with an error there (`MAX_INCLUDE_DEPTH` in its config.c).
const DEEPEST_INCLUDE: usize = 10;
/// Files that configurations name, all together.
const MOST_NAMED: usize = 1000;
/// Longest configuration that is looked through; a longer one is shown empty.
const LARGEST: u64 = 1 << 20;
/// Bytes of all files that are looked through; further ones are shown empty.
const LARGEST_READ: u64 = 32 << 20;
/// Bytes of all files that are shown in place of others; further ones are shown empty.
const LARGEST_SHOWN: usize = 4 << 20;
/// Stands for all of a file.
const WHOLE: &str = "(the whole file)";
/// Stands for all of a file that is too long to be looked through.
const TOO_LARGE: &str = "(a file of that size)";

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is git's configuration.
    Config(Bounds),
    /// It is configuration that belongs to the work tree.
    Tracked,
    /// It is text in which URLs occur.
    Text,
    /// It holds nothing else.
    Whole,
}

/// Where files lie that a configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// In the workspace or in the caller's home: a run may have written the configuration.
    Repository,
    /// Anywhere: the host wrote it.
    Host,
}

/// A file to look at.
#[derive(Debug)]
struct Job {
    path: PathBuf,
    treatment: Treatment,
    /// How many includes led to it.
    depth: usize,
}

/// The files, and what was found in them.
#[derive(Debug)]
pub struct Files {
    workspace: PathBuf,
    home: Option<PathBuf>,
    found: Found,
    /// Files to look at, configuration first.
    jobs: VecDeque<Job>,
    seen: BTreeSet<PathBuf>,
    named: usize,
    read: u64,
    shown: usize,
}

impl Files {
    /// None yet. `home` is the caller's, and without links like `workspace`.
    pub fn new(workspace: &Path, home: Option<&Path>) -> Self {
        Self {
            workspace: workspace.to_path_buf(),
            home: home.map(Path::to_path_buf),
            found: Found::default(),
            jobs: VecDeque::new(),
            seen: BTreeSet::new(),
            named: 0,
            read: 0,
            shown: 0,
        }
    }

    /// Whether a path lies in the workspace or in the caller's home.
    pub fn is_near(&self, path: &Path) -> bool {
        let home = self.home.as_deref();
        path.starts_with(&self.workspace) || home.is_some_and(|home| path.starts_with(home))
    }

    /// Adds a file to look at.
    pub fn add(&mut self, path: &Path, treatment: Treatment) {
        self.job(Job {
            path: path.to_path_buf(),
            treatment,
            depth: 0,
        });
    }

    fn job(&mut self, job: Job) {
        // A file that is included and lies in a git directory is configuration, whatever its name is.
        match job.treatment {
            Treatment::Config(_) => self.jobs.push_front(job),
            Treatment::Tracked | Treatment::Text | Treatment::Whole => self.jobs.push_back(job),
        }
    }

    /// Looks at all of them.
    ///
    /// # Errors
    /// When one that the command could read cannot be read.
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
                Treatment::Whole => 0,
                Treatment::Config(_) | Treatment::Tracked => LARGEST.min(left),
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
                _ if length > most => emptied(TOO_LARGE),
                Treatment::Config(_) => git_redact::config(&file.text, Reader::Git),
                Treatment::Tracked => git_redact::config(&file.text, Reader::WorkTree),
                Treatment::Text => git_redact::text(&file.text),
            };
            // What an include names may be anything. git ends with an error if it is no configuration.
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

    /// Files that the configuration at `path` names.
    fn named(&mut self, job: &Job, path: &Path, references: &[Reference]) {
        let Treatment::Config(bounds) = job.treatment else {
            return;
        };
        // A run may have written a file of the caller's own that lies in the workspace.
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

    /// What git takes `name` for, in the configuration at `path`: relative to that file, or in case of
    /// other files to the directory that a program of git runs in.
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

/// Nothing of a file, for the reason `key`.
fn emptied(key: &str) -> Redacted {
    Redacted {
        keys: vec![key.to_owned()],
        is_whole: key != TOO_LARGE,
        ..Redacted::default()
    }
}
