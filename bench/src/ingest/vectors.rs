//! Many vectors: how long an exact search among all of them takes, and how much of it is what comparing each with the question finds.

use std::time::Instant;

use anyhow::{Result, ensure};
use berth_tests::answer::text;
use berth_tests::{Host, Manifest, entries};
use serde_json::{Value, json};

use super::{asked, milliseconds, stored};

/// As many as one search goes through.
pub(super) const USUAL: u64 = 200_000;
const DIMENSIONS: usize = 384;
/// Documents of one request; the service takes no more.
const AT_ONCE: u64 = 500;
/// Results of a search.
const BEST: usize = 10;
/// Questions whose results are compared.
const CHECKED: u64 = 5;

pub(super) async fn measure(count: u64) -> Result<()> {
    let host = Host::with(Manifest::services()).start().await;
    let client = host.client().register("ada@example.com", "Harbour").await;
    let collection = json!({"name": "many", "dimensions": DIMENSIONS});
    let collection = text(&client.post("/api/embeddings/collections", &collection).await.expect(201), "id");
    let before = stored(&host)?;
    let begin = Instant::now();
    let mut from = 0;
    while from < count {
        let until = (from + AT_ONCE).min(count);
        let documents: Vec<Value> = (from..until)
            .map(|number| {
                json!({"collectionId": collection, "sourceId": format!("s{number}"), "content": format!("hook {number}"),
                    "vector": vector(number)})
            })
            .collect();
        client.post("/api/embeddings/batch", &json!({ "embeddings": documents })).await.done(201);
        from = until;
    }
    let took = begin.elapsed();
    let bytes = stored(&host)?.saturating_sub(before);
    println!("{count} vectors of {DIMENSIONS} members, {AT_ONCE} in a request");
    println!("  taken in   {:>8.1} s  {:>8.0} a second", took.as_secs_f64(), count as f64 / took.as_secs_f64());
    println!("  stored     {:>8.0} bytes each", bytes as f64 / count as f64);
    let question = |number: u64| json!({"collectionId": collection, "vector": vector(count + number), "threshold": -1, "limit": BEST});
    let expected: Vec<Vec<String>> = (0..CHECKED).map(|number| best(&vector(count + number), count)).collect();
    let ask = async |number: u64| client.post("/api/embeddings/search", &question(number)).await.expect(200);
    let mut medians = Vec::new();
    for (place, is_in_database) in [("as it is", true), ("in the component", false)] {
        if !is_in_database {
            entries::set(&host, "embeddings", "config.search_in_database = \"false\"").await.done(202);
            if client.post("/api/embeddings/search", &question(0)).await.status == 504 {
                println!("  searched {place:<16} not within the time of a request");
                break;
            }
        }
        let mut hits = 0;
        for (number, expected) in (0..).zip(&expected) {
            let found = ask(number).await;
            ensure!(
                found["compared"].as_u64() == Some(count),
                "{count} vectors, but {} were compared",
                found["compared"]
            );
            let found = found["results"].as_array().cloned().unwrap_or_default();
            hits += found.iter().filter(|result| expected.contains(&text(&result["embedding"], "sourceId"))).count();
        }
        let mut number = 0;
        let median = asked(async || {
            number += 1;
            ask(number).await;
        })
        .await;
        let recall = hits as f64 / (CHECKED as f64 * BEST as f64);
        println!(
            "  searched {place:<16} {:>8.1} ms (median), recall {recall:.3} beside comparing each here",
            milliseconds(median)
        );
        medians.push(milliseconds(median));
    }
    if let [in_database, in_component] = medians.as_slice() {
        println!("  ratio      {:>8.1}", in_component / in_database);
    }
    Ok(())
}

/// The same vector for the same number, in thousandths, which are the same as text and as numbers.
fn vector(number: u64) -> Vec<f64> {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (f64::from(u16::try_from(state % 2_001).unwrap_or(0)) - 1_000.0) / 1_000.0
    };
    (0..DIMENSIONS).map(|_| next()).collect()
}

/// The sources of the vectors most like one.
fn best(question: &[f64], count: u64) -> Vec<String> {
    let mut all: Vec<(f64, u64)> = (0..count)
        .map(|number| {
            let vector = vector(number);
            let product: f64 = vector.iter().zip(question).map(|(left, right)| left * right).sum();
            let norm = vector.iter().map(|member| member * member).sum::<f64>().sqrt();
            (product / norm, number)
        })
        .collect();
    all.sort_by(|left, right| right.0.total_cmp(&left.0));
    all.truncate(BEST);
    all.into_iter().map(|(_, number)| format!("s{number}")).collect()
}
