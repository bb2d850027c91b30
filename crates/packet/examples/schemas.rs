//! Writes the JSON Schemas of the formats to `docs/schema`, and the tables of their members to
//! `docs/format/members.md`. With `--check`, compares the files with the generated texts and does not write them.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fmt, fs, io};

use audit_packet::format::schema;
use serde_json::{Map, Value};

/// The text before the tables.
const INTRODUCTION: &str = "\
# Members: every document and row of the supervisor

This page is for an engineer who writes a second verifier. By the end, you know every member of `packet.json`, `identity.json`,
`posture-capsule.json`, `attestation.json`, `boundary.json`, `changes.json`, and of each row of `flows.jsonl`, and the values that
each member may have. `cargo xtask schemas` writes this page and the JSON Schemas in [docs/schema](../schema) from the types with
which egress writes the files. [Rows](rows.md#closed-forms) states how a verifier treats a deviation.

| type | value |
|---|---|
| text | a string |
| number | an unsigned integer of at most 2^53 − 1, or of the number of bits given beside it |
| flag | `true` or `false` |
| list of X | an array of any number of X |
| map of X | an object with any names; each value is an X |
| X or null | `null`, or X |
";

fn main() -> io::Result<()> {
    let mut words = env::args_os().skip(1);
    let docs = words.next().unwrap_or_default();
    let checks = words.next().is_some_and(|word| word == "--check");
    let mut page = Page(String::from(INTRODUCTION), BTreeSet::new());
    let mut stale = Vec::new();
    let mut put = |name: String, text: &str| {
        let path = Path::new(&docs).join(name);
        if !checks {
            return fs::write(path, text);
        }
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            stale.push(path.display().to_string());
        }
        Ok(())
    };
    for (name, schema) in schema::all() {
        put(format!("schema/{name}"), &format!("{schema:#}\n"))?;
        page.schema(&schema).map_err(io::Error::other)?;
    }
    put(String::from("format/members.md"), &page.0)?;
    if stale.is_empty() {
        return Ok(());
    }
    let stale = stale.join(", ");
    Err(io::Error::other(format!(
        "out of date with the types of the formats: {stale}; run cargo xtask schemas"
    )))
}

/// The text of the page, and the names of the definitions in it.
struct Page(String, BTreeSet<String>);

impl Page {
    fn schema(&mut self, schema: &Value) -> fmt::Result {
        let nothing = Map::new();
        let definitions = object(schema, "$defs").unwrap_or(&nothing);
        // Rows.
        let kinds = list(schema, "oneOf");
        for kind in kinds.unwrap_or_default() {
            let what = text(kind, "description");
            let name = kind
                .pointer("/properties/source/const")
                .and_then(Value::as_str);
            writeln!(self.0, "\n## Row `{}`\n\n{what}", name.unwrap_or_default())?;
            self.members(kind)?;
        }
        if kinds.is_none() {
            let what = text(schema, "description").trim_end_matches('.');
            writeln!(self.0, "\n## {what}")?;
            self.members(schema)?;
        }
        for (name, definition) in definitions {
            if self.1.insert(name.clone()) {
                writeln!(
                    self.0,
                    "\n### {name}\n\n{}",
                    text(definition, "description")
                )?;
                self.definition(definition)?;
            }
        }
        Ok(())
    }

    fn definition(&mut self, definition: &Value) -> fmt::Result {
        if let Some(pattern) = definition.get("pattern").and_then(Value::as_str) {
            return writeln!(self.0, "\nPattern: `{}`", pattern.replace('|', "\\|"));
        }
        let choices = list(definition, "oneOf").or_else(|| list(definition, "anyOf"));
        if let Some(words) = list(definition, "enum") {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            return writeln!(self.0, "\nWords: {}", words.join(", ").replace('"', ""));
        }
        let Some(choices) = choices else {
            return self.members(definition);
        };
        let is_word = |choice: &Value| choice.get("const").is_some();
        if choices.iter().all(is_word) {
            self.0.push_str("\n| word | meaning |\n|---|---|\n");
            for choice in choices {
                let word = text(choice, "const");
                let word = if word.is_empty() {
                    String::from("(empty)")
                } else {
                    format!("`{word}`")
                };
                writeln!(self.0, "| {word} | {} |", text(choice, "description"))?;
            }
            return Ok(());
        }
        for choice in choices {
            writeln!(self.0, "\n{}", text(choice, "description"))?;
            match choice.get("properties") {
                Some(_) => self.members(choice)?,
                None => writeln!(self.0, "\nType: {}", type_of(choice))?,
            }
        }
        Ok(())
    }

    fn members(&mut self, schema: &Value) -> fmt::Result {
        self.0
            .push_str("\n| member | type | meaning |\n|---|---|---|\n");
        let required = list(schema, "required").unwrap_or_default();
        for (name, member) in object(schema, "properties").into_iter().flatten() {
            let may_be_absent = if required.iter().any(|one| one == name) {
                ""
            } else {
                "?"
            };
            let (of, what) = (type_of(member), text(member, "description"));
            writeln!(
                self.0,
                "| `{name}`{may_be_absent} | {of} | {} |",
                what.replace(['\n', '|'], " ")
            )?;
        }
        Ok(())
    }
}

/// Describes the type of a member.
fn type_of(member: &Value) -> String {
    if let Some(value) = member.get("const") {
        return format!("`{value}`").replace('"', "");
    }
    if let Some(name) = member.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(choices) = list(member, "anyOf") {
        let all: Vec<String> = choices.iter().map(type_of).collect();
        return all.join(" or ");
    }
    let mut types = match member.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => return String::from("any value"),
    };
    let is_nullable = types.len() > 1;
    types.retain(|one| *one != "null" || !is_nullable);
    let of = match types.as_slice() {
        ["string"] => String::from("text"),
        ["boolean"] => String::from("flag"),
        ["null"] => String::from("null"),
        ["integer"] => match member.get("maximum").and_then(Value::as_u64) {
            Some(most) if most < 1 << 32 => format!("number, {} bits", 64 - most.leading_zeros()),
            _ => String::from("number"),
        },
        ["array"] => format!(
            "list of {}",
            member.get("items").map(type_of).unwrap_or_default()
        ),
        ["object"] => {
            let values = member.get("additionalProperties").map(type_of);
            format!("map of {}", values.unwrap_or_default())
        }
        other => other.join(" or "),
    };
    if is_nullable {
        format!("{of} or null")
    } else {
        of
    }
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'v>(value: &'v Value, member: &str) -> Option<&'v [Value]> {
    value
        .get(member)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
}

fn object<'v>(value: &'v Value, member: &str) -> Option<&'v Map<String, Value>> {
    value.get(member).and_then(Value::as_object)
}
