//! What a mail server must be able to do, and what may go wrong.

use async_trait::async_trait;

/// One message. Its sender is the operator's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    /// 1 to 50 addresses.
    pub to: Vec<String>,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
    pub reply_to: Option<String>,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailError {
    /// No server is named, or it cannot be reached or takes nothing at present. Trying again later helps.
    #[error("the mail server cannot be reached")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The server did not answer in time; the message may or may not have been taken.
    #[error("the mail server did not answer in time")]
    Timeout,
    /// An address or the message makes no sense, here or to the server.
    #[error("{0}")]
    Invalid(String),
    /// The message is over the limit that the text names.
    #[error("{0}")]
    TooLarge(String),
}

/// Takes messages; the room has checked their limits.
#[async_trait]
pub(crate) trait Mailer: Send + Sync + 'static {
    /// Hands over one message and returns its Message-ID.
    async fn send(&self, mail: Mail) -> Result<String, MailError>;
}
