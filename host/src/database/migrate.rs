//! Migrations: what an owner's tables need, applied once, in order, each in a transaction of its own.
//!
//! The ledger `berth_migrations` remembers a checksum of every text; a text that changed after it was applied is an
//! error, never a second application. Only one host applies at a time.

mod ddl;
mod text_index;
mod vector_index;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use chrono::Utc;
use sha2::{Digest as _, Sha256};
use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Statement};

use super::vector_index::VectorIndex;
use super::{Backend, Database, DatabaseError, Dialect, QueryLimits, Transaction, statement, values};

/// How long one statement of a migration may run.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Migrations of one owner.
const MIGRATIONS_MAX: usize = 1_000;
/// Bytes of one migration.
const BYTES_MAX: usize = 256 * 1024;
/// Characters of a migration's name.
const NAME_LENGTH_MAX: usize = 128;

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS berth_migrations (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (owner, name)
)";

/// One step of an owner's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    /// Unique for the owner, and its place in the order of the list: `0001_accounts`.
    pub name: Cow<'static, str>,
    /// None: for both. Otherwise it is skipped by the other database, which has a migration of the same name.
    pub dialect: Option<Dialect>,
    /// Statements, each ended by `;`.
    pub sql: Cow<'static, str>,
}

impl Migration {
    /// One text for both databases.
    pub(crate) const fn both(name: &'static str, sql: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), dialect: None, sql: Cow::Borrowed(sql) }
    }

    fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.sql.as_bytes()))
    }
}

/// A migration that would be applied, and the statements it comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedMigration {
    pub name: String,
    pub statements: Vec<String>,
}

/// What an owner may do in a migration.
pub(super) struct Rules<'a> {
    /// None: the host, which may do anything.
    prefixes: Option<&'a [String]>,
}

impl<'a> Rules<'a> {
    pub(super) const HOST: Self = Self { prefixes: None };

    pub(super) fn plugin(prefixes: &'a [String]) -> Self {
        Self { prefixes: Some(prefixes) }
    }

    fn is_host(&self) -> bool {
        self.prefixes.is_none()
    }

    /// A table's or index's name, which must be plain and under the owner's prefixes.
    fn own_name(&self, name: &ObjectName) -> Result<String, String> {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
            return Err(format!("{name} must be a name without a schema"));
        };
        let name = self.plain_name(ident)?;
        match self.prefixes {
            Some(prefixes) if !prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())) => {
                Err(format!("{name} is not under the plugin's table prefixes ({})", prefixes.join(", ")))
            }
            _ => Ok(name),
        }
    }

    /// A name both databases read alike: lower-case letters, digits and `_`.
    fn plain_name(&self, ident: &Ident) -> Result<String, String> {
        let name = match ident.quote_style {
            None => ident.value.to_ascii_lowercase(),
            Some(_) => ident.value.clone(),
        };
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if plain { Ok(name) } else { Err(format!("{ident} must be made of lower-case letters, digits and _")) }
    }

    /// An expression in a check or an index.
    fn expression(&self, expression: &Expr, dialect: Dialect) -> Result<(), String> {
        match self.prefixes {
            Some(_) => statement::check_expression(expression, dialect).map_err(|refusal| refusal.to_string()),
            None => Ok(()),
        }
    }

    /// A statement that changes rows, for a back-fill.
    fn data_statement(&self, mut statement: Statement, dialect: Dialect) -> Result<String, String> {
        if let Some(prefixes) = self.prefixes {
            statement::check_parsed(&mut statement, prefixes, dialect).map_err(|refusal| refusal.to_string())?;
        }
        Ok(statement.to_string())
    }
}

/// Applies what is new and returns the names applied.
pub(super) async fn apply(
    database: &Database,
    owner: &str,
    migrations: &[Migration],
    rules: Rules<'_>,
) -> Result<Vec<String>, DatabaseError> {
    let planned = translate(database.dialect(), migrations, &rules)?;
    let mut applied = Vec::new();
    if planned.is_empty() {
        return Ok(applied);
    }
    prepare_ledger(database).await?;
    for step in fresh(database, owner, planned).await? {
        let mut transaction = begin_locked(database).await?;
        if is_applied(&mut transaction, owner, &step).await? {
            transaction.rollback().await?;
            continue;
        }
        for statement in &step.statements {
            transaction
                .execute_within(statement, &[], STATEMENT_TIMEOUT)
                .await
                .map_err(|error| in_migration(&step, error))?;
        }
        let entry = values![owner, step.name.as_str(), step.checksum.as_str(), Utc::now()];
        let sql = "INSERT INTO berth_migrations (owner, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";
        transaction.execute(sql, &entry).await?;
        transaction.commit().await?;
        tracing::info!(owner, migration = step.name, "applied a migration");
        applied.push(step.name);
    }
    Ok(applied)
}

/// The steps that the ledger does not have yet. Mostly none, and then a start waits for nobody's lock.
async fn fresh(database: &Database, owner: &str, steps: Vec<Step>) -> Result<Vec<Step>, DatabaseError> {
    let sql = "SELECT name, checksum FROM berth_migrations WHERE owner = $1";
    let mut applied = HashMap::new();
    for row in database.query(sql, &values![owner]).await? {
        applied.insert(row.text("name")?, row.text("checksum")?);
    }
    let mut fresh = Vec::new();
    for step in steps {
        match applied.get(&step.name) {
            None => fresh.push(step),
            Some(checksum) => step.is_unchanged(checksum)?,
        }
    }
    Ok(fresh)
}

/// The vector indexes of an owner's migrations, in their order and each once.
pub(super) fn vector_indexes(
    dialect: Dialect,
    migrations: &[Migration],
    rules: &Rules<'_>,
) -> Result<Vec<VectorIndex>, DatabaseError> {
    let mut indexes = Vec::new();
    for index in translate(dialect, migrations, rules)?.into_iter().flat_map(|step| step.vectors) {
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }
    Ok(indexes)
}

/// What `apply` would do.
pub(super) async fn plan(
    database: &Database,
    owner: &str,
    migrations: &[Migration],
    rules: Rules<'_>,
) -> Result<Vec<PlannedMigration>, DatabaseError> {
    let steps = translate(database.dialect(), migrations, &rules)?;
    prepare_ledger(database).await?;
    let mut transaction = database.begin().await?;
    let mut planned = Vec::new();
    for step in steps {
        if !is_applied(&mut transaction, owner, &step).await? {
            planned.push(PlannedMigration { name: step.name, statements: step.statements });
        }
    }
    transaction.rollback().await?;
    Ok(planned)
}

struct Step {
    name: String,
    checksum: String,
    statements: Vec<String>,
    vectors: Vec<VectorIndex>,
}

impl Step {
    /// Whether it is what was applied once under its name.
    fn is_unchanged(&self, applied: &str) -> Result<(), DatabaseError> {
        if applied == self.checksum {
            return Ok(());
        }
        let name = &self.name;
        Err(DatabaseError::Invalid(format!("migration {name} was changed after it was applied: add a new one instead")))
    }
}

/// Checks and rewrites all of an owner's migrations before the first one is applied.
fn translate(dialect: Dialect, migrations: &[Migration], rules: &Rules<'_>) -> Result<Vec<Step>, DatabaseError> {
    if migrations.len() > MIGRATIONS_MAX {
        return Err(DatabaseError::Invalid(format!("more than {MIGRATIONS_MAX} migrations")));
    }
    let mut steps: Vec<Step> = Vec::new();
    for migration in migrations {
        if migration.dialect.is_some_and(|only| only != dialect) {
            continue;
        }
        let name = migration.name.as_ref();
        let fault = |fault: &str| DatabaseError::Invalid(format!("migration {name}: {fault}"));
        if name.is_empty() || name.len() > NAME_LENGTH_MAX {
            return Err(fault("its name must have 1 to 128 characters"));
        }
        if migration.sql.len() > BYTES_MAX {
            return Err(fault("it is larger than 256 KiB"));
        }
        if steps.iter().any(|step| step.name == name) {
            return Err(fault("its name is used twice"));
        }
        let ddl::Translated { statements, vectors } =
            ddl::translate(&migration.sql, dialect, rules).map_err(|error| fault(&error))?;
        steps.push(Step { name: name.to_owned(), checksum: migration.checksum(), statements, vectors });
    }
    Ok(steps)
}

async fn prepare_ledger(database: &Database) -> Result<(), DatabaseError> {
    let present = match database.dialect() {
        Dialect::Sqlite => "SELECT 1 AS present FROM sqlite_schema WHERE type = 'table' AND name = 'berth_migrations'",
        Dialect::Postgres => "SELECT 1 AS present WHERE to_regclass('berth_migrations') IS NOT NULL",
    };
    if database.query_one(present, &[]).await?.is_some() {
        return Ok(());
    }
    let ledger = ddl::translate(LEDGER, database.dialect(), &Rules::HOST).map_err(DatabaseError::internal)?;
    let mut transaction = begin_locked(database).await?;
    for statement in &ledger.statements {
        transaction.execute(statement, &[]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Begins a transaction no other host's migration runs beside.
pub(super) async fn begin_locked(database: &Database) -> Result<Transaction, DatabaseError> {
    let timeout = database.options.statement_timeout;
    match &database.backend {
        Backend::Sqlite(sqlite) => Ok(Transaction::sqlite(sqlite.begin_exclusive().await?, timeout)),
        Backend::Postgres(postgres) => {
            Ok(Transaction::postgres(postgres.begin_migration(STATEMENT_TIMEOUT).await?, timeout))
        }
    }
}

/// Whether the ledger has it; an error when it has another text of it.
async fn is_applied(transaction: &mut Transaction, owner: &str, step: &Step) -> Result<bool, DatabaseError> {
    let sql = "SELECT checksum FROM berth_migrations WHERE owner = $1 AND name = $2";
    let parameters = values![owner, step.name.as_str()];
    let rows = transaction.query_within(sql, &parameters, QueryLimits::default()).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    step.is_unchanged(&row.text("checksum")?)?;
    Ok(true)
}

/// Says which migration failed.
fn in_migration(step: &Step, error: DatabaseError) -> DatabaseError {
    match error {
        DatabaseError::Invalid(text) => DatabaseError::Invalid(format!("migration {}: {text}", step.name)),
        DatabaseError::Conflict(text) => DatabaseError::Conflict(format!("{text} in migration {}", step.name)),
        other => other,
    }
}
