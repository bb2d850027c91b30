//! The files that Pipelock reads: root's, readable for its user and writable for nobody.
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use egress_policy::pipelock::{self, Attempt, PipelockKeys, PipelockPolicy};
use egress_policy::runtime::OwnedKeys;
use pipelock_receipts::keys;

use super::error::PipelockError;
use super::ports::Ports;

/// Where everything of one Pipelock is.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The copy that is executed.
    pub(super) binary: PathBuf,
    /// The runtime policy.
    pub(super) policy: PathBuf,
    /// The key that signs the receipts.
    pub(super) key: PathBuf,
    /// The posture capsule.
    pub(super) capsule: PathBuf,
    /// Roots for its own TLS connections.
    pub(super) roots: PathBuf,
    /// The authority that intercepts TLS, and its key.
    pub(super) authority: [PathBuf; 2],
    /// The resolver's configuration.
    pub(super) resolver: PathBuf,
    /// What it says.
    pub(super) log: PathBuf,
    /// What it says of its version.
    pub(super) version: PathBuf,
    /// The only directory that it writes to.
    pub(super) evidence: PathBuf,
}

/// The authority that a Pipelock intercepts TLS with.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Where the caller has the key: nothing for the command to see.
    pub key_path: PathBuf,
    key: String,
}

impl Authority {
    /// One with this certificate and this key, which is at `key_path`.
    pub fn new(certificate: String, key_path: PathBuf, key: String) -> Self {
        Self {
            certificate,
            key_path,
            key,
        }
    }
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("certificate", &self.certificate)
            .field("key_path", &self.key_path)
            .finish_non_exhaustive()
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Files {
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            binary: dir.join("pipelock"),
            policy: dir.join("policy.yaml"),
            key: dir.join("signing.key"),
            capsule: dir.join("posture-capsule.json"),
            roots: dir.join("roots.pem"),
            authority: [dir.join("ca.pem"), dir.join("ca-key.pem")],
            resolver: dir.join("resolv.conf"),
            log: dir.join("mediator.log"),
            version: dir.join("pipelock-version.log"),
            evidence: dir.join("evidence"),
        }
    }

    /// The policy as far as `attempt` goes.
    pub(super) fn build_policy(
        &self,
        caller_yaml: Option<&str>,
        identity: &str,
        ports: &Ports,
        token: &str,
        intercepts: bool,
        attempt: Attempt,
    ) -> Result<PipelockPolicy, PipelockError> {
        let keys = PipelockKeys {
            common: OwnedKeys {
                listen: ports.proxy.address().to_string(),
                agent_identity: identity.to_owned(),
                evidence_dir: path_text(&self.evidence),
                signing_key_path: path_text(&self.key),
            },
            metrics_listen: ports.metrics.address().to_string(),
            kill_switch_listen: ports.kill_switch.address().to_string(),
            kill_switch_token: token.to_owned(),
            authority: intercepts.then(|| {
                let [certificate, key] = &self.authority;
                (path_text(certificate), path_text(key))
            }),
        };
        Ok(pipelock::build(caller_yaml, &keys, attempt)?)
    }

    pub(super) fn write_authority(
        &self,
        authority: &Authority,
        id: u32,
    ) -> Result<(), PipelockError> {
        let [certificate, key] = &self.authority;
        write_for(certificate, authority.certificate.as_bytes(), id)?;
        write_for(key, authority.key.as_bytes(), id)
    }

    pub(super) fn write_key(&self, key: &SigningKey, id: u32) -> Result<(), PipelockError> {
        write_for(&self.key, keys::private_text(key).as_bytes(), id)
    }

    /// An empty evidence directory: two processes in one would be two chains.
    pub(super) fn fresh_evidence(&self, id: u32) -> Result<(), PipelockError> {
        let path = &self.evidence;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("empty", path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let make = || {
            DirBuilder::new().mode(0o700).create(path)?;
            chown(path, Some(id), Some(id))
        };
        make().map_err(file("make", path))
    }
}

/// Writes such a file in the place of an earlier one.
pub(super) fn replace_for(path: &Path, bytes: &[u8], id: u32) -> Result<(), PipelockError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("replace", path)(error)),
        Ok(()) | Err(_) => write_for(path, bytes, id),
    }
}

/// Writes a file that user `id` can read and nobody but root can write.
pub(super) fn write_for(path: &Path, bytes: &[u8], id: u32) -> Result<(), PipelockError> {
    let write = || {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o440)
            .open(path)?;
        chown(path, Some(0), Some(id))?;
        file.write_all(bytes)
    };
    write().map_err(file("write", path))
}

/// Names a file with what could not be done to it.
pub(super) fn file(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> PipelockError + use<> {
    let path = path.to_path_buf();
    move |source| PipelockError::File { what, path, source }
}
