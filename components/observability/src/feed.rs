//! What the host itself measures: its spans and metrics, handed over in batches. A batch is delivered once and never again.

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};

use crate::{
    metric::{ingest, ingest::NewPoint, point::Point},
    span::{self, NewSpan, Span},
};

/// The plugin itself: what it does itself is not measured here, or each batch would be reason for the next.
const SELF: &str = "observability";

/// A batch of the feed.
#[data]
struct Feed {
    #[field(default)]
    spans: Vec<Map<String, Value>>,
    #[field(default)]
    points: Vec<Map<String, Value>>,
    #[field(default)]
    dropped: i64,
}

/// Handles `feed.spans`.
pub(crate) fn spans(envelope: &Envelope) -> Result<()> {
    let organization_id = auth::organization_id()?;
    let feed: Feed = envelope.data()?;
    let spans: Vec<Span> = feed.spans.into_iter().filter_map(span).collect();
    span::store(&organization_id, spans)?;
    say_dropped("spans", feed.dropped);
    Ok(())
}

/// Handles `feed.metrics`.
pub(crate) fn metrics(envelope: &Envelope) -> Result<()> {
    let organization_id = auth::organization_id()?;
    let feed: Feed = envelope.data()?;
    let points: Vec<Point> = feed.points.into_iter().filter_map(point).collect();
    ingest::store(&organization_id, points)?;
    say_dropped("points", feed.dropped);
    Ok(())
}

fn say_dropped(what: &str, dropped: i64) {
    if dropped > 0 {
        logging::warn!("the host's feed came too fast", what = what, dropped = dropped);
    }
}

fn span(mut members: Map<String, Value>) -> Option<Span> {
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let plugin = members.get("attributes").and_then(|attributes| attributes.get("plugin")).and_then(Value::as_str);
    let is_about_self = text("service") == SELF
        || plugin == Some(SELF)
        || text("name").contains("/api/observability")
        || text("name").contains("feed.")
        || text("name").ends_with(&format!(" {SELF}"));
    if is_about_self {
        return None;
    }
    if span::Kind::parse(text("kind")).is_none() {
        members.insert("kind".into(), span::Kind::Internal.as_str().into());
    }
    members.retain(|_, value| !value.is_null());
    serde_json::from_value::<NewSpan>(Value::Object(members)).ok()?.into_span().ok()
}

fn point(mut members: Map<String, Value>) -> Option<Point> {
    members.retain(|_, value| !value.is_null());
    serde_json::from_value::<NewPoint>(Value::Object(members)).ok()?.into_point().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_hosts_spans_are_taken_and_those_about_this_plugin_are_not() {
        let sent = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "service": "planning",
            "name": "GET /api/plans", "kind": "odd", "startTime": "2026-01-31T12:00:00.000Z", "durationUs": 7, "status": "ok",
            "attributes": {}, "parentSpanId": null});
        let taken = span(members(sent.clone())).unwrap();
        assert_eq!((taken.kind, taken.duration_us), (span::Kind::Internal, 7));
        for own in [
            json!({"service": SELF}),
            json!({"attributes": {"plugin": SELF}}),
            json!({"name": "POST /api/observability/v1/traces"}),
            json!({"name": "deliver observability"}),
        ] {
            let mut sent = members(sent.clone());
            sent.extend(members(own));
            assert!(span(sent).is_none());
        }
        let sent = json!({"name": "berth.calls", "kind": "counter", "unit": "1", "service": "host", "labels": {"plugin": "x"},
            "value": 3, "recordedAt": "2026-01-31T12:00:00.000Z"});
        assert_eq!(point(members(sent)).unwrap().value, 3.0);
    }
}
