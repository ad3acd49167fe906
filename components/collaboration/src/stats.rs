//! What sessions amount to: for the organization, as far as the caller sees it, and for the caller.

use std::collections::BTreeMap;

use berth_sdk::{database::Value, prelude::*};

use crate::{project, session::cast::Role};

/// The most who are named as the caller's partners.
const PARTNERS_MAX: usize = 10;

/// The routes of figures.
pub fn routes() -> Router {
    Router::new().get("/api/pairing/stats", stats).summary(
        "Count sessions and minutes, for everybody and for the caller; from, to and projectId narrow them down.",
    )
}

/// Which sessions count: those made within the time.
#[data]
pub struct Wanted {
    /// Not before.
    from: Option<Timestamp>,
    /// Before.
    to: Option<Timestamp>,
    /// Of this project.
    project_id: Option<Id>,
}

/// How many sessions, and how long they took.
#[data]
#[derive(Default)]
pub struct Figures {
    /// All of them.
    sessions: i64,
    /// By where they stand.
    by_status: BTreeMap<String, i64>,
    /// By how they work together.
    by_type: BTreeMap<String, i64>,
    /// Minutes of those that took place.
    minutes: i64,
    /// Minutes of one of those; none when there were none.
    average_minutes: Option<f64>,
}

/// Somebody the caller was in sessions with.
#[data]
pub struct Partner {
    user_id: Id,
    sessions: i64,
}

/// What `GET /api/pairing/stats` answers.
#[data]
pub struct Stats {
    /// Everything the caller sees.
    total: Figures,
    /// What the caller took part in.
    mine: Figures,
    /// Sessions by the caller's role, at the end of each.
    my_roles: BTreeMap<String, i64>,
    /// With whom most, most first.
    partners: Vec<Partner>,
    /// People who took part in anything.
    people: i64,
}

#[data]
struct Group {
    status: String,
    kind: String,
    sessions: i64,
    minutes: Option<i64>,
}

#[data]
struct Count {
    name: String,
    total: i64,
}

fn gather(groups: Vec<Group>) -> Figures {
    let mut figures = Figures::default();
    let mut completed = 0;
    for group in groups {
        figures.sessions += group.sessions;
        *figures.by_status.entry(group.status.clone()).or_default() += group.sessions;
        *figures.by_type.entry(group.kind).or_default() += group.sessions;
        if group.status == "completed" {
            completed += group.sessions;
            figures.minutes += group.minutes.unwrap_or(0);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "an average of minutes")]
    if completed > 0 {
        figures.average_minutes = Some(figures.minutes as f64 / completed as f64);
    }
    figures
}

/// The sessions that count, as the end of a statement.
fn counted(wanted: &Wanted, values: &mut Vec<Value>) -> Result<String> {
    values.push(auth::organization_id()?.into());
    let mut sql = format!("pairing_sessions.organization_id = ${}", values.len());
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND pairing_sessions.{condition} ${}", values.len()));
    };
    if let Some(from) = wanted.from {
        and("created_at >=", from.into());
    }
    if let Some(to) = wanted.to {
        and("created_at <", to.into());
    }
    if let Some(project_id) = &wanted.project_id {
        and("project_id =", project_id.into());
    }
    sql.push_str(&project::and_within("pairing_sessions", values));
    Ok(sql)
}

/// `GET /api/pairing/stats`.
pub fn stats(Query(wanted): Query<Wanted>) -> Result<Json<Stats>> {
    let user_id = auth::user_id()?;
    let mine = "EXISTS (SELECT 1 FROM pairing_participants WHERE pairing_participants.session_id = pairing_sessions.id \
                AND pairing_participants.user_id = $1)";
    Ok(Json(Stats {
        total: figures(&wanted, "1 = 1", Vec::new())?,
        mine: figures(&wanted, mine, vec![(&user_id).into()])?,
        my_roles: roles(&wanted, &user_id)?,
        partners: partners(&wanted, &user_id)?,
        people: people(&wanted)?,
    }))
}

fn figures(wanted: &Wanted, condition: &str, mut values: Vec<Value>) -> Result<Figures> {
    let counted = counted(wanted, &mut values)?;
    let sql = format!(
        "SELECT status, session_type AS kind, COUNT(*) AS sessions, CAST(SUM(duration_minutes) AS BIGINT) AS minutes \
         FROM pairing_sessions WHERE {counted} AND {condition} GROUP BY status, session_type"
    );
    Ok(gather(database::query_as(&Pool, &sql, &values)?))
}

fn roles(wanted: &Wanted, user_id: &Id) -> Result<BTreeMap<String, i64>> {
    let mut values = vec![user_id.into()];
    let counted = counted(wanted, &mut values)?;
    let sql = format!(
        "SELECT pairing_participants.role AS name, COUNT(*) AS total FROM pairing_participants JOIN pairing_sessions \
         ON pairing_sessions.id = pairing_participants.session_id WHERE pairing_participants.user_id = $1 \
         AND {counted} GROUP BY pairing_participants.role"
    );
    let counts: Vec<Count> = database::query_as(&Pool, &sql, &values)?;
    let mut roles: BTreeMap<String, i64> = Role::ALL.iter().map(|role| (role.to_string(), 0)).collect();
    roles.extend(counts.into_iter().map(|count| (count.name, count.total)));
    Ok(roles)
}

fn partners(wanted: &Wanted, user_id: &Id) -> Result<Vec<Partner>> {
    let mut values = vec![user_id.into()];
    let counted = counted(wanted, &mut values)?;
    let sql = format!(
        "SELECT others.user_id AS \"userId\", COUNT(*) AS sessions FROM pairing_participants AS own \
         JOIN pairing_participants AS others ON others.session_id = own.session_id AND others.user_id <> own.user_id \
         JOIN pairing_sessions ON pairing_sessions.id = own.session_id WHERE own.user_id = $1 AND {counted} \
         GROUP BY others.user_id ORDER BY COUNT(*) DESC, others.user_id LIMIT {PARTNERS_MAX}"
    );
    Ok(database::query_as(&Pool, &sql, &values)?)
}

fn people(wanted: &Wanted) -> Result<i64> {
    let mut values = Vec::new();
    let counted = counted(wanted, &mut values)?;
    let sql = format!(
        "SELECT COUNT(DISTINCT pairing_participants.user_id) AS people FROM pairing_participants JOIN pairing_sessions \
         ON pairing_sessions.id = pairing_participants.session_id WHERE {counted}"
    );
    let row = database::query_one(&sql, &values)?;
    Ok(row.map_or(Ok(0), |row| row.get("people"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_those_of_what_took_place() {
        let group = |status: &str, kind: &str, sessions, minutes| Group {
            status: status.into(),
            kind: kind.into(),
            sessions,
            minutes,
        };
        let figures = gather(vec![
            group("completed", "pairing", 2, Some(90)),
            group("completed", "mob", 1, Some(30)),
            group("scheduled", "mob", 3, Some(500)),
        ]);
        assert_eq!((figures.sessions, figures.minutes, figures.average_minutes), (6, 120, Some(40.0)));
        assert_eq!((figures.by_status["completed"], figures.by_type["mob"]), (3, 4));
        assert_eq!(gather(Vec::new()).average_minutes, None);
    }
}
