//! The database underneath everything.
