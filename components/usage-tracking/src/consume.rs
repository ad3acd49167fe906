//! Events of other services that are usage: which category they are of, and what of them is measured.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::{
    access,
    event::{NewEvent, numbers},
    ingest,
};

/// What is measured where an event says it.
const MEASURED: &[&str] = &[
    "inputTokens",
    "outputTokens",
    "totalTokens",
    "promptTokens",
    "completionTokens",
    "tokens",
    "chunks",
    "durationMs",
    "latencyMs",
    "bytes",
    "steps",
    "totalSteps",
    "completedSteps",
];
/// What tells usage apart.
const DIMENSIONS: &[&str] = &["model", "modelId", "provider", "providerId", "tool", "toolName", "server", "status"];

/// The category of an event's type, where it is usage.
fn category_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "ai.completion.completed" | "ai.completion.failed" => "ai.completion",
        "embedding.document.updated" => "ai.embedding",
        "mcp.tool.execution.completed" => "mcp.execution",
        "execution.completed" => "compute.agent",
        "prompt.execution.completed" | "prompt.execution.failed" => "prompt.execution",
        "workflow.run.completed" => "workflow.run",
        _ if kind.starts_with("storage.") => "storage",
        _ => return None,
    })
}

/// The usage that an event tells of.
fn usage_of(envelope: &Envelope) -> Option<NewEvent> {
    let category = category_of(&envelope.message_type)?;
    let data: Map<String, Value> = envelope.data().ok()?;
    let text = |name: &str| data.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let id = |name: &str| text(name).filter(|text| validate::id(text).is_ok()).map(Id::from);
    let mut metrics: BTreeMap<String, f64> = match category {
        // Its tokens are those of the completion behind it.
        "prompt.execution" => BTreeMap::new(),
        _ => numbers(&data, MEASURED),
    };
    if let Some(Value::Object(usage)) = data.get("usage").filter(|_| category != "prompt.execution") {
        metrics.extend(numbers(usage, MEASURED));
    }
    for (one, other) in [("promptTokens", "inputTokens"), ("completionTokens", "outputTokens")] {
        if let (Some(quantity), false) = (metrics.get(one).copied(), metrics.contains_key(other)) {
            metrics.insert(other.into(), quantity);
        }
    }
    if category == "ai.completion" && !metrics.contains_key("totalTokens") {
        let of = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
        metrics.insert("totalTokens".into(), of("inputTokens") + of("outputTokens"));
    }
    metrics.insert("count".into(), 1.0);
    let short = |text: &str| text.chars().take(200).collect::<String>();
    let mut dimensions: BTreeMap<String, String> =
        DIMENSIONS.iter().filter_map(|name| Some(((*name).to_string(), short(text(name)?)))).collect();
    if envelope.message_type.ends_with(".failed") {
        dimensions.insert("status".into(), "failed".into());
    }
    let resource = ["executionId", "runId", "completionId", "documentId", "id"].into_iter().find_map(text);
    Some(NewEvent {
        event_id: Some(envelope.id.replace('|', "-")),
        user_id: id("userId").or_else(|| envelope.user_id.clone().map(Id::from)),
        project_id: id("projectId"),
        team_id: id("teamId"),
        category_code: category.into(),
        source_module: Some(envelope.source_service.clone()),
        source_resource_id: resource.map(short),
        source_action: Some(envelope.message_type.clone()),
        metrics,
        dimensions,
        metadata: None,
        occurred_at: Timestamp::parse(&envelope.timestamp),
    })
}

/// Handles an event of another service.
pub(crate) fn on_event(envelope: &Envelope) -> Result<()> {
    let Some(event) = usage_of(envelope) else { return Ok(()) };
    if auth::principal().organization_id.is_none() {
        return Ok(());
    }
    // Before the transaction: it may ask the main app.
    let zone = access::zone();
    let source = envelope.source_service.clone();
    database::transaction(|transaction| {
        // The event's own id keeps it from counting twice, however often it is delivered.
        let outcome = ingest::run_within(transaction, vec![event], &source, false, zone)?;
        for rejection in outcome.reported.rejected {
            logging::warn!("usage was not counted", kind = envelope.message_type, code = rejection.code);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(kind: &str, data: Value) -> Option<NewEvent> {
        usage_of(&Envelope::for_test(kind, &data.to_string()))
    }

    #[test]
    fn a_completion_is_measured_in_tokens() {
        let event = usage(
            "ai.completion.completed",
            json!({"model": "large", "promptTokens": 10, "usage": {"completionTokens": 5}, "projectId": "p1", "latencyMs": -3}),
        )
        .unwrap();
        assert_eq!(event.category_code, "ai.completion");
        assert_eq!(event.metrics["totalTokens"], 15.0);
        assert_eq!((event.metrics["inputTokens"], event.metrics["outputTokens"]), (10.0, 5.0));
        assert_eq!(event.dimensions["model"], "large");
        assert!(!event.metrics.contains_key("latencyMs"), "a negative quantity is none");
    }

    #[test]
    fn a_prompt_counts_and_its_tokens_do_not() {
        let event = usage("prompt.execution.failed", json!({"totalTokens": 10})).unwrap();
        assert_eq!(event.metrics, [("count".to_string(), 1.0)].into());
        assert_eq!(event.dimensions["status"], "failed");
    }

    #[test]
    fn what_is_no_usage_is_left() {
        for kind in
            ["planning.plan.created", "execution.step.completed", "ai.agent.completed", "mcp.tool.execution.failed"]
        {
            assert!(usage(kind, json!({})).is_none(), "{kind}");
        }
        assert_eq!(
            usage("execution.completed", json!({"executionId": "e1"})).unwrap().source_resource_id.as_deref(),
            Some("e1")
        );
    }
}
