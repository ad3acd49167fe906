//! Every route of the API's document, whoever wrote it: nobody gets in without a token or a permission, what is not there
//! is 404, and no organization sees another's rows.
//!
//! The document is the data: a new service is covered as soon as it is in `plugins.toml`. What cannot be covered is listed
//! at the end with its reason; an entry that is no longer needed fails the test, so that the list can only shrink.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use berth_tests::answer::text;
use berth_tests::document::{Operation, operations};
use berth_tests::{Answer, Client, Host};
use reqwest::Method;
use serde_json::{Value, json};

/// An id that nobody has.
const NOBODY: &str = "01900000-0000-7000-8000-00000000dead";

struct House {
    host: Host,
    /// Owns everything, and the platform.
    ada: Client,
    /// In Ada's organization, with a role that allows nothing.
    bob: Client,
    /// Somebody else's Super Admin.
    eve: Client,
    organization: String,
    operations: Vec<Operation>,
}

async fn house() -> House {
    let host = Host::start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let bob = host.client().register("bob@example.com", "Pier").await;
    let organization = text(&ada.account["organization"], "id");
    let below = format!("/api/organizations/{organization}");
    let role = ada.post(&format!("{below}/roles"), &json!({"name": "Nothing", "permissions": []})).await.expect(201);
    let member = json!({"email": "bob@example.com", "roleId": text(&role, "id")});
    ada.post(&format!("{below}/memberships"), &member).await.done(201);
    let switched =
        bob.post("/api/auth/switch-organization", &json!({ "organizationId": organization })).await.expect(200);
    let bob = bob.with_token(&text(&switched, "token"));
    let operations = operations(&host.client().get("/openapi.json").await.expect(200));
    assert!(operations.len() > 100, "only {} operations are described", operations.len());
    House { host, ada, bob, eve, organization, operations }
}

impl House {
    /// The path with ids that nobody has, but below Ada's own organization.
    fn path(&self, operation: &Operation) -> String {
        let below = operation.path.strip_prefix("/api/organizations/{id}");
        match below {
            Some(rest) => {
                let rest = rest.split('/').map(|part| if part.starts_with('{') { NOBODY } else { part });
                format!("/api/organizations/{}{}", self.organization, rest.collect::<Vec<_>>().join("/"))
            }
            None => operation.path_with(NOBODY),
        }
    }
}

async fn call(client: &Client, operation: &Operation, path: &str, body: Option<&Value>) -> Answer {
    let method = Method::from_bytes(operation.method.as_bytes()).unwrap_or(Method::GET);
    let request = client.request(method, path);
    client
        .send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
}

/// Compares what went wrong with what is known to be impossible, both ways.
fn judge(promise: &str, wrong: Vec<(String, String)>) {
    let known = |name: &str| EXCEPTIONS.iter().any(|(of, operation, _)| *of == promise && *operation == name);
    let found: BTreeSet<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
    let unneeded: Vec<&str> = EXCEPTIONS
        .iter()
        .filter(|(of, operation, _)| *of == promise && !found.contains(operation))
        .map(|(_, operation, _)| *operation)
        .collect();
    let news: Vec<String> =
        wrong.iter().filter(|(name, _)| !known(name)).map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(news.is_empty(), "{promise}:\n{}", news.join("\n"));
    assert!(unneeded.is_empty(), "{promise}: these exceptions are no longer needed: {unneeded:?}");
}

fn short(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.text().chars().take(200).collect::<String>())
}

#[tokio::test]
async fn nobody_gets_in_without_a_token() {
    let house = house().await;
    let mut wrong = Vec::new();
    for operation in house.operations.iter().filter(|operation| !operation.is_public) {
        let body = operation.has_body().then(|| operation.body(1).unwrap_or_else(|| json!({})));
        for client in [house.host.client(), house.host.client().with_token("eyJhbGciOiJub25lIn0.e30.")] {
            let answer = call(&client, operation, &house.path(operation), body.as_ref()).await;
            if answer.status != 401 || answer.json()["code"] != "UNAUTHORIZED" {
                wrong.push((operation.name(), short(&answer)));
            }
        }
    }
    judge("401", wrong);
}

#[tokio::test]
async fn nobody_gets_in_without_the_permission() {
    let house = house().await;
    let mut wrong = Vec::new();
    for operation in house.operations.iter().filter(|operation| operation.permission.is_some()) {
        let body = operation.has_body().then(|| operation.body(1).unwrap_or_else(|| json!({})));
        let answer = call(&house.bob, operation, &house.path(operation), body.as_ref()).await;
        if answer.status != 403 || answer.json()["code"] != "FORBIDDEN" {
            wrong.push((operation.name(), short(&answer)));
        }
    }
    judge("403", wrong);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let house = house().await;
    let mut wrong = Vec::new();
    let named = house.operations.iter().filter(|operation| operation.parameters() > 0 && !operation.needs_query());
    for operation in named {
        if house.path(operation) == format!("/api/organizations/{}", house.organization)
            || (operation.path.starts_with("/api/organizations/{id}/") && operation.parameters() == 1)
        {
            // The organization is there.
            continue;
        }
        let body = operation.has_body().then(|| operation.body(1).unwrap_or_else(|| json!({})));
        let answer = call(&house.ada, operation, &house.path(operation), body.as_ref()).await;
        // A body that only a person could write may be refused first.
        let is_refused = operation.has_body() && matches!(answer.status, 400 | 422);
        if answer.status != 404 && !is_refused {
            wrong.push((operation.name(), short(&answer)));
        }
    }
    judge("404", wrong);
}

#[tokio::test]
async fn every_list_answers() {
    let house = house().await;
    let mut wrong = Vec::new();
    for operation in &house.operations {
        let is_plain = operation.method == "GET" && operation.parameters() == 0 && !operation.needs_query();
        if !is_plain || operation.is_public || operation.description["x-streaming"] == true {
            continue;
        }
        let answer = call(&house.ada, operation, &operation.path, None).await;
        if answer.status != 200 {
            wrong.push((operation.name(), short(&answer)));
        } else if operation.takes("limit") {
            let body = answer.json();
            let is_page =
                body["items"].is_array() && ["total", "limit", "offset"].iter().all(|name| body[name].is_i64());
            if !is_page {
                wrong.push((operation.name(), format!("is no page: {}", short(&answer))));
            }
            let too_many = call(&house.ada, operation, &format!("{}?limit=100000", operation.path), None).await;
            if too_many.status != 400 {
                wrong.push((operation.name(), format!("takes any limit: {}", short(&too_many))));
            }
        }
    }
    judge("list", wrong);
}

/// Whether only the platform's own people, or the Super Admins of an organization, may call it: for these the document
/// names no permission.
fn is_for_the_few(operation: &Operation) -> bool {
    let Operation { method, path, .. } = operation;
    path.starts_with("/api/admin/")
        || (path.starts_with("/api/users/{id}") && method != "GET")
        || (method == "DELETE" && path == "/api/organizations/{id}")
        || (method != "GET" && path.starts_with("/api/organizations/{id}/roles"))
}

#[tokio::test]
async fn what_is_for_the_few_is_refused_to_everybody_else() {
    let house = house().await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for operation in house.operations.iter().filter(|operation| is_for_the_few(operation)) {
        count += 1;
        let body = operation.has_body().then(|| operation.body(1).unwrap_or_else(|| json!({})));
        // A member without rights; and a Super Admin of another organization, who is a stranger here.
        for client in [&house.bob, &house.eve] {
            let path = house.path(operation);
            let answer = call(client, operation, &path, body.as_ref()).await;
            let is_elsewhere = path.contains(&house.organization) && std::ptr::eq(client, &house.eve);
            let is_refused = answer.status == 403 || (is_elsewhere && answer.status == 404);
            if !is_refused {
                wrong.push((operation.name(), short(&answer)));
            }
        }
    }
    assert!(count >= 20, "only {count} operations are for the few");
    judge("few", wrong);
}

#[tokio::test]
async fn an_organization_is_closed_to_whoever_does_not_belong_to_it() {
    let house = house().await;
    let mut wrong = Vec::new();
    for operation in house.operations.iter().filter(|operation| operation.path.starts_with("/api/organizations/{id}")) {
        let body = operation.has_body().then(|| operation.body(1).unwrap_or_else(|| json!({})));
        let answer = call(&house.eve, operation, &house.path(operation), body.as_ref()).await;
        if !matches!(answer.status, 403 | 404) {
            wrong.push((operation.name(), short(&answer)));
        }
    }
    judge("stranger", wrong);
}

/// A row that a derived body made.
struct Row<'a> {
    seed: usize,
    create: &'a Operation,
    read: &'a Operation,
    id: String,
}

/// Makes one of everything that can be made from its schema alone.
async fn make_rows(house: &House) -> Vec<Row<'_>> {
    let mut open: Vec<_> = house
        .operations
        .iter()
        .enumerate()
        .filter(|(_, create)| create.method == "POST" && create.parameters() == 0)
        .filter_map(|(seed, create)| {
            let single = house.operations.iter().find(|read| {
                let rest = read.path.strip_prefix(create.path.as_str()).and_then(|rest| rest.strip_prefix("/{"));
                read.method == "GET" && rest.is_some_and(|rest| !rest.contains('/'))
            })?;
            Some((seed, create, single))
        })
        .collect();
    // What was made first may be what the next one belongs to: `projectId` of a project.
    let mut parents: BTreeMap<String, String> = BTreeMap::new();
    let mut rows = Vec::new();
    for _ in 0..2 {
        for (seed, create, read) in std::mem::take(&mut open) {
            let mut body = create.body(seed).unwrap_or_else(|| json!({}));
            for (name, id) in &parents {
                if let Some(member) = body.get_mut(name) {
                    *member = json!(id);
                }
            }
            let answer = call(&house.ada, create, &create.path, Some(&body)).await;
            let made = answer.json()["id"].as_str().filter(|_| answer.status == 201).map(str::to_owned);
            let Some(id) = made else {
                open.push((seed, create, read));
                continue;
            };
            let noun = create.path.rsplit('/').next().unwrap_or_default();
            parents.insert(format!("{}Id", noun.strip_suffix('s').unwrap_or(noun)), id.clone());
            rows.push(Row { seed, create, read, id });
        }
    }
    rows
}

#[tokio::test]
async fn what_one_organization_makes_no_other_one_sees() {
    let house = house().await;
    let find = |method: &str, path: &str| {
        house.operations.iter().find(|operation| operation.method == method && operation.path == path)
    };
    let rows = make_rows(&house).await;
    assert!(rows.len() >= 3, "only {} kinds of rows could be made", rows.len());
    let mut wrong = Vec::new();
    for Row { seed, create, read, id } in rows {
        let path = read.path_with(&id);
        let mut answers = vec![
            ("its maker reads it".to_owned(), call(&house.ada, read, &path, None).await, vec![200]),
            ("another organization reads it".to_owned(), call(&house.eve, read, &path, None).await, vec![404]),
        ];
        for method in ["PUT", "PATCH", "DELETE"] {
            let Some(write) = find(method, &read.path) else { continue };
            let body = write.has_body().then(|| write.body(seed).unwrap_or_else(|| json!({})));
            let answer = call(&house.eve, write, &path, body.as_ref()).await;
            answers.push((format!("another organization may {method} it"), answer, vec![404, 400, 422]));
        }
        answers.push(("it is still there".to_owned(), call(&house.ada, read, &path, None).await, vec![200]));
        for (what, answer, statuses) in answers {
            if !statuses.contains(&answer.status) {
                wrong.push((create.name(), format!("{what}: {}", short(&answer))));
            }
        }
        if let Some(list) = find("GET", &create.path)
            && call(&house.eve, list, &create.path, None).await.text().contains(&id)
        {
            wrong.push((create.name(), "another organization's list shows it".to_owned()));
        }
    }
    judge("foreign", wrong);
}

#[tokio::test]
async fn nothing_below_what_one_organization_made_is_there_for_another() {
    let house = house().await;
    let rows = make_rows(&house).await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for Row { seed, create, id, .. } in &rows {
        let below = format!("{}/{{", create.path);
        for operation in house.operations.iter().filter(|operation| operation.path.starts_with(&below)) {
            let mut ids = [id.as_str()].into_iter().chain(std::iter::repeat(NOBODY));
            let fill = |part: &str| match part.starts_with('{') {
                true => ids.next().unwrap_or(NOBODY).to_owned(),
                false => part.to_owned(),
            };
            let path = operation.path.split('/').map(fill).collect::<Vec<_>>().join("/");
            let body = operation.has_body().then(|| operation.body(*seed).unwrap_or_else(|| json!({})));
            let answer = call(&house.eve, operation, &path, body.as_ref()).await;
            count += 1;
            // What is wrong with the request may be said first.
            let is_refused =
                (operation.has_body() || operation.needs_query()) && matches!(answer.status, 400 | 415 | 422);
            if answer.status != 404 && !is_refused {
                wrong.push((operation.name(), short(&answer)));
            }
        }
    }
    assert!(count >= 150, "only {count} operations are below what could be made");
    judge("below", wrong);
}

#[tokio::test]
async fn no_list_holds_what_another_organization_made() {
    let house = house().await;
    let rows = make_rows(&house).await;
    let secrets: Vec<&str> =
        rows.iter().map(|row| row.id.as_str()).chain([house.organization.as_str()]).filter(|id| id.len() > 8).collect();
    let mut wrong = Vec::new();
    for operation in &house.operations {
        let is_plain = operation.method == "GET" && operation.parameters() == 0 && !operation.needs_query();
        if !is_plain || operation.description["x-streaming"] == true || operation.path.starts_with("/api/admin/") {
            continue;
        }
        let answer = call(&house.eve, operation, &operation.path, None).await.text();
        if let Some(id) = secrets.iter().find(|id| answer.contains(**id)) {
            wrong.push((operation.name(), format!("it shows {id}")));
        }
    }
    judge("lists", wrong);
}

/// Promise, operation, and why it cannot be kept there.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("list", "GET /api/projects/current", "404 says that nobody has chosen one"),
    ("list", "GET /api/dashboards/default", "404 says that there is none yet"),
    ("list", "GET /api/application-context", "it is that of a project, which has to be named or chosen"),
    ("list", "GET /api/secrets/export", "an export is whole and no page"),
    ("list", "GET /api/audit-logs/aggregate", "what to count by has to be said"),
    ("list", "GET /api/audit-logs/stats", "figures of what a list's filters leave, and no page"),
    ("list", "GET /api/logs/aggregate", "what to count by has to be said"),
    ("list", "GET /api/logs/stats", "figures of what a list's filters leave, and no page"),
    ("list", "GET /api/knowledge/search", "a search needs a word"),
    ("list", "GET /api/observability/service-map", "nodes and edges, and no page"),
    ("404", "DELETE /api/embeddings/project/{projectId}", "it says how many there were, which may be none"),
    ("404", "POST /api/knowledge/{id}/versions/{version}/restore", "the number of a version is a number"),
    ("404", "GET /api/notifications/preferences/{scope}", "a scope is one of five words"),
    ("404", "DELETE /api/notifications/preferences/{scope}", "a scope is one of five words"),
    ("404", "GET /api/notifications/preferences/{scope}/{scopeId}", "a scope is one of five words"),
    ("404", "DELETE /api/notifications/preferences/{scope}/{scopeId}", "a scope is one of five words"),
    ("404", "POST /api/admin/plugins/{name}", "it adds a plugin, and takes a form"),
    ("404", "PUT /api/admin/plugins/{name}", "it takes TOML"),
    ("404", "PATCH /api/admin/plugins/{name}", "it takes TOML"),
    ("404", "POST /api/prompts/{id}/versions/{n}/publish", "the number of a version is a number"),
    ("below", "POST /api/knowledge/{id}/versions/{version}/restore", "the number of a version is a number"),
    ("below", "POST /api/prompts/{id}/versions/{n}/publish", "the number of a version is a number"),
    ("foreign", "POST /api/usage/categories", "a category is read by its code"),
];
