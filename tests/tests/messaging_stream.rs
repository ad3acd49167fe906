//! messaging: streams that miss nothing and say nothing twice.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::time::Duration;

use berth_tests::answer::text;
use berth_tests::{Client, EventStream, Host, Manifest, guests, members};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

const CONVERSATIONS: &str = "/api/messaging/conversations";
const MESSAGES: &str = "/api/messaging/messages";
/// Followers and writers of the crowded conversation, and how much each writer says.
const FOLLOWERS: usize = 50;
const WRITERS: usize = 20;
const WORDS: usize = 10;

async fn started(manifest: Manifest) -> (Host, Client) {
    let host = Host::with(manifest).start().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    (host, ada)
}

async fn channel(client: &Client) -> String {
    text(&client.post(CONVERSATIONS, &json!({"type": "channel", "name": "quay"})).await.expect(201), "id")
}

async fn say(client: &Client, conversation: &str, content: &str) -> Value {
    let path = format!("{CONVERSATIONS}/{conversation}/messages");
    client.post(&path, &json!({ "content": content })).await.expect(201)
}

#[tokio::test]
async fn a_stream_brings_what_is_said_changed_and_typed() {
    let (host, ada) = started(Manifest::services()).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = channel(&ada).await;
    let old = text(&say(&ada, &id, "before").await, "id");
    let path = format!("{CONVERSATIONS}/{id}/stream");
    let mut live = EventStream::open(&ada, &path, None).await.expect("a stream");
    say(&bob, &id, "line one\nline two").await;
    let said = live.wait_for("message.created").await;
    assert_eq!((said.id.as_deref(), &said.data["content"]), (Some("2"), &json!("line one\nline two")));
    ada.post(&format!("{MESSAGES}/{old}/reactions"), &json!({"emoji": "👍"})).await.done(200);
    let changed = live.wait_for("message.updated").await;
    assert_eq!(
        (changed.id, &changed.data["seq"], &changed.data["reactions"]["👍"][0]),
        (None, &json!(1), &json!(members::id(&ada)))
    );
    bob.post(&format!("{CONVERSATIONS}/{id}/typing"), &json!({})).await.done(200);
    assert_eq!(live.wait_for("typing").await.data["userId"], members::id(&bob).as_str());
    let there = bob.get(&format!("{CONVERSATIONS}/{id}/participants")).await.expect(200);
    let of = |person: &Client| {
        let all = there["items"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|item| item["userId"] == members::id(person).as_str()).unwrap_or_default();
        (found["isOnline"].clone(), found["isTyping"].clone())
    };
    assert_eq!((of(&ada), of(&bob)), ((json!(true), json!(false)), (json!(false), json!(true))), "{there}");
    ada.delete(&format!("{MESSAGES}/{old}")).await.done(204);
    let gone = live.wait_for("message.deleted").await;
    assert_eq!((&gone.data["id"], &gone.data["content"]), (&json!(old), &json!("")));
    // Whoever was away gets what they missed: changes of what they know, then what was said.
    for number in 3..=5 {
        say(&bob, &id, &number.to_string()).await;
    }
    let mut again = EventStream::open(&ada, &path, Some("2")).await.expect("a stream");
    assert_eq!(again.wait_for("message.deleted").await.data["seq"], 1);
    for number in 3..=5 {
        assert_eq!(again.wait_for("message.created").await.id, Some(number.to_string()));
    }
    // It ends with the conversation.
    ada.delete(&format!("{CONVERSATIONS}/{id}")).await.done(204);
    again.wait_for("conversation.closed").await;
    assert!(again.next().await.is_none());
}

/// Follows a conversation from its beginning to its last number, coming back whenever the stream breaks off. The numbers
/// and ids in the order in which they came, and how often it came back.
async fn follow(client: Client, conversation: String, until: usize) -> (Vec<(i64, String)>, usize) {
    let mut seen: Vec<(i64, String)> = Vec::new();
    let mut last: Option<String> = None;
    let mut connections = 0;
    let path = format!("{CONVERSATIONS}/{conversation}/stream?after=0");
    while seen.last().is_none_or(|(seq, _)| *seq < i64::try_from(until).unwrap_or(0)) {
        let Some(mut stream) = EventStream::open(&client, &path, last.as_deref()).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        connections += 1;
        while let Some(event) = stream.next().await {
            if event.kind == "error" {
                break;
            }
            if event.kind == "message.created" {
                seen.push((event.data["seq"].as_i64().expect("a number"), text(&event.data, "id")));
                last = event.id;
                if seen.len() >= until {
                    break;
                }
            }
        }
    }
    (seen, connections)
}

/// Says so many things, each until it is taken; the last one only when told to.
async fn write(client: Client, conversation: String, writer: usize, mut go_on: watch::Receiver<bool>) -> Vec<Value> {
    let mut said = Vec::new();
    for word in 0..WORDS {
        if word + 1 == WORDS {
            go_on.wait_for(|go_on| *go_on).await.expect("the signal");
        }
        let body = json!({"content": format!("{writer}: {word}"), "clientMessageId": format!("w{writer}-{word}")});
        let path = format!("{CONVERSATIONS}/{conversation}/messages");
        let taken = async {
            loop {
                // No answer, or not now: said again under the same name, it is said once.
                let Ok(answer) = client.try_send(client.request(Method::POST, &path).json(&body)).await else {
                    continue;
                };
                assert!(matches!(answer.status, 200 | 201 | 503), "{}", answer.text());
                if answer.status < 300 {
                    return answer.json();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let taken = tokio::time::timeout(Duration::from_secs(120), taken).await.expect("a word being taken");
        said.push(taken);
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_followers_miss_nothing_of_twenty_writers_across_a_redeploy() {
    let (host, ada) =
        started(Manifest::services().with("concurrency = 512", "concurrency = 512\ndrain_ms = 2000")).await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let id = channel(&ada).await;
    let total = WRITERS * WORDS;
    let followers: Vec<_> = (0..FOLLOWERS)
        .map(|number| tokio::spawn(follow(if number % 2 == 0 { ada.clone() } else { bob.clone() }, id.clone(), total)))
        .collect();
    let (sender, receiver) = watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let client = if number % 2 == 0 { ada.clone() } else { bob.clone() };
            tokio::spawn(write(client, id.clone(), number, receiver.clone()))
        })
        .collect();
    // A new build while they talk; whoever follows the old one is sent away when it is withdrawn.
    let build = guests::variant(&guests::bytes(&guests::plugin("messaging")), 1);
    host.operator().deploy("messaging", build).await.done(200);
    sender.send(true).expect("the writers");
    let mut said: Vec<(i64, String)> = Vec::new();
    for writer in writers {
        let taken = writer.await.expect("a writer");
        said.extend(taken.iter().map(|row| (row["seq"].as_i64().expect("a number"), text(row, "id"))));
    }
    said.sort();
    let expected: Vec<i64> = (1..).take(total).collect();
    assert_eq!(said.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), expected, "a gap, or a number twice");
    let mut returns = 0;
    for follower in followers {
        let (seen, connections) = tokio::time::timeout(Duration::from_secs(120), follower)
            .await
            .expect("everything within two minutes")
            .expect("a follower");
        assert_eq!(seen, said, "a follower missed something, or was told twice");
        returns += connections - 1;
    }
    assert!(returns >= FOLLOWERS, "only {returns} came back: the new build was not followed");
    println!("{FOLLOWERS} followers, {total} messages, {returns} came back");
}
