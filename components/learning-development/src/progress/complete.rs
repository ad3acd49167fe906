//! Completing steps, and with the last one the path: once, whoever asks how often and at the same moment.

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use super::{Course, Progress, never_back, share};
use crate::{
    enrollment::{self, Enrollment, EnrollmentStatus},
    path::{Path, PathStatus},
    recommend,
    standing::{self, Kind, Record},
    step::{self, Step, StepStatus},
};

/// What is said besides.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// How long it took.
    pub minutes: i64,
    /// The client's own id of the record.
    pub event_id: Option<Id>,
}

/// The body of `POST /api/learning/paths/{id}/complete-step`.
#[data]
pub struct Completion {
    /// The step.
    step_id: Id,
    /// How long it took.
    #[field(default, min = 0, max = standing::MINUTES_MAX)]
    minutes: i64,
    /// An id of the caller's choice: a second record of the same id counts for nothing.
    event_id: Option<Id>,
}

/// `POST /api/learning/paths/{id}/complete-step`: enrols whoever is not. Again it changes nothing.
pub fn complete_step(Params(path_id): Params<Id>, Json(input): Json<Completion>) -> Result<Json<Progress>> {
    let details = Details { minutes: input.minutes, event_id: input.event_id };
    database::transaction(|transaction| {
        let path = entity::read::<Path>(transaction, &path_id)?;
        complete(transaction, &path, &input.step_id, &details)?;
        Progress::of(transaction, &path, &auth::user_id()?).map(Json)
    })
}

/// Completes a step for the caller. 404 for a step of another path; 409 `PREREQUISITES_MISSING`, `STEP_SKIPPED`,
/// `ENROLLMENT_NOT_ACTIVE`, `PATH_NOT_OPEN`.
pub fn complete(transaction: &Transaction, path: &Stored<Path>, step_id: &Id, details: &Details) -> Result<()> {
    let user_id = auth::user_id()?;
    let steps = step::of_path(transaction, &path.id)?;
    let step = steps.iter().find(|step| step.id == *step_id).ok_or_else(|| Problem::missing("step"))?;
    let mut enrolled = enter(transaction, path, &user_id)?;
    let course = Course::of(transaction, &user_id, &path.id)?;
    if course.status(step) == StepStatus::Completed {
        return Ok(());
    }
    require_ready(&course, step, &steps)?;
    let record = Record {
        kind: Kind::Step,
        subject_id: &step.id,
        path_id: Some(&path.id),
        value: 1.0,
        minutes: details.minutes,
        reset: false,
        skills: &step.skills,
        event_id: details.event_id.as_ref(),
    };
    if !standing::record(transaction, &user_id, &record)?.is_complete() {
        return Err(Problem::conflict("The eventId belongs to another record.").with_code("EVENT_ID_USED"));
    }
    let course = Course::of(transaction, &user_id, &path.id)?;
    advance(transaction, path, &mut enrolled, &steps, &course)?;
    say(
        transaction,
        "learning.step.completed",
        path,
        json!({
            "pathId": path.id, "stepId": step.id, "userId": user_id, "stepType": step.step_type, "skills": step.skills,
            "minutes": details.minutes, "progress": enrolled.progress, "isPrivate": true,
        }),
    )?;
    transaction.forget(recommend::key(&user_id));
    Ok(())
}

/// Begins a step for the caller; the same conflicts, and 409 when it is completed.
pub fn begin(transaction: &Transaction, path: &Stored<Path>, step: &Stored<Step>) -> Result<()> {
    let user_id = auth::user_id()?;
    let steps = step::of_path(transaction, &path.id)?;
    enter(transaction, path, &user_id)?;
    let course = Course::of(transaction, &user_id, &path.id)?;
    if course.status(step) == StepStatus::Completed {
        return Err(never_back());
    }
    require_ready(&course, step, &steps)?;
    let record = Record {
        kind: Kind::Step,
        subject_id: &step.id,
        path_id: Some(&path.id),
        value: 0.0,
        minutes: 0,
        reset: false,
        skills: &[],
        event_id: None,
    };
    standing::record(transaction, &user_id, &record).map(|_| ())
}

/// The caller's place on the path, held; enrols whoever is not.
fn enter(transaction: &Transaction, path: &Stored<Path>, user_id: &Id) -> Result<Stored<Enrollment>> {
    path.require_learner(user_id)?;
    path.require_open()?;
    let (enrolled, _) = enrollment::hold(transaction, path, user_id)?;
    if matches!(enrolled.status, EnrollmentStatus::Paused | EnrollmentStatus::Dropped) {
        let detail = format!("The enrolment is {}; enrol again to go on.", enrolled.status);
        return Err(Problem::conflict(detail).with_code("ENROLLMENT_NOT_ACTIVE"));
    }
    Ok(enrolled)
}

fn require_ready(course: &Course, step: &Stored<Step>, steps: &[Stored<Step>]) -> Result<()> {
    if step.is_skipped() {
        return Err(Problem::conflict("The step is left out.").with_code("STEP_SKIPPED"));
    }
    let missing = course.missing(step, steps);
    if missing.is_empty() {
        return Ok(());
    }
    let problem = Problem::conflict("Other steps have to be completed first.").with_code("PREREQUISITES_MISSING");
    Err(problem.with("missing", json!(missing)))
}

/// Moves an enrolment to where its learner is, and completes it when everything is done. The row is held by the caller.
pub fn advance(
    transaction: &Transaction,
    path: &Stored<Path>,
    enrolled: &mut Stored<Enrollment>,
    steps: &[Stored<Step>],
    course: &Course,
) -> Result<()> {
    let (done, total) = course.count(steps);
    let before = enrolled.clone();
    enrolled.progress = enrolled.progress.max(share(done, total));
    if total > 0 && done == total && enrolled.status == EnrollmentStatus::Active {
        enrolled.status = EnrollmentStatus::Completed;
        enrolled.completed_at = Some(clock::now());
        if path.is_personal() && path.status != PathStatus::Completed {
            enrollment::set_status(transaction, path, PathStatus::Completed)?;
        }
        let data = json!({
            "pathId": path.id, "userId": enrolled.user_id, "skills": path.skills_covered, "steps": total, "isPrivate": true,
        });
        say(transaction, "learning.path.completed", path, data)?;
    }
    if *enrolled != before {
        entity::save(transaction, enrolled)?;
    }
    Ok(())
}

/// Publishes, in the order of what happens on the path. What somebody learns for themselves has no title outside.
fn say(transaction: &Transaction, kind: &str, path: &Stored<Path>, mut data: Value) -> Result<()> {
    if let (false, Some(members)) = (path.is_personal(), data.as_object_mut()) {
        members.insert("title".into(), path.title.as_str().into());
        members.insert("teamId".into(), json!(path.team_id));
    }
    transaction.send(&Message::new(kind, &data)?.with_key(path.id.as_str()))?;
    Ok(())
}
