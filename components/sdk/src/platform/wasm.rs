//! The host, through the interfaces of `wit/`.

use std::time::Duration;

use crate::{
    Fault,
    auth::{Principal, PrincipalKind},
    bindings::{
        berth::platform::{acting, auth, cache, config, database, logging, mail, queue, secrets, types},
        wasi::clocks::monotonic_clock,
    },
    database::{Rows, Value},
    events::Message,
    logging::Level,
    mail::Mail,
};

mod outgoing;
mod together;

pub(crate) use outgoing::{Incoming, http_open, http_send};
pub(crate) use together::http_send_all;

type Answer<T> = Result<T, Fault>;

impl From<types::Fault> for Fault {
    fn from(fault: types::Fault) -> Self {
        match fault {
            types::Fault::Denied(what) => Self::Denied(what),
            types::Fault::Conflict(what) => Self::Conflict(what),
            types::Fault::Busy => Self::Busy,
            types::Fault::Unavailable => Self::Unavailable,
            types::Fault::Timeout => Self::Timeout,
            types::Fault::TooLarge(what) => Self::TooLarge(what),
            types::Fault::Invalid(what) => Self::Invalid(what),
        }
    }
}

fn outgoing_values(values: &[Value]) -> Vec<database::Value> {
    values
        .iter()
        .map(|value| match value {
            Value::Null => database::Value::Null,
            Value::Boolean(value) => database::Value::Boolean(*value),
            Value::Integer(value) => database::Value::Integer(*value),
            Value::Float(value) => database::Value::Float(*value),
            Value::Text(value) => database::Value::Text(value.clone()),
            Value::Bytes(value) => database::Value::Bytes(value.clone()),
            Value::Timestamp(value) => database::Value::Timestamp(value.clone()),
            Value::Json(value) => database::Value::Json(value.clone()),
        })
        .collect()
}

fn incoming_rows(rows: database::Rows) -> Rows {
    let convert = |value| match value {
        database::Value::Null => Value::Null,
        database::Value::Boolean(value) => Value::Boolean(value),
        database::Value::Integer(value) => Value::Integer(value),
        database::Value::Float(value) => Value::Float(value),
        database::Value::Text(value) => Value::Text(value),
        database::Value::Bytes(value) => Value::Bytes(value),
        database::Value::Timestamp(value) => Value::Timestamp(value),
        database::Value::Json(value) => Value::Json(value),
    };
    Rows::new(rows.columns, rows.rows.into_iter().map(|row| row.into_iter().map(convert).collect()).collect())
}

fn outgoing_message(message: &Message) -> database::Message {
    database::Message {
        type_: message.kind.clone(),
        data: message.data.clone(),
        key: message.key.clone(),
        organization_id: message.organization_id.clone(),
        id: message.id.clone(),
    }
}

pub(crate) fn principal() -> Principal {
    let caller = auth::caller();
    Principal {
        kind: match caller.kind {
            auth::PrincipalKind::Anonymous => PrincipalKind::Anonymous,
            auth::PrincipalKind::User => PrincipalKind::User,
            auth::PrincipalKind::System => PrincipalKind::System,
            auth::PrincipalKind::Operator => PrincipalKind::Operator,
        },
        user_id: caller.user_id,
        organization_id: caller.organization_id,
        role_id: caller.role_id,
        session_id: caller.session_id,
        email: caller.email,
        name: caller.name,
        is_super_admin: caller.is_super_admin,
        is_platform: caller.is_platform,
        source_service: caller.source_service,
        request_id: caller.request_id,
    }
}

pub(crate) fn act_for(user_id: &str) -> Answer<()> {
    Ok(acting::act_for(user_id)?)
}

pub(crate) fn act_for_member(organization_id: &str, user_id: &str) -> Answer<()> {
    Ok(acting::act_for_member(organization_id, user_id)?)
}

pub(crate) fn has_permission(code: &str) -> bool {
    auth::has_permission(code)
}

pub(crate) fn permissions() -> Vec<String> {
    auth::permissions()
}

pub(crate) fn teams() -> Vec<String> {
    auth::teams()
}

pub(crate) fn api_key_id() -> Option<String> {
    auth::api_key_id()
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    config::get(key)
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    config::all()
}

pub(crate) fn database_query(sql: &str, parameters: &[Value]) -> Answer<Rows> {
    Ok(incoming_rows(database::query(sql, &outgoing_values(parameters))?))
}

pub(crate) fn database_query_json(sql: &str, parameters: &[Value]) -> Answer<Vec<u8>> {
    Ok(database::query_json(sql, &outgoing_values(parameters))?)
}

pub(crate) fn database_execute(sql: &str, parameters: &[Value]) -> Answer<u64> {
    Ok(database::execute(sql, &outgoing_values(parameters))?)
}

pub(crate) struct Transaction(database::Transaction);

impl Transaction {
    pub(crate) fn begin() -> Answer<Self> {
        Ok(Self(database::Transaction::begin()?))
    }
    pub(crate) fn query(&self, sql: &str, parameters: &[Value]) -> Answer<Rows> {
        Ok(incoming_rows(self.0.query(sql, &outgoing_values(parameters))?))
    }
    pub(crate) fn query_json(&self, sql: &str, parameters: &[Value]) -> Answer<Vec<u8>> {
        Ok(self.0.query_json(sql, &outgoing_values(parameters))?)
    }
    pub(crate) fn execute(&self, sql: &str, parameters: &[Value]) -> Answer<u64> {
        Ok(self.0.execute(sql, &outgoing_values(parameters))?)
    }
    pub(crate) fn publish(&self, message: &Message) -> Answer<String> {
        Ok(self.0.publish(&outgoing_message(message), message.delay_ms)?)
    }
    pub(crate) fn enqueue(&self, message: &Message) -> Answer<String> {
        Ok(self.0.enqueue(&outgoing_message(message), message.delay_ms)?)
    }
    pub(crate) fn once(&self, id: &str) -> Answer<bool> {
        Ok(self.0.once(id)?)
    }
    pub(crate) fn commit(&self) -> Answer<()> {
        Ok(self.0.commit()?)
    }
    pub(crate) fn rollback(&self) -> Answer<()> {
        Ok(self.0.rollback()?)
    }
}

pub(crate) fn queue_publish(message: &Message) -> Answer<String> {
    let outgoing = outgoing_message(message);
    Ok(match message.delay_ms {
        0 => queue::publish(&outgoing)?,
        delay_ms => queue::publish_delayed(&outgoing, delay_ms)?,
    })
}

pub(crate) fn queue_enqueue(message: &Message) -> Answer<String> {
    Ok(queue::enqueue(&outgoing_message(message), message.delay_ms)?)
}

pub(crate) fn cache_get(key: &str) -> Answer<Option<Vec<u8>>> {
    Ok(cache::get(key)?)
}

pub(crate) fn cache_get_many(keys: &[&str]) -> Answer<Vec<Option<Vec<u8>>>> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    Ok(cache::get_many(&keys)?)
}

pub(crate) fn cache_set(key: &str, value: &[u8], ttl_ms: u64) -> Answer<()> {
    Ok(cache::set(key, value, ttl_ms)?)
}

pub(crate) fn cache_delete(key: &str) -> Answer<()> {
    Ok(cache::delete(key)?)
}

pub(crate) fn cache_increment(key: &str, delta: i64, ttl_ms: u64) -> Answer<i64> {
    Ok(cache::increment(key, delta, ttl_ms)?)
}

pub(crate) fn cache_add_if_absent(key: &str, value: &[u8], ttl_ms: u64) -> Answer<bool> {
    Ok(cache::add_if_absent(key, value, ttl_ms)?)
}

pub(crate) fn cache_expire(key: &str, ttl_ms: u64) -> Answer<bool> {
    Ok(cache::expire(key, ttl_ms)?)
}

pub(crate) fn secrets_seal(plaintext: &[u8], context: &str) -> Answer<Vec<u8>> {
    Ok(secrets::seal(plaintext, context)?)
}

pub(crate) fn secrets_open(sealed: &[u8], context: &str) -> Answer<Vec<u8>> {
    Ok(secrets::open(sealed, context)?)
}

pub(crate) fn secrets_hmac(key_name: &str, data: &[u8]) -> Answer<Vec<u8>> {
    Ok(secrets::hmac(key_name, data)?)
}

pub(crate) fn secrets_verify_hmac(key_name: &str, data: &[u8], mac: &[u8]) -> Answer<bool> {
    Ok(secrets::verify_hmac(key_name, data, mac)?)
}

pub(crate) fn secrets_seal_shared(plaintext: &[u8], context: &str) -> Answer<Vec<u8>> {
    Ok(secrets::seal_shared(plaintext, context)?)
}

pub(crate) fn secrets_open_shared(sealed: &[u8], context: &str) -> Answer<Vec<u8>> {
    Ok(secrets::open_shared(sealed, context)?)
}

pub(crate) fn secrets_hmac_with_secret(secret: &str, organization: Option<&str>, data: &[u8]) -> Answer<Vec<u8>> {
    Ok(secrets::hmac_with_secret(secret, organization, data)?)
}

pub(crate) fn secrets_verify_hmac_with_secret(
    secret: &str,
    organization: Option<&str>,
    data: &[u8],
    mac: &[u8],
) -> Answer<bool> {
    Ok(secrets::verify_hmac_with_secret(secret, organization, data, mac)?)
}

pub(crate) fn secrets_random(count: u32) -> Answer<Vec<u8>> {
    Ok(secrets::random(count)?)
}

pub(crate) fn mail_send(message: &Mail) -> Answer<String> {
    Ok(mail::send(&mail::Message {
        to: message.to.clone(),
        subject: message.subject.clone(),
        text: message.text.clone(),
        html: message.html.clone(),
        reply_to: message.reply_to.clone(),
    })?)
}

pub(crate) fn log(level: Level, message: &str, fields: &[(&str, String)]) {
    let level = match level {
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    logging::log(level, message, &fields);
}

pub(crate) fn sleep(duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::subscribe_duration(nanos).block();
}
