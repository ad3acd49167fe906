//! Reads bodies, queries and path segments of the main app's routes, and says per field what is wrong with them.
//!
//! It collects all faults before it answers, and never repeats a rejected value in a message.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::error::{AccountsError, FieldError};

/// The longest name, title or slug-like text, in characters.
pub(crate) const NAME_CHARACTERS_MAX: usize = 200;
/// The longest e-mail address that SMTP can carry, in characters.
const EMAIL_CHARACTERS_MAX: usize = 254;
/// The longest opaque id, in characters.
const ID_CHARACTERS_MAX: usize = 64;
/// The largest `offset` a list takes.
const OFFSET_MAX: i64 = 1_000_000;
/// The largest and the usual `limit` of a list.
const LIMIT_MAX: i64 = 200;
const LIMIT_DEFAULT: i64 = 50;

/// What a text field may be.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    /// Fewest and most characters, after trimming.
    pub characters_min: usize,
    pub characters_max: usize,
    /// A name or a title: `<` and `>` are taken out.
    pub is_title: bool,
    /// Line breaks and tabs stay.
    pub is_multiline: bool,
}

impl Text {
    /// A name: 1 to 200 characters on one line.
    pub(crate) const NAME: Self =
        Self { characters_min: 1, characters_max: NAME_CHARACTERS_MAX, is_title: true, is_multiline: false };

    /// A description of at most `characters_max` characters; may be empty.
    pub(crate) const fn description(characters_max: usize) -> Self {
        Self { characters_min: 0, characters_max, is_title: false, is_multiline: true }
    }
}

/// Whether a text somewhere within holds U+0000, which PostgreSQL can store nowhere.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// A body's members, taken one by one; faults are collected until [`Fields::finish`].
pub(crate) struct Fields {
    members: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Parses a JSON object. An empty body counts as an empty object, so that required fields name themselves.
    pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, AccountsError> {
        if body.is_empty() {
            return Ok(Self { members: Map::new(), errors: Vec::new() });
        }
        if !is_json(headers) {
            return Err(AccountsError::UnsupportedMediaType);
        }
        match serde_json::from_slice(body) {
            // A text loses its control characters when it is taken; what is kept as it came must not hold this one.
            Ok(Value::Object(members)) if members.values().any(|value| !value.is_string() && holds_nul(value)) => {
                Err(AccountsError::field("body", "must not contain the character U+0000"))
            }
            Ok(Value::Object(members)) => Ok(Self { members, errors: Vec::new() }),
            Ok(_) => Err(AccountsError::field("body", "must be a JSON object")),
            Err(error) => Err(AccountsError::field(
                "body",
                format!("is not valid JSON (line {}, column {})", error.line(), error.column()),
            )),
        }
    }

    /// Wraps one member of an array for item-wise checks.
    pub(crate) fn of(members: Map<String, Value>) -> Self {
        Self { members, errors: Vec::new() }
    }

    /// Whether the key is there at all, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Notes a fault.
    pub(crate) fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: name.into(), message: message.into() });
    }

    /// Whether a fault of this member was noted.
    pub(crate) fn has_fault(&self, name: &str) -> bool {
        self.errors.iter().any(|error| error.field == name || error.field.starts_with(&format!("{name}[")))
    }

    /// All faults at once, or nothing.
    pub(crate) fn finish(self) -> Result<(), AccountsError> {
        if self.errors.is_empty() { Ok(()) } else { Err(AccountsError::Validation(self.errors)) }
    }

    /// A text that must be there; empty where it is not, which `finish` then reports.
    pub(crate) fn required_text(&mut self, name: &str, rule: Text) -> String {
        match self.members.get(name) {
            None | Some(Value::Null) => {
                self.fault(name, "is required");
                String::new()
            }
            Some(_) => self.text(name, rule).unwrap_or_default(),
        }
    }

    /// A text, or nothing when it is absent or null.
    pub(crate) fn text(&mut self, name: &str, rule: Text) -> Option<String> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => {
                let text = clean(text, rule);
                let count = text.chars().count();
                if count < rule.characters_min || count > rule.characters_max {
                    let message = format!("must have {} to {} characters", rule.characters_min, rule.characters_max);
                    self.fault(name, message);
                    return None;
                }
                Some(text)
            }
            Some(_) => {
                self.fault(name, "must be a string");
                None
            }
        }
    }

    /// A text that a merge may leave alone (outer none) or clear (inner none).
    pub(crate) fn nullable_text(&mut self, name: &str, rule: Text) -> Option<Option<String>> {
        self.has(name).then(|| self.text(name, rule))
    }

    /// A text as it was sent: passwords and tokens are never trimmed.
    pub(crate) fn required_secret(&mut self, name: &str, characters_max: usize) -> String {
        match self.members.get(name) {
            Some(Value::String(text)) if text.is_empty() => self.fault(name, "must not be empty"),
            Some(Value::String(text)) if text.chars().count() > characters_max => {
                self.fault(name, format!("must have at most {characters_max} characters"));
            }
            Some(Value::String(text)) => return text.clone(),
            None | Some(Value::Null) => self.fault(name, "is required"),
            Some(_) => self.fault(name, "must be a string"),
        }
        String::new()
    }

    /// The same, where it may be absent.
    pub(crate) fn secret(&mut self, name: &str, characters_max: usize) -> Option<String> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(_) => Some(self.required_secret(name, characters_max)),
        }
    }

    /// An e-mail address, lower-cased.
    pub(crate) fn required_email(&mut self, name: &str) -> String {
        let rule = Text { characters_min: 1, characters_max: 1_000, is_title: false, is_multiline: false };
        let had_faults = self.errors.len();
        let email = self.required_text(name, rule).to_lowercase();
        if self.errors.len() == had_faults && !is_email(&email) {
            self.fault(name, "must be an e-mail address");
        }
        email
    }

    /// An opaque id.
    pub(crate) fn required_id(&mut self, name: &str) -> String {
        self.id(name).unwrap_or_else(|| {
            if !self.errors.iter().any(|error| error.field == name) {
                self.fault(name, "is required");
            }
            String::new()
        })
    }

    /// An opaque id, or nothing when it is absent or null.
    pub(crate) fn id(&mut self, name: &str) -> Option<String> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if is_id(id) => Some(id.clone()),
            Some(_) => {
                self.fault(name, "must be an id of 1 to 64 characters from A-Z, a-z, 0-9, _ and -");
                None
            }
        }
    }

    /// A boolean, or nothing when it is absent.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(_) => {
                self.fault(name, "must be true or false");
                None
            }
        }
    }

    /// An integer within bounds that a merge may leave alone (outer none) or clear (inner none).
    pub(crate) fn nullable_integer(&mut self, name: &str, least: i64, most: i64) -> Option<Option<i64>> {
        let value = self.members.get(name)?;
        if value.is_null() {
            return Some(None);
        }
        let integer = crate::body::integer(value).filter(|integer| (least..=most).contains(integer));
        if integer.is_none() {
            self.fault(name, format!("must be an integer from {least} to {most}"));
        }
        integer.map(Some)
    }

    /// A moment in RFC 3339, or nothing when it is absent.
    pub(crate) fn moment(&mut self, name: &str) -> Option<chrono::DateTime<chrono::Utc>> {
        let moment = match self.members.get(name) {
            None | Some(Value::Null) => return None,
            Some(value) => value.as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok()),
        };
        if moment.is_none() {
            self.fault(name, "must be an RFC 3339 timestamp");
        }
        moment.map(|moment| moment.with_timezone(&chrono::Utc))
    }

    /// A slug, or nothing when it is absent.
    pub(crate) fn slug(&mut self, name: &str) -> Option<String> {
        let rule =
            Text { characters_min: 1, characters_max: NAME_CHARACTERS_MAX, is_title: false, is_multiline: false };
        let slug = self.text(name, rule)?;
        if !is_slug(&slug) {
            self.fault(name, "must have 3 to 63 characters a-z, 0-9 and single hyphens inside");
        }
        Some(slug)
    }

    /// One of a closed set, or nothing when it is absent.
    pub(crate) fn one_of(&mut self, name: &str, values: &[&'static str]) -> Option<&'static str> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if values.contains(&text.as_str()) => {
                values.iter().find(|value| **value == text.as_str()).copied()
            }
            Some(_) => {
                self.fault(name, format!("must be one of {}", values.join(", ")));
                None
            }
        }
    }

    /// A JSON object of at most `bytes_max` bytes, or nothing when it is absent.
    pub(crate) fn object(&mut self, name: &str, bytes_max: usize) -> Option<Value> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(value @ Value::Object(_)) if value.to_string().len() <= bytes_max => Some(value.clone()),
            Some(Value::Object(_)) => {
                self.fault(name, format!("must be at most {bytes_max} bytes of JSON"));
                None
            }
            Some(_) => {
                self.fault(name, "must be a JSON object");
                None
            }
        }
    }

    /// A JSON object or array of at most `bytes_max` bytes, or nothing when it is absent.
    pub(crate) fn document(&mut self, name: &str, bytes_max: usize) -> Option<Value> {
        match self.members.get(name) {
            Some(value @ Value::Array(_)) if value.to_string().len() <= bytes_max => Some(value.clone()),
            Some(Value::Array(_)) => {
                self.fault(name, format!("must be at most {bytes_max} bytes of JSON"));
                None
            }
            _ => self.object(name, bytes_max),
        }
    }

    /// An array of at most `count_max` members, or nothing when it is absent.
    pub(crate) fn array(&mut self, name: &str, count_max: usize) -> Option<Vec<Value>> {
        match self.members.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(values)) if values.len() <= count_max => Some(values.clone()),
            Some(Value::Array(_)) => {
                self.fault(name, format!("must have at most {count_max} members"));
                None
            }
            Some(_) => {
                self.fault(name, "must be an array");
                None
            }
        }
    }

    /// The members as they are, for bodies that are one free object (settings).
    pub(crate) fn into_members(self) -> Map<String, Value> {
        self.members
    }
}

/// `limit`, `offset` or `page`, `sortBy` and `order` of a list.
#[derive(Debug)]
pub(crate) struct Paging {
    pub limit: i64,
    pub offset: i64,
    /// A column from the allow-list, with its direction: safe to put into SQL.
    pub order_by: String,
}

/// A decoded query string. The last of repeated names wins.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes `a=b&c=d`; broken escapes are kept as they stand.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decode(name), percent_decode(value))
            })
            .collect();
        Self { pairs }
    }

    /// One value; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// A filter that is compared with stored text: at most 200 characters.
    pub(crate) fn filter(&self, name: &str) -> Result<Option<&str>, AccountsError> {
        match self.get(name) {
            Some(value) if value.chars().count() > NAME_CHARACTERS_MAX || value.contains('\0') => {
                Err(AccountsError::field(name, "must have at most 200 characters"))
            }
            other => Ok(other),
        }
    }

    /// A moment in RFC 3339.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<chrono::DateTime<chrono::Utc>>, AccountsError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // A plus sign in a query decodes to a space; clients rarely escape the one in an offset.
        match chrono::DateTime::parse_from_rfc3339(&text.replace(' ', "+")) {
            Ok(moment) => Ok(Some(moment.with_timezone(&chrono::Utc))),
            Err(_) => Err(AccountsError::field(name, "must be an RFC 3339 timestamp")),
        }
    }

    /// Judges the paging. `sortable` maps JSON names to columns; the first one is the default, descending when
    /// `default_descending`.
    pub(crate) fn paging(&self, sortable: &[(&str, &str)], default_descending: bool) -> Result<Paging, AccountsError> {
        let mut errors = Vec::new();
        let mut fault = |field: &str, message: String| errors.push(FieldError { field: field.into(), message });
        let mut integer = |name: &str, least: i64, most: i64| -> Option<i64> {
            let text = self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())?;
            match text.parse::<i64>() {
                Ok(value) if (least..=most).contains(&value) => Some(value),
                _ => {
                    fault(name, format!("must be an integer from {least} to {most}"));
                    None
                }
            }
        };
        let limit = integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        let offset = integer("offset", 0, OFFSET_MAX);
        let page = integer("page", 1, OFFSET_MAX / LIMIT_MAX);
        let column = match self.get("sortBy") {
            None => sortable.first().map(|(_, column)| *column),
            Some(name) => sortable.iter().find(|(json, _)| *json == name).map(|(_, column)| *column),
        };
        if column.is_none() {
            let names: Vec<&str> = sortable.iter().map(|(json, _)| *json).collect();
            fault("sortBy", format!("must be one of {}", names.join(", ")));
        }
        let descending = match self.get("order") {
            None => default_descending && self.get("sortBy").is_none(),
            Some("asc") => false,
            Some("desc") => true,
            Some(_) => {
                fault("order", "must be asc or desc".into());
                false
            }
        };
        match column {
            Some(column) if errors.is_empty() => {
                let direction = if descending { "DESC" } else { "ASC" };
                let offset = offset.unwrap_or_else(|| (page.unwrap_or(1) - 1) * limit);
                // The id settles ties, so that pages neither repeat nor skip a row.
                let tie = column.split_once('.').map_or("id".to_owned(), |(table, _)| format!("{table}.id"));
                Ok(Paging { limit, offset, order_by: format!("{column} {direction}, {tie} {direction}") })
            }
            _ => Err(AccountsError::Validation(errors)),
        }
    }
}

/// Whether a text may be an id.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=ID_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Whether a text may be an e-mail address: one `@`, a local part of at most 64 characters, a domain of labels.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_is_fine = (1..=64).contains(&local.len())
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    let domain_is_fine = domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    });
    text.chars().count() <= EMAIL_CHARACTERS_MAX && local_is_fine && domain_is_fine
}

/// Whether a text may be a slug: 3 to 63 of `a-z`, `0-9` and single hyphens inside.
fn is_slug(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// A slug made from a name: never empty, at most 50 characters, so that a suffix fits.
pub(crate) fn slug_from(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 50 {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    if slug.len() < 3 { format!("organization{}{slug}", if slug.is_empty() { "" } else { "-" }) } else { slug.into() }
}

/// Trims, takes out control characters, and in titles the angle brackets.
fn clean(text: &str, rule: Text) -> String {
    text.chars()
        .filter(|c| !c.is_control() || (rule.is_multiline && matches!(c, '\n' | '\r' | '\t')))
        .filter(|c| !rule.is_title || !matches!(c, '<' | '>'))
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Whether the body calls itself JSON, or nothing at all.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else { return true };
    let media_type =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Decodes `%41` and `+`; what is not UTF-8 afterwards is replaced.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: serde_json::Value) -> Fields {
        Fields::parse(&HeaderMap::new(), json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut fields = fields(serde_json::json!({"email": "nobody", "name": 7, "password": null}));
        fields.required_email("email");
        fields.required_text("name", Text::NAME);
        fields.required_secret("password", 10);
        let Err(AccountsError::Validation(errors)) = fields.finish() else { panic!("accepted") };
        let names: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(names, ["email", "name", "password"]);
    }

    #[test]
    fn only_json_objects_are_bodies() {
        let mut headers = HeaderMap::new();
        assert!(matches!(Fields::parse(&headers, b"[1]"), Err(AccountsError::Validation(_))));
        assert!(matches!(Fields::parse(&headers, b"{"), Err(AccountsError::Validation(_))));
        headers.insert(http::header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert!(matches!(Fields::parse(&headers, b"{}"), Err(AccountsError::UnsupportedMediaType)));
        headers.insert(http::header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert!(Fields::parse(&headers, b"{}").is_ok());
    }

    #[test]
    fn names_lose_markup_and_control_characters() {
        let mut fields = fields(serde_json::json!({"name": "  <b>Ada\u{0}</b>\n "}));
        assert_eq!(fields.required_text("name", Text::NAME), "bAda/b");
    }

    #[test]
    fn slugs_have_letters_digits_and_single_inner_hyphens() {
        for good in ["abc", "a-b", "team-7", "a23"] {
            assert!(is_slug(good), "{good}");
        }
        for bad in ["ab", "-abc", "abc-", "a--b", "Abc", "a_b", "ä-b", &"a".repeat(64)] {
            assert!(!is_slug(bad), "{bad}");
        }
        for name in ["", "A", "Ada Lovelace", "--x--", "日本", &"long ".repeat(40)] {
            assert!(is_slug(&slug_from(name)), "{name} became {}", slug_from(name));
        }
    }

    #[test]
    fn addresses_have_a_local_part_and_a_domain() {
        for good in ["a@b", "ada.l+x@example.com", "o'neil@sub.example.org"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a b@c.d", "a@b..c", "a@-b.c", ".a@b.c", "a\n@b.c", "a@b@c"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn paging_is_judged_and_sorting_is_allow_listed() {
        let sortable = [("createdAt", "created_at"), ("name", "name")];
        let paging = Query::parse(Some("limit=10&page=3&sortBy=name&order=desc")).paging(&sortable, true).unwrap();
        assert_eq!((paging.limit, paging.offset, paging.order_by.as_str()), (10, 20, "name DESC, id DESC"));
        for bad in
            ["limit=0", "limit=201", "limit=x", "limit=", "offset=-1", "page=0", "sortBy=password_hash", "order=up"]
        {
            assert!(Query::parse(Some(bad)).paging(&sortable, true).is_err(), "{bad}");
        }
        let both = Query::parse(Some("page=3&offset=7")).paging(&sortable, true).unwrap();
        assert_eq!(both.offset, 7, "as on every list, the offset wins");
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("search=a%20b+c%zz&flag&from=2026-01-01T00%3A00%3A00%2B01:00"));
        assert_eq!(query.get("search"), Some("a b c%zz"));
        assert_eq!(query.get("flag"), None);
        assert_eq!(query.moment("from").unwrap().unwrap().to_rfc3339(), "2025-12-31T23:00:00+00:00");
    }
}
