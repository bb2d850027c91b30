//! Reads the inputs of the action and checks them before anything starts.
use std::path::PathBuf;

use anyhow::{bail, ensure};

use super::options::{self, Passed};
use super::words::one_of;
use crate::run::plan::Mode;

/// Prefix of the environment variables in which action.yml passes the inputs.
pub(super) const PREFIX: &str = "INPUT_";

/// Largest `timeout` in seconds, as for `egress run`.
const MAX_TIMEOUT: u64 = 604_800;

/// The mediator that judges requests and signs receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediatorKind {
    /// A Pipelock binary.
    Pipelock,
    /// The allow-list mediator inside this binary.
    Builtin,
}

/// The inputs of the run step. Paths are not resolved yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) script: PathBuf,
    pub(super) script_args: Vec<String>,
    pub(super) config: Option<PathBuf>,
    pub(super) identity: String,
    pub(super) pipelock: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) public_key: Option<String>,
    pub(super) packet_dir: PathBuf,
    pub(super) workdir: PathBuf,
    pub(super) fail_on_verifier_error: bool,
    pub(super) debug: bool,
    pub(super) mediator: MediatorKind,
    pub(super) dns: String,
    pub(super) workspace: String,
    pub(super) timeout: Option<u64>,
    pub(super) boundary_key: Option<PathBuf>,
    pub(super) timestamp_url: Option<String>,
    pub(super) timestamp_ca: Vec<PathBuf>,
    pub(super) mode: Mode,
    /// Inputs that `egress run` has options for.
    pub(super) passed: Passed,
}

impl Inputs {
    /// Reads and checks the inputs. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// Fails if an input is invalid or missing. The text names the accepted values.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let get = &|name: &str| variable(&self::variable(name)).unwrap_or_default();
        let given = |name: &str| Some(get(name)).filter(|value| !value.is_empty());
        let path = |name: &str| given(name).map(PathBuf::from);
        let needed = |name: &str| {
            let value = get(name);
            ensure!(!value.is_empty(), "input {name} is empty; it needs a value");
            Ok(value)
        };
        let one_of = |name: &str, accepted: &[&str]| one_of(get, name, accepted);
        let is_true = |name: &str| one_of(name, &["true", "false"]).map(|value| value == "true");

        let mediator = match one_of("mediator", &["pipelock", "builtin"])?.as_str() {
            "builtin" => MediatorKind::Builtin,
            _ => MediatorKind::Pipelock,
        };
        let inputs = Self {
            script: needed("script-path")?.into(),
            script_args: lines(&get("script-args")),
            config: path("config"),
            identity: needed("agent-identity")?,
            pipelock: path("pipelock-bin"),
            private_key: path("signer-private-key-path"),
            public_key: given("signer-public-key"),
            packet_dir: needed("audit-packet-dir")?.into(),
            workdir: needed("working-directory")?.into(),
            fail_on_verifier_error: is_true("fail-on-verifier-error")?,
            debug: is_true("debug")?,
            mediator,
            dns: one_of("dns", &["synthetic", "deny"])?,
            workspace: one_of(
                "workspace",
                &["apply", "copy", "direct", "discard", "read-only"],
            )?,
            timeout: timeout(&get("timeout"))?,
            boundary_key: path("boundary-key-path"),
            timestamp_url: given("timestamp-url"),
            timestamp_ca: paths(&get("timestamp-ca")),
            mode: match given("mode") {
                // An older action.yml does not pass the input.
                None => Mode::Enforce,
                Some(_) => match one_of("mode", &["enforce", "audit"])?.as_str() {
                    "audit" => Mode::Audit,
                    _ => Mode::Enforce,
                },
            },
            passed: options::read(get)?,
        };
        ensure!(
            inputs.public_key.is_none() || inputs.private_key.is_some(),
            "input signer-public-key needs signer-private-key-path; leave signer-public-key out to sign with a \
             key that is created for this run only"
        );
        ensure!(
            inputs.timestamp_ca.is_empty() || inputs.timestamp_url.is_some(),
            "input timestamp-ca needs timestamp-url, which names the authority that stamps the packet"
        );
        Ok(inputs)
    }
}

/// Returns the name of the environment variable that holds an input.
pub(super) fn variable(input: &str) -> String {
    format!("{PREFIX}{}", input.to_uppercase().replace('-', "_"))
}

fn timeout(text: &str) -> anyhow::Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(seconds @ 1..=MAX_TIMEOUT) => Ok(Some(seconds)),
        _ => bail!("input timeout is {text:?}; use 1 to {MAX_TIMEOUT} seconds"),
    }
}

/// Splits a text into paths, one per line.
pub(super) fn paths(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Splits a text into arguments, one per line. The line break at the end of a YAML block does not add an empty
/// argument.
fn lines(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(changes: &[(&str, &str)]) -> Result<Inputs, String> {
        let mut values = BTreeMap::from([
            ("INPUT_SCRIPT_PATH", "ci/agent.sh"),
            ("INPUT_CONFIG", ".pipelock/ci.yaml"),
            ("INPUT_AGENT_IDENTITY", "github-actions-agent"),
            ("INPUT_AUDIT_PACKET_DIR", "pipelock-audit-packet"),
            ("INPUT_WORKING_DIRECTORY", "."),
            ("INPUT_FAIL_ON_VERIFIER_ERROR", "true"),
            ("INPUT_DEBUG", "false"),
            ("INPUT_MEDIATOR", "pipelock"),
            ("INPUT_DNS", "synthetic"),
            ("INPUT_WORKSPACE", "apply"),
            ("INPUT_MODE", "enforce"),
            ("INPUT_NO_HOME_TOOLS", "false"),
            ("INPUT_REQUIRE_STRICT", "false"),
        ]);
        values.extend(changes.iter().copied());
        let found = |name: &str| values.get(name).map(|value| (*value).to_owned());
        Inputs::read(found).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_of_the_action_are_accepted() {
        let inputs = read(&[]).unwrap();
        assert_eq!(inputs.mediator, MediatorKind::Pipelock);
        assert!(inputs.fail_on_verifier_error && !inputs.debug);
        assert_eq!(inputs.script_args, [""; 0]);
        assert_eq!((inputs.timeout, inputs.private_key), (None, None));
    }

    /// Claims: action-inputs
    #[test]
    fn unknown_values_are_refused_with_the_accepted_ones() {
        for (name, value, accepted) in [
            ("INPUT_DEBUG", "True", "true, false"),
            ("INPUT_DEBUG", "", "true, false"),
            ("INPUT_FAIL_ON_VERIFIER_ERROR", "yes", "true, false"),
            ("INPUT_MEDIATOR", "auto", "pipelock, builtin"),
            ("INPUT_DNS", "host", "synthetic, deny"),
            (
                "INPUT_WORKSPACE",
                "rw",
                "apply, copy, direct, discard, read-only",
            ),
            ("INPUT_TIMEOUT", "0", "1 to 604800"),
            ("INPUT_TIMEOUT", "1h", "1 to 604800"),
            ("INPUT_MODE", "open", "enforce, audit"),
            ("INPUT_NO_HOME_TOOLS", "1", "true, false"),
            ("INPUT_ALLOW_PORT", "443\n0", "0 is not in 1..=65535"),
            ("INPUT_PLAIN_HTTP", "fetch", "scan, tunnel"),
            ("INPUT_MAX_MEMORY", "2x", "such as 512M"),
            ("INPUT_MAX_MEMORY", "512MM", "such as 512M"),
            (
                "INPUT_ALLOW_CHANGE",
                "src",
                "the protected names are .buildkite",
            ),
        ] {
            let refused = read(&[(name, value)]).unwrap_err();
            assert!(refused.contains(accepted), "{name}={value}: {refused}");
        }
        assert!(
            read(&[("INPUT_SCRIPT_PATH", "")])
                .unwrap_err()
                .contains("script-path")
        );
    }

    #[test]
    fn a_public_key_needs_the_private_one() {
        let refused = read(&[("INPUT_SIGNER_PUBLIC_KEY", "00")]).unwrap_err();
        assert!(refused.contains("signer-private-key-path"), "{refused}");
    }

    #[test]
    fn an_authority_of_time_stamps_needs_its_url() {
        let refused = read(&[("INPUT_TIMESTAMP_CA", "tsa.pem\n")]).unwrap_err();
        assert!(refused.contains("timestamp-url"), "{refused}");
        let inputs = read(&[
            ("INPUT_TIMESTAMP_CA", " root.pem \n\nsigner.pem\n"),
            ("INPUT_TIMESTAMP_URL", "https://tsa.test/"),
        ]);
        let named = inputs.unwrap().timestamp_ca;
        assert_eq!(named, ["root.pem", "signer.pem"].map(PathBuf::from));
    }

    #[test]
    fn arguments_are_lines() {
        assert_eq!(lines(""), [""; 0]);
        assert_eq!(lines("a b\n$(c)\n"), ["a b", "$(c)"]);
        assert_eq!(lines("a\n\nb"), ["a", "", "b"]);
    }
}
