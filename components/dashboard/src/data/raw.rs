//! JSON that is text already: it is carried from a service through the cache into an answer without being read again.

use std::borrow::Cow;

use berth_sdk::{
    prelude::*,
    schemars::{JsonSchema, Schema, SchemaGenerator, json_schema},
    serde::{Deserialize, Deserializer, Serialize, Serializer},
    serde_json::{
        Value,
        value::{RawValue, to_raw_value},
    },
    validate::Tidy,
};

/// A piece of JSON.
#[derive(Clone, Debug)]
pub(crate) struct Raw(Box<RawValue>);

impl Raw {
    /// A value as its text.
    pub fn new(value: &Value) -> Result<Self> {
        to_raw_value(value).map(Self).map_err(|_| Problem::internal())
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Raw {
    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

impl Tidy for Raw {}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;

    use super::*;

    #[test]
    fn what_is_carried_is_not_changed() {
        let raw = Raw::new(&json!({"b": [1, 2.50, null], "a": "<&>"})).unwrap();
        let text = serde_json::to_string(&raw).unwrap();
        assert_eq!(text, r#"{"b":[1,2.5,null],"a":"<&>"}"#);
        assert_eq!(serde_json::from_str::<Raw>(&text).unwrap(), raw);
    }
}
