//! Aggregates: sums of an hour, kept with each event; days and months, made of the hours by the clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::period::{self, Span};

/// Keys that are read or written in one statement.
const CHUNK: usize = 30;
/// Hours of one tick that are summed up anew; the rest follow with the next.
const PERIODS_MAX: usize = 2_000;
/// Days, and months, of another time zone that one tick sums up anew; the rest follow with the next. Nobody reads them
/// before their hours are gone.
const DISPLACED_MAX: usize = 10;
/// Rows of one period.
const ROWS_MAX: i64 = 10_000;

/// How wide.
#[choice(upper)]
pub(crate) enum Granularity {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

impl Granularity {
    /// The span of the calendar.
    pub(crate) fn span(self) -> Span {
        match self {
            Self::Hourly => Span::Hour,
            Self::Daily => Span::Day,
            Self::Weekly => Span::Week,
            Self::Monthly => Span::Month,
        }
    }

    /// About half of a period.
    fn half(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hourly => 1_800,
            Self::Daily => 43_200,
            Self::Weekly => 302_400,
            Self::Monthly => 14 * 86_400,
        })
    }
}

/// How long the sums of hours and of days are kept, in days; those of months stay.
pub(crate) const HOURS_KEPT: u64 = 90;
pub(crate) const DAYS_KEPT: u64 = 730;
/// The longest month, in days.
const MONTH: u64 = 31;

/// The condition of a statement that reads sums, with the values of [`horizons`]: months before `$3`, days from there on,
/// hours from `$2` on.
pub(crate) const HOURS_DAYS_OR_MONTHS: &str = " AND ((granularity = 'HOURLY' AND period_start >= $2) OR \
    (granularity = 'DAILY' AND period_start >= $3 AND period_start < $2) OR \
    (granularity = 'MONTHLY' AND period_start < $3))";

/// The beginning of a day from which on hours are read, and that of a month from which on days are: a day before the first of
/// them are gone.
pub(crate) fn horizons(now: Timestamp, zone: chrono_tz::Tz) -> [Timestamp; 2] {
    let begin = |span: Span, days: u64| period::around(span, now.minus(Duration::from_secs(days * 86_400)), zone).0;
    [begin(Span::Day, HOURS_KEPT - 1), begin(Span::Month, DAYS_KEPT - MONTH - 1)]
}

/// What is summed up together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub period_start: Timestamp,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub team_id: Option<String>,
    pub category_code: String,
    pub dimension: Option<(String, String)>,
}

/// A sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    pub metrics: BTreeMap<String, f64>,
    pub count: i64,
    pub cost_micro: i64,
}

impl Sum {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Sum) {
        for (name, quantity) in &other.metrics {
            *self.metrics.entry(name.clone()).or_insert(0.0) += quantity;
        }
        self.count = self.count.saturating_add(other.count);
        self.cost_micro = self.cost_micro.saturating_add(other.cost_micro);
    }
}

impl Key {
    /// All of it as one text; parts cannot run into one another, as each has its length.
    fn text(&self, organization_id: &str, granularity: Granularity) -> String {
        let none = String::new();
        let (dimension_key, dimension_value) =
            self.dimension.as_ref().map_or((&none, &none), |(key, value)| (key, value));
        let part = |text: Option<&str>| text.map_or_else(|| "-".to_string(), |text| format!("{}:{text}", text.len()));
        [
            part(Some(organization_id)),
            granularity.as_str().to_string(),
            self.period_start.millis().to_string(),
            part(self.user_id.as_deref()),
            part(self.project_id.as_deref()),
            part(self.team_id.as_deref()),
            part(Some(&self.category_code)),
            part(Some(dimension_key)),
            part(Some(dimension_value)),
        ]
        .join("|")
    }
}

/// Adds sums to the hours that are there. The organization's turn must be held.
pub(crate) fn add(transaction: &Transaction, organization_id: &str, sums: &BTreeMap<Key, Sum>) -> Result<()> {
    let entries: Vec<(String, &Key, Sum)> =
        sums.iter().map(|(key, sum)| (key.text(organization_id, Granularity::Hourly), key, sum.clone())).collect();
    for chunk in entries.chunks(CHUNK) {
        let texts: Vec<database::Value> = chunk.iter().map(|(text, ..)| text.as_str().into()).collect();
        let places: Vec<String> = (1..=texts.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT aggregate_key, metrics, event_count, total_cost_micro FROM usage_aggregates WHERE aggregate_key IN ({})",
            places.join(", ")
        );
        let mut present: BTreeMap<String, Sum> = BTreeMap::new();
        for row in transaction.query(&sql, &texts)? {
            let sum = Sum {
                metrics: row.json("metrics")?,
                count: row.get("event_count")?,
                cost_micro: row.get("total_cost_micro")?,
            };
            present.insert(row.get("aggregate_key")?, sum);
        }
        let merged: Vec<(String, &Key, Sum)> = chunk
            .iter()
            .map(|(text, key, sum)| {
                let mut merged = present.remove(text).unwrap_or_default();
                merged.add(sum);
                (text.clone(), *key, merged)
            })
            .collect();
        write(transaction, organization_id, Granularity::Hourly, &merged)?;
    }
    Ok(())
}

/// Writes rows, over those of the same key.
fn write(
    transaction: &Transaction,
    organization_id: &str,
    granularity: Granularity,
    rows: &[(String, &Key, Sum)],
) -> Result<()> {
    const COLUMNS: usize = 13;
    for chunk in rows.chunks(CHUNK) {
        let mut values: Vec<database::Value> = vec![organization_id.into(), granularity.into(), clock::now().into()];
        let mut places = Vec::with_capacity(chunk.len());
        for (text, key, sum) in chunk {
            let first = values.len() + 1;
            let (dimension_key, dimension_value) = key.dimension.clone().unzip();
            values.extend([
                Id::new().into(),
                text.as_str().into(),
                key.period_start.into(),
                (&key.user_id).into(),
                (&key.project_id).into(),
                (&key.team_id).into(),
                key.category_code.as_str().into(),
                (&dimension_key).into(),
                (&dimension_value).into(),
                json!(sum.metrics).into(),
                sum.count.into(),
                sum.cost_micro.into(),
            ]);
            let own: Vec<String> = (first..first + COLUMNS - 1).map(|place| format!("${place}")).collect();
            let (id, rest) = own.split_first().ok_or_else(Problem::internal)?;
            places.push(format!("({id}, $1, $3, $3, 1, $2, {})", rest.join(", ")));
        }
        let sql = format!(
            "INSERT INTO usage_aggregates (id, organization_id, created_at, updated_at, version, granularity, aggregate_key, \
             period_start, user_id, project_id, team_id, category_code, dimension_key, dimension_value, metrics, event_count, \
             total_cost_micro) VALUES {} ON CONFLICT (aggregate_key) DO UPDATE SET metrics = excluded.metrics, \
             event_count = excluded.event_count, total_cost_micro = excluded.total_cost_micro, updated_at = excluded.updated_at",
            places.join(", ")
        );
        transaction.execute(&sql, &values)?;
    }
    Ok(())
}

/// A row as it is read.
#[data]
pub(crate) struct Row {
    pub period_start: Timestamp,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub team_id: Option<String>,
    pub category_code: String,
    pub dimension_key: Option<String>,
    pub dimension_value: Option<String>,
    pub metrics: BTreeMap<String, f64>,
    pub event_count: i64,
    pub total_cost_micro: i64,
}

/// What [`Row`] is read from.
pub(crate) const COLUMNS: &str = "period_start AS \"periodStart\", user_id AS \"userId\", project_id AS \"projectId\", \
    team_id AS \"teamId\", category_code AS \"categoryCode\", dimension_key AS \"dimensionKey\", \
    dimension_value AS \"dimensionValue\", metrics, event_count AS \"eventCount\", total_cost_micro AS \"totalCostMicro\"";

impl Row {
    /// Its sum alone.
    pub(crate) fn sum(&self) -> Sum {
        Sum { metrics: self.metrics.clone(), count: self.event_count, cost_micro: self.total_cost_micro }
    }
}

/// The timer `aggregate`: says for which organizations hours have changed; each sums its own up.
pub(crate) fn tick(_: &Envelope) -> Result<()> {
    let since = clock::now().minus(Duration::from_secs(2 * 3_600 + 600));
    let rows = database::query(
        "SELECT DISTINCT organization_id FROM usage_aggregates WHERE granularity = 'HOURLY' AND updated_at >= $1 \
         AND organization_id IS NOT NULL LIMIT 5000",
        params![since],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        let message =
            events::Message::new("usage.rollup", &json!({ "since": since }))?.for_organization(organization_id);
        events::enqueue_message(&message)?;
    }
    Ok(())
}

/// Handles `usage.rollup`: days and months whose hours have changed are summed up anew, whole.
pub(crate) fn roll_up(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Work {
        since: Timestamp,
    }
    let Work { since } = envelope.data()?;
    let organization_id = auth::organization_id()?;
    let zone = crate::access::zone();
    let rows = database::query(
        &format!(
            "SELECT DISTINCT period_start FROM usage_aggregates WHERE organization_id = $1 AND granularity = 'HOURLY' \
             AND updated_at >= $2 ORDER BY period_start LIMIT {PERIODS_MAX}"
        ),
        params![&organization_id, since],
    )?;
    let mut periods = displaced(&organization_id, zone)?;
    for row in rows {
        let hour: Timestamp = row.get("period_start")?;
        for granularity in [Granularity::Daily, Granularity::Monthly] {
            let (start, end) = period::around(granularity.span(), hour, zone);
            periods.insert((granularity.as_str(), start, end));
        }
    }
    // Hours end with UTC's hours; in a zone that is off by half an hour, an hour belongs to the period it begins in.
    for (granularity, start, end) in periods {
        let Some(granularity) = Granularity::parse(granularity) else { continue };
        database::transaction(|transaction| sum_up(transaction, &organization_id, granularity, (start, end)))?;
    }
    crate::alert::look_for_anomalies(&organization_id)
}

/// Sums a day or a month up anew, whole, and lets go what stands for it in another time zone.
fn sum_up(
    transaction: &Transaction,
    organization_id: &Id,
    granularity: Granularity,
    (start, end): (Timestamp, Timestamp),
) -> Result<()> {
    crate::ingest::take_turn(transaction, organization_id)?;
    let begin = begins_in(granularity, (start, end));
    transaction.execute(
        "DELETE FROM usage_aggregates WHERE organization_id = $1 AND granularity = $2 AND period_start >= $3 \
         AND period_start < $4 AND period_start <> $5",
        params![organization_id, granularity, begin.0, begin.1, start],
    )?;
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let rows = transaction.query(
            &format!(
                "SELECT id, user_id, project_id, team_id, category_code, dimension_key, dimension_value, metrics, \
                 event_count, total_cost_micro FROM usage_aggregates WHERE organization_id = $1 AND \
                 granularity = 'HOURLY' AND period_start >= $2 AND period_start < $3 AND id > $4 ORDER BY id LIMIT {ROWS_MAX}"
            ),
            params![organization_id, start, end, after.as_str()],
        )?;
        let count = rows.len();
        for row in rows {
            after = row.get("id")?;
            let dimension: (Option<String>, Option<String>) = (row.get("dimension_key")?, row.get("dimension_value")?);
            let key = Key {
                period_start: start,
                user_id: row.get("user_id")?,
                project_id: row.get("project_id")?,
                team_id: row.get("team_id")?,
                category_code: row.get("category_code")?,
                dimension: dimension.0.zip(dimension.1),
            };
            let metrics: BTreeMap<String, f64> = row.json("metrics")?;
            let sum = Sum { metrics, count: row.get("event_count")?, cost_micro: row.get("total_cost_micro")? };
            sums.entry(key).or_default().add(&sum);
        }
        if (count as i64) < ROWS_MAX {
            break;
        }
    }
    let rows: Vec<(String, &Key, Sum)> =
        sums.iter().map(|(key, sum)| (key.text(organization_id, granularity), key, sum.clone())).collect();
    write(transaction, organization_id, granularity, &rows)
}

/// The days and months to sum up anew because what is there of them begins elsewhere: the organization had another time zone
/// then. Only those of which every hour is still there.
fn displaced(organization_id: &Id, zone: chrono_tz::Tz) -> Result<BTreeSet<(&'static str, Timestamp, Timestamp)>> {
    let [hours, _] = horizons(clock::now(), zone);
    let mut periods = BTreeSet::new();
    for granularity in [Granularity::Daily, Granularity::Monthly] {
        let rows = database::query(
            &format!(
                "SELECT DISTINCT period_start FROM usage_aggregates WHERE organization_id = $1 AND granularity = $2 \
                 AND period_start >= $3 ORDER BY period_start LIMIT {PERIODS_MAX}"
            ),
            params![organization_id, granularity, hours],
        )?;
        let mut starts = Vec::new();
        for row in rows {
            starts.push(row.get::<Timestamp>("period_start")?);
        }
        let elsewhere = starts.into_iter().filter_map(|start| instead(granularity, start, zone)).take(DISPLACED_MAX);
        let whole = elsewhere.flatten().filter(|(start, _)| *start >= hours);
        periods.extend(whole.map(|(start, end)| (granularity.as_str(), start, end)));
    }
    Ok(periods)
}

/// The two periods over which one lies that begins here; none when one of this zone does.
fn instead(granularity: Granularity, found: Timestamp, zone: chrono_tz::Tz) -> Option<[(Timestamp, Timestamp); 2]> {
    let first = period::around(granularity.span(), found, zone);
    (first.0 != found).then(|| [first, period::around(granularity.span(), first.1, zone)])
}

/// From where to where a period begins in another zone that is the same day or month as this one: its middle lies in this
/// one, and so in no other.
fn begins_in(granularity: Granularity, (start, end): (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
    (start.minus(granularity.half()), end.minus(granularity.half()))
}

/// A sum as it is shown.
pub(crate) fn shown(sum: &Sum) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("metrics".into(), json!(sum.metrics));
    shown.insert("eventCount".into(), sum.count.into());
    shown.insert("totalCostMicro".into(), sum.cost_micro.into());
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(user: Option<&str>, project: Option<&str>, category: &str, dimension: Option<(&str, &str)>) -> Key {
        Key {
            period_start: Timestamp::from_millis(0),
            user_id: user.map(Into::into),
            project_id: project.map(Into::into),
            team_id: None,
            category_code: category.into(),
            dimension: dimension.map(|(key, value)| (key.into(), value.into())),
        }
    }

    #[test]
    fn different_keys_are_different_texts() {
        let keys = [
            key(None, None, "a", None),
            key(Some("a"), None, "a", None),
            key(None, Some("a"), "a", None),
            key(Some("a|1:b"), None, "a", None),
            key(Some("a"), Some("b"), "a", None),
            key(None, None, "a", Some(("b", "c"))),
            key(None, None, "a", Some(("b", "c|"))),
            key(None, None, "b", None),
        ];
        let texts: std::collections::BTreeSet<String> =
            keys.iter().map(|key| key.text("o1", Granularity::Hourly)).collect();
        assert_eq!(texts.len(), keys.len());
        assert_ne!(keys[0].text("o1", Granularity::Daily), keys[0].text("o1", Granularity::Hourly));
        assert_ne!(keys[0].text("o1", Granularity::Daily), keys[0].text("o2", Granularity::Daily));
    }

    proptest! {
        #[test]
        fn what_is_read_is_still_kept(millis in 1_700_000_000_000_i64..4_102_444_800_000, zone in 0..3_usize) {
            let zone = [chrono_tz::Tz::UTC, chrono_tz::Tz::Pacific__Kiritimati, chrono_tz::Tz::America__New_York][zone];
            let now = Timestamp::from_millis(millis);
            let [hours, days] = horizons(now, zone);
            let ago = |days: u64| now.minus(Duration::from_secs(days * 86_400));
            // From the horizon on every hour and every day is there, and what lies before it is told by whole days and months.
            prop_assert!(ago(HOURS_KEPT) < hours && hours <= now && ago(DAYS_KEPT) < days && days < hours);
            prop_assert_eq!(period::around(Span::Day, hours, zone).0, hours);
            prop_assert_eq!(period::around(Span::Month, days, zone).0, days);
        }

        #[test]
        fn what_another_zone_has_summed_up_is_replaced_by_one_period_and_told_whole(
            millis in 1_700_000_000_000_i64..4_102_444_800_000, zones in (0..4_usize, 0..4_usize), monthly in any::<bool>(),
        ) {
            let zone = |at: usize| [chrono_tz::Tz::UTC, chrono_tz::Tz::Pacific__Kiritimati, chrono_tz::Tz::America__New_York,
                chrono_tz::Tz::Europe__Berlin][at];
            let granularity = if monthly { Granularity::Monthly } else { Granularity::Daily };
            let old = period::around(granularity.span(), Timestamp::from_millis(millis), zone(zones.0));
            if let Some(periods) = instead(granularity, old.0, zone(zones.1)) {
                prop_assert!(periods[0].0 < old.0 && old.1 <= periods[1].1 && periods[0].1 == periods[1].0);
                let replaced = periods.iter().filter(|period| {
                    let (from, to) = begins_in(granularity, **period);
                    from <= old.0 && old.0 < to
                });
                prop_assert_eq!(replaced.count(), 1);
            } else {
                prop_assert_eq!(period::around(granularity.span(), old.0, zone(zones.1)).0, old.0);
            }
        }

        #[test]
        fn a_sum_of_sums_is_the_sum(parts in proptest::collection::vec((0..1_000_i32, 0..100_i64), 1..30), at in 0..30_usize) {
            let one = |(quantity, cost): &(i32, i64)| Sum {
                metrics: [("n".to_string(), f64::from(*quantity))].into(), count: 1, cost_micro: *cost,
            };
            let total = |parts: &[(i32, i64)]| parts.iter().fold(Sum::default(), |mut sum, part| { sum.add(&one(part)); sum });
            let at = at.min(parts.len());
            let mut halves = total(&parts[..at]);
            halves.add(&total(&parts[at..]));
            prop_assert_eq!(halves, total(&parts));
        }
    }
}
