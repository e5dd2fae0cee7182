//! The publisher's key pair: made, kept in a file, used to sign and to verify.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use headwater_wire::{BatchBody, CatalogueError, PublicKey, Signature, SignedBatch};

/// The first line of a key file, so that whoever finds one knows what it is.
const COMMENT: &str = "# headwater secret key: keep it to yourself, whoever has it can sign your streams";

/// What is wrong with a key, or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is a file of that name.
    #[error("{} exists already; choose another name, or remove it if no stream is signed with it", .0.display())]
    Exists(PathBuf),
    /// The file cannot be read.
    #[error("cannot read the key file {} ({cause}); `headwater-seed keygen FILE` makes one", .path.display())]
    Read {
        /// Its name.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {} ({cause})", .path.display())]
    Write {
        /// Its name.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{} is not a key file: it must hold one line of 43 characters, as `headwater-seed keygen` writes it", .0.display())]
    NotAKey(PathBuf),
    /// A text that is no public key.
    #[error("`{0}` is not a public key: it must be the 43 characters that `headwater-seed public FILE` prints")]
    NotAPublicKey(String),
    /// The system gives no randomness.
    #[error("the system gives no randomness ({0})")]
    NoRandomness(String),
}

/// A publisher's secret key.
pub struct Key(SigningKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.public_text())
    }
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// Writes the key to a new file that nobody else can read, and the public key beside it, in `FILE.pub`.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let write_error = |cause| KeyError::Write { path: path.to_owned(), cause };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
            _ => write_error(cause),
        })?;
        let secret = URL_SAFE_NO_PAD.encode(self.0.to_bytes());
        file.write_all(format!("{COMMENT}\n{secret}\n").as_bytes()).map_err(write_error)?;
        file.sync_all().map_err(write_error)?;
        let public = public_path(path);
        fs::write(&public, format!("{}\n", self.public_text())).map_err(|cause| KeyError::Write { path: public, cause })
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::InvalidData => KeyError::NotAKey(path.to_owned()),
            _ => KeyError::Read { path: path.to_owned(), cause },
        })?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let secret = match (lines.next(), lines.next()) {
            (Some(line), None) => decode(line),
            _ => None,
        };
        let secret = secret.ok_or_else(|| KeyError::NotAKey(path.to_owned()))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// The public key as it stands in the embed code: unpadded base64url.
    #[must_use]
    pub fn public_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.verifying_key().to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    /// Signs a batch of the catalogue.
    ///
    /// # Errors
    /// Where it has no entries, or too many.
    pub fn sign(&self, body: &BatchBody) -> Result<SignedBatch, CatalogueError> {
        let bytes = body.signing_bytes()?;
        let signature = Signature(self.0.sign(&bytes).to_bytes());
        SignedBatch::assemble(PublicKey(self.0.verifying_key().to_bytes()), signature, &bytes)
    }
}

/// Reads a public key as it stands in the embed code.
///
/// # Errors
/// [`KeyError::NotAPublicKey`].
pub fn parse_public(text: &str) -> Result<VerifyingKey, KeyError> {
    let key = decode(text).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    key.ok_or_else(|| KeyError::NotAPublicKey(text.to_owned()))
}

/// Whether `key` signed the batch.
#[must_use]
pub fn verify(key: &VerifyingKey, batch: &SignedBatch) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&batch.signature().0);
    batch.key_hint() == PublicKey(key.to_bytes()).hint()
        && key.verify_strict(&batch.signing_bytes(), &signature).is_ok()
}

fn decode(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Where the public key of a key file is written.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
