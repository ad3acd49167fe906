//! What an attacker would try, and what an author may write.

use proptest::prelude::*;

use super::{Refusal, Statement};
use crate::database::{Dialect, values};

fn check(sql: &str) -> Result<String, Refusal> {
    check_for(sql, Dialect::Sqlite)?;
    check_for(sql, Dialect::Postgres)
}

fn check_for(sql: &str, dialect: Dialect) -> Result<String, Refusal> {
    let prefixes = ["plan_".to_owned(), "project_".to_owned()];
    let statement = Statement::check(sql, &prefixes, dialect)?;
    let text = statement.sql().to_string();
    Ok(text.split_once(" /* ").map_or(text.clone(), |(text, _)| text.to_owned()))
}

/// Every one of these must be refused, for both databases.
const ATTACKS: &[&str] = &[
    // tables of others, in every place and spelling
    "SELECT * FROM users",
    "SELECT * FROM berth_outbox",
    "SELECT * FROM USERS",
    "SELECT * FROM \"users\"",
    "SELECT * FROM \"Users\"",
    "SELECT * FROM \"PLAN_PLANS\"",
    "SELECT * FROM `users`",
    "SELECT * FROM [users]",
    "SELECT * FROM public.users",
    "SELECT * FROM main.users",
    "SELECT * FROM main.plan_plans",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_class",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM sqlite_schema",
    "SELECT * FROM \"sqlite_master\"",
    "SELECT * FROM plan_plans, users",
    "SELECT * FROM plan_plans JOIN users ON 1 = 1",
    "SELECT * FROM (plan_plans CROSS JOIN users)",
    "SELECT * FROM (SELECT * FROM users) AS plan_x",
    "SELECT * FROM users AS plan_users",
    "SELECT (SELECT name FROM users LIMIT 1) FROM plan_plans",
    "SELECT 1 FROM plan_plans WHERE EXISTS (SELECT 1 FROM users)",
    "SELECT 1 FROM plan_plans WHERE id IN (SELECT id FROM users)",
    "SELECT 1 FROM plan_plans ORDER BY (SELECT name FROM users)",
    "SELECT 1 FROM plan_plans GROUP BY (SELECT name FROM users)",
    "SELECT 1 FROM plan_plans GROUP BY id HAVING (SELECT COUNT(*) FROM users) > 1",
    "SELECT 1 FROM plan_plans LIMIT (SELECT COUNT(*) FROM users)",
    "SELECT 1 FROM plan_plans LIMIT 1 OFFSET (SELECT COUNT(*) FROM users)",
    "SELECT SUM(id) FILTER (WHERE id IN (SELECT id FROM users)) FROM plan_plans",
    "SELECT SUM(id) OVER (PARTITION BY (SELECT id FROM users)) FROM plan_plans",
    "SELECT SUM(id) OVER (w) FROM plan_plans WINDOW w AS (ORDER BY (SELECT id FROM users))",
    "SELECT CASE WHEN (SELECT 1 FROM users) = 1 THEN 1 END FROM plan_plans",
    "SELECT 1 UNION SELECT password FROM users",
    "SELECT 1 UNION ALL (SELECT password FROM users)",
    "VALUES ((SELECT password FROM users))",
    "TABLE users",
    "TABLE plan_plans",
    "SELECT * FROM plan_plans UNION TABLE users",
    "INSERT INTO users (id) VALUES ('x')",
    "INSERT INTO plan_plans SELECT * FROM users",
    "INSERT INTO plan_plans (id) VALUES ((SELECT id FROM users))",
    "INSERT INTO plan_plans (id) VALUES ('x') ON CONFLICT (id) DO UPDATE SET name = (SELECT password FROM users)",
    "INSERT INTO plan_plans (id) VALUES ('x') RETURNING (SELECT password FROM users)",
    "UPDATE users SET name = 'x'",
    "UPDATE plan_plans SET name = (SELECT password FROM users)",
    "UPDATE plan_plans SET name = users.password FROM users",
    "UPDATE plan_plans SET name = 'x' WHERE id = (SELECT id FROM users)",
    "DELETE FROM users",
    "DELETE FROM plan_plans WHERE id IN (SELECT id FROM users)",
    "DELETE FROM plan_plans USING users",
    // names given by WITH must not lend a table its name
    "WITH a AS (SELECT * FROM users) SELECT * FROM a",
    "WITH users AS (SELECT * FROM users) SELECT * FROM users",
    "WITH a AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM a",
    "SELECT * FROM users WHERE id IN (WITH users AS (SELECT 1 AS id) SELECT id FROM users)",
    "SELECT * FROM (WITH users AS (SELECT 1 AS id) SELECT id FROM users) AS x, users",
    "WITH x AS (WITH users AS (SELECT 1 AS id) SELECT id FROM users) SELECT * FROM users",
    "WITH users AS (SELECT 1) INSERT INTO users VALUES (1)",
    // statements that are none of a guest's business
    "DROP TABLE plan_plans",
    "CREATE TABLE plan_x (id TEXT)",
    "CREATE TEMP TABLE plan_x AS SELECT 1",
    "ALTER TABLE plan_plans ADD COLUMN x TEXT",
    "ATTACH DATABASE 'x' AS y",
    "PRAGMA table_info(users)",
    "PRAGMA writable_schema = ON",
    "VACUUM INTO '/tmp/x'",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "SET ROLE postgres",
    "SET search_path = secret",
    "RESET ALL",
    "SHOW ALL",
    "COPY plan_plans TO '/tmp/x'",
    "COPY plan_plans FROM PROGRAM 'id'",
    "EXPLAIN SELECT * FROM plan_plans",
    "ANALYZE",
    "GRANT ALL ON plan_plans TO public",
    "DO $$ BEGIN END $$",
    "CALL something()",
    "LISTEN x",
    "NOTIFY x",
    "LOCK TABLE plan_plans",
    "TRUNCATE plan_plans",
    "MERGE INTO plan_plans USING users ON 1 = 1 WHEN MATCHED THEN DELETE",
    "PREPARE a AS SELECT 1",
    "DECLARE c CURSOR FOR SELECT 1",
    "REPLACE INTO plan_plans (id) VALUES ('x')",
    "INSERT OR REPLACE INTO plan_plans (id) VALUES ('x')",
    "SELECT * INTO plan_copy FROM plan_plans",
    // more than one, or none
    "",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE plan_plans",
    "SELECT 1;;SELECT 2",
    "-- nothing",
    // functions
    "SELECT pg_sleep(100)",
    "SELECT PG_SLEEP(100)",
    "SELECT \"pg_sleep\"(100)",
    "SELECT pg_catalog.pg_sleep(100)",
    "SELECT load_extension('x')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT dblink('x', 'y')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT query_to_xml('select * from users', true, true, '')",
    "SELECT current_setting('x')",
    "SELECT current_user",
    "SELECT user",
    "SELECT session_user",
    "SELECT current_database()",
    "SELECT version()",
    "SELECT sqlite_version()",
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(1000000000)",
    "SELECT repeat('x', 1000000000)",
    "SELECT lpad('x', 1000000000)",
    "SELECT printf('%1000000000d', 1)",
    "SELECT writefile('x', 'y')",
    "SELECT readfile('x')",
    "SELECT fts3_tokenizer('x')",
    "SELECT nextval('x')",
    "SELECT now()",
    "SELECT CURRENT_TIMESTAMP",
    "SELECT * FROM generate_series(1, 1000000000)",
    "SELECT * FROM pragma_table_info('users')",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT * FROM dblink('x', 'y') AS t (a TEXT)",
    "SELECT * FROM ROWS FROM (pg_ls_dir('/')) AS x",
    "SELECT * FROM unnest(ARRAY[1, 2])",
    "SELECT * FROM LATERAL (SELECT 1) AS x",
    "SELECT * FROM XMLTABLE('x' PASSING 'y' COLUMNS z TEXT)",
    "SELECT * FROM plan_plans TABLESAMPLE SYSTEM (10)",
    "SELECT COUNT(*) FROM plan_plans WHERE abs(pg_sleep(1)) = 1",
    "SELECT coalesce(pg_sleep(1), 1)",
    "SELECT x FROM json_each(pg_read_file('x'))",
    "INSERT INTO plan_plans (id) VALUES (pg_read_file('x'))",
    // types and operators that reach further
    "SELECT 'users'::regclass",
    "SELECT CAST('users' AS regclass)",
    "SELECT regclass 'users'",
    "SELECT CAST(1 AS plan_type)",
    "SELECT 1 OPERATOR(pg_catalog.+) 1",
    "SELECT name ~ '(a+)+$' FROM plan_plans",
    "SELECT name REGEXP 'x' FROM plan_plans",
    "SELECT name MATCH 'x' FROM plan_plans",
    "SELECT name COLLATE \"de_DE\" FROM plan_plans",
    "SELECT plan_plans.users.password FROM plan_plans",
    "SELECT public.users.* FROM plan_plans",
    "SELECT ctid FROM plan_plans",
    "SELECT rowid FROM plan_plans",
    // quoting and comments the databases read differently
    "SELECT /* /* */ * FROM users --*/ */ 1",
    "SELECT 'a\\' FROM users --'",
    "SELECT E'\\'' FROM plan_plans",
    "SELECT U&'\\0041'",
    "SELECT $$x$$",
    "SELECT $tag$ FROM users $tag$",
    "SELECT N'x'",
    "SELECT X'41'",
    "SELECT B'1'",
    "SELECT * FROM \"plan_\"\"x\"",
    "SELECT * FROM plan_ünicode",
    "SELECT * FROM plan\u{200b}_x",
    "SELECT\u{a0}1 FROM users",
    "SELECT 1 FROM plan_x; \u{0}",
    // text indexes
    "SELECT * FROM text__plan_text",
    "SELECT * FROM text__plan_text_data",
    "SELECT * FROM text__plan_text($1)",
    "DELETE FROM text__plan_text",
    "SELECT id FROM plan_plans p WHERE text_match(p.users_text, $1)",
    "SELECT id FROM plan_plans p WHERE text_match(p.text__plan_text, $1)",
    "SELECT id FROM plan_plans p WHERE text_match(plan_text, $1)",
    "SELECT id FROM plan_plans p WHERE text_match(public.p.plan_text, $1)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, 'x')",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, $1 || $2)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, $0)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, $501)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, $text1)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, $1, $2)",
    "SELECT id FROM plan_plans p WHERE text_match(p.plan_text, $1) OVER ()",
    "SELECT id FROM plan_plans p WHERE text_match(DISTINCT p.plan_text, $1)",
    "SELECT id FROM plan_plans p WHERE pg_catalog.text_match(p.plan_text, $1)",
    "SELECT id FROM plan_plans p WHERE text_match(p.\"plan_TEXT\", $1)",
    "SELECT id FROM plan_plans p WHERE p.plan_text @@ to_tsquery($1)",
    "SELECT ts_rank(p.plan_text, $1) FROM plan_plans p",
    "SELECT id FROM plan_plans p WHERE p.rowid IN (SELECT 1)",
    // what the host calls the pieces of vector indexes
    "SELECT id AS vectors__id FROM plan_plans",
    "SELECT id AS \"vectors__vector\" FROM plan_plans",
    "SELECT id VECTORS__ID FROM plan_plans",
    "SELECT vectors__id FROM plan_plans",
    "SELECT p.vectors__id FROM plan_plans p",
    "SELECT vectors__1.id FROM plan_plans AS vectors__1",
    "SELECT * FROM (SELECT id FROM plan_plans) AS p (vectors__id)",
    "WITH p (vectors__id) AS (SELECT id FROM plan_plans) SELECT * FROM p",
    "WITH vectors__p AS (SELECT id FROM plan_plans) SELECT * FROM vectors__p",
    "INSERT INTO plan_plans (id) VALUES ('x') RETURNING id AS vectors__id",
    "UPDATE plan_plans SET vectors__id = 'x'",
    // parameters
    "SELECT $0",
    "SELECT $text1",
    "SELECT $01",
    "SELECT $501",
    "SELECT $99999999999999999999",
    "SELECT ?",
    "SELECT ?1",
    "SELECT :name",
    "SELECT @name",
    "SELECT $a",
];

#[test]
fn no_attack_gets_through() {
    for sql in ATTACKS {
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            let outcome = check_for(sql, dialect);
            assert!(outcome.is_err(), "{dialect:?} lets through: {sql}\n as: {outcome:?}");
        }
    }
}

#[test]
fn what_touches_others_is_denied_and_not_merely_wrong() {
    for sql in [
        "SELECT * FROM users",
        "DELETE FROM berth_outbox",
        "SELECT pg_sleep(1)",
        "DROP TABLE plan_plans",
        "SELECT id AS vectors__id FROM plan_plans",
    ] {
        assert!(matches!(check(sql), Err(Refusal::Denied(_))), "{sql}");
    }
}

/// Every one of these must be allowed, and prepared without complaint by the database.
pub(crate) const ALLOWED: &[&str] = &[
    "SELECT 1",
    "SELECT 1;",
    "SELECT * FROM plan_plans",
    "SELECT p.* FROM plan_plans AS p",
    "select ID, Name from PLAN_PLANS where NAME = $1",
    "SELECT id, name AS \"displayName\" FROM \"plan_plans\" WHERE organization_id = $1 AND (name LIKE $2 OR name IS NULL)",
    "SELECT p.id, COUNT(*) AS n FROM plan_plans p LEFT JOIN plan_tasks t ON t.plan_id = p.id GROUP BY p.id HAVING COUNT(*) > $1",
    "SELECT DISTINCT name FROM plan_plans ORDER BY name DESC LIMIT $1 OFFSET $2",
    "SELECT name FROM plan_plans ORDER BY name NULLS FIRST, id ASC",
    "WITH users AS (SELECT id FROM plan_plans) SELECT * FROM users",
    "WITH users AS (SELECT id FROM plan_plans) SELECT users.id FROM users JOIN plan_plans p ON p.id = users.id",
    "WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT b.x FROM b, a",
    "WITH RECURSIVE tree (id, depth) AS (SELECT id, 0 FROM plan_plans WHERE id = $1 UNION ALL \
     SELECT t.id, tree.depth + 1 FROM plan_tasks t JOIN tree ON t.plan_id = tree.id) SELECT id FROM tree",
    "SELECT id FROM plan_plans WHERE id IN (WITH users AS (SELECT id FROM plan_tasks) SELECT id FROM users)",
    "SELECT id FROM plan_plans UNION ALL SELECT id FROM plan_tasks ORDER BY id",
    "SELECT id FROM plan_plans EXCEPT SELECT id FROM plan_tasks",
    "SELECT CASE WHEN done THEN 'yes' ELSE 'it''s not' END AS answer FROM plan_plans",
    "SELECT COALESCE(name, $1), UPPER(name), SUBSTR(name, 1, 3), TRIM(name), REPLACE(name, 'a', 'b') FROM plan_plans",
    "SELECT SUM(number), AVG(ratio), MIN(at), MAX(at) FROM plan_plans WHERE at BETWEEN $1 AND $2",
    "SELECT COUNT(DISTINCT name), COUNT(*) FILTER (WHERE done) FROM plan_plans",
    "SELECT ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY at DESC) AS place FROM plan_plans",
    "SELECT document ->> 'title' AS title, document -> 'tags' AS tags FROM plan_plans WHERE document ->> 'title' = $1",
    "SELECT CAST(number AS TEXT), number::text, CAST($1 AS BIGINT) FROM plan_plans",
    "SELECT id FROM plan_plans WHERE (name, id) > ($1, $2) ORDER BY name, id",
    "SELECT id FROM plan_plans WHERE name IS DISTINCT FROM $1",
    "SELECT id FROM plan_plans WHERE id = $1 FOR UPDATE",
    "SELECT id FROM plan_plans WHERE NOT done AND EXISTS (SELECT 1 FROM plan_tasks WHERE plan_id = plan_plans.id)",
    "SELECT STRING_AGG(name, ',' ORDER BY name) FROM plan_plans",
    "INSERT INTO plan_plans (id, organization_id, name) VALUES ($1, $2, $3), ($4, $2, $5) RETURNING id, name",
    "INSERT INTO plan_plans (id, organization_id) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
    "INSERT INTO plan_plans AS p (id, organization_id, number) VALUES ($1, $2, 1) \
     ON CONFLICT (id) DO UPDATE SET number = p.number + excluded.number WHERE p.done = FALSE RETURNING *",
    "INSERT INTO plan_tasks (id, plan_id) SELECT id, $1 FROM plan_plans WHERE done = TRUE",
    "UPDATE plan_plans SET name = $1, number = number + 1, done = TRUE WHERE id = $2 AND number = $3 RETURNING number",
    "UPDATE plan_plans SET name = t.id FROM plan_tasks AS t WHERE t.plan_id = plan_plans.id",
    "DELETE FROM plan_plans WHERE id = $1 RETURNING id",
    "WITH old AS (SELECT id FROM plan_plans WHERE done) DELETE FROM plan_tasks WHERE plan_id IN (SELECT id FROM old)",
    "/* a comment */ SELECT 1 -- and another",
    "SELECT 'users; DROP TABLE x', '--', '/*', '$1', '\"' FROM plan_plans",
    "SELECT -number, +number, number * 2 / 3 % 4, ratio - 1.5e3, name || 'x' FROM plan_plans",
];

#[test]
fn what_authors_write_is_allowed() {
    for sql in ALLOWED {
        assert!(check(sql).is_ok(), "{sql}\n{:?}", check(sql));
    }
}

#[test]
fn a_name_given_by_with_cannot_be_a_table() {
    let sql = check("WITH users AS (SELECT id FROM plan_plans) SELECT users.id FROM users").unwrap();
    assert_eq!(sql, "WITH cte__users AS (SELECT id FROM plan_plans) SELECT users.id FROM cte__users AS users");
}

#[test]
fn the_dialects_differences_are_written_out() {
    let sqlite = |sql| check_for(sql, Dialect::Sqlite).unwrap();
    let postgres = |sql| check_for(sql, Dialect::Postgres).unwrap();
    let sql = "SELECT Id FROM plan_plans ORDER BY at DESC FOR UPDATE";
    assert_eq!(sqlite(sql), "SELECT id FROM plan_plans ORDER BY at DESC NULLS FIRST");
    assert_eq!(postgres(sql), "SELECT id FROM plan_plans ORDER BY at DESC FOR UPDATE");
    let sql = "SELECT $1::jsonb, CAST(a ->> 'b' AS BIGINT) FROM plan_plans";
    assert_eq!(sqlite(sql), "SELECT CAST($1 AS TEXT), CAST(CAST(a ->> 'b' AS TEXT) AS INTEGER) FROM plan_plans");
    assert_eq!(postgres(sql), "SELECT CAST($1 AS JSONB), CAST(a ->> 'b' AS BIGINT) FROM plan_plans");
}

#[test]
fn a_search_is_written_for_each_database_and_its_parameter_stays_one() {
    let prefixes = ["plan_".to_owned()];
    let check = |sql: &str, dialect| Statement::check(sql, &prefixes, dialect).unwrap();
    let sql =
        "SELECT p.id FROM plan_plans P WHERE p.id = $1 AND TEXT_MATCH(P.plan_text, $2) AND text_match(p.plan_text, $2)";
    let statement = check(sql, Dialect::Postgres);
    let expected = "(p.plan_text @@ to_tsquery('pg_catalog.simple', $2))";
    let expected = format!("SELECT p.id FROM plan_plans p WHERE p.id = $1 AND {expected} AND {expected}");
    assert_eq!(**statement.sql(), *expected);
    assert_eq!((statement.parameters(), statement.is_read_only()), (2, true));
    let bound = statement.bind(values!["x", "Hot swap"]).unwrap();
    assert_eq!(bound, values!["x", "'hot' & 'swap':*"]);
    let sql = "SELECT p.id FROM plan_plans p WHERE p.name = $1 AND text_match(p.plan_text, $1) AND p.id = $2";
    let statement = check(sql, Dialect::Sqlite);
    let expected = "SELECT p.id FROM plan_plans p WHERE p.name = $1 \
                    AND (p.rowid IN (SELECT rowid FROM text__plan_text($3))) AND p.id = $2 /* plan_ */";
    assert_eq!((&**statement.sql(), statement.parameters()), (expected, 2));
    assert_eq!(statement.bind(values!["Hot", "x"]).unwrap(), values!["Hot", "x", "\"hot\" *"]);
}

/// Texts that grow one kind of nesting or chain.
fn deep(depth: usize) -> Vec<String> {
    let pairs = [
        ("(", ")"),
        ("SELECT * FROM (", ")"),
        ("(SELECT ", ")"),
        ("(SELECT 1 UNION ", ")"),
        ("NOT ", ""),
        ("- ", ""),
        ("CASE WHEN ", " THEN 1 END"),
        ("CASE ", ""),
        ("COALESCE(", ")"),
        ("CAST(", " AS TEXT)"),
        ("1 + ", ""),
        ("", " + 1"),
        ("", "::text"),
        ("", " IS NULL"),
        ("", " AND 1 = 1"),
        ("", " OR 1"),
        ("", " -> 'a'"),
        ("", " COLLATE x"),
        ("", " AT TIME ZONE 'x'"),
        ("", " BETWEEN 1 AND 2"),
        ("", " IN (1)"),
        ("", " UNION SELECT 1"),
        ("", " LIKE 'x'"),
        ("", "[1]"),
        ("", ".a"),
        ("", ", 1"),
        ("", " x"),
        ("[", "]"),
        ("{", "}"),
        ("INTERVAL ", ""),
        ("PRIOR ", ""),
    ];
    let mut texts = Vec::new();
    for (before, after) in pairs {
        let (before, after) = (before.repeat(depth), after.repeat(depth));
        texts.push(format!("SELECT {before}1{after}"));
        texts.push(format!("SELECT 1 FROM plan_x WHERE {before}1{after}"));
        texts.push(format!("SELECT 1 FROM {before}plan_x{after}"));
    }
    texts.push(format!("SELECT 1 FROM plan_x {}", "JOIN plan_x ON 1 = 1 ".repeat(depth)));
    texts.push(format!("SELECT 1 FROM {}plan_x{}", "plan_x JOIN (".repeat(depth), ")".repeat(depth)));
    texts.push(format!("{} SELECT 1", "WITH x AS (".repeat(depth)));
    texts
}

#[test]
fn deep_nesting_costs_neither_time_nor_stack() {
    // Half of what the threads have that check statements.
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(|| {
        for depth in [8, 15, 20, 60, 110, 240, 5_000] {
            for sql in deep(depth) {
                let started = std::time::Instant::now();
                check(&sql).ok();
                let took = started.elapsed();
                let start: String = sql.chars().take(60).collect();
                assert!(took < std::time::Duration::from_secs(2), "{depth} of {start}: {took:?}");
            }
        }
    });
    thread.unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn a_literal_stays_what_it_was(text in "[ -~]{0,24}") {
        let sql = format!("SELECT '{}' AS x", text.replace('\'', "''"));
        let checked = check(&sql).unwrap();
        prop_assert_eq!(checked, format!("SELECT '{}' AS x", text.replace('\'', "''")));
    }

    #[test]
    fn no_text_makes_the_checker_panic(text in "(?s).{0,80}", tail in "(SELECT|FROM|\\(|\\)|'|\"|--|/\\*|\\$|,|users|plan_x| |;|\\*|=|1){0,12}") {
        check(&text).ok();
        check(&format!("SELECT {tail}")).ok();
    }
}

#[test]
fn only_a_query_without_a_change_in_it_reads_only() {
    let reads = |sql: &str| Statement::check(sql, &["plan_".to_owned()], Dialect::Postgres).unwrap().is_read_only();
    assert!(reads("SELECT id FROM plan_plans WHERE id = $1"));
    assert!(reads("WITH a AS (SELECT id FROM plan_plans) SELECT id FROM a"));
    for sql in [
        "UPDATE plan_plans SET title = $1 WHERE id = $2 RETURNING id",
        "INSERT INTO plan_plans (id) VALUES ($1)",
        "DELETE FROM plan_plans WHERE id = $1",
    ] {
        assert!(!reads(sql), "{sql}");
    }
    // Where a change inside a WITH is allowed at all, it must not pass for reading.
    let inside = "WITH a AS (DELETE FROM plan_plans RETURNING id) SELECT id FROM a";
    if let Ok(statement) = Statement::check(inside, &["plan_".to_owned()], Dialect::Postgres) {
        assert!(!statement.is_read_only());
    }
    let before = "WITH a AS (SELECT id FROM plan_plans) DELETE FROM plan_plans WHERE id IN (SELECT id FROM a)";
    if let Ok(statement) = Statement::check(before, &["plan_".to_owned()], Dialect::Postgres) {
        assert!(!statement.is_read_only());
    }
}

#[test]
fn a_product_of_vectors_joins_the_index_behind_its_table() {
    let postgres = |sql: &str| check_for(sql, Dialect::Postgres).unwrap();
    let compared = |alias: &str, number: usize| {
        format!(
            "COALESCE(vectors__inner(vectors__{number}.vectors__vector, (SELECT vectors__read($1))), \
             vectors__product({alias}.vector, $1))"
        )
    };
    let join = |alias: &str, number: usize| {
        format!(
            "LEFT JOIN vectors__plan_plans__vector AS vectors__{number} ON vectors__{number}.vectors__id = \"{alias}\".id"
        )
    };
    assert_eq!(
        postgres(
            "SELECT p.id FROM plan_plans P JOIN plan_tasks t ON t.id = p.id ORDER BY vector_product(P.vector, $1)"
        ),
        format!(
            "SELECT p.id FROM plan_plans p {} JOIN plan_tasks t ON t.id = p.id ORDER BY {}",
            join("p", 1),
            compared("p", 1)
        )
    );
    // Twice the same column, and one of a query around.
    assert_eq!(
        postgres(
            "SELECT vector_product(plan_plans.vector, $1) AS a FROM plan_plans \
             WHERE vector_product(plan_plans.vector, $1) > 0 AND EXISTS (SELECT 1 FROM plan_plans AS b \
             WHERE vector_product(b.vector, $1) > vector_product(plan_plans.vector, $1))"
        ),
        format!(
            "SELECT {one} AS a FROM plan_plans {first} WHERE {one} > 0 AND EXISTS (SELECT 1 FROM plan_plans AS b {second} \
             WHERE {two} > {one})",
            one = compared("plan_plans", 1),
            two = compared("b", 2),
            first = join("plan_plans", 1),
            second = join("b", 2)
        )
    );
    // Where nothing can be joined the database says that it has no such function.
    for sql in [
        "WITH plan_plans AS (SELECT vector FROM plan_tasks) SELECT vector_product(plan_plans.vector, $1) AS a FROM plan_plans",
        "SELECT vector_product(p.vector, $1) AS a FROM plan_plans p FOR UPDATE",
        "SELECT vector_product(x.vector, $1) AS a FROM plan_plans p",
        "SELECT vector_product(p.vector, $1) AS a FROM (SELECT vector FROM plan_plans) AS p",
        "UPDATE plan_plans SET title = 'x' WHERE vector_product(plan_plans.vector, $1) > 0",
    ] {
        let written = postgres(sql);
        assert!(written.contains("vector_product(") && !written.contains("vectors__"), "{written}");
    }
    for sql in ["SELECT * FROM vectors__plan_plans__vector", "SELECT vectors__inner(p.vector, $1) FROM plan_plans p"] {
        assert!(check_for(sql, Dialect::Postgres).is_err(), "{sql}");
    }
}
