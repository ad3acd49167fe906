//! Asking ai-service for something that must be JSON. Nothing here stores anything: a caller stores only what came back
//! whole.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    http_out,
    problem::{Problem, Result},
    validate::{Faults, Path, Rule, Tidy},
};

/// What is asked.
///
/// ```
/// use berth_sdk::{assistant::{self, Question}, data, json};
/// #[data]
/// struct Names { #[field(min = 1)] names: Vec<String> }
/// let question = Question { system: "Name the parts.", wish: json!({ "of": "a boat" }), what: "Names" };
/// let problem = assistant::ask(&question, assistant::object_in::<Names>).unwrap_err();
/// assert_eq!(problem.status, 503); // natively nobody answers
/// ```
pub struct Question<'a> {
    /// What the model is told to do.
    pub system: &'a str,
    /// What is wanted.
    pub wish: Value,
    /// What needs it, for the answer without ai-service: `Plans from an intent`.
    pub what: &'a str,
}

/// Asks, and once more with the faults when `read` cannot use the answer. 503 without ai-service, 502 when it answers
/// with something else twice.
pub fn ask<T>(question: &Question<'_>, read: impl Fn(&str) -> Result<T>) -> Result<T> {
    let mut messages = vec![
        json!({ "role": "system", "content": question.system }),
        json!({ "role": "user", "content": question.wish.to_string() }),
    ];
    let first = complete(&messages, question.what)?;
    let fault = match read(&first) {
        Ok(answer) => return Ok(answer),
        Err(problem) => problem,
    };
    messages.push(json!({ "role": "assistant", "content": first }));
    messages.push(json!({ "role": "user", "content": format!("That is not valid: {}", fault.to_json("")) }));
    read(&complete(&messages, question.what)?)
        .map_err(|_| Problem::bad_gateway("The model answered with something else than it was asked for."))
}

/// The JSON object inside an answer, read into a type; 400 says what does not fit.
///
/// ```
/// use berth_sdk::{assistant::object_in, data};
/// #[data]
/// struct Names { #[field(min = 1)] names: Vec<String> }
/// assert_eq!(object_in::<Names>("Here:\n```json\n{\"names\":[\"a\"]}\n```").unwrap().names, ["a"]);
/// assert_eq!(object_in::<Names>("nothing").unwrap_err().status, 400);
/// ```
pub fn object_in<T: DeserializeOwned + Tidy>(text: &str) -> Result<T> {
    let object = text.find('{').and_then(|from| text.rfind('}').and_then(|to| text.get(from..=to))).unwrap_or_default();
    let mut value: T =
        serde_json::from_str(object).map_err(|error| Problem::bad_request(format!("It does not fit: {error}.")))?;
    let mut faults = Faults::default();
    value.tidy(&Rule::default(), &Path::default(), &mut faults);
    faults.finish()?;
    Ok(value)
}

fn complete(messages: &[Value], what: &str) -> Result<String> {
    let answer: Value = http_out::plugin("ai-service")
        .post("/api/ai/completions")
        .json(&json!({ "messages": messages, "temperature": 0 }))
        .fetch()
        .map_err(|problem| {
            if matches!(problem.status, 404 | 502..=504) {
                return Problem::unavailable(format!("{what} need ai-service, which is not available."));
            }
            problem
        })?;
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
    text.map(ToString::to_string).ok_or_else(|| Problem::bad_gateway("ai-service answered without a text."))
}

#[cfg(test)]
mod tests {
    use super::{Question, ask, object_in};
    use crate::{data, json};

    #[data]
    struct Wanted {
        #[field(min = 1, max = 2)]
        names: Vec<String>,
    }

    #[test]
    fn an_object_is_found_inside_an_answer() {
        assert_eq!(object_in::<Wanted>("Here:\n```json\n{\"names\":[\"a\"]}\n```").unwrap().names, ["a"]);
        for text in ["nothing", "{}", "{\"names\":[]}", "}{"] {
            assert_eq!(object_in::<Wanted>(text).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn without_ai_service_it_is_503_that_says_what_needs_it() {
        let question = Question { system: "s", wish: json!({}), what: "Stories" };
        let problem = ask(&question, object_in::<Wanted>).unwrap_err();
        assert_eq!(problem.status, 503);
        assert!(problem.detail.starts_with("Stories need ai-service"), "{}", problem.detail);
    }
}
