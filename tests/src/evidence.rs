//! Reads the packet of a run, and runs verifiers.
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::command::{Output, Running, program};
use crate::run::{RunOutput, binary};

/// A published verifier that is not part of this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The published verifier that is written in Python.
    Python,
    /// The published verifier that is written in Rust.
    Rust,
}

impl Reference {
    /// Returns the path at which `cargo xtask setup` installed the verifier.
    ///
    /// # Panics
    /// Panics if the variable with the path is not set.
    pub fn path(self) -> PathBuf {
        let variable = match self {
            Self::Python => "EGRESS_REF_VERIFIER_PY",
            Self::Rust => "EGRESS_REF_VERIFIER_RS",
        };
        env::var_os(variable).map_or_else(
            || panic!("{variable} is not set: use cargo xtask test"),
            PathBuf::from,
        )
    }

    /// Verifies a chain with a pinned key.
    ///
    /// # Panics
    /// Panics if the verifier cannot start.
    pub fn chain(self, evidence: &Path, key_hex: &str) -> Output {
        let mut command = program(self.path());
        match self {
            Self::Python => command.args(["--mode", "chain"]),
            Self::Rust => command.arg("chain"),
        };
        command.arg(evidence).args(["--key", key_hex]);
        finish(&mut command)
    }

    /// Verifies a whole packet with a pinned key. Only the verifier in Rust can do this.
    ///
    /// # Panics
    /// Panics if the verifier cannot start.
    pub fn packet(self, packet: &Path, key_hex: &str) -> Output {
        let mut command = program(self.path());
        command
            .arg("audit-packet")
            .arg(packet)
            .args(["--key", key_hex]);
        finish(&mut command)
    }
}

/// Runs `egress verify` with these arguments outside of any world, as a reviewer would.
///
/// # Panics
/// Panics if `egress verify` cannot start.
pub fn verify(args: &[&std::ffi::OsStr]) -> Output {
    let mut command = program(binary());
    command.arg("verify").args(args);
    finish(&mut command)
}

/// Runs Python with the packages of the second verifier.
///
/// # Panics
/// Panics if the directory of the project's tools is not known, or Python cannot start.
pub fn python(args: &[&str]) -> Output {
    finish(program(interpreter()).arg("-B").args(args))
}

fn interpreter() -> PathBuf {
    let tools = env::var_os("EGRESS_TOOLS").expect("EGRESS_TOOLS is not set: use cargo xtask test");
    PathBuf::from(tools).join("venv/bin/python")
}

/// Runs the second verifier once on all of these packets, with these public keys pinned.
///
/// # Panics
/// Panics if the directory of the project's tools is not known, or the verifier cannot start.
pub fn second_verifier(key_hex: &str, boundary_key_hex: &str, packets: &[&Path]) -> Output {
    let mut command = program(interpreter());
    command
        .arg("-B")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/second_verifier/verify.py"
        ))
        .args(["--key", key_hex, "--boundary-key", boundary_key_hex])
        .args(packets);
    finish_within(&mut command, Duration::from_mins(30))
}

fn finish(command: &mut std::process::Command) -> Output {
    finish_within(command, Duration::from_mins(1))
}

fn finish_within(command: &mut std::process::Command, limit: Duration) -> Output {
    Running::start(command)
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
        .finish(limit)
}

/// Returns the public half of a key of `egress keygen` as 64 hexadecimal digits.
///
/// # Panics
/// Panics if the file is malformed.
pub fn public_key_hex(key: &Path) -> String {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    let text = fs::read_to_string(&public).expect("read the public key");
    // The first line names the format. The second line is the key in base64.
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let key = BASE64_STANDARD.decode(line.expect("a key in the file"));
    hex::encode(key.expect("a key in base64"))
}

/// Signs a posture capsule with a key of `egress keygen`. `openssl` creates the signature, so no code of the project is
/// involved.
///
/// # Panics
/// Panics if the key cannot be read or `openssl` cannot sign with it.
pub fn sign_capsule(capsule: &mut Value, key: &Path) {
    // The DER form of a private key (RFC 8410) consists of these bytes and the seed.
    const PKCS8_OF_ED25519: &str = "302e020100300506032b657004220420";
    let members = capsule.as_object_mut().expect("an object");
    members.remove("signature");
    members.remove("signer_key_id");
    let text = fs::read_to_string(key).expect("read the private key");
    let pair = BASE64_STANDARD.decode(text.lines().nth(1).expect("a key in the file"));
    let mut der = hex::decode(PKCS8_OF_ED25519).expect("hexadecimal digits");
    der.extend(pair.expect("a key in base64").into_iter().take(32));
    let [key_file, message, signature] =
        ["der", "message", "signature"].map(|name| key.with_extension(name));
    fs::write(&key_file, der).expect("write the key");
    fs::write(&message, capsule.to_string()).expect("write the capsule");
    let mut command = program(PathBuf::from("/usr/bin/openssl"));
    command
        .args(["pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey"])
        .arg(&key_file)
        .arg("-in")
        .arg(&message)
        .arg("-out")
        .arg(&signature);
    let signed = finish(&mut command);
    assert!(signed.success(), "{signed}");
    let signature = fs::read(&signature).expect("read the signature");
    capsule["signature"] = hex::encode(signature).into();
    capsule["signer_key_id"] = public_key_hex(key).into();
}

impl RunOutput {
    /// Reads a JSON file of the packet.
    ///
    /// # Panics
    /// Panics if the file does not exist or is not JSON.
    pub fn json(&self, name: &str) -> Value {
        let path = self.packet.join(name);
        let bytes = fs::read(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}\n{self}", path.display()));
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{} is not JSON: {error}", path.display()))
    }

    /// Reads the lines of a JSONL file of the packet.
    ///
    /// # Panics
    /// Panics if the file does not exist or a line is not JSON.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        let path = self.packet.join(name);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}\n{self}", path.display()));
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }
}
