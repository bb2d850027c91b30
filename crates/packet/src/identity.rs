//! `identity.json`: the run of a packet in the words of the CI system, and the values that the
//! caller bound to the run.
//!
//! The SHA-256 of the file is in the attestation and in the posture capsule. The mediator signs the hash of the capsule
//! before the command starts. The caller supplies the values, so a verifier can judge them only if it receives the
//! expected values.
use std::collections::BTreeMap;

use pipelock_receipts::json::read_document;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The schema of the document.
pub const SCHEMA: &str = "egress.identity.v0";
/// The shortest nonce of a verifier, bytes.
pub const SHORTEST_NONCE: usize = 8;

/// The run of a packet. A member that the CI system does not provide is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `egress.identity.v0`.
    pub schema_version: String,
    /// The CI system: `github_actions`, `gitlab`, `buildkite`, `jenkins`, `circleci`, `azure_pipelines`, `ci` for any
    /// other, or `local` for none.
    pub provider: String,
    /// `owner/name`, or the URL of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Git commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Git ref or branch.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Workflow or pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Job of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The provider's identifier of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The provider's attempt counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<String>,
    /// Name of the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Image of the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_image: Option<String>,
    /// Values that the caller bound with `--bind`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bind: BTreeMap<String, String>,
    /// The nonce of a verifier, lowercase hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// A CI system, the variable by which it is recognized, and its variables about the run.
struct System {
    provider: &'static str,
    /// The variable and its value. If the value is empty, any value matches.
    mark: (&'static str, &'static str),
    /// Repository, commit, ref, workflow, job, run id, attempt, runner, image.
    variables: [&'static [&'static str]; 9],
}

/// The known CI systems. The names come from the reference pages of these systems.
const SYSTEMS: [System; 6] = [
    System {
        provider: "github_actions",
        mark: ("GITHUB_ACTIONS", "true"),
        variables: [
            &["GITHUB_REPOSITORY"],
            &["GITHUB_SHA"],
            &["GITHUB_REF"],
            &["GITHUB_WORKFLOW"],
            &["GITHUB_JOB"],
            &["GITHUB_RUN_ID"],
            &["GITHUB_RUN_ATTEMPT"],
            &["RUNNER_NAME"],
            &["ImageOS", "ImageVersion"],
        ],
    },
    System {
        provider: "gitlab",
        mark: ("GITLAB_CI", "true"),
        variables: [
            &["CI_PROJECT_PATH"],
            &["CI_COMMIT_SHA"],
            &["CI_COMMIT_REF_NAME"],
            &["CI_PIPELINE_SOURCE"],
            &["CI_JOB_NAME"],
            &["CI_PIPELINE_ID"],
            &["CI_JOB_ID"],
            &["CI_RUNNER_DESCRIPTION"],
            &["CI_JOB_IMAGE"],
        ],
    },
    System {
        provider: "buildkite",
        mark: ("BUILDKITE", "true"),
        variables: [
            &["BUILDKITE_REPO"],
            &["BUILDKITE_COMMIT"],
            &["BUILDKITE_BRANCH"],
            &["BUILDKITE_PIPELINE_SLUG"],
            &["BUILDKITE_STEP_KEY"],
            &["BUILDKITE_BUILD_ID"],
            &["BUILDKITE_RETRY_COUNT"],
            &["BUILDKITE_AGENT_NAME"],
            &[],
        ],
    },
    System {
        provider: "jenkins",
        mark: ("JENKINS_URL", ""),
        variables: [
            &["GIT_URL"],
            &["GIT_COMMIT"],
            &["GIT_BRANCH"],
            &["JOB_NAME"],
            &["STAGE_NAME"],
            &["BUILD_ID"],
            &[],
            &["NODE_NAME"],
            &[],
        ],
    },
    System {
        provider: "circleci",
        mark: ("CIRCLECI", "true"),
        variables: [
            &["CIRCLE_REPOSITORY_URL"],
            &["CIRCLE_SHA1"],
            &["CIRCLE_BRANCH"],
            &["CIRCLE_WORKFLOW_ID"],
            &["CIRCLE_JOB"],
            &["CIRCLE_BUILD_NUM"],
            &[],
            &[],
            &[],
        ],
    },
    System {
        provider: "azure_pipelines",
        mark: ("TF_BUILD", "True"),
        variables: [
            &["BUILD_REPOSITORY_NAME"],
            &["BUILD_SOURCEVERSION"],
            &["BUILD_SOURCEBRANCH"],
            &["BUILD_DEFINITIONNAME"],
            &["SYSTEM_JOBNAME"],
            &["BUILD_BUILDID"],
            &["SYSTEM_JOBATTEMPT"],
            &["AGENT_NAME"],
            &["ImageOS", "ImageVersion"],
        ],
    },
];

impl Identity {
    /// Reads the identity from the environment of a run. `variable` returns a variable if it is set and not empty.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_it = |system: &&System| {
            let (name, value) = system.mark;
            variable(name).is_some_and(|found| value.is_empty() || found == value)
        };
        let mut identity = Self {
            schema_version: String::from(SCHEMA),
            ..Self::default()
        };
        let Some(system) = SYSTEMS.iter().find(is_it) else {
            let is_ci = variable("CI").is_some();
            identity.provider = String::from(if is_ci { "ci" } else { "local" });
            return identity;
        };
        identity.provider = String::from(system.provider);
        let values = system.variables.map(|names| {
            let parts: Vec<String> = names.iter().filter_map(|name| variable(name)).collect();
            (!parts.is_empty()).then(|| parts.join(" "))
        });
        let [
            repository,
            commit,
            git_ref,
            workflow,
            job,
            run_id,
            run_attempt,
            runner,
            image,
        ] = values;
        Self {
            repository,
            commit,
            git_ref,
            workflow,
            job,
            run_id,
            run_attempt,
            runner,
            runner_image: image,
            ..identity
        }
    }

    /// Returns the text of the file.
    ///
    /// # Errors
    /// Returns no error in practice, because every value has a JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Parses the content of `identity.json`.
    ///
    /// # Errors
    /// Returns a description of the first deviation.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let identity: Self = read_document(bytes)?;
        if identity.schema_version == SCHEMA {
            Ok(identity)
        } else {
            Err(format!("schema_version {}", identity.schema_version))
        }
    }

    /// Returns the value of the member or bound name `name`, if it has one.
    pub fn value(&self, name: &str) -> Option<&str> {
        let member = self
            .members()
            .into_iter()
            .find(|(member, _)| *member == name);
        member.map_or_else(
            || self.bind.get(name).map(String::as_str),
            |(_, value)| value,
        )
    }

    /// Returns the names that `egress verify --expect` accepts, with their values.
    fn members(&self) -> [(&'static str, Option<&str>); 11] {
        [
            ("provider", Some(&self.provider)),
            ("repository", self.repository.as_deref()),
            ("commit", self.commit.as_deref()),
            ("sha", self.commit.as_deref()),
            ("ref", self.git_ref.as_deref()),
            ("workflow", self.workflow.as_deref()),
            ("job", self.job.as_deref()),
            ("run_id", self.run_id.as_deref()),
            ("run_attempt", self.run_attempt.as_deref()),
            ("runner", self.runner.as_deref()),
            ("runner_image", self.runner_image.as_deref()),
        ]
    }
}

/// Returns the digest for the capsule and the attestation, lowercase hex.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Reads the argument `KEY=VALUE` of `--bind`. The key must not be the name of a member, because
/// `--expect` compares a member with the value from the CI system.
///
/// # Errors
/// Returns the reason why the text is not valid.
pub fn bound_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = pair(text)?;
    if Identity::default()
        .members()
        .iter()
        .any(|(member, _)| *member == key)
    {
        return Err(format!(
            "the value of `{key}` comes from the CI system only; use another key"
        ));
    }
    Ok((key, value))
}

/// Reads the argument `KEY=VALUE` of `--expect`.
///
/// # Errors
/// Returns the reason why the text is not valid.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if key.is_empty() || !key.chars().all(is_word) {
        return Err(String::from(
            "the key must consist of letters, digits, `_`, `-`, and `.`",
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a nonce of at least [`SHORTEST_NONCE`] bytes in hex.
///
/// # Errors
/// Returns the reason why the text is not valid.
pub fn nonce(text: &str) -> Result<String, String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    if bytes.len() < SHORTEST_NONCE {
        return Err(format!(
            "the value has fewer than {} hex digits",
            SHORTEST_NONCE.saturating_mul(2)
        ));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Identity {
        Identity::of(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_system_names_its_run() {
        for system in &SYSTEMS {
            let mut variables = vec![(
                system.mark.0,
                if system.mark.1.is_empty() {
                    "x"
                } else {
                    system.mark.1
                },
            )];
            variables.extend(
                system
                    .variables
                    .iter()
                    .flat_map(|names| names.iter().map(|name| (*name, "v"))),
            );
            let identity = of(&variables);
            assert_eq!(identity.provider, system.provider);
            for name in ["repository", "commit", "ref", "workflow", "job", "run_id"] {
                assert_eq!(
                    identity.value(name),
                    Some("v"),
                    "{} {name}",
                    system.provider
                );
            }
            assert_eq!(
                Identity::read(&identity.to_bytes().unwrap()).unwrap(),
                identity
            );
        }
        assert_eq!(of(&[("CI", "1")]).provider, "ci");
        assert_eq!(of(&[("GITHUB_ACTIONS", "false")]).provider, "local");
    }

    /// Each example preserves every variable that the identity is read from, and its verification
    /// expects the run.
    #[test]
    fn examples_preserve_the_variables_of_their_system_and_expect_the_run() {
        for (provider, path) in [
            ("gitlab", "gitlab/gitlab-ci.yml"),
            ("buildkite", "buildkite/pipeline.yml"),
            ("jenkins", "jenkins/Jenkinsfile"),
            ("github_actions", "github/attest.yml"),
        ] {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
            let text = std::fs::read_to_string(format!("{root}/{path}")).unwrap();
            let (_, rest) = text.split_once("--preserve-env=").unwrap();
            let (list, _) = rest.split_once(char::is_whitespace).unwrap();
            let preserved: Vec<&str> = list.split(',').collect();
            let mut systems = SYSTEMS.iter();
            let system = systems.find(|one| one.provider == provider).unwrap();
            let read = system.variables.iter().copied().flatten();
            for name in read.chain([&"CI", &system.mark.0]) {
                assert!(preserved.contains(name), "{path}: {name} is not preserved");
            }
            // The job of the GitHub example does not verify the packet, because the action of this project verifies it.
            if provider == "github_actions" {
                continue;
            }
            let (_, verification) = text.split_once("egress verify ").unwrap();
            let [[repository], [commit], _, _, _, [run], ..] = system.variables else {
                panic!("{provider}");
            };
            for (key, name) in [
                ("repository", repository),
                ("commit", commit),
                ("run_id", run),
            ] {
                let shell = verification.replace("$$", "$");
                let expected = format!("--expect \"{key}=${name}\"");
                assert!(shell.contains(&expected), "{path}: no {expected}");
            }
        }
    }

    #[test]
    fn pairs_and_nonces_are_checked() {
        assert_eq!(
            pair("a=b=c").unwrap(),
            (String::from("a"), String::from("b=c"))
        );
        for text in ["", "a", "=b", "a b=c", "a\n=c"] {
            assert!(pair(text).is_err(), "{text:?}");
        }
        assert!(bound_pair("build=17").is_ok() && bound_pair("build").is_err());
        for key in ["repository", "commit", "sha", "ref", "run_id", "provider"] {
            let reason = bound_pair(&format!("{key}=x")).unwrap_err();
            assert!(reason.contains(&format!("`{key}`")), "{reason}");
            assert!(pair(&format!("{key}=x")).is_ok(), "{key}");
        }
        assert_eq!(nonce("00112233445566FF").unwrap(), "00112233445566ff");
        for text in ["", "0011", "zz112233445566ff", "00112233445566f"] {
            assert!(nonce(text).is_err(), "{text:?}");
        }
    }
}
