//! The second wall on a real server, where `BERTH_TEST_POSTGRES_URL` names one: statements that no check has seen.

use crate::database::conformance::Schema;
use crate::database::{Database, DatabaseError, DatabaseOptions, Migration, QueryLimits, Scope, values};

const NOTES: &str = "
    CREATE TABLE note_notes (id TEXT PRIMARY KEY, organization_id TEXT, title TEXT NOT NULL);
    CREATE TABLE note_words (id TEXT PRIMARY KEY, organization_id TEXT, title TEXT NOT NULL);
    CREATE TEXT INDEX note_words_text ON note_words (title);";
const OTHERS: &str = "CREATE TABLE other_rows (id TEXT PRIMARY KEY, organization_id TEXT);";

/// One connection, so that what one caller leaves behind in its session would be seen by the next.
async fn walled() -> Option<Schema> {
    let schema = Schema::create(DatabaseOptions { connections_max: 1, ..DatabaseOptions::default() }).await?;
    let database = &schema.database;
    for (plugin, prefix, sql) in [("wall-notes", "note_", NOTES), ("wall-others", "other_", OTHERS)] {
        let migration = Migration { name: "0001".into(), dialect: None, sql: sql.into() };
        database.migrate_plugin(plugin, &[prefix.to_owned()], &[migration]).await.unwrap();
    }
    for table in ["note_notes", "note_words"] {
        let sql = format!("INSERT INTO {table} VALUES ('a', 'o1', 'one'), ('b', 'o2', 'two'), ('c', NULL, 'all')");
        database.execute(&sql, &[]).await.unwrap();
    }
    Some(schema)
}

fn notes(organization: Option<&str>) -> Scope<'_> {
    Scope { plugin: Some("wall-notes"), organization }
}

async fn ids(database: &Database, scope: Scope<'_>, table: &str) -> Result<Vec<String>, DatabaseError> {
    let sql = format!("SELECT id FROM {table} ORDER BY id");
    let rows = database.query_within(scope, &sql, &[], QueryLimits::default()).await?;
    Ok(rows.iter().map(|row| row.text("id").unwrap()).collect())
}

async fn change(database: &Database, scope: Scope<'_>, sql: &str) -> Result<u64, DatabaseError> {
    let mut transaction = database.begin_within(scope).await?;
    let changed = transaction.execute(sql, &[]).await?;
    transaction.commit().await?;
    Ok(changed)
}

#[tokio::test]
async fn a_plugin_reaches_no_table_but_its_own() {
    let Some(schema) = walled().await else { return };
    let database = &schema.database;
    for table in ["other_rows", "berth_migrations"] {
        let read = ids(database, notes(None), &table.replace("berth_migrations", "berth_migrations AS x (id)")).await;
        assert!(matches!(read, Err(DatabaseError::Invalid(_))), "{table}: {read:?}");
        let emptied = change(database, notes(None), &format!("DELETE FROM {table}")).await;
        assert!(matches!(emptied, Err(DatabaseError::Invalid(_))), "{table}: {emptied:?}");
    }
    let made = change(database, notes(None), "DROP TABLE note_notes").await;
    assert!(matches!(made, Err(DatabaseError::Invalid(_))), "{made:?}");
    // And the host, on the same connection, is the host again.
    assert_eq!(ids(database, Scope::default(), "other_rows").await.unwrap(), Vec::<String>::new());
    schema.drop().await;
}

#[tokio::test]
async fn a_caller_sees_the_rows_of_its_organization_and_of_none() {
    let Some(schema) = walled().await else { return };
    let database = &schema.database;
    assert_eq!(ids(database, notes(Some("o1")), "note_notes").await.unwrap(), ["a", "c"]);
    assert_eq!(ids(database, notes(Some("o'2")), "note_notes").await.unwrap(), ["c"]);
    assert_eq!(ids(database, notes(None), "note_notes").await.unwrap(), ["a", "b", "c"]);
    assert_eq!(change(database, notes(Some("o1")), "UPDATE note_notes SET title = 'x'").await.unwrap(), 2);
    assert_eq!(change(database, notes(Some("o1")), "DELETE FROM note_notes WHERE id = 'b'").await.unwrap(), 0);
    let foreign = change(database, notes(Some("o1")), "INSERT INTO note_notes VALUES ('d', 'o2', 'x')").await;
    assert!(matches!(foreign, Err(DatabaseError::Invalid(_))), "{foreign:?}");
    assert_eq!(change(database, notes(Some("o1")), "INSERT INTO note_notes VALUES ('d', 'o1', 'x')").await.unwrap(), 1);
    assert_eq!(ids(database, Scope::default(), "note_notes").await.unwrap(), ["a", "b", "c", "d"]);
    schema.drop().await;
}

#[tokio::test]
async fn a_rollback_leaves_nobody_standing_for_somebody_else() {
    let Some(schema) = walled().await else { return };
    let database = &schema.database;
    let transaction = database.begin_within(notes(Some("o1"))).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(ids(database, Scope::default(), "note_notes").await.unwrap().len(), 3);
    ids(database, notes(Some("o2")), "note_notes").await.unwrap();
    let mut transaction = database.begin().await.unwrap();
    assert!(transaction.execute("SELECT nothing", &[]).await.is_err());
    drop(transaction);
    assert_eq!(ids(database, notes(Some("o2")), "note_notes").await.unwrap(), ["b", "c"]);
    schema.drop().await;
}

#[tokio::test]
async fn a_table_with_a_text_index_shows_its_plugin_everything_and_walls_what_is_written() {
    let Some(schema) = walled().await else { return };
    let database = &schema.database;
    assert_eq!(ids(database, notes(Some("o1")), "note_words").await.unwrap(), ["a", "b", "c"]);
    assert_eq!(change(database, notes(Some("o1")), "UPDATE note_words SET title = 'x'").await.unwrap(), 2);
    let foreign = change(database, notes(Some("o1")), "INSERT INTO note_words VALUES ('d', 'o2', 'x')").await;
    assert!(matches!(foreign, Err(DatabaseError::Invalid(_))), "{foreign:?}");
    schema.drop().await;
}

#[tokio::test]
async fn what_is_no_longer_granted_is_taken_away_and_what_stands_is_left() {
    let Some(schema) = walled().await else { return };
    let database = &schema.database;
    let grants = "SELECT table_name::text AS name FROM information_schema.role_table_grants \
                  WHERE grantee = 'berth_wall-notes' AND table_schema = current_schema() AND privilege_type = 'DELETE' ORDER BY 1";
    let names = async || {
        let rows = database.query(grants, &values![]).await.unwrap();
        rows.iter().map(|row| row.text("name").unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["note_notes", "note_words"]);
    database.migrate_plugin("wall-notes", &["note_n".to_owned()], &[]).await.unwrap();
    assert_eq!(names().await, ["note_notes"]);
    database.migrate_plugin("wall-notes", &["note_".to_owned()], &[]).await.unwrap();
    assert_eq!(ids(database, notes(Some("o1")), "note_notes").await.unwrap(), ["a", "c"]);
    schema.drop().await;
}
