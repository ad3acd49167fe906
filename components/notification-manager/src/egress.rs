//! The way out to providers and webhooks, with one word for each thing that can be in the way.

use berth_sdk::{
    http_out::{Call, Reply},
    prelude::*,
};

use crate::provider::send::{Failure, FailureKind};

/// Sends a call; the host puts in the secret that it names.
pub fn send(call: &Call) -> Result<Reply, Failure> {
    call.send().map_err(|fault| {
        let (code, error, kind) = match fault {
            Fault::Denied(_) => (
                "EGRESS_DENIED",
                "The address is not on this service's list of allowed hosts.".to_string(),
                FailureKind::Lasting,
            ),
            Fault::SecretUnavailable => (
                "SECRET_UNAVAILABLE",
                "The secret is not there, has expired, or may not be used by notification-manager for this address."
                    .to_string(),
                FailureKind::Lasting,
            ),
            Fault::Timeout => ("TIMEOUT", "The other side took too long.".to_string(), FailureKind::Passing),
            Fault::TooLarge(_) => ("TOO_LARGE", "The answer is too large.".to_string(), FailureKind::Lasting),
            Fault::Invalid(_) => ("INVALID_ADDRESS", "The address is not valid.".to_string(), FailureKind::Lasting),
            _ => ("UNREACHABLE", "The other side cannot be reached.".to_string(), FailureKind::Passing),
        };
        Failure { code, error, kind }
    })
}
