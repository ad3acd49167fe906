//! Alerts: one for each rule and set of labels, from when its condition has held long enough until it holds no more.

use std::collections::BTreeMap;

use berth_sdk::{canonical, prelude::*};

use crate::rule::{AlertRule, Severity};

/// How far an alert is.
#[choice]
pub(crate) enum Status {
    Firing,
    Acknowledged,
    Resolved,
}

/// An alert.
#[entity(table = "telemetry_alerts", name = "alert", sort = "-startedAt")]
pub(crate) struct Alert {
    pub rule_id: Id,
    pub rule_name: String,
    pub severity: Severity,
    pub labels: BTreeMap<String, String>,
    #[field(hidden)]
    pub active_key: Option<String>,
    pub status: Status,
    pub value: f64,
    pub started_at: Timestamp,
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
}

impl Rules for Alert {}

/// What is to be done about one set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// It holds from now on.
    Begin,
    Fire,
    Resolve,
    /// It holds no more, and did not hold long enough.
    Forget,
}

/// Decides; without a value nothing is known, which is something else than zero: nothing fires and nothing is resolved.
pub(crate) fn decide(holds: Option<bool>, since_ms: Option<i64>, is_open: bool, now_ms: i64, for_ms: i64) -> Step {
    match (holds, since_ms, is_open) {
        (Some(true), _, true) | (None, _, true) | (None | Some(false), None, false) => Step::Nothing,
        (Some(true), since, false) => match since {
            _ if for_ms == 0 => Step::Fire,
            None => Step::Begin,
            Some(since) if now_ms - since >= for_ms => Step::Fire,
            Some(_) => Step::Nothing,
        },
        (Some(false), _, true) => Step::Resolve,
        (None | Some(false), Some(_), false) => Step::Forget,
    }
}

/// The key of a rule and a set of labels.
pub(crate) fn key(rule_id: &Id, labels: &BTreeMap<String, String>) -> String {
    let digest = canonical::sha256(&json!(labels));
    format!("{rule_id}|{}", digest.get(..32).unwrap_or_default())
}

/// Opens an alert, if none is open. The event leaves with it.
pub(crate) fn fire(
    transaction: &Transaction,
    rule: &Stored<AlertRule>,
    labels: &BTreeMap<String, String>,
    value: f64,
    now: Timestamp,
) -> Result<()> {
    let (id, key) = (Id::new(), key(&rule.id, labels));
    let written = transaction.execute(
        "INSERT INTO telemetry_alerts (id, organization_id, created_at, updated_at, version, rule_id, rule_name, severity, labels, \
         active_key, status, value, started_at) VALUES ($1, $2, $3, $3, 1, $4, $5, $6, $7, $8, $9, $10, $3) \
         ON CONFLICT (active_key) DO NOTHING",
        params![
            &id,
            auth::organization_id()?,
            now,
            &rule.id,
            &rule.name,
            rule.severity,
            json!(labels),
            &key,
            Status::Firing,
            value
        ],
    )?;
    transaction.execute("DELETE FROM telemetry_pending WHERE pending_key = $1", params![&key])?;
    if written > 0 {
        tell(transaction, "observability.alert.firing", &id, rule, labels, value)?;
    }
    Ok(())
}

fn tell(
    transaction: &Transaction,
    kind: &str,
    id: &Id,
    rule: &Stored<AlertRule>,
    labels: &BTreeMap<String, String>,
    value: f64,
) -> Result<()> {
    let data = json!({
        "alertId": id.as_str(),
        "ruleId": rule.id.as_str(),
        "name": rule.name,
        "title": rule.name,
        "severity": rule.severity,
        "source": rule.source,
        "labels": labels,
        "service": labels.get("service"),
        "value": value,
        "threshold": rule.threshold,
        "operator": rule.operator,
        "channels": rule.channels,
        "message": format!("{} is {value}, where {} {} is reason for an alert.", rule.query, rule.operator.as_str(), rule.threshold),
    });
    transaction.send(&events::Message::new(kind, &data)?.with_key(id.as_str()))?;
    Ok(())
}

/// Closes the open alert of a set of labels. The event leaves once.
pub(crate) fn resolve(
    transaction: &Transaction,
    rule: &Stored<AlertRule>,
    labels: &BTreeMap<String, String>,
    value: f64,
    now: Timestamp,
) -> Result<()> {
    let key = key(&rule.id, labels);
    let row = transaction.query_one(
        "UPDATE telemetry_alerts SET status = 'resolved', active_key = NULL, resolved_at = $2, updated_at = $2, version = version + 1 \
         WHERE active_key = $1 RETURNING id",
        params![&key, now],
    )?;
    transaction.execute("DELETE FROM telemetry_pending WHERE pending_key = $1", params![&key])?;
    match row {
        Some(row) => tell(transaction, "observability.alert.resolved", &row.get("id")?, rule, labels, value),
        None => Ok(()),
    }
}

/// Closes whatever is open or pending of a rule.
pub(crate) fn resolve_all(transaction: &Transaction, rule: &Stored<AlertRule>) -> Result<()> {
    let now = clock::now();
    transaction.execute("DELETE FROM telemetry_pending WHERE rule_id = $1", params![&rule.id])?;
    let rows = transaction.query(
        "UPDATE telemetry_alerts SET status = 'resolved', active_key = NULL, resolved_at = $2, updated_at = $2, version = version + 1 \
         WHERE rule_id = $1 AND active_key IS NOT NULL RETURNING id, labels, value",
        params![&rule.id, now],
    )?;
    for row in rows {
        let labels: BTreeMap<String, String> = row.json("labels")?;
        tell(transaction, "observability.alert.resolved", &row.get("id")?, rule, &labels, row.get("value")?)?;
    }
    Ok(())
}

/// `GET /api/observability/alerts`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Alert>>>> {
    Select::new().page(&Pool, &query)
}

/// `GET /api/observability/alerts/{id}`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Stored<Alert>> {
    entity::read(&Pool, &id)
}

/// `POST /api/observability/alerts/{id}/acknowledge`.
pub(crate) fn acknowledge(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Alert>> {
    database::transaction(|transaction| {
        let mut alert = entity::read::<Alert>(transaction, &id)?;
        if_match.check(alert.version)?;
        if alert.status != Status::Firing {
            return Err(Problem::conflict(format!("The alert is {}.", alert.status.as_str())));
        }
        alert.status = Status::Acknowledged;
        alert.acknowledged_by = auth::principal().user_id;
        alert.acknowledged_at = Some(clock::now());
        entity::save(transaction, &mut alert)?;
        Ok(alert)
    })
}

/// `POST /api/observability/alerts/{id}/resolve`. Where its condition still holds, it fires again after its while.
pub(crate) fn resolve_by_hand(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Alert>> {
    database::transaction(|transaction| {
        let alert = entity::read::<Alert>(transaction, &id)?;
        if_match.check(alert.version)?;
        if alert.status == Status::Resolved {
            return Err(Problem::conflict("The alert is resolved."));
        }
        let now = clock::now();
        match entity::find::<AlertRule>(transaction, &alert.rule_id)? {
            Some(rule) => resolve(transaction, &rule, &alert.labels, alert.value, now)?,
            None => {
                transaction.execute(
                    "UPDATE telemetry_alerts SET status = 'resolved', active_key = NULL, resolved_at = $2 WHERE id = $1",
                    params![&id, now],
                )?;
            }
        }
        entity::read(transaction, &id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn an_alert_fires_after_its_while_and_is_resolved_once() {
        let mut since = None;
        let mut is_open = false;
        let mut said = Vec::new();
        for (minute, holds) in [true, true, false, true, true, true, true, false, false].into_iter().enumerate() {
            let now = i64::try_from(minute).unwrap() * MINUTE;
            let step = decide(Some(holds), since, is_open, now, 2 * MINUTE);
            match step {
                Step::Begin => since = Some(now),
                Step::Forget => since = None,
                Step::Fire => (since, is_open) = (None, true),
                Step::Resolve => is_open = false,
                Step::Nothing => {}
            }
            said.push(step);
        }
        use Step::{Begin, Fire, Forget, Nothing, Resolve};
        assert_eq!(said, [Begin, Nothing, Forget, Begin, Nothing, Fire, Nothing, Resolve, Nothing]);
    }

    #[test]
    fn no_data_is_not_zero() {
        assert_eq!(decide(None, None, true, 0, 0), Step::Nothing, "an open alert stays open");
        assert_eq!(decide(None, Some(0), false, MINUTE, 0), Step::Forget, "what is not known does not hold on");
        assert_eq!(decide(None, None, false, 0, 0), Step::Nothing);
        assert_eq!(decide(Some(true), None, false, 0, 0), Step::Fire, "without a while at once");
    }
}
