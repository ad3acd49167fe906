//! What makes vectors of texts: one trait, whoever does it.

pub mod lexical;
pub mod remote;

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};
use sha2::{Digest as _, Sha256};

use crate::model::{Model, Provider};

/// How long the vector of a query is remembered.
const QUERY_TTL: Duration = Duration::from_secs(24 * 3600);
/// Characters that make about one token.
const TOKEN_CHARACTERS: usize = 4;

/// The code of the problem of a provider that takes no more at present.
pub const RATE_LIMITED: &str = "PROVIDER_RATE_LIMITED";

/// Whether a provider is at fault, or takes no more at present: the document fails and is tried again.
pub fn is_providers(problem: &Problem) -> bool {
    problem.status == 502 || problem.code == RATE_LIMITED
}

/// How long the provider asks to wait before it is asked again.
pub fn wait_of(problem: &Problem) -> Option<Duration> {
    problem.member("retryAfter").and_then(Value::as_u64).map(Duration::from_secs)
}

/// Makes vectors.
pub trait Embedder {
    /// One vector for each text, in their order. Problems of the provider are those of [`is_providers`].
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>>;
    /// How many texts it takes within one request of ours without keeping anybody waiting.
    fn texts_max(&self) -> usize;
}

/// The embedder of a model. A small static model would be one more line here.
pub fn of(model: &Model) -> Box<dyn Embedder + '_> {
    match model.provider {
        Provider::Builtin => Box::new(lexical::Lexical),
        Provider::Openai | Provider::Ollama => Box::new(remote::Remote { model }),
    }
}

/// The vector of a query, remembered for a day.
pub fn of_query(model: &Stored<Model>, text: &str) -> Result<Vec<f32>> {
    if model.provider == Provider::Builtin {
        // Made faster than it is looked up.
        return Ok(lexical::embed(text));
    }
    let key = format!("query:{}:{}:{}", model.id, model.version, hash(text));
    berth_sdk::cache::remember(&key, QUERY_TTL, || {
        let vectors = of(model).embed(&[text.to_string()])?;
        vectors.into_iter().next().ok_or_else(Problem::internal)
    })
}

/// SHA-256 in hexadecimal.
pub fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// About how many tokens a text has.
pub fn tokens(text: &str) -> i64 {
    i64::try_from(text.chars().count().div_ceil(TOKEN_CHARACTERS)).unwrap_or(i64::MAX)
}
