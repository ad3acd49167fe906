//! The second wall: SQLite itself asks, for each table and action of a statement it prepares, whether the plugin may have it.
//!
//! Its answer is kept with the prepared statement, and prepared statements are found by their text; a guest's statement
//! therefore carries the plugin's prefixes in its text, so that no plugin meets what was prepared for another.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

use libsqlite3_sys as ffi;
use parking_lot::Mutex;
use sqlx::sqlite::LockedSqliteHandle;

use super::super::statement::{CTE_PREFIX, is_table_function};
use super::super::text_index;

/// The one pragma that full-text search asks for while a statement runs: a number that changes with the file.
const DATA_VERSION: &[u8] = b"data_version";

/// What the statement that comes next may touch. Set before each of them.
#[derive(Default)]
pub(super) struct Gate {
    /// Prefixes of tables; none: everything, for the host.
    tables: Mutex<Option<Arc<[String]>>>,
}

impl Gate {
    /// Has the connection ask this gate from now on. The gate must be kept until the connection's last statement has ended.
    pub(super) fn install(self: &Arc<Self>, handle: &mut LockedSqliteHandle<'_>) {
        let asked = Arc::as_ptr(self).cast_mut().cast::<c_void>();
        #[expect(
            unsafe_code,
            reason = "the driver has no function for it. The pointer is the gate's, which the connection's progress handler keeps; \
                      the callback only reads through it, and the gate is `Sync`"
        )]
        unsafe {
            ffi::sqlite3_set_authorizer(handle.as_raw_handle().as_ptr(), Some(authorize), asked);
        }
    }

    /// Lets the next statement touch tables under these prefixes, or everything.
    pub(super) fn set(&self, tables: Option<&Arc<[String]>>) {
        *self.tables.lock() = tables.cloned();
    }

    fn allows(&self, action: c_int, first: &[u8], second: &[u8]) -> bool {
        let tables = self.tables.lock();
        let Some(prefixes) = tables.as_deref() else { return true };
        match action {
            ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE | ffi::SQLITE_FUNCTION => true,
            // A name given by WITH of which no column is wanted; of no table would the column have no name.
            ffi::SQLITE_READ if second.is_empty() && first.starts_with(CTE_PREFIX.as_bytes()) => true,
            ffi::SQLITE_READ if std::str::from_utf8(first).is_ok_and(is_table_function) => true,
            ffi::SQLITE_READ | ffi::SQLITE_INSERT | ffi::SQLITE_UPDATE | ffi::SQLITE_DELETE => is_own(prefixes, first),
            ffi::SQLITE_PRAGMA => first == DATA_VERSION && second.is_empty(),
            _ => false,
        }
    }
}

/// Whether a table is under one of the prefixes, or holds the text index of one that is.
fn is_own(prefixes: &[String], table: &[u8]) -> bool {
    let name = table.strip_prefix(text_index::PREFIX.as_bytes()).unwrap_or(table);
    prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// SQLite's question (sqlite.org/c3ref/set_authorizer.html).
extern "C" fn authorize(
    gate: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    _within: *const c_char,
) -> c_int {
    #[expect(
        unsafe_code,
        reason = "SQLite hands back the pointer it was given, and texts that end with a zero or none"
    )]
    let is_allowed = unsafe {
        let text = |text: *const c_char| if text.is_null() { &[][..] } else { CStr::from_ptr(text).to_bytes() };
        (*gate.cast::<Gate>()).allows(action, text(first), text(second))
    };
    if is_allowed { ffi::SQLITE_OK } else { ffi::SQLITE_DENY }
}

#[cfg(test)]
mod tests;
