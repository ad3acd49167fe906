//! What the main app tells the room.

use std::sync::Arc;

use async_trait::async_trait;

use crate::principal::Principal;

/// Who belongs to an organization. The main app implements it; nothing else may.
#[async_trait]
pub(crate) trait Members: Send + Sync + 'static {
    /// A user as they stand now in an organization: role, permissions, teams, address and name. None for whoever is gone,
    /// suspended, or not an active member of it.
    async fn member(&self, organization_id: &str, user_id: &str) -> Result<Option<Arc<Principal>>, MembersAway>;
}

/// The users cannot be asked now; trying again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the members of the organization cannot be looked up now")]
pub(crate) struct MembersAway;
