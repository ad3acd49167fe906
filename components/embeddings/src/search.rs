//! Searching by meaning: which passages are most like a vector, exactly, among all that the caller sees.

pub mod compared;
pub mod filter;
pub mod fuse;
pub mod hybrid;
pub mod scan;
pub mod words;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    collection::{Collection, DistanceMetric},
    document::{CONTENT_MAX, Document, api::members},
    draft, embedder,
    model::{DIMENSIONS_MAX, THRESHOLD},
};

/// Results when nothing is said.
const LIMIT: i64 = 10;
/// The most results.
pub const LIMIT_MAX: i64 = 100;
/// Characters of a query.
const QUERY_MAX: usize = 8_000;

/// What is looked for.
#[data]
pub struct SearchInput {
    /// The vector to be like.
    #[field(max = DIMENSIONS_MAX)]
    pub vector: Option<Vec<f64>>,
    /// The text to be like; one of the two is needed.
    #[field(min = 1, max = CONTENT_MAX, raw)]
    pub query: Option<String>,
    /// Only in this project.
    pub project_id: Option<Id>,
    /// Only in this collection.
    pub collection_id: Option<Id>,
    /// Only documents with these values: `sourceType`, `sourceId`, `filePath`, `embeddingModel`, or members of metadata.
    pub filter: Option<Map<String, Value>>,
    /// At most so many; 10.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<i64>,
    /// At least so similar; 0.7, or what the model says.
    pub threshold: Option<f64>,
    /// For a hybrid search: what words weigh beside meaning, from 0 to 1; 0.5.
    pub keyword_weight: Option<f64>,
}

/// A search that makes sense.
pub struct Search {
    /// To be like.
    pub vector: Vec<f32>,
    /// The words, for a hybrid search.
    pub query: Option<String>,
    /// How near is measured.
    pub metric: DistanceMetric,
    /// Which passages.
    pub scope: filter::Scope,
    /// At most so many.
    pub limit: usize,
    /// At least so similar.
    pub threshold: f32,
    /// What words weigh.
    pub keyword_weight: f32,
}

/// A passage that was found.
#[data]
pub struct Passage {
    /// The passage.
    pub id: String,
    /// What it says.
    pub content: String,
    /// Where it begins, in characters of the document.
    pub start_offset: i64,
    /// Where it ends.
    pub end_offset: i64,
    /// Which of the document's passages it is.
    pub chunk_index: i64,
}

/// A result.
#[data]
pub struct Found {
    /// The document, without its content.
    pub embedding: Value,
    /// How similar it is.
    pub similarity: f64,
    /// The passage.
    pub chunk: Passage,
    /// In a hybrid search: what it was ranked by.
    pub score: Option<f64>,
    /// In a hybrid search: whether it was found by its words.
    pub has_words: Option<bool>,
}

/// What was found.
#[data]
pub struct Results {
    /// The best first.
    pub results: Vec<Found>,
    /// Vectors that were compared.
    pub compared: i64,
}

/// `limit` and `threshold` may stand in the query too; those of the body win.
#[data]
pub struct InQuery {
    #[schemars(range(min = 1, max = 100))]
    limit: Option<i64>,
    threshold: Option<f64>,
}

/// `POST /api/embeddings/search`.
pub fn search(Query(more): Query<InQuery>, Json(input): Json<SearchInput>) -> Result<Json<Results>> {
    let search = read(more, input)?;
    let (best, compared) = scan::best(&search, search.limit)?;
    let results = found(best.into_iter().map(|(id, similarity)| Hit::similar(id, similarity)).collect())?;
    Ok(Json(Results { results, compared }))
}

/// A passage on its way to become a result.
pub struct Hit {
    /// The passage.
    pub id: String,
    /// How similar it is.
    pub similarity: f32,
    /// Its rank, in a hybrid search.
    pub score: Option<f64>,
    /// Found by words, in a hybrid search.
    pub has_words: Option<bool>,
}

impl Hit {
    fn similar(id: String, similarity: f32) -> Self {
        Self { id, similarity, score: None, has_words: None }
    }
}

/// Checks a search and finds out what it needs.
pub fn read(more: InQuery, mut input: SearchInput) -> Result<Search> {
    input.limit = input.limit.or(more.limit);
    input.threshold = input.threshold.or(more.threshold);
    let mut faults = Faults::default();
    check(&input, &mut faults);
    faults.finish()?;
    prepare(input)
}

fn check(input: &SearchInput, faults: &mut Faults) {
    if input.vector.is_none() && input.query.as_deref().is_none_or(|query| query.trim().is_empty()) {
        faults.add("query", "is required where there is no vector");
    }
    if input.query.as_deref().is_some_and(|query| query.chars().count() > QUERY_MAX) {
        faults.add("query", format!("must have at most {QUERY_MAX} characters"));
    }
    if input.limit.is_some_and(|limit| !(1..=LIMIT_MAX).contains(&limit)) {
        faults.add("limit", format!("must be a whole number from 1 to {LIMIT_MAX}"));
    }
    if input.threshold.is_some_and(|threshold| !(-1.0..=1.0).contains(&threshold)) {
        faults.add("threshold", "must be a number from -1 to 1");
    }
    if input.keyword_weight.is_some_and(|weight| !(0.0..=1.0).contains(&weight)) {
        faults.add("keywordWeight", "must be a number from 0 to 1");
    }
    filter::check(input.filter.as_ref(), faults);
}

/// Finds out what is searched, and makes the vector of the query.
fn prepare(input: SearchInput) -> Result<Search> {
    let collection = match &input.collection_id {
        Some(id) => Some(entity::read::<Collection>(&Pool, id)?),
        None => None,
    };
    let place = draft::Place::find(&Pool, input.collection_id.as_ref(), None);
    let (vector, model) = match (&input.vector, &input.query) {
        (Some(sent), _) => (draft::read_vector(sent, "vector")?, place.ok().and_then(|place| place.model)),
        (None, query) => {
            let place = place?;
            let model = place.model()?.clone();
            (embedder::of_query(&model, query.as_deref().unwrap_or_default())?, Some(model))
        }
    };
    if let Some(collection) = &collection {
        draft::check_dimensions(vector.len(), collection.dimensions, "collection's")?;
    }
    let by_model = model.filter(|_| input.vector.is_none());
    let threshold =
        input.threshold.or_else(|| by_model.as_ref().and_then(|model| model.default_threshold)).unwrap_or(THRESHOLD);
    let own_model = by_model.as_ref().filter(|_| collection.is_none()).map(|model| model.name.as_str());
    let scope = filter::scope(&input, collection.as_ref(), vector.len(), own_model)?;
    #[expect(clippy::cast_possible_truncation, reason = "similarities are compared in single precision")]
    Ok(Search {
        vector,
        query: input.query,
        metric: collection.as_ref().map_or(DistanceMetric::Cosine, |collection| collection.distance_metric),
        scope,
        limit: usize::try_from(input.limit.unwrap_or(LIMIT)).unwrap_or(10),
        threshold: threshold as f32,
        keyword_weight: input.keyword_weight.unwrap_or(0.5) as f32,
    })
}

/// A passage with where it belongs.
#[data]
struct Row {
    id: String,
    document_id: String,
    content: String,
    start_offset: i64,
    end_offset: i64,
    chunk_index: i64,
}

/// Passages and documents of hits, in two statements.
pub fn found(hits: Vec<Hit>) -> Result<Vec<Found>> {
    if hits.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<database::Value> = hits.iter().map(|hit| hit.id.as_str().into()).collect();
    let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT id, document_id AS \"documentId\", content, start_offset AS \"startOffset\", end_offset AS \"endOffset\",
         chunk_index AS \"chunkIndex\" FROM emb_chunks WHERE id IN ({})",
        places.join(", ")
    );
    let rows: Vec<Row> = database::query_as(&Pool, &sql, &ids)?;
    let documents: Vec<Map<String, Value>> = Select::<Document>::new()
        .one_of("id", rows.iter().map(|row| row.document_id.as_str()).collect::<std::collections::BTreeSet<_>>())
        .columns(&Pool, SHOWN)?;
    let results = hits.into_iter().filter_map(|hit| {
        let row = rows.iter().find(|row| row.id == hit.id)?;
        let document = documents
            .iter()
            .find(|document| document.get("id").and_then(Value::as_str) == Some(row.document_id.as_str()))?;
        let chunk = Passage {
            id: row.id.clone(),
            content: row.content.clone(),
            start_offset: row.start_offset,
            end_offset: row.end_offset,
            chunk_index: row.chunk_index,
        };
        let similarity = members(&[(hit.similarity * 1e6).round() / 1e6]).first().copied().unwrap_or_default();
        let embedding = Value::Object(document.clone());
        Some(Found { embedding, similarity, chunk, score: hit.score, has_words: hit.has_words })
    });
    Ok(results.collect())
}

/// What is shown of a document that was found: everything, of a long content its beginning.
const SHOWN: &str = "\"id\", \"organization_id\" AS \"organizationId\", \"project_id\" AS \"projectId\", \
    \"file_path\" AS \"filePath\", \"title\", \"metadata\", \"embedding_model\" AS \"embeddingModel\", \"dims\", \
    \"collection_id\" AS \"collectionId\", \"source_id\" AS \"sourceId\", \"source_type\" AS \"sourceType\", \"status\", \
    \"content_hash\" AS \"contentHash\", \"chunk_count\" AS \"chunkCount\", \"token_count\" AS \"tokenCount\", \
    \"created_at\" AS \"createdAt\", \"updated_at\" AS \"updatedAt\", \"version\", SUBSTR(\"content\", 1, 4000) AS \"content\", \
    LENGTH(\"content\") AS \"contentLength\"";
