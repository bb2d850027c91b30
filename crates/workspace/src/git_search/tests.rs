use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const SECRET: &str = "[http]\n extraheader = AUTHORIZATION: basic x\n";

/// Text with which private keys of egress begin.
const KEY: &str = "pipelock-ed25519-private-v1";

/// Searches, and leaves out what other homes of the machine contain.
fn search(workspace: &Path, home: Option<&Path>) -> Found {
    search_in(&Places {
        workspace,
        home,
        tools: &[],
        masked: &[],
        wanted: &[],
        key: KEY,
    })
}

fn search_in(places: &Places<'_>) -> Found {
    let mut found = find(places).unwrap();
    let top = places.workspace.parent().unwrap();
    found.redactions.retain(|one| one.path.starts_with(top));
    found
}

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
        let found = search(&root.join("w"), Some(&home));
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
    let found = search(&root.join("w"), Some(&root.join("w/home")));
    assert!(
        found
            .redactions
            .iter()
            .all(|one| one.path.starts_with(root.join("w")))
    );
    // With the root directory as home, every file would count as the caller's.
    let found = search(&root.join("w"), Some(Path::new("/")));
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
    let found = search(&scene.root().join("w"), None);
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
    assert!(search(&scene.root().join("w"), None).cut_short);
}

/// Claims: credential-files, own-keys, other-credentials*
#[test]
fn files_of_tools_are_found_where_they_are_kept() {
    let scene = Scene::new();
    let token = "//r.test/:_authToken=abc\n";
    let key = format!("{KEY}\n{}\n", "A".repeat(88));
    let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n";
    let hidden = [
        (".npmrc", token),
        ("home/.aws/credentials", "x"),
        ("home/.aws/sso/cache/1.json", "x"),
        ("home/.config/egress/any", &key),
        ("home/.config/gcloud/legacy_credentials/me/adc.json", "x"),
        ("home/.ssh/mine", ssh),
        ("home/signer.key", &key),
        ("tools/bin/key", &key),
        ("w/.docker/config.json", "{}"),
        ("w/.npmrc", token),
        ("w/a/b/c/.netrc", "x"),
        ("w/a/key", key.trim_end()),
        ("w/gha-creds-1.json", "x"),
        ("w/id_rsa", ssh),
        ("w/nuget.config", "<add key=\"Password\" value=\"x\" />"),
        ("w/settings.xml", "<\0p\0a\0s\0s\0w\0o\0r\0d\0>\0x\0"),
    ];
    let visible = [
        ("home/.aws/credentials2", "x"),
        ("home/.ssh/config", "Host x\n"),
        ("home/.ssh/id_rsa.pub", "ssh-rsa AAAA\n"),
        ("w/.netrc", ""),
        (
            "w/a/.npmrc",
            "registry=https://r.test/\n//r.test/:_authToken=${TOKEN}\n",
        ),
        ("w/a/b/c/d/.netrc", "x"),
        ("w/a/key.pub", "pipelock-ed25519-public-v1\nAAAA\n"),
        ("w/id_ed25519", "a fixture\n"),
        ("w/key.txt", &format!("# {key}")),
    ];
    for (path, text) in hidden.into_iter().chain(visible) {
        scene.put(path, text);
    }
    let root = scene.root();
    let closed = Permissions::from_mode(0o700);
    fs::set_permissions(root.join("tools"), closed).unwrap();
    let (home, tools) = (root.join("home"), [root.join("tools/bin")]);
    let found = |masked: &[PathBuf], wanted: &[PathBuf]| {
        let found = search_in(&Places {
            workspace: &root.join("w"),
            home: Some(&home),
            tools: &tools,
            masked,
            wanted,
            key: KEY,
        });
        assert!(!found.cut_short);
        let paths = |of: Vec<Redaction>| -> Vec<String> {
            let below = of
                .into_iter()
                .map(|one| one.path.strip_prefix(&root).unwrap().to_path_buf());
            below.map(|path| path.display().to_string()).collect()
        };
        (paths(found.redactions), paths(found.shown))
    };
    let mut all = hidden.map(|(path, _)| path.to_owned()).to_vec();
    all.sort();
    assert_eq!(found(&[], &[]), (all.clone(), Vec::new()));
    // A path that is hidden anyway is not named, unless it is a directory around the workspace.
    let (without, _) = found(&[root.join("w/a/key"), root.clone()], &[]);
    assert_eq!(
        without,
        all.iter()
            .filter(|path| *path != "w/a/key")
            .cloned()
            .collect::<Vec<_>>()
    );
    // The caller shows one file, and all files of a directory.
    let (rest, shown) = found(&[], &[root.join("w/.npmrc"), root.join("home/.aws")]);
    assert_eq!(
        shown,
        [
            "home/.aws/credentials",
            "home/.aws/sso/cache/1.json",
            "w/.npmrc"
        ]
    );
    assert_eq!(rest.len() + shown.len(), all.len());
    // In a home that other users cannot enter, there is nothing to hide.
    let closed = Permissions::from_mode(0o750);
    fs::set_permissions(&home, closed).unwrap();
    assert!(
        !found(&[], &[])
            .0
            .iter()
            .any(|path| path.starts_with("home"))
    );
}

/// Claims: read-credentials*
#[test]
fn known_names_that_a_run_left_lead_nowhere() {
    let scene = Scene::new();
    scene.put("w/inside", "x");
    scene.put("outside", "x");
    scene.put("dir/credentials", "x");
    let root = scene.root();
    let link = |to: &str, name: &str| symlink(to, root.join("w").join(name)).unwrap();
    link("inside", ".netrc");
    link("../outside", "_netrc");
    link("/etc/passwd", ".pgpass");
    link("/dev/zero", ".vault-token");
    link("../dir", ".aws");
    link(".boto", ".boto");
    fs::create_dir(root.join("w/.s3cfg")).unwrap();
    nix::unistd::mkfifo(&root.join("w/.dockercfg"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    nix::unistd::mkfifo(&root.join("w/.npmrc"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The control: a program that follows the links reads the files.
    assert_eq!(fs::read_to_string(root.join("w/_netrc")).unwrap(), "x");
    assert_eq!(
        fs::read_to_string(root.join("w/.aws/credentials")).unwrap(),
        "x"
    );
    // The link into the workspace hides its target, because the name `.netrc` leads to it.
    assert_eq!(scene.hidden(), ["w/inside"]);
    // A file that is too long to be searched, and more files than the limits permit.
    let long = root.join("w/settings.xml");
    fs::File::create(&long).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(scene.hidden(), ["w/inside", "w/settings.xml"]);
    for number in 0..1100 {
        scene.put(&format!("w/gha-creds-{number}.json"), "x");
    }
    let found = search(&root.join("w"), None);
    assert!(found.cut_short);
    assert_eq!(found.redactions.len(), 1000);
}
