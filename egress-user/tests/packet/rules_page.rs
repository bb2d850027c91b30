//! Every rule of the verifier has a row in `docs/rules.md`, and every row has a rule. Every kind of disagreement
//! between the recorders has a formula in the documentation and a name in the schema of the output.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be read has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use audit_packet::reconcile::Disagreement;
use pipelock_receipts::findings::Rule;
use serde_json::Value;

/// Returns every rule of the checks of receipts, evidence, packets, and time stamps.
fn all_rules() -> impl Iterator<Item = &'static Rule> {
    let lists = [
        pipelock_receipts::rules::ALL,
        audit_packet::rules::ALL,
        egress_timestamp::rules::ALL,
    ];
    lists.into_iter().flatten().copied()
}

/// Returns the identifier and the severity of each rule that has a row in the page.
fn rows() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../docs/rules.md");
    page.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [id, severity, meaning, cause, action] = cells.as_slice() else {
                return None;
            };
            let action = action.trim_end_matches(" |");
            for cell in [meaning, cause, &action] {
                assert!(cell.len() > 3, "an empty cell: {line}");
            }
            Some((id.trim_end_matches('`'), *severity))
        })
        .collect()
}

/// Claims: add-finding*
#[test]
fn page_has_exactly_the_rules_of_the_program() {
    let mut rules = BTreeMap::new();
    for rule in all_rules() {
        let twice = rules.insert(rule.id, rule.severity.as_str());
        assert_eq!(twice, None, "two rules are called {}", rule.id);
    }
    let rows = rows();
    let page: BTreeMap<_, _> = rows.iter().copied().collect();
    assert_eq!(page.len(), rows.len(), "a rule has two rows");
    assert_eq!(page, rules);
}

/// The test above does not find a rule that is defined outside the lists, so this test searches for one.
///
/// Claims: add-finding
#[test]
fn rules_are_defined_in_the_lists_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut defined = 0;
    let sources = ["crates", "egress-user/src"].map(|source| rust_files(&root.join(source)));
    for file in sources.into_iter().flatten() {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let here = ["Rule::error(", "Rule::warning("].map(|call| code.matches(call).count());
        let here: usize = here.iter().sum();
        let is_list = file.ends_with("rules.rs");
        assert!(here == 0 || is_list, "{} defines a rule", file.display());
        defined += here;
    }
    assert_eq!(defined, all_rules().count());
}

#[test]
fn every_disagreement_has_a_formula_and_a_name_in_the_schema() {
    let page = include_str!("../../../docs/format/comparison.md");
    for what in Disagreement::ALL {
        assert!(page.contains(&format!("`{}`", what.id())), "{}", what.id());
    }
    let schema = include_str!("../../../docs/schema/verify.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let names = "/$defs/result/properties/boundary/properties/reconciliation/properties/disagreements/propertyNames/enum";
    let names: Vec<&str> = schema
        .pointer(names)
        .and_then(Value::as_array)
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(names, Disagreement::ALL.map(Disagreement::id));
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
