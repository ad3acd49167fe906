//! The load: keep-alive connections that send one request after the other for a while.
//!
//! A process of its own, so that it can be pinned to another core than the server. It reads answers by their
//! `content-length` and does nothing else: the less it does, the more of the machine the server shows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer with its head.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// `load <address> <path> <connections> <milliseconds>`: prints requests, failures and microseconds.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let [address, path, connections, milliseconds] = arguments else {
        bail!("load needs address, path, connections and milliseconds")
    };
    let (connections, milliseconds): (usize, u64) = (connections.parse()?, milliseconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (requests, failures, elapsed) =
        runtime.block_on(run(address, path, connections, Duration::from_millis(milliseconds)))?;
    println!("{requests} {failures} {}", elapsed.as_micros());
    Ok(())
}

async fn run(address: &str, path: &str, connections: usize, duration: Duration) -> Result<(u64, u64, Duration)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes();
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let begin = Instant::now();
    let end = begin + duration;
    // A load that sleeps makes the server pay for waking it, the more the slower the server is: on a virtual machine the
    // interrupt to a sleeping core costs as much as a request. So it never sleeps.
    let awake = tokio::spawn(async move {
        while Instant::now() < end {
            tokio::task::yield_now().await;
        }
    });
    let tasks: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(one(stream, request.clone(), end))).collect();
    let (mut requests, mut failures) = (0, 0);
    for task in tasks {
        let (done, failed) = task.await?;
        requests += done;
        failures += failed;
    }
    awake.await?;
    Ok((requests, failures, begin.elapsed()))
}

/// One connection, until the end or its first failure.
async fn one(mut stream: TcpStream, request: Vec<u8>, end: Instant) -> (u64, u64) {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let mut done = 0;
    while Instant::now() < end {
        match exchange(&mut stream, &request, &mut buffer).await {
            Ok(true) => done += 1,
            Ok(false) | Err(_) => return (done, 1),
        }
    }
    (done, 0)
}

/// Whether the answer was 200.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> Result<bool> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let count = stream.read(room).await?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        filled += count;
        let answer = buffer.get(..filled).unwrap_or_default();
        if let Some(head) = end_of_head(answer) {
            let wanted = head + content_length(answer.get(..head).unwrap_or_default())?;
            if filled >= wanted {
                return Ok(answer.starts_with(b"HTTP/1.1 200"));
            }
        }
    }
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let text = std::str::from_utf8(head)?;
    let line = text
        .split("\r\n")
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim())
        })
        .context("an answer without content-length")?;
    Ok(line.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_measured_by_its_length() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let head = end_of_head(answer).expect("a head");
        assert_eq!(content_length(&answer[..head]).expect("a length"), 2);
        assert_eq!(end_of_head(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
