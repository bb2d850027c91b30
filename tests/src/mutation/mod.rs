//! Changes every member of every file of an honest packet, once for each possible attacker.
//!
//! The library of `egress verify` verifies each change. The verifier must reject the packet, or lower the grade for a
//! reason, or the change must be in `harmless.rs`, where a sentence explains why no verifier can detect it.
//!
//! `EGRESS_MUTATIONS` selects the changes: `full`, a number of places, or the start of the name of a change, such as
//! `boundary:boundary.json:/agent/uid:plus_one`. `EGRESS_MUTATION_SEED` selects another sample than the default one.
//! Both variables also apply to the comparison of the two verifiers. In that test, the names begin with the kind of the
//! packet (`mixed:`), and `full` is one change at each place.
#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    clippy::format_push_string,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::print_stderr,
    reason = "a change concerns one kind out of many, and the names of files are the packet's own"
)]
mod archive;
mod attacker;
mod change;
mod choice;
mod elements;
mod follow;
mod harmless;
mod identity;
mod json;
mod judge;
mod operators;
mod packet;
mod parts;
mod sample;
pub mod scene;
mod schema;
mod sites;
mod sums;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use attacker::{Attacker, Keys};
use audit_packet::grade::Grade;
use choice::{Choice, MUTATIONS_VARIABLE, SEED, SEED_VARIABLE, chosen, in_order_of, seed};
pub use harmless::By;
pub use identity::Receipts;
use judge::{Bench, Expectation, Judgment, THREADS};
pub use packet::HonestPacket;
use pipelock_receipts::keys::generate;
pub use sample::{Sampled, is_named, write_changes, write_lies};
use units::{Documents, Unit};

/// Number of places in a sample.
const SAMPLE: usize = 300;
/// Number of changes that are made at each place of a sample.
const OF_A_PLACE: usize = 3;
/// Number of places after which the progress is printed.
const PROGRESS: usize = 500;

/// Counts of the results of one attacker's changes.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    made: u64,
    rejected: u64,
    lowered: u64,
    harmless: u64,
}

/// The results of all changes.
#[derive(Debug, Default)]
struct Results {
    numbers: BTreeMap<Attacker, Numbers>,
    /// Changes that were neither detected nor explained.
    unseen: Vec<String>,
    /// Indexes of the entries of the table that explained a change.
    used: BTreeSet<usize>,
    /// Indexes of the entries of the table that could explain a change.
    fitting: BTreeSet<usize>,
    /// The result of each change, if the caller selected changes by name.
    told: Vec<String>,
}

/// Makes the changes that the caller chose, and fails unless each is detected or explained. `by` is the mediator.
/// `best` is the grade of the honest packet.
///
/// # Panics
/// Panics with every change that was neither detected nor explained, or if the honest packet is not as expected.
#[track_caller]
pub fn assert_seen(honest: &HonestPacket, by: By, best: Grade) {
    let own = Keys {
        key: generate().expect("a key"),
        boundary: generate().expect("a key"),
    };
    let documents = Documents::of(honest).expect("an honest packet");
    let expected = expectations(honest, &own, best);
    let choice = Choice::made(SAMPLE);
    let seed = seed();
    let units = chosen(documents.units(), &choice, seed);
    assert!(!units.is_empty(), "no place of the packet is chosen");
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Results::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut bench = Bench::new(honest, &own).expect("a directory");
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(unit) = units.get(at) else {
                        return;
                    };
                    if at % PROGRESS == PROGRESS - 1 {
                        eprintln!("mutations: {} of {} places", at + 1, units.len());
                    }
                    let judged = judge(&documents, &mut bench, unit, &expected, &choice, seed);
                    let judged = judged.expect("a packet in the directory");
                    let mut results = results.lock().expect("no other thread has failed");
                    for (name, judgment) in judged {
                        results.take(unit, name, &judgment, by);
                    }
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread has failed");
    report(&results, &choice, by, seed);
}

/// Makes every change whose name starts with `name`, and returns the names of those that are not rejected.
///
/// # Panics
/// Panics if there is no such change.
#[track_caller]
pub fn not_rejected(honest: &HonestPacket, name: &str) -> Vec<String> {
    let own = Keys {
        key: generate().expect("a key"),
        boundary: generate().expect("a key"),
    };
    let documents = Documents::of(honest).expect("an honest packet");
    let expected = expectations(honest, &own, Grade::KernelEnforced);
    let choice = Choice::Named(name.to_owned());
    let mut bench = Bench::new(honest, &own).expect("a directory");
    let mut all = Vec::new();
    for unit in &chosen(documents.units(), &choice, SEED) {
        let judged = judge(&documents, &mut bench, unit, &expected, &choice, SEED);
        let judged = judged.expect("a packet in the directory").into_iter();
        all.extend(judged.map(|(operator, judgment)| (unit.name() + &operator, judgment)));
    }
    assert!(!all.is_empty(), "no change of the name {name}");
    all.retain(|(_, judgment)| !matches!(judgment, Judgment::Rejected(_)));
    all.into_iter()
        .map(|(name, judgment)| format!("{name}: {judgment:?}"))
        .collect()
}

/// Returns the result for the honest packet after each attacker has signed it again without a change.
fn expectations(honest: &HonestPacket, own: &Keys, best: Grade) -> BTreeMap<Attacker, Expectation> {
    let mut bench = Bench::new(honest, own).expect("a directory");
    let mut all = BTreeMap::new();
    for attacker in Attacker::ALL {
        let (judgment, found) = bench.honest(attacker).expect("a packet in the directory");
        match attacker {
            // The verifier does not pin these keys.
            Attacker::OwnKeys | Attacker::OwnBoundaryKey => {
                assert!(
                    matches!(judgment, Judgment::Rejected(_)),
                    "{attacker:?}: {judgment:?}"
                );
            }
            Attacker::Keyless | Attacker::Mediator | Attacker::Boundary => {
                assert!(
                    !matches!(judgment, Judgment::Rejected(_)),
                    "{attacker:?}: {judgment:?}"
                );
                assert_eq!(found.grade, best, "{attacker:?}: {:?}", found.reasons);
            }
        }
        all.insert(attacker, found);
    }
    all
}

fn judge(
    documents: &Documents<'_>,
    bench: &mut Bench<'_>,
    unit: &Unit,
    expected: &BTreeMap<Attacker, Expectation>,
    choice: &Choice,
    seed: u64,
) -> io::Result<Vec<(String, Judgment)>> {
    let expected = expected
        .get(&unit.attacker)
        .ok_or_else(|| io::Error::other("an attacker"))?;
    let mut changes = documents.changes(unit);
    match choice {
        Choice::Full => {}
        Choice::Sample(_) => {
            changes = in_order_of(seed, unit, changes);
            changes.truncate(OF_A_PLACE);
        }
        Choice::Named(name) => {
            changes.retain(|(operator, _)| format!("{}{operator}", unit.name()).starts_with(name));
        }
    }
    let mut judged = Vec::new();
    for (operator, change) in changes {
        if let Some(judgment) = bench.judge(unit.attacker, &change, expected)? {
            judged.push((operator, judgment));
        }
    }
    Ok(judged)
}

impl Results {
    fn take(&mut self, unit: &Unit, operator: String, judgment: &Judgment, by: By) {
        let name = format!("{}{operator}", unit.name());
        let numbers = self.numbers.entry(unit.attacker).or_default();
        numbers.made += 1;
        self.told.push(format!("{name}: {judgment:?}"));
        let fits = |(_, entry): &(usize, &harmless::Harmless)| {
            entry.fits(by, unit.attacker, &unit.file, &unit.path, &operator)
        };
        let fitting = harmless::table().enumerate().filter(fits);
        let fitting: Vec<usize> = fitting.map(|(place, _)| place).collect();
        match judgment {
            Judgment::Rejected(_) => numbers.rejected += 1,
            Judgment::Lowered(_) => numbers.lowered += 1,
            Judgment::Unseen => match fitting.first() {
                Some(place) => {
                    numbers.harmless += 1;
                    self.used.insert(*place);
                }
                None => self.unseen.push(name),
            },
        }
        self.fitting.extend(fitting);
    }
}

fn report(results: &Results, choice: &Choice, by: By, seed: u64) {
    let mut text = String::new();
    for (attacker, numbers) in &results.numbers {
        let Numbers {
            made,
            rejected,
            lowered,
            harmless,
        } = numbers;
        let word = attacker.word();
        writeln!(
            text,
            "{word}: {made} changes, {rejected} rejected, {lowered} lowered, {harmless} harmless"
        )
        .expect("write to memory");
    }
    if let Choice::Named(_) = choice {
        text.push_str(&results.told.join("\n"));
    }
    #[expect(clippy::print_stdout, reason = "the caller reads the numbers")]
    {
        println!("{text}");
    }
    let mut unseen = results.unseen.clone();
    unseen.sort();
    let is_stale = |(place, entry): &(usize, &harmless::Harmless)| {
        let [explains, fits] = [&results.used, &results.fitting].map(|all| all.contains(place));
        *choice == Choice::Full && entry.is_of(by) && !entry.is_needed(explains, fits)
    };
    let stale = harmless::table().enumerate().filter(is_stale);
    let stale: Vec<String> = stale.map(|(_, entry)| format!("{entry:?}")).collect();
    assert!(
        unseen.is_empty() && stale.is_empty(),
        "{} changes were not detected ({SEED_VARIABLE}={seed}; {MUTATIONS_VARIABLE}=NAME repeats one):\n{}\n\
         {} entries of the table explain no change:\n{}\n{text}",
        unseen.len(),
        unseen.join("\n"),
        stale.len(),
        stale.join("\n")
    );
}
