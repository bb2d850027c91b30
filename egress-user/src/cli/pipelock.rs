//! The options of `egress run` that concern a real Pipelock, and what is said before it starts.
use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;
use egress_pipelock::binary;
use egress_policy::pipelock::{self, Attempt, PipelockKeys, PipelockPolicy};
use egress_policy::runtime::OwnedKeys;

use super::print;
use crate::run::plan::{Authority, CallerPolicy, PipelockChoice, PlainHttp};

/// Longest file of an authority that is read.
const AUTHORITY_BYTES: u64 = 1 << 20;

/// The words of `--plain-http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum HowPlain {
    /// The mediator fetches, follows redirects and scans: its limits of size and time count.
    Scan,
    /// Through a tunnel for each request: the mediator sees the name and the port alone.
    Tunnel,
}

/// What a policy looks like, for those who have none.
const EXAMPLE: &str = "--mediator pipelock needs --config FILE; write into it, for a start:\n\
                       version: 1\n\
                       mode: strict\n\
                       api_allowlist: [api.example.com, \"*.example.org\"]";

/// The options.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// With --mediator pipelock, the program; without it the first `pipelock` on PATH
    #[arg(long, value_name = "FILE")]
    pipelock_bin: Option<PathBuf>,
    /// With --mediator pipelock, roots (PEM) that it trusts for TLS of its own, instead of the system's
    #[arg(long, value_name = "FILE")]
    pipelock_ca: Option<PathBuf>,
    /// With --mediator pipelock, whether it fetches and scans plain HTTP or gives a tunnel for each request
    #[arg(long, value_enum, value_name = "HOW", default_value_t = HowPlain::Scan)]
    plain_http: HowPlain,
    /// With --mediator pipelock, refuse a policy that enforces less than its list or opens more ways out
    #[arg(long)]
    require_strict: bool,
    /// With --mediator pipelock, run without --config: mode balanced, no list is enforced
    #[arg(long, conflicts_with_all = ["require_strict", "config"])]
    allow_no_config: bool,
}

impl Options {
    /// The built-in mediator has no use for any of them; it is strict anyway.
    pub(super) fn refuse(&self) -> anyhow::Result<()> {
        let given = [
            ("--pipelock-bin", self.pipelock_bin.is_some()),
            ("--pipelock-ca", self.pipelock_ca.is_some()),
            ("--allow-no-config", self.allow_no_config),
            ("--plain-http tunnel", self.plain_http == HowPlain::Tunnel),
        ];
        for (option, is_given) in given {
            ensure!(!is_given, "{option} needs --mediator pipelock");
        }
        Ok(())
    }

    /// Finds the program and looks at the policy.
    pub(super) fn choose(&self, policy: &CallerPolicy) -> anyhow::Result<PipelockChoice> {
        ensure!(policy.text.is_some() || self.allow_no_config, "{EXAMPLE}");
        let shown = policy
            .path
            .as_deref()
            .map(|path| path.display().to_string());
        let looked = look_at(policy)
            .with_context(|| format!("policy {} cannot be used", shown.unwrap_or_default()))?;
        if self.require_strict && !looked.notices.is_empty() {
            let named: Vec<String> = looked.notices.iter().map(ToString::to_string).collect();
            bail!("--require-strict: {}", named.join("; "));
        }
        let binary = match &self.pipelock_bin {
            Some(path) => {
                ensure!(path.is_file(), "--pipelock-bin {}: no such file", path.display());
                path.clone()
            }
            None => binary::on_path(std::env::var_os("PATH").as_deref()).context(
                "there is no `pipelock` on PATH: install Pipelock, name it with --pipelock-bin FILE, \
                 or use --mediator builtin",
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
                HowPlain::Scan => PlainHttp::Scan,
                HowPlain::Tunnel => PlainHttp::Tunnel,
            },
            authority: authority(policy)?,
        })
    }
}

/// Files of its own that a run with this Pipelock rests on, as they were named.
pub(super) fn files(policy: &CallerPolicy, choice: &PipelockChoice) -> Vec<PathBuf> {
    let named = policy.text.as_deref().map(pipelock::interception);
    let authority = named.and_then(Result::ok).flatten();
    let authority = authority.into_iter().flat_map(|(one, other)| [one, other]);
    [Some(choice.binary.clone()), choice.roots.clone()]
        .into_iter()
        .flatten()
        .chain(authority.map(PathBuf::from))
        .collect()
}

/// The authority that the policy has TLS intercepted with. Pipelock gets copies: it runs as a user of
/// its own, and the command must not see the key.
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

/// Names what the caller's own keys do, before the start.
pub(super) fn tell(policy: &CallerPolicy) {
    if policy.text.is_none() {
        print::warning("no --config: mode balanced, every name that is not blocked may be reached");
    } else if let Ok(looked) = look_at(policy) {
        for notice in looked.notices {
            print::warning(&notice.to_string());
        }
    }
}

/// The policy as it would be with other ports.
fn look_at(policy: &CallerPolicy) -> anyhow::Result<PipelockPolicy> {
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
