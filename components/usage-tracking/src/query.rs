//! Questions: what was used, by whom, and what it cost; from the sums and not from single events.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    access, aggregate,
    aggregate::{Granularity, Row, Sum},
    category,
    event::{LATE, moment},
    limits,
    period::{self, Span},
};

/// Rows read at once, and in all for one question.
const ROWS: usize = 5_000;
const ROWS_MAX: usize = 100_000;
/// Groups in one answer.
const GROUPS_MAX: usize = 10_000;
/// Events in one export.
const EXPORTED_MAX: i64 = 10_000;
/// One cent.
const CENT_MICRO: i64 = 1_000_000;

/// By what the sums are told apart.
#[choice]
#[derive(PartialOrd, Ord)]
pub(crate) enum Group {
    Period,
    Category,
    User,
    Project,
    Team,
    Dimension,
}

/// A question.
#[data]
pub(crate) struct Question {
    /// Another organization's, for the platform's administrators.
    organization_id: Option<Id>,
    from: Timestamp,
    to: Timestamp,
    granularity: Option<Granularity>,
    /// Categories; `ai.*` is everything below `ai`.
    #[field(default)]
    categories: Vec<String>,
    user_id: Option<Id>,
    project_id: Option<Id>,
    team_id: Option<Id>,
    /// Sums of this dimension only, and of this value of it.
    dimension_key: Option<String>,
    dimension_value: Option<String>,
    #[field(default)]
    group_by: Vec<Group>,
    /// Only these metrics.
    #[field(default)]
    metrics: Vec<String>,
}

/// What the rows of a question must be.
struct Filter {
    organization_id: Id,
    from: Timestamp,
    to: Timestamp,
    user_id: Option<String>,
    project_id: Option<String>,
    team_id: Option<String>,
    categories: Vec<String>,
    dimension: Option<(String, Option<String>)>,
}

impl Filter {
    fn of_time(organization_id: &Id, from: Timestamp, to: Timestamp) -> Self {
        Self {
            organization_id: organization_id.clone(),
            from,
            to,
            user_id: access::only_user(),
            project_id: None,
            team_id: None,
            categories: Vec::new(),
            dimension: None,
        }
    }

    fn admits(&self, code: &str) -> bool {
        self.categories.is_empty() || self.categories.iter().any(|pattern| category::matches(pattern, code))
    }
}

/// Calls `take` with every row: the hours where they are still there, else the days or the months.
fn rows(filter: &Filter, mut take: impl FnMut(Row) -> Result<()>) -> Result<()> {
    let [hours, days] = aggregate::horizons(clock::now(), access::zone_of(&filter.organization_id));
    let mut values: Vec<database::Value> =
        vec![(&filter.organization_id).into(), hours.into(), days.into(), filter.from.into(), filter.to.into()];
    let mut conditions = String::new();
    let mut narrow = |column: &str, value: &str| {
        values.push(value.into());
        conditions.push_str(&format!(" AND {column} = ${}", values.len()));
    };
    for (column, value) in
        [("user_id", &filter.user_id), ("project_id", &filter.project_id), ("team_id", &filter.team_id)]
    {
        if let Some(value) = value {
            narrow(column, value);
        }
    }
    match &filter.dimension {
        Some((key, value)) => {
            narrow("dimension_key", key);
            if let Some(value) = value {
                narrow("dimension_value", value);
            }
        }
        None => conditions.push_str(" AND dimension_key IS NULL"),
    }
    let sql = format!(
        "SELECT {} , id FROM usage_aggregates WHERE organization_id = $1{} AND period_start >= $4 AND \
         period_start < $5{conditions} AND id > ${} ORDER BY id LIMIT {ROWS}",
        aggregate::COLUMNS,
        aggregate::HOURS_DAYS_OR_MONTHS,
        values.len() + 1
    );
    #[data]
    struct WithId {
        id: String,
        #[serde(flatten)]
        row: Row,
    }
    let (mut after, mut read) = (String::new(), 0);
    loop {
        let mut values = values.clone();
        values.push(after.as_str().into());
        let page: Vec<WithId> = database::query_as(&Pool, &sql, &values)?;
        let count = page.len();
        read += count;
        if read > ROWS_MAX {
            return Err(Problem::unprocessable(format!("The question covers more than {ROWS_MAX} sums; narrow it.")));
        }
        for WithId { id, row } in page {
            after = id;
            if filter.admits(&row.category_code) {
                take(row)?;
            }
        }
        if count < ROWS {
            return Ok(());
        }
    }
}

/// `POST /api/usage/query`.
pub(crate) fn query(Json(question): Json<Question>) -> Result<Json<Value>> {
    if question.from >= question.to {
        return Err(Problem::field("to", "must be after from"));
    }
    if let Some(at) = question.categories.iter().position(|pattern| !category::is_pattern(pattern)) {
        return Err(Problem::field(format!("categories[{at}]"), "must be a category, or one with .* at the end, or *"));
    }
    let organization_id = access::organization(question.organization_id.as_ref())?;
    let own = access::only_user();
    let user_id = question.user_id.map(Id::into_string);
    if own.is_some() && user_id.is_some() && own != user_id {
        return Err(Problem::forbidden("Only administrators ask for others."));
    }
    let needs_dimension = question.group_by.contains(&Group::Dimension) || question.dimension_value.is_some();
    if needs_dimension && question.dimension_key.is_none() {
        return Err(Problem::field("dimensionKey", "is needed to tell dimensions apart"));
    }
    let filter = Filter {
        user_id: own.or(user_id),
        project_id: question.project_id.map(Id::into_string),
        team_id: question.team_id.map(Id::into_string),
        categories: question.categories,
        dimension: question.dimension_key.map(|key| (key, question.dimension_value)),
        ..Filter::of_time(&organization_id, question.from, question.to)
    };
    let span = question.granularity.unwrap_or(Granularity::Daily).span();
    let mut groups: Vec<Group> = question.group_by;
    if question.granularity.is_some() && !groups.contains(&Group::Period) {
        groups.push(Group::Period);
    }
    groups.sort_unstable();
    groups.dedup();
    let zone = access::zone_of(&organization_id);
    let (mut sums, mut total): (BTreeMap<Vec<String>, Sum>, Sum) = (BTreeMap::new(), Sum::default());
    rows(&filter, |row| {
        let key: Vec<String> = groups.iter().map(|group| part(*group, &row, span, zone)).collect();
        let mut sum = row.sum();
        if !question.metrics.is_empty() {
            sum.metrics.retain(|name, _| question.metrics.contains(name));
        }
        total.add(&sum);
        sums.entry(key).or_default().add(&sum);
        if sums.len() > GROUPS_MAX {
            return Err(Problem::unprocessable(format!(
                "The answer has more than {GROUPS_MAX} groups; narrow the question."
            )));
        }
        Ok(())
    })?;
    let items: Vec<Value> = sums
        .iter()
        .map(|(key, sum)| {
            let mut item = Map::new();
            for (group, value) in groups.iter().zip(key) {
                let value = if value.is_empty() { Value::Null } else { value.as_str().into() };
                item.insert(label(*group).into(), value);
            }
            item.extend(aggregate::shown(sum));
            Value::Object(item)
        })
        .collect();
    Ok(Json(
        json!({ "from": filter.from, "to": filter.to, "groupBy": groups, "items": items, "total": aggregate::shown(&total) }),
    ))
}

fn part(group: Group, row: &Row, span: Span, zone: chrono_tz::Tz) -> String {
    match group {
        Group::Period => period::around(span, row.period_start, zone).0.to_string(),
        Group::Category => row.category_code.clone(),
        Group::User => row.user_id.clone().unwrap_or_default(),
        Group::Project => row.project_id.clone().unwrap_or_default(),
        Group::Team => row.team_id.clone().unwrap_or_default(),
        Group::Dimension => row.dimension_value.clone().unwrap_or_default(),
    }
}

fn label(group: Group) -> &'static str {
    match group {
        Group::Period => "periodStart",
        Group::Category => "categoryCode",
        Group::User => "userId",
        Group::Project => "projectId",
        Group::Team => "teamId",
        Group::Dimension => "dimensionValue",
    }
}

/// Which period is meant, and whose.
#[data]
pub(crate) struct PeriodQuery {
    /// `hour`, `day`, `week`, `month`, `quarter`, `year`, or a month such as `2026-01`; the present month when absent.
    period: Option<String>,
    /// Another organization's, for the platform's administrators.
    organization_id: Option<Id>,
}

/// The organization and the period that a query names: `hour`, `day`, `week`, `month`, `quarter` or `year`, the present one; or
/// `2026-01`.
fn named_period(query: PeriodQuery) -> Result<(Id, Timestamp, Timestamp)> {
    let organization_id = access::organization(query.organization_id.as_ref())?;
    let zone = access::zone_of(&organization_id);
    let now = clock::now();
    let text = query.period.unwrap_or_else(|| "month".into());
    let span = match text.to_ascii_lowercase().as_str() {
        "hour" | "hourly" => Span::Hour,
        "day" | "daily" | "today" => Span::Day,
        "week" | "weekly" => Span::Week,
        "month" | "monthly" => Span::Month,
        "quarter" | "quarterly" => Span::Quarter,
        "year" | "yearly" => Span::Year,
        other => {
            let middle = Timestamp::parse(&format!("{other}-15T12:00:00.000Z"));
            let middle = middle.ok_or_else(|| {
                Problem::field("period", "must be hour, day, week, month, quarter, year or a month such as 2026-01")
            })?;
            let (from, to) = period::around(Span::Month, middle, zone);
            return Ok((organization_id, from, to));
        }
    };
    let (from, to) = period::around(span, now, zone);
    Ok((organization_id, from, to))
}

fn by_category(filter: &Filter) -> Result<(BTreeMap<String, Sum>, Sum)> {
    let (mut sums, mut total): (BTreeMap<String, Sum>, Sum) = (BTreeMap::new(), Sum::default());
    rows(filter, |row| {
        let sum = row.sum();
        total.add(&sum);
        sums.entry(row.category_code).or_default().add(&sum);
        Ok(())
    })?;
    Ok((sums, total))
}

fn lines(sums: &BTreeMap<String, Sum>) -> Vec<Map<String, Value>> {
    sums.iter()
        .map(|(code, sum)| {
            let mut line = aggregate::shown(sum);
            line.insert("categoryCode".into(), code.as_str().into());
            line
        })
        .collect()
}

/// `GET /api/usage/summary`.
pub(crate) fn summary(Query(query): Query<PeriodQuery>) -> Result<Json<Value>> {
    let (organization_id, from, to) = named_period(query)?;
    let (sums, total) = by_category(&Filter::of_time(&organization_id, from, to))?;
    let previous_from = from.minus(to.since(from));
    let (_, previous) = by_category(&Filter::of_time(&organization_id, previous_from, from))?;
    Ok(Json(json!({
        "periodStart": from, "periodEnd": to, "categories": lines(&sums), "total": aggregate::shown(&total),
        "previous": aggregate::shown(&previous),
    })))
}

/// `GET /api/usage/realtime`: the present hour, day and month.
pub(crate) fn realtime() -> Result<Json<Value>> {
    let (organization_id, zone, now) = (auth::organization_id()?, access::zone(), clock::now());
    let mut counters = Map::new();
    for (name, span) in [("hour", Span::Hour), ("day", Span::Day), ("month", Span::Month)] {
        let (from, to) = period::around(span, now, zone);
        let (sums, total) = by_category(&Filter::of_time(&organization_id, from, to))?;
        let mut counter = aggregate::shown(&total);
        counter.insert("periodStart".into(), json!(from));
        counter.insert("categories".into(), json!(lines(&sums)));
        counters.insert(name.into(), Value::Object(counter));
    }
    Ok(Json(json!({ "at": now, "counters": counters })))
}

/// `GET /api/usage/billing`: cents are made here, once, of the totals.
pub(crate) fn billing(Query(query): Query<PeriodQuery>) -> Result<Json<Value>> {
    access::require_admin()?;
    let (organization_id, from, to) = named_period(query)?;
    let (sums, total) = by_category(&Filter::of_time(&organization_id, from, to))?;
    let items: Vec<Map<String, Value>> = lines(&sums)
        .into_iter()
        .map(|mut line| {
            let micro = line.get("totalCostMicro").and_then(Value::as_i64).unwrap_or_default();
            line.insert("cents".into(), cents(micro).into());
            line
        })
        .collect();
    Ok(Json(json!({
        "periodStart": from, "periodEnd": to, "items": items, "totalCostMicro": total.cost_micro,
        "totalCents": cents(total.cost_micro),
    })))
}

/// Half a cent is a cent.
fn cents(micro: i64) -> i64 {
    micro.saturating_add(CENT_MICRO / 2).div_euclid(CENT_MICRO)
}

/// The body of an export.
#[data]
pub(crate) struct Export {
    /// `csv` or `json`.
    #[field(default = "json".to_string())]
    format: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    category_code: Option<String>,
}

/// `POST /api/usage/export`: single events, as many as fit into one answer.
pub(crate) fn export(Json(export): Json<Export>) -> Result<Response> {
    let is_csv = match export.format.as_str() {
        "csv" => true,
        "json" => false,
        _ => return Err(Problem::field("format", "must be csv or json")),
    };
    let mut select = Select::<crate::event::UsageEvent>::new().sort("occurredAt").limit(EXPORTED_MAX);
    for (sql, bound) in [("\"occurred_at\" >= ?", export.from), ("\"occurred_at\" < ?", export.to)] {
        if let Some(bound) = bound {
            select = select.condition(sql, [bound]);
        }
    }
    if let Some(code) = export.category_code {
        select = select.equal("category_code", code);
    }
    let events = select.all(&Pool)?;
    if !is_csv {
        return Response::json(200, &json!({ "items": events, "total": events.len() }));
    }
    let mut text = String::from(
        "occurredAt,eventId,categoryCode,userId,projectId,teamId,sourceModule,metrics,dimensions,costMicro\n",
    );
    for event in &events {
        let fields = [
            event.occurred_at.to_string(),
            event.event_id.clone(),
            event.category_code.clone(),
            event.user_id.clone().unwrap_or_default(),
            event.project_id.clone().unwrap_or_default(),
            event.team_id.clone().unwrap_or_default(),
            event.source_module.clone(),
            json!(event.metrics).to_string(),
            json!(event.dimensions).to_string(),
            event.cost_micro.to_string(),
        ];
        text.push_str(&fields.map(|field| quoted(&field)).join(","));
        text.push('\n');
    }
    Ok(Response::text(200, "text/csv; charset=utf-8", text)
        .with_header("content-disposition", "attachment; filename=\"usage.csv\""))
}

/// A field that neither breaks its line nor becomes a formula in a spreadsheet.
fn quoted(field: &str) -> String {
    let is_formula =
        field.starts_with(['=', '+', '@', '\t', '\r']) || (field.starts_with('-') && field.parse::<f64>().is_err());
    let guard = if is_formula { "'" } else { "" };
    if is_formula || field.contains([',', '"', '\n', '\r']) {
        format!("\"{guard}{}\"", field.replace('"', "\"\""))
    } else {
        field.to_string()
    }
}

/// The timer `budgets`: a new period begins even where nobody uses anything.
pub(crate) fn refresh_budgets(_: &Envelope) -> Result<()> {
    let rows = database::query(
        "SELECT DISTINCT organization_id FROM usage_budgets WHERE is_active = TRUE AND organization_id IS NOT NULL LIMIT 5000",
        params![],
    )?;
    for row in rows {
        let organization_id: String = row.get("organization_id")?;
        let message = events::Message::new("usage.budgets", &json!({}))?.for_organization(organization_id);
        events::enqueue_message(&message)?;
    }
    Ok(())
}

/// Handles `usage.budgets` for one organization.
pub(crate) fn refresh_own_budgets(_: &Envelope) -> Result<()> {
    let organization_id = auth::organization_id()?;
    let (now, zone) = (clock::now(), access::zone());
    database::transaction(|transaction| {
        crate::ingest::take_turn(transaction, &organization_id)?;
        for limit in limits::all(transaction)?.iter().filter(|limit| limit.is_budget && !limit.is_global) {
            if limit.scope == limits::Scope::User && limit.scope_id.is_none() {
                continue;
            }
            let span = period::around(limit.span, now, zone);
            let spent = crate::counter::read(transaction, &organization_id, limit, None, span, zone)?;
            crate::counter::show_budget(transaction, &limit.id, spent, span.0)?;
        }
        Ok(())
    })
}

/// The timer `retention`. What goes before it can no longer be reported leaves its key behind, so that it does not count
/// again when it is.
pub(crate) fn retain(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let days = |days: u64| now.minus(std::time::Duration::from_secs(days * 86_400));
    let raw = days(config::get_or("raw_days", 7_u64).max(1));
    let late = now.minus(LATE);
    database::transaction(|transaction| {
        transaction.execute(
            "INSERT INTO usage_event_keys (event_key, organization_id, received_at, occurred_at) \
             SELECT event_key, organization_id, received_at, occurred_at FROM usage_events \
             WHERE received_at < $1 AND occurred_at < $1 AND (received_at >= $2 OR occurred_at >= $2) \
             ON CONFLICT (event_key) DO NOTHING",
            params![raw, late],
        )?;
        transaction.execute("DELETE FROM usage_events WHERE received_at < $1 AND occurred_at < $1", params![raw])?;
        transaction
            .execute("DELETE FROM usage_event_keys WHERE received_at < $1 AND occurred_at < $1", params![late])?;
        Ok::<_, Problem>(())
    })?;
    // Nobody sums up weeks any more; those of earlier days go.
    let kept = [
        (Granularity::Hourly, aggregate::HOURS_KEPT),
        (Granularity::Daily, aggregate::DAYS_KEPT),
        (Granularity::Weekly, aggregate::HOURS_KEPT),
    ];
    for (granularity, kept) in kept {
        database::execute(
            "DELETE FROM usage_aggregates WHERE granularity = $1 AND period_start < $2",
            params![granularity, days(kept)],
        )?;
    }
    database::execute("DELETE FROM usage_counters WHERE period_end < $1", params![days(14)])?;
    let metrics = config::get_or("metric_days", 90_u64).max(1);
    database::execute("DELETE FROM metric_entries WHERE recorded_ms < $1", params![days(metrics).millis()])?;
    Ok(())
}

/// The bounds of a query, where it has some.
pub(crate) fn bounds(query: &PageQuery) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    let bound = |name: &str| query.filter(name).map(|text| moment(name, &text)).transpose();
    Ok((bound("from")?, bound("to")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_made_once_of_a_total() {
        assert_eq!((cents(0), cents(499_999), cents(500_000), cents(1_499_999)), (0, 0, 1, 1));
        assert_eq!(cents(-600_000), -1);
    }

    #[test]
    fn a_field_of_an_export_stays_a_field() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
        assert_eq!(quoted("-5"), "-5");
        assert_eq!(quoted("-1+A1"), "\"'-1+A1\"");
    }
}
