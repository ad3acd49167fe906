//! `vector_product(one, other)` in SQLite: the sum of the products of two vectors.

use std::ffi::{c_char, c_int};
use std::ptr;

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

use super::super::DatabaseError;

/// What a statement calls it.
const NAME: *const c_char = c"vector_product".as_ptr();
const UNEQUAL: &std::ffi::CStr = c"the vectors have different lengths";

/// Gives a connection the function.
pub(super) fn install(handle: &mut LockedSqliteHandle<'_>) -> Result<(), DatabaseError> {
    // Not in views, triggers or columns: a statement says it itself.
    let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_DIRECTONLY;
    #[expect(
        unsafe_code,
        reason = "the driver has no function for it. The function keeps nothing and is given nothing but its arguments"
    )]
    let code = unsafe {
        let connection = handle.as_raw_handle().as_ptr();
        ffi::sqlite3_create_function_v2(connection, NAME, 2, flags, ptr::null_mut(), Some(product), None, None, None)
    };
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(DatabaseError::internal(format!("SQLite took no function for vectors ({code})")))
}

/// SQLite's call (sqlite.org/c3ref/create_function.html).
extern "C" fn product(context: *mut ffi::sqlite3_context, count: c_int, values: *mut *mut ffi::sqlite3_value) {
    #[expect(
        unsafe_code,
        reason = "SQLite gives as many values as `count` says, which are its own until the call is over"
    )]
    unsafe {
        let values: &[*mut ffi::sqlite3_value] = if values.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0))
        };
        let [Some(left), Some(right)] = [values.first(), values.get(1)].map(|value| bytes(*value?)) else {
            return ffi::sqlite3_result_null(context);
        };
        match vector_rules::product(left, right) {
            Some(product) => ffi::sqlite3_result_double(context, product.into()),
            None => ffi::sqlite3_result_error(context, UNEQUAL.as_ptr(), -1),
        }
    }
}

/// The bytes of a value; none when it has none.
///
/// # Safety
/// The value must be one that SQLite gives to the call that is under way; the bytes are there until it is over.
#[expect(unsafe_code, reason = "SQLite answers with a pointer and a length")]
unsafe fn bytes<'a>(value: *mut ffi::sqlite3_value) -> Option<&'a [u8]> {
    unsafe {
        if ffi::sqlite3_value_type(value) != ffi::SQLITE_BLOB {
            return None;
        }
        let start = ffi::sqlite3_value_blob(value);
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        Some(if start.is_null() { &[] } else { std::slice::from_raw_parts(start.cast(), length) })
    }
}
