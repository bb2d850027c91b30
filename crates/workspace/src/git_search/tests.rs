use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const SECRET: &str = "[http]\n extraheader = AUTHORIZATION: basic x\n";

/// A directory that any user can read.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Creates the entries that make `path` a git directory.
    fn git(&self, path: &str) {
        self.put(&format!("{path}/HEAD"), "ref: refs/heads/main\n");
        for name in ["objects", "refs"] {
            fs::create_dir_all(self.root().join(path).join(name)).unwrap();
        }
    }

    /// Paths of the hidden files, with the workspace `w` and the home `home`.
    fn hidden(&self) -> Vec<String> {
        let root = self.root();
        let home = root.join("home");
        let found = find(&root.join("w"), Some(&home)).unwrap();
        let below = |path: &Path| {
            path.strip_prefix(&root)
                .map(|path| path.display().to_string())
        };
        let paths = found.redactions.iter();
        paths.filter_map(|one| below(&one.path).ok()).collect()
    }
}

/// Claims: git-credentials
#[test]
fn every_git_directory_is_found() {
    let scene = Scene::new();
    for path in [
        ".git/config",
        "w/.git/config",
        "w/.git/config.worktree",
        "w/.git/worktrees/a/config.worktree",
        "w/.git/modules/a/b/config",
        "w/sub/dir/.git/config",
        "w/bare.git/config",
        "elsewhere/.git/config",
        "home/credentials",
        "w/plain",
        "w/like/config",
        "like/config",
        "link/config",
    ] {
        scene.put(path, SECRET);
    }
    for path in [".git", "w/bare.git", "elsewhere/.git", "link"] {
        scene.git(path);
    }
    scene.put("w/.git/modules/a/b/HEAD", "");
    scene.put("w/tree/.git", "gitdir: ../../elsewhere/.git/worktrees/t\n");
    scene.put(
        "elsewhere/.git/worktrees/t/HEAD",
        "0123456789012345678901234567890123456789\n",
    );
    scene.put("elsewhere/.git/worktrees/t/commondir", "../..\n");
    scene.put("w/other/.git/config", "[include]\npath = ~/credentials\n");
    // git treats none of these as a git directory.
    scene.put("w/like/HEAD", "ref: refs/heads/main\n");
    scene.put("like/HEAD", "ref: refs/heads/main\n");
    scene.put("w/named/.git", "gitdir: ../../like\n");
    fs::create_dir_all(scene.root().join("w/linked/.git")).unwrap();
    symlink(
        "../../../link/config",
        scene.root().join("w/linked/.git/config"),
    )
    .unwrap();
    symlink(
        "../../../like/config",
        scene.root().join("w/linked/.git/config.worktree"),
    )
    .unwrap();
    assert_eq!(
        scene.hidden(),
        [
            ".git/config",
            "elsewhere/.git/config",
            "home/credentials",
            "link/config",
            "w/.git/config",
            "w/.git/config.worktree",
            "w/.git/modules/a/b/config",
            "w/.git/worktrees/a/config.worktree",
            "w/bare.git/config",
            "w/sub/dir/.git/config",
        ]
    );
}

#[test]
fn a_repository_hides_nothing_of_the_host() {
    let scene = Scene::new();
    scene.git("w/.git");
    let root = scene.root();
    let mut text = String::from("[http]\nsslKey = ../../host/key\n[include]\n");
    for path in [
        "home/own",
        "home/closed",
        "w/inc",
        "w/not",
        "host/open",
        "host/key",
    ] {
        scene.put(path, SECRET);
        writeln!(text, "path = {}/{path}", root.display()).unwrap();
    }
    let only = |path: &str, mode| {
        fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
    };
    only("home/closed", 0o640);
    // A file that is not a configuration stays unchanged.
    scene.put("w/not", "\x7fELF");
    scene.put("w/.git/config", &text);
    assert_eq!(scene.hidden(), ["home/own", "w/.git/config", "w/inc"]);
    // The host's own configuration may include any file, unless it is in the workspace.
    scene.put("home/.gitconfig", &text);
    let hidden = scene.hidden();
    let of_host = hidden.iter().filter(|path| path.starts_with("host/"));
    assert_eq!(of_host.collect::<Vec<_>>(), ["host/key", "host/open"]);
    fs::create_dir_all(root.join("w/home")).unwrap();
    scene.put("w/home/.gitconfig", &text);
    let found = find(&root.join("w"), Some(&root.join("w/home"))).unwrap();
    assert!(
        found
            .redactions
            .iter()
            .all(|one| one.path.starts_with(root.join("w")))
    );
    // With the root directory as home, every file would count as the caller's.
    let found = find(&root.join("w"), Some(Path::new("/"))).unwrap();
    assert!(
        found
            .redactions
            .iter()
            .all(|one| one.path.starts_with(root.join("w")))
    );
}

#[test]
fn includes_end_where_git_ends_them() {
    let scene = Scene::new();
    scene.git("w/.git");
    for number in 0..3000 {
        let text = format!("[include] path = c{}\n{SECRET}", number + 1);
        scene.put(&format!("w/c{number}"), &text);
    }
    scene.put(
        "w/.git/config",
        "[include] path = ../c0\n[include] path = config\n",
    );
    assert_eq!(scene.hidden().len(), 10);
    let mut many = String::new();
    for number in 0..3000 {
        writeln!(many, "path = ../c{number}").unwrap();
    }
    scene.put("w/.git/config", &format!("[include]\n{many}"));
    assert_eq!(scene.hidden().len(), 1000);
    let found = find(&scene.root().join("w"), None).unwrap();
    assert!(found.cut_short);
}

#[test]
fn what_the_command_may_write_does_not_use_up_the_search() {
    let scene = Scene::new();
    scene.git("w/.git");
    scene.put("w/.git/config", SECRET);
    scene.put("w/.git/token", "x");
    scene.put("w/.git/empty", "");
    for number in 0..1500 {
        fs::create_dir_all(scene.root().join(format!("w/a{number}"))).unwrap();
    }
    scene.put("w/.git/logs/HEAD", "");
    let log = scene.root().join("w/.git/logs/HEAD");
    fs::File::create(&log).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(
        scene.hidden(),
        ["w/.git/config", "w/.git/logs/HEAD", "w/.git/token"]
    );
    assert!(find(&scene.root().join("w"), None).unwrap().cut_short);
}
