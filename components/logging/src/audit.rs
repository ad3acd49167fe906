//! The audit log: rows that are only ever added, each chained to the one before by a hash.

pub(crate) mod alert;
pub(crate) mod append;
pub(crate) mod chain;
pub(crate) mod checkpoint;
pub(crate) mod configuration;
pub(crate) mod consume;
pub(crate) mod entry;
pub(crate) mod export;
pub(crate) mod policy;
pub(crate) mod read;
pub(crate) mod verification;
