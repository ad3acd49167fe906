//! Outgoing mail over the host's SMTP server.

use crate::{Fault, platform};

/// A mail to 1 to 50 addresses.
///
/// ```
/// use berth_sdk::{Fault, mail::{self, Mail}};
/// let mail = Mail { to: vec!["a@example.com".into()], subject: "Hello".into(), text: "Hi.".into(), ..Mail::default() };
/// assert_eq!(mail::send(&mail), Err(Fault::Unavailable)); // natively there is no server
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// 1 to 50 addresses.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// Where answers go.
    pub reply_to: Option<String>,
}

/// Hands the mail to the server and returns its Message-ID. [`Fault::Unavailable`] when none is configured.
pub fn send(mail: &Mail) -> Result<String, Fault> {
    platform::mail_send(mail)
}
