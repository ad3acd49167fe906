//! JSON Schemas of types, for the API's document and for finding every fault of a body.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// The schema of a type, whole: nested types are written in place.
///
/// ```
/// use berth_sdk::{data, schema};
/// #[data]
/// struct Note { title: String, due_date: Option<String> }
/// assert_eq!(schema::of::<Note>()["required"], berth_sdk::json!(["title"]));
/// ```
pub fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut whole = settings.into_generator().into_root_schema_for::<T>().to_value();
    tell_callers(&mut whole);
    whole
}

/// Says in numbers what the formats of integers mean, as only `int32` and `int64` are widely known, and leaves out examples in Rust.
fn tell_callers(schema: &mut Value) {
    match schema {
        Value::Array(entries) => entries.iter_mut().for_each(tell_callers),
        Value::Object(words) => {
            if let Some(Value::String(description)) = words.get_mut("description")
                && let Some(at) = description.find("```")
            {
                description.truncate(at);
                description.truncate(description.trim_end().len());
            }
            let max = match words.get("format").and_then(Value::as_str) {
                Some("uint8") => Some(u64::from(u8::MAX)),
                Some("uint16") => Some(u64::from(u16::MAX)),
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint") => u64::try_from(usize::MAX).ok(),
                Some("uint64") => Some(u64::MAX),
                _ => None,
            };
            for word in ["minLength", "maxLength", "minItems", "maxItems"] {
                // A bound may be written as a number of any kind.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length")]
                if let Some(bound) = words.get(word).filter(|bound| bound.is_f64()).and_then(Value::as_f64) {
                    words.insert(word.into(), (bound as u64).into());
                }
            }
            if let Some(max) = max {
                words.entry("maximum").or_insert(max.into());
                words.remove("format");
            }
            words.values_mut().for_each(tell_callers);
        }
        _ => {}
    }
}

/// For the API's document: a record with the members of another one beside its own.
///
/// ```
/// use berth_sdk::{data, schema::{self, With}};
/// #[data]
/// struct Note { title: String }
/// #[data]
/// struct Counted { reads: i64 }
/// assert_eq!(schema::of::<With<Note, Counted>>()["required"], berth_sdk::json!(["title", "reads"]));
/// ```
pub struct With<A, B>(std::marker::PhantomData<fn() -> (A, B)>);

impl<A: JsonSchema, B: JsonSchema> JsonSchema for With<A, B> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}_with_{}", A::schema_name(), B::schema_name()).into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut whole = of::<A>();
        join(&mut whole, of::<B>());
        schemars::Schema::try_from(whole).unwrap_or_default()
    }
}

/// Adds to a schema of an object what another one says of the same object.
pub(crate) fn join(whole: &mut Value, more: Value) {
    let (Value::Object(whole), Value::Object(more)) = (whole, more) else { return };
    for (word, value) in more {
        match (whole.get_mut(&word), value) {
            (Some(Value::Object(known)), Value::Object(more)) if word == "properties" => {
                for (name, schema) in more {
                    known.entry(name).or_insert(schema);
                }
            }
            (Some(Value::Array(known)), Value::Array(more)) if word == "required" => {
                more.into_iter().for_each(|name| {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                });
            }
            (Some(_), _) => {}
            (None, value) => {
                whole.insert(word, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn examples_in_rust_are_not_for_callers() {
        let schema = of::<crate::types::Scope>();
        assert_eq!(schema["description"], "How far a thing reaches.");
    }
}
