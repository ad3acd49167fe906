//! knowledge-base: where entries stand, who moves them, what hangs on them, and what becomes of two that meet. Where the database
//! has one writer at a time that they do not meet is its doing, on PostgreSQL it is the service's.

use berth_tests::answer::text;
use berth_tests::members::host_with_ada;
use berth_tests::wait::heard_of;
use berth_tests::{Client, Host, Manifest, eventually, members};
use serde_json::{Value, json};

const PATH: &str = "/api/knowledge";
const CATEGORIES: &str = "/api/knowledge/categories";
const SPACES: &str = "/api/knowledge/spaces";
/// How often each is tried: two that are sent at once do not always meet.
const MEETINGS: usize = 8;

async fn made(client: &Client, path: &str, body: Value) -> String {
    text(&client.post(path, &body).await.expect(201), "id")
}

async fn entry(client: &Client, body: Value) -> String {
    made(client, PATH, body).await
}

async fn shown(client: &Client, id: &str) -> Value {
    client.get(&format!("{PATH}/{id}")).await.expect(200)
}

#[tokio::test]
async fn what_is_made_below_an_entry_that_moves_goes_with_it() {
    let (_host, ada) = host_with_ada().await;
    let space = made(&ada, SPACES, json!({"name": "Harbour", "type": "wiki"})).await;
    for _ in 0..MEETINGS {
        let top = entry(&ada, json!({"title": "Top", "spaceId": space})).await;
        let moved = entry(&ada, json!({"title": "Moved"})).await;
        let path = format!("{PATH}/{moved}");
        let below = json!({"title": "Below", "parentId": moved});
        let to = json!({"parentId": top, "spaceId": space});
        let (moving, making) = tokio::join!(ada.put(&path, &to), ada.post(PATH, &below));
        moving.done(200);
        let below = shown(&ada, &text(&making.expect(201), "id")).await;
        let expected = format!("/{top}/{moved}/{}", text(&below, "id"));
        assert_eq!((&below["path"], &below["spaceId"]), (&json!(expected), &json!(space)), "{below}");
    }
}

#[tokio::test]
async fn nothing_comes_into_what_goes_at_that_moment() {
    let (_host, ada) = host_with_ada().await;
    for round in 0..MEETINGS {
        let parent = entry(&ada, json!({"title": "Parent"})).await;
        let category = made(&ada, CATEGORIES, json!({"name": format!("Category {round}")})).await;
        let space = made(&ada, SPACES, json!({"name": format!("Space {round}"), "type": "wiki"})).await;
        for (path, member, value, status, code, kept) in [
            (format!("{PATH}/{parent}"), "parentId", json!(parent), 404, "NOT_FOUND", "HAS_CHILDREN"),
            (format!("{SPACES}/{space}"), "spaceId", json!(space), 404, "NOT_FOUND", "SPACE_NOT_EMPTY"),
            (
                format!("{CATEGORIES}/{category}"),
                "categoryIds",
                json!([category]),
                400,
                "VALIDATION_ERROR",
                "CATEGORY_IN_USE",
            ),
        ] {
            let mut body = json!({"title": "New"});
            body[member] = value.clone();
            let mut change = json!({});
            change[member] = value;
            let changed = format!("{PATH}/{}", entry(&ada, json!({"title": "Other"})).await);
            let (going, making, changing) =
                tokio::join!(ada.delete(&path), ada.post(PATH, &body), ada.put(&changed, &change));
            if going.status == 204 {
                making.problem(status, code);
                changing.problem(status, code);
            } else {
                going.problem(409, kept);
                assert!(making.status == 201 || changing.status == 200, "{path} is kept for nothing");
                ada.get(&path).await.done(200);
            }
        }
    }
}

#[tokio::test]
async fn a_restored_entry_is_of_the_categories_that_are_there() {
    let (_host, ada) = host_with_ada().await;
    let one = made(&ada, CATEGORIES, json!({"name": "One"})).await;
    let two = made(&ada, CATEGORIES, json!({"name": "Two"})).await;
    let id = entry(&ada, json!({"title": "Old", "categoryIds": [one, two]})).await;
    let path = format!("{PATH}/{id}");
    ada.delete(&format!("{CATEGORIES}/{one}")).await.problem(409, "CATEGORY_IN_USE");
    ada.delete(&path).await.done(204);
    ada.delete(&format!("{CATEGORIES}/{one}")).await.done(204);
    let back = ada.post(&format!("{path}/restore"), &json!({})).await.expect(200);
    assert_eq!(back["categoryIds"], json!([two]), "{back}");
    ada.put(&path, &json!({"title": "New"})).await.done(200);
}

#[tokio::test]
async fn categories_that_move_keep_within_ten_levels() {
    let (_host, ada) = host_with_ada().await;
    let top = made(&ada, CATEGORIES, json!({"name": "Top"})).await;
    let second = made(&ada, CATEGORIES, json!({"name": "Second", "parentId": top})).await;
    let first = made(&ada, CATEGORIES, json!({"name": "1"})).await;
    let mut last = first.clone();
    for level in 2..10 {
        last = made(&ada, CATEGORIES, json!({"name": level.to_string(), "parentId": last})).await;
    }
    let path = format!("{CATEGORIES}/{first}");
    ada.put(&path, &json!({ "parentId": second })).await.problem(422, "TOO_DEEP");
    ada.put(&path, &json!({ "parentId": top })).await.done(200);
    let deepest = ada.get(&format!("{CATEGORIES}/{last}")).await.expect(200);
    assert_eq!(deepest["path"], "/Top/1/2/3/4/5/6/7/8/9", "{deepest}");
}

#[tokio::test]
async fn nobody_takes_to_another_space_what_others_have_begun() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let own = made(&bob, SPACES, json!({"name": "Bob's", "type": "personal"})).await;
    let inside = entry(&bob, json!({"title": "Inside", "spaceId": own})).await;
    let theirs = entry(&ada, json!({"title": "Theirs", "content": "x", "status": "published"})).await;
    let path = format!("{PATH}/{theirs}");
    bob.put(&path, &json!({ "spaceId": own })).await.problem(403, "FORBIDDEN");
    // A parent leads into its space as well.
    bob.put(&path, &json!({ "parentId": inside })).await.problem(403, "FORBIDDEN");
    let top = entry(&bob, json!({"title": "Top", "content": "x", "status": "published"})).await;
    bob.put(&path, &json!({ "parentId": top })).await.done(200);
    let whole = format!("{PATH}/{top}");
    bob.put(&whole, &json!({ "spaceId": own })).await.problem(403, "FORBIDDEN");
    assert_eq!(shown(&ada, &theirs).await["spaceId"], Value::Null);
    ada.put(&path, &json!({ "parentId": null })).await.done(200);
    bob.put(&whole, &json!({ "spaceId": own })).await.done(200);
}

#[tokio::test]
async fn a_file_is_saved_and_never_shown_by_a_browser() {
    let (_host, ada) = host_with_ada().await;
    let row = format!("{PATH}/{}/attachments", entry(&ada, json!({"title": "Files"})).await);
    for name in ["../plan.txt", "a\\b", "a\"; x=\"y", "", &"a".repeat(201)] {
        let answer = ada.post(&row, &json!({"name": name, "data": "aGVsbG8="})).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["name"], "{name:?}");
    }
    for kind in ["text", "text/html; charset=utf-8", "text/html/x", "te\"xt/html"] {
        let answer = ada.post(&row, &json!({"name": "a", "mediaType": kind, "data": "aGVsbG8="})).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["mediaType"], "{kind:?}");
    }
    for data in ["aGVsbG8", "a b=", "===="] {
        ada.post(&row, &json!({"name": "a", "data": data})).await.problem(400, "VALIDATION_ERROR");
    }
    let page = json!({"name": "Größe\r\nx: y.html", "mediaType": "Text/HTML", "data": "PHNjcmlwdD4="});
    let file = made(&ada, &row, page).await;
    let bytes = ada.get(&format!("{row}/{file}")).await;
    assert_eq!((bytes.status, bytes.text().as_str()), (200, "<script>"));
    for (name, value) in [
        ("content-type", "text/html"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("x", ""),
    ] {
        assert_eq!(bytes.header(name), value, "{name}");
    }
    let disposition = bytes.header("content-disposition");
    assert!(disposition.starts_with("attachment; filename=\"Gr__e") && disposition.is_ascii(), "{disposition}");
    // A file of one entry is none of another.
    let other = entry(&ada, json!({"title": "Other"})).await;
    ada.get(&format!("{PATH}/{other}/attachments/{file}")).await.problem(404, "NOT_FOUND");
    for number in 1..19 {
        made(&ada, &row, json!({"name": number.to_string(), "data": "aGVsbG8="})).await;
    }
    let last = json!({"name": "last", "data": "aGVsbG8="});
    let (one, two) = tokio::join!(ada.post(&row, &last), ada.post(&row, &last));
    let (kept, refused) = if one.status == 201 { (one, two) } else { (two, one) };
    kept.done(201);
    refused.problem(422, "TOO_MANY_ATTACHMENTS");
}

#[tokio::test]
async fn events_say_whether_an_entry_is_for_few() {
    let host = Host::with(Manifest::services_and_herald("x", "x")).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let id = entry(&ada, json!({"title": "Pay rises", "content": "x"})).await;
    let told = heard_of(&ada, "knowledge.article.created", 1, |data| data["entryId"] == id.as_str()).await;
    assert_eq!((&told[0]["status"], &told[0]["isPrivate"]), (&json!("draft"), &json!(true)), "{told:?}");
    ada.post(&format!("{PATH}/{id}/publish"), &json!({})).await.done(200);
    let told = heard_of(&ada, "knowledge.article.updated", 1, |data| data["entryId"] == id.as_str()).await;
    assert_eq!((&told[0]["status"], &told[0]["isPrivate"]), (&json!("published"), &json!(false)), "{told:?}");
}

#[tokio::test]
async fn what_people_type_is_looked_for_and_nothing_else() {
    let (host, ada) = host_with_ada().await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let body =
        json!({"title": "Near the gate", "content": "The gate opens at two.", "status": "published", "tags": ["100%"]});
    let id = entry(&ada, body).await;
    let of = async |tag: &str| ada.get(&format!("{}&tags={tag}", url(&ada, "gate"))).await.expect(200);
    assert_eq!(of("100%25").await["items"][0]["id"], id.as_str());
    assert_eq!(of("%25").await["total"], 0, "no letter of a tag stands for others");
    // Operators, columns, signs and quotation marks of either database's own language are words, or nothing at all.
    for asked in [
        "gate OR x",
        "gate NOT two",
        "title:gate",
        "NEAR(gate two)",
        "gate*two",
        "\"gate",
        "gate\" OR \"1",
        "^gate",
        "-gate",
        "gate & !two | x",
        "gate:*",
        "'; DROP TABLE kb_entries; --",
        "{gate}",
        "gate <-> opens",
        "((((gate",
    ] {
        for client in [&ada, &eve] {
            let answer = client.get(&url(client, asked)).await;
            assert_eq!(answer.status, 200, "{asked:?}: {}", answer.text());
        }
        assert_eq!(eve.get(&url(&eve, asked)).await.expect(200)["total"], 0, "{asked:?}");
    }
    for (asked, total) in [("gate OR x", 0), ("\"gate opens\"", 1), ("\"opens gate\"", 0), ("(gate) & [opens]", 1)] {
        assert_eq!(ada.get(&url(&ada, asked)).await.expect(200)["total"], total, "{asked:?}");
    }
    for asked in ["*", "\"\"", "()", "%", "'"] {
        ada.get(&url(&ada, asked)).await.problem(400, "VALIDATION_ERROR");
    }
}

/// The path of a search.
fn url(client: &Client, asked: &str) -> String {
    let whole = reqwest::Url::parse_with_params(&client.url(&format!("{PATH}/search")), [("q", asked)]);
    let whole = whole.unwrap_or_else(|error| unreachable!("{error}"));
    format!("{}?{}", whole.path(), whole.query().unwrap_or_default())
}

#[tokio::test]
async fn what_ends_elsewhere_is_suggested_to_who_may_know_of_it() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    for (name, is_private) in [("open", false), ("closed", true)] {
        let body = json!({"type": "channel", "name": name, "isPrivate": is_private});
        let talk = made(&ada, "/api/messaging/conversations", body).await;
        ada.put(&format!("/api/messaging/conversations/{talk}"), &json!({"isArchived": true})).await.done(200);
    }
    let drafts = format!("{PATH}?status=draft");
    let of_ada = eventually("both suggestions", async || {
        let found = ada.get(&drafts).await.expect(200);
        (found["total"] == 2).then_some(found)
    })
    .await;
    let of_bob = bob.get(&drafts).await.expect(200);
    assert_eq!((&of_bob["total"], &of_bob["items"][0]["title"]), (&json!(1), &json!("open")), "{of_ada} {of_bob}");
}
