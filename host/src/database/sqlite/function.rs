//! Functions of ours for SQL in SQLite: how a connection gets one, its arguments, and its answer.

use std::ffi::{CStr, c_int};
use std::ptr;

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

use super::super::DatabaseError;

/// What SQLite calls (sqlite.org/c3ref/create_function.html). It keeps nothing, and is given nothing but its arguments.
pub(super) type Call = unsafe extern "C" fn(*mut ffi::sqlite3_context, c_int, *mut *mut ffi::sqlite3_value);

/// Why a function has no answer.
pub(super) enum Failure {
    /// Its arguments are not what it takes.
    Arguments(&'static CStr),
    /// The answer would be longer than a value may be.
    TooLarge,
}

/// Where a function may be called from.
#[derive(Clone, Copy)]
pub(super) enum Reach {
    /// Not in views, triggers or columns: a statement says it itself.
    Statements,
    /// Everywhere, as SQLite's own that it takes the place of.
    Everywhere,
}

/// Gives a connection a function of `count` arguments, in place of SQLite's own of that name and count.
pub(super) fn install(
    handle: &mut LockedSqliteHandle<'_>,
    name: &'static CStr,
    count: c_int,
    reach: Reach,
    call: Call,
) -> Result<(), DatabaseError> {
    let reach = match reach {
        Reach::Statements => ffi::SQLITE_DIRECTONLY,
        Reach::Everywhere => ffi::SQLITE_INNOCUOUS,
    };
    let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | reach;
    #[expect(unsafe_code, reason = "the driver has no function for it. The name and the function are there for good")]
    let code = unsafe {
        let connection = handle.as_raw_handle().as_ptr();
        ffi::sqlite3_create_function_v2(
            connection,
            name.as_ptr(),
            count,
            flags,
            ptr::null_mut(),
            Some(call),
            None,
            None,
            None,
        )
    };
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(DatabaseError::internal(format!("SQLite took no function {name:?} ({code})")))
}

/// The arguments of the call that is under way.
///
/// # Safety
/// Both must be what SQLite gave to that call; the values are its own until it is over.
#[expect(unsafe_code, reason = "SQLite gives as many values as `count` says")]
pub(super) unsafe fn arguments<'a>(
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) -> &'a [*mut ffi::sqlite3_value] {
    if values.is_null() {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0)) }
}

/// The bytes of a value; none when it is something else.
///
/// # Safety
/// The value must be one that SQLite gives to the call that is under way; the bytes are there until it is over.
#[expect(unsafe_code, reason = "SQLite answers with a pointer and a length")]
pub(super) unsafe fn bytes<'a>(value: *mut ffi::sqlite3_value) -> Option<&'a [u8]> {
    unsafe {
        if ffi::sqlite3_value_type(value) != ffi::SQLITE_BLOB {
            return None;
        }
        let start = ffi::sqlite3_value_blob(value);
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        Some(if start.is_null() { &[] } else { std::slice::from_raw_parts(start.cast(), length) })
    }
}

/// A value as text, whatever it was; none when it is null.
///
/// # Errors
/// When its bytes are no UTF-8, as those of a BLOB may not be.
///
/// # Safety
/// As for `bytes`.
#[expect(unsafe_code, reason = "SQLite answers with a pointer and a length")]
pub(super) unsafe fn text<'a>(value: *mut ffi::sqlite3_value) -> Result<Option<&'a str>, Failure> {
    let bytes: &[u8] = unsafe {
        if ffi::sqlite3_value_type(value) == ffi::SQLITE_NULL {
            return Ok(None);
        }
        // The text first: asking for it may change how the value is written, and so its length.
        let start = ffi::sqlite3_value_text(value);
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        if start.is_null() { &[] } else { std::slice::from_raw_parts(start, length) }
    };
    std::str::from_utf8(bytes).map(Some).map_err(|_| Failure::Arguments(c"the bytes are no text"))
}

/// Answers the call that is under way with a text, with null, or with an error.
///
/// # Safety
/// The context must be that of the call.
#[expect(unsafe_code, reason = "SQLite copies the text before the function returns")]
pub(super) unsafe fn answer(context: *mut ffi::sqlite3_context, answer: Result<Option<String>, Failure>) {
    unsafe {
        match answer {
            Ok(Some(text)) => {
                let (start, length) = (text.as_ptr().cast(), text.len() as u64);
                ffi::sqlite3_result_text64(context, start, length, ffi::SQLITE_TRANSIENT(), ffi::SQLITE_UTF8 as u8);
            }
            Ok(None) => ffi::sqlite3_result_null(context),
            Err(Failure::Arguments(sentence)) => ffi::sqlite3_result_error(context, sentence.as_ptr(), -1),
            Err(Failure::TooLarge) => ffi::sqlite3_result_error_toobig(context),
        }
    }
}
