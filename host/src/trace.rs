//! Traces: what a request, a message or a timer caused, as one tree of spans sent to an OpenTelemetry collector, or to
//! whoever keeps them within this host.
//!
//! A call carries its [`Trace`], a pointer that is null where nothing is traced: then every question here is one
//! comparison. It must never decide anything, never hold up a request (a full buffer drops spans), and never take text
//! from a request into a span but what is named here.

mod export;
mod tap;

use std::fmt;
use std::sync::Arc;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

pub(crate) use export::{Exporter, TraceOptions};
pub(crate) use tap::{FinishedSpan, SpanSink};

/// Characters of a text attribute; what is over is cut off.
const TEXT_CHARS_MAX: usize = 256;

/// Where a call stands in its tree. Cheap to clone; nothing at all where nothing is traced.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Arc<Node>>);

struct Node {
    tracer: SdkTracer,
    context: SpanContext,
}

/// One thing that takes time. It ends when it is dropped.
#[derive(Default)]
pub(crate) struct Span(Option<Box<Open>>);

struct Open {
    span: opentelemetry_sdk::trace::Span,
    trace: Trace,
}

/// What kind of work a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers somebody outside.
    Server,
    /// Waits for somebody outside.
    Client,
    /// Handles a message.
    Consumer,
    Internal,
}

/// Begins trees.
#[derive(Clone, Default)]
pub(crate) struct Tracer(Option<SdkTracer>);

impl Tracer {
    /// Whether anything is traced.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a tree, or goes on with one that `traceparent` names. Whether it is recorded is decided by its id alone, so
    /// that nobody outside can ask for it, and every host decides alike.
    pub(crate) fn begin(&self, traceparent: Option<&str>, kind: Kind, name: impl FnOnce() -> String) -> Span {
        let Some(tracer) = &self.0 else { return Span::default() };
        let parent = traceparent.and_then(parse).unwrap_or(SpanContext::NONE);
        start(tracer, &parent, kind, name())
    }
}

impl Trace {
    /// A part of this. Nothing where nothing is traced.
    pub(crate) fn span(&self, kind: Kind, name: impl FnOnce() -> String) -> Span {
        match &self.0 {
            Some(node) if node.context.is_sampled() => start(&node.tracer, &node.context, kind, name()),
            // What is not recorded still has its id, so that others can go on with it.
            _ => Span::default(),
        }
    }

    /// The W3C `traceparent` that others go on with.
    pub(crate) fn traceparent(&self) -> Option<String> {
        let context = &self.0.as_ref()?.context;
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        Some(format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags.to_u8()))
    }

    /// The id of the tree, for log lines.
    pub(crate) fn id(&self) -> Option<String> {
        Some(self.0.as_ref()?.context.trace_id().to_string())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.traceparent().as_deref().unwrap_or("-"))
    }
}

impl Span {
    /// Where what happens within it belongs; `outer` where this is none.
    pub(crate) fn trace_or(&self, outer: &Trace) -> Trace {
        self.0.as_ref().map_or_else(|| outer.clone(), |open| open.trace.clone())
    }

    /// Where what happens within it belongs.
    pub(crate) fn trace(&self) -> Trace {
        self.trace_or(&Trace::default())
    }

    /// Whether what is said of it is kept.
    pub(crate) fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.span.is_recording())
    }

    /// Says something of it; the text is made only where it is kept.
    pub(crate) fn note<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if let Some(open) = self.0.as_mut().filter(|open| open.span.is_recording()) {
            let value = match value().into() {
                Value::String(text) if text.as_str().len() > TEXT_CHARS_MAX => {
                    Value::from(text.as_str().chars().take(TEXT_CHARS_MAX).collect::<String>())
                }
                value => value,
            };
            open.span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// A better name, once it is known.
    pub(crate) fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(open) = self.0.as_mut().filter(|open| open.span.is_recording()) {
            open.span.update_name(name());
        }
    }

    /// It went wrong. `why` is a fixed text, never an error's own.
    pub(crate) fn fail(&mut self, why: &'static str) {
        if let Some(open) = &mut self.0 {
            open.span.set_status(Status::error(why));
        }
    }
}

fn start(tracer: &SdkTracer, parent: &SpanContext, kind: Kind, name: String) -> Span {
    let kind = match kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Internal => SpanKind::Internal,
    };
    let outer = Context::new();
    let outer = if parent.is_valid() { outer.with_remote_span_context(parent.clone()) } else { outer };
    let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), &outer);
    let node = Node { tracer: tracer.clone(), context: span.span_context().clone() };
    Span(Some(Box::new(Open { span, trace: Trace(Some(Arc::new(node))) })))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, as the W3C has it; later versions may say more behind that.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.trim().splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_whole = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    if !is_whole || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
    use parking_lot::Mutex;

    use super::*;

    /// Keeps what is sent.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().extend(batch);
            Ok(())
        }
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(ratio: f64) -> (Tracer, Kept, SdkTracerProvider) {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(Sampler::TraceIdRatioBased(ratio))
            .build();
        (Tracer(Some(provider.tracer("berth"))), exporter, provider)
    }

    #[test]
    fn nothing_is_traced_unless_somebody_listens() {
        let mut span = Tracer::default().begin(Some(PARENT), Kind::Server, || panic!("no name is needed"));
        span.note("x", || -> String { panic!("nothing is asked") });
        assert!(span.trace().traceparent().is_none());
        assert!(span.trace().span(Kind::Internal, || panic!("no name is needed")).trace().id().is_none());
    }

    #[test]
    fn a_part_belongs_to_its_whole_and_a_tree_goes_on_elsewhere() {
        let (tracer, exporter, _provider) = tracer(1.0);
        let whole = tracer.begin(Some(PARENT), Kind::Server, || "request".into());
        let mut part = whole.trace().span(Kind::Client, || "query".into());
        part.note("text", || "x".repeat(1000));
        let elsewhere = tracer.begin(part.trace().traceparent().as_deref(), Kind::Consumer, || "message".into());
        drop((elsewhere, part, whole));
        let spans = exporter.0.lock().clone();
        let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
        let (request, query, message) = (find("request"), find("query"), find("message"));
        assert_eq!(request.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(request.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(query.parent_span_id, request.span_context.span_id());
        assert_eq!(message.parent_span_id, query.span_context.span_id());
        assert_eq!(query.attributes[0].value.as_str().len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn a_client_cannot_ask_to_be_recorded() {
        let (tracer, exporter, _provider) = tracer(0.0);
        let whole = tracer.begin(Some(PARENT), Kind::Server, || "request".into());
        drop(whole.trace().span(Kind::Internal, || "part".into()));
        let parent = whole.trace().traceparent().unwrap();
        drop(whole);
        assert!(exporter.0.lock().is_empty());
        assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-00"), "{parent}");
    }

    #[test]
    fn only_a_whole_traceparent_counts() {
        assert!(parse(PARENT).is_some());
        assert!(parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some());
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
