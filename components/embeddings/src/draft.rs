//! What comes in as a document, checked and cut, with the vectors it needs: everything that is done before a row is
//! written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
    validate::FieldError,
    vector,
};
use people::scope;

use crate::{
    chunk,
    collection::{self, Collection},
    document::{CONTENT_MAX, Document, Status},
    embedder,
    model::{self, DIMENSIONS_MAX, Model},
};

/// Passages of one document.
const PASSAGES_MAX: usize = 2_000;
/// How a document without a collection is cut.
const CHUNK_SIZE: usize = 512;
const CHUNK_OVERLAP: usize = 50;
/// Bytes of metadata.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// A document as it is sent.
#[data]
pub struct Draft {
    /// What it says.
    #[field(min = 1, max = CONTENT_MAX, raw)]
    pub content: String,
    /// Its vector; made here when it is absent.
    #[field(max = DIMENSIONS_MAX)]
    pub vector: Option<Vec<f64>>,
    /// The project.
    pub project_id: Option<Id>,
    /// The file, within the project.
    #[field(min = 1, max = 1_000, raw)]
    pub file_path: Option<String>,
    /// Whatever one wants to find it by.
    pub metadata: Option<Map<String, Value>>,
    /// What made the vector, or shall make it.
    #[field(min = 1, max = 200, plain)]
    pub embedding_model: Option<String>,
    /// The collection.
    pub collection_id: Option<Id>,
    /// What it was made of.
    pub source_id: Option<Id>,
    /// What kind of thing that is.
    #[field(min = 1, max = 100, plain)]
    pub source_type: Option<String>,
    /// Its title.
    #[field(max = 500, plain)]
    pub title: Option<String>,
}

/// A passage with its vector.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it is and what it says.
    pub passage: chunk::Passage,
    /// Its vector.
    pub vector: Vec<f32>,
}

/// A document that is ready to be written.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The row.
    pub document: Document,
    /// Its passages; none while the document waits for its vectors.
    pub pieces: Vec<Piece>,
    /// How long the provider asks to wait before it is asked again.
    pub wait: Option<Duration>,
}

impl Prepared {
    /// A document with what is known of it.
    pub fn new(document: Document, pieces: Vec<Piece>) -> Self {
        Self { document, pieces, wait: None }
    }
}

/// Where a document goes, and what makes vectors there.
#[derive(Clone)]
pub struct Place {
    /// The collection.
    pub collection: Option<Stored<Collection>>,
    /// The model; none where only documents with vectors go.
    pub model: Option<Stored<Model>>,
}

impl Place {
    /// The place of a collection, or of documents without one.
    pub fn find(database: &dyn Executor, collection_id: Option<&Id>, model_name: Option<&str>) -> Result<Self> {
        let Some(collection_id) = collection_id else {
            return Ok(Self { collection: None, model: Some(model::chosen(database, model_name)?) });
        };
        let collection = entity::read::<Collection>(database, collection_id)?;
        let model = match &collection.embedding_model_id {
            Some(id) => entity::find::<Model>(database, id)?,
            None => None,
        };
        Ok(Self { collection: Some(collection), model })
    }

    /// The enabled model; 422 where there is none.
    pub fn model(&self) -> Result<&Stored<Model>> {
        match &self.model {
            Some(model) if model.is_enabled => Ok(model),
            Some(_) => Err(Problem::unprocessable("The embedding model is disabled.").with_code("MODEL_DISABLED")),
            None => {
                let text = "The collection has no model of its own: every document and search must bring its vector.";
                Err(Problem::unprocessable(text).with_code("NO_MODEL"))
            }
        }
    }

    /// A text cut into passages.
    pub fn cut(&self, content: &str) -> Result<Vec<chunk::Passage>> {
        let bound = |number: i64| usize::try_from(number).unwrap_or(CHUNK_SIZE);
        let (size, overlap) = match &self.collection {
            Some(collection) => (bound(collection.chunk_size), bound(collection.chunk_overlap)),
            None => (CHUNK_SIZE, CHUNK_OVERLAP),
        };
        let passages = chunk::passages(content, size, overlap);
        if passages.is_empty() {
            return Err(Problem::field("content", "must have a visible character"));
        }
        if passages.len() > PASSAGES_MAX {
            let text = format!("It falls into more than {PASSAGES_MAX} passages; send it in parts.");
            return Err(Problem::unprocessable(text).with_code("DOCUMENT_TOO_LONG"));
        }
        Ok(passages)
    }

    /// Passages with their vectors: the slow part.
    pub fn embed(&self, passages: Vec<chunk::Passage>) -> Result<Vec<Piece>> {
        let texts: Vec<String> = passages.iter().map(|passage| passage.content.clone()).collect();
        let vectors = embedder::of(self.model()?).embed(&texts)?;
        Ok(passages.into_iter().zip(vectors).map(|(passage, vector)| Piece { passage, vector }).collect())
    }
}

/// What is wrong with a vector, if something is.
pub fn vector_fault(vector: &[f32]) -> Option<&'static str> {
    if vector.is_empty() {
        Some("must have at least one member")
    } else if !vector.iter().all(|member| member.is_finite()) {
        Some("must have finite members only")
    } else if !(vector::norm(vector) > 0.0 && norm_fits(vector)) {
        Some("must have a length above zero")
    } else {
        None
    }
}

/// Its length, squared in single precision, is neither nothing nor beyond all bounds.
fn norm_fits(vector: &[f32]) -> bool {
    let norm = vector::norm(vector);
    norm > 1e-18 && norm < 1e18
}

/// A vector as it was sent, in single precision; 422 when it is none.
pub fn read_vector(sent: &[f64], field: &str) -> Result<Vec<f32>> {
    #[expect(clippy::cast_possible_truncation, reason = "vectors are kept in single precision")]
    let vector: Vec<f32> = sent.iter().map(|member| *member as f32).collect();
    match vector_fault(&vector) {
        None => Ok(vector),
        Some(fault) => Err(Problem::unprocessable(format!("{field} {fault}."))
            .with_code("INVALID_VECTOR")
            .with_errors(vec![FieldError::new(field, fault)])),
    }
}

/// The mean of the passages' vectors, by which a whole document is compared with others.
pub fn mean(pieces: &[Piece]) -> Vec<f32> {
    if let [only] = pieces {
        return only.vector.clone();
    }
    let mut sum = vec![0.0_f64; pieces.first().map_or(0, |piece| piece.vector.len())];
    for piece in pieces {
        let norm = vector::norm(&piece.vector);
        for (sum, member) in sum.iter_mut().zip(&piece.vector) {
            *sum += f64::from(*member) / norm;
        }
    }
    let count = f64::from(u32::try_from(pieces.len()).unwrap_or(u32::MAX));
    #[expect(clippy::cast_possible_truncation, reason = "vectors are kept in single precision")]
    let mean: Vec<f32> = sum.into_iter().map(|member| (member / count) as f32).collect();
    // Passages that cancel each other out: then the first stands for all.
    if vector_fault(&mean).is_some() {
        pieces.first().map(|piece| piece.vector.clone()).unwrap_or_default()
    } else {
        mean
    }
}

/// Documents that are ready, in the order of the drafts. What would keep the caller waiting stays pending.
pub fn prepare(drafts: Vec<Draft>, prefix: &str) -> Result<Vec<Prepared>> {
    let mut places: BTreeMap<(Option<Id>, Option<String>), Place> = BTreeMap::new();
    for project_id in drafts.iter().filter_map(|draft| draft.project_id.as_ref()).collect::<BTreeSet<_>>() {
        scope::require(project_id)?;
    }
    let mut prepared = Vec::with_capacity(drafts.len());
    let mut asked = 0;
    for (index, draft) in drafts.into_iter().enumerate() {
        let field = |name: &str| if prefix.is_empty() { name.to_string() } else { format!("{prefix}[{index}].{name}") };
        check_metadata(draft.metadata.as_ref(), &field("metadata"))?;
        if let Some(sent) = &draft.vector {
            let vector = read_vector(sent, &field("vector"))?;
            let collection = match &draft.collection_id {
                Some(id) => find_place(&mut places, Some(id), None)?.collection,
                None => None,
            };
            prepared.push(with_vector(draft, collection.as_ref(), vector)?);
            continue;
        }
        let model_name = draft.embedding_model.as_deref().filter(|_| draft.collection_id.is_none());
        let place = find_place(&mut places, draft.collection_id.as_ref(), model_name)?;
        prepared.push(with_model(draft, &place, &mut asked)?);
    }
    Ok(prepared)
}

fn find_place(
    places: &mut BTreeMap<(Option<Id>, Option<String>), Place>,
    collection_id: Option<&Id>,
    model_name: Option<&str>,
) -> Result<Place> {
    let key = (collection_id.cloned(), model_name.map(ToString::to_string));
    if let Some(place) = places.get(&key) {
        return Ok(place.clone());
    }
    let place = Place::find(&Pool, collection_id, model_name)?;
    places.insert(key, place.clone());
    Ok(place)
}

/// 400 when it is too large.
pub fn check_metadata(metadata: Option<&Map<String, Value>>, field: &str) -> Result<()> {
    match metadata {
        Some(metadata) if json!(metadata).to_string().len() > METADATA_BYTES_MAX => {
            Err(Problem::field(field, format!("must have at most {METADATA_BYTES_MAX} bytes")))
        }
        _ => Ok(()),
    }
}

fn with_vector(draft: Draft, collection: Option<&Stored<Collection>>, vector: Vec<f32>) -> Result<Prepared> {
    if let Some(collection) = collection {
        check_dimensions(vector.len(), collection.dimensions, "collection's")?;
    }
    let whole = chunk::Passage { start: 0, end: draft.content.chars().count(), content: draft.content.clone() };
    let mut document = document(draft, collection);
    document.is_supplied = true;
    document.status = Status::Completed;
    Ok(Prepared::new(document, vec![Piece { passage: whole, vector }]))
}

/// 422 unless a vector is as long as those beside it.
pub fn check_dimensions(length: usize, wanted: i64, whose: &str) -> Result<()> {
    if i64::try_from(length).ok() == Some(wanted) {
        return Ok(());
    }
    Err(collection::mismatch(format!("The vector has {length} members, the {whose} have {wanted}.")))
}

/// A document whose vectors are made here; `asked` are the passages that providers have been asked for in this request.
fn with_model(draft: Draft, place: &Place, asked: &mut usize) -> Result<Prepared> {
    let model = place.model()?;
    let passages = place.cut(&draft.content)?;
    let is_at_once = fits(embedder::of(model).texts_max(), passages.len(), asked);
    let mut document = document(draft, place.collection.as_ref());
    document.embedding_model = Some(model.name.clone());
    if !is_at_once {
        return Ok(Prepared::new(document, Vec::new()));
    }
    match place.embed(passages) {
        Ok(pieces) => {
            document.status = Status::Completed;
            Ok(Prepared::new(document, pieces))
        }
        Err(problem) if embedder::is_providers(&problem) => {
            let wait = embedder::wait_of(&problem);
            document.status = Status::Failed;
            document.error_message = Some(problem.detail);
            document.attempts = 1;
            Ok(Prepared { document, pieces: Vec::new(), wait })
        }
        Err(problem) => Err(problem),
    }
}

/// Whether so many more passages may be made within this request, and notes them. What is made here keeps nobody waiting.
fn fits(texts_max: usize, passages: usize, asked: &mut usize) -> bool {
    if texts_max == usize::MAX {
        return true;
    }
    let fits = asked.saturating_add(passages) <= texts_max;
    if fits {
        *asked += passages;
    }
    fits
}

fn document(draft: Draft, collection: Option<&Stored<Collection>>) -> Document {
    let source_type = draft.source_type.or_else(|| collection.and_then(|collection| collection.source_type.clone()));
    let is_global = collection.is_some_and(|collection| collection.organization_id.is_none());
    Document {
        project_id: draft.project_id.or_else(|| collection.and_then(|collection| collection.project_id.clone())),
        file_path: draft.file_path,
        dims: 0,
        norm: 0.0,
        metadata: draft.metadata,
        embedding_model: draft.embedding_model,
        collection_id: draft.collection_id,
        source_id: draft.source_id,
        source_type,
        title: draft.title,
        content_hash: embedder::hash(&draft.content),
        status: Status::Pending,
        error_message: None,
        chunk_count: 0,
        token_count: Some(embedder::tokens(&draft.content)),
        is_supplied: false,
        attempts: 0,
        scope: if is_global { Scope::Global } else { Scope::Organization },
        content: draft.content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_something_with_a_direction() {
        assert_eq!(read_vector(&[0.5, -1.0], "vector").unwrap(), [0.5, -1.0]);
        for wrong in [&[][..], &[0.0, 0.0], &[f64::NAN], &[1e300], &[1e-200]] {
            let problem = read_vector(wrong, "vector").unwrap_err();
            assert_eq!((problem.status, problem.code.as_ref()), (422, "INVALID_VECTOR"), "{wrong:?}");
        }
    }

    #[test]
    fn many_documents_of_one_request_ask_a_provider_no_more_than_one_may() {
        let mut asked = 0;
        assert!(fits(64, 60, &mut asked));
        assert!(!fits(64, 5, &mut asked), "this one waits");
        assert!(fits(64, 4, &mut asked), "and a shorter one behind it does not");
        assert!(fits(usize::MAX, 2_000, &mut asked));
        assert_eq!(asked, 64);
    }

    #[test]
    fn a_document_lies_in_the_middle_of_its_passages() {
        let piece = |vector: &[f32]| Piece {
            passage: chunk::Passage { start: 0, end: 1, content: "x".into() },
            vector: vector.to_vec(),
        };
        assert_eq!(mean(&[piece(&[2.0, 0.0]), piece(&[0.0, 8.0])]), [0.5, 0.5]);
        assert_eq!(mean(&[piece(&[1.0, 0.0]), piece(&[-1.0, 0.0])]), [1.0, 0.0]);
    }
}
