//! Copying a dashboard: whoever sees one may have one of their own like it.

use berth_sdk::prelude::*;

use super::{
    Dashboard, Scope, default,
    view::{Made, Whole},
};
use crate::{access, directory, widget::Widget};

const NAME_CHARACTERS_MAX: usize = 200;

/// What is different about the copy.
#[data]
pub(crate) struct Wish {
    /// `Copy of …` when absent.
    #[field(min = 1, max = 200, plain)]
    name: Option<String>,
    /// `PERSONAL` when absent.
    scope: Option<Scope>,
    scope_id: Option<Id>,
}

/// `POST /api/dashboards/{id}/duplicate`: with its widgets, shared with nobody.
pub(crate) fn duplicate(Params(id): Params<Id>, wish: Option<Json<Wish>>) -> Result<Made> {
    let original = access::open(&id)?.row;
    let Wish { name, scope, scope_id } =
        wish.map_or(Wish { name: None, scope: None, scope_id: None }, |Json(wish)| wish);
    let scope = scope.unwrap_or(Scope::Personal);
    directory::require_scope(scope, scope_id.as_ref())?;
    let dashboard = Dashboard {
        name: name.unwrap_or_else(|| copied(&original.name)),
        scope,
        scope_id,
        widget_count: 0,
        ..original.data.clone()
    };
    let made = database::transaction(|transaction| {
        let widgets = Select::<Widget>::new().equal("dashboard_id", &id).sort("createdAt").all(transaction)?;
        let count = i64::try_from(widgets.len()).unwrap_or(i64::MAX);
        let row = entity::create(transaction, Dashboard { widget_count: count, ..dashboard })?;
        for widget in widgets {
            entity::create(transaction, Widget { dashboard_id: row.id.clone(), ..widget.data })?;
        }
        default::ensure(transaction, &row, &row.owner_id)?;
        Ok::<_, Problem>(row)
    })?;
    Ok(Made(Whole::read(201, &made.id)?))
}

fn copied(name: &str) -> String {
    format!("Copy of {name}").chars().take(NAME_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_copy_is_never_too_long() {
        assert_eq!(copied("Mine"), "Copy of Mine");
        assert_eq!(copied(&"ü".repeat(200)).chars().count(), 200);
    }
}
