//! Links that the command leaves so that later steps write through them. Without the rules about links, each attack
//! succeeds.

use std::fs;
use std::path::Path;

use egress_tests::World;
use egress_tests::changes::{apply, assert_ran, changes, outcome};

/// Creates the files of the host. `sub` is a link that the host created, and a later run may move `deep/er`.
const LAY: &str =
    "mkdir -p .github/workflows keep dir deep/er && echo 'mode: strict' >policy.yaml &&
    echo host >keep/file && git init -q --bare vendor.git && ln -s . sub &&
    ln -s ../.github/workflows/ci.yml deep/er/log";

/// A chain of links: the script of each run, the path that a later step writes to, and the file to which the path
/// leads.
struct Case {
    runs: &'static [&'static str],
    write: &'static str,
    reaches: &'static str,
    refused: (&'static str, &'static str),
}

const CI: &str = ".github/workflows/ci.yml";

fn cases() -> Vec<Case> {
    vec![
        Case {
            runs: &["ln -s .github/workflows/ci.yml log"],
            write: "log",
            reaches: CI,
            refused: ("log", "github"),
        },
        Case {
            runs: &["ln -s . d; ln -s d/.github/workflows/ci.yml log"],
            write: "log",
            reaches: CI,
            refused: ("log", "github"),
        },
        Case {
            runs: &["ln -s . d; ln -s d/.github wf"],
            write: "wf/workflows/ci.yml",
            reaches: CI,
            refused: ("wf", "github"),
        },
        Case {
            runs: &["ln -s . d; ln -s d/policy.yaml report.txt"],
            write: "report.txt",
            reaches: "policy.yaml",
            refused: ("report.txt", "protected"),
        },
        Case {
            runs: &["ln -s . d; ln -s d/keep/file out"],
            write: "out",
            reaches: "keep/file",
            refused: ("out", "protected"),
        },
        Case {
            runs: &["ln -s .. dir/up; ln -s dir/up/.github/workflows/ci.yml log"],
            write: "log",
            reaches: CI,
            refused: ("log", "github"),
        },
        Case {
            runs: &["ln -s \"$PWD\" d; ln -s \"$PWD/d/.github/workflows/ci.yml\" log"],
            write: "log",
            reaches: CI,
            refused: ("log", "github"),
        },
        Case {
            runs: &["ln -s vendor.git/hooks hooks"],
            write: "hooks/post-checkout",
            reaches: "vendor.git/hooks/post-checkout",
            refused: ("hooks", "git_directory"),
        },
        Case {
            runs: &["ln -s vendor.git d; ln -s d/config log"],
            write: "log",
            reaches: "vendor.git/config",
            refused: ("log", "git_directory"),
        },
        // The chain uses a link that the host created.
        Case {
            runs: &["ln -s sub/sub/.github/workflows/ci.yml log"],
            write: "log",
            reaches: CI,
            refused: ("log", "github"),
        },
        // Another run creates the last link of the chain.
        Case {
            runs: &["ln -s d/.github/workflows/ci.yml log", "ln -s . d"],
            write: "log",
            reaches: CI,
            refused: ("d", "github"),
        },
        Case {
            runs: &[
                "mkdir d; echo 1 >d/policy.yaml; ln -s d/policy.yaml log",
                "rm -r d; ln -s . d",
            ],
            write: "log",
            reaches: "policy.yaml",
            refused: ("d", "protected"),
        },
        Case {
            runs: &["ln -s d/vendor.git/config log", "ln -s . d"],
            write: "log",
            reaches: "vendor.git/config",
            refused: ("d", "git_directory"),
        },
        // A directory replaces a link, so that `..` leads to another directory.
        Case {
            runs: &[
                "ln -s deep/er l",
                "ln -s l/../policy.yaml log",
                "rm l; mkdir l",
            ],
            write: "log",
            reaches: "policy.yaml",
            refused: ("l", "protected"),
        },
        // A directory is moved together with the link in it.
        Case {
            runs: &["mv deep/er er"],
            write: "er/log",
            reaches: CI,
            refused: ("er", "github"),
        },
    ]
}

/// Claims: read-links*, links-judged, links-again*
#[test]
fn no_chain_of_links_leads_to_a_protected_file() {
    let world = World::new();
    let written = |work: &Path, case: &Case| {
        // A later step writes to the path and follows links, as every program does.
        let step = world.shell(&format!(
            "cd {} && echo owned >{}",
            work.display(),
            case.write
        ));
        let text = fs::read_to_string(work.join(case.reaches)).unwrap_or_default();
        (text == "owned\n", step)
    };
    let mut wrong = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let by_hand = world.dir().join(format!("by-hand-{number}"));
        fs::create_dir(&by_hand).unwrap();
        let control = world.shell(&format!(
            "cd {} && {LAY} && {}",
            by_hand.display(),
            case.runs.join("\n")
        ));
        assert!(control.success(), "{:?}: {control}", case.runs);
        let (through, step) = written(&by_hand, case);
        assert!(through, "{:?} does not lead there: {step}", case.runs);

        let work = world.egress().directory();
        let made = world.shell(&format!("cd {} && {LAY}", work.display()));
        assert!(made.success(), "{made}");
        for (nth, attempt) in case.runs.iter().enumerate() {
            let run = world
                .egress()
                .arg("--workspace")
                .arg("apply")
                .arg("--config")
                .arg(work.join("policy.yaml"))
                .arg("--protect")
                .arg("keep")
                .workdir(&work)
                .command(["bash", "-c", &format!("set -e; {attempt}; echo DONE")])
                .run();
            assert_ran(&run);
            if nth + 1 == case.runs.len() {
                let (path, reason) = case.refused;
                let found = outcome(&run, path);
                if found != ("refused".to_owned(), reason.to_owned()) {
                    wrong.push(format!("{:?}: {path} is {found:?}", case.runs));
                }
            } else {
                let all = changes(&run);
                if all.iter().any(|change| change["outcome"] != "applied") {
                    wrong.push(format!("{:?}: {all:?}", case.runs));
                }
            }
        }
        if written(&work, case).0 {
            wrong.push(format!("{:?}: led to {}", case.runs, case.reaches));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn links_of_ordinary_programs_are_applied() {
    // npm creates such links in workspaces, Python creates them in virtual environments, and build tools link to their
    // newest result.
    const MADE: &str = "mkdir -p node_modules/.bin lib out/1; ln -s ../packages/p node_modules/p
        ln -s ../p/cli.js node_modules/.bin/p; ln -s lib lib64; ln -s 1 out/latest
        ln -s out/latest/file newest; ln -s missing dangling; ln -s \"$PWD/out\" here; ln -s loop loop; echo DONE";
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!(
        "cd {} && {LAY} && mkdir -p packages/p && echo 1 >packages/p/cli.js",
        work.display()
    ));
    assert!(made.success(), "{made}");
    let run = run.command(["bash", "-c", MADE]).run();
    assert_ran(&run);
    let refused: Vec<_> = changes(&run)
        .into_iter()
        .filter(|change| change["outcome"] != "applied")
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert_eq!(
        fs::read_to_string(work.join("node_modules/.bin/p")).unwrap(),
        "1\n"
    );
}

/// Runs a script as an ordinary user, who owns the workspace.
fn as_user(world: &World, script: &str) -> egress_tests::Output {
    let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    world.runner(user.iter().chain(&["bash", "-c", script]))
}

/// Claims: program-links*
#[test]
fn links_lead_out_only_to_programs_that_only_root_can_write() {
    // Each link, and a file of the host. Only root can write `tool`.
    const LINKS: [(&str, &str); 7] = [
        ("tool", "/usr/local/bin/tool"),
        ("tool3", "/usr/local/bin/tool"),
        ("mine", "/usr/local/bin/mine"),
        ("ours", "/usr/local/bin/ours"),
        ("by-link", "/usr/local/bin/by-link"),
        ("log", "/usr/local/bin/tool"),
        ("data", "/usr/local/bin/data"),
    ];
    let world = World::new();
    let writable = world.dir().join("writable");
    let made = world.shell(&format!(
        "set -e; mkdir {0}; cp /bin/true {0}/by-link; chown -R 1000:1000 {0}; mount -t tmpfs -o mode=755 none /usr/local/bin
         cd /usr/local/bin; for name in tool mine ours data; do cp /bin/true $name; done
         chown 1000 mine; chgrp 1000 ours; chmod 775 ours; chmod 644 data; ln -s {0}/by-link by-link",
        writable.display()
    ));
    assert!(made.success(), "{made}");
    let attempt: String = LINKS
        .iter()
        .map(|(link, target)| format!("ln -s {target} {link}; "))
        .chain(["ln -s tool3 other; echo DONE".to_owned()])
        .collect();
    // The control: a later step writes through the links as the owner of the workspace.
    let by_hand = world.dir().join("by-hand");
    let control = world.shell(&format!(
        "mkdir {0} && cd {0} && {attempt} && chown -Rh 1000:1000 .",
        by_hand.display()
    ));
    assert!(control.success(), "{control}");
    let write = |name: &str| as_user(&world, &format!("echo >>{}/{name}", by_hand.display()));
    for name in ["mine", "ours", "by-link"] {
        assert!(write(name).success(), "{name}: {}", write(name));
    }
    for name in ["tool", "tool3", "log", "data"] {
        assert!(!write(name).success(), "{name}");
    }

    let run = apply(&world).script(&attempt).run();
    assert_ran(&run);
    for name in ["tool", "tool3"] {
        assert_eq!(outcome(&run, name).0, "applied", "{name}: {run}");
        let link = fs::read_link(run.workdir.join(name)).unwrap();
        assert_eq!(link, Path::new("/usr/local/bin/tool"), "{name}");
    }
    let refused = ("refused".to_owned(), "points_outside".to_owned());
    for name in ["mine", "ours", "by-link", "log", "data", "other"] {
        assert_eq!(outcome(&run, name), refused, "{name}: {run}");
        assert!(!run.workdir.join(name).is_symlink(), "{name}: {run}");
    }
}

#[test]
fn virtual_environment_works_in_the_next_step() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let made = world.shell(&format!("chown 1000:1000 {}", work.display()));
    assert!(made.success(), "{made}");
    let run = run
        .script(
            "set -e; /usr/bin/python3 -m venv --without-pip v; cd v/lib/python3*/site-packages; echo 'answer = 42' >made.py; cd -
             v/bin/python -c 'import made'; echo DONE",
        )
        .run();
    assert_ran(&run);
    let refused: Vec<_> = changes(&run)
        .into_iter()
        .filter(|change| change["outcome"] != "applied")
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let next = as_user(
        &world,
        &format!(
            "{}/v/bin/python -c 'import made, sys; print(made.answer, sys.prefix)'",
            work.display()
        ),
    );
    assert_eq!(next.stdout, format!("42 {}/v\n", work.display()), "{next}");
}
