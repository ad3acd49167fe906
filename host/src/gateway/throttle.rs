//! How often one caller may call: fixed windows of a minute, counted after authentication in the shared cache.
//!
//! A lost cache refuses no request unless the operator wants that: then nothing is counted, or nothing is let through.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::GatewayError;
use crate::capability::cache::{CacheError, CacheRoom};
use crate::deploy::{SlotOptions, canonical};
use crate::principal::{Principal, PrincipalKind};

/// Seconds of a window.
const WINDOW_SECONDS: u64 = 60;
/// Requests a minute of one caller, where nothing else is said.
const PER_PRINCIPAL_DEFAULT: u32 = 600;
/// Requests a minute of one address without a token; never more than a signed-in caller's.
const PER_STRANGER: u32 = 100;
/// A window outlives its end a little, so that a late clock finds it.
const COUNTER_TTL: Duration = Duration::from_secs(2 * WINDOW_SECONDS);

const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Requests a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimits {
    /// Of one user in one organization; 0 turns every limit off.
    pub per_principal: u32,
    /// Of all users of one organization together; 0: not counted.
    pub per_organization: u32,
    /// From one address, with or without a token; 0: not counted.
    pub per_address: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { per_principal: PER_PRINCIPAL_DEFAULT, per_organization: 0, per_address: 0 }
    }
}

/// Counts requests.
pub(super) struct Throttle {
    cache: CacheRoom,
    limits: RateLimits,
    refused: AtomicU64,
    /// Whether requests that cannot be counted are refused.
    refuses_uncounted: bool,
    /// Whether it was said that requests are not counted; once for each outage.
    has_said: AtomicBool,
}

/// What is left of the present window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    limit: u32,
    remaining: u32,
    /// Seconds until the next window.
    reset_seconds: u64,
}

/// A limit that holds instead of the host's, counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnLimit<'a> {
    /// The plugin, or the path prefix below which it holds.
    pub name: &'a str,
    pub per_minute: u32,
}

/// Who is counted.
#[derive(Clone, Copy)]
pub(super) enum Caller<'a> {
    SignedIn(&'a Principal),
    Anonymous(IpAddr),
}

/// The limit that the manifest gives to a plugin's path: the longest prefix of whole segments, else the plugin's own.
///
/// The path is read as routing reads it: a component decodes what it is sent, so an escaped letter must not lead past a limit.
pub(super) fn own_limit<'a>(options: &'a SlotOptions, path: &str) -> Option<OwnLimit<'a>> {
    // One without a reading leads to no plugin.
    let path = canonical(path)?;
    let below = options.rate_limits.iter().filter(|limit| {
        path.strip_prefix(limit.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let longest = below.max_by_key(|limit| limit.prefix.len());
    let of_route = longest.map(|limit| OwnLimit { name: &limit.prefix, per_minute: limit.per_minute });
    of_route.or_else(|| {
        let per_minute = options.plugin.limits.rate_per_minute?;
        Some(OwnLimit { name: &options.plugin.name, per_minute })
    })
}

impl Throttle {
    pub(super) fn new(cache: CacheRoom, limits: RateLimits, refuses_uncounted: bool) -> Self {
        Self { cache, limits, refused: AtomicU64::new(0), refuses_uncounted, has_said: AtomicBool::new(false) }
    }

    /// Requests that were refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether nothing is counted at all.
    pub(super) fn is_off(&self) -> bool {
        self.limits.per_principal == 0
    }

    /// Counts one request of `caller`, which comes from `address`.
    ///
    /// Returns what the answer has to say of it: nothing when the limit is off or the cache is lost.
    ///
    /// # Errors
    /// `RateLimited` when a window is used up; the rate is in the first place of the pair either way. `Uncounted` when the
    /// cache is lost and the operator wants nothing uncounted.
    pub(super) async fn count(
        &self,
        caller: Caller<'_>,
        address: IpAddr,
        own: Option<OwnLimit<'_>>,
    ) -> (Option<Rate>, Result<(), GatewayError>) {
        let Some(limit) = self.limit(caller, own.map(|own| own.per_minute)) else { return (None, Ok(())) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        let window = now / WINDOW_SECONDS;
        let mut rate = self.one(limit, &key(caller, own.map(|own| own.name), window), now).await;
        if self.limits.per_organization > 0
            && let Caller::SignedIn(principal) = caller
            && let Some(organization) = &principal.organization_id
        {
            let key = format!("rate/organization/{window}/{organization}");
            rate = tighter(rate, self.one(self.limits.per_organization, &key, now).await);
        }
        if self.limits.per_address > 0 {
            let key = key(Caller::Anonymous(address), Some("address"), window);
            rate = tighter(rate, self.one(self.limits.per_address, &key, now).await);
        }
        let result = match rate {
            Some(Counted { rate, is_over: true }) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(GatewayError::RateLimited { retry_after_seconds: rate.reset_seconds })
            }
            Some(_) => Ok(()),
            None if self.refuses_uncounted => Err(GatewayError::Uncounted),
            None => Ok(()),
        };
        (rate.map(|counted| counted.rate), result)
    }

    /// One counter.
    async fn one(&self, limit: u32, key: &str, now: u64) -> Option<Counted> {
        match self.cache.host_increment(key, 1, COUNTER_TTL).await {
            Ok(count) => {
                self.has_said.store(false, Ordering::Relaxed);
                Some(judge(limit, count, now))
            }
            Err(error) => {
                self.say_once(&error);
                None
            }
        }
    }

    fn say_once(&self, error: &CacheError) {
        if self.has_said.swap(true, Ordering::Relaxed) {
            return;
        }
        let what = if self.refuses_uncounted { "refused" } else { "let through uncounted" };
        tracing::warn!(target: "gateway", %error, "the rate limits have lost their cache: requests are {what} until it is back");
    }

    /// The limit that holds; none when it is off.
    fn limit(&self, caller: Caller<'_>, own: Option<u32>) -> Option<u32> {
        if self.limits.per_principal == 0 {
            return None;
        }
        let limit = own.unwrap_or(self.limits.per_principal);
        let limit = match caller {
            // The operator's own tool must work above all when something is wrong.
            Caller::SignedIn(principal) if principal.kind == PrincipalKind::Operator => 0,
            Caller::SignedIn(_) => limit,
            Caller::Anonymous(_) => limit.min(PER_STRANGER),
        };
        (limit > 0).then_some(limit)
    }
}

impl Rate {
    /// Says it in the answer's headers.
    pub(super) fn decorate(&self, headers: &mut HeaderMap) {
        headers.insert(X_RATELIMIT_LIMIT, HeaderValue::from(self.limit));
        headers.insert(X_RATELIMIT_REMAINING, HeaderValue::from(self.remaining));
        headers.insert(X_RATELIMIT_RESET, HeaderValue::from(self.reset_seconds));
    }
}

/// What one counter says.
#[derive(Clone, Copy)]
struct Counted {
    rate: Rate,
    is_over: bool,
}

fn judge(limit: u32, count: i64, now: u64) -> Counted {
    let reset_seconds = WINDOW_SECONDS - now % WINDOW_SECONDS;
    let remaining = u32::try_from(i64::from(limit).saturating_sub(count)).unwrap_or(0);
    Counted { rate: Rate { limit, remaining, reset_seconds }, is_over: count > i64::from(limit) }
}

/// The counter that leaves less.
fn tighter(one: Option<Counted>, other: Option<Counted>) -> Option<Counted> {
    match (one, other) {
        (Some(one), Some(other)) => {
            let is_other = (other.is_over, one.rate.remaining) > (one.is_over, other.rate.remaining);
            Some(if is_other { other } else { one })
        }
        (one, other) => one.or(other),
    }
}

/// One counter for each caller, window and limit. Ids cannot hold a slash.
fn key(caller: Caller<'_>, own: Option<&str>, window: u64) -> String {
    let mut key = String::with_capacity(112);
    let own = own.unwrap_or("-");
    // Writing to a string cannot fail.
    let _ = match caller {
        Caller::SignedIn(principal) => {
            let organization = principal.organization_id.as_deref().unwrap_or("-");
            let user = principal.user_id.as_deref().unwrap_or("-");
            write!(key, "rate/{own}/{window}/{organization}/{user}")
        }
        // A provider hands out whole /64 networks: an address of its own for each request must not help.
        Caller::Anonymous(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            write!(key, "rate/{own}/{window}/ip/{a:x}:{b:x}:{c:x}:{d:x}")
        }
        Caller::Anonymous(IpAddr::V4(ip)) => write!(key, "rate/{own}/{window}/ip/{ip}"),
    };
    key
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::capability::Plugin;
    use crate::capability::grant::{Grant, Isolation, Limits};
    use crate::deploy::Prefix;
    use crate::plugins_file::{EntryOrigin, RouteLimit};

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn throttle(per_principal: u32) -> Throttle {
        throttle_with(RateLimits { per_principal, ..RateLimits::default() })
    }

    fn throttle_with(limits: RateLimits) -> Throttle {
        Throttle::new(CacheRoom::open("memory:").unwrap(), limits, false)
    }

    fn user(organization: &str, user: &str) -> Principal {
        let mut principal = Principal::anonymous();
        principal.kind = PrincipalKind::User;
        principal.organization_id = Some(organization.into());
        principal.user_id = Some(user.into());
        principal
    }

    async fn count(throttle: &Throttle, caller: Caller<'_>) -> bool {
        throttle.count(caller, ADDRESS, None).await.1.is_ok()
    }

    #[tokio::test]
    async fn a_used_up_window_is_refused_and_says_when_it_ends() {
        let throttle = throttle(2);
        let principal = user("o", "u");
        // A window may end between two counts; then the next three lie in one.
        let mut last = None;
        for _ in 0..6 {
            last = Some(throttle.count(Caller::SignedIn(&principal), ADDRESS, None).await);
            if last.as_ref().is_some_and(|(_, result)| result.is_err()) {
                break;
            }
        }
        let Some((Some(rate), Err(GatewayError::RateLimited { retry_after_seconds }))) = last else {
            panic!("never refused")
        };
        assert_eq!((rate.limit, rate.remaining), (2, 0));
        assert!((1..=60).contains(&retry_after_seconds));
        let mut headers = HeaderMap::new();
        rate.decorate(&mut headers);
        assert_eq!(headers.get("x-ratelimit-limit").unwrap(), "2");
        assert_eq!(headers.get("x-ratelimit-remaining").unwrap(), "0");
    }

    #[tokio::test]
    async fn callers_and_plugins_are_counted_apart() {
        let throttle = throttle(1);
        assert!(count(&throttle, Caller::SignedIn(&user("o", "u"))).await);
        assert!(count(&throttle, Caller::SignedIn(&user("o", "v"))).await);
        assert!(count(&throttle, Caller::SignedIn(&user("p", "u"))).await);
        assert!(count(&throttle, Caller::Anonymous(ADDRESS)).await);
        assert!(
            throttle
                .count(Caller::SignedIn(&user("o", "u")), ADDRESS, Some(OwnLimit { name: "slow", per_minute: 1 }))
                .await
                .1
                .is_ok()
        );
    }

    #[tokio::test]
    async fn zero_turns_it_off_and_the_operator_is_never_counted() {
        for (throttle, principal) in [(throttle(0), user("o", "u")), (throttle(1), operator())] {
            for _ in 0..5 {
                let (rate, result) = throttle.count(Caller::SignedIn(&principal), ADDRESS, None).await;
                assert!(rate.is_none() && result.is_ok());
            }
        }
        assert_eq!(throttle(600).limit(Caller::Anonymous(ADDRESS), None), Some(100));
        assert_eq!(throttle(10).limit(Caller::Anonymous(ADDRESS), None), Some(10));
        assert_eq!(throttle(600).limit(Caller::Anonymous(ADDRESS), Some(0)), None);
    }

    #[tokio::test]
    async fn an_organization_and_an_address_can_be_limited_as_a_whole() {
        let by_organization = throttle_with(RateLimits { per_organization: 1, ..RateLimits::default() });
        let by_address = throttle_with(RateLimits { per_address: 1, ..RateLimits::default() });
        // A window may end between two counts; then the next two lie in one.
        let mut refused = (0, 0);
        for _ in 0..3 {
            for (organization, name) in [("o", "u"), ("o", "v")] {
                let principal = user(organization, name);
                refused.0 += u32::from(!count(&by_organization, Caller::SignedIn(&principal)).await);
                refused.1 += u32::from(!count(&by_address, Caller::SignedIn(&principal)).await);
            }
        }
        assert!(refused.0 >= 3 && refused.1 >= 3, "{refused:?}");
        let (rate, _) = by_organization.count(Caller::SignedIn(&user("o", "w")), ADDRESS, None).await;
        assert_eq!(rate.map(|rate| (rate.limit, rate.remaining)), Some((1, 0)));
        assert!(count(&by_organization, Caller::SignedIn(&user("p", "u"))).await, "another organization has its own");
    }

    fn operator() -> Principal {
        Principal { kind: PrincipalKind::Operator, is_platform: true, ..Principal::anonymous() }
    }

    #[test]
    fn an_escaped_letter_leads_past_no_limit() {
        let plugin = Plugin {
            name: "planning".into(),
            grant: Grant::default(),
            limits: Limits { rate_per_minute: Some(60), ..Limits::default() },
            config: BTreeMap::new(),
        };
        let options = SlotOptions {
            plugin: Arc::new(plugin),
            origin: EntryOrigin::default(),
            component: None,
            prefixes: vec![Prefix::parse("/api/plans").unwrap()],
            public: Vec::new(),
            port: None,
            isolation: Isolation::default(),
            timers: BTreeMap::new(),
            rate_limits: vec![RouteLimit { prefix: "/api/plans/export".into(), per_minute: 2 }],
        };
        let strict = OwnLimit { name: "/api/plans/export", per_minute: 2 };
        let usual = OwnLimit { name: "planning", per_minute: 60 };
        for (path, limit) in [
            ("/api/plans/export", strict),
            ("/api/plans/%65xport", strict),
            ("/api/pl%61ns/expor%74/all", strict),
            // An encoded slash makes no segment.
            ("/api/plans/export%2Fall", usual),
            ("/api/plans/exports", usual),
        ] {
            assert_eq!(own_limit(&options, path), Some(limit), "{path}");
        }
    }

    #[test]
    fn addresses_of_one_network_share_a_counter() {
        let address = |text: &str| Caller::Anonymous(text.parse().unwrap());
        assert_eq!(key(address("2001:db8::1"), None, 7), key(address("2001:db8::ffff"), None, 7));
        assert_ne!(key(address("2001:db8::1"), None, 7), key(address("2001:db8:0:1::1"), None, 7));
        assert_ne!(key(address("192.0.2.1"), None, 7), key(address("192.0.2.1"), None, 8));
    }
}
