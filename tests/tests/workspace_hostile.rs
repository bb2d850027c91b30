//! What an agent leaves in the workspace for those who come later: the supervisor, and the next run.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, assert_refused, changes, outcome, stores};

/// Directories within each other, and a program's arguments: how many, and the length of their names.
const NEST: &str = "python3 -c '
import os, sys
for _ in range(int(sys.argv[1])):
    name = \"d\" * int(sys.argv[2])
    os.mkdir(name); os.chdir(name)
open(\"file\", \"w\").close()' ";

#[test]
fn a_tree_that_no_path_can_name_stops_no_run() {
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!("cd {} && {NEST} 20 250", by_hand.display()));
    assert!(control.success(), "{control}");
    let found = world.shell(&format!(
        "find {} -name file -printf '%P' | wc -c",
        by_hand.display()
    ));
    assert_eq!(found.stdout.trim(), "5024", "{found}");

    for (count, length) in [(20, 250), (3000, 1)] {
        let run = apply(&world)
            .script(&format!(
                "{NEST} {count} {length}; echo fine >fine; echo DONE"
            ))
            .run();
        assert_ran(&run);
        assert_eq!(outcome(&run, "fine").0, "applied");
        let last = changes(&run).pop().unwrap();
        let deep = changes(&run)
            .into_iter()
            .filter(|change| change["reason"] == "too_deep")
            .count();
        assert_eq!(deep, 1, "{last}");
        let next = apply(&world).workdir(&run.workdir).command(["true"]).run();
        assert_eq!(next.status, Some(0), "{next}");
        assert!(stores(&run.workdir).is_empty(), "{next}");
    }
}

#[test]
fn what_the_next_run_rests_on_cannot_be_replaced_on_its_way() {
    const ATTEMPT: &str = "rm conf; mkdir conf; echo owned >conf/policy.yaml
        rm keys/boundary; echo owned >keys/boundary; rm mine; echo owned >mine; echo DONE";
    let world = World::new();
    let lay = |dir: &Path| {
        for name in ["real", "keys"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        fs::write(dir.join("real/policy.yaml"), "mode: strict\n").unwrap();
        fs::write(dir.join("real/mine"), "mine").unwrap();
        for (to, name) in [
            ("real", "conf"),
            ("../../key", "keys/boundary"),
            ("real/mine", "mine"),
        ] {
            symlink(to, dir.join(name)).unwrap();
        }
    };
    let owned = |dir: &Path| -> Vec<&str> {
        let names = ["conf/policy.yaml", "keys/boundary", "mine"];
        let is_owned = |name: &&str| fs::read(dir.join(name)).is_ok_and(|text| text == b"owned\n");
        names.into_iter().filter(is_owned).collect()
    };
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    lay(&by_hand);
    let control = world.shell(&format!("cd {}; {ATTEMPT}", by_hand.display()));
    assert!(control.success(), "{control}");
    assert_eq!(owned(&by_hand).len(), 3);

    let run = world.egress().arg("--workspace").arg("apply");
    let work = run.directory();
    lay(&work);
    let key = work.with_file_name("key");
    let made = world.runner([
        egress_tests::binary().as_os_str(),
        "keygen".as_ref(),
        "--out".as_ref(),
        key.as_os_str(),
    ]);
    assert!(made.success(), "{made}");
    let run = run
        .arg("--config")
        .arg(work.join("conf/policy.yaml"))
        .arg("--boundary-key")
        .arg(work.join("keys/boundary"))
        .arg("--protect")
        .arg("mine")
        .script(ATTEMPT)
        .run();
    assert_ran(&run);
    assert_eq!(owned(&run.workdir), Vec::<&str>::new(), "{run}");
    for name in ["conf", "keys/boundary", "mine"] {
        assert_refused(&run, name, "protected");
    }
    // What the link protects is the file, too.
    let run = apply(&world)
        .workdir(&run.workdir)
        .arg("--protect")
        .arg("mine")
        .script("echo owned >real/mine; ln -s .git/hooks hooks; ln -s real/mine other; echo DONE")
        .run();
    assert_ran(&run);
    assert_refused(&run, "real/mine", "protected");
    assert_refused(&run, "other", "protected");
    assert_refused(&run, "hooks", "git_directory");
}
