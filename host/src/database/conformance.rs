//! One suite over both databases: SQLite always, PostgreSQL when `BERTH_TEST_POSTGRES_URL` names a server.

mod migrations;
mod search;
pub(super) mod vectors;

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub(crate) use super::statement::ALLOWED;
use super::{Database, DatabaseError, DatabaseOptions, Migration, QueryLimits, Value, values};

/// How often a test tries to remove its schema; each try waits for locks.
const DROP_ATTEMPTS_MAX: u32 = 10;

/// Runs a case over every database there is, each time on fresh tables.
pub(crate) async fn on_every_database<F, Fut>(case: F)
where
    F: Fn(Database) -> Fut,
    Fut: Future<Output = ()>,
{
    case(Database::open_in_memory().await).await;
    if let Some(schema) = Schema::create(DatabaseOptions::default()).await {
        case(schema.database.clone()).await;
        schema.drop().await;
    }
}

/// A schema of one test's own in the PostgreSQL server.
pub(super) struct Schema {
    pub(super) database: Database,
    admin: Database,
    name: String,
    url: String,
}

impl Schema {
    pub(super) async fn create(options: DatabaseOptions) -> Option<Self> {
        let url = std::env::var("BERTH_TEST_POSTGRES_URL").ok()?;
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let admin = Database::open(&url, DatabaseOptions { connections_max: 1, ..options.clone() }).await.unwrap();
        admin.execute(&format!("CREATE SCHEMA {name}"), &[]).await.unwrap();
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}options=-c%20search_path%3D{name}");
        let database = Database::open(&url, options).await.unwrap();
        Some(Self { database, admin, name, url })
    }

    /// As another host would.
    pub(super) async fn open_again(&self) -> Database {
        Database::open(&self.url, DatabaseOptions::default()).await.unwrap()
    }

    pub(super) async fn drop(self) {
        drop(self.database);
        // The server notices an abandoned statement only after a while, and until then it holds its locks. A schema that
        // is still in use then goes with the database of the tests.
        for _ in 0..DROP_ATTEMPTS_MAX {
            match self.admin.execute(&format!("DROP SCHEMA {} CASCADE", self.name), &[]).await {
                Err(DatabaseError::Busy) => {}
                outcome => {
                    outcome.unwrap();
                    return;
                }
            }
        }
    }
}

const TABLES: &str = "
    CREATE TABLE plan_values (
        id TEXT PRIMARY KEY,
        words TEXT,
        number BIGINT,
        ratio DOUBLE PRECISION,
        done BOOLEAN,
        body BYTEA,
        at TIMESTAMPTZ,
        document JSONB,
        UNIQUE (words)
    );
    CREATE TABLE plan_children (
        id TEXT PRIMARY KEY,
        parent_id TEXT NOT NULL REFERENCES plan_values (id)
    );";

const INSERT: &str = "INSERT INTO plan_values (id, words, number, ratio, done, body, at, document) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

async fn with_tables(database: &Database) {
    let migrations = [Migration::both("0001_values", TABLES)];
    assert_eq!(database.migrate("test", &migrations).await.unwrap(), ["0001_values"]);
}

fn time(text: &str) -> DateTime<Utc> {
    super::parse_timestamp(text).unwrap()
}

async fn one_value(database: &Database, column: &str, value: Value) -> Value {
    let id = uuid::Uuid::now_v7().to_string();
    let sql = format!("INSERT INTO plan_values (id, {column}) VALUES ($1, $2)");
    database.execute(&sql, &values![id.as_str(), value]).await.unwrap();
    let row =
        database.query_one(&format!("SELECT {column} FROM plan_values WHERE id = $1"), &values![id]).await.unwrap();
    row.unwrap().value(column).unwrap().clone()
}

#[tokio::test]
async fn every_value_comes_back_as_it_was_bound() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        for (column, value) in [
            ("words", Value::Text("5".into())),
            ("words", Value::Text("5.0".into())),
            ("words", Value::Text("0123".into())),
            ("words", Value::Text(String::new())),
            ("words", Value::Text("it's \"quoted\" $1 ü 🚢 \n".into())),
            ("words", Value::Text("2026-01-31T08:15:00.000Z".into())),
            ("words", Value::Null),
            ("number", Value::Integer(i64::MAX)),
            ("number", Value::Integer(i64::MIN)),
            ("number", Value::Integer(9_007_199_254_740_993)),
            ("number", Value::Null),
            ("ratio", Value::Float(0.1)),
            ("ratio", Value::Float(-3.0)),
            ("ratio", Value::Float(1e300)),
            ("ratio", Value::Null),
            ("done", Value::Boolean(true)),
            ("done", Value::Boolean(false)),
            ("done", Value::Null),
            ("body", Value::Bytes(vec![0, 255, 1, b'a'])),
            ("body", Value::Bytes(Vec::new())),
            ("body", Value::Null),
            ("at", Value::Timestamp(time("2026-01-31T08:15:00.123Z"))),
            ("at", Value::Timestamp(time("1969-12-31T23:59:59.999Z"))),
            ("at", Value::Timestamp(time("9999-12-31T23:59:59.999Z"))),
            ("at", Value::Null),
            ("document", Value::Json("5".into())),
            ("document", Value::Json("5.5".into())),
            ("document", Value::Json("\"5\"".into())),
            ("document", Value::Json("null".into())),
            ("document", Value::Json("true".into())),
            ("document", Value::Json("[]".into())),
            ("document", Value::Json("9223372036854775807".into())),
            ("document", Value::Null),
        ] {
            assert_eq!(one_value(&database, column, value.clone()).await, value, "{column} {:?}", database.dialect());
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_column_cannot_keep_is_refused_by_both() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        for (column, value) in [
            ("number", Value::Text("five".into())),
            ("number", Value::Float(1.5)),
            ("done", Value::Integer(2)),
            ("done", Value::Text("maybe".into())),
            ("body", Value::Text("text".into())),
            ("at", Value::Text("yesterday".into())),
            ("at", Value::Integer(5)),
            ("document", Value::Text("{broken".into())),
            ("words", Value::Bytes(vec![1])),
            ("ratio", Value::Text("x".into())),
            ("ratio", Value::Float(f64::NAN)),
            ("words", Value::Text("nul\0".into())),
        ] {
            let sql = format!("INSERT INTO plan_values (id, {column}) VALUES ($1, $2)");
            let outcome = database.execute(&sql, &values!["x", value.clone()]).await;
            assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{column} {value:?} {outcome:?}");
        }
        assert!(database.query("SELECT id FROM plan_values", &[]).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_value_takes_the_type_of_its_column() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        for (column, given, kept) in [
            ("ratio", Value::Integer(3), Value::Float(3.0)),
            ("number", Value::Text("5".into()), Value::Integer(5)),
            ("number", Value::Float(5.0), Value::Integer(5)),
            ("words", Value::Integer(5), Value::Text("5".into())),
            ("document", Value::Text("{\"a\":1}".into()), Value::Json("{\"a\":1}".into())),
            ("document", Value::Integer(5), Value::Json("5".into())),
            ("at", Value::Text("2026-01-31T08:15:00.000Z".into()), Value::Timestamp(time("2026-01-31T08:15:00.000Z"))),
        ] {
            let found = one_value(&database, column, given.clone()).await;
            match (&found, &kept) {
                (Value::Json(found), Value::Json(kept)) => assert_eq!(
                    serde_json::from_str::<serde_json::Value>(found).unwrap(),
                    serde_json::from_str::<serde_json::Value>(kept).unwrap()
                ),
                _ => assert_eq!(found, kept, "{column} {given:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn parameters_bind_by_number() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        let sql = "SELECT CAST($2 AS TEXT) AS a, CAST($1 AS TEXT) AS b, CAST($2 AS TEXT) AS c";
        let row = database.query_one(sql, &values!["one", "two"]).await.unwrap().unwrap();
        assert_eq!(
            [row.text("a").unwrap(), row.text("b").unwrap(), row.text("c").unwrap()],
            ["two", "one", "two"].map(str::to_owned)
        );
        for parameters in [values!["one"], values!["one", "two", "three"]] {
            assert!(matches!(database.query(sql, &parameters).await, Err(DatabaseError::Invalid(_))));
        }
        assert!(matches!(row.text("d"), Err(DatabaseError::Invalid(_))));
        assert!(matches!(row.integer("a"), Err(DatabaseError::Invalid(_))));
    })
    .await;
}

async fn insert_sample(database: &Database) {
    let document = serde_json::json!({"b": [1, {"c": null}], "a": "ü"});
    let parameters = values![
        "one",
        "5",
        9_007_199_254_740_993_i64,
        0.5,
        true,
        vec![0_u8, 255],
        time("2026-01-31T08:15:00Z"),
        document
    ];
    assert_eq!(database.execute(INSERT, &parameters).await.unwrap(), 1);
}

#[tokio::test]
async fn rows_become_json_in_the_host() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        assert_eq!(database.query_json("SELECT id FROM plan_values", &[]).await.unwrap(), b"[]");
        insert_sample(&database).await;
        database.execute("INSERT INTO plan_values (id) VALUES ($1)", &values!["two"]).await.unwrap();
        let sql = "SELECT id, words, number, ratio, done, body, at, document FROM plan_values ORDER BY id";
        let text = String::from_utf8(database.query_json(sql, &[]).await.unwrap()).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!([
            {"id": "one", "words": "5", "number": 9_007_199_254_740_993_i64, "ratio": 0.5, "done": true, "body": "AP8=",
             "at": "2026-01-31T08:15:00.000Z", "document": {"b": [1, {"c": null}], "a": "ü"}},
            {"id": "two", "words": null, "number": null, "ratio": null, "done": null, "body": null, "at": null,
             "document": null},
        ]);
        assert_eq!(parsed, expected);
        let order: Vec<usize> =
            ["\"id\"", "\"words\"", "\"number\"", "\"document\""].iter().map(|name| text.find(name).unwrap()).collect();
        assert!(order.is_sorted(), "{text}");
    })
    .await;
}

#[tokio::test]
async fn expressions_answer_the_same_kinds() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        insert_sample(&database).await;
        let sql = "SELECT COUNT(*) AS n, SUM(number) AS total, AVG(ratio) AS mean, MAX(at) AS latest, MIN(words) AS words \
                   FROM plan_values";
        let row = database.query_one(sql, &[]).await.unwrap().unwrap();
        assert_eq!(row.integer("n").unwrap(), 1);
        assert_eq!(row.integer("total").unwrap(), 9_007_199_254_740_993);
        assert!((row.float("mean").unwrap() - 0.5).abs() < f64::EPSILON);
        assert_eq!(*row.value("latest").unwrap(), Value::Timestamp(time("2026-01-31T08:15:00Z")));
        assert_eq!(row.text("words").unwrap(), "5");
        let sql = "SELECT id FROM plan_values WHERE document ->> 'a' = $1 AND words LIKE $2";
        assert_eq!(database.query(sql, &values!["ü", "5%"]).await.unwrap().len(), 1);
        let sql = "SELECT id FROM plan_values WHERE id LIKE 'ONE'";
        assert!(database.query(sql, &[]).await.unwrap().is_empty(), "LIKE tells upper from lower case");
        let sql = "SELECT SUM(number) AS total FROM plan_values HAVING SUM(number) > $1";
        assert_eq!(database.query(sql, &values![12_345_678_i64]).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_conflict_names_the_key_and_not_the_value() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        insert_sample(&database).await;
        let insert = "INSERT INTO plan_values (id, words) VALUES ($1, $2)";
        for parameters in [values!["one", "fresh-secret"], values!["fresh-secret", "5"]] {
            match database.execute(insert, &parameters).await {
                Err(DatabaseError::Conflict(name)) => {
                    assert!(name.contains("plan_values") && !name.contains("secret"), "{name}");
                }
                other => panic!("{other:?}"),
            }
        }
        let child = "INSERT INTO plan_children (id, parent_id) VALUES ($1, $2)";
        let outcome = database.execute(child, &values!["c", "nobody"]).await;
        assert!(matches!(outcome, Err(DatabaseError::Conflict(_))), "{outcome:?}");
        let outcome = database.execute(child, &values!["c", None::<String>]).await;
        assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{outcome:?}");
        let outcome = database.execute("INSERT INTO plan_nothing (id) VALUES ($1)", &values!["c"]).await;
        assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{outcome:?}");
        let outcome = database.query("SELEC 1", &[]).await;
        assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{outcome:?}");
    })
    .await;
}

async fn count(database: &Database) -> i64 {
    let row = database.query_one("SELECT COUNT(*) AS n FROM plan_values", &[]).await.unwrap();
    row.unwrap().integer("n").unwrap()
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        let insert = "INSERT INTO plan_values (id) VALUES ($1)";
        {
            let mut transaction = database.begin().await.unwrap();
            transaction.execute(insert, &values!["dropped"]).await.unwrap();
            assert_eq!(transaction.query("SELECT id FROM plan_values", &[]).await.unwrap().len(), 1);
            assert_eq!(count(&database).await, 0, "not visible outside");
        }
        let mut transaction = database.begin().await.unwrap();
        transaction.execute(insert, &values!["rolled back"]).await.unwrap();
        transaction.rollback().await.unwrap();
        let mut transaction = database.begin().await.unwrap();
        transaction.execute(insert, &values!["kept"]).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(count(&database).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_failed_transaction_cannot_be_committed() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        let insert = "INSERT INTO plan_values (id) VALUES ($1)";
        let mut transaction = database.begin().await.unwrap();
        transaction.execute(insert, &values!["a"]).await.unwrap();
        assert!(matches!(transaction.execute(insert, &values!["a"]).await, Err(DatabaseError::Conflict(_))));
        assert!(matches!(transaction.execute(insert, &values!["b"]).await, Err(DatabaseError::Invalid(_))));
        assert!(transaction.commit().await.is_err());
        assert_eq!(count(&database).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_abandoned_in_the_middle_of_a_statement_is_rolled_back() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        let mut transaction = database.begin().await.unwrap();
        transaction.execute("INSERT INTO plan_values (id) VALUES ($1)", &values!["a"]).await.unwrap();
        let slow = async move { transaction.query(ENDLESS, &[]).await.map(|_| ()) };
        assert!(tokio::time::timeout(Duration::from_millis(100), slow).await.is_err());
        // The writer is free again, and nothing is left.
        database.execute("INSERT INTO plan_values (id) VALUES ($1)", &values!["b"]).await.unwrap();
        assert_eq!(count(&database).await, 1);
    })
    .await;
}

/// Never ends and answers nothing.
const ENDLESS: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 - 1 FROM n) SELECT COUNT(*) AS n FROM n";

#[tokio::test]
async fn an_endless_statement_is_stopped_and_the_connection_is_free_again() {
    let options =
        DatabaseOptions { statement_timeout: Duration::from_millis(300), readers_max: 1, ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let sqlite = Database::open(&url, options.clone()).await.unwrap();
    let schema = Schema::create(DatabaseOptions { connections_max: 1, ..options }).await;
    for database in [Some(&sqlite), schema.as_ref().map(|schema| &schema.database)].into_iter().flatten() {
        let limits = QueryLimits { timeout: Duration::from_millis(300), ..Default::default() };
        let outcome = database.query_within(super::Scope::default(), ENDLESS, &[], limits).await;
        assert!(matches!(outcome, Err(DatabaseError::Timeout)), "{outcome:?}");
        database.ping().await.unwrap();
        let mut transaction = database.begin().await.unwrap();
        let outcome = transaction.query_within(ENDLESS, &[], limits).await;
        assert!(matches!(outcome, Err(DatabaseError::Timeout)), "{outcome:?}");
        assert!(transaction.commit().await.is_err());
        database.ping().await.unwrap();
    }
    if let Some(schema) = schema {
        schema.drop().await;
    }
}

#[tokio::test]
async fn an_answer_over_the_caps_is_refused_and_changes_nothing() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) ";
        let outcome = database.query(&format!("{numbers} SELECT i FROM n"), &[]).await;
        assert!(matches!(outcome, Err(DatabaseError::TooLarge(_))), "{:?}", outcome.map(|rows| rows.len()));
        let limits = QueryLimits { bytes_max: 1000, ..Default::default() };
        let sql = format!("{numbers} SELECT i FROM n WHERE i <= 200");
        let scope = super::Scope::default();
        assert!(matches!(database.query_within(scope, &sql, &[], limits).await, Err(DatabaseError::TooLarge(_))));
        assert!(matches!(database.query_json_within(scope, &sql, &[], limits).await, Err(DatabaseError::TooLarge(_))));
        assert_eq!(database.query(&sql, &[]).await.unwrap().len(), 200);
        let limits = QueryLimits { rows_max: 1, ..Default::default() };
        let sql = "INSERT INTO plan_values (id) VALUES ('a'), ('b') RETURNING id";
        assert!(matches!(database.query_within(scope, sql, &[], limits).await, Err(DatabaseError::TooLarge(_))));
        assert_eq!(count(&database).await, 0);
        assert_eq!(database.query(sql, &[]).await.unwrap().len(), 2);
        assert_eq!(count(&database).await, 2);
    })
    .await;
}

#[tokio::test]
async fn waiting_for_the_writer_is_bounded() {
    let options = DatabaseOptions { waiting_max: 1, wait_max: Duration::from_millis(100), ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let database = Database::open(&url, options).await.unwrap();
    with_tables(&database).await;
    let transaction = database.begin().await.unwrap();
    let write = || database.execute("INSERT INTO plan_values (id) VALUES ('x')", &[]);
    let (first, second) = futures_util::future::join(write(), write()).await;
    assert!(matches!((first, second), (Err(DatabaseError::Busy), Err(DatabaseError::Busy))));
    assert_eq!(count(&database).await, 0, "readers do not wait for the writer");
    transaction.rollback().await.unwrap();
    assert_eq!(write().await.unwrap(), 1);
}

#[tokio::test]
async fn a_file_locked_by_another_process_is_busy() {
    let options = DatabaseOptions { lock_timeout: Duration::from_millis(50), ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("berth.db").display());
    let database = Database::open(&url, options.clone()).await.unwrap();
    with_tables(&database).await;
    let other = Database::open(&url, options).await.unwrap();
    let transaction = other.begin().await.unwrap();
    let insert = "INSERT INTO plan_values (id) VALUES ('x')";
    assert!(matches!(database.execute(insert, &[]).await, Err(DatabaseError::Busy)));
    assert!(matches!(database.begin().await, Err(DatabaseError::Busy)));
    transaction.rollback().await.unwrap();
    assert_eq!(database.execute(insert, &[]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_loses_nothing_acknowledged() {
    let database = Database::open_in_memory().await;
    with_tables(&database).await;
    let insert = "INSERT INTO plan_values (id, body) VALUES ($1, $2)";
    database.execute(insert, &values!["kept", vec![1_u8]]).await.unwrap();
    let pages = database.query_one("PRAGMA page_count", &[]).await.unwrap().unwrap().integer("page_count").unwrap();
    database.query(&format!("PRAGMA max_page_count = {}", pages + 4), &[]).await.unwrap();
    let outcome = database.execute(insert, &values!["large", vec![0_u8; 1 << 20]]).await;
    assert!(matches!(outcome, Err(DatabaseError::Unavailable)), "{outcome:?}");
    let mut transaction = database.begin().await.unwrap();
    transaction.execute(insert, &values!["small", vec![1_u8]]).await.unwrap();
    let outcome = transaction.execute(insert, &values!["large", vec![0_u8; 1 << 20]]).await;
    assert!(matches!(outcome, Err(DatabaseError::Unavailable)), "{outcome:?}");
    assert!(transaction.commit().await.is_err());
    assert_eq!(count(&database).await, 1);
    database.query("PRAGMA max_page_count = 1000000", &[]).await.unwrap();
    database.execute(insert, &values!["large", vec![0_u8; 1 << 20]]).await.unwrap();
    assert_eq!(count(&database).await, 2);
}

#[tokio::test]
async fn the_file_is_private_and_strange_files_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("berth.db");
    let url = format!("sqlite:{}", path.display());
    let database = Database::open(&url, DatabaseOptions::default()).await.unwrap();
    with_tables(&database).await;
    for name in ["berth.db", "berth.db-wal", "berth.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(database);
    let strange = folder.path().join("strange.db");
    std::fs::write(&strange, b"this is a text and no database, however long it is".repeat(100)).unwrap();
    let outcome = Database::open(&format!("sqlite:{}", strange.display()), DatabaseOptions::default()).await;
    assert!(matches!(outcome.map(|_| ()), Err(DatabaseError::Unavailable)));
    let outcome = Database::open("sqlite:/nowhere/at/all.db", DatabaseOptions::default()).await;
    assert!(matches!(outcome.map(|_| ()), Err(DatabaseError::Unavailable)));
    let outcome = Database::open("mysql://x", DatabaseOptions::default()).await;
    assert!(matches!(outcome.map(|_| ()), Err(DatabaseError::Invalid(_))));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused_with_its_address() {
    let options = DatabaseOptions { wait_max: Duration::from_millis(300), ..Default::default() };
    let outcome = Database::open("postgres://nobody@127.0.0.1:1/none", options).await.map(|_| ());
    let Err(DatabaseError::Invalid(sentence)) = outcome else { panic!("{outcome:?}") };
    assert!(sentence.starts_with("127.0.0.1:1 takes no connection"), "{sentence}");
}

#[tokio::test]
async fn a_dead_connection_is_replaced_for_reads_and_transactions() {
    let Some(schema) = Schema::create(DatabaseOptions { connections_max: 3, ..Default::default() }).await else {
        return;
    };
    with_tables(&schema.database).await;
    let kill = "SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity \
                WHERE application_name = 'berth' AND pid <> pg_backend_pid() AND query NOT LIKE '%pg_terminate%' \
                AND pid = $1";
    for round in 0..2 {
        let pid = schema.database.query_one("SELECT pg_backend_pid() AS pid", &[]).await.unwrap().unwrap();
        schema.admin.query(kill, &values![pid.integer("pid").unwrap()]).await.unwrap();
        if round == 0 {
            assert_eq!(count(&schema.database).await, 0);
        } else {
            let transaction = schema.database.begin().await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
    schema.drop().await;
}

#[tokio::test]
async fn two_writers_in_postgres_meet_in_a_conflict_and_not_in_a_deadlock() {
    let Some(schema) = Schema::create(DatabaseOptions::default()).await else { return };
    with_tables(&schema.database).await;
    schema.database.execute("INSERT INTO plan_values (id) VALUES ('a'), ('b')", &[]).await.unwrap();
    let mut first = schema.database.begin().await.unwrap();
    let mut second = schema.database.begin().await.unwrap();
    let update = "UPDATE plan_values SET number = 1 WHERE id = $1";
    first.execute(update, &values!["a"]).await.unwrap();
    second.execute(update, &values!["b"]).await.unwrap();
    let (b, a) = (values!["b"], values!["a"]);
    let (left, right) = futures_util::future::join(first.execute(update, &b), second.execute(update, &a)).await;
    let conflicts =
        [left, right].into_iter().filter(|outcome| matches!(outcome, Err(DatabaseError::Conflict(_)))).count();
    assert_eq!(conflicts, 1);
    drop((first, second));
    schema.drop().await;
}

#[tokio::test]
async fn reads_go_on_while_the_schema_changes() {
    on_every_database(|database| async move {
        with_tables(&database).await;
        insert_sample(&database).await;
        let reader = database.clone();
        let reads = tokio::spawn(async move {
            for _ in 0..300 {
                let rows = reader.query("SELECT * FROM plan_values", &[]).await.unwrap();
                assert_eq!(rows.len(), 1);
            }
        });
        for number in 0..5 {
            let sql = format!("ALTER TABLE plan_values ADD COLUMN more_{number} TEXT");
            let migration = Migration { name: format!("{number}").into(), dialect: None, sql: sql.into() };
            database.migrate("more", &[migration]).await.unwrap();
        }
        reads.await.unwrap();
    })
    .await;
}
