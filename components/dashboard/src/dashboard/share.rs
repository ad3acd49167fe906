//! Whom a dashboard is shared with. Sharing shows what is on it, never more of the services behind it than the viewer may see.

use berth_sdk::{database::Bulk, prelude::*, serde_json::Value};

use super::{Dashboard, touch, view::Whole};
use crate::{
    access::{self, Level},
    directory,
};

/// The most users and teams that a dashboard is shared with.
const SHARES_MAX: usize = 200;

/// What kind of people.
#[choice]
#[derive(PartialOrd, Ord)]
pub enum Target {
    User,
    Team,
    /// Everybody.
    Organization,
}

/// One line of `sharedWith`.
#[data]
pub struct Share {
    pub r#type: Target,
    /// The user or the team; the organization needs none.
    pub id: Option<Id>,
    /// May change it and its widgets.
    #[field(default)]
    pub can_edit: bool,
}

impl Share {
    /// Whether it means this user.
    pub fn reaches(&self, user_id: &str, teams: &[String]) -> bool {
        let id = self.id.as_deref();
        match self.r#type {
            Target::User => id == Some(user_id),
            Target::Team => id.is_some_and(|id| teams.iter().any(|team| team == id)),
            Target::Organization => true,
        }
    }

    fn key(&self) -> (Target, Option<&Id>) {
        (self.r#type, self.id.as_ref())
    }
}

/// The body of `POST …/share`: one line, which is added, or `sharedWith`, which replaces the whole list.
#[data]
pub struct Sharing {
    shared_with: Option<Vec<Share>>,
    r#type: Option<Target>,
    id: Option<Id>,
    can_edit: Option<bool>,
}

/// What is to be done with the list.
#[derive(Debug, PartialEq)]
enum Change {
    Replace(Vec<Share>),
    Add(Share),
}

impl Sharing {
    fn read(self) -> Result<Change> {
        match (self.shared_with, self.r#type) {
            (Some(list), None) => Ok(Change::Replace(list)),
            (None, Some(kind)) => {
                Ok(Change::Add(Share { r#type: kind, id: self.id, can_edit: self.can_edit.unwrap_or(false) }))
            }
            (Some(_), Some(_)) => Err(Problem::field("sharedWith", "cannot be there together with type")),
            (None, None) => Err(Problem::field("type", "or sharedWith is required")),
        }
    }
}

/// The list of a dashboard, users first.
pub(crate) fn of(database: &dyn Executor, dashboard_id: &str) -> Result<Vec<Share>> {
    let rows = database.query(
        "SELECT kind, target_id, can_edit FROM dashboard_shares WHERE dashboard_id = $1 ORDER BY kind DESC, target_id",
        params![dashboard_id],
    )?;
    rows.into_iter().map(|row| from_row(&row)).collect()
}

/// A line from the columns `kind`, `target_id` and `can_edit`.
pub(crate) fn from_row(row: &database::Row) -> Result<Share> {
    let id: String = row.get("target_id")?;
    Ok(Share { r#type: row.get("kind")?, id: Some(id.into()), can_edit: row.get("can_edit")? })
}

/// Checks the form of a list: 400 that names every line that is wrong. The organization gets its id here.
fn checked(mut list: Vec<Share>, organization_id: &Id) -> Result<Vec<Share>> {
    let mut faults = Faults::default();
    if list.len() > SHARES_MAX {
        return Err(Problem::field("sharedWith", format!("must have at most {SHARES_MAX} entries")));
    }
    for (index, share) in list.iter_mut().enumerate() {
        let field = format!("sharedWith[{index}].id");
        match (share.r#type, &share.id) {
            (Target::Organization, None) => share.id = Some(organization_id.clone()),
            (Target::Organization, Some(id)) if id != organization_id => faults.add(field, "is another organization"),
            (Target::User | Target::Team, None) => faults.add(field, "is required"),
            _ => {}
        }
    }
    for (index, share) in list.iter().enumerate() {
        if list.iter().take(index).any(|other| other.key() == share.key()) {
            faults.add(format!("sharedWith[{index}]"), "is there twice");
        }
    }
    faults.finish()?;
    Ok(list)
}

/// 400 that names everybody who is not of this organization; those who are on the list already are not asked for again.
fn require_known(list: &[Share], known: &[Share]) -> Result<()> {
    let mut faults = Faults::default();
    for (index, share) in list.iter().enumerate() {
        let what = match share.r#type {
            Target::User => "users",
            Target::Team => "teams",
            Target::Organization => continue,
        };
        let Some(id) = &share.id else { continue };
        if !known.iter().any(|known| known.key() == share.key()) && !directory::is_there(what, id)? {
            faults.add(format!("sharedWith[{index}].id"), "is not known in this organization");
        }
    }
    faults.finish()
}

/// `POST /api/dashboards/{id}/share`.
pub(crate) fn change(Params(id): Params<Id>, if_match: IfMatch, Json(sharing): Json<Sharing>) -> Result<Whole> {
    let opened = access::open_for(&id, Level::Own)?;
    let organization_id = auth::organization_id()?;
    let change = sharing.read()?;
    let (list, is_whole) = match change {
        Change::Replace(list) => (list, true),
        Change::Add(share) => (vec![share], false),
    };
    let list = checked(list, &organization_id)?;
    require_known(&list, &opened.shares)?;
    database::transaction(|transaction| {
        let version = touch(transaction, &id, 0)?;
        if_match.check(version - 1)?;
        store(transaction, &id, &organization_id, &list, is_whole)?;
        let row = entity::read::<Dashboard>(transaction, &id)?;
        let mut data = Dashboard::event_data(&row);
        if let Value::Object(data) = &mut data {
            data.insert("sharedWith".into(), json!(list));
        }
        transaction.publish("dashboard.shared", &data)
    })?;
    Whole::read(200, &id)
}

/// Writes lines in place of those with the same people, or of all.
pub(crate) fn store(
    transaction: &Transaction,
    dashboard_id: &Id,
    organization_id: &Id,
    list: &[Share],
    is_whole: bool,
) -> Result<()> {
    if is_whole {
        transaction.execute("DELETE FROM dashboard_shares WHERE dashboard_id = $1", params![dashboard_id])?;
    }
    Bulk::into("dashboard_shares")
        .shared("dashboard_id", dashboard_id)
        .shared("organization_id", organization_id)
        .columns(&["kind", "target_id", "can_edit"])
        .then("ON CONFLICT (dashboard_id, kind, target_id) DO UPDATE SET can_edit = excluded.can_edit")
        .insert(
            transaction,
            list.iter().map(|share| vec![share.r#type.into(), share.id.clone().into(), share.can_edit.into()]),
        )?;
    let row = transaction
        .query_one("SELECT COUNT(*) AS total FROM dashboard_shares WHERE dashboard_id = $1", params![dashboard_id])?;
    let total: i64 = row.map_or(Ok(0), |row| row.get("total"))?;
    if usize::try_from(total).unwrap_or(usize::MAX) > SHARES_MAX {
        return Err(Problem::unprocessable(format!(
            "A dashboard is shared with at most {SHARES_MAX} users and teams."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(kind: Target, id: Option<&str>) -> Share {
        Share { r#type: kind, id: id.map(|id| Id::from(id.to_string())), can_edit: false }
    }

    #[test]
    fn a_list_names_each_once() {
        let own = Id::from("o1".to_string());
        let fields = |list: Vec<Share>| {
            checked(list, &own).unwrap_err().errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        let twice = vec![share(Target::User, Some("u")), share(Target::User, Some("u")), share(Target::Team, None)];
        assert_eq!(fields(twice), ["sharedWith[2].id", "sharedWith[1]"]);
        assert_eq!(fields(vec![share(Target::Organization, Some("o2"))]), ["sharedWith[0].id"]);
        let whole = checked(vec![share(Target::Organization, None), share(Target::User, Some("u"))], &own).unwrap();
        assert_eq!(whole.first().and_then(|share| share.id.clone()), Some(own));
    }

    #[test]
    fn a_body_has_a_line_or_a_list() {
        let read = |body: Value| berth_sdk::http::read_value::<Sharing>(body).and_then(Sharing::read);
        assert!(matches!(
            read(json!({"type": "team", "id": "t", "canEdit": true})),
            Ok(Change::Add(Share { can_edit: true, .. }))
        ));
        assert_eq!(read(json!({"sharedWith": []})), Ok(Change::Replace(vec![])));
        assert_eq!(read(json!({})).unwrap_err().status, 400);
        assert_eq!(read(json!({"type": "team", "sharedWith": []})).unwrap_err().status, 400);
        assert_eq!(read(json!({"type": "planet", "id": "t"})).unwrap_err().status, 400);
    }
}
