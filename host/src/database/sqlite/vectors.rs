//! `vector_product(one, other)` in SQLite: the sum of the products of two vectors.

use std::ffi::{CStr, c_int};

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

use super::super::DatabaseError;
use super::function::{self, Reach};

const UNEQUAL: &CStr = c"the vectors have different lengths";

/// Gives a connection the function.
pub(super) fn install(handle: &mut LockedSqliteHandle<'_>) -> Result<(), DatabaseError> {
    function::install(handle, c"vector_product", 2, Reach::Statements, product)
}

#[expect(unsafe_code, reason = "SQLite calls it with its own values, which are there until it returns")]
unsafe extern "C" fn product(context: *mut ffi::sqlite3_context, count: c_int, values: *mut *mut ffi::sqlite3_value) {
    unsafe {
        let values = function::arguments(count, values);
        let [Some(left), Some(right)] = [values.first(), values.get(1)].map(|value| function::bytes(*value?)) else {
            return ffi::sqlite3_result_null(context);
        };
        match vector_rules::product(left, right) {
            Some(product) => ffi::sqlite3_result_double(context, product.into()),
            None => ffi::sqlite3_result_error(context, UNEQUAL.as_ptr(), -1),
        }
    }
}
