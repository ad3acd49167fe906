//! Searching by meaning, through embeddings: only what everybody in the organization may read is there.

use berth_sdk::{cache, http_out, prelude::*, serde_json::Value};
use std::time::Duration;

/// The source of collections of articles.
const SOURCE: &str = "knowledge";
/// How long the collection is remembered.
const COLLECTION_TTL: Duration = Duration::from_secs(30);
/// How long embeddings may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A passage that was found.
#[derive(Clone, Debug)]
pub struct Passage {
    /// The entry.
    pub entry_id: String,
    /// What it says.
    pub content: String,
    /// Where it begins in the text that was indexed: title, an empty line, content.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// How similar it is.
    pub similarity: f64,
}

/// The passages most like a text, the best first; none when embeddings cannot say: it is away, or no collection of
/// articles is there.
pub fn passages(text: &str, project_id: Option<&Id>, limit: usize) -> Option<Vec<Passage>> {
    let collection_id = collection()?;
    let call = http_out::plugin("embeddings").post("/api/embeddings/search").timeout(TIMEOUT);
    let query: String = text.chars().take(4_000).collect();
    let body = json!({
        "query": query, "collectionId": collection_id, "limit": limit.clamp(1, 100), "projectId": project_id,
    });
    match call.json(&body).fetch::<Value>() {
        Ok(answer) => Some(answer.get("results")?.as_array()?.iter().filter_map(passage).collect()),
        Err(problem) => {
            logging::info!("searching without embeddings", problem = problem);
            None
        }
    }
}

fn passage(result: &Value) -> Option<Passage> {
    let chunk = result.get("chunk");
    let offset = |name: &str| {
        let offset = chunk.and_then(|chunk| chunk.get(name)).and_then(Value::as_u64).unwrap_or(0);
        usize::try_from(offset).unwrap_or(0)
    };
    let content = chunk.and_then(|chunk| chunk.get("content")).and_then(Value::as_str).unwrap_or_default();
    Some(Passage {
        entry_id: result.get("embedding")?.get("sourceId")?.as_str()?.to_string(),
        content: content.to_string(),
        start: offset("startOffset"),
        end: offset("endOffset"),
        similarity: result.get("similarity")?.as_f64()?,
    })
}

/// The collection of articles; the organization's own before others.
fn collection() -> Option<String> {
    if let Some(known) = cache::get::<String>("collection") {
        return Some(known);
    }
    let call = http_out::plugin("embeddings").get("/api/embeddings/collections").timeout(TIMEOUT);
    let answer = call.query("sourceType", SOURCE).query("limit", "50").fetch::<Value>().ok()?;
    let items = answer.get("items")?.as_array()?;
    let is_own = |item: &&Value| item.get("scope").and_then(Value::as_str) == Some("ORGANIZATION");
    let found = items.iter().find(is_own)?.get("id")?.as_str()?.to_string();
    cache::set_ttl("collection", &found, COLLECTION_TTL);
    Some(found)
}
