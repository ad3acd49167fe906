//! Where widgets are. The truth is each widget's own `position`; a layout is all of them together.

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
};

use super::{WIDGETS_MAX, touch, view::Whole};
use crate::access::{self, Level};

/// A place on a grid whose squares a program may draw as it likes. Places may overlap.
#[data]
#[derive(Copy)]
pub(crate) struct Position {
    /// Columns from the left.
    #[field(min = 0, max = 1000)]
    pub x: i64,
    /// Rows from the top.
    #[field(min = 0, max = 100_000)]
    pub y: i64,
    /// Columns wide.
    #[field(min = 1, max = 1000)]
    pub w: i64,
    /// Rows high.
    #[field(min = 1, max = 1000)]
    pub h: i64,
}

impl Column for Position {
    const KIND: Kind = Kind::Json;
}

/// A widget's place.
#[data]
pub(crate) struct Place {
    pub widget_id: Id,
    #[field(min = 0, max = 1000)]
    pub x: i64,
    #[field(min = 0, max = 100_000)]
    pub y: i64,
    #[field(min = 1, max = 1000)]
    pub w: i64,
    #[field(min = 1, max = 1000)]
    pub h: i64,
}

impl Place {
    pub fn of(widget_id: Id, Position { x, y, w, h }: Position) -> Self {
        Self { widget_id, x, y, w, h }
    }

    fn position(&self) -> Position {
        Position { x: self.x, y: self.y, w: self.w, h: self.h }
    }
}

/// The body of `PUT …/layout`.
#[data]
pub(crate) struct Layout {
    /// A widget that is not named stays where it is.
    #[field(max = 30)]
    layout: Vec<Place>,
}

/// 400 for a widget that is named twice.
pub(crate) fn check(places: &[Place], faults: &mut Faults) {
    for (index, place) in places.iter().enumerate() {
        if places.iter().take(index).any(|other| other.widget_id == place.widget_id) {
            faults.add(format!("layout[{index}].widgetId"), "is there twice");
        }
    }
}

/// `PUT /api/dashboards/{id}/layout`.
pub(crate) fn save(Params(id): Params<Id>, if_match: IfMatch, Json(body): Json<Layout>) -> Result<Whole> {
    access::open_for(&id, Level::Edit)?;
    let mut faults = Faults::default();
    check(&body.layout, &mut faults);
    faults.finish()?;
    database::transaction(|transaction| {
        let version = touch(transaction, &id, 0)?;
        if_match.check(version - 1)?;
        store(transaction, &id, &body.layout)?;
        announce(transaction, &id, "layout", None)
    })?;
    Whole::read(200, &id)
}

/// Writes the places of a dashboard's widgets; 422 for one that it does not have.
pub(crate) fn store(transaction: &Transaction, dashboard_id: &Id, places: &[Place]) -> Result<()> {
    debug_assert!(places.len() <= usize::try_from(WIDGETS_MAX).unwrap_or(usize::MAX));
    let mut faults = Faults::default();
    for (index, place) in places.iter().enumerate() {
        let changed = transaction.execute(
            "UPDATE dashboard_widgets SET position = $3, version = version + 1, updated_at = $4 \
             WHERE id = $1 AND dashboard_id = $2",
            params![&place.widget_id, dashboard_id, berth_sdk::serde_json::json!(place.position()), clock::now()],
        )?;
        if changed == 0 {
            faults.add(format!("layout[{index}].widgetId"), "is no widget of this dashboard");
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Problem::unprocessable("The layout names widgets that are not there.").with_errors(faults.errors().to_vec()))
}

/// Says that a dashboard has changed, and what of it.
pub(crate) fn announce(transaction: &Transaction, id: &Id, what: &str, widget_id: Option<&Id>) -> Result<()> {
    let data = json!({ "id": id, "dashboardId": id, "changed": what, "widgetId": widget_id });
    transaction.send(&events::Message::new("dashboard.updated", &data)?.with_key(id.as_str()))?;
    Ok(())
}

/// Below everything that is there, at the left.
pub(crate) fn below(places: &[Position], (w, h): (i64, i64)) -> Position {
    Position { x: 0, y: places.iter().map(|place| place.y + place.h).max().unwrap_or(0).min(100_000), w, h }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_widget_goes_below_the_others() {
        assert_eq!(below(&[], (6, 4)), Position { x: 0, y: 0, w: 6, h: 4 });
        let there = [Position { x: 0, y: 0, w: 6, h: 4 }, Position { x: 6, y: 2, w: 6, h: 5 }];
        assert_eq!(below(&there, (12, 1)), Position { x: 0, y: 7, w: 12, h: 1 });
        let far = [Position { x: 0, y: 100_000, w: 1, h: 1000 }];
        assert_eq!(below(&far, (1, 1)).y, 100_000);
    }

    #[test]
    fn a_layout_names_a_widget_once() {
        let place = |id: &str| Place::of(Id::from(id), below(&[], (1, 1)));
        let mut faults = Faults::default();
        check(&[place("a"), place("b"), place("a")], &mut faults);
        assert_eq!(
            faults.errors().iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            ["layout[2].widgetId"]
        );
    }
}
