//! The configuration of an environment and what is right in it. Pure.

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json::{Map, Value},
};
use time_rules::TimeRules;

/// The most variables, flags and services, each.
const ENTRIES_MAX: usize = 500;
/// The longest value of a variable, in characters.
const VALUE_CHARACTERS_MAX: usize = 10_000;
/// The last words of names whose values are secret.
const SECRET_WORDS: [&str; 8] =
    ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL", "CREDENTIALS", "APIKEY"];
/// Words before `KEY` that make it secret.
const SECRET_KEYS: [&str; 5] = ["API", "PRIVATE", "ACCESS", "SECRET", "ENCRYPTION"];

/// How an environment is set up.
#[data]
#[derive(Default)]
pub(crate) struct Config {
    /// An address without a password, or `{type: "SECRET_REF", secretId}`.
    pub database_url: Option<Value>,
    #[field(format = "url")]
    pub api_url: Option<String>,
    /// What runs there.
    #[field(default, max = 500, plain)]
    pub services: Vec<String>,
    /// Texts, numbers and booleans; secrets only as `{type: "SECRET_REF", secretId}`.
    #[field(default)]
    pub env_vars: Map<String, Value>,
    #[field(default)]
    pub feature_flags: Map<String, Value>,
    /// When it may be changed.
    pub time_rules: Option<TimeRules>,
}

impl Column for Config {
    const KIND: Kind = Kind::Json;
}

impl Config {
    /// Notes what is wrong.
    pub(crate) fn faults(&self, faults: &mut Faults) {
        if let Some(url) = &self.database_url {
            match url {
                Value::String(url) if !holds_password(url) => {}
                Value::String(_) => faults
                    .add("config.databaseUrl", "holds a password; name a secret: {type: \"SECRET_REF\", secretId}"),
                other if is_reference(other) => {}
                _ => faults.add("config.databaseUrl", "must be a text or {type: \"SECRET_REF\", secretId}"),
            }
        }
        variables(&self.env_vars, "config.envVars", faults);
        if self.feature_flags.len() > ENTRIES_MAX {
            faults.add("config.featureFlags", format!("must have at most {ENTRIES_MAX} entries"));
        }
        for (name, value) in self.feature_flags.iter().filter(|(_, value)| value.is_object() || value.is_array()) {
            let _ = value;
            faults.add(format!("config.featureFlags.{name}"), "must be true, false, a number or a text");
        }
        if let Some(rules) = &self.time_rules {
            rules.faults("config.timeRules", faults);
        }
    }
}

/// Notes what is wrong with variables, under the name of the field that holds them.
pub(super) fn variables(variables: &Map<String, Value>, field: &str, faults: &mut Faults) {
    if variables.len() > ENTRIES_MAX {
        return faults.add(field, format!("must have at most {ENTRIES_MAX} entries"));
    }
    for (name, value) in variables {
        let place = format!("{field}.{name}");
        if !is_name(name) {
            faults.add(place, "must be named with letters, digits and _, not beginning with a digit");
            continue;
        }
        match value {
            Value::Object(_) if is_reference(value) => {}
            Value::Object(_) | Value::Array(_) => {
                faults.add(place, "must be a text, a number, true, false or {type: \"SECRET_REF\", secretId}");
            }
            Value::Null => faults.add(place, "must not be null"),
            Value::String(text) if text.chars().count() > VALUE_CHARACTERS_MAX => {
                faults.add(place, format!("must have at most {VALUE_CHARACTERS_MAX} characters"));
            }
            Value::String(text) if !text.is_empty() && (is_secret(name) || holds_password(text)) => {
                faults.add(place, "looks like a secret; name it: {type: \"SECRET_REF\", secretId}");
            }
            _ => {}
        }
    }
}

/// `{type: "SECRET_REF", secretId}`, with nothing else in it.
pub(super) fn is_reference(value: &Value) -> bool {
    let Some(members) = value.as_object() else { return false };
    members.get("type").and_then(Value::as_str) == Some("SECRET_REF")
        && members.get("secretId").and_then(Value::as_str).is_some_and(|id| validate::id(id).is_ok())
        && members.len() == 2
}

fn is_name(name: &str) -> bool {
    name.len() <= 200
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// Whether a name ends as names of secrets do: `DB_PASSWORD`, `STRIPE_API_KEY`; not `TOKEN_LIMIT` or `PUBLIC_KEY`.
fn is_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let mut words = upper.rsplit('_');
    match (words.next(), words.next()) {
        (Some("KEY"), Some(before)) => SECRET_KEYS.contains(&before),
        (Some(last), _) => SECRET_WORDS.contains(&last),
        _ => false,
    }
}

/// Whether an address has a password in it: `scheme://user:password@host`.
fn holds_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json;
    use proptest::prelude::*;

    use super::*;

    fn faulty(config: Value) -> Vec<String> {
        let config: Config = serde_json::from_value(config).unwrap();
        let mut faults = Faults::default();
        config.faults(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn secrets_are_named_and_never_held() {
        let reference = json!({"type": "SECRET_REF", "secretId": "s1"});
        assert!(faulty(json!({"databaseUrl": reference, "envVars": {"DB_PASSWORD": reference, "TOKEN_LIMIT": "5", "A": 1, "ssh_public_key": "x"}})).is_empty());
        assert_eq!(
            faulty(json!({
                "databaseUrl": "postgres://u:p@h/d",
                "envVars": {"DB_PASSWORD": "x", "stripe_api_key": "x", "URL": "amqp://a:b@c", "R": {"type": "SECRET_REF"}, "1": "x", "L": []},
                "featureFlags": {"a": true, "b": {}},
            })),
            [
                "config.databaseUrl",
                "config.envVars.DB_PASSWORD",
                "config.envVars.stripe_api_key",
                "config.envVars.URL",
                "config.envVars.R",
                "config.envVars.1",
                "config.envVars.L",
                "config.featureFlags.b"
            ]
        );
        assert!(faulty(json!({"databaseUrl": "postgres://u@h/d"})).is_empty());
    }

    #[test]
    fn time_rules_must_be_understood() {
        assert_eq!(faulty(json!({"timeRules": {"allowedHours": ["x"]}})), ["config.timeRules.allowedHours[0]"]);
    }

    proptest! {
        #[test]
        fn a_reference_with_anything_in_it_is_none(value in "[a-z]{1,9}") {
            let reference = json!({"type": "SECRET_REF", "secretId": "s", "value": value});
            prop_assert!(!is_reference(&reference));
        }
    }
}
