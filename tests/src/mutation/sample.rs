//! Writes changed packets to the disk, for a verifier that reads all of them in one process.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pipelock_receipts::keys::generate;

use super::attacker::{Attacker, Keys};
use super::change::{Change, DiskOperator};
use super::choice::{Choice, chosen, in_order_of, seed};
use super::judge::{Bench, THREADS, disguise};
use super::packet::{EVIDENCE, Files, HonestPacket, PACKET};
use super::units::{Documents, Unit};
use crate::liar::testimony::Testimony;
use crate::liar::{Expected, LIES};

/// A packet on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Name of the change.
    pub name: String,
    /// Directory of the packet.
    pub dir: PathBuf,
}

/// Makes one change at each of `places` places for each attacker, in directories below `into`. `kind` is the kind of
/// the packet. The caller of the tests can choose other places or changes, as for [`assert_seen`](super::assert_seen).
///
/// # Errors
/// Fails if a directory cannot be written, or the honest packet cannot be read.
pub fn write_changes(
    honest: &HonestPacket,
    kind: &str,
    places: usize,
    into: &Path,
) -> io::Result<Vec<Sampled>> {
    let documents = Documents::of(honest).map_err(io::Error::other)?;
    let seed = seed();
    let choice = match Choice::made(places) {
        Choice::Named(name) => match name.strip_prefix(&format!("{kind}:")) {
            Some(name) => Choice::Named(name.to_owned()),
            None => return Ok(Vec::new()),
        },
        other => other,
    };
    let units: Vec<Unit> = Attacker::ALL
        .into_iter()
        .flat_map(|attacker| chosen(documents.of_attacker(attacker), &choice, seed))
        .collect();
    let units = &units;
    write_all(honest, units.len(), into, |bench, at| {
        let mut made = Vec::new();
        let Some(unit) = units.get(at) else {
            return Ok(made);
        };
        for (operator, change) in in_order_of(seed, unit, documents.changes(unit)) {
            let name = format!("{}{operator}", unit.name());
            let is_wanted = match &choice {
                Choice::Named(wanted) => name.starts_with(wanted),
                Choice::Full | Choice::Sample(_) => made.is_empty(),
            };
            if is_wanted && let Some(files) = bench.settled(unit.attacker, &change)? {
                made.push((format!("{kind}:{name}"), files, change));
            }
        }
        Ok(made)
    })
}

/// Returns whether the caller of the tests selected changes by name. The selected changes are too few for statements
/// about all changes.
#[must_use]
pub fn is_named() -> bool {
    matches!(Choice::made(0), Choice::Named(_))
}

/// Writes a packet of the built-in mediator once for each lie. The lie changes its evidence.
///
/// # Errors
/// Returns the errors of [`write_changes`].
pub fn write_lies(honest: &HonestPacket, into: &Path) -> io::Result<Vec<Sampled>> {
    let text = honest.files.get(EVIDENCE).map(Vec::as_slice);
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    write_all(honest, LIES.len(), into, |bench, at| {
        let Some(lie) = LIES
            .get(at)
            .filter(|lie| lie.builtin != Expected::Senseless)
        else {
            return Ok(Vec::new());
        };
        let mut testimony = Testimony::of(&text).map_err(io::Error::other)?;
        lie.tell(&mut testimony);
        let change = Change::Testimony(testimony);
        let files = bench.settled(Attacker::Mediator, &change)?;
        let name = format!("lie:{}", lie.name);
        Ok(files
            .map(|files| (name, files, change))
            .into_iter()
            .collect())
    })
}

/// A packet to write: its name, its files, and the change. Some changes affect only the disk.
type Made = (String, Files, Change);

/// Writes the packets that `make` returns for each number below `count`.
fn write_all(
    honest: &HonestPacket,
    count: usize,
    into: &Path,
    make: impl Fn(&mut Bench<'_>, usize) -> io::Result<Vec<Made>> + Sync,
) -> io::Result<Vec<Sampled>> {
    let own = Keys {
        key: generate().map_err(io::Error::other)?,
        boundary: generate().map_err(io::Error::other)?,
    };
    fs::create_dir(into)?;
    let [next, numbers] = [0, 0].map(AtomicUsize::new);
    let written = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let work = || -> io::Result<()> {
            let mut bench = Bench::new(honest, &own)?;
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return Ok(());
                }
                let made = make(&mut bench, at)?.into_iter();
                for (name, files, change) in made.filter(|(.., change)| !is_left_out(change)) {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let dir = into.join(number.to_string());
                    write(&dir, &files, &change)?;
                    let mut written = written.lock().expect("no other thread has failed");
                    written.push(Sampled { name, dir });
                }
            }
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no thread has failed"))
    })?;
    let mut written = written.into_inner().expect("no thread has failed");
    written.sort_by(|one: &Sampled, other| one.name.cmp(&other.name));
    Ok(written)
}

fn write(dir: &Path, files: &Files, change: &Change) -> io::Result<()> {
    fs::create_dir(dir)?;
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes)?;
    }
    match change {
        Change::Disk(name, operator) => {
            disguise(dir, name, &dir.with_extension("outside"), *operator)
        }
        _ => Ok(()),
    }
}

/// Returns whether the two verifiers treat the change differently, because only one of them follows a link to
/// `packet.json`.
fn is_left_out(change: &Change) -> bool {
    matches!(change, Change::Disk(name, DiskOperator::Link) if name == PACKET)
}
