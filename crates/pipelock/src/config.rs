//! The files that Pipelock reads. The files belong to root. Pipelock's user can read but not write
//! them.
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

/// Paths of the files of one Pipelock.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The executed copy of the binary.
    pub(super) binary: PathBuf,
    /// The runtime policy.
    pub(super) policy: PathBuf,
    /// The key that signs the receipts.
    pub(super) key: PathBuf,
    /// The posture capsule.
    pub(super) capsule: PathBuf,
    /// Root certificates for Pipelock's own TLS connections.
    pub(super) roots: PathBuf,
    /// The certificate and the key of the authority that intercepts TLS.
    pub(super) authority: [PathBuf; 2],
    /// The resolver configuration.
    pub(super) resolver: PathBuf,
    /// The log of Pipelock's standard output and standard error.
    pub(super) log: PathBuf,
    /// The output of `pipelock --version`.
    pub(super) version: PathBuf,
    /// The directory in which Pipelock writes its evidence.
    pub(super) evidence: PathBuf,
}

/// The authority with which Pipelock intercepts TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// Certificate of the authority in PEM form.
    pub certificate: String,
    /// Path of the caller's key file. This file is hidden from the command.
    pub key_path: PathBuf,
    key: String,
}

impl Authority {
    /// Creates an authority from its certificate, its key, and the path of the key file.
    pub fn new(certificate: String, key_path: PathBuf, key: String) -> Self {
        Self {
            certificate,
            key_path,
            key,
        }
    }
}

/// Formats the authority without its key.
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

    /// Builds the policy with the keys of `attempt`.
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

    /// Creates an empty evidence directory, because the evidence of two processes would be two chains.
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
        make().map_err(file("create", path))
    }
}

/// Replaces a file that the user and group `id` can read and only root can write.
pub(super) fn replace_for(path: &Path, bytes: &[u8], id: u32) -> Result<(), PipelockError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("replace", path)(error)),
        Ok(()) | Err(_) => write_for(path, bytes, id),
    }
}

/// Writes a file that the user and group `id` can read and only root can write.
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

/// Adds the operation and the path to an I/O error.
pub(super) fn file(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> PipelockError + use<> {
    let path = path.to_path_buf();
    move |source| PipelockError::File { what, path, source }
}
