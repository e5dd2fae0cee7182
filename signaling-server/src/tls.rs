//! TLS with rustls: certificate and key from files, read again when they change, or fetched over ACME.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::acme::{ACME_ALPN, Acme, AcmeCertificate};
use crate::follow::Followed;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why TLS cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("cannot read a certificate or key in {0}: {1}. It must be a PEM file that this user may read")]
    Pem(PathBuf, #[source] pem::Error),
    /// The certificate and the key do not go together, or are of a kind that is not known here.
    #[error("{0} and {1} are no usable pair: {2}")]
    Pair(PathBuf, PathBuf, #[source] rustls::Error),
    /// rustls does not start.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct Certificate(Followed<CertifiedKey>);

impl Certificate {
    fn read(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let both = vec![files.certificate.clone(), files.key.clone()];
        Ok(Arc::new(Self(Followed::new("certificate", both, move || load(&files))?)))
    }

    fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        acceptor(Arc::clone(self) as Arc<dyn ResolvesServerCert>, &[HTTP])
    }
}

const HTTP: &[u8] = b"http/1.1";

fn acceptor(certificates: Arc<dyn ResolvesServerCert>, protocols: &[&[u8]]) -> Result<TlsAcceptor, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Where the certificates in use come from, and are looked for again.
#[derive(Debug)]
pub(crate) enum Certificates {
    Files(Arc<Certificate>),
    Acme(Box<Acme>, Arc<AcmeCertificate>),
}

impl Certificates {
    /// Reads files, or makes ready for fetching.
    pub(crate) fn new(source: TlsSource) -> Result<(Self, TlsAcceptor), TlsError> {
        match source {
            TlsSource::Files(files) => {
                let certificate = Certificate::read(files)?;
                let acceptor = certificate.acceptor()?;
                Ok((Self::Files(certificate), acceptor))
            }
            TlsSource::Acme(acme) => {
                let certificate = Arc::new(AcmeCertificate::default());
                let resolver = Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>;
                Ok((Self::Acme(Box::new(acme), certificate), acceptor(resolver, &[HTTP, ACME_ALPN])?))
            }
        }
    }

    /// Looks for new ones. Never returns.
    pub(crate) async fn follow(&self) {
        match self {
            Self::Files(certificate) => certificate.0.follow().await,
            Self::Acme(acme, certificate) => acme.follow(certificate).await,
        }
    }
}

/// Where a server's certificate comes from.
#[derive(Debug, Clone)]
pub enum TlsSource {
    /// From files.
    Files(TlsFiles),
    /// From an authority, over ACME.
    Acme(Acme),
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let bad = |file: &Path| {
        let file = file.to_owned();
        move |error| TlsError::Pem(file, error)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(bad(&files.certificate))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(bad(&files.key))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| TlsError::Pair(files.certificate.clone(), files.key.clone(), error))
}
