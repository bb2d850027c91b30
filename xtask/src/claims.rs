//! `claims`, and a part of `lint`: checks that a source file and a test name each claim of the documents. The source
//! file makes the claim true, and the test fails if the claim is false.
//!
//! A claim is a row of a table whose first column is `id` or `rule` (docs/rules.md), or the text before an identifier
//! in brackets (ARCHITECTURE.md). A test names its claims in a line `Claims: one, two` of its doc comment, and a script
//! in `tests/attacks` in its header. If a claim has several tests, exactly one of them marks it with a star (`one*`):
//! the test that a reader opens first. A test shows a rule if the identifier is a string in the test, or in an item of
//! the same file that the test uses. ARCHITECTURE.md names the source files of its claims. A source file names claims
//! of the other documents in a line `Claims: one, two` of its module comment. A `rules.rs` file with a list of rules
//! names these rules.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Item, Lit, LitStr, Macro, Meta};

use crate::layout::Layout;
use crate::tidy;

/// The document in which the rows of every table are claims.
const SECURITY: &str = "SECURITY.md";
/// The document whose claims are the rules of the verifier.
const RULES: &str = "docs/rules.md";
/// The document that names the source files of its claims.
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// Documents with claims.
const DOCUMENTS: [&str; 4] = ["README.md", SECURITY, ARCHITECTURE, RULES];
/// Start of the line that names claims.
const MARKER: &str = "Claims: ";
/// Directory of the scripts that are tests.
const ATTACKS: &str = "tests/attacks";

/// A claim: its document, and the source files that make it true.
struct Claim {
    document: &'static str,
    sources: BTreeSet<String>,
}

/// Claims by identifier.
type Claims = BTreeMap<String, Claim>;
/// Tests or source files by the claim that they name.
type Named = BTreeMap<String, BTreeSet<String>>;

/// The tests of each claim.
#[derive(Default)]
struct Shown {
    all: Named,
    /// The tests that mark the claim with a star.
    first: Named,
}

impl Shown {
    fn add(&mut self, id: &str, test: &str) {
        let (id, is_first) = id.strip_suffix('*').map_or((id, false), |id| (id, true));
        for named in [Some(&mut self.all), is_first.then_some(&mut self.first)] {
            let tests = named.map(|named| named.entry(id.to_owned()).or_default());
            tests.map(|tests| tests.insert(test.to_owned()));
        }
    }

    fn of(named: &Named, id: &str) -> Vec<String> {
        named.get(id).into_iter().flatten().cloned().collect()
    }

    /// Returns the tests of a claim in the order in which a reader opens them.
    fn in_order(&self, id: &str) -> Vec<String> {
        let mut tests = Self::of(&self.all, id);
        let first = Self::of(&self.first, id);
        tests.sort_by_key(|test| !first.contains(test));
        tests
    }
}

/// Prints the claim `part`, or every claim whose identifier contains `part`, with its source files and tests. `part`
/// may also be the name of a document, or the end of the path of a source file.
///
/// # Errors
/// Fails if a claim has no source file or no test, or a file names an unknown claim.
pub(crate) fn list(layout: &Layout, part: &str) -> Result<()> {
    let (claims, shown, wrong) = read(layout)?;
    let is_meant = |id: &str, claim: &Claim| {
        if claims.contains_key(part) {
            return id == part;
        }
        let is_file = |source: &String| Path::new(source).ends_with(part);
        id.contains(part) || claim.document == part || claim.sources.iter().any(is_file)
    };
    for (id, claim) in claims.iter().filter(|(id, claim)| is_meant(id, claim)) {
        println!("{id} ({})", claim.document);
        for source in &claim.sources {
            println!("    source  {source}");
        }
        for test in shown.in_order(id) {
            println!("    test    {test}");
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Returns the problems for which [`list`] fails.
///
/// # Errors
/// Fails if a file cannot be read.
pub(crate) fn check(layout: &Layout) -> Result<Vec<String>> {
    let (_, _, wrong) = read(layout)?;
    Ok(wrong)
}

fn read(layout: &Layout) -> Result<(Claims, Shown, Vec<String>)> {
    let mut claims = Claims::new();
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(layout.root.join(document))
            .with_context(|| format!("cannot read {document}"))?;
        let mut found = rows(document, &text)?;
        if document == ARCHITECTURE {
            found.extend(statements(&text));
            let missing = paths(&text).into_iter();
            let missing = missing.filter(|file| !layout.root.join(file).is_file());
            wrong.extend(missing.map(|file| format!("{document}: {file} does not exist")));
        }
        for (id, text) in found {
            let sources = if document == ARCHITECTURE {
                paths(text)
            } else {
                BTreeSet::new()
            };
            if let Some(other) = claims.insert(id.clone(), Claim { document, sources }) {
                bail!("{document}: {id} is also a claim of {}", other.document);
            }
        }
    }
    let mut shown = Shown::default();
    let mut sources = Named::new();
    for file in tidy::sources(layout)? {
        let text = fs::read_to_string(layout.root.join(&file))?;
        for id in sources_of(&file, &text) {
            let path = file.display().to_string();
            sources.entry(id.to_owned()).or_default().insert(path);
        }
        for (test, ids) in tests(&file, &text)? {
            for id in ids {
                // A string that is not a rule is not a claim.
                if !id.is_text || is_rule(&claims, &id.name) {
                    shown.add(&id.name, &test);
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
                shown.add(id, &format!("{ATTACKS}/{name}"));
            }
        }
    }
    for (id, claim) in &mut claims {
        claim
            .sources
            .extend(sources.get(id).into_iter().flatten().cloned());
    }
    wrong.extend(unknown(&claims, &sources));
    wrong.extend(compare(&claims, &shown));
    Ok((claims, shown, wrong))
}

fn is_rule(claims: &Claims, id: &str) -> bool {
    claims.get(id).is_some_and(|claim| claim.document == RULES)
}

fn compare(claims: &Claims, shown: &Shown) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, Claim { document, sources }) in claims {
        if sources.is_empty() {
            wrong.push(format!("{document}: no source file is named for `{id}`"));
        }
        let (tests, first) = (Shown::of(&shown.all, id), Shown::of(&shown.first, id));
        if tests.is_empty() {
            wrong.push(format!("{document}: no test shows `{id}`"));
        }
        if tests.len() > 1 && first.len() != 1 && *document != RULES {
            let (all, stars) = (tests.len(), first.len());
            wrong.push(format!(
                "{document}: {stars} of {all} tests mark `{id}` with a star; exactly one must"
            ));
        }
    }
    wrong.extend(unknown(claims, &shown.all));
    wrong
}

/// Returns a problem for each file that names a claim that the documents do not have.
fn unknown(claims: &Claims, named: &Named) -> impl Iterator<Item = String> {
    named
        .iter()
        .filter(|(id, _)| !claims.contains_key(*id))
        .flat_map(|(id, files)| files.iter().map(move |file| (id, file)))
        .map(|(id, file)| format!("{file}: no document has a claim `{id}`"))
}

/// Returns the first cells of tables whose header starts with `id` or `rule`, each with its row.
fn rows<'text>(document: &str, text: &'text str) -> Result<Vec<(String, &'text str)>> {
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
                "{document}: the table of `{first}` has claims, so its first column must be `id`"
            );
            continue;
        };
        let is_line = first.chars().all(|character| "-: ".contains(character));
        if matches!(name.as_str(), "id" | "rule") && !is_line {
            let id = first.strip_prefix('`').and_then(|id| id.strip_suffix('`'));
            let id = id.with_context(|| format!("{document}: `{first}` is not an identifier"))?;
            found.push((id.to_owned(), line));
        }
    }
    ensure!(!found.is_empty(), "{document} has no table of claims");
    Ok(found)
}

/// Returns the identifiers in brackets. Each identifier has the text between itself and the previous identifier in the
/// same paragraph, item, or row. If this text does not name a file, the identifier has the text of the whole paragraph.
fn statements(text: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for block in blocks(text) {
        let mut rest = block;
        while let Some((before, after)) = rest.split_once("[`") {
            let Some((id, after)) = after.split_once("`]") else {
                break;
            };
            // Brackets with an address after them are a link.
            if !after.starts_with('(') {
                let statement = if paths(before).is_empty() {
                    block
                } else {
                    before
                };
                found.push((id.to_owned(), statement));
            }
            rest = after;
        }
    }
    found
}

/// Splits a document into its paragraphs, items, and rows.
fn blocks(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        let is_numbered = line.split_once(". ").is_some_and(|(number, _)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if line.trim().is_empty() || line.starts_with("- ") || line.starts_with('|') || is_numbered
        {
            found.extend(text.get(start..end));
            start = end;
        }
        end += line.len();
    }
    found.extend(text.get(start..));
    found
}

/// Returns the source files that a text of ARCHITECTURE.md names, as paths below the root of the repository.
fn paths(text: &str) -> BTreeSet<String> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| {
        if code.starts_with("scripts/") {
            return Some(code.to_owned());
        }
        let (folder, rest) = code.strip_suffix(".rs")?.split_once('/')?;
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
        if !code.bytes().all(|byte| is_path(byte) || byte == b'.') {
            return None;
        }
        Some(match folder {
            "cli" | "run" | "bpf" => format!("egress-user/src/{code}"),
            "egress-common" | "egress-ebpf" => format!("{folder}/src/{rest}.rs"),
            "crates" | "egress-user" | "tests" | "xtask" => code.to_owned(),
            _ => format!("crates/{folder}/src/{rest}.rs"),
        })
    })
    .collect()
}

/// Returns the claims that a source file names. In a list of rules, the string of a rule names the rule.
fn sources_of<'text>(file: &Path, text: &'text str) -> Vec<&'text str> {
    if file.file_name().is_some_and(|name| name == "rules.rs") && text.contains("rules! {") {
        let strings = text.split('"').skip(1).step_by(2);
        return strings
            .filter(|text| text.contains('.') && !text.contains(' '))
            .collect();
    }
    let marker = format!("//! {MARKER}");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&marker));
    lines.flat_map(|ids| ids.split(", ")).collect()
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
struct Mention {
    name: String,
    /// Whether the name is a string in the code. Otherwise, the name is in the doc comment.
    is_text: bool,
}

/// Counts the lines of a file that name claims in a doc comment.
fn marked_lines(text: &str) -> usize {
    let marker = format!("/// {MARKER}");
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| line.starts_with(&marker)).count()
}

/// Returns the claims and strings of each test in a file.
fn tests(file: &Path, text: &str) -> Result<BTreeMap<String, BTreeSet<Mention>>> {
    // Most files have no tests, and parsing a file takes longer than searching it.
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
        let mut names: BTreeSet<Mention> = marked
            .iter()
            .map(|name| Mention {
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
                names.extend(body.texts.iter().map(|text| Mention {
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

/// The strings in an item, and the names in it that may be other items.
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

    /// Skips doc comments, because a doc comment is an attribute whose string does not show a claim.
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

/// Returns a line of a doc comment without the space at its start.
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
        let names = |names: BTreeSet<Mention>| names.into_iter().map(|one| one.name).collect();
        found
            .into_iter()
            .map(|(test, all)| (test, names(all)))
            .collect()
    }

    #[test]
    fn identifiers_are_the_first_cells_of_tables_of_claims() {
        let text =
            "| id | claim |\n|---|---|\n| `a-b` | A. |\n\n| input | x |\n|---|---|\n| `c` | C. |\n";
        let found = [("a-b".to_owned(), "| `a-b` | A. |")];
        assert_eq!(rows("README.md", text).unwrap(), found);
        assert!(rows("SECURITY.md", text).is_err());
        assert!(rows("README.md", "| claim | x |\n|---|---|\n| A. | B |\n").is_err());
        assert!(rows("README.md", "nothing\n").is_err());
    }

    /// Claims: add-statement
    #[test]
    fn a_statement_has_the_files_before_its_identifier_or_those_of_its_paragraph() {
        let text = "One (`run/a.rs`) [`one`]. Two,\nand `b.rs` [`two`].\n\n- Three [`three`].\n- `relay/c.rs`, [`x`](y) [`four`]\n";
        let found = statements(text)
            .into_iter()
            .map(|(id, text)| (id, paths(text).into_iter().collect::<Vec<_>>()));
        let run = "egress-user/src/run/a.rs".to_owned();
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                ("one".to_owned(), vec![run.clone()]),
                ("two".to_owned(), vec![run]),
                ("three".to_owned(), vec![]),
                ("four".to_owned(), vec!["crates/relay/src/c.rs".to_owned()]),
            ]
        );
    }

    #[test]
    fn a_source_file_names_its_claims_and_a_list_its_rules() {
        let text = "//! Does it.\n//!\n//! Claims: a, b\n/// Claims: c\nfn f() {}\n";
        assert_eq!(sources_of("src/f.rs".as_ref(), text), ["a", "b"]);
        let list = "crate::rules! {\nRule::error(\"x.one\", 0, \"a text.\")\n}\n";
        assert_eq!(sources_of("src/rules.rs".as_ref(), list), ["x.one"]);
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

    /// Claims: add-claim
    #[test]
    fn what_a_claim_lacks_and_claims_of_no_document_are_named() {
        let set = |text: &str| BTreeSet::from([text.to_owned()]);
        let claim = |sources| Claim {
            document: "README.md",
            sources,
        };
        let claims = Claims::from([
            ("a".to_owned(), claim(set("f"))),
            ("b".to_owned(), claim(BTreeSet::new())),
        ]);
        let mut shown = Shown::default();
        shown.add("a", "t");
        shown.add("c", "t");
        assert_eq!(
            compare(&claims, &shown),
            [
                "README.md: no source file is named for `b`",
                "README.md: no test shows `b`",
                "t: no document has a claim `c`",
            ]
        );
    }

    #[test]
    fn one_of_several_tests_is_first() {
        let claims = Claims::from([(
            "a".to_owned(),
            Claim {
                document: "README.md",
                sources: BTreeSet::from(["f".to_owned()]),
            },
        )]);
        let shown = |marks: [(&str, &str); 2]| {
            let mut shown = Shown::default();
            for (id, test) in marks {
                shown.add(id, test);
            }
            shown
        };
        let one = shown([("a", "t"), ("a*", "u")]);
        assert_eq!(one.in_order("a"), ["u", "t"]);
        assert!(compare(&claims, &one).is_empty());
        for marks in [[("a", "t"), ("a", "u")], [("a*", "t"), ("a*", "u")]] {
            let wrong = compare(&claims, &shown(marks));
            assert!(
                wrong.iter().all(|one| one.contains("exactly one must")),
                "{wrong:?}"
            );
            assert_eq!(wrong.len(), 1);
        }
    }
}
