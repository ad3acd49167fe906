//! The database room: what a guest may ask of the database.
//!
//! Every statement is checked before it runs: one plain statement, only tables under the plugin's own prefixes. A
//! call has at most one open transaction, and it never outlives the call.

pub(crate) mod backend;

/// The guest's handle to the call's transaction; the transaction itself is in the call's state.
pub struct TransactionHandle;
