//! JSON Schemas of the main app's bodies and answers, for the API's document. Nothing is judged by them.

use serde_json::{Map, Value as Json, json};

/// A member: its name, its schema, whether it must be there.
pub(super) type Member = (&'static str, Json, bool);

/// A member that must be there.
pub(super) fn required(name: &'static str, schema: Json) -> Member {
    (name, schema, true)
}

/// A member that may be absent.
pub(super) fn optional(name: &'static str, schema: Json) -> Member {
    (name, schema, false)
}

/// An object with these members; unknown ones are ignored.
pub(super) fn object(members: &[Member]) -> Json {
    let properties: Map<String, Json> =
        members.iter().map(|(name, schema, _)| ((*name).into(), schema.clone())).collect();
    let names: Vec<&str> = members.iter().filter(|(_, _, is_required)| *is_required).map(|(name, ..)| *name).collect();
    json!({ "type": "object", "properties": properties, "required": names })
}

/// The list envelope.
pub(super) fn page_of(item: Json) -> Json {
    object(&[
        required("items", json!({ "type": "array", "items": item })),
        required("total", integer()),
        required("limit", integer()),
        required("offset", integer()),
    ])
}

pub(super) fn text() -> Json {
    json!({ "type": "string" })
}

/// A secret that was handed out.
pub(super) fn token() -> Json {
    json!({ "type": "string", "minLength": 1, "maxLength": 256 })
}

/// Something is left of a name when spaces, control characters and angle brackets are taken out.
const NAME_PATTERN: &str = r"[^\s<>\x00-\x1f\x7f-\x9f]";

pub(super) fn name() -> Json {
    json!({ "type": "string", "minLength": 1, "maxLength": 200, "pattern": NAME_PATTERN })
}

pub(super) fn nullable_name() -> Json {
    json!({ "type": ["string", "null"], "minLength": 1, "maxLength": 200, "pattern": NAME_PATTERN })
}

pub(super) fn username() -> Json {
    json!({ "type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{3,32}$" })
}

pub(super) fn id() -> Json {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
}

pub(super) fn nullable_id() -> Json {
    json!({ "type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,64}$" })
}

pub(super) fn email() -> Json {
    json!({ "type": "string", "format": "email", "maxLength": 254 })
}

pub(super) fn secret() -> Json {
    json!({ "type": "string", "minLength": 1, "maxLength": 256 })
}

pub(super) fn new_password() -> Json {
    json!({ "type": "string", "minLength": 8, "maxLength": 256 })
}

/// The empty text is none.
pub(super) fn url() -> Json {
    json!({ "anyOf": [{ "type": "string", "format": "uri", "maxLength": 2048 }, { "const": "" }, { "type": "null" }] })
}

pub(super) fn slug() -> Json {
    json!({ "type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "minLength": 3, "maxLength": 63 })
}

/// One that is chosen: null leaves the choice to the host.
pub(super) fn nullable_slug() -> Json {
    let mut slug = slug();
    if let Some(words) = slug.as_object_mut() {
        words.insert("type".to_owned(), json!(["string", "null"]));
    }
    slug
}

pub(super) fn boolean() -> Json {
    json!({ "type": "boolean" })
}

pub(super) fn integer() -> Json {
    json!({ "type": "integer" })
}

pub(super) fn free_object() -> Json {
    json!({ "type": "object" })
}

pub(super) fn texts() -> Json {
    json!({ "type": "array", "items": { "type": "string" } })
}

pub(super) fn nullable(kind: &str) -> Json {
    json!({ "type": [kind, "null"] })
}

pub(super) fn moment() -> Json {
    json!({ "type": ["string", "null"], "format": "date-time" })
}

/// An entity: id, the named members, times and version.
fn entity(members: &[Member]) -> Json {
    let mut all = vec![required("id", id())];
    all.extend_from_slice(members);
    all.extend([required("createdAt", moment()), required("updatedAt", moment()), required("version", integer())]);
    object(&all)
}

pub(super) fn user() -> Json {
    entity(&[
        required("email", email()),
        required("name", nullable("string")),
        optional("firstName", nullable("string")),
        optional("lastName", nullable("string")),
        optional("username", nullable("string")),
        optional("avatarUrl", url()),
        required("isActive", boolean()),
        required("isEmailVerified", boolean()),
        optional("lastLoginAt", moment()),
    ])
}

pub(super) fn organization() -> Json {
    entity(&[
        required("name", name()),
        required("slug", slug()),
        required("description", nullable("string")),
        required("logoUrl", url()),
        required("ownerUserId", id()),
        required("isActive", boolean()),
        required("memberLimit", nullable("integer")),
    ])
}

pub(super) fn membership() -> Json {
    entity(&[
        required("userId", id()),
        required("organizationId", id()),
        required("roleId", id()),
        required("roleName", text()),
        required("isSuperAdmin", boolean()),
        required("status", json!({ "enum": ["active", "invited", "suspended", "deactivated"] })),
        required("user", free_object()),
        optional("joinedAt", moment()),
        optional("lastAccessAt", moment()),
    ])
}

pub(super) fn role() -> Json {
    entity(&[
        required("organizationId", nullable("string")),
        required("name", name()),
        required("description", nullable("string")),
        required("isSystemRole", boolean()),
        required("isCustomRole", boolean()),
        required("isSuperAdmin", boolean()),
        optional("permissions", texts()),
    ])
}

pub(super) fn invitation() -> Json {
    entity(&[
        required("organizationId", id()),
        required("email", email()),
        required("roleId", id()),
        required("status", json!({ "enum": ["pending", "accepted", "expired", "cancelled", "declined"] })),
        required("expiresAt", moment()),
        required("resendCount", integer()),
        optional("token", text()),
    ])
}

pub(super) fn team() -> Json {
    entity(&[
        required("organizationId", id()),
        required("name", name()),
        required("slug", slug()),
        required("description", nullable("string")),
        required("parentTeamId", nullable("string")),
        required("memberCount", integer()),
    ])
}

pub(super) fn session() -> Json {
    object(&[
        required("id", id()),
        required("isCurrent", boolean()),
        optional("ipAddress", nullable("string")),
        optional("userAgent", nullable("string")),
        required("createdAt", moment()),
        required("lastUsedAt", moment()),
        required("expiresAt", moment()),
    ])
}

/// An API key; `more` for the answer that holds it.
pub(super) fn api_key(more: &[Member]) -> Json {
    let mut all = vec![
        required("organizationId", id()),
        required("userId", id()),
        required("name", name()),
        required("hint", text()),
        required("permissions", texts()),
        required("expiresAt", moment()),
        required("lastUsedAt", moment()),
    ];
    all.extend_from_slice(more);
    entity(&all)
}

pub(super) fn signing_key() -> Json {
    object(&[
        required("id", id()),
        required("isCurrent", boolean()),
        required("generation", integer()),
        required("createdAt", moment()),
        required("signsFrom", moment()),
        required("nextFrom", moment()),
    ])
}

pub(super) fn tokens(more: &[Member]) -> Json {
    let mut all = vec![required("token", text()), required("refreshToken", text()), required("expiresIn", integer())];
    all.extend_from_slice(more);
    object(&all)
}

pub(super) fn permission() -> Json {
    object(&[
        required("code", text()),
        required("displayName", text()),
        required("module", text()),
        required("resource", text()),
        required("action", text()),
    ])
}

pub(super) fn audit_row() -> Json {
    object(&[
        required("id", id()),
        required("userId", nullable("string")),
        required("action", text()),
        required("resourceType", text()),
        required("resourceId", nullable("string")),
        optional("changes", json!({})),
        optional("metadata", json!({})),
        required("createdAt", moment()),
    ])
}
