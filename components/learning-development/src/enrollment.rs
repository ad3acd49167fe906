//! Who is learning a path, and how far they are.

use berth_sdk::prelude::*;

use crate::{
    path::{Path, PathStatus, visible},
    progress::Progress,
    recommend, step,
};

/// What becomes of somebody on a path.
#[choice]
pub enum EnrollmentStatus {
    /// Learning.
    Active,
    /// Later.
    Paused,
    /// Done.
    Completed,
    /// Never mind.
    Dropped,
}

/// Somebody on a path: one row for each person and path.
#[entity(table = "learning_enrollments", name = "enrollment", sort = "-updatedAt")]
pub struct Enrollment {
    /// The path.
    #[field(immutable)]
    pub path_id: Id,
    /// Who.
    #[field(immutable)]
    pub user_id: Id,
    /// What becomes of it.
    pub status: EnrollmentStatus,
    /// The share of its steps that is done: 0 to 1. It never falls, unless it was begun anew.
    pub progress: f64,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
}

impl Rules for Enrollment {}

/// The enrolment of somebody, if there is one.
pub fn find(database: &dyn Executor, path_id: &Id, user_id: &Id) -> Result<Option<Stored<Enrollment>>> {
    Select::<Enrollment>::new().equal("path_id", path_id).equal("user_id", user_id).first(database)
}

/// Enrols somebody who is not yet, and holds the row until the transaction ends. True when it was made. One's own path is
/// held before it, as its status may follow: whoever changes both takes them in this order.
pub fn hold(transaction: &Transaction, path: &Stored<Path>, user_id: &Id) -> Result<(Stored<Enrollment>, bool)> {
    if path.is_personal() {
        step::hold(transaction, &path.id)?;
    }
    let path_id = &path.id;
    let now = clock::now();
    let made = transaction.execute(
        "INSERT INTO learning_enrollments (id, organization_id, created_by, created_at, updated_at, version, path_id, \
         user_id, status, progress) VALUES ($1, $2, $3, $4, $4, 1, $5, $3, 'active', 0.0) \
         ON CONFLICT (path_id, user_id) DO NOTHING",
        params![Id::new(), auth::organization_id()?, user_id, now, path_id],
    )?;
    transaction.query_one(
        "SELECT id FROM learning_enrollments WHERE path_id = $1 AND user_id = $2 FOR UPDATE",
        params![path_id, user_id],
    )?;
    let row = find(transaction, path_id, user_id)?.ok_or_else(|| Problem::missing("path"))?;
    Ok((row, made > 0))
}

/// The body of `POST /api/learning/paths/{id}/enroll`.
#[data]
pub struct Enrolling {
    /// Begins anew: steps that were done are to be done again.
    #[field(default)]
    reset: bool,
}

/// `POST /api/learning/paths/{id}/enroll`: also comes back to a path that was paused or dropped.
pub fn enroll(Params(path_id): Params<Id>, input: Option<Json<Enrolling>>) -> Result<Json<Progress>> {
    let reset = input.is_some_and(|Json(input)| input.reset);
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let path = entity::read::<Path>(transaction, &path_id)?;
        path.require_learner(&user_id)?;
        path.require_open()?;
        let (mut row, is_new) = hold(transaction, &path, &user_id)?;
        let was = row.status;
        if reset && !is_new {
            row.status = EnrollmentStatus::Active;
            row.progress = 0.0;
            row.completed_at = None;
            transaction.execute(
                "DELETE FROM learning_standings WHERE path_id = $1 AND user_id = $2",
                params![&path_id, &user_id],
            )?;
            reopen(transaction, &path)?;
        } else if matches!(was, EnrollmentStatus::Paused | EnrollmentStatus::Dropped) {
            row.status =
                if row.completed_at.is_some() { EnrollmentStatus::Completed } else { EnrollmentStatus::Active };
        }
        if reset || row.status != was {
            entity::save(transaction, &mut row)?;
        }
        transaction.forget(recommend::key(&user_id));
        Progress::of(transaction, &path, &user_id).map(Json)
    })
}

/// One's own path that was done is open again.
fn reopen(transaction: &Transaction, path: &Stored<Path>) -> Result<()> {
    if path.is_personal() && path.status == PathStatus::Completed {
        set_status(transaction, path, PathStatus::Active)?;
    }
    Ok(())
}

/// Sets the status of one's own path.
pub fn set_status(transaction: &Transaction, path: &Stored<Path>, status: PathStatus) -> Result<()> {
    transaction.execute(
        "UPDATE learning_paths SET status = $2, updated_at = $3, version = version + 1 WHERE id = $1",
        params![&path.id, status, clock::now()],
    )?;
    Ok(())
}

/// The body of `PUT /api/learning/paths/{id}/enroll`.
#[data]
pub struct Change {
    /// `active`, `paused` or `dropped`.
    #[schemars(extend("enum" = ["active", "paused", "dropped"]))]
    status: EnrollmentStatus,
}

/// `PUT /api/learning/paths/{id}/enroll`: pauses, goes on or drops out. 404 for who is not enrolled.
pub fn change(Params(path_id): Params<Id>, Json(change): Json<Change>) -> Result<Json<Progress>> {
    let user_id = auth::user_id()?;
    if change.status == EnrollmentStatus::Completed {
        return Err(Problem::field("status", "must be one of active, paused, dropped"));
    }
    database::transaction(|transaction| {
        let path = entity::read::<Path>(transaction, &path_id)?;
        if find(transaction, &path_id, &user_id)?.is_none() {
            return Err(Problem::missing("enrollment"));
        }
        let (mut row, _) = hold(transaction, &path, &user_id)?;
        if row.status == EnrollmentStatus::Completed {
            return Err(Problem::conflict("The path is completed.").with_code("PATH_COMPLETED"));
        }
        if change.status == EnrollmentStatus::Active {
            path.require_open()?;
        }
        if row.status != change.status {
            row.status = change.status;
            entity::save(transaction, &mut row)?;
        }
        transaction.forget(recommend::key(&user_id));
        Progress::of(transaction, &path, &user_id).map(Json)
    })
}

/// `GET /api/learning/enrollments`: the caller's own.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Enrollment>>>> {
    let mut select = Select::<Enrollment>::new().equal("user_id", auth::user_id()?);
    if let Some(Condition { sql, values }) = visible() {
        let sql = format!("path_id IN (SELECT id FROM learning_paths WHERE {sql})");
        select = select.condition(&sql, values);
    }
    select.page(&Pool, &query)
}
