//! Servers that are there and will not do: the start stops with one sentence that names the setting.

use berth_test_servers::{Kind, Private};
use berth_tests::{Host, Manifest, Urls, old_servers};
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};

/// A start with this setting stops, and says this in the one line that names the setting.
fn refused(variable: &str, url: &str, sentence: &str) {
    let output = Host::with(Manifest::hello()).embedded().variable(variable, url).run_to_end();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{variable} {url}: {said}");
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains(variable)).collect();
    assert!(matches!(complaints[..], [line] if line.contains(sentence)), "{variable} {url}: {said}");
    assert!(!said.contains("a-secret-word"), "a password stands in: {said}");
}

/// The URL with other credentials.
fn with_login(url: &str, login: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, rest)), place) => format!("{scheme}://{login}@{}", place.map_or(rest, |(_, place)| place)),
        _ => url.to_owned(),
    }
}

#[test]
fn a_postgres_that_will_not_do() {
    let variable = "BERTH_DATABASE_URL";
    let server = Private::start_guarded(Kind::Postgres).expect("a private PostgreSQL");
    let make = "create role limited login password 'a-secret-word'; create role shut login password 'a-secret-word'; \
        create role roleless login password 'a-secret-word'";
    server.administer("postgres", make).expect("roles");
    for statement in
        ["create database berth", "create database closed", "revoke connect on database closed from public"]
    {
        server.administer("postgres", statement).expect(statement);
    }
    let schema = "revoke create on schema public from public; grant create on schema public to roleless";
    server.administer("berth", schema).expect("the schema");
    let url = |login: &str, database: &str| {
        let url = with_login(&server.url(), login);
        url.rsplit_once('/').map(|(server, _)| format!("{server}/{database}")).expect("a URL")
    };
    refused(variable, &url("limited:a-secret-word-that-is-wrong", "berth"), "refuses the user limited or the password");
    refused(variable, &url("nobody:a-secret-word", "berth"), "refuses the user nobody or the password");
    refused(variable, &url("limited:a-secret-word", "absent"), "has no database absent");
    refused(variable, &url("limited:a-secret-word", "berth"), "the user limited may not make tables");
    refused(variable, &url("roleless:a-secret-word", "berth"), "the user roleless may not make roles");
    refused(variable, &url("shut:a-secret-word", "closed"), "the user shut may not connect to the database");
    refused(variable, "postgres://limited@nowhere.invalid/berth", "no address is known of its host nowhere.invalid");
    refused(variable, "postgres://limited@127.0.0.1:9/berth", "127.0.0.1:9 takes no connection");
    let old = format!("postgres://limited:a-secret-word@{}/berth", old_servers::postgres("13.20"));
    refused(variable, &old, "the server is PostgreSQL 13; 14 is the oldest that will do");
}

#[test]
fn a_redis_that_will_not_do() {
    let variable = "BERTH_CACHE_URL";
    let server = Private::start_guarded(Kind::Redis).expect("a private Redis");
    let url = |login: &str| with_login(&server.url(), login);
    refused(variable, &server.url(), "the server wants a password");
    refused(variable, &url(":a-secret-word"), "refuses the user or the password");
    refused(variable, &url(&format!("nobody:{}", Private::PASSWORD)), "refuses the user or the password");
    for user in ["limited", "reader"] {
        refused(variable, &url(&format!("{user}:{}", Private::PASSWORD)), "the user lacks rights");
    }
    refused(variable, "redis://nowhere.invalid", "no address is known of its host");
    refused(variable, &format!("redis://{}", old_servers::redis("5.0.14")), "older than Redis 6");
    let own = url(&format!(":{}", Private::PASSWORD));
    let mut connection = redis::Client::open(own.as_str()).and_then(|client| client.get_connection()).expect("Redis");
    let mut configure = |name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut connection).expect(name);
    };
    configure("maxmemory-policy", "noeviction");
    configure("maxmemory", "1");
    refused(variable, &own, "the server's memory is full and it removes nothing for a new key");
    configure("maxmemory", "0");
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut connection).expect("a replica");
    refused(variable, &own, "the server is a replica that nothing can be written to");
}

#[tokio::test]
async fn a_rabbit_that_will_not_do() {
    let variable = "BERTH_QUEUE_URL";
    let given = Urls::given().amqp;
    let (server, _) = given.rsplit_once('/').expect("a URL");
    refused(variable, &with_login(&given, "guest:a-secret-word"), "refuses the user guest or the password");
    refused(variable, &format!("{server}/absent"), "may not use the virtual host absent, or there is none");
    refused(variable, "amqp://nowhere.invalid", "no address is known of its host nowhere.invalid");
    // What a broker answers that does not know what the host makes there: here because somebody else made something of that name.
    let namespace = format!("refused_{}", std::process::id());
    let name = format!("{namespace}.berth.events");
    let connection = Connection::connect(&given, ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let (options, arguments) = (ExchangeDeclareOptions::default(), FieldTable::default());
    channel.exchange_declare(name.clone().into(), ExchangeKind::Fanout, options, arguments).await.expect("an exchange");
    let host = Host::with(Manifest::hello()).embedded().variable(variable, &given);
    let output = host.variable("BERTH_NAMESPACE", &namespace).run_to_end();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.expect("its end");
    assert!(output.status.code() == Some(1) && said.contains("RabbitMQ 3.10 is the oldest that will do"), "{said}");
    let guarded = Private::start_guarded(Kind::Rabbit).expect("a private RabbitMQ");
    refused(variable, &guarded.url(), "the user guest lacks rights in the virtual host /");
}
