//! One request to the main app as its handlers see it, and one change of the database with its events and audit rows.
//!
//! It must never publish or revoke before the commit, and never after a rollback.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value as Json, json};

use super::access::Access;
use super::error::AccountsError;
use super::input::{Fields, Query, is_id};
use super::{Accounts, Caller, Reply};
use crate::capability::queue::OutgoingMessage;
use crate::database::{DatabaseError, Row, Rows, Transaction, Value, values};

/// The longest user agent that is stored, in characters.
const USER_AGENT_CHARACTERS_MAX: usize = 256;

/// What a handler gets.
pub(super) struct Context<'a> {
    pub accounts: &'a Arc<Accounts>,
    pub caller: &'a Caller,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
    pub query: Query,
    /// The path's parameters by name.
    pub parameters: Vec<(String, String)>,
    /// The caller's rights in the organization that the path names, where the route is about one.
    pub access: Option<Access>,
}

impl<'a> Context<'a> {
    /// For work that goes on beside the request: who asked is known, and nothing else of it.
    pub(super) fn bare(
        accounts: &'a Arc<Accounts>,
        caller: &'a Caller,
        headers: &'a HeaderMap,
        body: &'a Bytes,
    ) -> Self {
        Self { accounts, caller, headers, body, query: Query::parse(None), parameters: Vec::new(), access: None }
    }
}

impl Context<'_> {
    /// The body as an object.
    pub(super) fn fields(&self) -> Result<Fields, AccountsError> {
        Fields::parse(self.headers, self.body)
    }

    /// A path parameter as it stands.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// A path parameter that is an id.
    pub(super) fn id(&self, name: &'static str) -> Result<&str, AccountsError> {
        let id = self.parameter(name);
        if is_id(id) { Ok(id) } else { Err(AccountsError::field(name, "must be an id of 1 to 64 characters")) }
    }

    /// The signed-in user; the operator's token is none.
    pub(super) fn user_id(&self) -> Result<&str, AccountsError> {
        let user = self.caller.principal.user_id.as_deref();
        user.ok_or_else(|| AccountsError::Forbidden("this route is for signed-in users".into()))
    }

    /// The caller's session.
    pub(super) fn session_id(&self) -> Result<&str, AccountsError> {
        let session = self.caller.principal.session_id.as_deref();
        session.ok_or_else(|| AccountsError::Forbidden("this route is for signed-in users".into()))
    }

    /// The organization the caller works in.
    pub(super) fn organization_id(&self) -> Result<&str, AccountsError> {
        self.caller.principal.organization_id.as_deref().ok_or(AccountsError::OrganizationRequired)
    }

    /// The caller's rights in the organization of the path.
    pub(super) fn access(&self) -> Result<&Access, AccountsError> {
        self.access.as_ref().ok_or_else(|| AccountsError::internal("the route names no organization"))
    }

    /// Judges `If-Match` against the present version.
    pub(super) fn if_match(&self, version: i64) -> Result<(), AccountsError> {
        let Some(value) = self.headers.get(http::header::IF_MATCH) else { return Ok(()) };
        let expected = format!("\"{version}\"");
        let is_met =
            value.to_str().is_ok_and(|text| text.split(',').map(str::trim).any(|tag| tag == "*" || tag == expected));
        if is_met { Ok(()) } else { Err(AccountsError::PreconditionFailed) }
    }

    /// The user agent, cut to what is stored.
    pub(super) fn user_agent(&self) -> Option<String> {
        stored_user_agent(self.caller.user_agent.as_deref())
    }

    /// The caller's address as text.
    pub(super) fn ip(&self) -> Option<String> {
        self.caller.ip.map(|ip| ip.to_string())
    }

    /// Begins a change.
    pub(super) async fn begin(&self) -> Result<Change<'_>, AccountsError> {
        let transaction = self.accounts.database.begin().await?;
        Ok(Change { transaction, context: self, has_events: false, revoked: Vec::new(), touched: Vec::new() })
    }
}

/// What is stored of a user agent.
pub(super) fn stored_user_agent(text: Option<&str>) -> Option<String> {
    text.map(|text| text.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARACTERS_MAX).collect())
}

/// A transaction with what must leave together with it. Dropped without `commit`, nothing has happened.
pub(super) struct Change<'a> {
    transaction: Transaction,
    context: &'a Context<'a>,
    has_events: bool,
    revoked: Vec<String>,
    touched: Vec<String>,
}

/// An event of the main app.
pub(super) struct Event<'e> {
    pub kind: &'static str,
    pub organization_id: Option<&'e str>,
    /// Whom it concerns or who did it.
    pub user_id: Option<&'e str>,
    /// Events with one key keep their order.
    pub key: &'e str,
    pub data: Json,
}

impl Change<'_> {
    pub(super) async fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Rows, AccountsError> {
        Ok(self.transaction.query(sql, parameters).await?)
    }

    pub(super) async fn query_one(&mut self, sql: &str, parameters: &[Value]) -> Result<Option<Row>, AccountsError> {
        Ok(self.transaction.query_one(sql, parameters).await?)
    }

    pub(super) async fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, AccountsError> {
        Ok(self.transaction.execute(sql, parameters).await?)
    }

    /// Publishes when the change commits.
    pub(super) async fn event(&mut self, event: Event<'_>) -> Result<(), AccountsError> {
        let mut message = OutgoingMessage::event(event.kind, &event.data);
        message.key = Some(event.key.into());
        message.organization_id = event.organization_id.map(Into::into);
        message.user_id = event.user_id.map(Into::into);
        message.correlation_id = Some(self.context.caller.request_id.to_string());
        let queue = &self.context.accounts.queue;
        queue.publish_in(&mut self.transaction, message).await?;
        self.has_events = true;
        Ok(())
    }

    /// Tells what became of `id`, which is a `resource`, by an audit row and an event of one name.
    pub(super) async fn tell(
        &mut self,
        kind: &'static str,
        resource: &str,
        organization_id: &str,
        by: Option<&str>,
        id: &str,
        changes: Json,
    ) -> Result<(), AccountsError> {
        self.audit_as(by, Some(organization_id), kind, (resource, id), changes.clone()).await?;
        let mut data = json!({ "organizationId": organization_id, "changes": changes });
        if let Some(members) = data.as_object_mut() {
            members.insert(format!("{resource}Id"), id.into());
        }
        self.event(Event { kind, organization_id: Some(organization_id), user_id: by, key: id, data }).await
    }

    /// Writes an audit row of the caller's deed.
    pub(super) async fn audit(
        &mut self,
        organization_id: Option<&str>,
        action: &str,
        resource: (&str, &str),
        changes: Json,
    ) -> Result<(), AccountsError> {
        let context = self.context;
        let user_id = context.caller.principal.user_id.as_deref();
        self.audit_as(user_id, organization_id, action, resource, changes).await
    }

    /// Writes an audit row for a deed of somebody who had no session yet.
    pub(super) async fn audit_as(
        &mut self,
        user_id: Option<&str>,
        organization_id: Option<&str>,
        action: &str,
        (resource_type, resource_id): (&str, &str),
        changes: Json,
    ) -> Result<(), AccountsError> {
        let context = self.context;
        let mut metadata = json!({ "requestId": &*context.caller.request_id });
        if let (Some(key), Some(members)) = (&context.caller.principal.api_key_id, metadata.as_object_mut()) {
            members.insert("apiKeyId".into(), (**key).into());
        }
        self.execute(
            super::audit::INSERT,
            &values![
                new_id(),
                organization_id,
                user_id,
                action,
                resource_type,
                resource_id,
                changes,
                metadata,
                context.ip(),
                context.user_agent(),
                context.accounts.now(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Ends a session when the change commits; its row is the caller's to write.
    pub(super) fn revoke(&mut self, session_id: String) {
        self.revoked.push(session_id);
    }

    /// Makes every cached right of a user or an organization be read anew when the change commits.
    pub(super) fn touch(&mut self, user_or_organization_id: &str) {
        self.touched.push(user_or_organization_id.into());
    }

    /// Makes it so: rows first, then what depends on them. Runs to its end even when the client hangs up meanwhile, so
    /// that nothing is committed without being told.
    pub(super) async fn commit(self) -> Result<(), AccountsError> {
        let Self { transaction, context, has_events, revoked, touched } = self;
        let identities = Arc::clone(&context.accounts.identities);
        let (cache, queue) = (context.accounts.cache.clone(), context.accounts.queue.clone());
        let done = tokio::spawn(async move {
            transaction.commit().await?;
            for id in &touched {
                identities.touch(id);
            }
            for session_id in &revoked {
                identities.revoke(session_id, &cache).await;
            }
            if has_events {
                queue.wake();
            }
            Ok::<(), DatabaseError>(())
        });
        Ok(done.await.map_err(AccountsError::internal)??)
    }
}

/// A new id: UUIDv7.
pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// 200 with a body.
pub(super) fn ok(body: Json) -> Reply {
    reply(StatusCode::OK, Some(body))
}

/// 201 with the entity and its `ETag`.
pub(super) fn created(entity: Json) -> Reply {
    Reply { status: StatusCode::CREATED, ..entity_reply(entity) }
}

/// 200 with an entity and its `ETag`.
pub(super) fn entity_reply(entity: Json) -> Reply {
    let etag =
        entity.get("version").and_then(Json::as_i64).and_then(|v| HeaderValue::from_str(&format!("\"{v}\"")).ok());
    let mut reply = ok(entity);
    if let Some(etag) = etag {
        reply.headers.insert(http::header::ETAG, etag);
    }
    reply
}

/// 204.
pub(super) fn no_content() -> Reply {
    reply(StatusCode::NO_CONTENT, None)
}

fn reply(status: StatusCode, body: Option<Json>) -> Reply {
    Reply { status, headers: HeaderMap::new(), body }
}

/// An `Arc<str>` from what a row holds.
pub(super) fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}
