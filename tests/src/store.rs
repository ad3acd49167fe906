//! The database of a host, looked into and altered behind the host's back: the file of the embedded stack, or what it has of PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::Space;
use crate::space::Tap;

/// How long a running host may hold the file.
const FILE_PATIENCE: Duration = Duration::from_secs(60);

/// Where a host keeps its rows. Statements are one text for both databases, unless the test tells them apart.
#[derive(Clone, Debug)]
pub enum Store {
    /// SQLite's file.
    File(PathBuf),
    /// A database on PostgreSQL.
    Space(Arc<Space>),
}

impl Store {
    pub(crate) fn of(data: &Path, space: Option<&Arc<Space>>) -> Self {
        space.map_or_else(|| Self::File(data.join("berth.db")), |space| Self::Space(Arc::clone(space)))
    }

    /// Whether PostgreSQL's way of saying things is wanted.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        matches!(self, Self::Space(_))
    }

    /// Changes rows; says how many.
    ///
    /// # Panics
    /// When the statement fails.
    pub async fn change(&self, sql: &str) -> u64 {
        let statement = AssertSqlSafe(sql.to_owned());
        let changed = match self {
            Self::File(file) => {
                let mut connection = file_connection(file).await;
                sqlx::query(statement).execute(&mut connection).await.map(|done| done.rows_affected())
            }
            Self::Space(space) => {
                let mut connection = space_connection(space).await;
                sqlx::query(statement).execute(&mut connection).await.map(|done| done.rows_affected())
            }
        };
        changed.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The first column of the rows that a statement finds; it must be a text.
    ///
    /// # Panics
    /// When the statement fails, or the column is something else.
    pub async fn ask(&self, sql: &str) -> Vec<String> {
        let statement = AssertSqlSafe(sql.to_owned());
        let texts: sqlx::Result<Vec<String>> = match self {
            Self::File(file) => {
                let mut connection = file_connection(file).await;
                let rows = sqlx::query(statement).fetch_all(&mut connection).await;
                rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
            }
            Self::Space(space) => {
                let mut connection = space_connection(space).await;
                let rows = sqlx::query(statement).fetch_all(&mut connection).await;
                rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
            }
        };
        texts.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Everything that lies in it, as it lies there; of PostgreSQL every row of every table, with bytes as hexadecimal digits.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn everything(&self) -> Vec<u8> {
        let Self::File(file) = self else {
            let tables = self
                .ask("SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public'")
                .await;
            let mut all = Vec::new();
            for table in tables {
                for row in self.ask(&format!("SELECT row_to_json(t)::text FROM {table} t")).await {
                    all.extend_from_slice(row.as_bytes());
                }
            }
            return all;
        };
        // The journal and whatever else lies beside it are part of it.
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = file.parent().unwrap_or(file).read_dir().unwrap_or_else(|error| panic!("{error}"));
        let parts = folder.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
        parts.flat_map(|entry| std::fs::read(entry.path()).unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    /// Everything that lies in the cache of the servers; none on the embedded stack, whose cache is in the host's memory.
    #[must_use]
    pub fn cached(&self) -> Option<Vec<u8>> {
        match self {
            Self::File(_) => None,
            Self::Space(space) => Some(space.cached()),
        }
    }

    /// Hears every event from now on that goes over the broker; none on the embedded stack, whose messages are rows.
    pub async fn tap(&self) -> Option<Tap> {
        match self {
            Self::File(_) => None,
            Self::Space(space) => Some(space.tap().await),
        }
    }
}

async fn file_connection(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(FILE_PATIENCE);
    options.connect().await.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

async fn space_connection(space: &Space) -> PgConnection {
    let url = space.database_url();
    let options: PgConnectOptions = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    PgConnection::connect_with(&options).await.unwrap_or_else(|error| panic!("the database of the test: {error}"))
}
