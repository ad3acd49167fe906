//! Counters: how much of a limit or of a tiered price is used up in one period. They lie in the database, so that the loss
//! of the cache never loosens a limit; when one is absent it is made of the events.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::{
    aggregate, category,
    limits::{Limit, Scope, whole},
};

/// Rows that one rebuilding reads at once.
const ROWS: i64 = 5_000;

/// The name of a counter. A limit that is changed has other counters from then on, which are made anew: whoever still counts
/// by the old one at that moment spoils none of them.
pub(crate) fn name(organization_id: &str, limit: &Limit, user_id: Option<&str>, start: Timestamp) -> String {
    let Limit { id, edition, .. } = limit;
    format!("{id}|{organization_id}|{}|{}|{edition}", user_id.unwrap_or_default(), start.millis())
}

/// What a limit has used up, without making a counter.
pub(crate) fn read(
    database: &dyn Executor,
    organization_id: &str,
    limit: &Limit,
    user_id: Option<&str>,
    period: (Timestamp, Timestamp),
    zone: chrono_tz::Tz,
) -> Result<f64> {
    let row = database.query_one(
        "SELECT value FROM usage_counters WHERE id = $1",
        params![name(organization_id, limit, user_id, period.0)],
    )?;
    match row {
        Some(row) => Ok(row.get("value")?),
        None => rebuilt(database, organization_id, limit, user_id, period, zone),
    }
}

/// Several counters at once; those that are absent are not in the answer.
pub(crate) fn values(transaction: &Transaction, names: &[String]) -> Result<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    for chunk in names.chunks(200) {
        let values: Vec<database::Value> = chunk.iter().map(Into::into).collect();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!("SELECT id, value FROM usage_counters WHERE id IN ({})", places.join(", "));
        for row in transaction.query(&sql, &values)? {
            found.insert(row.get("id")?, row.get("value")?);
        }
    }
    Ok(found)
}

/// Sets a counter. The organization's turn must be held.
pub(crate) fn set(
    transaction: &Transaction,
    organization_id: &str,
    name: &str,
    value: f64,
    period: (Timestamp, Timestamp),
) -> Result<()> {
    transaction.execute(
        "INSERT INTO usage_counters (id, organization_id, value, period_start, period_end, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        params![name, organization_id, value, period.0, period.1, clock::now()],
    )?;
    Ok(())
}

/// The sum of what counts for a limit, from the aggregates: the hours where they are still there, else the days or the months.
pub(crate) fn rebuilt(
    database: &dyn Executor,
    organization_id: &str,
    limit: &Limit,
    user_id: Option<&str>,
    period: (Timestamp, Timestamp),
    zone: chrono_tz::Tz,
) -> Result<f64> {
    // One dimension has rows of its own; of several, the first narrows the rows and the others cannot be told apart there,
    // so those are summed from the events.
    if limit.filters.len() > 1 {
        return from_events(database, organization_id, limit, user_id, period);
    }
    let mut sql = String::from(
        "SELECT id, category_code, metrics, total_cost_micro FROM usage_aggregates WHERE organization_id = $1 \
         AND period_start >= $4 AND period_start < $5",
    );
    sql.push_str(aggregate::HOURS_DAYS_OR_MONTHS);
    let [hours, days] = aggregate::horizons(clock::now(), zone);
    let mut values: Vec<database::Value> =
        vec![organization_id.into(), hours.into(), days.into(), period.0.into(), period.1.into()];
    let mut narrow = |sql: &mut String, column: &str, value: &str| {
        values.push(value.into());
        sql.push_str(&format!(" AND {column} = ${}", values.len()));
    };
    match limit.filters.first_key_value() {
        Some((key, value)) => {
            narrow(&mut sql, "dimension_key", key);
            narrow(&mut sql, "dimension_value", value);
        }
        None => sql.push_str(" AND dimension_key IS NULL"),
    }
    scope(limit, user_id, |column, value| narrow(&mut sql, column, value));
    sum(database, &sql, values, limit)
}

fn from_events(
    database: &dyn Executor,
    organization_id: &str,
    limit: &Limit,
    user_id: Option<&str>,
    period: (Timestamp, Timestamp),
) -> Result<f64> {
    let mut sql = String::from(
        "SELECT id, category_code, metrics, dimensions, cost_micro AS total_cost_micro FROM usage_events \
         WHERE organization_id = $1 AND occurred_at >= $2 AND occurred_at < $3",
    );
    let mut values: Vec<database::Value> = vec![organization_id.into(), period.0.into(), period.1.into()];
    scope(limit, user_id, |column, value| {
        values.push(value.into());
        sql.push_str(&format!(" AND {column} = ${}", values.len()));
    });
    sum(database, &sql, values, limit)
}

fn scope(limit: &Limit, user_id: Option<&str>, mut narrow: impl FnMut(&str, &str)) {
    match (limit.scope, limit.scope_id.as_deref()) {
        (Scope::Team, Some(id)) => narrow("team_id", id),
        (Scope::Project, Some(id)) => narrow("project_id", id),
        (Scope::User, Some(id)) => narrow("user_id", id),
        (Scope::User, None) => narrow("user_id", user_id.unwrap_or_default()),
        _ => {}
    }
}

/// Adds up what fits the limit's pattern and filters, a page of rows at a time.
fn sum(database: &dyn Executor, sql: &str, values: Vec<database::Value>, limit: &Limit) -> Result<f64> {
    let place = values.len() + 1;
    let sql = format!("{sql} AND id > ${place} ORDER BY id LIMIT {ROWS}");
    let (mut total, mut after) = (0.0, String::new());
    loop {
        let mut values = values.clone();
        values.push(after.as_str().into());
        let rows = database.query(&sql, &values)?;
        let count = rows.len();
        for row in rows {
            after = row.get("id")?;
            let code: String = row.get("category_code")?;
            if limit.pattern.as_deref().is_some_and(|pattern| !category::matches(pattern, &code)) {
                continue;
            }
            if limit.filters.len() > 1 {
                let dimensions: BTreeMap<String, String> = row.json("dimensions")?;
                if limit.filters.iter().any(|(key, value)| dimensions.get(key) != Some(value)) {
                    continue;
                }
            }
            let metrics: BTreeMap<String, f64> = row.json("metrics")?;
            total += limit.quantity(&metrics, row.get("total_cost_micro")?);
        }
        if (count as i64) < ROWS {
            return Ok(total);
        }
    }
}

/// Shows a budget's spend on its row.
pub(crate) fn show_budget(transaction: &Transaction, id: &str, spent: f64, start: Timestamp) -> Result<()> {
    transaction.execute(
        "UPDATE usage_budgets SET current_usage_micro = $2, period_start_date = $3 WHERE id = $1 \
         AND (period_start_date IS NULL OR period_start_date <= $3)",
        params![id, whole(spent), start],
    )?;
    Ok(())
}
