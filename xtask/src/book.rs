//! Checks the book, as a part of `lint`: `docs/` builds, its summary names every page once, and every link from a
//! Markdown file to another place in the project leads to a file and a heading that exist. Also checks that the README
//! shows the workflow that the tests run.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::layout::Layout;
use crate::program::{on_path_or_installed, output, program, run as run_program};

/// The workflow that the README shows and the tests run.
const WORKFLOW: &str = "examples/github/agent.yml";

/// Checks the links and the workflow in the README, then builds the book into `target/book`.
///
/// Fails if the target of a link does not exist, if the summary lacks a page or names it twice, if the README shows a
/// workflow other than the one that the tests run, or if mdBook fails.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let listed = output(
        program("git")
            .current_dir(&layout.root)
            .args(["ls-files", "*.md"]),
    )?;
    let mut pages = BTreeMap::new();
    for path in listed.lines().map(PathBuf::from) {
        let text = fs::read_to_string(layout.root.join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        pages.insert(path, Page::read(&text));
    }
    let mut wrong = Vec::new();
    for (path, page) in &pages {
        for link in &page.links {
            if let Err(why) = resolves(layout, &pages, path, link) {
                wrong.push(format!("{}: the link {link} {why}", path.display()));
            }
        }
    }
    wrong.extend(summary(&pages)?);
    let read = |path: &str| {
        fs::read_to_string(layout.root.join(path)).with_context(|| format!("cannot read {path}"))
    };
    if !shows_workflow(&read("README.md")?, &read(WORKFLOW)?) {
        wrong.push(format!(
            "README.md: no block is equal to {WORKFLOW} after its first line"
        ));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    let mdbook = on_path_or_installed("mdbook")
        .context("mdbook is not installed; run `cargo xtask setup`")?;
    run_program(
        program(mdbook)
            .current_dir(&layout.root)
            .args(["build", "docs"]),
    )
}

/// The parts of a page that the checks need.
struct Page {
    /// Targets of the links on the page.
    links: Vec<String>,
    /// Anchors of the headings, as GitHub and mdBook generate them.
    anchors: BTreeSet<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let (mut links, mut anchors) = (Vec::new(), BTreeSet::new());
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
                links.push(dest_url.into_string());
            } else if let Event::Start(Tag::Heading { .. }) = event {
                heading = Some(String::new());
            } else if let (Event::Text(words) | Event::Code(words), Some(heading)) =
                (&event, &mut heading)
            {
                heading.push_str(words);
            } else if let Event::End(TagEnd::Heading(_)) = event {
                let anchor = anchor(&heading.take().unwrap_or_default());
                // If a heading is repeated, its anchor gets a number.
                let numbered = (1..).map(|number| format!("{anchor}-{number}"));
                let mut names = std::iter::once(anchor.clone()).chain(numbered);
                anchors.extend(names.find(|name| !anchors.contains(name)));
            }
        }
        Self { links, anchors }
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ if character.is_alphanumeric() => Some(character),
            _ => None,
        });
    kept.flat_map(char::to_lowercase).collect()
}

/// Checks that a link on the page `from` leads to a file and a heading that exist. Links to other sites are not
/// checked.
fn resolves(
    layout: &Layout,
    pages: &BTreeMap<PathBuf, Page>,
    from: &Path,
    link: &str,
) -> Result<(), &'static str> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => from.to_owned(),
        _ => joined(from.parent().unwrap_or(Path::new("")), path),
    };
    if !layout.root.join(&target).exists() {
        return Err("points to a file that does not exist");
    }
    // A link from the book to another file works only in the repository.
    let is_in_book = |path: &Path| path.starts_with("docs");
    if is_in_book(from) && !is_in_book(&target) {
        return Err("points outside the book");
    }
    match pages.get(&target) {
        Some(page) if !anchor.is_empty() && !page.anchors.contains(anchor) => {
            Err("points to a heading that does not exist")
        }
        _ => Ok(()),
    }
}

/// Returns `path` relative to the directory `base`, without `..`.
fn joined(base: &Path, path: &str) -> PathBuf {
    let mut target = base.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => drop(target.pop()),
            Component::Normal(name) => target.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    target
}

/// Reports the pages of the book that its summary does not name exactly once.
fn summary(pages: &BTreeMap<PathBuf, Page>) -> Result<Vec<String>> {
    let summary = Path::new("docs/SUMMARY.md");
    let named = &pages
        .get(summary)
        .context("docs/SUMMARY.md is missing")?
        .links;
    let wrong = pages.keys().filter_map(|page| {
        let page = page.strip_prefix("docs").ok()?;
        let times = named.iter().filter(|link| Path::new(link) == page).count();
        let is_summary = page == Path::new("SUMMARY.md");
        (times != usize::from(!is_summary))
            .then(|| format!("docs/SUMMARY.md names {} {times} times", page.display()))
    });
    Ok(wrong.collect())
}

/// Returns whether a block of YAML on the page is the workflow without its first line. Where the workflow has a commit
/// of zeros, the page has `COMMIT`.
fn shows_workflow(page: &str, workflow: &str) -> bool {
    let (_, workflow) = workflow.split_once('\n').unwrap_or_default();
    let workflow = workflow.replace(&format!("@{}", "0".repeat(40)), "@COMMIT");
    let blocks = page.split("```yaml\n").skip(1);
    blocks
        .filter_map(|block| Some(block.split_once("```")?.0))
        .any(|block| block == workflow && !block.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_the_headings() {
        let page =
            Page::read("# One `two`, three!\n\n## Same\n\n## Same\n\n[a](b.md#c) ![d](e.svg)\n");
        let anchors: Vec<&str> = page.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["one-two-three", "same", "same-1"]);
        assert_eq!(page.links, ["b.md#c", "e.svg"]);
    }

    /// Claims: crate-xtask
    #[test]
    fn a_path_is_seen_from_its_page() {
        let from = Path::new("docs/format");
        assert_eq!(joined(from, "../packet.md"), Path::new("docs/packet.md"));
        assert_eq!(joined(from, "./rows.md"), Path::new("docs/format/rows.md"));
        assert_eq!(joined(from, "../../README.md"), Path::new("README.md"));
    }

    #[test]
    fn the_page_shows_the_workflow_or_another() {
        let zeros = "0".repeat(40);
        let workflow = format!("# comment\nname: a\nuses: b@{zeros}\n");
        let page = |block: &str| format!("text\n```yaml\nx: 1\n```\n```yaml\n{block}```\n");
        assert!(shows_workflow(
            &page("name: a\nuses: b@COMMIT\n"),
            &workflow
        ));
        assert!(!shows_workflow(
            &page("name: a\nuses: c@COMMIT\n"),
            &workflow
        ));
        assert!(!shows_workflow("no block", &workflow));
        assert!(!shows_workflow(&page(""), ""));
    }
}
