//! What can go wrong in a deploy, named for what the caller can do about it.

use crate::database::DatabaseError;
use crate::engine::PrepareError;
use crate::plugins_file::Fault;

/// Why a deploy or a rollback did not happen. Whatever it is, the old build serves on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// No plugin of this name in the manifest (404).
    #[error("there is no plugin named {0}")]
    UnknownPlugin(String),
    /// The revision asked for, or a previous one, does not exist (404).
    #[error("{0}")]
    UnknownRevision(String),
    /// Another deploy of the plugin runs, or too many old builds still drain (409).
    #[error("{0}")]
    Conflict(String),
    /// The component is larger than may be deployed (413).
    #[error("the component is larger than {0} bytes")]
    TooLarge(usize),
    /// The component is refused; the sentence says why (422).
    #[error("{0}")]
    Invalid(String),
    /// An entry of the manifest is refused (400, or 409 where another plugin has what it claims): a line for each fault.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faulty(Vec<Fault>),
    /// The build asks for more than the one that runs, and nobody has accepted it; the sentence says for what (409).
    #[error("{0}")]
    WantsMore(String),
    /// The build lacks routes that other plugins may call; the sentence names both (409).
    #[error("{0}")]
    RoutesInUse(String),
    /// The host cannot do it now: the database, the disk or the engine is out of room (503).
    #[error("{0}")]
    Unavailable(String, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// A broken assumption of the host (500).
    #[error("the deploy failed inside the host")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl DeployError {
    /// The host cannot do it now, because of `source`.
    pub(super) fn unavailable(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(what.to_owned(), Some(source.into()))
    }

    /// A fault of the host's own tables: never the component's.
    pub(super) fn of_host_tables(error: DatabaseError) -> Self {
        if error.is_temporary() {
            Self::unavailable("the database cannot record the deploy now", error)
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<PrepareError> for DeployError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Unavailable(text) => Self::Unavailable(text, None),
            PrepareError::NotAComponent(_)
            | PrepareError::TooExpensive(_)
            | PrepareError::WrongWorld(_)
            | PrepareError::NotGranted(_)
            | PrepareError::Broken(_) => Self::Invalid(error.to_string()),
        }
    }
}
