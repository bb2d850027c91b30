//! Finds where symbolic links lead after changes are applied, including through other links.
//!
//! At this point, it is not decided which changes will be applied, so a name stands for both the entry in the workspace
//! and the entry in the file view. Every path that a new link may take must end at a place where changes are allowed.
//! No entry on such a path may be a git directory, whatever its name, or be inside one. A link that existed before may
//! lead anywhere, but not through a new link or through a directory that replaces a link.
//!
//! The only paths out of the workspace lead to programs of the system.
//!
//! Claims: read-links
mod program;
mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use super::judge::{self, Protected, Reason};
use super::path::RelPath;
use world::{LayeredTree, Plain, find};

/// The maximum number of links on one path, as in the kernel.
const MOST_LINKS: usize = 40;
/// The maximum number of names that are looked up for one link. The number is limited because paths
/// multiply where a name has two meanings.
const MOST_NAMES: usize = 1000;
/// The maximum number of names that are looked up for all links together.
const MOST_IN_ALL: usize = 4_000_000;

/// The links of the workspace and of the command's changes over it.
#[derive(Debug)]
pub struct Ways<'a> {
    workspace: &'a Path,
    protected: &'a Protected,
    world: LayeredTree<'a>,
    /// New links, and directories that replace links, each with the reason if it is not applied.
    judged: BTreeMap<RelPath, Option<Reason>>,
    /// Number of names that may still be looked up.
    left: Cell<usize>,
    /// Whether a limit ended the lookup of a path early, so that no other new link can be judged.
    is_cut: bool,
}

/// The reason why the end of a path is forbidden, and the new entries on the path.
type Bad = (Reason, Vec<RelPath>);

/// The ends of all paths that a link may take.
#[derive(Debug, Default)]
struct Ends {
    bad: Vec<Bad>,
    /// Whether a path may end at a directory, or at a program of the system.
    leads_on: bool,
    /// Whether there are too many paths.
    is_cut: bool,
}

impl Ends {
    /// Records that a path was not followed to its end.
    fn cut(&mut self, new: Vec<RelPath>) {
        self.is_cut = true;
        self.bad.push((Reason::TooDeep, new));
    }
}

/// A place on a path, and the names still to be looked up, with the next one last.
#[derive(Clone)]
struct Step {
    at: RelPath,
    rest: Vec<Rc<[u8]>>,
    links: usize,
    new: Vec<RelPath>,
}

impl Step {
    /// Puts the names of `target` before the names that are not looked up yet.
    fn names(&mut self, target: &[u8]) {
        let names = target.split(|byte| *byte == b'/').rev();
        // Empty names and `.` lead nowhere, and a target may contain thousands of them.
        let names = names.filter(|name| !matches!(*name, b"" | b"."));
        self.rest.extend(names.map(Rc::from));
    }
}

impl<'a> Ways<'a> {
    /// Judges all links in `upper`, the upper layer over `root`, and all links that lead through
    /// them.
    ///
    /// # Errors
    /// Fails if a directory or link cannot be read.
    pub fn of(
        workspace: &'a Path,
        protected: &'a Protected,
        upper: &'a OwnedFd,
        root: &'a OwnedFd,
    ) -> io::Result<Self> {
        let mut ways = Self {
            workspace,
            protected,
            world: LayeredTree::new(upper, root),
            judged: BTreeMap::new(),
            left: Cell::new(MOST_IN_ALL),
            is_cut: false,
        };
        let fresh = find(upper)?;
        // A moved directory also moves its links.
        let mut leads_on = fresh.moved;
        for path in fresh.links {
            for link in ways.world.node(&path)?.links.iter().filter(|link| link.new) {
                let ends = ways.follow(&path, &link.target)?;
                leads_on |= ends.leads_on;
                let reason = ends.bad.into_iter().next().map(|(reason, _)| reason);
                ways.judged.insert(path.clone(), reason);
            }
        }
        for path in fresh.directories {
            leads_on |= ways.world.was_link(&path)?;
        }
        if leads_on {
            for path in find(root)?.links {
                for link in &ways.world.node(&path)?.links {
                    let ends = ways.follow(&path, &link.target)?;
                    ways.is_cut |= ends.is_cut;
                    for (reason, new) in ends.bad {
                        let new = new.into_iter().map(|path| (path, Some(reason.clone())));
                        ways.judged.extend(new);
                    }
                }
            }
        }
        Ok(ways)
    }

    /// Judges the entry at `path`, if it is a new link or a directory that replaces one.
    ///
    /// # Errors
    /// Returns the reason why the entry is not applied.
    pub fn check(&self, path: &RelPath) -> Result<(), Reason> {
        match self.judged.get(path) {
            Some(Some(reason)) => Err(reason.clone()),
            Some(None) if self.is_cut => Err(Reason::TooDeep),
            Some(None) | None => Ok(()),
        }
    }

    /// Judges the link at `path` as if its parent directory were applied. The host or the command
    /// may have created the link.
    ///
    /// # Errors
    /// Fails if a directory or link cannot be read.
    pub fn judge(&self, path: &RelPath, target: &[u8]) -> io::Result<Result<(), Reason>> {
        if self.judged.contains_key(path) {
            return Ok(self.check(path));
        }
        let ends = self.follow(path, target)?;
        let reason = ends.bad.into_iter().next().map(|(reason, _)| reason);
        let cut = self.is_cut.then_some(Reason::TooDeep);
        Ok(reason.or(cut).map_or(Ok(()), Err))
    }

    /// Follows every path that the link at `path` with `target` may take.
    fn follow(&self, path: &RelPath, target: &[u8]) -> io::Result<Ends> {
        let mut ends = Ends::default();
        let mut lookups = 0;
        let begin = Step {
            at: path.clone(),
            rest: Vec::new(),
            links: 0,
            new: Vec::new(),
        };
        let mut steps = Vec::new();
        self.enter(begin, (path, path), target, &mut steps, &mut ends)?;
        while let Some(mut step) = steps.pop() {
            let Some(name) = step.rest.pop() else {
                let node = self.world.node(&step.at)?;
                ends.leads_on |= node.directory;
                let judged = self.protected.check_end(&step.at).err();
                let reason = node.closed.clone().or(judged);
                ends.bad.extend(reason.map(|reason| (reason, step.new)));
                continue;
            };
            lookups += 1;
            self.left.set(self.left.get().saturating_sub(1));
            if lookups > MOST_NAMES || self.left.get() == 0 {
                ends.cut(step.new);
                return Ok(ends);
            }
            match &*name {
                b".." if step.at.0.is_empty() => ends.bad.push((Reason::PointsOutside, step.new)),
                b".." => {
                    step.at = step.at.split().0;
                    steps.push(step);
                }
                name => {
                    let next = step.at.join(OsStr::from_bytes(name));
                    if let Err(reason) = judge::depth(&next) {
                        ends.bad.push((reason, step.new));
                        continue;
                    }
                    let node = self.world.node(&next)?;
                    if let Some(reason) = &node.closed {
                        ends.bad.push((reason.clone(), step.new));
                        continue;
                    }
                    for link in &node.links {
                        let mut on = step.clone();
                        on.links += 1;
                        on.new.extend(link.new.then(|| next.clone()));
                        self.enter(on, (path, &next), &link.target, &mut steps, &mut ends)?;
                    }
                    if node.plain == Plain::Replaced {
                        step.new.push(next.clone());
                    }
                    if node.plain != Plain::No {
                        step.at = next;
                        steps.push(step);
                    }
                }
            }
        }
        Ok(ends)
    }

    /// Starts the path of the link at `path`, on the path of the link at `first`.
    ///
    /// # Errors
    /// Fails if a directory or link of the host cannot be read.
    fn enter(
        &self,
        mut step: Step,
        (first, path): (&RelPath, &RelPath),
        target: &[u8],
        steps: &mut Vec<Step>,
        ends: &mut Ends,
    ) -> io::Result<()> {
        if step.links > MOST_LINKS {
            // The kernel fails such a lookup with ELOOP, so no process reaches the end.
            return Ok(());
        }
        if target.first() == Some(&b'/') {
            let inside = target
                .strip_prefix(self.workspace.as_os_str().as_bytes())
                .filter(|rest| rest.first().is_none_or(|byte| *byte == b'/'));
            let Some(inside) = inside else {
                let is_last = step.rest.is_empty();
                if is_last && program::is_of_system(first, target, self.workspace)? {
                    ends.leads_on = true;
                } else {
                    ends.bad.push((Reason::PointsOutside, step.new));
                }
                return Ok(());
            };
            step.at = RelPath::default();
            step.names(inside);
        } else {
            step.at = path.split().0;
            step.names(target);
        }
        if step.rest.len() > MOST_NAMES {
            ends.cut(step.new);
        } else {
            steps.push(step);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::fcntl::{AT_FDCWD, OFlag, readlinkat};

    use super::*;
    use crate::apply::tree;

    /// Calls `look` with a workspace and an upper layer over it. Each text is an entry: `a/` is a
    /// directory, `a -> b` is a link, and anything else is a file.
    fn with<T>(before: &[&str], fresh: &[&str], look: impl FnOnce(&Ways<'_>, &OwnedFd) -> T) -> T {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str, entries: &[&str]| {
            let root = place.path().join(name);
            fs::create_dir(&root).unwrap();
            for entry in entries {
                let (path, target) = entry.split_once(" -> ").unwrap_or((entry, ""));
                let at = root.join(path);
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                if !target.is_empty() {
                    symlink(target, at).unwrap();
                } else if path.ends_with('/') {
                    fs::create_dir_all(at).unwrap();
                } else {
                    fs::write(at, "").unwrap();
                }
            }
            tree::open_dir(&AT_FDCWD, root.as_os_str()).unwrap()
        };
        let (root, upper) = (make("w", before), make("u", fresh));
        // The names of the layers do not matter for an absolute path.
        let kept = [Path::new("/w/x/out/packet")];
        let protected = Protected::new(Path::new("/w/x"), kept, Vec::new());
        let ways = Ways::of(Path::new("/w/x"), &protected, &upper, &root).unwrap();
        look(&ways, &upper)
    }

    fn refused_directory(before: &[&str], fresh: &str) -> Option<Reason> {
        let path = RelPath(fresh.trim_end_matches('/').as_bytes().to_vec());
        with(before, &[fresh], |ways, _| ways.check(&path).err())
    }

    fn judged(before: &[&str], fresh: &[&str]) -> Vec<(String, Option<Reason>)> {
        with(before, fresh, |ways, upper| {
            let links = find(upper).unwrap().links;
            links
                .iter()
                .map(|path| {
                    let (parent, name) = path.split();
                    let dir = tree::beneath(upper, &parent, OFlag::O_RDONLY).unwrap();
                    let target = readlinkat(&dir, name).unwrap();
                    let judged = ways.judge(path, target.as_bytes()).unwrap();
                    (path.text(), judged.err())
                })
                .collect()
        })
    }

    #[track_caller]
    fn assert_refused(before: &[&str], fresh: &[&str], wanted: &[(&str, Reason)]) {
        let mut found: Vec<(String, Reason)> = judged(before, fresh)
            .into_iter()
            .filter_map(|(path, reason)| Some((path, reason?)))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let wanted: Vec<(String, Reason)> = wanted
            .iter()
            .map(|(path, reason)| ((*path).to_owned(), reason.clone()))
            .collect();
        assert_eq!(found, wanted, "{before:?} {fresh:?}");
    }

    /// Claims: read-links, links-judged
    #[test]
    fn links_stay_inside_or_are_refused() {
        for link in [
            "node_modules/.bin/tool -> ../tool/cli.js",
            "a/b -> ../c",
            "a -> b/c",
            "a -> /w/x/b",
            "a/b/c -> ../../",
            "a -> out",
            "a -> b/../c",
            "a -> a",
            "a -> docs/.github/x",
        ] {
            assert_refused(&[], &[link], &[]);
        }
        for (at, target, why) in [
            ("a", ".git/hooks", Reason::GitDirectory),
            ("a/b", "../sub/.GIT", Reason::GitDirectory),
            ("a", "/w/x/.git", Reason::GitDirectory),
            ("a", ".github/workflows", Reason::Github),
            ("a", ".GitHub", Reason::Github),
            ("b/a", "../out/packet/x", Reason::Protected),
            ("a", "pkgs/.egress-ab/upper", Reason::Protected),
            ("a", "/etc/passwd", Reason::PointsOutside),
            ("a", "..", Reason::PointsOutside),
            ("a/b", "../..", Reason::PointsOutside),
            ("a", "b/../../c", Reason::PointsOutside),
            ("a", "/w/xy", Reason::PointsOutside),
            ("a", "/w/x/../y", Reason::PointsOutside),
            ("a/b", "../../x/c", Reason::PointsOutside),
        ] {
            let link = format!("{at} -> {target}");
            assert_refused(&[], &[&link], &[(at, why)]);
        }
    }

    /// Claims: links-judged*
    #[test]
    fn a_way_by_other_links_is_judged_by_its_end() {
        let (github, git) = (Reason::Github, Reason::GitDirectory);
        // New links lead through other new links. Each link is harmless by itself.
        for (through, target) in [
            ("d -> .", "d/.github/ci.yml"),
            ("d -> /w/x", "d/.github/ci.yml"),
            ("sub/up -> ..", "sub/up/.github/ci.yml"),
            ("sub/up -> ..", "/w/x/sub/up/.github"),
            ("d -> sub/../", "d/../x/d/.github"),
        ] {
            let link = format!("log -> {target}");
            let reason = if target.starts_with("d/..") {
                Reason::PointsOutside
            } else {
                github.clone()
            };
            assert_refused(&["sub/file"], &[through, &link], &[("log", reason)]);
        }
        // The paths lead through a directory that replaces a link.
        let before = ["s/t/", "l -> s/t", "log -> l/../.github"];
        assert_eq!(refused_directory(&before, "l/"), Some(github.clone()));
        assert_eq!(refused_directory(&before, "other/"), None);
        assert_eq!(refused_directory(&before[..2], "l/"), None);
        // Through links of the host.
        assert_refused(
            &["d -> ."],
            &["log -> d/.github"],
            &[("log", github.clone())],
        );
        assert_refused(
            &["d -> .github"],
            &["log -> d/x"],
            &[("log", github.clone())],
        );
        // The link belongs to the host or an earlier run, and leads through a new link.
        assert_refused(&["log -> d/.github"], &["d -> ."], &[("d", github.clone())]);
        assert_refused(&["log -> sub/x", "sub/x"], &["sub -> ."], &[]);
        assert_refused(&["log -> d/.github", "d -> ."], &["other -> sub"], &[]);
        // The links lead into a repository that is not named `.git`, in each way of becoming a
        // repository.
        let bare = ["v/HEAD", "v/objects/", "v/refs/"];
        assert_refused(&bare, &["log -> v/hooks"], &[("log", git.clone())]);
        assert_refused(&bare, &["log -> v"], &[("log", git.clone())]);
        assert_refused(
            &bare,
            &["d -> .", "log -> d/v/config"],
            &[("log", git.clone())],
        );
        let half = ["v/HEAD", "v/objects/"];
        assert_refused(&half, &["v/refs/x", "log -> v/config"], &[("log", git)]);
        assert_refused(&half, &["log -> v/config"], &[]);
        // The links that npm creates for workspaces.
        let npm = [
            "node_modules/p -> ../packages/p",
            "node_modules/.bin/p -> ../p/cli.js",
        ];
        assert_refused(&["packages/p/cli.js", ".git/HEAD"], &npm, &[]);
    }

    #[test]
    fn what_is_remembered_of_ways_is_limited() {
        let directory = ["d".repeat(240).as_str(); 11].join("/");
        let links: Vec<String> = (0..80)
            .map(|link| {
                let names = (0..400).map(|name| format!("{:06}/../", link * 400 + name));
                format!("{directory}/{link} -> {}x", names.collect::<String>())
            })
            .collect();
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        with(&[], &links, |ways, _| {
            let path = RelPath(format!("{directory}/0").into_bytes());
            assert_eq!(ways.check(&path), Ok(()));
            // The lookups covered 80 MB of paths.
            assert!(ways.world.remembered() < 64 << 20);
        });
    }

    /// Claims: read-links
    #[test]
    fn ways_that_multiply_are_refused() {
        let many = format!("x -> {}", "l/../".repeat(30));
        let few = format!("y -> {}", "l/../".repeat(3));
        let links = ["l -> s", &many, &few];
        assert_refused(&["s/file"], &links, &[("x", Reason::TooDeep)]);
        let long = format!("z -> s/{}file", "../s/".repeat(500));
        assert_refused(&["s/file"], &[&long], &[("z", Reason::TooDeep)]);
        let dots = format!("z -> s/{}file", "./".repeat(2000));
        assert_refused(&["s/file"], &[&dots], &[]);
        assert_refused(&[], &["a -> b", "b -> a"], &[]);
    }
}
