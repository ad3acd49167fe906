//! How each kind of provider is spoken to. Credentials are never here: the host puts them in by the secret's id.

use std::time::Duration;

use berth_sdk::{
    http_out::{Call, Client, Reply},
    mail::{self, Mail},
    prelude::*,
    serde_json::Value,
};

use super::Provider;
use crate::{kinds::Channel, template::Words};

/// How long a provider may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of an error that are kept.
const ERROR_CHARACTERS_MAX: usize = 500;
/// Characters of a text message.
const SMS_CHARACTERS_MAX: usize = 1_500;

/// One message on its way out.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The channel.
    pub channel: Channel,
    /// The address.
    pub to: String,
    /// What it says.
    pub words: Words,
    /// The delivery: makes a repeated call the same call.
    pub reference: Id,
    /// The event type.
    pub event_type: String,
}

/// What a provider that took it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The provider; none for the host's own mail.
    pub provider_id: Option<Id>,
    /// Its name for the message.
    pub message_id: Option<String>,
    /// The price, in micro-cents.
    pub cost_micro: Option<i64>,
}

/// Why a provider did not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub error: String,
    /// What it means for what comes next.
    pub kind: FailureKind,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The address does not take it, whoever sends.
    Address,
    /// This provider will never take it.
    Lasting,
    /// Later it may.
    Passing,
}

impl Failure {
    fn lasting(code: &'static str, error: impl Into<String>) -> Self {
        Self { code, error: error.into(), kind: FailureKind::Lasting }
    }

    fn passing(code: &'static str, error: impl Into<String>) -> Self {
        Self { code, error: error.into(), kind: FailureKind::Passing }
    }
}

/// Sends a parcel through a provider.
pub fn through(provider: &Stored<Provider>, parcel: &Parcel) -> Result<Receipt, Failure> {
    let message_id = match provider.kind().as_str() {
        "smtp" => smtp(parcel, provider.text("replyTo"))?,
        "ses" => {
            return Err(Failure::lasting(
                "NOT_IMPLEMENTED",
                "The API of SES wants signed requests, which this host cannot make; use its SMTP server with the code smtp.",
            ));
        }
        _ => over_http(provider, parcel)?,
    };
    let cost_micro = provider.config.get("costMicro").and_then(Value::as_i64);
    Ok(Receipt { provider_id: Some(provider.id.clone()), message_id, cost_micro })
}

/// Sends an e-mail over the host's own server. Returns its Message-ID.
pub fn smtp(parcel: &Parcel, reply_to: Option<&str>) -> Result<Option<String>, Failure> {
    let mail = Mail {
        to: vec![parcel.to.clone()],
        subject: parcel.words.subject.chars().take(200).collect(),
        text: parcel.words.text.clone(),
        html: parcel.words.html.clone(),
        reply_to: reply_to.map(ToString::to_string),
    };
    mail::send(&mail).map(Some).map_err(|fault| match fault {
        Fault::Unavailable => Failure::passing(
            "MAIL_UNAVAILABLE",
            "E-mail over SMTP is disabled: the host has no SMTP server configured, or it cannot be reached.",
        ),
        Fault::Denied(_) => Failure::lasting("MAIL_DENIED", "This service may not send mail: its grant lacks it."),
        Fault::Invalid(text) => Failure { code: "MAIL_REFUSED", error: short(&text), kind: FailureKind::Address },
        Fault::TooLarge(text) => Failure::lasting("MAIL_TOO_LARGE", short(&text)),
        other => Failure::passing("MAIL_FAILED", short(&other.to_string())),
    })
}

fn over_http(provider: &Provider, parcel: &Parcel) -> Result<Option<String>, Failure> {
    let call = request(provider, parcel).timeout(TIMEOUT).idempotency_key(parcel.reference.as_str());
    let call = match &provider.secret_id {
        Some(secret_id) => call.auth_secret_id(secret_id.as_str()),
        None => call,
    };
    let reply = crate::egress::send(&call)?;
    judged(&reply)?;
    Ok(message_id(&reply))
}

/// The request of a provider.
pub fn request(provider: &Provider, parcel: &Parcel) -> Call {
    let base = |default: &str| Client::new(provider.text("baseUrl").unwrap_or(default));
    let from = provider.text("from").unwrap_or_default();
    let (words, to) = (&parcel.words, parcel.to.as_str());
    match provider.kind().as_str() {
        "sendgrid" => {
            let mut content = vec![json!({"type": "text/plain", "value": words.text})];
            content.extend(words.html.as_ref().map(|html| json!({"type": "text/html", "value": html})));
            let body = json!({
                "personalizations": [{"to": [{"email": to}]}], "from": {"email": from}, "subject": words.subject,
                "content": content,
            });
            base("https://api.sendgrid.com").post("/v3/mail/send").json(&body)
        }
        "twilio" => {
            let account = provider.text("accountSid").unwrap_or_default();
            let prefix = if parcel.channel == Channel::Whatsapp { "whatsapp:" } else { "" };
            let text: String = format!("{}\n{}", words.subject, words.text).chars().take(SMS_CHARACTERS_MAX).collect();
            let (kind, name, value) = match parcel.channel {
                Channel::Voice => ("Calls", "Twiml", format!("<Response><Say>{}</Say></Response>", in_xml(&text))),
                _ => ("Messages", "Body", text),
            };
            let form = form(&[("To", &format!("{prefix}{to}")), ("From", &format!("{prefix}{from}")), (name, &value)]);
            base("https://api.twilio.com")
                .post(&format!("/2010-04-01/Accounts/{account}/{kind}.json"))
                .body("application/x-www-form-urlencoded", form)
        }
        "fcm" => {
            let project = provider.text("projectId").unwrap_or_default();
            let body = json!({"message": {"token": to, "notification": {"title": words.subject, "body": words.text}}});
            base("https://fcm.googleapis.com").post(&format!("/v1/projects/{project}/messages:send")).json(&body)
        }
        _ => {
            let body = json!({
                "channel": parcel.channel, "to": to, "subject": words.subject, "text": words.text, "html": words.html,
                "eventType": parcel.event_type, "reference": parcel.reference,
            });
            Client::new(provider.text("url").unwrap_or_default()).post("").json(&body)
        }
    }
}

fn judged(reply: &Reply) -> Result<(), Failure> {
    let said = || {
        let text = short(&String::from_utf8_lossy(&reply.body));
        format!("The provider answered {}: {text}", reply.status)
    };
    match reply.status {
        200..300 => Ok(()),
        408 | 425 | 429 | 500.. => Err(Failure::passing("PROVIDER_FAILED", said())),
        401 | 403 => Err(Failure::lasting("PROVIDER_CREDENTIALS", said())),
        _ => Err(Failure::lasting("PROVIDER_REFUSED", said())),
    }
}

/// What providers call a message: a header, or a member of the answer.
fn message_id(reply: &Reply) -> Option<String> {
    if let Some(id) = reply.header("x-message-id") {
        return Some(short(id));
    }
    let body: Value = berth_sdk::serde_json::from_slice(&reply.body).ok()?;
    let found = ["sid", "name", "messageId", "id"].iter().find_map(|name| body.get(*name).and_then(Value::as_str));
    found.map(short)
}

fn short(text: &str) -> String {
    validate::clean(text).chars().take(ERROR_CHARACTERS_MAX).collect()
}

fn in_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn form(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(code: &str, channel: Channel, config: Value) -> Provider {
        berth_sdk::serde_json::from_value(json!({"code": code, "channel": channel, "config": config})).unwrap()
    }

    fn parcel(channel: Channel) -> Parcel {
        let words = Words { subject: "S & T".into(), text: "Hi <b>".into(), html: None };
        Parcel { channel, to: "+1 555".into(), words, reference: "d1".into(), event_type: "x".into() }
    }

    #[test]
    fn each_provider_is_spoken_to_in_its_own_way() {
        let twilio = provider("twilio", Channel::Sms, json!({"accountSid": "AC1", "from": "+2"}));
        let call = request(&twilio, &parcel(Channel::Sms));
        assert_eq!(call.url, "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json");
        assert_eq!(String::from_utf8(call.body).unwrap(), "To=%2B1%20555&From=%2B2&Body=S%20%26%20T%0AHi%20%3Cb%3E");
        let voice = request(&twilio, &parcel(Channel::Voice));
        assert!(String::from_utf8(voice.body).unwrap().contains("%26lt%3Bb%26gt%3B"), "a text is no markup");
        let sendgrid =
            provider("sendgrid", Channel::Email, json!({"from": "a@example.com", "baseUrl": "http://127.0.0.1:9"}));
        assert_eq!(request(&sendgrid, &parcel(Channel::Email)).url, "http://127.0.0.1:9/v3/mail/send");
        let fcm = provider("fcm", Channel::Push, json!({"projectId": "p"}));
        assert_eq!(request(&fcm, &parcel(Channel::Push)).url, "https://fcm.googleapis.com/v1/projects/p/messages:send");
    }

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let kind =
            |status| judged(&Reply { status, headers: vec![], body: b"no".to_vec() }).err().map(|failure| failure.kind);
        assert_eq!((kind(202), kind(503), kind(429)), (None, Some(FailureKind::Passing), Some(FailureKind::Passing)));
        assert_eq!(
            (kind(400), kind(401), kind(302)),
            (Some(FailureKind::Lasting), Some(FailureKind::Lasting), Some(FailureKind::Lasting))
        );
    }
}
