//! What time does: warnings before an expiry, and the end of what was deleted long ago.

use std::time::Duration;

use berth_sdk::{events::Message, prelude::*};

use crate::{
    audit::{self, Outcome, Subject},
    secret::{RECOVERY, Scope},
    vault,
};

/// How many days before the expiry a warning goes out, each once.
const WARNINGS: [i64; 4] = [30, 14, 7, 1];
/// Secrets that one tick looks at; the rest follow with the next.
const SECRETS_MAX: usize = 500;
const BATCH: usize = 50;
/// How long uses are kept.
const USAGE_DAYS: u64 = 90;
/// How long audit rows are kept.
const AUDIT_DAYS: u64 = 730;

#[data]
struct Row {
    id: Id,
    /// Whose administrators are told; none of a GLOBAL secret from before this was noted.
    organization_id: Option<Id>,
    name: String,
    r#type: String,
    scope: Scope,
    user_id: Option<Id>,
    created_by: Option<Id>,
    expires_at: Timestamp,
    expiry_notice: Option<i64>,
}

impl Row {
    /// Whom an expiry concerns: the user whose own it is, and nobody else; who made what belongs to a team or a project. What
    /// belongs to the organization concerns its administrators, who are not named.
    fn owner(&self) -> Option<&Id> {
        match self.scope {
            Scope::User => self.user_id.as_ref(),
            Scope::Team | Scope::Project => self.created_by.as_ref(),
            Scope::Global | Scope::Organization => None,
        }
    }
}

/// The narrowest warning that is due, in days; 0 once it has expired. None: still far away.
fn due(expires_at: Timestamp, now: Timestamp) -> Option<i64> {
    let left = expires_at.millis() - now.millis();
    if left <= 0 {
        return Some(0);
    }
    WARNINGS.into_iter().rev().find(|days| left <= days * 86_400_000)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// The timer `expiry`.
pub(crate) fn expiry(_: &Envelope) -> Result<()> {
    let now = clock::now();
    // A secret is looked at when the widest warning is due and the last one was not yet given.
    let rows: Vec<Row> = database::query_as(
        &Pool,
        &format!(
            "SELECT id, COALESCE(organization_id, home_organization_id) AS \"organizationId\", name, type, scope, user_id AS \"userId\", \
             created_by AS \"createdBy\", expires_at AS \"expiresAt\", expiry_notice AS \"expiryNotice\" FROM secret_secrets WHERE deleted_at IS NULL AND expires_at <= $1 AND \
             (expiry_notice IS NULL OR (expires_at <= $2 AND expiry_notice > 0) OR (expires_at <= $3 AND expiry_notice > 1) \
             OR (expires_at <= $4 AND expiry_notice > 7) OR (expires_at <= $5 AND expiry_notice > 14)) \
             ORDER BY expires_at, id LIMIT {SECRETS_MAX}"
        ),
        params![now.plus(days(30)), now, now.plus(days(1)), now.plus(days(7)), now.plus(days(14))],
    )?;
    for batch in rows.chunks(BATCH) {
        database::transaction(|transaction| batch.iter().try_for_each(|row| warn(transaction, row, now)))?;
    }
    Ok(())
}

fn warn(transaction: &Transaction, row: &Row, now: Timestamp) -> Result<()> {
    let Some(notice) = due(row.expires_at, now) else { return Ok(()) };
    if row.expiry_notice.is_some_and(|given| given <= notice) {
        return Ok(());
    }
    let changed = transaction.execute(
        "UPDATE secret_secrets SET expiry_notice = $2 WHERE id = $1 AND (expiry_notice IS NULL OR expiry_notice > $2)",
        params![&row.id, notice],
    )?;
    if changed == 0 {
        return Ok(());
    }
    let kind = if notice == 0 { "secret.expired" } else { "secret.expiring" };
    let data = json!({
        "id": row.id, "secretId": row.id, "name": row.name, "type": row.r#type, "scope": row.scope,
        "expiresAt": row.expires_at, "days": notice, "ownerId": row.owner(),
    });
    let mut message = Message::new(kind, &data)?.with_key(row.id.as_str());
    if let Some(organization_id) = &row.organization_id {
        message = message.for_organization(organization_id.as_str());
    }
    transaction.send(&message)?;
    Ok(())
}

/// The timer `purge`.
pub(crate) fn purge(_: &Envelope) -> Result<()> {
    let now = clock::now();
    let rows = database::query(
        &format!(
            "SELECT id, organization_id, COALESCE(organization_id, home_organization_id) AS home, name, storage_backend \
             FROM secret_secrets WHERE deleted_at IS NOT NULL AND recovery_deadline <= $1 \
             ORDER BY recovery_deadline, id LIMIT {SECRETS_MAX}"
        ),
        params![now],
    )?;
    for row in rows {
        let (id, organization_id): (Id, Option<Id>) = (row.get("id")?, row.get("organization_id")?);
        let name: String = row.get("name")?;
        let is_elsewhere = row.get::<String>("storage_backend")? != "LOCAL_ENCRYPTED";
        match row.get::<Option<Id>>("home")? {
            // How the vault is reached opens only for an organization: its own, or that which looks after what is everybody's.
            Some(home) if is_elsewhere => {
                let message = Message::new("secret.purge", &json!({ "secretId": id }))?;
                events::enqueue_message(&message.for_organization(home.as_str()))?;
                continue;
            }
            None if is_elsewhere => {
                logging::warn!("a secret of no known organization stays in its vault", secret = id);
            }
            _ => {}
        }
        let subject = subject(&id, organization_id.as_ref(), &name);
        database::transaction(|transaction| erase(transaction, &id, &subject, now))?;
    }
    for (sql, kept) in [
        ("DELETE FROM secret_usage WHERE used_at < $1", USAGE_DAYS),
        ("DELETE FROM secret_audit_logs WHERE timestamp < $1", config::get_or("audit_days", AUDIT_DAYS)),
    ] {
        database::execute(sql, params![now.minus(days(kept))])?;
    }
    Ok(())
}

fn subject<'a>(id: &'a Id, organization_id: Option<&'a Id>, name: &'a str) -> Subject<'a> {
    Subject { organization_id: organization_id.map(Id::as_str), secret_id: Some(id), secret_name: Some(name) }
}

/// Removes what is still over its time; somebody may have restored it meanwhile.
fn erase(transaction: &Transaction, id: &Id, subject: &Subject<'_>, now: Timestamp) -> Result<()> {
    let sql = "DELETE FROM secret_secrets WHERE id = $1 AND deleted_at IS NOT NULL AND recovery_deadline <= $2";
    if transaction.execute(sql, params![id, now])? == 0 {
        return Ok(());
    }
    for table in ["secret_versions", "secret_access_grants", "secret_usage"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE secret_id = $1"), params![id])?;
    }
    audit::note(transaction, subject, "purge", Outcome::Success, json!({}))
}

/// Handles `secret.purge`: a secret whose value lies elsewhere.
pub(crate) fn purge_elsewhere(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Work {
        secret_id: Id,
    }
    let Work { secret_id } = envelope.data()?;
    let Some(secret) = entity::find::<crate::secret::Secret>(&Pool, &secret_id)? else { return Ok(()) };
    if secret.recovery_deadline.is_some_and(|end| end <= clock::now()) {
        vault::destroy(&secret);
        let subject = Subject::from(&secret);
        database::transaction(|transaction| erase(transaction, &secret_id, &subject, clock::now()))?;
    }
    Ok(())
}

/// Handles `user.account_deleted`: what was the user's alone goes with them.
pub(crate) fn forget_user(envelope: &Envelope) -> Result<()> {
    #[data]
    struct Gone {
        user_id: Id,
    }
    let Gone { user_id } = envelope.data()?;
    let now = clock::now();
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let rows = transaction.query(
            "SELECT id, organization_id, name FROM secret_secrets WHERE scope = 'USER' AND user_id = $1 AND deleted_at IS NULL",
            params![&user_id],
        )?;
        for row in rows {
            let (id, organization_id, name): (Id, Option<Id>, String) =
                (row.get("id")?, row.get("organization_id")?, row.get("name")?);
            transaction.execute(
                "UPDATE secret_secrets SET deleted_at = $2, deleted_by = $3, recovery_deadline = $4, updated_at = $2, \
                 version = version + 1 WHERE id = $1",
                params![&id, now, "system", now.plus(RECOVERY)],
            )?;
            let details = json!({ "reason": "the account was deleted" });
            let subject = subject(&id, organization_id.as_ref(), &name);
            audit::note(transaction, &subject, "delete", Outcome::Success, details)?;
            let data = json!({"id": id, "secretId": id, "name": name, "scope": Scope::User});
            let message = Message::new("secret.deleted", &data)?.with_key(id.as_str());
            let own = auth::principal().organization_id;
            transaction.send(&match organization_id.filter(|_| own.is_none()) {
                Some(organization_id) => message.for_organization(organization_id.as_str()),
                None => message,
            })?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn warnings_come_at_thirty_fourteen_seven_and_one_day() {
        let end = Timestamp::from_millis(100 * 86_400_000);
        let before = |hours: u64| due(end, end.minus(Duration::from_secs(hours * 3_600)));
        assert_eq!(before(31 * 24), None);
        assert_eq!(before(30 * 24), Some(30));
        assert_eq!(before(14 * 24 + 1), Some(30));
        assert_eq!(before(14 * 24), Some(14));
        assert_eq!(before(7 * 24), Some(7));
        assert_eq!(before(25), Some(7));
        assert_eq!(before(24), Some(1));
        assert_eq!(before(0), Some(0));
    }

    #[test]
    fn an_expiry_concerns_the_user_whose_own_it_is_and_nobody_else() {
        let owner = |scope: &str| {
            let fields = json!({"id": "s1", "organizationId": "o1", "name": "n", "type": "GENERIC", "scope": scope,
                "userId": (scope == "USER").then_some("u1"), "createdBy": "u2", "expiresAt": "2026-01-01T00:00:00.000Z"});
            let row: Row = berth_sdk::serde_json::from_value(fields).unwrap();
            row.owner().map(|id| id.as_str().to_string())
        };
        assert_eq!((owner("USER").as_deref(), owner("TEAM").as_deref()), (Some("u1"), Some("u2")));
        assert_eq!((owner("ORGANIZATION"), owner("GLOBAL")), (None, None));
    }

    proptest! {
        #[test]
        fn warnings_only_narrow(one in 0..4_000_000_000_i64, more in 0..1_000_000_000_i64) {
            let end = Timestamp::from_millis(5_000_000_000);
            let at = |millis: i64| due(end, Timestamp::from_millis(millis)).unwrap_or(i64::MAX);
            prop_assert!(at(one + more) <= at(one));
        }
    }
}
