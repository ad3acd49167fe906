//! Reading traces: which there were, and one as a tree.

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{database::Value as Stored, prelude::*, serde_json::Value};

use crate::{span, stretch::Stretch};

/// Spans of one answer.
const SHOWN_MAX: i64 = 5_000;

/// A trace.
#[data]
pub(crate) struct Summary {
    trace_id: String,
    root_service: String,
    root_name: String,
    started_at: Timestamp,
    duration_us: i64,
    span_count: i64,
    error_count: i64,
    /// The root has not come yet: what is named is its earliest span.
    is_root_missing: bool,
    updated_at: Timestamp,
}

const SUMMARY: &str =
    "trace_id, root_service, root_name, root_rank, started_us, ended_us, span_count, error_count, updated_at";

impl Summary {
    fn read(row: &database::Row) -> Result<Self, Fault> {
        let (started_us, ended_us): (i64, i64) = (row.get("started_us")?, row.get("ended_us")?);
        Ok(Self {
            trace_id: row.get("trace_id")?,
            root_service: row.get("root_service")?,
            root_name: row.get("root_name")?,
            started_at: Timestamp::from_millis(started_us / 1_000),
            duration_us: ended_us - started_us,
            span_count: row.get("span_count")?,
            error_count: row.get("error_count")?,
            is_root_missing: row.get::<i64>("root_rank")? > 0,
            updated_at: row.get("updated_at")?,
        })
    }
}

/// `GET /api/observability/traces`: `service` (of any of its spans), `rootService`, `name`, `status=error`,
/// `minDurationMs`, `maxDurationMs`, `from`, `to`.
pub(crate) fn list(query: PageQuery) -> Result<Page<Summary>> {
    let stretch = Stretch::of(&query, Duration::from_secs(86_400), Duration::from_secs(31 * 86_400))?;
    let mut values: Vec<Stored> = vec![
        auth::organization_id()?.into(),
        stretch.from_ms.saturating_mul(1_000).into(),
        stretch.to_ms.saturating_mul(1_000).into(),
    ];
    let mut condition = String::from("organization_id = $1 AND started_us >= $2 AND started_us < $3");
    let mut and = |sql: &str, value: Stored| {
        values.push(value);
        condition.push_str(&format!(" AND {}", sql.replace('?', &format!("${}", values.len()))));
    };
    if let Some(service) = query.filter("service") {
        // With an offset PostgreSQL looks each trace up by the whole key. It would make a join of it otherwise, and before it has
        // counted the rows of a table that was just filled, one that compares every trace with every other.
        let sql = "EXISTS (SELECT 1 FROM trace_services s WHERE s.organization_id = $1 AND s.trace_id = trace_traces.trace_id \
            AND s.service = ? LIMIT 1 OFFSET 0)";
        and(sql, service.into());
    }
    if let Some(service) = query.filter("rootService") {
        and("root_service = ?", service.into());
    }
    if let Some(name) = query.filter("name") {
        and("root_name = ?", name.into());
    }
    match query.filter("status").as_deref() {
        None => {}
        Some("error") => and("error_count > ?", 0.into()),
        Some("ok") => and("error_count = ?", 0.into()),
        Some(_) => return Err(Problem::field("status", "must be ok or error")),
    }
    for (name, sql) in
        [("minDurationMs", "ended_us - started_us >= ?"), ("maxDurationMs", "ended_us - started_us <= ?")]
    {
        if let Some(text) = query.filter(name) {
            let millis: i64 = text.parse().map_err(|_| Problem::field(name, "must be a whole number"))?;
            and(sql, millis.saturating_mul(1_000).into());
        }
    }
    let column = match query.sort_by.as_deref() {
        None | Some("startedAt") => "started_us",
        Some("durationUs") => "ended_us - started_us",
        Some("spanCount") => "span_count",
        Some("errorCount") => "error_count",
        Some(_) => return Err(Problem::field("sortBy", "must be one of startedAt, durationUs, spanCount, errorCount")),
    };
    let direction = if query.descending.unwrap_or(true) { "DESC" } else { "ASC" };
    let row = database::query_one(
        &format!(
            "SELECT COUNT(*) AS total FROM (SELECT 1 AS one FROM trace_traces WHERE {condition} LIMIT 100000) counted"
        ),
        &values,
    )?;
    let total: i64 = row.map_or(Ok(0), |row| row.get("total"))?;
    values.extend([query.limit.into(), query.offset.into()]);
    let sql = format!(
        "SELECT {SUMMARY} FROM trace_traces WHERE {condition} ORDER BY {column} {direction}, trace_id {direction} LIMIT ${} OFFSET ${}",
        values.len() - 1,
        values.len()
    );
    let mut items = Vec::new();
    for row in database::query(&sql, &values)? {
        items.push(Summary::read(&row)?);
    }
    Ok(query.envelope(items, total))
}

/// A span as it is shown.
#[data]
pub(crate) struct Shown {
    span_id: String,
    parent_span_id: Option<String>,
    service: String,
    name: String,
    kind: span::Kind,
    start_time: Timestamp,
    /// Microseconds after the beginning of the trace.
    offset_us: i64,
    duration_us: i64,
    status: span::Status,
    status_message: Option<String>,
    attributes: Value,
    events: Value,
    /// How deep it lies in the tree; 0 for a root.
    depth: i64,
    /// Its parent is not here: it is shown as a root.
    is_orphan: bool,
}

/// A whole trace: its spans as a tree, each before those below it.
#[data]
pub(crate) struct Whole {
    #[serde(flatten)]
    summary: Summary,
    services: Vec<String>,
    spans: Vec<Shown>,
    /// There are more spans than an answer has.
    is_cut: bool,
}

/// `GET /api/observability/traces/{traceId}`.
pub(crate) fn read(Params(trace_id): Params<String>) -> Result<Json<Whole>> {
    let trace_id = trace_id.to_ascii_lowercase();
    let organization_id = auth::organization_id()?;
    let row = database::query_one(
        &format!("SELECT {SUMMARY} FROM trace_traces WHERE organization_id = $1 AND trace_id = $2"),
        params![&organization_id, &trace_id],
    )?;
    let summary = Summary::read(&row.ok_or_else(|| Problem::missing("trace"))?)?;
    let begin_us = summary.started_at.millis() * 1_000;
    let mut spans = Vec::new();
    // In pages: attributes and events may be large.
    loop {
        let rows = database::query(
            "SELECT span_id, parent_span_id, service, name, kind, start_time, start_us, duration_us, status, status_message, \
             attributes, events FROM trace_spans WHERE organization_id = $1 AND trace_id = $2 ORDER BY start_us, span_id \
             LIMIT 80 OFFSET $3",
            params![&organization_id, &trace_id, spans.len()],
        )?;
        let count = rows.len();
        for row in rows {
            spans.push((row.get::<i64>("start_us")?, shown(&row, begin_us)?));
        }
        if count < 80 || i64::try_from(spans.len()).unwrap_or(i64::MAX) >= SHOWN_MAX {
            break;
        }
    }
    let mut services: Vec<String> = spans.iter().map(|(_, span)| span.service.clone()).collect();
    services.sort_unstable();
    services.dedup();
    let is_cut = i64::try_from(spans.len()).unwrap_or(i64::MAX) < summary.span_count;
    Ok(Json(Whole { summary, services, spans: tree(spans.into_iter().map(|(_, span)| span).collect()), is_cut }))
}

fn shown(row: &database::Row, begin_us: i64) -> Result<Shown> {
    Ok(Shown {
        span_id: row.get("span_id")?,
        parent_span_id: row.get("parent_span_id")?,
        service: row.get("service")?,
        name: row.get("name")?,
        kind: span::Kind::parse(&row.get::<String>("kind")?).unwrap_or(span::Kind::Internal),
        start_time: row.get("start_time")?,
        offset_us: (row.get::<i64>("start_us")? - begin_us).max(0),
        duration_us: row.get("duration_us")?,
        status: span::Status::parse(&row.get::<String>("status")?).unwrap_or(span::Status::Unset),
        status_message: row.get("status_message")?,
        attributes: row.get("attributes")?,
        events: row.get("events")?,
        depth: 0,
        is_orphan: false,
    })
}

/// Spans in the order of a tree: a span whose parent is not here is a root, and so is one of a circle.
fn tree(spans: Vec<Shown>) -> Vec<Shown> {
    let known: BTreeMap<String, usize> =
        spans.iter().enumerate().map(|(index, span)| (span.span_id.clone(), index)).collect();
    let parent = |span: &Shown| span.parent_span_id.as_ref().and_then(|parent| known.get(parent)).copied();
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        match parent(span).filter(|parent| *parent != index) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }
    let mut places: Vec<(usize, i64, bool)> = Vec::with_capacity(spans.len());
    let mut is_placed = vec![false; spans.len()];
    // What hangs on no root is part of a circle, which is cut at its earliest span.
    for start in roots.iter().copied().chain(0..spans.len()) {
        let mut waiting = vec![(start, 0)];
        while let Some((index, depth)) = waiting.pop() {
            let Some(placed) = is_placed.get_mut(index).filter(|placed| !**placed) else { continue };
            *placed = true;
            let is_orphan = depth == 0 && spans.get(index).is_some_and(|span| span.parent_span_id.is_some());
            places.push((index, depth, is_orphan));
            waiting.extend(children.get(&index).into_iter().flatten().rev().map(|child| (*child, depth + 1)));
        }
    }
    let mut spans: Vec<Option<Shown>> = spans.into_iter().map(Some).collect();
    places
        .into_iter()
        .filter_map(|(index, depth, is_orphan)| {
            let span = spans.get_mut(index)?.take()?;
            Some(Shown { depth, is_orphan, ..span })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(id: &str, parent: Option<&str>) -> Shown {
        Shown {
            span_id: id.into(),
            parent_span_id: parent.map(Into::into),
            service: "s".into(),
            name: id.into(),
            kind: span::Kind::Internal,
            start_time: Timestamp::from_millis(0),
            offset_us: 0,
            duration_us: 0,
            status: span::Status::Unset,
            status_message: None,
            attributes: Value::Null,
            events: Value::Null,
            depth: 0,
            is_orphan: false,
        }
    }

    fn order(spans: Vec<Shown>) -> Vec<(String, i64, bool)> {
        tree(spans).into_iter().map(|span| (span.span_id, span.depth, span.is_orphan)).collect()
    }

    #[test]
    fn spans_come_as_a_tree_whatever_their_order() {
        let spans = vec![
            span("c", Some("b")),
            span("a", None),
            span("x", Some("gone")),
            span("b", Some("a")),
            span("d", Some("a")),
        ];
        let expected = [("a", 0, false), ("b", 1, false), ("c", 2, false), ("d", 1, false), ("x", 0, true)];
        assert_eq!(order(spans), expected.map(|(id, depth, is_orphan)| (id.to_string(), depth, is_orphan)));
    }

    #[test]
    fn a_circle_is_cut() {
        let spans = vec![span("a", Some("b")), span("b", Some("a")), span("c", Some("c"))];
        assert_eq!(order(spans).len(), 3);
    }

    proptest! {
        #[test]
        fn every_span_is_shown_once(parents in proptest::collection::vec(0_usize..30, 30)) {
            let spans = parents.iter().enumerate().map(|(index, parent)| span(&format!("s{index}"), Some(&format!("s{parent}"))));
            let mut ids: Vec<String> = order(spans.collect()).into_iter().map(|(id, ..)| id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), 30);
        }
    }
}
