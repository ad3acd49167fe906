//! The room over both databases, called as a guest calls it.

mod identical;
mod texts;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use wasmtime::component::{Resource, ResourceTable};

use super::backend::{Destination, TransactionalOutbox};
use super::{CallState, DatabaseRoom, TransactionHandle, View};
use crate::bindings::imports::database::{Host, HostTransaction, Message, Value};
use crate::bindings::imports::types::Fault;
use crate::capability::Guest;
use crate::capability::grant::Grant;
use crate::capability::testing::{guest_with, shadow};
use crate::database::conformance::{ALLOWED, on_every_database};
use crate::database::{Database, HOST_MIGRATIONS, Migration, Transaction, values};

/// An outbox that writes into a table, so that a rollback takes its messages along.
#[derive(Default)]
struct TableOutbox {
    woken: Mutex<u32>,
}

#[async_trait]
impl TransactionalOutbox for TableOutbox {
    async fn publish_in(
        &self,
        transaction: &mut Transaction,
        guest: &Guest,
        message: Message,
        destination: Destination,
        delay: Duration,
    ) -> Result<String, Fault> {
        let sql = "INSERT INTO plan_messages (id, plugin, type, own, delay_ms) VALUES ($1, $2, $3, $4, $5)";
        let id = uuid::Uuid::now_v7().to_string();
        let own = destination == Destination::OwnQueue;
        let delay = i64::try_from(delay.as_millis()).unwrap();
        transaction.execute(sql, &values![&id, &guest.plugin.name, message.type_, own, delay]).await?;
        Ok(id)
    }

    fn wake(&self) {
        *self.woken.lock() += 1;
    }
}

const TABLES: &str = "
    CREATE TABLE plan_plans (
        id TEXT PRIMARY KEY, organization_id TEXT, name TEXT, number BIGINT, ratio DOUBLE PRECISION, done BOOLEAN,
        at TIMESTAMPTZ, document JSONB
    );
    CREATE TABLE plan_tasks (id TEXT PRIMARY KEY, plan_id TEXT);
    CREATE TABLE plan_messages (id TEXT PRIMARY KEY, plugin TEXT, type TEXT, own BOOLEAN, delay_ms BIGINT);";

/// A guest in the middle of a call.
struct Fixture {
    guest: Guest,
    room: DatabaseRoom,
    outbox: Arc<TableOutbox>,
    state: CallState,
    table: ResourceTable,
}

impl Fixture {
    async fn new(database: &Database) -> Self {
        database.migrate("host", HOST_MIGRATIONS).await.unwrap();
        database.migrate("test", &[Migration::both("0001_tables", TABLES)]).await.unwrap();
        Self::another(database)
    }

    fn another(database: &Database) -> Self {
        let outbox = Arc::new(TableOutbox::default());
        let grant = Grant { tables: vec!["plan_".to_owned()], ..Grant::default() };
        Self {
            guest: guest_with("planning", Some("acme"), grant),
            room: DatabaseRoom::new(database.clone(), outbox.clone()),
            outbox,
            state: CallState::default(),
            table: ResourceTable::new(),
        }
    }

    fn view(&mut self) -> View<'_> {
        View { guest: &self.guest, room: &self.room, state: &mut self.state, table: &mut self.table }
    }

    async fn execute(&mut self, sql: &str, parameters: Vec<Value>) -> Result<u64, Fault> {
        Host::execute(&mut self.view(), sql.to_owned(), parameters).await.unwrap()
    }

    async fn json(&mut self, sql: &str, parameters: Vec<Value>) -> serde_json::Value {
        let text = Host::query_json(&mut self.view(), sql.to_owned(), parameters).await.unwrap().unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    async fn row(&mut self, sql: &str, parameters: Vec<Value>) -> Vec<Value> {
        let rows = Host::query(&mut self.view(), sql.to_owned(), parameters).await.unwrap().unwrap();
        rows.rows.into_iter().next().unwrap()
    }

    async fn begin(&mut self) -> Result<Handle, Fault> {
        Ok(Handle(HostTransaction::begin(&mut self.view()).await.unwrap()?.rep()))
    }

    async fn execute_in(&mut self, handle: Handle, sql: &str, parameters: Vec<Value>) -> Result<u64, Fault> {
        HostTransaction::execute(&mut self.view(), handle.borrow(), sql.to_owned(), parameters).await.unwrap()
    }

    async fn commit(&mut self, handle: Handle) -> Result<(), Fault> {
        self.view().commit(handle.borrow()).await.unwrap()
    }

    async fn rollback(&mut self, handle: Handle) -> Result<(), Fault> {
        self.view().rollback(handle.borrow()).await.unwrap()
    }

    async fn once(&mut self, handle: Handle, id: &str) -> Result<bool, Fault> {
        self.view().once(handle.borrow(), id.to_owned()).await.unwrap()
    }

    async fn count(&mut self, table: &str) -> i64 {
        match self.row(&format!("SELECT COUNT(*) FROM {table}"), vec![]).await.as_slice() {
            [Value::Integer(count)] => *count,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Copy)]
struct Handle(u32);

impl Handle {
    fn borrow(self) -> Resource<TransactionHandle> {
        Resource::new_borrow(self.0)
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

const INSERT: &str = "INSERT INTO plan_plans (id, organization_id) VALUES ($1, 'acme')";

#[tokio::test]
async fn a_guest_reads_and_writes_its_own_tables_only() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        assert_eq!(guest.execute(INSERT, vec![text("a")]).await.unwrap(), 1);
        assert_eq!(guest.json("SELECT id FROM plan_plans", vec![]).await, serde_json::json!([{"id": "a"}]));
        for sql in ["SELECT * FROM users", "DELETE FROM users", "SELECT * FROM berth_outbox", "SELECT pg_sleep(1)"] {
            let outcome = Host::query(&mut guest.view(), sql.to_owned(), vec![]).await.unwrap();
            assert!(matches!(outcome, Err(Fault::Denied(_))), "{sql}");
        }
        let outcome = guest.execute(INSERT, vec![text("a")]).await;
        assert!(matches!(outcome, Err(Fault::Conflict(_))), "{outcome:?}");
        let outcome = guest.execute(INSERT, vec![]).await;
        assert!(matches!(outcome, Err(Fault::Invalid(_))), "{outcome:?}");
        let outcome = guest.execute(INSERT, vec![Value::Timestamp("yesterday".into())]).await;
        assert!(matches!(outcome, Err(Fault::Invalid(_))), "{outcome:?}");
        let outcome = guest.execute(INSERT, vec![text("a"); 501]).await;
        assert!(matches!(outcome, Err(Fault::TooLarge(_))), "{outcome:?}");
        let outcome = guest.execute(&format!("SELECT '{}'", "x".repeat(70_000)), vec![]).await;
        assert!(matches!(outcome, Err(Fault::TooLarge(_))), "{outcome:?}");
        let outcome = guest.execute(INSERT, vec![text(&"x".repeat(17 << 20))]).await;
        assert!(matches!(outcome, Err(Fault::TooLarge(_))), "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn what_authors_write_runs_on_both_databases() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        for sql in ALLOWED {
            let parameters = crate::database::Statement::check(sql, &["plan_".to_owned()], database.dialect()).unwrap();
            let nothing = vec![Value::Null; parameters.parameters()];
            let outcome = Host::query(&mut guest.view(), (*sql).to_owned(), nothing).await.unwrap();
            match outcome {
                Ok(_) => {}
                // Null does not fit everywhere, but the statement was understood.
                Err(Fault::Invalid(text))
                    if text.contains("null") || text.contains("NULL") || sql.contains("LIMIT $1") => {}
                Err(fault) => panic!("{:?} {sql}: {fault:?}", database.dialect()),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn expressions_answer_the_same_on_both_databases() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let insert = "INSERT INTO plan_plans (id, name, number, done, at, document) VALUES ($1, $2, $3, $4, $5, $6)";
        let document = Value::Json(r#"{"n": 5, "s": "x", "o": {"k": [1]}, "t": "2026-01-31T08:15:00.000Z"}"#.into());
        let at = Value::Timestamp("2026-01-31T08:15:00Z".into());
        let first = vec![text("a"), text("B"), Value::Integer(1), Value::Boolean(true), at, document];
        guest.execute(insert, first).await.unwrap();
        let second = vec![text("b"), text("a"), Value::Null, Value::Boolean(false), Value::Null, Value::Null];
        guest.execute(insert, second).await.unwrap();
        let sql = "SELECT number = 1 AS one, number IS NULL AS missing, NOT done AS undone, document -> 'o' AS inner, \
                   document ->> 'n' AS n, document ->> 'o' AS \"innerText\", document ->> 't' AS t, MAX(at) AS latest, \
                   COUNT(*) AS count, SUM(number) AS sum, CASE WHEN done THEN TRUE ELSE FALSE END AS flag, \
                   CAST(number AS TEXT) AS words, CAST(document AS JSONB) AS whole, name || '!' AS loud \
                   FROM plan_plans WHERE id = $1 GROUP BY id, number, done, document, name";
        let mut found = guest.json(sql, vec![text("a")]).await;
        // PostgreSQL writes JSON with spaces when it makes text of it.
        let inner = found[0]["innerText"].take();
        let inner: serde_json::Value = serde_json::from_str(inner.as_str().unwrap()).unwrap();
        assert_eq!(inner, serde_json::json!({"k": [1]}));
        let expected = serde_json::json!([{
            "one": true, "missing": false, "undone": false, "inner": {"k": [1]}, "n": "5", "innerText": null,
            "t": "2026-01-31T08:15:00.000Z", "latest": "2026-01-31T08:15:00.000Z", "count": 1, "sum": 1, "flag": true,
            "words": "1", "whole": {"n": 5, "s": "x", "o": {"k": [1]}, "t": "2026-01-31T08:15:00.000Z"}, "loud": "B!",
        }]);
        assert_eq!(found, expected, "{:?}", database.dialect());
        let row = guest.row(
            "SELECT MAX(at), document ->> 't', $1 FROM plan_plans GROUP BY id, document ORDER BY id",
            vec![text("2026-01-31T08:15:00.000Z")],
        );
        let row = row.await;
        assert!(matches!(row.as_slice(), [Value::Timestamp(_), Value::Text(_), ..]), "{row:?}");
        // Bytes decide the order, and NULL is the greatest, as in PostgreSQL.
        let order = guest.json("SELECT name FROM plan_plans ORDER BY name", vec![]).await;
        assert_eq!(order, serde_json::json!([{"name": "B"}, {"name": "a"}]));
        let order = guest.json("SELECT id FROM plan_plans ORDER BY number", vec![]).await;
        assert_eq!(order, serde_json::json!([{"id": "a"}, {"id": "b"}]));
        let order = guest.json("SELECT Id FROM plan_plans ORDER BY number DESC", vec![]).await;
        assert_eq!(order, serde_json::json!([{"id": "b"}, {"id": "a"}]));
        assert_eq!(
            guest.json("SELECT id FROM plan_plans WHERE document ->> 'n' = $1", vec![text("5")]).await[0]["id"],
            "a"
        );
    })
    .await;
}

#[tokio::test]
async fn a_call_has_one_transaction_and_stale_handles_do_nothing() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let first = guest.begin().await.unwrap();
        assert!(matches!(guest.begin().await, Err(Fault::Invalid(_))));
        guest.execute_in(first, INSERT, vec![text("a")]).await.unwrap();
        guest.commit(first).await.unwrap();
        assert!(matches!(guest.commit(first).await, Err(Fault::Invalid(_))));
        let second = guest.begin().await.unwrap();
        assert!(matches!(guest.execute_in(first, INSERT, vec![text("b")]).await, Err(Fault::Invalid(_))));
        assert!(matches!(guest.rollback(first).await, Err(Fault::Invalid(_))));
        guest.view().drop(Resource::new_own(first.0)).await.unwrap();
        guest.execute_in(second, INSERT, vec![text("c")]).await.unwrap();
        guest.rollback(second).await.unwrap();
        assert!(matches!(guest.execute_in(second, INSERT, vec![text("d")]).await, Err(Fault::Invalid(_))));
        assert_eq!(guest.count("plan_plans").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_ends_with_its_handle_its_call_or_its_store() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let handle = guest.begin().await.unwrap();
        guest.execute_in(handle, INSERT, vec![text("dropped")]).await.unwrap();
        guest.view().drop(Resource::new_own(handle.0)).await.unwrap();

        let handle = guest.begin().await.unwrap();
        guest.execute_in(handle, INSERT, vec![text("finished")]).await.unwrap();
        guest.state.finish().await;
        assert!(matches!(guest.commit(handle).await, Err(Fault::Invalid(_))));

        let mut other = Fixture::another(&database);
        let handle = other.begin().await.unwrap();
        other.execute_in(handle, INSERT, vec![text("trapped")]).await.unwrap();
        drop(other);

        // A write needs the writer, so it comes after the rollbacks.
        guest.execute(INSERT, vec![text("kept")]).await.unwrap();
        assert_eq!(guest.count("plan_plans").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_past_its_deadline_is_rolled_back_without_its_guest() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let transaction = database.begin().await.unwrap();
        let number = guest.state.open_for(transaction, Duration::from_millis(50), &tokio::runtime::Handle::current());
        let handle = Handle(guest.table.push(TransactionHandle::new(number)).unwrap().rep());
        guest.execute_in(handle, INSERT, vec![text("late")]).await.unwrap();
        // The writer is free again although nobody ended the transaction.
        let mut other = Fixture::another(&database);
        other.execute(INSERT, vec![text("other")]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(matches!(guest.execute_in(handle, INSERT, vec![text("x")]).await, Err(Fault::Timeout)));
        assert!(matches!(guest.commit(handle).await, Err(Fault::Timeout)));
        guest.rollback(handle).await.unwrap();
        assert_eq!(guest.count("plan_plans").await, 1);
    })
    .await;
}

#[tokio::test]
async fn messages_leave_with_the_transaction_or_not_at_all() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let message = || Message {
            type_: "planning.plan.created".into(),
            data: "{}".into(),
            key: None,
            organization_id: None,
            id: None,
        };
        let handle = guest.begin().await.unwrap();
        guest.view().publish(handle.borrow(), message(), 0).await.unwrap().unwrap();
        guest.rollback(handle).await.unwrap();
        assert_eq!((guest.count("plan_messages").await, *guest.outbox.woken.lock()), (0, 0));

        let handle = guest.begin().await.unwrap();
        guest.view().publish(handle.borrow(), message(), 0).await.unwrap().unwrap();
        guest.view().enqueue(handle.borrow(), message(), 1500).await.unwrap().unwrap();
        guest.commit(handle).await.unwrap();
        assert_eq!(*guest.outbox.woken.lock(), 1);
        let found = guest.json("SELECT plugin, own, delay_ms FROM plan_messages ORDER BY own", vec![]).await;
        let expected = serde_json::json!([
            {"plugin": "planning", "own": false, "delay_ms": 0}, {"plugin": "planning", "own": true, "delay_ms": 1500},
        ]);
        assert_eq!(found, expected);

        let handle = guest.begin().await.unwrap();
        for _ in 0..super::MESSAGES_MAX {
            guest.view().publish(handle.borrow(), message(), 0).await.unwrap().unwrap();
        }
        let outcome = guest.view().publish(handle.borrow(), message(), 0).await.unwrap();
        assert!(matches!(outcome, Err(Fault::TooLarge(_))));
        guest.state.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_is_handled_once_for_each_plugin() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let handle = guest.begin().await.unwrap();
        assert!(guest.once(handle, "m1").await.unwrap());
        assert!(!guest.once(handle, "m1").await.unwrap());
        guest.rollback(handle).await.unwrap();

        let handle = guest.begin().await.unwrap();
        assert!(guest.once(handle, "m1").await.unwrap(), "the rolled back note is gone");
        guest.commit(handle).await.unwrap();
        let handle = guest.begin().await.unwrap();
        assert!(!guest.once(handle, "m1").await.unwrap());
        assert!(matches!(guest.once(handle, "").await, Err(Fault::Invalid(_))));
        guest.rollback(handle).await.unwrap();

        let mut other = Fixture::another(&database);
        other.guest = guest_with("other", None, other.guest.plugin.grant.clone());
        let handle = other.begin().await.unwrap();
        assert!(other.once(handle, "m1").await.unwrap());
        other.commit(handle).await.unwrap();

        let old = chrono::Utc::now() - super::REMEMBERED - Duration::from_secs(1);
        database.execute("UPDATE berth_handled SET handled_at = $1", &values![old]).await.unwrap();
        let handle = guest.begin().await.unwrap();
        assert!(guest.once(handle, "m1").await.unwrap(), "forgotten after 72 hours");
        guest.commit(handle).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_id_that_two_organizations_chose_is_two_messages() {
    on_every_database(|database| async move {
        let mut acme = Fixture::new(&database).await;
        let grant = acme.guest.plugin.grant.clone();
        for organization in [Some("acme"), Some("reef"), None] {
            let mut guest = Fixture::another(&database);
            guest.guest = guest_with("planning", organization, grant.clone());
            let handle = guest.begin().await.unwrap();
            assert!(guest.once(handle, "m1").await.unwrap(), "{organization:?}");
            assert!(!guest.once(handle, "m1").await.unwrap(), "{organization:?}");
            guest.commit(handle).await.unwrap();
        }
        let handle = acme.begin().await.unwrap();
        assert!(!acme.once(handle, "m1").await.unwrap());
        acme.rollback(handle).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_noted_without_its_organization_is_not_handled_again() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let noted = "INSERT INTO berth_handled (plugin, message_id, handled_at) VALUES ('planning', $1, $2)";
        let now = chrono::Utc::now();
        let long_ago = now - super::REMEMBERED - Duration::from_secs(1);
        database.execute(noted, &values!["m1", now]).await.unwrap();
        database.execute(noted, &values!["m2", long_ago]).await.unwrap();
        let handle = guest.begin().await.unwrap();
        assert!(!guest.once(handle, "m1").await.unwrap());
        assert!(guest.once(handle, "m2").await.unwrap(), "forgotten after 72 hours");
        guest.commit(handle).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn after_a_conflict_only_a_rollback_is_possible() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        let handle = guest.begin().await.unwrap();
        guest.execute_in(handle, INSERT, vec![text("a")]).await.unwrap();
        assert!(matches!(guest.execute_in(handle, INSERT, vec![text("a")]).await, Err(Fault::Conflict(_))));
        assert!(matches!(guest.execute_in(handle, INSERT, vec![text("b")]).await, Err(Fault::Invalid(_))));
        assert!(guest.commit(handle).await.is_err());
        assert_eq!(guest.count("plan_plans").await, 0);
        let handle = guest.begin().await.unwrap();
        guest.rollback(handle).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_request_reads_and_changes_nothing() {
    on_every_database(|database| async move {
        let mut guest = Fixture::new(&database).await;
        guest.execute(INSERT, vec![text("a")]).await.unwrap();
        let mut copy = Fixture::another(&database);
        copy.guest = shadow(copy.guest);
        assert_eq!(copy.count("plan_plans").await, 1);
        let changes = [
            "INSERT INTO plan_plans (id) VALUES ('b')",
            "UPDATE plan_plans SET name = 'x'",
            "DELETE FROM plan_plans",
            "INSERT INTO plan_plans (id) VALUES ('b') RETURNING id",
        ];
        for sql in changes {
            assert!(matches!(copy.execute(sql, vec![]).await, Err(Fault::Denied(_))), "{sql}");
            let outcome = Host::query(&mut copy.view(), sql.to_owned(), vec![]).await.unwrap();
            assert!(matches!(outcome, Err(Fault::Denied(_))), "{sql}");
            let outcome = Host::query_json(&mut copy.view(), sql.to_owned(), vec![]).await.unwrap();
            assert!(matches!(outcome, Err(Fault::Denied(_))), "{sql}");
        }
        // In a transaction it is told that all went well, and nothing of it stays.
        let handle = copy.begin().await.unwrap();
        for sql in changes {
            assert!(matches!(copy.execute_in(handle, sql, vec![]).await, Err(Fault::Denied(_))), "{sql}");
        }
        let message = || Message {
            type_: "planning.plan.created".into(),
            data: "{}".into(),
            key: None,
            organization_id: None,
            id: Some("its-own".into()),
        };
        let id = copy.view().publish(handle.borrow(), message(), 0).await.unwrap().unwrap();
        assert_eq!(id, "its-own");
        copy.view().enqueue(handle.borrow(), message(), 0).await.unwrap().unwrap();
        assert!(copy.once(handle, "m1").await.unwrap());
        copy.commit(handle).await.unwrap();
        // As if a check had let something through.
        let mut transaction = database.begin().await.unwrap();
        transaction.execute("INSERT INTO plan_plans (id) VALUES ('c')", &[]).await.unwrap();
        let number = copy.state.open_for(transaction, Duration::from_secs(60), &tokio::runtime::Handle::current());
        let handle = Handle(copy.table.push(TransactionHandle::new(number)).unwrap().rep());
        copy.commit(handle).await.unwrap();
        assert_eq!(*copy.outbox.woken.lock(), 0);
        assert_eq!((guest.count("plan_plans").await, guest.count("plan_messages").await), (1, 0));
        let handle = guest.begin().await.unwrap();
        assert!(guest.once(handle, "m1").await.unwrap(), "the copy has not handled it");
        guest.rollback(handle).await.unwrap();
    })
    .await;
}
