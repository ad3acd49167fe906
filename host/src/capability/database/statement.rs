//! Checked statements, remembered by plugin and text: a statement is parsed once and not at every call.

use std::sync::Arc;

use crate::bindings::imports::types::Fault;
use crate::capability::Plugin;
use crate::database::{Dialect, Statement, TEXT_BYTES_MAX};

/// Bytes of statements that are remembered, of all plugins together; the least used go first.
const CACHED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A longer text is checked at every call, so that no plugin can fill the cache with a few.
const CACHED_TEXT_MAX: usize = 16 * 1024;

/// The statements that may run. Refusals are not remembered: a flood of them would push out what is in use.
#[derive(Clone)]
pub(super) struct Statements {
    cache: moka::sync::Cache<String, Arc<Statement>>,
}

impl Statements {
    pub(super) fn new() -> Self {
        let size = |key: &String, statement: &Arc<Statement>| {
            u32::try_from(key.len().saturating_add(statement.size())).unwrap_or(u32::MAX)
        };
        Self { cache: moka::sync::Cache::builder().max_capacity(CACHED_BYTES_MAX).weigher(size).build() }
    }

    /// The checked statement, or why it may not run.
    pub(super) async fn get(&self, plugin: &Plugin, sql: &str, dialect: Dialect) -> Result<Arc<Statement>, Fault> {
        let prefixes = &plugin.grant.tables;
        // The grant is part of the key: it may change while the plugin runs. No name or prefix has a line break.
        let key = format!("{}\n{}\n{sql}", plugin.name, prefixes.join(","));
        if let Some(statement) = self.cache.get(&key) {
            return Ok(statement);
        }
        if sql.len() > TEXT_BYTES_MAX {
            return Err(Fault::TooLarge(format!("a statement has at most {TEXT_BYTES_MAX} bytes")));
        }
        // On a thread with a stack of its own: here we may be on a guest's, which is small.
        let (text, prefixes) = (sql.to_owned(), prefixes.clone());
        let checked = tokio::task::spawn_blocking(move || Statement::check(&text, &prefixes, dialect)).await;
        let statement = Arc::new(checked.map_err(|_| Fault::Invalid("the statement could not be read".to_owned()))??);
        if sql.len() <= CACHED_TEXT_MAX {
            self.cache.insert(key, Arc::clone(&statement));
        }
        Ok(statement)
    }
}
