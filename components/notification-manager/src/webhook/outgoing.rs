//! Telling others: one signed CloudEvents call for each event and webhook, tried again, and counted.

use berth_sdk::{
    events::Message,
    http_out::{Call, Client},
    prelude::*,
    serde_json::Value,
};

use super::{AuthType, Direction, Webhook, forget, signature};
use crate::{
    delivery::backoff,
    event::Incoming,
    kinds::Criticality,
    provider::send::{Failure, FailureKind},
};

/// The work message of one call.
pub const CALL: &str = "notification.webhook";
/// Events in a row that cannot be delivered, after which a webhook is switched off.
const FAILURES_MAX: i64 = 10;
/// How long the other side may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// The largest event that is passed on, in bytes; a message carries little more.
const EVENT_BYTES_MAX: usize = 200 * 1024;

/// One call to make.
#[data]
struct Work {
    webhook_id: Id,
    attempt: i64,
    event: Value,
}

/// An event as CloudEvents 1.0.
pub fn cloud_event(event: &Incoming, organization_id: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": format!("/berth/{}", event.source),
        "type": event.event_type,
        "time": event.timestamp,
        "datacontenttype": "application/json",
        "organizationid": organization_id,
        "data": event.data,
    })
}

/// Puts the calls for an event into the queue.
pub fn enqueue(transaction: &Transaction, targets: &[super::Target], event: &Incoming) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let kind = event.event_type.as_str();
    let event = cloud_event(event, &auth::organization_id()?);
    if event.to_string().len() > EVENT_BYTES_MAX {
        logging::warn!("an event is too large for webhooks", event_type = kind);
        return Ok(());
    }
    for target in targets {
        let work = json!({ "webhookId": target.id, "attempt": 1, "event": event });
        // One webhook is told in order; another one does not wait for it.
        transaction.enqueue_message(&Message::new(CALL, &work)?.with_key(target.id.as_str()))?;
    }
    Ok(())
}

/// `notification.webhook`.
pub fn deliver(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let Some(webhook) = entity::find::<Webhook>(&Pool, &work.webhook_id)? else { return Ok(()) };
    if !webhook.is_active {
        return Ok(());
    }
    match call(&webhook, &work.event) {
        Ok(_) => note_success(&webhook),
        Err(failure) if failure.kind == FailureKind::Passing && work.attempt <= webhook.max_retries => {
            let pause = backoff::pause(Criticality::High, work.attempt, &webhook.id);
            let again = json!({ "webhookId": webhook.id, "attempt": work.attempt + 1, "event": work.event });
            events::enqueue(CALL, &again, pause)?;
            Ok(())
        }
        Err(failure) => note_failure(&webhook, &failure),
    }
}

/// Makes the call. Every failure of the other side may pass.
fn call(webhook: &Stored<Webhook>, event: &Value) -> Result<u16, Failure> {
    let call = request(webhook, event, clock::now())?;
    let reply = crate::egress::send(&call)?;
    if reply.is_success() {
        return Ok(reply.status);
    }
    Err(Failure {
        code: "WEBHOOK_REFUSED",
        error: format!("The other side answered {}.", reply.status),
        kind: if matches!(reply.status, 408 | 425 | 429 | 500..) { FailureKind::Passing } else { FailureKind::Lasting },
    })
}

fn request(webhook: &Stored<Webhook>, event: &Value, now: Timestamp) -> Result<Call, Failure> {
    let body = event.to_string().into_bytes();
    let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
    let mut call = Client::new(webhook.url.as_deref().unwrap_or_default())
        .post("")
        .header("berth-webhook-id", webhook.id.as_str())
        .header("berth-event-id", id)
        .idempotency_key(format!("{}-{id}", webhook.id))
        .timeout(TIMEOUT);
    match (webhook.auth_type, &webhook.auth_secret_id) {
        (AuthType::None, _) | (_, None) => {}
        (AuthType::HmacSha256, Some(secret_id)) => {
            let timestamp = now.millis() / 1_000;
            let mac = signature::sign(secret_id, &signature::signed_text(timestamp, &body))?;
            call = call
                .header(signature::TIMESTAMP, timestamp.to_string())
                .header(signature::SIGNATURE, signature::header(&mac));
        }
        (AuthType::Basic | AuthType::Bearer | AuthType::ApiKey, Some(secret_id)) => {
            call = call.auth_secret_id(secret_id.as_str());
        }
    }
    Ok(call.body("application/cloudevents+json", body))
}

fn note_success(webhook: &Stored<Webhook>) -> Result<()> {
    let now = clock::now();
    database::execute(
        "UPDATE notification_webhooks SET failure_count = 0, last_success_at = $2, updated_at = $2 WHERE id = $1",
        params![&webhook.id, now],
    )?;
    Ok(())
}

/// Counts an event that was given up; the tenth in a row switches the webhook off.
fn note_failure(webhook: &Stored<Webhook>, failure: &Failure) -> Result<()> {
    logging::warn!("a webhook could not be told", webhook_id = webhook.id, code = failure.code);
    database::execute(
        "UPDATE notification_webhooks SET failure_count = failure_count + 1, updated_at = $2, version = version + 1, \
         is_active = CASE WHEN failure_count + 1 >= $3 THEN $4 ELSE is_active END WHERE id = $1",
        params![&webhook.id, clock::now(), FAILURES_MAX, false],
    )?;
    if webhook.failure_count + 1 >= FAILURES_MAX {
        forget();
    }
    Ok(())
}

/// How a test call went.
#[data]
pub struct TestResult {
    success: bool,
    /// What the other side answered.
    status: Option<u16>,
    /// What went wrong, as a code.
    code: Option<String>,
    /// What went wrong.
    error: Option<String>,
}

/// `POST /api/notifications/webhooks/{id}/test`: one call with an event of the type `notification.test`.
pub fn test(Params(id): Params<Id>) -> Result<Json<TestResult>> {
    let webhook = entity::read::<Webhook>(&Pool, &id)?;
    if webhook.direction == Direction::Incoming {
        return Err(Problem::unprocessable("An incoming webhook is called by others; there is nothing to call."));
    }
    let event = Incoming {
        id: Id::new().into_string(),
        event_type: "notification.test".into(),
        source: "notification-manager".into(),
        timestamp: clock::now().to_string(),
        user_id: auth::principal().user_id.map(Id::from),
        data: json!({ "webhookId": webhook.id }),
    };
    let result = call(&webhook, &cloud_event(&event, &auth::organization_id()?));
    if result.is_ok() {
        note_success(&webhook)?;
    }
    Ok(Json(match result {
        Ok(status) => TestResult { success: true, status: Some(status), code: None, error: None },
        Err(failure) => {
            TestResult { success: false, status: None, code: Some(failure.code.into()), error: Some(failure.error) }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_cloud_event() {
        let event = Incoming {
            id: "e1".into(),
            event_type: "task.assigned".into(),
            source: "planning".into(),
            timestamp: "2026-01-31T08:15:00.000Z".into(),
            user_id: None,
            data: json!({"taskId": "t1"}),
        };
        let cloud = cloud_event(&event, "o1");
        assert_eq!(
            (&cloud["specversion"], &cloud["type"], &cloud["source"], &cloud["data"]["taskId"]),
            (&json!("1.0"), &json!("task.assigned"), &json!("/berth/planning"), &json!("t1"))
        );
    }
}
