//! Full-text search over both databases: the same rows for the same words.

use super::*;
use crate::database::{Scope, Statement};

const TABLES: &str = "
    CREATE TABLE kb_entries (
        id TEXT PRIMARY KEY, organization_id TEXT, title TEXT NOT NULL, rank TEXT, content TEXT, views BIGINT NOT NULL DEFAULT 0
    );
    INSERT INTO kb_entries (id, title, content) VALUES ('old', 'Written before', 'the index was made');
    CREATE TEXT INDEX kb_entries_text ON kb_entries (title WEIGHT 3, rank WEIGHT 2, content);";

const ENTRIES: &[(&str, &str, &str)] = &[
    ("swap", "Hot swap", "A build is replaced in place. Nothing stops."),
    ("start", "Start-up of the host", "It reads plugins.toml, then it opens port 3000 at 127.0.0.1"),
    ("cafe", "Crème brûlée im Café", "Größe und Übermut; naïve façade. A\u{30a}ngstro\u{308}m"),
    ("cyrillic", "МОСКВА и Санкт-Петербург", "Йод мой"),
    (
        "code",
        "fn main() { println!(\"it's 100%\"); }",
        "snake_case CamelCase user@example.com https://example.com/a/b?x=1 v1.2.3-rc4 1e5 -42",
    ),
    ("signs", "!!! ??? ---", "<b>bold</b> &amp; \"quoted\" 🚢ship… end—of"),
    ("empty", "", ""),
    ("long", "Long", "needle word word"),
];

/// What is typed, and what it finds.
const QUERIES: &[(&str, &[&str])] = &[
    ("", &[]),
    ("   ", &[]),
    ("\"\"", &[]),
    ("*", &[]),
    ("&", &[]),
    ("!", &[]),
    ("swap", &["swap"]),
    ("SWAP", &["swap"]),
    ("swa", &["swap"]),
    ("swa hot", &[]),
    ("swa* hot", &["swap"]),
    ("\"swa\"", &[]),
    ("\"hot swap\"", &["swap"]),
    ("\"swap hot\"", &[]),
    ("\"swap a build\"", &[]),
    ("swap build", &["swap"]),
    ("swap nothing stops", &["swap"]),
    ("swap absent", &[]),
    ("start-up", &["start"]),
    ("startup", &[]),
    ("up start", &["start"]),
    ("plugins.toml", &["start"]),
    ("127.0.0.1", &["start"]),
    ("3000", &["start"]),
    ("creme", &["cafe"]),
    ("CRÈME BRÛLÉE", &["cafe"]),
    ("cafe", &["cafe"]),
    ("café", &["cafe"]),
    ("große", &["cafe"]),
    ("ubermut", &["cafe"]),
    ("facade naive", &["cafe"]),
    ("ångström", &["cafe"]),
    ("angstrom", &["cafe"]),
    ("москва", &["cyrillic"]),
    ("Петербург", &["cyrillic"]),
    ("йод", &["cyrillic"]),
    ("мои", &[]),
    ("println", &["code"]),
    ("it's", &["code"]),
    ("100%", &["code"]),
    ("snake case", &["code"]),
    ("snake_case", &["code"]),
    ("camelcase", &["code"]),
    ("user@example.com", &["code"]),
    ("example.com/a", &["code"]),
    ("https", &["code"]),
    ("v1.2.3", &["code"]),
    ("1e5", &["code"]),
    ("-42", &["code"]),
    ("bold amp", &["signs"]),
    ("quoted ship", &["signs"]),
    ("🚢", &[]),
    ("end of", &["signs"]),
    ("needle AND word", &[]),
    ("needle OR absent", &[]),
    ("NOT needle", &[]),
    ("NEAR(needle)", &[]),
    ("title:needle", &[]),
    ("c0 : needle", &[]),
    ("needle:*", &["long"]),
    ("needle & word", &["long"]),
    ("(needle | word", &["long"]),
    ("^needle", &["long"]),
    ("needle <-> word", &["long"]),
    ("\\'needle\\", &["long"]),
    ("{needle}", &["long"]),
    ("\"needle", &["long"]),
    ("needle\" word", &["long"]),
    ("before written", &["old"]),
];

fn checked(database: &Database, sql: &str) -> Statement {
    Statement::check(sql, &["kb_".to_owned()], database.dialect()).unwrap()
}

/// The ids that a query finds, in their order.
async fn found(database: &Database, query: &str) -> Vec<String> {
    let sql = "SELECT e.id FROM kb_entries e WHERE text_match(e.kb_entries_text, $1) ORDER BY e.id";
    ids(database, sql, values![query]).await
}

async fn ids(database: &Database, sql: &str, parameters: Vec<Value>) -> Vec<String> {
    let statement = checked(database, sql);
    let parameters = statement.bind(parameters).unwrap();
    let rows = database.query_checked(Scope::default(), &statement, &parameters, QueryLimits::default()).await;
    rows.unwrap_or_else(|error| panic!("{parameters:?} {error:?}")).iter().map(|row| row.text("id").unwrap()).collect()
}

async fn change(database: &Database, sql: &str, parameters: Vec<Value>) -> u64 {
    let statement = checked(database, sql);
    let parameters = statement.bind(parameters).unwrap();
    database.execute(statement.sql(), &parameters).await.unwrap()
}

async fn with_entries(database: &Database) {
    let migration = Migration::both("0001_entries", TABLES);
    database.migrate_plugin("kb", &["kb_".to_owned()], &[migration]).await.unwrap();
    for (id, title, content) in ENTRIES {
        let sql = "INSERT INTO kb_entries (id, organization_id, title, content) VALUES ($1, 'o', $2, $3)";
        assert_eq!(change(database, sql, values![*id, *title, *content]).await, 1);
    }
}

#[tokio::test]
async fn the_same_words_find_the_same_rows() {
    on_every_database(|database| async move {
        with_entries(&database).await;
        for (query, expected) in QUERIES {
            assert_eq!(found(&database, query).await, *expected, "{query} {:?}", database.dialect());
        }
        let everything = "fn main() { println!(\"it's 100%\"); } ".repeat(200);
        assert_eq!(found(&database, &everything).await, ["code"], "a query may have any length");
    })
    .await;
}

#[tokio::test]
async fn an_index_follows_its_rows() {
    on_every_database(|database| async move {
        with_entries(&database).await;
        let update = "UPDATE kb_entries SET title = $1, views = views + 1 WHERE id = 'swap'";
        assert_eq!(change(&database, update, values!["Cold exchange"]).await, 1);
        assert!(found(&database, "hot").await.is_empty());
        assert_eq!(found(&database, "cold nothing").await, ["swap"]);
        assert_eq!(change(&database, "UPDATE kb_entries SET views = 5", vec![]).await, 9);
        assert_eq!(found(&database, "cold nothing").await, ["swap"]);
        let upsert = "INSERT INTO kb_entries (id, title, rank) VALUES ('swap', 'x', $1) \
                      ON CONFLICT (id) DO UPDATE SET rank = excluded.rank";
        assert_eq!(change(&database, upsert, values!["important"]).await, 1);
        assert_eq!(found(&database, "important cold").await, ["swap"]);
        let delete = "DELETE FROM kb_entries WHERE text_match(kb_entries.kb_entries_text, $1) RETURNING id";
        assert_eq!(ids(&database, delete, values!["cold"]).await, ["swap"]);
        assert!(found(&database, "cold").await.is_empty());
        let mut transaction = database.begin().await.unwrap();
        transaction.execute("DELETE FROM kb_entries", &[]).await.unwrap();
        transaction.rollback().await.unwrap();
        assert_eq!(found(&database, "needle").await, ["long"], "what is rolled back is found again");
    })
    .await;
}

#[tokio::test]
async fn a_search_is_one_condition_among_others() {
    on_every_database(|database| async move {
        with_entries(&database).await;
        let insert = "INSERT INTO kb_entries (id, organization_id, title, content) VALUES ($1, $2, $3, $4)";
        for (id, organization, title, content) in [
            ("a", "one", "Berth", "a host"),
            ("b", "one", "A host", "berth, berth and other words that make it a longer text than the first one is"),
            ("c", "two", "Berth", "a host"),
        ] {
            change(&database, insert, values![id, organization, title, content]).await;
        }
        let ranked = "SELECT e.id, text_match(e.kb_entries_text, $2) AS found FROM kb_entries AS e \
                      WHERE e.organization_id = $1 AND text_match(e.kb_entries_text, $2) \
                      ORDER BY text_rank(e.kb_entries_text, $2) DESC, e.id LIMIT 500";
        assert_eq!(ids(&database, ranked, values!["one", "berth"]).await, ["a", "b"], "a title weighs more");
        // The parameter may be used as the text that it is, too.
        let both = "SELECT e.id FROM kb_entries e WHERE (LOWER(e.title) = $1 OR text_match(e.kb_entries_text, $1)) \
                    AND e.organization_id = $2 AND NOT text_match(e.kb_entries_text, $3) ORDER BY id";
        assert_eq!(ids(&database, both, values!["berth", "one", "longer"]).await, ["a"]);
        let joined = "WITH own AS (SELECT id, organization_id FROM kb_entries WHERE organization_id = $1) \
                      SELECT o.id FROM own o JOIN kb_entries e ON e.id = o.id WHERE text_match(e.kb_entries_text, $2)";
        assert_eq!(ids(&database, joined, values!["two", "berth"]).await, ["c"]);
        assert!(found(&database, "absent").await.is_empty());
        let none = "SELECT id FROM kb_entries e WHERE text_match(e.kb_entries_text, $1)";
        assert!(ids(&database, none, vec![Value::Null]).await.is_empty());
        let statement = checked(&database, none);
        assert!(matches!(statement.bind(values![5_i64]), Err(DatabaseError::Invalid(_))));
    })
    .await;
}

#[tokio::test]
async fn an_index_is_no_column_of_an_answer() {
    on_every_database(|database| async move {
        with_entries(&database).await;
        let expected = ["id", "organization_id", "title", "rank", "content", "views"];
        let rows = database.query("SELECT e.* FROM kb_entries e WHERE e.id = 'long'", &[]).await.unwrap();
        assert_eq!(rows.columns(), expected);
        assert_eq!(rows.first().unwrap().text("content").unwrap(), "needle word word");
        let rows = database.query("UPDATE kb_entries SET views = 1 WHERE id = 'long' RETURNING *", &[]).await.unwrap();
        assert_eq!((rows.columns().len(), rows.first().unwrap().integer("views").unwrap()), (6, 1));
        let json = database.query_json("SELECT * FROM kb_entries WHERE id = 'long'", &[]).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json[0].as_object().unwrap().len(), 6);
    })
    .await;
}

#[tokio::test]
async fn a_text_of_any_length_can_be_kept() {
    on_every_database(|database| async move {
        with_entries(&database).await;
        let words: String = (0..60_000).map(|number| format!("w{number} ")).collect();
        let insert = "INSERT INTO kb_entries (id, title, content) VALUES ($1, $2, $3)";
        change(&database, insert, values!["large", "Large", format!("{words} {}", "x".repeat(10_000))]).await;
        assert_eq!(found(&database, "w17 large").await, ["large"]);
        assert!(found(&database, "\"w59999\"").await.is_empty(), "only the beginning is searched");
        change(&database, "DELETE FROM kb_entries WHERE id = $1", values!["large"]).await;
        assert!(found(&database, "w17").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_text_index_is_for_the_plugins_own_tables() {
    on_every_database(|database| async move {
        let table = "CREATE TABLE kb_a (id TEXT PRIMARY KEY, title TEXT); ";
        for sql in [
            "CREATE TEXT INDEX kb_i ON users (id)",
            "CREATE TEXT INDEX users_i ON kb_a (title)",
            "CREATE TEXT INDEX text__i ON kb_a (title)",
            "CREATE TEXT INDEX kb_i ON public.kb_a (title)",
            "CREATE TEXT INDEX kb_i ON kb_a (lower(title))",
            "CREATE TEXT INDEX kb_i ON kb_a ()",
            "CREATE TEXT INDEX kb_i ON kb_a (title, title)",
            "CREATE TEXT INDEX kb_i ON kb_a (title WEIGHT 0)",
            "CREATE TEXT INDEX kb_i ON kb_a (title WEIGHT 11)",
            "CREATE TEXT INDEX kb_i ON kb_a (title WEIGHT x)",
            "CREATE TEXT INDEX kb_i ON kb_a (title) WHERE id = 'x'",
            "CREATE TEXT INDEX kb_i ON kb_a (absent)",
            "CREATE TEXT INDEX kb_i ON kb_a (\"Title\")",
            "CREATE TEXT INDEX kb_012345678901234567890123456789012345678901234567 ON kb_a (title)",
            "CREATE UNIQUE TEXT INDEX kb_i ON kb_a (title)",
        ] {
            let migration = Migration { name: "0001_x".into(), dialect: None, sql: format!("{table}{sql};").into() };
            let outcome = database.migrate_plugin("kb", &["kb_".to_owned()], &[migration]).await;
            assert!(matches!(outcome, Err(DatabaseError::Invalid(_))), "{sql}: {outcome:?}");
        }
        let good = format!("{table} create text index \"kb_i\" on kb_a (title weight 10) ; ; ");
        let migration = Migration { name: "0001_x".into(), dialect: None, sql: good.into() };
        assert_eq!(database.migrate_plugin("kb", &["kb_".to_owned()], &[migration]).await.unwrap(), ["0001_x"]);
    })
    .await;
}
