//! Checks the imports between crates, and between the files of one crate.
//!
//! Files that import each other, directly or through others, can only be understood together. A file must therefore not
//! use items of its parent module if the parent module uses the file. If both files need an item, it must be in a third
//! file. Tests may use any item.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use serde_json::Value;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, Macro, UseTree};

/// A module, as its path from the root of the crate.
type Module = Vec<String>;
/// The modules that each module imports, each with one path of the import.
type Edges = BTreeMap<Module, BTreeMap<Module, String>>;

/// Reports the imports between crates that the table in `text` (ARCHITECTURE.md) does not allow. `metadata` is the
/// output of `cargo metadata --no-deps`.
///
/// # Errors
/// Fails if there is no such table.
pub(crate) fn between_crates(text: &str, metadata: &Value) -> Result<Vec<String>> {
    let table = table(text)?;
    let none = Vec::new();
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned();
    let packages = list(metadata, "packages").unwrap_or_default();
    let folder = |package: &Value, member: &str| {
        let path = package.get(member).and_then(Value::as_str)?;
        let path = Path::new(path);
        let dir = if path.ends_with("Cargo.toml") {
            path.parent()?
        } else {
            path
        };
        Some(dir.file_name()?.to_str()?.to_owned())
    };
    let mut wrong = Vec::new();
    for package in &packages {
        let user = folder(package, "manifest_path").context("a package has no manifest")?;
        let Some(allowed) = table.get(&user) else {
            wrong.push(format!(
                "ARCHITECTURE.md: the table of crates has no crate `{user}`"
            ));
            continue;
        };
        for dependency in list(package, "dependencies").as_ref().unwrap_or(&none) {
            let used = folder(dependency, "path").filter(|used| *used != user);
            if let Some(used) = used.filter(|used| !allowed.contains(used)) {
                wrong.push(format!(
                    "{user}/Cargo.toml: `{user}` must not use `{used}` (ARCHITECTURE.md)"
                ));
            }
        }
    }
    Ok(wrong)
}

/// Reads the table whose second column is `crate` and whose last column is `may use`. These columns contain folders,
/// with or without backticks.
fn table(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let folders = |cell: &str| -> BTreeSet<String> {
        let name = |part: &str| part.trim().trim_matches('`').to_owned();
        let names = cell.split(',').map(name);
        names.filter(|name| name != "none").collect()
    };
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| {
            let cells = cells(line);
            cells.get(1).is_none_or(|cell| cell != "crate")
                || cells.last().is_none_or(|cell| cell != "may use")
        })
        .skip(2)
        .take_while(|line| line.trim_start().starts_with('|'))
        .map(cells)
        .collect();
    if rows.is_empty() {
        bail!("ARCHITECTURE.md has no table of crates (`crate` … `may use`)");
    }
    let row = |cells: Vec<String>| {
        let name = folders(cells.get(1)?).into_iter().next()?;
        Some((name, folders(cells.last()?)))
    };
    Ok(rows.into_iter().filter_map(row).collect())
}

/// Reports the files of the crate in `src` that import each other in a circle. `shown` is the path of `src` in the
/// messages.
///
/// # Errors
/// Fails if a file cannot be read or parsed.
pub(crate) fn circles(
    src: &Path,
    shown: &Path,
    files: &[std::path::PathBuf],
) -> Result<Vec<String>> {
    let mut sources = BTreeMap::new();
    for file in files {
        let inner = file.strip_prefix(src).unwrap_or(file);
        if let Some(module) = module_of(inner) {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
            // If a package has a library and a program, the library is used here. The program refers to the library by
            // the name of its crate.
            sources.entry(module).or_insert(parsed);
        }
    }
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    let mut edges = Edges::new();
    for (module, file) in &sources {
        let mut imports = Imports {
            modules: &modules,
            file: module,
            inside: module.clone(),
            found: BTreeMap::new(),
        };
        imports.visit_file(file);
        edges.insert(module.clone(), imports.found);
    }
    Ok(in_circles(&edges)
        .into_iter()
        .map(|(user, used, path)| {
            format!(
                "{}: `{user}` imports `{path}`, and `{used}` imports `{user}` in turn, directly or through other files",
                shown.display()
            )
        })
        .collect())
}

/// Returns the module of a file, or `None` for a file of tests.
fn module_of(inner: &Path) -> Option<Module> {
    let mut names: Module = inner
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if names.iter().any(|name| name == "tests") {
        return None;
    }
    let last = names.last()?;
    if last == "mod" || (names.len() == 1 && (last == "lib" || last == "main")) {
        names.pop();
    }
    Some(names)
}

/// Returns the imports that are part of a circle.
fn in_circles(edges: &Edges) -> Vec<(String, String, String)> {
    let name = |module: &Module| {
        if module.is_empty() {
            String::from("lib")
        } else {
            module.join("::")
        }
    };
    let mut found = Vec::new();
    for (user, uses) in edges {
        for (used, path) in uses {
            if leads_to(edges, used, user) {
                found.push((name(user), name(used), path.clone()));
            }
        }
    }
    found
}

fn leads_to(edges: &Edges, from: &Module, to: &Module) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(edges.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    false
}

/// Collects the imports of one file.
struct Imports<'a> {
    modules: &'a BTreeSet<Module>,
    file: &'a Module,
    /// The module that is being read: the file's own module, or an inline module in it.
    inside: Module,
    found: BTreeMap<Module, String>,
}

impl Imports<'_> {
    /// Records the module that a path names, if the module belongs to this crate.
    fn see(&mut self, path: &[String]) {
        let mut names = path;
        let mut at = match names.first().map(String::as_str) {
            Some("crate") => {
                names = names.get(1..).unwrap_or_default();
                Module::new()
            }
            Some("super" | "self") => {
                let mut at = self.inside.clone();
                while let Some((first, rest)) = names.split_first() {
                    match first.as_str() {
                        "super" => {
                            at.pop();
                        }
                        "self" => {}
                        _ => break,
                    }
                    names = rest;
                }
                at
            }
            Some(first) if self.modules.contains(&child(self.file, first)) => self.file.clone(),
            _ => return,
        };
        for name in names {
            let next = child(&at, name);
            if !self.modules.contains(&next) {
                break;
            }
            at = next;
        }
        // An inline module is part of the file that contains it.
        let is_inside = !self.modules.contains(&at) && at.starts_with(self.file);
        if at != *self.file && !is_inside && self.modules.contains(&at) {
            self.found.entry(at).or_insert_with(|| path.join("::"));
        }
    }

    fn see_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.see_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Name(name) => self.see_with(before, &name.ident.to_string()),
            UseTree::Rename(rename) => self.see_with(before, &rename.ident.to_string()),
            UseTree::Glob(_) => self.see(&before.clone()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.see_tree(before, tree);
                }
            }
        }
    }

    fn see_with(&mut self, before: &[String], last: &str) {
        let mut path = before.to_vec();
        path.push(last.to_owned());
        self.see(&path);
    }

    /// Collects paths in the arguments of a macro. A macro has no syntax tree before it is expanded.
    fn see_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.see(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.see(&path);
                    path.clear();
                    self.see_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.see(&path);
                    path.clear();
                    colons = 0;
                }
            }
        }
        self.see(&path);
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "other items contain no tests"
    )]
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(module) => &module.attrs,
            Item::Use(one) => &one.attrs,
            Item::Fn(function) => &function.attrs,
            Item::Impl(block) => &block.attrs,
            _ => return visit::visit_item(self, item),
        };
        if attributes.iter().any(is_for_tests) {
            return;
        }
        if let Item::Mod(module) = item {
            self.inside.push(module.ident.to_string());
            visit::visit_item(self, item);
            self.inside.pop();
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.see_tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|one| one.ident.to_string())
            .collect();
        // A single name is not a path to another file.
        if names.len() > 1 {
            self.see(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'ast Macro) {
        self.see_tokens(one.tokens.clone());
    }

    fn visit_attribute(&mut self, _attribute: &'ast Attribute) {}

    fn visit_visibility(&mut self, _visibility: &'ast syn::Visibility) {}
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .meta
            .require_list()
            .is_ok_and(|list| list.tokens.to_string().contains("test"))
}

fn child(module: &Module, name: &str) -> Module {
    let mut child = module.clone();
    child.push(name.to_owned());
    child
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    const TABLE: &str = "words\n\n| id | crate | duty | may use |\n|---|---|---|---|\n\
        | `a` | `packet` | Reads. | `receipts`, `policy` |\n| `b` | `receipts` | Signs. | none |\n\nmore | words\n";

    /// Claims: crate-edges*, crate-xtask*
    #[test]
    fn edges_that_the_table_does_not_have_are_named() {
        let metadata = json!({"packages": [
            {"manifest_path": "/x/crates/packet/Cargo.toml", "dependencies": [
                {"name": "pipelock-receipts", "path": "/x/crates/receipts"},
                {"name": "serde"},
                {"name": "egress-relay", "path": "/x/crates/relay"},
            ]},
            {"manifest_path": "/x/crates/receipts/Cargo.toml", "dependencies": []},
            {"manifest_path": "/x/crates/relay/Cargo.toml", "dependencies": []},
        ]});
        let wrong = between_crates(TABLE, &metadata).unwrap();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(
            wrong[0].contains("`packet` must not use `relay`"),
            "{wrong:?}"
        );
        assert!(wrong[1].contains("no crate `relay`"), "{wrong:?}");
        assert!(between_crates("# Architecture\n", &metadata).is_err());
    }

    /// Returns the circles of a crate that consists of these files.
    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let dir = std::env::temp_dir().join(format!("egress-imports-{}", std::process::id()));
        let mut paths: Vec<PathBuf> = Vec::new();
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let found = circles(&dir, Path::new("crate"), &paths).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        found
    }

    /// Claims: crate-edges
    #[test]
    fn circles_between_files_are_named_and_nothing_else() {
        let root = ("lib.rs", "mod a;\nmod b;\npub use a::A;\n");
        let tree = [
            root,
            ("a.rs", "use super::b::B;\npub struct A(B);"),
            ("b.rs", "pub struct B;"),
        ];
        assert_eq!(circles_of(&tree), Vec::<String>::new());
        for (name, b) in [
            ("use", "use crate::{a::A, std};\npub struct B;"),
            ("path", "pub fn b() -> super::a::A { todo!() }"),
            (
                "macro",
                "pub fn b() { println!(\"{}\", super::a::NUMBER); }",
            ),
            ("nested", "pub mod inner { use super::super::a::A; }"),
            ("facade", "use super::A;"),
        ] {
            let found = circles_of(&[root, tree[1], ("b.rs", b)]);
            assert!(found.len() >= 2, "{name}: {found:?}");
        }
        let tests = "pub struct B;\n#[cfg(test)]\nmod tests { use super::super::a::A; }";
        assert_eq!(
            circles_of(&[root, tree[1], ("b.rs", tests)]),
            Vec::<String>::new()
        );
        let parent = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod c;\npub struct A(c::C);"),
            ("a/c.rs", "pub struct C;"),
        ];
        assert_eq!(circles_of(&parent), Vec::<String>::new());
        let up = ("a/c.rs", "use super::A;\npub struct C;");
        assert_eq!(circles_of(&[parent[0], parent[1], up]).len(), 2);
    }
}
