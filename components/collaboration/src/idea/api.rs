//! Submitting and reading ideas.

use berth_sdk::{
    entity::Made,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Idea, vote::Vote};

/// The body of `POST /api/innovation`.
#[data]
pub struct NewIdea {
    /// The project it belongs to.
    project_id: Option<Id>,
    /// In one line.
    #[field(min = 1, max = 200, plain)]
    title: String,
    /// At length.
    #[field(min = 1, max = 20_000)]
    description: String,
    /// What it is about, in a word or two.
    #[field(min = 1, max = 100, plain)]
    category: String,
}

/// `POST /api/innovation`.
pub fn create(Json(input): Json<NewIdea>) -> Result<Made<Idea>> {
    if let Some(id) = &input.project_id {
        people::project::require_anew(id)?;
    }
    let idea = Idea { project_id: input.project_id, ..Idea::new(input.title, input.description, input.category) };
    database::transaction(|transaction| entity::create(transaction, idea).map(Made))
}

/// An idea as the caller sees it.
pub struct Seen(Stored<Idea>, Option<i64>);

impl Seen {
    fn shown(&self) -> Map<String, Value> {
        let mut shown = self.0.shown();
        shown.insert("myVote".into(), json!(self.1));
        shown
    }
}

impl Answer for Seen {
    fn into_response(self) -> Result<Response> {
        Ok(Response::json(200, &self.shown())?.with_version(self.0.version))
    }
    fn describe(route: &mut berth_sdk::router::Route) {
        <Stored<Idea> as Answer>::describe(route);
    }
}

/// `GET /api/innovation/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Seen> {
    let idea = entity::read::<Idea>(&Pool, &id)?;
    let vote = match auth::principal().user_id {
        Some(user_id) => Vote::find(&Pool, &id, &user_id.into())?.map(|vote| vote.value),
        None => None,
    };
    Ok(Seen(idea, vote))
}
