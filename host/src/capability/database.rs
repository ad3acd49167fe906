//! The database room: what a guest may ask of the database.
//!
//! Every statement is checked before it runs: one plain statement, only tables under the plugin's own prefixes, only
//! harmless functions. A call has at most one open transaction, and it never outlives the call.

pub(crate) mod backend;
#[cfg(test)]
mod conformance;
mod host;
mod shares;
mod statement;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Guest;
use crate::database::{Database, DatabaseError, Scope, Transaction, values};
use backend::TransactionalOutbox;
use host::Handles;
pub use host::TransactionHandle;
pub(crate) use host::link;
pub(super) use host::unsent_id;
use shares::Shares;
use statement::Statements;
pub(crate) use transaction::CallState;

/// How long a guest's transaction may stay open.
pub(crate) const TRANSACTION_MAX: Duration = Duration::from_secs(10);
/// Bytes of all parameters of one statement.
pub(crate) const PARAMETER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages one transaction may publish.
pub(crate) const MESSAGES_MAX: u32 = 1_000;
/// Bytes of a message id.
pub(crate) const MESSAGE_ID_BYTES_MAX: usize = 256;
/// How long a handled message is remembered.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(72 * 60 * 60);

/// The room, host-wide. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DatabaseRoom {
    database: Database,
    outbox: Arc<dyn TransactionalOutbox>,
    statements: Statements,
    shares: Arc<Shares>,
    /// Where transactions are watched.
    threads: Handle,
}

/// What the room may know of a call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
    pub room: &'a DatabaseRoom,
    pub state: &'a mut CallState,
    pub table: &'a mut Handles,
}

impl DatabaseRoom {
    /// The room over a database whose host migrations have been applied. To be called in the host's own runtime.
    pub(crate) fn new(database: Database, outbox: Arc<dyn TransactionalOutbox>) -> Self {
        let shares = Arc::new(Shares::new(&database));
        Self { database, outbox, statements: Statements::new(), shares, threads: Handle::current() }
    }
}

/// On whose behalf a guest's statements run. Operators of the platform see beyond their own organization.
fn scope(guest: &Guest) -> Scope<'_> {
    let principal = &guest.call.principal;
    let organization = principal.organization_id.as_deref().filter(|_| !principal.is_platform);
    Scope { plugin: Some(&guest.plugin.name), organization }
}

/// Notes a handled message in the plugin's ledger. False when it is there already.
///
/// Publishers choose ids, each organization's for itself, so what is noted is the organization and the id. A row of the id alone
/// is from a host that did not note the organization yet: its message may still come again.
async fn note_handled(transaction: &mut Transaction, guest: &Guest, id: &str) -> Result<bool, DatabaseError> {
    let sql = "INSERT INTO berth_handled (plugin, message_id, handled_at) SELECT $1, $2, $3 WHERE NOT EXISTS \
               (SELECT 1 FROM berth_handled WHERE plugin = $1 AND message_id = $4 AND handled_at >= $5) \
               ON CONFLICT (plugin, message_id) DO UPDATE SET handled_at = excluded.handled_at \
               WHERE berth_handled.handled_at < $5";
    let key = format!("{}/{id}", guest.call.principal.organization_id.as_deref().unwrap_or_default());
    let now = chrono::Utc::now();
    let noted = transaction.execute(sql, &values![&guest.plugin.name, key, now, id, now - REMEMBERED]).await?;
    Ok(noted == 1)
}
