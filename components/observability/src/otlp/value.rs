//! Attributes of OTLP as JSON.

use base64::Engine as _;
use berth_sdk::serde_json::{Map, Value};

use super::message::{Any, AnyValue, KeyValue, Resource};

/// How deep a value may nest; what lies deeper is left out.
const DEPTH_MAX: usize = 16;

/// Attributes as members of an object.
pub(super) fn members(attributes: Vec<KeyValue>) -> Map<String, Value> {
    members_at(attributes, 0)
}

fn members_at(attributes: Vec<KeyValue>, depth: usize) -> Map<String, Value> {
    attributes
        .into_iter()
        .filter(|attribute| !attribute.key.is_empty())
        .map(|attribute| (clean(attribute.key), value_at(attribute.value, depth)))
        .collect()
}

/// One value.
pub(super) fn value(value: Option<AnyValue>) -> Value {
    value_at(value, 0)
}

fn value_at(value: Option<AnyValue>, depth: usize) -> Value {
    let Some(value) = value.and_then(|value| value.value).filter(|_| depth < DEPTH_MAX) else { return Value::Null };
    match value {
        Any::StringValue(text) => clean(text).into(),
        Any::BoolValue(truth) => truth.into(),
        Any::IntValue(number) => number.into(),
        // What JSON has no number for becomes a text.
        Any::DoubleValue(number) => {
            berth_sdk::serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
        }
        Any::ArrayValue(list) => list.values.into_iter().map(|entry| value_at(Some(entry), depth + 1)).collect(),
        Any::KvlistValue(list) => Value::Object(members_at(list.values, depth + 1)),
        Any::BytesValue(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
    }
}

/// No database has a text with U+0000 in it.
pub(super) fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// The name of the service, and what else is said of it; what every span of an SDK repeats is left out.
pub(super) fn resource(resource: Option<Resource>) -> (String, Map<String, Value>) {
    let mut attributes = members(resource.unwrap_or_default().attributes);
    let service = match attributes.remove("service.name") {
        Some(Value::String(name)) if !name.trim().is_empty() => name,
        _ => "unknown_service".into(),
    };
    attributes.retain(|name, _| !name.starts_with("telemetry.sdk."));
    (service, attributes)
}
