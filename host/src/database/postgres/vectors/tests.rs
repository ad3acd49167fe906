//! Vector indexes on a real server, where `BERTH_TEST_POSTGRES_URL` names one that has pgvector: who runs beside notices nothing,
//! and whatever was written is found.

use super::super::super::conformance::Schema;
use super::super::super::conformance::vectors::{INDEX, TABLE, ask, bytes, compares, insert, migrate, product};
use super::super::super::{Database, DatabaseError, DatabaseOptions, Migration, QueryLimits, Scope, Value, values};

const ORDER: &str = "SELECT r.id FROM vec_rows r ORDER BY vector_product(r.vector, $1) DESC, r.id LIMIT 3";
const PIECES: &str = "SELECT COUNT(*) AS count FROM vectors__vec_rows__vector__rows";
const INSERT: &str = "INSERT INTO vec_rows (id, vector) VALUES ($1, $2)";
const UPDATE: &str = "UPDATE vec_rows SET vector = $2 WHERE id = $1 RETURNING *";
const DELETE: &str = "DELETE FROM vec_rows WHERE id = $1";
const ALL: &str = "SELECT * FROM vec_rows WHERE id = $1";

fn migrations() -> [Migration; 2] {
    [Migration::both("0001_rows", TABLE), Migration::both("0002_index", INDEX)]
}

async fn nearest(database: &Database, members: &[f32]) -> Result<Vec<String>, DatabaseError> {
    let rows = ask(database, ORDER, values![Value::Bytes(bytes(members))]).await?;
    Ok(rows.iter().map(|row| row.text("id").unwrap()).collect())
}

/// All that a host of before does, with what it has prepared, in one transaction, where nothing can be prepared anew.
async fn write_as_before(database: &Database, id: &str, members: &[f32]) {
    let mut transaction = database.begin().await.unwrap();
    assert_eq!(transaction.execute(INSERT, &values![id, Value::Bytes(bytes(&[0.0, 0.0]))]).await.unwrap(), 1);
    let changed = transaction.query(UPDATE, &values![id, Value::Bytes(bytes(members))]).await.unwrap();
    assert_eq!(changed.columns(), ["id", "vector"]);
    let all = transaction.query(ALL, &values![id]).await.unwrap();
    assert_eq!(all.first().unwrap().bytes("vector").unwrap(), bytes(members));
    assert_eq!(transaction.execute(DELETE, &values!["nobody"]).await.unwrap(), 0);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn who_runs_beside_goes_on_and_what_it_writes_is_found() {
    let one = DatabaseOptions { connections_max: 1, ..DatabaseOptions::default() };
    let Some(schema) = Schema::create(one).await else { return };
    let before = &schema.database;
    if !compares(before).await {
        return schema.drop().await;
    }
    migrate(before, &migrations()[..1]).await.unwrap();
    // More than are filled at once.
    for number in 0_u8..230 {
        insert(before, &format!("row{number:03}"), &[f32::from(number), 1.0]).await;
    }
    write_as_before(before, "prepared", &[-1.0, 0.0]).await;
    assert!(matches!(nearest(before, &[1.0, 0.0]).await, Err(DatabaseError::Invalid(_))));

    let after = schema.open_again().await;
    migrate(&after, &migrations()).await.unwrap();
    assert_eq!(nearest(&after, &[1.0, 0.0]).await.unwrap(), ["row229", "row228", "row227"], "rows from before");
    write_as_before(before, "beside", &[1000.0, 0.0]).await;
    assert_eq!(nearest(&after, &[1.0, 0.0]).await.unwrap(), ["beside", "row229", "row228"]);
    before.execute(DELETE, &values!["beside"]).await.unwrap();
    before
        .execute(
            "UPDATE vec_rows SET id = 'renamed', vector = $1 WHERE id = 'row000'",
            &values![Value::Bytes(bytes(&[500.0, 0.0]))],
        )
        .await
        .unwrap();
    assert_eq!(nearest(&after, &[1.0, 0.0]).await.unwrap(), ["renamed", "row229", "row228"]);
    let kept = after.query_one(PIECES, &[]).await.unwrap().unwrap().integer("count").unwrap();
    assert_eq!(kept, 231, "a row for each row");
    // Again: nothing is done twice.
    migrate(&after, &migrations()).await.unwrap();
    assert_eq!(nearest(&after, &[1.0, 0.0]).await.unwrap(), ["renamed", "row229", "row228"]);
    drop(after);
    schema.drop().await;
}

#[tokio::test]
async fn a_row_that_the_index_does_not_have_is_compared_as_the_bytes_it_is() {
    let Some(schema) = Schema::create(DatabaseOptions::default()).await else { return };
    let database = &schema.database;
    if compares(database).await {
        migrate(database, &migrations()).await.unwrap();
        insert(database, "here", &[1.5, 2.0]).await;
        insert(database, "away", &[3.0, -2.0]).await;
        database.execute("DELETE FROM vectors__vec_rows__vector__rows WHERE id = 'away'", &[]).await.unwrap();
        assert_eq!(product(database, "away", bytes(&[1.0, 0.5])).await.unwrap(), Some(2.0));
        assert_eq!(nearest(database, &[1.0, 0.0]).await.unwrap(), ["away", "here"]);
    }
    schema.drop().await;
}

#[tokio::test]
async fn products_are_those_of_the_component() {
    let Some(schema) = Schema::create(DatabaseOptions::default()).await else { return };
    let database = &schema.database;
    if compares(database).await {
        migrate(database, &migrations()).await.unwrap();
        let vector = |seed: u32| -> Vec<f32> {
            let member = |place: u32| (seed * 7_919 + place * 104_729) % 2_003;
            (0..384).map(|place| f32::from(u16::try_from(member(place)).unwrap()) / 1_000.0 - 1.0).collect()
        };
        let asked = bytes(&vector(77));
        for seed in 0..40 {
            let (id, members) = (format!("v{seed}"), vector(seed));
            insert(database, &id, &members).await;
            let found = product(database, &id, asked.clone()).await.unwrap().unwrap();
            let expected = f64::from(vector_rules::product(&bytes(&members), &asked).unwrap());
            let size = members.iter().map(|member| f64::from(member * member)).sum::<f64>();
            assert!((found - expected).abs() / size <= 2e-6, "{id}: {found} and {expected}");
        }
    }
    schema.drop().await;
}

#[tokio::test]
async fn an_index_is_its_plugins_alone() {
    let Some(schema) = Schema::create(DatabaseOptions::default()).await else { return };
    let database = &schema.database;
    if compares(database).await {
        migrate(database, &migrations()).await.unwrap();
        let other = Migration::both("0001", "CREATE TABLE vother_rows (id TEXT PRIMARY KEY)");
        database.migrate_plugin("vec-other", &["vother_".to_owned()], &[other]).await.unwrap();
        insert(database, "one", &[1.0, 2.0]).await;
        let read = async |plugin, sql: &str| {
            let scope = Scope { plugin: Some(plugin), organization: Some("o1") };
            database.query_within(scope, sql, &[], QueryLimits::default()).await
        };
        let view = "SELECT vectors__id AS id FROM vectors__vec_rows__vector";
        assert_eq!(read("vec", view).await.unwrap().len(), 1);
        let foreign = read("vec-other", view).await;
        assert!(matches!(foreign, Err(DatabaseError::Invalid(_))), "{foreign:?}");
        let rows = read("vec", PIECES).await;
        assert!(matches!(rows, Err(DatabaseError::Invalid(_))), "{rows:?}");
        let mut transaction = database.begin_within(Scope { plugin: Some("vec"), organization: None }).await.unwrap();
        transaction.execute(INSERT, &values!["two", Value::Bytes(bytes(&[5.0, 5.0]))]).await.unwrap();
        let changed = transaction.execute("DELETE FROM vectors__vec_rows__vector", &[]).await;
        assert!(matches!(changed, Err(DatabaseError::Invalid(_))), "{changed:?}");
        transaction.rollback().await.unwrap();
    }
    schema.drop().await;
}

#[tokio::test]
async fn the_extension_may_come_late_and_go_again() {
    let Some(own) = OwnDatabase::create().await else { return };
    if !compares(&own.admin).await {
        return own.drop().await;
    }
    // Its user may not make the extension.
    let database = own.open_as_nobody().await;
    migrate(&database, &migrations()).await.unwrap();
    insert(&database, "early", &[2.0, 0.0]).await;
    assert!(matches!(nearest(&database, &[1.0, 0.0]).await, Err(DatabaseError::Invalid(_))));
    own.inside.execute("CREATE EXTENSION vector", &[]).await.unwrap();
    migrate(&database, &migrations()).await.unwrap();
    insert(&database, "late", &[3.0, 0.0]).await;
    assert_eq!(nearest(&database, &[1.0, 0.0]).await.unwrap(), ["late", "early"]);

    own.inside.execute("DROP EXTENSION vector CASCADE", &[]).await.unwrap();
    write_as_before(&database, "without", &[4.0, 0.0]).await;
    assert!(matches!(nearest(&database, &[1.0, 0.0]).await, Err(DatabaseError::Invalid(_))));
    migrate(&database, &migrations()).await.unwrap();
    own.inside.execute("CREATE EXTENSION vector", &[]).await.unwrap();
    migrate(&database, &migrations()).await.unwrap();
    assert_eq!(nearest(&database, &[1.0, 0.0]).await.unwrap(), ["without", "late", "early"]);
    drop(database);
    own.drop().await;
}

/// A database of a test's own, where an extension comes and goes without anybody else noticing.
struct OwnDatabase {
    admin: Database,
    /// The administrator in it.
    inside: Database,
    url: String,
    name: String,
}

impl OwnDatabase {
    async fn create() -> Option<Self> {
        let url = std::env::var("BERTH_TEST_POSTGRES_URL").ok()?;
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let one = DatabaseOptions { connections_max: 1, ..DatabaseOptions::default() };
        let admin = Database::open(&url, one.clone()).await.unwrap();
        admin.execute(&format!("CREATE DATABASE {name}"), &[]).await.unwrap();
        admin.execute(&format!("CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{name}'"), &[]).await.unwrap();
        let (before, _) = url.rsplit_once('/').unwrap();
        let url = format!("{before}/{name}");
        let inside = Database::open(&url, one).await.unwrap();
        // The plugin's role may be there already, made by somebody else, who alone can give it away.
        for statement in [
            "DO $$ BEGIN CREATE ROLE berth_vec NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
            "GRANT USAGE ON SCHEMA public TO berth_vec",
            &format!("GRANT berth_vec TO {name}"),
            &format!("GRANT USAGE, CREATE ON SCHEMA public TO {name}"),
        ] {
            inside.execute(statement, &[]).await.unwrap();
        }
        Some(Self { admin, inside, url, name })
    }

    async fn open_as_nobody(&self) -> Database {
        let (_, place) = self.url.rsplit_once('@').unwrap();
        let url = format!("postgres://{name}:{name}@{place}", name = self.name);
        Database::open(&url, DatabaseOptions::default()).await.unwrap()
    }

    async fn drop(self) {
        drop(self.inside);
        self.admin.execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name), &[]).await.unwrap();
        self.admin.execute(&format!("DROP ROLE {}", self.name), &[]).await.unwrap();
    }
}
