//! The one way in: every HTTP request comes through here, in one direction, stage by stage.

mod authenticate;
mod cors;
mod error;
pub(crate) mod idempotency;
mod listener;
mod path;
mod problem;
mod receive;
mod request_id;
mod respond;

pub(crate) use error::GatewayError;
pub(crate) use listener::{Listener, ListenerOptions, Peer, Serve, Server};
