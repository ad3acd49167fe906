//! Completions: a row is written before a model is asked and always closed afterwards, once, with what was used.

use std::time::{Duration, Instant};

use berth_sdk::{events::Message, prelude::*, serde_json::Value};

use crate::{
    access,
    ask::Ask,
    catalog::{KnownModel, KnownProvider},
    model,
    wire::Usage,
};

/// A stream that has said nothing of itself for so long is gone: its client has left, or its host. What comes whole says nothing of
/// itself before its end.
const STREAM_SILENT: Duration = Duration::from_secs(20);
/// A question without an answer for so long never gets one: longer than all attempts together.
const CALL_SILENT: Duration = Duration::from_secs(240);
/// Rows of one sweep.
const SWEEP_MAX: i64 = 200;
/// Rows that one tick removes.
const RETAIN_MAX: i64 = 1_000;
/// Bytes of a question or an answer that are kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// How far a completion has come.
#[choice]
pub enum Status {
    /// Asked.
    Pending,
    /// The answer is coming.
    Streaming,
    /// Done.
    Completed,
    /// Not done.
    Failed,
    /// The provider takes no more.
    RateLimited,
    /// No answer in time.
    Timeout,
    /// Nobody waits for it any more.
    Cancelled,
}

/// A question to a model and what became of it.
#[entity(table = "ai_completions", name = "completion")]
pub struct Completion {
    /// Who answered, or was asked last.
    pub model_id: Id,
    /// What was asked, where the organization stores it; how much, otherwise.
    pub request: Value,
    /// What was answered, where the organization stores it.
    pub response: Option<Value>,
    /// How far it has come.
    pub status: Status,
    /// Of question and answer.
    pub tokens_used: i64,
    /// Of the question.
    pub input_tokens: Option<i64>,
    /// Of the answer.
    pub output_tokens: Option<i64>,
    /// What they cost.
    pub cost_micro: i64,
    /// How long it took.
    pub duration_ms: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The same as a code.
    #[field(filter)]
    pub error_code: Option<String>,
    /// Which part of the system asked.
    #[field(filter)]
    pub caller_module: Option<String>,
    /// For which of its things.
    #[field(filter)]
    pub caller_resource_id: Option<String>,
    /// The same question has the same.
    pub request_hash: Option<String>,
    /// Answered from the cache.
    pub cached: bool,
    /// Somebody else answered than was asked first.
    pub was_failover: bool,
    /// Who was asked first.
    pub original_model_id: Option<Id>,
    /// Who asked.
    pub user_id: Option<Id>,
    /// The model's name.
    #[field(filter)]
    pub model: String,
    /// The provider's name.
    #[field(filter)]
    pub provider: String,
    /// The request it belongs to.
    pub request_id: String,
    /// What was used is told.
    #[field(hidden)]
    pub is_closed: bool,
}

impl Rules for Completion {
    fn scope() -> Option<Condition> {
        // Questions and answers are between a user and a model; administrators account for them.
        if access::is_admin() {
            return None;
        }
        Some(Condition::new("\"user_id\" = ?", [auth::principal().user_id.unwrap_or_default()]))
    }
}

/// A completion that is under way.
#[derive(Debug)]
pub struct Open {
    /// Its id.
    pub id: Id,
    row: Stored<Completion>,
    began: Instant,
    stores: bool,
}

/// How a completion ends.
#[derive(Clone, Debug)]
pub struct End {
    /// How far it came.
    pub status: Status,
    /// What was used.
    pub usage: Usage,
    /// What was answered.
    pub response: Option<Value>,
    /// What went wrong: code and sentence.
    pub error: Option<(String, String)>,
}

/// Writes the row of a question.
pub fn open(
    ask: &Ask,
    model: &KnownModel,
    provider: &KnownProvider,
    hash: Option<String>,
    status: Status,
) -> Result<Open> {
    let principal = auth::principal();
    let stores = access::stores_prompts();
    let request = if stores { kept(ask.to_value()) } else { Value::Null };
    let request = if request.is_null() { json!({ "messages": ask.turns.len(), "stored": false }) } else { request };
    let completion = Completion {
        model_id: model.id.as_str().into(),
        request,
        response: None,
        status,
        tokens_used: 0,
        input_tokens: None,
        output_tokens: None,
        cost_micro: 0,
        duration_ms: 0,
        error: None,
        error_code: None,
        caller_module: ask.caller_module.clone(),
        caller_resource_id: ask.caller_resource_id.clone(),
        request_hash: hash,
        cached: false,
        was_failover: false,
        original_model_id: None,
        user_id: principal.user_id.map(Id::from),
        model: model.name.clone(),
        provider: provider.name.clone(),
        request_id: principal.request_id,
        is_closed: false,
    };
    let row = database::transaction(|transaction| {
        let row = entity::create(transaction, completion)?;
        tell(transaction, "ai.completion.started", &row, None)?;
        Ok::<_, Problem>(row)
    })?;
    Ok(Open { id: row.id.clone(), row, began: Instant::now(), stores })
}

impl Open {
    /// Another model is asked now.
    pub fn moves(&mut self, model: &KnownModel, provider: &KnownProvider, reason: &str) -> Result<()> {
        let from = self.row.model.clone();
        let first = self.row.original_model_id.clone().unwrap_or_else(|| self.row.model_id.clone());
        self.row.was_failover = true;
        self.row.original_model_id = Some(first);
        self.row.model_id = model.id.as_str().into();
        self.row.model.clone_from(&model.name);
        self.row.provider.clone_from(&provider.name);
        database::transaction(|transaction| {
            transaction.execute(
                "UPDATE ai_completions SET model_id = $2, model = $3, provider = $4, was_failover = $5, original_model_id = $6, \
                 updated_at = $7 WHERE id = $1 AND is_closed = $8",
                params![&self.id, &model.id, &model.name, &provider.name, true, &self.row.original_model_id, clock::now(), false],
            )?;
            let data = json!({
                "requestId": self.row.request_id, "completionId": self.id, "fromModel": from, "model": model.name,
                "provider": provider.name, "reason": reason, "organizationId": self.row.organization_id,
                "userId": self.row.user_id, "isPrivate": true,
            });
            transaction.send(&Message::new("ai.completion.fallback", &data)?.with_key(self.id.as_str()))?;
            Ok(())
        })
    }

    /// Says that the answer is coming, and how much of it has come. False when somebody has cancelled it.
    pub fn beat(&mut self, usage: Usage, model: &KnownModel) -> Result<bool> {
        let cost = model::cost(usage, model.input_price_per_1m_micro, model.output_price_per_1m_micro);
        let changed = database::execute(
            "UPDATE ai_completions SET status = $2, input_tokens = $3, output_tokens = $4, tokens_used = $5, cost_micro = $6, \
             duration_ms = $7, updated_at = $8 WHERE id = $1 AND status IN ($9, $2)",
            params![
                &self.id,
                Status::Streaming,
                usage.input,
                usage.output,
                usage.total(),
                cost,
                self.duration(),
                clock::now(),
                Status::Pending
            ],
        )?;
        self.row.status = Status::Streaming;
        Ok(changed > 0)
    }

    fn duration(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Closes the row and tells what was used. The status that counts in the end: one that was cancelled stays so.
    pub fn close(mut self, end: End, model: &KnownModel) -> Result<(Status, i64)> {
        let usage = end.usage;
        let cost = model::cost(usage, model.input_price_per_1m_micro, model.output_price_per_1m_micro);
        let response = end.response.filter(|_| self.stores).map(kept).filter(|response| !response.is_null());
        self.row.tokens_used = usage.total();
        self.row.input_tokens = Some(usage.input);
        self.row.output_tokens = Some(usage.output);
        self.row.cost_micro = cost;
        self.row.duration_ms = self.duration();
        let (code, error) = end.error.map_or((None, None), |(code, error)| (Some(code), Some(error)));
        let status = database::transaction(|transaction| {
            let changed = transaction.execute(
                "UPDATE ai_completions SET tokens_used = $2, input_tokens = $3, output_tokens = $4, cost_micro = $5, duration_ms = $6, \
                 status = CASE WHEN status = $7 THEN status ELSE $8 END, response = $9, error = COALESCE(error, $10), \
                 error_code = COALESCE(error_code, $11), is_closed = $12, updated_at = $13, version = version + 1 \
                 WHERE id = $1 AND is_closed = $14",
                params![
                    &self.id, usage.total(), usage.input, usage.output, cost, self.row.duration_ms, Status::Cancelled,
                    end.status, response, &error, &code, true, clock::now(), false
                ],
            )?;
            let now = entity_of(transaction, &self.id)?;
            if changed == 0 {
                // The sweep was faster: what was used after it is noted, and counted nowhere twice.
                return Ok::<_, Problem>(now.map_or(Status::Cancelled, |row| row.status));
            }
            let Some(row) = now else { return Ok(end.status) };
            tell(transaction, event_of(row.status), &row, None)?;
            Ok(row.status)
        })?;
        Ok((status, cost))
    }

    /// Closes a row that was answered from the cache: nothing was used.
    pub fn close_cached(self, model: &KnownModel) -> Result<()> {
        database::execute("UPDATE ai_completions SET cached = $2 WHERE id = $1", params![&self.id, true])?;
        let end = End { status: Status::Completed, usage: Usage::default(), response: None, error: None };
        self.close(end, model).map(|_| ())
    }

    /// Whether questions and answers are kept.
    pub fn stores(&self) -> bool {
        self.stores
    }
}

/// What is kept of a question or an answer: nothing of one that is too long.
fn kept(value: Value) -> Value {
    if value.to_string().len() > KEPT_BYTES_MAX { json!({ "stored": false, "reason": "too long" }) } else { value }
}

/// The row of an id, whoever looks.
fn entity_of(transaction: &Transaction, id: &str) -> Result<Option<Stored<Completion>>> {
    // Not through the scope: a message or another service closes it as well.
    let Some(row) = transaction.query_one(
        "SELECT status, organization_id, tokens_used, input_tokens, output_tokens, cost_micro, duration_ms, error, error_code, \
         caller_module, caller_resource_id, cached, was_failover, original_model_id, user_id, model_id, model, provider, request_id, \
         created_at, version FROM ai_completions WHERE id = $1",
        params![id],
    )?
    else {
        return Ok(None);
    };
    let now = clock::now();
    Ok(Some(Stored {
        id: id.into(),
        organization_id: row.get("organization_id")?,
        created_by: None,
        created_at: row.get("created_at")?,
        updated_at: now,
        version: row.get("version")?,
        data: Completion {
            model_id: row.get("model_id")?,
            request: Value::Null,
            response: None,
            status: row.get("status")?,
            tokens_used: row.get("tokens_used")?,
            input_tokens: row.get("input_tokens")?,
            output_tokens: row.get("output_tokens")?,
            cost_micro: row.get("cost_micro")?,
            duration_ms: row.get("duration_ms")?,
            error: row.get("error")?,
            error_code: row.get("error_code")?,
            caller_module: row.get("caller_module")?,
            caller_resource_id: row.get("caller_resource_id")?,
            request_hash: None,
            cached: row.get("cached")?,
            was_failover: row.get("was_failover")?,
            original_model_id: row.get("original_model_id")?,
            user_id: row.get("user_id")?,
            model: row.get("model")?,
            provider: row.get("provider")?,
            request_id: row.get("request_id")?,
            is_closed: true,
        },
    }))
}

fn event_of(status: Status) -> &'static str {
    if status == Status::Completed { "ai.completion.completed" } else { "ai.completion.failed" }
}

/// Publishes what is known of a completion: numbers and names, never what was said.
fn tell(transaction: &Transaction, kind: &str, row: &Stored<Completion>, organization: Option<&str>) -> Result<()> {
    let data = json!({
        "requestId": row.request_id, "completionId": row.id, "status": row.status, "model": row.model, "modelId": row.model_id,
        "provider": row.provider, "organizationId": row.organization_id, "userId": row.user_id, "tokensUsed": row.tokens_used,
        "totalTokens": row.tokens_used, "inputTokens": row.input_tokens, "outputTokens": row.output_tokens,
        "costMicro": row.cost_micro, "durationMs": row.duration_ms, "error": row.error, "errorCode": row.error_code,
        "cached": row.cached, "wasFailover": row.was_failover, "callerModule": row.caller_module,
        "callerResourceId": row.caller_resource_id, "isPrivate": true,
    });
    let mut message = Message::new(kind, &data)?.with_key(row.id.as_str());
    if let Some(organization) = organization {
        message = message.for_organization(organization);
    }
    transaction.send(&message)?;
    Ok(())
}

/// `POST /api/ai/completions/{id}/cancel`.
pub fn cancel(Params(id): Params<Id>) -> Result<Stored<Completion>> {
    database::transaction(|transaction| {
        entity::read::<Completion>(transaction, &id)?;
        let changed = transaction.execute(
            "UPDATE ai_completions SET status = $2, error_code = $3, updated_at = $4, version = version + 1 \
             WHERE id = $1 AND status IN ($5, $6)",
            params![&id, Status::Cancelled, "CANCELLED", clock::now(), Status::Pending, Status::Streaming],
        )?;
        if changed == 0 {
            return Err(Problem::conflict("It is over already."));
        }
        // Whoever asks the model notices, and tells what was used; if nobody is there any more the sweep does.
        entity::read::<Completion>(transaction, &id)
    })
}

/// Closes what nobody looks after any more: a client that left in mid-stream, a host that died. What came until then counts.
pub fn sweep() -> Result<()> {
    let now = clock::now();
    let rows = database::query(
        "SELECT id, organization_id, user_id, status FROM ai_completions WHERE is_closed = $1 AND \
         ((status IN ($2, $3) AND tokens_used > 0 AND updated_at < $4) OR updated_at < $5) ORDER BY updated_at LIMIT $6",
        params![
            false,
            Status::Streaming,
            Status::Cancelled,
            now.minus(STREAM_SILENT),
            now.minus(CALL_SILENT),
            SWEEP_MAX
        ],
    )?;
    for found in rows {
        let id: Id = found.get("id")?;
        let status: Status = found.get("status")?;
        let organization: Option<String> = found.get("organization_id")?;
        let (end, error) = match status {
            Status::Pending => (Status::Failed, "Nobody has brought an answer: the call was cut off."),
            Status::Cancelled => (Status::Cancelled, "It was cancelled."),
            _ => (Status::Cancelled, "The client left before the answer was over."),
        };
        database::transaction(|transaction| {
            let changed = transaction.execute(
                "UPDATE ai_completions SET is_closed = $2, status = $3, error = COALESCE(error, $4), \
                 error_code = COALESCE(error_code, $5), updated_at = $6, version = version + 1 \
                 WHERE id = $1 AND is_closed = $7 AND status = $8",
                params![&id, true, end, error, "ABANDONED", now, false, status],
            )?;
            if changed > 0
                && let Some(row) = entity_of(transaction, &id)?
            {
                tell(transaction, "ai.completion.failed", &row, organization.as_deref())?;
            }
            Ok::<_, Problem>(())
        })?;
    }
    Ok(())
}

/// Removes what is old: completions after `completion_days` (90), cached answers and memories that have expired.
pub fn retain() -> Result<()> {
    let now = clock::now();
    let days = config::get_or("completion_days", 90_u64).clamp(1, 3_650);
    let before = now.minus(Duration::from_secs(days * 86_400));
    database::execute(
        "DELETE FROM ai_completions WHERE id IN (SELECT id FROM ai_completions WHERE created_at < $1 AND is_closed = $2 LIMIT $3)",
        params![before, true, RETAIN_MAX],
    )?;
    for table in ["ai_cache", "agent_memories"] {
        let sql = format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires_at < $1 LIMIT $2)");
        database::execute(&sql, params![now, RETAIN_MAX])?;
    }
    Ok(())
}
