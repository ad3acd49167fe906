//! Spans of an export.

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{
    message::{Link, SpanEvent, TraceExport},
    value::{clean, members, resource},
};
use crate::span::{self, Kind, Span, Status};

/// The spans of an export, how many were not fit to be any, and why the last one was not.
pub(super) fn spans(export: TraceExport) -> (Vec<Span>, usize, String) {
    let (mut spans, mut rejected, mut reason) = (Vec::new(), 0, String::new());
    for of_resource in export.resource_spans {
        let (service, about) = resource(of_resource.resource);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.unwrap_or_default().name;
            for sent in of_scope.spans {
                match one(sent, &service, &about, &scope) {
                    Ok(span) => spans.push(span),
                    Err(why) => {
                        rejected += 1;
                        reason = why;
                    }
                }
            }
        }
    }
    (spans, rejected, reason)
}

fn one(sent: super::message::Span, service: &str, about: &Map<String, Value>, scope: &str) -> Result<Span, String> {
    let trace_id = hex::encode(&sent.trace_id);
    let parent = Some(sent.parent_span_id).filter(|id| id.iter().any(|byte| *byte != 0)).map(hex::encode);
    let mut attributes = members(sent.attributes);
    for (name, value) in about {
        attributes.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if !scope.is_empty() {
        attributes.entry("otel.scope.name").or_insert_with(|| scope.into());
    }
    if !sent.links.is_empty() {
        attributes.entry("links").or_insert_with(|| sent.links.into_iter().take(32).map(link).collect());
    }
    let micros = |nanos: u64| i64::try_from(nanos / 1_000).unwrap_or(i64::MAX);
    let start_us = micros(sent.start_time_unix_nano);
    let status = sent.status.unwrap_or_default();
    let span = Span {
        trace_id,
        span_id: hex::encode(&sent.span_id),
        parent_span_id: parent,
        service: service.into(),
        name: clean(sent.name),
        kind: match sent.kind {
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Internal,
        },
        start_us,
        duration_us: micros(sent.end_time_unix_nano).saturating_sub(start_us).max(0),
        status: match status.code {
            1 => Status::Ok,
            2 => Status::Error,
            _ => Status::Unset,
        },
        status_message: Some(clean(status.message)).filter(|message| !message.is_empty()),
        attributes,
        events: sent.events.into_iter().take(span::EVENTS_MAX).map(event).collect(),
    };
    span.fit()
}

fn event(event: SpanEvent) -> Value {
    let millis = i64::try_from(event.time_unix_nano / 1_000_000).unwrap_or(i64::MAX);
    json!({
        "name": clean(event.name),
        "time": Timestamp::from_millis(millis),
        "attributes": members(event.attributes),
    })
}

fn link(link: Link) -> Value {
    json!({
        "traceId": hex::encode(link.trace_id),
        "spanId": hex::encode(link.span_id),
        "attributes": members(link.attributes),
    })
}
