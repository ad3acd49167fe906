//! What SQLite itself refuses: statements that no check has seen.

use crate::database::{Database, DatabaseError, Migration, QueryLimits, Scope, Statement, values};

const NOTES: &str = "
    CREATE TABLE note_notes (id TEXT PRIMARY KEY, title TEXT NOT NULL);
    CREATE TEXT INDEX note_notes_text ON note_notes (title);";
const OTHERS: &str = "CREATE TABLE other_rows (id TEXT PRIMARY KEY); CREATE TABLE text_rows (id TEXT PRIMARY KEY);";

async fn database() -> Database {
    let database = Database::open_in_memory().await;
    for (plugin, prefixes, sql) in [("notes", vec!["note_"], NOTES), ("others", vec!["other_", "text_"], OTHERS)] {
        let prefixes: Vec<String> = prefixes.into_iter().map(str::to_owned).collect();
        let migration = Migration { name: "0001".into(), dialect: None, sql: sql.into() };
        database.migrate_plugin(plugin, &prefixes, &[migration]).await.unwrap();
    }
    database.execute("INSERT INTO note_notes VALUES ('a', 'one')", &[]).await.unwrap();
    database.execute("INSERT INTO other_rows VALUES ('a')", &[]).await.unwrap();
    database
}

/// Runs the text for a plugin that owns `prefix`, both as a read and in a transaction.
async fn run(database: &Database, prefix: &str, sql: &str) -> Result<usize, DatabaseError> {
    let statement = Statement::unchecked(sql, &[prefix.to_owned()]);
    let read = database.query_checked(Scope::default(), &statement, &[], QueryLimits::default()).await;
    let mut transaction = database.begin().await?;
    let written = transaction.execute_checked(&statement, &[]).await;
    transaction.rollback().await?;
    assert_eq!(read.is_err(), written.is_err(), "{sql}: {read:?}, {written:?}");
    read.map(|rows| rows.len())
}

#[tokio::test]
async fn a_plugin_reaches_no_table_but_its_own() {
    let database = database().await;
    assert_eq!(run(&database, "note_", "SELECT * FROM note_notes").await.unwrap(), 1);
    // The same text, prepared for its owner before.
    assert_eq!(run(&database, "other_", "SELECT * FROM other_rows").await.unwrap(), 1);
    for sql in [
        "SELECT * FROM other_rows",
        "SELECT count(*) FROM other_rows",
        "SELECT 1 FROM note_notes WHERE EXISTS (SELECT 1 FROM other_rows)",
        "WITH cte__x AS (SELECT * FROM other_rows) SELECT count(*) FROM cte__x",
        "INSERT INTO other_rows VALUES ('b')",
        "UPDATE other_rows SET id = 'c'",
        "DELETE FROM other_rows",
        "INSERT INTO note_notes SELECT id, id FROM other_rows",
        "SELECT name FROM sqlite_schema",
        "SELECT * FROM berth_migrations",
        "DROP TABLE note_notes",
        "CREATE TABLE note_more (id TEXT)",
        "PRAGMA user_version",
        "ATTACH 'x' AS y",
    ] {
        let outcome = run(&database, "note_", sql).await;
        assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{sql}: {outcome:?}");
    }
    assert_eq!(database.query("SELECT * FROM other_rows", &[]).await.unwrap().len(), 1, "the host may");
}

#[tokio::test]
async fn what_statements_are_allowed_goes_through() {
    let database = database().await;
    for sql in [
        "INSERT INTO note_notes VALUES ('b', 'two') ON CONFLICT (id) DO UPDATE SET title = excluded.title RETURNING id",
        "UPDATE note_notes SET title = 'three' WHERE id = 'a'",
        "DELETE FROM note_notes WHERE id = 'a'",
        "WITH cte__x AS (SELECT id FROM note_notes) SELECT count(*) FROM cte__x",
        "SELECT value FROM json_each('[1, 2]')",
        "SELECT rowid FROM text__note_notes_text WHERE text__note_notes_text MATCH 'one'",
    ] {
        let outcome = run(&database, "note_", sql).await;
        assert!(outcome.is_ok(), "{sql}: {outcome:?}");
    }
    // Behind the prefix of text indexes stands the table's own, which is what counts.
    let foreign = run(&database, "text_", "SELECT rowid FROM text__note_notes_text").await;
    assert!(matches!(foreign, Err(DatabaseError::Invalid(_))), "{foreign:?}");
}

#[tokio::test]
async fn a_checked_statement_is_the_plugins_own_text() {
    let prefixes = ["note_".to_owned()];
    let database = database().await;
    let statement =
        Statement::check("SELECT title FROM note_notes WHERE id = $1", &prefixes, database.dialect()).unwrap();
    let rows =
        database.query_checked(Scope::default(), &statement, &values!["a"], QueryLimits::default()).await.unwrap();
    assert_eq!(rows.first().unwrap().text("title").unwrap(), "one");
    assert!(statement.sql().contains("note_"), "{}", statement.sql());
}
