//! The HTTPS servers and their certificate authority.
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::http::{self, Arrived, Site, unmapped};

/// The certificate authority of one world.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    /// Certificate of the authority, for the runner's trust store.
    pub(crate) pem: String,
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl Authority {
    /// Creates a new authority.
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of the test world");
        let pem = params.self_signed(&key)?.pem();
        let certificates = Arc::new(Certificates {
            issuer: Issuer::new(params, key),
            made: Mutex::default(),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Certificates>::clone(&certificates));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            pem,
            config: Arc::new(config),
            certificates,
        })
    }

    /// Issues a certificate for the server `name` of a test, and returns the certificate and its key in PEM form.
    pub(crate) fn issue(&self, name: &str) -> Result<(String, String), rcgen::Error> {
        let (certificate, key) = self.certificates.issue(name)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// Issues a certificate for each name that clients request, and keeps it.
struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    made: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    fn make(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let (certificate, key) = self.issue(name).ok()?;
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signing = ring::sign::any_ecdsa_type(&private).ok()?;
        Some(Arc::new(CertifiedKey::new(
            vec![certificate.der().clone()],
            signing,
        )))
    }

    fn issue(&self, name: &str) -> Result<(Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate, key))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Clients do not send a name when they connect to an address. The tests connect to this address.
        let name = hello.server_name().unwrap_or("198.51.100.10").to_owned();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = made.get(&name) {
            return Some(Arc::clone(there));
        }
        let fresh = self.make(&name)?;
        made.insert(name, Arc::clone(&fresh));
        Some(fresh)
    }
}

/// Serves HTTPS until the world ends.
pub(super) async fn listen(listener: TcpListener, acceptor: TlsAcceptor, site: Site) {
    loop {
        // An aborted handshake concerns only the client.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let Ok(server) = stream.local_addr().map(unmapped) else {
            continue;
        };
        drop(stream.set_nodelay(true));
        tokio::spawn(connection(stream, acceptor.clone(), site.clone(), server));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, site: Site, server: SocketAddr) {
    // Some tests make handshakes fail. The client reports the reason.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let sni = stream.get_ref().1.server_name().map(str::to_owned);
    http::connection(stream, site, Arrived { server, sni }).await;
}
