//! The host's stand-in for native tests.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    Fault,
    auth::{Principal, PrincipalKind},
    database::{Rows, Value},
    events::Message,
    http_out::{Call, Head, Part, Reply, Together},
    id::Id,
    logging::Level,
    mail::Mail,
};

/// What a test has set up on its thread.
pub(crate) struct Bench {
    pub principal: Principal,
    pub permissions: Vec<String>,
    pub teams: Vec<String>,
    /// Whom a message may be handled for, with their permissions.
    pub members: BTreeMap<String, Vec<String>>,
    pub config: BTreeMap<String, String>,
    pub cache: HashMap<String, Vec<u8>>,
    pub published: Vec<Message>,
    pub enqueued: Vec<Message>,
}

impl Bench {
    fn become_member(&mut self, user_id: &str) -> Answer<()> {
        let Some(permissions) = self.members.get(user_id).cloned() else {
            let reason = format!("the user {user_id} is gone, suspended or no member of the organization");
            return Err(Fault::Denied(reason));
        };
        self.permissions = permissions;
        self.teams.clear();
        self.principal = Principal {
            kind: PrincipalKind::User,
            user_id: Some(user_id.into()),
            is_super_admin: false,
            is_platform: false,
            ..self.principal.clone()
        };
        Ok(())
    }
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench {
        principal: Principal::anonymous(),
        permissions: Vec::new(),
        teams: Vec::new(),
        members: BTreeMap::new(),
        config: BTreeMap::new(),
        cache: HashMap::new(),
        published: Vec::new(),
        enqueued: Vec::new(),
    });
}

/// Reads or changes the state of this thread.
pub(crate) fn bench<T>(work: impl FnOnce(&mut Bench) -> T) -> T {
    BENCH.with_borrow_mut(work)
}

type Answer<T> = Result<T, Fault>;

pub(crate) fn principal() -> Principal {
    bench(|bench| bench.principal.clone())
}

pub(crate) fn has_permission(code: &str) -> bool {
    bench(|bench| bench.principal.is_super_admin || bench.permissions.iter().any(|held| held == code || held == "*"))
}

pub(crate) fn permissions() -> Vec<String> {
    bench(|bench| bench.permissions.clone())
}

pub(crate) fn teams() -> Vec<String> {
    bench(|bench| bench.teams.clone())
}

/// As the host does it, with the members of the bench.
pub(crate) fn act_for(user_id: &str) -> Answer<()> {
    bench(|bench| {
        if bench.principal.kind != PrincipalKind::System || bench.principal.organization_id.is_none() {
            return Err(Fault::Denied("only a call that handles a message acts for a user, and only for one".into()));
        }
        bench.become_member(user_id)
    })
}

/// As the host does it, with the members of the bench, whose permissions stand for those that the grant names.
pub(crate) fn act_for_member(organization_id: &str, user_id: &str) -> Answer<()> {
    bench(|bench| {
        if bench.principal.kind == PrincipalKind::System {
            let reason = "only a call that answers a request from outside serves as a member";
            return Err(Fault::Denied(reason.into()));
        }
        bench.become_member(user_id)?;
        bench.principal.organization_id = Some(organization_id.into());
        Ok(())
    })
}

/// Tests sign in with a session.
pub(crate) fn api_key_id() -> Option<String> {
    None
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    bench(|bench| bench.config.get(key).cloned())
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    bench(|bench| bench.config.clone().into_iter().collect())
}

pub(crate) fn database_query(_: &str, _: &[Value]) -> Answer<Rows> {
    Err(Fault::Unavailable)
}

pub(crate) fn database_query_json(_: &str, _: &[Value]) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn database_execute(_: &str, _: &[Value]) -> Answer<u64> {
    Err(Fault::Unavailable)
}

/// Never opens natively.
pub(crate) struct Transaction;

impl Transaction {
    pub(crate) fn begin() -> Answer<Self> {
        Err(Fault::Unavailable)
    }
    pub(crate) fn query(&self, _: &str, _: &[Value]) -> Answer<Rows> {
        Err(Fault::Unavailable)
    }
    pub(crate) fn query_json(&self, _: &str, _: &[Value]) -> Answer<Vec<u8>> {
        Err(Fault::Unavailable)
    }
    pub(crate) fn execute(&self, _: &str, _: &[Value]) -> Answer<u64> {
        Err(Fault::Unavailable)
    }
    pub(crate) fn publish(&self, message: &Message) -> Answer<String> {
        queue_publish(message)
    }
    pub(crate) fn enqueue(&self, message: &Message) -> Answer<String> {
        queue_enqueue(message)
    }
    pub(crate) fn once(&self, _: &str) -> Answer<bool> {
        Err(Fault::Unavailable)
    }
    pub(crate) fn commit(&self) -> Answer<()> {
        Err(Fault::Unavailable)
    }
    pub(crate) fn rollback(&self) -> Answer<()> {
        Ok(())
    }
}

pub(crate) fn queue_publish(message: &Message) -> Answer<String> {
    bench(|bench| bench.published.push(message.clone()));
    Ok(message.id.clone().unwrap_or_else(|| Id::new().into_string()))
}

pub(crate) fn queue_enqueue(message: &Message) -> Answer<String> {
    bench(|bench| bench.enqueued.push(message.clone()));
    Ok(message.id.clone().unwrap_or_else(|| Id::new().into_string()))
}

pub(crate) fn cache_get(key: &str) -> Answer<Option<Vec<u8>>> {
    Ok(bench(|bench| bench.cache.get(key).cloned()))
}

pub(crate) fn cache_get_many(keys: &[&str]) -> Answer<Vec<Option<Vec<u8>>>> {
    Ok(bench(|bench| keys.iter().map(|key| bench.cache.get(*key).cloned()).collect()))
}

pub(crate) fn cache_set(key: &str, value: &[u8], _: u64) -> Answer<()> {
    bench(|bench| bench.cache.insert(key.to_string(), value.to_vec()));
    Ok(())
}

pub(crate) fn cache_delete(key: &str) -> Answer<()> {
    bench(|bench| bench.cache.remove(key));
    Ok(())
}

pub(crate) fn cache_increment(key: &str, delta: i64, _: u64) -> Answer<i64> {
    bench(|bench| {
        let held = bench.cache.get(key).and_then(|bytes| String::from_utf8_lossy(bytes).parse::<i64>().ok());
        let sum = held.unwrap_or(0).saturating_add(delta);
        bench.cache.insert(key.to_string(), sum.to_string().into_bytes());
        Ok(sum)
    })
}

pub(crate) fn cache_add_if_absent(key: &str, value: &[u8], _: u64) -> Answer<bool> {
    bench(|bench| {
        if bench.cache.contains_key(key) {
            return Ok(false);
        }
        bench.cache.insert(key.to_string(), value.to_vec());
        Ok(true)
    })
}

pub(crate) fn cache_expire(key: &str, _: u64) -> Answer<bool> {
    Ok(bench(|bench| bench.cache.contains_key(key)))
}

pub(crate) fn secrets_seal(_: &[u8], _: &str) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_open(_: &[u8], _: &str) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_hmac(_: &str, _: &[u8]) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_verify_hmac(_: &str, _: &[u8], _: &[u8]) -> Answer<bool> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_seal_shared(_: &[u8], _: &str) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_open_shared(_: &[u8], _: &str) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_hmac_with_secret(_: &str, _: Option<&str>, _: &[u8]) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_verify_hmac_with_secret(_: &str, _: Option<&str>, _: &[u8], _: &[u8]) -> Answer<bool> {
    Err(Fault::Unavailable)
}

pub(crate) fn secrets_random(_: u32) -> Answer<Vec<u8>> {
    Err(Fault::Unavailable)
}

pub(crate) fn mail_send(_: &Mail) -> Answer<String> {
    Err(Fault::Unavailable)
}

pub(crate) fn log(_: Level, _: &str, _: &[(&str, String)]) {}

pub(crate) fn http_send(_: &Call) -> Answer<Reply> {
    Err(Fault::Unavailable)
}

pub(crate) fn http_send_all(calls: &[Call], _: Together) -> Vec<Answer<Reply>> {
    calls.iter().map(|_| Err(Fault::Unavailable)).collect()
}

pub(crate) fn http_open(_: &Call) -> Answer<(Head, Incoming)> {
    Err(Fault::Unavailable)
}

/// The body of an answer; natively there is none.
#[derive(Debug)]
pub(crate) enum Incoming {}

impl Incoming {
    pub(crate) fn read(&mut self, _: Duration) -> Answer<Part> {
        match *self {}
    }
}

pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
