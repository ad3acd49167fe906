//! What becomes of the answer to a source of one's own: a part of it, fewer members, fewer entries, or counts. Pure.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

/// Groups that are counted; whatever comes after them is counted together.
const GROUPS_MAX: usize = 100;
/// What all the further groups are called.
const OTHERS: &str = "…";

/// What is done, in this order.
#[data]
#[derive(Default)]
pub(crate) struct Transform {
    /// Takes a part: a JSON Pointer, such as `/items`.
    #[field(max = 200)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// Counts the entries of a list by this member.
    #[field(min = 1, max = 100)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count_by: Option<String>,
    /// Adds up this member of the entries of a list.
    #[field(min = 1, max = 100)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
    /// Keeps these members of each entry.
    #[field(max = 50)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// Keeps so many entries.
    #[field(min = 1, max = 1000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

impl Transform {
    /// The fault of its form.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.select.as_ref().is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(("select", "must be a JSON Pointer such as /items"));
        }
        if self.count_by.is_some() && self.sum.is_some() {
            return Err(("sum", "cannot be there together with countBy"));
        }
        Ok(())
    }

    /// Does it; 422 where the answer is not of the form that it needs.
    pub fn apply(&self, answer: Value) -> Result<Value> {
        let mut value = match &self.select {
            Some(pointer) => answer
                .pointer(pointer)
                .cloned()
                .ok_or_else(|| Problem::unprocessable(format!("The answer has nothing at {pointer}.")))?,
            None => answer,
        };
        let entries = |value: &Value, what: &str| {
            value.as_array().cloned().ok_or_else(|| Problem::unprocessable(format!("{what} needs a list: select one.")))
        };
        if let Some(member) = &self.count_by {
            return Ok(count_by(&entries(&value, "countBy")?, member));
        }
        if let Some(member) = &self.sum {
            let list = entries(&value, "sum")?;
            let sum: f64 = list.iter().filter_map(|entry| entry.get(member)?.as_f64()).sum();
            return Ok(json!({ "sum": sum, "entries": list.len() }));
        }
        if let Some(fields) = &self.fields {
            value = narrowed(value, fields);
        }
        if let (Some(limit), Value::Array(list)) = (self.limit, &mut value) {
            list.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(value)
    }
}

fn count_by(list: &[Value], member: &str) -> Value {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for entry in list {
        let group = match entry.get(member) {
            None | Some(Value::Null) => "none".to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let group = if counts.len() < GROUPS_MAX || counts.contains_key(&group) { group } else { OTHERS.into() };
        *counts.entry(group).or_default() += 1;
    }
    json!({ "counts": counts, "total": list.len() })
}

fn narrowed(value: Value, fields: &[String]) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(|entry| narrowed_entry(entry, fields)).collect()),
        other => narrowed_entry(other, fields),
    }
}

fn narrowed_entry(entry: Value, fields: &[String]) -> Value {
    match entry {
        Value::Object(mut members) => {
            let kept: Map<String, Value> =
                fields.iter().filter_map(|field| members.remove_entry(field.as_str())).collect();
            Value::Object(kept)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::http::read_value;

    use super::*;

    fn transform(how: Value, answer: Value) -> Result<Value> {
        let transform: Transform = read_value(how)?;
        transform.check().map_err(|(field, message)| Problem::field(field, message))?;
        transform.apply(answer)
    }

    #[test]
    fn an_answer_becomes_what_is_wanted_of_it() {
        let page = json!({"items": [{"id": 1, "status": "a", "n": 2}, {"id": 2, "status": "b", "n": 0.5}, {"id": 3, "status": "a"}], "total": 3});
        let made = |how: Value| transform(how, page.clone()).unwrap();
        assert_eq!(made(json!({})), page);
        assert_eq!(made(json!({"select": "/total"})), json!(3));
        assert_eq!(
            made(json!({"select": "/items", "countBy": "status"})),
            json!({"counts": {"a": 2, "b": 1}, "total": 3})
        );
        assert_eq!(made(json!({"select": "/items", "countBy": "n"}))["counts"]["none"], 1);
        assert_eq!(made(json!({"select": "/items", "sum": "n"})), json!({"sum": 2.5, "entries": 3}));
        assert_eq!(made(json!({"select": "/items", "fields": ["id"], "limit": 2})), json!([{"id": 1}, {"id": 2}]));
        assert_eq!(made(json!({"fields": ["total"]})), json!({"total": 3}));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let status = |how: Value| transform(how, json!({"a": 1})).unwrap_err().status;
        assert_eq!(status(json!({"select": "/items"})), 422);
        assert_eq!(status(json!({"countBy": "x"})), 422);
        assert_eq!(status(json!({"select": "items"})), 400);
        assert_eq!(status(json!({"countBy": "x", "sum": "y"})), 400);
        assert_eq!(status(json!({"limit": 0})), 400);
    }

    #[test]
    fn groups_are_bounded() {
        let many: Vec<Value> = (0..500).map(|index| json!({"id": index})).collect();
        let counted = transform(json!({"countBy": "id"}), json!(many)).unwrap();
        assert_eq!(counted["counts"].as_object().unwrap().len(), GROUPS_MAX + 1);
        assert_eq!(counted["counts"][OTHERS], 400);
    }
}
