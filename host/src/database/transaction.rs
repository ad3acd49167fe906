//! A transaction, the same over both databases: after an error from the database only a rollback is possible, as
//! PostgreSQL has it, and nothing that failed half-way can be committed.

use std::sync::Arc;
use std::time::Duration;

use super::collect::Collector;
use super::postgres::PostgresTransaction;
use super::sqlite::SqliteTransaction;
use super::{DatabaseError, QueryLimits, Row, Rows, Statement, Turn, Value};

/// An open transaction. Dropped without `commit`, it is rolled back.
pub(crate) struct Transaction {
    inner: Inner,
    timeout: Duration,
    /// Set by an error from the database.
    failed: bool,
    /// Whose turn it is to have one, until it ends.
    turn: Option<Turn>,
}

enum Inner {
    Sqlite(SqliteTransaction),
    Postgres(PostgresTransaction),
}

impl Transaction {
    pub(super) fn sqlite(inner: SqliteTransaction, timeout: Duration) -> Self {
        Self { inner: Inner::Sqlite(inner), timeout, failed: false, turn: None }
    }

    pub(super) fn postgres(inner: PostgresTransaction, timeout: Duration) -> Self {
        Self { inner: Inner::Postgres(inner), timeout, failed: false, turn: None }
    }

    /// Holds somebody's turn until the transaction has ended.
    pub(crate) fn with_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Reads rows, within the default limits.
    pub(crate) async fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Rows, DatabaseError> {
        self.query_within(sql, parameters, QueryLimits::default()).await
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn query_one(&mut self, sql: &str, parameters: &[Value]) -> Result<Option<Row>, DatabaseError> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// Changes rows and returns how many.
    pub(crate) async fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, DatabaseError> {
        self.execute_within(sql, parameters, self.timeout).await
    }

    /// `query` within limits.
    pub(crate) async fn query_within(
        &mut self,
        sql: &str,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Rows, DatabaseError> {
        let mut collector = Collector::values(limits);
        self.fetch(sql, None, parameters, &mut collector).await?;
        Ok(collector.into_rows())
    }

    /// `Database::query_checked` within the transaction.
    pub(crate) async fn query_checked(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Rows, DatabaseError> {
        let mut collector = Collector::values(limits).with_hints(statement.hints());
        self.fetch(statement.sql(), Some(statement.tables()), parameters, &mut collector).await?;
        Ok(collector.into_rows())
    }

    /// `Database::query_json_checked` within the transaction.
    pub(crate) async fn query_json_checked(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Vec<u8>, DatabaseError> {
        let mut collector = Collector::json(limits).with_hints(statement.hints());
        self.fetch(statement.sql(), Some(statement.tables()), parameters, &mut collector).await?;
        Ok(collector.into_json())
    }

    /// `Database::execute_checked` within the transaction.
    pub(crate) async fn execute_checked(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
    ) -> Result<u64, DatabaseError> {
        self.run(statement.sql(), Some(statement.tables()), parameters, self.timeout).await
    }

    /// `execute` with a deadline of its own.
    pub(crate) async fn execute_within(
        &mut self,
        sql: &str,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        self.run(sql, None, parameters, timeout).await
    }

    async fn run(
        &mut self,
        sql: &str,
        tables: Option<&Arc<[String]>>,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        self.check()?;
        // Set before the wait: a future dropped half-way leaves a transaction nobody may commit.
        self.failed = true;
        let outcome = match &mut self.inner {
            Inner::Sqlite(inner) => inner.execute(sql, tables, parameters, timeout).await,
            Inner::Postgres(inner) => inner.execute(sql, parameters, timeout).await,
        };
        self.failed = outcome.is_err();
        outcome
    }

    /// Makes everything durable. After an earlier error it rolls back and says so.
    pub(crate) async fn commit(self) -> Result<(), DatabaseError> {
        if let Err(error) = self.check() {
            self.rollback().await?;
            return Err(error);
        }
        match self.inner {
            Inner::Sqlite(inner) => inner.commit().await,
            Inner::Postgres(inner) => inner.commit().await,
        }
    }

    /// Undoes everything. It is undone even when this fails.
    pub(crate) async fn rollback(self) -> Result<(), DatabaseError> {
        match self.inner {
            Inner::Sqlite(inner) => inner.rollback().await,
            Inner::Postgres(inner) => inner.rollback().await,
        }
    }

    async fn fetch(
        &mut self,
        sql: &str,
        tables: Option<&Arc<[String]>>,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        self.check()?;
        self.failed = true;
        let outcome = match &mut self.inner {
            Inner::Sqlite(inner) => inner.fetch(sql, tables, parameters, collector).await,
            Inner::Postgres(inner) => inner.fetch(sql, parameters, collector).await,
        };
        self.failed = outcome.is_err();
        outcome
    }

    fn check(&self) -> Result<(), DatabaseError> {
        if self.failed {
            return Err(DatabaseError::Invalid(
                "the transaction has failed before; it can only be rolled back".to_owned(),
            ));
        }
        Ok(())
    }
}
