//! Vector indexes by pgvector: beside a table with a column of vectors stands another one with the same vectors as pgvector
//! has them, which the database keeps by a trigger, whoever writes.
//!
//! Nothing of the table itself changes, so that what other hosts have prepared goes on, and a server without pgvector can
//! restore it. What makes an index is done again at every start until it is whole: the extension may come later. When the
//! extension goes (`DROP EXTENSION vector CASCADE`), the trigger goes with it, and writes go on.

use std::time::{Duration, Instant};

use super::super::migrate::begin_locked;
use super::super::vector_index::{ID, INNER, MEMBERS, PRODUCT, READ, VECTOR, VectorIndex};
use super::super::{Database, DatabaseError, QueryLimits, Row, Value, values};
use super::wall::quoted;

/// What pgvector is called among extensions.
const EXTENSION: &str = "vector";
/// The most members that it takes.
const MEMBERS_MAX: usize = 16_000;
/// Rows that are filled in one transaction: a second's work for the longest vectors.
const ROWS_AT_ONCE: usize = 100;
/// How long a start waits until nobody writes to the table. Whoever comes to write meanwhile waits behind it.
const TABLE_LOCK_MS_MAX: u64 = 2_000;
/// How long filling waits for a row: less than the server's deadlock timeout, so that it is never somebody else who gives way.
const ROW_LOCK_MS_MAX: u64 = 200;
/// Attempts, one after the other, that find a lock taken or another host filling.
const WAITS_MAX: u32 = 600;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);
/// The advisory lock of filling: one host at a time.
const FILLING_LOCK: i64 = 0x62_65_72_74_68_76;

/// Makes and fills what is missing of indexes, for `time_max` at most. True when there is one that a statement may ask.
pub(super) async fn keep(
    database: &Database,
    plugin: &str,
    indexes: &[VectorIndex],
    time_max: Option<Duration>,
) -> bool {
    let until = time_max.map(|time_max| Instant::now() + time_max);
    match try_keep(database, plugin, indexes, until).await {
        Ok(is_ready) => is_ready,
        Err(error) => {
            tracing::warn!(plugin, %error, "a vector index was not made: the component compares vectors");
            false
        }
    }
}

async fn try_keep(
    database: &Database,
    plugin: &str,
    indexes: &[VectorIndex],
    until: Option<Instant>,
) -> Result<bool, DatabaseError> {
    if indexes.is_empty() {
        return Ok(false);
    }
    let Some(extension) = extension(database).await? else {
        tracing::info!(
            plugin,
            "PostgreSQL has no pgvector (CREATE EXTENSION vector): components compare vectors themselves"
        );
        return Ok(false);
    };
    let mut is_ready = false;
    for index in indexes {
        let places = Places { schema: schema(database).await?, extension: extension.clone(), index };
        is_ready |= places.keep(database, plugin, until).await?;
    }
    Ok(is_ready)
}

/// The schema of the extension, which is made where that is possible.
async fn extension(database: &Database) -> Result<Option<String>, DatabaseError> {
    let sql = "SELECT n.nspname::text AS place FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
               WHERE e.extname = $1";
    let place = async || match database.query_one(sql, &values![EXTENSION]).await? {
        Some(row) => row.text("place").map(Some),
        None => Ok(None),
    };
    if let Some(place) = place().await? {
        return Ok(Some(place));
    }
    let offered =
        "SELECT to_regnamespace('public') IS NOT NULL AS is_public FROM pg_available_extensions WHERE name = $1";
    let Some(row) = database.query_one(offered, &values![EXTENSION]).await? else { return Ok(None) };
    // Where others look for it, and where it outlives the host's own schema.
    let schema = if row.boolean("is_public")? { " SCHEMA public" } else { "" };
    let mut transaction = begin_locked(database).await?;
    match transaction.execute(&format!("CREATE EXTENSION IF NOT EXISTS {EXTENSION}{schema}"), &[]).await {
        Ok(_) => transaction.commit().await?,
        // The database user may not.
        Err(DatabaseError::Invalid(_)) => return Ok(None),
        Err(error) => return Err(error),
    }
    place().await
}

async fn schema(database: &Database) -> Result<String, DatabaseError> {
    let row = database.query_one("SELECT current_schema()::text AS place", &[]).await?;
    row.map_or_else(|| Err(DatabaseError::internal("no schema")), |row| row.text("place"))
}

/// An index, and where its pieces lie.
struct Places<'a> {
    schema: String,
    extension: String,
    index: &'a VectorIndex,
}

/// What became of an attempt to fill.
enum Filled {
    /// Rows up to this id.
    Some(Value),
    All,
    /// Another host does, or writes.
    Waiting,
}

impl Places<'_> {
    fn own(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(name))
    }

    /// Makes the index and fills it. True when statements may ask it.
    async fn keep(&self, database: &Database, plugin: &str, until: Option<Instant>) -> Result<bool, DatabaseError> {
        let is_over = || until.is_some_and(|until| Instant::now() >= until);
        let (mut after, mut waits) = (None, 0);
        while !self.is_whole(database).await? {
            let filled = match self.make(database).await {
                Ok(()) => self.fill(database, after.as_ref()).await,
                Err(error) => Err(error),
            };
            match filled {
                Ok(Filled::Some(last)) => (after, waits) = (Some(last), 0),
                // Once more from the start, for rows that were locked.
                Ok(Filled::All) if after.is_some() => after = None,
                Ok(Filled::All) => {
                    self.open(database).await?;
                    tracing::info!(
                        plugin,
                        table = self.index.table,
                        column = self.index.column,
                        "a vector index is filled"
                    );
                }
                Ok(Filled::Waiting) | Err(DatabaseError::Busy | DatabaseError::Conflict(_)) if waits < WAITS_MAX => {
                    waits += 1;
                    if !is_over() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                Ok(Filled::Waiting) => return Err(DatabaseError::Busy),
                Err(error) => return Err(error),
            }
            if is_over() {
                return self.is_whole(database).await;
            }
        }
        Ok(true)
    }

    /// Whether statements may ask it: the view is only made of what is filled, and falls with what is under it.
    async fn is_whole(&self, database: &Database) -> Result<bool, DatabaseError> {
        let (sql, parameters) = self.question("to_regclass($4) IS NOT NULL");
        answer(database.query_one(&sql, &parameters).await?)
    }

    /// Asks whether the table is kept by the trigger, and something more of the view ($4).
    fn question(&self, more: &str) -> (String, [Value; 4]) {
        let sql = format!(
            "SELECT {more} AND EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = $2) AND EXISTS \
             (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass($3) AND attname = 'vector' AND NOT attisdropped) \
             AS answer"
        );
        let index = self.index;
        let (table, rows, view) = (self.own(&index.table), self.own(&index.rows()), self.own(&index.view()));
        (sql, [table.into(), index.view().into(), rows.into(), view.into()])
    }

    /// Makes everything but the view, unless it is there.
    async fn make(&self, database: &Database) -> Result<(), DatabaseError> {
        let (sql, parameters) = self.question("$4::text IS NOT NULL");
        if answer(database.query_one(&sql, &parameters).await?)? {
            return Ok(());
        }
        let mut transaction = begin_locked(database).await?;
        // Another host may have made it meanwhile, and begun to fill it.
        if answer(transaction.query_one(&sql, &parameters).await?)? {
            return transaction.rollback().await;
        }
        transaction.execute(&format!("SET LOCAL lock_timeout = {TABLE_LOCK_MS_MAX}"), &[]).await?;
        for statement in self.functions().iter().chain(&self.pieces()) {
            transaction.execute(statement, &[]).await?;
        }
        transaction.commit().await
    }

    /// What all indexes share. Bodies name everything with its schema: a restore and a trigger look nowhere by themselves.
    fn functions(&self) -> [String; 4] {
        let (members, read) = (self.own(MEMBERS), self.own(READ));
        let (inner, product) = (self.own(INNER), self.own(PRODUCT));
        let extension = quoted(&self.extension);
        let bytes_max = MEMBERS_MAX * 4;
        [
            // IEEE 754 member by member: PostgreSQL has no function that does it.
            format!(
                "CREATE OR REPLACE FUNCTION {members}(bytes bytea) RETURNS float8[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
                 SELECT ARRAY(
                   SELECT CASE WHEN high < 128 THEN 1.0::float8 ELSE -1.0::float8 END
                     * CASE exponent
                         WHEN 0 THEN fraction * power(2::float8, -149)
                         WHEN 255 THEN CASE fraction WHEN 0 THEN 'Infinity'::float8 ELSE 'NaN'::float8 END
                         ELSE (fraction + 8388608) * power(2::float8, exponent - 150)
                       END
                   FROM (SELECT place, high, ((high & 127) << 1) | (third >> 7) AS exponent,
                           get_byte(bytes, place) | (get_byte(bytes, place + 1) << 8) | ((third & 127) << 16) AS fraction
                         FROM (SELECT place, get_byte(bytes, place + 2) AS third, get_byte(bytes, place + 3) AS high
                               FROM generate_series(0, length(bytes) - 4, 4) AS place OFFSET 0) AS ends OFFSET 0) AS parts
                   ORDER BY place)
                 $$"
            ),
            format!(
                "CREATE OR REPLACE FUNCTION {read}(bytes bytea) RETURNS {extension}.vector
                 LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
                 DECLARE members float8[];
                 BEGIN
                   IF length(bytes) % 4 <> 0 OR length(bytes) NOT BETWEEN 4 AND {bytes_max} THEN RETURN NULL; END IF;
                   members := {members}(bytes);
                   IF 'NaN' = ANY (members) OR 'Infinity' = ANY (members) OR '-Infinity' = ANY (members) THEN
                     RETURN NULL;
                   END IF;
                   RETURN members::{extension}.vector;
                 END $$"
            ),
            format!(
                "CREATE OR REPLACE FUNCTION {inner}(one {extension}.vector, other {extension}.vector) RETURNS float8
                 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT -(one OPERATOR({extension}.<#>) other) $$"
            ),
            // Said to be cheap, as it nearly never runs: a dear one would be put off until after the sorting, and with it all vectors
            // would be sorted.
            format!(
                "CREATE OR REPLACE FUNCTION {product}(one bytea, other bytea) RETURNS float8
                 LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 1 AS $$
                 BEGIN
                   IF length(one) <> length(other) OR length(one) % 4 <> 0 THEN
                     RAISE EXCEPTION 'the vectors have different lengths' USING ERRCODE = 'data_exception';
                   END IF;
                   RETURN (SELECT nullif(coalesce(sum(pair.one * pair.other), 0), 'NaN')
                           FROM unnest({members}(one), {members}(other)) AS pair (one, other));
                 END $$"
            ),
        ]
    }

    /// The table of rows and what keeps it. Whatever is left of an earlier one goes first.
    fn pieces(&self) -> [String; 7] {
        let Self { extension, index, .. } = self;
        let (table, rows, keeper) = (self.own(&index.table), self.own(&index.rows()), self.own(&index.keeper()));
        let (read, trigger, column) = (self.own(READ), quoted(&index.view()), quoted(&index.column));
        let extension = quoted(extension);
        [
            // In the order in which writers lock: this one first.
            format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"),
            format!("DROP TABLE IF EXISTS {rows} CASCADE"),
            format!("CREATE TABLE {rows} AS SELECT id, NULL::{extension}.vector AS vector FROM {table} WITH NO DATA"),
            // Beside the id and not apart from it, as far as a page has room.
            format!(
                "ALTER TABLE {rows} ADD PRIMARY KEY (id), ADD FOREIGN KEY (id) REFERENCES {table} (id) \
                 ON UPDATE CASCADE ON DELETE CASCADE, ALTER COLUMN vector SET STORAGE MAIN"
            ),
            // As the host, since whoever writes may not write there.
            format!(
                "CREATE OR REPLACE FUNCTION {keeper}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp AS $$
                 BEGIN
                   INSERT INTO {rows} (id, vector) VALUES (NEW.id, {read}(NEW.{column}))
                   ON CONFLICT (id) DO UPDATE SET vector = EXCLUDED.vector;
                   RETURN NULL;
                 END $$"
            ),
            format!("DROP TRIGGER IF EXISTS {trigger} ON {table}"),
            // The condition always holds. It names the type, so that the trigger goes with the extension instead of failing.
            format!(
                "CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OF {column} ON {table} FOR EACH ROW \
                 WHEN (NULL::{extension}.vector IS NULL) EXECUTE FUNCTION {keeper}()"
            ),
        ]
    }

    /// Fills rows from before the trigger, in the order of their ids. Rows that are locked are about to be written or deleted; one
    /// that stays all the same is compared as the bytes it is.
    async fn fill(&self, database: &Database, after: Option<&Value>) -> Result<Filled, DatabaseError> {
        let mut transaction = database.begin().await?;
        transaction.execute(&format!("SET LOCAL lock_timeout = {ROW_LOCK_MS_MAX}"), &[]).await?;
        let mine = "SELECT pg_try_advisory_xact_lock($1) AS answer";
        if !answer(transaction.query_one(mine, &values![FILLING_LOCK]).await?)? {
            return transaction.rollback().await.map(|()| Filled::Waiting);
        }
        let (table, rows, read) = (self.own(&self.index.table), self.own(&self.index.rows()), self.own(READ));
        let column = quoted(&self.index.column);
        let behind = if after.is_some() { "t.id > $1 AND" } else { "" };
        let sql = format!(
            "WITH batch AS (SELECT t.id, t.{column} AS bytes FROM {table} t WHERE {behind} \
                            NOT EXISTS (SELECT 1 FROM {rows} r WHERE r.id = t.id) \
                            ORDER BY t.id LIMIT {ROWS_AT_ONCE} FOR KEY SHARE SKIP LOCKED), \
             filled AS (INSERT INTO {rows} (id, vector) SELECT id, {read}(bytes) FROM batch ON CONFLICT (id) DO NOTHING) \
             SELECT max(id) AS last FROM batch"
        );
        let parameters: Vec<Value> = after.cloned().into_iter().collect();
        let found = transaction.query_within(&sql, &parameters, QueryLimits::default()).await?;
        transaction.commit().await?;
        Ok(match found.first().map(|row| row.value("last")).transpose()? {
            None | Some(Value::Null) => Filled::All,
            Some(last) => Filled::Some(last.clone()),
        })
    }

    /// Shows what is filled to statements.
    async fn open(&self, database: &Database) -> Result<(), DatabaseError> {
        let (view, rows) = (self.own(&self.index.view()), self.own(&self.index.rows()));
        let mut transaction = begin_locked(database).await?;
        // Or the first searches are planned as over an empty table.
        transaction.execute_within(&format!("ANALYZE {rows}"), &[], super::super::migrate::STATEMENT_TIMEOUT).await?;
        let made = format!("CREATE OR REPLACE VIEW {view} ({ID}, {VECTOR}) AS SELECT id, vector FROM {rows}");
        transaction.execute(&made, &[]).await?;
        transaction.commit().await
    }
}

/// The one column of an answer.
fn answer(row: Option<Row>) -> Result<bool, DatabaseError> {
    row.map_or(Ok(false), |row| row.boolean("answer"))
}

#[cfg(test)]
mod tests;
