//! Log lines. The host adds plugin, revision, request and organization, and redacts fields named like secrets.
//!
//! ```
//! use berth_sdk::logging;
//! logging::info!("a plan was approved", plan_id = "p1", steps = 3);
//! logging::warn!("nothing to do");
//! ```

pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
}

/// Writes a line; the macros do it more handily.
///
/// ```
/// berth_sdk::logging::log(berth_sdk::logging::Level::Info, "ready", &[("steps", "3".to_string())]);
/// ```
pub fn log(level: Level, message: &str, fields: &[(&str, String)]) {
    crate::platform::log(level, message, fields);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $message:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::logging::log(
            $crate::logging::Level::$level,
            ::core::convert::AsRef::<str>::as_ref(&$message),
            &[$((::core::stringify!($name), ::std::string::ToString::to_string(&$value))),*],
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug { ($($line:tt)*) => { $crate::__log!(Debug, $($line)*) }; }
#[doc(hidden)]
#[macro_export]
macro_rules! __info { ($($line:tt)*) => { $crate::__log!(Info, $($line)*) }; }
#[doc(hidden)]
#[macro_export]
macro_rules! __warn { ($($line:tt)*) => { $crate::__log!(Warn, $($line)*) }; }
#[doc(hidden)]
#[macro_export]
macro_rules! __error { ($($line:tt)*) => { $crate::__log!(Error, $($line)*) }; }
