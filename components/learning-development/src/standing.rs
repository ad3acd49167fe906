//! How far somebody is with a resource or a step. Records only ever add: an old one that comes late, or one that comes
//! twice, changes nothing. Only `reset` begins anew.

use berth_sdk::{
    database::{Bulk, Value},
    prelude::*,
};

/// Minutes of one record.
pub const MINUTES_MAX: i64 = 100_000;

/// What somebody is busy with.
#[choice]
pub enum Kind {
    /// A resource.
    Resource,
    /// A step of a path.
    Step,
}

/// How far somebody is.
#[data]
#[derive(Copy)]
pub struct Standing {
    /// 0 to 1.
    pub value: f64,
    /// Minutes in all, also those before a reset.
    pub minutes: i64,
    /// When 1 was reached.
    pub completed_at: Option<Timestamp>,
}

impl Standing {
    /// Where everybody begins.
    pub const NOTHING: Self = Self { value: 0.0, minutes: 0, completed_at: None };

    /// Whether there is nothing left to do.
    pub fn is_complete(&self) -> bool {
        self.value >= 1.0
    }

    /// Where a record leads. It never leads back, unless it begins anew.
    pub fn next(self, value: f64, minutes: i64, reset: bool, now: Timestamp) -> Self {
        let value = if reset { value } else { self.value.max(value) };
        let completed_at = (value >= 1.0).then(|| self.completed_at.filter(|_| !reset).unwrap_or(now));
        Self { value, minutes: self.minutes.saturating_add(minutes.max(0)), completed_at }
    }
}

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Of what kind it is.
    pub kind: Kind,
    /// The resource or step.
    pub subject_id: &'a Id,
    /// The step's path.
    pub path_id: Option<&'a Id>,
    /// 0 to 1.
    pub value: f64,
    /// How long it took.
    pub minutes: i64,
    /// Begins anew with `value`.
    pub reset: bool,
    /// The skills it was for.
    pub skills: &'a [String],
    /// The client's own id of the record.
    pub event_id: Option<&'a Id>,
}

/// Records for a user: notes it in the log and moves the standing, under its lock.
pub fn record(transaction: &Transaction, user_id: &Id, record: &Record<'_>) -> Result<Standing> {
    let organization_id = auth::organization_id()?;
    let now = clock::now();
    let key = params![&organization_id, user_id, record.kind, record.subject_id];
    let mut made = key.to_vec();
    made.extend([Id::new().into(), now.into(), record.path_id.cloned().into()]);
    transaction.execute(
        "INSERT INTO learning_standings (organization_id, user_id, kind, subject_id, id, updated_at, path_id, value, minutes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0.0, 0) ON CONFLICT (organization_id, user_id, kind, subject_id) DO NOTHING",
        &made,
    )?;
    let held = transaction.query_one(
        "SELECT value, minutes, completed_at FROM learning_standings \
         WHERE organization_id = $1 AND user_id = $2 AND kind = $3 AND subject_id = $4 FOR UPDATE",
        key,
    )?;
    let Some(held) = held else { return Err(Problem::conflict("It was removed at the same time; try again.")) };
    let before =
        Standing { value: held.get("value")?, minutes: held.get("minutes")?, completed_at: held.get("completed_at")? };
    let after = before.next(record.value, record.minutes, record.reset, now);
    // A reset that changes nothing today would tomorrow, so its id is noted: it comes once.
    let is_kept = after != before || (record.reset && record.event_id.is_some());
    if !is_kept || !note(transaction, &organization_id, user_id, record, after.value, now)? {
        return Ok(before);
    }
    let mut changed = key.to_vec();
    changed.extend([after.value.into(), after.minutes.into(), after.completed_at.into(), now.into()]);
    transaction.execute(
        "UPDATE learning_standings SET value = $5, minutes = $6, completed_at = $7, updated_at = $8 \
         WHERE organization_id = $1 AND user_id = $2 AND kind = $3 AND subject_id = $4",
        &changed,
    )?;
    Ok(after)
}

/// Writes the log; false when the client's id has been there before.
fn note(
    transaction: &Transaction,
    organization_id: &Id,
    user_id: &Id,
    record: &Record<'_>,
    value: f64,
    now: Timestamp,
) -> Result<bool> {
    let (step_id, resource_id) = match record.kind {
        Kind::Step => (Some(record.subject_id.clone()), None),
        Kind::Resource => (None, Some(record.subject_id.clone())),
    };
    let log = Bulk::into("learning_progress")
        .shared("organization_id", organization_id)
        .shared("created_by", user_id)
        .shared("created_at", now)
        .shared("updated_at", now)
        .shared("version", 1)
        .shared("path_id", record.path_id.cloned())
        .shared("user_id", user_id)
        .shared("step_id", step_id)
        .shared("resource_id", resource_id)
        .shared("value", value)
        .shared("minutes", record.minutes)
        .shared("recorded_at", now)
        .columns(&["id", "skill", "event_id"])
        .then("ON CONFLICT (organization_id, user_id, event_id) DO NOTHING");
    let whole = vec![Id::new().into(), Value::Null, record.event_id.cloned().into()];
    if log.insert(transaction, [whole])? == 0 {
        return Ok(false);
    }
    let of_skill = |skill: &String| vec![Id::new().into(), skill.into(), Value::Null];
    log.insert(transaction, record.skills.iter().map(of_skill))?;
    Ok(true)
}

/// How far a user is with one thing.
pub fn of(database: &dyn Executor, user_id: &Id, kind: Kind, subject_id: &Id) -> Result<Standing> {
    let found = database::query_as::<Standing>(
        database,
        "SELECT value, minutes, completed_at AS \"completedAt\" FROM learning_standings \
         WHERE organization_id = $1 AND user_id = $2 AND kind = $3 AND subject_id = $4",
        params![auth::organization_id()?, user_id, kind, subject_id],
    )?;
    Ok(found.first().copied().unwrap_or(Standing::NOTHING))
}

/// Forgets how far everybody is with something that goes away; the log stays.
pub fn forget(transaction: &Transaction, kind: Kind, subject_id: &Id) -> Result<()> {
    transaction
        .execute("DELETE FROM learning_standings WHERE kind = $1 AND subject_id = $2", params![kind, subject_id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_old_record_that_comes_late_changes_nothing() {
        let done = Standing::NOTHING.next(1.0, 30, false, at(1));
        assert_eq!(done, Standing { value: 1.0, minutes: 30, completed_at: Some(at(1)) });
        assert_eq!(done.next(0.4, 0, false, at(2)), done);
        assert_eq!(done.next(1.0, 0, false, at(3)), done);
    }

    #[test]
    fn only_a_reset_leads_back() {
        let done = Standing::NOTHING.next(1.0, 30, false, at(1));
        let again = done.next(0.0, 0, true, at(2));
        assert_eq!((again.value, again.minutes, again.completed_at), (0.0, 30, None));
        assert_eq!(again.next(1.0, 5, false, at(3)).completed_at, Some(at(3)));
    }

    proptest! {
        #[test]
        fn progress_grows_whatever_the_order(records in prop::collection::vec((0.0_f64..=1.0, 0_i64..500), 0..40), turn in any::<usize>()) {
            let run = |records: &[(f64, i64)]| {
                let mut standing = Standing::NOTHING;
                for (value, minutes) in records {
                    let next = standing.next(*value, *minutes, false, at(1));
                    assert!(next.value >= standing.value && next.minutes >= standing.minutes);
                    standing = next;
                }
                standing
            };
            let mut turned = records.clone();
            turned.rotate_left(if records.is_empty() { 0 } else { turn % records.len() });
            assert_eq!(run(&records), run(&turned));
        }
    }
}
