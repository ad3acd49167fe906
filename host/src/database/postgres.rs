//! PostgreSQL behind a pool.

use std::time::Duration;

use super::collect::Collector;
use super::{DatabaseError, DatabaseOptions, Value};

#[derive(Clone)]
pub(super) struct Postgres;

pub(super) struct PostgresTransaction;

impl Postgres {
    pub(super) async fn open(_url: &str, _options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn fetch(&self, _: &str, _: &[Value], _: &mut Collector) -> Result<(), DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn execute(&self, _: &str, _: &[Value], _: Duration) -> Result<u64, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn begin(&self) -> Result<PostgresTransaction, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn begin_migration(&self, _: Duration) -> Result<PostgresTransaction, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
}

impl PostgresTransaction {
    pub(super) async fn fetch(&mut self, _: &str, _: &[Value], _: &mut Collector) -> Result<(), DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn execute(&mut self, _: &str, _: &[Value], _: Duration) -> Result<u64, DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn commit(self) -> Result<(), DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
    pub(super) async fn rollback(self) -> Result<(), DatabaseError> {
        Err(DatabaseError::Unavailable)
    }
}
