//! Vectors that PostgreSQL compares itself, where it has the extension pgvector: then a column that a migration calls a VECTOR
//! is one to the database. Guests read and write the same bytes either way.
//!
//! The column is changed when a plugin's tables are seen to, so an installation that gets the extension later has its
//! vectors there after the next start. Without the extension, or the right to create it, everything stays as it is.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, Postgres};
use sqlx::{Encode, Type};

use super::super::migrate::{STATEMENT_TIMEOUT, begin_locked};
use super::super::{Database, DatabaseError, VECTORS, values};

/// What pgvector calls its type.
pub(super) const TYPE: &str = "vector";
/// Bytes of one member.
const MEMBER: usize = vector_rules::MEMBER_BYTES;
/// Bytes before the members: how many there are, and two that are not used.
const HEAD: usize = 4;

/// A parameter: the members of a vector, little-endian.
pub(super) struct Vector<'a>(&'a [[u8; MEMBER]]);

impl<'a> Vector<'a> {
    /// None when the bytes are not whole members.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (members, rest) = bytes.as_chunks();
        rest.is_empty().then_some(Self(members))
    }
}

impl Type<Postgres> for Vector<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(TYPE)
    }
}

impl Encode<'_, Postgres> for Vector<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&u16::try_from(self.0.len())?.to_be_bytes());
        buffer.extend_from_slice(&[0, 0]);
        for member in self.0 {
            buffer.extend_from_slice(&u32::from_le_bytes(*member).to_be_bytes());
        }
        Ok(IsNull::No)
    }
}

/// What the wire carries as the bytes that a guest knows; none when they are malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, members) = bytes.split_at_checked(HEAD)?;
    let count = u16::from_be_bytes(*head.first_chunk()?);
    let (members, rest) = members.as_chunks::<MEMBER>();
    let is_whole = rest.is_empty() && members.len() == usize::from(count);
    is_whole.then(|| members.iter().flat_map(|member| u32::from_be_bytes(*member).to_le_bytes()).collect())
}

/// Makes the columns of a plugin that hold vectors ones of pgvector's, where that is possible.
pub(super) async fn settle(database: &Database, prefixes: &[String]) {
    if let Err(error) = try_settle(database, prefixes).await {
        tracing::warn!(%error, "vectors stay bytes, which components compare themselves");
    }
}

async fn try_settle(database: &Database, prefixes: &[String]) -> Result<(), DatabaseError> {
    let mut open = columns(database).await?;
    open.retain(|(table, _)| prefixes.iter().any(|prefix| table.starts_with(prefix.as_str())));
    if open.is_empty() || !has_extension(database).await? {
        return Ok(());
    }
    let mut transaction = begin_locked(database).await?;
    transaction.execute(CONVERT, &[]).await?;
    for (table, column) in &open {
        let statement = format!(
            "ALTER TABLE \"{table}\" ALTER COLUMN \"{column}\" TYPE {TYPE} USING pg_temp.berth_vector(\"{column}\")"
        );
        transaction.execute_within(&statement, &[], STATEMENT_TIMEOUT).await?;
    }
    transaction.execute("DROP FUNCTION pg_temp.berth_vector(bytea)", &[]).await?;
    transaction.commit().await?;
    for (table, column) in open {
        tracing::info!(table, column, "the database compares these vectors itself");
    }
    Ok(())
}

/// Columns that hold vectors and are bytes to the database, with their tables.
async fn columns(database: &Database) -> Result<Vec<(String, String)>, DatabaseError> {
    let sql = "SELECT c.relname::text AS owner, a.attname::text AS name FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
               WHERE n.nspname = current_schema() AND c.relkind = 'r' AND NOT a.attisdropped \
               AND a.atttypid = 'bytea'::regtype AND col_description(c.oid, a.attnum) = $1 ORDER BY 1, 2";
    let rows = database.query(sql, &values![VECTORS]).await?;
    rows.into_iter().map(|row| Ok((row.text("owner")?, row.text("name")?))).collect()
}

/// Whether the extension is there, or could be created just now.
async fn has_extension(database: &Database) -> Result<bool, DatabaseError> {
    let sql = "SELECT to_regtype('vector') IS NOT NULL AS is_there, \
               EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector') AS is_offered";
    let Some(row) = database.query_one(sql, &[]).await? else { return Ok(false) };
    if row.boolean("is_there")? || !row.boolean("is_offered")? {
        return row.boolean("is_there");
    }
    let mut transaction = begin_locked(database).await?;
    match transaction.execute("CREATE EXTENSION IF NOT EXISTS vector", &[]).await {
        Ok(_) => transaction.commit().await?,
        Err(DatabaseError::Invalid(reason)) => {
            tracing::info!(
                reason,
                "PostgreSQL offers pgvector and the database user may not create it: CREATE EXTENSION vector"
            );
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    // It may be in a schema that the host does not look into.
    let found = database.query_one("SELECT to_regtype('vector') IS NOT NULL AS is_there", &[]).await?;
    found.map_or(Ok(false), |row| row.boolean("is_there"))
}

/// Bytes as pgvector's type, member by member as IEEE 754 has it: PostgreSQL has no function that does it.
const CONVERT: &str = "CREATE FUNCTION pg_temp.berth_vector(bytes bytea) RETURNS vector LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT array_agg(
        (CASE WHEN bits >> 31 = 1 THEN -1 ELSE 1 END
         * CASE WHEN (bits >> 23) & 255 = 0 THEN (bits & 8388607) * power(2::float8, -149)
                ELSE ((bits & 8388607) + 8388608) * power(2::float8, ((bits >> 23) & 255) - 150) END)::real ORDER BY place)::vector
    FROM (SELECT place, get_byte(bytes, place)::bigint | (get_byte(bytes, place + 1)::bigint << 8)
              | (get_byte(bytes, place + 2)::bigint << 16) | (get_byte(bytes, place + 3)::bigint << 24) AS bits
          FROM generate_series(0, length(bytes) - 4, 4) AS place) AS members
    $$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_the_same_after_the_wire() {
        let bytes: Vec<u8> =
            [1.5_f32, -0.0, f32::MIN_POSITIVE / 2.0].iter().flat_map(|member| member.to_le_bytes()).collect();
        let mut buffer = PgArgumentBuffer::default();
        assert!(Vector::new(&bytes).unwrap().encode_by_ref(&mut buffer).is_ok());
        assert_eq!(buffer[..6], [0, 3, 0, 0, 0x3f, 0xc0]);
        assert_eq!(decode(&buffer).as_deref(), Some(bytes.as_slice()));
        assert!(Vector::new(&bytes[1..]).is_none());
        for malformed in [&[][..], &[0, 1, 0, 0], &[0, 0, 0, 0, 1], &[0, 2, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(decode(malformed), None, "{malformed:?}");
        }
    }
}
