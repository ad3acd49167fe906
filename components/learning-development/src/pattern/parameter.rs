//! The parameters of a pattern, and filling them in. Pure: a value is put in as it is and never read again.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{
    serde_json::{Map, Value},
    validate::FieldError,
};

/// Parameters of one pattern.
const PARAMETERS_MAX: usize = 100;
/// Characters of a name.
const NAME_CHARACTERS_MAX: usize = 64;
/// Bytes of a filled text.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A parameter as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As in `{{name}}`.
    pub name: String,
    /// Somebody has to give it.
    pub is_required: bool,
    /// What stands there when nobody does.
    pub default: Option<String>,
}

/// Why a text cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfilled {
    /// Parameters that somebody has to give.
    Missing(Vec<String>),
    /// Parameters that are no text, number or truth value.
    Misfit(Vec<String>),
    /// More than [`TEXT_BYTES_MAX`].
    TooLarge,
}

/// Whether a text is a name: a letter or `_`, then letters, digits, `_`, `-` and `.`.
fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    let begins = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    begins
        && text.len() <= NAME_CHARACTERS_MAX
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
}

/// A value as it stands in the text.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Reads a declaration: a list of names or of objects with a `name`, or an object with one member a parameter, which is an
/// object, or its default.
pub fn declared(value: Option<&Value>) -> Result<Vec<Parameter>, Vec<FieldError>> {
    let mut read = Reader::default();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (index, entry) in list.iter().enumerate() {
                let field = format!("parameters[{index}]");
                match entry {
                    Value::String(name) => read.add(&field, name, &Value::Null),
                    Value::Object(object) => match object.get("name") {
                        Some(Value::String(name)) => read.add(&field, name, entry),
                        _ => read.fault(format!("{field}.name"), "is required"),
                    },
                    _ => read.fault(field, "must be a name or an object with a name"),
                }
            }
        }
        Some(Value::Object(members)) => {
            for (name, entry) in members {
                read.add(&format!("parameters.{name}"), name, entry);
            }
        }
        Some(_) => read.fault("parameters".into(), "must be a list or an object"),
    }
    read.finish()
}

#[derive(Default)]
struct Reader {
    parameters: Vec<Parameter>,
    faults: Vec<FieldError>,
}

impl Reader {
    fn fault(&mut self, field: String, message: &str) {
        self.faults.push(FieldError::new(field, message));
    }

    fn add(&mut self, field: &str, name: &str, entry: &Value) {
        let name = name.trim();
        if !is_name(name) {
            return self.fault(field.into(), "must be a name of letters, digits, _, - and .");
        }
        if self.parameters.iter().any(|other| other.name == name) {
            return self.fault(field.into(), "is there twice");
        }
        let (default, is_required) = match entry {
            Value::Object(object) => (object.get("default"), object.get("required")),
            Value::Null => (None, None),
            default => (Some(default), None),
        };
        let default = match default {
            None | Some(Value::Null) => None,
            Some(default) => match written(default) {
                Some(text) => Some(text),
                None => return self.fault(format!("{field}.default"), "must be a text, a number or a truth value"),
            },
        };
        let is_required = match is_required {
            None | Some(Value::Null) => default.is_none(),
            // What has a default is there without being given.
            Some(Value::Bool(required)) => *required && default.is_none(),
            Some(_) => return self.fault(format!("{field}.required"), "must be true or false"),
        };
        self.parameters.push(Parameter { name: name.to_string(), is_required, default });
    }

    fn finish(mut self) -> Result<Vec<Parameter>, Vec<FieldError>> {
        if self.parameters.len() > PARAMETERS_MAX {
            self.fault("parameters".into(), "must have at most 100 entries");
        }
        if self.faults.is_empty() { Ok(self.parameters) } else { Err(self.faults) }
    }
}

/// A piece of a code: what stands there, or the name of what is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Place(&'a str),
}

/// Takes a code apart. Braces around anything but a name are text.
fn pieces(code: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = code;
    while let Some((before, behind)) = rest.split_once("{{") {
        let place = behind.split_once("}}").map(|(inside, after)| (inside.trim(), after));
        match place.filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                pieces.extend([Piece::Text(before), Piece::Place(name)]);
                rest = after;
            }
            None => {
                // The second brace may begin a place of its own, as in `{{{name}}`.
                let (text, after) = rest.split_at(before.len() + 1);
                pieces.push(Piece::Text(text));
                rest = after;
            }
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// Fills a code in. Places that nobody declared are required; declared ones that are optional become their default or
/// nothing; what is given and has no place is left aside.
pub fn fill(code: &str, declared: &[Parameter], given: &Map<String, Value>) -> Result<String, Unfilled> {
    let pieces = pieces(code);
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let (mut missing, mut misfit) = (BTreeSet::new(), BTreeSet::new());
    let undeclared = pieces.iter().filter_map(|piece| match piece {
        Piece::Place(name) => Some((*name, None)),
        Piece::Text(_) => None,
    });
    for (name, parameter) in
        declared.iter().map(|parameter| (parameter.name.as_str(), Some(parameter))).chain(undeclared)
    {
        if values.contains_key(name) {
            continue;
        }
        match (given.get(name).filter(|value| !value.is_null()), parameter) {
            (Some(value), _) => match written(value) {
                Some(text) => drop(values.insert(name, text)),
                None => drop(misfit.insert(name)),
            },
            (None, Some(parameter)) if !parameter.is_required => {
                values.insert(name, parameter.default.clone().unwrap_or_default());
            }
            (None, _) => drop(missing.insert(name)),
        }
    }
    let list = |names: BTreeSet<&str>| names.into_iter().map(ToString::to_string).collect();
    if !misfit.is_empty() {
        return Err(Unfilled::Misfit(list(misfit)));
    }
    if !missing.is_empty() {
        return Err(Unfilled::Missing(list(missing)));
    }
    let mut text = String::with_capacity(code.len());
    for piece in pieces {
        text.push_str(match piece {
            Piece::Text(part) => part,
            Piece::Place(name) => values.get(name).map(String::as_str).unwrap_or_default(),
        });
        if text.len() > TEXT_BYTES_MAX {
            return Err(Unfilled::TooLarge);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn filled(code: &str, declaration: Value, given: Value) -> Result<String, Unfilled> {
        fill(code, &declared(Some(&declaration)).unwrap(), given.as_object().unwrap())
    }

    fn faulty(declaration: Value) -> Vec<String> {
        declared(Some(&declaration)).unwrap_err().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn every_place_is_filled_wherever_it_stands() {
        let code = "struct {{ name }} { {{field}}: {{type}} } // {{name}}";
        let given = json!({"name": "User", "field": "age", "type": "u8"});
        assert_eq!(filled(code, json!(["name", "field", "type"]), given).unwrap(), "struct User { age: u8 } // User");
        assert_eq!(filled("{{{n}}}", json!(["n"]), json!({"n": 7})).unwrap(), "{7}");
        assert_eq!(filled("{{a}}{{b}}", json!({"a": "x", "b": {"required": false}}), json!({})).unwrap(), "x");
    }

    #[test]
    fn what_is_no_name_is_text() {
        for code in ["{{#if x}}", "{{ a b }}", "{{", "{{a", "}}{{", "{{}}", "{{1}}", "{ {a} }"] {
            assert_eq!(filled(code, json!([]), json!({})).unwrap(), code);
        }
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let missing = filled("{{b}} {{a}} {{c}}", json!(["b", {"name": "c", "default": 1}, "z"]), json!({"b": null}));
        assert_eq!(missing, Err(Unfilled::Missing(vec!["a".into(), "b".into(), "z".into()])));
        let misfit = filled("{{a}}", json!([]), json!({"a": ["x"]}));
        assert_eq!(misfit, Err(Unfilled::Misfit(vec!["a".into()])));
    }

    #[test]
    fn a_value_is_never_read_as_code() {
        let given = json!({"a": "{{b}}", "b": "secret"});
        assert_eq!(filled("{{a}}-{{b}}", json!([]), given).unwrap(), "{{b}}-secret");
    }

    #[test]
    fn a_text_has_an_end() {
        let code = "{{a}}".repeat(1_000);
        assert_eq!(filled(&code, json!([]), json!({"a": "x".repeat(2_000)})), Err(Unfilled::TooLarge));
    }

    #[test]
    fn a_declaration_names_each_parameter_once() {
        assert_eq!(faulty(json!(["a", "a"])), ["parameters[1]"]);
        assert_eq!(faulty(json!([{"description": "no name"}, 7])), ["parameters[0].name", "parameters[1]"]);
        assert_eq!(faulty(json!({"a b": 1})), ["parameters.a b"]);
        assert_eq!(
            faulty(json!({"a": {"default": []}, "b": {"required": "x"}})),
            ["parameters.a.default", "parameters.b.required"]
        );
        assert_eq!(faulty(json!("a")), ["parameters"]);
        assert!(declared(None).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn nothing_gets_lost(parts in prop::collection::vec("[a-z{} ]{0,6}", 0..12)) {
            let code = parts.concat();
            let whole: String = pieces(&code).into_iter().map(|piece| match piece {
                Piece::Text(text) => text.to_string(),
                Piece::Place(name) => format!("{{{{{name}}}}}"),
            }).collect();
            assert_eq!(whole.replace(' ', ""), code.replace(' ', ""));
        }

        #[test]
        fn any_code_and_any_value_get_an_answer(code in any::<String>(), value in any::<String>()) {
            let given = json!({"a": value});
            let _ = fill(&code, &[], given.as_object().unwrap());
        }
    }
}
