//! How often one caller may call: fixed windows of a minute, counted after authentication in the shared cache.
//!
//! A lost cache never refuses a request: then nothing is counted.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::GatewayError;
use crate::capability::cache::CacheRoom;
use crate::deploy::SlotOptions;
use crate::principal::{Principal, PrincipalKind};

/// Seconds of a window.
const WINDOW_SECONDS: u64 = 60;
/// Requests a minute of one caller, where nothing else is said.
pub(crate) const PER_PRINCIPAL_DEFAULT: u32 = 600;
/// Requests a minute of one address without a token; never more than a signed-in caller's.
const PER_ADDRESS: u32 = 100;
/// A window outlives its end a little, so that a late clock finds it.
const COUNTER_TTL: Duration = Duration::from_secs(2 * WINDOW_SECONDS);

const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Counts requests.
pub(super) struct Throttle {
    cache: CacheRoom,
    /// 0 turns it off.
    per_principal: u32,
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
pub(super) fn own_limit<'a>(options: &'a SlotOptions, path: &str) -> Option<OwnLimit<'a>> {
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
    pub(super) fn new(cache: CacheRoom, per_principal: u32) -> Self {
        Self { cache, per_principal }
    }

    /// Counts one request of `caller`.
    ///
    /// Returns what the answer has to say of it: nothing when the limit is off or the cache is lost.
    ///
    /// # Errors
    /// `RateLimited` when the window is used up; the rate is in the first place of the pair either way.
    pub(super) async fn count(
        &self,
        caller: Caller<'_>,
        own: Option<OwnLimit<'_>>,
    ) -> (Option<Rate>, Result<(), GatewayError>) {
        let Some(limit) = self.limit(caller, own.map(|own| own.per_minute)) else { return (None, Ok(())) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        let key = key(caller, own.map(|own| own.name), now / WINDOW_SECONDS);
        match self.cache.host_increment(&key, 1, COUNTER_TTL).await {
            Ok(count) => judge(limit, count, now),
            Err(error) => {
                tracing::debug!(target: "gateway", %error, "a request could not be counted");
                (None, Ok(()))
            }
        }
    }

    /// The limit that holds; none when it is off.
    fn limit(&self, caller: Caller<'_>, own: Option<u32>) -> Option<u32> {
        if self.per_principal == 0 {
            return None;
        }
        let limit = own.unwrap_or(self.per_principal);
        let limit = match caller {
            // The operator's own tool must work above all when something is wrong.
            Caller::SignedIn(principal) if principal.kind == PrincipalKind::Operator => 0,
            Caller::SignedIn(_) => limit,
            Caller::Anonymous(_) => limit.min(PER_ADDRESS),
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

fn judge(limit: u32, count: i64, now: u64) -> (Option<Rate>, Result<(), GatewayError>) {
    let reset_seconds = WINDOW_SECONDS - now % WINDOW_SECONDS;
    let remaining = u32::try_from(i64::from(limit).saturating_sub(count)).unwrap_or(0);
    let rate = Some(Rate { limit, remaining, reset_seconds });
    if count > i64::from(limit) {
        return (rate, Err(GatewayError::RateLimited { retry_after_seconds: reset_seconds }));
    }
    (rate, Ok(()))
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
    use std::net::Ipv4Addr;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn throttle(per_principal: u32) -> Throttle {
        Throttle::new(CacheRoom::open("memory:").unwrap(), per_principal)
    }

    fn user(organization: &str, user: &str) -> Principal {
        let mut principal = Principal::anonymous();
        principal.kind = PrincipalKind::User;
        principal.organization_id = Some(organization.into());
        principal.user_id = Some(user.into());
        principal
    }

    async fn count(throttle: &Throttle, caller: Caller<'_>) -> bool {
        throttle.count(caller, None).await.1.is_ok()
    }

    #[tokio::test]
    async fn a_used_up_window_is_refused_and_says_when_it_ends() {
        let throttle = throttle(2);
        let principal = user("o", "u");
        // A window may end between two counts; then the next three lie in one.
        let mut last = None;
        for _ in 0..6 {
            last = Some(throttle.count(Caller::SignedIn(&principal), None).await);
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
                .count(Caller::SignedIn(&user("o", "u")), Some(OwnLimit { name: "slow", per_minute: 1 }))
                .await
                .1
                .is_ok()
        );
    }

    #[tokio::test]
    async fn zero_turns_it_off_and_the_operator_is_never_counted() {
        for (throttle, principal) in [(throttle(0), user("o", "u")), (throttle(1), operator())] {
            for _ in 0..5 {
                let (rate, result) = throttle.count(Caller::SignedIn(&principal), None).await;
                assert!(rate.is_none() && result.is_ok());
            }
        }
        assert_eq!(throttle(600).limit(Caller::Anonymous(ADDRESS), None), Some(100));
        assert_eq!(throttle(10).limit(Caller::Anonymous(ADDRESS), None), Some(10));
        assert_eq!(throttle(600).limit(Caller::Anonymous(ADDRESS), Some(0)), None);
    }

    fn operator() -> Principal {
        Principal { kind: PrincipalKind::Operator, is_platform: true, ..Principal::anonymous() }
    }

    #[test]
    fn addresses_of_one_network_share_a_counter() {
        let address = |text: &str| Caller::Anonymous(text.parse().unwrap());
        assert_eq!(key(address("2001:db8::1"), None, 7), key(address("2001:db8::ffff"), None, 7));
        assert_ne!(key(address("2001:db8::1"), None, 7), key(address("2001:db8:0:1::1"), None, 7));
        assert_ne!(key(address("192.0.2.1"), None, 7), key(address("192.0.2.1"), None, 8));
    }
}
