//! Which revision to speak: the modern one is tried first, and `initialize` is for those that do not know it.

use std::time::{Duration, Instant};

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Failure, Link, Peer, Question, failure, own_name};
use crate::protocol::{LEGACY, MODERN, message, meta};

/// How long the modern question may take: a server that does not know it has no reason to hesitate.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a modern request says of its sender.
pub fn described(version: &str) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert(meta::VERSION.into(), version.into());
    members.insert(meta::CLIENT.into(), own_name());
    members.insert(meta::CAPABILITIES.into(), json!({}));
    members
}

/// What is said to begin a session.
pub fn initialization(version: &str) -> Map<String, Value> {
    let mut params = Map::new();
    params.insert("protocolVersion".into(), version.into());
    params.insert("capabilities".into(), json!({}));
    params.insert("clientInfo".into(), own_name());
    params
}

/// Agrees with a server.
pub fn agree(peer: &Peer<'_>, timeout: Duration) -> Result<Link, Failure> {
    let begun = Instant::now();
    if let Some(link) = modern(peer, timeout.min(PROBE_TIMEOUT))? {
        return Ok(link);
    }
    legacy(peer, timeout.saturating_sub(begun.elapsed()))
}

/// Asks as a modern client; none when the server is no modern one.
fn modern(peer: &Peer<'_>, timeout: Duration) -> Result<Option<Link>, Failure> {
    let mut params = Map::new();
    params.insert("_meta".into(), Value::Object(described(MODERN)));
    let question = Question::new("server/discover", params);
    let body = message::request(&question.id, &question.method, &Value::Object(question.params.clone()));
    let link = Link {
        is_modern: true,
        protocol_version: MODERN.into(),
        session_id: None,
        capabilities: json!({}),
        secret_id: None,
    };
    let answer = match peer.exchange(Some(&link), &question, &body, timeout, &mut |_| true) {
        Ok((answer, _)) => failure::result(answer),
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(found) => {
            let versions = found.get("supportedVersions").and_then(Value::as_array);
            let speaks = versions.into_iter().flatten().any(|version| version == MODERN);
            let capabilities = found.get("capabilities").cloned().unwrap_or_else(|| json!({}));
            Ok(speaks.then_some(Link { capabilities, ..link }))
        }
        // Whoever does not know the question refuses it in one way or another.
        Err(Failure::Rpc { .. } | Failure::Protocol(_) | Failure::SessionLost) => Ok(None),
        // An old server may answer 4xx to what comes before `initialize`; a credential is judged again with that.
        Err(Failure::Denied(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn legacy(peer: &Peer<'_>, timeout: Duration) -> Result<Link, Failure> {
    let begun = Instant::now();
    let question = Question::new("initialize", initialization(LEGACY[0]));
    let body = message::request(&question.id, &question.method, &Value::Object(question.params.clone()));
    let (answer, head) = peer.exchange(None, &question, &body, timeout, &mut |_| true)?;
    let link = agreed(&failure::result(answer)?, head.header("mcp-session-id"))?;
    let told = message::notification("notifications/initialized", &json!({}));
    peer.tell(&link, &told, timeout.saturating_sub(begun.elapsed()))?;
    Ok(link)
}

/// What a server's answer to `initialize` comes to.
pub fn agreed(result: &Value, session_id: Option<&str>) -> Result<Link, Failure> {
    let version = result.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    if !LEGACY.contains(&version) {
        let version: String = version.chars().take(40).collect();
        return Err(Failure::Protocol(format!(
            "The server speaks the revision \"{version}\", which is not known here."
        )));
    }
    let is_sound = |id: &&str| (1..=1024).contains(&id.len()) && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if session_id.is_some_and(|id| !is_sound(&id)) {
        return Err(Failure::Protocol("The server's session has a name that no header can hold.".into()));
    }
    Ok(Link {
        is_modern: false,
        protocol_version: version.into(),
        session_id: session_id.map(ToString::to_string),
        capabilities: result.get("capabilities").cloned().unwrap_or_else(|| json!({})),
        secret_id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_revisions_are_agreed_on() {
        let link = agreed(&json!({"protocolVersion": "2025-03-26"}), Some("s1")).unwrap();
        assert_eq!((link.protocol_version.as_str(), link.session_id.as_deref()), ("2025-03-26", Some("s1")));
        assert!(agreed(&json!({"protocolVersion": "2030-01-01"}), None).is_err());
        assert!(agreed(&json!({"protocolVersion": "2025-03-26"}), Some("a b")).is_err());
    }
}
