//! Vectors: the same bytes come back, and where the database compares them both answer alike.

use super::*;
use crate::database::{Dialect, Rows, Scope, Statement};

const TABLE: &str = "CREATE TABLE vec_rows (id TEXT PRIMARY KEY, vector BYTEA NOT NULL);";
const PREFIXES: [&str; 1] = ["vec_"];

fn bytes(members: &[f32]) -> Vec<u8> {
    members.iter().flat_map(|member| member.to_le_bytes()).collect()
}

async fn migrate(database: &Database, migrations: &[Migration]) -> Result<Vec<String>, DatabaseError> {
    database.migrate_plugin("vec", &PREFIXES.map(str::to_owned), migrations).await
}

async fn ask(database: &Database, sql: &str, parameters: Vec<Value>) -> Result<Rows, DatabaseError> {
    let statement = Statement::check(sql, &PREFIXES.map(str::to_owned), database.dialect()).unwrap();
    let scope = Scope { plugin: Some("vec"), organization: None };
    database.query_checked(scope, &statement, &parameters, QueryLimits::default()).await
}

async fn insert(database: &Database, id: &str, members: &[f32]) {
    let sql = "INSERT INTO vec_rows (id, vector) VALUES ($1, $2)";
    database.execute(sql, &values![id, Value::Bytes(bytes(members))]).await.unwrap();
}

#[tokio::test]
async fn vectors_are_compared_by_the_database_and_stay_the_bytes_they_are() {
    on_every_database(|database| async move {
        let table = Migration::both("0001_rows", TABLE);
        assert_eq!(migrate(&database, &[table]).await.unwrap(), ["0001_rows"]);
        // Signs, halves, the smallest and the largest there are.
        let odd = [-0.0_f32, 1.0 / 3.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, -2.5];
        insert(&database, "odd", &odd).await;
        insert(&database, "before", &[1.0, 2.0, -3.0]).await;
        insert(&database, "after", &[0.5, 0.25, 1.0]).await;
        insert(&database, "none", &[0.0, 0.0, 0.0]).await;
        for (id, members) in [("odd", &odd[..]), ("before", &[1.0, 2.0, -3.0]), ("after", &[0.5, 0.25, 1.0])] {
            let rows = ask(&database, "SELECT vector FROM vec_rows WHERE id = $1", values![id]).await.unwrap();
            assert_eq!(rows.first().unwrap().bytes("vector").unwrap(), bytes(members), "{id} {:?}", database.dialect());
        }
        let near = "SELECT r.id, vector_product(r.vector, $1) AS product FROM vec_rows r WHERE r.id <> 'odd' \
                    ORDER BY vector_product(r.vector, $1) DESC, r.id LIMIT 2";
        let found = ask(&database, near, values![Value::Bytes(bytes(&[2.0, 1.0, 0.0]))]).await;
        if database.dialect() == Dialect::Postgres {
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
