//! Login providers: what they say of themselves, where a browser is sent, and who a code stands for.
//!
//! Documents are kept for an hour and asked for again when a key is missing, not more often than every half minute. No
//! ID token is believed but one for us, by this issuer, for this sign-in, in time, signed with a public key of the
//! issuer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreGrantType, CoreIdTokenClaims, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm,
    CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType, CoreTokenResponse,
    CoreUserInfoClaims,
};
use openidconnect::{
    AccessTokenHash, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, ProviderMetadata, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError, TokenResponse as _,
};
use serde::{Deserialize, Serialize};

use super::super::Accounts;
use super::super::error::AccountsError;
use super::GOOGLE;
use super::fetch::Fetcher;
use super::flow::Flow;

/// How long what a provider says of itself is kept.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
/// How often it is asked for again at most, when it failed or a key is missing.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// How long a failure to ask counts for everybody, while nothing is known at all.
const FAILED_FOR: Duration = Duration::from_secs(2);
/// The longest id, name or address of a person that is taken, in characters.
const CLAIM_CHARACTERS_MAX: usize = 255;
/// What an ID token may be signed with: public keys only, since a client secret is known to more than the issuer.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// A login provider as the operator names it.
#[derive(Clone)]
pub(crate) struct ProviderOptions {
    /// Lower case; `google` is the one on Google's routes.
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
}

impl std::fmt::Debug for ProviderOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at {}", self.name, self.issuer)
    }
}

/// What the standard document says beyond what the library reads.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Extra {
    /// Whether every answer names its issuer.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Extra {}

type Metadata = ProviderMetadata<
    Extra,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// Every provider of this host, by name.
pub(crate) struct Providers {
    by_name: BTreeMap<String, Provider>,
    fetcher: Fetcher,
}

/// One of them.
pub(super) struct Provider {
    name: String,
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: ClientSecret,
    redirect: RedirectUrl,
    known: ArcSwapOption<Known>,
    /// When it was asked last, for good or ill; held while it is asked.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// What it said of itself, and when.
struct Known {
    metadata: Metadata,
    at: Instant,
}

/// Whom a provider has recognised.
pub(super) struct Identity {
    /// The provider's own id of the person, which never changes.
    pub subject: String,
    /// Lower-cased, and confirmed by the provider.
    pub confirmed_email: Option<String>,
    pub name: Option<String>,
    pub picture: Option<String>,
}

impl Providers {
    /// Judges the options. Nothing is asked yet: a provider that is away must not keep a host from starting.
    pub(crate) fn new(options: &[ProviderOptions], public_url: Option<&str>) -> Result<Self, AccountsError> {
        let mut by_name = BTreeMap::new();
        for option in options {
            let base = public_url.ok_or_else(|| {
                AccountsError::internal(format!("the login provider {} needs BERTH_PUBLIC_URL", option.name))
            })?;
            by_name.insert(option.name.clone(), Provider::new(option, base.trim_end_matches('/'))?);
        }
        Ok(Self { by_name, fetcher: Fetcher::new()? })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Provider> {
        self.by_name.get(name)
    }

    /// The names of all.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }
}

impl Provider {
    fn new(options: &ProviderOptions, base: &str) -> Result<Self, AccountsError> {
        let path = match options.name.as_str() {
            GOOGLE => "/api/auth/google/callback".to_owned(),
            name => format!("/api/auth/oidc/{name}/callback"),
        };
        Ok(Self {
            name: options.name.clone(),
            issuer: IssuerUrl::new(options.issuer.clone()).map_err(AccountsError::internal)?,
            client_id: ClientId::new(options.client_id.clone()),
            client_secret: ClientSecret::new(options.client_secret.clone()),
            redirect: RedirectUrl::new(format!("{base}{path}")).map_err(AccountsError::internal)?,
            known: ArcSwapOption::empty(),
            asked: tokio::sync::Mutex::new(None),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where the browser of a flow is sent.
    pub(super) async fn authorization_url(&self, accounts: &Accounts, flow: &Flow) -> Result<String, AccountsError> {
        let known = self.known(&accounts.providers.fetcher).await?;
        let verifier = PkceCodeVerifier::new(flow.verifier.clone());
        let (state, nonce) = (flow.state.clone(), flow.nonce.clone());
        let (url, ..) = self
            .client(&known.metadata)
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url.to_string())
    }

    /// Judges the `iss` of an answer: one of another issuer was mixed up on its way.
    pub(super) async fn check_issuer(&self, accounts: &Accounts, issuer: Option<&str>) -> Result<(), AccountsError> {
        let is_right = match issuer {
            Some(issuer) => issuer == self.issuer.as_str(),
            None => {
                let known = self.known(&accounts.providers.fetcher).await?;
                !known.metadata.additional_metadata().authorization_response_iss_parameter_supported
            }
        };
        if is_right { Ok(()) } else { Err(AccountsError::field("iss", "does not name the provider that was asked")) }
    }

    /// Whom a code stands for.
    pub(super) async fn identify(
        &self,
        accounts: &Accounts,
        code: &str,
        flow: &Flow,
    ) -> Result<Identity, AccountsError> {
        let fetcher = &accounts.providers.fetcher;
        let mut known = self.known(fetcher).await?;
        let request = self.client(&known.metadata);
        let request = request.exchange_code(AuthorizationCode::new(code.to_owned())).map_err(not_as_it_should)?;
        let verifier = PkceCodeVerifier::new(flow.verifier.clone());
        let tokens = request.set_pkce_verifier(verifier).request_async(fetcher).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(_) => {
                AccountsError::Unauthorized("the login provider did not accept the code; begin again")
            }
            RequestTokenError::Request(error) => AccountsError::Upstream(error.into()),
            // What it answered may hold tokens, and is not repeated.
            _ => not_as_it_should("the token endpoint gave no sound answer"),
        })?;
        let claims = match self.verify(&known.metadata, &tokens, &flow.nonce) {
            Err(Unproved::UnknownKey) => {
                // The issuer may have made a new key since.
                known = self.ask_again(fetcher, &known).await?;
                self.verify(&known.metadata, &tokens, &flow.nonce)
            }
            outcome => outcome,
        };
        let claims = claims.map_err(|unproved| {
            tracing::warn!(provider = %self.name, reason = %unproved, "an ID token was not believed");
            AccountsError::Unauthorized("what the login provider said could not be verified; begin again")
        })?;
        let mut person = Person::of(&claims);
        if person.email.is_none() && known.metadata.userinfo_endpoint().is_some() {
            let client = self.client(&known.metadata);
            let subject = Some(claims.subject().clone());
            let request = client.user_info(tokens.access_token().clone(), subject).map_err(not_as_it_should)?;
            let info: CoreUserInfoClaims = request
                .request_async(fetcher)
                .await
                .map_err(|_| not_as_it_should("the user info endpoint gave no sound answer"))?;
            person.complete(&info);
        }
        person.judged(claims.subject().as_str())
    }

    fn client(&self, metadata: &Metadata) -> Client {
        let client = CoreClient::from_provider_metadata(
            metadata.clone(),
            self.client_id.clone(),
            Some(self.client_secret.clone()),
        );
        let methods = metadata.token_endpoint_auth_methods_supported();
        let takes_basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let auth_type = if takes_basic { AuthType::BasicAuth } else { AuthType::RequestBody };
        client.set_redirect_uri(self.redirect.clone()).set_auth_type(auth_type)
    }

    /// The claims of the ID token, when it proves something.
    fn verify(
        &self,
        metadata: &Metadata,
        tokens: &CoreTokenResponse,
        nonce: &str,
    ) -> Result<CoreIdTokenClaims, Unproved> {
        let token = tokens.id_token().ok_or(Unproved::Missing)?;
        let offered = metadata.id_token_signing_alg_values_supported();
        let allowed = ALGORITHMS.into_iter().filter(|algorithm| offered.contains(algorithm));
        let client = self.client(metadata);
        let verifier = client.id_token_verifier().set_allowed_algs(allowed);
        let claims = token.claims(&verifier, &Nonce::new(nonce.to_owned())).map_err(|error| match error {
            ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey | SignatureVerificationError::CryptoError(_),
            ) => Unproved::UnknownKey,
            error => Unproved::Refused(error),
        })?;
        if let Some(expected) = claims.access_token_hash() {
            let made = token.signing_alg().and_then(|algorithm| {
                let key = token.signing_key(&verifier)?;
                Ok((algorithm, key))
            });
            let (algorithm, key) = made.map_err(|_| Unproved::OtherToken)?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if actual.ok().as_ref() != Some(expected) {
                return Err(Unproved::OtherToken);
            }
        }
        Ok(claims.clone())
    }

    /// What the provider says of itself, asked for when that is too old.
    async fn known(&self, fetcher: &Fetcher) -> Result<Arc<Known>, AccountsError> {
        if let Some(known) = self.fresh() {
            return Ok(known);
        }
        let mut asked = self.asked.lock().await;
        // Whoever waited finds what the other one brought.
        if let Some(known) = self.fresh() {
            return Ok(known);
        }
        // An old document is better than none while the provider is away; and who waited for a failure shares it.
        let since = asked.map(|last| last.elapsed());
        match self.known.load_full() {
            Some(known) if since.is_some_and(|since| since < ASKED_EVERY) => return Ok(known),
            None if since.is_some_and(|since| since < FAILED_FOR) => {
                return Err(not_as_it_should("it failed a moment ago"));
            }
            _ => {}
        }
        *asked = Some(Instant::now());
        match self.ask(fetcher).await {
            Ok(known) => Ok(known),
            Err(error) => self.known.load_full().ok_or(error),
        }
    }

    fn fresh(&self) -> Option<Arc<Known>> {
        self.known.load_full().filter(|known| known.at.elapsed() < KEPT_FOR)
    }

    /// Asks again because of a key that `known` lacks; what others have brought since, or what was asked for a moment
    /// ago, is not asked for again.
    async fn ask_again(&self, fetcher: &Fetcher, known: &Arc<Known>) -> Result<Arc<Known>, AccountsError> {
        let mut asked = self.asked.lock().await;
        if let Some(present) = self.known.load_full()
            && !Arc::ptr_eq(&present, known)
        {
            return Ok(present);
        }
        if asked.is_some_and(|last| last.elapsed() < ASKED_EVERY) {
            return Ok(Arc::clone(known));
        }
        *asked = Some(Instant::now());
        self.ask(fetcher).await
    }

    async fn ask(&self, fetcher: &Fetcher) -> Result<Arc<Known>, AccountsError> {
        let found = Metadata::discover_async(self.issuer.clone(), fetcher).await;
        let metadata = found.map_err(|error| AccountsError::Upstream(Box::new(error)))?;
        let known = Arc::new(Known { metadata, at: Instant::now() });
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }
}

/// Why an ID token proves nothing.
#[derive(Debug, thiserror::Error)]
enum Unproved {
    #[error("there is none")]
    Missing,
    #[error("no known key of the issuer has signed it")]
    UnknownKey,
    #[error("it belongs to another access token")]
    OtherToken,
    #[error("{0}")]
    Refused(ClaimsVerificationError),
}

/// What a provider says of a person.
struct Person {
    email: Option<String>,
    is_confirmed: bool,
    name: Option<String>,
    picture: Option<String>,
}

impl Person {
    fn of(claims: &CoreIdTokenClaims) -> Self {
        Self {
            email: claims.email().map(|email| email.as_str().to_owned()),
            is_confirmed: claims.email_verified() == Some(true),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned()),
            picture: claims.picture().and_then(|url| url.get(None)).map(|url| url.as_str().to_owned()),
        }
    }

    /// Takes from the user info what the token did not say. Address and confirmation come from one place.
    fn complete(&mut self, info: &CoreUserInfoClaims) {
        self.email = info.email().map(|email| email.as_str().to_owned());
        self.is_confirmed = info.email_verified() == Some(true);
        let name = info.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned());
        self.name = self.name.take().or(name);
        let picture = info.picture().and_then(|url| url.get(None)).map(|url| url.as_str().to_owned());
        self.picture = self.picture.take().or(picture);
    }

    fn judged(self, subject: &str) -> Result<Identity, AccountsError> {
        if subject.is_empty() || subject.len() > CLAIM_CHARACTERS_MAX {
            return Err(not_as_it_should("the subject is empty or too long"));
        }
        let email = self.email.map(|email| email.to_lowercase()).filter(|email| super::super::input::is_email(email));
        Ok(Identity {
            subject: subject.to_owned(),
            confirmed_email: email.filter(|_| self.is_confirmed),
            name: self.name.filter(|name| name.chars().count() <= CLAIM_CHARACTERS_MAX),
            picture: self.picture.filter(|url| url.starts_with("https://") && url.len() <= 2_048),
        })
    }
}

fn not_as_it_should(reason: impl Into<super::super::error::Source>) -> AccountsError {
    AccountsError::Upstream(reason.into())
}
