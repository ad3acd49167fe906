//! Exports: written part by part by messages, kept for a day, and sent part by part.

use std::time::Duration;

use berth_sdk::{
    entity::Column,
    http::{Next, Stream},
    prelude::*,
    router::Route,
    serde_json,
};

use super::{
    chain::{COLUMNS, Row},
    read::{Filters, Shown},
    verification,
};
use crate::access;

/// Rows of an export.
const ROWS_MAX: i64 = 1_000_000;
/// Rows of one part, and of one where rows are so large that these are too many.
const PART: i64 = 1_000;
const PART_SMALL: i64 = 100;
/// How long an export is kept.
const KEPT: Duration = Duration::from_secs(86_400);
/// Exports of an organization at once.
const EXPORTS_MAX: i64 = 20;

/// How rows are written.
#[choice(upper)]
pub(crate) enum Format {
    Csv,
    Json,
}

/// How far an export is.
#[choice(upper)]
pub(crate) enum Status {
    Pending,
    Processing,
    Completed,
    Failed,
}

impl Column for Filters {
    const KIND: entity::Kind = entity::Kind::Json;
}

/// An export.
#[entity(table = "audit_exports", name = "export", sort = "-createdAt")]
pub(crate) struct Export {
    #[field(hidden, readonly, default)]
    pub chain: String,
    pub format: Format,
    pub filters: Filters,
    #[field(hidden)]
    pub only_user_id: Option<String>,
    pub status: Status,
    /// From 0 to 1.
    pub progress: f64,
    pub total_records: Option<i64>,
    pub written_records: i64,
    #[field(hidden)]
    pub after_sequence: i64,
    #[field(hidden)]
    pub last_sequence: i64,
    #[field(hidden)]
    pub parts: i64,
    /// Where it can be fetched.
    pub file_ref: Option<String>,
    pub error: Option<String>,
    pub expires_at: Option<Timestamp>,
}

impl Rules for Export {
    /// Exports are for those who made them, and for administrators.
    fn scope() -> Option<Condition> {
        access::only_user().map(|user_id| Condition::new("\"created_by\" = ?", [user_id]))
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        transaction.execute("DELETE FROM audit_export_parts WHERE export_id = $1", params![&row.id])?;
        Ok(())
    }
}

/// What is asked for.
#[data]
pub(crate) struct Wanted {
    #[field(default = Format::Json)]
    format: Format,
    filters: Option<Filters>,
}

/// `POST /api/audit-logs/export`: what is there now, of everybody or, for members, of themselves.
pub(crate) fn create(Json(wanted): Json<Wanted>) -> Result<Accepted<Stored<Export>>> {
    let chain = auth::organization_id()?.into_string();
    let only_user_id = access::only_user();
    let filters = match wanted.filters {
        Some(filters) => filters,
        None => serde_json::from_value(json!({})).map_err(|_| Problem::internal())?,
    };
    if filters.from.zip(filters.to).is_some_and(|(from, to)| from >= to) {
        return Err(Problem::field("filters.from", "must be before `filters.to`"));
    }
    let row = database::transaction(|transaction| {
        let mut filter = filters.condition(&chain, only_user_id.as_deref())?;
        let last_sequence = verification::head(transaction, &chain)?.map_or(0, |head| head.last_sequence);
        filter.and("sequence <= ?", [last_sequence.into()]);
        let sql = format!(
            "SELECT COUNT(*) AS total FROM (SELECT 1 AS one FROM audit_logs WHERE {} LIMIT {}) counted",
            filter.sql,
            ROWS_MAX + 1
        );
        let total: i64 = transaction.query_one(&sql, &filter.values)?.map_or(Ok(0), |row| row.get("total"))?;
        if total > ROWS_MAX {
            return Err(Problem::unprocessable(format!("An export has at most {ROWS_MAX} entries; narrow it down.")));
        }
        let now = clock::now();
        let running = Select::<Export>::new().one_of("status", ["PENDING", "PROCESSING"]).count_in_turn(transaction)?;
        if running >= EXPORTS_MAX {
            return Err(Problem::rate_limited("Too many exports are being written.").with_header("retry-after", "60"));
        }
        let export = Export {
            chain,
            format: wanted.format,
            filters,
            only_user_id,
            status: Status::Pending,
            progress: 0.0,
            total_records: Some(total),
            written_records: 0,
            after_sequence: 0,
            last_sequence,
            parts: 0,
            file_ref: None,
            error: None,
            expires_at: Some(now.plus(KEPT)),
        };
        let row = entity::create(transaction, export)?;
        transaction.enqueue(
            "logging.export.run",
            &json!({ "exportId": row.id.as_str(), "part": 0 }),
            Duration::ZERO,
        )?;
        Ok(row)
    })?;
    Ok(Accepted(row))
}

/// `GET /api/audit-logs/export`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Export>>>> {
    Select::new().page(&Pool, &query)
}

/// `GET /api/audit-logs/export/{id}`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<Stored<Export>> {
    entity::read(&Pool, &id)
}

/// `DELETE /api/audit-logs/export/{id}`.
pub(crate) fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| entity::delete::<Export>(transaction, &id, if_match))?;
    Ok(NoContent)
}

/// The message of a part.
#[data]
struct Part {
    export_id: Id,
    part: i64,
}

/// Handles `logging.export.run`: writes one part, and sends the message of the next.
pub(crate) fn run(envelope: &Envelope) -> Result<()> {
    let message: Part = envelope.data()?;
    let result = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        match entity::find::<Export>(transaction, &message.export_id)? {
            Some(row) if row.parts == message.part && is_open(&row) => part(transaction, row),
            // It was deleted, or this part is written already.
            _ => Ok(()),
        }
    });
    match result {
        Err(_) if envelope.is_last_attempt => give_up(&message.export_id),
        other => other,
    }
}

fn is_open(row: &Stored<Export>) -> bool {
    matches!(row.status, Status::Pending | Status::Processing)
}

fn part(transaction: &Transaction, mut row: Stored<Export>) -> Result<()> {
    let rows = next_rows(transaction, &row)?;
    let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PART_SMALL
        || rows.last().is_some_and(|last| last.sequence == row.last_sequence);
    if let Some(last) = rows.last() {
        row.after_sequence = last.sequence;
    }
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let content = write(rows, row.format, row.written_records == 0)?;
    transaction.execute(
        "INSERT INTO audit_export_parts (id, export_id, part, content) VALUES ($1, $2, $3, $4)",
        params![Id::new(), &row.id, row.parts, content],
    )?;
    row.parts += 1;
    row.written_records += count;
    if is_last {
        row.status = Status::Completed;
        row.progress = 1.0;
        row.total_records = Some(row.written_records);
        row.file_ref = Some(format!("/api/audit-logs/export/{}/download", row.id));
        row.expires_at = Some(clock::now().plus(KEPT));
    } else {
        row.status = Status::Processing;
        #[expect(clippy::cast_precision_loss, reason = "a share of at most a million")]
        let share = row.written_records as f64 / row.total_records.unwrap_or(1).max(1) as f64;
        row.progress = share.min(0.99);
        let next = json!({ "exportId": row.id.as_str(), "part": row.parts });
        transaction.enqueue("logging.export.run", &next, Duration::ZERO)?;
    }
    entity::save(transaction, &mut row)
}

fn next_rows(transaction: &Transaction, row: &Stored<Export>) -> Result<Vec<Row>> {
    let read = |limit: i64| -> Result<Vec<Row>> {
        let mut filter = row.filters.condition(&row.chain, row.only_user_id.as_deref())?;
        filter.and("sequence > ? AND sequence <= ?", [row.after_sequence.into(), row.last_sequence.into()]);
        let limit = filter.value(limit);
        let sql = format!("SELECT {COLUMNS} FROM audit_logs WHERE {} ORDER BY sequence LIMIT {limit}", filter.sql);
        let rows = transaction.query(&sql, &filter.values)?;
        Ok(rows.into_iter().map(|row| Row::read(&row)).collect::<Result<_, Fault>>()?)
    };
    match read(PART) {
        Err(problem) if problem.status == 413 => read(PART_SMALL),
        other => other,
    }
}

/// It could not be written: it says so, and the message is done.
fn give_up(id: &Id) -> Result<()> {
    database::transaction(|transaction| {
        if let Some(mut row) = entity::find::<Export>(transaction, id)?.filter(is_open) {
            row.status = Status::Failed;
            row.error = Some("It could not be written; the log of the host says why.".into());
            entity::save(transaction, &mut row)?;
        }
        Ok(())
    })
}

/// The columns of a CSV.
const HEADER: &str = "id,sequence,timestamp,receivedAt,userId,sessionId,ipAddress,userAgent,action,category,severity,\
     resourceType,resourceId,message,metadata,source,correlationId,previousHash,hash\r\n";

/// Rows as text; entries of JSON are separated, so that parts can follow each other.
fn write(rows: Vec<Row>, format: Format, is_first: bool) -> Result<String> {
    let mut text = String::new();
    for (index, row) in rows.into_iter().enumerate() {
        match format {
            Format::Csv => text.push_str(&csv(&row)),
            Format::Json => {
                text.push_str(if is_first && index == 0 { "\n" } else { ",\n" });
                let metadata = row.metadata.clone();
                let mut shown = json!(Shown::of(row)?);
                if let Some(members) = shown.as_object_mut() {
                    // The hash is over the text that is stored: of a number others may write another one.
                    members.insert("metadataText".into(), metadata.into());
                }
                text.push_str(&shown.to_string());
            }
        }
    }
    Ok(text)
}

fn csv(row: &Row) -> String {
    let sequence = row.sequence.to_string();
    let cells: [&str; 19] = [
        &row.id,
        &sequence,
        &row.timestamp,
        &row.received_at,
        row.user_id.as_deref().unwrap_or_default(),
        row.session_id.as_deref().unwrap_or_default(),
        row.ip_address.as_deref().unwrap_or_default(),
        row.user_agent.as_deref().unwrap_or_default(),
        &row.action,
        &row.category,
        &row.severity,
        row.resource_type.as_deref().unwrap_or_default(),
        row.resource_id.as_deref().unwrap_or_default(),
        &row.message,
        &row.metadata,
        &row.source,
        row.correlation_id.as_deref().unwrap_or_default(),
        row.previous_hash.as_deref().unwrap_or_default(),
        &row.hash,
    ];
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell: quoted where it must be, and never one that a spreadsheet takes for a formula.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_string() };
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// A file on its way.
pub(crate) struct Download {
    stream: Stream,
    name: String,
}

impl Answer for Download {
    fn into_response(self) -> Result<Response> {
        let response = self.stream.into_response()?;
        Ok(response.with_header("content-disposition", format!("attachment; filename=\"{}\"", self.name)))
    }

    fn describe(route: &mut Route) {
        route.is_streaming = true;
        route.answer(200, None, Some("application/json"));
        route.answer(200, None, Some("text/csv"));
    }
}

/// `GET /api/audit-logs/export/{id}/download`: 409 while it is being written, 410 a day after.
pub(crate) fn download(Params(id): Params<Id>) -> Result<Download> {
    let row = entity::read::<Export>(&Pool, &id)?;
    match row.status {
        Status::Completed => {}
        Status::Failed => return Err(Problem::conflict("It could not be written.")),
        _ => return Err(Problem::conflict("It is still being written.")),
    }
    if row.expires_at.is_some_and(|expires_at| expires_at <= clock::now()) {
        return Err(Problem::gone("It was kept for 24 hours."));
    }
    let (media_type, begin, end, ending) = match row.format {
        Format::Csv => ("text/csv; charset=utf-8", HEADER, "", "csv"),
        Format::Json => ("application/json", "[", "\n]\n", "json"),
    };
    let (mut next, parts) = (-1, row.parts);
    let name = format!("audit-logs-{id}.{ending}");
    let stream = Stream::new(media_type, move || {
        let piece = match next {
            -1 => Ok(begin.to_string()),
            part if part < parts => content(&id, part),
            part if part == parts => Ok(end.to_string()),
            _ => return Next::End,
        };
        next += 1;
        match piece {
            Ok(piece) => Next::Item(piece.into_bytes()),
            // A file without its end is seen to be none.
            Err(_) => Next::End,
        }
    });
    Ok(Download { stream, name })
}

fn content(id: &Id, part: i64) -> Result<String> {
    let row = database::query_one(
        "SELECT content FROM audit_export_parts WHERE export_id = $1 AND part = $2",
        params![id, part],
    )?;
    Ok(row.ok_or_else(|| Problem::gone("It was deleted."))?.get("content")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
        let row =
            Row { id: "r1".into(), sequence: 3, message: "@x".into(), metadata: "{\"a\":1}".into(), ..Row::default() };
        assert_eq!(csv(&row), "r1,3,,,,,,,,,,,,'@x,\"{\"\"a\"\":1}\",,,,\r\n");
        assert_eq!(HEADER.split(',').count(), csv(&Row::default()).split(',').count());
    }

    #[test]
    fn parts_of_json_follow_each_other() {
        let row = |id: &str| Row { id: id.into(), metadata: "{\"a\":0.00002}".into(), ..Row::default() };
        let first = write(vec![row("a"), row("b")], Format::Json, true).unwrap();
        let second = write(vec![row("c")], Format::Json, false).unwrap();
        let whole: Vec<serde_json::Value> = serde_json::from_str(&format!("[{first}{second}\n]")).unwrap();
        assert_eq!(whole.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let both = json!({"metadata": whole[0]["metadata"], "metadataText": whole[0]["metadataText"]});
        assert_eq!(both, json!({"metadata": {"a": 0.00002}, "metadataText": "{\"a\":0.00002}"}));
    }
}
