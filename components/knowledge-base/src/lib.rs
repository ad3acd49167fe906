//! What a team knows: entries with versions, in spaces and categories, found by words and by meaning, and asked.

pub mod ask;
pub mod assist;
pub mod attachment;
pub mod category;
pub mod comment;
pub mod entry;
pub mod related;
pub mod runbook;
pub mod search;
pub mod space;
pub mod suggest;
pub mod version;

use berth_sdk::{migrations, prelude::*};

use entry::{api, count, state};

const PATH: &str = "/api/knowledge";
/// What a reader may do though it is sent in a body, or counts something.
const READ: &str = "knowledge.knowledge.read";
/// What belongs to changing an entry, removing parts of it too.
const UPDATE: &str = "knowledge.knowledge.update";
/// Where it is held how entries and categories stand. Who holds both holds the entries first, and both before any row of theirs.
const HOLDS: &str = "kb_holds";

/// The whole service.
pub fn service() -> Service {
    Service::new("knowledge-base", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/knowledge-base/0001_knowledge.sql",
            "../../../migrations/knowledge-base/0002_words.sql",
            "../../../migrations/knowledge-base/0003_holds.sql",
        ])
        .routes(entries())
        .routes(finding())
        .routes(hanging())
        .routes(places())
        .routes(runbooks())
        .on("messaging.conversation.resolved", suggest::on_conversation)
        .on("incident.resolved", suggest::on_incident)
        .on("project.deleted", suggest::on_project_deleted)
        .work(suggest::ARCHIVE, suggest::archive)
        .work(space::ANNOUNCE, space::announce)
        .work(count::FLUSH, count::flush)
        .work(state::PURGE, state::purge)
        .timer("purge", "daily", state::purge_due)
}

fn entries() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, api::list)
        .summary("List entries, without their contents.")
        .lists::<entry::Entry>()
        .post(PATH, api::create)
        .summary("Create an entry.")
        .answers::<berth_sdk::entity::Stored<entry::Entry>>(201)
        .makes::<entry::Entry>()
        .takes::<api::OfTemplate>()
        .get(&row, api::read)
        .summary("Read an entry.")
        .put(&row, api::update)
        .summary("Change an entry; every change is a version.")
        .changes::<entry::Entry>()
        .takes::<api::Noted>()
        .delete(&row, api::remove)
        .summary("Delete an entry; for 30 days it can be restored.")
        .post(&format!("{row}/publish"), state::publish)
        .summary("Publish an entry.")
        .post(&format!("{row}/archive"), state::archive)
        .summary("Archive an entry.")
        .post(&format!("{row}/restore"), state::restore)
        .summary("Restore a deleted or archived entry.")
        .get(&format!("{row}/versions"), version::list)
        .summary("List an entry's versions.")
        .get(&format!("{row}/versions/{{version}}"), version::read)
        .summary("Read one version.")
        .path_number("version")
        .post(&format!("{row}/versions/{{version}}/restore"), version::restore)
        .summary("Make an entry what it was.")
        .path_number("version")
        .get(&format!("{row}/diff"), version::diff::diff)
        .summary("Compare two versions.")
}

fn finding() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(&format!("{PATH}/search"), search::search)
        .summary("Find entries by words, by meaning, or by both.")
        .post(&format!("{PATH}/ask"), ask::ask)
        .permission(READ)
        .summary("Ask; the answer names its sources.")
        .get(&format!("{PATH}/popular"), count::popular)
        .summary("List the entries that are looked at most.")
        .get(&format!("{PATH}/tags"), related::tags)
        .summary("List tags with counts.")
        .get(&format!("{row}/related"), related::related)
        .summary("List entries that belong together with one.")
        .post(&format!("{row}/summarize"), assist::summarize)
        .summary("Let a model summarize an entry.")
        .post(&format!("{PATH}/from-conversation"), assist::from_conversation)
        .summary("Make a draft of a conversation.")
}

fn hanging() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .post(&format!("{row}/favorite"), count::favorite)
        .permission(READ)
        .summary("Make an entry a favourite, or no longer.")
        .post(&format!("{row}/helpful"), count::helpful)
        .permission(READ)
        .summary("Say that an entry has helped.")
        .post(&format!("{row}/view"), count::view)
        .permission(READ)
        .summary("Count a view.")
        .nested::<comment::Comment>(&format!("{row}/comments"), "entryId")
        .permission(UPDATE)
        .post(&format!("{row}/comments/{{itemId}}/resolve"), comment::resolve)
        .summary("Mark a comment as dealt with, or open again.")
        .get(&format!("{row}/attachments"), attachment::list)
        .summary("List the files of an entry.")
        .post(&format!("{row}/attachments"), attachment::create)
        .summary("Add a file of at most 2 MiB.")
        .get(&format!("{row}/attachments/{{attachmentId}}"), attachment::read)
        .summary("Read a file.")
        .delete(&format!("{row}/attachments/{{attachmentId}}"), attachment::remove)
        .permission(UPDATE)
        .summary("Remove a file.")
}

fn places() -> Router {
    Router::new()
        .entity::<category::Category>(&format!("{PATH}/categories"))
        .entity::<space::Space>(&format!("{PATH}/spaces"))
}

fn runbooks() -> Router {
    let path = format!("{PATH}/runbooks");
    let run = format!("{PATH}/runs/{{id}}");
    Router::new()
        .entity::<runbook::Runbook>(&path)
        .post(&format!("{path}/{{id}}/run"), runbook::run::start)
        .summary("Begin to go through a runbook.")
        .get(&format!("{path}/{{id}}/runs"), runbook::run::list)
        .summary("List the runs of a runbook.")
        .get(&run, runbook::run::read)
        .summary("Read a run.")
        .post(&format!("{run}/steps/{{order}}"), runbook::run::step)
        .summary("Note what became of a step.")
        .post(&format!("{run}/cancel"), runbook::run::cancel)
        .summary("Give a run up.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::{http::Request, json, testing};

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET |POST |GET /{id}|PUT /{id}|DELETE /{id}|GET /search|GET /{id}/versions|\
            POST /{id}/versions/{version}/restore|POST /{id}/publish|POST /{id}/archive|POST /{id}/restore|\
            POST /{id}/favorite|POST /{id}/helpful|POST /{id}/view|GET /{id}/comments|POST /{id}/comments|\
            GET /{id}/related|POST /ask|POST /{id}/summarize|POST /from-conversation|GET /categories|POST /categories|\
            GET /categories/{id}|PUT /categories/{id}|DELETE /categories/{id}|GET /spaces|POST /spaces|GET /spaces/{id}|\
            PUT /spaces/{id}|DELETE /spaces/{id}|GET /runbooks|POST /runbooks|GET /runbooks/{id}|PUT /runbooks/{id}|\
            DELETE /runbooks/{id}|POST /runbooks/{id}/run|GET /tags";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/knowledge", wanted), Vec::<String>::new());
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_the_database_is_asked() {
        testing::sign_in("u1", "o1");
        let fields = |request: Request| -> Vec<String> {
            let answer = service().handle(request).json_body().unwrap();
            let errors = answer["errors"].as_array().cloned().unwrap_or_default();
            errors.iter().map(|error| error["field"].as_str().unwrap().to_string()).collect()
        };
        let get = |path: &str| Request::new("GET", &format!("/api/knowledge{path}"));
        let post = |path: &str, body| Request::new("POST", &format!("/api/knowledge{path}")).with_json(&body);
        assert_eq!(fields(get("/search")), ["q"]);
        assert_eq!(fields(get("/search?q=%21%21")), ["q"]);
        assert_eq!(fields(get("/search?q=a&mode=magic")), ["mode"]);
        assert_eq!(fields(get("/search?q=a&category=poem")), ["category"]);
        assert_eq!(fields(post("", json!({"title": "<>"}))), ["title"]);
        assert_eq!(fields(post("/ask", json!({"question": ""}))), ["question"]);
        assert_eq!(fields(post("/e1/attachments", json!({"name": "a", "data": "???"}))), ["data"]);
        assert_eq!(service().handle(get("/search?q=a")).status, 503, "natively there is no database");
    }
}
