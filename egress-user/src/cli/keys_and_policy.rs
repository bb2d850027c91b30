//! Reads the policy and the keys that the command line of `egress run` names.
use std::path::Path;

use anyhow::{Context, bail, ensure};
use egress_policy::runtime::{self, OwnedKeys};
use pipelock_receipts::keys;

use super::files::read_policy;
use crate::run::plan::{CallerPolicy, Signer};

/// Reads the policy. Without a path, the policy is empty.
pub(super) fn policy(path: Option<&Path>) -> anyhow::Result<CallerPolicy> {
    let Some(path) = path else {
        return Ok(CallerPolicy::default());
    };
    Ok(CallerPolicy {
        path: Some(path.to_path_buf()),
        text: Some(read_policy(path)?),
        shown: None,
    })
}

/// Checks that the built-in mediator implements everything in the policy.
pub(super) fn check_builtin(policy: &CallerPolicy, identity: &str) -> anyhow::Result<()> {
    let (Some(path), Some(text)) = (&policy.path, &policy.text) else {
        return Ok(());
    };
    runtime::build(Some(text), &OwnedKeys::for_check(identity))
        .with_context(|| format!("policy {} cannot be used", path.display()))?;
    Ok(())
}

/// Loads the caller's private key, or generates a key for this run only.
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

/// The keys that the caller named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    /// Private key that signs the receipts.
    pub(super) private: Option<&'a Path>,
    /// Public key that must belong to `private`: 64 hex digits, key text, or a file with either.
    pub(super) public: Option<&'a str>,
    /// Private key that signs the boundary's measurements.
    pub(super) boundary: Option<&'a Path>,
}

/// Returns the key of the receipts and the key of the boundary. A run with disabled layers (`is_open`) gets new keys,
/// which no verifier has pinned.
pub(super) fn signers(keys: Keys<'_>, is_open: bool) -> anyhow::Result<(Signer, Signer)> {
    if is_open {
        return Ok((key(None)?, key(None)?));
    }
    let (signer, boundary) = (signer(keys)?, key(keys.boundary)?);
    ensure!(
        boundary.key.verifying_key() != signer.key.verifying_key(),
        "--boundary-key and --signer-private-key are the same key; create another one for the boundary with `egress keygen`"
    );
    Ok((signer, boundary))
}

fn signer(named: Keys<'_>) -> anyhow::Result<Signer> {
    let signer = key(named.private)?;
    if let (Some(argument), Some(path)) = (named.public, named.private)
        && keys::public_from_argument(argument)? != signer.key.verifying_key()
    {
        bail!(
            "--signer-public-key does not belong to private key {}",
            path.display()
        );
    }
    Ok(signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: layers-unsigned
    #[test]
    fn run_without_a_layer_signs_with_keys_that_are_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let [private, boundary] = ["private", "boundary"].map(|name| {
            let path = dir.path().join(name);
            let made = keys::generate().unwrap();
            keys::write_pair(&path, &made, keys::Replace::No).unwrap();
            (path, made.verifying_key())
        });
        let named = Keys {
            private: Some(&private.0),
            public: None,
            boundary: Some(&boundary.0),
        };
        for (is_open, pinned) in [(false, true), (true, false)] {
            let (signer, other) = signers(named, is_open).unwrap();
            for (used, named) in [(&signer, private.1), (&other, boundary.1)] {
                assert_eq!(used.key.verifying_key() == named, pinned);
                assert_eq!((used.pinned, used.path.is_some()), (pinned, pinned));
            }
        }
    }
}
