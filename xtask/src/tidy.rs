//! `tidy`, a part of `lint`: what no other tool checks.
//!
//! No file holds more than [`MOST_LINES`] lines of code, tests not counted; and a module of
//! egress-user uses only those other modules that the table in ARCHITECTURE.md lets it use.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::layout::Layout;

/// More than this is hard to read at one go.
const MOST_LINES: usize = 500;

/// Directories with source files of the project.
const SOURCES: [&str; 6] = [
    "egress-common",
    "egress-ebpf",
    "egress-user",
    "fuzz",
    "tests",
    "xtask",
];

/// Checks every source file.
///
/// # Errors
/// With all that is wrong.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let mut wrong = Vec::new();
    for dir in SOURCES {
        for file in rust_files(&layout.root.join(dir))? {
            let text = fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let file = file.strip_prefix(&layout.root).unwrap_or(&file);
            let lines = code_lines(file, &text);
            if lines > MOST_LINES {
                wrong.push(format!(
                    "{}: {lines} lines without tests, {MOST_LINES} at most",
                    file.display()
                ));
            }
        }
    }
    match fs::read_to_string(layout.root.join("ARCHITECTURE.md")) {
        Ok(text) => edges(
            &layout.root.join("egress-user/src"),
            &table(&text)?,
            &mut wrong,
        )?,
        Err(_) => println!("lint: no ARCHITECTURE.md, so its table of modules is not checked"),
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(files);
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Lines before the tests of a file; files of tests alone have none, but in the crate that is all
/// tests.
fn code_lines(file: &Path, text: &str) -> usize {
    let mut parts = file.iter();
    let crate_of_tests = parts.next().is_some_and(|first| first == "tests");
    let of_tests = parts.any(|part| part == "tests" || part == "tests.rs");
    if of_tests && !crate_of_tests {
        return 0;
    }
    code(text).count()
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
}

/// What a module may use.
#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    These(BTreeSet<String>),
    AllBut(BTreeSet<String>),
}

impl Allowed {
    fn allows(&self, module: &str) -> bool {
        match self {
            Self::These(these) => these.contains(module),
            Self::AllBut(these) => !these.contains(module),
        }
    }
}

/// Reads the table with a first column `module` and a last column `may use`.
fn table(text: &str) -> Result<BTreeMap<String, Allowed>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = text
        .lines()
        .skip_while(|line| {
            let cells = cells(line);
            let is = |cell: Option<&String>, name: &str| {
                cell.is_some_and(|cell| cell.eq_ignore_ascii_case(name))
            };
            !(is(cells.first(), "module") && is(cells.last(), "may use"))
        })
        .skip(2)
        .take_while(|line| line.trim_start().starts_with('|'))
        .peekable();
    if rows.peek().is_none() {
        bail!("ARCHITECTURE.md has no table of modules (`module` … `may use`)");
    }
    Ok(rows
        .map(|row| {
            let cells = cells(row);
            let module = cells.first().map(|cell| module_name(cell));
            let allowed = cells.last().map(|cell| allowed(cell));
            (
                module.unwrap_or_default(),
                allowed.unwrap_or(Allowed::These(BTreeSet::new())),
            )
        })
        .collect())
}

/// The module of a cell such as `` `policy/{parse,model}` `` or `` `clock.rs` ``.
fn module_name(cell: &str) -> String {
    cell.trim_start_matches('`')
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        .collect()
}

fn allowed(cell: &str) -> Allowed {
    let (cell, all_but) = match cell.strip_prefix("all but") {
        Some(rest) => (rest, true),
        None => (cell, false),
    };
    // Remarks in brackets, and lists of parts in braces, hold commas of their own.
    let mut depth = 0_u32;
    let outside: String = cell
        .chars()
        .filter(|letter| {
            match letter {
                '(' | '{' => depth = depth.saturating_add(1),
                ')' | '}' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect();
    let names = outside
        .split(',')
        .map(|name| module_name(name.trim()))
        .filter(|name| !name.is_empty() && name != "none")
        .collect();
    if all_but {
        Allowed::AllBut(names)
    } else {
        Allowed::These(names)
    }
}

/// Checks each `crate::` path against the table.
fn edges(src: &Path, table: &BTreeMap<String, Allowed>, wrong: &mut Vec<String>) -> Result<()> {
    for file in rust_files(src)? {
        let inner = file.strip_prefix(src).unwrap_or(&file);
        if inner.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let Some(first) = inner.components().next() else {
            continue;
        };
        let module = module_name(&first.as_os_str().to_string_lossy());
        // The library's root names its modules, and the table says nothing of it.
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        for (number, line) in code(&text).enumerate() {
            for used in used_modules(line).filter(|used| *used != module) {
                let known = table.get(&module);
                if !known.is_some_and(|allowed| allowed.allows(&used)) {
                    wrong.push(format!(
                        "egress-user/src/{}:{}: `{module}` may not use `{used}` (ARCHITECTURE.md)",
                        inner.display(),
                        number.saturating_add(1)
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Modules named by `crate::` paths in a line of code.
fn used_modules(line: &str) -> impl Iterator<Item = String> {
    let code = if line.trim_start().starts_with("//") {
        ""
    } else {
        line
    };
    code.split("crate::")
        .skip(1)
        .map(module_name)
        // A capital is an item of the root.
        .filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn table_gives_the_edges() {
        let text = "words\n\n| module | duty | may use |\n|---|---|---|\n\
            | `cli/{args,exit}` | Reads. | all but `sys`, `child` |\n\
            | `run/{prepare}` | Owns. | policy, `child::{spawn,protocol}`, boundary (fds, paths) |\n\
            | `clock.rs` | Gives time. | none |\n\nmore | words\n";
        let table = table(text).unwrap();
        assert_eq!(table.len(), 3);
        assert_eq!(table["cli"], Allowed::AllBut(set(&["child", "sys"])));
        assert_eq!(
            table["run"],
            Allowed::These(set(&["boundary", "child", "policy"]))
        );
        assert_eq!(table["clock"], Allowed::These(set(&[])));
    }

    #[test]
    fn missing_table_is_an_error() {
        assert!(table("# Architecture\n\n| a | b |\n|---|---|\n").is_err());
    }

    #[test]
    fn tests_are_not_counted_but_in_their_crate() {
        let text = "a\nb\n";
        for (file, lines) in [
            ("egress-user/src/cli/mod.rs", 2),
            ("egress-user/src/policy/tests.rs", 0),
            ("egress-user/tests/relay/support.rs", 0),
            ("tests/src/lib.rs", 2),
            ("tests/tests/slice.rs", 2),
        ] {
            assert_eq!(code_lines(file.as_ref(), text), lines, "{file}");
        }
    }

    #[test]
    fn comments_and_tests_use_nothing() {
        assert_eq!(used_modules("    /// See [`crate::sys`].").count(), 0);
        let used: Vec<_> = used_modules("use crate::sys::fd; fn f() -> crate::Error {}").collect();
        assert_eq!(used, ["sys"]);
        assert_eq!(code("a\n#[cfg(test)]\nmod tests {}\n").count(), 1);
    }
}
