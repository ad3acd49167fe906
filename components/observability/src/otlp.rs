//! OTLP over HTTP: traces, metrics and logs, as JSON or protobuf, plain or gzipped.

mod body;
mod log;
mod message;
mod metric;
mod trace;
mod value;

pub(crate) use body::{logs, metrics, traces};
