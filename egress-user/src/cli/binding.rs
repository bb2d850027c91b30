//! What `egress run` binds to a packet: which run it is of, by the environment and by the caller's own words, and when it
//! was, by an authority's.
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::ensure;
use audit_packet::identity::{self, Identity};
use ureq::http::Uri;

use super::authorities;
use crate::run::plan::TimestampAuthority;

/// What the caller binds beside what the CI system says.
#[derive(Debug, clap::Args)]
pub(super) struct Binding {
    /// Bind this to the packet, so that `egress verify --expect KEY=VALUE` can ask for it; repeatable
    #[arg(long = "bind", value_name = "KEY=VALUE", value_parser = identity::pair)]
    binds: Vec<(String, String)>,
    /// Nonce of the verifier, at least 16 hex digits, which `egress verify --nonce` asks for
    #[arg(long, value_name = "HEX", value_parser = identity::nonce)]
    nonce: Option<String>,
    /// Have this authority stamp the packet with the time (RFC 3161); exit with 123 if it does not, with the packet kept
    #[arg(long, value_name = "URL", value_parser = url)]
    timestamp_url: Option<Uri>,
    /// Accept a time stamp only from an authority of this PEM file, which holds its root or its own certificate;
    /// repeatable. `egress verify --timestamp-ca` wants the same file
    #[arg(long = "timestamp-ca", value_name = "FILE", requires = "timestamp_url")]
    timestamp_ca: Vec<PathBuf>,
}

impl Binding {
    /// `identity.json` of a run with this environment.
    ///
    /// # Errors
    /// When a key is bound twice, or is one that the CI system gives a value.
    pub(super) fn identity(self, environment: &[(OsString, OsString)]) -> anyhow::Result<Vec<u8>> {
        let variable = |wanted: &str| {
            let found = environment.iter().find(|(name, _)| name == wanted);
            found
                .and_then(|(_, value)| value.to_str())
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let mut identity = Identity::of(variable);
        for (key, value) in self.binds {
            ensure!(
                identity.value(&key).is_none(),
                "--bind {key} is given twice, or names what the CI system says"
            );
            identity.bind.insert(key, value);
        }
        identity.nonce = self.nonce;
        Ok(identity.to_bytes()?)
    }

    /// Who stamps the packet, if anybody.
    ///
    /// # Errors
    /// When a certificate file cannot be read.
    pub(super) fn timestamp(&self) -> anyhow::Result<Option<TimestampAuthority>> {
        let Some(url) = self.timestamp_url.clone() else {
            return Ok(None);
        };
        let roots = authorities::read(&self.timestamp_ca)?;
        Ok(Some(TimestampAuthority { url, roots }))
    }

    /// Files that decide by what the next run is judged.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.timestamp_ca
    }
}

/// Reads the URL of an authority.
///
/// # Errors
/// What is wrong with it.
fn url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    match url.scheme_str() {
        Some("http" | "https") if authority.contains('@') => {
            Err(String::from("credentials in a URL are not supported"))
        }
        Some("http" | "https") if !authority.is_empty() => Ok(url),
        _ => Err(String::from("give a URL with http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_have_a_scheme_and_a_host() {
        for text in [
            "http://tsa.test",
            "https://tsa.test:8443/tsr?a=b",
            "http://[::1]:80/",
        ] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "tsa.test",
            "/tsr",
            "ftp://tsa.test/",
            "http://a:b@tsa.test/",
            "http://",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
