//! The chain of hashes: how a row is hashed, and how a change is found. Pure code.
//!
//! `hash = SHA-256(previous_hash ‖ row)` in lower-case hexadecimal, where `previous_hash` is the text of the hash before it
//! (nothing for the first row) and `row` the canonical JSON of every column but the hashes: members sorted by name, without
//! white space. Anybody can check it with a short script; the README has one.

use berth_sdk::{canonical, database::Row as Read, prelude::*};

/// The columns of a row, in the order in which they are read.
pub(crate) const COLUMNS: &str = "id, organization_id, created_by, chain, sequence, \"timestamp\", time_ms, received_at, \
     received_ms, user_id, session_id, ip_address, user_agent, action, category, severity, resource_type, resource_id, message, \
     metadata, source, correlation_id, previous_hash, hash";

/// A row as it is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub id: String,
    pub organization_id: Option<String>,
    pub created_by: Option<String>,
    pub chain: String,
    pub sequence: i64,
    pub timestamp: String,
    pub time_ms: i64,
    pub received_at: String,
    pub received_ms: i64,
    pub user_id: Option<String>,
    pub session_id: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub action: String,
    pub category: String,
    pub severity: String,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub message: String,
    /// Canonical JSON.
    pub metadata: String,
    pub source: String,
    pub correlation_id: Option<String>,
    pub previous_hash: Option<String>,
    pub hash: String,
}

impl Row {
    /// Reads [`COLUMNS`].
    pub fn read(row: &Read) -> Result<Self, Fault> {
        Ok(Self {
            id: row.get("id")?,
            organization_id: row.get("organization_id")?,
            created_by: row.get("created_by")?,
            chain: row.get("chain")?,
            sequence: row.get("sequence")?,
            timestamp: row.get("timestamp")?,
            time_ms: row.get("time_ms")?,
            received_at: row.get("received_at")?,
            received_ms: row.get("received_ms")?,
            user_id: row.get("user_id")?,
            session_id: row.get("session_id")?,
            ip_address: row.get("ip_address")?,
            user_agent: row.get("user_agent")?,
            action: row.get("action")?,
            category: row.get("category")?,
            severity: row.get("severity")?,
            resource_type: row.get("resource_type")?,
            resource_id: row.get("resource_id")?,
            message: row.get("message")?,
            metadata: row.get("metadata")?,
            source: row.get("source")?,
            correlation_id: row.get("correlation_id")?,
            previous_hash: row.get("previous_hash")?,
            hash: row.get("hash")?,
        })
    }

    /// The canonical row.
    pub fn canonical(&self) -> String {
        canonical::text(&json!({
            "id": self.id,
            "organizationId": self.organization_id,
            "createdBy": self.created_by,
            "chain": self.chain,
            "sequence": self.sequence,
            "timestamp": self.timestamp,
            "timeMs": self.time_ms,
            "receivedAt": self.received_at,
            "receivedMs": self.received_ms,
            "userId": self.user_id,
            "sessionId": self.session_id,
            "ipAddress": self.ip_address,
            "userAgent": self.user_agent,
            "action": self.action,
            "category": self.category,
            "severity": self.severity,
            "resourceType": self.resource_type,
            "resourceId": self.resource_id,
            "message": self.message,
            "metadata": self.metadata,
            "source": self.source,
            "correlationId": self.correlation_id,
        }))
    }

    /// What its hash must be.
    pub fn digest(&self) -> String {
        let mut bytes = self.previous_hash.clone().unwrap_or_default().into_bytes();
        bytes.extend_from_slice(self.canonical().as_bytes());
        canonical::sha256_bytes(&bytes)
    }
}

/// What is wrong with a chain.
#[choice(upper)]
pub(crate) enum Reason {
    /// The row's content does not have its hash.
    Altered,
    /// Rows are missing before it.
    Removed,
    /// Its number was there already, or is none of the chain's.
    Inserted,
    /// It was replaced by another row whose own hash is right.
    Replaced,
    /// A checkpoint, or the hash that the question brought along, says another one.
    Rewritten,
    /// Rows are missing at the end.
    Truncated,
}

/// The first fault of a chain.
#[data]
pub(crate) struct Break {
    pub reason: Reason,
    /// The first broken row; none where no row is left to name.
    pub log_id: Option<String>,
    /// Its number, or that of the first missing row.
    pub sequence: i64,
    pub detail: String,
}

/// Somebody who walks along a chain, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// The number of the last row, and what the next one must name as its previous hash.
    pub sequence: i64,
    pub hash: String,
    /// The last row.
    last_id: Option<String>,
    /// Rows looked at, and those of them that were written while the chain was switched off.
    pub checked: i64,
    pub unchained: i64,
}

impl Walk {
    /// Begins after a row that is known to be right; 0 and an empty hash for the beginning of the chain.
    pub fn after(sequence: i64, hash: &str) -> Self {
        Self { sequence, hash: hash.into(), last_id: None, checked: 0, unchained: 0 }
    }

    /// Looks at the next row.
    pub fn step(&mut self, row: &Row) -> Option<Break> {
        let found = |reason, log_id: &str, sequence, detail: String| {
            Some(Break { reason, log_id: Some(log_id.into()), sequence, detail })
        };
        let expected = self.sequence + 1;
        if row.sequence > expected {
            let detail = format!("The rows {expected} to {} are missing.", row.sequence - 1);
            return found(Reason::Removed, &row.id, expected, detail);
        }
        if row.sequence < expected {
            return found(Reason::Inserted, &row.id, row.sequence, "There are two rows of this number.".into());
        }
        if row.hash.is_empty() {
            // Written while the chain was switched off: the hash of the chain stays what it was.
            self.unchained += 1;
        } else if row.digest() != row.hash {
            return found(Reason::Altered, &row.id, row.sequence, "Its content does not have its hash.".into());
        } else if row.previous_hash.as_deref().unwrap_or_default() != self.hash {
            // The row is whole and names another one before it: that one was replaced.
            return match &self.last_id {
                Some(before) => {
                    let detail = format!("The row after it, {}, names another hash.", row.id);
                    found(Reason::Replaced, before, row.sequence - 1, detail)
                }
                None => found(Reason::Replaced, &row.id, row.sequence, "It follows another row than it should.".into()),
            };
        } else {
            self.hash.clone_from(&row.hash);
        }
        self.sequence = row.sequence;
        self.last_id = Some(row.id.clone());
        self.checked += 1;
        None
    }

    /// Says that the next row, of this number, is there and cannot be read: its bytes are no text any more, or no row is so large.
    pub fn unreadable(&self, log_id: Option<String>, sequence: i64) -> Break {
        let expected = self.sequence + 1;
        if sequence > expected {
            let detail = format!("The rows {expected} to {} are missing.", sequence - 1);
            return Break { reason: Reason::Removed, log_id, sequence: expected, detail };
        }
        Break { reason: Reason::Altered, log_id, sequence, detail: "It cannot be read.".into() }
    }

    /// Compares with what is known of the hash after the last row: from a checkpoint, or kept elsewhere.
    pub fn compare(&self, hash: &str) -> Option<Break> {
        (self.hash != hash).then(|| Break {
            reason: Reason::Rewritten,
            log_id: self.last_id.clone(),
            sequence: self.sequence,
            detail: "The rows up to here are not those of which the checkpoint was made.".into(),
        })
    }

    /// Says whether the chain ends where it should.
    pub fn finish(&self, last_sequence: i64, last_hash: &str) -> Option<Break> {
        if self.sequence < last_sequence { Some(self.cut_off(last_sequence)) } else { self.compare(last_hash) }
    }

    /// Says that the chain once went on up to a row.
    pub fn cut_off(&self, last_sequence: i64) -> Break {
        Break {
            reason: Reason::Truncated,
            log_id: self.last_id.clone(),
            sequence: self.sequence + 1,
            detail: format!("The rows {} to {last_sequence} are missing at the end.", self.sequence + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain(count: i64) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for sequence in 1..=count {
            let mut row = Row {
                id: format!("r{sequence}"),
                organization_id: Some("o1".into()),
                chain: "o1".into(),
                sequence,
                action: "role.updated".into(),
                message: format!("number {sequence}"),
                metadata: "{\"a\":1}".into(),
                previous_hash: rows.last().map(|row| row.hash.clone()),
                ..Row::default()
            };
            row.hash = row.digest();
            rows.push(row);
        }
        rows
    }

    fn walk(rows: &[Row], last: &Row) -> Option<Break> {
        let mut walk = Walk::after(0, "");
        rows.iter().find_map(|row| walk.step(row)).or_else(|| walk.finish(last.sequence, &last.hash))
    }

    fn broken(rows: &[Row], last: &Row) -> (Reason, String) {
        let found = walk(rows, last).unwrap();
        (found.reason, found.log_id.unwrap())
    }

    #[test]
    fn one_altered_byte_among_ten_thousand_rows_is_found_and_located() {
        let mut rows = chain(10_000);
        let last = rows.last().unwrap().clone();
        assert_eq!(walk(&rows, &last), None);
        rows[7_776].message.replace_range(0..1, "N");
        assert_eq!(broken(&rows, &last), (Reason::Altered, "r7777".into()));
    }

    #[test]
    fn removed_inserted_and_replaced_rows_are_found() {
        let rows = chain(9);
        let last = rows.last().unwrap().clone();
        let mut removed = rows.clone();
        removed.remove(4);
        assert_eq!(broken(&removed, &last), (Reason::Removed, "r6".into()));
        let mut inserted = rows.clone();
        inserted.insert(5, rows[4].clone());
        assert_eq!(broken(&inserted, &last), (Reason::Inserted, "r5".into()));
        let mut replaced = rows.clone();
        replaced[4].message = "somebody else".into();
        replaced[4].hash = replaced[4].digest();
        assert_eq!(broken(&replaced, &last), (Reason::Replaced, "r5".into()));
        assert_eq!(broken(&rows[..8], &last), (Reason::Truncated, "r8".into()));
        let mut first = rows.clone();
        first.remove(0);
        assert_eq!(broken(&first, &last), (Reason::Removed, "r2".into()));
    }

    #[test]
    fn a_row_that_cannot_be_read_is_where_it_stands() {
        let mut walk = Walk::after(0, "");
        assert_eq!(walk.step(&chain(1)[0]), None);
        let found = walk.unreadable(Some("r2".into()), 2);
        assert_eq!((found.reason, found.sequence, found.log_id.as_deref()), (Reason::Altered, 2, Some("r2")));
        let found = walk.unreadable(None, 4);
        assert_eq!((found.reason, found.sequence), (Reason::Removed, 2));
    }

    #[test]
    fn a_chain_that_was_hashed_anew_is_not_that_of_its_checkpoint() {
        let rows = chain(9);
        let mut again = rows.clone();
        again[2].message = "rewritten".into();
        for at in 2..9 {
            again[at].previous_hash = Some(again[at - 1].hash.clone());
            again[at].hash = again[at].digest();
        }
        let mut walk = Walk::after(0, "");
        assert_eq!(again.iter().find_map(|row| walk.step(row)), None, "in itself it is right");
        assert_eq!(walk.compare(&rows[8].hash).unwrap().reason, Reason::Rewritten);
    }

    #[test]
    fn a_hash_that_was_blotted_out_breaks_the_chain() {
        let mut rows = chain(5);
        let last = rows.last().unwrap().clone();
        rows[2].hash = String::new();
        rows[2].message = "x".into();
        assert_eq!(walk(&rows, &last).unwrap().reason, Reason::Replaced);
        rows.truncate(3);
        assert_eq!(walk(&rows, &chain(3)[2]).unwrap().reason, Reason::Rewritten);
    }

    proptest! {
        #[test]
        fn any_change_of_any_row_is_found(at in 0_usize..20, column in 0_u8..10, text in "[a-z]{1,5}") {
            let mut rows = chain(20);
            let last = rows.last().unwrap().clone();
            let row = &mut rows[at];
            let before = row.clone();
            match column {
                0 => row.message = text,
                1 => row.metadata = format!("{{\"{text}\":1}}"),
                2 => row.user_id = Some(text),
                3 => row.action = text,
                4 => row.severity = text,
                5 => row.timestamp = text,
                6 => row.organization_id = None,
                7 => row.time_ms += 1,
                8 => row.previous_hash = Some(text),
                _ => row.hash = text,
            }
            prop_assume!(*row != before);
            let found = walk(&rows, &last).unwrap();
            prop_assert_eq!(found.sequence, i64::try_from(at).unwrap() + 1);
        }
    }
}
