//! The body of an export: decoded, counted, answered in the form in which it came.

use std::io::Read;

use berth_sdk::{prelude::*, router::Route, serde_json};
use prost::Message;

use super::{
    log,
    message::{ExportAnswer, LogExport, MetricExport, PartialSuccess, TraceExport},
    metric, trace,
};
use crate::{error, metric::ingest, span};

/// Bytes of a body, unpacked.
const BODY_MAX: u64 = 32 * 1024 * 1024;
/// Records of one export.
const RECORDS_MAX: usize = 10_000;

/// In which form an export came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

/// How an export ended.
pub(crate) struct Taken {
    form: Form,
    rejected: usize,
    reason: String,
    /// The member of the answer that says how many were rejected.
    member: &'static str,
}

impl Answer for Taken {
    fn into_response(self) -> Result<Response> {
        let rejected = i64::try_from(self.rejected).unwrap_or(i64::MAX);
        let is_partial = rejected > 0;
        if self.form == Form::Json {
            let mut partial = serde_json::Map::new();
            if is_partial {
                partial.insert(self.member.into(), rejected.into());
                partial.insert("errorMessage".into(), self.reason.into());
            }
            return Response::json(200, &json!({ "partialSuccess": partial }));
        }
        let partial_success = is_partial.then_some(PartialSuccess { rejected, error_message: self.reason });
        Ok(Response::bytes(200, "application/x-protobuf", ExportAnswer { partial_success }.encode_to_vec()))
    }

    fn describe(route: &mut Route) {
        route.answer(200, None, Some("application/json"));
    }
}

/// Decodes a body: 415 for another media type, 413 for too much, 400 for what cannot be read.
fn decode<T: Message + Default + serde::de::DeserializeOwned>(request: &Request) -> Result<(Form, T)> {
    let media_type = request.header("content-type").unwrap_or("application/json");
    let form = match media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Form::Json,
        "application/x-protobuf" | "application/protobuf" => Form::Protobuf,
        _ => {
            let problem = Problem::unsupported_media_type("It takes application/json and application/x-protobuf.");
            return Err(problem.with_header("accept", "application/json, application/x-protobuf"));
        }
    };
    let unpacked;
    let bytes = match request.header("content-encoding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("identity" | "") => request.body.as_slice(),
        Some("gzip") => {
            unpacked = unpack(&request.body)?;
            unpacked.as_slice()
        }
        Some(_) => return Err(Problem::unsupported_media_type("Of content encodings it takes gzip.")),
    };
    let export = match form {
        Form::Json => serde_json::from_slice(bytes)
            .map_err(|error| Problem::bad_request(format!("The body is no export in JSON: {error}."))),
        Form::Protobuf => T::decode(bytes).map_err(|_| Problem::bad_request("The body is no export in protobuf.")),
    }?;
    Ok((form, export))
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = flate2::read::GzDecoder::new(packed).take(BODY_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|_| Problem::bad_request("The body is not gzip."))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > BODY_MAX {
        return Err(Problem::too_large(format!("An export has at most {BODY_MAX} bytes.")));
    }
    Ok(bytes)
}

fn within(count: usize) -> Result<()> {
    if count > RECORDS_MAX {
        return Err(Problem::too_large(format!("An export has at most {RECORDS_MAX} records.")));
    }
    Ok(())
}

/// What gets in the way only for now is told so: an exporter tries again after it.
fn retryable(problem: Problem) -> Problem {
    match problem.status {
        409 | 504 => Problem::unavailable("It could not be stored just now.").with_header("retry-after", "1"),
        _ => problem,
    }
}

/// `POST /api/observability/v1/traces`.
pub(crate) fn traces(request: Request) -> Result<Taken> {
    let organization_id = auth::organization_id()?;
    let (form, export) = decode::<TraceExport>(&request)?;
    let count = export.resource_spans.iter().flat_map(|one| &one.scope_spans).map(|one| one.spans.len()).sum();
    within(count)?;
    let (spans, mut rejected, mut reason) = trace::spans(export);
    let stored = span::store(&organization_id, spans).map_err(retryable)?;
    if stored.over > 0 {
        rejected += stored.over;
        reason = format!("a trace has at most {} spans", span::SPANS_MAX);
    }
    Ok(Taken { form, rejected, reason, member: "rejectedSpans" })
}

/// `POST /api/observability/v1/metrics`.
pub(crate) fn metrics(request: Request) -> Result<Taken> {
    let organization_id = auth::organization_id()?;
    let (form, export) = decode::<MetricExport>(&request)?;
    let (points, mut rejected, mut reason) = metric::points(export);
    within(points.len())?;
    let stored = ingest::store(&organization_id, points).map_err(retryable)?;
    if stored.over > 0 {
        rejected += stored.over;
        reason = format!("a metric has at most {} series", ingest::SERIES_MAX);
    }
    Ok(Taken { form, rejected, reason, member: "rejectedDataPoints" })
}

/// `POST /api/observability/v1/logs`: handed on to logging; what they say of errors is kept here.
pub(crate) fn logs(request: Request) -> Result<Taken> {
    let organization_id = auth::organization_id()?;
    let (form, export) = decode::<LogExport>(&request)?;
    let count = export.resource_logs.iter().flat_map(|one| &one.scope_logs).map(|one| one.log_records.len()).sum();
    within(count)?;
    let (lines, errors) = log::lines(export);
    let (rejected, reason) = log::send(&lines)?;
    if !errors.is_empty() {
        database::transaction(|transaction| error::note(transaction, &organization_id, errors)).map_err(retryable)?;
    }
    Ok(Taken { form, rejected, reason, member: "rejectedLogRecords" })
}

#[cfg(test)]
mod tests {
    use super::{super::message::Span, *};
    use std::io::Write;

    const EXAMPLE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
        "parentSpanId":"","name":"buy","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,
        "attributes":[{"key":"n","value":{"intValue":"7"}},{"key":"l","value":{"arrayValue":{"values":[{"boolValue":true}]}}},
        {"key":"odd","value":{}}],"status":{"code":"STATUS_CODE_ERROR","message":"no"},"unknown":1}]}]}]}"#;

    fn span(export: TraceExport) -> Span {
        export.resource_spans[0].scope_spans[0].spans[0].clone()
    }

    fn request(media_type: &str, body: Vec<u8>) -> Request {
        Request { body, ..Request::new("POST", "/") }.with_header("content-type", media_type)
    }

    #[test]
    fn json_and_protobuf_say_the_same() {
        let (_, read) = decode::<TraceExport>(&request("application/json; charset=utf-8", EXAMPLE.into())).unwrap();
        let one = span(read.clone());
        assert_eq!((one.trace_id.len(), one.span_id.len(), one.parent_span_id.len()), (16, 8, 0));
        assert_eq!((one.start_time_unix_nano, one.end_time_unix_nano), (1544712660000000000, 1544712661000000000));
        assert_eq!(one.status.as_ref().unwrap().code, 2);
        let attributes = super::super::value::members(one.attributes.clone());
        assert_eq!(serde_json::Value::Object(attributes), json!({"n": 7, "l": [true], "odd": null}));
        let bytes = read.encode_to_vec();
        let (_, again) = decode::<TraceExport>(&request("application/x-protobuf", bytes.clone())).unwrap();
        assert_eq!(span(again), one);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&bytes).unwrap();
        let packed =
            request("application/x-protobuf", packer.finish().unwrap()).with_header("content-encoding", "gzip");
        assert_eq!(span(decode::<TraceExport>(&packed).unwrap().1), one);
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let status = |request: &Request| decode::<TraceExport>(request).err().map(|problem| problem.status);
        assert_eq!(status(&request("text/plain", b"{}".to_vec())), Some(415));
        assert_eq!(status(&request("application/json", b"{".to_vec())), Some(400));
        assert_eq!(status(&request("application/x-protobuf", vec![0xff; 9])), Some(400));
        assert_eq!(
            status(&request("application/json", b"x".to_vec()).with_header("content-encoding", "gzip")),
            Some(400)
        );
        assert_eq!(
            status(&request("application/json", b"x".to_vec()).with_header("content-encoding", "br")),
            Some(415)
        );
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        bomb.write_all(&vec![b' '; usize::try_from(BODY_MAX).unwrap() + 2]).unwrap();
        let bomb = request("application/json", bomb.finish().unwrap()).with_header("content-encoding", "gzip");
        assert_eq!(status(&bomb), Some(413));
    }

    #[test]
    fn answers_count_what_was_rejected() {
        let taken = |form, rejected| {
            Taken { form, rejected, reason: "why".into(), member: "rejectedSpans" }.into_response().unwrap()
        };
        assert_eq!(taken(Form::Json, 0).json_body().unwrap(), json!({"partialSuccess": {}}));
        assert_eq!(
            taken(Form::Json, 2).json_body().unwrap(),
            json!({"partialSuccess": {"rejectedSpans": 2, "errorMessage": "why"}})
        );
        let answer = ExportAnswer::decode(taken(Form::Protobuf, 2).whole_body().unwrap()).unwrap();
        assert_eq!(answer.partial_success.unwrap().rejected, 2);
        assert_eq!(taken(Form::Protobuf, 0).whole_body().unwrap(), b"");
    }
}
