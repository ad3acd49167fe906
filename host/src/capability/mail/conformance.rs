//! What the mail room promises, against a small SMTP server of our own.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::bindings::imports::mail::{Host as _, Message};
use crate::bindings::imports::types::Fault;
use crate::capability::grant::Grant;
use crate::capability::testing;

/// Takes one conversation and returns every line the client sent; answers `RCPT` with `rcpt`.
async fn server(rcpt: &'static str) -> (MailRoom, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let room = MailRoom::smtp(&format!("smtp://{}", listener.local_addr().unwrap()), "Berth <berth@example.com>");
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = tokio::io::split(stream);
        let mut lines = BufReader::new(reader.take(1 << 20)).lines();
        let mut seen = Vec::new();
        let mut in_data = false;
        writer.write_all(b"220 test\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            let command: String = line.chars().take(4).collect();
            let reply = match command.as_str() {
                _ if in_data && line == "." => "250 taken\r\n",
                _ if in_data => "",
                "EHLO" => "250 test\r\n",
                "RCPT" => rcpt,
                "DATA" => "354 go on\r\n",
                _ => "250 ok\r\n",
            };
            let quit = command == "QUIT" && !in_data;
            in_data = (in_data && line != ".") || (command == "DATA" && !in_data);
            seen.push(line);
            if writer.write_all(reply.as_bytes()).await.is_err() || quit {
                break;
            }
        }
        seen
    });
    (room.unwrap(), task)
}

fn mail() -> Mail {
    Mail {
        to: vec!["ada@example.com".into()],
        subject: "Grüße".into(),
        text: "Hello\n.\nQUIT".into(),
        ..Mail::default()
    }
}

#[tokio::test]
async fn a_message_reaches_the_server_with_the_operators_sender() {
    let (room, task) = server("250 ok\r\n").await;
    let sent = Mail {
        to: vec!["ada@example.com".into(), "Bo <bo@example.com>".into()],
        html: Some("<b>Hi</b>".into()),
        ..mail()
    };
    let id = room.send(sent).await.unwrap();
    let seen = task.await.unwrap();
    assert!(id.starts_with('<') && id.ends_with("@example.com>"));
    assert!(seen.contains(&format!("Message-ID: {id}")), "{seen:?}");
    assert!(seen.iter().any(|line| line.starts_with("MAIL FROM:<berth@example.com>")));
    assert!(seen.contains(&"RCPT TO:<bo@example.com>".to_owned()));
    assert!(seen.iter().any(|line| line.starts_with("Subject: =?utf-8?")), "a subject beyond ASCII is encoded");
    assert!(seen.contains(&"..".to_owned()), "a lone dot in the text does not end it");
}

#[tokio::test]
async fn nothing_a_guest_writes_becomes_a_header_or_a_command() {
    let room = MailRoom::smtp("smtp://127.0.0.1:9", "berth@example.com").unwrap();
    for hostile in [
        Mail { subject: "hi\r\nBcc: eve@example.com".into(), ..mail() },
        Mail { to: vec!["ada@example.com\r\nRCPT TO:<eve@example.com>".into()], ..mail() },
        Mail { to: vec!["ada@example.com>\nDATA".into()], ..mail() },
        Mail { to: vec!["ada@example.com, eve@example.com".into()], ..mail() },
        Mail { reply_to: Some("a@example.com\nBcc: eve@example.com".into()), ..mail() },
        Mail { to: vec!["not an address".into()], ..mail() },
        Mail { to: vec![], ..mail() },
    ] {
        let answer = room.send(hostile.clone()).await;
        assert!(matches!(answer, Err(MailError::Invalid(_))), "{hostile:?}: {answer:?}");
    }
}

#[tokio::test]
async fn limits_are_named() {
    let room = MailRoom::smtp("smtp://127.0.0.1:9", "berth@example.com").unwrap();
    for large in [
        Mail { to: vec!["ada@example.com".into(); RECIPIENTS_MAX + 1], ..mail() },
        Mail { subject: "x".repeat(SUBJECT_BYTES_MAX + 1), ..mail() },
        Mail { text: "x".repeat(BODY_BYTES_MAX + 1), ..mail() },
    ] {
        assert!(matches!(room.send(large).await, Err(MailError::TooLarge(_))));
    }
}

#[tokio::test]
async fn a_refused_address_is_invalid_and_a_missing_server_unavailable() {
    let (room, task) = server("550 no such user\r\n").await;
    assert!(matches!(room.send(mail()).await, Err(MailError::Invalid(_))));
    task.await.unwrap();
    let (room, task) = server("451 later\r\n").await;
    assert!(matches!(room.send(mail()).await, Err(MailError::Unavailable(_))));
    task.await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    drop(listener);
    let room = MailRoom::smtp(&url, "berth@example.com").unwrap();
    assert!(matches!(room.send(mail()).await, Err(MailError::Unavailable(_))));
    assert!(matches!(MailRoom::unconfigured().send(mail()).await, Err(MailError::Unavailable(None))));
}

#[tokio::test]
async fn a_guest_without_the_grant_sends_nothing() {
    let room = MailRoom::unconfigured();
    let message = || Message {
        to: vec!["ada@example.com".into()],
        subject: String::new(),
        text: String::new(),
        html: None,
        reply_to: None,
    };
    let guest = testing::guest_with("planning", None, Grant::default());
    let mut view = View { guest: &guest, room: &room };
    assert!(matches!(view.send(message()).await.unwrap(), Err(Fault::Denied(_))));
    let guest = testing::guest("planning", None);
    let mut view = View { guest: &guest, room: &room };
    assert!(matches!(view.send(message()).await.unwrap(), Err(Fault::Unavailable)));
}

#[tokio::test]
async fn a_copy_of_a_request_sends_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let room = MailRoom::smtp(&format!("smtp://{}", listener.local_addr().unwrap()), "berth@example.com").unwrap();
    let copy = testing::shadow(testing::guest("planning", None));
    let message = Message {
        to: vec!["ada@example.com".into()],
        subject: "Hello".into(),
        text: "Hello".into(),
        html: None,
        reply_to: None,
    };
    let mut view = View { guest: &copy, room: &room };
    let id = view.send(message).await.unwrap().unwrap();
    assert!(!id.is_empty());
    // Whoever connects waits to be accepted.
    tokio::select! {
        biased;
        _ = listener.accept() => panic!("somebody came to send a mail"),
        () = tokio::task::yield_now() => {}
    }
}

#[test]
fn malformed_settings_are_refused_before_anything_is_sent() {
    assert!(matches!(MailRoom::smtp("http://example.com", "berth@example.com"), Err(MailError::Invalid(_))));
    assert!(matches!(MailRoom::smtp("smtp://mail.example.com", "nobody"), Err(MailError::Invalid(_))));
    assert!(MailRoom::smtp("smtps://user:secret@mail.example.com", "Berth <berth@example.com>").is_ok());
    assert!(MailRoom::smtp("smtp://user:secret@mail.example.com:587", "berth@example.com").is_ok());
}
