//! The mail room: hands a guest's message to the operator's SMTP server.
//!
//! Without a server every call answers `unavailable`. A guest chooses neither sender nor headers, and nothing it writes
//! can become a header of its own.

pub(crate) mod backend;
#[cfg(test)]
mod conformance;
mod host;
mod smtp;

pub(crate) use backend::{Mail, MailError};
pub(crate) use host::link;

use std::sync::Arc;

use super::Guest;
use backend::Mailer;

/// Addresses of one message.
pub(crate) const RECIPIENTS_MAX: usize = 50;
/// Bytes of one address.
const ADDRESS_BYTES_MAX: usize = 320;
/// Bytes of a subject, within the 998 a header line may have.
const SUBJECT_BYTES_MAX: usize = 900;
/// Bytes of the text, and of the HTML.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Mail for the whole host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MailRoom {
    mailer: Option<Arc<dyn Mailer>>,
}

/// What the room sees of the running call.
pub(crate) struct View<'a> {
    pub guest: &'a Guest,
    pub room: &'a MailRoom,
}

impl MailRoom {
    /// A room that answers `Unavailable`, because the operator named no server.
    pub(crate) fn unconfigured() -> Self {
        Self { mailer: None }
    }

    /// A room over the server of `url` (`smtp://` or `smtps://`, with user and password where it wants them), sending as
    /// `from`. `smtp://` upgrades to TLS where the server can, and insists on it where a password is sent to another
    /// machine. Does not connect yet. `Invalid` when either text is malformed.
    pub(crate) fn smtp(url: &str, from: &str) -> Result<Self, MailError> {
        Ok(Self::new(Arc::new(smtp::SmtpMailer::new(url, from)?)))
    }

    /// A room over any backend.
    pub(crate) fn new(mailer: Arc<dyn Mailer>) -> Self {
        Self { mailer: Some(mailer) }
    }

    /// Whether a server is named.
    pub(crate) fn is_configured(&self) -> bool {
        self.mailer.is_some()
    }

    /// Sends one message and returns its Message-ID; for the host's own mails as well.
    pub(crate) async fn send(&self, mail: Mail) -> Result<String, MailError> {
        check(&mail)?;
        self.mailer.as_ref().ok_or(MailError::Unavailable(None))?.send(mail).await
    }
}

/// Refuses what no server should see: too much, too many, and control characters in anything that becomes a header.
fn check(mail: &Mail) -> Result<(), MailError> {
    if mail.to.is_empty() {
        return Err(MailError::Invalid("a message has at least one recipient".to_owned()));
    }
    if mail.to.len() > RECIPIENTS_MAX {
        return Err(MailError::TooLarge(format!("a message has at most {RECIPIENTS_MAX} recipients")));
    }
    for (what, text, bytes_max) in mail
        .to
        .iter()
        .chain(&mail.reply_to)
        .map(|address| ("an address", address, ADDRESS_BYTES_MAX))
        .chain([("the subject", &mail.subject, SUBJECT_BYTES_MAX)])
    {
        if text.len() > bytes_max {
            return Err(MailError::TooLarge(format!("{what} has at most {bytes_max} bytes")));
        }
        if text.contains(char::is_control) {
            return Err(MailError::Invalid(format!("{what} holds control characters")));
        }
    }
    if mail.text.len() > BODY_BYTES_MAX || mail.html.as_ref().is_some_and(|html| html.len() > BODY_BYTES_MAX) {
        return Err(MailError::TooLarge(format!("a text has at most {BODY_BYTES_MAX} bytes")));
    }
    Ok(())
}
