//! The smallest plugin: it says hello. Benchmarks and swap tests use it; it must never need a capability.

use std::time::Duration;

use berth_sdk::{
    http::{Event, Next},
    prelude::*,
    serde_json::Value,
};

/// Which build this is: `BERTH_HELLO_VERSION` at build time.
const VERSION: &str = match option_env!("BERTH_HELLO_VERSION") {
    Some(version) => version,
    None => "1",
};

/// How many ticks a stream has when nothing is said, and the most it has.
const TICKS_DEFAULT: u32 = 10;
const TICKS_MAX: u32 = 100_000;
/// How long it waits between ticks when nothing is said, and the longest.
const INTERVAL_MS_DEFAULT: u64 = 1_000;
const INTERVAL_MS_MAX: u64 = 60_000;

#[data]
struct Greeting {
    message: String,
    version: String,
}

#[data]
struct Wish {
    /// How many ticks.
    count: Option<u32>,
    /// How long to wait between them.
    interval_ms: Option<u64>,
}

fn hello() -> Json<Greeting> {
    Json(Greeting { message: "hello".into(), version: VERSION.into() })
}

fn echo(Json(body): Json<Value>) -> Json<Value> {
    Json(body)
}

fn stream(Query(wish): Query<Wish>) -> Sse {
    let count = wish.count.unwrap_or(TICKS_DEFAULT).min(TICKS_MAX);
    let interval = Duration::from_millis(wish.interval_ms.unwrap_or(INTERVAL_MS_DEFAULT).min(INTERVAL_MS_MAX));
    let mut sent = 0;
    let mut has_waited = true;
    Sse::new(move || {
        if sent >= count {
            return Next::End;
        }
        if !has_waited {
            has_waited = true;
            return Next::Wait(interval);
        }
        has_waited = false;
        sent += 1;
        Next::Item(Event::new("tick").id(sent).json(&json!({ "tick": sent, "version": VERSION })))
    })
}

fn service() -> Service {
    Service::new("hello", VERSION).routes(
        Router::new()
            .get("/api/hello", hello)
            .summary("Say hello.")
            .public()
            .post("/api/hello/echo", echo)
            .summary("Answer with the body.")
            .public()
            .get("/api/hello/stream", stream)
            .summary("Tick.")
            .public(),
    )
}

berth_sdk::plugin!(service());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_hello_with_its_version() {
        let answer = service().handle(Request::new("GET", "/api/hello")).json_body().unwrap();
        assert_eq!(answer, json!({"message": "hello", "version": VERSION}));
    }

    #[test]
    fn it_echoes_objects_only() {
        let body = json!({"b": [1, 2.5, null], "a": "<x>"});
        let echoed = service().handle(Request::new("POST", "/api/hello/echo").with_json(&body));
        assert_eq!(echoed.json_body().unwrap(), body);
        assert_eq!(service().handle(Request::new("POST", "/api/hello/echo").with_json(&json!([1]))).status, 400);
    }

    #[test]
    fn a_stream_ends_after_its_ticks() {
        let mut ticks = stream(Query(Wish { count: Some(2), interval_ms: Some(5) }));
        assert!(matches!(ticks.pull(), Next::Item(_)));
        assert_eq!(ticks.pull(), Next::Wait(Duration::from_millis(5)));
        assert!(matches!(ticks.pull(), Next::Item(_)));
        assert_eq!(ticks.pull(), Next::End);
    }
}
