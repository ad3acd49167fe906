//! Functions of texts: the same answers everywhere, and none that goes on for ever.

use serde_json::json;

use super::{Fixture, Host, Value, on_every_database, text};
use crate::bindings::imports::database::Rows;
use crate::bindings::imports::types::Fault;
use crate::database::{Database, Migration};

#[tokio::test]
async fn texts_are_replaced_and_trimmed_alike() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let cases = [
            ("replace", vec!["a-b-c", "-", "--"], json!("a--b--c")),
            ("replace", vec!["aaa", "aa", "b"], json!("ba")),
            ("replace", vec!["grün und grün", "grün", ""], json!(" und ")),
            ("replace", vec!["kept", "", "x"], json!("kept")),
            ("replace", vec!["", "a", "b"], json!("")),
            ("ltrim", vec!["xyaxyb yx", "xy"], json!("axyb yx")),
            ("rtrim", vec!["xyaxyb yx", "xy"], json!("xyaxyb ")),
            ("ltrim", vec!["ööoxö", "ö"], json!("oxö")),
            ("rtrim", vec!["ööoxö", "ö"], json!("ööox")),
            ("ltrim", vec!["xx", "x"], json!("")),
            ("rtrim", vec!["kept", ""], json!("kept")),
            ("trim", vec!["  kept "], json!("kept")),
        ];
        for (function, arguments, expected) in cases {
            let places: Vec<String> = (1..=arguments.len()).map(|number| format!("CAST(${number} AS TEXT)")).collect();
            let sql = format!("SELECT {function}({}) AS found", places.join(", "));
            let found = guest.json(&sql, arguments.iter().copied().map(text).collect()).await;
            assert_eq!(found, json!([{"found": expected}]), "{:?} {sql} {arguments:?}", database.dialect());
        }
        let sql = "SELECT replace(CAST($1 AS TEXT), 'a', 'b') AS one, ltrim('a', CAST($1 AS TEXT)) AS two";
        let found = guest.json(sql, vec![Value::Null]).await;
        assert_eq!(found, json!([{"one": null, "two": null}]));
    })
    .await;
}

#[tokio::test]
async fn a_table_may_check_with_functions_of_texts() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let table =
            "CREATE TABLE plan_codes (code TEXT CHECK (replace(code, '-', '') = ltrim(rtrim(code, '-'), '-')));";
        database
            .migrate_plugin("planning", &["plan_".to_owned()], &[Migration::both("0001_codes", table)])
            .await
            .unwrap();
        let insert = "INSERT INTO plan_codes (code) VALUES ($1)";
        assert_eq!(guest.execute(insert, vec![text("-a-")]).await.unwrap(), 1);
        let refused = guest.execute(insert, vec![text("a-b")]).await;
        assert!(matches!(refused, Err(Fault::Invalid(_))), "{refused:?}");
    })
    .await;
}

/// SQLite's own functions need minutes and more for each of these, during which nobody can stop them.
#[tokio::test]
async fn no_function_of_texts_outlives_its_statement() {
    let database = Database::open_in_memory().await;
    let mut guest = Fixture::new(&database).await;
    let haystack = "a".repeat(4 << 20);
    let needle = format!("{}b", "a".repeat(2 << 20));
    let sql = "SELECT length(replace($1, $2, 'c')) AS found";
    let found = guest.json(sql, vec![text(&haystack), text(&needle)]).await;
    assert_eq!(found, json!([{"found": haystack.len()}]));
    // All of the set is looked at for each letter, as the one that is meant comes last.
    let set: String = (0..1_000_000).map(|number| char::from_u32(0x1_0000 + number).unwrap()).chain(['a']).collect();
    let found = guest.json("SELECT ltrim($1, $2) AS found", vec![text(&haystack), text(&set)]).await;
    assert_eq!(found, json!([{"found": ""}]));
    // What would take as long is refused: a long pattern, and an answer that is larger than any value.
    let pattern = "%a".repeat(5_000);
    let matched = ask(&mut guest, "SELECT $1 LIKE $2 AS found", &[&haystack, &pattern]).await;
    assert!(matches!(matched, Err(Fault::Invalid(_))), "{matched:?}");
    let (short, long) = ("a".repeat(1 << 20), "b".repeat(1 << 20));
    let grown = ask(&mut guest, "SELECT length(replace($1, 'a', $2)) AS found", &[&short, &long]).await;
    assert!(matches!(grown, Err(Fault::TooLarge(_))), "{grown:?}");
}

async fn ask(guest: &mut Fixture, sql: &str, texts: &[&str]) -> Result<Rows, Fault> {
    let texts = texts.iter().copied().map(text).collect();
    Host::query(&mut guest.view(), sql.to_owned(), texts).await.unwrap()
}
