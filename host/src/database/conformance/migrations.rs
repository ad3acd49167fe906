//! Migrations over both databases: once, whole or not at all, and for a plugin only what adds to its own tables.

use super::*;

#[tokio::test]
async fn migrations_are_applied_once_and_a_changed_one_is_refused() {
    on_every_database(|database| async move {
        let first = Migration::both(
            "0001_a",
            "CREATE TABLE plan_a (id TEXT PRIMARY KEY); INSERT INTO plan_a (id) VALUES ('x')",
        );
        let second = Migration::both("0002_b", "ALTER TABLE plan_a ADD COLUMN n BIGINT NOT NULL DEFAULT 7");
        assert_eq!(database.migrate("a", std::slice::from_ref(&first)).await.unwrap(), ["0001_a"]);
        assert!(database.migrate("a", std::slice::from_ref(&first)).await.unwrap().is_empty());
        // Statements prepared before a change of the schema go on working after it.
        let all = "SELECT * FROM plan_a";
        assert_eq!(database.query(all, &[]).await.unwrap().columns(), ["id"]);
        let both = [first.clone(), second];
        let planned = database.plan_plugin_migrations("a", &["plan_".to_owned()], &both).await.unwrap();
        assert_eq!(planned.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["0002_b"]);
        assert_eq!(database.query(all, &[]).await.unwrap().columns(), ["id"], "a plan changes nothing");
        assert_eq!(database.migrate("a", &both).await.unwrap(), ["0002_b"]);
        let rows = database.query(all, &[]).await.unwrap();
        assert_eq!((rows.columns().len(), rows.first().unwrap().integer("n").unwrap()), (2, 7));
        // The same names of another owner are other migrations.
        let other = Migration::both("0001_a", "CREATE TABLE kb_a (id TEXT PRIMARY KEY)");
        assert_eq!(database.migrate("b", &[other]).await.unwrap(), ["0001_a"]);
        let changed = Migration::both("0001_a", "CREATE TABLE plan_a (id TEXT PRIMARY KEY, extra TEXT)");
        match database.migrate("a", &[changed]).await {
            Err(DatabaseError::Invalid(text)) => assert!(text.contains("0001_a"), "{text}"),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    on_every_database(|database| async move {
        let broken = Migration::both(
            "0001_a",
            "CREATE TABLE plan_a (id TEXT PRIMARY KEY); INSERT INTO plan_a (id) VALUES ('x'); \
             INSERT INTO plan_a (id) VALUES ('x')",
        );
        assert!(matches!(database.migrate("a", &[broken]).await, Err(DatabaseError::Conflict(_))));
        assert!(database.query("SELECT id FROM plan_a", &[]).await.is_err());
        let mended = Migration::both("0001_a", "CREATE TABLE plan_a (id TEXT PRIMARY KEY)");
        assert_eq!(database.migrate("a", &[mended]).await.unwrap(), ["0001_a"]);
    })
    .await;
}

#[tokio::test]
async fn many_that_migrate_at_once_apply_each_migration_once() {
    on_every_database(|database| async move {
        let migrations: Vec<Migration> = (0..5)
            .map(|number| Migration {
                name: format!("{number:04}").into(),
                dialect: None,
                sql: format!("CREATE TABLE plan_t{number} (id TEXT PRIMARY KEY)").into(),
            })
            .collect();
        let runs = (0..4).map(|_| database.migrate("a", &migrations));
        let applied = futures_util::future::join_all(runs).await;
        let names: Vec<String> = applied.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(names.len(), 5, "{names:?}");
    })
    .await;
}

#[tokio::test]
async fn a_plugins_migration_may_only_add_and_only_to_its_own() {
    on_every_database(|database| async move {
        let prefixes = ["plan_".to_owned()];
        for sql in [
            "DROP TABLE plan_a",
            "ALTER TABLE plan_a DROP COLUMN id",
            "ALTER TABLE plan_a RENAME TO plan_b",
            "ALTER TABLE users ADD COLUMN x TEXT",
            "ALTER TABLE plan_a ADD COLUMN x TEXT, DROP COLUMN y",
            "CREATE TABLE users (id TEXT)",
            "CREATE TABLE public.plan_a (id TEXT)",
            "CREATE TABLE \"PLAN_a\" (id TEXT)",
            "CREATE TABLE plan_a AS SELECT * FROM users",
            "CREATE TEMPORARY TABLE plan_a (id TEXT)",
            "CREATE TABLE plan_a (id TEXT REFERENCES users (id))",
            "CREATE TABLE plan_a (id TEXT, FOREIGN KEY (id) REFERENCES users (id))",
            "CREATE TABLE plan_a (id TEXT DEFAULT (pg_read_file('x')))",
            "CREATE TABLE plan_a (id TEXT CHECK (pg_sleep(1) IS NULL))",
            "CREATE TABLE plan_a (id TEXT CHECK (EXISTS (SELECT 1 FROM users)))",
            "CREATE TABLE plan_a (id TEXT CONSTRAINT users_i UNIQUE)",
            "CREATE TABLE plan_a (id TEXT CONSTRAINT users_i PRIMARY KEY)",
            "CREATE TABLE plan_a (id TEXT, CONSTRAINT users_i UNIQUE (id))",
            "CREATE TABLE plan_a (id TEXT, CONSTRAINT users_i PRIMARY KEY (id))",
            "ALTER TABLE plan_a ADD COLUMN x TEXT CONSTRAINT users_i UNIQUE",
            "CREATE TABLE plan_a (id TEXT) INHERITS (users)",
            "CREATE TABLE plan_a (id SERIAL)",
            "CREATE TABLE plan_a (id UUID)",
            "CREATE TABLE plan_a (id JSON)",
            "CREATE TABLE plan_a (id NUMERIC(10, 2))",
            "CREATE TABLE plan_a (id TIMESTAMP)",
            "CREATE TABLE plan_a (id TEXT GENERATED ALWAYS AS ('x') STORED)",
            "CREATE INDEX plan_i ON users (id)",
            "CREATE INDEX users_i ON plan_a (id)",
            "CREATE INDEX plan_i ON plan_a (pg_sleep(1))",
            "CREATE INDEX plan_i ON plan_a USING gin (id)",
            "CREATE VIEW plan_v AS SELECT * FROM users",
            "CREATE TRIGGER plan_t AFTER INSERT ON plan_a BEGIN DELETE FROM users; END",
            "CREATE FUNCTION plan_f() RETURNS TEXT AS 'x' LANGUAGE sql",
            "CREATE EXTENSION dblink",
            "GRANT ALL ON users TO public",
            "INSERT INTO users (id) VALUES ('x')",
            "UPDATE plan_a SET id = (SELECT password FROM users)",
            "DELETE FROM users",
            "SELECT pg_sleep(1)",
            "PRAGMA writable_schema = ON",
            "COMMIT",
            "not sql",
        ] {
            let migration = Migration { name: "0001_x".into(), dialect: None, sql: sql.to_owned().into() };
            let outcome = database.migrate_plugin("a", &prefixes, std::slice::from_ref(&migration)).await;
            assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{sql}: {outcome:?}");
            let outcome = database.plan_plugin_migrations("a", &prefixes, &[migration]).await;
            assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{sql}: {outcome:?}");
        }
        let good = Migration::both(
            "0001_good",
            "CREATE TABLE IF NOT EXISTS plan_a (
                id TEXT PRIMARY KEY, parent_id TEXT REFERENCES plan_a (id) ON DELETE CASCADE,
                position BIGINT NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'old')),
                CONSTRAINT plan_a_place UNIQUE (parent_id, position)
            );
            CREATE TABLE plan_counted (number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT);
            CREATE UNIQUE INDEX plan_a_state ON plan_a (state, LOWER(id)) WHERE state = 'new';
            ALTER TABLE plan_a ADD COLUMN note TEXT;
            INSERT INTO plan_a (id) VALUES ('root');
            UPDATE plan_a SET note = UPPER(id);",
        );
        assert_eq!(database.migrate_plugin("a", &prefixes, &[good]).await.unwrap(), ["0001_good"]);
        let row = database.query_one("SELECT note FROM plan_a", &[]).await.unwrap().unwrap();
        assert_eq!(row.text("note").unwrap(), "ROOT");
        for expected in 1..=2 {
            let sql = "INSERT INTO plan_counted (id) VALUES ('x') RETURNING number";
            assert_eq!(database.query_one(sql, &[]).await.unwrap().unwrap().integer("number").unwrap(), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_plugins_migration_is_refused_before_it_is_as_deep_as_it_is_long() {
    on_every_database(|database| async move {
        let prefixes = ["plan_".to_owned()];
        let sums = "+1".repeat(100_000);
        for sql in [
            format!("CREATE TABLE plan_a (id BIGINT CHECK (id < 1{sums}))"),
            format!("CREATE TABLE plan_a (id BIGINT); CREATE INDEX plan_i ON plan_a ((id{sums}))"),
            format!("CREATE TABLE plan_a (id BIGINT DEFAULT {}1)", "- ".repeat(100_000)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(10_000)),
        ] {
            let migration = Migration { name: "0001_deep".into(), dialect: None, sql: sql.into() };
            let outcome = database.migrate_plugin("a", &prefixes, &[migration]).await;
            assert!(matches!(&outcome, Err(DatabaseError::Invalid(_))), "{outcome:?}");
        }
        // Many statements are no deep one.
        let many = format!("CREATE TABLE plan_a (id BIGINT);{}", "UPDATE plan_a SET id = id + 1;".repeat(300));
        let many = Migration { name: "0001_many".into(), dialect: None, sql: many.into() };
        assert_eq!(database.migrate_plugin("a", &prefixes, &[many]).await.unwrap(), ["0001_many"]);
    })
    .await;
}
