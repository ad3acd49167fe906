//! Log records of an export: handed on to logging.

use berth_sdk::{http_out, prelude::*, serde_json, serde_json::Value};

use super::{
    message::{LogExport, LogRecord},
    value::{members, resource, value},
};
use crate::error::Occurrence;

/// Lines and bytes of one request to logging.
const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the attributes of a line; logging takes no more.
const CONTEXT_MAX: usize = 30 * 1024;

/// The lines of an export, and the errors they tell of.
pub(super) fn lines(export: LogExport) -> (Vec<Value>, Vec<Occurrence>) {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for of_resource in export.resource_logs {
        let (service, about) = resource(of_resource.resource);
        for of_scope in of_resource.scope_logs {
            let scope = of_scope.scope.unwrap_or_default().name;
            for record in of_scope.log_records {
                let mut about = about.clone();
                if !scope.is_empty() {
                    about.insert("otel.scope.name".into(), scope.as_str().into());
                }
                let (line, error) = line(record, &service, about);
                lines.push(line);
                errors.extend(error);
            }
        }
    }
    (lines, errors)
}

fn line(record: LogRecord, service: &str, about: serde_json::Map<String, Value>) -> (Value, Option<Occurrence>) {
    let level = match (record.severity_number, record.severity_text.to_ascii_lowercase()) {
        (1..=8, _) => "debug",
        (13..=16, _) => "warn",
        (17..=20, _) => "error",
        (21.., _) => "fatal",
        (0, text) if text.starts_with("warn") => "warn",
        (0, text) if text.starts_with("err") => "error",
        _ => "info",
    };
    let message = match value(record.body) {
        Value::String(text) if !text.is_empty() => text,
        Value::Null | Value::String(_) => "(no message)".into(),
        other => other.to_string(),
    };
    let mut context = members(record.attributes);
    for (name, value) in about {
        context.entry(name).or_insert(value);
    }
    let nanos = if record.time_unix_nano > 0 { record.time_unix_nano } else { record.observed_time_unix_nano };
    let at =
        if nanos > 0 { Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(0)) } else { clock::now() };
    let error = matches!(level, "error" | "fatal").then(|| {
        let text = |name: &str| context.get(name).and_then(Value::as_str).map(ToString::to_string);
        let kind = text("exception.type")?;
        let message = text("exception.message").unwrap_or_else(|| message.clone());
        let sample = json!({ "traceId": id(&record.trace_id, 16), "spanId": id(&record.span_id, 8) });
        Some(Occurrence { service: service.into(), kind, message, stack: text("exception.stacktrace"), at, sample })
    });
    let mut context = Value::Object(context);
    if context.to_string().len() > CONTEXT_MAX {
        context = json!({ "isCut": true });
    }
    let line = json!({
        "level": level,
        "service": service.chars().take(100).collect::<String>(),
        "message": message,
        "context": context,
        "traceId": id(&record.trace_id, 16),
        "spanId": id(&record.span_id, 8),
        "timestamp": at,
    });
    (line, error.flatten())
}

fn id(bytes: &[u8], length: usize) -> Option<String> {
    (bytes.len() == length && bytes.iter().any(|byte| *byte != 0)).then(|| hex::encode(bytes))
}

/// Hands lines on to logging. Answers how many it did not take, and why. 503 when logging is not there.
pub(super) fn send(lines: &[Value]) -> Result<(usize, String)> {
    let (mut rejected, mut reason) = (0, String::new());
    let mut rest = lines;
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        for line in rest.iter().take(LINES_MAX) {
            bytes += line.to_string().len();
            if count > 0 && bytes > BYTES_MAX {
                break;
            }
            count += 1;
        }
        let (now, later) = rest.split_at(count);
        let answer: Value = http_out::plugin("logging").post("/api/logs").json(&now).fetch()?;
        let refused = answer.get("rejected").and_then(Value::as_array).cloned().unwrap_or_default();
        rejected += refused.len();
        if let Some(message) = refused.first().and_then(|one| one.pointer("/errors/0/message")).and_then(Value::as_str)
        {
            reason = message.to_string();
        }
        rest = later;
    }
    Ok((rejected, reason))
}
