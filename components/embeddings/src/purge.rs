//! Taking away the documents of a collection that is gone, in turns.

use std::time::Duration;

use berth_sdk::prelude::*;

use crate::document::store;

/// The message that does a turn.
pub const RUN: &str = "emb.purge.run";

/// Which collection.
#[data]
struct Work {
    collection_id: Id,
}

/// Begins when the present transaction commits.
pub fn begin(transaction: &Transaction, collection_id: &Id) -> Result<()> {
    transaction.enqueue(RUN, &Work { collection_id: collection_id.clone() }, Duration::ZERO).map(|_| ())
}

/// Handles [`RUN`].
pub fn work(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? || is_there(transaction, &work.collection_id)? {
            return Ok(());
        }
        let sql = format!(
            "SELECT {} FROM emb_documents WHERE collection_id = $1 ORDER BY id LIMIT {}",
            store::IDENTITY,
            store::TURN
        );
        let rows: Vec<store::Identity> = database::query_as(transaction, &sql, params![&work.collection_id])?;
        store::remove_some(transaction, &rows)?;
        if store::may_be_more(&rows) {
            begin(transaction, &work.collection_id)?;
        }
        Ok(())
    })
}

/// What a collection that is there holds, nobody purges.
fn is_there(database: &dyn Executor, collection_id: &Id) -> Result<bool> {
    let row = database.query_one("SELECT id FROM emb_collections WHERE id = $1", params![collection_id])?;
    Ok(row.is_some())
}
