//! `claims`, and a part of `lint`: checks that each claim of the documents has a test that fails if the claim is false.
//!
//! A claim is a row of a table whose first column is `id` (README.md, SECURITY.md) or `rule` (docs/rules.md). A test
//! names its claims in a line `Claims: one, two` of its doc comment, and a script in `tests/attacks` in its header. A
//! test shows a rule if the identifier is a string in the test, or in an item of the same file that the test uses.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Item, Lit, LitStr, Macro, Meta};

use crate::layout::Layout;
use crate::tidy;

/// The document in which every table has claims.
const SECURITY: &str = "SECURITY.md";
/// The document whose claims are the rules of the verifier.
const RULES: &str = "docs/rules.md";
/// Documents with claims.
const DOCUMENTS: [&str; 3] = ["README.md", SECURITY, RULES];
/// Start of the line that names claims.
const MARKER: &str = "Claims: ";
/// Directory of the scripts that are tests.
const ATTACKS: &str = "tests/attacks";

/// Claims by identifier, with their document.
type Claims = BTreeMap<String, &'static str>;
/// Tests by the claim that they show.
type Shown = BTreeMap<String, BTreeSet<String>>;

/// Prints every claim whose identifier contains `part`, with its tests.
///
/// # Errors
/// If a claim has no test, or a test names an unknown claim.
pub(crate) fn list(layout: &Layout, part: &str) -> Result<()> {
    let (claims, shown) = read(layout)?;
    for (id, document) in claims.iter().filter(|(id, _)| id.contains(part)) {
        println!("{id} ({document})");
        for test in shown.get(id).into_iter().flatten() {
            println!("    {test}");
        }
    }
    let wrong = compare(&claims, &shown);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Returns the problems for which [`list`] fails.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn check(layout: &Layout) -> Result<Vec<String>> {
    let (claims, shown) = read(layout)?;
    Ok(compare(&claims, &shown))
}

fn read(layout: &Layout) -> Result<(Claims, Shown)> {
    let mut claims = Claims::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(layout.root.join(document))
            .with_context(|| format!("cannot read {document}"))?;
        for id in identifiers(document, &text)? {
            if let Some(other) = claims.insert(id.clone(), document) {
                bail!("{document}: {id} is also a claim of {other}");
            }
        }
    }
    let mut shown = Shown::new();
    for file in tidy::sources(layout)? {
        let text = fs::read_to_string(layout.root.join(&file))?;
        for (test, ids) in tests(&file, &text)? {
            for id in ids {
                // A string that is not a rule is not a claim.
                if !id.is_text || is_rule(&claims, &id.name) {
                    shown.entry(id.name).or_default().insert(test.clone());
                }
            }
        }
    }
    for entry in fs::read_dir(layout.root.join(ATTACKS))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            let script = fs::read_to_string(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            for id in header(&script) {
                let test = format!("{ATTACKS}/{name}");
                shown.entry(id.to_owned()).or_default().insert(test);
            }
        }
    }
    Ok((claims, shown))
}

fn is_rule(claims: &Claims, id: &str) -> bool {
    claims.get(id) == Some(&RULES)
}

fn compare(claims: &Claims, shown: &Shown) -> Vec<String> {
    let untested = claims
        .iter()
        .filter(|(id, _)| !shown.contains_key(*id))
        .map(|(id, document)| format!("{document}: no test shows `{id}`"));
    let unknown = shown
        .iter()
        .filter(|(id, _)| !claims.contains_key(*id))
        .flat_map(|(id, tests)| tests.iter().map(move |test| (id, test)))
        .map(|(id, test)| format!("{test}: no document has a claim `{id}`"));
    untested.chain(unknown).collect()
}

/// Returns the first cells of tables whose header starts with `id` or `rule`.
fn identifiers(document: &str, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut header: Option<String> = None;
    for line in text.lines() {
        let Some(row) = line.trim().strip_prefix('|') else {
            header = None;
            continue;
        };
        let first = row.split('|').next().unwrap_or_default().trim();
        let Some(name) = &header else {
            header = Some(first.to_owned());
            let is_claims = row.split('|').any(|cell| cell.trim() == "claim");
            ensure!(
                first == "id" || !is_claims && document != SECURITY,
                "{document}: the table of `{first}` has claims, so that its first column must be `id`"
            );
            continue;
        };
        let is_line = first.chars().all(|character| "-: ".contains(character));
        if matches!(name.as_str(), "id" | "rule") && !is_line {
            let id = first.strip_prefix('`').and_then(|id| id.strip_suffix('`'));
            let id = id.with_context(|| format!("{document}: `{first}` is no identifier"))?;
            found.push(id.to_owned());
        }
    }
    ensure!(!found.is_empty(), "{document} has no table of claims");
    Ok(found)
}

/// Returns the claims in the header of an attack.
fn header(script: &str) -> impl Iterator<Item = &str> {
    script
        .lines()
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("# claims: "))
        .flat_map(str::split_whitespace)
}

/// A claim or a string in a test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    name: String,
    /// Whether the name is a string of the code, and not in the doc comment.
    is_text: bool,
}

/// Counts the lines of a file that name claims in a doc comment.
fn marked_lines(text: &str) -> usize {
    let marker = format!("/// {MARKER}");
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| line.starts_with(&marker)).count()
}

/// Returns the claims and strings of each test in a file.
fn tests(file: &Path, text: &str) -> Result<BTreeMap<String, BTreeSet<Named>>> {
    // Most files have none, and parsing a file takes longer than searching it.
    if !text.contains("test]") && !text.contains("test(") {
        ensure!(
            marked_lines(text) == 0,
            "{}: claims without a test",
            file.display()
        );
        return Ok(BTreeMap::new());
    }
    let parsed = syn::parse_file(text).with_context(|| file.display().to_string())?;
    let mut items = Items::default();
    items.visit_file(&parsed);
    let mut found = BTreeMap::new();
    for (name, marked) in &items.tests {
        let mut names: BTreeSet<Named> = marked
            .iter()
            .map(|name| Named {
                name: name.clone(),
                is_text: false,
            })
            .collect();
        let mut open = vec![name.clone()];
        let mut seen = BTreeSet::new();
        while let Some(item) = open.pop() {
            if let Some(body) = items.bodies.get(&item)
                && seen.insert(item)
            {
                open.extend(body.names.iter().cloned());
                names.extend(body.texts.iter().map(|text| Named {
                    name: text.clone(),
                    is_text: true,
                }));
            }
        }
        found.insert(format!("{} {name}", file.display()), names);
    }
    ensure!(
        marked_lines(text) == items.lines,
        "{}: a line `{MARKER}` that is not in the doc comment of a test that always runs",
        file.display()
    );
    Ok(found)
}

/// The tests of a file, and the strings of its functions and constants.
#[derive(Default)]
struct Items {
    /// Claims by test.
    tests: BTreeMap<String, Vec<String>>,
    /// Number of lines that name claims.
    lines: usize,
    bodies: BTreeMap<String, Body>,
}

/// The strings of an item, and the names that may be other items.
#[derive(Default)]
struct Body {
    texts: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Body {
    fn see(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => drop(self.names.insert(ident.to_string())),
                TokenTree::Group(group) => self.see(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                        self.texts.insert(text.value());
                    }
                }
                TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Body {
    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.texts.insert(text.value());
    }

    fn visit_ident(&mut self, ident: &'ast proc_macro2::Ident) {
        self.names.insert(ident.to_string());
    }

    fn visit_macro(&mut self, one: &'ast Macro) {
        self.see(one.tokens.clone());
    }

    /// Skips doc comments, which are attributes and show nothing.
    fn visit_attribute(&mut self, _attribute: &'ast Attribute) {}
}

impl<'ast> Visit<'ast> for Items {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other items hold no tables")]
    fn visit_item(&mut self, item: &'ast Item) {
        let name = match item {
            Item::Fn(function) => {
                let attributes = &function.attrs;
                let is = |word: &str| {
                    let last =
                        |one: &Attribute| one.path().segments.last().map(|one| one.ident == word);
                    attributes.iter().any(|one| last(one) == Some(true))
                };
                if is("test") && !is("ignore") {
                    let lines: Vec<String> = attributes.iter().filter_map(doc).collect();
                    let marked = lines.iter().filter_map(|line| line.strip_prefix(MARKER));
                    self.lines += marked.clone().count();
                    let ids = marked.flat_map(|ids| ids.split(", ")).map(str::to_owned);
                    self.tests
                        .insert(function.sig.ident.to_string(), ids.collect());
                }
                Some(&function.sig.ident)
            }
            Item::Const(one) => Some(&one.ident),
            Item::Static(one) => Some(&one.ident),
            _ => None,
        };
        if let Some(name) = name {
            let body = self.bodies.entry(name.to_string()).or_default();
            visit::visit_item(body, item);
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        let body = self.bodies.entry(function.sig.ident.to_string());
        visit::visit_impl_item_fn(body.or_default(), function);
    }
}

/// Returns a line of a doc comment without the space before it.
fn doc(attribute: &Attribute) -> Option<String> {
    if let Meta::NameValue(pair) = &attribute.meta
        && pair.path.is_ident("doc")
        && let Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) = &pair.value
    {
        Some(text.value().trim().to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<(String, Vec<String>)> {
        let found = tests("a.rs".as_ref(), text).unwrap();
        let names = |names: BTreeSet<Named>| names.into_iter().map(|one| one.name).collect();
        found
            .into_iter()
            .map(|(test, all)| (test, names(all)))
            .collect()
    }

    #[test]
    fn identifiers_are_the_first_cells_of_tables_of_claims() {
        let text =
            "| id | claim |\n|---|---|\n| `a-b` | A. |\n\n| input | x |\n|---|---|\n| `c` | C. |\n";
        assert_eq!(identifiers("README.md", text).unwrap(), ["a-b"]);
        assert!(identifiers("SECURITY.md", text).is_err());
        assert!(identifiers("README.md", "| claim | x |\n|---|---|\n| A. | B |\n").is_err());
        assert!(identifiers("README.md", "nothing\n").is_err());
    }

    #[test]
    fn tests_name_claims_in_their_comments_and_rules_in_their_texts() {
        let text = "const T: [&str; 1] = [\"x.one\"];\nconst U: &str = \"x.two\";\n\
            /// Shows it.\n///\n/// Claims: a, b-c\n#[test]\nfn shows() { assert_eq!(T[0], found(\"x.three\")); }\n";
        assert_eq!(
            named(text),
            [(
                "a.rs shows".to_owned(),
                ["a", "b-c", "x.one", "x.three"].map(str::to_owned).to_vec()
            )]
        );
    }

    #[test]
    fn claims_outside_of_a_test_that_always_runs_are_refused() {
        for text in [
            "/// Claims: a\nfn helper() {}\n#[test]\nfn shows() {}\n",
            "/// Claims: a\n#[test]\n#[ignore = \"needs more\"]\nfn shows() {}\n",
            "/// Claims: a\nfn helper() {}\n",
        ] {
            assert!(tests("a.rs".as_ref(), text).is_err(), "{text}");
        }
        let text = "/// Claims: a\n#[tokio::test]\nasync fn shows() {}\n";
        assert_eq!(
            named(text),
            [("a.rs shows".to_owned(), vec!["a".to_owned()])]
        );
    }

    #[test]
    fn claims_without_tests_and_tests_without_claims_are_named() {
        let claims = Claims::from([("a".to_owned(), "README.md"), ("b".to_owned(), "README.md")]);
        let test = BTreeSet::from(["t".to_owned()]);
        let shown = Shown::from([("a".to_owned(), test.clone()), ("c".to_owned(), test)]);
        let wrong = compare(&claims, &shown);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("no test shows `b`"), "{wrong:?}");
        assert!(
            wrong[1].contains("no document has a claim `c`"),
            "{wrong:?}"
        );
    }
}
