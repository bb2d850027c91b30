//! The places to change: every node of every document, every row, every receipt, and every file.
use std::collections::BTreeSet;

use super::archive;
use super::attacker::Attacker;
use super::change::{Change, DiskOperator};
use super::json::Json;
use super::operators::{self, Words};
use super::packet::{ATTESTATION, EVIDENCE, FLOWS, HonestPacket, OF_THE_CHAIN, read_json};
use super::parts::Part;
use super::sites::{self, Site};
use crate::liar::testimony::Testimony;

/// One place, and the attacker that changes it.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) attacker: Attacker,
    /// The file, or a part of it.
    pub(super) file: String,
    /// The path of the node in the file.
    pub(super) path: String,
    what: What,
}

impl Unit {
    /// Returns the start of the names of the unit's changes. The name of an operator completes each name.
    pub(super) fn name(&self) -> String {
        format!("{}:{}:{}:", self.attacker.word(), self.file, self.path)
    }
}

/// The thing that a unit changes.
#[derive(Clone, Debug)]
enum What {
    /// A node of a JSON file.
    Document(Site),
    /// A node of the attestation's statement.
    Statement(Site),
    /// A node of a row, which is chained again.
    Row(usize, Site),
    /// A row as a whole.
    Place(usize),
    /// A node of a line of evidence, which is not chained again.
    Line(usize, Site),
    /// A node of a part of the evidence, which is signed again.
    Part(usize, Part, Site),
    /// An entry as a whole.
    Item(usize),
    /// The bytes of a file.
    Bytes,
    /// The object on the disk at the name of a file.
    Disk,
}

/// The parsed documents of a packet.
#[derive(Debug)]
pub(super) struct Documents<'h> {
    honest: &'h HonestPacket,
    json: Vec<(String, Json, Words)>,
    statement: (Json, Words),
    rows: Vec<Json>,
    lines: Vec<Json>,
    row_words: Words,
    testimony: Testimony,
    evidence_words: Words,
}

impl<'h> Documents<'h> {
    pub(super) fn of(honest: &'h HonestPacket) -> Result<Self, String> {
        let is_json = |name: &&String| name.ends_with(".json");
        let with_words = |json: Json| {
            let words = Words::of(&json);
            (json, words)
        };
        let json = honest.files.keys().filter(is_json).filter_map(|name| {
            let (json, words) = with_words(honest.json(name)?);
            let words = words.with_schema(name.trim_end_matches(".json"));
            Some((name.clone(), json, words))
        });
        let statement = honest.statement().ok_or("the attestation cannot be read")?;
        let evidence = honest.files.get(EVIDENCE).ok_or("there is no evidence")?;
        let testimony = Testimony::of(&String::from_utf8_lossy(evidence))?;
        let [rows, lines] = [FLOWS, EVIDENCE].map(|name| honest.lines(name));
        let (statement, words) = with_words(statement);
        Ok(Self {
            honest,
            json: json.collect(),
            statement: (statement, words.with_schema("statement")),
            row_words: Words::of(&Json::Array(rows.clone())).with_schema("flows"),
            evidence_words: Words::of(&Json::Array(lines.clone())),
            rows,
            lines,
            testimony,
        })
    }

    /// Returns all units of all attackers.
    pub(super) fn units(&self) -> Vec<Unit> {
        let all = Attacker::ALL.into_iter();
        all.flat_map(|attacker| self.of_attacker(attacker))
            .collect()
    }

    /// Returns all units of one attacker.
    pub(super) fn of_attacker(&self, attacker: Attacker) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut add = |file: &str, path: String, what: What| {
            units.push(Unit {
                attacker,
                file: file.to_owned(),
                path,
                what,
            });
        };
        if matches!(attacker, Attacker::Mediator | Attacker::OwnKeys) {
            let kinds = self.testimony.kinds();
            for (at, kind) in first_of_each(&kinds) {
                add(EVIDENCE, format!("/{kind}"), What::Item(at));
                for part in Part::ALL {
                    let text = self.testimony.part(at, part);
                    let Some(json) = text.and_then(|text| Json::read(&text).ok()) else {
                        continue;
                    };
                    let file = format!("{EVIDENCE}#{}", part.word());
                    let is_around =
                        kind.contains('.') && matches!(part, Part::Entry | Part::TwinEntry);
                    for site in sites::of(&json) {
                        // The content of this entry is changed as another part.
                        if is_around && site.path.starts_with("/detail") {
                            continue;
                        }
                        let path = format!("/{kind}{}", site.path);
                        add(&file, path, What::Part(at, part, site));
                    }
                }
            }
        }
        if attacker == Attacker::Mediator {
            return units;
        }
        for (name, json, _) in &self.json {
            if name == ATTESTATION && attacker != Attacker::Keyless {
                continue;
            }
            for site in sites::of(json) {
                add(name, site.path.clone(), What::Document(site));
            }
        }
        if attacker != Attacker::Keyless {
            let file = format!("{ATTESTATION}#statement");
            for site in sites::of(&self.statement.0) {
                add(&file, site.path.clone(), What::Statement(site));
            }
        }
        for (at, kind) in first_of_each(&row_kinds(&self.rows)) {
            let Some(row) = self.rows.get(at) else {
                continue;
            };
            if attacker != Attacker::Keyless {
                add(FLOWS, format!("/{kind}"), What::Place(at));
            }
            for site in sites::of(row) {
                let path = format!("/{kind}{}", site.path);
                if attacker == Attacker::Keyless {
                    add(FLOWS, path, What::Line(at, site));
                } else if !OF_THE_CHAIN.contains(&site.name.as_str()) {
                    add(FLOWS, path, What::Row(at, site));
                }
            }
        }
        if matches!(attacker, Attacker::Keyless | Attacker::Boundary) {
            let kinds: Vec<String> = self
                .lines
                .iter()
                .map(|line| line.member_text("summary"))
                .collect();
            let kinds: Vec<String> = kinds
                .iter()
                .map(|kind| {
                    kind.chars()
                        .filter(|c| !c.is_ascii_digit())
                        .take(40)
                        .collect()
                })
                .collect();
            for (at, kind) in first_of_each(&kinds) {
                let Some(line) = self.lines.get(at) else {
                    continue;
                };
                for site in sites::of(line) {
                    let path = format!("/{}{}", kind.replace(['/', ' '], "_"), site.path);
                    add(EVIDENCE, path, What::Line(at, site));
                }
            }
        }
        for name in self.honest.files.keys() {
            add(name, String::from("/"), What::Bytes);
            if matches!(attacker, Attacker::Keyless | Attacker::Boundary) {
                add(name, String::from("/"), What::Disk);
            }
        }
        units
    }

    /// Returns every change of a unit by the name of its operator.
    pub(super) fn changes(&self, unit: &Unit) -> Vec<(String, Change)> {
        match &unit.what {
            What::Document(site) => {
                let Some((name, json, words)) =
                    self.json.iter().find(|(name, ..)| *name == unit.file)
                else {
                    return Vec::new();
                };
                let changes = operators::changes(json, &site.steps, &site.name, words).into_iter();
                changes
                    .map(|(operator, json)| (operator, Change::Document(name.clone(), json)))
                    .collect()
            }
            What::Statement(site) => {
                let (json, words) = &self.statement;
                let changes = operators::changes(json, &site.steps, &site.name, words).into_iter();
                changes
                    .map(|(operator, json)| (operator, Change::Statement(json)))
                    .collect()
            }
            What::Row(at, site) => {
                let changes = self
                    .rows
                    .get(*at)
                    .map(|row| operators::changes(row, &site.steps, &site.name, &self.row_words));
                let changes = changes.unwrap_or_default().into_iter();
                changes
                    .map(|(operator, row)| {
                        let mut rows = self.rows.clone();
                        if let Some(there) = rows.get_mut(*at) {
                            *there = row;
                        }
                        (operator, Change::Rows(rows))
                    })
                    .collect()
            }
            What::Place(at) => rearranged(&self.rows, *at),
            What::Line(at, site) => {
                let is_flow = unit.file == FLOWS;
                let (lines, words) = if is_flow {
                    (&self.rows, &self.row_words)
                } else {
                    (&self.lines, &self.evidence_words)
                };
                let changes = lines
                    .get(*at)
                    .map(|line| operators::changes(line, &site.steps, &site.name, words));
                let changes = changes.unwrap_or_default().into_iter();
                changes
                    .map(|(operator, line)| {
                        let mut text = String::new();
                        for (place, own) in lines.iter().enumerate() {
                            let line = if place == *at { &line } else { own };
                            text.push_str(&line.compact());
                            text.push('\n');
                        }
                        (operator, Change::File(unit.file.clone(), text.into_bytes()))
                    })
                    .collect()
            }
            What::Part(at, part, site) => {
                let json = self
                    .testimony
                    .part(*at, *part)
                    .and_then(|text| Json::read(&text).ok());
                let changes = json.map(|json| {
                    operators::changes(&json, &site.steps, &site.name, &self.evidence_words)
                });
                let changes = changes.unwrap_or_default().into_iter();
                changes
                    .filter_map(|(operator, json)| {
                        let mut testimony = self.testimony.clone();
                        testimony.replace(*at, *part, &json.compact()).ok()?;
                        Some((operator, Change::Testimony(testimony)))
                    })
                    .collect()
            }
            What::Item(at) => {
                let versions = self.testimony.rearranged(*at).into_iter();
                versions
                    .map(|(operator, testimony)| {
                        (operator.to_owned(), Change::Testimony(testimony))
                    })
                    .collect()
            }
            What::Bytes => self.bytes(&unit.file),
            What::Disk => {
                let each = DiskOperator::ALL.into_iter();
                each.map(|operator| {
                    (
                        operator.word().to_owned(),
                        Change::Disk(unit.file.clone(), operator),
                    )
                })
                .collect()
            }
        }
    }

    fn bytes(&self, name: &str) -> Vec<(String, Change)> {
        let Some(bytes) = self.honest.files.get(name) else {
            return Vec::new();
        };
        let file = |bytes: Vec<u8>| Change::File(name.to_owned(), bytes);
        let flipped = |at: usize, bits: u8| {
            let mut bytes = bytes.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
            file(bytes)
        };
        let half = bytes.len() / 2;
        let mut all = vec![
            ("missing", Change::Missing(name.to_owned())),
            ("emptied", file(Vec::new())),
            (
                "cut_in_half",
                file(bytes.iter().take(half).copied().collect()),
            ),
            ("byte_first", flipped(0, 1)),
            // The byte in the middle belongs to another member in each run. With this bit set, the text is invalid in
            // every case. Each member is also changed by itself.
            ("byte_middle", flipped(half, 0x80)),
            ("byte_last", flipped(bytes.len().saturating_sub(1), 1)),
            (
                "appended",
                file([bytes.as_slice(), b"\nappended\n"].concat()),
            ),
        ];
        if let Some(other) = self.honest.other_run.get(name) {
            all.push(("of_another_run", file(other.clone())));
        }
        if read_json(bytes).is_some() {
            all.push(("white_space", file([b" ".as_slice(), bytes].concat())));
        }
        if name == EVIDENCE || name == FLOWS || name.ends_with(".yaml") {
            let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            all.push((
                "first_line_removed",
                file(lines.get(1..).unwrap_or_default().concat()),
            ));
            let but_last = lines.len().saturating_sub(1);
            all.push((
                "last_line_removed",
                file(lines.get(..but_last).unwrap_or_default().concat()),
            ));
        }
        if let Some(more) = name.strip_suffix(".json") {
            all.push((
                "another_file",
                Change::File(format!("{more}.bak"), b"{}".to_vec()),
            ));
        }
        let entries = if name.ends_with(".tar") {
            archive::changes(bytes)
        } else {
            Vec::new()
        };
        let all = all
            .into_iter()
            .map(|(operator, change)| (operator.to_owned(), change));
        let entries = entries
            .into_iter()
            .map(|(operator, bytes)| (operator, file(bytes)));
        let differs = |change: &Change| !matches!(change, Change::File(name, new) if self.honest.files.get(name) == Some(new));
        all.chain(entries)
            .filter(|(_, change)| differs(change))
            .collect()
    }
}

/// Returns copies of the rows in which the row at position `at` is removed, repeated, or exchanged with the next one.
fn rearranged(rows: &[Json], at: usize) -> Vec<(String, Change)> {
    let version = |change: &dyn Fn(&mut Vec<Json>)| {
        let mut rows = rows.to_vec();
        change(&mut rows);
        Change::Rows(rows)
    };
    let mut all = vec![
        ("removed", version(&|rows| drop(rows.remove(at)))),
        (
            "twice",
            version(&|rows| {
                if let Some(row) = rows.get(at).cloned() {
                    rows.insert(at, row);
                }
            }),
        ),
        ("cut_behind", version(&|rows| rows.truncate(at))),
        (
            "at_the_front",
            version(&|rows| {
                let row = rows.remove(at);
                rows.insert(0, row);
            }),
        ),
    ];
    if at + 1 < rows.len() {
        all.push(("swapped", version(&|rows| rows.swap(at, at + 1))));
    }
    let differs = |change: &Change| !matches!(change, Change::Rows(new) if new == rows);
    let all = all.into_iter().filter(|(_, change)| differs(change));
    all.map(|(operator, change)| (operator.to_owned(), change))
        .collect()
}

/// Returns the first item of each kind, with its position.
fn first_of_each(kinds: &[String]) -> Vec<(usize, String)> {
    let mut seen = BTreeSet::new();
    let mut first = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        if seen.insert(kind.clone()) {
            first.push((at, kind.clone()));
        }
    }
    first
}

/// Returns the kind of each row as a text. Rows with the same text are of the same kind.
fn row_kinds(rows: &[Json]) -> Vec<String> {
    let kind = |row: &Json| {
        let words = [
            "source",
            "event",
            "verdict",
            "hook",
            "reason",
            "transport",
            "protocol",
        ];
        let mut words: Vec<String> = words.map(|name| row.member_text(name)).into();
        words.retain(|word| !word.is_empty());
        // A name may be missing from a row of the kernel, so the rows with a name are a separate kind.
        if row.member_text("source") == "kernel" && !row.member_text("name").is_empty() {
            words.push(String::from("named"));
        }
        words.join(".")
    };
    rows.iter().map(kind).collect()
}
