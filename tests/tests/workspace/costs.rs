//! Limits on the time, memory, and disk space that the supervisor needs for a command's changes.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::path::Path;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, assert_refused, changes, outcome};

/// Writes a git index of version 4 that contains one long path many times. Each entry except the first takes only a few
/// bytes.
const SHORT_INDEX: &str = "python3 -c '
import hashlib, struct, sys
length, count = map(int, sys.argv[1:])
entry = lambda rest: bytes(24) + struct.pack(\">I\", 0o100644) + bytes(12) + bytes(range(20)) + struct.pack(\">H\", 0xfff) + rest + b\"\\0\"
text = b\"DIRC\" + struct.pack(\">II\", 4, count) + entry(b\"\\0\" + b\"a\" * length)
text += b\"\".join(entry(b\"\\7\" + b\"%07d\" % number) for number in range(1, count))
open(\".git/index\", \"wb\").write(text + hashlib.sha1(text).digest())' ";

/// Claims: read-git-index
#[test]
fn short_index_with_terabytes_of_names_costs_no_more_than_a_long_one() {
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let prepare = "git init -q .";
    let control = world.shell(&format!(
        "cd {} && {prepare} && {SHORT_INDEX} 1000000 400 && stat -c %s .git/index && git ls-files | wc -c",
        by_hand.display()
    ));
    let sizes: Vec<u64> = control
        .stdout
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert!(sizes[0] < 2_000_000 && sizes[1] > 390_000_000, "{control}");

    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!("cd {} && {prepare}", work.display()));
    assert!(made.success(), "{made}");
    let run = run
        .script(&format!(
            "{SHORT_INDEX} 1000000 10000 && echo fine >fine; echo DONE"
        ))
        .run();
    assert_ran(&run);
    assert_refused(&run, ".git/index", "git_index");
    assert_eq!(outcome(&run, "fine").0, "applied");
}

/// Claims: read-changes, holes
#[test]
fn many_names_of_one_file_are_read_and_kept_once() {
    const NAMES: usize = 300;
    let script = format!(
        "mkdir -p .github && head -c 4M /dev/urandom >.github/file && for n in $(seq {NAMES}); do ln .github/file .github/$n; done"
    );
    let world = World::new();
    let by_hand = world.dir().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let control = world.shell(&format!(
        "cd {} && {script} && tar --hard-dereference -cf - .github | wc -c",
        by_hand.display()
    ));
    let length: u64 = control.stdout.trim().parse().unwrap();
    assert!(length > 1_200_000_000, "{control}");

    let run = apply(&world).script(&format!("{script}; echo DONE")).run();
    assert_ran(&run);
    let archive = run.packet.join("workspace-changes.tar");
    assert!(fs::metadata(&archive).unwrap().len() < 8 << 20, "{run}");
    let files: Vec<_> = changes(&run)
        .into_iter()
        .filter(|change| change["kind"] == "file")
        .collect();
    assert_eq!(files.len(), NAMES + 1);
    let digest = files[0]["sha256"].as_str().unwrap();
    assert!(files.iter().all(|file| file["sha256"] == digest));
    let kept = world.shell(&format!(
        "cd {} && tar xf {} && sha256sum .github/* | cut -d' ' -f1 | sort | uniq -c",
        world.dir().display(),
        archive.display()
    ));
    let wanted = format!("{} {digest}", NAMES + 1);
    assert_eq!(kept.stdout.trim(), wanted, "{kept}");
}

/// Claims: archive-full
#[test]
fn list_of_changes_outlives_an_archive_that_finds_no_room() {
    const ATTEMPT: &str =
        "mkdir -p .github && head -c 40M /dev/urandom >.github/file && echo fine >fine; echo DONE";
    let world = World::new();
    let place = world.dir().join("small");
    fs::create_dir(&place).unwrap();
    let made = world.shell(&format!(
        "mount -t tmpfs -o size=60M none {0} && mkdir {0}/work {0}/by-hand && cd {0}/by-hand && {ATTEMPT} && \
         tar cf ../archive . ; rm -r {0}/by-hand {0}/archive",
        place.display()
    ));
    assert!(
        made.stderr.contains("No space left") || made.stderr.contains("Wrote only"),
        "{made}"
    );
    let run = apply(&world)
        .workdir(&place.join("work"))
        .command(["bash", "-c", ATTEMPT])
        .run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(
        run.stderr
            .contains("cannot keep the changes that were not applied"),
        "{run}"
    );
    // The list of changes still contains the changes that were applied.
    let there = world.shell(&format!("ls -A {0} {0}/work", place.display()));
    assert!(there.stdout.contains("fine"), "{there}\n{run}");
    assert!(!there.stdout.contains(".egress-"), "{there}\n{run}");
    assert_eq!(outcome(&run, "fine").0, "applied");
    assert_refused(&run, ".github/file", "held_back");
}

/// Moves directories so that each one takes the place of the parent of the directory before it. The first directory
/// cannot be moved. Returns the outcome and the reason of the last move.
fn chain(world: &World, length: usize) -> (String, String) {
    let run = apply(world);
    let work = run.directory();
    for number in 0..=length {
        let dir = work.join(format!("o{number}/m{number}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
    }
    for path in ["free/file", "o0/m0/.git/HEAD"] {
        let path = work.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    own(world, &work);
    let run = run
        .script(&format!(
            "set -e; mv o0/m0 away
             for n in $(seq {length}); do rmdir o$((n - 1)); mv o$n/m$n o$((n - 1)); done
             mv free freed; echo DONE"
        ))
        .run();
    assert_ran(&run);
    assert_eq!(outcome(&run, "away").0, "refused", "{run}");
    outcome(&run, "freed")
}

fn own(world: &World, work: &Path) {
    let made = world.shell(&format!("chown -R 1000:1000 {}", work.display()));
    assert!(made.success(), "{made}");
}

/// Claims: read-changes
#[test]
fn moves_that_wait_for_each_other_are_checked_only_a_few_times() {
    let world = World::new();
    assert_eq!(chain(&world, 4).0, "applied");
    assert_eq!(
        chain(&world, 30),
        (String::from("refused"), String::from("held_back"))
    );
}
