//! The hosts on this database and what each of them runs, as each of them says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::super::PluginStatus;
use crate::database::{Database, DatabaseError, Dialect, Row, Value, format_timestamp, values};

/// How often a host says that it is there, when nothing changes.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// Without a word for longer than this a host counts as lost.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(20);
/// A lost host is forgotten after this.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::minutes(10);
/// The most hosts that are told of.
const HOSTS_MAX: i64 = 1_000;

/// Who this host is.
#[derive(Clone, Debug)]
pub(crate) struct HostIdentity {
    /// This life of it: new at every start.
    pub instance: Arc<str>,
    /// Machine and port.
    pub name: String,
}

/// What a host runs of one plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Running {
    pub name: String,
    pub revision: Option<i64>,
    pub sha256: Option<String>,
    /// `loaded`, `draining`, `failed` or `missing`.
    pub state: String,
}

/// One host.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostEntry {
    pub instance: String,
    pub name: String,
    pub version: String,
    #[serde(serialize_with = "time")]
    pub started_at: DateTime<Utc>,
    #[serde(serialize_with = "time")]
    pub seen_at: DateTime<Utc>,
    /// `running`, or `lost` after it has said nothing for a while.
    pub state: &'static str,
    /// Whether it is the host that answers.
    pub is_here: bool,
    pub plugins: Vec<Running>,
}

/// The table of hosts, and what this one has said last.
pub(in crate::deploy) struct Hosts {
    database: Database,
    identity: Mutex<Option<HostIdentity>>,
    started_at: DateTime<Utc>,
    told: Mutex<Option<(Instant, Vec<Running>)>>,
}

impl Running {
    pub(in crate::deploy) fn of(status: PluginStatus) -> Self {
        Self { name: status.name, revision: status.revision, sha256: status.sha256, state: status.state.to_string() }
    }
}

impl Hosts {
    pub(super) fn new(database: Database) -> Self {
        Self { database, identity: Mutex::default(), started_at: Utc::now(), told: Mutex::default() }
    }

    pub(in crate::deploy) fn introduce(&self, identity: HostIdentity) {
        *self.identity.lock() = Some(identity);
    }

    /// Says what this host runs, when that has changed or it has been silent for a while.
    pub(in crate::deploy) async fn tell(&self, running: Vec<Running>) -> Result<(), DatabaseError> {
        let Some(identity) = self.identity.lock().clone() else { return Ok(()) };
        let is_known =
            self.told.lock().as_ref().is_some_and(|(at, told)| at.elapsed() < TOLD_EVERY && *told == running);
        if is_known {
            return Ok(());
        }
        let now = Utc::now();
        let plugins = serde_json::to_string(&running).map_err(|error| DatabaseError::Internal(error.into()))?;
        let sql = "INSERT INTO berth_hosts (instance, name, version, started_at, seen_at, plugins) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (instance) DO UPDATE SET seen_at = excluded.seen_at, plugins = excluded.plugins";
        let version = env!("CARGO_PKG_VERSION");
        let parameters =
            values![&*identity.instance, &identity.name, version, self.started_at, now, Value::Json(plugins)];
        self.database.execute(sql, &parameters).await?;
        let forgotten = "DELETE FROM berth_hosts WHERE seen_at < $1";
        self.database.execute(forgotten, &values![now - FORGOTTEN_AFTER]).await?;
        *self.told.lock() = Some((Instant::now(), running));
        Ok(())
    }

    /// Takes this host off the list: it stops.
    pub(in crate::deploy) async fn leave(&self) -> Result<(), DatabaseError> {
        let Some(identity) = self.identity.lock().take() else { return Ok(()) };
        self.database
            .execute("DELETE FROM berth_hosts WHERE instance = $1", &values![&*identity.instance])
            .await
            .map(drop)
    }

    /// Every host, by name; this one as it is at this moment.
    pub(in crate::deploy) async fn list(&self, running: Vec<Running>) -> Result<Vec<HostEntry>, DatabaseError> {
        let identity = self.identity.lock().clone();
        let (instance, name) = identity.map_or_else(Default::default, |me| (me.instance.to_string(), me.name));
        let now = Utc::now();
        let mut hosts = vec![HostEntry {
            instance: instance.clone(),
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            seen_at: now,
            state: "running",
            is_here: true,
            plugins: running,
        }];
        if self.database.dialect() == Dialect::Postgres {
            let sql = "SELECT * FROM berth_hosts WHERE instance <> $1 ORDER BY seen_at DESC LIMIT $2";
            let rows = self.database.query(sql, &values![&instance, HOSTS_MAX]).await?;
            for row in rows.iter() {
                hosts.push(entry(row, now)?);
            }
        }
        hosts.sort_by(|left, right| (&left.name, &left.instance).cmp(&(&right.name, &right.instance)));
        Ok(hosts)
    }
}

fn entry(row: &Row, now: DateTime<Utc>) -> Result<HostEntry, DatabaseError> {
    let seen_at = row.timestamp("seen_at")?;
    Ok(HostEntry {
        instance: row.text("instance")?,
        name: row.text("name")?,
        version: row.text("version")?,
        started_at: row.timestamp("started_at")?,
        seen_at,
        state: if now - seen_at > LOST_AFTER { "lost" } else { "running" },
        is_here: false,
        plugins: row.json("plugins")?,
    })
}

fn time<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_timestamp(*time))
}
