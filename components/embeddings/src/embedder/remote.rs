//! Embedders behind HTTP: OpenAI-compatible services and Ollama. Credentials are never here: the host puts them in by the
//! secret's id.

use std::time::Duration;

use berth_sdk::{
    http_out::{Call, Client, Reply},
    prelude::*,
    serde_json::Value,
};

use super::{Embedder, RATE_LIMITED};
use crate::model::{Model, Provider};

/// How long a provider may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is tried, and how long is waited in between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// The longest wait that a provider may ask for within a request; where it asks for more, the caller is told how long.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// What a caller is told to wait where the provider does not say.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Texts of one call.
const TEXTS_MAX: usize = 64;
/// Characters of a provider's words that are passed on.
const SAID_MAX: usize = 300;

/// A provider's model.
pub struct Remote<'a> {
    /// Which one.
    pub model: &'a Model,
}

/// Why a call gave no vectors.
struct Failure {
    problem: Problem,
    may_pass: bool,
    /// How long the provider asks to wait.
    retry_after: Option<Duration>,
}

impl Failure {
    /// How long is waited before the next attempt after this one; none: there is no use in another one now.
    fn pause(&self, attempt: u32) -> Option<Duration> {
        let pause = self.retry_after.unwrap_or(PAUSE * attempt);
        (self.may_pass && attempt < ATTEMPTS && pause <= PAUSE_MAX).then_some(pause)
    }
}

impl Embedder for Remote<'_> {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(TEXTS_MAX) {
            vectors.extend(self.batch(batch)?);
        }
        Ok(vectors)
    }

    fn texts_max(&self) -> usize {
        TEXTS_MAX
    }
}

impl Remote<'_> {
    fn batch(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let call = request(self.model, texts);
        let mut attempt = 1;
        loop {
            let failure = match send(&call).and_then(|reply| self.read(&reply, texts.len())) {
                Ok(vectors) => return Ok(vectors),
                Err(failure) => failure,
            };
            let Some(pause) = failure.pause(attempt) else { return Err(failure.problem) };
            clock::sleep(pause);
            attempt += 1;
        }
    }

    fn read(&self, reply: &Reply, count: usize) -> Result<Vec<Vec<f32>>, Failure> {
        let body: Value = berth_sdk::serde_json::from_slice(&reply.body).unwrap_or_default();
        let vectors = vectors_of(&body).filter(|vectors| vectors.len() == count);
        let Some(vectors) = vectors else {
            return Err(lasting("The provider answered with something else than a vector for each text."));
        };
        for vector in &vectors {
            if i64::try_from(vector.len()).ok() != Some(self.model.dimensions) {
                let (got, wanted) = (vector.len(), self.model.dimensions);
                return Err(lasting(format!("The provider's vectors have {got} members; the model says {wanted}.")));
            }
            if crate::draft::vector_fault(vector).is_some() {
                return Err(lasting("The provider answered with a vector that is none."));
            }
        }
        Ok(vectors)
    }
}

/// The request for some texts.
fn request(model: &Model, texts: &[String]) -> Call {
    let body = json!({ "model": model.name, "input": texts });
    let call = match model.provider {
        Provider::Ollama => {
            Client::new(model.base_url.as_deref().unwrap_or("http://127.0.0.1:11434")).post("/api/embed").json(&body)
        }
        _ => {
            let base = Client::new(model.base_url.as_deref().unwrap_or("https://api.openai.com/v1"));
            base.post("/embeddings").json(&json!({ "model": model.name, "input": texts, "encoding_format": "float" }))
        }
    };
    let call = call.timeout(TIMEOUT);
    match &model.secret_id {
        Some(secret_id) => call.auth_secret_id(secret_id.as_str()),
        None => call,
    }
}

fn send(call: &Call) -> Result<Reply, Failure> {
    let reply = call.send().map_err(|fault| {
        let (text, may_pass) = match fault {
            Fault::Denied(_) => ("Its address is not on this service's list of allowed hosts.", false),
            Fault::SecretUnavailable => {
                ("Its secret is not there, has expired, or may not be used by embeddings for this address.", false)
            }
            Fault::Timeout => ("It took too long.", true),
            Fault::TooLarge(_) => ("Its answer is too large.", false),
            Fault::Invalid(_) => ("Its address is not valid.", false),
            _ => ("It cannot be reached.", true),
        };
        Failure { may_pass, ..lasting(format!("The embedding provider failed. {text}")) }
    })?;
    if reply.is_success() { Ok(reply) } else { Err(refused(&reply)) }
}

/// What an answer other than 2xx means.
fn refused(reply: &Reply) -> Failure {
    let retry_after = reply.retry_after();
    if reply.status == 429 {
        return Failure { problem: limited(retry_after.unwrap_or(RETRY_AFTER)), may_pass: true, retry_after };
    }
    if matches!(reply.status, 401..=403) {
        // Its words may hold the key.
        return lasting(format!("The embedding provider refused the credentials ({}).", reply.status));
    }
    let said: String = validate::clean(&String::from_utf8_lossy(&reply.body)).chars().take(SAID_MAX).collect();
    let may_pass = matches!(reply.status, 408 | 425 | 500..);
    Failure { may_pass, retry_after, ..lasting(format!("The embedding provider answered {}: {said}", reply.status)) }
}

/// 429: the provider takes no more at present.
fn limited(wait: Duration) -> Problem {
    Problem::rate_limited("The embedding provider takes no more at present.")
        .with_code(RATE_LIMITED)
        .with("retryAfter", wait.as_secs())
        .with_header("retry-after", wait.as_secs().to_string())
}

fn failed(detail: impl Into<String>) -> Problem {
    Problem::bad_gateway(detail).with_code("EMBEDDING_FAILED")
}

fn lasting(detail: impl Into<String>) -> Failure {
    Failure { problem: failed(detail), may_pass: false, retry_after: None }
}

/// The vectors of an answer in the order of the texts: `data[].embedding` with `index`, or `embeddings[]`.
fn vectors_of(body: &Value) -> Option<Vec<Vec<f32>>> {
    if let Some(list) = body.get("embeddings").and_then(Value::as_array) {
        return list.iter().map(numbers).collect();
    }
    let mut entries: Vec<(u64, Vec<f32>)> = Vec::new();
    for (place, entry) in body.get("data")?.as_array()?.iter().enumerate() {
        let index = entry.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
        entries.push((index, numbers(entry.get("embedding")?)?));
    }
    entries.sort_by_key(|(index, _)| *index);
    let in_order = entries.iter().enumerate().all(|(place, (index, _))| place as u64 == *index);
    in_order.then(|| entries.into_iter().map(|(_, vector)| vector).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "vectors are kept in single precision")]
fn numbers(list: &Value) -> Option<Vec<f32>> {
    list.as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(provider: &str, base: Option<&str>) -> Model {
        berth_sdk::serde_json::from_value(
            json!({"provider": provider, "name": "m", "dimensions": 2, "baseUrl": base, "secretId": "s1"}),
        )
        .unwrap()
    }

    #[test]
    fn each_provider_is_asked_in_its_own_way() {
        let call = request(&model("openai", None), &["a".into()]);
        assert_eq!(call.url, "https://api.openai.com/v1/embeddings");
        assert!(call.headers.contains(&("berth-auth-secret-id".into(), "s1".into())));
        let body: Value = berth_sdk::serde_json::from_slice(&call.body).unwrap();
        assert_eq!(body, json!({"model": "m", "input": ["a"], "encoding_format": "float"}));
        assert_eq!(request(&model("ollama", Some("http://a:1/")), &[]).url, "http://a:1/api/embed");
    }

    #[test]
    fn answers_are_read_in_the_order_of_the_texts() {
        let openai = json!({"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1.0, 2.0]}]});
        assert_eq!(vectors_of(&openai), Some(vec![vec![1.0, 2.0], vec![3.0, 4.0]]));
        assert_eq!(vectors_of(&json!({"embeddings": [[1, 2]]})), Some(vec![vec![1.0, 2.0]]));
        for wrong in [json!({}), json!({"data": [{"index": 3, "embedding": [1]}]}), json!({"embeddings": [["x"]]})] {
            assert_eq!(vectors_of(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_provider_is_given_the_time_it_asks_for_where_that_is_short() {
        let of = |status: u16, header: Option<&str>| {
            let headers = header.map(|value| ("retry-after".to_string(), value.to_string())).into_iter().collect();
            refused(&Reply { status, headers, body: vec![] })
        };
        assert_eq!(of(429, Some("2")).pause(1), Some(Duration::from_secs(2)));
        assert_eq!(of(429, Some("2")).pause(ATTEMPTS), None);
        assert_eq!(of(429, Some("7")).pause(1), None, "nobody is kept waiting so long");
        assert_eq!(of(429, None).pause(2), Some(PAUSE * 2));
        assert_eq!(of(503, Some("1")).pause(1), Some(Duration::from_secs(1)));
        assert_eq!(of(400, Some("1")).pause(1), None);
        let problem = of(429, Some("7")).problem;
        assert_eq!((problem.status, problem.code.as_ref()), (429, RATE_LIMITED));
        assert_eq!(problem.headers(), [("retry-after".to_string(), "7".to_string())]);
        assert_eq!(super::super::wait_of(&problem), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_refusal_of_the_credentials_never_repeats_the_providers_words() {
        for status in 400..=404 {
            let reply = Reply { status, headers: vec![], body: b"Incorrect key: sk-secret".to_vec() };
            let failure = refused(&reply);
            assert_eq!((failure.problem.code.as_ref(), failure.pause(1)), ("EMBEDDING_FAILED", None), "{status}");
            let is_about_it = (401..=403).contains(&status);
            assert_eq!(failure.problem.detail.contains("sk-secret"), !is_about_it, "{}", failure.problem.detail);
        }
    }

    #[test]
    fn an_answer_must_fit_the_model() {
        let model = model("openai", None);
        let remote = Remote { model: &model };
        let read = |body: Value| {
            let reply = Reply { status: 200, headers: vec![], body: body.to_string().into_bytes() };
            remote.read(&reply, 1).map_err(|failure| failure.problem.code)
        };
        assert!(read(json!({"data": [{"embedding": [1, 2]}]})).is_ok());
        for wrong in [json!({"data": []}), json!({"embeddings": [[1, 2, 3]]}), json!({"embeddings": [[0, 0]]})] {
            assert_eq!(read(wrong.clone()).unwrap_err(), "EMBEDDING_FAILED", "{wrong}");
        }
    }
}
