//! What a guest writes comes back from SQLite and from PostgreSQL as the same bytes, as a row and as JSON.
//!
//! Not only what each answers is judged, as in the other cases, but that both answer the same.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Fixture, Host, Value, text};
use crate::bindings::imports::types::Fault;
use crate::database::conformance::on_every_database;
use crate::database::{Database, Migration};

const TABLE: &str = "CREATE TABLE plan_kept (id BIGINT PRIMARY KEY, words TEXT, number BIGINT, ratio DOUBLE PRECISION, \
                     done BOOLEAN, body BYTEA, at TIMESTAMPTZ, document JSONB);";
const COLUMNS: [&str; 7] = ["words", "number", "ratio", "done", "body", "at", "document"];

fn json(text: &str) -> Value {
    Value::Json(text.to_owned())
}

fn time(text: &str) -> Value {
    Value::Timestamp(text.to_owned())
}

/// Column and value of each row; every other column of it is NULL.
fn values() -> Vec<(&'static str, Value)> {
    let mut values: Vec<(&str, Value)> = COLUMNS.iter().map(|column| (*column, Value::Null)).collect();
    let long = "long ".repeat(10_000);
    for words in [
        "",
        " ",
        "5",
        "5.0",
        "0123",
        "null",
        "true",
        "2026-01-31T08:15:00.000Z",
        "it's \"quoted\" \\ $1 ? :name -- /* */ ;",
        "tab\tline\nreturn\r\u{1}\u{7f}\u{85}\u{2028}\u{feff}",
        "Straße, naïve, e\u{301} and \u{e9}",
        "🚢 𝕏 \u{10ffff} 👩‍👩‍👧",
        "مرحبا שלום 日本",
        long.as_str(),
    ] {
        values.push(("words", text(words)));
    }
    let past_53_bits = 9_007_199_254_740_993;
    for number in [i64::MIN, i64::MIN + 1, -past_53_bits, -1, 0, 1, i64::from(i32::MAX) + 1, past_53_bits, i64::MAX] {
        values.push(("number", Value::Integer(number)));
    }
    for ratio in
        [0.0, 0.1, -3.0, 1.0 / 3.0, 5e-324, f64::MIN_POSITIVE, 1e21, 1e300, f64::MAX, f64::MIN, 9_007_199_254_740_992.0]
    {
        values.push(("ratio", Value::Float(ratio)));
    }
    for done in [false, true] {
        values.push(("done", Value::Boolean(done)));
    }
    for body in [Vec::new(), vec![0], (0..=255).collect(), vec![0xff; 10_000]] {
        values.push(("body", Value::Bytes(body)));
    }
    for at in [
        "2026-01-31T08:15:00Z",
        "2026-01-31T08:15:00.1Z",
        "2026-01-31T08:15:00.123Z",
        "2026-01-31T08:15:00.123987654Z",
        "2026-01-31T10:15:00.5+02:00",
        "2026-01-30T22:45:00.5-09:30",
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "1969-12-31T23:59:59.9999Z",
        "1582-10-10T12:00:00Z",
        "0001-01-01T00:00:00Z",
        "2024-02-29T23:59:59.999Z",
        "9999-12-31T23:59:59.999Z",
    ] {
        values.push(("at", time(at)));
    }
    for document in [
        "null",
        "true",
        "0",
        "-1",
        "5.5",
        "9223372036854775807",
        "-9223372036854775808",
        "9007199254740993",
        "0.1",
        "\"\"",
        "\"5\"",
        "\"\\\"\\\\\\n\\u00e9 🚢\"",
        "[]",
        "{}",
        "[null,[],{},[[[1]]],\"x\",1.5,false]",
        "{\"b\":{\"c\":[1,{\"d\":null}],\"n\":9007199254740993},\"a\":\"ü\",\"\":0,\"with space\":\"🚢\"}",
        "{ \"spaced\" : [ 1 , 2 ] }",
    ] {
        values.push(("document", json(document)));
    }
    values
}

/// What has no place in one of the databases, and so in neither.
fn refused() -> Vec<(&'static str, Value)> {
    vec![
        ("words", text("nul\0")),
        ("words", Value::Bytes(vec![1])),
        ("number", text("five")),
        ("number", Value::Float(1.5)),
        ("number", Value::Float(1e30)),
        ("ratio", Value::Float(f64::NAN)),
        ("ratio", Value::Float(f64::INFINITY)),
        ("ratio", text("x")),
        ("done", Value::Integer(2)),
        ("body", text("text")),
        ("at", time("yesterday")),
        ("at", time("2026-02-30T00:00:00Z")),
        ("at", Value::Integer(5)),
        ("document", json("{broken")),
        ("document", json("1 2")),
        ("document", json("\"\\u0000\"")),
    ]
}

/// What one database answers to everything.
#[derive(Debug, PartialEq)]
struct Answers {
    /// Each row as values, by the column's own type.
    rows: Vec<String>,
    /// Each row as the host writes it as JSON, byte for byte but for a document's white space and the order of its members.
    json: Vec<String>,
    /// How many rows are found again by the very value.
    found: Vec<i64>,
    refusals: Vec<String>,
    order: String,
}

/// A value as text in which nothing that differs looks the same.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(number) => format!("float {:016x}", number.to_bits()),
        // PostgreSQL keeps neither white space nor the order of members.
        Value::Json(document) => format!("json {}", canonical(document)),
        other => format!("{other:?}"),
    }
}

/// A document with its members in order. Numbers stay as they are written.
fn canonical(document: &str) -> String {
    fn sorted(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(members) => {
                let mut members: Vec<_> = members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
                members.sort_by(|left, right| left.0.cmp(&right.0));
                members.into_iter().collect()
            }
            serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    sorted(serde_json::from_str(document).unwrap()).to_string()
}

async fn answers(database: &Database) -> Answers {
    let mut guest = Fixture::new(database).await;
    database.migrate("kept", &[Migration::both("0001_kept", TABLE)]).await.unwrap();
    let values = values();
    for (id, (column, value)) in (0_i64..).zip(&values) {
        let sql = format!("INSERT INTO plan_kept (id, {column}) VALUES ($1, $2)");
        let outcome = guest.execute(&sql, vec![Value::Integer(id), value.clone()]).await;
        assert_eq!(outcome.unwrap(), 1, "{column} {value:?} {:?}", database.dialect());
    }
    let mut found = Vec::new();
    for (column, value) in &values {
        // A document is not compared as a whole, and NULL is found by no value.
        let condition = match value {
            Value::Null | Value::Json(_) => continue,
            _ => format!("SELECT COUNT(*) FROM plan_kept WHERE {column} = $1"),
        };
        match guest.row(&condition, vec![value.clone()]).await.as_slice() {
            [Value::Integer(count)] => found.push(*count),
            other => panic!("{other:?}"),
        }
    }
    let all = format!("SELECT id, {} FROM plan_kept ORDER BY id", COLUMNS.join(", "));
    let rows = Host::query(&mut guest.view(), all.clone(), vec![]).await.unwrap().unwrap().rows;
    let rows = rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join(" | ")).collect();
    let bytes = Host::query_json(&mut guest.view(), all, vec![]).await.unwrap().unwrap();
    let lines: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&bytes).unwrap();
    let json = lines.iter().map(|line| canonical(line.get())).collect();
    let mut refusals = Vec::new();
    for (column, value) in refused() {
        let sql = format!("INSERT INTO plan_kept (id, {column}) VALUES (-1, $1)");
        let kind = match guest.execute(&sql, vec![value.clone()]).await {
            Err(Fault::Invalid(_)) => "invalid".to_owned(),
            other => format!("{other:?}"),
        };
        refusals.push(format!("{column} {value:?}: {kind}"));
    }
    // How values follow each other is part of what a guest sees: it pages by it.
    let mut order = String::new();
    for column in COLUMNS.iter().filter(|column| **column != "document") {
        let sql = format!("SELECT id FROM plan_kept WHERE {column} IS NOT NULL ORDER BY {column} DESC, id");
        order.push_str(&guest.json(&sql, vec![]).await.to_string());
    }
    Answers { rows, json, found, refusals, order }
}

#[tokio::test]
async fn what_is_written_comes_back_identical_from_both() {
    let all: Arc<Mutex<Vec<Answers>>> = Arc::default();
    let seen = Arc::clone(&all);
    on_every_database(move |database| {
        let seen = Arc::clone(&seen);
        async move {
            let answers = answers(&database).await;
            seen.lock().push(answers);
        }
    })
    .await;
    let all = all.lock();
    for answers in all.iter() {
        assert!(answers.found.iter().all(|count| *count >= 1), "{:?}", answers.found);
        assert!(answers.refusals.iter().all(|refusal| refusal.ends_with(": invalid")), "{:#?}", answers.refusals);
        for (index, (column, value)) in values().iter().enumerate() {
            let row = &answers.rows[index];
            match value {
                // Cut to milliseconds, in UTC.
                Value::Timestamp(_) => assert!(row.contains("Timestamp(\"") && row.contains("Z\")"), "{row}"),
                value => assert!(row.contains(&shown(value)), "{column} {value:?} came back as {row}"),
            }
        }
        let of = |text: &str| answers.json.iter().filter(|line| line.contains(text)).count();
        // Numbers beyond 53 bits are whole in JSON too.
        assert!(of("9007199254740993") == 4 && of("9223372036854775807") == 3 && of("-9223372036854775808") == 2);
        assert_eq!(of("\"at\":\"1969-12-31T23:59:59.999Z\""), 2);
        assert_eq!(of("\"at\":\"2026-01-31T08:15:00.500Z\""), 2);
    }
    if let [one, other] = all.as_slice() {
        assert_eq!(one.rows, other.rows);
        assert_eq!(one.json, other.json);
        assert_eq!(one, other);
    }
}
