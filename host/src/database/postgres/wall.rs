//! The second wall: what PostgreSQL itself keeps a plugin from, should a statement get past the checks before it.
//!
//! Every plugin has a role without a login, `berth_<plugin>`, that may read and change the tables under the plugin's own
//! prefixes and nothing else; the host's user works as that role while it runs the plugin's statements. Each of these tables
//! shows a session only the rows of the organization it works for, and rows of no organization. Where there is no
//! organization (a timer, a public route, the platform's operators) the rows of all are there, and only the role holds.
//!
//! The roles belong to the server and not to one database, so several installations share their names; what a role
//! may touch is granted in each database.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use sqlx::{AssertSqlSafe, Executor as _};

use super::super::{Database, DatabaseError, Scope, Transaction, values, vector_index};
use super::pool::Link;

/// What a role may do with its plugin's tables.
const OWN: &str = "SELECT, INSERT, UPDATE, DELETE";
/// What it may do with a view of a vector index, which shows ids and vectors of all the plugin's rows, as a table with a text
/// index does.
const VIEWED: &str = "SELECT";
/// What a guest's transaction writes for the host: messages, and which of them were handled or published before.
const LEDGERS: [(&str, &str); 4] = [
    ("berth_outbox", "INSERT"),
    ("berth_queue", "INSERT"),
    ("berth_published", "SELECT, INSERT, UPDATE"),
    ("berth_handled", "SELECT, INSERT, UPDATE"),
];
/// The policy's name on every table.
const POLICY: &str = "berth_organization";
/// A row is the session's when its organization is, when it has none, or when the session has none. Written so that an index
/// on the column stays usable: the statement's own condition finds the rows, and this looks at each.
const MINE: &str = "COALESCE(organization_id = (SELECT nullif(current_setting('berth.organization', true), '')), TRUE)";
/// Attempts while another database of the same server changes the same roles.
const ATTEMPTS_MAX: u32 = 5;

/// On whose behalf a session works; the default is the host's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Quoted.
    role: Option<Arc<str>>,
    organization: Option<Arc<str>>,
}

/// On whose behalf a statement shall run.
pub(super) struct Wanted<'a> {
    role: Option<Arc<str>>,
    organization: Option<&'a str>,
}

impl Wanted<'_> {
    fn is_met_by(&self, standing: &Standing) -> bool {
        self.role == standing.role && self.organization == standing.organization.as_deref()
    }

    fn settings(&self, local: &str) -> String {
        let role = self.role.as_deref().unwrap_or("NONE");
        let organization = self.organization.unwrap_or_default().replace('\'', "''");
        format!("SET {local} ROLE {role}; SET {local} berth.organization = '{organization}'")
    }
}

impl Link {
    /// Makes the session work on behalf of `wanted`: a round trip, where it did for somebody else before.
    pub(super) async fn stand_for(&mut self, wanted: &Wanted<'_>) -> Result<(), sqlx::Error> {
        if !wanted.is_met_by(&self.standing) {
            self.connection.execute(AssertSqlSafe(wanted.settings(""))).await?;
            self.standing = Standing { role: wanted.role.clone(), organization: wanted.organization.map(Into::into) };
        }
        Ok(())
    }

    /// Begins a transaction on behalf of `wanted`, in one round trip.
    pub(super) async fn begin_for(&mut self, wanted: &Wanted<'_>) -> Result<(), sqlx::Error> {
        match wanted.is_met_by(&self.standing) {
            true => self.connection.execute("BEGIN").await?,
            false => self.connection.execute(AssertSqlSafe(format!("BEGIN; {}", wanted.settings("LOCAL")))).await?,
        };
        Ok(())
    }
}

/// The plugins that the wall stands for, and their roles. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Wall {
    roles: Arc<RwLock<HashMap<Box<str>, Arc<str>>>>,
}

impl Wall {
    /// How a session has to stand for a statement of `scope`.
    pub(super) fn wanted<'a>(&self, scope: Scope<'a>) -> Wanted<'a> {
        let role = scope.plugin.and_then(|plugin| self.roles.read().get(plugin).cloned());
        Wanted { organization: scope.organization.filter(|_| role.is_some()), role }
    }

    /// Makes the role of a plugin and gives it what it may have, no more and no less.
    pub(super) async fn raise(
        &self,
        database: &Database,
        plugin: &str,
        prefixes: &[String],
    ) -> Result<(), DatabaseError> {
        let mut attempt = 1;
        loop {
            match raise(database, plugin, prefixes).await {
                Ok(()) => break,
                Err(DatabaseError::Conflict(_) | DatabaseError::Internal(_)) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
            }
        }
        self.roles.write().insert(plugin.into(), quoted(&role_of(plugin)).into());
        Ok(())
    }
}

/// A table, or a view of a vector index, as it stands, and what the role may do with it.
struct Table {
    name: String,
    is_view: bool,
    is_granted: bool,
    has_organization: bool,
    has_text: bool,
    has_policy: bool,
}

impl Table {
    fn is_own(&self, prefixes: &[String]) -> bool {
        let name = if self.is_view {
            self.name.strip_prefix(vector_index::PREFIX).unwrap_or_default()
        } else {
            self.name.as_str()
        };
        !name.starts_with("berth_") && prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// What is still to be done to it for a plugin's role.
    fn statements(&self, role: &str, prefixes: &[String]) -> Vec<String> {
        let is_own = self.is_own(prefixes);
        let ledger = LEDGERS.iter().find(|(name, _)| *name == self.name).map(|(_, rights)| *rights);
        let table = quoted(&self.name);
        let mut statements =
            match (ledger.or(is_own.then_some(if self.is_view { VIEWED } else { OWN })), self.is_granted) {
                (Some(rights), false) => vec![format!("GRANT {rights} ON {table} TO {role}")],
                (None, true) => vec![format!("REVOKE ALL ON {table} FROM {role}")],
                _ => Vec::new(),
            };
        if is_own && self.has_organization && !self.has_policy {
            statements.extend(self.policies());
        }
        statements
    }

    /// Rows by organization. A full-text search uses its index only where no policy stands before it, so that tables with
    /// one show every row of the plugin's and wall what is written.
    fn policies(&self) -> Vec<String> {
        let table = quoted(&self.name);
        let mut statements = vec![
            format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
            // One of the other kind, from before the table had a text index.
            format!("DROP POLICY IF EXISTS {POLICY} ON {table}"),
        ];
        let mut policy = |name: &str, command: &str, clauses: &str| {
            statements.push(format!("CREATE POLICY {name} ON {table} FOR {command} {clauses}"));
        };
        if self.has_text {
            policy(POLICY, "SELECT", "USING (TRUE)");
            policy(&format!("{POLICY}_insert"), "INSERT", &format!("WITH CHECK ({MINE})"));
            policy(&format!("{POLICY}_update"), "UPDATE", &format!("USING ({MINE}) WITH CHECK ({MINE})"));
            policy(&format!("{POLICY}_delete"), "DELETE", &format!("USING ({MINE})"));
        } else {
            policy(POLICY, "ALL", &format!("USING ({MINE}) WITH CHECK ({MINE})"));
        }
        statements
    }
}

async fn raise(database: &Database, plugin: &str, prefixes: &[String]) -> Result<(), DatabaseError> {
    let (name, role) = (role_of(plugin), quoted(&role_of(plugin)));
    let mut statements = Vec::new();
    if !is_ready(database, &name).await? {
        statements.push(format!(
            "DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ));
        statements.push(format!(
            "DO $$ BEGIN IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN \
             GRANT {role} TO CURRENT_USER; END IF; END $$"
        ));
        statements.push(format!(
            "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema()); END $$"
        ));
    }
    for table in tables(database, &name).await? {
        statements.extend(table.statements(&role, prefixes));
    }
    if statements.is_empty() {
        return Ok(());
    }
    let mut transaction = super::super::migrate::begin_locked(database).await?;
    for statement in statements {
        transaction.execute(&statement, &[]).await?;
    }
    prove(&mut transaction, &role).await?;
    transaction.commit().await
}

/// Whether the host's user can work as the role at all: better to learn it now than in every statement.
async fn prove(transaction: &mut Transaction, role: &str) -> Result<(), DatabaseError> {
    transaction.execute(&format!("SET LOCAL ROLE {role}"), &[]).await?;
    transaction.execute("SET LOCAL ROLE NONE", &[]).await.map(drop)
}

/// Whether there is the role, the host's user can work as it, and it can find the tables. A user that made a role is a
/// member with the right to give it away and, since version 16, no right to work as it until it has given it to itself.
async fn is_ready(database: &Database, role: &str) -> Result<bool, DatabaseError> {
    let sql = "SELECT 1 AS one FROM pg_roles r, pg_roles me WHERE r.rolname = $1 AND me.rolname = current_user \
               AND has_schema_privilege(r.oid, current_schema()::text, 'USAGE') \
               AND (me.rolsuper OR EXISTS (SELECT 1 FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = me.oid \
               AND NOT m.admin_option))";
    Ok(database.query_one(sql, &values![role]).await?.is_some())
}

/// Every table there is, and how it stands to the role.
async fn tables(database: &Database, role: &str) -> Result<Vec<Table>, DatabaseError> {
    let sql = "SELECT t.name, t.is_view, t.is_granted, t.has_organization, t.has_text, EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = t.id AND p.polname = $2 \
                                   AND p.polcmd::text = CASE WHEN t.has_text THEN 'r' ELSE '*' END) AS has_policy \
               FROM (SELECT c.oid AS id, c.relname::text AS name, c.relkind = 'v' AS is_view, \
                     EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = $1 \
                             AND has_table_privilege(r.oid, c.oid, CASE c.relkind WHEN 'v' THEN 'SELECT' ELSE 'INSERT' END)) AS is_granted, \
                     EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id' \
                             AND NOT a.attisdropped) AS has_organization, \
                     EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid \
                             AND a.atttypid = 'tsvector'::regtype AND NOT a.attisdropped) AS has_text \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE (c.relkind = 'r' OR c.relkind = 'v' AND starts_with(c.relname::text, $3)) AND n.nspname = current_schema()) t ORDER BY t.name";
    let rows = database.query(sql, &values![role, POLICY, vector_index::PREFIX]).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Table {
                name: row.text("name")?,
                is_view: row.boolean("is_view")?,
                is_granted: row.boolean("is_granted")?,
                has_organization: row.boolean("has_organization")?,
                has_text: row.boolean("has_text")?,
                has_policy: row.boolean("has_policy")?,
            })
        })
        .collect()
}

/// A plugin's name is small letters, digits and hyphens, at most 40 of them; a role's has 63 bytes.
fn role_of(plugin: &str) -> String {
    format!("berth_{plugin}")
}

/// A name in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
