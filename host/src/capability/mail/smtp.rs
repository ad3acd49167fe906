//! Mail over SMTP.

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::backend::{Mail, MailError, Mailer};
use crate::capability::http_out::is_this_machine;

/// How long one command of the conversation may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the whole conversation may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The port for `smtp://` where neither a port nor a password is given.
const RELAY_PORT: u16 = 25;

/// See the file's head.
pub(super) struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl SmtpMailer {
    pub(super) fn new(url: &str, from: &str) -> Result<Self, MailError> {
        let malformed = || MailError::Invalid("the mail server's address is malformed".to_owned());
        let uri: http::Uri = url.parse().map_err(|_| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        let with_password = authority.as_str().contains('@');
        let plain = uri.scheme_str() == Some("smtp") && !uri.query().unwrap_or("").contains("tls=");
        let mut builder = if plain {
            let level = if with_password && !is_this_machine(authority.host()) { "required" } else { "opportunistic" };
            let joint = if uri.query().is_some() { '&' } else { '?' };
            AsyncSmtpTransport::<Tokio1Executor>::from_url(&format!("{url}{joint}tls={level}"))
        } else {
            AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
        }
        .map_err(|_| malformed())?;
        if plain && !with_password && authority.port().is_none() {
            builder = builder.port(RELAY_PORT);
        }
        let from = from.parse().map_err(|_| MailError::Invalid("the sender's address is malformed".to_owned()))?;
        Ok(Self { transport: builder.timeout(Some(COMMAND_TIMEOUT)).build(), from })
    }

    fn message(&self, mail: Mail, id: &str) -> Result<Message, MailError> {
        let mut message = Message::builder().from(self.from.clone()).subject(mail.subject).message_id(Some(id.into()));
        for address in &mail.to {
            message = message.to(mailbox(address)?);
        }
        if let Some(address) = &mail.reply_to {
            message = message.reply_to(mailbox(address)?);
        }
        let built = match mail.html {
            Some(html) => message.multipart(MultiPart::alternative_plain_html(mail.text, html)),
            None => message.singlepart(SinglePart::plain(mail.text)),
        };
        built.map_err(|_| MailError::Invalid("the message is malformed".to_owned()))
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: Mail) -> Result<String, MailError> {
        let domain = self.from.email.domain();
        let id = format!("<{}@{domain}>", uuid::Uuid::now_v7());
        let message = self.message(mail, &id)?;
        match tokio::time::timeout(SEND_TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(id),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(MailError::Timeout),
        }
    }
}

/// An address, with or without a name before it.
fn mailbox(text: &str) -> Result<Mailbox, MailError> {
    let mailbox: Mailbox =
        text.parse().map_err(|_| MailError::Invalid(format!("not a mail address: {}", text.escape_debug())))?;
    // Parsed once more on its own: nothing that a server could read as a second command gets through.
    let address = mailbox.email.to_string().parse::<Address>();
    if address.is_err() || mailbox.email.to_string().contains(|letter: char| letter.is_control() || letter == ' ') {
        return Err(MailError::Invalid(format!("not a mail address: {}", text.escape_debug())));
    }
    Ok(mailbox)
}

fn refused(error: Error) -> MailError {
    match error.status() {
        Some(code) if error.is_permanent() => MailError::Invalid(format!("the mail server refused it with {code}")),
        _ if error.is_timeout() => MailError::Timeout,
        _ => MailError::Unavailable(Some(Box::new(error))),
    }
}
