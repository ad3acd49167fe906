//! Whose the host's own telemetry is, as the settings say and the main app knows.

use std::sync::Arc;

use async_trait::async_trait;

use crate::accounts::Accounts;
use crate::settings::FeedOrganization;
use crate::worker::Owner;

/// The organization of `BERTH_FEED_ORGANIZATION`.
pub(super) struct FeedOwner {
    pub accounts: Arc<Accounts>,
    pub organization: FeedOrganization,
}

impl FeedOwner {
    /// Refuses an organization that is not there: a wrong id would never be noticed otherwise.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn judge(&self) -> anyhow::Result<()> {
        if let FeedOrganization::Id(id) = &self.organization
            && !self.accounts.has_organization(id).await?
        {
            anyhow::bail!("BERTH_FEED_ORGANIZATION: there is no organization {id}");
        }
        Ok(())
    }
}

#[async_trait]
impl Owner for FeedOwner {
    async fn organization(&self) -> Option<Arc<str>> {
        match &self.organization {
            FeedOrganization::Operator => self.accounts.operator_organization().await.ok().flatten(),
            FeedOrganization::Id(id) => {
                let is_there = self.accounts.has_organization(id).await.unwrap_or(false);
                is_there.then(|| id.as_str().into())
            }
        }
    }
}
