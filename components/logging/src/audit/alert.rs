//! Alert rules: a pattern that an entry fits, a number of such entries in a while, or more of them than is usual.

use std::collections::BTreeMap;

use berth_sdk::{canonical, entity::Column, prelude::*};

use super::{
    chain::Row,
    entry::{Category, Severity},
};
use crate::{
    access,
    filter::{Filter, like},
};

/// Rules of an organization.
const RULES_MAX: i64 = 50;
/// Groups that are counted in one statement.
const GROUPS: usize = 400;
/// Entries that an alert names.
const NAMED_MAX: usize = 20;
const MINUTE_MS: i64 = 60_000;

/// What a rule looks for.
#[choice(upper)]
pub(crate) enum Kind {
    /// One entry that fits.
    Pattern,
    /// So many of them within a while.
    Threshold,
    /// So many times more of them than usual.
    Anomaly,
}

/// What entries are told apart by.
#[choice]
pub(crate) enum GroupBy {
    User,
    IpAddress,
    Action,
    Resource,
}

impl GroupBy {
    fn column(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::IpAddress => "ip_address",
            Self::Action => "action",
            Self::Resource => "resource_id",
        }
    }

    fn of(self, row: &Row) -> Option<String> {
        match self {
            Self::User => row.user_id.clone(),
            Self::IpAddress => row.ip_address.clone(),
            Self::Action => Some(row.action.clone()),
            Self::Resource => row.resource_id.clone(),
        }
    }
}

/// When a rule speaks. What is left out holds of every entry.
#[data]
pub(crate) struct Conditions {
    /// `*` stands for anything.
    #[field(max = 200)]
    action: Option<String>,
    category: Option<Category>,
    #[field(max = 5)]
    severity: Option<Vec<Severity>>,
    user_id: Option<Id>,
    #[field(max = 100)]
    resource_type: Option<String>,
    #[field(max = 64)]
    ip_address: Option<String>,
    #[field(max = 100)]
    source: Option<String>,
    /// Somewhere in the message, in whatever case.
    #[field(max = 200)]
    message_contains: Option<String>,
    /// For THRESHOLD: how many.
    #[field(min = 1, max = 1_000_000)]
    threshold: Option<i64>,
    /// The while; 60 when it is left out.
    #[field(min = 1, max = 10_080)]
    window_minutes: Option<i64>,
    /// For THRESHOLD: counts each by itself.
    group_by: Option<GroupBy>,
    /// For ANOMALY: how many whiles before it are the usual; 24 when it is left out.
    #[field(min = 2, max = 168)]
    baseline_windows: Option<i64>,
    /// For ANOMALY: how many times more; 3 when it is left out.
    #[field(min = 1, max = 1000)]
    factor: Option<f64>,
    /// For ANOMALY: fewer than that are never one; 10 when it is left out.
    #[field(min = 1, max = 1_000_000)]
    minimum: Option<i64>,
}

impl Column for Conditions {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// A rule.
#[entity(table = "audit_alert_rules", name = "alert rule")]
pub(crate) struct AlertRule {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(default = true)]
    pub enabled: bool,
    pub r#type: Kind,
    pub conditions: Conditions,
    /// Handed on with the alert, for whoever delivers it.
    #[field(default)]
    pub notification_channels: Vec<String>,
    #[field(readonly)]
    pub last_triggered_at: Option<Timestamp>,
    #[field(readonly, default)]
    pub trigger_count: i64,
}

impl Rules for AlertRule {
    fn check(&self, faults: &mut Faults) {
        if self.r#type == Kind::Threshold && self.conditions.threshold.is_none() {
            faults.add("conditions.threshold", "is required for THRESHOLD");
        }
        let is_channel = |name: &String| !name.is_empty() && name.chars().count() <= 100;
        if self.notification_channels.len() > 10 || !self.notification_channels.iter().all(is_channel) {
            faults.add("notificationChannels", "must be at most 10 names of 1 to 100 characters");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_admin()?;
        if Select::<Self>::new().count_in_turn(transaction)? >= RULES_MAX {
            return Err(Problem::conflict(format!("There are {RULES_MAX} rules already.")));
        }
        Ok(())
    }

    fn before_update(&mut self, _: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_admin()
    }

    fn before_delete(_: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_admin()
    }
}

impl Conditions {
    fn window_ms(&self) -> i64 {
        self.window_minutes.unwrap_or(60) * MINUTE_MS
    }

    /// The severities that fit; a list of none leaves it open, as no list does.
    fn severities(&self) -> Option<&[Severity]> {
        self.severity.as_deref().filter(|list| !list.is_empty())
    }

    /// Whether an entry fits.
    fn fit(&self, row: &Row) -> bool {
        let is =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| value == Some(wanted));
        self.action.as_deref().is_none_or(|pattern| fits(pattern, &row.action))
            && self.category.is_none_or(|category| category.as_str() == row.category)
            && self.severities().is_none_or(|list| list.iter().any(|severity| severity.as_str() == row.severity))
            && self.user_id.as_ref().is_none_or(|id| row.user_id.as_deref() == Some(id.as_str()))
            && is(&self.resource_type, row.resource_type.as_deref())
            && is(&self.ip_address, row.ip_address.as_deref())
            && is(&self.source, Some(&row.source))
            && self
                .message_contains
                .as_ref()
                .is_none_or(|text| row.message.to_lowercase().contains(&text.to_lowercase()))
    }

    /// The same as a condition of a query.
    fn filter(&self) -> Result<Filter> {
        let mut filter = Filter::new("chain = ?", [auth::organization_id()?.into()]);
        if let Some(pattern) = &self.action {
            filter.and("action LIKE ? ESCAPE '!'", [like(pattern).into()]);
        }
        if let Some(category) = self.category {
            filter.equal("category", category.as_str());
        }
        if let Some(list) = self.severities() {
            filter.one_of("severity", list.iter().map(|severity| severity.as_str()));
        }
        let columns = [
            ("user_id", self.user_id.as_ref().map(Id::as_str)),
            ("resource_type", self.resource_type.as_deref()),
            ("ip_address", self.ip_address.as_deref()),
            ("source", self.source.as_deref()),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                filter.equal(column, value);
            }
        }
        if let Some(text) = &self.message_contains {
            filter.anywhere_in(&["message"], text);
        }
        Ok(filter)
    }

    /// How many entries fit in a while.
    fn count(&self, database: &dyn Executor, from_ms: i64, to_ms: i64) -> Result<i64> {
        let mut filter = self.filter()?;
        filter.and("received_ms > ? AND received_ms <= ?", [from_ms.into(), to_ms.into()]);
        let sql = format!("SELECT COUNT(*) AS total FROM audit_logs WHERE {}", filter.sql);
        let row = database.query_one(&sql, &filter.values)?;
        Ok(row.map_or(Ok(0), |row| row.get("total"))?)
    }

    /// The same of each of some groups.
    fn count_groups<'a>(
        &self,
        database: &dyn Executor,
        from_ms: i64,
        to_ms: i64,
        group_by: GroupBy,
        groups: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, i64>> {
        let column = group_by.column();
        let groups: Vec<&str> = groups.collect();
        let mut counts = BTreeMap::new();
        for chunk in groups.chunks(GROUPS) {
            let mut filter = self.filter()?;
            filter.and("received_ms > ? AND received_ms <= ?", [from_ms.into(), to_ms.into()]);
            filter.one_of(column, chunk.iter().copied());
            let sql = format!(
                "SELECT {column} AS value, COUNT(*) AS total FROM audit_logs WHERE {} GROUP BY {column}",
                filter.sql
            );
            for row in database.query(&sql, &filter.values)? {
                counts.insert(row.get("value")?, row.get("total")?);
            }
        }
        Ok(counts)
    }

    /// What an anomaly is measured by: the number now, and the usual one.
    fn anomaly(&self, database: &dyn Executor, now: Timestamp) -> Result<(i64, f64, bool)> {
        let (window, windows) = (self.window_ms(), self.baseline_windows.unwrap_or(24));
        let begin = now.millis() - window;
        let value = self.count(database, begin, now.millis())?;
        let before = self.count(database, begin - window * windows, begin)?;
        #[expect(clippy::cast_precision_loss, reason = "counts of rows")]
        let (usual, most) = (before as f64 / windows as f64, value as f64);
        let is_anomaly = value >= self.minimum.unwrap_or(10) && most > usual * self.factor.unwrap_or(3.0);
        Ok((value, usual, is_anomaly))
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// What an alert says.
struct Alert<'a> {
    group: Option<&'a str>,
    value: f64,
    threshold: f64,
    log_ids: Vec<&'a str>,
}

/// Raises the alerts that new entries are reason for, in the transaction that adds them. A threshold or an anomaly speaks
/// once in a while, for each group.
pub(crate) fn consider(transaction: &Transaction, rows: &[Row], now: Timestamp) -> Result<()> {
    let rules = Select::<AlertRule>::new().equal("enabled", true).limit(RULES_MAX).all(transaction)?;
    for rule in &rules {
        let fitting: Vec<&Row> = rows.iter().filter(|row| rule.conditions.fit(row)).collect();
        if fitting.is_empty() {
            continue;
        }
        let log_ids =
            |rows: &[&'_ Row]| -> Vec<String> { rows.iter().take(NAMED_MAX).map(|row| row.id.clone()).collect() };
        match rule.r#type {
            Kind::Pattern => {
                let ids = log_ids(&fitting);
                #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
                let value = fitting.len() as f64;
                let log_ids = ids.iter().map(String::as_str).collect();
                raise(transaction, rule, now, &Alert { group: None, value, threshold: 1.0, log_ids })?;
            }
            Kind::Threshold => threshold(transaction, rule, &fitting, now)?,
            Kind::Anomaly => {
                let (value, usual, is_anomaly) = rule.conditions.anomaly(transaction, now)?;
                if is_anomaly && once(transaction, rule, None, now)? {
                    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
                    let value = value as f64;
                    raise(
                        transaction,
                        rule,
                        now,
                        &Alert { group: None, value, threshold: usual, log_ids: Vec::new() },
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn threshold(transaction: &Transaction, rule: &Stored<AlertRule>, fitting: &[&Row], now: Timestamp) -> Result<()> {
    let conditions = &rule.conditions;
    let (begin, end) = (now.millis() - conditions.window_ms(), now.millis());
    let threshold = conditions.threshold.unwrap_or(i64::MAX);
    let speak = |group: Option<&str>, value: i64, rows: &[&Row]| -> Result<()> {
        if value >= threshold && once(transaction, rule, group, now)? {
            #[expect(clippy::cast_precision_loss, reason = "counts of rows")]
            let (value, threshold) = (value as f64, threshold as f64);
            let log_ids = rows.iter().take(NAMED_MAX).map(|row| row.id.as_str()).collect();
            raise(transaction, rule, now, &Alert { group, value, threshold, log_ids })?;
        }
        Ok(())
    };
    let Some(group_by) = conditions.group_by else {
        return speak(None, conditions.count(transaction, begin, end)?, fitting);
    };
    // What has no group is counted with none.
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in fitting {
        if let Some(group) = group_by.of(row) {
            groups.entry(group).or_default().push(row);
        }
    }
    let counts = conditions.count_groups(transaction, begin, end, group_by, groups.keys().map(String::as_str))?;
    for (group, rows) in &groups {
        speak(Some(group), counts.get(group).copied().unwrap_or(0), rows)?;
    }
    Ok(())
}

/// Whether the rule has not spoken of the group in the present while.
fn once(transaction: &Transaction, rule: &Stored<AlertRule>, group: Option<&str>, now: Timestamp) -> Result<bool> {
    let window = now.millis() / rule.conditions.window_ms();
    let key = canonical::sha256(&json!([rule.id.as_str(), rule.version, group, window]));
    Ok(transaction.once(&format!("alert-{}", key.get(..40).unwrap_or_default()))?)
}

fn raise(transaction: &Transaction, rule: &Stored<AlertRule>, now: Timestamp, alert: &Alert<'_>) -> Result<()> {
    let data = json!({
        "ruleId": rule.id.as_str(),
        "name": rule.name,
        "type": rule.r#type.as_str(),
        "group": alert.group,
        "value": alert.value,
        "threshold": alert.threshold,
        "windowStart": now.minus(std::time::Duration::from_millis(rule.conditions.window_ms().unsigned_abs())).to_string(),
        "windowEnd": now.to_string(),
        "logIds": alert.log_ids,
        "channels": rule.notification_channels,
        "title": format!("Audit alert: {}", rule.name),
        "message": format!("{} of entries that fit, where {} is reason for an alert.", alert.value, alert.threshold),
    });
    transaction.send(&events::Message::new("audit.alert.triggered", &data)?.with_key(rule.id.as_str()))?;
    transaction.execute(
        "UPDATE audit_alert_rules SET last_triggered_at = $2, trigger_count = trigger_count + 1 WHERE id = $1",
        params![&rule.id, now],
    )?;
    Ok(())
}

/// The answer of an evaluation.
#[data]
pub(crate) struct Evaluation {
    triggered: bool,
    value: f64,
    threshold: f64,
    window_minutes: i64,
    /// The group with the most entries, where the rule has groups.
    group: Option<String>,
}

/// `POST /api/audit-logs/alerts/{id}/evaluate`: looks at the present while, and raises the alert if there is reason.
pub(crate) fn evaluate(Params(id): Params<Id>) -> Result<Json<Evaluation>> {
    access::require_admin()?;
    let now = clock::now();
    database::transaction(|transaction| {
        let rule = entity::read::<AlertRule>(transaction, &id)?;
        let conditions = &rule.conditions;
        let begin = now.millis() - conditions.window_ms();
        let (group, value) = match (rule.r#type, conditions.group_by) {
            (Kind::Threshold, Some(group_by)) => largest(transaction, conditions, group_by, begin)?,
            _ => (None, conditions.count(transaction, begin, now.millis())?),
        };
        let (threshold, triggered) = match rule.r#type {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            Kind::Threshold => {
                let threshold = conditions.threshold.unwrap_or(i64::MAX);
                (threshold as f64, value >= threshold)
            }
            Kind::Pattern => (1.0, value >= 1),
            Kind::Anomaly => {
                let (_, usual, is_anomaly) = conditions.anomaly(transaction, now)?;
                (usual, is_anomaly)
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
        let value = value as f64;
        if triggered && once(transaction, &rule, group.as_deref(), now)? {
            let alert = Alert { group: group.as_deref(), value, threshold, log_ids: Vec::new() };
            raise(transaction, &rule, now, &alert)?;
        }
        let window_minutes = conditions.window_ms() / MINUTE_MS;
        Ok(Json(Evaluation { triggered, value, threshold, window_minutes, group }))
    })
}

/// The group with the most entries since a moment.
fn largest(
    database: &dyn Executor,
    conditions: &Conditions,
    group_by: GroupBy,
    begin: i64,
) -> Result<(Option<String>, i64)> {
    let column = group_by.column();
    let mut filter = conditions.filter()?;
    filter.and(&format!("received_ms > ? AND {column} IS NOT NULL"), [begin.into()]);
    let sql = format!(
        "SELECT {column} AS value, COUNT(*) AS total FROM audit_logs WHERE {} GROUP BY {column} ORDER BY total DESC, value LIMIT 1",
        filter.sql
    );
    match database.query_one(&sql, &filter.values)? {
        Some(row) => Ok((row.get("value")?, row.get("total")?)),
        None => Ok((None, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sdk::{serde_json, testing};

    #[test]
    fn patterns_have_stars() {
        for (pattern, text, expected) in [
            ("auth.*", "auth.login.failed", true),
            ("*.failed", "auth.login.failed", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyyd", false),
            ("auth", "auth", true),
            ("auth", "auth.x", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn an_entry_fits_when_everything_holds() {
        let conditions: Conditions = serde_json::from_value(json!({"action": "auth.*", "severity": ["WARN", "ERROR"],
            "messageContains": "Failed"}))
        .unwrap();
        let row = Row {
            action: "auth.login.failed".into(),
            severity: "WARN".into(),
            message: "login failed".into(),
            ..Row::default()
        };
        assert!(conditions.fit(&row));
        assert!(!conditions.fit(&Row { severity: "INFO".into(), ..row.clone() }));
        assert!(!conditions.fit(&Row { message: "ok".into(), ..row.clone() }));
        // A list of none is no condition, here as in a query.
        let open: Conditions = serde_json::from_value(json!({"severity": []})).unwrap();
        assert!(open.fit(&row));
        testing::sign_in("u1", "o1");
        assert_eq!(open.filter().unwrap().sql, "chain = $1");
    }
}
