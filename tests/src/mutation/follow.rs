//! Changes the other files after a change of the flow log, so that they agree with the changed rows.
use std::collections::BTreeMap;

use super::json::Json;
use super::packet::{FLOWS, Files, sha256};
use super::sums;

/// Returns `boundary.json` with all values that depend on the rows. `honest` holds the rows before the change.
pub(super) fn boundary(mut document: Json, files: &Files, honest: &[Json]) -> Json {
    let log = files.get(FLOWS).map(Vec::as_slice).unwrap_or_default();
    let text = String::from_utf8_lossy(log);
    let rows: Vec<Json> = text
        .lines()
        .filter_map(|line| Json::read(line).ok())
        .collect();
    let head = rows
        .last()
        .map_or_else(|| String::from("genesis"), |row| row.member_text("hash"));
    if let Some(mut flows) = document.member("flows").cloned() {
        flows.set("sha256", Json::string(&sha256(log)));
        flows.set("head", Json::string(&head));
        flows.set("rows", Json::number(rows.len()));
        let counted = [
            (
                "by_verdict",
                by_verdict as fn(&[Json]) -> BTreeMap<String, u64>,
            ),
            ("by_relay_verdict", by_relay_verdict),
        ];
        for (name, count) in counted {
            if count(honest) != count(&rows) {
                let members = count(&rows).into_iter();
                let members = members.map(|(word, number)| (word, Json::number(number)));
                flows.set(name, Json::Object(members.collect()));
            }
        }
        let names = rows
            .iter()
            .filter(|row| row.member_text("source") == "resolver")
            .count();
        flows.set("names", Json::number(names));
        document.set("flows", flows);
    }
    sums::follow(&mut document, honest, &rows);
    document
}

fn number(row: &Json, name: &str) -> u64 {
    match row.member(name) {
        Some(Json::Leaf(raw)) => raw.parse().unwrap_or(0),
        _ => 0,
    }
}

/// Counts attempts by the kernel's verdict. The first one of repeated attempts has its own row.
fn by_verdict(rows: &[Json]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let count = match row.member_text("source").as_str() {
            "kernel" => 1,
            "kernel_repeats" => number(row, "count").saturating_sub(1),
            _ => continue,
        };
        *counts.entry(row.member_text("verdict")).or_default() += count;
    }
    counts
}

fn by_relay_verdict(rows: &[Json]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| row.member_text("source") == "relay")
    {
        *counts.entry(row.member_text("verdict")).or_default() += 1;
    }
    counts
}
