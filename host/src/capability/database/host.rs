//! `berth:platform/database`: checks each statement, turns values between the guest's and ours, and runs them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::timeout_at;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::transaction::Ended;
use super::{MESSAGE_ID_BYTES_MAX, MESSAGES_MAX, PARAMETER_BYTES_MAX, View, note_handled, scope};
use crate::bindings::imports::database::{self, Host, HostTransaction, Message, Rows, Value as GuestValue};
use crate::bindings::imports::types::Fault;
use crate::capability::database::backend::Destination;
use crate::capability::tape::Taped;
use crate::database::{
    DatabaseError, PARAMETERS_MAX, QueryLimits, Refusal, Statement, Transaction, Turn, Value, format_timestamp,
    parse_timestamp,
};
use crate::trace::{Kind, Span};

/// The store's table of handles.
pub(super) type Handles = ResourceTable;

/// The guest's handle to a transaction; the transaction itself is in the call's state.
pub struct TransactionHandle {
    number: u64,
}

impl TransactionHandle {
    /// A handle to no transaction, for a replay: there is nothing behind it.
    pub(in crate::capability) fn played() -> Self {
        Self { number: 0 }
    }

    #[cfg(test)]
    pub(super) fn new(number: u64) -> Self {
        Self { number }
    }
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = Taped<'a, View<'a>>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> Taped<'_, View<'_>>,
) -> wasmtime::Result<()> {
    database::add_to_linker::<T, HasView>(linker, get)
}

impl Host for View<'_> {
    async fn query(&mut self, sql: String, parameters: Vec<GuestValue>) -> wasmtime::Result<Result<Rows, Fault>> {
        let _span = self.span("query", &sql);
        Ok(self.read(&sql, parameters).await)
    }

    async fn query_json(
        &mut self,
        sql: String,
        parameters: Vec<GuestValue>,
    ) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let _span = self.span("query", &sql);
        Ok(self.read_json(&sql, parameters).await)
    }

    async fn execute(&mut self, sql: String, parameters: Vec<GuestValue>) -> wasmtime::Result<Result<u64, Fault>> {
        let _span = self.span("execute", &sql);
        Ok(self.change(&sql, parameters).await)
    }
}

impl HostTransaction for View<'_> {
    async fn begin(&mut self) -> wasmtime::Result<Result<Resource<TransactionHandle>, Fault>> {
        if self.state.is_open() {
            return Ok(Err(Fault::Invalid("a call has at most one open transaction".to_owned())));
        }
        let transaction = match self.start().await {
            Ok(transaction) => transaction,
            Err(error) => return Ok(Err(error.into())),
        };
        let number = self.state.open(transaction, &self.room.threads);
        Ok(Ok(self.table.push(TransactionHandle { number })?))
    }

    async fn query(
        &mut self,
        handle: Resource<TransactionHandle>,
        sql: String,
        parameters: Vec<GuestValue>,
    ) -> wasmtime::Result<Result<Rows, Fault>> {
        let number = self.number(&handle)?;
        let _span = self.span("query", &sql);
        Ok(self.read_in(number, &sql, parameters).await)
    }

    async fn query_json(
        &mut self,
        handle: Resource<TransactionHandle>,
        sql: String,
        parameters: Vec<GuestValue>,
    ) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let number = self.number(&handle)?;
        let _span = self.span("query", &sql);
        Ok(self.read_json_in(number, &sql, parameters).await)
    }

    async fn execute(
        &mut self,
        handle: Resource<TransactionHandle>,
        sql: String,
        parameters: Vec<GuestValue>,
    ) -> wasmtime::Result<Result<u64, Fault>> {
        let number = self.number(&handle)?;
        let _span = self.span("execute", &sql);
        Ok(self.change_in(number, &sql, parameters).await)
    }

    async fn publish(
        &mut self,
        handle: Resource<TransactionHandle>,
        message: Message,
        delay_ms: u64,
    ) -> wasmtime::Result<Result<String, Fault>> {
        let number = self.number(&handle)?;
        Ok(self.send(number, message, Destination::Everybody, delay_ms).await)
    }

    async fn enqueue(
        &mut self,
        handle: Resource<TransactionHandle>,
        message: Message,
        delay_ms: u64,
    ) -> wasmtime::Result<Result<String, Fault>> {
        let number = self.number(&handle)?;
        Ok(self.send(number, message, Destination::OwnQueue, delay_ms).await)
    }

    async fn once(&mut self, handle: Resource<TransactionHandle>, id: String) -> wasmtime::Result<Result<bool, Fault>> {
        let number = self.number(&handle)?;
        if id.is_empty() || id.len() > MESSAGE_ID_BYTES_MAX {
            return Ok(Err(Fault::Invalid(format!("a message id has 1 to {MESSAGE_ID_BYTES_MAX} bytes"))));
        }
        Ok(self.note_in(number, &id).await)
    }

    async fn commit(&mut self, handle: Resource<TransactionHandle>) -> wasmtime::Result<Result<(), Fault>> {
        let number = self.number(&handle)?;
        let (transaction, deadline) = match self.state.take(number) {
            Ok(taken) => taken,
            Err(ended) => return Ok(Err(ended.into())),
        };
        let has_messages = self.state.close();
        // A COMMIT that was sent is waited for: cutting it short would leave its outcome unknown.
        let late = tokio::time::Instant::now() >= deadline;
        if late || self.guest.call.is_shadow {
            transaction.rollback().await.ok();
            return Ok(if late { Err(Fault::Timeout) } else { Ok(()) });
        }
        let _span = self.span("commit", "");
        match transaction.commit().await {
            Ok(()) => {
                if has_messages {
                    self.room.outbox.wake();
                }
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn rollback(&mut self, handle: Resource<TransactionHandle>) -> wasmtime::Result<Result<(), Fault>> {
        let number = self.number(&handle)?;
        match self.state.take(number) {
            Ok((transaction, _)) => {
                self.state.close();
                Ok(transaction.rollback().await.map_err(Fault::from))
            }
            // Past its deadline, or after a statement that was cut short: undone already.
            Err(Ended::TimedOut) => {
                self.state.close();
                Ok(Ok(()))
            }
            Err(ended) => Ok(Err(ended.into())),
        }
    }

    async fn drop(&mut self, handle: Resource<TransactionHandle>) -> wasmtime::Result<()> {
        let handle = self.table.delete(handle)?;
        if self.state.is_current(handle.number) {
            self.state.finish().await;
        }
        Ok(())
    }
}

impl View<'_> {
    /// One statement in the call's trace. Its text holds no value: those are parameters.
    fn span(&self, what: &'static str, sql: &str) -> Span {
        let mut span = self.guest.call.trace.span(Kind::Client, || format!("database {what}"));
        span.note("berth.plugin", || self.guest.plugin.name.to_string());
        if !sql.is_empty() {
            span.note("db.query.text", || sql.to_owned());
        }
        span
    }

    async fn start(&mut self) -> Result<Transaction, DatabaseError> {
        let turn = self.room.shares.write(&self.guest.plugin.name).await?;
        Ok(self.room.database.begin_within(scope(self.guest)).await?.with_turn(turn))
    }

    /// The plugin's turn at a statement outside a transaction.
    async fn turn(&mut self, statement: &Statement) -> Result<Turn, DatabaseError> {
        let plugin = &self.guest.plugin.name;
        if statement.is_read_only() {
            self.room.shares.read(plugin).await
        } else {
            self.room.shares.write(plugin).await
        }
    }

    async fn read(&mut self, sql: &str, parameters: Vec<GuestValue>) -> Result<Rows, Fault> {
        let (statement, parameters) = self.prepare(sql, parameters).await?;
        let _turn = self.turn(&statement).await?;
        let scope = scope(self.guest);
        let rows = self.room.database.query_checked(scope, &statement, &parameters, QueryLimits::default()).await?;
        Ok(guest_rows(rows))
    }

    async fn read_json(&mut self, sql: &str, parameters: Vec<GuestValue>) -> Result<Vec<u8>, Fault> {
        let (statement, parameters) = self.prepare(sql, parameters).await?;
        let _turn = self.turn(&statement).await?;
        let scope = scope(self.guest);
        Ok(self.room.database.query_json_checked(scope, &statement, &parameters, QueryLimits::default()).await?)
    }

    async fn change(&mut self, sql: &str, parameters: Vec<GuestValue>) -> Result<u64, Fault> {
        let (statement, parameters) = self.prepare(sql, parameters).await?;
        // By `execute` even what only reads goes through the writer.
        let _turn = self.room.shares.write(&self.guest.plugin.name).await?;
        Ok(self.room.database.execute_checked(scope(self.guest), &statement, &parameters).await?)
    }

    /// Checks a statement and its parameters.
    async fn prepare(&mut self, sql: &str, parameters: Vec<GuestValue>) -> Result<(Arc<Statement>, Vec<Value>), Fault> {
        let statement = self.room.statements.get(&self.guest.plugin, sql, self.room.database.dialect()).await?;
        if self.guest.call.is_shadow && !statement.is_read_only() {
            return Err(Fault::Denied("this call is a copy that may change nothing".to_owned()));
        }
        if parameters.len() > PARAMETERS_MAX {
            return Err(Fault::TooLarge(format!("a statement has at most {PARAMETERS_MAX} parameters")));
        }
        if parameters.len() != statement.parameters() {
            let (expected, given) = (statement.parameters(), parameters.len());
            return Err(Fault::Invalid(format!("the statement takes {expected} parameters and was given {given}")));
        }
        let parameters = parameters.into_iter().map(host_value).collect::<Result<Vec<_>, _>>()?;
        let bytes = parameters.iter().map(Value::size).fold(0_usize, usize::saturating_add);
        if bytes > PARAMETER_BYTES_MAX {
            return Err(Fault::TooLarge(format!("the parameters have more than {PARAMETER_BYTES_MAX} bytes")));
        }
        let parameters = statement.bind(parameters)?;
        Ok((statement, parameters))
    }

    async fn read_in(&mut self, number: u64, sql: &str, parameters: Vec<GuestValue>) -> Result<Rows, Fault> {
        let (statement, parameters) = self.prepare(sql, parameters).await?;
        let (mut transaction, deadline) = self.state.take(number)?;
        let read = transaction.query_checked(&statement, &parameters, QueryLimits::default());
        let outcome = timeout_at(deadline, read).await;
        self.settle(transaction, outcome).map(guest_rows)
    }

    async fn read_json_in(&mut self, number: u64, sql: &str, parameters: Vec<GuestValue>) -> Result<Vec<u8>, Fault> {
        let (statement, parameters) = self.prepare(sql, parameters).await?;
        let (mut transaction, deadline) = self.state.take(number)?;
        let read = transaction.query_json_checked(&statement, &parameters, QueryLimits::default());
        let outcome = timeout_at(deadline, read).await;
        self.settle(transaction, outcome)
    }

    async fn change_in(&mut self, number: u64, sql: &str, parameters: Vec<GuestValue>) -> Result<u64, Fault> {
        let (statement, parameters) = self.prepare(sql, parameters).await?;
        let (mut transaction, deadline) = self.state.take(number)?;
        let outcome = timeout_at(deadline, transaction.execute_checked(&statement, &parameters)).await;
        self.settle(transaction, outcome)
    }

    async fn note_in(&mut self, number: u64, id: &str) -> Result<bool, Fault> {
        let (mut transaction, deadline) = self.state.take(number)?;
        if self.guest.call.is_shadow {
            self.state.put_back(transaction);
            return Ok(true);
        }
        let outcome = timeout_at(deadline, note_handled(&mut transaction, self.guest, id)).await;
        self.settle(transaction, outcome)
    }

    /// Keeps the transaction after a step, unless its deadline came first: then it is dropped, and so rolled back.
    fn settle<T, E: Into<Fault>>(
        &mut self,
        transaction: Transaction,
        outcome: Result<Result<T, E>, Elapsed>,
    ) -> Result<T, Fault> {
        match outcome {
            Ok(outcome) => {
                self.state.put_back(transaction);
                outcome.map_err(Into::into)
            }
            Err(_) => Err(Fault::Timeout),
        }
    }

    async fn send(
        &mut self,
        number: u64,
        message: Message,
        destination: Destination,
        delay_ms: u64,
    ) -> Result<String, Fault> {
        let (mut transaction, deadline) = self.state.take(number)?;
        if self.state.count_message() > MESSAGES_MAX {
            self.state.put_back(transaction);
            return Err(Fault::TooLarge(format!("a transaction publishes at most {MESSAGES_MAX} messages")));
        }
        if self.guest.call.is_shadow {
            self.state.put_back(transaction);
            return Ok(unsent_id(&message));
        }
        let delay = Duration::from_millis(delay_ms);
        let published = self.room.outbox.publish_in(&mut transaction, self.guest, message, destination, delay);
        let outcome = timeout_at(deadline, published).await;
        self.settle(transaction, outcome)
    }

    fn number(&self, handle: &Resource<TransactionHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(handle)?.number)
    }
}

/// The id of a message that a copy of a request would have published: it goes nowhere.
pub(in crate::capability) fn unsent_id(message: &Message) -> String {
    message.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string())
}

/// A guest's value as ours.
fn host_value(value: GuestValue) -> Result<Value, Fault> {
    Ok(match value {
        GuestValue::Null => Value::Null,
        GuestValue::Boolean(value) => Value::Boolean(value),
        GuestValue::Integer(value) => Value::Integer(value),
        GuestValue::Float(value) => Value::Float(value),
        GuestValue::Text(value) => Value::Text(value),
        GuestValue::Bytes(value) => Value::Bytes(value),
        GuestValue::Json(value) => Value::Json(value),
        GuestValue::Timestamp(value) => Value::Timestamp(
            parse_timestamp(&value).ok_or_else(|| Fault::Invalid("a timestamp is RFC 3339 in UTC".to_owned()))?,
        ),
    })
}

fn guest_rows(rows: crate::database::Rows) -> Rows {
    let columns = rows.columns().to_vec();
    let rows = rows.into_iter().map(|row| row.into_values().into_iter().map(guest_value).collect()).collect();
    Rows { columns, rows }
}

fn guest_value(value: Value) -> GuestValue {
    match value {
        Value::Null => GuestValue::Null,
        Value::Boolean(value) => GuestValue::Boolean(value),
        Value::Integer(value) => GuestValue::Integer(value),
        Value::Float(value) => GuestValue::Float(value),
        Value::Text(value) => GuestValue::Text(value),
        Value::Bytes(value) => GuestValue::Bytes(value),
        Value::Timestamp(value) => GuestValue::Timestamp(format_timestamp(value)),
        Value::Json(value) => GuestValue::Json(value),
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Conflict(name) => Self::Conflict(name),
            DatabaseError::Busy => Self::Busy,
            DatabaseError::Unavailable => Self::Unavailable,
            DatabaseError::Timeout => Self::Timeout,
            DatabaseError::TooLarge(limit) => Self::TooLarge(limit),
            DatabaseError::Invalid(text) => Self::Invalid(text),
            DatabaseError::Internal(source) => {
                tracing::error!(error = %source, "the database failed");
                Self::Unavailable
            }
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(text) => Self::Denied(text),
            Refusal::Invalid(text) => Self::Invalid(text),
            Refusal::TooLarge(text) => Self::TooLarge(text),
        }
    }
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Gone => Self::Invalid("the transaction has ended".to_owned()),
            Ended::TimedOut => Self::Timeout,
        }
    }
}
