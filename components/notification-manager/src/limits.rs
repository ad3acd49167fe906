//! How much one user is told within an hour. Counted in the cache; where that is away, counted in the database.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use crate::kinds::Channel;

/// What is said of a delivery over the limit.
pub const OVER: &str = "The recipient has had as many of these this hour as allowed.";
/// All channels together.
const TOTAL: i64 = 200;
const HOUR: Duration = Duration::from_secs(3_600);

const fn limit(channel: Channel) -> i64 {
    match channel {
        Channel::InApp => 100,
        Channel::Email => 20,
        Channel::Push => 50,
        Channel::Sms | Channel::Whatsapp => 10,
        Channel::Voice => 5,
    }
}

/// Counts one delivery; false when it is one too many.
pub fn take(database: &dyn Executor, user_id: &str, channel: Channel) -> Result<bool> {
    let hour = clock::now().millis() / 3_600_000;
    let of_channel = cache::incr_by(&format!("rate:{user_id}:{channel}:{hour}"), 1, HOUR);
    let of_all = cache::incr_by(&format!("rate:{user_id}:all:{hour}"), 1, HOUR);
    if let (Ok(of_channel), Ok(of_all)) = (of_channel, of_all) {
        return Ok(of_channel <= limit(channel) && of_all <= TOTAL);
    }
    let row = database.query_one(
        "SELECT COUNT(*) AS total, COALESCE(SUM(CASE WHEN channel = $2 THEN 1 ELSE 0 END), 0) AS own \
         FROM notification_delivery_logs WHERE organization_id = $3 AND user_id = $1 AND attempted_at >= $4 \
         AND status <> 'REJECTED'",
        params![user_id, channel, auth::organization_id()?, clock::now().minus(HOUR)],
    )?;
    let Some(row) = row else { return Ok(true) };
    Ok(row.get::<i64>("own")? < limit(channel) && row.get::<i64>("total")? < TOTAL)
}

/// Counts one use of a provider within a window; false when it is one too many. A cache that is away lets nothing through
/// that has a limit: another provider may have none.
pub fn take_of_provider(provider_id: &str, window: Duration, limit: i64) -> bool {
    let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
    let number = clock::now().millis() / millis;
    cache::incr_by(&format!("provider:{provider_id}:{millis}:{number}"), 1, window).is_ok_and(|count| count <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hourly_limit_of_a_channel_and_of_all_hold() {
        let sms = (0..12).filter(|_| take(&Pool, "u1", Channel::Sms).unwrap()).count();
        assert_eq!(sms, 10);
        assert!(take(&Pool, "u2", Channel::Sms).unwrap());
        let inbox = (0..150).filter(|_| take(&Pool, "u1", Channel::InApp).unwrap()).count();
        assert_eq!(inbox, 100);
        let push = (0..60).filter(|_| take(&Pool, "u1", Channel::Push).unwrap()).count();
        assert!(push < 50, "{push}: 200 in all");
    }

    #[test]
    fn a_provider_is_used_no_more_than_it_allows() {
        let minute = Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| take_of_provider("p1", minute, 4)).count(), 4);
        assert!(take_of_provider("p2", minute, 4));
    }
}
