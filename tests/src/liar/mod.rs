//! A mediator that lies: it decides and serves as usual, and rewrites its evidence at its end.
//!
//! The mediator has the key of the receipts, so the rewritten evidence is signed and chained correctly, and a verifier
//! that checks only receipts accepts it. Only other records can contradict the evidence: the flow log of the relay, and
//! the kernel's records.
//!
//! `examples/lying_mediator.rs` of `egress-user` is a built-in mediator that lies. The program `egress-liar` is a real
//! Pipelock that lies.
use std::fs;
use std::io;
use std::path::Path;

use ed25519_dalek::SigningKey;

mod combined;
mod endings;
mod entries;
mod hosts;
mod lie;
mod lies;
mod parts;
mod sizes;
mod tales;
pub(crate) mod testimony;
pub(crate) mod tree;

pub use lie::{Expected, Lie, TRUTH};
pub use lies::LIES;
use testimony::Testimony;

/// Tells the lie `name` about the session whose evidence is in `dir`, and signs with `key`.
///
/// # Errors
/// Fails if there is no such lie, or the evidence cannot be read or written. Also fails if the lie changes nothing,
/// because a test of this lie would prove nothing. The truth must not change a byte.
pub fn tell(name: &str, dir: &Path, key: &SigningKey) -> io::Result<()> {
    let lie = LIES.iter().find(|lie| lie.name == name);
    let lie = lie.ok_or_else(|| io::Error::other(format!("there is no lie {name:?}")))?;
    let (mut testimony, files) = Testimony::read(dir)?;
    let Some((first, others)) = files.split_first() else {
        return Err(io::Error::other("there is no evidence"));
    };
    let truth = files.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
    lie.tell(&mut testimony);
    let told = testimony.write(key);
    let is_true = told == truth.concat();
    if is_true != (lie.name == TRUTH) {
        return Err(io::Error::other(format!("{name}: is it true? {is_true}")));
    }
    fs::write(first, told)?;
    others.iter().try_for_each(fs::remove_file)
}
