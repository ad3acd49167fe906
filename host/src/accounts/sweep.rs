//! What time does to the main app's rows: sessions, attempts and invitations end, deleted users go for good.
//!
//! Each statement takes a bounded number of rows, so that a sweep never holds the database for long.

use chrono::Duration;

use super::error::AccountsError;
use super::{Accounts, invitations};
use crate::database::values;

/// Rows that one statement of a sweep takes.
const ROWS_MAX: usize = 1_000;
/// How long ended sessions are kept, for the audit's sake.
const SESSIONS_KEPT: Duration = Duration::days(30);
/// How long attempts to sign in are kept.
const ATTEMPTS_KEPT: Duration = Duration::days(30);
/// How long ended API keys are kept, for the audit's sake.
const KEYS_KEPT: Duration = Duration::days(90);
/// How long the rows of deleted users are kept.
const USERS_KEPT: Duration = Duration::days(90);

impl Accounts {
    /// Removes what is over. To be called about once an hour; any number of hosts may do it at once.
    pub(crate) async fn sweep(&self) -> Result<(), AccountsError> {
        let now = self.now();
        self.load_operator_organization().await?;
        while invitations::sweep(&self.database, &self.queue, now).await? > 0 {}
        for (table, key, condition, before) in [
            (
                "berth_rotated_tokens",
                "token_hash",
                "rotated_at < $1",
                now - Duration::days(super::sessions::REFRESH_DAYS),
            ),
            ("sessions", "id", "expires_at < $1 OR revoked_at < $1", now - SESSIONS_KEPT),
            ("login_attempts", "id", "at < $1", now - ATTEMPTS_KEPT),
            ("one_time_tokens", "id", "expires_at < $1", now - Duration::days(1)),
            ("berth_used_login_states", "state_hash", "used_at < $1", now - Duration::days(1)),
            ("berth_api_keys", "id", "expires_at < $1 OR revoked_at < $1", now - KEYS_KEPT),
            // Codes that no custom role names any more; those of the catalogue stay.
            (
                "permissions",
                "id",
                "updated_at < $1 AND NOT is_system_permission \
                 AND id NOT IN (SELECT permission_id FROM role_permissions)",
                now - Duration::days(1),
            ),
        ] {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {condition} LIMIT {ROWS_MAX})"
            );
            while self.database.execute(&sql, &values![before]).await? as usize == ROWS_MAX {}
        }
        self.purge_users(now - USERS_KEPT).await
    }

    /// Deletes users for good, with all that belongs to them alone.
    async fn purge_users(&self, before: chrono::DateTime<chrono::Utc>) -> Result<(), AccountsError> {
        let sql = format!("SELECT id, email FROM users WHERE deleted_at < $1 ORDER BY deleted_at LIMIT {ROWS_MAX}");
        for row in &self.database.query(&sql, &values![before]).await? {
            let (id, email) = (row.text("id")?, row.text("email")?);
            let mut transaction = self.database.begin().await?;
            for table in [
                "berth_api_keys",
                "sessions",
                "accounts",
                "password_history",
                "one_time_tokens",
                "team_members",
                "organization_memberships",
                "berth_resource_permissions",
                "login_attempts",
            ] {
                transaction.execute(&format!("DELETE FROM {table} WHERE user_id = $1"), &values![&id]).await?;
            }
            // Attempts and invitations know people by their address only.
            for table in ["login_attempts", "invitations"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE email = $1"), &values![&email]).await?;
            }
            transaction.execute("DELETE FROM users WHERE id = $1 AND deleted_at < $2", &values![&id, before]).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}
