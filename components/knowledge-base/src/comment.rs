//! Comments on entries, and answers to them.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    entry::{self, Entry},
    space::MANAGE,
};

/// A comment.
#[entity(table = "kb_comments", name = "comment", sort = "createdAt")]
pub struct Comment {
    /// The entry.
    #[field(parent = Entry, immutable)]
    pub entry_id: Id,
    /// Who says it.
    #[field(readonly, default = Id::from("nobody"))]
    pub author_id: Id,
    /// What they say: Markdown.
    #[field(min = 1, max = 10_000, raw)]
    pub body: String,
    /// The comment it answers.
    #[field(parent = Comment, immutable)]
    pub parent_comment_id: Option<Id>,
    /// When it was dealt with.
    #[field(readonly)]
    pub resolved_at: Option<Timestamp>,
}

impl Rules for Comment {
    /// Whoever reads the entry reads what is said of it.
    fn scope() -> Option<Condition> {
        let Condition { sql, values } = <Entry as Rules>::scope()?;
        Some(Condition {
            sql: format!("\"entry_id\" IN (SELECT id FROM kb_entries WHERE deleted_at IS NULL AND {sql})"),
            values,
        })
    }

    fn check(&self, faults: &mut Faults) {
        if self.body.trim().is_empty() {
            faults.add("body", "must have a visible character");
        }
    }

    /// Which projects the caller sees is asked here.
    fn before_transaction(_: &Map<String, Value>) -> Result<()> {
        people::project::seen();
        Ok(())
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        self.author_id = auth::user_id()?;
        if let Some(parent_id) = &self.parent_comment_id
            && entity::read::<Self>(transaction, parent_id)?.entry_id != self.entry_id
        {
            return Err(Problem::field("parentCommentId", "must be a comment of the same entry"));
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        require_author(old)
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        require_author(row)?;
        // Answers move up to what was answered.
        transaction.execute(
            "UPDATE kb_comments SET parent_comment_id = $2 WHERE parent_comment_id = $1",
            params![&row.id, &row.parent_comment_id],
        )?;
        Ok(())
    }
}

fn require_author(row: &Comment) -> Result<()> {
    let is_author = auth::principal().user_id.as_deref() == Some(row.author_id.as_str());
    if is_author { Ok(()) } else { auth::require(MANAGE) }
}

/// `POST /api/knowledge/{id}/comments/{itemId}/resolve`: dealt with, or open again.
pub fn resolve(Params((id, comment_id)): Params<(Id, Id)>) -> Result<Stored<Comment>> {
    entry::transact(|transaction| {
        let mut row = entity::read::<Comment>(transaction, &comment_id)?;
        if row.entry_id != id {
            return Err(Problem::missing("comment"));
        }
        row.resolved_at = if row.resolved_at.is_some() { None } else { Some(clock::now()) };
        entity::save(transaction, &mut row)?;
        Ok(row)
    })
}
