//! The routes of documents.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    router::Route,
    schema,
    serde_json::{Map, Value},
    vector,
};
use people::scope;

use super::{Document, Status, store};
use crate::{
    collection,
    draft::{self, Draft, Prepared},
};

/// Documents of one batch.
const BATCH_MAX: usize = 500;
/// How long the documents of a project are taken away within one request.
const REMOVAL_TIME: Duration = Duration::from_secs(20);
/// How often an upsert that lost a race is tried.
const ATTEMPTS_MAX: u32 = 3;

/// A document with its vector.
pub struct Whole(u16, Stored<Document>, Option<Vec<f32>>);

impl Answer for Whole {
    fn into_response(self) -> Result<Response> {
        let Self(status, row, vector) = self;
        let mut shown = row.shown();
        shown.insert("vector".into(), json!(vector.as_deref().map(members)));
        Ok(Response::json(status, &shown)?.with_version(row.version))
    }

    fn describe(route: &mut Route) {
        route.answer(200, Some(schema::of::<Stored<Document>>), None);
    }
}

/// The members of a vector in as many digits as they have.
pub fn members(vector: &[f32]) -> Vec<f64> {
    vector.iter().map(|member| member.to_string().parse().unwrap_or_default()).collect()
}

/// `GET /api/embeddings`.
pub fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Document>>>> {
    Select::<Document>::new().page(&Pool, &query).map_err(|problem| match problem.status {
        413 => Problem::too_large("These documents are too long for one page; ask with a smaller limit."),
        _ => problem,
    })
}

/// `GET /api/embeddings/{id}`.
pub fn read(Params(id): Params<Id>) -> Result<Whole> {
    let row = entity::read::<Document>(&Pool, &id)?;
    whole(200, row)
}

fn whole(status: u16, row: Stored<Document>) -> Result<Whole> {
    let found = database::query_one("SELECT vector FROM emb_documents WHERE id = $1", params![&row.id])?;
    let bytes: Option<Vec<u8>> = found.map_or(Ok(None), |found| found.get("vector"))?;
    Ok(Whole(status, row, bytes.as_deref().and_then(vector::from_bytes)))
}

/// `POST /api/embeddings`. When the provider fails the document stays, FAILED, and is tried again: 502 says so.
pub fn create(Json(draft): Json<Draft>) -> Result<Whole> {
    let prepared = one(draft::prepare(vec![draft], "")?)?;
    let row = database::transaction(|transaction| store::insert(transaction, prepared))?;
    answered(201, row)
}

/// The row, or the failure of the provider that it stands for.
fn answered(status: u16, row: Stored<Document>) -> Result<Whole> {
    if row.status == Status::Failed {
        let detail = row.error_message.clone().unwrap_or_else(|| "The embedding provider failed.".into());
        return Err(Problem::bad_gateway(detail).with_code("EMBEDDING_FAILED").with("documentId", row.id.as_str()));
    }
    whole(status, row)
}

fn one(prepared: Vec<Prepared>) -> Result<Prepared> {
    prepared.into_iter().next().ok_or_else(Problem::internal)
}

/// Many documents.
#[data]
pub struct Batch {
    /// Up to 500.
    #[field(min = 1, max = BATCH_MAX)]
    embeddings: Vec<Draft>,
}

/// The documents of a batch.
#[data]
pub struct Batched {
    embeddings: Vec<Value>,
}

/// `POST /api/embeddings/batch`: all or none.
pub fn create_many(Json(batch): Json<Batch>) -> Result<Created<Batched>> {
    let prepared = draft::prepare(batch.embeddings, "embeddings")?;
    if let Some(failed) = prepared.iter().find(|prepared| prepared.document.status == Status::Failed) {
        let detail = failed.document.error_message.clone().unwrap_or_default();
        return Err(Problem::bad_gateway(detail).with_code("EMBEDDING_FAILED"));
    }
    let rows = database::transaction(|transaction| {
        prepared.into_iter().map(|prepared| store::insert(transaction, prepared)).collect::<Result<Vec<_>>>()
    })?;
    Ok(Created(Batched { embeddings: rows.iter().map(|row| json!(row)).collect() }))
}

/// `PUT /api/embeddings/{id}`. Other content gets other vectors; where those came with the document and no new one comes,
/// it is STALE until one does.
pub fn update(Params(id): Params<Id>, if_match: IfMatch, Json(fields): Json<Map<String, Value>>) -> Result<Whole> {
    scope::require_named(fields.get("projectId").and_then(Value::as_str))?;
    again(|| try_update(&id, if_match, fields.clone()))
}

fn try_update(id: &Id, if_match: IfMatch, mut fields: Map<String, Value>) -> Result<Whole> {
    let old = entity::read::<Document>(&Pool, id)?;
    if_match.check(old.version)?;
    collection::require_writable(old.organization_id.as_ref())?;
    let prepared = changed(&old, &mut fields)?;
    let row = database::transaction(|transaction| {
        let row = entity::update::<Document>(transaction, id, &fields, if_match)?;
        draft::check_metadata(row.metadata.as_ref(), "metadata")?;
        if prepared.is_some() && row.content_hash != old.content_hash {
            // The vectors are those of what it said before.
            let text = "Somebody else changed it at the same time; try again.";
            return Err(Problem::conflict(text).with_code("CHANGED_MEANWHILE"));
        }
        store::follow(transaction, &old, &row)?;
        match prepared {
            Some(prepared) => store::replace(transaction, row, prepared),
            None => {
                store::say_updated(transaction, &row)?;
                Ok(row)
            }
        }
    })?;
    answered(200, row)
}

/// Tries again what has met somebody else at the same moment.
fn again<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match work() {
            Err(problem)
                if matches!(problem.code.as_ref(), "DOCUMENT_EXISTS" | "CHANGED_MEANWHILE")
                    && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// What the body changes of content and vector.
#[data]
struct Change {
    #[field(min = 1, max = crate::document::CONTENT_MAX, raw)]
    content: Option<String>,
    #[field(max = crate::model::DIMENSIONS_MAX)]
    vector: Option<Vec<f64>>,
    #[field(min = 1, max = 200, plain)]
    embedding_model: Option<String>,
}

/// The new content and vectors, where there are any; they leave the other fields.
fn changed(old: &Stored<Document>, fields: &mut Map<String, Value>) -> Result<Option<Prepared>> {
    let mut own = Map::new();
    for name in ["content", "vector", "embeddingModel"] {
        if let Some(value) = fields.remove(name) {
            own.insert(name.into(), value);
        }
    }
    if own.get("content").is_some_and(Value::is_null) {
        return Err(Problem::field("content", "must not be null"));
    }
    let change: Change = berth_sdk::http::read_value(Value::Object(own))?;
    let content = change.content.unwrap_or_else(|| old.content.clone());
    let is_same = content == old.content && change.embedding_model.is_none();
    if change.vector.is_none() && is_same {
        return Ok(None);
    }
    let draft = Draft {
        content,
        vector: change.vector,
        project_id: old.project_id.clone(),
        file_path: None,
        metadata: None,
        embedding_model: change.embedding_model.or_else(|| old.embedding_model.clone()),
        collection_id: old.collection_id.clone(),
        source_id: None,
        source_type: None,
        title: None,
    };
    if draft.vector.is_none() && old.is_supplied {
        let document = Document {
            content_hash: crate::embedder::hash(&draft.content),
            token_count: Some(crate::embedder::tokens(&draft.content)),
            content: draft.content,
            status: Status::Stale,
            ..old.data.clone()
        };
        return Ok(Some(Prepared::new(document, Vec::new())));
    }
    let prepared = one(draft::prepare(vec![draft], "")?)?;
    if let Some(piece) = prepared.pieces.first().filter(|_| old.dims > 0 && old.collection_id.is_none()) {
        draft::check_dimensions(piece.vector.len(), old.dims, "document's present vectors")?;
    }
    Ok(Some(prepared))
}

/// `POST /api/embeddings/upsert`: by project and file, else by collection and source; without either it inserts. Content
/// that is there already gets no new vectors.
pub fn upsert(Json(draft): Json<Draft>) -> Result<Whole> {
    draft::check_metadata(draft.metadata.as_ref(), "metadata")?;
    scope::require_named(draft.project_id.as_deref())?;
    again(|| try_upsert(draft.clone()))
}

fn try_upsert(draft: Draft) -> Result<Whole> {
    let key = [("project_id", &draft.project_id, "file_path", draft.file_path.as_deref())]
        .into_iter()
        .chain([("collection_id", &draft.collection_id, "source_id", draft.source_id.as_deref())])
        .find_map(|(one, first, two, second)| Some((one, first.as_ref()?, two, second?)));
    let old = match key {
        Some((one, first, two, second)) => {
            Select::<Document>::new().equal(one, first).equal(two, second).first(&Pool)?
        }
        None => None,
    };
    let Some(old) = old else { return create(Json(draft)) };
    collection::require_writable(old.organization_id.as_ref())?;
    let is_known = old.content_hash == crate::embedder::hash(&draft.content) && old.status == Status::Completed;
    let mut fields = Map::new();
    let own = json!({
        "title": draft.title, "metadata": draft.metadata, "projectId": draft.project_id, "filePath": draft.file_path,
    });
    for (name, value) in own.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        fields.insert(name.clone(), value.clone());
    }
    let source_type = draft.source_type.clone();
    let prepared = if is_known && draft.vector.is_none() {
        None
    } else {
        let draft = Draft { collection_id: old.collection_id.clone(), ..draft };
        Some(one(draft::prepare(vec![draft], "")?)?)
    };
    let row = database::transaction(|transaction| {
        let mut row = entity::update::<Document>(transaction, &old.id, &fields, IfMatch(None))?;
        if source_type.is_some() && source_type != row.source_type {
            row.source_type.clone_from(&source_type);
            entity::save(transaction, &mut row)?;
        }
        store::follow(transaction, &old, &row)?;
        match prepared {
            Some(prepared) => store::replace(transaction, row, prepared),
            None => {
                if row.version != old.version {
                    store::say_updated(transaction, &row)?;
                }
                Ok(row)
            }
        }
    })?;
    answered(200, row)
}

/// `DELETE /api/embeddings/{id}`.
pub fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let row = entity::read::<Document>(transaction, &id)?;
        if_match.check(row.version)?;
        collection::require_writable(row.organization_id.as_ref())?;
        store::remove(transaction, &row)?;
        Ok(NoContent)
    })
}

/// How many went.
#[data]
pub struct Deleted {
    deleted: i64,
    /// False when there are more than fit into one request: ask again.
    complete: bool,
}

/// `DELETE /api/embeddings/project/{projectId}`.
pub fn remove_project(Params(id): Params<Id>) -> Result<Json<Deleted>> {
    let condition = Condition::new("\"project_id\" = ? AND \"organization_id\" IS NOT NULL", [id.as_str()]);
    let (deleted, complete) = remove_all(&condition)?;
    Ok(Json(Deleted { deleted, complete }))
}

/// `DELETE /api/embeddings/documents/{sourceId}`: in whichever collection.
pub fn remove_source(Params(id): Params<Id>) -> Result<NoContent> {
    let condition = Condition::new("\"source_id\" = ? AND \"organization_id\" IS NOT NULL", [id.as_str()]);
    match remove_all(&condition)? {
        (0, _) => Err(Problem::missing("document")),
        _ => Ok(NoContent),
    }
}

fn remove_all(condition: &Condition) -> Result<(i64, bool)> {
    let begin = clock::now();
    let mut deleted = 0;
    loop {
        let (turn, is_last) = database::transaction(|transaction| {
            let rows = store::identities(transaction, condition)?;
            Ok::<_, Problem>((store::remove_some(transaction, &rows)?, !store::may_be_more(&rows)))
        })?;
        deleted += turn;
        if is_last {
            return Ok((deleted, true));
        }
        if clock::now().since(begin) > REMOVAL_TIME {
            return Ok((deleted, false));
        }
    }
}

/// A passage as it is listed.
#[data]
pub struct Chunk {
    id: String,
    document_id: String,
    chunk_index: i64,
    content: String,
    start_offset: i64,
    end_offset: i64,
    token_count: Option<i64>,
    dims: i64,
}

/// `GET /api/embeddings/{id}/chunks`.
pub fn chunks(Params(id): Params<Id>, query: PageQuery) -> Result<Json<Page<Chunk>>> {
    let row = entity::read::<Document>(&Pool, &id)?;
    let items = database::query_as(
        &Pool,
        "SELECT id, document_id AS \"documentId\", chunk_index AS \"chunkIndex\", content, start_offset AS \"startOffset\",
         end_offset AS \"endOffset\", token_count AS \"tokenCount\", dims
         FROM emb_chunks WHERE document_id = $1 ORDER BY chunk_index LIMIT $2 OFFSET $3",
        params![&row.id, query.limit, query.offset],
    )?;
    Ok(Json(query.envelope(items, row.chunk_count)))
}

/// What shall be embedded.
#[data]
pub struct GenerateInput {
    /// Up to 100.
    #[field(min = 1, max = 100, raw, pattern = r"[^\s\x00-\x1f\x7f-\x9f]")]
    texts: Vec<String>,
    /// An id or a name; the usual model when absent.
    #[field(min = 1, max = 200, plain)]
    model: Option<String>,
}

/// A vector of a text.
#[data]
pub struct Generated {
    index: i64,
    vector: Vec<f64>,
    token_count: i64,
}

/// The vectors of some texts.
#[data]
pub struct GeneratedAll {
    model: String,
    model_id: Id,
    provider: crate::model::Provider,
    dimensions: i64,
    embeddings: Vec<Generated>,
    total_tokens: i64,
}

/// `POST /api/embeddings/generate`.
pub fn generate(Json(input): Json<GenerateInput>) -> Result<Json<GeneratedAll>> {
    let model = crate::model::chosen(&Pool, input.model.as_deref())?;
    let mut faults = Faults::default();
    for (index, text) in input.texts.iter().enumerate() {
        if text.trim().is_empty() || text.chars().count() > crate::document::CONTENT_MAX {
            faults.add(format!("texts[{index}]"), "must have a visible character, and at most 400000 characters");
        }
    }
    faults.finish()?;
    if input.texts.iter().any(|text| crate::embedder::tokens(text) > model.max_input_tokens) {
        let text = format!("The model takes texts of about {} tokens at most.", model.max_input_tokens);
        return Err(Problem::unprocessable(text).with_code("TEXT_TOO_LONG"));
    }
    let vectors = crate::embedder::of(&model).embed(&input.texts)?;
    let embeddings: Vec<Generated> = input
        .texts
        .iter()
        .zip(vectors)
        .zip(0..)
        .map(|((text, vector), index)| Generated {
            index,
            vector: members(&vector),
            token_count: crate::embedder::tokens(text),
        })
        .collect();
    Ok(Json(GeneratedAll {
        model: model.name.clone(),
        model_id: model.id.clone(),
        provider: model.provider,
        dimensions: model.dimensions,
        total_tokens: embeddings.iter().map(|embedding| embedding.token_count).sum(),
        embeddings,
    }))
}
