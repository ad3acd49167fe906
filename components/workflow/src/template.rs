//! References in inputs: `{{steps.build.output.url}}`. A text that is nothing but one reference takes on the value's type; in
//! a longer text the value is written out. `{{path ?? "otherwise"}}` has a value for what is not there. Pure.

use berth_sdk::serde_json::{Map, Value};

use crate::{
    expression::{Expression, Path, look_up, parse_operand},
    failure::Failure,
};

/// How deep an input may nest.
pub const DEPTH_MAX: usize = 32;
/// The largest input after its references were filled, in bytes.
pub const BYTES_MAX: usize = 200 * 1024;

/// A piece of a text.
enum Piece<'a> {
    Text(&'a str),
    Reference(&'a str),
}

/// What stands between the braces.
struct Reference {
    value: Expression,
    otherwise: Option<Expression>,
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after.split_once("}}").ok_or("{{ is not closed")?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Reference(inner.trim()));
        rest = behind;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn reference(text: &str) -> Result<Reference, String> {
    let (value, otherwise) = match text.split_once("??") {
        Some((value, otherwise)) => (value, Some(parse_operand(otherwise.trim())?)),
        None => (text, None),
    };
    let value = parse_operand(value.trim())?;
    if otherwise.as_ref().is_some_and(|otherwise| !otherwise.paths().is_empty()) {
        return Err("what stands after ?? must be a literal".into());
    }
    Ok(Reference { value, otherwise })
}

/// Every path that a value refers to, or what is wrong with it.
///
/// ```
/// use berth_sdk::json;
/// use workflow::template::paths;
/// let found = paths(&json!({"a": ["{{steps.x.output.y}} and {{trigger.z ?? 1}}"]})).unwrap();
/// assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["steps.x.output.y", "trigger.z"]);
/// assert!(paths(&json!("{{steps.")).is_err());
/// ```
pub fn paths(value: &Value) -> Result<Vec<Path>, String> {
    let mut found = Vec::new();
    collect(value, &mut found, 0)?;
    Ok(found)
}

fn collect(value: &Value, found: &mut Vec<Path>, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("it nests deeper than {DEPTH_MAX}"));
    }
    match value {
        Value::String(text) => {
            for piece in pieces(text)? {
                if let Piece::Reference(inner) = piece {
                    found.extend(reference(inner)?.value.paths().into_iter().cloned());
                }
            }
            Ok(())
        }
        Value::Array(entries) => entries.iter().try_for_each(|entry| collect(entry, found, depth + 1)),
        Value::Object(members) => members.values().try_for_each(|member| collect(member, found, depth + 1)),
        _ => Ok(()),
    }
}

/// The value with every reference filled in.
///
/// # Errors
/// `UNRESOLVED_REFERENCE` for a path that leads nowhere, `INPUT_TOO_LARGE` when it grows beyond bounds.
///
/// ```
/// use berth_sdk::json;
/// use workflow::template::fill;
/// let scope = json!({"steps": {"a": {"output": {"n": 3}}}, "trigger": {}});
/// assert_eq!(fill(&json!({"x": "{{steps.a.output.n}}", "y": "n={{steps.a.output.n}}"}), &scope).unwrap(), json!({"x": 3, "y": "n=3"}));
/// assert_eq!(fill(&json!("{{trigger.who ?? 'nobody'}}"), &scope).unwrap(), json!("nobody"));
/// assert_eq!(fill(&json!("{{trigger.who}}"), &scope).unwrap_err().code, "UNRESOLVED_REFERENCE");
/// ```
pub fn fill(value: &Value, scope: &Value) -> Result<Value, Failure> {
    let mut room = BYTES_MAX;
    filled(value, scope, &mut room)
}

fn filled(value: &Value, scope: &Value, room: &mut usize) -> Result<Value, Failure> {
    Ok(match value {
        Value::String(text) => {
            let value = filled_text(text, scope)?;
            let used = if let Value::String(text) = &value { text.len() } else { value.to_string().len() };
            *room = room.checked_sub(used).ok_or_else(too_large)?;
            value
        }
        Value::Array(entries) => {
            Value::Array(entries.iter().map(|entry| filled(entry, scope, room)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let filled = members.iter().map(|(name, member)| Ok((name.clone(), filled(member, scope, room)?)));
            Value::Object(filled.collect::<Result<Map<_, _>, Failure>>()?)
        }
        other => other.clone(),
    })
}

fn too_large() -> Failure {
    Failure::lasting(
        "INPUT_TOO_LARGE",
        format!("With its references filled in the input has more than {BYTES_MAX} bytes."),
    )
}

fn filled_text(text: &str, scope: &Value) -> Result<Value, Failure> {
    let pieces = pieces(text).map_err(broken)?;
    if let [Piece::Reference(inner)] = pieces.as_slice() {
        return resolved(inner, scope);
    }
    let mut whole = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => whole.push_str(text),
            Piece::Reference(inner) => match resolved(inner, scope)? {
                Value::String(text) => whole.push_str(&text),
                Value::Null => {}
                other => whole.push_str(&other.to_string()),
            },
        }
        if whole.len() > BYTES_MAX {
            return Err(too_large());
        }
    }
    Ok(Value::String(whole))
}

fn resolved(inner: &str, scope: &Value) -> Result<Value, Failure> {
    let reference = reference(inner).map_err(broken)?;
    let found = match &reference.value {
        Expression::Path(path) => {
            look_up(scope, path).filter(|value| !value.is_null() || reference.otherwise.is_none())
        }
        other => return Ok(other.value(scope).into_owned()),
    };
    match (found, reference.otherwise) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(otherwise)) => Ok(otherwise.value(scope).into_owned()),
        (None, None) => Err(Failure::lasting("UNRESOLVED_REFERENCE", format!("{inner} leads nowhere."))),
    }
}

fn broken(what: String) -> Failure {
    Failure::lasting("UNRESOLVED_REFERENCE", format!("A reference cannot be read: {what}."))
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;
    use proptest::prelude::*;

    use super::{fill, paths};

    #[test]
    fn a_reference_alone_keeps_its_type_and_in_a_text_it_is_written_out() {
        let scope = json!({"trigger": {"n": 1, "list": [1, 2], "none": null}, "item": "x"});
        let filled = |text: &str| fill(&json!(text), &scope).unwrap();
        assert_eq!(filled("{{ trigger.list }}"), json!([1, 2]));
        assert_eq!(filled("<{{trigger.list}}{{trigger.none}}{{item}}>"), json!("<[1,2]x>"));
        assert_eq!(filled("{{trigger.none ?? 7}}"), json!(7));
        assert_eq!(filled("{{trigger.none}}"), json!(null));
        assert_eq!(filled("{{'{{'}}"), json!("{{"));
        assert_eq!(filled("plain"), json!("plain"));
    }

    #[test]
    fn what_grows_beyond_bounds_is_refused() {
        let scope = json!({"t": "x".repeat(150_000)});
        assert_eq!(fill(&json!(["{{t}}", "{{t}}"]), &scope).unwrap_err().code, "INPUT_TOO_LARGE");
        assert_eq!(fill(&json!("{{t}}{{t}}"), &scope).unwrap_err().code, "INPUT_TOO_LARGE");
    }

    #[test]
    fn a_secret_stays_a_reference() {
        let secret = json!({"type": "SECRET_REF", "secretId": "s1"});
        assert_eq!(fill(&secret, &json!({})).unwrap(), secret);
    }

    proptest! {
        /// What can be read can be filled, or says which reference cannot.
        #[test]
        fn no_text_breaks_it(text in "[a-z{}. ?'\\[\\]0-9]{0,40}") {
            let value = json!([text]);
            match (paths(&value), fill(&value, &json!({"a": {"b": 1}}))) {
                (Err(_), Ok(filled)) => prop_assert!(false, "{filled}"),
                (_, Err(failure)) => prop_assert_eq!(failure.code, "UNRESOLVED_REFERENCE"),
                _ => {}
            }
        }
    }
}
