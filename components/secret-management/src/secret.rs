//! Secrets: what is known of them, but for their values.

pub(crate) mod api;
pub(crate) mod read;
pub(crate) mod value;
pub(crate) mod versions;

use std::time::Duration;

use berth_sdk::{
    events::Message,
    prelude::*,
    serde_json::{Map, Value},
};

/// How long a deleted secret can be restored.
pub(crate) const RECOVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest name.
const NAME_CHARACTERS_MAX: usize = 255;
/// The most tags.
const TAGS_MAX: usize = 50;

/// What a value is.
#[choice(upper)]
pub(crate) enum SecretType {
    ApiKey,
    Oauth2Token,
    UsernamePassword,
    Certificate,
    SshKey,
    ConnectionString,
    JsonCredential,
    EnvVariableSet,
    Generic,
}

/// Whose a secret is.
#[choice(upper)]
pub(crate) enum Scope {
    Global,
    Organization,
    Team,
    Project,
    User,
}

/// Where the value lies.
#[choice(upper)]
pub(crate) enum StorageBackend {
    LocalEncrypted,
    AzureKeyVault,
    AwsSecretsManager,
    HashicorpVault,
    GcpSecretManager,
}

/// How the host puts a credential into a request.
#[choice]
pub(crate) enum InjectionKind {
    Bearer,
    Basic,
    Header,
    Query,
}

/// How and for which destinations.
#[data]
pub(crate) struct Injection {
    pub kind: InjectionKind,
    /// The header or the parameter.
    #[field(max = 100)]
    pub name: Option<String>,
    /// Before the value in a header.
    #[field(max = 100, raw)]
    pub prefix: Option<String>,
    /// `api.example.com`, `*.example.com`, `localhost:8443`; none: wherever the calling service may go. Over plain HTTP it
    /// goes only to the host's own machine and to hosts that begin with `http://`, such as `http://ci.example.com:8080`.
    #[field(max = 50)]
    pub hosts: Option<Vec<String>>,
}

impl berth_sdk::entity::Column for Injection {
    const KIND: berth_sdk::entity::Kind = berth_sdk::entity::Kind::Json;
}

/// A secret without its value.
#[entity(table = "secret_secrets", name = "secret", global)]
pub(crate) struct Secret {
    #[field(min = 1, max = 255, filter)]
    pub name: String,
    pub description: Option<String>,
    #[field(immutable)]
    pub r#type: SecretType,
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
    #[field(immutable)]
    pub team_id: Option<Id>,
    #[field(immutable)]
    pub project_id: Option<Id>,
    /// Of a secret with scope USER: who made it.
    #[field(readonly)]
    pub user_id: Option<Id>,
    #[field(readonly, hidden, default)]
    pub owner: String,
    /// Of a GLOBAL secret: who looks after it, the organization of whoever made it.
    #[field(readonly, hidden)]
    pub home_organization_id: Option<Id>,
    #[field(immutable, default = StorageBackend::LocalEncrypted)]
    pub storage_backend: StorageBackend,
    #[field(immutable)]
    pub vault_id: Option<Id>,
    #[field(readonly)]
    pub vault_secret_ref: Option<String>,
    #[field(readonly, default = 1)]
    pub current_version: i64,
    /// The last four characters of an API key.
    #[field(readonly)]
    pub mask: Option<String>,
    pub injection: Option<Injection>,
    pub expires_at: Option<Timestamp>,
    #[field(readonly, hidden)]
    pub expiry_notice: Option<i64>,
    #[field(default = false)]
    pub rotation_enabled: bool,
    #[field(min = 1, max = 3650)]
    pub rotation_interval_days: Option<i64>,
    #[field(readonly)]
    pub last_rotated_at: Option<Timestamp>,
    #[field(readonly)]
    pub next_rotation_at: Option<Timestamp>,
    #[field(default)]
    pub tags: Vec<String>,
    #[field(default)]
    pub metadata: Map<String, Value>,
    #[field(readonly)]
    pub deleted_at: Option<Timestamp>,
    #[field(readonly)]
    pub deleted_by: Option<String>,
    #[field(readonly)]
    pub recovery_deadline: Option<Timestamp>,
}

impl Rules for Secret {
    fn check(&self, faults: &mut Faults) {
        if !is_name(&self.name) {
            faults.add("name", "must begin with a letter and have only letters, digits, _ and -, at most 255");
        }
        for (field, is_there, scope) in
            [("teamId", self.team_id.is_some(), Scope::Team), ("projectId", self.project_id.is_some(), Scope::Project)]
        {
            match (is_there, self.scope == scope) {
                (false, true) => faults.add(field, format!("is needed for the scope {scope}")),
                (true, false) => faults.add(field, format!("belongs to the scope {scope} only")),
                _ => {}
            }
        }
        if self.tags.len() > TAGS_MAX || self.tags.iter().any(|tag| tag.is_empty() || tag.chars().count() > 100) {
            faults.add("tags", "must be at most 50 texts of 1 to 100 characters");
        }
        if self.rotation_enabled && self.rotation_interval_days.is_none() {
            faults.add("rotationIntervalDays", "is needed for rotation");
        }
        if let Some(injection) = &self.injection {
            let needs_name = matches!(injection.kind, InjectionKind::Header | InjectionKind::Query);
            let is_token =
                |name: &str| name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter));
            match &injection.name {
                None if needs_name => faults.add("injection.name", "is needed for a header or a parameter"),
                Some(name) if name.is_empty() || !is_token(name) => {
                    faults.add("injection.name", "must be the name of a header or a parameter");
                }
                _ => {}
            }
        }
    }
}

impl Secret {
    /// Within what its name is unique.
    pub(crate) fn owner_of(&self, organization_id: &str) -> String {
        let id = |id: &Option<Id>| id.as_ref().map(|id| id.as_str().to_string()).unwrap_or_default();
        match self.scope {
            Scope::Global => "GLOBAL".into(),
            Scope::Organization => format!("ORGANIZATION|{organization_id}"),
            Scope::Team => format!("TEAM|{organization_id}|{}", id(&self.team_id)),
            Scope::Project => format!("PROJECT|{organization_id}|{}", id(&self.project_id)),
            Scope::User => format!("USER|{organization_id}|{}", id(&self.user_id)),
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// When it is to be rotated next, counted from `from`.
    pub(crate) fn rotation_after(&self, from: Timestamp) -> Option<Timestamp> {
        let days = self.rotation_interval_days.filter(|_| self.rotation_enabled)?;
        Some(from.plus(Duration::from_secs(u64::try_from(days).unwrap_or(1) * 86_400)))
    }
}

/// `[A-Za-z][A-Za-z0-9_-]{0,254}`.
pub(crate) fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"-_".contains(&letter))
        && name.len() <= NAME_CHARACTERS_MAX
}

/// A secret of any state that may exist for the caller: 404 otherwise.
pub(crate) fn any(database: &dyn Executor, id: &str) -> Result<Stored<Secret>> {
    entity::read::<Secret>(database, id)
}

/// A secret that is not deleted.
pub(crate) fn live(database: &dyn Executor, id: &str) -> Result<Stored<Secret>> {
    let secret = any(database, id)?;
    if secret.deleted_at.is_some() { Err(Problem::missing("secret")) } else { Ok(secret) }
}

/// Says in the transaction what became of a secret: ids and names, never a value.
pub(crate) fn tell(transaction: &Transaction, kind: &str, secret: &Stored<Secret>, more: Value) -> Result<()> {
    let mut data = json!({
        "id": secret.id, "secretId": secret.id, "name": secret.name, "type": secret.r#type, "scope": secret.scope,
        "version": secret.current_version,
    });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    let mut message = Message::new(kind, &data)?.with_key(secret.id.as_str());
    if let (None, Some(organization_id)) = (auth::principal().organization_id, &secret.organization_id) {
        message = message.for_organization(organization_id.as_str());
    }
    transaction.send(&message)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json};

    use super::*;

    fn secret(fields: Value) -> Secret {
        let mut whole = json!({"name": "token", "type": "API_KEY"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn faults(fields: Value) -> Vec<String> {
        let mut faults = Faults::default();
        secret(fields).check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_name_begins_with_a_letter() {
        for name in ["a", "A-b_9", &"x".repeat(255)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "9a", "_a", "a b", "a.b", "ä", &"x".repeat(256)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_scope_has_its_owner_and_no_other() {
        assert!(faults(json!({})).is_empty());
        assert_eq!(faults(json!({"scope": "TEAM"})), ["teamId"]);
        assert_eq!(faults(json!({"scope": "PROJECT", "teamId": "t"})), ["teamId", "projectId"]);
        assert_eq!(faults(json!({"rotationEnabled": true})), ["rotationIntervalDays"]);
        assert_eq!(faults(json!({"injection": {"kind": "header"}})), ["injection.name"]);
        assert_eq!(faults(json!({"injection": {"kind": "query", "name": "a b"}})), ["injection.name"]);
    }

    #[test]
    fn names_are_unique_within_their_owner() {
        let owners: Vec<String> = [
            json!({}),
            json!({"scope": "GLOBAL"}),
            json!({"scope": "TEAM", "teamId": "x"}),
            json!({"scope": "PROJECT", "projectId": "x"}),
            json!({"scope": "USER", "userId": "x"}),
        ]
        .map(|fields| secret(fields).owner_of("o1"))
        .into();
        let distinct: std::collections::BTreeSet<&String> = owners.iter().collect();
        assert_eq!(distinct.len(), owners.len(), "{owners:?}");
        assert_eq!(
            secret(json!({"scope": "GLOBAL"})).owner_of("o1"),
            secret(json!({"scope": "GLOBAL"})).owner_of("o2")
        );
        assert_ne!(secret(json!({})).owner_of("o1"), secret(json!({})).owner_of("o2"));
    }

    #[test]
    fn the_next_rotation_follows_the_interval() {
        let at = Timestamp::from_millis(0);
        let rotated = secret(json!({"rotationEnabled": true, "rotationIntervalDays": 2})).rotation_after(at);
        assert_eq!(rotated, Some(Timestamp::from_millis(2 * 86_400_000)));
        assert_eq!(secret(json!({"rotationIntervalDays": 2})).rotation_after(at), None);
    }
}
