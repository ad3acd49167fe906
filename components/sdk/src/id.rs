//! Ids: opaque texts of 1 to 64 characters from `[A-Za-z0-9_-]`. New ones are UUIDv7, old ones anything of that form.

use std::{borrow::Cow, fmt, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    problem::{Problem, Result},
    validate::{Faults, Path, Rule, Tidy, id},
};

/// The id of something.
///
/// ```
/// use berth_sdk::Id;
/// assert_eq!(Id::new().len(), 36);
/// assert!(Id::parse("a/b").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// A new UUIDv7: ids made later sort later.
    #[expect(clippy::new_without_default, reason = "a default id would be a placeholder")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// Takes a text that is an id; 400 otherwise.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match id(&text) {
            Ok(()) => Ok(Self(text)),
            Err(message) => Err(Problem::field("id", message)),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As an owned text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for Id {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PartialEq<str> for Id {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

/// For texts that are known to be ids, such as one read from a row.
impl From<String> for Id {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// For texts that are known to be ids, such as one read from a row.
impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self(text.to_string())
    }
}

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_-]+$"})
    }
}

impl Tidy for Id {
    fn tidy(&mut self, _: &Rule, path: &Path<'_>, faults: &mut Faults) {
        if let Err(message) = id(&self.0) {
            faults.add(path.to_string(), message);
        }
    }
}
