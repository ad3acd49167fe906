//! Overrides: an organization's own text for a prompt, in force once somebody has approved it.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    prompt::{self, PUBLISH, Prompt},
    render::Template,
    resolve,
};

/// An organization's own text for a prompt.
#[entity(table = "prompt_overrides", name = "override", created = "prompt.override.created", sort = "-createdAt")]
pub struct Override {
    /// The prompt.
    #[field(immutable, parent = Prompt)]
    pub prompt_id: Id,
    /// The text.
    #[field(min = 1, max = 100_000, raw)]
    pub content: String,
    /// The greatest counts.
    #[field(default = 0, min = 0, max = 1_000_000)]
    pub priority: i64,
    /// Whether it is used.
    #[field(default = true)]
    pub is_active: bool,
    /// When it was approved; a new text needs a new approval.
    #[field(readonly)]
    pub approved_at: Option<Timestamp>,
    /// Who approved it.
    #[field(readonly)]
    pub approved_by: Option<Id>,
}

impl Rules for Override {
    fn scope() -> Option<Condition> {
        prompt::reach_of_prompt()
    }

    fn before_transaction(_: &Map<String, Value>) -> Result<()> {
        people::project::seen();
        Ok(())
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        Template::parse(&self.content).map(|_| ())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        if self.content != old.content {
            Template::parse(&self.content)?;
            (self.approved_at, self.approved_by) = (None, None);
        }
        Ok(())
    }

    fn committed(row: &Stored<Self>) {
        resolve::forget_id(&row.prompt_id);
    }
}

/// `POST /api/prompts/overrides/{id}/approve`.
fn approve(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Override>> {
    let row = prompt::transaction(|transaction| {
        let mut row = entity::read::<Override>(transaction, &id)?;
        if_match.check(row.version)?;
        if row.approved_at.is_none() {
            row.approved_at = Some(clock::now());
            row.approved_by = auth::principal().user_id.map(Id::from);
            entity::save(transaction, &mut row)?;
        }
        Ok::<_, Problem>(row)
    })?;
    Override::committed(&row);
    Ok(row)
}

/// The routes of overrides.
pub fn routes() -> Router {
    Router::new()
        .entity::<Override>("/api/prompts/overrides")
        .post("/api/prompts/overrides/{id}/approve", approve)
        .summary("Approve an override.")
        .permission(PUBLISH)
}
