//! What an organization has set for all its members: asked of the main app, which answers whoever the call is for. Nothing here
//! may run inside a transaction, as it is a call.

use std::time::Duration;

use berth_sdk::{
    cache, http_out,
    prelude::*,
    serde_json::{Map, Value},
};

/// How long the main app may take.
const ASKED: Duration = Duration::from_secs(3);
/// How long they are remembered.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// A setting of an organization by its name, as it was within the last minute; null when it is not set. The grant must let
/// the plugin call `host`. Of organizations that the caller does not work in, only the platform's administrators are told;
/// 404 for everybody else, 503 when the main app does not answer.
///
/// ```
/// berth_sdk::testing::sign_in("u1", "o1");
/// assert_eq!(people::organization::setting(&"o1".into(), "timezone").unwrap_err().status, 503); // natively nobody answers
/// ```
pub fn setting(id: &Id, name: &str) -> Result<Value> {
    Ok(settings(id)?.remove(name).unwrap_or_default())
}

/// All of them: who asks for one asks for the next a moment later.
fn settings(id: &Id) -> Result<Map<String, Value>> {
    let key = format!("settings:{id}");
    if let Some(known) = cache::get(&key) {
        return Ok(known);
    }
    let settings = http_out::plugin("host").get(&format!("/api/organizations/{id}/settings")).timeout(ASKED).fetch()?;
    cache::set_ttl(&key, &settings, KNOWN_FOR);
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_asked_again_and_belongs_to_one_organization() {
        berth_sdk::testing::sign_in("u1", "o1");
        cache::set_ttl("settings:o1", &json!({"timezone": "Europe/Berlin"}), KNOWN_FOR);
        assert_eq!(setting(&"o1".into(), "timezone").unwrap(), "Europe/Berlin");
        assert_eq!(setting(&"o1".into(), "theme").unwrap(), Value::Null, "that it is not set is known too");
        assert_eq!(setting(&"o2".into(), "timezone").unwrap_err().status, 503);
    }
}
