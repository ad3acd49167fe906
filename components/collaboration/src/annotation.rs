//! Notes at lines of files, made during a session and resolved whenever somebody has seen to them.

use berth_sdk::prelude::*;

use crate::{
    live,
    session::{Session, held::Held},
};

/// A note.
#[entity(table = "pairing_annotations", name = "annotation", sort = "createdAt")]
pub struct Annotation {
    /// The session in which it was made.
    #[field(readonly)]
    pub session_id: Option<Id>,
    /// In which file.
    #[field(min = 1, max = 1_000, filter)]
    pub file_path: String,
    /// At which line, from 1.
    #[field(min = 1, max = 10_000_000)]
    pub line: i64,
    /// What it says.
    #[field(min = 1, max = 10_000)]
    pub content: String,
    /// Whose it is.
    #[field(readonly)]
    pub author_id: Option<Id>,
    /// When it was seen to.
    #[field(readonly)]
    pub resolved_at: Option<Timestamp>,
    /// By whom.
    #[field(readonly)]
    pub resolved_by: Option<Id>,
}

impl Rules for Annotation {}

/// The routes of notes.
pub fn routes() -> Router {
    let below = "/api/pairing/sessions/{id}/annotations";
    Router::new()
        .get(below, list)
        .summary("List the notes of a session; resolved=false for the open ones.")
        .post(below, add)
        .summary("Note something at a line of a file.")
        .put("/api/pairing/annotations/{id}/resolve", resolve)
        .summary("Say that a note has been seen to.")
}

/// `GET /api/pairing/sessions/{id}/annotations`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Annotation>>>> {
    let session = entity::read::<Session>(&Pool, &id)?;
    let select = Select::new().equal("session_id", &session.id);
    let select = match query.filter("resolved").as_deref() {
        None => select,
        Some("true") => select.condition("\"resolved_at\" IS NOT NULL", [] as [Id; 0]),
        Some("false") => select.condition("\"resolved_at\" IS NULL", [] as [Id; 0]),
        Some(_) => return Err(Problem::field("resolved", "must be true or false")),
    };
    select.page(&Pool, &query)
}

/// The body of a note.
#[data]
pub struct NewAnnotation {
    /// In which file.
    #[field(min = 1, max = 1_000)]
    file_path: String,
    /// At which line, from 1.
    #[field(min = 1, max = 10_000_000)]
    line: i64,
    /// What it says.
    #[field(min = 1, max = 10_000)]
    content: String,
}

/// `POST /api/pairing/sessions/{id}/annotations`.
pub fn add(Params(id): Params<Id>, Json(input): Json<NewAnnotation>) -> Result<Created<Stored<Annotation>>> {
    entity::read::<Session>(&Pool, &id)?;
    let author_id = auth::user_id()?;
    database::transaction(|transaction| {
        let mut held = Held::take(transaction, &id)?;
        held.require_open()?;
        let annotation = Annotation {
            session_id: Some(id.clone()),
            file_path: input.file_path,
            line: input.line,
            content: input.content,
            author_id: Some(author_id),
            resolved_at: None,
            resolved_by: None,
        };
        let row = entity::create(transaction, annotation)?;
        held.note("annotation.created", &json!({ "annotation": row }))?;
        held.keep()?;
        Ok(Created(row))
    })
}

/// `PUT /api/pairing/annotations/{id}/resolve`. What is resolved stays so.
pub fn resolve(Params(id): Params<Id>, if_match: IfMatch) -> Result<Stored<Annotation>> {
    let found = entity::read::<Annotation>(&Pool, &id)?;
    let session_id = session_of(&found)?;
    let row = database::transaction(|transaction| {
        let held = Held::take(transaction, &session_id)?;
        let mut row = entity::read::<Annotation>(transaction, &id)?;
        if_match.check(row.version)?;
        if row.resolved_at.is_none() {
            row.resolved_at = Some(held.now);
            row.resolved_by = auth::principal().user_id.map(Id::from);
            entity::save(transaction, &mut row)?;
            live::event::append(transaction, &held.session, "annotation.resolved", &json!({ "annotation": row }))?;
            live::state::stale(transaction, &session_id);
        }
        Ok::<_, Problem>(row)
    })?;
    Ok(row)
}

/// The session of a note, where the caller sees it: 404 otherwise.
fn session_of(row: &Annotation) -> Result<Id> {
    let missing = || Problem::missing(Annotation::DEFINITION.name);
    let id = row.session_id.as_ref().ok_or_else(missing)?;
    entity::find::<Session>(&Pool, id)?.map(|session| session.id).ok_or_else(missing)
}
