//! Error groups: what is the same error, by its service, type, message without its particulars, and the frame it comes from.

use std::collections::BTreeMap;

use berth_sdk::{
    canonical,
    database::{Bulk, Value as Stored},
    prelude::*,
    serde_json::Value,
};

/// Groups of an organization; further ones are left out.
const GROUPS_MAX: i64 = 10_000;
/// Groups of one look-up.
const LOOKED_UP: usize = 400;

/// How far people are with an error.
#[choice]
pub(crate) enum Status {
    Open,
    Resolved,
    Ignored,
    /// It was resolved and came back.
    Regressed,
}

/// A group.
#[entity(table = "telemetry_errors", name = "error", sort = "-lastSeen")]
pub(crate) struct ErrorGroup {
    #[field(hidden)]
    pub group_key: String,
    #[field(filter)]
    pub fingerprint: String,
    #[field(filter)]
    pub service: String,
    #[field(filter)]
    pub r#type: String,
    pub title: String,
    pub status: Status,
    pub count: i64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub sample: Value,
}

impl Rules for ErrorGroup {}

/// One time that an error happened.
#[derive(Clone, Debug)]
pub(crate) struct Occurrence {
    pub service: String,
    pub kind: String,
    pub message: String,
    pub stack: Option<String>,
    pub at: Timestamp,
    pub sample: Value,
}

impl Occurrence {
    /// The same for what is the same error.
    pub fn fingerprint(&self) -> String {
        let frame = self.stack.as_deref().and_then(top_frame).unwrap_or_default();
        let parts = json!([self.service, self.kind, normalised(&self.message), frame]);
        canonical::sha256(&parts).get(..32).unwrap_or_default().to_string()
    }

    fn title(&self) -> String {
        let message: String = self.message.lines().next().unwrap_or_default().chars().take(200).collect();
        if message.is_empty() { self.kind.clone() } else { format!("{}: {message}", self.kind) }
    }
}

/// A message without what differs from one time to the next: numbers, ids, and what stands in quotes.
fn normalised(message: &str) -> String {
    let mut text = String::with_capacity(message.len().min(1_000));
    let mut letters = message.chars().take(1_000).peekable();
    while let Some(letter) = letters.next() {
        if matches!(letter, '\'' | '"' | '`') {
            // A quote without an end is a letter like others.
            let rest: String = letters.clone().collect();
            if let Some(length) = rest.chars().position(|other| other == letter) {
                letters.nth(length);
                text.push('?');
                continue;
            }
        }
        if letter.is_alphanumeric() || letter == '_' {
            let mut word = String::from(letter);
            while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '-')) {
                word.push(next);
            }
            let is_particular = word.bytes().any(|byte| byte.is_ascii_digit());
            text.push_str(if is_particular { "#" } else { &word });
            continue;
        }
        text.push(if letter.is_whitespace() { ' ' } else { letter });
    }
    text
}

/// The frame in which it happened, without its line: the last one in Python, the first one elsewhere.
fn top_frame(stack: &str) -> Option<String> {
    let lines = || stack.lines().take(500).map(str::trim);
    if let Some(frame) = lines().filter(|line| line.starts_with("File \"")).last() {
        let mut parts = frame.splitn(3, ", ");
        let (file, _, function) = (parts.next()?, parts.next(), parts.next().unwrap_or_default());
        return Some(format!("{file} {function}"));
    }
    let frame = lines().find(|line| line.starts_with("at "))?;
    Some(frame.chars().filter(|letter| !letter.is_ascii_digit()).take(300).collect())
}

/// What occurrences add to a group.
struct Change<'a> {
    last: &'a Occurrence,
    first_at: Timestamp,
    count: i64,
}

/// Adds occurrences to their groups, in the transaction of what tells of them. New and returned errors are events.
pub(crate) fn note(transaction: &Transaction, organization_id: &str, occurrences: Vec<Occurrence>) -> Result<()> {
    let mut changes: BTreeMap<String, Change<'_>> = BTreeMap::new();
    for occurrence in &occurrences {
        let key = format!("{organization_id}|{}", occurrence.fingerprint());
        let new = Change { last: occurrence, first_at: occurrence.at, count: 1 };
        let change = changes.entry(key).or_insert(Change { count: 0, ..new });
        change.count += 1;
        change.first_at = change.first_at.min(occurrence.at);
        if occurrence.at >= change.last.at {
            change.last = occurrence;
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let now = clock::now();
    let keys: Vec<&String> = changes.keys().collect();
    let mut known: BTreeMap<String, (Id, Status)> = BTreeMap::new();
    for chunk in keys.chunks(LOOKED_UP) {
        let values: Vec<Stored> = chunk.iter().map(|key| Stored::from(*key)).collect();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT id, group_key, status FROM telemetry_errors WHERE group_key IN ({}) ORDER BY group_key FOR UPDATE",
            places.join(", ")
        );
        for row in transaction.query(&sql, &values)? {
            let status = Status::parse(&row.get::<String>("status")?).unwrap_or(Status::Open);
            known.insert(row.get("group_key")?, (row.get("id")?, status));
        }
    }
    for (key, (id, status)) in &known {
        if let Some(change) = changes.remove(key) {
            again(transaction, id, *status, &change, now)?;
        }
    }
    new_groups(transaction, organization_id, &changes, now)
}

/// A known error happened again.
fn again(transaction: &Transaction, id: &Id, status: Status, change: &Change<'_>, now: Timestamp) -> Result<()> {
    let new_status = if status == Status::Resolved { Status::Regressed } else { status };
    transaction.execute(
        "UPDATE telemetry_errors SET count = count + $2, status = $3, \
         last_seen = CASE WHEN last_seen < $4 THEN $4 ELSE last_seen END, \
         first_seen = CASE WHEN first_seen > $5 THEN $5 ELSE first_seen END, updated_at = $6, version = version + 1 WHERE id = $1",
        params![id, change.count, new_status, change.last.at, change.first_at, now],
    )?;
    if new_status != status {
        tell(transaction, "observability.error.regressed", id, change)?;
    }
    Ok(())
}

fn new_groups(
    transaction: &Transaction,
    organization_id: &str,
    changes: &BTreeMap<String, Change<'_>>,
    now: Timestamp,
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let row = transaction.query_one(
        "SELECT COUNT(*) AS total FROM telemetry_errors WHERE organization_id = $1",
        params![organization_id],
    )?;
    let total: i64 = row.map_or(Ok(0), |row| row.get("total"))?;
    let room = usize::try_from(GROUPS_MAX - total).unwrap_or(0);
    if changes.len() > room {
        logging::warn!("there are too many groups of errors; new ones are left out", left_out = changes.len() - room);
    }
    let mut ids: BTreeMap<Id, &Change<'_>> = BTreeMap::new();
    let rows: Vec<Vec<Stored>> = changes
        .iter()
        .take(room)
        .map(|(key, change)| {
            let (id, last) = (Id::new(), change.last);
            let mut sample = last.sample.clone();
            if let Value::Object(members) = &mut sample {
                members.insert("message".into(), last.message.chars().take(2_000).collect::<String>().into());
                let stack = last.stack.as_ref().map(|stack| stack.chars().take(8_000).collect::<String>());
                members.insert("stack".into(), stack.into());
            }
            let row = vec![
                (&id).into(),
                key.as_str().into(),
                key.rsplit('|').next().unwrap_or_default().into(),
                (&last.service).into(),
                last.kind.chars().take(200).collect::<String>().into(),
                last.title().into(),
                change.count.into(),
                change.first_at.into(),
                last.at.into(),
                sample.into(),
            ];
            ids.insert(id, change);
            row
        })
        .collect();
    let written = Bulk::into("telemetry_errors")
        .shared("organization_id", organization_id)
        .shared("created_at", now)
        .shared("updated_at", now)
        .shared("version", 1)
        .shared("status", Status::Open)
        .columns(&[
            "id",
            "group_key",
            "fingerprint",
            "service",
            "type",
            "title",
            "count",
            "first_seen",
            "last_seen",
            "sample",
        ])
        // Somebody else may have made the group at the same moment: then this is one more of it.
        .then("ON CONFLICT (group_key) DO UPDATE SET count = telemetry_errors.count + excluded.count RETURNING id")
        .query(transaction, rows)?;
    for row in written {
        let id: Id = row.get("id")?;
        if let Some(change) = ids.get(&id) {
            tell(transaction, "observability.error.new", &id, change)?;
        }
    }
    Ok(())
}

fn tell(transaction: &Transaction, kind: &str, id: &Id, change: &Change<'_>) -> Result<()> {
    let data = json!({
        "errorId": id.as_str(),
        "service": change.last.service,
        "type": change.last.kind,
        "title": change.last.title(),
        "count": change.count,
    });
    transaction.send(&events::Message::new(kind, &data)?.with_key(id.as_str()))?;
    Ok(())
}

/// `GET /api/observability/errors`.
pub(crate) fn list(query: PageQuery) -> Result<JsonText<Page<entity::Stored<ErrorGroup>>>> {
    Select::new().page(&Pool, &query)
}

/// `GET /api/observability/errors/{id}`.
pub(crate) fn read(Params(id): Params<Id>) -> Result<entity::Stored<ErrorGroup>> {
    entity::read(&Pool, &id)
}

/// A new status.
#[data]
pub(crate) struct NewStatus {
    status: Status,
}

/// `PUT /api/observability/errors/{id}/status`.
pub(crate) fn change_status(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(new): Json<NewStatus>,
) -> Result<entity::Stored<ErrorGroup>> {
    if new.status == Status::Regressed {
        return Err(Problem::field("status", "must be open, resolved or ignored; an error regresses by itself"));
    }
    database::transaction(|transaction| {
        let mut row = entity::read::<ErrorGroup>(transaction, &id)?;
        if_match.check(row.version)?;
        row.status = new.status;
        entity::save(transaction, &mut row)?;
        Ok(row)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn occurrence(message: &str, stack: Option<&str>) -> Occurrence {
        Occurrence {
            service: "shop".into(),
            kind: "IOError".into(),
            message: message.into(),
            stack: stack.map(Into::into),
            at: clock::now(),
            sample: json!({}),
        }
    }

    #[test]
    fn particulars_do_not_tell_errors_apart() {
        let same = |one: &str, other: &str| normalised(one) == normalised(other);
        assert!(same("order 17 of 'ada' failed", "order 9931 of 'eve' failed"));
        assert!(same("no file 0af7-651916cd43dd8448", "no file 1bd2-651916cd43dd8aaa"));
        assert!(!same("disk is full", "disk is empty"));
        assert_eq!(normalised("it's \"x y\" at 10.0.0.1:80"), "it's ? at #.#.#.#:#");
    }

    #[test]
    fn the_frame_is_where_it_happened_whatever_the_line() {
        let python = "Traceback (most recent call last):\n  File \"app.py\", line 3, in main\n    run()\n  File \"lib.py\", line 9, in run\n    x\nIOError: m";
        assert_eq!(top_frame(python).unwrap(), "File \"lib.py\" in run");
        let java = "java.io.IOException: m\n\tat shop.Cart.buy(Cart.java:12)\n\tat shop.Main.main(Main.java:3)";
        assert_eq!(top_frame(java).unwrap(), "at shop.Cart.buy(Cart.java:)");
        let moved = java.replace("12", "99");
        assert_eq!(occurrence("m", Some(java)).fingerprint(), occurrence("m", Some(&moved)).fingerprint());
        assert_ne!(occurrence("m", Some(java)).fingerprint(), occurrence("m", None).fingerprint());
        assert_eq!(occurrence("m", None).fingerprint().len(), 32);
    }

    proptest! {
        #[test]
        fn any_message_can_be_normalised(message in ".{0,200}", stack in ".{0,200}") {
            let _ = occurrence(&message, Some(&stack)).fingerprint();
        }
    }
}
