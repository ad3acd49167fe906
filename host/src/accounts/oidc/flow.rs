//! One sign-in on its way to a provider and back, kept by the browser that began it: sealed, so that it can neither be
//! read nor made up, and good once within ten minutes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::super::context::Context;
use super::super::enter::{Cookie, cookie};
use super::super::error::AccountsError;
use super::super::token::{hash_of, random_secret};
use super::super::{Accounts, Reply};
use crate::capability::secrets::HOST;
use crate::database::values;

/// How long a sign-in may take.
const VALID_FOR: Duration = Duration::minutes(10);
/// The cookie; sent with the provider's redirect, so it cannot be a strict one.
const COOKIE: &str = "loginFlow";
const PATH: &str = "/api/auth";
/// The longest cookie: ours have about a kilobyte, and browsers keep four.
const COOKIE_CHARACTERS_MAX: usize = 8_192;
/// What a sealed flow is bound to.
const SEALED_AS: &str = "login-flow";

/// A sign-in that was begun.
#[derive(Serialize, Deserialize)]
pub(super) struct Flow {
    pub provider: String,
    pub state: String,
    pub nonce: String,
    /// The secret half of the code challenge.
    pub verifier: String,
    /// Where the browser goes afterwards; judged when the flow began.
    pub redirect_to: Option<String>,
    pub remember_me: bool,
    /// An invitation that a new account accepts.
    pub invitation: Option<String>,
    /// Whose account the provider's is to be linked with; none for a sign-in.
    pub link: Option<Link>,
    /// Unix seconds.
    pub expires_at: i64,
}

/// Who links.
#[derive(Serialize, Deserialize)]
pub(super) struct Link {
    pub user_id: String,
    pub session_id: String,
}

impl Flow {
    /// A fresh one.
    pub(super) fn begin(provider: &str, now: DateTime<Utc>) -> Self {
        Self {
            provider: provider.to_owned(),
            state: random_secret(),
            nonce: random_secret(),
            verifier: random_secret(),
            redirect_to: None,
            remember_me: false,
            invitation: None,
            link: None,
            expires_at: (now + VALID_FOR).timestamp(),
        }
    }

    /// Gives it to the browser.
    pub(super) async fn remember(&self, accounts: &Accounts, reply: &mut Reply) -> Result<(), AccountsError> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(self).map_err(AccountsError::internal)?);
        let sealed = accounts.vault.seal(HOST, None, SEALED_AS, &plain).await.map_err(AccountsError::internal)?;
        let value = URL_SAFE_NO_PAD.encode(sealed);
        let cookie = Cookie { name: COOKIE, value: &value, path: PATH, age_seconds: Some(VALID_FOR.num_seconds()) };
        cookie.set(accounts, reply, "Lax");
        Ok(())
    }

    /// Takes it back: from this browser, for this provider and this `state`, in time, and once.
    pub(super) async fn recall(context: &Context<'_>, provider: &str) -> Result<Self, AccountsError> {
        let state = context.query.get("state").ok_or_else(strange)?;
        let sealed = cookie(context, COOKIE, COOKIE_CHARACTERS_MAX).ok_or_else(strange)?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| strange())?;
        let vault = &context.accounts.vault;
        let plain = vault.open(HOST, None, SEALED_AS, &sealed).await.map_err(|_| strange())?;
        let plain = zeroize::Zeroizing::new(plain);
        let flow: Self = serde_json::from_slice(&plain).map_err(|_| strange())?;
        let is_same = bool::from(flow.state.as_bytes().ct_eq(state.as_bytes())) && flow.provider == provider;
        let now = context.accounts.now();
        if !is_same || flow.expires_at <= now.timestamp() {
            return Err(strange());
        }
        let sql = "INSERT INTO berth_used_login_states (state_hash, used_at) VALUES ($1, $2) \
             ON CONFLICT (state_hash) DO NOTHING";
        if context.accounts.database.execute(sql, &values![hash_of(state), now]).await? == 0 {
            return Err(strange());
        }
        Ok(flow)
    }
}

/// Takes the cookie from the browser.
pub(super) fn forget(accounts: &Accounts, reply: &mut Reply) {
    Cookie { name: COOKIE, value: "", path: PATH, age_seconds: Some(0) }.set(accounts, reply, "Lax");
}

/// One text for everything that does not fit: which part it was is nobody's business.
fn strange() -> AccountsError {
    AccountsError::field("state", "belongs to no sign-in that this browser began in the last ten minutes; begin again")
}
