//! Embeddings: vectors of texts, made here or by a provider, and finding what is alike: exactly, and within what the caller
//! may see.

pub mod chunk;
pub mod collection;
pub mod document;
pub mod draft;
pub mod embedder;
pub mod index;
pub mod job;
pub mod knowledge;
pub mod model;
pub mod purge;
pub mod search;

use berth_sdk::{migrations, prelude::*};

use document::api;

const PATH: &str = "/api/embeddings";
/// Searching is reading, though its question comes in a body.
const READ: &str = "embeddings.embedding.read";

/// The whole service.
pub fn service() -> Service {
    Service::new("embeddings", env!("CARGO_PKG_VERSION"))
        .migrations(migrations::embed![
            "../../../migrations/embeddings/0001_embeddings.sql",
            "../../../migrations/embeddings/0002_words.sql",
            "../../../migrations/embeddings/0003_counted.sql",
            "../../../migrations/embeddings/0004_vector_index.sql",
            "../../../migrations/embeddings/0005_holds.sql",
        ])
        .routes(documents())
        .routes(searches())
        .routes(collections())
        .on("knowledge.article.*", knowledge::on_article)
        .work(job::run::STEP, job::run::step)
        .work(index::RUN, index::work)
        .work(purge::RUN, purge::work)
}

fn documents() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .get(PATH, api::list)
        .summary("List documents.")
        .post(PATH, api::create)
        .summary("Store a document; without a vector it gets one.")
        .answers::<Stored<document::Document>>(201)
        .post(&format!("{PATH}/batch"), api::create_many)
        .summary("Store up to 500 documents, all or none.")
        .post(&format!("{PATH}/upsert"), api::upsert)
        .summary("Store or change a document by its project and file, or collection and source.")
        .answers::<Stored<document::Document>>(201)
        .get(&row, api::read)
        .summary("Read a document with its vector.")
        .put(&row, api::update)
        .summary("Change a document.")
        .changes::<document::Document>()
        .delete(&row, api::remove)
        .summary("Delete a document.")
        .get(&format!("{row}/chunks"), api::chunks)
        .summary("List the passages of a document.")
        .delete(&format!("{PATH}/project/{{projectId}}"), api::remove_project)
        .summary("Delete every document of a project.")
        .delete(&format!("{PATH}/documents/{{sourceId}}"), api::remove_source)
        .summary("Delete the document of a source with its passages.")
}

fn searches() -> Router {
    Router::new()
        .post(&format!("{PATH}/search"), search::search)
        .permission(READ)
        .summary("Find the passages most like a vector or a text.")
        .post(&format!("{PATH}/search/hybrid"), search::hybrid::search)
        .permission(READ)
        .summary("Find passages by meaning and by words.")
        .post(&format!("{PATH}/generate"), api::generate)
        .summary("Make the vectors of up to 100 texts.")
        .entity::<model::Model>(&format!("{PATH}/models"))
}

fn collections() -> Router {
    let path = format!("{PATH}/collections");
    let jobs = format!("{PATH}/jobs");
    Router::new()
        .entity::<collection::Collection>(&path)
        .get(&format!("{path}/{{id}}/documents"), collection::api::documents)
        .summary("List the documents of a collection.")
        .post(&format!("{path}/{{id}}/reindex"), job::api::start)
        .summary("Index a collection again.")
        .get(&jobs, |query: PageQuery| Select::<job::Job>::new().page(&Pool, &query))
        .summary("List jobs.")
        .get(&format!("{jobs}/{{id}}"), |Params(id): Params<Id>| entity::read::<job::Job>(&Pool, &id))
        .summary("Read a job.")
        .post(&format!("{jobs}/{{id}}/cancel"), job::api::cancel)
        .summary("Stop a job; what it has done stays.")
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use berth_sdk::{http::Request, json, testing};

    use super::service;

    #[test]
    fn every_route_of_the_specification_is_there() {
        let service = service();
        let wanted = "GET |POST |POST /batch|GET /{id}|PUT /{id}|DELETE /{id}|DELETE /project/{projectId}|\
            DELETE /documents/{sourceId}|POST /search|POST /search/hybrid|POST /generate|POST /upsert|GET /collections|\
            POST /collections|GET /collections/{id}|PUT /collections/{id}|DELETE /collections/{id}|\
            GET /collections/{id}/documents|POST /collections/{id}/reindex|GET /models|GET /jobs|GET /jobs/{id}|\
            POST /jobs/{id}/cancel";
        assert_eq!(berth_sdk::testing::missing_routes(&service, "/api/embeddings", wanted), Vec::<String>::new());
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_the_database_is_asked() {
        testing::sign_in("u1", "o1");
        let post = |path: &str, body| {
            let request = Request::new("POST", &format!("/api/embeddings{path}"));
            service().handle(request.with_json(&body))
        };
        let fields = |path: &str, body| -> Vec<String> {
            let answer = post(path, body).json_body().unwrap();
            let errors = answer["errors"].as_array().cloned().unwrap_or_default();
            errors.iter().map(|error| error["field"].as_str().unwrap().to_string()).collect()
        };
        assert_eq!(fields("/search", json!({})), ["query"]);
        assert_eq!(fields("/search", json!({"query": "a", "limit": 0, "threshold": 2})), ["limit", "threshold"]);
        assert_eq!(fields("/search?limit=101", json!({"query": "a"})), ["limit"]);
        assert_eq!(fields("/search/hybrid", json!({"query": "a", "keywordWeight": 1.5})), ["keywordWeight"]);
        assert_eq!(fields("", json!({"vector": [1]})), ["content"]);
        assert_eq!(post("", json!({"content": "a", "vector": []})).status, 422);
        assert_eq!(post("/generate", json!({"texts": []})).status, 400);
        assert_eq!(post("/search", json!({"query": "a"})).status, 503, "natively there is no database");
    }
}
