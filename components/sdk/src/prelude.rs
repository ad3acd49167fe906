//! What almost every file of a service uses.
//!
//! ```
//! use berth_sdk::prelude::*;
//! let id: Id = Id::new();
//! let result: Result<NoContent> = Err(Problem::missing("plan"));
//! # let _ = (id, result);
//! ```

pub use crate::{
    Fault, Id, auth, choice, clock,
    clock::Timestamp,
    config, data,
    database::{self, Executor, Pool, Transaction, params},
    entity,
    entity::{Condition, Entity, Rules, Select, Stored},
    events::{self, Envelope, Outcome},
    http::{
        Accepted, Answer, Created, FromRequest, IfMatch, Json, JsonText, NoContent, Params, Query, Request, Response,
        Sse,
    },
    json, logging,
    page::{Page, PageQuery},
    problem::{Problem, Result},
    router::Router,
    service::Service,
    validate::{self, Faults},
};
