//! Whether somebody has signed in a moment ago: needed for what cannot be undone, and for exports with values.

use std::time::Duration;

use berth_sdk::{http_out, prelude::*};

/// How long a sign-in counts.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// Sessions of one user that are looked through.
const SESSIONS_MAX: usize = 200;

#[data]
struct Sessions {
    items: Vec<Session>,
}

#[data]
struct Session {
    id: String,
    created_at: Timestamp,
}

/// 401 `REAUTH_REQUIRED` unless the present session began in the last five minutes.
pub(crate) fn require() -> Result<()> {
    let fresh = match auth::principal().session_id {
        None => false,
        Some(session_id) => {
            let path = format!("/api/users/me/sessions?limit={SESSIONS_MAX}&sortBy=createdAt&order=desc");
            let sessions: Sessions = http_out::plugin("host").get(&path).fetch()?;
            let began =
                sessions.items.into_iter().find(|session| session.id == session_id).map(|session| session.created_at);
            began.is_some_and(|began| is_fresh(began, clock::now()))
        }
    };
    if fresh {
        return Ok(());
    }
    Err(Problem::unauthorized("Sign in again: this needs a sign-in of the last five minutes.")
        .with_code("REAUTH_REQUIRED"))
}

fn is_fresh(began: Timestamp, now: Timestamp) -> bool {
    now.since(began) <= FRESH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_counts_for_five_minutes() {
        let began = Timestamp::from_millis(1_000_000);
        assert!(is_fresh(began, began.plus(FRESH)));
        assert!(!is_fresh(began, began.plus(FRESH + Duration::from_millis(1))));
    }
}
