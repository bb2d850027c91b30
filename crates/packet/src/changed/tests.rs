//! Tests that changes of ordinary runs are possible, and that each impossible change is named.
use super::*;
use crate::format::changes::{ChangeReason, ChangeRule};

fn change(path: &str) -> Change {
    Change {
        path: path.to_owned(),
        change: WhatChanged::Created,
        kind: EntryKind::File,
        outcome: ChangeOutcome::Applied,
        mode: Some("0644".into()),
        ..Change::default()
    }
}

fn refused(path: &str) -> Change {
    Change {
        outcome: ChangeOutcome::Refused,
        reason: Some(ChangeReason::Rule(ChangeRule::Github)),
        ..change(path)
    }
}

fn directory(path: &str, what: WhatChanged) -> Change {
    Change {
        change: what,
        kind: EntryKind::Directory,
        ..change(path)
    }
}

fn workspace() -> Workspace {
    Workspace {
        mode: WorkspaceMode::Apply,
        path: "/work".into(),
        protected: vec!["/work/kept".into(), "/elsewhere".into()],
        protected_by_default: configuration::NAMES.map(Into::into).to_vec(),
        allowed_changes: vec![".claude/commands/*.md".into()],
        ..Workspace::default()
    }
}

fn reasons(changes: Vec<Change>, workspace: &Workspace) -> Vec<String> {
    let document = ChangesDocument {
        changes,
        ..ChangesDocument::default()
    };
    impossible(&document, workspace).into_iter().collect()
}

#[test]
fn ordinary_changes_are_possible() {
    let moved = Change {
        from: Some("old".into()),
        ..directory("new", WhatChanged::Moved)
    };
    let setid = Change {
        mode: Some("4755".into()),
        setid_dropped: true,
        ..change("bin/tool")
    };
    let config = Change {
        reduced: true,
        ..change("sub/.git/config")
    };
    let file = Change {
        change: WhatChanged::Deleted,
        mode: None,
        ..change("replaced/by/a/directory")
    };
    let below = Change {
        change: WhatChanged::Deleted,
        mode: None,
        ..change("src/main.rs/old")
    };
    let empty = Change {
        size: Some(0),
        sha256: Some(OF_NOTHING.into()),
        ..change("empty")
    };
    let device = Change {
        kind: EntryKind::Device,
        change: WhatChanged::Deleted,
        mode: None,
        ..change("device")
    };
    let changes = vec![
        change("src/main.rs"),
        change("back\\\\slash\\xff"),
        change(".git/HEAD"),
        change(".git/refs/heads/topic"),
        change(".git/objects/ab/cdef"),
        change(".git/modules/a/b/index"),
        directory(".git", WhatChanged::Modified),
        directory("sub/.git", WhatChanged::Created),
        config,
        directory(".claude", WhatChanged::Created),
        change(".claude/commands/x.md"),
        change("docs/.github/x"),
        refused(".github/workflows/x.yml"),
        refused(".git/hooks/x"),
        refused("kept/file"),
        refused(""),
        moved,
        setid,
        device,
        file,
        below,
        empty,
    ];
    assert_eq!(reasons(changes, &workspace()), Vec::<String>::new());
}

#[test]
fn impossible_changes_are_named() {
    let in_git = "a change in a git directory";
    let outside = "a path that is not below the workspace";
    let by_default = "a path that is protected by default";
    let never = "a kind that is never applied";
    let of_kind = |kind| Change {
        kind,
        ..change("x")
    };
    for (change, reason) in [
        (change(".github/workflows/x.yml"), by_default),
        (change(".GitHub/x"), by_default),
        (change(".claude/settings.json"), by_default),
        (change("AGENTS.md"), by_default),
        (change("kept"), "a protected path"),
        (change("kept/file"), "a protected path"),
        (change(".git/hooks/post-checkout"), in_git),
        (change(".git/config"), in_git),
        (change("vendor/.git"), in_git),
        (change(".git/objects/info/alternates"), in_git),
        (change(".git/modules/sub/hooks/x"), in_git),
        (change("/etc/passwd"), outside),
        (change("../../x"), outside),
        (change("a//b"), outside),
        (change("a/./b"), outside),
        (change(""), outside),
        (change("a\\"), outside),
        (refused("../x"), outside),
        (
            change("a/".repeat(300).trim_end_matches('/')),
            "a path that is too deep",
        ),
        (of_kind(EntryKind::Socket), never),
        (of_kind(EntryKind::Fifo), never),
        (of_kind(EntryKind::from("door")), never),
        (
            Change {
                mode: Some("4777".into()),
                ..change("x")
            },
            "an applied file with a setuid or setgid bit",
        ),
        (
            Change {
                size: Some(7),
                ..directory("x", WhatChanged::Created)
            },
            "a member that its kind does not have",
        ),
        (
            Change {
                from: Some("y".into()),
                ..directory("x", WhatChanged::Created)
            },
            "a previous path of a directory that was not moved, or none of one that was",
        ),
        (
            Change {
                from: Some(".github".into()),
                ..directory("x", WhatChanged::Moved)
            },
            by_default,
        ),
    ] {
        let path = change.path.clone();
        assert_eq!(reasons(vec![change], &workspace()), [reason], "{path}");
    }
    let twice = vec![change("x"), change("x")];
    assert_eq!(reasons(twice, &workspace()), ["a path twice"]);
}

#[test]
fn changes_that_contradict_themselves_are_named() {
    let not_reduced = "a reduced file that is not the configuration of a new repository";
    let other_length = "a length that does not fit the digest";
    let reduced = |path| Change {
        reduced: true,
        ..change(path)
    };
    let content = |size, digest: &str| Change {
        size: Some(size),
        sha256: Some(digest.into()),
        ..change("x")
    };
    for (change, reason) in [
        (
            Change {
                change: WhatChanged::Deleted,
                ..change("x")
            },
            "a member that its kind does not have",
        ),
        (
            Change {
                change: WhatChanged::Deleted,
                mode: None,
                size: Some(1),
                ..change("x")
            },
            "a member that its kind does not have",
        ),
        (reduced("file.txt"), not_reduced),
        (reduced("x.git/config"), not_reduced),
        (
            Change {
                change: WhatChanged::Modified,
                ..reduced("sub/.git/config")
            },
            not_reduced,
        ),
        (content(0, &"ab".repeat(32)), other_length),
        (content(5, OF_NOTHING), other_length),
    ] {
        assert_eq!(reasons(vec![change], &workspace()), [reason]);
    }
    for what in [change("body/sub"), refused("body/a/b")] {
        let below = vec![change("body"), what];
        let expected = ["a path below a path that is not a directory"];
        assert_eq!(reasons(below, &workspace()), expected);
    }
}

#[test]
fn impossible_rules_of_the_workspace_are_named() {
    let mut other = workspace();
    other.protected_by_default.pop();
    let expected = ["the names that are protected by default"];
    assert_eq!(reasons(Vec::new(), &other), expected);
    let mut other = workspace();
    other.allowed_changes.push("src".into());
    assert_eq!(
        reasons(Vec::new(), &other),
        ["an allowed change that is not a pattern"]
    );
    let mut other = workspace();
    other.mode = WorkspaceMode::Discard;
    let discarded = Change {
        outcome: ChangeOutcome::Discarded,
        ..refused("x")
    };
    assert_eq!(reasons(vec![discarded], &other), Vec::<String>::new());
    let expected = ["an applied change, although all changes were discarded"];
    assert_eq!(reasons(vec![change("x")], &other), expected);
}
