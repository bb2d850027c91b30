//! Files that the command line of `egress run` names: the policy and the keys.
use std::io;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use egress_policy::runtime::{self, OwnedKeys};
use pipelock_receipts::keys;

use crate::run::plan::{CallerPolicy, Signer};

/// Longest policy file that is read.
const POLICY_BYTES: u64 = 1 << 20;

/// Reads the policy; without a file it is the empty one.
pub(super) fn policy(path: Option<&Path>) -> anyhow::Result<CallerPolicy> {
    let Some(path) = path else {
        return Ok(CallerPolicy::default());
    };
    let shown = path.display();
    let text = egress_files::read(path, POLICY_BYTES)
        .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
        .with_context(|| format!("cannot read policy {shown}"))?;
    Ok(CallerPolicy {
        path: Some(path.to_path_buf()),
        text: Some(text),
    })
}

/// Finds out whether the built-in mediator carries the policy out.
pub(super) fn check_builtin(policy: &CallerPolicy, identity: &str) -> anyhow::Result<()> {
    let (Some(path), Some(text)) = (&policy.path, &policy.text) else {
        return Ok(());
    };
    let probe = OwnedKeys {
        listen: "127.0.0.1:1".into(),
        agent_identity: identity.into(),
        evidence_dir: "/run/egress/x/evidence".into(),
        signing_key_path: "/run/egress/x/signing.key".into(),
    };
    runtime::build(Some(text), &probe)
        .with_context(|| format!("policy {} cannot be used", path.display()))?;
    Ok(())
}

/// A private key of the caller's, or one for this run alone.
fn key(path: Option<&Path>) -> anyhow::Result<Signer> {
    Ok(match path {
        Some(path) => Signer {
            key: keys::load_private(path)?,
            path: path.canonicalize().ok(),
            pinned: true,
        },
        None => Signer {
            key: keys::generate()?,
            path: None,
            pinned: false,
        },
    })
}

/// What the caller named of the keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    /// The private key of the receipts.
    pub(super) private: Option<&'a Path>,
    /// The public key that must belong to it: 64 hex digits, key text, or a file with either.
    pub(super) public: Option<&'a str>,
    /// The private key of the boundary.
    pub(super) boundary: Option<&'a Path>,
}

/// The keys of receipts and boundary. A run that is open on purpose gets keys that nobody can pin.
pub(super) fn signers(keys: Keys<'_>, open: bool) -> anyhow::Result<(Signer, Signer)> {
    if open {
        return Ok((key(None)?, key(None)?));
    }
    let (signer, boundary) = (signer(keys)?, key(keys.boundary)?);
    ensure!(
        boundary.key.verifying_key() != signer.key.verifying_key(),
        "--boundary-key and --signer-private-key are one key: the boundary must sign with one of its own"
    );
    Ok((signer, boundary))
}

fn signer(named: Keys<'_>) -> anyhow::Result<Signer> {
    let signer = key(named.private)?;
    if let (Some(argument), Some(path)) = (named.public, named.private)
        && keys::public_from_argument(argument)? != signer.key.verifying_key()
    {
        bail!(
            "the public key given does not belong to private key {}",
            path.display()
        );
    }
    Ok(signer)
}
