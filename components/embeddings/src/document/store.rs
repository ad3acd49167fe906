//! Writing documents with their passages, and taking them away. Everything here runs in the transaction of its caller, and
//! keeps the counts of collections true.

use std::collections::BTreeMap;

use berth_sdk::{database::Value, events::Message, prelude::*, vector};

use super::{Document, Status};
use crate::{
    draft::{self, Piece, Prepared},
    embedder::{self, lexical},
    index,
    model::HOLDS,
};

/// Columns of a passage.
const CHUNK_COLUMNS: &str = "id, organization_id, created_by, created_at, updated_at, version, document_id, collection_id, \
    project_id, embedding_model, dims, norm, vector, chunk_index, start_offset, end_offset, token_count, metadata, content, words";
const CHUNK_WIDTH: usize = 20;
/// Passages of one statement: a statement has at most 500 parameters.
const CHUNKS_MAX: usize = 24;
/// Documents that go in one turn.
pub const TURN: i64 = 400;

/// Writes a new document. What waits for its vectors gets them in a message of its own.
pub fn insert(transaction: &Transaction, mut prepared: Prepared) -> Result<Stored<Document>> {
    check_project(transaction, &prepared.document, None, &prepared.pieces)?;
    note_vectors(&mut prepared.document, &prepared.pieces);
    let row = entity::create(transaction, prepared.document).map_err(taken)?;
    write_vectors(transaction, &row, &prepared.pieces)?;
    count(transaction, &row, 1, row.chunk_count)?;
    say(transaction, "embedding.document.created", &row)?;
    if is_made(&row, &prepared.pieces) {
        say_made(transaction, &row)?;
    }
    index::enqueue_open(transaction, &row, prepared.wait)?;
    Ok(row)
}

/// Gives a document other content or vectors.
pub fn replace(transaction: &Transaction, mut row: Stored<Document>, prepared: Prepared) -> Result<Stored<Document>> {
    let before = row.chunk_count;
    let Prepared { document, pieces, wait } = prepared;
    check_project(transaction, &row.data, Some(&row.id), &pieces)?;
    let keeps_vectors = pieces.is_empty();
    row.content = document.content;
    row.content_hash = document.content_hash;
    row.token_count = document.token_count;
    row.status = document.status;
    row.error_message = document.error_message;
    row.attempts = document.attempts;
    if document.embedding_model.is_some() {
        row.embedding_model = document.embedding_model;
    }
    if !keeps_vectors {
        row.is_supplied = document.is_supplied;
        note_vectors(&mut row.data, &pieces);
    }
    entity::save(transaction, &mut row)?;
    if !keeps_vectors {
        transaction.execute("DELETE FROM emb_chunks WHERE document_id = $1", params![&row.id])?;
        write_vectors(transaction, &row, &pieces)?;
        count(transaction, &row, 0, row.chunk_count - before)?;
    }
    if is_made(&row, &pieces) {
        say_made(transaction, &row)?;
    } else {
        say_updated(transaction, &row)?;
    }
    index::enqueue_open(transaction, &row, wait)?;
    Ok(row)
}

/// Whether vectors were made of a document here, and did not come with it.
fn is_made(row: &Document, pieces: &[Piece]) -> bool {
    !pieces.is_empty() && !row.is_supplied
}

/// Where a document's passages belong follows the document.
pub fn follow(transaction: &Transaction, old: &Stored<Document>, row: &Stored<Document>) -> Result<()> {
    if row.project_id == old.project_id {
        return Ok(());
    }
    check_length(transaction, &row.data, Some(&row.id), usize::try_from(row.dims).unwrap_or(0))?;
    transaction
        .execute("UPDATE emb_chunks SET project_id = $2 WHERE document_id = $1", params![&row.id, &row.project_id])?;
    Ok(())
}

/// Notes how the making of a document's vectors went. It says nothing when the document has changed meanwhile.
pub fn finish(transaction: &Transaction, mut row: Stored<Document>, outcome: &Result<Vec<Piece>>) -> Result<()> {
    let pieces = outcome.as_ref().map(Vec::as_slice).unwrap_or_default();
    // Its project may have got vectors of another length meanwhile: then it fails like one whose provider does.
    let misfit = check_project(transaction, &row.data, Some(&row.id), pieces).err();
    let document = match misfit.as_ref().or(outcome.as_ref().err()) {
        None => Document { status: Status::Completed, error_message: None, attempts: 0, ..row.data.clone() },
        Some(problem) => {
            let message = Some(problem.detail.chars().take(500).collect());
            let attempts = if embedder::is_providers(problem) { row.attempts + 1 } else { index::ATTEMPTS_MAX };
            Document { status: Status::Failed, error_message: message, attempts, ..row.data.clone() }
        }
    };
    row.is_supplied = false;
    let pieces = if misfit.is_some() { Vec::new() } else { pieces.to_vec() };
    let wait = outcome.as_ref().err().and_then(embedder::wait_of);
    replace(transaction, row, Prepared { document, pieces, wait }).map(|_| ())
}

/// Takes a document away.
pub fn remove(transaction: &Transaction, row: &Stored<Document>) -> Result<()> {
    // The document before its passages: somebody who gives it others at this moment is done then, and theirs go too.
    let sql = "DELETE FROM emb_documents WHERE id = $1 RETURNING chunk_count";
    let gone = transaction.query_one(sql, params![&row.id])?.ok_or_else(|| Problem::missing("document"))?;
    transaction.execute("DELETE FROM emb_chunks WHERE document_id = $1", params![&row.id])?;
    let chunks: i64 = gone.get("chunk_count")?;
    count(transaction, row, -1, -chunks)?;
    say(transaction, "embedding.document.deleted", row)
}

/// Takes away documents of which only this much is known. Returns how many there were: what somebody else takes away at the same
/// time is theirs to count and to tell of.
pub fn remove_some(transaction: &Transaction, rows: &[Identity]) -> Result<i64> {
    let ids: Vec<Value> = rows.iter().map(|row| Value::from(&row.document_id)).collect();
    if ids.is_empty() {
        return Ok(0);
    }
    let places = places(1, ids.len());
    // Held in one order and read again: they may have other passages by now, or be gone.
    let sql = format!("SELECT {IDENTITY} FROM emb_documents WHERE id IN {places} ORDER BY id FOR UPDATE");
    let rows: Vec<Identity> = database::query_as(transaction, &sql, &ids)?;
    let mut counts: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for row in &rows {
        if let Some(collection_id) = &row.collection_id {
            let (documents, chunks) = counts.entry(collection_id.clone()).or_default();
            *documents -= 1;
            *chunks -= row.chunk_count;
        }
        transaction.send(&Message::new("embedding.document.deleted", row)?.with_key(row.document_id.as_str()))?;
    }
    transaction.execute(&format!("DELETE FROM emb_chunks WHERE document_id IN {places}"), &ids)?;
    transaction.execute(&format!("DELETE FROM emb_documents WHERE id IN {places}"), &ids)?;
    for (collection_id, (documents, chunks)) in counts {
        add_counts(transaction, &collection_id, documents, chunks)?;
    }
    Ok(i64::try_from(rows.len()).unwrap_or(0))
}

/// What is needed of a document to take it away, without its content.
#[data]
pub struct Identity {
    document_id: String,
    collection_id: Option<String>,
    project_id: Option<String>,
    source_id: Option<String>,
    source_type: Option<String>,
    chunk_count: i64,
}

/// What [`Identity`] reads.
pub const IDENTITY: &str = "\"id\" AS \"documentId\", \"collection_id\" AS \"collectionId\", \
    \"project_id\" AS \"projectId\", \"source_id\" AS \"sourceId\", \"source_type\" AS \"sourceType\", \
    \"chunk_count\" AS \"chunkCount\"";

/// Up to [`TURN`] of the documents that the caller sees and of which a condition holds.
pub fn identities(database: &dyn Executor, condition: &Condition) -> Result<Vec<Identity>> {
    let select = Select::<Document>::new().condition(&condition.sql, condition.values.clone());
    select.sort("id").limit(TURN).columns(database, IDENTITY)
}

/// Whether there may be more documents than these, of which a turn has read as many as it takes.
pub fn may_be_more(rows: &[Identity]) -> bool {
    i64::try_from(rows.len()).is_ok_and(|count| count >= TURN)
}

fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    format!("({})", places.join(", "))
}

/// Vectors of one project have one length.
fn check_project(transaction: &Transaction, document: &Document, own_id: Option<&Id>, pieces: &[Piece]) -> Result<()> {
    check_length(transaction, document, own_id, pieces.first().map_or(0, |piece| piece.vector.len()))
}

/// The same of a length; that of a document without vectors is 0, and fits.
fn check_length(transaction: &Transaction, document: &Document, own_id: Option<&Id>, length: usize) -> Result<()> {
    let (Some(project_id), None, 1..) = (&document.project_id, &document.collection_id, length) else {
        return Ok(());
    };
    let first = || -> Result<Option<i64>> {
        let found = transaction.query_one(
            "SELECT dims FROM emb_documents WHERE organization_id = $1 AND project_id = $2 AND collection_id IS NULL AND dims > 0
             AND id <> $3 ORDER BY id LIMIT 1",
            params![auth::organization_id()?, project_id, own_id.map_or("", Id::as_str)],
        )?;
        Ok(found.map(|row| row.get("dims")).transpose()?)
    };
    let mut wanted = first()?;
    if wanted.is_none() {
        // Of two that would be the first at once the later one finds the other.
        transaction.hold(HOLDS, "first documents")?;
        wanted = first()?;
    }
    wanted.map_or(Ok(()), |wanted| draft::check_dimensions(length, wanted, "project's first document's"))
}

fn note_vectors(document: &mut Document, pieces: &[Piece]) {
    if pieces.is_empty() {
        return;
    }
    let mean = draft::mean(pieces);
    document.dims = i64::try_from(mean.len()).unwrap_or(0);
    document.norm = vector::norm(&mean);
    document.chunk_count = i64::try_from(pieces.len()).unwrap_or(0);
}

fn write_vectors(transaction: &Transaction, row: &Stored<Document>, pieces: &[Piece]) -> Result<()> {
    if pieces.is_empty() {
        return Ok(());
    }
    let mean = vector::to_bytes(&draft::mean(pieces));
    transaction.execute("UPDATE emb_documents SET vector = $2 WHERE id = $1", params![&row.id, mean])?;
    let now = clock::now();
    for (turn, part) in pieces.chunks(CHUNKS_MAX).enumerate() {
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * CHUNK_WIDTH);
        let mut rows = Vec::with_capacity(part.len());
        for (place, piece) in part.iter().enumerate() {
            rows.push(places(values.len() + 1, CHUNK_WIDTH));
            let passage = &piece.passage;
            values.extend_from_slice(params![
                Id::new(),
                &row.organization_id,
                &row.created_by,
                now,
                now,
                1,
                &row.id,
                &row.collection_id,
                &row.project_id,
                &row.embedding_model,
                piece.vector.len(),
                vector::norm(&piece.vector),
                vector::to_bytes(&piece.vector),
                turn * CHUNKS_MAX + place,
                passage.start,
                passage.end,
                embedder::tokens(&passage.content),
                json!({}),
                &passage.content,
                lexical::parted(&passage.content),
            ]);
        }
        let sql = format!("INSERT INTO emb_chunks ({CHUNK_COLUMNS}) VALUES {}", rows.join(", "));
        transaction.execute(&sql, &values)?;
    }
    Ok(())
}

fn count(transaction: &Transaction, row: &Stored<Document>, documents: i64, chunks: i64) -> Result<()> {
    match &row.collection_id {
        Some(collection_id) if documents != 0 || chunks != 0 => {
            let is_there = add_counts(transaction, collection_id, documents, chunks)?;
            // What comes into a collection that goes at the same moment nobody would see, and nobody take away.
            if documents > 0 && !is_there { Err(Problem::missing("collection")) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// Counts are no change of the collection: its version stays. False when it is gone.
fn add_counts(transaction: &Transaction, collection_id: &str, documents: i64, chunks: i64) -> Result<bool> {
    let changed = transaction.execute(
        "UPDATE emb_collections SET document_count = document_count + $2, chunk_count = chunk_count + $3 WHERE id = $1",
        params![collection_id, documents, chunks],
    )?;
    Ok(changed > 0)
}

fn say(transaction: &Transaction, kind: &str, row: &Stored<Document>) -> Result<()> {
    transaction.send(&Message::new(kind, &Document::event_data(row))?.with_key(row.id.as_str())).map(|_| ())
}

/// Says that a document has changed, and that no vectors were made of it.
pub fn say_updated(transaction: &Transaction, row: &Stored<Document>) -> Result<()> {
    say(transaction, "embedding.document.updated", row)
}

/// Says of how much vectors were made: usage is made of that, once for each time.
fn say_made(transaction: &Transaction, row: &Stored<Document>) -> Result<()> {
    let mut data = Document::event_data(row);
    if let Some(members) = data.as_object_mut() {
        members.insert("tokens".into(), json!(row.token_count));
        members.insert("chunks".into(), row.chunk_count.into());
    }
    transaction.send(&Message::new("embedding.document.updated", &data)?.with_key(row.id.as_str())).map(|_| ())
}

/// The conflict of two documents with one natural key, in words.
fn taken(problem: Problem) -> Problem {
    if problem.status == 409 && problem.code == "CONFLICT" {
        return Problem::conflict("There is a document of this project and file, or collection and source, already.")
            .with_code("DOCUMENT_EXISTS");
    }
    problem
}
