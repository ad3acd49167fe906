//! The database: SQLite or PostgreSQL, the same SQL and the same values on both.
//!
//! Statements are plain `SELECT`, `INSERT`, `UPDATE` and `DELETE` with `$1` placeholders, one a call, over tables under
//! the plugin's own prefixes. In native tests there is no database: every call answers [`Fault::Unavailable`].

mod bulk;
pub mod like;
mod row;
mod value;

pub use bulk::Bulk;
pub use row::{FromValue, Row, Rows};
pub use value::Value;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Fault, events::Message, id::Id, platform, problem::Problem};

/// The parameters of a statement.
///
/// ```
/// use berth_sdk::database::{Value, params};
/// let due: Option<&str> = None;
/// assert_eq!(params!["p1", 3, due], &[Value::Text("p1".into()), Value::Integer(3), Value::Null]);
/// ```
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::database::Value::from($value)),*] as &[$crate::database::Value] };
}
pub use crate::params;

/// What can run statements: [`Pool`], or the transaction that is open.
///
/// ```
/// use berth_sdk::{Fault, database::{Executor, params}};
/// fn count(database: &dyn Executor) -> Result<i64, Fault> {
///     let row = database.query_one("SELECT COUNT(*) AS count FROM plan_plans WHERE title = $1", params!["a"])?;
///     row.map_or(Ok(0), |row| row.get("count"))
/// }
/// assert_eq!(count(&berth_sdk::database::Pool), Err(Fault::Unavailable));
/// ```
pub trait Executor {
    /// Reads rows: at most 10 000 and 8 MiB.
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Rows, Fault>;
    /// Reads rows as the text of a JSON array, made by the host: the fast path for reads and lists.
    fn query_json(&self, sql: &str, parameters: &[Value]) -> Result<Vec<u8>, Fault>;
    /// Changes rows and returns how many.
    fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, Fault>;

    /// Reads the first row, if there is one.
    fn query_one(&self, sql: &str, parameters: &[Value]) -> Result<Option<Row>, Fault> {
        Ok(self.query(sql, parameters)?.into_iter().next())
    }
}

/// Statements outside a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Pool;

impl Executor for Pool {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Rows, Fault> {
        platform::database_query(sql, parameters)
    }
    fn query_json(&self, sql: &str, parameters: &[Value]) -> Result<Vec<u8>, Fault> {
        platform::database_query_json(sql, parameters)
    }
    fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, Fault> {
        platform::database_execute(sql, parameters)
    }
}

/// Reads rows outside a transaction.
///
/// ```
/// use berth_sdk::database;
/// assert!(database::query("SELECT title FROM plan_plans", &[]).is_err()); // natively there is no database
/// ```
pub fn query(sql: &str, parameters: &[Value]) -> Result<Rows, Fault> {
    Pool.query(sql, parameters)
}

/// Reads the first row outside a transaction.
pub fn query_one(sql: &str, parameters: &[Value]) -> Result<Option<Row>, Fault> {
    Pool.query_one(sql, parameters)
}

/// Reads rows as the text of a JSON array outside a transaction.
pub fn query_json(sql: &str, parameters: &[Value]) -> Result<Vec<u8>, Fault> {
    Pool.query_json(sql, parameters)
}

/// Reads rows into structs by way of JSON; the columns are to be named as the members are.
///
/// ```
/// use berth_sdk::{data, database::{self, Pool}};
/// #[data]
/// struct Count { total: i64 }
/// let counts = database::query_as::<Count>(&Pool, "SELECT COUNT(*) AS total FROM plan_plans", &[]);
/// assert!(counts.is_err()); // natively there is no database
/// ```
pub fn query_as<T: DeserializeOwned>(
    database: &dyn Executor,
    sql: &str,
    parameters: &[Value],
) -> Result<Vec<T>, Fault> {
    let text = database.query_json(sql, parameters)?;
    serde_json::from_slice(&text).map_err(|error| Fault::Invalid(format!("a row does not fit: {error}")))
}

/// Changes rows outside a transaction.
pub fn execute(sql: &str, parameters: &[Value]) -> Result<u64, Fault> {
    Pool.execute(sql, parameters)
}

/// Runs `work` in one transaction: SQL, published events and handled-message marks become durable together when it
/// returns `Ok`, and not at all otherwise. There is one at a time in a call; inside it use the transaction and not the
/// free functions, which would wait for it in vain.
///
/// ```
/// use berth_sdk::{Problem, database::{self, Executor, params}};
/// let result = database::transaction(|transaction| {
///     transaction.execute("UPDATE plan_plans SET status = $1 WHERE id = $2", params!["ready", "p1"])?;
///     transaction.publish("planning.plan.approved", &berth_sdk::json!({"planId": "p1"}))?;
///     Ok::<_, Problem>(())
/// });
/// assert_eq!(result.unwrap_err().status, 503); // natively there is no database
/// ```
pub fn transaction<T, E: From<Fault>>(work: impl FnOnce(&Transaction) -> Result<T, E>) -> Result<T, E> {
    let transaction = Transaction { inner: platform::Transaction::begin()?, stale: RefCell::default() };
    match work(&transaction) {
        Ok(value) => {
            transaction.inner.commit()?;
            for (key, delete) in transaction.stale.take() {
                delete(&key);
            }
            Ok(value)
        }
        Err(error) => {
            if let Err(fault) = transaction.inner.rollback() {
                crate::logging::debug!("a rollback failed; the host rolls back itself", fault = fault);
            }
            Err(error)
        }
    }
}

/// Forgets the names in a table of [`Transaction::hold`] that nobody has held for a day.
pub fn forget_holds(table: &str) -> Result<(), Fault> {
    const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
    execute(&format!("DELETE FROM {table} WHERE touched_at < $1"), params![crate::clock::now().minus(KEPT_FOR)])?;
    Ok(())
}

/// An open transaction; see [`transaction`].
pub struct Transaction {
    inner: platform::Transaction,
    /// Cache keys that the commit makes stale, with what deletes them: a component that forgets nothing must not import
    /// the cache, for which it would need a grant.
    stale: RefCell<BTreeMap<String, Forget>>,
}

/// Deletes one key of the cache.
type Forget = fn(&str);

impl Executor for Transaction {
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Rows, Fault> {
        self.inner.query(sql, parameters)
    }
    fn query_json(&self, sql: &str, parameters: &[Value]) -> Result<Vec<u8>, Fault> {
        self.inner.query_json(sql, parameters)
    }
    fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, Fault> {
        self.inner.execute(sql, parameters)
    }
}

impl Transaction {
    /// Publishes an event when the transaction commits. Returns the event's id.
    pub fn publish(&self, kind: &str, data: &impl Serialize) -> Result<Id, Problem> {
        self.send(&Message::new(kind, data)?)
    }

    /// Publishes a message with a key, an organization or a delay.
    pub fn send(&self, message: &Message) -> Result<Id, Problem> {
        Ok(self.inner.publish(message)?.into())
    }

    /// Puts a message into the plugin's own queue when the transaction commits, to be handled after `delay`.
    pub fn enqueue(&self, kind: &str, data: &impl Serialize, delay: Duration) -> Result<Id, Problem> {
        self.enqueue_message(&Message::new(kind, data)?.after(delay))
    }

    /// Puts a message with a key, an organization or a delay into the plugin's own queue.
    pub fn enqueue_message(&self, message: &Message) -> Result<Id, Problem> {
        Ok(self.inner.enqueue(message)?.into())
    }

    /// Deletes a key of the cache after the commit, and not at all when the transaction is rolled back. Before the commit
    /// a reader could put the old value back.
    ///
    /// ```
    /// use berth_sdk::{Problem, database, database::Executor};
    /// let result = database::transaction(|transaction| {
    ///     transaction.execute("UPDATE plan_plans SET title = 'x'", &[])?;
    ///     transaction.forget("plan:p1");
    ///     Ok::<_, Problem>(())
    /// });
    /// # assert_eq!(result.unwrap_err().status, 503);
    /// ```
    pub fn forget(&self, key: impl Into<String>) {
        self.stale.borrow_mut().insert(key.into(), crate::cache::del);
    }

    /// Holds a name of the caller's organization to the end of the transaction: who wants it too waits until then, and reads
    /// what this one has written. That is for what no row stands for yet, or what several rows say together. `table` is one
    /// with `id TEXT PRIMARY KEY` and `touched_at TIMESTAMPTZ NOT NULL`, a row for each name that was ever held.
    ///
    /// ```
    /// use berth_sdk::{Problem, database};
    /// let result = database::transaction(|transaction| {
    ///     transaction.hold("plan_holds", "title:Quay")?;
    ///     Ok::<_, Problem>(())
    /// });
    /// # assert_eq!(result.unwrap_err().status, 503);
    /// ```
    pub fn hold(&self, table: &str, name: &str) -> Result<(), Problem> {
        self.hold_for(table, name, false)
    }

    /// The same for rows that may belong to everybody: where `is_global` says so, the name is one for all organizations.
    ///
    /// ```
    /// use berth_sdk::{Problem, database};
    /// let result = database::transaction(|transaction| {
    ///     transaction.hold_for("plan_holds", "default", true)?;
    ///     Ok::<_, Problem>(())
    /// });
    /// # assert_eq!(result.unwrap_err().status, 503);
    /// ```
    pub fn hold_for(&self, table: &str, name: &str, is_global: bool) -> Result<(), Problem> {
        let owner = if is_global { String::new() } else { crate::auth::organization_id()?.into_string() };
        let id = format!("{owner}:{name}");
        let sql = format!(
            "INSERT INTO {table} (id, touched_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET touched_at = excluded.touched_at"
        );
        self.execute(&sql, params![id, crate::clock::now()])?;
        Ok(())
    }

    /// Notes a message as handled, for the organization of the call. False when it has been handled before: then its effect
    /// must not be repeated.
    pub fn once(&self, id: &str) -> Result<bool, Fault> {
        self.inner.once(id)
    }
}
