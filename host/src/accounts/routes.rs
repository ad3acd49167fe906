//! Every route of the main app as data: who may call it, what it takes and gives, and which function answers.
//!
//! One table serves the dispatcher, the permission check and the API's document, so that they cannot disagree.

use futures_util::future::BoxFuture;
use http::Method;
use serde_json::Value as Json;

use super::context::Context;
use super::error::AccountsError;
use super::schema::{self, object, optional, page_of, required};
use super::{
    Reply, api_keys, audit, auth, invitations, memberships, oidc, organizations, providers, recovery, roles, sessions,
    signing_keys, teams, users,
};
use crate::bindings::lifecycle::{Answer, Route};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Anybody.
    Public,
    /// Any signed-in caller, an API key included.
    SignedIn,
    /// A user with a session, not a program with a key.
    Session,
    /// A member of the token's organization with this permission.
    Organization(&'static str),
    /// A member of the organization that `{id}` names, with this permission there where one is named.
    Member(Option<&'static str>),
    /// A Super Admin of the organization that `{id}` names.
    SuperAdmin,
    /// The platform role.
    Platform,
}

type Run = for<'a> fn(&'a Context<'a>) -> BoxFuture<'a, Result<Reply, AccountsError>>;

/// One route.
pub(super) struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    summary: &'static str,
    pub scope: Scope,
    pub run: Run,
    body: Option<Json>,
    answer: (u16, Option<Json>),
    /// Names, with a schema where the name does not say it.
    parameters: Vec<(&'static str, Option<Json>)>,
    /// Whether plugins may call it in process, as whoever they work for.
    pub is_internal: bool,
}

impl Endpoint {
    fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    fn body(mut self, members: &[schema::Member]) -> Self {
        self.body = Some(object(members));
        self
    }

    fn gives(mut self, status: u16, schema: Json) -> Self {
        self.answer = (status, Some(schema));
        self
    }

    /// A list of these, sorted by one of some fields.
    fn lists(mut self, item: Json, sorts: &[(&'static str, &str)], filters: &[&'static str]) -> Self {
        self.answer = (200, Some(page_of(item)));
        let names: Vec<&str> = sorts.iter().map(|(name, _)| *name).collect();
        let paging = ["limit", "offset", "page", "sortBy", "order"];
        self.takes(&[paging.as_slice(), filters].concat()).chooses("sortBy", &names)
    }

    /// Parameters of the query.
    fn takes(mut self, names: &[&'static str]) -> Self {
        self.parameters = names.iter().map(|name| (*name, None)).collect();
        self
    }

    /// A parameter that is one of a closed set.
    fn chooses(mut self, name: &str, choices: &[&str]) -> Self {
        for (_, schema) in self.parameters.iter_mut().filter(|(known, _)| *known == name) {
            *schema = Some(serde_json::json!({ "enum": choices }));
        }
        self
    }

    fn redirects(mut self) -> Self {
        self.answer = (302, None);
        self
    }

    fn gives_nothing(mut self) -> Self {
        self.answer = (204, None);
        self
    }
}

/// A table row: method, path, scope, summary, function.
macro_rules! route {
    ($method:ident $path:literal, $scope:expr, $summary:literal, $run:path) => {
        Endpoint {
            method: Method::$method,
            path: $path,
            summary: $summary,
            scope: $scope,
            run: |context| Box::pin($run(context)),
            body: None,
            answer: (200, None),
            parameters: Vec::new(),
            is_internal: false,
        }
    };
}

use Scope::{Member, Organization, Platform, Public, Session, SignedIn, SuperAdmin};

/// All of them.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut all = auth_endpoints();
    all.extend(provider_endpoints());
    all.extend(user_endpoints());
    all.extend(organization_endpoints());
    all.extend(membership_and_role_endpoints());
    all.extend(invitation_endpoints());
    all.extend(team_endpoints());
    all.extend(key_endpoints());
    all
}

fn auth_endpoints() -> Vec<Endpoint> {
    let user = || required("user", schema::user());
    let credentials = [required("email", schema::email()), required("password", schema::secret())];
    vec![
        route!(POST "/api/auth/register", Public, "Create an account", auth::register)
            .body(&[
                required("email", schema::email()),
                required("password", schema::new_password()),
                required("name", schema::name()),
                optional("organizationName", schema::name()),
                optional("invitationToken", schema::token()),
                optional("rememberMe", schema::boolean()),
            ])
            .gives(201, schema::tokens(&[user(), required("organization", schema::organization())])),
        route!(POST "/api/auth/login", Public, "Sign in", auth::login)
            .body(&[
                credentials.as_slice(),
                &[optional("rememberMe", schema::boolean()), optional("organizationId", schema::id())],
            ]
            .concat())
            .gives(200, schema::tokens(&[user()])),
        route!(POST "/api/auth/refresh", Public, "Rotate the refresh token", auth::refresh)
            .body(&[optional("refreshToken", schema::token())])
            .gives(200, schema::tokens(&[])),
        route!(POST "/api/auth/logout", Session, "End the session", auth::logout).gives(200, schema::free_object()),
        route!(GET "/api/auth/me", SignedIn, "Own user, organization, role and permissions", auth::me).gives(
            200,
            object(&[
                user(),
                required("organization", schema::nullable("object")),
                required("role", schema::nullable("object")),
                required("permissions", schema::texts()),
                required("teams", schema::texts()),
            ]),
        ),
        route!(POST "/api/auth/change-password", Session, "Change the password and end all sessions", auth::change_password)
            .body(&[required("currentPassword", schema::secret()), required("newPassword", schema::new_password())])
            .gives(200, object(&[required("changed", schema::boolean()), required("sessionsRevoked", schema::integer())])),
        route!(POST "/api/auth/switch-organization", Session, "A token for another organization", auth::switch_organization)
            .body(&[required("organizationId", schema::id())])
            .gives(200, object(&[required("token", schema::text()), required("organization", schema::organization())])),
        route!(POST "/api/auth/forgot-password", Public, "Send a reset link", recovery::forgot_password)
            .body(&[required("email", schema::email())]),
        route!(POST "/api/auth/reset-password", Public, "Set a password with a reset token", recovery::reset_password)
            .body(&[required("token", schema::token()), required("newPassword", schema::new_password())])
            .gives(200, object(&[required("reset", schema::boolean())])),
        route!(POST "/api/auth/verify-email", Public, "Confirm an e-mail address", recovery::verify_email)
            .body(&[required("token", schema::token())])
            .gives(200, object(&[required("verified", schema::boolean())])),
        route!(POST "/api/auth/resend-verification", Session, "Send a new verification token", recovery::resend_verification),
        route!(GET "/api/auth/providers", Session, "Sign-in providers of the account", providers::list)
            .gives(200, object(&[required("providers", schema::texts()), required("available", schema::texts())])),
        route!(POST "/api/auth/unlink-provider", Session, "Unlink a provider", providers::unlink)
            .body(&[required("provider", schema::name())])
            .gives(200, object(&[required("providers", schema::texts())])),
    ]
}

/// Sign-in by OpenID Connect. Google is the provider of that name, on routes of its own.
fn provider_endpoints() -> Vec<Endpoint> {
    let user = || required("user", schema::user());
    let start = || object(&[required("authorizationUrl", schema::text())]);
    let wishes = || [optional("redirectTo", schema::text()), optional("rememberMe", schema::boolean())];
    let begin = ["redirectTo", "rememberMe", "invitationToken"];
    let finish = ["code", "state", "iss", "error"];
    vec![
        route!(GET "/api/auth/google", Public, "Start Google sign-in", oidc::start).takes(&begin).redirects(),
        route!(GET "/api/auth/google/callback", Public, "Finish Google sign-in", oidc::finish)
            .takes(&finish)
            .gives(200, schema::tokens(&[user()])),
        route!(POST "/api/auth/link-google", Session, "Link a Google account", oidc::link)
            .body(&wishes())
            .gives(200, start()),
        route!(GET "/api/auth/oidc/{provider}", Public, "Start sign-in by a provider", oidc::start)
            .takes(&begin)
            .redirects(),
        route!(GET "/api/auth/oidc/{provider}/callback", Public, "Finish sign-in by a provider", oidc::finish)
            .takes(&finish)
            .gives(200, schema::tokens(&[user()])),
        route!(POST "/api/auth/oidc/{provider}/link", Session, "Link an account of a provider", oidc::link)
            .body(&wishes())
            .gives(200, start()),
    ]
}

fn user_endpoints() -> Vec<Endpoint> {
    let user = schema::user;
    vec![
        route!(GET "/api/users", Organization("users.user.read"), "List users of the organization", users::list)
            .lists(user(), &users::SORTS, &["search"])
            .internal(),
        route!(GET "/api/users/{id}", Organization("users.user.read"), "Read a user of the organization", users::read)
            .gives(200, user())
            .internal(),
        route!(GET "/api/users/me/teams", SignedIn, "Own teams in this organization", teams::list_own)
            .lists(schema::team(), &teams::SORTS, &[])
            .internal(),
        route!(GET "/api/users/{id}/teams", Organization("teams.team.read"), "Teams of a user", teams::list_of_user)
            .lists(schema::team(), &teams::SORTS, &[])
            .internal(),
        route!(PUT "/api/users/me", Session, "Update the own profile", users::update_me)
            .body(&[
                optional("name", schema::name()),
                optional("firstName", schema::nullable_name()),
                optional("lastName", schema::nullable_name()),
                optional("username", schema::username()),
                optional("avatarUrl", schema::url()),
                optional("preferences", schema::nullable("object")),
                optional("competencies", serde_json::json!({ "type": ["object", "array", "null"] })),
            ])
            .gives(200, user()),
        route!(GET "/api/users/me/sessions", Session, "Own sessions", sessions::list)
            .lists(schema::session(), &sessions::SORTS, &[])
            .internal(),
        route!(DELETE "/api/users/me/sessions/{id}", Session, "Revoke one own session", sessions::revoke).gives_nothing(),
        route!(POST "/api/users/me/sessions/revoke-all-others", Session, "Revoke all own sessions but this one", sessions::revoke_others)
            .gives(200, object(&[required("revoked", schema::integer())])),
        route!(GET "/api/users/me/organizations", Session, "Own memberships", users::organizations_of_me)
            .lists(schema::free_object(), &users::OWN_SORTS, &[]),
        route!(POST "/api/users/me/deactivate", Session, "Deactivate the own account", users::deactivate_me).gives(200, user()),
        route!(POST "/api/users/{id}/deactivate", Platform, "Deactivate an account", users::deactivate).gives(200, user()),
        route!(POST "/api/users/{id}/reactivate", Platform, "Reactivate an account", users::reactivate).gives(200, user()),
        route!(DELETE "/api/users/{id}", Platform, "Soft-delete an account", users::delete).gives_nothing(),
        route!(GET "/api/users/{id}/permissions", Organization("users.user.read"), "Effective permissions", users::permissions)
            .gives(200, object(&[required("permissions", schema::texts())]))
            .internal(),
        route!(GET "/api/permissions", Organization("permissions.permission.read"), "Catalogue of permission codes", roles::list_permissions)
            .lists(schema::permission(), &roles::PERMISSION_SORTS, &["module", "search"]),
        route!(GET "/api/audit", Organization("audit.logs.read"), "Audit rows", audit::list)
            .lists(schema::audit_row(), &audit::SORTS, &["action", "resourceType", "userId", "from", "to"]),
    ]
}

fn organization_endpoints() -> Vec<Endpoint> {
    let organization = schema::organization;
    let members = |name_is_required: bool| {
        vec![
            ("name", schema::name(), name_is_required),
            optional("slug", schema::nullable_slug()),
            optional("description", schema::nullable("string")),
            optional("logoUrl", schema::url()),
        ]
    };
    let mut changeable = members(false);
    changeable.push(optional(
        "memberLimit",
        serde_json::json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000 }),
    ));
    vec![
        route!(GET "/api/organizations", Session, "Organizations of the caller", organizations::list)
            .lists(organization(), &organizations::SORTS, &["search"]),
        route!(POST "/api/organizations", Session, "Create an organization", organizations::create)
            .body(&members(true))
            .gives(201, organization()),
        route!(GET "/api/organizations/{id}", Member(Some("organizations.organization.read")), "Read an organization", organizations::read)
            .gives(200, organization())
            .internal(),
        route!(PUT "/api/organizations/{id}", Member(Some("organizations.organization.manage")), "Update an organization", organizations::update)
            .body(&changeable)
            .gives(200, organization()),
        route!(DELETE "/api/organizations/{id}", SuperAdmin, "Delete an organization", organizations::delete).gives_nothing(),
        route!(GET "/api/organizations/{id}/settings", Member(Some("organizations.settings.read")), "Read settings", organizations::read_settings)
            .gives(200, schema::free_object())
            .internal(),
        route!(PUT "/api/organizations/{id}/settings", Member(Some("organizations.settings.manage")), "Update settings", organizations::update_settings)
            .body(&[])
            .gives(200, schema::free_object()),
        route!(GET "/api/organizations/{id}/member-count", Member(Some("organizations.member.read")), "Number of members and the limit", organizations::member_count)
            .gives(200, object(&[required("count", schema::integer()), required("limit", schema::nullable("integer"))])),
    ]
}

fn membership_and_role_endpoints() -> Vec<Endpoint> {
    let (membership, role) = (schema::membership, schema::role);
    let role_members = |name_is_required: bool| {
        [
            ("name", schema::name(), name_is_required),
            optional("description", schema::nullable("string")),
            optional("permissions", schema::texts()),
        ]
    };
    vec![
        route!(GET "/api/organizations/{id}/memberships", Member(Some("organizations.member.read")), "List members", memberships::list)
            .lists(membership(), &memberships::SORTS, &["status", "roleId", "search"])
            .chooses("status", &memberships::STATUSES)
            .internal(),
        route!(POST "/api/organizations/{id}/memberships", Member(Some(memberships::MANAGE)), "Add an existing user", memberships::add)
            .body(&[optional("userId", schema::id()), optional("email", schema::email()), required("roleId", schema::id())])
            .gives(201, membership()),
        route!(PUT "/api/organizations/{id}/memberships/{mid}", Member(Some(memberships::MANAGE)), "Change role or status", memberships::update)
            .body(&[
                optional("roleId", schema::id()),
                optional("status", serde_json::json!({ "enum": ["active", "suspended", "deactivated"] })),
            ])
            .gives(200, membership()),
        route!(DELETE "/api/organizations/{id}/memberships/{mid}", Member(None), "Remove a member, or leave", memberships::remove)
            .gives_nothing(),
        route!(GET "/api/organizations/{id}/roles", Member(Some("organizations.role.read")), "List roles", roles::list)
            .lists(role(), &roles::SORTS, &["search"])
            .internal(),
        route!(POST "/api/organizations/{id}/roles", SuperAdmin, "Create a custom role", roles::create)
            .body(&role_members(true))
            .gives(201, role()),
        route!(GET "/api/organizations/{id}/roles/{rid}", Member(Some("organizations.role.read")), "Read a role with its permissions", roles::read)
            .gives(200, role()),
        route!(PUT "/api/organizations/{id}/roles/{rid}", SuperAdmin, "Update a custom role", roles::update)
            .body(&role_members(false))
            .gives(200, role()),
        route!(DELETE "/api/organizations/{id}/roles/{rid}", SuperAdmin, "Delete a custom role", roles::delete).gives_nothing(),
    ]
}

fn invitation_endpoints() -> Vec<Endpoint> {
    let invitation = schema::invitation;
    let manage = Member(Some(invitations::MANAGE));
    let members =
        [required("email", schema::email()), required("roleId", schema::id()), optional("message", schema::text())];
    let many = serde_json::json!({ "type": "array", "minItems": 1, "maxItems": 100, "items": object(&members) });
    vec![
        route!(GET "/api/organizations/{id}/invitations", Member(Some("organizations.invitation.read")), "List invitations", invitations::list)
            .lists(invitation(), &invitations::SORTS, &["status", "search"])
            .chooses("status", &invitations::STATUSES),
        route!(POST "/api/organizations/{id}/invitations", manage, "Invite somebody", invitations::create)
            .body(&members)
            .gives(201, invitation()),
        route!(POST "/api/organizations/{id}/invitations/bulk", manage, "Invite many", invitations::create_many)
            .body(&[required("invitations", many)])
            .gives(200, object(&[required("results", serde_json::json!({ "type": "array" }))])),
        route!(POST "/api/organizations/{id}/invitations/{iid}/resend", manage, "Send again", invitations::resend)
            .gives(200, invitation()),
        route!(DELETE "/api/organizations/{id}/invitations/{iid}", manage, "Cancel an invitation", invitations::cancel)
            .gives_nothing(),
        route!(GET "/api/invitations/{token}", Public, "Preview an invitation", invitations::preview)
            .gives(200, schema::free_object()),
        route!(POST "/api/invitations/{token}/accept", Session, "Join with the signed-in account", invitations::accept)
            .gives(200, object(&[required("organizationId", schema::id())])),
        route!(POST "/api/invitations/{token}/decline", Session, "Decline the invitation", invitations::decline)
            .gives(200, schema::free_object()),
    ]
}

fn team_endpoints() -> Vec<Endpoint> {
    let team = schema::team;
    let members = |name_is_required: bool| {
        [
            ("name", schema::name(), name_is_required),
            optional("slug", schema::nullable_slug()),
            optional("description", schema::nullable("string")),
            optional("parentTeamId", schema::nullable_id()),
        ]
    };
    let role = || serde_json::json!({ "enum": ["maintainer", "member"] });
    vec![
        route!(GET "/api/teams", Organization("teams.team.read"), "List teams", teams::list)
            .lists(team(), &teams::SORTS, &["parentTeamId", "search", "mine", "role"])
            .chooses("role", &teams::ROLES)
            .internal(),
        route!(POST "/api/teams", Organization("teams.team.create"), "Create a team", teams::create)
            .body(&members(true))
            .gives(201, team()),
        route!(GET "/api/teams/{id}", Organization("teams.team.read"), "Read a team", teams::read)
            .gives(200, team())
            .internal(),
        route!(PUT "/api/teams/{id}", Organization("teams.team.update"), "Update a team", teams::update)
            .body(&members(false))
            .gives(200, team()),
        route!(DELETE "/api/teams/{id}", Organization("teams.team.delete"), "Delete a team", teams::delete).gives_nothing(),
        route!(POST "/api/teams/{id}/members", Organization("teams.team.update"), "Add members", teams::add_members)
            .body(&[
                optional("userId", schema::id()),
                optional("role", role()),
                optional("members", serde_json::json!({ "type": "array", "maxItems": 200 })),
            ])
            .gives(200, schema::free_object()),
        route!(DELETE "/api/teams/{id}/members/{userId}", Organization("teams.team.update"), "Remove a member", teams::remove_member)
            .gives_nothing(),
    ]
}

fn key_endpoints() -> Vec<Endpoint> {
    let key = || schema::api_key(&[]);
    let signing_keys =
        || object(&[required("items", serde_json::json!({ "type": "array", "items": schema::signing_key() }))]);
    vec![
        route!(GET "/api/users/me/api-keys", Session, "Own API keys in this organization", api_keys::list_own)
            .lists(key(), &api_keys::SORTS, &[]),
        route!(POST "/api/users/me/api-keys", Session, "Make an API key; only this answer holds it", api_keys::create)
            .body(&[
                required("name", schema::name()),
                required("permissions", schema::texts()),
                optional("expiresInDays", serde_json::json!({ "type": "integer", "minimum": 1, "maximum": 366 })),
                optional("expiresAt", schema::moment()),
            ])
            .gives(201, schema::api_key(&[required("key", schema::text())])),
        route!(DELETE "/api/users/me/api-keys/{id}", Session, "End an own API key", api_keys::revoke_own).gives_nothing(),
        route!(GET "/api/organizations/{id}/api-keys", Member(Some(api_keys::MANAGE)), "API keys of everybody in the organization", api_keys::list_all)
            .lists(key(), &api_keys::SORTS, &["userId"]),
        route!(DELETE "/api/organizations/{id}/api-keys/{kid}", Member(Some(api_keys::MANAGE)), "End an API key", api_keys::revoke_any)
            .gives_nothing(),
        route!(GET "/api/admin/signing-keys", Platform, "Keys that sign access tokens", signing_keys::list)
            .gives(200, signing_keys()),
        route!(POST "/api/admin/signing-keys/rotate", Platform, "Sign with a fresh key from now on", signing_keys::rotate)
            .body(&[optional("endEarlier", schema::boolean())])
            .gives(201, signing_keys()),
    ]
}

/// Every route of the main app, for the API's document and the route table.
pub(crate) fn routes() -> Vec<Route> {
    endpoints().iter().map(describe).collect()
}

fn describe(endpoint: &Endpoint) -> Route {
    let (status, schema) = &endpoint.answer;
    let permission = match endpoint.scope {
        Scope::Organization(code) | Scope::Member(Some(code)) => Some(code.to_owned()),
        _ => None,
    };
    Route {
        method: endpoint.method.as_str().to_owned(),
        path: endpoint.path.to_owned(),
        summary: endpoint.summary.to_owned(),
        permission,
        is_public: endpoint.scope == Scope::Public,
        is_streaming: false,
        needs_organization: matches!(endpoint.scope, Scope::Organization(_)),
        parameters: endpoint.parameters.iter().map(|(name, schema)| parameter(name, schema.as_ref())).collect(),
        request_schema: endpoint.body.as_ref().map(Json::to_string),
        request_media_type: None,
        answers: vec![Answer {
            status: *status,
            description: endpoint.summary.to_owned(),
            schema: schema.as_ref().map(Json::to_string),
            media_type: None,
        }],
        tag: endpoint.path.split('/').nth(2).unwrap_or_default().to_owned(),
    }
}

fn parameter(name: &str, schema: Option<&Json>) -> crate::bindings::lifecycle::QueryParameter {
    let (description, usual) = match name {
        "limit" => ("Most items, at most 200", r#"{"type":"integer","minimum":1,"maximum":200,"default":50}"#),
        "offset" => ("Items to skip", r#"{"type":"integer","minimum":0,"maximum":1000000,"default":0}"#),
        "page" => ("Page, from 1; offset wins over it", r#"{"type":"integer","minimum":1,"maximum":5000}"#),
        "sortBy" => ("Field to sort by", r#"{"type":"string"}"#),
        "order" => ("Direction", r#"{"enum":["asc","desc"]}"#),
        "redirectTo" => {
            ("Where the browser goes afterwards: a path, or a URL of an allowed origin", r#"{"type":"string"}"#)
        }
        "rememberMe" => ("Whether the browser keeps the session after closing", r#"{"type":"boolean"}"#),
        "invitationToken" => ("An invitation that a new account accepts", r#"{"type":"string"}"#),
        "code" | "state" | "iss" | "error" => ("What the provider says", r#"{"type":"string"}"#),
        "from" | "to" => ("Bound of the time", r#"{"type":"string","format":"date-time"}"#),
        "mine" => ("Only those that the caller belongs to", r#"{"type":"boolean"}"#),
        _ => ("Filter", r#"{"type":"string","maxLength":200}"#),
    };
    crate::bindings::lifecycle::QueryParameter {
        name: name.to_owned(),
        description: description.to_owned(),
        required: false,
        schema: schema.map_or_else(|| usual.to_owned(), Json::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agreed_routes_are_public() {
        let public: Vec<String> =
            routes().iter().filter(|r| r.is_public).map(|r| format!("{} {}", r.method, r.path)).collect();
        assert_eq!(
            public,
            [
                "POST /api/auth/register",
                "POST /api/auth/login",
                "POST /api/auth/refresh",
                "POST /api/auth/forgot-password",
                "POST /api/auth/reset-password",
                "POST /api/auth/verify-email",
                "GET /api/auth/google",
                "GET /api/auth/google/callback",
                "GET /api/auth/oidc/{provider}",
                "GET /api/auth/oidc/{provider}/callback",
                "GET /api/invitations/{token}",
            ]
        );
    }

    #[test]
    fn every_route_of_the_main_app_is_there_once() {
        let mut names: Vec<String> = routes().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        // Auth, providers, users, organizations, members and roles, invitations, teams, catalogue and audit, keys.
        assert_eq!(count, 13 + 6 + 14 + 8 + 9 + 8 + 7 + 2 + 7);
    }

    #[test]
    fn schemas_are_json() {
        for route in routes() {
            for schema in route.request_schema.iter().chain(route.answers.iter().filter_map(|a| a.schema.as_ref())) {
                assert!(serde_json::from_str::<Json>(schema).unwrap().is_object(), "{} {}", route.method, route.path);
            }
        }
    }
}
