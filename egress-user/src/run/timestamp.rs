//! Requests a token over the packet's attestation from a time stamp authority, and adds it to the packet.
//!
//! The supervisor sends this request over the host's network, when no process of the command is left. The token itself
//! proves which authority made it, so plain HTTP is allowed, and a TLS server needs only a certificate under the
//! system's roots.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use audit_packet::TIMESTAMP_FILE;
use egress_timestamp::{self as timestamp, MOST_BYTES, Problem, Roots, Stamp};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::packet_dir::PacketDir;

/// Time for the whole exchange, from the lookup of the name to the last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// Length of the nonce, in bytes.
const NONCE: usize = 8;

/// The authority that the caller named.
#[derive(Debug, Clone)]
pub struct Authority {
    /// URL that takes requests.
    pub url: Uri,
    /// Roots that must have issued the authority's certificate. Without roots, every certificate is accepted.
    pub roots: Option<Roots>,
}

/// Why there is no time stamp.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// The request could not be created.
    #[error("cannot create a request: {0}")]
    Request(String),
    /// The authority could not be reached, or did not answer with usable HTTP.
    #[error("{0}")]
    Exchange(#[source] Box<ureq::Error>),
    /// The reply is not valid.
    #[error("{0}")]
    Reply(#[source] Box<Problem>),
    /// The token could not be written.
    #[error("cannot write {TIMESTAMP_FILE}: {0}")]
    Write(#[source] io::Error),
}

impl Authority {
    /// Returns the URL without its query, which may contain a credential.
    pub fn shown(&self) -> String {
        let authority = self
            .url
            .authority()
            .map_or("", |authority| authority.as_str());
        let scheme = self.url.scheme_str().unwrap_or_default();
        format!("{scheme}://{authority}{}", self.url.path())
    }

    /// Adds a token over `attestation` to the packet, which has been written.
    ///
    /// # Errors
    /// Fails if no valid token is received, or the token cannot be written. The packet is then unchanged.
    pub fn stamp(&self, attestation: &[u8], packet: &PacketDir) -> Result<Stamp, TimestampError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| TimestampError::Request(error.to_string()))?;
        let request = timestamp::request(attestation, &nonce).map_err(TimestampError::Request)?;
        let reply = self
            .exchange(&request)
            .map_err(|error| TimestampError::Exchange(Box::new(error)))?;
        let stamp = timestamp::check(&reply, attestation, Some(&nonce), self.roots.as_ref())
            .map_err(|problem| TimestampError::Reply(Box::new(problem)))?;
        packet
            .add(TIMESTAMP_FILE, &reply)
            .map_err(TimestampError::Write)?;
        Ok(stamp)
    }

    /// Sends one request and returns its reply, of at most [`MOST_BYTES`] bytes, within [`WITHIN`]. Redirects and
    /// proxies are not used.
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, ureq::Error> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(WITHIN))
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("egress/", env!("CARGO_PKG_VERSION")));
        if self.url.scheme_str() == Some("https") {
            config = config.tls_config(tls());
        }
        let mut response = ureq::Agent::new_with_config(config.build())
            .post(&self.url)
            .content_type("application/timestamp-query")
            .send(request)?;
        response
            .body_mut()
            .with_config()
            .limit(MOST_BYTES)
            .read_to_vec()
    }
}

fn tls() -> TlsConfig {
    // An unreadable file among the system's roots means fewer roots, so fewer servers are trusted.
    let system = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<Certificate<'static>> = system
        .iter()
        .map(|root| Certificate::from_der(root).to_owned())
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}
