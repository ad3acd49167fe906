//! Who sees a pattern: everybody, or its author, its team, the people of its project, and those who manage the library.

use berth_sdk::{database::Value, prelude::*};

use super::Pattern;
use crate::access;

/// What is known of who looks.
#[derive(Clone, Debug)]
pub struct Sight {
    user_id: String,
    teams: Vec<String>,
    is_manager: bool,
}

impl Sight {
    /// The present caller's.
    pub fn present() -> Self {
        Self {
            user_id: auth::principal().user_id.unwrap_or_default(),
            teams: auth::teams(),
            is_manager: access::is_manager(access::MANAGE_PATTERNS),
        }
    }

    /// Whether a pattern is seen without asking who is in its project.
    fn covers(&self, row: &Stored<Pattern>) -> bool {
        let is_own = row.created_by.as_deref().is_some_and(|author| author == self.user_id);
        let is_of_team = row.team_id.as_ref().is_some_and(|team| self.teams.iter().any(|own| own == team.as_str()));
        row.is_public || self.is_manager || is_own || is_of_team
    }

    /// The same as SQL; a project that the caller is known to see counts as well. None: every row.
    pub fn condition(&self, project_id: Option<&Id>) -> Option<Condition> {
        if self.is_manager {
            return None;
        }
        let mut sql = String::from("is_public = TRUE OR created_by = ?");
        let mut values: Vec<Value> = vec![self.user_id.as_str().into()];
        if !self.teams.is_empty() {
            sql.push_str(&format!(" OR team_id IN ({})", vec!["?"; self.teams.len()].join(", ")));
            values.extend(self.teams.iter().map(Value::from));
        }
        if let Some(project_id) = project_id {
            sql.push_str(" OR project_id = ?");
            values.push(project_id.into());
        }
        Some(Condition { sql, values })
    }
}

/// The pattern of this id, if the caller sees it; 404 otherwise. Asked outside of transactions: it may be a call.
pub fn seen(id: &Id) -> Result<Stored<Pattern>> {
    let row = entity::read::<Pattern>(&Pool, id)?;
    if Sight::present().covers(&row) {
        return Ok(row);
    }
    match &row.project_id {
        Some(project_id) if people::project::sees(project_id)? => Ok(row),
        _ => Err(Problem::missing("pattern")),
    }
}

/// The patterns that the caller sees; those of a project that is named too, if the caller sees the project.
pub fn select(project_id: Option<&str>) -> Result<Select<Pattern>> {
    let sight = Sight::present();
    let project_id = match project_id.map(Id::parse).transpose()? {
        Some(project_id) if !sight.is_manager && people::project::sees(&project_id)? => Some(project_id),
        _ => None,
    };
    let select = Select::new();
    Ok(match sight.condition(project_id.as_ref()) {
        Some(Condition { sql, values }) => select.condition(&sql, values),
        None => select,
    })
}

#[cfg(test)]
mod tests {
    use berth_sdk::{serde_json, testing};

    use super::*;

    fn pattern(fields: serde_json::Value) -> Stored<Pattern> {
        let mut whole = json!({"name": "n", "patternType": "style", "code": "c", "isPublic": false});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let now = Timestamp::from_millis(0);
        Stored {
            id: "x".into(),
            organization_id: Some("o1".into()),
            created_by: Some("author".into()),
            created_at: now,
            updated_at: now,
            version: 1,
            data: serde_json::from_value(whole).unwrap(),
        }
    }

    #[test]
    fn what_is_not_public_is_for_its_author_and_its_team() {
        testing::sign_in("u1", "o1");
        testing::join_team("t1");
        let sight = Sight::present();
        assert!(sight.covers(&pattern(json!({"isPublic": true}))));
        assert!(sight.covers(&pattern(json!({"teamId": "t1"}))));
        assert!(!sight.covers(&pattern(json!({"teamId": "t2"}))));
        assert!(!sight.covers(&pattern(json!({"projectId": "p1"}))));
        testing::sign_in("author", "o1");
        assert!(Sight::present().covers(&pattern(json!({}))));
        testing::sign_in("u2", "o1");
        testing::permit(access::MANAGE_PATTERNS);
        assert!(Sight::present().covers(&pattern(json!({}))) && Sight::present().condition(None).is_none());
    }

    #[test]
    fn the_sql_asks_for_the_same() {
        testing::sign_in("u1", "o1");
        testing::join_team("t1");
        let condition = Sight::present().condition(Some(&"p1".into())).unwrap();
        assert_eq!(condition.sql, "is_public = TRUE OR created_by = ? OR team_id IN (?) OR project_id = ?");
        assert_eq!(condition.values, ["u1", "t1", "p1"].map(Value::from));
    }
}
