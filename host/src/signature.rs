//! Signatures of components: Ed25519 over the component's SHA-256, detached, base64.
//!
//! Pure: the settings and the manifest read trusted keys here, a deploy is judged here, and the command line signs here.
//! It must never read a file or hold a private key longer than a signature takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Characters of a signature as text; 64 bytes in base64 have 88.
pub(crate) const SIGNATURE_CHARS_MAX: usize = 128;
/// Keys that may be trusted at once.
pub(crate) const TRUSTED_KEYS_MAX: usize = 32;

/// Why a build is not taken for what somebody signed: each is a sentence for the person who deploys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    /// There is none.
    #[error(
        "this host takes signed builds only, and this one has no signature: `berth sign <key> <file.wasm>` makes \
         <file.wasm>.sig, which is sent along when it lies beside the file"
    )]
    Missing,
    /// It is no signature.
    #[error("its signature is not 64 bytes in base64: make it with `berth sign <key> <file.wasm>`")]
    Malformed,
    /// Nobody trusted has made it, or not for these bytes.
    #[error(
        "its signature is not one of these bytes by any of the host's trusted_keys: sign this very file with a trusted key"
    )]
    Untrusted,
}

/// The public half of a key whose signatures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustedKey(VerifyingKey);

impl TrustedKey {
    /// Reads 32 bytes in base64, as `berth keygen` tells them. None for anything else, weak keys included.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }
}

/// What is wrong with a text that is no [`TrustedKey`].
pub(crate) fn key_fault(text: &str) -> String {
    let shown: String = text.chars().take(SIGNATURE_CHARS_MAX).collect();
    format!("\"{shown}\" is no public key: it must be 32 bytes in base64, as `berth keygen` tells it")
}

/// Whether `signature` is one of the component with this SHA-256 (hexadecimal) by any of `keys`.
///
/// # Errors
/// Why not.
pub(crate) fn verify(keys: &[TrustedKey], sha256: &str, signature: Option<&str>) -> Result<(), SignatureError> {
    let text = signature.ok_or(SignatureError::Missing)?;
    if text.len() > SIGNATURE_CHARS_MAX {
        return Err(SignatureError::Malformed);
    }
    let bytes = STANDARD.decode(text).map_err(|_| SignatureError::Malformed)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| SignatureError::Malformed)?;
    let message = message(sha256);
    let is_trusted = keys.iter().any(|TrustedKey(key)| key.verify_strict(message.as_bytes(), &signature).is_ok());
    if is_trusted { Ok(()) } else { Err(SignatureError::Untrusted) }
}

/// A key pair that signs.
pub(crate) struct Signer(SigningKey);

impl Signer {
    /// A fresh pair.
    pub(crate) fn generate() -> Self {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads what [`Signer::to_pem`] wrote. None for anything else.
    pub(crate) fn from_pem(text: &str) -> Option<Self> {
        SigningKey::from_pkcs8_pem(text).ok().map(Self)
    }

    /// The pair as PKCS #8 in PEM. None only when it cannot be encoded, which no pair is known to do.
    pub(crate) fn to_pem(&self) -> Option<Zeroizing<String>> {
        self.0.to_pkcs8_pem(LineEnding::LF).ok()
    }

    /// The public half, base64: what `trusted_keys` lists.
    pub(crate) fn public_key(&self) -> String {
        STANDARD.encode(self.0.verifying_key().as_bytes())
    }

    /// Signs a component. Base64.
    pub(crate) fn sign(&self, component: &[u8]) -> String {
        let message = message(&hex::encode(Sha256::digest(component)));
        STANDARD.encode(self.0.sign(message.as_bytes()).to_bytes())
    }
}

/// What is signed: the digest, and words that keep it from being anything but a signature of a component.
fn message(sha256: &str) -> String {
    format!("berth component sha256:{sha256}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"a component";

    fn digest() -> String {
        hex::encode(Sha256::digest(COMPONENT))
    }

    fn trusted(signer: &Signer) -> TrustedKey {
        TrustedKey::parse(&signer.public_key()).unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_key_and_its_bytes_only() {
        let (ours, theirs) = (Signer::generate(), Signer::generate());
        let signature = ours.sign(COMPONENT);
        let keys = [trusted(&theirs), trusted(&ours)];
        assert_eq!(verify(&keys, &digest(), Some(&signature)), Ok(()));
        assert_eq!(verify(&keys[..1], &digest(), Some(&signature)), Err(SignatureError::Untrusted));
        let other = hex::encode(Sha256::digest(b"another component"));
        assert_eq!(verify(&keys, &other, Some(&signature)), Err(SignatureError::Untrusted));
        assert_eq!(verify(&keys, &digest(), None), Err(SignatureError::Missing));
        let long = "A".repeat(SIGNATURE_CHARS_MAX + 1);
        for wrong in ["", "signed", "AAAA", &signature[..80], &long] {
            assert_eq!(verify(&keys, &digest(), Some(wrong)), Err(SignatureError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_pair_survives_its_file() {
        let signer = Signer::generate();
        let read = Signer::from_pem(&signer.to_pem().unwrap()).unwrap();
        assert_eq!(read.public_key(), signer.public_key());
        assert_eq!(verify(&[trusted(&signer)], &digest(), Some(&read.sign(COMPONENT))), Ok(()));
        assert!(Signer::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_none());
    }

    #[test]
    fn what_is_no_public_key_is_not_trusted() {
        // The last one is the neutral element: whoever likes could sign for it.
        let weak = STANDARD.encode([1_u8].into_iter().chain([0; 31]).collect::<Vec<_>>());
        for wrong in ["", "key", "AAAA", &STANDARD.encode([7; 33]), &weak] {
            assert!(TrustedKey::parse(wrong).is_none(), "{wrong}");
        }
        assert!(key_fault("key").contains("32 bytes in base64"));
    }
}
