//! Access tokens: EdDSA JSON Web Tokens, 15 minutes long, signed by a key that only this installation has.
//!
//! It must accept one algorithm and one issuer only, whatever a token says of itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{AccountsError, AuthenticationError};

/// Who issues the tokens.
const ISSUER: &str = "berth";
/// The only purpose a bearer token has.
const ACCESS: &str = "access";
/// How long an access token is good.
pub(crate) const ACCESS_SECONDS: i64 = 900;
/// The longest bearer token that is looked at, in bytes: ours have about 600.
const TOKEN_BYTES_MAX: usize = 4_096;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claims {
    /// The user.
    pub sub: String,
    /// Absent for a user without an active membership.
    pub organization_id: Option<String>,
    pub role_id: Option<String>,
    /// As it was at sign-in: for clients. The host asks the membership.
    pub is_super_admin: bool,
    /// The session.
    pub sid: String,
    pub iss: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub iat: i64,
    pub exp: i64,
    pub jti: String,
}

impl Claims {
    /// Claims of a fresh token.
    pub(crate) fn new(user_id: &str, session_id: &str, now: DateTime<Utc>) -> Self {
        Self {
            sub: user_id.into(),
            organization_id: None,
            role_id: None,
            is_super_admin: false,
            sid: session_id.into(),
            iss: ISSUER.into(),
            kind: ACCESS.into(),
            iat: now.timestamp(),
            exp: now.timestamp() + ACCESS_SECONDS,
            jti: uuid::Uuid::now_v7().to_string(),
        }
    }
}

/// A key pair. The private half never leaves this type but as PKCS #8 for the vault.
pub(crate) struct SigningPair {
    pub id: String,
    seed: zeroize::Zeroizing<[u8; 32]>,
}

impl SigningPair {
    /// A fresh pair.
    pub(crate) fn generate() -> Self {
        Self { id: uuid::Uuid::now_v7().to_string(), seed: zeroize::Zeroizing::new(rand::random()) }
    }

    /// A pair from what the vault opened.
    pub(crate) fn from_seed(id: String, seed: &[u8]) -> Result<Self, AccountsError> {
        let seed: [u8; 32] =
            seed.try_into().map_err(|_| AccountsError::internal("a signing key has a wrong length"))?;
        Ok(Self { id, seed: zeroize::Zeroizing::new(seed) })
    }

    /// What the vault seals.
    pub(crate) fn seed(&self) -> &[u8] {
        self.seed.as_slice()
    }

    /// The public half, base64url.
    pub(crate) fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(SigningKey::from_bytes(&self.seed).verifying_key().as_bytes())
    }
}

/// A public half, base64url, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub id: String,
    pub x: String,
}

/// Signs with the current key, and verifies with it, the previous one, and one that is announced.
pub(crate) struct Keyring {
    current: String,
    signer: EncodingKey,
    public: Vec<PublicKey>,
    verifiers: Vec<(String, DecodingKey)>,
    validation: Validation,
}

impl Keyring {
    /// `others` are the keys that verify beside the current one: the caller knows which those are.
    pub(crate) fn new(current: &SigningPair, others: Vec<PublicKey>) -> Result<Self, AccountsError> {
        let pair = SigningKey::from_bytes(&current.seed);
        let document = pair.to_pkcs8_der().map_err(|error| AccountsError::internal(error.to_string()))?;
        let mut public = vec![PublicKey { id: current.id.clone(), x: current.public_key() }];
        public.extend(others.into_iter().filter(|key| key.id != current.id));
        let verifiers = public.iter().map(|key| Ok((key.id.clone(), verifier(&key.x)?)));
        let verifiers = verifiers.collect::<Result<Vec<_>, AccountsError>>()?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = 0;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        Ok(Self {
            current: current.id.clone(),
            signer: EncodingKey::from_ed_der(document.as_bytes()),
            public,
            verifiers,
            validation,
        })
    }

    /// Every key that verifies, the current one first.
    pub(crate) fn public_keys(&self) -> &[PublicKey] {
        &self.public
    }

    /// Whether a key of this id verifies.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.public.iter().any(|key| key.id == id)
    }

    /// The key that signs now.
    pub(crate) fn current(&self) -> &str {
        &self.current
    }

    /// A signed token.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, AccountsError> {
        let header = Header { kid: Some(self.current.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.signer).map_err(AccountsError::internal)
    }

    /// The claims of a token that is ours, meant as an access token, and not expired.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, AuthenticationError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthenticationError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthenticationError::Invalid)?;
        let kid = header.kid.as_deref().ok_or(AuthenticationError::Invalid)?;
        let (_, key) = self.verifiers.iter().find(|(id, _)| id == kid).ok_or(AuthenticationError::Invalid)?;
        let data =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| AuthenticationError::Invalid)?;
        if data.claims.kind == ACCESS { Ok(data.claims) } else { Err(AuthenticationError::Invalid) }
    }

    /// Whether a token names a key that is not known here: another host may have made one since.
    pub(crate) fn lacks_key_of(&self, token: &str) -> bool {
        token.len() <= TOKEN_BYTES_MAX
            && jsonwebtoken::decode_header(token)
                .is_ok_and(|header| header.kid.is_some_and(|kid| self.verifiers.iter().all(|(id, _)| *id != kid)))
    }
}

/// A secret of 256 bits for one holder: a refresh token, an invitation, a reset link.
pub(crate) fn random_secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is stored of such a secret. SHA-256 is enough: there is nothing to guess.
pub(crate) fn hash_of(secret: &str) -> String {
    hex::encode(digest_of(secret))
}

/// SHA-256 of a token, as a key of maps.
pub(crate) fn digest_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn verifier(public_key: &str) -> Result<DecodingKey, AccountsError> {
    DecodingKey::from_ed_components(public_key).map_err(AccountsError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::new(&SigningPair::generate(), vec![]).unwrap()
    }

    fn claims() -> Claims {
        Claims { organization_id: Some("org".into()), ..Claims::new("user", "session", Utc::now()) }
    }

    fn forged(header: &str, claims: &str, signature: &[u8]) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(signature))
    }

    #[test]
    fn a_token_comes_back_as_it_went_and_carries_the_agreed_claims() {
        let keyring = keyring();
        let token = keyring.sign(&claims()).unwrap();
        let verified = keyring.verify(&token).unwrap();
        assert_eq!((verified.sub.as_str(), verified.sid.as_str()), ("user", "session"));
        assert_eq!(verified.exp - verified.iat, ACCESS_SECONDS);
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        for name in ["sub", "organizationId", "roleId", "isSuperAdmin", "sid", "iss", "type", "iat", "exp", "jti"] {
            assert!(json.get(name).is_some(), "{name}");
        }
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.alg, Algorithm::EdDSA);
        assert_eq!(header.kid.as_deref(), Some(keyring.current()));
    }

    #[test]
    fn no_other_algorithm_is_believed() {
        let pair = SigningPair::generate();
        let keyring = Keyring::new(&pair, vec![]).unwrap();
        let payload = serde_json::to_string(&claims()).unwrap();
        let header = |alg: &str| format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{}"}}"#, pair.id);
        for alg in ["none", "None", "NONE"] {
            assert!(keyring.verify(&forged(&header(alg), &payload, b"")).is_err());
        }
        // The classic confusion: an HMAC keyed with the public key.
        let public = URL_SAFE_NO_PAD.decode(pair.public_key()).unwrap();
        let confused = Header { kid: Some(pair.id.clone()), ..Header::new(Algorithm::HS256) };
        for secret in [public.as_slice(), pair.public_key().as_bytes()] {
            let token = jsonwebtoken::encode(&confused, &claims(), &EncodingKey::from_secret(secret)).unwrap();
            assert!(keyring.verify(&token).is_err());
        }
    }

    #[test]
    fn expired_foreign_and_other_purpose_tokens_are_refused() {
        let keyring = keyring();
        let now = Utc::now().timestamp();
        for bad in [
            Claims { exp: now - 1, ..claims() },
            Claims { iss: "other".into(), ..claims() },
            Claims { kind: "refresh".into(), ..claims() },
        ] {
            assert!(keyring.verify(&keyring.sign(&bad).unwrap()).is_err(), "{bad:?}");
        }
        assert!(keyring.verify(&super::tests::keyring().sign(&claims()).unwrap()).is_err());
        let token = keyring.sign(&claims()).unwrap();
        assert!(keyring.verify(&token[..token.len() - 4]).is_err());
        let mut parts: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD.encode(serde_json::to_string(&Claims { sub: "root".into(), ..claims() }).unwrap());
        parts[1] = &other;
        assert!(keyring.verify(&parts.join(".")).is_err());
        for garbage in ["", ".", "..", "a.b.c", &"x".repeat(10_000)] {
            assert!(keyring.verify(garbage).is_err());
        }
    }

    #[test]
    fn a_ring_verifies_what_its_keys_signed_and_nothing_else() {
        let [first, second, third] = [SigningPair::generate(), SigningPair::generate(), SigningPair::generate()];
        let old = Keyring::new(&first, vec![]).unwrap().sign(&claims()).unwrap();
        let public = |pair: &SigningPair| PublicKey { id: pair.id.clone(), x: pair.public_key() };
        assert!(Keyring::new(&second, vec![public(&first)]).unwrap().verify(&old).is_ok());
        let third = Keyring::new(&third, vec![public(&second)]).unwrap();
        assert!(third.verify(&old).is_err());
        assert!(third.lacks_key_of(&old));
    }
}
