//! Keeps secrets out of what is written down of a call: by the names of members, columns, headers and parameters, and then
//! every further place where one of those values stands.
//!
//! What is hidden keeps its type, so that a build which reads it again still gets a text for a text and a number for a
//! number. Hiding by name alone always gives the same, whoever does it: that is what a replay compares.

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::capability::logging::{is_count, is_secret};

/// What stands in the place of a secret.
pub(crate) const HIDDEN: &str = "[redacted]";
/// A named secret that is shorter stands in other places by chance.
const NAMED_BYTES_MIN: usize = 8;
/// The same of what went through the secrets room.
const PRIVATE_BYTES_MIN: usize = 4;
/// Different secrets of one call that are looked for everywhere.
const SECRETS_MAX: usize = 1_000;
/// Headers that are no secret by their name, and whose value still is nobody's business.
const HEADERS: [&str; 4] = ["idempotency-key", "proxy-authorization", "x-auth", "authentication"];

/// Headers whose value is an address, with names and values behind its path.
const ADDRESSES: [&str; 3] = ["location", "content-location", "referer"];
/// What the names and values of a form are sent as.
const FORM: &str = "application/x-www-form-urlencoded";

/// Hides by name, and remembers what it has hidden.
#[derive(Debug, Default)]
pub(crate) struct Hider {
    /// Members called `value` are secrets too: the plugin deals in secrets.
    hides_values: bool,
    /// Hides nothing: what it looks at goes as a whole.
    is_blind: bool,
    /// A secret, and what takes its place.
    found: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// There are more secrets in it than can be looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// So many bytes that say they are hidden.
pub(crate) fn marker(bytes: usize) -> Vec<u8> {
    HIDDEN.bytes().cycle().take(bytes).collect()
}

impl Hider {
    /// With `hides_values`, members called `value` count as secrets.
    pub(crate) fn new(hides_values: bool) -> Self {
        Self { hides_values, ..Self::default() }
    }

    /// One that hides nothing, for what is hidden as a whole afterwards.
    pub(super) fn blind() -> Self {
        Self { is_blind: true, ..Self::default() }
    }

    /// Whether `name` says that its value is a secret.
    pub(crate) fn is_secret(&self, name: &str) -> bool {
        is_secret(name) || (self.hides_values && name.eq_ignore_ascii_case("value"))
    }

    /// A text: when it is JSON, without the secrets in it.
    pub(crate) fn text(&self, text: &str) -> String {
        if !self.is_blind
            && text.trim_start().starts_with(['{', '['])
            && let Ok(mut json) = serde_json::from_str::<Value>(text)
            && self.members(&mut json)
        {
            return json.to_string();
        }
        text.to_owned()
    }

    /// Bytes, as [`Hider::text`] where they are text.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        }
    }

    /// A body with these headers.
    pub(crate) fn body(&self, headers: &[(String, String)], bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) if is_form(headers) => serde_json::json!({ "utf8": self.pairs(text) }),
            _ => show_bytes(&self.bytes(bytes)),
        }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str, value: &str) -> String {
        let is_among = |names: &[&str]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
        if !self.is_secret(name) && !is_among(&HEADERS) {
            return match value.split_once('?') {
                Some((path, query)) if is_among(&ADDRESSES) => format!("{path}?{}", self.pairs(query)),
                _ => value.to_owned(),
            };
        }
        // The scheme is no secret, and what follows it is one by itself.
        if let Some((_, credential)) = value.split_once(' ') {
            self.note_named(credential.trim());
        }
        self.hide(value)
    }

    /// Names and values as in a query or a form: `a=b&c=d`.
    pub(crate) fn pairs(&self, text: &str) -> String {
        let hidden = text.split('&').map(|pair| match pair.split_once('=') {
            Some((name, value)) if self.is_secret(name) => format!("{name}={}", self.hide(value)),
            _ => pair.to_owned(),
        });
        hidden.collect::<Vec<_>>().join("&")
    }

    /// A value whose name says that it is a secret.
    pub(crate) fn hide(&self, value: &str) -> String {
        self.note_named(value);
        HIDDEN.to_owned()
    }

    /// Notes what went through the secrets room, in whose place `marker` stands.
    pub(crate) fn note_private(&self, secret: Vec<u8>, marker: Vec<u8>) {
        // Of a document every text in it may be used by itself.
        if let Ok(mut json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice(&secret) {
            self.whole(&mut json);
        }
        if secret.len() >= PRIVATE_BYTES_MIN && secret != marker {
            self.found.borrow_mut().insert(secret, marker);
        }
    }

    /// Notes the secrets of a document that is not shown, also those called `value`.
    pub(crate) fn note_document(&self, bytes: &[u8]) {
        let reader = Self::new(true);
        reader.bytes(bytes);
        self.found.borrow_mut().extend(reader.found.into_inner());
    }

    /// Replaces the secrets among the members of a JSON value; whether there were any.
    pub(crate) fn members(&self, json: &mut Value) -> bool {
        match json {
            Value::Object(members) => were_any(members.iter_mut().map(|(name, member)| {
                let is_hidden = self.is_secret(name) && !(member.is_number() && is_count(name, "0"));
                if is_hidden { self.whole(member) } else { self.members(member) }
            })),
            Value::Array(items) => were_any(items.iter_mut().map(|item| self.members(item))),
            _ => false,
        }
    }

    /// Replaces every text and number in it. A truth, a moment and nothing are no secrets.
    fn whole(&self, json: &mut Value) -> bool {
        match json {
            Value::String(text) if text.is_empty() || is_moment(text) => return false,
            Value::String(text) => *json = Value::from(self.hide(text)),
            Value::Number(number) => {
                self.note_named(&number.to_string());
                *json = Value::from(0);
            }
            Value::Array(items) => return were_any(items.iter_mut().map(|item| self.whole(item))),
            Value::Object(members) => return were_any(members.values_mut().map(|member| self.whole(member))),
            Value::Bool(_) | Value::Null => return false,
        }
        true
    }

    fn note_named(&self, value: &str) {
        if value.len() >= NAMED_BYTES_MIN && value != HIDDEN {
            let marker = HIDDEN.as_bytes().to_vec();
            self.found.borrow_mut().entry(value.as_bytes().to_vec()).or_insert(marker);
        }
    }

    /// Replaces everything that was hidden so far wherever else it stands: as it is, escaped, in hexadecimal and in base64.
    ///
    /// # Errors
    /// When there is too much of it; then nothing was replaced.
    pub(crate) fn scrub(&self, json: &mut Value) -> Result<(), TooMany> {
        let found = self.found.borrow();
        if found.len() > SECRETS_MAX {
            return Err(TooMany);
        }
        let mut needles = Vec::new();
        for (secret, marker) in found.iter() {
            needles.extend(forms(secret).into_iter().zip(forms(marker)).filter(|(form, _)| !form.is_empty()));
        }
        // What holds another one goes first.
        needles.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        let raw: Vec<(&[u8], &[u8])> = found.iter().map(|(secret, marker)| (&**secret, &**marker)).collect();
        scrub_value(json, &needles, &raw);
        Ok(())
    }
}

/// A secret as it may stand in a text; what it cannot be is empty.
fn forms(secret: &[u8]) -> [String; 5] {
    let text = std::str::from_utf8(secret).unwrap_or_default().to_owned();
    let escaped = serde_json::to_string(&text).unwrap_or_default();
    let escaped = escaped.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
    [text, escaped, hex::encode(secret), STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret)]
}

fn scrub_value(json: &mut Value, needles: &[(String, String)], raw: &[(&[u8], &[u8])]) {
    match json {
        Value::String(text) => {
            for (form, marker) in needles {
                if text.contains(form.as_str()) {
                    *text = text.replace(form.as_str(), marker);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub_value(item, needles, raw)),
        Value::Object(members) => {
            if let Some(bytes) =
                members.get("base64").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok())
            {
                let scrub = |bytes: Vec<u8>, (secret, marker): &(&[u8], &[u8])| replaced(bytes, secret, marker);
                let scrubbed = raw.iter().fold(bytes.clone(), scrub);
                if scrubbed != bytes {
                    *json = show_bytes(&scrubbed);
                }
                return;
            }
            members.values_mut().for_each(|member| scrub_value(member, needles, raw));
        }
        _ => {}
    }
}

fn replaced(bytes: Vec<u8>, secret: &[u8], marker: &[u8]) -> Vec<u8> {
    let at = |from: &[u8]| from.windows(secret.len()).position(|window| window == secret);
    let mut rest: &[u8] = &bytes;
    let mut whole = Vec::new();
    while let Some((before, after)) = at(rest).and_then(|at| rest.split_at_checked(at)) {
        whole.extend_from_slice(before);
        whole.extend_from_slice(marker);
        rest = after.get(secret.len()..).unwrap_or_default();
    }
    whole.extend_from_slice(rest);
    whole
}

/// Bytes in JSON: `{"utf8": …}` where they are text, else `{"base64": …}`.
pub(crate) fn show_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::json!({ "utf8": text }),
        Err(_) => serde_json::json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// The reverse of [`show_bytes`]; of `{"redacted": n}` it makes so many bytes that say so.
pub(crate) fn read_bytes(value: &Value) -> Option<Vec<u8>> {
    let text = |member: &str| value.get(member).and_then(Value::as_str);
    if let Some(text) = text("utf8") {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(text) = text("base64") {
        return STANDARD.decode(text).ok();
    }
    let hidden = value.get("redacted").and_then(Value::as_u64).filter(|bytes| *bytes <= 1 << 20)?;
    Some(marker(usize::try_from(hidden).ok()?))
}

fn is_form(headers: &[(String, String)]) -> bool {
    let is_form = |value: &str| value.get(..FORM.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(FORM));
    headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("content-type") && is_form(value))
}

fn is_moment(text: &str) -> bool {
    text.len() >= 10 && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

/// Whether any was; each is done, also after the first.
fn were_any(done: impl Iterator<Item = bool>) -> bool {
    done.fold(false, std::ops::BitOr::bitor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_by_name_and_keep_their_type() {
        let hider = Hider::default();
        let text = r#"{"user":"ada","password":"open sesame","otp":123456,"totalTokens":7,"tokenExpiresAt":"2026-01-31T08:15:00.000Z","hasToken":true,"login":[{"api_key":"abc"}]}"#;
        assert_eq!(
            hider.text(text),
            r#"{"user":"ada","password":"[redacted]","otp":0,"totalTokens":7,"tokenExpiresAt":"2026-01-31T08:15:00.000Z","hasToken":true,"login":[{"api_key":"[redacted]"}]}"#
        );
        assert_eq!(hider.text(r#"{"value":"v"}"#), r#"{"value":"v"}"#);
        assert_eq!(Hider::new(true).text(r#"{"value":"v"}"#), r#"{"value":"[redacted]"}"#);
        assert_eq!(hider.text("{no json, password"), "{no json, password");
        assert_eq!(hider.pairs("a=b&access_token=xyz"), "a=b&access_token=[redacted]");
        for header in ["authorization", "Cookie", "Idempotency-Key", "x-api-key"] {
            assert_eq!(hider.header(header, "Bearer 12"), HIDDEN, "{header}");
        }
        assert_eq!(hider.header("accept", "*/*"), "*/*");
        assert_eq!(hider.header("Location", "/back?code=1&id_token=x.y"), "/back?code=1&id_token=[redacted]");
    }

    #[test]
    fn what_was_hidden_once_is_hidden_everywhere() {
        let hider = Hider::default();
        hider.header("authorization", "Bearer abc.def.ghi");
        hider.text(r#"{"password":"say \"friend\""}"#);
        hider.note_private(vec![0xff, 0xfe, 0xfd, 0xfc], marker(4));
        hider.note_private(b"tiny".to_vec(), marker(10));
        hider.text(r#"{"token":"short"}"#);
        let mut json = json!({
            "plain": "it was abc.def.ghi", "hex": format!("x{}", hex::encode("abc.def.ghi")),
            "escaped": r#"{"note":"say \"friend\""}"#, "base64": 1, "deep": [{"base64": STANDARD.encode([1, 0xff, 0xfe, 0xfd, 0xfc])}],
            "tiny": "a tiny bit", "url": URL_SAFE_NO_PAD.encode("abc.def.ghi"), "short": "short"
        });
        hider.scrub(&mut json).unwrap();
        let text = json.to_string();
        for secret in
            ["abc.def.ghi", "friend", "tiny bit", &hex::encode("abc.def.ghi"), &STANDARD.encode("abc.def.ghi")]
        {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        assert_eq!(json["plain"], "it was [redacted]");
        assert_eq!(json["hex"], format!("x{}", hex::encode(HIDDEN)));
        assert_eq!(json["deep"][0], json!({ "utf8": "\u{1}[red" }));
        assert_eq!(json["short"], "short", "too short to be looked for");
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [&b"text"[..], &[0xff, 0], b""] {
            assert_eq!(read_bytes(&show_bytes(bytes)).unwrap(), bytes);
        }
        assert_eq!(read_bytes(&json!({ "redacted": 12 })).unwrap(), b"[redacted][r");
        assert!(read_bytes(&json!({ "redacted": u64::MAX })).is_none() && read_bytes(&json!(1)).is_none());
    }

    #[test]
    fn too_many_secrets_are_said_to_be_too_many() {
        let hider = Hider::default();
        for number in 0..=SECRETS_MAX {
            hider.hide(&format!("secret-{number:08}"));
        }
        assert_eq!(hider.scrub(&mut json!("x")), Err(TooMany));
    }
}
