//! Options of `egress run` that bind a packet to one run: the identity from the environment and from the caller, and
//! the time stamp of an authority.
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::ensure;
use audit_packet::identity::{self, Identity};
use ureq::http::Uri;

use super::authorities;
use super::heading::EVIDENCE;
use crate::run::plan::TimestampAuthority;
use crate::variable::variable;

/// Options for the identity of the run, in addition to the identity from the CI system, and for the time stamp.
#[derive(Debug, clap::Args)]
pub(super) struct Binding {
    /// Add this pair to the packet's identity, for `egress verify --expect KEY=VALUE`. KEY must not be a name that the
    /// CI system sets, such as `repository`; repeatable
    #[arg(long = "bind", value_name = "KEY=VALUE", value_parser = identity::bound_pair, help_heading = EVIDENCE)]
    binds: Vec<(String, String)>,
    /// Add a reviewer's nonce to the packet, for `egress verify --nonce`: at least 16 hex digits
    #[arg(long, value_name = "HEX", value_parser = identity::nonce, help_heading = EVIDENCE)]
    nonce: Option<String>,
    /// Request a time stamp (RFC 3161) for the packet from this authority. Without a valid reply, the packet is kept
    /// and the exit status is 123
    #[arg(long, value_name = "URL", value_parser = url, help_heading = EVIDENCE)]
    timestamp_url: Option<Uri>,
    /// PEM file with the time stamp authority's root certificate, or with the certificate of the authority's signer.
    /// Stamps of other authorities are rejected. Give the same file to `egress verify --timestamp-ca`; repeatable
    #[arg(long = "timestamp-ca", value_name = "FILE", requires = "timestamp_url", help_heading = EVIDENCE)]
    timestamp_ca: Vec<PathBuf>,
}

impl Binding {
    /// Returns the bytes of `identity.json` for a run with this environment.
    ///
    /// # Errors
    /// Fails if a key is bound twice.
    pub(super) fn identity(self, environment: &[(OsString, OsString)]) -> anyhow::Result<Vec<u8>> {
        let mut identity = Identity::of(|name: &str| {
            let value = variable(environment, name)?.to_str()?;
            (!value.is_empty()).then(|| value.to_owned())
        });
        for (key, value) in self.binds {
            ensure!(
                identity.value(&key).is_none(),
                "--bind {key}: the key is given twice; use another key"
            );
            identity.bind.insert(key, value);
        }
        identity.nonce = self.nonce;
        Ok(identity.to_bytes()?)
    }

    /// Returns the authority that stamps the packet, if one is given.
    ///
    /// # Errors
    /// Fails if a certificate file cannot be read or contains no certificate.
    pub(super) fn timestamp(&self) -> anyhow::Result<Option<TimestampAuthority>> {
        let Some(url) = self.timestamp_url.clone() else {
            return Ok(None);
        };
        let roots = authorities::read(&self.timestamp_ca)?;
        Ok(Some(TimestampAuthority { url, roots }))
    }

    /// Returns the paths of the certificate files. The command must not change these files, because a later run reads
    /// them.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.timestamp_ca
    }
}

/// Parses the URL of a time stamp authority.
///
/// # Errors
/// Fails if the text is not a URL with the scheme http or https and a host, or contains credentials.
fn url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    match url.scheme_str() {
        Some("http" | "https") if authority.contains('@') => {
            Err(String::from("credentials in the URL are not supported"))
        }
        Some("http" | "https") if !authority.is_empty() => Ok(url),
        _ => Err(String::from("not a URL with http:// or https://")),
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
