//! The database room.

/// placeholder
pub struct TransactionHandle;
