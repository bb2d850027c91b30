//! Options of `egress run` for single variables of the command's environment.
use std::ffi::OsString;

use anyhow::ensure;

use super::heading::ENVIRONMENT;
use crate::run::environment::is_set_by_run;
use crate::run::plan::Exceptions;

/// Exceptions from the rules for environment variables.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Variables {
    /// Pass this variable to the command even if the rules would remove it; repeatable
    #[arg(long = "env-pass", value_name = "NAME", help_heading = ENVIRONMENT)]
    pass: Vec<String>,
    /// Do not pass this variable to the command; repeatable
    #[arg(long = "env-drop", value_name = "NAME", help_heading = ENVIRONMENT)]
    drop: Vec<String>,
}

impl Variables {
    /// Checks the names and returns the exceptions.
    ///
    /// # Errors
    /// Fails if a name is empty, contains `=`, is set by egress, or is given to both options.
    pub(super) fn checked(self) -> anyhow::Result<Exceptions> {
        let Self { pass, drop } = self;
        for name in pass.iter().chain(&drop) {
            ensure!(
                !name.is_empty() && !name.contains('='),
                "{name:?} is not a variable name; --env-pass and --env-drop take a name without a value"
            );
            ensure!(
                !is_set_by_run(name),
                "egress sets variable {name} itself; leave it out of --env-pass and --env-drop"
            );
        }
        let both = pass.iter().find(|name| drop.contains(name));
        if let Some(name) = both {
            anyhow::bail!(
                "variable {name} is given to both --env-pass and --env-drop; leave one out"
            );
        }
        Ok(Exceptions { pass, drop })
    }
}

/// Variables that name a proxy of the host.
const PROXIES: [&str; 6] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
];

/// Returns the warning that the run does not use a proxy, if the caller's environment names one. The value is not
/// shown, because it may hold a password.
pub(super) fn ignored_proxies(environment: &[(OsString, OsString)]) -> Option<String> {
    let named = environment.iter().filter(|(_, value)| !value.is_empty());
    let names = named.filter_map(|(name, _)| name.to_str());
    let names: Vec<&str> = names.filter(|name| PROXIES.contains(name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "the mediator does not use the proxy of the caller ({}); it connects to destinations directly, and inside the boundary the variables name the boundary's own proxy",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_the_host_is_named_without_its_value() {
        let of = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let environment = [
            of("HTTPS_PROXY", "http://user:secret@proxy.test:3128"),
            of("http_proxy", ""),
            of("NO_PROXY", "*"),
        ];
        let warning = ignored_proxies(&environment).unwrap();
        assert!(warning.contains("(HTTPS_PROXY)"), "{warning}");
        assert!(!warning.contains("secret"), "{warning}");
        assert_eq!(ignored_proxies(&environment[1..]), None);
    }
}
