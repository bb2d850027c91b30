//! `egress keygen`: the place, the owner, and the mode of the keys.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use egress_tests::{World, binary};

/// Claims: keys-outside*
#[test]
fn keys_are_made_in_the_home_of_the_caller() {
    let world = World::new();
    let home = world.dir().join("home");
    let work = world.dir().join("work");
    fs::create_dir_all(&work).unwrap();
    fs::create_dir(&home).unwrap();
    let egress = |variables: &str| {
        world.shell(&format!(
            "cd {} && env -u XDG_CONFIG_HOME -u SUDO_UID {variables} {} keygen",
            work.display(),
            binary().display()
        ))
    };
    let files = |dir: &str| {
        [
            "signer.key",
            "signer.key.pub",
            "boundary.key",
            "boundary.key.pub",
        ]
        .map(|name| home.join(dir).join(name))
    };
    let made = egress(&format!("HOME={}", home.display()));
    assert!(made.success() && made.stderr.is_empty(), "{made}");
    let own = files(".config/egress");
    let before = own.clone().map(|file| fs::read(file).unwrap());
    let modes = own
        .clone()
        .map(|file| file.metadata().unwrap().mode() & 0o7777);
    assert_eq!(modes, [0o600, 0o644, 0o600, 0o644]);
    assert_eq!(
        own[0].parent().unwrap().metadata().unwrap().mode() & 0o7777,
        0o700
    );
    assert!(made.stdout.contains(own[0].to_str().unwrap()), "{made}");
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    // Nothing is replaced, and no second key is generated if one exists.
    fs::remove_file(&own[0]).unwrap();
    fs::remove_file(&own[1]).unwrap();
    let again = egress(&format!("HOME={}", home.display()));
    assert_eq!(again.status, Some(64), "{again}");
    assert!(
        again.stderr.contains("boundary.key already exists"),
        "{again}"
    );
    assert!(!own[0].exists() && fs::read(&own[2]).unwrap() == before[2]);

    let named = egress(&format!("HOME={0} XDG_CONFIG_HOME={0}/xdg", home.display()));
    assert!(
        named.success() && files("xdg/egress")[0].exists(),
        "{named}"
    );
    let none = egress("-u HOME XDG_CONFIG_HOME=relative HOME=relative");
    assert_eq!(none.status, Some(64), "{none}");

    // Under sudo, the keys belong to the user who called it, and a link of that user gives no access to directories of
    // root.
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let account = format!(
        "egress-test:x:4242:4243::{}:/bin/sh\n",
        home.join("user").display()
    );
    let passwd = world.dir().join("passwd");
    fs::write(&passwd, accounts + &account).unwrap();
    // The mount exists only in the mount namespace of this world.
    let mounted = world.runner(["mount", "--bind", passwd.to_str().unwrap(), "/etc/passwd"]);
    assert!(mounted.success(), "{mounted}");
    let user = home.join("user");
    let closed = home.join("closed");
    let prepared = world.shell(&format!(
        "mkdir -p {0}/.config && chown -R 4242:4243 {0} && mkdir -m 700 {1} && chmod 755 {2} {2}/..",
        user.display(),
        closed.display(),
        home.display()
    ));
    assert!(prepared.success(), "{prepared}");
    let sudo = || egress("SUDO_UID=4242 SUDO_GID=4243 HOME=/root");
    let made = sudo();
    assert!(made.success(), "{made}");
    for file in files("user/.config/egress") {
        let meta = file.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4242, 4243), "{}", file.display());
    }
    fs::remove_dir_all(user.join(".config/egress")).unwrap();
    symlink(&closed, user.join(".config/egress")).unwrap();
    let linked = sudo();
    assert_eq!(linked.status, Some(2), "{linked}");
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}

/// Claims: keys-outside
#[test]
fn place_in_a_work_tree_is_refused_and_one_in_the_directory_is_warned_of() {
    let world = World::new();
    let tree = world.dir().join("tree/sub");
    let other = world.dir().join("other");
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir(&other).unwrap();
    let keygen = |dir: &std::path::Path, options: &str| {
        world.shell(&format!(
            "cd {} && {} keygen {options}",
            dir.display(),
            binary().display()
        ))
    };
    // The control: outside of a work tree, the same place is used.
    let warned = keygen(&tree, "--out before.key");
    assert!(warned.success(), "{warned}");
    assert!(
        warned.stderr.contains("may become part of a workspace"),
        "{warned}"
    );
    let far = keygen(&other, &format!("--out {}/far.key", tree.display()));
    assert!(far.success() && far.stderr.is_empty(), "{far}");

    fs::create_dir(tree.parent().unwrap().join(".git")).unwrap();
    for (dir, out) in [
        (&tree, "signer.key".to_owned()),
        (&other, format!("{}/signer.key", tree.display())),
    ] {
        let refused = keygen(dir, &format!("--out {out}"));
        assert_eq!(refused.status, Some(64), "{refused}");
        assert!(
            refused.stderr.contains("is in the git work tree"),
            "{refused}"
        );
        assert!(!tree.join("signer.key").exists());
    }
    let permitted = keygen(&tree, "--in-workspace --json --out signer.key");
    assert!(
        permitted.success() && permitted.stderr.is_empty(),
        "{permitted}"
    );
    assert!(
        permitted.stdout.contains("may become part of a workspace"),
        "{permitted}"
    );
}
