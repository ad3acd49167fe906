//! The default of a user: one for each scope. The first dashboard that somebody makes in a scope is it; another one takes its
//! place when it is chosen, and the oldest one when it is deleted.

use berth_sdk::prelude::*;

use super::{Dashboard, Scope, view::Whole};
use crate::access;

/// Makes a dashboard the default of a user where they have none. It holds the user's turn until the transaction ends.
pub(crate) fn ensure(transaction: &Transaction, row: &Stored<Dashboard>, user_id: &str) -> Result<()> {
    put(transaction, row, user_id, "dashboard_defaults.dashboard_id")
}

/// Makes a dashboard the default of a user.
pub(crate) fn set(transaction: &Transaction, row: &Stored<Dashboard>, user_id: &str) -> Result<()> {
    put(transaction, row, user_id, "excluded.dashboard_id")
}

fn put(transaction: &Transaction, row: &Stored<Dashboard>, user_id: &str, kept: &str) -> Result<()> {
    transaction.execute(
        &format!(
            "INSERT INTO dashboard_defaults (organization_id, user_id, scope, dashboard_id) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (organization_id, user_id, scope) DO UPDATE SET dashboard_id = {kept}"
        ),
        params![&row.organization_id, user_id, row.scope, &row.id],
    )?;
    Ok(())
}

/// Takes the turn of everybody whose default a dashboard is or may become, until the transaction ends: whoever is just making,
/// moving or deleting another one for them is waited for and then seen. To be called before the dashboard's row is written, so
/// that nobody waits in a circle.
pub(crate) fn hold(transaction: &Transaction, id: &Id) -> Result<()> {
    transaction.execute(
        "UPDATE dashboard_defaults SET dashboard_id = dashboard_id WHERE dashboard_id = $1 OR EXISTS (SELECT 1 \
         FROM dashboard_dashboards d WHERE d.id = $1 AND d.organization_id = dashboard_defaults.organization_id \
         AND d.owner_id = dashboard_defaults.user_id AND d.scope = dashboard_defaults.scope)",
        params![id],
    )?;
    Ok(())
}

/// Takes every turn of a user, who is about to make a dashboard: so whoever counts theirs knows those that were made before. Who
/// owns one has a default.
pub(crate) fn hold_all(transaction: &Transaction, user_id: &str) -> Result<()> {
    transaction.execute(
        "UPDATE dashboard_defaults SET dashboard_id = dashboard_id WHERE organization_id = $1 AND user_id = $2",
        params![auth::organization_id()?, user_id],
    )?;
    Ok(())
}

/// A dashboard is the default of nobody any more: the oldest of the same owner and scope follows it, if there is one.
pub(crate) fn release(transaction: &Transaction, id: &Id) -> Result<()> {
    let followers = "FROM dashboard_dashboards d WHERE d.organization_id = dashboard_defaults.organization_id \
         AND d.owner_id = dashboard_defaults.user_id AND d.scope = dashboard_defaults.scope AND d.id <> $1";
    transaction.execute(
        &format!(
            "UPDATE dashboard_defaults SET dashboard_id = (SELECT d.id {followers} ORDER BY d.created_at, d.id LIMIT 1) \
             WHERE dashboard_id = $1 AND EXISTS (SELECT 1 {followers})"
        ),
        params![id],
    )?;
    transaction.execute("DELETE FROM dashboard_defaults WHERE dashboard_id = $1", params![id])?;
    Ok(())
}

/// A dashboard has moved to another scope: there it is the default where its owner has none.
pub(crate) fn moved(transaction: &Transaction, row: &Stored<Dashboard>) -> Result<()> {
    release(transaction, &row.id)?;
    ensure(transaction, row, &row.owner_id)
}

/// Whether a dashboard is a default of this user.
pub(crate) fn is_of(transaction: &Transaction, id: &Id, user_id: &str) -> Result<bool> {
    let row = transaction.query_one(
        "SELECT scope FROM dashboard_defaults WHERE dashboard_id = $1 AND user_id = $2",
        params![id, user_id],
    )?;
    Ok(row.is_some())
}

/// `POST /api/dashboards/{id}/set-default`: of any dashboard that the caller sees.
pub(crate) fn choose(Params(id): Params<Id>) -> Result<Whole> {
    access::open(&id)?;
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        let row = entity::read::<Dashboard>(transaction, &id)?;
        set(transaction, &row, &user_id)?;
        // Only of one that is still there, for the same people.
        let held = "UPDATE dashboard_dashboards SET updated_at = updated_at WHERE id = $1 AND scope = $2";
        if transaction.execute(held, params![&id, row.scope])? == 0 {
            return Err(Problem::missing(Dashboard::DEFINITION.name));
        }
        Ok(())
    })?;
    Whole::read(200, &id)
}

/// Which default is asked for.
#[data]
pub(crate) struct Which {
    /// Of this scope; without it the first of PERSONAL, PROJECT, TEAM and ORGANIZATION that there is.
    scope: Option<Scope>,
}

/// `GET /api/dashboards/default`; 404 for who has none. Where the chosen one is not for the caller any more, the oldest of
/// their own stands in.
pub(crate) fn read(Query(which): Query<Which>) -> Result<Whole> {
    let user_id = auth::user_id()?;
    let scopes: Vec<Scope> = which.scope.map_or_else(|| Scope::ALL.to_vec(), |scope| vec![scope]);
    for scope in scopes {
        let row = database::query_one(
            "SELECT dashboard_id FROM dashboard_defaults WHERE organization_id = $1 AND user_id = $2 AND scope = $3",
            params![auth::organization_id()?, &user_id, scope],
        )?;
        let Some(row) = row else { continue };
        let chosen: Id = row.get::<String>("dashboard_id")?.into();
        match Whole::read(200, &chosen) {
            Err(problem) if problem.status == 404 => {}
            answer => return answer,
        }
        let own = Select::<Dashboard>::new().equal("owner_id", &user_id).equal("scope", scope).sort("createdAt");
        if let Some(oldest) = own.first(&Pool)? {
            return Whole::read(200, &oldest.id);
        }
    }
    Err(Problem::not_found("There is no default dashboard yet: make one, or choose one with `set-default`."))
}
