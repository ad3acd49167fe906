//! The main app: auth, users, organizations, memberships, roles, permissions and audit, and who a bearer token is.
//!
//! It must never trust a header for an identity, never tell an unknown user from a wrong password, and never let a row
//! of one organization be seen from another.

mod access;
mod api_keys;
mod attempts;
mod audit;
mod auth;
mod context;
mod dispatch;
mod enter;
mod error;
mod identity;
mod input;
mod invitations;
mod list;
mod memberships;
mod oidc;
mod organizations;
mod password;
mod providers;
mod recovery;
mod roles;
mod routes;
mod schema;
mod sessions;
mod signing_keys;
mod sweep;
mod teams;
#[cfg(test)]
mod tests;
mod token;
mod users;

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use crate::capability::cache::CacheRoom;
use crate::capability::mail::MailRoom;
use crate::capability::queue::QueueRoom;
use crate::capability::secrets::Vault;
use crate::database::{Database, values};
use crate::principal::{PermissionSet, Principal};

pub(crate) use api_keys::is_api_key;
pub(crate) use error::{AccountsError, AuthenticationError, FieldError};
pub(crate) use oidc::ProviderOptions;
pub(crate) use password::Cost;
pub(crate) use routes::routes;

/// Custom roles whose codes are remembered, and how long.
const ROLES_MAX: u64 = 10_000;
const ROLES_FOR: Duration = Duration::from_secs(300);

/// What the main app stands on.
pub(crate) struct Foundations {
    /// With the host's migrations applied.
    pub database: Database,
    pub cache: CacheRoom,
    pub queue: QueueRoom,
    pub vault: Vault,
    pub mail: MailRoom,
}

/// What the operator decides.
#[derive(Clone, Debug)]
pub(crate) struct AccountsOptions {
    /// The bearer token with the platform role.
    pub operator_token: Option<String>,
    /// Sign-ins of one address in 15 minutes; 0 turns the limit off.
    pub logins_per_quarter_hour: u32,
    /// Where people reach this host: for links in mails, and for login providers to come back to.
    pub public_url: Option<String>,
    /// Origins that a browser may be sent to after signing in.
    pub allowed_origins: Vec<String>,
    /// Login providers; each needs `public_url`.
    pub login_providers: Vec<ProviderOptions>,
    /// Whether browsers reach this host by HTTPS only.
    pub cookies_secure: bool,
    /// How dear a password's hash is.
    pub password_cost: Cost,
}

impl Default for AccountsOptions {
    fn default() -> Self {
        Self {
            operator_token: None,
            logins_per_quarter_hour: 5,
            public_url: None,
            allowed_origins: Vec::new(),
            login_providers: Vec::new(),
            cookies_secure: false,
            password_cost: Cost::STANDARD,
        }
    }
}

/// The main app. One a host, behind an `Arc`.
pub(crate) struct Accounts {
    database: Database,
    cache: CacheRoom,
    is_cache_shared: bool,
    queue: QueueRoom,
    vault: Vault,
    mail: MailRoom,
    mails: Arc<Semaphore>,
    options: AccountsOptions,
    passwords: password::Passwords,
    providers: oidc::Providers,
    keyring: ArcSwap<token::Keyring>,
    keys_reloaded_at: AtomicI64,
    identities: Arc<identity::Identities>,
    /// Writes of `last_access_at` that may be under way at once.
    access_notes: Arc<Semaphore>,
    role_permissions: moka::sync::Cache<(String, i64), Arc<PermissionSet>>,
    login_counters: moka::sync::Cache<String, Arc<AtomicU32>>,
    /// Networks that have shown too many keys that are none, and in which window.
    guessers: moka::sync::Cache<String, u64>,
    operator_organization: OnceLock<Arc<str>>,
    router: dispatch::Router,
    audit_queue: ArcSwapOption<mpsc::Sender<audit::Noted>>,
    audit_dropped: AtomicU64,
    audit_writer: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// How far tests have moved the clock, in milliseconds.
    #[cfg(test)]
    clock_moved_ms: AtomicI64,
}

/// Who calls a main-app route, and from where. The principal is anonymous where there is no token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub principal: Arc<Principal>,
    pub request_id: Arc<str>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

/// An answer of a main-app route: problems are errors, so this is always a success.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: http::StatusCode,
    /// `ETag`, `Set-Cookie`; content type and length are the gateway's.
    pub headers: http::HeaderMap,
    pub body: Option<serde_json::Value>,
}

/// What happened, for `berth_audit_logs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditEntry {
    pub organization_id: Option<String>,
    pub user_id: Option<String>,
    /// Dotted, as in `request.denied`.
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    pub metadata: Option<serde_json::Value>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Accounts {
    /// Opens the main app: loads or makes the signing keys, and fills the catalogue of permissions.
    ///
    /// # Errors
    /// `Unavailable` while the database does not answer; `Internal` when a signing key cannot be opened, as with
    /// another master key.
    pub(crate) async fn open(foundations: Foundations, options: AccountsOptions) -> Result<Arc<Self>, AccountsError> {
        let Foundations { database, cache, queue, vault, mail } = foundations;
        let now = Utc::now();
        let keyring = signing_keys::load_or_create(&database, &vault, now).await?;
        roles::register(&database, roles::CODES, now).await?;
        let (audit_queue, entries) = mpsc::channel(audit::WAITING_MAX);
        let writer = tokio::spawn(audit::write(database.clone(), entries));
        let accounts = Self {
            is_cache_shared: cache.kind() != "memory",
            identities: Arc::new(identity::Identities::new(options.operator_token.as_deref())),
            access_notes: Arc::new(Semaphore::new(identity::ACCESS_NOTES_AT_ONCE_MAX)),
            passwords: password::Passwords::new(options.password_cost)?,
            providers: oidc::Providers::new(&options.login_providers, options.public_url.as_deref())?,
            mails: Arc::new(Semaphore::new(recovery::MAILS_AT_ONCE_MAX)),
            keyring: ArcSwap::from_pointee(keyring),
            keys_reloaded_at: AtomicI64::new(0),
            role_permissions: moka::sync::Cache::builder().max_capacity(ROLES_MAX).time_to_live(ROLES_FOR).build(),
            login_counters: moka::sync::Cache::builder()
                .max_capacity(attempts::ADDRESSES_MAX)
                .time_to_live(Duration::from_secs(1_800))
                .build(),
            guessers: moka::sync::Cache::builder()
                .max_capacity(attempts::ADDRESSES_MAX)
                .time_to_live(Duration::from_secs(1_800))
                .build(),
            operator_organization: OnceLock::new(),
            router: dispatch::Router::new()?,
            audit_queue: ArcSwapOption::from_pointee(audit_queue),
            audit_dropped: AtomicU64::new(0),
            audit_writer: Mutex::new(Some(writer)),
            #[cfg(test)]
            clock_moved_ms: AtomicI64::new(0),
            database,
            cache,
            queue,
            vault,
            mail,
            options,
        };
        accounts.load_operator_organization().await?;
        Ok(Arc::new(accounts))
    }

    /// The present moment, in milliseconds as it is stored.
    fn now(&self) -> DateTime<Utc> {
        let now = Utc::now();
        #[cfg(test)]
        let now = now + chrono::Duration::milliseconds(self.clock_moved_ms.load(std::sync::atomic::Ordering::Acquire));
        DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
    }

    /// The operator organization, once there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) async fn operator_organization(&self) -> Result<Option<Arc<str>>, AccountsError> {
        if self.operator_organization.get().is_none() {
            self.load_operator_organization().await?;
        }
        Ok(self.operator_organization.get().cloned())
    }

    /// Whether there is an organization with this id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) async fn has_organization(&self, id: &str) -> Result<bool, AccountsError> {
        let sql = "SELECT id FROM organizations WHERE id = $1 AND deleted_at IS NULL";
        Ok(self.database.query_one(sql, &values![id]).await?.is_some())
    }

    /// Finds out which organization is the operator's; another host may have made it.
    pub(super) async fn load_operator_organization(&self) -> Result<(), AccountsError> {
        let sql = "SELECT value FROM berth_facts WHERE name = $1";
        let row = self.database.query_one(sql, &values![organizations::OPERATOR_FACT]).await?;
        if let Some(row) = row {
            // Set before only with the same value: the row never changes.
            let _ = self.operator_organization.set(row.text("value")?.into());
        }
        Ok(())
    }
}
