//! Making the vectors of one document that could not have them at once: a message of its own, tried a few times.

use std::time::Duration;

use berth_sdk::prelude::*;

use crate::{
    document::{Document, Status, store},
    draft::{Piece, Place},
};

/// The message that does it.
pub const RUN: &str = "emb.document.run";
/// How often a document's vectors are tried.
pub const ATTEMPTS_MAX: i64 = 4;
/// How long is waited before the second, third and fourth time.
const WAITS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(15), Duration::from_secs(60)];

/// Which document, as it was when the message was sent.
#[data]
struct Work {
    document_id: Id,
    content_hash: String,
}

/// The longest wait that a provider may ask for.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Asks for the vectors of a document, when it waits for them or they have failed not too often; not before the provider
/// wants to be asked again.
pub fn enqueue_open(transaction: &Transaction, row: &Stored<Document>, asked: Option<Duration>) -> Result<()> {
    let wait = match row.status {
        Status::Pending | Status::Processing => Duration::ZERO,
        Status::Failed if row.attempts < ATTEMPTS_MAX => {
            let place = usize::try_from(row.attempts - 1).unwrap_or(0);
            let usual = WAITS.get(place).copied().unwrap_or(Duration::from_secs(60));
            asked.map_or(usual, |asked| usual.max(asked.min(WAIT_MAX)))
        }
        _ => return Ok(()),
    };
    let work = Work { document_id: row.id.clone(), content_hash: row.content_hash.clone() };
    transaction.enqueue(RUN, &work, wait).map(|_| ())
}

/// The passages of a document with their vectors.
pub fn pieces(row: &Stored<Document>) -> Result<Vec<Piece>> {
    let name = row.embedding_model.as_deref().filter(|_| row.collection_id.is_none());
    let place = Place::find(&Pool, row.collection_id.as_ref(), name)?;
    let passages = place.cut(&row.content)?;
    place.embed(passages)
}

/// Whether a failure is neither the provider's nor the document's, and the message is worth delivering again.
pub fn is_passing(problem: &Problem) -> bool {
    problem.status >= 500 && problem.status != 502
}

/// Handles [`RUN`].
pub fn work(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let is_open = |row: &Stored<Document>| row.content_hash == work.content_hash && row.status != Status::Completed;
    let Some(row) = entity::find::<Document>(&Pool, &work.document_id)?.filter(is_open) else { return Ok(()) };
    let outcome = match pieces(&row) {
        Err(problem) if is_passing(&problem) => return Err(problem),
        outcome => outcome,
    };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        match entity::find::<Document>(transaction, &work.document_id)?.filter(is_open) {
            Some(row) => store::finish(transaction, row, &outcome),
            None => Ok(()),
        }
    })
}
