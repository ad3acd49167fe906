//! The seam: every function that a room offers goes through here on its way to the room and back, and is kept or played.
//!
//! The functions are listed once for each interface; the compiler sees to it that none is forgotten. Rooms know nothing of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::{Rng, TryRng};
use wasmtime::component::Resource;
use wasmtime_wasi::HostWallClock;

use super::shape::Secrecy;
use super::{Asked, Place, Private, Shape, Tape};
use crate::bindings::imports::database::{Message, Rows, Value};
use crate::bindings::imports::types::Fault;
use crate::bindings::imports::{acting, cache, database, mail, queue, secrets};
use crate::capability::acting::View as Acting;
use crate::capability::database::TransactionHandle;
use crate::capability::{cache::View as Cache, database::View as Store, mail::View as Mail};
use crate::capability::{queue::View as Queue, secrets::View as Vault};
use crate::principal::Principal;

/// A room's view with the tape that hears it.
pub(crate) struct Taped<'a, V> {
    pub tape: &'a Tape,
    pub inner: V,
}

/// What comes first of a call: the place of its answer, or the answer.
enum Turn<A> {
    Live(Option<Place>),
    Answered(A),
}

/// The answer of a replay, or none: then the guest ends here.
fn turn<A: Shape>(asked: Asked) -> wasmtime::Result<Turn<A>> {
    match asked {
        Asked::Live(place) => Ok(Turn::Live(place)),
        Asked::Answered(answer) => A::read(&answer)
            .map(Turn::Answered)
            .ok_or_else(|| wasmtime::format_err!("the capsule holds something that is no answer of this function")),
        Asked::Ended => Err(wasmtime::format_err!("the replay ends here")),
    }
}

/// Implements an interface's trait for its taped view. `[handle]` is a handle that goes to the room and not on the tape.
macro_rules! taped {
    ($view:ident: $host:path { $($function:literal $name:ident $([$handle:ident])? ($($argument:ident: $type:ty),*) -> $answer:ty;)* } $($rest:item)*) => {
        taped! { @with $view: $host {
            $($function $name $([$handle])? ($($argument: $type),*) -> $answer, |value| value;)*
        } $($rest)* }
    };
    (@with $view:ident: $host:path { $($function:literal $name:ident $([$handle:ident])? ($($argument:ident: $type:ty),*) -> $answer:ty, |$value:ident| $kept:expr;)* } $($rest:item)*) => {
        impl $host for Taped<'_, $view<'_>> {
            $(async fn $name(
                &mut self,
                $($handle: Resource<TransactionHandle>,)?
                $($argument: $type),*
            ) -> wasmtime::Result<$answer> {
                let bytes = 0 $(+ $argument.bytes())*;
                let keep = || {
                    let $value = ($($argument.clone(),)*);
                    Box::new($kept) as Box<dyn super::Kept>
                };
                let place = match turn(self.tape.ask($function, bytes, keep))? {
                    Turn::Answered(answer) => return Ok(answer),
                    Turn::Live(place) => place,
                };
                let answer: $answer =
                    <$view<'_> as $host>::$name(&mut self.inner, $($handle,)? $($argument),*).await?;
                if place.is_some() {
                    self.tape.answered(place, answer.bytes(), || {
                        let $value = answer.clone();
                        Box::new($kept)
                    });
                }
                Ok(answer)
            })*
            $($rest)*
        }
    };
}

taped! { Cache: cache::Host {
    "cache.get" get(key: String) -> Result<Option<Vec<u8>>, Fault>;
    "cache.get-many" get_many(keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, Fault>;
    "cache.set" set(key: String, value: Vec<u8>, ttl_ms: u64) -> Result<(), Fault>;
    "cache.delete" delete(key: String) -> Result<(), Fault>;
    "cache.increment" increment(key: String, delta: i64, ttl_ms: u64) -> Result<i64, Fault>;
    "cache.add-if-absent" add_if_absent(key: String, value: Vec<u8>, ttl_ms: u64) -> Result<bool, Fault>;
    "cache.expire" expire(key: String, ttl_ms: u64) -> Result<bool, Fault>;
} }

taped! { Queue: queue::Host {
    "queue.publish" publish(message: Message) -> Result<String, Fault>;
    "queue.publish-delayed" publish_delayed(message: Message, delay_ms: u64) -> Result<String, Fault>;
    "queue.enqueue" enqueue(message: Message, delay_ms: u64) -> Result<String, Fault>;
} }

taped! { Mail: mail::Host {
    "mail.send" send(message: mail::Message) -> Result<String, Fault>;
} }

taped! { Store: database::Host {
    "database.query" query(sql: String, parameters: Vec<Value>) -> Result<Rows, Fault>;
    "database.query-json" query_json(sql: String, parameters: Vec<Value>) -> Result<Vec<u8>, Fault>;
    "database.execute" execute(sql: String, parameters: Vec<Value>) -> Result<u64, Fault>;
} }

taped! { Store: database::HostTransaction {
    "transaction.query" query[handle](sql: String, parameters: Vec<Value>) -> Result<Rows, Fault>;
    "transaction.query-json" query_json[handle](sql: String, parameters: Vec<Value>) -> Result<Vec<u8>, Fault>;
    "transaction.execute" execute[handle](sql: String, parameters: Vec<Value>) -> Result<u64, Fault>;
    "transaction.publish" publish[handle](message: Message, delay_ms: u64) -> Result<String, Fault>;
    "transaction.enqueue" enqueue[handle](message: Message, delay_ms: u64) -> Result<String, Fault>;
    "transaction.once" once[handle](id: String) -> Result<bool, Fault>;
    "transaction.commit" commit[handle]() -> Result<(), Fault>;
    "transaction.rollback" rollback[handle]() -> Result<(), Fault>;
}
    // The handle is the store's, so only whether there is one stands on the tape.
    async fn begin(&mut self) -> wasmtime::Result<Result<Resource<TransactionHandle>, Fault>> {
        let place = match turn::<Result<(), Fault>>(self.tape.ask("transaction.begin", 0, || Box::new(())))? {
            Turn::Answered(Err(fault)) => return Ok(Err(fault)),
            Turn::Answered(Ok(())) => return Ok(Ok(self.inner.table.push(TransactionHandle::played())?)),
            Turn::Live(place) => place,
        };
        let begun = <Store<'_> as database::HostTransaction>::begin(&mut self.inner).await?;
        self.tape.answered(place, 0, || Box::new(begun.as_ref().map(|_| ()).map_err(Clone::clone)));
        Ok(begun)
    }

    async fn drop(&mut self, handle: Resource<TransactionHandle>) -> wasmtime::Result<()> {
        <Store<'_> as database::HostTransaction>::drop(&mut self.inner, handle).await
    }
}

// The user, too, stands on the tape: whoever plays it has no members to ask.
impl acting::Host for Taped<'_, Acting<'_>> {
    async fn act_for(&mut self, user_id: String) -> wasmtime::Result<Result<(), Fault>> {
        let keep = || Box::new((user_id.clone(),)) as Box<dyn super::Kept>;
        let place = match self.act(self.tape.ask("acting.act-for", user_id.bytes(), keep))? {
            Turn::Answered(acted) => return Ok(acted),
            Turn::Live(place) => place,
        };
        let acted = <Acting<'_> as acting::Host>::act_for(&mut self.inner, user_id).await?;
        self.has_acted(place, &acted);
        Ok(acted)
    }

    async fn act_for_member(
        &mut self,
        organization_id: String,
        user_id: String,
    ) -> wasmtime::Result<Result<(), Fault>> {
        let keep = || Box::new((organization_id.clone(), user_id.clone())) as Box<dyn super::Kept>;
        let bytes = organization_id.bytes() + user_id.bytes();
        let place = match self.act(self.tape.ask("acting.act-for-member", bytes, keep))? {
            Turn::Answered(acted) => return Ok(acted),
            Turn::Live(place) => place,
        };
        let acted = <Acting<'_> as acting::Host>::act_for_member(&mut self.inner, organization_id, user_id).await?;
        self.has_acted(place, &acted);
        Ok(acted)
    }
}

impl Taped<'_, Acting<'_>> {
    /// Whom a replay goes on as, where it was told.
    fn act(&mut self, asked: Asked) -> wasmtime::Result<Turn<Result<(), Fault>>> {
        Ok(match turn::<Result<Arc<Principal>, Fault>>(asked)? {
            Turn::Answered(Ok(member)) => {
                self.inner.guest.call.principal = member;
                Turn::Answered(Ok(()))
            }
            Turn::Answered(Err(fault)) => Turn::Answered(Err(fault)),
            Turn::Live(place) => Turn::Live(place),
        })
    }

    /// Keeps whom the call goes on as.
    fn has_acted(&self, place: Option<Place>, acted: &Result<(), Fault>) {
        if place.is_some() {
            let member = acted.clone().map(|()| Arc::clone(&self.inner.guest.call.principal));
            self.tape.answered(place, member.bytes(), || Box::new(member));
        }
    }
}

/// What goes into the secrets room and comes out of it is shown to nobody.
fn as_secret<T: Shape>(value: T) -> Private<T> {
    Private { value, secrecy: Secrecy::Secret }
}

fn as_mac<T: Shape>(value: T) -> Private<T> {
    Private { value, secrecy: Secrecy::Mac }
}

taped! { @with Vault: secrets::Host {
    "secrets.seal" seal(plaintext: Vec<u8>, context: String) -> Result<Vec<u8>, Fault>, |value| as_secret(value);
    "secrets.open" open(sealed: Vec<u8>, context: String) -> Result<Vec<u8>, Fault>, |value| as_secret(value);
    "secrets.hmac" hmac(key_name: String, data: Vec<u8>) -> Result<Vec<u8>, Fault>, |value| as_mac(value);
    "secrets.verify-hmac" verify_hmac(key_name: String, data: Vec<u8>, mac: Vec<u8>) -> Result<bool, Fault>, |value| as_mac(value);
    "secrets.seal-shared" seal_shared(plaintext: Vec<u8>, context: String) -> Result<Vec<u8>, Fault>, |value| as_secret(value);
    "secrets.open-shared" open_shared(sealed: Vec<u8>, context: String) -> Result<Vec<u8>, Fault>, |value| as_secret(value);
    "secrets.hmac-with-secret" hmac_with_secret(secret_id: String, organization_id: Option<String>, data: Vec<u8>) -> Result<Vec<u8>, Fault>, |value| as_mac(value);
    "secrets.verify-hmac-with-secret" verify_hmac_with_secret(secret_id: String, organization_id: Option<String>, data: Vec<u8>, mac: Vec<u8>) -> Result<bool, Fault>, |value| as_mac(value);
    "secrets.random" random(count: u32) -> Result<Vec<u8>, Fault>, |value| as_mac(value);
} }

/// The wall clock of a guest.
pub(crate) struct TapedClock(pub Arc<Tape>);

impl HostWallClock for TapedClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.clock(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// The random source of a guest.
pub(crate) struct TapedRandom(pub Arc<Tape>);

impl TryRng for TapedRandom {
    type Error = Infallible;

    /// What random bytes are made of.
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes, |bytes| rand::rng().fill_bytes(bytes));
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.number(|| rand::rng().next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes, |bytes| rand::rng().fill_bytes(bytes));
        Ok(())
    }
}
