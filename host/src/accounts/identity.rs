//! Who a bearer is: a token or an API key, verified once, then remembered, but never longer than the session or key lives.
//!
//! A token's signature is checked once. Whether its session lives and what its user may do is asked of the database at
//! most once a second and token, and at once after a change on this host; a revocation on another host is seen in the
//! shared cache with the next request. It must never serve a right that was read before a change it knows of.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq;

use super::Accounts;
use super::access::{self, Access};
use super::api_keys::{self, KnownKey};
use super::context::shared;
use super::error::AuthenticationError;
use super::token::{self, Claims};
use crate::capability::acting::{Members, MembersAway};
use crate::capability::cache::CacheRoom;
use crate::database::{DatabaseError, Row, Value, values};
use crate::principal::{Principal, PrincipalKind};

/// Verified tokens that are remembered; the least used are forgotten and verified again.
const TOKENS_MAX: u64 = 20_000;
/// How long the answer of the `sessions` row is good when nothing changed on this host.
const LIVE_FOR: Duration = Duration::from_secs(1);
/// How long a revoked session is kept in the shared cache: as long as its access tokens can live.
const REVOKED_FOR: Duration = Duration::from_secs(token::ACCESS_SECONDS as u64 + 60);
/// Texts in the form of a key that were looked for in vain, and how long they are remembered. A key that is made later is none
/// of them: nobody could have known it before.
const STRANGERS_MAX: u64 = 20_000;
const STRANGERS_FOR: Duration = Duration::from_secs(300);
/// Counters of changes; users and organizations share them by hash.
const STRIPES: usize = 1_024;
/// `last_access_at` is written at most this often.
const ACCESS_NOTED_EVERY_SECONDS: i64 = 300;
/// Writes of `last_access_at` that may be under way at once.
pub(super) const ACCESS_NOTES_AT_ONCE_MAX: usize = 8;
/// Principals of messages that are remembered, and how long.
const MESSAGE_PRINCIPALS_MAX: u64 = 10_000;

/// The most teams of one user in one organization that are told.
const TEAMS_MAX: usize = 200;

/// What a bearer was found to be, once for all.
enum Proof {
    /// A token whose signature is good.
    Token(Claims),
    /// A key that was made here.
    Key(KnownKey),
}

impl Proof {
    /// What can be revoked: the session, or the key itself.
    fn id(&self) -> &str {
        match self {
            Self::Token(claims) => &claims.sid,
            Self::Key(key) => &key.id,
        }
    }

    fn user_id(&self) -> &str {
        match self {
            Self::Token(claims) => &claims.sub,
            Self::Key(key) => &key.user_id,
        }
    }

    fn organization_id(&self) -> Option<&str> {
        match self {
            Self::Token(claims) => claims.organization_id.as_deref(),
            Self::Key(key) => Some(&key.organization_id),
        }
    }

    /// Unix seconds.
    fn expires_at(&self) -> i64 {
        match self {
            Self::Token(claims) => claims.exp,
            Self::Key(key) => key.expires_at,
        }
    }
}

/// A bearer that proved something.
struct Verified {
    proof: Proof,
    checked: ArcSwapOption<Checked>,
}

/// What the database said, when, and which changes were known then.
struct Checked {
    at: Instant,
    changes: u64,
    principal: Arc<Principal>,
}

/// What is remembered about callers.
pub(super) struct Identities {
    tokens: moka::sync::Cache<[u8; 32], Arc<Verified>>,
    /// Digests of what has the form of a key and is none, or none any more.
    strangers: moka::sync::Cache<[u8; 32], ()>,
    messages: moka::sync::Cache<(String, String), Arc<Checked>>,
    changes: Box<[AtomicU64]>,
    operator: Option<([u8; 32], Arc<Principal>)>,
}

impl Identities {
    pub(super) fn new(operator_token: Option<&str>) -> Self {
        let operator = operator_token.map(|token| {
            let principal = Principal { kind: PrincipalKind::Operator, is_platform: true, ..Principal::anonymous() };
            (token::digest_of(token), Arc::new(principal))
        });
        Self {
            tokens: moka::sync::Cache::builder()
                .max_capacity(TOKENS_MAX)
                .time_to_live(Duration::from_secs(token::ACCESS_SECONDS as u64))
                .build(),
            strangers: moka::sync::Cache::builder().max_capacity(STRANGERS_MAX).time_to_live(STRANGERS_FOR).build(),
            messages: moka::sync::Cache::builder().max_capacity(MESSAGE_PRINCIPALS_MAX).time_to_live(LIVE_FOR).build(),
            changes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            operator,
        }
    }

    /// Everything read about this user, session or organization so far is stale from now on.
    pub(super) fn touch(&self, id: &str) {
        if let Some(stripe) = self.changes.get(stripe_of(id)) {
            stripe.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Ends a session here at once and on other hosts with their next request.
    pub(super) async fn revoke(&self, session_id: &str, cache: &CacheRoom) {
        self.touch(session_id);
        cache.host_set(&revoked_key(session_id), bytes::Bytes::from_static(b"1"), REVOKED_FOR).await;
    }

    /// Remembers that a bearer has ended for good, so that nobody is asked about it again.
    fn bury(&self, digest: [u8; 32]) {
        self.tokens.invalidate(&digest);
        self.strangers.insert(digest, ());
    }

    /// Forgets every token, as if the host had been started anew.
    pub(super) fn forget_tokens(&self) {
        self.tokens.invalidate_all();
    }

    /// A number that grows with every change that could concern one of these ids.
    fn changes_of<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> u64 {
        ids.into_iter()
            .filter_map(|id| self.changes.get(stripe_of(id)))
            .map(|stripe| stripe.load(Ordering::Acquire))
            .sum()
    }
}

impl Accounts {
    /// Who `bearer` is, shown by somebody at `ip`: a user's access token, an API key, or the operator's token.
    pub(crate) async fn authenticate(
        &self,
        bearer: &str,
        ip: Option<IpAddr>,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        let digest = token::digest_of(bearer);
        if let Some((expected, principal)) = &self.identities.operator
            && bool::from(expected.ct_eq(&digest))
        {
            return Ok(Arc::clone(principal));
        }
        let verified = match self.identities.tokens.get(&digest) {
            Some(verified) => verified,
            None => {
                let proof = match api_keys::is_api_key(bearer) {
                    true => Proof::Key(self.prove_key(bearer, digest, ip).await?),
                    false => Proof::Token(self.verify(bearer).await?),
                };
                let verified = Arc::new(Verified { proof, checked: ArcSwapOption::empty() });
                self.identities.tokens.insert(digest, Arc::clone(&verified));
                verified
            }
        };
        let proof = &verified.proof;
        if self.now().timestamp() >= proof.expires_at() {
            self.identities.bury(digest);
            return Err(AuthenticationError::Invalid);
        }
        // A cache in this process holds nothing that the counters of changes do not know.
        if self.is_cache_shared && self.cache.host_get(&revoked_key(proof.id())).await.is_some() {
            return Err(AuthenticationError::Ended);
        }
        // Read before the rows are, so that a change in between makes the answer stale and not the other way round.
        let ids = [Some(proof.id()), Some(proof.user_id()), proof.organization_id()];
        let changes = self.identities.changes_of(ids.into_iter().flatten());
        if let Some(checked) = &*verified.checked.load()
            && checked.changes == changes
            && checked.at.elapsed() < LIVE_FOR
        {
            return Ok(Arc::clone(&checked.principal));
        }
        let at = Instant::now();
        let principal = Arc::new(match proof {
            Proof::Token(claims) => self.read_principal(claims).await?,
            Proof::Key(key) => match self.read_key_principal(key).await {
                Err(AuthenticationError::Invalid) => {
                    self.identities.bury(digest);
                    return Err(AuthenticationError::Invalid);
                }
                read => read?,
            },
        });
        verified.checked.store(Some(Arc::new(Checked { at, changes, principal: Arc::clone(&principal) })));
        Ok(principal)
    }

    /// The key that a bearer is. Whoever has no key can make up any number of them, and each would cost a question to the
    /// database: the same one is looked for once, and what comes from one address is bounded. Tokens need no such bound:
    /// their signature is judged first. Keys that are remembered are not asked about here, so an address shared with
    /// somebody who guesses stays usable for them.
    async fn prove_key(
        &self,
        bearer: &str,
        digest: [u8; 32],
        ip: Option<IpAddr>,
    ) -> Result<KnownKey, AuthenticationError> {
        if self.identities.strangers.contains_key(&digest) {
            return Err(AuthenticationError::Invalid);
        }
        self.refuse_guesses(ip)?;
        let found = self.find_key(bearer).await;
        if matches!(found, Err(AuthenticationError::Invalid)) {
            self.identities.strangers.insert(digest, ());
            self.note_guess(ip).await;
        }
        found
    }

    /// Who a user name and a password are, where the password is an API key: the name has to be the address of the key's
    /// owner, so that a key that was lost does not say by itself what it opens.
    pub(crate) async fn authenticate_by_key(
        &self,
        name: &str,
        password: &str,
        ip: Option<IpAddr>,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        if !api_keys::is_api_key(password) {
            return Err(AuthenticationError::Invalid);
        }
        let principal = self.authenticate(password, ip).await?;
        let name = name.trim().to_lowercase();
        let is_owner = principal.kind == PrincipalKind::ApiKey && principal.email.as_deref() == Some(name.as_str());
        if is_owner { Ok(principal) } else { Err(AuthenticationError::Invalid) }
    }

    /// For whom a message or a tick is handled: with the user's present rights where the user is known, and as the
    /// host itself otherwise. A user who has left the organization has no rights in it.
    pub(crate) async fn principal_for_message(
        &self,
        organization_id: Option<&str>,
        user_id: Option<&str>,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        let (Some(organization_id), Some(user_id)) = (organization_id, user_id) else {
            return Ok(Arc::new(Principal::system(organization_id.map(Into::into), user_id.map(Into::into))));
        };
        let key = (organization_id.to_owned(), user_id.to_owned());
        let changes = self.identities.changes_of([organization_id, user_id]);
        if let Some(checked) = self.identities.messages.get(&key)
            && checked.changes == changes
        {
            return Ok(Arc::clone(&checked.principal));
        }
        let access = self.access_of(user_id, organization_id).await.map_err(unavailable)?;
        let user = self
            .database
            .query_one("SELECT email, name FROM users WHERE id = $1 AND deleted_at IS NULL", &values![user_id])
            .await
            .map_err(unavailable)?;
        let (email, name) = match &user {
            Some(row) => {
                (row.optional_text("email").map_err(unavailable)?, row.optional_text("name").map_err(unavailable)?)
            }
            None => (None, None),
        };
        let base = Principal {
            kind: PrincipalKind::System,
            user_id: Some(user_id.into()),
            email: shared(email),
            name: shared(name),
            ..Principal::anonymous()
        };
        let principal = Arc::new(match access {
            Some(access) => self.with_access(base, &access).await?,
            None => Principal { organization_id: Some(organization_id.into()), ..base },
        });
        let checked = Checked { at: Instant::now(), changes, principal: Arc::clone(&principal) };
        self.identities.messages.insert(key, Arc::new(checked));
        Ok(principal)
    }

    /// A user as they stand now in an organization, as messages of theirs are handled; none without an active membership.
    async fn find_member(
        &self,
        organization_id: &str,
        user_id: &str,
    ) -> Result<Option<Arc<Principal>>, AuthenticationError> {
        let principal = self.principal_for_message(Some(organization_id), Some(user_id)).await?;
        Ok(principal.role_id.is_some().then_some(principal))
    }

    /// The claims of a token; a key of another host that is not known yet is fetched once.
    async fn verify(&self, bearer: &str) -> Result<Claims, AuthenticationError> {
        let keyring = self.keyring.load();
        if keyring.lacks_key_of(bearer) && self.reload_keys().await.is_ok() {
            return self.keyring.load().verify(bearer);
        }
        keyring.verify(bearer)
    }

    /// Asks the database whether the session lives and what its user may do now.
    async fn read_principal(&self, claims: &Claims) -> Result<Principal, AuthenticationError> {
        let sql = "SELECT s.revoked_at, s.expires_at, u.email, u.name, u.is_active \
             FROM sessions s JOIN users u ON u.id = s.user_id \
             WHERE s.id = $1 AND u.id = $2 AND u.deleted_at IS NULL";
        let row = self.database.query_one(sql, &values![&claims.sid, &claims.sub]).await.map_err(unavailable)?;
        let row = row.ok_or(AuthenticationError::Ended)?;
        if !is_live(&row, self.now()).map_err(unavailable)? {
            return Err(AuthenticationError::Ended);
        }
        let base = Principal {
            kind: PrincipalKind::User,
            user_id: Some(claims.sub.as_str().into()),
            session_id: Some(claims.sid.as_str().into()),
            email: shared(row.optional_text("email").map_err(unavailable)?),
            name: shared(row.optional_text("name").map_err(unavailable)?),
            ..Principal::anonymous()
        };
        let Some(organization_id) = claims.organization_id.as_deref() else { return Ok(base) };
        // A membership that has ended ends the token: refreshing it gives one without the organization.
        let access = self.access_of(&claims.sub, organization_id).await.map_err(unavailable)?;
        let access = access.ok_or(AuthenticationError::Ended)?;
        self.note_access(&access);
        self.with_access(base, &access).await
    }

    /// The same for an API key: what its user may do now, within the key's scope, and never as a Super Admin. `Invalid` when the
    /// key itself has ended.
    async fn read_key_principal(&self, key: &KnownKey) -> Result<Principal, AuthenticationError> {
        let Some(live) = self.read_live_key(key).await? else { return Err(AuthenticationError::Invalid) };
        let access = self.access_of(&key.user_id, &key.organization_id).await.map_err(unavailable)?;
        let access = access.ok_or(AuthenticationError::Ended)?;
        let base = Principal {
            kind: PrincipalKind::ApiKey,
            user_id: Some(key.user_id.as_str().into()),
            api_key_id: Some(key.id.as_str().into()),
            email: shared(live.email),
            name: shared(live.name),
            ..Principal::anonymous()
        };
        let principal = self.with_access(base, &access).await?;
        Ok(Principal { is_super_admin: false, is_platform: false, scope: Some(live.scope), ..principal })
    }

    async fn with_access(&self, base: Principal, access: &Access) -> Result<Principal, AuthenticationError> {
        // Another host may have made it: what is not known here yet is asked for.
        let operator = self.operator_organization().await;
        let operator = operator.map_err(|error| AuthenticationError::Unavailable(error.into()))?;
        let is_operator = operator.is_some_and(|id| *id == *access.organization_id);
        let user_id = base.user_id.as_deref().unwrap_or_default();
        Ok(Principal {
            teams: self.teams_of(user_id, &access.organization_id).await.map_err(unavailable)?.into(),
            organization_id: Some(access.organization_id.as_str().into()),
            role_id: Some(access.role_id.as_str().into()),
            is_super_admin: access.is_super_admin,
            is_platform: access.is_super_admin && is_operator,
            permissions: Arc::clone(&access.permissions),
            ..base
        })
    }

    /// The teams of an organization that a user is in.
    async fn teams_of(&self, user_id: &str, organization_id: &str) -> Result<Vec<String>, DatabaseError> {
        let sql = format!(
            "SELECT tm.team_id FROM team_members tm JOIN teams t ON t.id = tm.team_id \
             WHERE tm.user_id = $1 AND t.organization_id = $2 ORDER BY tm.team_id LIMIT {TEAMS_MAX}"
        );
        let rows = self.database.query(&sql, &values![user_id, organization_id]).await?;
        rows.iter().map(|row| row.text("team_id")).collect()
    }

    /// Writes `last_access_at` now and then, beside the request. Too many at once, and the next request does it.
    fn note_access(&self, access: &Access) {
        let now = self.now();
        let before = now - chrono::Duration::seconds(ACCESS_NOTED_EVERY_SECONDS);
        if access.last_access_at.is_some_and(|at| at > before) {
            return;
        }
        let sql = "UPDATE organization_memberships SET last_access_at = $2 \
             WHERE id = $1 AND (last_access_at IS NULL OR last_access_at <= $3)";
        self.note_later(sql, values![&access.membership_id, now, before]);
    }

    /// Runs one small update beside the request; where too many are under way, not at all.
    pub(super) fn note_later(&self, sql: &'static str, row: Vec<Value>) {
        let Ok(permit) = Arc::clone(&self.access_notes).try_acquire_owned() else { return };
        let database = self.database.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = database.execute(sql, &row).await {
                tracing::debug!(%error, "an access was not noted");
            }
        });
    }

    /// A user's rights in an organization; none without an active membership.
    pub(super) async fn access_of(
        &self,
        user_id: &str,
        organization_id: &str,
    ) -> Result<Option<Access>, DatabaseError> {
        let row = self.database.query_one(access::SELECT, &values![user_id, organization_id, true, self.now()]).await?;
        let Some(row) = row else { return Ok(None) };
        let role_id = row.text("role_id")?;
        let key = (role_id.clone(), row.integer("role_version")?);
        let permissions = match access::system_permissions(&row)? {
            Some(permissions) => permissions,
            None => match self.role_permissions.get(&key) {
                Some(permissions) => permissions,
                None => {
                    let rows = self.database.query(access::SELECT_CODES, &values![&role_id]).await?;
                    let permissions = access::custom_permissions(&rows)?;
                    self.role_permissions.insert(key, Arc::clone(&permissions));
                    permissions
                }
            },
        };
        Ok(Some(Access::of(&row, role_id, permissions)?))
    }
}

#[async_trait]
impl Members for Accounts {
    async fn member(&self, organization_id: &str, user_id: &str) -> Result<Option<Arc<Principal>>, MembersAway> {
        self.find_member(organization_id, user_id).await.map_err(|error| {
            tracing::warn!(%error, "a member could not be looked up");
            MembersAway
        })
    }
}

fn is_live(row: &Row, now: DateTime<Utc>) -> Result<bool, DatabaseError> {
    Ok(row.optional_timestamp("revoked_at")?.is_none()
        && row.timestamp("expires_at")? > now
        && row.boolean("is_active")?)
}

fn revoked_key(session_id: &str) -> String {
    format!("session-revoked:{session_id}")
}

/// Where an id's changes are counted: FNV-1a over its bytes.
fn stripe_of(id: &str) -> usize {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % STRIPES as u64) as usize
}

pub(super) fn unavailable(error: DatabaseError) -> AuthenticationError {
    AuthenticationError::Unavailable(error.into())
}
