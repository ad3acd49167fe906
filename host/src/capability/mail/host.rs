//! `berth:platform/mail`: checks the grant and hands the message to the room.

use wasmtime::component::{HasData, Linker};

use super::View;
use super::backend::{Mail, MailError};
use crate::bindings::imports::mail;
use crate::bindings::imports::types::Fault;
use crate::capability::tape::Taped;

struct HasView;

impl HasData for HasView {
    type Data<'a> = Taped<'a, View<'a>>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> Taped<'_, View<'_>>,
) -> wasmtime::Result<()> {
    mail::add_to_linker::<T, HasView>(linker, get)
}

impl mail::Host for View<'_> {
    async fn send(&mut self, message: mail::Message) -> wasmtime::Result<Result<String, Fault>> {
        if !self.guest.plugin.grant.mail {
            return Ok(Err(Fault::Denied("the grant lacks mail = true".to_owned())));
        }
        if self.guest.call.is_shadow {
            return Ok(Ok(uuid::Uuid::now_v7().to_string()));
        }
        let mail = Mail {
            to: message.to,
            subject: message.subject,
            text: message.text,
            html: message.html,
            reply_to: message.reply_to,
        };
        Ok(self.room.send(mail).await.map_err(fault))
    }
}

fn fault(error: MailError) -> Fault {
    match error {
        MailError::Unavailable(source) => {
            if let Some(source) = source {
                tracing::warn!(reason = %source, "a mail was not sent");
            }
            Fault::Unavailable
        }
        MailError::Timeout => Fault::Timeout,
        MailError::Invalid(text) => Fault::Invalid(text),
        MailError::TooLarge(text) => Fault::TooLarge(text),
    }
}
