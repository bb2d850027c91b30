//! The time stamp authorities that the caller trusts.
use der::Decode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_cert::Certificate;

/// The certificates of a file: roots of authorities, or certificates of signers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Reads certificates from PEM text.
    ///
    /// # Errors
    /// Fails if the text has no certificate, or if a certificate cannot be read.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        if certificates.is_empty() {
            return Err(String::from("it contains no certificate in PEM format"));
        }
        for one in &certificates {
            Certificate::from_der(one).map_err(|error| error.to_string())?;
        }
        Ok(Self { certificates })
    }

    /// Adds the certificates of another file.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }
}
