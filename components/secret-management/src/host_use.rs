//! The route of the host: what it puts into outgoing requests and signs with, for a service that only names a secret.
//!
//! Nobody else can call it: a guest's calls carry the guest's name and a client's carry none, and no plugin can be named
//! like the host. To everybody else it does not exist.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_sdk::{auth::PrincipalKind, prelude::*, serde_json::Value};

use crate::{
    access,
    audit::{self, Outcome, Subject},
    rights,
    secret::{Scope, Secret, tell, value, versions},
    usage,
};

/// Under which name the host calls.
const HOST: &str = "host";

/// What the credential is for.
#[choice]
#[derive(Default)]
pub(crate) enum Purpose {
    #[default]
    Http,
    Hmac,
}

/// The host's question.
#[data]
pub(crate) struct Question {
    /// The service that acts.
    service: String,
    purpose: Purpose,
    /// `host:port`, or `http://host:port` of a request in the clear.
    destination: Option<String>,
    #[field(min = 1, max = 8)]
    references: Vec<Reference>,
}

#[data]
struct Reference {
    secret_id: String,
    /// The header whose value it becomes; none: where the secret says.
    header: Option<String>,
}

/// `POST /api/secrets/host/use`.
pub(crate) fn answer(Json(question): Json<Question>) -> Result<Response> {
    let principal = auth::principal();
    if principal.kind != PrincipalKind::System || principal.source_service.as_deref() != Some(HOST) {
        return Err(Problem::not_found("There is no such route.").with_code("ROUTE_NOT_FOUND"));
    }
    let mut used = Vec::with_capacity(question.references.len());
    let mut placements = Vec::new();
    let mut key = None;
    for reference in &question.references {
        let (secret, value) = usable(&question, &reference.secret_id)?;
        match question.purpose {
            Purpose::Hmac => key = value::main_text(&value).map(|text| STANDARD.encode(text)),
            Purpose::Http => placements.push(
                place(reference, &secret, &value)
                    .ok_or_else(|| refused(&Subject::from(&secret), &question, "it has no place in a request"))?,
            ),
        }
        used.push(secret);
    }
    let action = if question.purpose == Purpose::Hmac { "sign" } else { "inject" };
    database::transaction(|transaction| {
        for secret in &used {
            let details = json!({
                "service": question.service, "destination": question.destination, "version": secret.current_version,
            });
            audit::note(transaction, &Subject::from(secret), action, Outcome::Success, details)?;
            usage::note(transaction, secret, &question.service, question.destination.as_deref())?;
            tell(transaction, "secret.accessed", secret, json!({ "consumer": question.service }))?;
        }
        Ok::<_, Problem>(())
    })?;
    Ok(Response::json(200, &json!({ "placements": placements, "key": key }))?.with_header("cache-control", "no-store"))
}

/// A secret and its value, if the service may have it used: alive, not expired, granted to the service, fit for the
/// destination, and within the reach of whoever the service acts for.
fn usable(question: &Question, secret_id: &str) -> Result<(Stored<Secret>, Value)> {
    let organization_id = auth::principal().organization_id;
    let nobodys =
        Subject { organization_id: organization_id.as_deref(), secret_id: Some(secret_id), secret_name: None };
    let Some(secret) = entity::find::<Secret>(&Pool, secret_id)? else {
        return Err(refused(&nobodys, question, "there is no such secret"));
    };
    let subject = Subject::from(&secret);
    let now = clock::now();
    let grants = access::of(&Pool, &[secret_id])?;
    let destination = question.destination.as_deref();
    let objection = destination.and_then(|to| value::objection(secret.injection.as_ref(), to));
    let reason = if secret.deleted_at.is_some() {
        Some("it is deleted")
    } else if secret.is_expired(now) {
        Some("it has expired")
    } else if !grants.iter().any(|grant| grant.admits_service(&question.service, now)) {
        Some("the service has no grant")
    } else if objection.is_some() {
        objection
    } else if !is_in_reach(&secret)? {
        Some("whoever the service acts for may not use it")
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(refused(&subject, question, reason));
    }
    let value = versions::open(&secret, secret.current_version)?;
    Ok((secret, value))
}

/// A user must belong to the scope or hold a grant. Nobody in particular reaches what belongs to the whole organization.
fn is_in_reach(secret: &Stored<Secret>) -> Result<bool> {
    if auth::principal().user_id.is_none() {
        return Ok(matches!(secret.scope, Scope::Global | Scope::Organization));
    }
    Ok(rights::of(secret)?.see)
}

/// The audited refusal; the host tells the service no reason.
fn refused(subject: &Subject<'_>, question: &Question, reason: &str) -> Problem {
    let details = json!({
        "service": question.service, "destination": question.destination, "purpose": question.purpose, "reason": reason,
    });
    audit::note_alone(subject, "inject", Outcome::Denied, details);
    rights::access_denied()
}

fn place(reference: &Reference, secret: &Secret, value: &Value) -> Option<Value> {
    let (place, name, text) = match &reference.header {
        Some(header) => ("header", header.clone(), value::main_text(value)?.to_string()),
        None => {
            let placed = value::placement(secret.r#type, secret.injection.as_ref(), value)?;
            (placed.place, placed.name, placed.value)
        }
    };
    Some(json!({ "place": place, "name": name, "value": text }))
}
