//! Evaluating alert rules, once a minute.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{database::Value as Stored_, http_out, prelude::*, serde_json::Value};

use crate::{
    alert::{self, Step},
    metric::query::{self, Aggregation, Question},
    retention,
    rule::{AlertRule, Measure, Query},
    stretch::Stretch,
};

/// Sets of labels of one rule.
const SETS_MAX: usize = 100;
/// Spans of which a latency is made: the latest.
const SPANS_MAX: i64 = 10_000;
/// One step for the whole while of a query.
const ONE_STEP_MS: i64 = 1_000_000_000_000_000;

/// A set of labels and its value.
type Values = Vec<(BTreeMap<String, String>, f64)>;

/// The timer `alerts`: a message for each organization with rules. It also deletes what is old.
pub(crate) fn tick(_: &Envelope) -> Result<()> {
    let rows = database::query(
        "SELECT DISTINCT organization_id FROM telemetry_alert_rules WHERE enabled = TRUE AND organization_id IS NOT NULL LIMIT 5000",
        params![],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        let message = events::Message::new("observability.alerts.run", &json!({}))?.for_organization(organization_id);
        events::enqueue_message(&message)?;
    }
    retention::run()
}

/// Handles `observability.alerts.run`: every rule of an organization.
pub(crate) fn run(_: &Envelope) -> Result<()> {
    for rule in Select::<AlertRule>::new().equal("enabled", true).limit(100).all(&Pool)? {
        let found = values(&rule);
        if let Err(problem) = &found {
            logging::info!("an alert rule could not be evaluated", rule = rule.id, problem = problem);
        }
        note(&rule, found)?;
    }
    Ok(())
}

/// What a rule measures now. A set of labels that is not among it is not known.
fn values(rule: &AlertRule) -> Result<Values> {
    let query = Query::parse(rule.source, &rule.query).map_err(|message| Problem::field("query", message))?;
    match query {
        Query::Metric { aggregation, name, mut labels, window_ms, by } => {
            let is_rate = aggregation == Aggregation::Rate;
            let question = Question {
                name,
                service: labels.remove("service"),
                labels,
                aggregation: if is_rate { Aggregation::Increase } else { aggregation },
                stretch: last(window_ms),
                step_ms: ONE_STEP_MS,
                by,
            };
            #[expect(clippy::cast_precision_loss, reason = "a length of time")]
            let divisor = if is_rate { window_ms as f64 / 1_000.0 } else { 1.0 };
            let lines = query::answer(&question)?.into_iter();
            Ok(lines.filter_map(|line| Some((line.labels, line.points.last()?.value / divisor))).collect())
        }
        Query::Trace { measure, labels, window_ms, by } => spans(measure, &labels, last(window_ms), &by),
        Query::Log { search, window_ms } => {
            let stretch = last(window_ms);
            let answer: Value = http_out::plugin("logging")
                .get("/api/logs/search")
                .query("q", &search)
                .query("from", &Timestamp::from_millis(stretch.from_ms).to_string())
                .query("limit", "1")
                .fetch()?;
            let total = answer.get("total").and_then(Value::as_f64);
            Ok(total.map(|total| (BTreeMap::new(), total)).into_iter().collect())
        }
        Query::Health { check } => health(&check),
    }
}

fn last(window_ms: i64) -> Stretch {
    Stretch::last(Duration::from_millis(window_ms.unsigned_abs()))
}

/// What spans say, by service and name where that is asked for.
fn spans(measure: Measure, labels: &BTreeMap<String, String>, stretch: Stretch, by: &[String]) -> Result<Values> {
    let mut values: Vec<Stored_> = vec![
        auth::organization_id()?.into(),
        stretch.from_ms.saturating_mul(1_000).into(),
        stretch.to_ms.saturating_mul(1_000).into(),
    ];
    let mut condition = String::from("organization_id = $1 AND start_us >= $2 AND start_us < $3");
    for (name, value) in labels {
        values.push(value.into());
        // Only `service` and `name` come here.
        condition.push_str(&format!(" AND {} = ${}", if name == "service" { "service" } else { "name" }, values.len()));
    }
    let columns: Vec<&str> =
        ["service", "name"].into_iter().filter(|column| by.iter().any(|name| name == column)).collect();
    let read_labels = |row: &database::Row| -> Result<BTreeMap<String, String>, Fault> {
        columns.iter().map(|column| Ok(((*column).to_string(), row.get(column)?))).collect()
    };
    let selected: String = columns.iter().map(|column| format!("{column}, ")).collect();
    if let Measure::Latency(percent) = measure {
        let sql = format!(
            "SELECT {selected}duration_us FROM trace_spans WHERE {condition} ORDER BY start_us DESC LIMIT {SPANS_MAX}"
        );
        let mut groups: BTreeMap<BTreeMap<String, String>, Vec<i64>> = BTreeMap::new();
        for row in database::query(&sql, &values)? {
            groups.entry(read_labels(&row)?).or_default().push(row.get("duration_us")?);
        }
        let latency = |mut durations: Vec<i64>| {
            durations.sort_unstable();
            let rank = (durations.len() * usize::from(percent)).div_ceil(100);
            #[expect(clippy::cast_precision_loss, reason = "a duration")]
            durations.get(rank.saturating_sub(1)).map(|micros| *micros as f64 / 1_000.0)
        };
        let measured = groups.into_iter().take(SETS_MAX);
        return Ok(measured.filter_map(|(labels, durations)| Some((labels, latency(durations)?))).collect());
    }
    let grouping = if columns.is_empty() { String::new() } else { format!(" GROUP BY {}", columns.join(", ")) };
    let sql = format!(
        "SELECT {selected}COUNT(*) AS spans, COUNT(CASE WHEN status = 'error' THEN 1 END) AS errors FROM trace_spans \
         WHERE {condition}{grouping} ORDER BY spans DESC LIMIT {SETS_MAX}"
    );
    let mut found = Vec::new();
    for row in database::query(&sql, &values)? {
        let (spans, errors): (i64, i64) = (row.get("spans")?, row.get("errors")?);
        if spans == 0 {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts")]
        let value = match measure {
            Measure::Errors => errors as f64,
            Measure::ErrorRate => errors as f64 / spans as f64,
            _ => spans as f64,
        };
        found.push((read_labels(&row)?, value));
    }
    Ok(found)
}

/// 1 for each check that is well, 0 for each that is not; nothing for one that was never asked.
fn health(check: &str) -> Result<Values> {
    let rows = database::query(
        "SELECT id, name, last_status FROM telemetry_checks WHERE organization_id = $1 AND enabled = TRUE \
         AND ($2 = '' OR id = $2 OR name = $2) AND last_status IS NOT NULL ORDER BY id LIMIT 100",
        params![auth::organization_id()?, check],
    )?;
    let one = |row: database::Row| {
        let labels = [("checkId", row.get::<String>("id")?), ("check", row.get("name")?)];
        let is_well = row.get::<String>("last_status")? == "ok";
        Ok((labels.map(|(name, value)| (name.to_string(), value)).into(), f64::from(u8::from(is_well))))
    };
    Ok(rows.into_iter().map(one).collect::<Result<_, Fault>>()?)
}

/// Notes what was measured, in one transaction a rule.
fn note(rule: &Stored<AlertRule>, found: Result<Values>) -> Result<()> {
    let now = clock::now();
    let for_ms = rule.for_minutes * 60_000;
    let (found, error) = match found {
        Ok(found) => (found, None),
        Err(problem) => (Vec::new(), Some(problem.detail)),
    };
    database::transaction(|transaction| {
        let updated = transaction.execute(
            "UPDATE telemetry_alert_rules SET last_evaluated_at = $2, last_error = $3 WHERE id = $1 AND enabled = TRUE AND version = $4",
            params![&rule.id, now, error, rule.version],
        )?;
        if updated == 0 {
            // It was changed or deleted while it was being evaluated.
            return Ok(());
        }
        let mut pending: BTreeMap<String, i64> = BTreeMap::new();
        for row in transaction
            .query("SELECT pending_key, since_ms FROM telemetry_pending WHERE rule_id = $1", params![&rule.id])?
        {
            pending.insert(row.get("pending_key")?, row.get("since_ms")?);
        }
        let mut open = Vec::new();
        for row in transaction.query(
            "SELECT active_key FROM telemetry_alerts WHERE rule_id = $1 AND active_key IS NOT NULL",
            params![&rule.id],
        )? {
            open.push(row.get::<String>("active_key")?);
        }
        for (labels, value) in found.iter().take(SETS_MAX) {
            let key = alert::key(&rule.id, labels);
            let holds = rule.operator.holds(*value, rule.threshold);
            let since = pending.remove(&key);
            match alert::decide(Some(holds), since, open.contains(&key), now.millis(), for_ms) {
                Step::Nothing => {}
                Step::Begin => {
                    transaction.execute(
                        "INSERT INTO telemetry_pending (pending_key, rule_id, since_ms) VALUES ($1, $2, $3) \
                         ON CONFLICT (pending_key) DO NOTHING",
                        params![&key, &rule.id, now.millis()],
                    )?;
                }
                Step::Fire => alert::fire(transaction, rule, labels, *value, now)?,
                Step::Resolve => alert::resolve(transaction, rule, labels, *value, now)?,
                Step::Forget => forget(transaction, &key)?,
            }
        }
        // What is not known any more does not go on holding.
        for (key, since) in pending {
            let step = alert::decide(None, Some(since), open.contains(&key), now.millis(), for_ms);
            if step == Step::Forget {
                forget(transaction, &key)?;
            }
        }
        Ok(())
    })
}

fn forget(transaction: &Transaction, key: &str) -> Result<()> {
    transaction.execute("DELETE FROM telemetry_pending WHERE pending_key = $1", params![key])?;
    Ok(())
}
