//! Asks a time stamp authority for a token over the packet's attestation, and adds it to the packet.
//!
//! Root sends this request with the host's network, when no process of the command is left. The token shows who made it,
//! so TLS is checked under the system's roots alone, and plain HTTP does as well.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use audit_packet::TIMESTAMP_FILE;
use audit_packet::timestamp::{self, MOST_BYTES, Problem, Roots, Stamp};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::packet_dir::PacketDir;

/// How long everything may take, from the look-up of the name to the last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of the nonce: what every authority takes.
const NONCE: usize = 8;

/// The authority that the caller named.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Where it takes requests.
    pub url: Uri,
    /// Who must vouch for its certificate; without any, everybody may.
    pub roots: Option<Roots>,
}

/// Why there is no time stamp.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// The request could not be made.
    #[error("no request could be made: {0}")]
    Request(String),
    /// The authority was not reached, or gave no answer of HTTP that can be used.
    #[error("{0}")]
    Exchange(#[source] Box<ureq::Error>),
    /// The reply does not hold.
    #[error("{0}")]
    Reply(#[source] Box<Problem>),
    /// The token could not be written.
    #[error("cannot write {TIMESTAMP_FILE}: {0}")]
    Write(#[source] io::Error),
}

impl Authority {
    /// The URL without its query, which may hold a credential.
    pub fn shown(&self) -> String {
        let authority = self
            .url
            .authority()
            .map_or("", |authority| authority.as_str());
        let scheme = self.url.scheme_str().unwrap_or_default();
        format!("{scheme}://{authority}{}", self.url.path())
    }

    /// Adds a token over `attestation` to the packet that was written with it.
    ///
    /// # Errors
    /// When there is none, or none that holds; the packet is then as it was.
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

    /// One request and its reply: no redirect, no proxy, at most [`MOST_BYTES`], and all of it [`WITHIN`] its time.
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
    // A file among the system's roots that cannot be read leaves fewer roots, and so fewer servers that are trusted.
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
