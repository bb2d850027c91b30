//! A mediator that lies: it decides and serves as it should, and at its end rewrites what it signed.
//!
//! It has the key that signs the receipts, so everything that it writes is signed and chained as it
//! should be, and whoever reads the receipts alone finds them valid. Only what others recorded can
//! contradict it: the flow log of the relay, and the kernel's records.
//!
//! `examples/lying_mediator.rs` of `egress-user` is the built-in mediator in these hands, the program
//! `egress-liar` a real Pipelock.
use std::fs;
use std::io;
use std::path::Path;

use ed25519_dalek::SigningKey;

use testimony::Testimony;

mod endings;
mod hosts;
mod lies;
mod tales;
pub(crate) mod testimony;
pub(crate) mod tree;

/// What a mediator claims that is not true.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// One word for it.
    pub name: &'static str,
    /// What is to be found out about it when the built-in mediator tells it.
    pub builtin: Expected,
    /// The same for a Pipelock that signs sessions, intents and outcomes (3.1 and later).
    pub with_sessions: Expected,
    /// The same for an older Pipelock.
    pub without_sessions: Expected,
    tell: fn(&mut Testimony),
}

impl Lie {
    /// Has the mediator testify what is not true.
    pub(crate) fn tell(&self, testimony: &mut Testimony) {
        (self.tell)(testimony);
    }
}

/// What a verifier of the whole packet can do about a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Name the disagreement, and not give the highest grade.
    Named,
    /// Nothing, for this reason.
    Unknowable(&'static str),
    /// This mediator has nothing to say that the lie could change.
    Senseless,
}

/// The name of the lie that is none.
pub const TRUTH: &str = "none";

/// All lies, the truth first.
pub use lies::LIES;

/// Tells the lie of this name about the session whose evidence is in `dir`, signed with `key`.
///
/// # Errors
/// When there is no such lie, the evidence cannot be read or written, or the lie changes nothing: a test of
/// it would prove nothing. The truth must come out as it was, byte for byte.
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
