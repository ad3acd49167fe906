//! `replace`, and `ltrim` and `rtrim` of given characters, in time that grows with the length of their texts, and not with the
//! product of the lengths.
//!
//! SQLite looks at a statement's deadline between two of its instructions, and a function is one of them: its own `replace` of
//! two texts of some megabytes goes on for minutes, and its own `ltrim` for hours, on a thread that nobody can stop.

use std::collections::HashSet;
use std::ffi::c_int;

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

use super::super::DatabaseError;
use super::function::{self, Failure, Reach};

/// Bytes of one answer: more than a statement may be given or may answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a pattern of LIKE, whose time does grow with the product of pattern and text (sqlite.org/limits.html).
const PATTERN_BYTES_MAX: c_int = 4_096;

/// Gives a connection the functions, and its limit.
pub(super) fn install(handle: &mut LockedSqliteHandle<'_>) -> Result<(), DatabaseError> {
    function::install(handle, c"replace", 3, Reach::Everywhere, replace)?;
    function::install(handle, c"ltrim", 2, Reach::Everywhere, ltrim)?;
    function::install(handle, c"rtrim", 2, Reach::Everywhere, rtrim)?;
    #[expect(
        unsafe_code,
        reason = "the driver has no function for it; the connection is ours while the handle is locked"
    )]
    unsafe {
        let connection = handle.as_raw_handle().as_ptr();
        ffi::sqlite3_limit(connection, ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES_MAX);
    }
    Ok(())
}

#[expect(unsafe_code, reason = "SQLite calls it with its own values, which are there until it returns")]
unsafe extern "C" fn replace(context: *mut ffi::sqlite3_context, count: c_int, values: *mut *mut ffi::sqlite3_value) {
    unsafe {
        let replaced = match texts(count, values) {
            Ok([Some(text), Some(old), Some(new)]) => replaced(text, old, new).map(Some),
            Ok(_) => Ok(None),
            Err(failure) => Err(failure),
        };
        function::answer(context, replaced);
    }
}

#[expect(unsafe_code, reason = "SQLite calls it with its own values, which are there until it returns")]
unsafe extern "C" fn ltrim(context: *mut ffi::sqlite3_context, count: c_int, values: *mut *mut ffi::sqlite3_value) {
    unsafe { trimmed(context, count, values, |text, set| text.trim_start_matches(|one| set.contains(&one))) }
}

#[expect(unsafe_code, reason = "SQLite calls it with its own values, which are there until it returns")]
unsafe extern "C" fn rtrim(context: *mut ffi::sqlite3_context, count: c_int, values: *mut *mut ffi::sqlite3_value) {
    unsafe { trimmed(context, count, values, |text, set| text.trim_end_matches(|one| set.contains(&one))) }
}

/// # Safety
/// The arguments must be those that SQLite calls with.
#[expect(unsafe_code, reason = "what SQLite gave to the call is only handed on")]
unsafe fn trimmed(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
    trim: for<'a> fn(&'a str, &HashSet<char>) -> &'a str,
) {
    unsafe {
        let trimmed = match texts(count, values) {
            Ok([Some(text), Some(set)]) => Ok(Some(trim(text, &set.chars().collect()).to_owned())),
            Ok(_) => Ok(None),
            Err(failure) => Err(failure),
        };
        function::answer(context, trimmed);
    }
}

/// The first arguments as texts; what is not given counts as null.
///
/// # Safety
/// The arguments must be those that SQLite calls with.
#[expect(unsafe_code, reason = "what SQLite gave to the call is only handed on")]
unsafe fn texts<'a, const COUNT: usize>(
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) -> Result<[Option<&'a str>; COUNT], Failure> {
    let mut texts = [None; COUNT];
    unsafe {
        for (text, value) in texts.iter_mut().zip(function::arguments(count, values)) {
            *text = function::text(*value)?;
        }
    }
    Ok(texts)
}

/// As SQLite has it: an empty text is found nowhere.
fn replaced(text: &str, old: &str, new: &str) -> Result<String, Failure> {
    if old.is_empty() {
        return Ok(text.to_owned());
    }
    let found = text.matches(old).count();
    let length = found.checked_mul(new.len()).map(|added| text.len() - found * old.len() + added);
    match length {
        Some(length) if length <= ANSWER_BYTES_MAX => Ok(text.replace(old, new)),
        _ => Err(Failure::TooLarge),
    }
}
