//! Makes programs in the boundary trust the authority with which a Pipelock intercepts TLS. The certificate of this
//! authority is added to the trust stores in the file view, not on the host.
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use audit_packet::format::boundary::TlsInterception;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress_sandbox::view::PlacedFile;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha1::{Digest as _, Sha1};

use super::digest::sha256;
use super::plan::Plan;

/// File with all trusted authorities, PEM.
pub(super) const BUNDLE: &str = "/etc/ssl/egress-authorities.pem";

/// Size limit of a file that a variable names.
const BUNDLE_BYTES: u64 = 16 << 20;

/// Variables that name a file of authorities, for programs that have their own list of authorities.
pub(super) const VARIABLES: [&str; 14] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// Trust stores of Debian, Red Hat, SUSE, and Alpine.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Trust stores for Java.
const JAVA_STORES: [&str; 3] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
];

/// Trust stores below the directory of a Java installation.
const BELOW_JAVA: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// Directory with several Java installations.
const JAVA_HOMES: &str = "/usr/lib/jvm";

/// Paths of policies for browsers, which do not read a file of authorities. By default, a browser sends a TLS extension
/// that looks like an encrypted hello, and the relay denies such a connection.
const BROWSER_POLICIES: [&str; 4] = [
    "/etc/chromium/policies/managed/egress.json",
    "/etc/opt/chrome/policies/managed/egress.json",
    "/etc/opt/chrome_for_testing/policies/managed/egress.json",
    "/etc/opt/edge/policies/managed/egress.json",
];
/// Firefox has one file for all policies.
const FIREFOX_POLICY: &str = "/etc/firefox/policies/policies.json";

/// Returns policies that disable encrypted hellos. The host's own policy for Firefox is not replaced.
fn browsers(authority: Option<&CertificateDer<'_>>) -> Vec<PlacedFile> {
    let mut policy = serde_json::json!({"EncryptedClientHelloEnabled": false});
    if let (Some(authority), Some(members)) = (authority, policy.as_object_mut()) {
        let roots = serde_json::json!([STANDARD.encode(authority)]);
        members.insert("CACertificates".to_owned(), roots);
    }
    let firefox = serde_json::json!({"policies": {"DisableEncryptedClientHello": true}});
    let firefox = (!Path::new(FIREFOX_POLICY).exists()).then_some((FIREFOX_POLICY, firefox));
    BROWSER_POLICIES
        .map(|path| (path, policy.clone()))
        .into_iter()
        .chain(firefox)
        .map(|(path, policy)| PlacedFile {
            path: PathBuf::from(path),
            content: policy.to_string().into_bytes(),
        })
        .collect()
}

/// Files that are added to the file view. Without interception, only the policies for browsers are added.
#[derive(Debug, Default)]
pub(super) struct Trust {
    pub(super) files: Vec<PlacedFile>,
    pub(super) record: Option<TlsInterception>,
}

impl Trust {
    /// Returns the files for the file view of an enforced run.
    ///
    /// # Errors
    /// Fails if the authority's certificate cannot be parsed, or a trust store of the host cannot be read.
    pub(super) fn of(plan: &Plan) -> io::Result<Self> {
        let authority = plan.mediator.authority();
        let Some(authority) = authority else {
            let files = browsers(None);
            return Ok(Self {
                files,
                record: None,
            });
        };
        let own = CertificateDer::from_pem_slice(authority.certificate.as_bytes())
            .map_err(|error| io::Error::other(format!("cannot parse its certificate: {error}")))?;

        let mut files = Vec::new();
        let mut all = Vec::new();
        let there = BUNDLES
            .iter()
            .filter_map(|path| Path::new(path).canonicalize().ok());
        for path in there.collect::<BTreeSet<_>>() {
            let content = with(fs::read(&path)?, &authority.certificate);
            all.extend_from_slice(&content);
            files.push(PlacedFile { path, content });
        }
        // The files that the caller's variables name are trusted as well.
        for (name, path) in &plan.environment {
            if VARIABLES.iter().any(|variable| name == variable)
                && let Ok(content) = egress_files::read(Path::new(path), BUNDLE_BYTES)
            {
                all.extend(with(content, ""));
            }
        }
        all.extend_from_slice(authority.certificate.as_bytes());
        let mut certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&all)
            .filter_map(Result::ok)
            .collect();
        certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        certificates.dedup();

        let store = java_store(&certificates)?;
        for path in java_stores(plan) {
            let content = store.clone();
            files.push(PlacedFile { path, content });
        }
        files.extend(browsers(Some(&own)));
        files.push(PlacedFile {
            path: PathBuf::from(BUNDLE),
            content: pem(&certificates),
        });
        let record = TlsInterception {
            certificate_sha256: sha256(&own).into(),
            files: files
                .iter()
                .map(|file| file.path.to_string_lossy().into())
                .collect(),
        };
        Ok(Self {
            files,
            record: Some(record),
        })
    }
}

/// Appends a text, which starts on its own line.
fn with(mut text: Vec<u8>, more: &str) -> Vec<u8> {
    text.push(b'\n');
    text.extend_from_slice(more.as_bytes());
    text
}

fn pem(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

/// Returns the paths of the trust stores of the machine's Java installations, without links.
fn java_stores(plan: &Plan) -> BTreeSet<PathBuf> {
    let named = plan
        .environment
        .iter()
        .filter(|(name, _)| name.to_string_lossy().starts_with("JAVA_HOME"))
        .map(|(_, path)| PathBuf::from(path));
    let beside = fs::read_dir(JAVA_HOMES).into_iter().flatten().flatten();
    let homes = named.chain(beside.map(|entry| entry.path()));
    homes
        .flat_map(|home| BELOW_JAVA.map(|below| home.join(below)))
        .chain(JAVA_STORES.map(PathBuf::from))
        .filter_map(|path| path.canonicalize().ok())
        .filter(|path| path.is_file())
        .collect()
}

/// Returns a trust store in Java's own format (JKS), which every Java reads: the entries of the certificates, followed
/// by the SHA-1 digest of the password, a constant, and the entries.
fn java_store(certificates: &[CertificateDer<'_>]) -> io::Result<Vec<u8>> {
    const MAGIC: u32 = 0xfeed_feed;
    const VERSION: u32 = 2;
    const TRUSTED: u32 = 2;
    const NO_DATE: u64 = 0;
    const PASSWORD: &str = "changeit";
    const SALT: &str = "Mighty Aphrodite";

    fn text(store: &mut Vec<u8>, text: &str) -> io::Result<()> {
        let length = u16::try_from(text.len()).map_err(io::Error::other)?;
        store.extend(length.to_be_bytes());
        store.extend_from_slice(text.as_bytes());
        Ok(())
    }

    let count = u32::try_from(certificates.len()).map_err(io::Error::other)?;
    let mut store = Vec::new();
    for number in [MAGIC, VERSION, count] {
        store.extend(number.to_be_bytes());
    }
    for (number, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, &format!("authority-{number}"))?;
        store.extend(NO_DATE.to_be_bytes());
        text(&mut store, "X.509")?;
        let length = u32::try_from(certificate.len()).map_err(io::Error::other)?;
        store.extend(length.to_be_bytes());
        store.extend_from_slice(certificate);
    }
    let mut digest = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(SALT);
    digest.update(&store);
    store.extend(digest.finalize());
    Ok(store)
}
