//! The database underneath everything: SQLite or PostgreSQL behind one type, one SQL text and one set of values.
//!
//! Nothing outside this room and `capability/database` names a driver. It never reads the environment, and it never
//! checks who may touch what: for guests that is the capability room's task, before a statement comes here.

mod collect;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod host_tables;
mod lexical;
mod listen;
mod migrate;
mod postgres;
mod row;
mod sqlite;
mod statement;
mod text_index;
mod transaction;
mod value;
mod vector_index;
mod waiting;

use std::path::Path;
use std::time::Duration;

pub(crate) use collect::QueryLimits;
pub(crate) use error::DatabaseError;
pub(crate) use host_tables::HOST_MIGRATIONS;
pub(crate) use migrate::{Migration, PlannedMigration};
pub(crate) use row::{Row, Rows};
pub(crate) use statement::{PARAMETERS_MAX, Refusal, Statement, TEXT_BYTES_MAX};
pub(crate) use transaction::Transaction;
pub(crate) use value::{Value, format_timestamp, parse_timestamp, values};
pub(crate) use waiting::{Turn, Turns};

use collect::Collector;
use vector_index::VectorIndex;

/// How long `migrate_plugin` goes on filling vector indexes: enough for what a new installation has.
const VECTORS_AT_ONCE: Duration = Duration::from_secs(1);

/// Which SQL stands behind a `Database`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// On whose behalf a statement runs: the role and the rows that PostgreSQL allows hang on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope<'a> {
    /// None: the host itself.
    pub plugin: Option<&'a str>,
    /// None: rows of every organization.
    pub organization: Option<&'a str>,
}

/// Sizes and deadlines; every one has a default that suits one host.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseOptions {
    /// Connections to PostgreSQL.
    pub connections_max: u32,
    /// Reading connections to SQLite, each with a thread.
    pub readers_max: usize,
    /// Callers that may wait for a connection; one more is `Busy` at once.
    pub waiting_max: usize,
    /// How long each may wait before it is `Busy`.
    pub wait_max: Duration,
    /// How long a statement waits for a lock another process or transaction holds before it is `Busy`.
    pub lock_timeout: Duration,
    /// The deadline of `execute`, and of PostgreSQL's own `statement_timeout`.
    pub statement_timeout: Duration,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            connections_max: 20,
            readers_max: 4,
            waiting_max: 1024,
            wait_max: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(5),
        }
    }
}

/// A database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Database {
    backend: Backend,
    options: DatabaseOptions,
    /// Keeps a throw-away file until the last clone is gone.
    #[cfg(test)]
    _folder: Option<std::sync::Arc<tempfile::TempDir>>,
}

#[derive(Clone)]
enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Database {
    /// Opens `sqlite:<path>` (made when missing, mode 0600) or `postgres://…`.
    pub(crate) async fn open(url: &str, options: DatabaseOptions) -> Result<Self, DatabaseError> {
        let backend = if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            Backend::Sqlite(sqlite::Sqlite::open(Path::new(path), &options).await?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Backend::Postgres(postgres::Postgres::open(url, &options).await?)
        } else {
            return Err(DatabaseError::Invalid("a database URL begins with sqlite: or postgres://".to_owned()));
        };
        Ok(Self {
            backend,
            options,
            #[cfg(test)]
            _folder: None,
        })
    }

    /// A throw-away SQLite file, gone with the last clone.
    #[cfg(test)]
    pub(crate) async fn open_in_memory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("berth.db").display());
        let mut database = Self::open(&url, DatabaseOptions::default()).await.unwrap();
        database._folder = Some(std::sync::Arc::new(folder));
        database
    }

    /// Which SQL it speaks, for the few statements that must differ.
    pub(crate) fn dialect(&self) -> Dialect {
        match self.backend {
            Backend::Sqlite(_) => Dialect::Sqlite,
            Backend::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Its sizes and deadlines.
    pub(crate) fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// Applies what is new of an owner's migrations, in their order, and returns the names of those applied.
    pub(crate) async fn migrate(&self, owner: &str, migrations: &[Migration]) -> Result<Vec<String>, DatabaseError> {
        migrate::apply(self, owner, migrations, migrate::Rules::HOST).await
    }

    /// Applies a plugin's migrations: only additive statements, only on tables under its own prefixes. On PostgreSQL it also
    /// sees to the plugin's role and to the policies of its tables, whether there are migrations or not.
    pub(crate) async fn migrate_plugin(
        &self,
        plugin: &str,
        prefixes: &[String],
        migrations: &[Migration],
    ) -> Result<Vec<String>, DatabaseError> {
        let applied = migrate::apply(self, plugin, migrations, migrate::Rules::plugin(prefixes)).await?;
        if let Backend::Postgres(postgres) = &self.backend {
            postgres.raise_wall(self, plugin, prefixes).await?;
        }
        let indexes = self.vector_indexes(prefixes, migrations)?;
        self.keep_vectors(plugin, prefixes, &indexes, Some(VECTORS_AT_ONCE)).await;
        Ok(applied)
    }

    /// Ends what `migrate_plugin` has begun of a plugin's vector indexes, where there are more vectors than a deploy should
    /// wait for. It takes as long as it takes, and may be dropped at any time: the next start goes on.
    pub(crate) async fn finish_vectors(&self, plugin: &str, prefixes: &[String], migrations: &[Migration]) {
        // What cannot be read was refused when it was applied.
        let indexes = self.vector_indexes(prefixes, migrations).unwrap_or_default();
        self.keep_vectors(plugin, prefixes, &indexes, None).await;
    }

    fn vector_indexes(&self, prefixes: &[String], migrations: &[Migration]) -> Result<Vec<VectorIndex>, DatabaseError> {
        match self.backend {
            // Its function needs nothing beside the column.
            Backend::Sqlite(_) => Ok(Vec::new()),
            Backend::Postgres(_) => {
                migrate::vector_indexes(self.dialect(), migrations, &migrate::Rules::plugin(prefixes))
            }
        }
    }

    async fn keep_vectors(
        &self,
        plugin: &str,
        prefixes: &[String],
        indexes: &[VectorIndex],
        time_max: Option<Duration>,
    ) {
        if let Backend::Postgres(postgres) = &self.backend {
            postgres.keep_vectors(self, plugin, prefixes, indexes, time_max).await;
        }
    }

    /// What `migrate_plugin` would apply, after the same checks and without changing anything.
    pub(crate) async fn plan_plugin_migrations(
        &self,
        plugin: &str,
        prefixes: &[String],
        migrations: &[Migration],
    ) -> Result<Vec<PlannedMigration>, DatabaseError> {
        migrate::plan(self, plugin, migrations, migrate::Rules::plugin(prefixes)).await
    }

    /// Reads rows, within the default limits.
    pub(crate) async fn query(&self, sql: &str, parameters: &[Value]) -> Result<Rows, DatabaseError> {
        self.query_within(Scope::default(), sql, parameters, QueryLimits::default()).await
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn query_one(&self, sql: &str, parameters: &[Value]) -> Result<Option<Row>, DatabaseError> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// Reads rows as the text of a JSON array, one object a row, within the default limits.
    #[cfg(test)]
    pub(crate) async fn query_json(&self, sql: &str, parameters: &[Value]) -> Result<Vec<u8>, DatabaseError> {
        self.query_json_within(Scope::default(), sql, parameters, QueryLimits::default()).await
    }

    /// Changes rows and returns how many.
    pub(crate) async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, DatabaseError> {
        self.execute_within(sql, parameters, self.options.statement_timeout).await
    }

    /// Begins a transaction: it has the write lock of SQLite from the start, and is rolled back when dropped.
    pub(crate) async fn begin(&self) -> Result<Transaction, DatabaseError> {
        self.begin_within(Scope::default()).await
    }

    /// Whether it answers.
    pub(crate) async fn ping(&self) -> Result<(), DatabaseError> {
        self.query("SELECT 1 AS one", &[]).await.map(|_| ())
    }

    /// `query` on someone's behalf and within limits.
    pub(crate) async fn query_within(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Rows, DatabaseError> {
        let mut collector = Collector::values(limits);
        self.fetch(scope, sql, parameters, &mut collector).await?;
        Ok(collector.into_rows())
    }

    /// `query_json` on someone's behalf and within limits.
    #[cfg(test)]
    pub(crate) async fn query_json_within(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Vec<u8>, DatabaseError> {
        let mut collector = Collector::json(limits);
        self.fetch(scope, sql, parameters, &mut collector).await?;
        Ok(collector.into_json())
    }

    /// Reads rows by a checked statement.
    pub(crate) async fn query_checked(
        &self,
        scope: Scope<'_>,
        statement: &Statement,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Rows, DatabaseError> {
        let mut collector = Collector::values(limits).with_hints(statement.hints());
        self.fetch_checked(scope, statement, parameters, &mut collector).await?;
        Ok(collector.into_rows())
    }

    /// Reads rows as JSON by a checked statement.
    pub(crate) async fn query_json_checked(
        &self,
        scope: Scope<'_>,
        statement: &Statement,
        parameters: &[Value],
        limits: QueryLimits,
    ) -> Result<Vec<u8>, DatabaseError> {
        let mut collector = Collector::json(limits).with_hints(statement.hints());
        self.fetch_checked(scope, statement, parameters, &mut collector).await?;
        Ok(collector.into_json())
    }

    /// Changes rows by a checked statement.
    pub(crate) async fn execute_checked(
        &self,
        scope: Scope<'_>,
        statement: &Statement,
        parameters: &[Value],
    ) -> Result<u64, DatabaseError> {
        let timeout = self.options.statement_timeout;
        match &self.backend {
            Backend::Sqlite(sqlite) => {
                sqlite.execute(statement.sql(), Some(statement.tables()), parameters, timeout).await
            }
            Backend::Postgres(postgres) => postgres.execute(scope, statement.sql(), parameters, timeout).await,
        }
    }

    /// `execute` of the host's own, with a deadline.
    pub(crate) async fn execute_within(
        &self,
        sql: &str,
        parameters: &[Value],
        timeout: Duration,
    ) -> Result<u64, DatabaseError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.execute(sql, None, parameters, timeout).await,
            Backend::Postgres(postgres) => postgres.execute(Scope::default(), sql, parameters, timeout).await,
        }
    }

    /// `begin` on someone's behalf.
    pub(crate) async fn begin_within(&self, scope: Scope<'_>) -> Result<Transaction, DatabaseError> {
        let timeout = self.options.statement_timeout;
        Ok(match &self.backend {
            Backend::Sqlite(sqlite) => Transaction::sqlite(sqlite.begin().await?, timeout),
            Backend::Postgres(postgres) => Transaction::postgres(postgres.begin(scope).await?, timeout),
        })
    }

    async fn fetch(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.fetch(sql, None, parameters, collector).await,
            Backend::Postgres(postgres) => postgres.fetch(scope, sql, parameters, collector).await,
        }
    }

    async fn fetch_checked(
        &self,
        scope: Scope<'_>,
        statement: &Statement,
        parameters: &[Value],
        collector: &mut Collector,
    ) -> Result<(), DatabaseError> {
        let (sql, tables) = (statement.sql(), Some(statement.tables()));
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.fetch(sql, tables, parameters, collector).await,
            Backend::Postgres(postgres) => postgres.fetch(scope, sql, parameters, collector).await,
        }
    }
}
