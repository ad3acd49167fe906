//! Failed sign-ins: how many an address may make, and when an account locks.
//!
//! It must never tell whether an account exists: unknown addresses lock like known ones.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Accounts;
use super::context::{Change, Context, new_id};
use super::error::{AccountsError, AuthenticationError};
use crate::database::{Rows, values};

/// Failures that lock an account.
const FAILURES_MAX: usize = 5;
/// Within which time they must lie.
const WINDOW: chrono::Duration = chrono::Duration::minutes(15);
/// How long the account stays locked after the last of them.
const LOCKED_FOR: chrono::Duration = chrono::Duration::minutes(30);
/// The window in which sign-ins of one address are counted, in seconds.
const ADDRESS_WINDOW_SECONDS: u64 = 900;
/// Addresses that are counted here when the shared cache is away.
pub(super) const ADDRESSES_MAX: u64 = 50_000;

/// Registrations and refreshes of one address in that window: a whole office may have one address.
const REGISTRATIONS_MAX: u32 = 60;
const REFRESHES_MAX: u32 = 1_200;
/// Different texts in the form of an API key that are none, from one address in that window. A program with an old key shows
/// the same one again and again, which counts once.
const GUESSES_MAX: u32 = 100;

/// What an address may do so often without a credential.
#[derive(Clone, Copy, Debug)]
pub(super) enum Visit {
    Registration,
    Refresh,
}

impl Visit {
    const fn name(self) -> &'static str {
        match self {
            Self::Registration => "register",
            Self::Refresh => "refresh",
        }
    }
}

/// The last failures since the last success, newest first. Parameters: address, false, since, true.
fn last_failures() -> String {
    format!(
        "SELECT at FROM login_attempts a WHERE a.email = $1 AND a.success = $2 AND a.at > $3 \
             AND NOT EXISTS (\
                 SELECT 1 FROM login_attempts s WHERE s.email = $1 AND s.success = $4 AND s.at > $3 AND s.at >= a.at) \
         ORDER BY a.at DESC LIMIT {FAILURES_MAX}"
    )
}

impl Accounts {
    /// Counts what an address does beside signing in. Over the limit the answer is 429.
    pub(super) async fn count_visit(&self, ip: Option<IpAddr>, visit: Visit) -> Result<(), AccountsError> {
        let most = match visit {
            Visit::Registration => REGISTRATIONS_MAX,
            Visit::Refresh => REFRESHES_MAX,
        };
        match self.count(ip, visit.name(), most).await {
            Some(retry_after_seconds) => Err(AccountsError::RateLimited { retry_after_seconds }),
            None => Ok(()),
        }
    }

    /// Counts a sign-in of an address. Over the limit the answer is 429, or 423 when the account is locked anyway.
    pub(super) async fn count_login(&self, ip: Option<IpAddr>, email: &str) -> Result<(), AccountsError> {
        match self.count(ip, "login", self.options.logins_per_quarter_hour).await {
            Some(retry_after_seconds) => {
                self.refuse_locked(email).await?;
                Err(AccountsError::RateLimited { retry_after_seconds })
            }
            None => Ok(()),
        }
    }

    /// Counts one of an address within the present quarter of an hour. Returns how long it lasts when that was too many.
    async fn count(&self, ip: Option<IpAddr>, what: &str, most: u32) -> Option<u64> {
        let ip = ip.filter(|_| self.options.logins_per_quarter_hour > 0)?;
        let now = self.now().timestamp().unsigned_abs();
        let window = now / ADDRESS_WINDOW_SECONDS;
        let key = format!("{what}:{}:{window}", network_of(ip));
        let counted = match self.cache.host_increment(&key, 1, Duration::from_secs(ADDRESS_WINDOW_SECONDS)).await {
            Ok(count) => count,
            // A lost cache must not open the door: this host then counts alone.
            Err(_) => {
                let counter = self.login_counters.get_with(key, || Arc::new(AtomicU32::new(0)));
                i64::from(counter.fetch_add(1, Ordering::AcqRel)) + 1
            }
        };
        (counted > i64::from(most)).then(|| ADDRESS_WINDOW_SECONDS - now % ADDRESS_WINDOW_SECONDS)
    }

    /// Counts an API key of an address that is none.
    pub(super) async fn note_guess(&self, ip: Option<IpAddr>) {
        let is_over = self.count(ip, "key", GUESSES_MAX).await.is_some();
        if let (true, Some(ip)) = (is_over, ip) {
            self.guessers.insert(network_of(ip), self.now().timestamp().unsigned_abs() / ADDRESS_WINDOW_SECONDS);
        }
    }

    /// Refuses an address that has shown too many of them in the present quarter of an hour. What other hosts have counted is
    /// known here after one more: asking the shared cache first would make every key dearer.
    pub(super) fn refuse_guesses(&self, ip: Option<IpAddr>) -> Result<(), AuthenticationError> {
        let now = self.now().timestamp().unsigned_abs();
        let refused_in = ip.and_then(|ip| self.guessers.get(&network_of(ip)));
        match refused_in {
            Some(window) if window == now / ADDRESS_WINDOW_SECONDS => {
                let retry_after_seconds = ADDRESS_WINDOW_SECONDS - now % ADDRESS_WINDOW_SECONDS;
                Err(AuthenticationError::TooManyGuesses { retry_after_seconds })
            }
            _ => Ok(()),
        }
    }

    /// Refuses while the account is locked.
    pub(super) async fn refuse_locked(&self, email: &str) -> Result<(), AccountsError> {
        let now = self.now();
        let rows =
            self.database.query(&last_failures(), &values![email, false, now - WINDOW - LOCKED_FOR, true]).await?;
        judge(&rows, now)
    }
}

/// The same within a change, so that of many guesses at once only five count.
pub(super) async fn refuse_locked_in(
    change: &mut Change<'_>,
    email: &str,
    now: DateTime<Utc>,
) -> Result<(), AccountsError> {
    let rows = change.query(&last_failures(), &values![email, false, now - WINDOW - LOCKED_FOR, true]).await?;
    judge(&rows, now)
}

/// Notes an attempt.
pub(super) async fn note(
    change: &mut Change<'_>,
    context: &Context<'_>,
    email: &str,
    user_id: Option<&str>,
    success: bool,
) -> Result<(), AccountsError> {
    let sql = "INSERT INTO login_attempts (id, email, user_id, ip, user_agent, success, at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row = values![new_id(), email, user_id, context.ip(), context.user_agent(), success, context.accounts.now()];
    change.execute(sql, &row).await?;
    Ok(())
}

fn judge(failures: &Rows, now: DateTime<Utc>) -> Result<(), AccountsError> {
    if failures.len() < FAILURES_MAX {
        return Ok(());
    }
    let times = failures.iter().map(|row| row.timestamp("at")).collect::<Result<Vec<_>, _>>()?;
    let (Some(newest), Some(oldest)) = (times.first(), times.last()) else { return Ok(()) };
    let until = *newest + LOCKED_FOR;
    if *newest - *oldest > WINDOW || now >= until {
        return Ok(());
    }
    let retry_after_seconds = (until - now).num_seconds().max(1).unsigned_abs();
    Err(AccountsError::Locked { retry_after_seconds })
}

/// An IPv4 address, or the /64 that one IPv6 subscriber has.
fn network_of(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}-{b:x}-{c:x}-{d:x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::network_of;

    #[test]
    fn one_subscriber_is_one_network() {
        assert_eq!(network_of("2001:db8::1".parse().unwrap()), network_of("2001:db8::ffff:2".parse().unwrap()));
        assert_ne!(network_of("2001:db8:0:1::1".parse().unwrap()), network_of("2001:db8::1".parse().unwrap()));
        assert_eq!(network_of("::ffff:192.0.2.7".parse().unwrap()), "192.0.2.7");
    }
}
