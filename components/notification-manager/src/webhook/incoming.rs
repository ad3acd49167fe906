//! Taking signed calls from outside: the one route here that needs no token, so everything is judged before anything is
//! done, and the same call works once.

use berth_sdk::{events::Message, prelude::*, serde_json};

use super::{AuthType, Direction, signature};
use crate::notification::{
    create,
    send::{self, SendInput},
};

/// The work message of one call that was taken.
pub const RECEIVED: &str = "notification.received";
/// The largest body, in bytes: it travels on in a message.
const BODY_BYTES_MAX: usize = 200 * 1024;

/// As much of a webhook as a stranger's call needs.
#[data]
struct Door {
    id: Id,
    organization_id: Id,
    direction: Direction,
    auth_type: AuthType,
    auth_secret_id: Option<Id>,
    event_types: Vec<String>,
    is_active: bool,
}

/// What is answered.
#[data]
pub struct Received {
    /// Whether it will be handled.
    accepted: bool,
    /// How many recipients it names.
    recipient_count: i64,
}

/// A call on its way.
#[data]
struct Work {
    webhook_id: Id,
    body: String,
}

/// `POST /api/notifications/webhooks/in/{id}`: the body of `POST /api/notifications`, with `Berth-Timestamp` and
/// `Berth-Signature` over `timestamp.body`.
pub fn receive(Params(id): Params<Id>, request: Request) -> Result<Accepted<Received>> {
    let door = door(&id)?.ok_or_else(|| Problem::missing("webhook"))?;
    if request.body.len() > BODY_BYTES_MAX {
        return Err(Problem::too_large(format!("The body must have at most {BODY_BYTES_MAX} bytes.")));
    }
    let (timestamp, mac) = credentials(&request)?;
    if !signature::is_fresh(timestamp, clock::now()) {
        return Err(refused("The call is too old, or its clock is wrong."));
    }
    let text = signature::signed_text(timestamp, &request.body);
    let secret_id = door.auth_secret_id.clone().ok_or_else(|| Problem::missing("webhook"))?;
    if !signature::verify(&secret_id, &door.organization_id, &text, &mac)? {
        return Err(refused("The signature does not fit."));
    }
    let body = String::from_utf8(request.body).map_err(|_| Problem::bad_request("The body must be JSON."))?;
    let input = read(&body)?;
    if !door.event_types.is_empty()
        && !door.event_types.iter().any(|pattern| events::matches(pattern, &input.event_type))
    {
        return Err(Problem::unprocessable("This webhook does not take events of this type."));
    }
    let work = Message::new(RECEIVED, &json!({ "webhookId": door.id, "body": body }))?
        .for_organization(door.organization_id.as_str())
        // The same signed call is taken once.
        .with_id(format!("hook-{}", hex::encode(mac)).chars().take(64).collect::<String>());
    events::enqueue_message(&work)?;
    let recipient_count = i64::try_from(input.recipient_ids.len()).unwrap_or(i64::MAX);
    Ok(Accepted(Received { accepted: true, recipient_count }))
}

/// What a body asks for; 400 with every fault, so that nothing is taken that would be refused later.
fn read(body: &str) -> Result<SendInput> {
    let mut input: SendInput =
        serde_json::from_str(body).map_err(|error| Problem::bad_request(format!("The body does not fit: {error}.")))?;
    let mut faults = Faults::default();
    validate::Tidy::tidy(&mut input, &validate::Rule::default(), &validate::Path::default(), &mut faults);
    faults.finish()?;
    input.check()?;
    Ok(input)
}

fn refused(detail: &str) -> Problem {
    Problem::unauthorized(detail).with_code("SIGNATURE_INVALID")
}

fn credentials(request: &Request) -> Result<(i64, Vec<u8>)> {
    let timestamp = request.header(signature::TIMESTAMP).and_then(|text| text.trim().parse().ok());
    let mac = request.header(signature::SIGNATURE).and_then(signature::parse);
    match (timestamp, mac) {
        (Some(timestamp), Some(mac)) => Ok((timestamp, mac)),
        _ => Err(refused("The headers Berth-Timestamp and Berth-Signature are needed.")),
    }
}

/// The open incoming webhook of this id, in whichever organization: the call has none.
fn door(id: &Id) -> Result<Option<Door>> {
    let doors: Vec<Door> = database::query_as(
        &Pool,
        "SELECT id, organization_id AS \"organizationId\", direction, auth_type AS \"authType\", \
         auth_secret_id AS \"authSecretId\", event_types AS \"eventTypes\", is_active AS \"isActive\" \
         FROM notification_webhooks WHERE id = $1",
        params![id],
    )?;
    let is_open =
        |door: &Door| door.is_active && door.direction == Direction::Incoming && door.auth_type == AuthType::HmacSha256;
    Ok(doors.into_iter().find(is_open))
}

/// `notification.received`: makes the notifications, for the webhook's organization.
pub fn take(envelope: &Envelope) -> Result<()> {
    let work: Work = envelope.data()?;
    let input = read(&work.body)?;
    let now = clock::now();
    let made = database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(create::Made::default());
        }
        transaction.execute(
            "UPDATE notification_webhooks SET last_success_at = $2, updated_at = $2 WHERE id = $1",
            params![&work.webhook_id, now],
        )?;
        send::make(transaction, &input, "webhook")
    })?;
    made.remember();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_signature_gets_nowhere() {
        let request = Request::new("POST", "/x").with_header("berth-timestamp", "17");
        let problem = credentials(&request).unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref()), (401, "SIGNATURE_INVALID"));
        let whole = request.with_header("berth-signature", &format!("sha256={}", "ab".repeat(32)));
        assert_eq!(credentials(&whole).unwrap(), (17, vec![0xab; 32]));
    }

    #[test]
    fn a_body_is_judged_before_it_is_taken() {
        let fields = |body: berth_sdk::serde_json::Value| -> Vec<String> {
            read(&body.to_string())
                .err()
                .map_or_else(Vec::new, |problem| problem.errors.into_iter().map(|error| error.field).collect())
        };
        let body = |more: berth_sdk::serde_json::Value| {
            let mut body = json!({"eventType": "x.y", "recipientIds": ["u1"], "title": "t", "body": "b"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        assert_eq!(fields(body(json!({}))), [] as [&str; 0]);
        assert_eq!(fields(body(json!({"recipientIds": []}))), ["recipientIds"]);
        assert_eq!(fields(body(json!({"eventType": "a b"}))), ["eventType"]);
    }
}
