//! A checker for the part of JSON Schema that the SDK's own types and step assertions use: `type`, `enum`, `const`,
//! `properties`, `required`, `additionalProperties`, `items`, bounds of texts, numbers and arrays, `allOf`, `anyOf`,
//! `oneOf`, `not`, and `$ref` inside the document. Unknown words are ignored, as the standard says; `pattern` is one
//! of them.

use serde_json::{Map, Value};

use super::{FieldError, Path};

/// How deep schemas and values may nest; deeper ones are a fault.
const DEPTH_MAX: usize = 64;
/// How many faults are gathered.
const FAULTS_MAX: usize = super::FAULTS_MAX;

/// Checks a value and returns the first fault in words.
///
/// ```
/// use berth_sdk::{json, validate::json_schema};
/// let schema = json!({"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}});
/// assert!(json_schema(&schema, &json!({"port": 80})).is_ok());
/// assert_eq!(json_schema(&schema, &json!({})).unwrap_err(), "port: is required");
/// ```
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    match faults(schema, value).first() {
        None => Ok(()),
        Some(fault) if fault.field.is_empty() => Err(fault.message.clone()),
        Some(fault) => Err(format!("{}: {}", fault.field, fault.message)),
    }
}

/// Checks a value and returns every fault with its path.
///
/// ```
/// use berth_sdk::{json, validate::json_schema_faults};
/// let schema = json!({"type": "array", "items": {"type": "string", "maxLength": 2}});
/// let faults = json_schema_faults(&schema, &json!(["ok", 7, "long"]));
/// assert_eq!(faults[0].field, "[1]");
/// assert_eq!(faults.len(), 2);
/// ```
pub fn faults(schema: &Value, value: &Value) -> Vec<FieldError> {
    let mut checker = Checker { root: schema, faults: Vec::new() };
    checker.visit(schema, value, &Path::default(), 0);
    checker.faults
}

struct Checker<'a> {
    root: &'a Value,
    faults: Vec<FieldError>,
}

impl Checker<'_> {
    fn visit(&mut self, schema: &Value, value: &Value, path: &Path<'_>, depth: usize) {
        if depth > DEPTH_MAX {
            return self.add(path, "is nested too deeply");
        }
        let rules = match schema {
            Value::Bool(false) => return self.add(path, "is not allowed"),
            Value::Object(rules) => rules,
            _ => return,
        };
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            match reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
                Some(target) => self.visit(target, value, path, depth + 1),
                None => self.add(path, "cannot be checked: its schema is missing"),
            }
        }
        if !self.kind(rules, value, path) {
            return;
        }
        self.choices(rules, value, path);
        match value {
            Value::Object(members) => self.object(rules, members, path, depth),
            Value::Array(entries) => self.array(rules, entries, path, depth),
            Value::String(text) => self.text(rules, text, path),
            Value::Number(_) => self.number(rules, value, path),
            _ => {}
        }
        self.combinations(rules, value, path, depth);
    }

    fn kind(&mut self, rules: &Map<String, Value>, value: &Value, path: &Path<'_>) -> bool {
        let wanted: Vec<&str> = match rules.get("type") {
            Some(Value::String(kind)) => vec![kind.as_str()],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        if wanted.iter().any(|kind| has_kind(kind, value)) {
            return true;
        }
        let named: Vec<&str> = wanted.into_iter().filter(|kind| *kind != "null").collect();
        self.add(path, format!("must be {}", with_article(&named)));
        false
    }

    fn choices(&mut self, rules: &Map<String, Value>, value: &Value, path: &Path<'_>) {
        if let Some(only) = rules.get("const")
            && !equal(only, value)
        {
            self.add(path, format!("must be {only}"));
        }
        if let Some(Value::Array(choices)) = rules.get("enum")
            && !choices.iter().any(|choice| equal(choice, value))
        {
            let names: Vec<String> = choices.iter().filter(|choice| !choice.is_null()).map(plain).collect();
            self.add(path, format!("must be one of {}", names.join(", ")));
        }
    }

    fn object(&mut self, rules: &Map<String, Value>, members: &Map<String, Value>, path: &Path<'_>, depth: usize) {
        if let Some(Value::Array(required)) = rules.get("required") {
            for name in required.iter().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    self.add(&path.member(name), "is required");
                }
            }
        }
        let known = rules.get("properties").and_then(Value::as_object);
        for (name, value) in members {
            match known.and_then(|known| known.get(name)) {
                Some(schema) => self.visit(schema, value, &path.member(name), depth + 1),
                None => match rules.get("additionalProperties") {
                    Some(Value::Bool(false)) => self.add(&path.member(name), "is not known here"),
                    Some(schema) => self.visit(schema, value, &path.member(name), depth + 1),
                    None => {}
                },
            }
        }
        self.size(rules, ("minProperties", "maxProperties"), members.len(), "members", path);
    }

    fn array(&mut self, rules: &Map<String, Value>, entries: &[Value], path: &Path<'_>, depth: usize) {
        self.size(rules, ("minItems", "maxItems"), entries.len(), "entries", path);
        let first = rules.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, entry) in entries.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| rules.get("items")) {
                self.visit(schema, entry, &path.index(index), depth + 1);
            }
        }
        if rules.get("uniqueItems") == Some(&Value::Bool(true))
            && entries.iter().enumerate().any(|(index, entry)| entries.iter().take(index).any(|other| other == entry))
        {
            self.add(path, "must not repeat an entry");
        }
    }

    fn text(&mut self, rules: &Map<String, Value>, text: &str, path: &Path<'_>) {
        self.size(rules, ("minLength", "maxLength"), text.chars().count(), "characters", path);
    }

    fn number(&mut self, rules: &Map<String, Value>, value: &Value, path: &Path<'_>) {
        let Some(number) = value.as_f64() else { return };
        let bound = |word: &str| rules.get(word).and_then(Value::as_f64);
        if let Some(min) = bound("minimum")
            && number < min
        {
            self.add(path, format!("must be at least {min}"));
        }
        if let Some(max) = bound("maximum")
            && number > max
        {
            self.add(path, format!("must be at most {max}"));
        }
        if let Some(min) = bound("exclusiveMinimum")
            && number <= min
        {
            self.add(path, format!("must be more than {min}"));
        }
        if let Some(max) = bound("exclusiveMaximum")
            && number >= max
        {
            self.add(path, format!("must be less than {max}"));
        }
    }

    fn size(
        &mut self,
        rules: &Map<String, Value>,
        (least, most): (&str, &str),
        count: usize,
        what: &str,
        path: &Path<'_>,
    ) {
        let count = count as u64;
        if let Some(min) = rules.get(least).and_then(Value::as_u64)
            && count < min
        {
            self.add(
                path,
                if min == 1 { "must not be empty".into() } else { format!("must have at least {min} {what}") },
            );
        }
        if let Some(max) = rules.get(most).and_then(Value::as_u64)
            && count > max
        {
            self.add(path, format!("must have at most {max} {what}"));
        }
    }

    fn combinations(&mut self, rules: &Map<String, Value>, value: &Value, path: &Path<'_>, depth: usize) {
        for schema in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.visit(schema, value, path, depth + 1);
        }
        if let Some(schema) = rules.get("not")
            && self.trial(schema, value, path, depth).is_empty()
        {
            self.add(path, "is not allowed");
        }
        for (word, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
            let Some(Value::Array(schemas)) = rules.get(word) else { continue };
            self.alternatives(schemas, most, value, path, depth);
        }
    }

    fn alternatives(&mut self, schemas: &[Value], most: usize, value: &Value, path: &Path<'_>, depth: usize) {
        let trials: Vec<Vec<FieldError>> =
            schemas.iter().map(|schema| self.trial(schema, value, path, depth)).collect();
        let fitting = trials.iter().filter(|trial| trial.is_empty()).count();
        if fitting > most {
            return self.add(path, "fits more than one alternative");
        }
        if fitting > 0 {
            return;
        }
        let here = path.to_string();
        let choices: Vec<String> =
            schemas.iter().filter_map(|schema| schema.get("const").filter(|only| !only.is_null()).map(plain)).collect();
        if choices.len() == schemas.len() {
            return self.add(path, format!("must be one of {}", choices.join(", ")));
        }
        // The alternative that came furthest says most: the one whose faults lie deepest.
        let nearest = trials.into_iter().max_by_key(|trial| trial.iter().filter(|fault| fault.field != here).count());
        match nearest {
            Some(trial) if !trial.is_empty() => trial.into_iter().for_each(|fault| self.faults.push(fault)),
            _ => self.add(path, "fits no alternative"),
        }
    }

    fn trial(&self, schema: &Value, value: &Value, path: &Path<'_>, depth: usize) -> Vec<FieldError> {
        let mut trial = Checker { root: self.root, faults: Vec::new() };
        trial.visit(schema, value, path, depth + 1);
        trial.faults
    }

    fn add(&mut self, path: &Path<'_>, message: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(FieldError::new(path.to_string(), message));
        }
    }
}

fn has_kind(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

/// Equality that does not tell 1 from 1.0.
fn equal(left: &Value, right: &Value) -> bool {
    left == right || (left.is_number() && right.is_number() && left.as_f64() == right.as_f64())
}

fn with_article(kinds: &[&str]) -> String {
    let named: Vec<String> = kinds
        .iter()
        .map(|kind| match *kind {
            "integer" | "array" | "object" => format!("an {kind}"),
            "string" => "a text".to_string(),
            other => format!("a {other}"),
        })
        .collect();
    if named.is_empty() { "null".into() } else { named.join(" or ") }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check, faults};

    #[test]
    fn every_fault_is_listed_with_its_path() {
        let schema = json!({
            "type": "object",
            "required": ["title", "steps"],
            "properties": {
                "title": {"type": "string", "minLength": 1},
                "steps": {"type": "array", "items": {"type": "object", "properties": {"order": {"type": "integer"}}}},
                "kind": {"type": ["string", "null"], "enum": ["a", "b", null]},
            },
        });
        let found = faults(&schema, &json!({"title": "", "steps": [{"order": 1}, {"order": "2"}], "kind": "c"}));
        let fields: Vec<&str> = found.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["title", "steps[1].order", "kind"]);
        assert_eq!(found[2].message, "must be one of a, b");
    }

    #[test]
    fn a_reference_that_leads_in_circles_ends() {
        let schema = json!({"$ref": "#"});
        assert!(check(&schema, &json!(1)).is_err());
    }

    #[test]
    fn exactly_one_alternative_fits() {
        let schema = json!({"oneOf": [{"type": "integer"}, {"minimum": 2}]});
        assert!(check(&schema, &json!(1)).is_ok());
        assert!(check(&schema, &json!(2.5)).is_ok());
        assert!(check(&schema, &json!(3)).is_err());
    }

    #[test]
    fn unknown_members_are_refused_where_the_schema_says_so() {
        let schema = json!({"type": "object", "properties": {"a": true}, "additionalProperties": false});
        assert_eq!(check(&schema, &json!({"a": 1, "b": 2})).unwrap_err(), "b: is not known here");
    }
}
