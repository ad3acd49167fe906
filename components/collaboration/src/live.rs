//! Sessions as they go on: what happens in them, kept in its order; cursors, which only the cache has; and the stream of
//! both.

pub mod cursor;
pub mod event;
pub mod signal;
pub mod state;
pub mod stream;

use berth_sdk::prelude::*;

/// The routes of streams and signals.
pub fn routes() -> Router {
    Router::new()
        .get("/api/pairing/sessions/{id}/stream", stream::stream)
        .summary("Follow a session: cursors, files, roles, notes and media signals.")
        .post("/api/pairing/sessions/{id}/signal", signal::signal)
        .summary("Say where the cursor is, which file is looked at, or what a peer has to know for media.")
}
