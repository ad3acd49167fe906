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
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
