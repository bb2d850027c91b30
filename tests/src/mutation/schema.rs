//! Reads the JSON Schemas of the formats, for the words and members that a format has and this document lacks.
use std::sync::LazyLock;

use serde_json::Value;

use super::json::{Json, Step};

/// Number of references that are followed from one form to the next.
const DEEPEST: usize = 8;
/// A text for a member that may have any text.
const ANY_TEXT: &str = "zebra";

macro_rules! schemas {
    ($($file:literal),*) => {
        [$(($file, include_str!(concat!("../../../docs/schema/", $file, ".schema.json")))),*]
    };
}

/// The schemas by the name of the file without its suffix.
static SCHEMAS: LazyLock<Vec<(&str, Value)>> = LazyLock::new(|| {
    let texts = schemas!(
        "boundary",
        "changes",
        "flows",
        "identity",
        "packet",
        "posture-capsule",
        "statement"
    );
    let read = |(name, text)| Some((name, serde_json::from_str(text).ok()?));
    texts.into_iter().filter_map(read).collect()
});

/// The schema of one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schema(&'static Value);

impl Schema {
    /// Returns the schema of `name`, which is the name of a file without its suffix.
    pub(super) fn of(name: &str) -> Option<Self> {
        let mut all = SCHEMAS.iter();
        all.find(|(own, _)| *own == name).map(|(_, it)| Self(it))
    }

    /// Returns the forms that the node at `steps` may have.
    pub(super) fn forms(self, document: &Json, steps: &[Step]) -> Vec<&'static Value> {
        let mut node = document;
        let mut forms = self.alternatives(self.0, node);
        for step in steps {
            let children = node.children();
            let Some((name, child)) = children.get(*step) else {
                return Vec::new();
            };
            let below = forms.iter().filter_map(|form| match node {
                Json::Object(_) => form
                    .get("properties")
                    .and_then(|members| members.get(name))
                    .or_else(|| form.get("additionalProperties")),
                Json::Array(_) => form.get("items"),
                Json::Leaf(_) => None,
            });
            let below: Vec<&Value> = below.collect();
            forms = below
                .into_iter()
                .flat_map(|form| self.alternatives(form, child))
                .collect();
            node = child;
        }
        forms
    }

    /// Returns the forms that a node may have, without references and alternatives. `node` has none of the members of
    /// the forms that are left out.
    fn alternatives(self, form: &'static Value, node: &Json) -> Vec<&'static Value> {
        let mut found = Vec::new();
        self.collect(form, &mut found, DEEPEST);
        let fits = |form: &&Value| {
            let Json::Object(members) = node else {
                return true;
            };
            form.get("properties").is_none_or(|known| {
                members.iter().all(|(name, value)| {
                    let Some(form) = known.get(name) else {
                        return false;
                    };
                    let fixed = form.get("const").map(Value::to_string);
                    fixed.is_none_or(|fixed| *value == Json::Leaf(fixed))
                })
            })
        };
        found.retain(fits);
        found
    }

    fn collect(self, form: &'static Value, found: &mut Vec<&'static Value>, deep: usize) {
        if deep == 0 {
            return;
        }
        let referred = form.get("$ref").and_then(Value::as_str);
        let place = referred.and_then(|place| place.strip_prefix('#'));
        if let Some(form) = place.and_then(|place| self.0.pointer(place)) {
            self.collect(form, found, deep - 1);
        }
        let choices = ["oneOf", "anyOf"].map(|name| form.get(name).and_then(Value::as_array));
        for choice in choices.into_iter().flatten().flatten() {
            self.collect(choice, found, deep - 1);
        }
        if referred.is_none() && form.is_object() {
            found.push(form);
        }
    }

    /// Returns every word that the forms of a text allow.
    pub(super) fn words(forms: &[&Value]) -> Vec<String> {
        let each = forms.iter().flat_map(|form| {
            let listed = form.get("enum").and_then(Value::as_array);
            form.get("const")
                .into_iter()
                .chain(listed.into_iter().flatten())
        });
        each.filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    }

    /// Returns the members that an object of these forms may have and `node` lacks, with possible values.
    pub(super) fn absent(self, forms: &[&'static Value], node: &Json) -> Vec<(String, Json)> {
        let known = forms
            .iter()
            .filter_map(|form| form.get("properties").and_then(Value::as_object));
        let absent = known
            .flatten()
            .filter(|(name, _)| node.member(name).is_none());
        absent
            .filter_map(|(name, form)| {
                let sample = self.sample(form, DEEPEST).to_string();
                Some((name.clone(), Json::read(&sample).ok()?))
            })
            .collect()
    }

    /// Returns a value of the first form that is not `null`.
    fn sample(self, form: &'static Value, deep: usize) -> Value {
        let mut forms = Vec::new();
        self.collect(form, &mut forms, deep);
        let fixed = |form: &&&Value| form.get("const").is_some() || form.get("type").is_some();
        let is_null = |form: &&&Value| form.get("type").and_then(Value::as_str) == Some("null");
        let Some(form) = forms.iter().filter(fixed).find(|form| !is_null(form)) else {
            return Value::Null;
        };
        if let Some(fixed) = form.get("const") {
            return fixed.clone();
        }
        match form.get("type").and_then(Value::as_str) {
            Some("string") => Value::from(match form.get("pattern").and_then(Value::as_str) {
                Some(pattern) if pattern.contains("{64}") => "0".repeat(64),
                _ => ANY_TEXT.to_owned(),
            }),
            Some("integer" | "number") => Value::from(1),
            Some("boolean") => Value::from(true),
            Some("array") => {
                let item = form.get("items").filter(|_| deep > 1);
                Value::from_iter(item.map(|item| self.sample(item, deep - 1)))
            }
            Some("object") => {
                let required = form.get("required").and_then(Value::as_array);
                let names = required.into_iter().flatten().filter_map(Value::as_str);
                let members = names.filter_map(|name| {
                    let form = form.get("properties")?.get(name)?;
                    Some((name.to_owned(), self.sample(form, deep.saturating_sub(1))))
                });
                Value::Object(members.collect())
            }
            _ => Value::Null,
        }
    }
}
