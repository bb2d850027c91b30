//! A user whose home other users cannot enter, and who starts egress with `sudo`.
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::command::{Output, Running};
use crate::require::installed;
use crate::run::{Run, binary};
use crate::world::World;

/// Name of the user.
pub const USER: &str = "egress-test";
/// User id and group id of the user.
pub const UID: u32 = 4242;

/// The account and its home. The account exists only in the mount namespace of the world.
#[derive(Debug)]
pub struct ClosedHome<'a> {
    world: &'a World,
    home: PathBuf,
    starter: PathBuf,
    _parent: TempDir,
}

impl<'a> ClosedHome<'a> {
    /// Creates the account with a home of mode 0750, and permits it to run everything with `sudo`.
    ///
    /// # Panics
    /// Panics if `sudo` is missing or a file cannot be written.
    pub fn new(world: &'a World) -> Self {
        let parent = tempfile::tempdir_in("/opt").expect("make a directory");
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).expect("open it");
        let home = parent.path().join("home");
        fs::create_dir(&home).expect("make the home");
        fs::set_permissions(&home, Permissions::from_mode(0o750)).expect("close the home");
        chown(&home, Some(UID), Some(UID)).expect("give the home to the user");
        for (file, mode, line) in [
            // No password is in the shadow file, because the field is not `x`.
            (
                "/etc/passwd",
                0o644,
                format!("{USER}:*:{UID}:{UID}::{}:/bin/bash", home.display()),
            ),
            ("/etc/group", 0o644, format!("{USER}:*:{UID}:")),
            (
                "/etc/sudoers",
                0o440,
                format!("{USER} ALL=(ALL:ALL) NOPASSWD: ALL"),
            ),
        ] {
            extend(world, Path::new(file), mode, &line);
        }
        let sudo = installed("sudo").expect("sudo is required");
        let starter = world.dir().join("sudo-egress");
        let text = format!(
            "#!/bin/sh\nexec {} {} -n -- {} \"$@\"\n",
            as_user(&home).join(" "),
            sudo.display(),
            binary().display()
        );
        fs::write(&starter, text).expect("write a script");
        fs::set_permissions(&starter, Permissions::from_mode(0o755)).expect("allow it");
        Self {
            world,
            home,
            starter,
            _parent: parent,
        }
    }

    /// Returns the path of the home.
    pub fn path(&self) -> &Path {
        &self.home
    }

    /// Creates a directory with these files in the home. The directory also has the certificate of the world's
    /// authority, `authority.pem`.
    ///
    /// # Panics
    /// Panics if a file cannot be written.
    pub fn project(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let project = self.home.join(name);
        let authority = fs::read_to_string(self.world.authority()).expect("the certificate");
        for (name, text) in files.iter().chain([&("authority.pem", authority.as_str())]) {
            let path = project.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
            fs::write(&path, text).expect("write a file");
        }
        self.give(name);
        project
    }

    /// Creates a link in the home, and the directories above it.
    ///
    /// # Panics
    /// Panics if the link cannot be created.
    pub fn link(&self, name: &str, target: &Path) {
        let path = self.home.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        symlink(target, path).expect("make a link");
        self.give(name);
    }

    /// Gives the first directory of the path `name` in the home, and everything in it, to the user. Changes links
    /// themselves, and not their targets.
    fn give(&self, name: &str) {
        let first = Path::new(name).components().next().expect("a name");
        let path = self.home.join(first).display().to_string();
        let given = self
            .world
            .runner(["chown", "-hR", &format!("{UID}:{UID}"), &path]);
        assert!(given.success(), "{given}");
    }

    /// Runs a bash script as the user, without any boundary.
    pub fn shell(&self, directory: &Path, script: &str) -> Output {
        let script = format!("cd {} || exit\n{script}", directory.display());
        self.start(["bash", "-c", &script])
            .finish(Duration::from_mins(4))
    }

    /// Starts a program as the user, without any boundary.
    pub fn start<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Running {
        let user = as_user(&self.home).into_iter();
        self.world
            .background(user.chain(argv.into_iter().map(Into::into)))
    }

    /// Returns a run that the user starts with `sudo` in `project`.
    pub fn sudo(&self, project: &Path) -> Run<'a> {
        let run = self.world.egress().binary(&self.starter).workdir(project);
        run.limit(Duration::from_mins(4))
    }
}

/// Returns the words that start a program as the user, with the environment of a login shell.
fn as_user(home: &Path) -> Vec<String> {
    let home = home.display();
    let mut words = format!("setpriv --reuid {UID} --regid {UID} --clear-groups env -i");
    write!(
        words,
        " HOME={home} USER={USER} LOGNAME={USER} SHELL=/bin/bash LANG=C.UTF-8 \
         PATH={home}/.cargo/bin:{home}/.local/bin:/usr/local/bin:/usr/bin:/bin"
    )
    .expect("write to memory");
    words.split(' ').map(str::to_owned).collect()
}

/// Adds a line to a file of the host, in the mount namespace of the world.
fn extend(world: &World, file: &Path, mode: u32, line: &str) {
    let text = fs::read_to_string(file).expect("read a file of the host");
    let copy = world.dir().join(file.file_name().expect("a name"));
    fs::write(&copy, format!("{}\n{line}\n", text.trim_end())).expect("write a copy");
    fs::set_permissions(&copy, Permissions::from_mode(mode)).expect("set a mode");
    let [copy, file] = [&copy, file].map(Path::as_os_str);
    let mounted = world.runner(["mount".as_ref(), "--bind".as_ref(), copy, file]);
    assert!(mounted.success(), "{mounted}");
}
