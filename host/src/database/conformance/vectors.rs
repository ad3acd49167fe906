//! Vectors: the same bytes come back, and where the database compares them both answer alike.

use super::*;
use crate::database::{Dialect, Rows, Scope, Statement};

pub(in crate::database) const TABLE: &str = "CREATE TABLE vec_rows (id TEXT PRIMARY KEY, vector BYTEA);";
pub(in crate::database) const INDEX: &str = "CREATE VECTOR INDEX ON vec_rows (vector);";
const PREFIXES: [&str; 1] = ["vec_"];

pub(in crate::database) fn bytes(members: &[f32]) -> Vec<u8> {
    members.iter().flat_map(|member| member.to_le_bytes()).collect()
}

pub(in crate::database) async fn migrate(
    database: &Database,
    migrations: &[Migration],
) -> Result<Vec<String>, DatabaseError> {
    database.migrate_plugin("vec", &PREFIXES.map(str::to_owned), migrations).await
}

pub(in crate::database) async fn ask(
    database: &Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Rows, DatabaseError> {
    let statement = Statement::check(sql, &PREFIXES.map(str::to_owned), database.dialect()).unwrap();
    let scope = Scope { plugin: Some("vec"), organization: None };
    database.query_checked(scope, &statement, &parameters, QueryLimits::default()).await
}

pub(in crate::database) async fn insert(database: &Database, id: &str, members: &[f32]) {
    let sql = "INSERT INTO vec_rows (id, vector) VALUES ($1, $2)";
    database.execute(sql, &values![id, Value::Bytes(bytes(members))]).await.unwrap();
}

/// Whether this server has pgvector, which not every one has.
pub(in crate::database) async fn compares(database: &Database) -> bool {
    if database.dialect() == Dialect::Sqlite {
        return true;
    }
    let offered = "SELECT 1 AS one FROM pg_available_extensions WHERE name = 'vector'";
    let is_offered = database.query_one(offered, &[]).await.unwrap().is_some();
    if !is_offered {
        eprintln!("SKIPPED: how PostgreSQL compares vectors is not seen, for want of pgvector");
    }
    is_offered
}

/// The product of a row's vector and another one.
pub(in crate::database) async fn product(
    database: &Database,
    id: &str,
    other: Vec<u8>,
) -> Result<Option<f64>, DatabaseError> {
    let sql = "SELECT vector_product(r.vector, $1) AS product FROM vec_rows r WHERE r.id = $2";
    let rows = ask(database, sql, values![Value::Bytes(other), id]).await?;
    match rows.first().unwrap().value("product")? {
        Value::Null => Ok(None),
        _ => rows.first().unwrap().float("product").map(Some),
    }
}

#[tokio::test]
async fn vectors_are_compared_by_the_database_and_stay_the_bytes_they_are() {
    on_every_database(|database| async move {
        let table = Migration::both("0001_rows", TABLE);
        assert_eq!(migrate(&database, std::slice::from_ref(&table)).await.unwrap(), ["0001_rows"]);
        // Signs, halves, the smallest and the largest there are.
        let odd = [-0.0_f32, 1.0 / 3.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, -2.5];
        insert(&database, "odd", &odd).await;
        insert(&database, "before", &[1.0, 2.0, -3.0]).await;
        assert_eq!(migrate(&database, &[table, Migration::both("0002_index", INDEX)]).await.unwrap(), ["0002_index"]);
        insert(&database, "after", &[0.5, 0.25, 1.0]).await;
        insert(&database, "none", &[0.0, 0.0, 0.0]).await;
        for (id, members) in [("odd", &odd[..]), ("before", &[1.0, 2.0, -3.0]), ("after", &[0.5, 0.25, 1.0])] {
            let rows = ask(&database, "SELECT vector FROM vec_rows WHERE id = $1", values![id]).await.unwrap();
            assert_eq!(rows.first().unwrap().bytes("vector").unwrap(), bytes(members), "{id} {:?}", database.dialect());
        }
        let near = "SELECT r.id, vector_product(r.vector, $1) AS product FROM vec_rows r WHERE r.id <> 'odd' \
                    ORDER BY vector_product(r.vector, $1) DESC, r.id LIMIT 2";
        let found = ask(&database, near, values![Value::Bytes(bytes(&[2.0, 1.0, 0.0]))]).await;
        if !compares(&database).await {
            assert!(matches!(found, Err(DatabaseError::Invalid(_))), "{found:?}");
            return;
        }
        let found = found.unwrap();
        let products: Vec<(String, f64)> =
            found.iter().map(|row| (row.text("id").unwrap(), row.float("product").unwrap())).collect();
        assert_eq!(products, [("before".to_owned(), 4.0), ("after".to_owned(), 1.25)]);
        let unequal = ask(&database, near, values![Value::Bytes(bytes(&[2.0]))]).await;
        assert!(matches!(unequal, Err(DatabaseError::Invalid(_))), "{unequal:?}");
        let no_vector = ask(&database, near, values![Value::Bytes(vec![1, 2, 3])]).await;
        assert!(matches!(no_vector, Err(DatabaseError::Invalid(_))), "{no_vector:?}");
        // Everything of a row is what the table has, and nothing of an index.
        let all = "SELECT *, vector_product(r.vector, $1) AS product FROM vec_rows r WHERE r.id = 'after'";
        let all = ask(&database, all, values![Value::Bytes(bytes(&[2.0, 1.0, 0.0]))]).await.unwrap();
        assert_eq!(all.columns(), ["id", "vector", "product"], "{:?}", database.dialect());
    })
    .await;
}

/// An id, what is stored, what is asked, and their product.
type Product = (&'static str, Vec<u8>, Vec<u8>, Option<f64>);

#[tokio::test]
async fn what_no_index_can_hold_is_compared_all_the_same() {
    on_every_database(|database| async move {
        let both = Migration { name: "0001_rows".into(), dialect: None, sql: format!("{TABLE}{INDEX}").into() };
        migrate(&database, &[both]).await.unwrap();
        if !compares(&database).await {
            return;
        }
        let long = vec![0.5_f32; 16_001];
        let rows: [Product; 8] = [
            ("empty", Vec::new(), Vec::new(), Some(0.0)),
            ("nan", bytes(&[f32::NAN, 1.0]), bytes(&[1.0, 1.0]), None),
            ("endless", bytes(&[f32::INFINITY, 1.0]), bytes(&[0.0, 1.0]), None),
            ("asked for nan", bytes(&[1.0, 1.0]), bytes(&[f32::NAN, 1.0]), None),
            ("long", bytes(&long), bytes(&long), Some(4_000.25)),
            ("zeros", bytes(&[-0.0, 0.0]), bytes(&[3.0, -3.0]), Some(0.0)),
            ("small", bytes(&[1e-40, -1e-40]), bytes(&[1.0, 3.0]), Some(-2e-40)),
            ("short", bytes(&[0.5]), bytes(&[-4.0]), Some(-2.0)),
        ];
        for (id, stored, asked, expected) in rows {
            let sql = "INSERT INTO vec_rows (id, vector) VALUES ($1, $2)";
            database.execute(sql, &values![id, Value::Bytes(stored)]).await.unwrap();
            let found = product(&database, id, asked).await.unwrap();
            let is_near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() <= expected.abs() * 2e-6 + 1e-44,
                (found, expected) => found == expected,
            };
            assert!(is_near, "{id} on {:?}: {found:?}, not {expected:?}", database.dialect());
        }
        let sql = "INSERT INTO vec_rows (id, vector) VALUES ($1, $2)";
        database.execute(sql, &values!["null", Value::Null]).await.unwrap();
        database.execute(sql, &values!["torn", Value::Bytes(vec![1, 2, 3])]).await.unwrap();
        assert_eq!(product(&database, "null", bytes(&[1.0])).await.unwrap(), None);
        for asked in [vec![1, 2, 3], bytes(&[1.0])] {
            let torn = product(&database, "torn", asked).await;
            assert!(matches!(torn, Err(DatabaseError::Invalid(_))), "{torn:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_vector_index_is_for_the_plugins_own_tables() {
    on_every_database(|database| async move {
        for sql in [
            "CREATE VECTOR INDEX ON users (vector)",
            "CREATE VECTOR INDEX ON public.vec_rows (vector)",
            "CREATE VECTOR INDEX ON vec_rows (absent)",
            "CREATE VECTOR INDEX ON vec_absent (vector)",
            "CREATE VECTOR INDEX ON vec_rows (vector, id)",
            "CREATE VECTOR INDEX ON vec_rows ()",
            "CREATE VECTOR INDEX ON vec_rows (\"Vector\")",
            "CREATE VECTOR INDEX ON vec_rows (length(vector))",
            "CREATE VECTOR INDEX ON vec_rows (a__b)",
            "CREATE VECTOR INDEX ON vec_rows (a_name_that_is_longer_than_it_may_be_here)",
            "CREATE VECTOR INDEX vec_i ON vec_rows (vector)",
            "CREATE VECTOR INDEX ON vec_rows (vector) WHERE id = 'x'",
            "CREATE UNIQUE VECTOR INDEX ON vec_rows (vector)",
        ] {
            let migration = Migration { name: "0001_x".into(), dialect: None, sql: format!("{TABLE}{sql};").into() };
            let outcome = migrate(&database, &[migration]).await;
            assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{sql}: {outcome:?}");
        }
        let good = format!("{TABLE} create vector index on vec_rows (\"vector\") ; ; ");
        let migration = Migration { name: "0001_x".into(), dialect: None, sql: good.into() };
        assert_eq!(migrate(&database, &[migration]).await.unwrap(), ["0001_x"]);
    })
    .await;
}

#[tokio::test]
async fn no_column_is_called_as_a_piece_of_an_index_is() {
    on_every_database(|database| async move {
        for sql in
            ["ALTER TABLE vec_rows ADD COLUMN vectors__id TEXT", "CREATE TABLE vec_more (\"vectors__vector\" BYTEA)"]
        {
            let migration = Migration { name: "0001_x".into(), dialect: None, sql: format!("{TABLE}{sql};").into() };
            let outcome = migrate(&database, &[migration]).await;
            let refused = "names that begin with vectors__ are the host's";
            assert!(
                matches!(&outcome, Err(DatabaseError::Invalid(sentence)) if sentence.contains(refused)),
                "{sql}: {outcome:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn no_column_changes_its_type_and_a_product_is_written_in_one_way() {
    on_every_database(|database| async move {
        for sql in [
            "ALTER TABLE users ALTER COLUMN vector TYPE VECTOR",
            "ALTER TABLE vec_rows ALTER COLUMN vector TYPE VECTOR",
            "ALTER TABLE vec_rows ALTER COLUMN vector TYPE TEXT",
            "ALTER TABLE vec_rows ALTER COLUMN vector TYPE VECTOR USING vector",
            "ALTER TABLE vec_rows ALTER COLUMN \"a b\" TYPE VECTOR",
            "ALTER TABLE vec_rows ALTER COLUMN vector DROP NOT NULL",
        ] {
            let migration = Migration { name: "0001_x".into(), dialect: None, sql: format!("{TABLE}{sql};").into() };
            let outcome = migrate(&database, &[migration]).await;
            assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{sql}: {outcome:?}");
        }
        for sql in [
            "SELECT vector_product(vector, $1) FROM vec_rows",
            "SELECT vector_product(r.vector, r.vector) FROM vec_rows r",
            "SELECT vector_product(r.vector) FROM vec_rows r",
            "SELECT vector_product(r.vector, $1) OVER () FROM vec_rows r",
            "SELECT inner_product(r.vector, $1) FROM vec_rows r",
        ] {
            assert!(Statement::check(sql, &PREFIXES.map(str::to_owned), database.dialect()).is_err(), "{sql}");
        }
    })
    .await;
}
