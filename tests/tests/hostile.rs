//! Components made to hurt whoever takes them: each is refused in bounded time with one clear sentence, and the old build
//! serves on. What is merely no component, or of no world that Berth calls, is in `unruly.rs`.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use berth_tests::host::OPERATOR_TOKEN;
use berth_tests::{Host, Manifest};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is refused for its bytes is refused at once, also on a busy machine.
const QUICK: Duration = Duration::from_secs(30);
/// The limits of a compilation, and a margin.
const COMPILATION_MAX: Duration = Duration::from_secs(85);
/// What a request may take longer beside a compilation than ten times the slowest one without: the machine has others to serve.
const SLOWER_BY_MAX: Duration = Duration::from_secs(2);
/// Bytes of a sentence.
const SENTENCE_BYTES_MAX: usize = 1_000;
const MIB: usize = 1 << 20;

/// A number as WebAssembly writes it.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, payload: &[u8]) -> Vec<u8> {
    [[id].as_slice(), leb128(payload.len()).as_slice(), payload].concat()
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".as_slice(), sections.concat().as_slice()].concat()
}

/// A component that imports empty instances of these names and does nothing with them.
fn importing(names: impl ExactSizeIterator<Item = String>) -> Vec<u8> {
    // One type: an instance that exports nothing.
    let types = section(7, &[1, 0x42, 0]);
    let mut imports = leb128(names.len());
    for name in names {
        imports.push(0);
        imports.extend(leb128(name.len()));
        imports.extend(name.as_bytes());
        imports.extend([5, 0]);
    }
    component(&[types, section(10, &imports)])
}

/// A component of a few dozen kilobytes with one function: loops within one another, and in the innermost every variable
/// changes, so that each of the loops has to carry each of the variables.
fn costly(loops: usize, variables: usize) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(leb128(variables));
    body.push(0x7f);
    for _ in 0..loops {
        body.extend([0x03, 0x40]);
    }
    for variable in 0..variables {
        let variable = leb128(variable);
        body.push(0x20);
        body.extend(&variable);
        body.extend([0x41, 1, 0x6a, 0x21]);
        body.extend(&variable);
    }
    for _ in 0..loops {
        body.extend([0x20, 0, 0x0d, 0, 0x0b]);
    }
    body.push(0x0b);
    let code = [leb128(1), leb128(body.len()), body].concat();
    let module = [b"\0asm\x01\0\0\0".to_vec(), section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0]), section(10, &code)];
    component(&[section(1, &module.concat())])
}

async fn plugins(host: &Host) -> Value {
    host.operator().get("/api/admin/plugins").await.expect(200)
}

/// Deploys what must be refused within `limit`; the sentence that says why.
async fn refusal(host: &Host, component: Vec<u8>, limit: Duration) -> String {
    let begin = Instant::now();
    let problem = host.operator().deploy("hello", component).await.problem(422, "UNPROCESSABLE");
    assert!(begin.elapsed() < limit, "it took {:?}", begin.elapsed());
    let sentence = problem["detail"].as_str().unwrap_or_default().to_owned();
    assert!(sentence.len() < SENTENCE_BYTES_MAX && !sentence.contains('\n'), "not one clear sentence: {sentence}");
    assert_eq!(plugins(host).await["items"][0]["revision"], 1);
    host.client().get("/api/hello").await.done(200);
    sentence
}

#[tokio::test]
async fn a_component_for_another_world_is_told_what_berth_does_not_have() {
    let host = Host::with(Manifest::hello()).start().await;
    let sentence = refusal(&host, importing(["acme:tools/run@1.0.0".to_owned()].into_iter()), QUICK).await;
    assert_eq!(sentence, "it imports acme:tools/run@1.0.0, which Berth does not offer");
    // Long names are told in part.
    let long = format!("acme:tools/{}", "a".repeat(50_000));
    let sentence = refusal(&host, importing([long].into_iter()), QUICK).await;
    assert!(sentence.contains("which Berth does not offer"), "{sentence}");
    // A name that Berth has with contents that it has not.
    let sentence = refusal(&host, importing(["wasi:io/whirlpool@0.2.0".to_owned()].into_iter()), QUICK).await;
    assert!(sentence.contains("its imports do not fit") || sentence.contains("exports none of"), "{sentence}");
}

#[tokio::test]
async fn ten_thousand_imports_are_one_sentence() {
    let host = Host::with(Manifest::hello()).start().await;
    let tools = |count: u32| importing((0..count).map(|number| format!("acme:tools/run{number}")));
    let sentence = refusal(&host, tools(10_000), QUICK).await;
    assert!(sentence.contains("exceeds limit of 1000"), "{sentence}");
    // As many as a component may have at all.
    let sentence = refusal(&host, tools(900), QUICK).await;
    assert!(sentence.contains("acme:tools/run0, which Berth does not offer"), "{sentence}");
    assert!(sentence.ends_with("and 895 more"), "{sentence}");
    let secrets = (0..10_000).map(|number| format!("berth:platform/secrets@0.1.{number}"));
    let sentence = refusal(&host, importing(secrets), QUICK).await;
    assert!(sentence.contains("its grant has no `secrets`") || sentence.contains("no valid component"), "{sentence}");
}

#[tokio::test]
async fn two_hundred_megabytes_are_too_large_however_they_are_sent() {
    let host = Host::with(Manifest::hello()).start().await;
    let before = host.resident_bytes();
    let length = 200 * MIB;
    let head = |framing: &str| {
        format!(
            "POST /api/admin/plugins/hello/deploy HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {OPERATOR_TOKEN}\r\n\
             content-type: application/wasm\r\n{framing}\r\n\r\n",
            host.address()
        )
    };
    // Said beforehand, it is refused before a byte of it is sent.
    let begin = Instant::now();
    let answer = exchange(&host, &head(&format!("content-length: {length}")), 0).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("PAYLOAD_TOO_LARGE"), "{answer}");
    // Unsaid, as soon as it is too much. The host may close before the client has read why.
    let answer = exchange(&host, &head("transfer-encoding: chunked"), length / MIB).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(begin.elapsed() < QUICK, "it took {:?}", begin.elapsed());
    let after = host.resident_bytes();
    assert!(after < before + 160 * MIB as u64, "{before} bytes became {after}");
    assert_eq!(plugins(&host).await["items"][0]["revision"], 1);
    host.client().get("/api/hello").await.done(200);
}

/// Sends a head and chunks of one mebibyte until the host has had enough, and reads what it says.
async fn exchange(host: &Host, head: &str, chunks: usize) -> String {
    let Ok(stream) = TcpStream::connect(host.address()).await else { return "no connection".to_owned() };
    let (mut reader, mut writer) = stream.into_split();
    let chunk = [format!("{MIB:x}\r\n").into_bytes(), vec![0; MIB], b"\r\n".to_vec()].concat();
    let head = head.to_owned();
    let writing = tokio::spawn(async move {
        let mut outcome = writer.write_all(head.as_bytes()).await;
        for _ in 0..chunks {
            if outcome.is_err() {
                break;
            }
            outcome = writer.write_all(&chunk).await;
        }
        writer
    });
    let mut answer = Vec::new();
    // An answer has its length and the connection may stay open: what counts is the beginning.
    let reading = async {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
            if answer.ends_with(b"}") {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(QUICK, reading).await;
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The longest that one of some requests takes, over a few seconds.
async fn slowest_of(host: &Host) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        let begin = Instant::now();
        host.client().get("/api/hello").await.done(200);
        slowest = slowest.max(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    slowest
}

#[tokio::test]
async fn what_takes_too_much_to_compile_is_given_up_and_nobody_else_waits_for_it() {
    let host = Host::with(Manifest::hello()).start().await;
    let quiet = slowest_of(&host).await;
    let before = host.resident_bytes();
    let component = costly(4_000, 4_000);
    assert!(component.len() < MIB / 10, "{} bytes", component.len());
    let (sentence, slowest) = tokio::join!(refusal(&host, component, COMPILATION_MAX), async {
        // It can open neither a socket nor a file, and has a bound on memory and on time.
        berth_tests::eventually("the limits of the compilation", async || {
            let limits = host.limits_of_a_compilation()?;
            let limit = |name: &str| {
                let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            };
            let is_at_most = |name: &str, most: u64| limit(name).is_some_and(|limit| limit <= most);
            let is_bounded = is_at_most("Max address space", 4 << 30) && is_at_most("Max cpu time", 120);
            (is_bounded && is_at_most("Max open files", 0)).then_some(())
        })
        .await;
        // One deploy of a plugin at a time.
        let other = berth_tests::guests::bytes(&berth_tests::guests::fixture("hello-next"));
        host.operator().deploy("hello", other).await.problem(409, "CONFLICT");
        slowest_of(&host).await
    });
    assert!(sentence.starts_with("compiling it took more than"), "{sentence}");
    assert!(slowest < SLOWER_BY_MAX + quiet * 10, "a request took {slowest:?}, and {quiet:?} at most before it");
    // It was the child that paid.
    let after = host.resident_bytes();
    assert!(after < before + 160 * MIB as u64, "{before} bytes became {after}");
    // And a sound build is taken as ever.
    let next = berth_tests::guests::bytes(&berth_tests::guests::fixture("hello-next"));
    host.operator().deploy("hello", next).await.done(200);
}
