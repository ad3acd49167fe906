//! Learning paths: steps in an order, for everybody, for a team or for one person.

pub mod api;
pub mod generate;

use berth_sdk::{cache, prelude::*, serde_json::Value};

use crate::{access, resource::GENERATION, step, words};

/// What becomes of a path.
#[choice]
pub enum PathStatus {
    /// Being written: only its author and those who manage see it.
    Draft,
    /// Open to learners.
    Active,
    /// Of one person's path: done.
    Completed,
    /// For now nobody begins it or goes on.
    Paused,
}

/// A path.
#[entity(table = "learning_paths", name = "path", created = "learning.path.created")]
pub struct Path {
    /// Whose own it is; nobody else but those who manage sees it then.
    #[field(immutable)]
    pub user_id: Option<Id>,
    /// The team it is for.
    pub team_id: Option<Id>,
    /// Its title.
    #[field(min = 1, max = 200, plain)]
    pub title: String,
    /// What it is about.
    #[field(max = 5_000)]
    pub description: Option<String>,
    /// What one can do in the end.
    #[field(default, max = 20)]
    pub skills_covered: Vec<String>,
    /// How long it takes.
    #[field(min = 0, max = 1_000_000)]
    pub estimated_minutes: Option<i64>,
    /// How hard it is, such as `beginner`, `intermediate`, `advanced` or `expert`.
    #[field(min = 1, max = 40, plain, filter, default = "intermediate")]
    pub difficulty: String,
    /// What becomes of it.
    #[field(default = PathStatus::Active)]
    pub status: PathStatus,
    /// Describes a role, whose name is the title: what it covers is what the role needs.
    #[field(default)]
    pub is_template: bool,
}

impl Path {
    /// Whether it is one person's own.
    pub fn is_personal(&self) -> bool {
        self.user_id.is_some()
    }

    /// 409 unless learners may begin it and go on. One's own is open while it is written, and when it is done.
    pub fn require_open(&self) -> Result<()> {
        let is_open = match self.status {
            PathStatus::Active => true,
            PathStatus::Draft | PathStatus::Completed => self.is_personal(),
            PathStatus::Paused => false,
        };
        if is_open {
            return Ok(());
        }
        Err(Problem::conflict(format!("The path is {}.", self.status)).with_code("PATH_NOT_OPEN"))
    }

    /// 403 for somebody else's own path: who manages sees it and does not learn in another's place.
    pub fn require_learner(&self, user_id: &Id) -> Result<()> {
        if self.user_id.as_ref().is_none_or(|owner| owner == user_id) {
            return Ok(());
        }
        Err(Problem::forbidden("It is somebody else's own path."))
    }

    /// Whose progress is shown: the owner's where it is one person's own, the caller's otherwise.
    pub fn learner(&self) -> Result<Id> {
        self.user_id.clone().map_or_else(auth::user_id, Ok)
    }

    fn tidy_words(&mut self) -> Result<()> {
        let mut faults = Faults::default();
        words::tidy(&mut self.skills_covered, "skillsCovered", &mut faults);
        faults.finish()
    }
}

/// The condition under which a row of `learning_paths` exists for the caller; none: every one.
pub fn visible() -> Option<Condition> {
    if access::is_manager(access::MANAGE) {
        return None;
    }
    let user_id = auth::principal().user_id.unwrap_or_default();
    let (teams, of_teams) = access::in_teams();
    let sql = format!(
        "user_id = ? OR (user_id IS NULL AND (status <> 'draft' OR created_by = ?) AND ({teams} OR created_by = ?))"
    );
    let mut values: Vec<database::Value> = vec![user_id.as_str().into(), user_id.as_str().into()];
    values.extend(of_teams);
    values.push(user_id.into());
    Some(Condition { sql, values })
}

impl Rules for Path {
    fn scope() -> Option<Condition> {
        visible()
    }

    fn check(&self, faults: &mut Faults) {
        if self.is_template && self.is_personal() {
            faults.add("isTemplate", "a template is nobody's own path");
        }
        if self.status == PathStatus::Completed && !self.is_personal() {
            faults.add("status", "only one person's own path is completed; others are by each learner");
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.tidy_words()?;
        if self.status == PathStatus::Completed {
            return Err(Problem::field("status", "a path is completed by its learner"));
        }
        let is_of_another =
            self.user_id.as_ref().is_some_and(|owner| auth::principal().user_id.as_deref() != Some(owner));
        if is_of_another && !access::is_manager(access::MANAGE) {
            return Err(Problem::forbidden("Only who manages learning makes a path for somebody else."));
        }
        access::require_team(self.team_id.as_ref(), access::MANAGE)
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        self.tidy_words()?;
        if self.team_id != old.team_id {
            access::require_team(self.team_id.as_ref(), access::MANAGE)?;
        }
        if self.status == PathStatus::Completed && old.status != PathStatus::Completed {
            let detail = "A path is completed by completing its steps.";
            return Err(Problem::conflict(detail).with_code("PATH_NOT_DONE"));
        }
        Ok(())
    }

    /// Takes along its steps and who is enrolled; what was recorded stays in everybody's summary.
    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        step::hold(transaction, &row.id)?;
        for table in ["learning_path_steps", "learning_enrollments", "learning_standings"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE path_id = $1"), params![&row.id])?;
        }
        Ok(())
    }

    fn committed(_: &Stored<Self>) {
        cache::del(GENERATION);
    }

    fn event_data(row: &Stored<Self>) -> Value {
        // What somebody learns for themselves is their own business.
        let title = (!row.is_personal()).then_some(&row.title);
        json!({
            "id": row.id, "pathId": row.id, "userId": row.user_id, "teamId": row.team_id, "title": title,
            "skills": row.skills_covered, "difficulty": row.difficulty, "isTemplate": row.is_template,
            "isPrivate": row.is_personal(),
        })
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::{serde_json, testing};

    use super::*;

    fn path(fields: Value) -> Path {
        let mut whole = json!({"title": "t"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn what_is_paused_is_closed_and_a_draft_open_to_its_owner_alone() {
        assert!(path(json!({})).require_open().is_ok());
        assert_eq!(path(json!({"status": "paused", "userId": "u1"})).require_open().unwrap_err().code, "PATH_NOT_OPEN");
        assert!(path(json!({"status": "draft"})).require_open().is_err());
        assert!(path(json!({"status": "draft", "userId": "u1"})).require_open().is_ok());
        assert_eq!(path(json!({"userId": "u1"})).require_learner(&"u2".into()).unwrap_err().status, 403);
    }

    #[test]
    fn only_who_manages_sees_everything() {
        testing::sign_in("u1", "o1");
        testing::join_team("t1");
        assert_eq!(visible().unwrap().values, ["u1", "u1", "t1", "u1"].map(database::Value::from));
        testing::permit(access::MANAGE);
        assert!(visible().is_none());
    }

    #[test]
    fn a_template_is_nobodys_own() {
        let mut faults = Faults::default();
        path(json!({"isTemplate": true, "userId": "u1", "status": "active"})).check(&mut faults);
        path(json!({"status": "completed"})).check(&mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["isTemplate", "status"]);
    }
}
