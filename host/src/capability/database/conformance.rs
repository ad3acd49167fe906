//! The room over both databases.
