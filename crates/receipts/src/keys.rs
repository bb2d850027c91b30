//! Reads and writes Ed25519 keys in Pipelock's text formats (evidence protocol, section 5).
//!
//! Private keys are returned as [`SigningKey`], which is wiped when it is dropped. Intermediate buffers are
//! overwritten. This module opens only key files, and no other module of the crate opens files.
#![expect(
    clippy::map_err_ignore,
    reason = "the errors of decoders may quote key text"
)]
use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use thiserror::Error;

/// First line of a public key text.
pub const PUBLIC_HEADER: &str = "pipelock-ed25519-public-v1";
/// First line of a private key text.
pub const PRIVATE_HEADER: &str = "pipelock-ed25519-private-v1";
/// Permission bits that the file of a private key must not have: write and execute for the group, and all for others.
/// 0600 and 0640 are allowed.
pub const FORBIDDEN_MODE: u32 = 0o037;
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// The reason why a key cannot be read, generated, or written. No variant holds key material.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot {action} key file {}", path.display())]
    Io {
        /// The operation that failed: `read`, `write`, or `inspect`.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Other users can read or write the private key.
    #[error(
        "other users can access private key {} (mode {mode:04o}); run chmod 600 {}",
        path.display(),
        path.display()
    )]
    Mode {
        /// Path of the file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The text is not a key.
    #[error("not an Ed25519 key: {0}")]
    Format(&'static str),
    /// The content of the file is not a private key.
    #[error("{} is not an Ed25519 private key: {problem}", path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the content.
        problem: &'static str,
    },
    /// The file exists and must not be replaced.
    #[error("{} already exists", path.display())]
    Exists {
        /// Path of the file.
        path: PathBuf,
    },
    /// The operating system returned no random bytes.
    #[error("cannot read random bytes from the operating system: {0}")]
    Random(getrandom::Error),
}

/// Generates a random key.
///
/// # Errors
/// Fails if the operating system returns no random bytes.
pub fn generate() -> Result<SigningKey, KeyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyError::Random)?;
    let key = SigningKey::from_bytes(&seed);
    wipe(&mut seed);
    Ok(key)
}

/// Derives a key from a seed of 64 hex digits.
///
/// # Errors
/// Fails if the text is not 64 hex digits.
pub fn signing_key_from_seed_hex(text: &str) -> Result<SigningKey, KeyError> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text, &mut seed)
        .map_err(|_| KeyError::Format("the seed is not 64 hex digits"))?;
    let key = SigningKey::from_bytes(&seed);
    wipe(&mut seed);
    Ok(key)
}

/// Reads the private key file `path`.
///
/// # Errors
/// Fails if the file cannot be read, if it holds no private key, or if other users can access a file that does not hold a
/// public key.
pub fn load_private(path: &Path) -> Result<SigningKey, KeyError> {
    let io = |source| KeyError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = egress_files::open(path).map_err(io)?;
    let shared = refuse_shared(&file, path);
    let mut text = Vec::new();
    file.take(MAX_KEY_BYTES)
        .read_to_end(&mut text)
        .map_err(io)?;
    // Other users may read a public key, so the mode of its file is not the mistake.
    let permitted = if is_public(&text) { Ok(()) } else { shared };
    let key = permitted.and_then(|()| {
        parse_private(&text).map_err(|error| {
            if let KeyError::Format(problem) = error {
                let path = path.to_owned();
                KeyError::Content { path, problem }
            } else {
                error
            }
        })
    });
    wipe(&mut text);
    key
}

/// Reads the text of a private key: a header line, then seed and public key in base64.
///
/// # Errors
/// Fails if the text is malformed, or the public key does not belong to the seed.
pub fn parse_private(text: &[u8]) -> Result<SigningKey, KeyError> {
    if is_public(text) {
        return Err(KeyError::Format(
            "this is a public key; use the private key, whose path has no .pub",
        ));
    }
    let mut bytes = decode(text, PRIVATE_HEADER)?;
    let pair = <[u8; 64]>::try_from(bytes.as_slice())
        .map_err(|_| KeyError::Format("the seed and the public key are not 64 bytes long together; create a key with egress keygen"));
    wipe(&mut bytes);
    let mut pair = pair?;
    let key = SigningKey::from_keypair_bytes(&pair)
        .map_err(|_| KeyError::Format("the public key does not belong to the seed"));
    wipe(&mut pair);
    key
}

/// Whether this is the text of a public key file.
fn is_public(text: &[u8]) -> bool {
    text.trim_ascii_start()
        .starts_with(PUBLIC_HEADER.as_bytes())
}

/// Returns the text of a private key file.
pub fn private_text(key: &SigningKey) -> String {
    let mut pair = key.to_keypair_bytes();
    let text = format!("{PRIVATE_HEADER}\n{}\n", STANDARD.encode(pair));
    wipe(&mut pair);
    text
}

/// Returns the text of a public key file.
pub fn public_text(key: &VerifyingKey) -> String {
    format!("{PUBLIC_HEADER}\n{}\n", STANDARD.encode(key.to_bytes()))
}

/// Reads a public key from 64 hex digits or from the text of a public key file.
///
/// # Errors
/// Fails if the text has neither form, or is not a point that [`VerifyingKey::verify_strict`]
/// accepts.
pub fn parse_public(text: &str) -> Result<VerifyingKey, KeyError> {
    let text = text.trim();
    if text.starts_with(PRIVATE_HEADER) {
        return Err(KeyError::Format(
            "this is a private key; use the public key, which `egress keygen` wrote to the same path with .pub",
        ));
    }
    let bytes = if text.starts_with(PUBLIC_HEADER) {
        decode(text.as_bytes(), PUBLIC_HEADER)?
    } else {
        hex::decode(text).map_err(|_| {
            KeyError::Format("expected 64 hex digits or the text of a public key file")
        })?
    };
    public_from_bytes(&bytes)
}

/// Reads a public key from an argument of the command line: 64 hex digits, the text of a public key file, or the path
/// of a file that contains either.
///
/// # Errors
/// Fails if the argument has none of these forms.
pub fn public_from_argument(argument: &str) -> Result<VerifyingKey, KeyError> {
    let literal = argument.trim();
    if literal.starts_with(PUBLIC_HEADER)
        || literal.starts_with(PRIVATE_HEADER)
        || (literal.len() == 64 && literal.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return parse_public(literal);
    }
    let path = Path::new(argument);
    let io = |source| KeyError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    egress_files::open(path)
        .map_err(io)?
        .take(MAX_KEY_BYTES)
        .read_to_string(&mut text)
        .map_err(io)?;
    parse_public(&text)
}

/// Reads a public key from its 32 bytes. Keys of small order are rejected.
pub(crate) fn public_from_bytes(bytes: &[u8]) -> Result<VerifyingKey, KeyError> {
    let bytes = <[u8; 32]>::try_from(bytes)
        .map_err(|_| KeyError::Format("the public key is not 32 bytes long"))?;
    let key = VerifyingKey::from_bytes(&bytes)
        .map_err(|_| KeyError::Format("the public key is not a point of the curve"))?;
    if key.is_weak() {
        return Err(KeyError::Format(
            "the public key has small order, so it is not secure",
        ));
    }
    Ok(key)
}

/// Whether a new key may replace existing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// An existing file is an error.
    No,
    /// Existing files are replaced.
    Yes,
}

/// Writes `path` (0600) and `path.pub` (0644), each completely or not at all, and returns the path
/// of the public key. The public key is written first, because a private key without a public key
/// is useless.
///
/// # Errors
/// Fails if a file exists and must not be replaced, or if a file cannot be written.
pub fn write_pair(path: &Path, key: &SigningKey, replace: Replace) -> Result<PathBuf, KeyError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let public = PathBuf::from(name);
    if replace == Replace::No {
        for path in [path, &public] {
            if fs::symlink_metadata(path).is_ok() {
                return Err(KeyError::Exists {
                    path: path.to_owned(),
                });
            }
        }
    }
    let text = public_text(&key.verifying_key());
    write_whole(&public, text.as_bytes(), 0o644, replace)?;
    let mut text = private_text(key).into_bytes();
    let written = write_whole(path, &text, 0o600, replace);
    wipe(&mut text);
    written?;
    Ok(public)
}

/// Writes a temporary file in the same directory and moves it to `path`. With [`Replace::No`], the
/// move is a hard link. The link fails if `path` was created meanwhile.
fn write_whole(path: &Path, text: &[u8], mode: u32, replace: Replace) -> Result<(), KeyError> {
    let io = |source| KeyError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut tag = [0; 8];
    getrandom::fill(&mut tag).map_err(KeyError::Random)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", hex::encode(tag)));
    let temporary = PathBuf::from(name);
    let moved = create_private(&temporary, mode)
        .and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        })
        .and_then(|()| match replace {
            Replace::Yes => fs::rename(&temporary, path),
            Replace::No => fs::hard_link(&temporary, path),
        });
    // After a rename, and after some failures, there is no temporary file.
    drop(fs::remove_file(&temporary));
    match moved {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KeyError::Exists {
            path: path.to_owned(),
        }),
        other => other.map_err(io),
    }
}

/// Creates a new file with exactly `mode`.
#[cfg(unix)]
fn create_private(path: &Path, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // The mode is set again, because the umask reduces the mode that `open` sets.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

/// Creates a new file. Only the permissions of the directory protect this file.
#[cfg(not(unix))]
fn create_private(path: &Path, _mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Rejects a private key that other users can access.
#[cfg(unix)]
fn refuse_shared(file: &File, path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| KeyError::Io {
        action: "inspect",
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & FORBIDDEN_MODE == 0 {
        Ok(())
    } else {
        Err(KeyError::Mode {
            path: path.to_owned(),
            mode,
        })
    }
}

/// Accepts any file, because files on this system do not have mode bits.
#[cfg(not(unix))]
fn refuse_shared(_file: &File, _path: &Path) -> Result<(), KeyError> {
    Ok(())
}

/// Decodes the bytes after a header line.
fn decode(text: &[u8], header: &'static str) -> Result<Vec<u8>, KeyError> {
    let text = str::from_utf8(text).map_err(|_| KeyError::Format("the text is not UTF-8"))?;
    let mut lines = text.trim().lines();
    if lines.next().map(str::trim_end) != Some(header) {
        return Err(KeyError::Format("the header line is missing"));
    }
    let body = lines
        .next()
        .ok_or(KeyError::Format("the line with the key is missing"))?;
    if lines.next().is_some() {
        return Err(KeyError::Format("there is text after the key"));
    }
    STANDARD
        .decode(body.trim())
        .map_err(|_| KeyError::Format("the key is not standard base64"))
}

/// Overwrites key material. `black_box` stops the compiler from removing the write.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_pair_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        let key = generate().unwrap();
        let public = write_pair(&path, &key, Replace::No).unwrap();
        assert_eq!(load_private(&path).unwrap().to_bytes(), key.to_bytes());
        for argument in [
            public.to_str().unwrap().to_owned(),
            fs::read_to_string(&public).unwrap(),
            hex::encode_upper(key.verifying_key().to_bytes()),
        ] {
            assert_eq!(
                public_from_argument(&argument).unwrap(),
                key.verifying_key()
            );
        }
        assert!(matches!(
            write_pair(&path, &key, Replace::No),
            Err(KeyError::Exists { .. })
        ));
        write_pair(&path, &generate().unwrap(), Replace::Yes).unwrap();
        assert_ne!(load_private(&path).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn private_key_of_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        write_pair(&path, &generate().unwrap(), Replace::No).unwrap();
        for (mode, accepted) in [
            (0o600, true),
            (0o640, true),
            (0o400, true),
            (0o644, false),
            (0o660, false),
            (0o610, false),
            (0o601, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load_private(&path).is_ok(), accepted, "{mode:o}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn error_names_the_file_and_what_is_wrong_in_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        fs::write(&path, format!("{PRIVATE_HEADER}\nAAAA\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_private(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("egress keygen"), "{error}");
        // Everyone may read the public key, so the error does not propose another mode.
        let public = write_pair(&path, &generate().unwrap(), Replace::Yes).unwrap();
        let error = load_private(&public).unwrap_err().to_string();
        assert!(
            error.contains("this is a public key; use the private key"),
            "{error}"
        );
        assert!(!error.contains("chmod"), "{error}");
    }

    #[test]
    fn key_texts_of_wrong_form_are_refused() {
        let key = generate().unwrap();
        let good = private_text(&key);
        assert!(parse_private(good.as_bytes()).is_ok());
        let mut swapped = key.to_keypair_bytes();
        swapped[40] ^= 1;
        for bad in [
            String::new(),
            good.replace("private", "public"),
            format!("{good}more\n"),
            format!("{PRIVATE_HEADER}\n"),
            format!("{PRIVATE_HEADER}\n{}\n", STANDARD.encode([0; 32])),
            format!("{PRIVATE_HEADER}\n{}\n", STANDARD.encode(swapped)),
        ] {
            assert!(parse_private(bad.as_bytes()).is_err());
        }
        for bad in ["", "00", &"0".repeat(64), &"zz".repeat(32)] {
            assert!(parse_public(bad).is_err(), "{bad}");
        }
    }
}
