//! `/embeddings` in OpenAI's form; the plugin embeddings makes the vectors.

use base64::Engine;
use berth_sdk::{
    http_out,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Compatible, request::Body};
use crate::message;

/// Texts of one request.
const TEXTS_MAX: usize = 2_048;
/// Texts that embeddings takes at once.
const BATCH: usize = 100;

/// `POST /api/ai/v1/embeddings`.
pub fn create(body: Body) -> Compatible {
    Compatible(respond(&body))
}

fn respond(body: &Body) -> Result<Response> {
    let members = body.members()?;
    let texts = texts(&members)?;
    let is_packed = match members.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Problem::field("encoding_format", "must be float or base64")),
    };
    if members.get("dimensions").is_some_and(|dimensions| !dimensions.is_null()) {
        return Err(Problem::field("dimensions", "is not supported"));
    }
    let wanted =
        members.get("model").and_then(Value::as_str).filter(|model| !matches!(*model, "" | "default" | "auto"));
    let mut data = Vec::with_capacity(texts.len());
    let mut model = wanted.unwrap_or("default").to_string();
    let mut tokens = 0;
    for batch in texts.chunks(BATCH) {
        let mut question = json!({ "texts": batch });
        if let (Some(wanted), Some(members)) = (wanted, question.as_object_mut()) {
            members.insert("model".into(), wanted.into());
        }
        let answer: Value = http_out::plugin("embeddings").post("/api/embeddings/generate").json(&question).fetch()?;
        let vectors = vectors(&answer).filter(|vectors| vectors.len() == batch.len());
        let vectors =
            vectors.ok_or_else(|| Problem::bad_gateway("embeddings answered with something else than vectors."))?;
        for vector in vectors {
            let embedding = if is_packed { packed(&vector).into() } else { json!(vector) };
            data.push(json!({ "object": "embedding", "index": data.len(), "embedding": embedding }));
        }
        if let Some(name) = answer.get("model").and_then(|model| model.as_str().or_else(|| model.get("name")?.as_str()))
        {
            model = name.to_string();
        }
        tokens += counted(&answer).unwrap_or_else(|| batch.iter().map(|text| message::tokens(text)).sum());
    }
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Response::json(200, &json!({ "object": "list", "data": data, "model": model, "usage": usage }))
}

fn texts(members: &Map<String, Value>) -> Result<Vec<String>> {
    let texts: Option<Vec<String>> = match members.get("input") {
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(list)) => list.iter().map(|text| text.as_str().map(ToString::to_string)).collect(),
        _ => None,
    };
    let texts = texts.ok_or_else(|| Problem::field("input", "must be a text or a list of texts"))?;
    if texts.is_empty() || texts.len() > TEXTS_MAX || texts.iter().any(String::is_empty) {
        return Err(Problem::field("input", format!("must be 1 to {TEXTS_MAX} texts, none of them empty")));
    }
    Ok(texts)
}

/// The tokens that an answer speaks of.
fn counted(answer: &Value) -> Option<i64> {
    let usual = ["/totalTokens", "/usage/totalTokens", "/usage/promptTokens"];
    usual.iter().find_map(|pointer| answer.pointer(pointer).and_then(Value::as_i64))
}

/// The vectors of an answer, in one of the usual forms.
fn vectors(answer: &Value) -> Option<Vec<Vec<f64>>> {
    let list = ["embeddings", "vectors", "data"].iter().find_map(|name| answer.get(*name)?.as_array())?;
    let vector = |entry: &Value| {
        let numbers = entry
            .as_array()
            .or_else(|| entry.get("vector")?.as_array())
            .or_else(|| entry.get("embedding")?.as_array())?;
        numbers.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()
    };
    list.iter().map(vector).collect()
}

/// A vector as its clients like it best: little-endian floats in base64.
fn packed(vector: &[f64]) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "half of the precision is what is asked for")]
    let bytes: Vec<u8> = vector.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_found_in_their_usual_forms() {
        let wanted = Some(vec![vec![1.0, 0.5]]);
        assert_eq!(vectors(&json!({"embeddings": [[1, 0.5]]})), wanted);
        assert_eq!(vectors(&json!({"embeddings": [{"vector": [1, 0.5]}]})), wanted);
        assert_eq!(vectors(&json!({"vectors": [{"embedding": [1, 0.5]}]})), wanted);
        assert_eq!(vectors(&json!({"embeddings": [{"vector": "x"}]})), None);
        assert_eq!(packed(&[1.0, 0.5]), "AACAPwAAAD8=");
        assert_eq!(counted(&json!({"totalTokens": 9, "embeddings": []})), Some(9), "as embeddings says it");
        assert_eq!(counted(&json!({"embeddings": []})), None);
    }

    #[test]
    fn an_input_is_one_text_or_several() {
        let of = |value: Value| texts(&Map::from_iter([("input".to_string(), value)]));
        assert_eq!(of(json!("a")).unwrap(), ["a"]);
        assert_eq!(of(json!(["a", "b"])).unwrap().len(), 2);
        for wrong in [json!([]), json!([1, 2]), json!(""), json!({}), json!(vec!["x"; TEXTS_MAX + 1])] {
            assert_eq!(of(wrong).unwrap_err().status, 400);
        }
    }
}
