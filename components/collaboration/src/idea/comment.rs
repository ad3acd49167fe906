//! What people say about an idea.

use berth_sdk::prelude::*;

use super::Idea;

/// A comment.
#[entity(table = "innovation_comments", name = "comment", sort = "createdAt")]
pub struct Comment {
    /// On which idea.
    #[field(immutable, parent = Idea)]
    pub idea_id: Id,
    /// Whose it is.
    #[field(readonly)]
    pub author_id: Option<Id>,
    /// What it says.
    #[field(min = 1, max = 10_000)]
    pub body: String,
}

impl Rules for Comment {
    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        self.author_id = auth::principal().user_id.map(Id::from);
        Ok(())
    }
}
