//! Checked statements, remembered by plugin and text: a statement is parsed once and not at every call.

use std::sync::Arc;

use crate::capability::Plugin;
use crate::database::{Dialect, Refusal, Statement};

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
    pub(super) fn get(&self, plugin: &Plugin, sql: &str, dialect: Dialect) -> Result<Arc<Statement>, Refusal> {
        let prefixes = &plugin.grant.tables;
        if sql.len() > CACHED_TEXT_MAX {
            return Statement::check(sql, prefixes, dialect).map(Arc::new);
        }
        // The grant is part of the key: it may change while the plugin runs. No name or prefix has a line break.
        let key = format!("{}\n{}\n{sql}", plugin.name, prefixes.join(","));
        if let Some(statement) = self.cache.get(&key) {
            return Ok(statement);
        }
        let statement = Arc::new(Statement::check(sql, prefixes, dialect)?);
        self.cache.insert(key, Arc::clone(&statement));
        Ok(statement)
    }
}
