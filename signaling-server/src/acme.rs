//! Certificates fetched by the server itself (ACME, RFC 8555), with the TLS-ALPN-01 challenge (RFC 8737): no other port and no
//! other program is needed. What was fetched is kept in a folder, and fetched again in its last third.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::{info, warn};

/// The protocol by which a certificate authority looks whether a name is ours.
pub(crate) const ACME_ALPN: &[u8] = b"acme-tls/1";

/// How long fetching may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the authority may take to validate, and then to sign.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// After a failure; doubled up to the last. Authorities count failures, and lock out who has many.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_LAST: Duration = Duration::from_secs(6 * 3600);

/// The clock may be set meanwhile: looked at again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(12 * 3600);

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct Acme {
    /// The names of this server; the certificate is for all of them.
    pub domains: Vec<String>,
    /// Mail addresses for the authority.
    pub contacts: Vec<String>,
    /// The folder for the account, the certificates and their keys.
    pub cache: PathBuf,
    /// The authority's directory.
    pub directory: String,
    /// A certificate (PEM) to check the authority's own server with, in place of the system's.
    pub ca: Option<PathBuf>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    #[error("the account in {0} cannot be read: {1}. Remove it to have a new one made")]
    Account(PathBuf, #[source] serde_json::Error),
    #[error("a key or a certificate cannot be made: {0}")]
    Made(#[from] rcgen::Error),
    #[error("{0} could not be validated: is port 443 of that name this server?")]
    NotValidated(String),
    #[error("the authority does not offer tls-alpn-01 for {0}")]
    NoChallenge(String),
    #[error("the certificate is of no use: {0}")]
    Certificate(String),
    #[error("it took longer than {} s", FETCH_TIMEOUT.as_secs())]
    Slow,
}

/// The certificate in use, and those with which challenges are answered.
#[derive(Debug, Default)]
pub(crate) struct AcmeCertificate {
    current: RwLock<Option<Arc<CertifiedKey>>>,
    challenges: RwLock<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for AcmeCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn().is_some_and(|mut protocols| {
            let first = protocols.next();
            first == Some(ACME_ALPN) && protocols.next().is_none()
        });
        if is_challenge {
            let name = hello.server_name()?.to_ascii_lowercase();
            return self.challenges.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AcmeCertificate {
    fn set(&self, certificate: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certificate));
    }

    fn set_challenge(&self, name: &str, answer: CertifiedKey) {
        let mut challenges = self.challenges.write().unwrap_or_else(PoisonError::into_inner);
        challenges.insert(name.to_ascii_lowercase(), Arc::new(answer));
    }

    fn clear_challenges(&self) {
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Acme {
    /// Keeps a certificate in use, for ever. Whatever goes wrong is said and tried again; the old one serves meanwhile.
    pub(crate) async fn follow(&self, certificate: &AcmeCertificate) {
        let mut renew_at = match self.read_kept() {
            Ok((kept, renew_at)) => {
                certificate.set(kept);
                renew_at
            }
            // There is none for these names yet.
            Err(_) => SystemTime::UNIX_EPOCH,
        };
        let mut pause = RETRY_FIRST;
        loop {
            let wait = renew_at.duration_since(SystemTime::now()).unwrap_or_default();
            if !wait.is_zero() {
                sleep(wait.min(LOOK_AGAIN)).await;
                continue;
            }
            let fetched = timeout(FETCH_TIMEOUT, self.fetch(certificate)).await.unwrap_or(Err(AcmeError::Slow));
            certificate.clear_challenges();
            match fetched.and_then(|()| self.read_kept()) {
                Ok((new, at)) => {
                    certificate.set(new);
                    renew_at = at;
                    pause = RETRY_FIRST;
                    info!(domains = ?self.domains, "a certificate was fetched");
                }
                Err(error) => {
                    let error = with_reasons(&error);
                    warn!(
                        error,
                        directory = self.directory,
                        again_in_s = pause.as_secs(),
                        "no certificate was fetched"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LAST);
                }
            }
        }
    }

    /// Has a certificate made and puts it into the folder.
    async fn fetch(&self, certificate: &AcmeCertificate) -> Result<(), AcmeError> {
        let account = self.account().await?;
        let identifiers: Vec<Identifier> = self.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let name = authorization.identifier().to_string();
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                _ => return Err(AcmeError::NotValidated(name)),
            }
            let mut challenge = authorization
                .challenge(ChallengeType::TlsAlpn01)
                .ok_or_else(|| AcmeError::NoChallenge(name.clone()))?;
            let digest = challenge.key_authorization().digest();
            certificate.set_challenge(&name, answer(&name, digest.as_ref())?);
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::new().timeout(STEP_TIMEOUT);
        if order.poll_ready(&patience).await? != OrderStatus::Ready {
            return Err(AcmeError::NotValidated(self.domains.join(", ")));
        }
        let key = KeyPair::generate()?;
        let request = CertificateParams::new(self.domains.clone())?.serialize_request(&key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&patience).await?;
        // Read before it is kept: an unusable one must not take the place of one that works.
        let pem = format!("{}{chain}", key.serialize_pem());
        usable(pem.as_bytes()).map_err(AcmeError::Certificate)?;
        write(&self.kept(), pem.as_bytes())
    }

    /// The account, made where there is none yet.
    async fn account(&self) -> Result<Account, AcmeError> {
        let file = self.cache.join(format!("account-{}.json", short_hash(&[&self.directory])));
        let builder = || match &self.ca {
            Some(ca) => Account::builder_with_root(ca),
            None => Account::builder(),
        };
        match fs::read(&file) {
            Ok(kept) => {
                let credentials: AccountCredentials =
                    serde_json::from_slice(&kept).map_err(|error| AcmeError::Account(file, error))?;
                Ok(builder()?.from_credentials(credentials).await?)
            }
            Err(_) => {
                let contacts: Vec<String> = self.contacts.iter().map(|mail| format!("mailto:{mail}")).collect();
                let contact: Vec<&str> = contacts.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let (account, credentials) = builder()?.create(&new, self.directory.clone(), None).await?;
                let text = serde_json::to_vec(&credentials).map_err(|error| AcmeError::Account(file.clone(), error))?;
                write(&file, &text)?;
                Ok(account)
            }
        }
    }

    /// Where the certificate of these names from this authority is.
    fn kept(&self) -> PathBuf {
        let mut parts: Vec<&str> = self.domains.iter().map(String::as_str).collect();
        parts.sort_unstable();
        parts.push(&self.directory);
        self.cache.join(format!("certificate-{}.pem", short_hash(&parts)))
    }

    fn read_kept(&self) -> Result<(CertifiedKey, SystemTime), AcmeError> {
        let file = self.kept();
        let pem = fs::read(&file).map_err(|error| AcmeError::File(file, error))?;
        usable(&pem).map_err(AcmeError::Certificate)
    }
}

/// A certificate that answers a challenge: self-signed, with the proof in an extension.
fn answer(name: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    if digest.len() != 32 {
        // What rcgen would panic about.
        return Err(AcmeError::Certificate("a digest has 32 bytes".to_owned()));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let made = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| AcmeError::Certificate(error.to_owned()))?;
    let key = ring::sign::any_supported_type(&key).map_err(|error| AcmeError::Certificate(error.to_string()))?;
    // Not checked to be a pair: the check reads the certificate, and does not know that extension.
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

/// Key and chain in one PEM, and when to fetch the next: at two thirds of its time.
fn usable(text: &[u8]) -> Result<(CertifiedKey, SystemTime), String> {
    let say = |error: pem::Error| error.to_string();
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(say)?;
    let key = PrivateKeyDer::from_pem_slice(text).map_err(say)?;
    let first = chain.first().ok_or("there is no certificate in it")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|error| error.to_string())?;
    let validity = parsed.validity();
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if at(until) <= SystemTime::now() {
        return Err("it has expired".to_owned());
    }
    let renew_at = at(from.saturating_add(until.saturating_sub(from) / 3 * 2));
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| error.to_string())?;
    Ok((certified, renew_at))
}

/// What went wrong with what lies beneath: "client error (Connect)" alone helps nobody.
fn with_reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let reason_text = reason.to_string();
        if !text.contains(&reason_text) {
            text = format!("{text}: {reason_text}");
        }
        source = reason.source();
    }
    text
}

fn short_hash(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes()).update(b"\0");
    }
    hasher.finalize().to_hex().split_at(16).0.to_owned()
}

/// Writes a secret: readable by this user alone, and whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
    let failed = |error| AcmeError::File(file.to_owned(), error);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let new = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(&new).map_err(failed)?;
    open.write_all(bytes).and_then(|()| open.sync_all()).map_err(failed)?;
    fs::rename(&new, file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(from: (i32, u8, u8), until: (i32, u8, u8)) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    #[test]
    fn a_certificate_is_renewed_in_its_last_third_and_not_used_after_its_end() {
        let (_, renew_at) = usable(pem((2020, 1, 1), (2320, 1, 1)).as_bytes()).unwrap();
        let years = renew_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / (365 * 24 * 3600 + 6 * 3600);
        assert_eq!(1970 + years, 2219);
        assert_eq!(usable(pem((2019, 1, 1), (2020, 1, 1)).as_bytes()).unwrap_err(), "it has expired");
        assert!(usable(b"").is_err());
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        let certificate = pem((2020, 1, 1), (2320, 1, 1));
        let (_, certificate) = certificate.split_once("-----END PRIVATE KEY-----").unwrap();
        assert!(usable(format!("{other_key}{certificate}").as_bytes()).is_err());
    }

    #[test]
    fn names_and_authority_decide_where_a_certificate_is_kept() {
        let acme = |domains: &[&str], directory: &str| Acme {
            domains: domains.iter().map(|name| (*name).to_owned()).collect(),
            contacts: Vec::new(),
            cache: "cache".into(),
            directory: directory.to_owned(),
            ca: None,
        };
        let kept = acme(&["a", "b"], "x").kept();
        assert_eq!(kept, acme(&["b", "a"], "x").kept());
        assert_ne!(kept, acme(&["a"], "x").kept());
        assert_ne!(kept, acme(&["a", "b"], "y").kept());
    }
}
