//! How debt develops: what was found and what was resolved, period by period. The sums are pure.

use berth_sdk::prelude::*;

use super::Debt;

/// The most debt items that are looked at: the newest ones.
const ITEMS_MAX: i64 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Which trend.
#[data]
pub(crate) struct Wish {
    project_id: Option<Id>,
    /// How far back; 90 when absent.
    #[field(min = 1, max = 730)]
    days: Option<i64>,
    /// The length of a period in days; 7 when absent.
    #[field(min = 1, max = 90)]
    interval_days: Option<i64>,
}

/// How debt develops.
#[data]
pub(crate) struct Trends {
    from: Timestamp,
    to: Timestamp,
    points: Vec<Point>,
}

/// One period.
#[data]
pub(crate) struct Point {
    start: Timestamp,
    end: Timestamp,
    /// Found in the period.
    identified: i64,
    /// Resolved in the period.
    resolved: i64,
    /// Not resolved at its end.
    open: i64,
    /// The sum of their scores.
    open_score: f64,
}

#[data]
struct Item {
    detected_at: Timestamp,
    resolved_at: Option<Timestamp>,
    overall_score: f64,
}

/// `GET /api/debt/trends`.
pub(crate) fn read(Query(wish): Query<Wish>) -> Result<Json<Trends>> {
    let mut select = Select::<Debt>::new().sort("-detectedAt").limit(ITEMS_MAX);
    if let Some(project_id) = &wish.project_id {
        entity::read::<crate::project::Project>(&Pool, project_id)?;
        select = select.equal("project_id", project_id);
    }
    let items: Vec<Item> = berth_sdk::serde_json::from_slice(&select.text(&Pool)?).map_err(|_| Problem::internal())?;
    let to = clock::now().millis();
    let from = to - wish.days.unwrap_or(90) * DAY_MS;
    let points = points(&items, from, to, wish.interval_days.unwrap_or(7) * DAY_MS);
    Ok(Json(Trends { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to), points }))
}

/// The periods from `from` to `to`; the last one may be shorter. What happens at the end of one belongs to the next.
fn points(items: &[Item], from: i64, to: i64, length: i64) -> Vec<Point> {
    let mut points = Vec::new();
    let mut start = from;
    while start < to {
        let end = (start + length.max(1)).min(to);
        // Whatever happens right now belongs to the last period.
        let inside = |moment: i64| moment >= start && (moment < end || end == to && moment <= end);
        let is_over = |moment: i64| moment < end || end == to && moment <= end;
        let resolved_at = |item: &Item| item.resolved_at.map(Timestamp::millis);
        let open = || {
            items.iter().filter(|item| is_over(item.detected_at.millis()) && !resolved_at(item).is_some_and(is_over))
        };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        points.push(Point {
            start: Timestamp::from_millis(start),
            end: Timestamp::from_millis(end),
            identified: count(items.iter().filter(|item| inside(item.detected_at.millis())).count()),
            resolved: count(items.iter().filter_map(resolved_at).filter(|moment| inside(*moment)).count()),
            open: count(open().count()),
            open_score: crate::score::rounded(open().map(|item| item.overall_score).sum()),
        });
        start = end;
    }
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(detected: i64, resolved: Option<i64>) -> Item {
        Item {
            detected_at: Timestamp::from_millis(detected),
            resolved_at: resolved.map(Timestamp::from_millis),
            overall_score: 2.0,
        }
    }

    #[test]
    fn a_period_counts_what_happened_in_it() {
        let found = points(&[item(5, Some(25)), item(12, None), item(30, None)], 0, 30, 10);
        let counts: Vec<(i64, i64, i64)> =
            found.iter().map(|point| (point.identified, point.resolved, point.open)).collect();
        assert_eq!(counts, [(1, 0, 1), (1, 0, 2), (1, 1, 2)]);
        assert_eq!(found[2].open_score, 4.0);
    }

    proptest! {
        #[test]
        fn what_is_open_is_what_was_found_and_not_resolved(
            items in prop::collection::vec((0i64..100, prop::option::of(0i64..50)), 0..30), length in 1i64..40
        ) {
            let items: Vec<Item> =
                items.into_iter().map(|(detected, after)| item(detected, after.map(|after| detected + after))).collect();
            let found = points(&items, 0, 100, length);
            let mut open = 0;
            for point in &found {
                open += point.identified - point.resolved;
                prop_assert_eq!(point.open, open);
            }
            prop_assert_eq!(found.first().map(|point| point.start.millis()), Some(0));
            prop_assert_eq!(found.last().map(|point| point.end.millis()), Some(100));
        }
    }
}
