//! Finished spans on their way to whoever keeps them within this host: as plain values, and without those of the keeper.
//!
//! It is called in the middle of anything: it must neither wait nor begin a span.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use dashmap::DashSet;
use opentelemetry::trace::{Span as _, SpanId, SpanKind, Status, TraceContextExt as _};
use opentelemetry::{Array, Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::database::format_timestamp;

/// The attribute that names the plugin a span belongs to.
const PLUGIN: &str = "berth.plugin";
/// The service of a span that belongs to no plugin.
const HOST: &str = "host";
/// Spans of the keeper under way at once; further ones are passed on as if they were somebody else's.
const OWN_MAX: usize = 10_000;

/// A span that has ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FinishedSpan {
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    /// The plugin it belongs to, or `host`.
    pub service: String,
    pub name: String,
    kind: &'static str,
    start_time: String,
    duration_us: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_message: Option<String>,
    attributes: Map<String, Json>,
}

/// Whoever takes finished spans.
pub(crate) trait SpanSink: Send + Sync {
    fn take(&self, span: FinishedSpan);
}

/// Passes finished spans on.
pub(super) struct Tap {
    sink: Arc<dyn SpanSink>,
    /// The plugin that keeps the spans: what it does with messages and ticks is left out, with all that belongs to it.
    keeper: &'static str,
    /// Such spans that are under way.
    own: DashSet<SpanId>,
}

impl Tap {
    pub(super) fn new(sink: Arc<dyn SpanSink>, keeper: &'static str) -> Self {
        Self { sink, keeper, own: DashSet::new() }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tap")
    }
}

impl SpanProcessor for Tap {
    fn on_start(&self, span: &mut Span, context: &Context) {
        let parent = context.span().span_context().span_id();
        let is_own = self.own.contains(&parent)
            || span.exported_data().is_some_and(|data| data.name.strip_prefix("deliver ") == Some(self.keeper));
        if is_own && self.own.len() < OWN_MAX {
            self.own.insert(span.span_context().span_id());
        }
    }

    fn on_end(&self, span: SpanData) {
        if self.own.remove(&span.span_context.span_id()).is_none() {
            self.sink.take(finished(span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn finished(span: SpanData) -> FinishedSpan {
    let attributes: Map<String, Json> =
        span.attributes.iter().map(|attribute| (attribute.key.to_string(), json(&attribute.value))).collect();
    let (status, status_message) = match span.status {
        Status::Unset => ("unset", None),
        Status::Ok => ("ok", None),
        Status::Error { description } => ("error", Some(description.into_owned())),
    };
    FinishedSpan {
        trace_id: span.span_context.trace_id().to_string(),
        span_id: span.span_context.span_id().to_string(),
        parent_span_id: (span.parent_span_id != SpanId::INVALID).then(|| span.parent_span_id.to_string()),
        service: attributes.get(PLUGIN).and_then(Json::as_str).unwrap_or(HOST).to_owned(),
        name: span.name.into_owned(),
        kind: match span.span_kind {
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal => "internal",
        },
        start_time: time(span.start_time),
        duration_us: span
            .end_time
            .duration_since(span.start_time)
            .map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        status,
        status_message,
        attributes,
    }
}

fn time(time: SystemTime) -> String {
    format_timestamp(DateTime::<Utc>::from(time))
}

fn json(value: &Value) -> Json {
    match value {
        Value::Bool(truth) => Json::from(*truth),
        Value::I64(number) => Json::from(*number),
        Value::F64(number) => Json::from(*number),
        Value::Array(Array::String(texts)) => texts.iter().map(|text| Json::from(text.as_str())).collect(),
        other => Json::from(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use parking_lot::Mutex;

    use super::*;
    use crate::trace::{Kind, Tracer};

    #[derive(Default)]
    struct Kept(Mutex<Vec<FinishedSpan>>);

    impl SpanSink for Kept {
        fn take(&self, span: FinishedSpan) {
            self.0.lock().push(span);
        }
    }

    #[test]
    fn spans_are_passed_on_but_those_of_their_keeper() {
        let kept = Arc::new(Kept::default());
        let tap = Tap::new(Arc::clone(&kept) as Arc<dyn SpanSink>, "observability");
        let provider = SdkTracerProvider::builder().with_span_processor(tap).build();
        let tracer = Tracer(Some(provider.tracer("berth")));
        let own = tracer.begin(None, Kind::Consumer, || "deliver observability".into());
        drop(own.trace().span(Kind::Client, || "database query".into()));
        drop(own);
        let mut request = tracer.begin(None, Kind::Server, || "GET".into());
        request.rename(|| "GET /api/plans".into());
        request.note("berth.plugin", || "planning");
        let mut part = request.trace().span(Kind::Client, || "database query".into());
        part.fail("it failed");
        drop(part);
        drop(request);
        let kept = kept.0.lock();
        let told: Vec<(&str, &str)> = kept.iter().map(|span| (span.service.as_str(), span.name.as_str())).collect();
        assert_eq!(told, [("host", "database query"), ("planning", "GET /api/plans")]);
        let (part, request) = (&kept[0], &kept[1]);
        assert_eq!((part.parent_span_id.as_ref(), &part.trace_id), (Some(&request.span_id), &request.trace_id));
        assert_eq!((part.status, part.status_message.as_deref()), ("error", Some("it failed")));
        assert_eq!((request.kind, request.parent_span_id.as_deref()), ("server", None));
        assert_eq!(request.attributes["berth.plugin"], "planning");
    }
}
