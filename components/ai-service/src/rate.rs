//! Rate limits: so many questions and so many tokens in a minute, an hour, a day. Counted in the cache; a counter that is
//! not there is made anew from the completions, so that a lost cache loosens nothing.

use std::time::Duration;

use berth_sdk::{cache, events::Message, prelude::*, types::Scope};

use crate::{HOLDS, access};

/// Limits of an organization, with everybody's.
const LIMITS_MAX: i64 = 200;
/// How long whoever finds a new counter leaves it to the first one to add what was used before.
const FIRST_FOR: Duration = Duration::from_secs(5);

/// A limit.
#[entity(table = "ai_rate_limit_configs", name = "rate limit", global)]
pub struct RateLimit {
    /// ORGANIZATION: all together; USER: one of them, or each; GLOBAL: each organization.
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
    /// With scope USER: whom; none: each.
    #[field(immutable)]
    pub user_id: Option<Id>,
    /// Questions.
    #[field(min = 1)]
    pub requests_per_minute: Option<i64>,
    /// Questions.
    #[field(min = 1)]
    pub requests_per_hour: Option<i64>,
    /// Questions.
    #[field(min = 1)]
    pub requests_per_day: Option<i64>,
    /// Of questions and answers.
    #[field(min = 1)]
    pub tokens_per_minute: Option<i64>,
    /// Of questions and answers.
    #[field(min = 1)]
    pub tokens_per_hour: Option<i64>,
    /// Of questions and answers.
    #[field(min = 1)]
    pub tokens_per_day: Option<i64>,
}

impl Rules for RateLimit {
    fn check(&self, faults: &mut Faults) {
        if !matches!(self.scope, Scope::Global | Scope::Organization | Scope::User) {
            faults.add("scope", "must be one of GLOBAL, ORGANIZATION, USER");
        }
        if self.user_id.is_some() && self.scope != Scope::User {
            faults.add("userId", "belongs to the scope USER");
        }
        if self.windows().iter().all(|window| window.requests.is_none() && window.tokens.is_none()) {
            faults.add("requestsPerMinute", "or another limit is required");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_manager(self.scope == Scope::Global)?;
        transaction.hold(HOLDS, "rate limits")?;
        if Select::<Self>::new().count(transaction)? >= LIMITS_MAX {
            return Err(Problem::unprocessable(format!("There are at most {LIMITS_MAX} limits.")));
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(old.organization_id.is_none())
    }

    fn before_delete(row: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(row.organization_id.is_none())
    }
}

/// What is allowed in one length of time.
struct Window {
    name: &'static str,
    seconds: i64,
    requests: Option<i64>,
    tokens: Option<i64>,
}

impl RateLimit {
    fn windows(&self) -> [Window; 3] {
        [
            Window { name: "minute", seconds: 60, requests: self.requests_per_minute, tokens: self.tokens_per_minute },
            Window { name: "hour", seconds: 3_600, requests: self.requests_per_hour, tokens: self.tokens_per_hour },
            Window { name: "day", seconds: 86_400, requests: self.requests_per_day, tokens: self.tokens_per_day },
        ]
    }

    /// Whose questions count for this caller; none: not the caller's.
    fn subject(&self, user_id: Option<&str>) -> Option<String> {
        match (self.scope, self.user_id.as_deref(), user_id) {
            (Scope::User, Some(own), Some(user)) if own == user => Some(user.to_string()),
            (Scope::User, None, Some(user)) => Some(user.to_string()),
            (Scope::User, ..) => None,
            _ => Some(String::new()),
        }
    }
}

/// What was counted for a question, to be completed when its tokens are known.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    requests: Vec<Counter>,
    tokens: Vec<Counter>,
    spent: i64,
}

/// One counter of one window.
#[derive(Clone, Debug)]
struct Counter {
    key: String,
    ttl: Duration,
    begin: Timestamp,
    user_id: Option<String>,
    is_tokens: bool,
}

impl Counter {
    /// Adds and returns the sum.
    fn add(&self, quantity: i64) -> Result<i64> {
        match cache::incr_by(&self.key, quantity, self.ttl) {
            // A new counter: whatever was counted before it was lost, or is older than the limit.
            Ok(sum) if sum == quantity => {
                let before = self.stored()?;
                if before > 0 && self.is_first() {
                    return Ok(cache::incr_by(&self.key, before, self.ttl).unwrap_or(before + quantity));
                }
                Ok(before + quantity)
            }
            Ok(sum) => Ok(sum),
            Err(fault) => {
                logging::warn!("a rate is counted in the database: the cache does not answer", fault = fault);
                Ok(self.stored()? + quantity)
            }
        }
    }

    /// Whether nobody else is about to add what was used before the counter was new: several find it so at once.
    fn is_first(&self) -> bool {
        cache::add_if_absent(&format!("{}:first", self.key), &true, FIRST_FOR).unwrap_or(true)
    }

    /// What the completions say.
    fn stored(&self) -> Result<i64> {
        let what = if self.is_tokens { "COALESCE(SUM(tokens_used), 0)" } else { "COUNT(*)" };
        let of_user = if self.user_id.is_some() { " AND user_id = $3" } else { "" };
        let sql = format!(
            "SELECT CAST({what} AS BIGINT) AS total FROM ai_completions WHERE organization_id = $1 AND created_at >= $2{of_user}"
        );
        let mut values = params![auth::organization_id()?, self.begin].to_vec();
        values.extend(self.user_id.as_ref().map(database::Value::from));
        Ok(database::query_one(&sql, &values)?.map_or(Ok(0), |row| row.get("total"))?)
    }
}

/// The begin and the end of the window around a moment.
fn around(now: Timestamp, seconds: i64) -> (Timestamp, Timestamp) {
    let length = seconds * 1_000;
    let begin = now.millis().div_euclid(length) * length;
    (Timestamp::from_millis(begin), Timestamp::from_millis(begin + length))
}

/// Counts a question; 429 when it is one too many, or the tokens of a window are used up.
pub fn admit(user_id: Option<&str>) -> Result<Counted> {
    let limits = Select::<RateLimit>::new().limit(LIMITS_MAX * 2).all(&Pool)?;
    let now = clock::now();
    let mut counted = Counted::default();
    for limit in &limits {
        let Some(subject) = limit.subject(user_id) else { continue };
        for window in limit.windows() {
            let (begin, end) = around(now, window.seconds);
            let counter = |is_tokens: bool| Counter {
                key: format!("rate:{}:{subject}:{}:{}:{is_tokens}", limit.id, window.name, begin.millis()),
                ttl: end.since(now) + Duration::from_secs(60),
                begin,
                user_id: Some(subject.clone()).filter(|id| !id.is_empty()),
                is_tokens,
            };
            let over = match (window.tokens, window.requests) {
                (Some(most), _) if counter(true).add(0)? >= most => Some((most, "tokens")),
                (_, Some(most)) => {
                    let counter = counter(false);
                    let sum = counter.add(1)?;
                    counted.requests.push(counter);
                    (sum > most).then_some((most, "questions"))
                }
                _ => None,
            };
            if let Some((most, what)) = over {
                counted.release();
                return Err(refused(limit, &window, most, what, end, now));
            }
            counted.tokens.extend(window.tokens.map(|_| counter(true)));
        }
    }
    Ok(counted)
}

impl Counted {
    /// A question that is refused counts nowhere.
    pub fn release(&self) {
        for counter in &self.requests {
            let _ = cache::incr_by(&counter.key, -1, counter.ttl);
        }
    }

    /// Adds what the question that was admitted has used by now and is not yet counted: whoever leaves a stream before its
    /// end has used what came.
    pub fn spend(&mut self, total: i64) {
        let tokens = total - self.spent;
        self.spent = total;
        for counter in self.tokens.iter().filter(|_| tokens != 0) {
            // The row with these tokens is written already: a counter that is new reads them there.
            if let Ok(sum) = cache::incr_by(&counter.key, tokens, counter.ttl)
                && sum == tokens
                && let Ok(stored) = counter.stored()
            {
                let _ = cache::incr_by(&counter.key, stored - tokens, counter.ttl);
            }
        }
    }
}

fn refused(
    limit: &Stored<RateLimit>,
    window: &Window,
    most: i64,
    what: &str,
    end: Timestamp,
    now: Timestamp,
) -> Problem {
    let seconds = end.since(now).as_secs().max(1);
    let marker = format!("rate-told:{}:{}:{}", limit.id, window.name, end.millis());
    if cache::add_if_absent(&marker, &true, end.since(now) + Duration::from_secs(60)).unwrap_or(false) {
        let principal = auth::principal();
        let data = json!({
            "limitId": limit.id, "scope": limit.scope, "window": window.name, "what": what, "limit": most,
            "userId": principal.user_id, "resetAt": end,
        });
        let sent = Message::new("ai.ratelimit.exceeded", &data).and_then(|message| events::send(&message));
        if let Err(problem) = sent {
            logging::warn!("an event could not be published", problem = problem);
        }
    }
    Problem::rate_limited(format!("The limit of {most} {what} a {} is used up.", window.name))
        .with("retryAfter", seconds)
        .with("resetAt", end.to_string())
        .with_header("retry-after", seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(scope: Scope, user_id: Option<&str>) -> RateLimit {
        RateLimit {
            scope,
            user_id: user_id.map(Id::from),
            requests_per_minute: Some(1),
            requests_per_hour: None,
            requests_per_day: None,
            tokens_per_minute: None,
            tokens_per_hour: None,
            tokens_per_day: None,
        }
    }

    #[test]
    fn what_is_counted_of_a_question_is_what_it_used_in_the_end() {
        berth_sdk::testing::sign_in("u1", "o1");
        let counter = Counter {
            key: "tokens".into(),
            ttl: Duration::from_secs(60),
            begin: Timestamp::from_millis(0),
            user_id: None,
            is_tokens: true,
        };
        let sum = || cache::incr_by("tokens", 0, Duration::from_secs(60)).unwrap();
        assert_eq!(cache::incr_by("tokens", 100, Duration::from_secs(60)).unwrap(), 100);
        let mut counted = Counted { tokens: vec![counter], ..Counted::default() };
        for (total, wanted) in [(7, 107), (7, 107), (20, 120), (15, 115)] {
            counted.spend(total);
            assert_eq!(sum(), wanted, "a stream that has used {total}");
        }
    }

    #[test]
    fn of_several_who_find_a_new_counter_one_makes_it() {
        berth_sdk::testing::sign_in("u1", "o1");
        let counter = |key: &str| Counter {
            key: key.into(),
            ttl: Duration::from_secs(60),
            begin: Timestamp::from_millis(0),
            user_id: None,
            is_tokens: true,
        };
        assert!(counter("one").is_first());
        assert!(!counter("one").is_first());
        assert!(counter("other").is_first());
    }

    #[test]
    fn what_is_refused_counts_nowhere() {
        berth_sdk::testing::sign_in("u1", "o1");
        let (key, ttl) = ("requests", Duration::from_secs(60));
        assert_eq!(cache::incr_by(key, 3, ttl).unwrap(), 3);
        let counter =
            Counter { key: key.into(), ttl, begin: Timestamp::from_millis(0), user_id: None, is_tokens: false };
        Counted { requests: vec![counter], ..Counted::default() }.release();
        assert_eq!(cache::incr_by(key, 0, ttl).unwrap(), 2);
    }

    #[test]
    fn a_limit_counts_for_those_it_names() {
        assert_eq!(limit(Scope::Organization, None).subject(Some("u1")).as_deref(), Some(""));
        assert_eq!(limit(Scope::User, None).subject(Some("u1")).as_deref(), Some("u1"));
        assert_eq!(limit(Scope::User, Some("u2")).subject(Some("u1")), None);
        assert_eq!(limit(Scope::User, None).subject(None), None);
    }

    #[test]
    fn a_window_begins_with_its_minute() {
        let now = Timestamp::parse("2026-01-31T08:15:42.123Z").unwrap();
        let (begin, end) = around(now, 60);
        assert_eq!(
            (begin.to_string().as_str(), end.to_string().as_str()),
            ("2026-01-31T08:15:00.000Z", "2026-01-31T08:16:00.000Z")
        );
        assert_eq!(around(now, 86_400).0.to_string(), "2026-01-31T00:00:00.000Z");
    }

    #[test]
    fn a_limit_limits_something() {
        let faults = |limit: RateLimit| {
            let mut faults = Faults::default();
            limit.check(&mut faults);
            faults.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert!(faults(limit(Scope::User, Some("u1"))).is_empty());
        assert_eq!(faults(limit(Scope::Organization, Some("u1"))), ["userId"]);
        assert_eq!(faults(limit(Scope::Team, None)), ["scope"]);
        let empty = RateLimit { requests_per_minute: None, ..limit(Scope::Organization, None) };
        assert_eq!(faults(empty), ["requestsPerMinute"]);
    }
}
