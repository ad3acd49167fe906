//! Secret management: credentials, sealed, versioned, scoped and audited, for people who may read them and for services
//! that only name them. No value is ever logged, published or cached.

mod access;
mod audit;
mod host_use;
mod keys;
mod reauthentication;
mod rights;
mod secret;
mod timers;
mod transfer;
mod usage;
mod vault;

use berth_sdk::{migrations, prelude::*};

use keys::rotation;
use secret::{api, read};

fn service() -> Service {
    Service::new("secret-management", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/secret-management/0001_secrets.sql",
            "../../../migrations/secret-management/0002_home.sql",
        ])
        .routes(secrets())
        .routes(values())
        .routes(around())
        .on("user.account_deleted", timers::forget_user)
        .work("secret.reencrypt", rotation::step)
        .work("secret.purge", timers::purge_elsewhere)
        .timer("expiry", "daily", timers::expiry)
        .timer("purge", "daily", timers::purge)
        .timer("reencrypt", "1m", rotation::tick)
        .ready_when(keys::ready)
}

fn secrets() -> Router {
    Router::new()
        .post("/api/secrets", api::create)
        .summary("Create a secret with its first version.")
        .makes::<secret::Secret>()
        .takes::<secret::api::NewSecret>()
        .answers::<Stored<secret::Secret>>(201)
        .get("/api/secrets", api::list)
        .summary("List the secrets that the caller may see, without values.")
        .get("/api/secrets/{id}", api::read_one)
        .summary("Read what is known of a secret, without its value.")
        .put("/api/secrets/{id}", api::update)
        .summary("Change everything of a secret but its value.")
        .changes::<secret::Secret>()
        // Each right is judged by the secret's scope and grants, not by the role.
        .delete("/api/secrets/{id}", api::remove)
        .permission("secrets.secret.update")
        .summary("Delete a secret; it can be restored for thirty days.")
        .post("/api/secrets/{id}/restore", api::restore)
        .summary("Restore a deleted secret.")
        .delete("/api/secrets/{id}/permanent", api::destroy)
        .permission("secrets.secret.update")
        .summary("Delete a secret for good; needs a sign-in of the last five minutes.")
        .get("/api/secrets/{id}/versions", api::list_versions)
        .summary("List the versions of a secret, without values.")
        .get("/api/secrets/{id}/versions/{version}", api::read_version)
        .summary("Read what is known of a version.")
        .path_number("version")
        .put("/api/secrets/{id}/value", api::change_value)
        .summary("Give a secret a new value.")
        .post("/api/secrets/{id}/rotate", api::rotate)
        .summary("Rotate the value of a secret.")
        .post("/api/secrets/{id}/rollback", api::roll_back)
        .summary("Make an old value the newest one.")
        .get("/api/secrets/{id}/access", access::list)
        .summary("List the grants of a secret.")
        .post("/api/secrets/{id}/access", access::grant)
        .summary("Grant access to a user, a team, a role or a service.")
        .delete("/api/secrets/{id}/access/{grantId}", access::revoke)
        .permission("secrets.secret.update")
        .summary("Revoke a grant.")
        .get("/api/secrets/{id}/usage", usage::list)
        .summary("List what a secret was used for.")
}

fn values() -> Router {
    Router::new()
        .get("/api/secrets/{id}/value", read::read)
        .summary("Read the value of a secret.")
        .post("/api/secrets/resolve", read::resolve)
        .permission("secrets.secret.read")
        .summary("Read several values.")
        .post("/api/secrets/resolve/config", read::resolve_config)
        .permission("secrets.secret.read")
        .summary("Replace the references in a configuration by values.")
        .get("/api/secrets/export", read::export)
        .summary("Export secrets as JSON or as an env file.")
        .post("/api/secrets/host/use", host_use::answer)
        .signed_in()
        .summary("For the host alone: what it puts into outgoing requests.")
}

fn around() -> Router {
    Router::new()
        .post("/api/secrets/import/env", transfer::import_env)
        .summary("Import an env file.")
        .post("/api/secrets/import/json", transfer::import_json)
        .summary("Import secrets from JSON.")
        .post("/api/secrets/migrate", transfer::migrate)
        .permission("secrets.secret.update")
        .summary("Move secrets to another storage backend.")
        .get("/api/secrets/audit", audit::list)
        .summary("List audit rows.")
        .get("/api/secrets/audit/{id}", audit::of_secret)
        .summary("List the audit rows of a secret.")
        .get("/api/secrets/compliance/report", usage::report)
        .summary("Report on age, rotation, expiry and access.")
        .get("/api/secrets/keys", rotation::list)
        .summary("List the data keys.")
        .post("/api/secrets/keys/rotate", rotation::rotate)
        .summary("Start a rotation of the data keys.")
        .delete("/api/secrets/keys/{id}", rotation::destroy)
        .summary("Destroy a retired data key.")
        .get("/api/vaults", vault::list)
        .summary("List the vault configurations.")
        .post("/api/vaults", vault::create)
        .permission("vaults.vault.manage")
        .summary("Create a vault configuration.")
        .answers::<Stored<vault::Vault>>(201)
        .get("/api/vaults/{id}", vault::read)
        .summary("Read a vault configuration.")
        .put("/api/vaults/{id}", vault::update)
        .permission("vaults.vault.manage")
        .summary("Change a vault configuration.")
        .changes::<vault::Vault>()
        .delete("/api/vaults/{id}", vault::remove)
        .summary("Delete a vault configuration.")
        .post("/api/vaults/{id}/health", vault::check_health)
        .permission("vaults.vault.manage")
        .summary("Check a vault.")
        .post("/api/vaults/{id}/default", vault::make_default)
        .permission("vaults.vault.manage")
        .summary("Make a vault the default one.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let wanted = "POST |GET |GET /{id}|GET /{id}/value|PUT /{id}|PUT /{id}/value|DELETE /{id}|POST /{id}/restore|\
            DELETE /{id}/permanent|POST /resolve|POST /resolve/config|POST /{id}/rotate|GET /{id}/versions|\
            GET /{id}/versions/{version}|POST /{id}/rollback|GET /{id}/access|POST /{id}/access|\
            DELETE /{id}/access/{grantId}|POST /import/env|POST /import/json|GET /export|POST /migrate|GET /audit|\
            GET /audit/{id}|GET /compliance/report|POST /keys/rotate|GET /keys";
        let vaults = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|POST /{id}/health|POST /{id}/default";
        for (prefix, wanted) in [("/api/secrets", wanted), ("/api/vaults", vaults)] {
            assert_eq!(berth_sdk::testing::missing_routes(&service(), prefix, wanted), Vec::<String>::new());
        }
    }

    #[test]
    fn the_hosts_route_does_not_exist_for_anybody_else() {
        berth_sdk::testing::sign_in("u1", "o1");
        let body = json!({"service": "workflow", "purpose": "http", "references": [{"secretId": "s1"}]});
        let response = service().handle(Request::new("POST", "/api/secrets/host/use").with_json(&body));
        assert_eq!(response.status, 404);
        assert_eq!(response.json_body().unwrap()["code"], "ROUTE_NOT_FOUND");
    }

    #[test]
    fn another_component_reads_no_value() {
        let principal = auth::Principal {
            user_id: Some("u1".into()),
            organization_id: Some("o1".into()),
            source_service: Some("workflow".into()),
            is_super_admin: true,
            ..auth::Principal::anonymous()
        };
        berth_sdk::testing::become_principal(principal);
        for (method, path, body) in [
            ("GET", "/api/secrets/s1/value", json!({})),
            ("POST", "/api/secrets/resolve", json!({"secretIds": ["s1"]})),
            ("POST", "/api/secrets/resolve/config", json!({"config": {}})),
            ("GET", "/api/secrets/export?includeValues=true", json!({})),
        ] {
            let mut request = Request::new(method, path);
            if method == "POST" {
                request = request.with_json(&body);
            }
            assert_eq!(service().handle(request).status, 403, "{path}");
        }
    }
}
