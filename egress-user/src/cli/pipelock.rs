//! Options of `egress run` for a real Pipelock, and the warnings that are printed before it starts.
use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use egress_pipelock::binary;
use egress_policy::pipelock::{self, Attempt, PipelockKeys, PipelockPolicy};
use egress_policy::runtime::OwnedKeys;

use super::heading::MEDIATOR;
use super::print;
use crate::run::plan::{Authority, CallerPolicy, PipelockChoice, PlainHttp};

/// Size limit of a certificate authority's file.
const AUTHORITY_BYTES: u64 = 1 << 20;

/// Values of `--plain-http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PlainHttpMode {
    /// Pipelock fetches and scans each request and follows redirects. Pipelock's size and time limits apply.
    Scan,
    /// Each request goes through a tunnel. Pipelock sees only the host name and the port.
    Tunnel,
}

/// The error when no policy is given, with an example of one.
const EXAMPLE: &str = "--mediator pipelock needs a policy: pass --config FILE, for example with this content:\n\
                       version: 1\n\
                       mode: strict\n\
                       api_allowlist: [api.example.com, \"*.example.org\"]";

/// Options that apply only with `--mediator pipelock`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Pipelock binary [default: the first `pipelock` on PATH]
    #[arg(long, value_name = "FILE", help_heading = MEDIATOR)]
    pipelock_bin: Option<PathBuf>,
    /// Root certificates (PEM) that Pipelock trusts for its own TLS connections [default: the root certificates of the
    /// system]
    #[arg(long, value_name = "FILE", help_heading = MEDIATOR)]
    pipelock_ca: Option<PathBuf>,
    /// How Pipelock handles plain HTTP
    #[arg(long, value_enum, value_name = "HOW", default_value_t = PlainHttpMode::Scan, help_heading = MEDIATOR)]
    plain_http: PlainHttpMode,
    /// With --mediator pipelock, reject a policy that enforces less than its allow-list or permits other ways out
    #[arg(long, help_heading = MEDIATOR)]
    require_strict: bool,
    /// Run Pipelock without --config, in mode balanced, which does not enforce an allow-list
    #[arg(long, conflicts_with_all = ["require_strict", "config"], help_heading = MEDIATOR)]
    allow_no_config: bool,
}

impl Options {
    /// Fails if the caller gives an option that the built-in mediator does not support. `--require-strict` is accepted,
    /// because the built-in mediator always enforces its allow-list.
    pub(super) fn check_unused(&self) -> anyhow::Result<()> {
        let given = [
            ("--pipelock-bin", self.pipelock_bin.is_some()),
            ("--pipelock-ca", self.pipelock_ca.is_some()),
            ("--allow-no-config", self.allow_no_config),
            (
                "--plain-http tunnel",
                self.plain_http == PlainHttpMode::Tunnel,
            ),
        ];
        for (option, is_given) in given {
            ensure!(!is_given, "{option} needs --mediator pipelock");
        }
        Ok(())
    }

    /// Finds the Pipelock binary and checks the policy.
    pub(super) fn choose(&self, policy: &CallerPolicy) -> anyhow::Result<PipelockChoice> {
        ensure!(policy.text.is_some() || self.allow_no_config, "{EXAMPLE}");
        let shown = policy
            .path
            .as_deref()
            .map(|path| path.display().to_string());
        let built = build_policy(policy)
            .with_context(|| format!("policy {} cannot be used", shown.unwrap_or_default()))?;
        if self.require_strict && !built.notices.is_empty() {
            let notices: Vec<String> = built.notices.iter().map(ToString::to_string).collect();
            bail!("--require-strict: {}", notices.join("; "));
        }
        let binary = match &self.pipelock_bin {
            Some(path) => {
                ensure!(path.is_file(), "--pipelock-bin {}: no such file", path.display());
                path.clone()
            }
            None => binary::on_path(std::env::var_os("PATH").as_deref()).context(
                "cannot find `pipelock` on PATH; install Pipelock, pass --pipelock-bin FILE, or use \
                 --mediator builtin",
            )?,
        };
        if let Some(path) = &self.pipelock_ca {
            ensure!(
                path.is_file(),
                "--pipelock-ca {}: no such file",
                path.display()
            );
        }
        Ok(PipelockChoice {
            binary,
            roots: self.pipelock_ca.clone(),
            plain_http: match self.plain_http {
                PlainHttpMode::Scan => PlainHttp::Scan,
                PlainHttpMode::Tunnel => PlainHttp::Tunnel,
            },
            authority: authority(policy)?,
        })
    }
}

/// Returns the files that only a run with Pipelock depends on: the binary, the root certificates, and the files of the
/// certificate authority. Each path is returned as the caller gave it.
pub(super) fn files(policy: &CallerPolicy, choice: &PipelockChoice) -> Vec<PathBuf> {
    let named = policy.text.as_deref().map(pipelock::interception);
    let authority = named.and_then(Result::ok).flatten();
    let authority = authority
        .into_iter()
        .flat_map(|(certificate, key)| [certificate, key]);
    [Some(choice.binary.clone()), choice.roots.clone()]
        .into_iter()
        .flatten()
        .chain(authority.map(PathBuf::from))
        .collect()
}

/// Reads the certificate authority with which the policy intercepts TLS. Pipelock gets copies, because it runs as
/// another user and because the key is hidden from the command.
fn authority(policy: &CallerPolicy) -> anyhow::Result<Option<Authority>> {
    let named = policy.text.as_deref().map(pipelock::interception);
    let Some((certificate, key)) = named.transpose()?.flatten() else {
        return Ok(None);
    };
    let read = |name: &str| {
        let path = std::path::Path::new(name)
            .canonicalize()
            .with_context(|| format!("cannot find {name}, which tls_interception names"))?;
        let text = egress_files::read(&path, AUTHORITY_BYTES)
            .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
            .with_context(|| format!("cannot read {name}, which tls_interception names"))?;
        anyhow::Ok((path, text))
    };
    let (_, certificate) = read(&certificate)?;
    let (key_path, key) = read(&key)?;
    Ok(Some(Authority::new(certificate, key_path, key)))
}

/// Prints a warning for each key of the policy that weakens the boundary.
pub(super) fn warn(policy: &CallerPolicy) {
    if policy.text.is_none() {
        print::warning(
            "no --config is given, so Pipelock runs in mode balanced and allows every destination that its own scans do not deny",
        );
    } else if let Ok(built) = build_policy(policy) {
        for notice in built.notices {
            print::warning(&notice.to_string());
        }
    }
}

/// Builds Pipelock's configuration from the policy with placeholder ports and keys, in order to check the policy.
fn build_policy(policy: &CallerPolicy) -> anyhow::Result<PipelockPolicy> {
    let listen = || String::from("127.0.0.1:1");
    let keys = PipelockKeys {
        common: OwnedKeys {
            listen: listen(),
            agent_identity: "x".into(),
            evidence_dir: "/run/egress/x/evidence".into(),
            signing_key_path: "/run/egress/x/signing.key".into(),
        },
        metrics_listen: listen(),
        kill_switch_listen: listen(),
        kill_switch_token: "x".into(),
        authority: None,
    };
    let text = policy.text.as_deref();
    Ok(pipelock::build(text, &keys, Attempt::Whole)?)
}
