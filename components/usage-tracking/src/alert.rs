//! Alerts: once for each limit, threshold and period; and for hours that are unlike those before.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{
    access,
    limits::{Limit, Scope, whole},
};

/// Hours that an hour is compared with.
const HOURS: u64 = 7 * 24;
/// Fewer events than this are never strange.
const EVENTS_MIN: i64 = 20;
/// How many standard deviations above the mean is strange.
const DEVIATIONS: f64 = 4.0;

/// What it is about.
#[choice(upper)]
pub(crate) enum AlertType {
    BudgetWarning,
    BudgetExceeded,
    QuotaWarning,
    QuotaExceeded,
    Anomaly,
    Spike,
}

/// How bad it is.
#[choice(upper)]
pub(crate) enum Severity {
    Info,
    Warning,
    Critical,
}

/// Whether somebody has seen to it.
#[choice(upper)]
pub(crate) enum AlertStatus {
    Active,
    Acknowledged,
    Resolved,
}

/// An alert.
#[entity(table = "usage_alerts", name = "alert")]
pub(crate) struct Alert {
    #[field(hidden)]
    pub alert_key: String,
    pub alert_type: AlertType,
    pub severity: Severity,
    #[field(filter)]
    pub quota_id: Option<String>,
    #[field(filter)]
    pub budget_id: Option<String>,
    pub title: String,
    pub message: String,
    pub current_value: i64,
    pub threshold_value: i64,
    pub percentage: f64,
    pub status: AlertStatus,
}

impl Rules for Alert {
    fn scope() -> Option<Condition> {
        // Limits are the administrators' concern.
        (!access::is_admin()).then(|| Condition::new("1 = 0", [] as [String; 0]))
    }
}

/// Warns when a counter has passed a threshold on its way.
pub(crate) fn crossed(
    transaction: &Transaction,
    limit: &Limit,
    user_id: Option<&str>,
    before: f64,
    value: f64,
    period: (Timestamp, Timestamp),
) -> Result<()> {
    let Some(threshold) = limit.reached(value) else { return Ok(()) };
    if limit.reached(before) == Some(threshold) {
        return Ok(());
    }
    let is_exceeded = threshold >= 100;
    let alert_type = match (limit.is_budget, is_exceeded) {
        (true, true) => AlertType::BudgetExceeded,
        (true, false) => AlertType::BudgetWarning,
        (false, true) => AlertType::QuotaExceeded,
        (false, false) => AlertType::QuotaWarning,
    };
    let percentage = limit.percentage(value);
    let what = if limit.is_budget { "budget" } else { "quota" };
    let alert = Alert {
        alert_key: format!(
            "{}|{}|{}|{threshold}|{}",
            auth::organization_id()?,
            limit.id,
            user_id.unwrap_or_default(),
            period.0.millis()
        ),
        alert_type,
        severity: if threshold >= limit.critical { Severity::Critical } else { Severity::Warning },
        quota_id: (!limit.is_budget).then(|| limit.id.clone()),
        budget_id: limit.is_budget.then(|| limit.id.clone()),
        title: format!("The {what} {} is {}", limit.name, if is_exceeded { "used up" } else { "nearly used up" }),
        message: format!("{percentage:.1} % of the {what} are used; the period ends at {}.", period.1),
        current_value: whole(value),
        threshold_value: limit.limit,
        percentage,
        status: AlertStatus::Active,
    };
    let kind = format!("usage.{what}.{}", if is_exceeded { "exceeded" } else { "warning" });
    let mut data = json!({
        "id": limit.id, "name": limit.name, "userId": user_id, "threshold": threshold,
        // Whoever reads it reads a number, and not sixteen digits of it.
        "percentage": (percentage * 10.0).round() / 10.0,
        "quotaId": alert.quota_id, "budgetId": alert.budget_id, "categoryCode": limit.pattern, "metricKey": limit.metric,
        "currentValue": alert.current_value, "limitValue": limit.limit, "periodStart": period.0, "periodEnd": period.1,
        "action": limit.action,
    });
    mark(&mut data, limit, user_id);
    if raise(transaction, alert)? {
        transaction.publish(&kind, &data)?;
        transaction.publish("usage.event.recorded", &data)?;
    }
    Ok(())
}

/// Says for whom an alert is, as for whom its limit is: what is of one user is theirs, and what others spend together is for
/// administrators. `userId` names who is told; a limit that was set for one user alone is told to administrators.
fn mark(data: &mut Value, limit: &Limit, user_id: Option<&str>) {
    let owner = user_id.or(limit.scope_id.as_deref().filter(|_| limit.scope == Scope::User));
    let is_administrators = owner.is_none() && limit.is_budget;
    let Some(data) = data.as_object_mut() else { return };
    data.insert("isPrivate".into(), (owner.is_some() || is_administrators).into());
    if let Some(owner) = owner {
        data.insert("actsFor".into(), owner.into());
    }
    if is_administrators {
        data.insert("audience".into(), "managers".into());
    }
}

/// Writes an alert unless it is there already.
fn raise(transaction: &Transaction, alert: Alert) -> Result<bool> {
    let known =
        transaction.query_one("SELECT id FROM usage_alerts WHERE alert_key = $1", params![alert.alert_key.as_str()])?;
    if known.is_some() {
        return Ok(false);
    }
    entity::create(transaction, alert)?;
    Ok(true)
}

/// Compares the last whole hour of each category with the week before it.
pub(crate) fn look_for_anomalies(organization_id: &str) -> Result<()> {
    let now = clock::now();
    let this_hour = crate::period::around(crate::period::Span::Hour, now, chrono_tz::Tz::UTC).0;
    let last = this_hour.minus(Duration::from_secs(3_600));
    let rows = database::query(
        "SELECT category_code, period_start, CAST(SUM(event_count) AS BIGINT) AS events FROM usage_aggregates WHERE organization_id = $1 \
         AND granularity = 'HOURLY' AND dimension_key IS NULL AND period_start >= $2 AND period_start < $3 \
         GROUP BY category_code, period_start ORDER BY category_code, period_start",
        params![organization_id, last.minus(Duration::from_secs(HOURS * 3_600)), this_hour],
    )?;
    let mut by_category: std::collections::BTreeMap<String, (Vec<f64>, i64)> = std::collections::BTreeMap::new();
    for row in rows {
        let events: i64 = row.get("events")?;
        let (history, present) = by_category.entry(row.get("category_code")?).or_default();
        if row.get::<Timestamp>("period_start")? == last { *present = events } else { history.push(small(events)) }
    }
    for (category, (history, present)) in by_category {
        let Some(usual) = strange(&history, present) else { continue };
        database::transaction(|transaction| {
            let alert = Alert {
                alert_key: format!("{organization_id}|anomaly|{category}|{}", last.millis()),
                alert_type: if history.len() < 24 { AlertType::Spike } else { AlertType::Anomaly },
                severity: Severity::Warning,
                quota_id: None,
                budget_id: None,
                title: format!("Unusual usage of {category}"),
                message: format!("{present} events in an hour; {usual:.1} are usual."),
                current_value: present,
                threshold_value: whole(usual),
                percentage: if usual > 0.0 { small(present) * 100.0 / usual } else { 0.0 },
                status: AlertStatus::Active,
            };
            let data = json!({"categoryCode": category, "hour": last, "events": present, "usual": usual});
            if raise(transaction, alert)? {
                transaction.publish("usage.anomaly.detected", &data)?;
            }
            Ok::<_, Problem>(())
        })?;
    }
    Ok(())
}

/// A number of events as one to reckon with.
fn small(events: i64) -> f64 {
    f64::from(i32::try_from(events).unwrap_or(i32::MAX))
}

/// The usual number of events, when this one is far above it. Hours without events count as none.
fn strange(history: &[f64], present: i64) -> Option<f64> {
    if present < EVENTS_MIN || history.len() < 6 {
        return None;
    }
    let present = small(present);
    let hours = f64::from(u32::try_from(HOURS).unwrap_or(168));
    let mean = history.iter().sum::<f64>() / hours;
    let variance = (history.iter().map(|events| (events - mean).powi(2)).sum::<f64>()
        + mean * mean * (hours - f64::from(u32::try_from(history.len()).unwrap_or(u32::MAX))).max(0.0))
        / hours;
    (present > mean + DEVIATIONS * variance.sqrt() && present > 2.0 * mean).then_some(mean)
}

/// `POST /api/usage/alerts/{id}/acknowledge`.
pub(crate) fn acknowledge(Params(id): Params<Id>) -> Result<Stored<Alert>> {
    turn(&id, AlertStatus::Acknowledged)
}

/// `POST /api/usage/alerts/{id}/resolve`.
pub(crate) fn resolve(Params(id): Params<Id>) -> Result<Stored<Alert>> {
    turn(&id, AlertStatus::Resolved)
}

fn turn(id: &Id, status: AlertStatus) -> Result<Stored<Alert>> {
    access::require_admin()?;
    database::transaction(|transaction| {
        let mut alert = entity::read::<Alert>(transaction, id)?;
        if alert.status == AlertStatus::Resolved && status != AlertStatus::Resolved {
            return Err(Problem::conflict("It is resolved."));
        }
        if alert.status != status {
            alert.status = status;
            entity::save(transaction, &mut alert)?;
        }
        Ok(alert)
    })
}

/// `GET /api/usage/alerts`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Alert>>>> {
    Select::new().page(&Pool, &query)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use berth_sdk::json;

    use super::{mark, strange};
    use crate::{
        limits::{Action, Limit, Scope},
        period::Span,
    };

    #[test]
    fn an_alert_is_for_whom_its_limit_is() {
        let marks = |is_budget: bool, scope: Scope, scope_id: Option<&str>, user_id: Option<&str>| {
            let limit = Limit {
                id: "l1".into(),
                edition: "1".into(),
                name: "Words".into(),
                is_budget,
                scope,
                scope_id: scope_id.map(Into::into),
                pattern: None,
                metric: None,
                filters: BTreeMap::new(),
                span: Span::Month,
                limit: 1,
                warn: 80,
                critical: 100,
                action: Action::Warn,
                is_global: false,
            };
            let mut data = json!({});
            mark(&mut data, &limit, user_id);
            data
        };
        let managers = json!({"isPrivate": true, "audience": "managers"});
        assert_eq!(marks(true, Scope::Organization, None, None), managers);
        assert_eq!(marks(true, Scope::Team, Some("t1"), None), managers);
        assert_eq!(
            marks(false, Scope::Organization, None, None),
            json!({"isPrivate": false}),
            "everybody reads quotas"
        );
        for is_budget in [true, false] {
            let own = json!({"isPrivate": true, "actsFor": "u1"});
            assert_eq!(marks(is_budget, Scope::User, Some("u1"), None), own, "set for one user");
            assert_eq!(marks(is_budget, Scope::User, None, Some("u1")), own, "each user's");
        }
    }

    #[test]
    fn an_hour_is_strange_when_it_is_far_above_the_week() {
        let quiet = vec![10.0; 168];
        assert!(strange(&quiet, 200).is_some());
        assert!(strange(&quiet, 15).is_none(), "too few");
        assert!(strange(&quiet, 20).is_none(), "not twice the usual");
        let wild: Vec<f64> = (0..168).map(|hour| f64::from(hour % 2) * 200.0).collect();
        assert!(strange(&wild, 250).is_none());
        assert!(strange(&[5.0; 3], 500).is_none(), "nothing to compare with");
    }
}
