//! Grants: who may use a secret beyond those who manage it, and which services the host may put it in for.

use berth_sdk::prelude::*;

use crate::{
    audit::{self, Outcome, Subject},
    rights,
    secret::{self, Secret},
};

/// Grants of one secret.
const GRANTS_MAX: i64 = 500;

/// Who gets it.
#[choice(upper)]
pub(crate) enum GranteeType {
    User,
    Team,
    Role,
    Service,
}

/// One grant.
#[entity(table = "secret_access_grants", name = "grant", sort = "createdAt", global)]
pub(crate) struct Grant {
    #[field(readonly)]
    #[field(default)]
    pub secret_id: String,
    pub grantee_type: GranteeType,
    /// A user, a team, a role, or the name of a service; `*` for every service.
    #[field(min = 1, max = 64)]
    pub grantee_id: String,
    #[field(default = true)]
    pub can_read: bool,
    #[field(default = false)]
    pub can_update: bool,
    #[field(default = false)]
    pub can_delete: bool,
    #[field(default = false)]
    pub can_grant: bool,
    pub expires_at: Option<Timestamp>,
    #[field(readonly)]
    pub granted_by: Option<String>,
}

impl Rules for Grant {
    fn check(&self, faults: &mut Faults) {
        let is_every_service = self.grantee_type == GranteeType::Service && self.grantee_id == "*";
        if !is_every_service && validate::id(&self.grantee_id).is_err() {
            faults.add("granteeId", "must be the id of a user, a team or a role, or the name of a service");
        }
        if self.grantee_type == GranteeType::Service && (self.can_update || self.can_delete || self.can_grant) {
            faults.add("granteeType", "a service can only use a secret");
        }
    }
}

impl Grant {
    /// That a service may use a secret.
    pub(crate) fn of_service(name: &str) -> Self {
        Self {
            secret_id: String::new(),
            grantee_type: GranteeType::Service,
            grantee_id: name.into(),
            can_read: true,
            can_update: false,
            can_delete: false,
            can_grant: false,
            expires_at: None,
            granted_by: None,
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it lets this service use the secret now.
    pub(crate) fn admits_service(&self, service: &str, now: Timestamp) -> bool {
        let is_named = self.grantee_id == service || self.grantee_id == "*";
        self.grantee_type == GranteeType::Service && is_named && self.can_read && !self.is_expired(now)
    }
}

/// The grants of these secrets, in one query.
pub(crate) fn of(database: &dyn Executor, secret_ids: &[&str]) -> Result<Vec<Stored<Grant>>> {
    Select::<Grant>::new().one_of("secret_id", secret_ids.iter().copied()).limit(GRANTS_MAX * 4).all(database)
}

/// Adds a grant in the transaction of its secret's change. A grant that is there already is changed.
pub(crate) fn add(transaction: &Transaction, secret: &Stored<Secret>, mut grant: Grant) -> Result<Stored<Grant>> {
    grant.secret_id = secret.id.as_str().into();
    grant.granted_by = auth::principal().user_id;
    lock(transaction, secret)?;
    let present = Select::<Grant>::new().equal("secret_id", &secret.id);
    if present.count(transaction)? >= GRANTS_MAX {
        return Err(Problem::unprocessable(format!("A secret has at most {GRANTS_MAX} grants.")));
    }
    let same = present.equal("grantee_type", grant.grantee_type).equal("grantee_id", grant.grantee_id.as_str());
    let stored = match same.first(transaction)? {
        Some(mut old) => {
            old.data = grant;
            entity::save(transaction, &mut old)?;
            old
        }
        None => {
            let stored = entity::create(transaction, grant)?;
            if secret.organization_id.is_none() {
                // It belongs to whom its secret belongs: to everybody.
                let sql = "UPDATE secret_access_grants SET organization_id = NULL WHERE id = $1";
                transaction.execute(sql, params![&stored.id])?;
            }
            stored
        }
    };
    let details = json!({"granteeType": stored.grantee_type, "granteeId": stored.grantee_id, "grantId": stored.id});
    audit::note(transaction, &Subject::from(secret), "access.granted", Outcome::Success, details.clone())?;
    secret::tell(transaction, "secret.access.granted", secret, details)?;
    Ok(stored)
}

/// Lets whoever else grants something of this secret wait until the end of the transaction: who has two grants would keep one
/// when the other is revoked.
fn lock(transaction: &Transaction, secret: &Stored<Secret>) -> Result<()> {
    transaction.execute("UPDATE secret_secrets SET version = version WHERE id = $1", params![&secret.id])?;
    Ok(())
}

/// `GET /api/secrets/{id}/access`.
pub(crate) fn list(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Grant>>>> {
    let secret = secret::live(&Pool, &id)?;
    rights::require(&secret, "access.list", |rights| rights.grant || rights.manage)?;
    Select::new().equal("secret_id", id).page(&Pool, &query)
}

/// `POST /api/secrets/{id}/access`. Nobody gives a right that they do not hold.
pub(crate) fn grant(Params(id): Params<Id>, Json(grant): Json<Grant>) -> Result<Created<Stored<Grant>>> {
    let secret = secret::live(&Pool, &id)?;
    let held = rights::require(&secret, "access.grant", |rights| rights.grant)?;
    let exceeds = (grant.can_read && !held.read)
        || (grant.can_update && !held.update)
        || (grant.can_delete && !held.delete)
        || (grant.can_grant && !held.grant);
    if exceeds {
        return Err(rights::denied(&secret, "access.grant"));
    }
    database::transaction(|transaction| add(transaction, &secret, grant)).map(Created)
}

/// `DELETE /api/secrets/{id}/access/{grantId}`.
pub(crate) fn revoke(Params((id, grant_id)): Params<(Id, Id)>) -> Result<NoContent> {
    let secret = secret::live(&Pool, &id)?;
    rights::require(&secret, "access.revoke", |rights| rights.grant)?;
    database::transaction(|transaction| {
        let grant = entity::read::<Grant>(transaction, &grant_id)?;
        if grant.secret_id != secret.id.as_str() {
            return Err(Problem::missing("grant"));
        }
        let sql = "DELETE FROM secret_access_grants WHERE id = $1";
        if transaction.execute(sql, params![&grant_id])? == 0 {
            return Err(Problem::missing("grant"));
        }
        let details = json!({"granteeType": grant.grantee_type, "granteeId": grant.grantee_id, "grantId": grant_id});
        audit::note(transaction, &Subject::from(&secret), "access.revoked", Outcome::Success, details.clone())?;
        secret::tell(transaction, "secret.access.revoked", &secret, details)?;
        Ok(NoContent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_admitted_by_its_name_or_a_star_until_the_grant_expires() {
        let now = Timestamp::from_millis(1_000);
        assert!(Grant::of_service("workflow").admits_service("workflow", now));
        assert!(Grant::of_service("*").admits_service("workflow", now));
        assert!(!Grant::of_service("workflow").admits_service("ai-service", now));
        let mut over = Grant::of_service("*");
        over.expires_at = Some(now);
        assert!(!over.admits_service("workflow", now));
        let user = Grant { grantee_type: GranteeType::User, ..Grant::of_service("workflow") };
        assert!(!user.admits_service("workflow", now));
    }
}
