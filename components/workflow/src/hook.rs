//! Webhooks: an address that starts a workflow from outside. Its token is part of the address and shown once; with a secret
//! every call must be signed, which the host checks. The same delivery starts one run, however often it comes.

use berth_sdk::{
    canonical,
    events::Message,
    http::Answer,
    prelude::*,
    secrets, serde_json,
    serde_json::{Map, Value},
    webhook,
};

use crate::{
    run_row::TriggerType,
    schedule::RUN_START,
    sight, start,
    trigger::Trigger,
    workflow::{Workflow, WorkflowStatus},
};

/// Hooks of one workflow.
const HOOKS_MAX: i64 = 20;
/// The largest body, in bytes: it travels on in a message.
const BODY_BYTES_MAX: usize = 180 * 1024;
/// Headers that name a delivery, the first that is there.
const DELIVERY: [&str; 4] = ["berth-delivery-id", "webhook-id", "x-github-delivery", "idempotency-key"];
/// Headers that a run is shown.
const SHOWN: [&str; 6] = ["content-type", "user-agent", "x-github-event", "x-gitlab-event", "x-event-key", "ce-type"];
/// Where others put a signature over the body alone.
const BODY_SIGNATURE: &str = "x-hub-signature-256";
/// The longest delivery id.
const DELIVERY_BYTES_MAX: usize = 200;

/// A webhook.
#[entity(table = "workflow_hooks", name = "hook", sort = "createdAt")]
pub struct Hook {
    /// The workflow.
    #[field(parent = Workflow, immutable)]
    pub workflow_id: Id,
    /// For people.
    #[field(max = 200, plain)]
    pub name: Option<String>,
    /// SHA-256 of the token.
    #[field(hidden)]
    pub token_hash: String,
    /// The secret that calls are signed with; without it the token alone opens.
    pub secret_id: Option<Id>,
    /// Whether it opens.
    pub is_active: bool,
    /// When it was last called.
    pub last_used_at: Option<Timestamp>,
}

impl Rules for Hook {}

/// What a new hook says of itself.
#[data]
pub struct NewHook {
    /// For people.
    #[field(max = 200, plain)]
    pub name: Option<String>,
    /// The secret that calls are signed with.
    pub secret_id: Option<Id>,
}

/// A new hook with its token, which is never shown again.
#[data]
pub struct Made {
    /// The hook.
    pub id: Id,
    /// Its workflow.
    pub workflow_id: Id,
    /// For people.
    pub name: Option<String>,
    /// What opens it.
    pub token: String,
    /// Where to call.
    pub path: String,
    /// The secret that calls are signed with.
    pub secret_id: Option<Id>,
    /// Whether it opens.
    pub is_active: bool,
}

/// `POST /api/workflows/{id}/hooks`: whoever opens a door answers for what it starts.
pub fn create(Params(id): Params<Id>, input: Option<Json<NewHook>>) -> Result<Created<Made>> {
    let input = input.map(|Json(input)| input).unwrap_or(NewHook { name: None, secret_id: None });
    sight::look();
    let token = format!("wh_{}", secrets::random(32)?.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let row = database::transaction(|transaction| {
        // Hooks of one workflow come one after the other: so each count knows those before it.
        start::hold(transaction, &id)?;
        let mut workflow = entity::read::<Workflow>(transaction, &id)?;
        if workflow.trigger_type != TriggerType::Webhook {
            return Err(mismatch());
        }
        let count = Select::<Hook>::new().equal("workflow_id", &id).count(transaction)?;
        if count >= HOOKS_MAX {
            return Err(Problem::conflict(format!("A workflow has at most {HOOKS_MAX} hooks.")));
        }
        Workflow::take_over(&mut workflow, transaction)?;
        let hook = Hook {
            workflow_id: id.clone(),
            name: input.name,
            token_hash: hash(&token),
            secret_id: input.secret_id,
            is_active: true,
            last_used_at: None,
        };
        entity::create(transaction, hook)
    })?;
    let path = format!("/api/workflows/hooks/{token}");
    Ok(Created(Made {
        id: row.id.clone(),
        workflow_id: id,
        name: row.name.clone(),
        token,
        path,
        secret_id: row.secret_id.clone(),
        is_active: true,
    }))
}

fn mismatch() -> Problem {
    Problem::unprocessable("The workflow's trigger is no webhook.").with_code("TRIGGER_MISMATCH")
}

fn hash(token: &str) -> String {
    canonical::sha256_bytes(token.as_bytes())
}

/// `GET /api/workflows/{id}/hooks`.
pub fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Hook>>>> {
    entity::read::<Workflow>(&Pool, &id)?;
    Select::<Hook>::new().equal("workflow_id", id).page(&Pool, &query)
}

/// `DELETE /api/workflows/{id}/hooks/{hookId}`.
pub fn remove(Params((id, hook_id)): Params<(Id, Id)>, if_match: IfMatch) -> Result<NoContent> {
    entity::read::<Workflow>(&Pool, &id)?;
    database::transaction(|transaction| {
        let hook = entity::read::<Hook>(transaction, &hook_id)?;
        if hook.workflow_id != id {
            return Err(Problem::missing("hook"));
        }
        entity::delete::<Hook>(transaction, &hook_id, if_match)
    })?;
    Ok(NoContent)
}

/// As much of a hook and its workflow as a stranger's call needs.
#[data]
struct Door {
    id: Id,
    organization_id: Id,
    workflow_id: Id,
    secret_id: Option<Id>,
    status: WorkflowStatus,
    trigger: Trigger,
}

/// The open hook of a token, in whichever organization: the call has none.
fn door(token: &str) -> Result<Option<Door>> {
    let doors: Vec<Door> = database::query_as(
        &Pool,
        "SELECT h.id AS \"id\", h.organization_id AS \"organizationId\", h.workflow_id AS \"workflowId\", h.secret_id AS \"secretId\", \
         w.status AS \"status\", w.\"trigger\" AS \"trigger\" FROM workflow_hooks h JOIN workflow_workflows w ON w.id = h.workflow_id \
         WHERE h.token_hash = $1 AND h.is_active = $2",
        params![hash(token), true],
    )?;
    Ok(doors.into_iter().next())
}

/// What is answered.
#[data]
pub struct Received {
    /// The run that this delivery starts, or has started.
    pub run_id: Id,
    /// Whether the delivery was known already.
    pub duplicate: bool,
}

/// `POST /api/workflows/hooks/{token}`: 202 with the run, 200 for a delivery that was known.
pub fn receive(Params(token): Params<String>, request: Request) -> Result<Response> {
    let door = door(&token)?.ok_or_else(|| Problem::missing("hook"))?;
    if request.body.len() > BODY_BYTES_MAX {
        return Err(Problem::too_large(format!("The body must have at most {BODY_BYTES_MAX} bytes.")));
    }
    let mac = match &door.secret_id {
        Some(secret_id) => Some(require_signature(&door, secret_id, &request)?),
        None => None,
    };
    if door.trigger.r#type != TriggerType::Webhook {
        return Err(mismatch());
    }
    if door.status != WorkflowStatus::Active {
        let problem = Problem::conflict(format!("The workflow is {}, not active.", door.status));
        return Err(problem.with_code("WORKFLOW_NOT_ACTIVE"));
    }
    let names = names(&request, mac.as_ref())?;
    let payload = payload(&request)?;
    if !door.trigger.holds(&payload) {
        return Err(
            Problem::unprocessable("The call does not meet the conditions of the trigger.").with_code("FILTERED")
        );
    }
    let (run_id, is_new) = note(&door, &names, &payload)?;
    let received = Received { run_id, duplicate: !is_new };
    if is_new { Accepted(received).into_response() } else { Json(received).into_response() }
}

/// Notes the delivery and lets its run start; the run of an earlier one of any of these names otherwise.
fn note(door: &Door, names: &[String], payload: &Value) -> Result<(Id, bool)> {
    let run_id = Id::new();
    database::transaction(|transaction| {
        let now = clock::now();
        for name in names {
            let noted = transaction.execute(
                "INSERT INTO workflow_hook_deliveries (hook_id, delivery_id, run_id, created_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (hook_id, delivery_id) DO NOTHING",
                params![&door.id, name, &run_id, now],
            )?;
            if noted == 0 {
                return earlier(transaction, door, name, &run_id);
            }
        }
        transaction.execute(
            "UPDATE workflow_hooks SET last_used_at = $2, updated_at = $2 WHERE id = $1",
            params![&door.id, now],
        )?;
        let work = json!({
            "workflowId": door.workflow_id, "triggerType": TriggerType::Webhook, "payload": payload, "runId": run_id,
            "triggerKey": format!("hook-{run_id}"),
        });
        let message = Message::new(RUN_START, &work)?.for_organization(door.organization_id.as_str());
        transaction.enqueue_message(&message)?;
        Ok((run_id.clone(), true))
    })
}

/// The run of a delivery that is known by this name, and from now on by what was noted for `run_id` too.
fn earlier(transaction: &Transaction, door: &Door, name: &str, run_id: &Id) -> Result<(Id, bool)> {
    let found = transaction.query_one(
        "SELECT run_id FROM workflow_hook_deliveries WHERE hook_id = $1 AND delivery_id = $2",
        params![&door.id, name],
    )?;
    let earlier: Id = found.ok_or_else(Problem::internal)?.get("run_id")?;
    transaction.execute(
        "UPDATE workflow_hook_deliveries SET run_id = $3 WHERE hook_id = $1 AND run_id = $2",
        params![&door.id, run_id, &earlier],
    )?;
    Ok((earlier, false))
}

fn refused(detail: &str) -> Problem {
    Problem::unauthorized(detail).with_code("SIGNATURE_INVALID")
}

/// What a call was signed with.
struct Signed {
    mac: Vec<u8>,
    /// The signature covers a moment: no two calls have the same one, unless one is played again.
    is_timed: bool,
}

/// The HMAC of a call that is signed as it should be; 401 otherwise.
fn require_signature(door: &Door, secret_id: &Id, request: &Request) -> Result<Signed> {
    if let Some(mac) = request.header(BODY_SIGNATURE).filter(|_| request.header(webhook::SIGNATURE).is_none()) {
        let mac = webhook::parse(mac).ok_or_else(|| refused("The signature cannot be read."))?;
        if webhook::verify(secret_id, &door.organization_id, &request.body, &mac)? {
            return Ok(Signed { mac, is_timed: false });
        }
        return Err(refused("The signature does not fit."));
    }
    let timestamp: Option<i64> = request.header(webhook::TIMESTAMP).and_then(|text| text.trim().parse().ok());
    let mac = request.header(webhook::SIGNATURE).and_then(webhook::parse);
    let (Some(timestamp), Some(mac)) = (timestamp, mac) else {
        return Err(refused("The headers Berth-Timestamp and Berth-Signature are needed."));
    };
    if !webhook::is_fresh(timestamp, clock::now()) {
        return Err(refused("The call is too old, or its clock is wrong."));
    }
    if !webhook::verify(secret_id, &door.organization_id, &webhook::signed_text(timestamp, &request.body), &mac)? {
        return Err(refused("The signature does not fit."));
    }
    Ok(Signed { mac, is_timed: true })
}

/// Everything a delivery is known by. Nothing signs the header that names it: a call with a moment in its signature is
/// known by that as well.
fn names(request: &Request, signed: Option<&Signed>) -> Result<Vec<String>> {
    let mut names = vec![delivery(request, signed.map(|signed| signed.mac.as_slice()))?];
    let signature = signed.filter(|signed| signed.is_timed).map(|signed| webhook::header(&signed.mac));
    names.extend(signature.filter(|signature| !names.contains(signature)));
    Ok(names)
}

/// What names the delivery: the header that says it, the signature, or nothing but chance.
fn delivery(request: &Request, mac: Option<&[u8]>) -> Result<String> {
    if let Some(named) = DELIVERY.iter().find_map(|name| request.header(name)).map(str::trim) {
        let fits = (1..=DELIVERY_BYTES_MAX).contains(&named.len()) && !named.chars().any(char::is_control);
        return if fits {
            Ok(named.to_string())
        } else {
            Err(Problem::bad_request(format!("A delivery id has 1 to {DELIVERY_BYTES_MAX} bytes.")))
        };
    }
    Ok(mac.map_or_else(|| Id::new().into_string(), webhook::header))
}

/// What a run knows of the call.
fn payload(request: &Request) -> Result<Value> {
    let text = std::str::from_utf8(&request.body).map_err(|_| Problem::bad_request("The body must be text."))?;
    let body = if text.trim().is_empty() {
        Value::Null
    } else {
        let says_json = request.header("content-type").is_none_or(|kind| kind.contains("json"));
        match serde_json::from_str(text) {
            Ok(body) => body,
            Err(_) if !says_json => Value::String(text.to_string()),
            Err(error) => return Err(Problem::bad_request(format!("The body is not JSON: {error}."))),
        }
    };
    if text.contains("\\u0000") || text.contains('\0') {
        return Err(Problem::bad_request("The body must not contain the character U+0000."));
    }
    let headers: Map<String, Value> = SHOWN
        .iter()
        .filter_map(|name| request.header(name).map(|value| ((*name).to_string(), Value::String(value.to_string()))))
        .collect();
    Ok(json!({ "body": body, "headers": headers }))
}

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::{Signed, delivery, names, payload};

    #[test]
    fn a_delivery_is_named_by_its_header_or_its_signature() {
        let request = Request::new("POST", "/x").with_header("X-GitHub-Delivery", " d1 ");
        assert_eq!(delivery(&request, Some(&[7; 32])).unwrap(), "d1");
        let bare = Request::new("POST", "/x");
        assert!(delivery(&bare, Some(&[7; 32])).unwrap().starts_with("sha256=0707"));
        assert_ne!(delivery(&bare, None).unwrap(), delivery(&bare, None).unwrap());
        assert!(delivery(&bare.with_header("webhook-id", &"x".repeat(300)), None).is_err());
    }

    #[test]
    fn a_signed_moment_names_a_delivery_whatever_its_header_says() {
        let known = |request: &Request, is_timed| names(request, Some(&Signed { mac: vec![7; 32], is_timed })).unwrap();
        let named = Request::new("POST", "/x").with_header("berth-delivery-id", "d1");
        assert_eq!(known(&named, false), ["d1"]);
        let both = known(&named, true);
        assert!(both.len() == 2 && both[0] == "d1" && both[1].starts_with("sha256=0707"));
        assert_eq!(known(&Request::new("POST", "/x"), true).len(), 1);
        assert_eq!(names(&named, None).unwrap(), ["d1"]);
    }

    #[test]
    fn a_body_is_json_or_text_that_says_so() {
        let body = |kind: Option<&str>, text: &str| {
            let mut request = Request::new("POST", "/x");
            request.body = text.as_bytes().to_vec();
            if let Some(kind) = kind {
                request = request.with_header("content-type", kind);
            }
            payload(&request).map(|payload| payload["body"].clone())
        };
        assert_eq!(body(None, "{\"a\":1}").unwrap()["a"], 1);
        assert_eq!(body(Some("text/plain"), "hello").unwrap(), "hello");
        assert!(body(Some("application/json"), "hello").is_err());
        assert!(body(None, "\"\\u0000\"").is_err());
        assert_eq!(body(None, "").unwrap(), json!(null));
    }
}
