//! Why a capability refused or could not answer. Code branches on the case and never on a text.

use crate::problem::Problem;

/// The one error of every capability; `?` turns it into a [`Problem`] with the right status.
///
/// ```
/// use berth_sdk::{Fault, problem::Problem};
/// assert_eq!(Problem::from(Fault::Busy).status, 503);
/// assert_eq!(Problem::from(Fault::Conflict("plan_steps_order".into())).status, 409);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The grant does not allow it; trying again does not help.
    #[error("the grant does not allow it: {0}")]
    Denied(String),
    /// The state of the world is in the way: a unique key taken, a serialisation failure.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Too much at once; trying again later helps.
    #[error("busy")]
    Busy,
    /// The backend cannot be reached; trying again later helps.
    #[error("unavailable")]
    Unavailable,
    /// A deadline has passed.
    #[error("the deadline has passed")]
    Timeout,
    /// The answer or the argument is larger than the named limit.
    #[error("too large: {0}")]
    TooLarge(String),
    /// A secret that was named cannot be used: unknown, foreign, forbidden, expired, or not fit for it.
    #[error("the secret cannot be used here")]
    SecretUnavailable,
    /// The argument makes no sense to the backend.
    #[error("invalid: {0}")]
    Invalid(String),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Conflict(what) => Problem::conflict(format!("It collides with what is there: {what}.")),
            Fault::Busy | Fault::Unavailable => Problem::unavailable("A backend is busy or away; try again shortly."),
            Fault::Timeout => Problem::timeout("A backend took too long."),
            Fault::TooLarge(what) => Problem::too_large(format!("Larger than allowed: {what}.")),
            Fault::SecretUnavailable => {
                Problem::forbidden("A secret that it needs cannot be used here.").with_code("SECRET_UNAVAILABLE")
            }
            Fault::Denied(_) | Fault::Invalid(_) => {
                crate::logging::error!("a capability refused a call", fault = fault);
                Problem::internal()
            }
        }
    }
}
