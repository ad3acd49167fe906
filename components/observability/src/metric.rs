//! Metrics: points of series, taken in, summed up and read.

pub(crate) mod ingest;
pub(crate) mod point;
pub(crate) mod query;
pub(crate) mod series;
