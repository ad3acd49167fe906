//! What a secret was used for, by whom and when; and the report on their state.

use std::time::Duration;

use berth_sdk::{prelude::*, serde_json::Value};

use crate::{rights, secret, secret::Secret};

/// Lines of each list in the report.
const LISTED_MAX: i64 = 200;

/// One use.
#[entity(table = "secret_usage", name = "use", sort = "-usedAt", global)]
pub(crate) struct Use {
    pub secret_id: String,
    #[field(filter)]
    pub consumer_module: String,
    pub consumer_resource_id: Option<String>,
    #[field(filter)]
    pub user_id: Option<String>,
    pub used_at: Timestamp,
}

impl Rules for Use {}

/// Writes a use, in the transaction of its audit.
pub(crate) fn note(
    transaction: &Transaction,
    secret: &Stored<Secret>,
    consumer: &str,
    resource_id: Option<&str>,
) -> Result<()> {
    let user_id = auth::principal().user_id;
    transaction.execute(
        "INSERT INTO secret_usage (id, organization_id, created_by, created_at, updated_at, version, secret_id, \
         consumer_module, consumer_resource_id, user_id, used_at) VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $3, $4)",
        params![
            Id::new(),
            auth::principal().organization_id,
            user_id,
            clock::now(),
            &secret.id,
            consumer,
            resource_id.map(ToString::to_string),
        ],
    )?;
    Ok(())
}

/// `GET /api/secrets/{id}/usage`: for who manages the secret.
pub(crate) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Use>>>> {
    let secret = secret::live(&Pool, &id)?;
    rights::require(&secret, "usage", |rights| rights.manage)?;
    Select::new().equal("secret_id", id).page(&Pool, &query)
}

/// A line of the report.
#[data]
struct Line {
    id: String,
    name: String,
    r#type: String,
    scope: String,
    expires_at: Option<Timestamp>,
    next_rotation_at: Option<Timestamp>,
    last_rotated_at: Option<Timestamp>,
    created_at: Timestamp,
}

/// `GET /api/secrets/compliance/report`: age, rotation, expiry and access of what the organization has.
pub(crate) fn report() -> Result<Json<Value>> {
    rights::require_admin()?;
    let organization_id = auth::organization_id()?;
    let now = clock::now();
    let day = |days: u64| Duration::from_secs(days * 86_400);
    let counted = database::query_one(
        "SELECT COUNT(*) AS total, SUM(CASE WHEN expires_at <= $2 THEN 1 ELSE 0 END) AS expired, \
         SUM(CASE WHEN expires_at > $2 AND expires_at <= $3 THEN 1 ELSE 0 END) AS expiring, \
         SUM(CASE WHEN rotation_enabled = FALSE THEN 1 ELSE 0 END) AS unrotated, \
         SUM(CASE WHEN next_rotation_at <= $2 THEN 1 ELSE 0 END) AS overdue, \
         SUM(CASE WHEN COALESCE(last_rotated_at, created_at) <= $4 THEN 1 ELSE 0 END) AS old, \
         SUM(CASE WHEN NOT EXISTS (SELECT 1 FROM secret_usage u WHERE u.secret_id = secret_secrets.id AND u.used_at > $5) \
         THEN 1 ELSE 0 END) AS unused \
         FROM secret_secrets WHERE organization_id = $1 AND deleted_at IS NULL",
        params![&organization_id, now, now.plus(day(30)), now.minus(day(365)), now.minus(day(90))],
    )?
    .ok_or_else(Problem::internal)?;
    let count = |name: &str| counted.get::<Option<i64>>(name).map(Option::unwrap_or_default);
    let audited = database::query_one(
        "SELECT SUM(CASE WHEN category = 'access' THEN 1 ELSE 0 END) AS reads, \
         SUM(CASE WHEN outcome = 'DENIED' THEN 1 ELSE 0 END) AS denied, \
         SUM(CASE WHEN outcome = 'FAILURE' THEN 1 ELSE 0 END) AS failed \
         FROM secret_audit_logs WHERE organization_id = $1 AND timestamp > $2",
        params![&organization_id, now.minus(day(30))],
    )?
    .ok_or_else(Problem::internal)?;
    let events = |name: &str| audited.get::<Option<i64>>(name).map(Option::unwrap_or_default);
    let list = |condition: &str| -> Result<Vec<Line>, Fault> {
        database::query_as(
            &Pool,
            &format!(
                "SELECT id, name, type, scope, expires_at AS \"expiresAt\", next_rotation_at AS \"nextRotationAt\", \
                 last_rotated_at AS \"lastRotatedAt\", created_at AS \"createdAt\" FROM secret_secrets \
                 WHERE organization_id = $1 AND deleted_at IS NULL AND scope <> 'USER' AND {condition} <= $2 \
                 ORDER BY {condition}, id LIMIT {LISTED_MAX}"
            ),
            params![&organization_id, now],
        )
    };
    Ok(Json(json!({
        "generatedAt": now,
        "totals": {
            "secrets": count("total")?, "expired": count("expired")?, "expiringIn30Days": count("expiring")?,
            "withoutRotation": count("unrotated")?, "rotationOverdue": count("overdue")?,
            "olderThanOneYear": count("old")?, "notUsedFor90Days": count("unused")?,
        },
        "last30Days": { "accesses": events("reads")?, "denied": events("denied")?, "failures": events("failed")? },
        "expired": list("expires_at")?,
        "rotationOverdue": list("next_rotation_at")?,
    })))
}
