//! `Idempotency-Key`: the same request sent twice has one effect and one answer, for a day.
//!
//! A key belongs to one organization, user, API key and route. It never replays an answer to another request, and never
//! lets a second attempt run while the first may still be at work.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_TYPE, HeaderMap, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::error::GatewayError;
use super::request_id;
use super::respond::ResponseBody;
use crate::database::{Database, DatabaseError, Row, values};
use crate::principal::Principal;

/// The header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is a repetition.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Characters of a key.
const KEY_CHARS_MAX: usize = 128;
/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// The largest body that is kept. A larger answer is not replayed; its key is refused from then on, not run again.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What an attempt may need beyond its own time limit before another may take its key over.
const LOCK_MARGIN: Duration = Duration::from_secs(30);
/// Rows removed by one statement.
const PURGE_ROWS: i64 = 1_000;
/// The status of an answer that was too large to keep.
const NOT_KEPT: i64 = 0;

/// The table of kept answers.
#[derive(Clone)]
pub(crate) struct Idempotency {
    database: Database,
}

/// A request with a key, reduced to what tells it from others.
pub(super) struct Keyed {
    id: String,
    request_hash: String,
    organization_id: Option<String>,
    user_id: Option<String>,
    route: String,
}

/// What is to be done with a request that has a key.
pub(super) enum Begun {
    /// Nobody has done it: do it, and record how it ended.
    First(Attempt),
    /// It was done before.
    Replay(Response<ResponseBody>),
}

/// The right to run a keyed request, and the duty to say how it ended.
pub(super) struct Attempt {
    database: Database,
    id: String,
    attempt_id: String,
}

/// The request's key, where it has one that counts.
///
/// # Errors
/// `Malformed` for a key that is empty, too long, or not visible ASCII, and for two keys.
pub(super) fn key<'a>(method: &Method, headers: &'a HeaderMap) -> Result<Option<&'a str>, GatewayError> {
    if *method != Method::POST {
        return Ok(None);
    }
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_sound = (1..=KEY_CHARS_MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if is_sound && values.next().is_none() => Ok(Some(key)),
        _ => Err(GatewayError::Malformed("Idempotency-Key must be one value of 1 to 128 visible ASCII characters")),
    }
}

impl Keyed {
    /// Reduces a request. None for a caller without an identity: nothing would tell two of them apart.
    pub(super) fn new(key: &str, principal: &Principal, parts: &http::request::Parts, body: &[u8]) -> Option<Self> {
        let user_id = principal.user_id.as_deref();
        if user_id.is_none() && principal.organization_id.is_none() {
            return None;
        }
        let organization_id = principal.organization_id.as_deref();
        let route = format!("{} {}", parts.method, parts.uri.path());
        let media_type = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let query = parts.uri.query().unwrap_or_default();
        let mut scope = vec![
            organization_id.unwrap_or_default().as_bytes(),
            user_id.unwrap_or_default().as_bytes(),
            route.as_bytes(),
            key.as_bytes(),
        ];
        // An API key may see less than its maker and the maker's other keys: it gets no answer that was theirs.
        scope.extend(principal.api_key_id.as_deref().map(str::as_bytes));
        Some(Self {
            id: digest(&scope),
            request_hash: digest(&[query.as_bytes(), media_type, body]),
            organization_id: organization_id.map(str::to_owned),
            user_id: user_id.map(str::to_owned),
            route,
        })
    }
}

impl Idempotency {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Takes the key for a request that may run for `time_max`, or finds what it came to.
    ///
    /// # Errors
    /// `Conflict` when the key was used for another request or its answer was not kept, `KeyInFlight` while the first
    /// attempt runs, `Database` when nothing can be said: then nothing may run.
    pub(super) async fn begin(&self, keyed: &Keyed, time_max: Duration) -> Result<Begun, GatewayError> {
        let now = Utc::now();
        let attempt = Attempt {
            database: self.database.clone(),
            id: keyed.id.clone(),
            attempt_id: request_id::generate().to_string(),
        };
        let locked_until = now + time_max + LOCK_MARGIN;
        if self.insert(keyed, &attempt, now, locked_until).await? {
            return Ok(Begun::First(attempt));
        }
        let row = self
            .database
            .query_one(
                "SELECT request_hash, attempt_id, locked_until, status, headers, body, expires_at \
                 FROM berth_idempotency WHERE id = $1",
                &values![keyed.id.as_str()],
            )
            .await?;
        // Released between the two statements: whoever released it has failed, and this one is told to come again.
        let Some(row) = row else { return Err(GatewayError::KeyInFlight) };
        let status = row.optional_integer("status")?;
        let is_over = row.timestamp("expires_at")? <= now;
        let is_abandoned = status.is_none() && row.timestamp("locked_until")? <= now;
        if is_over || is_abandoned {
            let earlier = row.text("attempt_id")?;
            return match self.take_over(keyed, &attempt, &earlier, now, locked_until).await? {
                true => Ok(Begun::First(attempt)),
                false => Err(GatewayError::KeyInFlight),
            };
        }
        if row.text("request_hash")? != keyed.request_hash {
            return Err(GatewayError::Conflict("this idempotency key was used for another request"));
        }
        match status {
            None => Err(GatewayError::KeyInFlight),
            Some(NOT_KEPT) => {
                Err(GatewayError::Conflict("the request was done, but its answer was too large to keep for a replay"))
            }
            Some(status) => replay(status, &row).map(Begun::Replay),
        }
    }

    /// Removes what is older than a day. Returns how many.
    pub(crate) async fn purge(&self) -> Result<u64, DatabaseError> {
        let mut removed = 0;
        loop {
            let count = self
                .database
                .execute(
                    "DELETE FROM berth_idempotency WHERE id IN \
                     (SELECT id FROM berth_idempotency WHERE expires_at <= $1 LIMIT $2)",
                    &values![Utc::now(), PURGE_ROWS],
                )
                .await?;
            removed += count;
            if count < PURGE_ROWS as u64 {
                return Ok(removed);
            }
        }
    }

    async fn insert(
        &self,
        keyed: &Keyed,
        attempt: &Attempt,
        now: DateTime<Utc>,
        locked_until: DateTime<Utc>,
    ) -> Result<bool, DatabaseError> {
        let inserted = self
            .database
            .execute(
                "INSERT INTO berth_idempotency (id, organization_id, user_id, route, request_hash, attempt_id, \
                 locked_until, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                 ON CONFLICT (id) DO NOTHING",
                &values![
                    keyed.id.as_str(),
                    keyed.organization_id.clone(),
                    keyed.user_id.clone(),
                    keyed.route.as_str(),
                    keyed.request_hash.as_str(),
                    attempt.attempt_id.as_str(),
                    locked_until,
                    now,
                    now + KEPT_FOR
                ],
            )
            .await?;
        Ok(inserted == 1)
    }

    /// Gives an expired or abandoned key to a new attempt. False when another was quicker.
    async fn take_over(
        &self,
        keyed: &Keyed,
        attempt: &Attempt,
        earlier: &str,
        now: DateTime<Utc>,
        locked_until: DateTime<Utc>,
    ) -> Result<bool, DatabaseError> {
        let taken = self
            .database
            .execute(
                "UPDATE berth_idempotency SET attempt_id = $1, request_hash = $2, locked_until = $3, created_at = $4, \
                 expires_at = $5, status = NULL, headers = NULL, body = NULL WHERE id = $6 AND attempt_id = $7",
                &values![
                    attempt.attempt_id.as_str(),
                    keyed.request_hash.as_str(),
                    locked_until,
                    now,
                    now + KEPT_FOR,
                    keyed.id.as_str(),
                    earlier
                ],
            )
            .await?;
        Ok(taken == 1)
    }
}

impl Attempt {
    /// Keeps an answer. What is neither a success nor the client's fault is not kept: the key is free again. `body` is
    /// none when it was too large to keep.
    ///
    /// A failure to record is logged: the key then stays taken until its lock ends, so nothing runs twice meanwhile.
    pub(super) async fn finish(self, status: StatusCode, headers: &HeaderMap, body: Option<&Bytes>) {
        if status.is_server_error() || status.is_informational() || may_come_again(status) {
            return self.release().await;
        }
        if let Err(error) = self.keep(status, headers, body).await {
            tracing::warn!(target: "gateway", %error, "the answer to a request with an idempotency key was not kept");
        }
    }

    /// Gives the key free again: nothing final has come of the request.
    pub(super) async fn release(self) {
        let released = self
            .database
            .execute(
                "DELETE FROM berth_idempotency WHERE id = $1 AND attempt_id = $2",
                &values![self.id.as_str(), self.attempt_id.as_str()],
            )
            .await;
        if let Err(error) = released {
            tracing::warn!(target: "gateway", %error, "an idempotency key was not given free");
        }
    }

    async fn keep(&self, status: StatusCode, headers: &HeaderMap, body: Option<&Bytes>) -> Result<u64, DatabaseError> {
        let body = body.filter(|body| body.len() <= ANSWER_BYTES_MAX);
        let status = body.map_or(NOT_KEPT, |_| i64::from(status.as_u16()));
        let pairs: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| **name != SET_COOKIE)
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let headers = serde_json::to_value(pairs).unwrap_or_default();
        self.database
            .execute(
                "UPDATE berth_idempotency SET status = $1, headers = $2, body = $3 WHERE id = $4 AND attempt_id = $5",
                &values![status, headers, body.map(|body| body.to_vec()), self.id.as_str(), self.attempt_id.as_str()],
            )
            .await
    }
}

/// A refusal that says "not now" rather than "no": the same request may well succeed later.
fn may_come_again(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS | StatusCode::LOCKED
    )
}

fn replay(status: i64, row: &Row) -> Result<Response<ResponseBody>, GatewayError> {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let Some(status) = status else {
        return Err(DatabaseError::internal("a kept answer has no valid status").into());
    };
    let mut response = Response::new(ResponseBody::full(row.bytes("body")?));
    *response.status_mut() = status;
    for (name, value) in row.json::<Vec<(String, String)>>("headers")? {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// SHA-256 over the parts, each with its length before it, so that no two lists of parts look alike.
fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests;
