//! Favourites: each user's own.

use berth_sdk::prelude::*;

use crate::access;

/// How it is now.
#[data]
pub(crate) struct Favorite {
    dashboard_id: Id,
    is_favorite: bool,
}

/// `POST /api/dashboards/{id}/favorite`: what was one is none any more, and the other way round.
pub(crate) fn toggle(Params(id): Params<Id>) -> Result<Json<Favorite>> {
    access::open(&id)?;
    let (user_id, organization_id) = (auth::user_id()?, auth::organization_id()?);
    let is_favorite = database::transaction(|transaction| {
        let taken = "DELETE FROM dashboard_favorites WHERE dashboard_id = $1 AND user_id = $2";
        if transaction.execute(taken, params![&id, &user_id])? > 0 {
            return Ok::<_, Problem>(false);
        }
        // Only of one that is still there.
        let held = "UPDATE dashboard_dashboards SET updated_at = updated_at WHERE id = $1";
        if transaction.execute(held, params![&id])? == 0 {
            return Err(Problem::missing("dashboard"));
        }
        transaction.execute(
            "INSERT INTO dashboard_favorites (dashboard_id, organization_id, user_id) VALUES ($1, $2, $3) \
             ON CONFLICT (dashboard_id, user_id) DO NOTHING",
            params![&id, &organization_id, &user_id],
        )?;
        Ok(true)
    })?;
    Ok(Json(Favorite { dashboard_id: id, is_favorite }))
}
